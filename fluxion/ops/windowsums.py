"""The sum of each window, and its transpose: at each position the sum over the windows that hold it.

Both are linear, each is the transpose of the other, and both are their own derivatives. On a CPU one generated kernel
computes them where windows overlap; where they do not, XLA is as fast.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array

from fluxion.kernels.operation import Operation
from fluxion.ops.windows import Windows


def sum_windows(x: Array, windows: Windows) -> Array:
    """The sum of each window of `x` of shape `(batch, *sizes, channels)`; padding counts as zeros."""
    return summed(x, windows, x.shape[1:-1])


def reduce_windows(x: Array, start: Any, operation: Any, windows: Windows) -> Array:
    """`operation` over all values of each window, from `start`."""
    window, strides, pads = (1, *windows.kernel, 1), (1, *windows.strides, 1), ((0, 0), *windows.pads, (0, 0))
    return jax.lax.reduce_window(x, np.asarray(start, x.dtype), operation, window, strides, pads)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def summed(x: Array, windows: Windows, sizes: tuple[int, ...]) -> Array:
    """`sum_windows` of `x`, the spatial axes of which have these sizes."""
    return _summed(x, windows=windows, sizes=sizes)[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def spread(y: Array, windows: Windows, sizes: tuple[int, ...]) -> Array:
    """The transpose of `summed`."""
    return _spread(y, windows=windows, sizes=sizes)[0]


def _linear(function: Any, windows: Windows, sizes: tuple[int, ...], primals: Any, tangents: Any) -> Any:
    return function(*primals, windows, sizes), function(*tangents, windows, sizes)


summed.defjvp(functools.partial(_linear, summed))
spread.defjvp(functools.partial(_linear, spread))


def _plain_summed(x: Array, *, windows: Windows, sizes: tuple[int, ...]) -> tuple[Array]:
    return (reduce_windows(x, 0, jax.lax.add, windows),)


def _plain_spread(y: Array, *, windows: Windows, sizes: tuple[int, ...]) -> tuple[Array]:
    x = jax.ShapeDtypeStruct((y.shape[0], *sizes, y.shape[-1]), y.dtype)
    return jax.linear_transpose(lambda x: reduce_windows(x, 0, jax.lax.add, windows), x)(y)


def _kernel(
    way: str, machine: Any, mode: Any, array: Any, *, windows: Windows, sizes: tuple[int, ...]
) -> Callable[..., Any] | None:
    from fluxion.kernels import pooling

    if all(step >= size for step, size in zip(windows.strides, windows.kernel, strict=True)):
        return None
    return getattr(pooling, f"call_{way}")(pooling.sum_sources, machine, array, windows, sizes)


def _summed_transpose(cotangents: Sequence[Array], x: None, **settings: Any) -> tuple[Array]:
    return (spread(cotangents[0], **settings),)


def _spread_transpose(cotangents: Sequence[Array], y: None, **settings: Any) -> tuple[Array]:
    return (summed(cotangents[0], **settings),)


_FOLDS = ((0,), (0,))
_summed = Operation(
    "window_sums", _plain_summed, functools.partial(_kernel, "to_windows"), _summed_transpose, folds=_FOLDS
)
_spread = Operation(
    "window_sums_spread", _plain_spread, functools.partial(_kernel, "to_inputs"), _spread_transpose, folds=_FOLDS
)

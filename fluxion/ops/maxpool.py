"""The largest value of each window, with a derivative in every mode that needs no second look at the values.

    largest(x) = (y, positions)        positions: int8, which tap of its window each maximum is

    derivative   dy = picked(dx, positions)       linear in dx, with the transpose
    backward     dx = scattered(dy, positions)    linear in dy, with the transpose `picked`

On a CPU these three are generated kernels; elsewhere each is one chain of comparisons over the taps of the windows,
which XLA fuses into a single pass.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.kernels.operation import Operation
from fluxion.ops.windows import Windows
from fluxion.ops.windowsums import reduce_windows

MOST_TAPS = 64  # of a window: each is a step of the plain computation


def has_positions(x: Array, windows: Windows) -> bool:
    """Whether `max_pool_of_floats` takes it."""
    return bool(jnp.issubdtype(x.dtype, jnp.floating)) and math.prod(windows.kernel) <= MOST_TAPS


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_pool_of_floats(x: Array, windows: Windows) -> Array:
    """The largest value of each window of `x`, which must have pads that are smaller than the windows.

    Padding never wins, NaN is larger than anything. The derivative is that of the first maximum, or of the first NaN.
    """
    return _largest(x, windows=windows)[0]


@max_pool_of_floats.defjvp
def _derivative(windows: Windows, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (y, _), (dy, _) = _derivative_at(windows, primals, tangents)
    return y, dy


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def largest_at(x: Array, windows: Windows) -> tuple[Array, Array]:
    """`max_pool_of_floats`, and which tap of its window each maximum is, as int8."""
    y, positions = _largest_at(x, windows=windows)
    return y, positions


@largest_at.defjvp
def _derivative_at(windows: Windows, primals: tuple[Array], tangents: tuple[Array]) -> Any:
    (x,), (dx,) = primals, tangents
    y, positions = largest_at(x, windows)
    return (y, positions), (picked(dx, positions, windows, x.shape[1:-1]), np.zeros(y.shape, jax.dtypes.float0))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def picked(x: Array, positions: Array, windows: Windows, sizes: tuple[int, ...]) -> Array:
    """What each window of `x`, whose spatial axes have these sizes, holds at its position."""
    return _picked(x, positions, windows=windows, sizes=sizes)[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def scattered(y: Array, positions: Array, windows: Windows, sizes: tuple[int, ...]) -> Array:
    """The transpose of `picked`: at each position of `x` the sum over the windows whose position it is."""
    return _scattered(y, positions, windows=windows, sizes=sizes)[0]


def _linear(
    function: Any, windows: Windows, sizes: tuple[int, ...], primals: Any, tangents: Any
) -> tuple[Array, Array]:
    return function(*primals, windows, sizes), function(tangents[0], primals[1], windows, sizes)


picked.defjvp(functools.partial(_linear, picked))
scattered.defjvp(functools.partial(_linear, scattered))


# ---------------------------------------------------------------- by operations of XLA


def _plain_largest(x: Array, *, windows: Windows) -> tuple[Array]:
    return (reduce_windows(x, -np.inf, jax.lax.max, windows),)


def _plain_largest_at(x: Array, *, windows: Windows) -> tuple[Array, Array]:
    (y,), sizes = _plain_largest(x, windows=windows), x.shape[1:-1]
    positions = jnp.zeros_like(y, jnp.int8)
    for number, taps in reversed(list(_taps(windows))):  # so that the first one has the last word
        value = _at_tap(x, taps, y.shape[1:-1], windows, 0)
        largest = ((value == y) | jnp.isnan(value)) & _exists(sizes, taps, y.shape[1:-1], windows)
        positions = jnp.where(largest, jnp.int8(number), positions)
    return y, positions


def _plain_picked(x: Array, positions: Array, *, windows: Windows, sizes: tuple[int, ...]) -> tuple[Array]:
    total = jnp.zeros_like(positions, x.dtype)
    for number, taps in _taps(windows):
        value = _at_tap(x, taps, positions.shape[1:-1], windows, 0)
        total = jnp.where(positions == number, value, total)
    return (total,)


def _plain_scattered(y: Array, positions: Array, *, windows: Windows, sizes: tuple[int, ...]) -> tuple[Array]:
    parts = []
    for number, taps in reversed(list(_taps(windows))):  # so that each sum is in the order of the windows
        ends = []
        axes = zip(taps, y.shape[1:-1], sizes, windows.strides, windows.pads, strict=True)
        for tap, count, size, stride, (low, _) in axes:
            ends.append((tap - low, size - (tap - low) - (count - 1) * stride - 1, stride - 1))
        here = jnp.where(positions == number, y, 0)
        parts.append(jax.lax.pad(here, jnp.zeros((), y.dtype), [(0, 0, 0), *ends, (0, 0, 0)]))
    return (functools.reduce(jnp.add, parts),)


def _taps(windows: Windows) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The places of a window, numbered as they lie in memory."""
    return enumerate(itertools.product(*map(range, windows.kernel)))


def _at_tap(x: Array, taps: tuple[int, ...], counts: Sequence[int], windows: Windows, otherwise: float) -> Array:
    """What every window holds at one place; `otherwise` in the padding."""
    ends = []
    axes = zip(taps, counts, x.shape[1:-1], windows.strides, windows.pads, strict=True)
    for tap, count, size, stride, (low, _) in axes:
        ends.append((low - tap, (count - 1) * stride + 1 + tap - low - size, 0))
    moved = jax.lax.pad(x, jnp.asarray(otherwise, x.dtype), [(0, 0, 0), *ends, (0, 0, 0)])
    return jax.lax.slice(moved, (0,) * x.ndim, moved.shape, (1, *windows.strides, 1))


def _exists(sizes: Sequence[int], taps: tuple[int, ...], counts: Sequence[int], windows: Windows) -> np.ndarray:
    """Where the windows' place at these taps lies outside of the padding, in the shape (1, *counts, 1)."""
    exists = np.ones((1,), bool)
    for tap, count, size, stride, (low, _) in zip(taps, counts, sizes, windows.strides, windows.pads, strict=True):
        source = np.arange(count) * stride + tap - low
        exists = exists[..., None] & (source >= 0) & (source < size)
    return exists[..., None]


# ---------------------------------------------------------------- by kernels


def _largest_kernel(machine: Any, mode: Any, x: Any, *, windows: Windows, positions: bool) -> Callable[..., Any] | None:
    from fluxion.kernels.pooling import largest_call

    return largest_call(machine, x, windows, positions)


def _picked_kernel(machine: Any, mode: Any, x: Any, positions: Any, **settings: Any) -> Callable[..., Any] | None:
    from fluxion.kernels.pooling import call_to_windows, pick_positions

    return call_to_windows(pick_positions, machine, x, **settings)


def _scattered_kernel(machine: Any, mode: Any, y: Any, positions: Any, **settings: Any) -> Callable[..., Any] | None:
    from fluxion.kernels.pooling import call_to_inputs, scatter_to_positions

    return call_to_inputs(scatter_to_positions, machine, y, **settings)


def _picked_transpose(cotangents: Sequence[Array], x: None, positions: Array, **settings: Any) -> tuple[Array]:
    return (scattered(cotangents[0], positions, **settings),)


def _scattered_transpose(cotangents: Sequence[Array], y: None, positions: Array, **settings: Any) -> tuple[Array]:
    return (picked(cotangents[0], positions, **settings),)


_largest = Operation(
    "max_pool", _plain_largest, functools.partial(_largest_kernel, positions=False), folds=((0,), (0,))
)
_largest_at = Operation(
    "max_pool_positions", _plain_largest_at, functools.partial(_largest_kernel, positions=True), folds=((0,), (0, 0))
)
_picked = Operation("max_pool_picked", _plain_picked, _picked_kernel, _picked_transpose, folds=((0, 0), (0,)))
_scattered = Operation(
    "max_pool_scattered", _plain_scattered, _scattered_kernel, _scattered_transpose, folds=((0, 0), (0,))
)

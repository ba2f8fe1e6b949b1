"""Pooling: the largest value or the average of each window."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import SizeError
from fluxion.ops.arrays import as_float, at_least_float32
from fluxion.ops.windows import AXES, check_axes, parse_pad, per_axis, resolve_pads, window_sizes


def max_pool(x: Any, window: tuple[int, ...], *, stride: Any = None, pad: Any = 0) -> Array:
    """Largest value of each window of `x` of shape `(batch, *sizes, channels)`, with `stride` the window by default.

    Padding never wins. The gradient of a window goes to one of its largest values. `pad` is as in `conv`, smaller than
    the window.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.max_pool(jnp.arange(6.0).reshape(1, 6, 1), (2,)).ravel().tolist()
    [1.0, 3.0, 5.0]
    """
    x = jnp.asarray(x)
    window, strides, pads = window_geometry("max_pool", x, window, stride, pad)
    if any(side >= size for size, pair in zip(window, pads, strict=True) for side in pair):
        raise ValueError(f"max_pool takes a pad smaller than its window {window}, got pad={pad!r}")
    lowest = -np.inf if jnp.issubdtype(x.dtype, jnp.inexact) else False if x.dtype == bool else jnp.iinfo(x.dtype).min
    return _reduce_windows(x, np.asarray(lowest, x.dtype), jax.lax.max, window, strides, pads)


def mean_pool(x: Any, window: tuple[int, ...], *, stride: Any = None, pad: Any = 0) -> Array:
    """Average of each window of `x` of shape `(batch, *sizes, channels)`, with `stride` the window by default.

    Padded zeros count: the sum is divided by the size of the window everywhere (as in Flux). `pad` is as in `conv`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.mean_pool(jnp.arange(6.0).reshape(1, 6, 1), (2,)).ravel().tolist()
    [0.5, 2.5, 4.5]
    """
    x = as_float(x)
    window, strides, pads = window_geometry("mean_pool", x, window, stride, pad)
    wide = at_least_float32(x)
    total = _reduce_windows(wide, np.zeros((), wide.dtype), jax.lax.add, window, strides, pads)
    return (total / np.prod(window)).astype(x.dtype)


def adaptive_mean_pool(x: Any, out: tuple[int, ...]) -> Array:
    """Average of `x` of shape `(batch, *sizes, channels)` over windows chosen so that `out` of them cover each axis.

    Window `i` of an axis reaches from `floor(i * size / out)` to `ceil((i + 1) * size / out)`, as in PyTorch; Flux
    keeps one window size instead, which is the same where `out` divides `size`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.adaptive_mean_pool(jnp.arange(5.0).reshape(1, 5, 1), (2,)).ravel().tolist()
    [1.0, 3.0]
    """
    x = as_float(x)
    out = window_sizes(out, "out")
    check_axes("adaptive_mean_pool", x, len(out))
    result = at_least_float32(x)
    for axis, count in enumerate(out, start=1):
        averages = jnp.asarray(_averaging_matrix(x.shape[axis], count), result.dtype)
        result = jnp.tensordot(result, averages, axes=(axis, 0), precision="highest")
        result = jnp.moveaxis(result, -1, axis)
    return result.astype(x.dtype)


def global_max_pool(x: Any) -> Array:
    """Largest value over the spatial axes of `x` of shape `(batch, *sizes, channels)`, each left with size 1.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.global_max_pool(jnp.ones((2, 8, 8, 3))).shape
    (2, 1, 1, 3)
    """
    x = jnp.asarray(x)
    return jnp.max(x, axis=_spatial_axes("global_max_pool", x), keepdims=True)


def global_mean_pool(x: Any) -> Array:
    """Average over the spatial axes of `x` of shape `(batch, *sizes, channels)`, each left with size 1.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.global_mean_pool(jnp.ones((2, 8, 8, 3))).shape
    (2, 1, 1, 3)
    """
    x = as_float(x)
    return jnp.mean(x, axis=_spatial_axes("global_mean_pool", x), keepdims=True)


def window_geometry(name: str, x: Array, window: Any, stride: Any, pad: Any) -> tuple[Any, Any, Any]:
    """Window, strides and pads in numbers, checked against `x`."""
    window = window_sizes(window, "window")
    count = len(window)
    check_axes(name, x, count)
    strides = window if stride is None else per_axis(stride, count, "stride")
    return window, strides, resolve_pads(name, x, window, strides, parse_pad(pad, count), (1,) * count)


def _reduce_windows(x: Array, start: Any, operation: Any, window: Any, strides: Any, pads: Any) -> Array:
    padding = ((0, 0), *pads, (0, 0))
    return jax.lax.reduce_window(x, start, operation, (1, *window, 1), (1, *strides, 1), padding)


def _averaging_matrix(size: int, count: int) -> np.ndarray:
    starts = np.arange(count) * size // count
    ends = -(-(np.arange(count) + 1) * size // count)
    positions = np.arange(size)[:, None]
    return ((positions >= starts) & (positions < ends)) / (ends - starts)


def _spatial_axes(name: str, x: Array) -> tuple[int, ...]:
    if x.ndim < 3:
        raise SizeError(f"{name} expects at least 3 axes, as {AXES[2]}, got an array of shape {x.shape}")
    return tuple(range(1, x.ndim - 1))

"""Pooling: the largest value, the average or the norm of each window."""

from __future__ import annotations

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import SizeError
from fluxion.ops.arrays import as_float, at_least_float32
from fluxion.ops.maxpool import has_positions, max_pool_of_floats
from fluxion.ops.transposed import linear
from fluxion.ops.windows import (
    AXES,
    Pads,
    Windows,
    check_axes,
    check_positions,
    fitting_windows,
    short_pad,
    window_sizes,
)
from fluxion.ops.windowsums import reduce_windows, sum_windows


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
    windows = _windows("max_pool", x, window, stride, pad)
    check_pads("max_pool", windows.kernel, windows.pads)
    if has_positions(x, windows):
        return max_pool_of_floats(x, windows)
    lowest = -np.inf if jnp.issubdtype(x.dtype, jnp.inexact) else False if x.dtype == bool else jnp.iinfo(x.dtype).min
    return reduce_windows(x, lowest, jax.lax.max, windows)


def mean_pool(
    x: Any, window: tuple[int, ...], *, stride: Any = None, pad: Any = 0, count_include_pad: bool = True
) -> Array:
    """Average of each window of `x` of shape `(batch, *sizes, channels)`, with `stride` the window by default.

    Padded zeros count: the sum is divided by the size of the window everywhere (as in Flux). With
    `count_include_pad=False` it is divided by the number of positions that lie within `x`, and `pad` must be smaller
    than the window. `pad` is as in `conv`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.mean_pool(jnp.arange(6.0).reshape(1, 6, 1), (2,)).ravel().tolist()
    [0.5, 2.5, 4.5]
    """
    x = as_float(x)
    windows = _windows("mean_pool", x, window, stride, pad)
    total = sum_windows(at_least_float32(x), windows)
    if count_include_pad:
        return (total / math.prod(windows.kernel)).astype(x.dtype)
    check_pads("mean_pool", windows.kernel, windows.pads)
    return (total / jnp.asarray(_covered(windows, x.shape[1:-1]), total.dtype)).astype(x.dtype)


def lp_pool(x: Any, p: float, window: tuple[int, ...], *, stride: Any = None, pad: Any = 0) -> Array:
    """`(sum of x ** p) ** (1 / p)` over each window of `x` of shape `(batch, *sizes, channels)` (NNlib: lpnormpool).

    That is the p-norm where `x` is not negative or `p` is even, and the sum where `p` is 1. A negative sum, which
    odd `p` can give, has the root of its absolute value with its sign. Negative numbers to a power that is no integer
    are NaN. Where the derivative is infinite, as at zero for `p > 1`, the gradient is zero. `p` is a positive number;
    `stride` is the window by default and `pad` is as in `conv`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.lp_pool(jnp.array([[[3.0], [4.0]]]), 2, (2,)).ravel().tolist()
    [5.0]
    """
    x, p = as_float(x), exponent(p, "lp_pool")
    windows = _windows("lp_pool", x, window, stride, pad)
    total = sum_windows(_power(at_least_float32(x), p), windows)
    sign = jnp.where(total < 0, -1, 1).astype(total.dtype)
    return (sign * _power(sign * total, 1 / p)).astype(x.dtype)


def adaptive_max_pool(x: Any, out: tuple[int, ...]) -> Array:
    """Largest value of `x` of shape `(batch, *sizes, channels)` over the windows of `adaptive_mean_pool`.

    Equally large values share the gradient.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.adaptive_max_pool(jnp.arange(5.0).reshape(1, 5, 1), (2,)).ravel().tolist()
    [2.0, 4.0]
    """
    result = jnp.asarray(x)
    out = window_sizes(out, "out")
    check_axes("adaptive_max_pool", result, len(out))
    check_positions("adaptive_max_pool", result, (1,) * len(out), "window")
    for axis, count in enumerate(out, start=1):
        windows, _ = _adaptive_windows(result, axis, count)
        result = jnp.max(windows, axis + 1)
    return result


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
    check_positions("adaptive_mean_pool", x, (1,) * len(out), "window")
    result = at_least_float32(x)
    for axis, count in enumerate(out, start=1):
        size = result.shape[axis]
        starts, ends = _adaptive_bounds(size, count)
        if size % count == 0:
            total = _adaptive_sums(result, axis, size, count)
        else:
            total = linear(_adaptive_sums, _spread_sums, result, axis - x.ndim, size, count)
        result = total / _placed(ends - starts, axis, x.ndim).astype(total.dtype)
    return result.astype(x.dtype)


def global_max_pool(x: Any) -> Array:
    """Largest value over the spatial axes of `x` of shape `(batch, *sizes, channels)`, each left with size 1.

    Equally large values share the gradient.

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


def exponent(p: Any, name: str) -> float:
    """The `p` of a norm; anything but a positive, finite number is a ValueError."""
    if isinstance(p, bool) or not isinstance(p, (int, float, np.number)) or not 0 < p < math.inf:
        raise ValueError(f"{name} takes a finite p greater than 0, got p={p!r}; for p = inf there is max_pool")
    return int(p) if p == int(p) else float(p)


def check_pads(name: str, window: tuple[int, ...], pads: Pads | Literal["same"]) -> None:
    """Raises a ValueError where a window could lie in the padding alone."""
    if pads != "same" and any(side >= size for size, pair in zip(window, pads, strict=True) for side in pair):
        raise ValueError(f"{name} takes a pad smaller than its window {window}, got pad={short_pad(pads)!r}")


def _windows(name: str, x: Array, window: Any, stride: Any, pad: Any) -> Windows:
    window = window_sizes(window, "window")
    check_axes(name, x, len(window))
    return fitting_windows(name, x, window, window if stride is None else stride, pad)


def _covered(windows: Windows, sizes: tuple[int, ...]) -> np.ndarray:
    """How many positions of each window lie within axes of these sizes, in the shape (1, *counts, 1)."""
    covered = np.ones((1,))
    axes = zip(sizes, windows.counts(sizes), windows.kernel, windows.strides, windows.pads, strict=True)
    for size, count, window, stride, (low, _) in axes:
        starts = np.arange(count) * stride - low
        within = np.minimum(starts + window, size) - np.maximum(starts, 0)
        covered = covered[..., None] * within
    return covered[..., None]


def _power(x: Array, p: float) -> Array:
    """`x ** p`, for `p` below 1 with zero as its derivative at zero, where it is infinite."""
    if p >= 1:
        return x**p
    return jnp.where(x == 0, 0, jnp.where(x == 0, 1, x) ** p)


def _adaptive_bounds(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each of `count` windows that cover an axis starts, and the position after its end."""
    return np.arange(count) * size // count, -(-(np.arange(count) + 1) * size // count)


def _adaptive_windows(x: Array, axis: int, count: int) -> tuple[Array, Any]:
    """`x` with the axis split in two, the windows and their positions, and how many positions each window has.

    Windows shorter than the longest one repeat their last position.
    """
    axis, size = axis % x.ndim, x.shape[axis]
    starts, ends = _adaptive_bounds(size, count)
    if size % count == 0:
        return x.reshape(*x.shape[:axis], count, size // count, *x.shape[axis + 1 :]), ends - starts
    within = np.arange((ends - starts).max())
    positions = np.minimum(starts[:, None] + within, ends[:, None] - 1)
    return jnp.take(x, positions, axis, mode="clip"), ends - starts


def _adaptive_sums(x: Array, axis: int, size: int, count: int) -> Array:
    """The sums over `count` windows that cover an axis of this size."""
    windows, lengths = _adaptive_windows(x, axis, count)
    axis %= x.ndim
    within = np.arange(windows.shape[axis + 1]) < lengths[:, None]
    return jnp.sum(jnp.where(_placed(within, axis, windows.ndim), windows, 0), axis + 1)


def _spread_sums(totals: Array, axis: int, size: int, count: int) -> Array:
    """The transpose: at each position the sum over the windows that hold it, which cover the axis of windows alike."""
    return _adaptive_sums(totals, axis, count, size)


def _placed(values: np.ndarray, axis: int, axes: int) -> np.ndarray:
    """`values` with axes of size 1 around its own, of which the first becomes `axis` of `axes`."""
    return values.reshape((1,) * axis + values.shape + (1,) * (axes - axis - values.ndim))


def _spatial_axes(name: str, x: Array) -> tuple[int, ...]:
    if x.ndim < 3:
        raise SizeError(f"{name} expects at least 3 axes, as {AXES[2]}, got an array of shape {x.shape}")
    check_positions(name, x, (1,) * (x.ndim - 2), "window")
    return tuple(range(1, x.ndim - 1))

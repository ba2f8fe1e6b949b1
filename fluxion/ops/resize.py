"""Changing the number of positions along the spatial axes: upsampling by interpolation, and pixel shuffling.

Interpolation treats one axis after the other. Along an axis each new entry is a weighted sum of one, two or four old
ones, which ones being known beforehand; so is each old entry's part in the derivative.
"""

from __future__ import annotations

import functools
import math
import numbers
import operator
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import SizeError
from fluxion.ops.arrays import as_float, at_least_float32
from fluxion.ops.transposed import linear
from fluxion.ops.windows import AXES, check_axes, is_integer, per_axis, size_of, window_sizes

CUBIC = -0.75  # the slope of the cubic kernel at distance 1


def upsample_nearest(x: Any, scale: Any = None, *, size: Any = None) -> Array:
    """`x` of shape `(batch, *sizes, channels)` with each entry repeated: `y[i] = x[floor(i / scale)]` along each axis.

    There are 1 to 3 spatial axes. Give either `scale`, a number above 0 or one for each spatial axis, for
    `floor(scale * size)` positions, or `size`, the new sizes, which is the scale `size / old size`. Types stay.
    SizeError for another number of axes; ValueError for other arguments that make no sense. PyTorch:
    `interpolate(mode="nearest")`; Flux's `upsample_nearest` takes whole scales only.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.upsample_nearest(jnp.array([1, 2]).reshape(1, 2, 1), 2).ravel().tolist()
    [1, 1, 2, 2]
    """
    return _resize("upsample_nearest", "nearest", jnp.asarray(x), scale, size, False)


def upsample_linear(x: Any, scale: Any = None, *, size: Any = None, align_corners: bool = False) -> Array:
    """Linear interpolation of `x` of shape `(batch, *sizes, channels)` along its 1 to 3 spatial axes.

    `scale` and `size` are those of `upsample_nearest`. Entries are the middles of cells that cover the axis: entry `i`
    of the output lies at `(i + 1/2) / scale - 1/2` of the input. With `align_corners=True` the first and the last
    entries of input and output coincide instead, at `i * (old - 1) / (new - 1)`. Outside the first and last entry the
    values go on constantly. Downsampling does not average. PyTorch: `interpolate(mode="linear")`, with the same
    default; Flux: `upsample_linear`, with `align_corners=true`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.upsample_linear(jnp.array([1.0, 2.0]).reshape(1, 2, 1), 2).ravel().tolist()
    [1.0, 1.25, 1.75, 2.0]
    """
    return _resize("upsample_linear", "linear", as_float(x), scale, size, align_corners)


def upsample_bilinear(x: Any, scale: Any = None, *, size: Any = None, align_corners: bool = False) -> Array:
    """`upsample_linear` of images `(batch, height, width, channels)`.

    >>> import fluxion as fx
    >>> fx.upsample_bilinear(fx.ones(8, 14, 14, 64), 2).shape
    (8, 28, 28, 64)
    """
    return _resize("upsample_bilinear", "linear", as_float(x), scale, size, align_corners, spatial=2)


def upsample_trilinear(x: Any, scale: Any = None, *, size: Any = None, align_corners: bool = False) -> Array:
    """`upsample_linear` of volumes `(batch, depth, height, width, channels)`.

    >>> import fluxion as fx
    >>> fx.upsample_trilinear(fx.ones(1, 4, 4, 4, 2), size=(8, 6, 4)).shape
    (1, 8, 6, 4, 2)
    """
    return _resize("upsample_trilinear", "linear", as_float(x), scale, size, align_corners, spatial=3)


def upsample_bicubic(x: Any, scale: Any = None, *, size: Any = None, align_corners: bool = False) -> Array:
    """Cubic interpolation of images `(batch, height, width, channels)`, by Keys 1981 with `a = -0.75`.

    `scale`, `size` and `align_corners` are those of `upsample_linear`. Values may leave the range of the input.
    PyTorch: `interpolate(mode="bicubic")`.

    >>> import fluxion as fx
    >>> fx.upsample_bicubic(fx.ones(8, 14, 14, 64), 1.5).shape
    (8, 21, 21, 64)
    """
    return _resize("upsample_bicubic", "cubic", as_float(x), scale, size, align_corners, spatial=2)


def pixel_shuffle(x: Any, r: int) -> Array:
    """Channels into positions: `(batch, *sizes, r**n * channels)` becomes `(batch, *(r * sizes), channels)`.

    There are `n` = 1 to 3 spatial axes. Channel `(c * r + i) * r + j` of an image becomes channel `c` of row `i` and
    column `j` of its block, as in PyTorch and Flux. SizeError where `r**n` does not divide the channels. Shi et al.
    2016.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.pixel_shuffle(jnp.arange(4).reshape(1, 1, 1, 4), 2)[0, :, :, 0].tolist()
    [[0, 1], [2, 3]]
    """
    x = jnp.asarray(x)
    spatial, r = _spatial("pixel_shuffle", x), size_of(r, "pixel_shuffle", "as r an int")
    batch, *sizes, channels = x.shape
    if channels % r**spatial:
        wanted = f"a multiple of {r}**{spatial} channels (last axis)"
        raise SizeError(f"pixel_shuffle expects {wanted}, got an array of shape {x.shape}")
    blocks = x.reshape(batch, *sizes, channels // r**spatial, *(r,) * spatial)
    pairs = [axis for i in range(spatial) for axis in (1 + i, spatial + 2 + i)]
    return blocks.transpose(0, *pairs, spatial + 1).reshape(batch, *(r * n for n in sizes), channels // r**spatial)


def pixel_unshuffle(x: Any, r: int) -> Array:
    """The inverse of `pixel_shuffle`: `(batch, *sizes, channels)` becomes `(batch, *(sizes / r), r**n * channels)`.

    SizeError where `r` does not divide the sizes.

    >>> import fluxion as fx
    >>> fx.pixel_unshuffle(fx.ones(8, 28, 28, 3), 2).shape
    (8, 14, 14, 12)
    """
    x = jnp.asarray(x)
    spatial, r = _spatial("pixel_unshuffle", x), size_of(r, "pixel_unshuffle", "as r an int")
    batch, *sizes, channels = x.shape
    if any(n % r for n in sizes):
        raise SizeError(f"pixel_unshuffle expects sizes that are multiples of {r}, got an array of shape {x.shape}")
    blocks = x.reshape(batch, *(part for n in sizes for part in (n // r, r)), channels)
    outer, inner = range(1, 2 * spatial, 2), range(2, 2 * spatial + 1, 2)
    blocks = blocks.transpose(0, *outer, 2 * spatial + 1, *inner)
    return blocks.reshape(batch, *(n // r for n in sizes), channels * r**spatial)


# ------------------------------------------------------------------ interpolation along one axis


@dataclass(frozen=True)
class Way:
    """How `size` entries along an axis become `count`; `ratio` is the step from one to the next, in old entries."""

    method: str
    size: int
    count: int
    ratio: Fraction
    align_corners: bool


def check_target(name: str, scale: Any, size: Any) -> None:
    """Raises a ValueError unless one of `scale` and `size` is given, and is a number or a tuple of numbers."""
    if (scale is None) == (size is None):
        raise ValueError(f"{name} takes either scale or size, got scale={scale!r} and size={size!r}")
    entries = scale if isinstance(scale, (tuple, list)) else (1 if scale is None else scale,)
    real = all(isinstance(entry, numbers.Real) and not isinstance(entry, bool) for entry in entries)
    if not real or not all(0 < entry < math.inf for entry in entries):
        raise ValueError(f"{name} takes as scale a number above 0, or one for each spatial axis, got {scale!r}")
    if size is not None:
        per_axis(size, 1, "size") if is_integer(size) else window_sizes(size, "size")


def _resize(
    name: str, method: str, x: Array, scale: Any, size: Any, align_corners: bool, spatial: int | None = None
) -> Array:
    if spatial is not None:
        check_axes(name, x, spatial)
    ways = _ways(name, method, x.shape[1 : _spatial(name, x) + 1], scale, size, align_corners)
    result = x if method == "nearest" else at_least_float32(x)
    for axis, way in enumerate(ways, start=1):
        if way.count != way.size or way.ratio != 1:
            result = linear(_gather, _spread, result, axis - x.ndim, way)
    return result.astype(x.dtype)


def _ways(name: str, method: str, sizes: tuple[int, ...], scale: Any, size: Any, align_corners: bool) -> list[Way]:
    check_target(name, scale, size)
    if 0 in sizes:
        raise SizeError(f"{name} expects spatial axes that are not empty, got sizes {sizes}")
    if size is not None:
        counts = per_axis(size, len(sizes), "size")
        ratios = [Fraction(old, new) for old, new in zip(sizes, counts, strict=True)]
    else:
        scales = [_fraction(s) for s in (scale if isinstance(scale, (tuple, list)) else (scale,) * len(sizes))]
        if len(scales) != len(sizes):
            raise ValueError(f"scale takes a number or one for each of {len(sizes)} spatial axes, got {scale!r}")
        counts = tuple(math.floor(old * factor) for old, factor in zip(sizes, scales, strict=True))
        ratios = [1 / factor for factor in scales]
    if 0 in counts:
        raise SizeError(f"{name} expects sizes of which scale={scale!r} leaves at least 1, got {sizes}")
    return [Way(method, *way, bool(align_corners)) for way in zip(sizes, counts, ratios, strict=True)]


def _fraction(scale: Any) -> Fraction:
    """The fraction that a float stands for: 0.7 is 7/10, so that 10 positions become 7 and not 6.9999."""
    return Fraction(float(scale)).limit_denominator(10**6) or Fraction(float(scale))


def _spatial(name: str, x: Array) -> int:
    if not 3 <= x.ndim <= 5:
        raise SizeError(f"{name} expects 3 to 5 axes, as {AXES[2]}, got an array of shape {x.shape}")
    return x.ndim - 2


def _gather(x: Array, axis: int, way: Way) -> Array:
    return _weighted(x, axis, *_table(way))


def _spread(dy: Array, axis: int, way: Way) -> Array:
    return _weighted(dy, axis, *_transposed_table(way))


def _weighted(x: Array, axis: int, index: np.ndarray, weight: np.ndarray) -> Array:
    """`y[i] = sum over k of weight[k, i] * x[index[k, i]]` along `axis`; a weight of 0 keeps out even infinity."""
    after = (1,) * (-axis - 1)
    terms = []
    for places, weights in zip(index, weight, strict=True):
        weights = weights.reshape(-1, *after)
        shape = (*(1,) * (x.ndim - weights.ndim), *weights.shape)
        taken = jnp.take(x, places, axis=axis, mode="clip")
        term = taken * jnp.asarray(weights, x.dtype).reshape(shape)
        terms.append(jnp.where((weights == 0).reshape(shape), jnp.zeros((), x.dtype), term))
    return functools.reduce(operator.add, terms)


@functools.lru_cache(maxsize=1024)
def _table(way: Way) -> tuple[np.ndarray, np.ndarray]:
    """For each new entry the old ones that it is made of, and their weights, both of shape (terms, count)."""
    offsets, kernel = _KERNELS[way.method]
    positions = _positions(way)
    taps = np.floor(positions) + np.asarray(offsets)[:, None]
    return np.clip(taps, 0, way.size - 1).astype(np.int32), kernel(np.abs(positions - taps))


@functools.lru_cache(maxsize=1024)
def _transposed_table(way: Way) -> tuple[np.ndarray, np.ndarray]:
    """For each old entry the new ones that it is part of, and its weights there, both of shape (terms, size)."""
    index, weight = _table(way)
    term, new = np.nonzero(weight)
    old, value = index[term, new], weight[term, new]
    order = np.argsort(old, kind="stable")
    old, new, value = old[order], new[order], value[order]
    rank = np.arange(len(old)) - np.searchsorted(old, old)
    shape = (rank.max() + 1, way.size)
    places, weights = np.zeros(shape, np.int32), np.zeros(shape)
    places[rank, old], weights[rank, old] = new, value
    return places, weights


def _positions(way: Way) -> np.ndarray:
    """Where each new entry lies, counted in old entries."""
    steps = range(way.count)
    if way.method == "nearest":
        return np.array([math.floor(i * way.ratio) for i in steps], float)
    if way.align_corners:
        return np.arange(way.count) * (way.size - 1) / max(way.count - 1, 1)
    centres = np.array([float((i + Fraction(1, 2)) * way.ratio - Fraction(1, 2)) for i in steps])
    return centres if way.method == "cubic" else np.clip(centres, 0, way.size - 1)


def _hat(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1 - distance, 0)


def _cubic(distance: np.ndarray) -> np.ndarray:
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
    far = CUBIC * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance < 1, near, far)


_KERNELS: dict[str, tuple[tuple[int, ...], Callable[[np.ndarray], np.ndarray]]] = {
    "nearest": ((0,), np.ones_like),
    "linear": ((0, 1), _hat),
    "cubic": ((-1, 0, 1, 2), _cubic),
}

"""Reading images at positions between their pixels: sampling on a grid, affine maps and rotation."""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import SizeError
from fluxion.ops.arrays import as_float, at_least_float32
from fluxion.ops.windows import check_axes, window_sizes

_METHODS = ("bilinear", "nearest")


def grid_sample(
    x: Any, grid: Any, *, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool = False
) -> Array:
    """`x` read at the positions that `grid` names, by linear interpolation or at the nearest entry.

    x        images `(batch, height, width, channels)` or volumes `(batch, depth, height, width, channels)`
    grid     `(batch, *out, 2)` or `(batch, *out, 3)`: positions as `(x, y)` or `(x, y, z)`, `x` along the width, each
             from -1 to 1 over the input; `out` are the sizes of the output `(batch, *out, channels)`

    -1 and 1 are the outer borders of the first and the last pixel, with `align_corners=True` their middles. Outside
    there are zeros; with `padding_mode` "border" the nearest border pixel, with "reflection" the image mirrored again
    and again. A position that is NaN reads NaN, and zero for "nearest". Differentiable in `x` and, for
    `mode="bilinear"`, in `grid`; "nearest" keeps the type of `x`.

    SizeError for shapes that do not fit, ValueError for unknown modes. PyTorch: `grid_sample`; Flux: `grid_sample`,
    with `align_corners` always true.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    >>> fx.grid_sample(x, [[[[0.0, 0.0], [0.5, -0.5]]]]).ravel().tolist()
    [2.5, 2.0]
    """
    _one_of("mode", mode, _METHODS)
    _one_of("padding_mode", padding_mode, tuple(_FOLDS))
    x, grid = jnp.asarray(x), _real("grid_sample", "grid", grid)
    if x.ndim not in (4, 5) or 0 in x.shape[1:-1]:
        wanted = "4 or 5 axes (batch, *sizes, channels) with sizes of at least 1"
        raise SizeError(f"grid_sample expects {wanted}, got an array of shape {x.shape}")
    spatial = x.ndim - 2
    if grid.ndim != x.ndim or grid.shape[0] != x.shape[0] or grid.shape[-1] != spatial:
        wanted = f"a grid ({x.shape[0]}, {', '.join(['size'] * spatial)}, {spatial}) for an array of shape {x.shape}"
        raise SizeError(f"grid_sample expects {wanted}, got one of shape {grid.shape}")
    fold = _FOLDS[padding_mode]
    positions = []
    for axis, size in enumerate(x.shape[1:-1]):
        place = grid[..., spatial - 1 - axis]
        place = (place + 1) / 2 * (size - 1) if align_corners else ((place + 1) * size - 1) / 2
        positions.append(fold(place, size, 0.0 if align_corners else 0.5))
    return _read(x, positions, mode)


def affine_grid(theta: Any, size: tuple[int, ...], *, align_corners: bool = False) -> Array:
    """The grid for `grid_sample` that reads an image through the affine maps `theta`.

    `theta` of shape `(batch, n, n + 1)`, `n` = 2 or 3, maps positions `(x, y, 1)` or `(x, y, z, 1)` in the output of
    sizes `size`, its `n` spatial axes, to positions in the input: `(batch, *size, n)`. SizeError for another `theta`.
    PyTorch: `affine_grid`, whose `size` counts batch and channels, too.

    >>> import fluxion as fx
    >>> fx.affine_grid([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]], (1, 2))[0, 0].tolist()
    [[-0.5, 0.0], [0.5, 0.0]]
    """
    theta = as_float(theta)
    size = window_sizes(size, "size")
    spatial = len(size)
    if spatial not in (2, 3) or theta.ndim != 3 or theta.shape[1:] != (spatial, spatial + 1):
        wanted = f"theta of shape (batch, n, n + 1) and n sizes, n = 2 or 3, got shape {theta.shape} and sizes {size}"
        raise SizeError(f"affine_grid expects {wanted}")
    wide = at_least_float32(theta)
    axes = [_centred(count, align_corners).astype(wide.dtype) for count in size]
    places = jnp.stack([*jnp.meshgrid(*axes, indexing="ij")[::-1], jnp.ones(size, wide.dtype)], axis=-1)
    grid = jnp.tensordot(wide, places, axes=(2, spatial), precision="highest")
    return jnp.moveaxis(grid, 1, -1).astype(theta.dtype)


def imrotate(x: Any, angle: Any, *, method: str = "bilinear", centre: tuple[float, float] | None = None) -> Array:
    """Images `(batch, height, width, channels)` rotated by `angle` radians, with zeros from outside.

    Positive angles turn clockwise as an image is shown, with its first row on top: at 90 degrees what stands to the
    left of the centre comes to stand above it. `angle` is one number, or one for each image of the batch; `centre` is
    the (row, column) that stays in place, by default the pixel `(height // 2, width // 2)`. `method` is "bilinear" or
    "nearest", which keeps the type of `x`. Multiples of 90 degrees give exact copies. Differentiable in `x` and, for
    "bilinear", in `angle`.

    SizeError for shapes that do not fit, ValueError for unknown methods. Flux: `imrotate`, which also leaves out
    pixels that lie outside in part.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> x = jnp.array([[0, 1, 0], [0, 0, 0], [0, 0, 0]]).reshape(1, 3, 3, 1)
    >>> fx.imrotate(x, jnp.pi / 2, method="nearest")[0, :, :, 0].tolist()
    [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    """
    _one_of("method", method, _METHODS)
    x, angle = jnp.asarray(x), _real("imrotate", "angle", angle)
    check_axes("imrotate", x, 2)
    if angle.shape not in ((), x.shape[:1]):
        raise SizeError(f"imrotate expects one angle, or one for each of {x.shape[0]} images, got shape {angle.shape}")
    sizes = x.shape[1:3]
    middle = tuple(n // 2 for n in sizes) if centre is None else centre
    if np.shape(middle) != (2,) or not all(isinstance(place, numbers.Real) for place in middle):
        raise ValueError(f"imrotate takes as centre a pair (row, column), got {centre!r}")
    row, column = jnp.arange(sizes[0]) - middle[0], jnp.arange(sizes[1]) - middle[1]
    row, column = row.reshape(1, -1, 1).astype(angle.dtype), column.reshape(1, 1, -1).astype(angle.dtype)
    sine, cosine = (_snapped(f(angle), angle).reshape(-1, 1, 1) for f in (jnp.sin, jnp.cos))
    rows, columns = cosine * row - sine * column + middle[0], sine * row + cosine * column + middle[1]
    positions = [_outside(rows, sizes[0], 0.0), _outside(columns, sizes[1], 0.0)]
    return _read(x, [jnp.broadcast_to(position, x.shape[:3]) for position in positions], method)


def _one_of(name: str, value: Any, options: tuple[str, ...]) -> None:
    if value not in options:
        raise ValueError(f"{name} takes one of {', '.join(map(repr, options))}, got {value!r}")


def _real(name: str, what: str, value: Any) -> Array:
    """`value` as real numbers in single precision or more."""
    value = as_float(value)
    if jnp.iscomplexobj(value):
        raise TypeError(f"{name} takes as {what} real numbers, got {value.dtype}")
    return at_least_float32(value)


def _read(x: Array, positions: list[Array], mode: str) -> Array:
    """`x` at positions in pixels, an array `(batch, *out)` for each spatial axis; zero at pixels that do not exist."""
    if mode == "nearest":
        known = [jnp.where(jnp.isnan(position), -1, position) for position in positions]
        return _pixels(x, [jnp.round(position).astype(jnp.int32) for position in known])
    x = as_float(x)
    wide = x.astype(jnp.promote_types(x.dtype, positions[0].dtype))
    floors = [jnp.floor(position) for position in positions]
    total = jnp.zeros((), wide.dtype)
    for corner in itertools.product((0, 1), repeat=len(positions)):
        weight = jnp.ones((), positions[0].dtype)
        for position, floor, side in zip(positions, floors, corner, strict=True):
            beyond = position - floor
            weight = weight * (beyond if side else 1 - beyond)
        places = [floor.astype(jnp.int32) + side for floor, side in zip(floors, corner, strict=True)]
        total = total + weight[..., None] * _pixels(wide, places)
    return total.astype(x.dtype)


def _pixels(x: Array, places: list[Array]) -> Array:
    """The entries of `x` at integer places, an array `(batch, *out)` for each spatial axis; zeros outside."""
    sizes, flat = x.shape[1:-1], jnp.zeros((), jnp.int32)
    inside = jnp.ones((), bool)
    for place, size in zip(places, sizes, strict=True):
        inside = inside & (place >= 0) & (place < size)
        flat = flat * size + jnp.clip(place, 0, size - 1)
    rows = x.reshape(x.shape[0], math.prod(sizes), x.shape[-1])
    row = flat.reshape(x.shape[0], math.prod(flat.shape[1:]), 1)
    taken = jnp.take_along_axis(rows, row, axis=1, mode="clip")
    return jnp.where(inside[..., None], taken.reshape(*flat.shape, x.shape[-1]), jnp.zeros((), x.dtype))


def _outside(position: Array, size: int, border: float) -> Array:
    """Positions whose neighbours all lie outside, moved near: the same zeros, and no integers that overflow."""
    return jnp.clip(position, -2, size + 1)


def _at_border(position: Array, size: int, border: float) -> Array:
    return jnp.clip(position, 0, size - 1)


def _reflected(position: Array, size: int, border: float) -> Array:
    """Positions mirrored at `-border` and `size - 1 + border` until they lie between."""
    span = size - 1 + 2 * border
    if span == 0:
        return jnp.zeros_like(position)
    offset = jnp.mod(position + border, 2 * span)
    folded = jnp.where(offset <= span, offset, 2 * span - offset) - border
    return jnp.clip(folded, 0, size - 1)


_FOLDS: dict[str, Callable[[Array, int, float], Array]] = {
    "zeros": _outside,
    "border": _at_border,
    "reflection": _reflected,
}


def _centred(count: int, align_corners: bool) -> Array:
    """`count` positions around 0: from -1 to 1, or at the middles of cells that cover that range."""
    steps = 2 * jnp.arange(count) - (count - 1)
    return steps / (max(count - 1, 1) if align_corners else count)


def _snapped(value: Array, angle: Array) -> Array:
    """A sine or cosine that is 0 but for rounding as exactly 0, with its derivative as it was."""
    rounding = 4 * jnp.finfo(value.dtype).eps * (1 + jnp.abs(angle))
    return value - jax.lax.stop_gradient(jnp.where(jnp.abs(value) < rounding, value, 0))

"""Resampling: images read at the positions that a 3 x 3 matrix names, and masks, boxes and keypoints that go along.

A matrix maps a point of the result to the point of the source that is seen there, `(x, y, 1) -> (x w, y w, w)`, with
pixel (i, j) covering `[j, j + 1) x [i, i + 1)`. An image is what lies in `[0, W] x [0, H]`, up to its very edge, where
the colours of the outermost pixels go on for half a pixel, as in Pillow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fluxion.data.transforms.fields import Fields, Size, is_on_device, namespace
from fluxion.errors import SizeError
from fluxion.kernels.operation import Operation

METHODS, BORDERS = ("bilinear", "nearest"), ("fill", "edge", "reflect")


@dataclass(frozen=True)
class Sampling:
    """How pixels are read: `method` between them, and what is seen outside of the image.

    `border` is "fill" for the colour `fill`, a number or one for each channel; "edge" for the nearest pixel; "reflect"
    for the image mirrored at its edge. A mask has `mask_fill` outside with "fill".
    """

    method: str = "bilinear"
    border: str = "fill"
    fill: float | tuple[float, ...] = 0.0
    mask_fill: int = 0


def warp(fields: Fields, matrix: Any, size: Size, sampling: Sampling, projective: bool) -> Fields:
    """The fields seen through a matrix `(N, 3, 3)`, as images of this size; points go the opposite way."""
    result, compute = dict(fields), _warped if is_on_device(matrix) else plain
    (result["image"],) = compute(
        fields["image"],
        matrix,
        size=size,
        method=sampling.method,
        border=sampling.border,
        fill=sampling.fill,
        projective=projective,
    )
    if "mask" in fields:
        result["mask"] = read_mask(fields["mask"], *positions(matrix, size, projective), sampling)
    if fields.keys() & {"boxes", "keypoints"}:
        inverse = inverted(matrix)
        result |= moved_points(fields, size, lambda points: moved(points, inverse))
    return result


def moved_points(fields: Fields, size: Size, move: Any) -> Fields:
    """Keypoints moved by a function of points `(N, M, 2)`; boxes around their moved corners, cut to the image."""
    result = {}
    if "keypoints" in fields:
        result["keypoints"] = move(fields["keypoints"])
    if "boxes" in fields:
        boxes, (height, width) = fields["boxes"], size
        xp, count = namespace(boxes), boxes.shape[1]
        corners = xp.stack([boxes[..., [0, 2, 0, 2]], boxes[..., [1, 1, 3, 3]]], axis=-1)
        corners = move(corners.reshape(len(boxes), count * 4, 2)).reshape(len(boxes), count, 4, 2)
        around = xp.concatenate([corners.min(axis=2), corners.max(axis=2)], axis=-1)
        result["boxes"] = around.clip(0, xp.asarray([width, height] * 2, np.float32))
    return result


def moved(points: Any, matrix: Any) -> Any:
    """Points `(N, M, 2)` moved by matrices `(N, 3, 3)`."""
    xp = namespace(points, matrix)
    long = xp.concatenate([points, xp.ones_like(points[..., :1])], axis=-1)
    product = (matrix[:, None] * long[:, :, None, :]).sum(axis=-1)
    return product[..., :2] / product[..., 2:]


def inverted(matrix: Any) -> Any:
    """The inverse of matrices `(N, 3, 3)`, up to a factor: exact for integers."""
    xp = namespace(matrix)
    a, b, c = matrix[:, 0], matrix[:, 1], matrix[:, 2]
    return xp.stack([xp.cross(b, c), xp.cross(c, a), xp.cross(a, b)], axis=-1)


def times(left: Any, right: Any) -> Any:
    """The product of matrices `(N, 3, 3)`, in float32 on every device."""
    return (left[:, :, :, None] * right[:, None]).sum(axis=2)


def positions(matrix: Any, size: Size, projective: bool) -> tuple[Any, Any]:
    """Where the centres of the pixels of the result lie in the source: x and y, `(N, H, W)` each."""
    xp = namespace(matrix)
    v, u = (xp.arange(count, dtype=np.float32) + np.float32(0.5) for count in size)
    entry = lambda row, column: matrix[:, row, column][:, None, None]
    x, y, w = (entry(row, 0) * u + entry(row, 1) * v[:, None] + entry(row, 2) for row in range(3))
    if not projective:
        return x, y
    behind = w < 1e-6  # points behind the horizon are not seen
    w = xp.where(behind, 1, w)
    return xp.where(behind, -1, x / w), xp.where(behind, -1, y / w)


def plain(
    image: Any,
    matrix: Any,
    *,
    size: Size,
    method: str,
    border: str,
    fill: float | tuple[float, ...],
    projective: bool,
) -> tuple[Any]:
    """The images `(N, *size, C)` that are seen through matrices `(N, 3, 3)`."""
    x, y = positions(matrix, size, projective)
    return (read(image, x, y, Sampling(method, border, fill)),)


def read(image: Any, x: Any, y: Any, sampling: Sampling) -> Any:
    """Images `(N, H, W, C)` at positions `(N, ...)`."""
    xp, (height, width, channels) = namespace(image, x), image.shape[1:]
    if isinstance(sampling.fill, tuple) and len(sampling.fill) not in (1, channels):
        raise SizeError(f"fill={sampling.fill} has {len(sampling.fill)} numbers for images of {channels} channels")
    if sampling.method == "nearest":
        colours = _pixels(image, _nearest(y, height, sampling.border), _nearest(x, width, sampling.border))
    else:
        (top, bottom, v), (left, right, u) = _between(y, height, sampling.border), _between(x, width, sampling.border)
        upper, lower = (
            _mixed(_pixels(image, row, left), _pixels(image, row, right), u[..., None]) for row in (top, bottom)
        )
        colours = _mixed(upper, lower, v[..., None])
    if sampling.border != "fill":
        return colours
    return xp.where(_inside(image, x, y)[..., None], colours, xp.asarray(sampling.fill, image.dtype))


def read_mask(mask: Any, x: Any, y: Any, sampling: Sampling) -> Any:
    """Masks `(N, H, W)` or `(N, H, W, C)` at positions `(N, ...)`: those of the nearest pixels."""
    how = Sampling("nearest", sampling.border, sampling.mask_fill)
    return read(mask, x, y, how) if mask.ndim == 4 else read(mask[..., None], x, y, how)[..., 0]


def _inside(image: Any, x: Any, y: Any) -> Any:
    height, width = image.shape[1:3]
    return (x >= 0) & (x <= width) & (y >= 0) & (y <= height)


def _mixed(a: Any, b: Any, share: Any) -> Any:
    """`share` of `b`, and the rest of `a`: exact for shares of 0 and 1."""
    return a * (1 - share) + b * share


def _mirrored(position: Any, size: int, border: str) -> Any:
    if border != "reflect":
        return position
    xp = namespace(position)
    period = xp.mod(position, np.float32(2 * size))
    return xp.minimum(period, 2 * size - period)


def _nearest(position: Any, size: int, border: str) -> Any:
    return namespace(position).floor(_mirrored(position, size, border)).clip(0, size - 1).astype(np.int32)


def _between(position: Any, size: int, border: str) -> tuple[Any, Any, Any]:
    """The pixels on either side of a position, and the share of the second."""
    centred = (_mirrored(position, size, border) - np.float32(0.5)).clip(0, size - 1)
    first = namespace(position).floor(centred).clip(0, max(size - 2, 0))
    index = first.astype(np.int32)
    return index, index + min(1, size - 1), centred - first


def _pixels(image: Any, row: Any, column: Any) -> Any:
    """The pixels of each image at rows and columns `(N, ...)`."""
    count, height, width, channels = image.shape
    number = np.arange(count, dtype=np.int32).reshape(-1, *(1,) * (row.ndim - 1))
    pixels, places = image.reshape(count * height * width, channels), (number * height + row) * width + column
    if is_on_device(places):
        return pixels.at[places].get(mode="clip")
    return pixels.take(places, axis=0, mode="clip")


def _kernel(machine: Any, mode: Any, image: Any, matrix: Any, **settings: Any) -> Callable[..., Any] | None:
    from fluxion.kernels.warp import warp_call  # here because it brings LLVM

    return warp_call(machine, image, matrix, **settings)


_warped = Operation("fluxion_warp", plain, _kernel)

"""Transforms that move pixels: each is a matrix, and those in a row become one matrix and one resampling."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from fluxion.data.keys import uniforms
from fluxion.data.transforms.base import Transform
from fluxion.data.transforms.checks import Ends, each_number, interval, number, one_of, probability
from fluxion.data.transforms.fields import Fields, Size, image_size, namespace
from fluxion.data.transforms.warp import BORDERS, METHODS, Sampling, inverted, times, warp


@dataclass(frozen=True, repr=False)
class Geometric(Transform):
    """Base of the transforms that only move pixels: subclasses define `matrix`, and `size_after` where it changes."""

    is_geometric: ClassVar[bool] = True
    projective: ClassVar[bool] = False  # whether the last row of the matrix may be other than 0, 0, 1

    @property
    def sampling(self) -> Sampling | None:
        """How pixels are read; None where it does not matter, because pixels only change places."""
        return None

    def matrix(self, keys: Any, size: Size) -> Any:
        """`(N, 3, 3)`: from points of the result, in pixels, to those of images of this size that are seen there."""
        raise NotImplementedError(f"{type(self).__name__} defines no matrix(keys, size)")

    def apply(self, fields: Fields, keys: Any) -> Fields:
        size = image_size(fields)
        return warp(
            fields, self.matrix(keys, size), self.size_after(size), self.sampling or Sampling(), self.projective
        )


@dataclass(frozen=True, repr=False)
class Sampled(Geometric):
    """Base of those that look between pixels and beyond the edge."""

    colour_settings = ("fill",)

    method: str = field(default="bilinear", kw_only=True)
    border: str = field(default="fill", kw_only=True)
    fill: float | tuple[float, ...] = field(default=0.0, kw_only=True)
    mask_fill: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        one_of(self, "method", METHODS)
        one_of(self, "border", BORDERS)
        each_number(self, "fill")

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.method, self.border, self.fill, self.mask_fill)


def matrices(keys: Any, *rows: Sequence[Any]) -> Any:
    """Matrices `(N, 3, 3)` of two or three rows of numbers and arrays `(N,)`."""
    xp = namespace(keys)
    entries = [entry for row in (*rows, (0, 0, 1))[:3] for entry in row]
    columns = [xp.broadcast_to(xp.asarray(entry, np.float32), keys.shape[:1]) for entry in entries]
    return xp.stack(columns, axis=-1).reshape(-1, 3, 3)


def shifted(keys: Any, x: Any, y: Any) -> Any:
    """Matrices that look `x` to the right and `y` further down."""
    return matrices(keys, (1, 0, x), (0, 1, y))


def around_centre(keys: Any, size: Size, middle: Any) -> Any:
    """`middle` with the centre of the image as its origin."""
    y, x = size[0] / 2, size[1] / 2
    return times(times(shifted(keys, x, y), middle), shifted(keys, -x, -y))


def between(numbers: Any, bounds: tuple[float, float]) -> Any:
    """Numbers from 0 to 1 as numbers between the bounds, or as one of them where these are `Ends`."""
    low, high = bounds
    if isinstance(bounds, Ends):
        return namespace(numbers).where(numbers < 0.5, np.float32(low), np.float32(high))
    return np.float32(low) + numbers * np.float32(high - low)


@dataclass(frozen=True, repr=False)
class Identity(Geometric):
    """Changes nothing.

    >>> fx.data.transforms.Identity()(np.ones((1, 1, 1))).tolist()
    [[[1.0]]]
    """

    def matrix(self, keys: Any, size: Size) -> Any:
        return shifted(keys, 0, 0)

    def apply(self, fields: Fields, keys: Any) -> Fields:
        return fields


@dataclass(frozen=True, repr=False)
class FlipX(Geometric):
    """Mirrors left and right with probability `p` (Augmentor: `FlipX`).

    >>> fx.data.transforms.FlipX()(np.array([[[0.0], [1.0]]])).ravel().tolist()
    [1.0, 0.0]
    """

    p: float = 1.0

    def __post_init__(self) -> None:
        probability(self, "p")

    def matrix(self, keys: Any, size: Size) -> Any:
        flipped = uniforms(keys, 1)[:, 0] < np.float32(self.p)
        return matrices(keys, (1 - 2 * flipped, 0, size[1] * flipped), (0, 1, 0))


@dataclass(frozen=True, repr=False)
class FlipY(Geometric):
    """Mirrors top and bottom with probability `p` (Augmentor: `FlipY`).

    >>> fx.data.transforms.FlipY()(np.array([[[0.0]], [[1.0]]])).ravel().tolist()
    [1.0, 0.0]
    """

    p: float = 1.0

    def __post_init__(self) -> None:
        probability(self, "p")

    def matrix(self, keys: Any, size: Size) -> Any:
        flipped = uniforms(keys, 1)[:, 0] < np.float32(self.p)
        return matrices(keys, (1, 0, 0), (0, 1 - 2 * flipped, size[0] * flipped))


@dataclass(frozen=True, repr=False)
class Rotate90(Geometric):
    """So many quarter turns to the left, as `np.rot90` (Augmentor: `Rotate90`, `Rotate180`, `Rotate270`).

    >>> fx.data.transforms.Rotate90()(np.array([[[0.0], [1.0]]])).ravel().tolist()
    [1.0, 0.0]
    """

    turns: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.turns, numbers.Integral):
            raise TypeError(f"Rotate90 takes a whole number of quarter turns, got {self.turns!r}")
        if abs(self.turns) > 4:
            raise ValueError(
                f"Rotate90 takes quarter turns, at most 4 to either side, got {self.turns}; 1 is 90 degrees"
            )

    def size_after(self, size: Size) -> Size:
        return size if self.turns % 2 == 0 else (size[1], size[0])

    def matrix(self, keys: Any, size: Size) -> Any:
        height, width = size
        first = [(1, 0, 0), (0, -1, width), (-1, 0, width), (0, 1, 0)][self.turns % 4]
        second = [(0, 1, 0), (1, 0, 0), (0, -1, height), (-1, 0, height)][self.turns % 4]
        return matrices(keys, first, second)


@dataclass(frozen=True, repr=False)
class Rotate(Sampled):
    """Turns the image by `low` to `high` degrees to the left, around its centre (Augmentor: `Rotate`).

    Of this and the transforms below, one number means exactly that. `method` is "bilinear" or "nearest". What comes
    from outside the image is `fill` (with `mask_fill` in masks), or with `border="edge"` the nearest pixel, with
    `border="reflect"` the mirrored image.

    >>> fx.data.transforms.Rotate(180)(np.array([[[0.0], [1.0]]])).ravel().round(5).tolist()
    [1.0, 0.0]
    """

    low: float
    high: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        interval(self, "low", "high")

    def matrix(self, keys: Any, size: Size) -> Any:
        angle = between(uniforms(keys, 1)[:, 0], interval(self, "low", "high")) * np.float32(math.pi / 180)
        xp = namespace(keys)
        sin, cos = xp.sin(angle), xp.cos(angle)
        return around_centre(keys, size, matrices(keys, (cos, -sin, 0), (sin, cos, 0)))


@dataclass(frozen=True, repr=False)
class ShearX(Sampled):
    """Moves rows by the tangent of `low` to `high` degrees times their distance below the centre (Augmentor: `ShearX`).

    >>> fx.data.transforms.ShearX(-10, 10)
    ShearX(-10, 10)
    """

    low: float
    high: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        interval(self, "low", "high", -89, 89)

    def matrix(self, keys: Any, size: Size) -> Any:
        return around_centre(keys, size, matrices(keys, (1, -_tangent(self, keys), 0), (0, 1, 0)))


@dataclass(frozen=True, repr=False)
class ShearY(Sampled):
    """Moves columns by the tangent of `low` to `high` degrees times their distance right of the centre.

    >>> fx.data.transforms.ShearY(-10, 10, border="reflect")
    ShearY(-10, 10, border='reflect')
    """

    low: float
    high: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        interval(self, "low", "high", -89, 89)

    def matrix(self, keys: Any, size: Size) -> Any:
        return around_centre(keys, size, matrices(keys, (1, 0, 0), (-_tangent(self, keys), 1, 0)))


def _tangent(shear: ShearX | ShearY, keys: Any) -> Any:
    angle = between(uniforms(keys, 1)[:, 0], interval(shear, "low", "high")) * np.float32(math.pi / 180)
    return namespace(keys).tan(angle)


@dataclass(frozen=True, repr=False)
class Zoom(Sampled):
    """Magnifies by `low` to `high` around the centre; the image keeps its size (Augmentor: `Zoom`).

    >>> fx.data.transforms.Zoom(2)(np.arange(4.0).reshape(1, 4, 1)).ravel().tolist()
    [0.75, 1.25, 1.75, 2.25]
    """

    low: float
    high: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        interval(self, "low", "high", 1e-3)

    def matrix(self, keys: Any, size: Size) -> Any:
        factor = 1 / between(uniforms(keys, 1)[:, 0], interval(self, "low", "high"))
        return around_centre(keys, size, matrices(keys, (factor, 0, 0), (0, factor, 0)))


@dataclass(frozen=True, repr=False)
class Translate(Sampled):
    """Moves the image to the right by `x` and down by `y`, each a number or a pair, lowest and highest.

    They are fractions of the width and the height, or pixels with `pixels=True`.

    >>> fx.data.transforms.Translate(0.5)(np.array([[[1.0], [2.0]]])).ravel().tolist()
    [0.0, 1.0]
    """

    x: float | tuple[float, float]
    y: float | tuple[float, float] = 0.0
    pixels: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("x", "y"):
            ends = interval(self, name)
            if not self.pixels and max(map(abs, ends)) > 1:
                raise ValueError(
                    f"Translate takes as {name} fractions of the image from -1 to 1, got {getattr(self, name)!r}: "
                    f"write Translate(..., pixels=True) for pixels"
                )

    def matrix(self, keys: Any, size: Size) -> Any:
        numbers, (height, width) = uniforms(keys, 2), (1, 1) if self.pixels else size
        x, y = (between(numbers[:, i], interval(self, name)) for i, name in enumerate(("x", "y")))
        return shifted(keys, -x * width, -y * height)


@dataclass(frozen=True, repr=False)
class Perspective(Sampled):
    """Moves each corner towards the centre by up to `distortion` times half the width and height.

    As `RandomPerspective` of torchvision.

    >>> fx.data.transforms.Perspective(0.3)
    Perspective(0.3)
    """

    projective: ClassVar[bool] = True

    distortion: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "distortion", 0, 1)

    def matrix(self, keys: Any, size: Size) -> Any:
        (height, width), numbers = size, uniforms(keys, 8) * np.float32(self.distortion / 2)
        x = [numbers[:, 0], 1 - numbers[:, 1], 1 - numbers[:, 2], numbers[:, 3]]  # the corners clockwise, from the
        y = [numbers[:, 4], numbers[:, 5], 1 - numbers[:, 6], 1 - numbers[:, 7]]  # upper left, of a square of size 1
        square = matrices(keys, (1 / width, 0, 0), (0, 1 / height, 0))
        back = matrices(keys, (width, 0, 0), (0, height, 0))
        return times(back, times(inverted(_from_square(keys, x, y)), square))


def _from_square(keys: Any, x: Sequence[Any], y: Sequence[Any]) -> Any:
    """Matrices that move the corners of the unit square to these four (Heckbert 1989, section 2.2.3)."""
    (ax, bx, sx), (ay, by, sy) = ((p[1] - p[2], p[3] - p[2], p[0] - p[1] + p[2] - p[3]) for p in (x, y))
    area = ax * by - bx * ay
    g, h = (sx * by - bx * sy) / area, (ax * sy - sx * ay) / area
    rows = ((p[1] - p[0] + g * p[1], p[3] - p[0] + h * p[3], p[0]) for p in (x, y))
    return matrices(keys, *rows, (g, h, 1))

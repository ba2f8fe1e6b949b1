"""Transforms that change the size of images: crops, padding and resizing. All move pixels only, so they compose."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fluxion.data.keys import uniforms
from fluxion.data.transforms.checks import interval, one_of, size_pair
from fluxion.data.transforms.fields import Fields, Size, exact_einsum, image_size, namespace
from fluxion.data.transforms.geometry import Geometric, Sampled, between, matrices, shifted
from fluxion.data.transforms.warp import METHODS, Sampling
from fluxion.errors import SizeError


def _check_fits(crop: Any, size: Size, corner: Size, image: Size) -> None:
    if any(start < 0 or start + part > whole for start, part, whole in zip(corner, size, image, strict=True)):
        raise SizeError(
            f"{crop!r} does not lie within images of height and width {image}; PadTo(...) before it makes room"
        )


@dataclass(frozen=True, repr=False)
class Crop(Geometric):
    """The part of this size, a number or `(height, width)`, whose upper left pixel is `(top, left)`.

    SizeError where it does not lie within the image.

    >>> fx.data.transforms.Crop((1, 2), 0, 1)(np.arange(4.0).reshape(1, 4, 1)).ravel().tolist()
    [1.0, 2.0]
    """

    size: int | tuple[int, int]
    top: int = 0
    left: int = 0

    def __post_init__(self) -> None:
        size_pair(self, "size")
        for name in ("top", "left"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or value < 0:
                raise ValueError(f"Crop takes as {name}= a whole number of pixels, from 0 on, got {value!r}")

    def size_after(self, size: Size) -> Size:
        wanted = size_pair(self, "size")
        _check_fits(self, wanted, (self.top, self.left), size)
        return wanted

    def matrix(self, keys: Any, size: Size) -> Any:
        return shifted(keys, self.left, self.top)


@dataclass(frozen=True, repr=False)
class _Part(Geometric):
    """A part of this size of the image."""

    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        size_pair(self, "size")

    def size_after(self, size: Size) -> Size:
        wanted = size_pair(self, "size")
        _check_fits(self, wanted, (0, 0), size)
        return wanted


@dataclass(frozen=True, repr=False)
class CenterCrop(_Part):
    """The part of this size, a number or `(height, width)`, in the middle; SizeError for one larger than the image.

    >>> fx.data.transforms.CenterCrop((1, 2))(np.arange(4.0).reshape(1, 4, 1)).ravel().tolist()
    [1.0, 2.0]
    """

    def matrix(self, keys: Any, size: Size) -> Any:
        height, width = self.size_after(size)
        return shifted(keys, (size[1] - width) // 2, (size[0] - height) // 2)


@dataclass(frozen=True, repr=False)
class RandomCrop(_Part):
    """A part of this size, a number or `(height, width)`, from anywhere; SizeError for one larger than the image.

    >>> fx.data.transforms.RandomCrop(2)(np.zeros((3, 4, 1))).shape
    (2, 2, 1)
    """

    def matrix(self, keys: Any, size: Size) -> Any:
        xp, numbers, (height, width) = namespace(keys), uniforms(keys, 2), self.size_after(size)
        top, left = (
            xp.floor(numbers[:, i] * np.float32(whole - part + 1))
            for i, (whole, part) in enumerate(((size[0], height), (size[1], width)))
        )
        return shifted(keys, left, top)


@dataclass(frozen=True, repr=False)
class PadTo(Sampled):
    """Makes images at least this size, a number or `(height, width)`, with the image in the middle.

    What is added is `fill`, or as `border` says.

    >>> fx.data.transforms.PadTo((1, 4))(np.ones((1, 2, 1))).ravel().tolist()
    [0.0, 1.0, 1.0, 0.0]
    """

    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        super().__post_init__()
        size_pair(self, "size")

    def size_after(self, size: Size) -> Size:
        height, width = size_pair(self, "size")
        return max(height, size[0]), max(width, size[1])

    def matrix(self, keys: Any, size: Size) -> Any:
        height, width = self.size_after(size)
        return shifted(keys, -((width - size[1]) // 2), -((height - size[0]) // 2))


@dataclass(frozen=True, repr=False)
class Resize(Geometric):
    """Images of this size, a number or `(height, width)`, whatever their shape was (Augmentor: `Resize`).

    Pixels are read between the pixels of the source (`method="bilinear"`, PyTorch's `antialias=False`) or are the
    nearest ones. With `antialias=True` each is the average of all that it covers, PyTorch's `antialias=True`; that is
    a step of its own, which is not merged with other transforms.

    >>> fx.data.transforms.Resize((1, 2))(np.arange(4.0).reshape(1, 4, 1)).ravel().tolist()
    [0.5, 2.5]
    """

    size: int | tuple[int, int]
    method: str = field(default="bilinear", kw_only=True)
    antialias: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        size_pair(self, "size")
        one_of(self, "method", METHODS)
        if self.antialias and self.method != "bilinear":
            raise ValueError(f'Resize takes antialias=True with method="bilinear" alone, got {self.method!r}')

    @property
    def is_geometric(self) -> bool:  # type: ignore[override]
        return not self.antialias

    @property
    def sampling(self) -> Sampling | None:
        return None if self.method == "bilinear" else Sampling(self.method)

    def size_after(self, size: Size) -> Size:
        return size_pair(self, "size")

    def matrix(self, keys: Any, size: Size) -> Any:
        height, width = size_pair(self, "size")
        return matrices(keys, (size[1] / width, 0, 0), (0, size[0] / height, 0))

    def apply(self, fields: Fields, keys: Any) -> Fields:
        if not self.antialias:
            return super().apply(fields, keys)
        image, size = fields["image"], size_pair(self, "size")
        rows, columns = (_averages(part, whole) for part, whole in zip(size, image_size(fields), strict=True))
        smooth = exact_einsum("qw,npwc->npqc", columns, exact_einsum("ph,nhwc->npwc", rows, image))
        rest = super().apply(fields, keys) if len(fields) > 1 else {}
        return {**rest, "image": smooth}


def _averages(count: int, size: int) -> np.ndarray:
    """The weights `(count, size)` of the pixels of a line in each pixel of the result: triangles as wide as needed."""
    scale = size / count
    centres = (np.arange(count) + 0.5) * scale
    distance = np.abs(np.arange(size) + 0.5 - centres[:, None]) / max(scale, 1)
    weights = np.maximum(0, 1 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True, repr=False)
class Scale(Geometric):
    """Images with `y` times as many rows and `x` times as many columns, rounded (Augmentor: `Scale`); `y=None` is `x`.

    `Zoom` magnifies at random, and keeps the size.

    >>> fx.data.transforms.Scale(0.5)(np.zeros((4, 6, 1))).shape
    (2, 3, 1)
    """

    x: float
    y: float | None = None

    def __post_init__(self) -> None:
        for value in (self.x, self.x if self.y is None else self.y):
            if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 < value < math.inf:
                raise ValueError(f"Scale takes factors above 0, got {value!r}")

    def size_after(self, size: Size) -> Size:
        return max(1, round(size[0] * (self.x if self.y is None else self.y))), max(1, round(size[1] * self.x))

    def matrix(self, keys: Any, size: Size) -> Any:
        height, width = self.size_after(size)
        return matrices(keys, (size[1] / width, 0, 0), (0, size[0] / height, 0))


@dataclass(frozen=True, repr=False)
class RandomResizedCrop(Geometric):
    """A random part of the image as an image of this size, a number or `(height, width)`.

    The part has `scale` of the image's area, evenly drawn, and `ratio` times as much width as height, drawn evenly by
    its logarithm; a side that would be longer than the image's is as long as that (Szegedy et al. 2015). It is read as
    by `Resize`, without antialiasing.

    >>> fx.data.transforms.RandomResizedCrop(2)(np.zeros((3, 4, 1))).shape
    (2, 2, 1)
    """

    size: int | tuple[int, int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        size_pair(self, "size")
        interval(self, "scale", None, 1e-6, 1)
        interval(self, "ratio", None, 1e-3)

    def size_after(self, size: Size) -> Size:
        return size_pair(self, "size")

    def matrix(self, keys: Any, size: Size) -> Any:
        numbers, (height, width) = uniforms(keys, 4), size_pair(self, "size")
        part_height, part_width = drawn_part(numbers, size, interval(self, "scale"), interval(self, "ratio"))
        top, left = numbers[:, 2] * (size[0] - part_height), numbers[:, 3] * (size[1] - part_width)
        return matrices(keys, (part_width / width, 0, left), (0, part_height / height, top))


def drawn_part(numbers: Any, size: Size, scale: tuple[float, float], ratio: tuple[float, float]) -> tuple[Any, Any]:
    """Height and width of parts of an image, at most its own, drawn by the first two numbers of each sample."""
    xp = namespace(numbers)
    area = between(numbers[:, 0], scale) * (size[0] * size[1])
    shape = xp.exp(between(numbers[:, 1], (math.log(ratio[0]), math.log(ratio[1]))))
    return xp.minimum(xp.sqrt(area / shape), size[0]), xp.minimum(xp.sqrt(area * shape), size[1])

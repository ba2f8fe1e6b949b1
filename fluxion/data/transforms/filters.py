"""Transforms that look at a pixel's neighbours, or at chance: blur, noise, erasing, distortion."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fluxion.data.keys import fold, uniforms
from fluxion.data.transforms.checks import interval, number, probability
from fluxion.data.transforms.colour import Colour, drawn, per_image
from fluxion.data.transforms.fields import Fields, image_size, namespace, repeated
from fluxion.data.transforms.geometry import Identity, Sampled, between
from fluxion.data.transforms.sizes import drawn_part
from fluxion.data.transforms.warp import Sampling, moved_points, positions, read, read_mask

_WIDTHS = 3  # a Gaussian is cut off at so many standard deviations
_EDGE = Sampling(border="edge")
_ROUNDS = 8  # steps that look for the place to which a point is distorted


def smoothed(image: Any, sigma: Any, radius: int) -> Any:
    """Images `(N, H, W, C)` under Gaussians of standard deviations `(N,)`, mirrored at the outermost pixels."""
    xp = namespace(image, sigma)
    steps = xp.arange(-radius, radius + 1, dtype=np.float32)
    weights = xp.exp(-0.5 * (steps / sigma[:, None]) ** 2)
    weights = weights / weights.sum(axis=1, keepdims=True)
    for axis in (1, 2):
        pads = [(radius, radius) if a == axis else (0, 0) for a in range(4)]
        wide, size = xp.pad(image, pads, mode="reflect"), image.shape[axis]
        part = lambda i, wide=wide, axis=axis, size=size: wide[(slice(None),) * axis + (slice(i, i + size),)]
        image = sum(part(i) * per_image(weights[:, i]) for i in range(2 * radius + 1))
    return image


@dataclass(frozen=True, repr=False)
class GaussianBlur(Colour):
    """Blurs by a Gaussian whose standard deviation is `low` to `high` pixels, mirrored at the outermost pixels.

    The Gaussian is cut off `radius` pixels from its centre, three standard deviations if left out.

    >>> fx.data.transforms.GaussianBlur(0.1, 2.0)
    GaussianBlur(0.1, 2.0)
    """

    low: float
    high: float | None = None
    radius: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        interval(self, "low", "high", 1e-3)
        if self.radius is not None and (not isinstance(self.radius, int) or self.radius < 1):
            raise ValueError(f"GaussianBlur takes as radius= a whole number of pixels, got {self.radius!r}")

    def colours(self, image: Any, keys: Any) -> Any:
        low, high = interval(self, "low", "high")
        sigma = between(uniforms(keys, 1)[:, 0], (low, high))
        return smoothed(image, sigma, self.radius or math.ceil(_WIDTHS * high))


@dataclass(frozen=True, repr=False)
class Sharpen(Colour):
    """`soft + (image - soft) * f` with `f` from `low` to `high`: below 1 softer, above 1 sharper, as in Pillow.

    `soft` is 5/13 of a pixel and 1/13 of each of its eight neighbours; the outermost pixels stay as they are.

    >>> fx.data.transforms.Sharpen(0.5, 2.0)
    Sharpen(0.5, 2.0)
    """

    low: float
    high: float | None = None

    def __post_init__(self) -> None:
        interval(self, "low", "high", 0)

    def colours(self, image: Any, keys: Any) -> Any:
        xp, (_, height, width, _) = namespace(image), image.shape
        wide = xp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        around = sum(wide[:, i : i + height, j : j + width] for i in range(3) for j in range(3))
        rows, columns = ((np.arange(size) > 0) & (np.arange(size) < size - 1) for size in (height, width))
        inner = (rows[:, None] & columns)[:, :, None]
        soft = xp.where(inner, (around + 4 * image) / 13, image)
        factor = drawn(self, keys, "low", "high")
        return (soft * (1 - factor) + image * factor).clip(0, 1)


@dataclass(frozen=True, repr=False)
class GaussianNoise(Colour):
    """Adds to each number of an image one of mean 0 and of a standard deviation from `low` to `high`.

    >>> fx.data.transforms.GaussianNoise(0.0, 0.1)
    GaussianNoise(0.0, 0.1)
    """

    low: float
    high: float | None = None

    def __post_init__(self) -> None:
        interval(self, "low", "high", 0, 1)

    def colours(self, image: Any, keys: Any) -> Any:
        noise = normals(fold(keys, 0), math.prod(image.shape[1:])).reshape(image.shape)
        return (image + noise * drawn(self, keys, "low", "high")).clip(0, 1)


def normals(keys: Any, count: int) -> Any:
    """`count` numbers of mean 0 and deviation 1 for each key (Box and Muller 1958)."""
    xp, half = namespace(keys), -(-count // 2)
    numbers = uniforms(keys, 2 * half)
    radius = xp.sqrt(-2 * xp.log1p(-numbers[:, :half]))
    angle = numbers[:, half:] * np.float32(2 * math.pi)
    return xp.concatenate([radius * xp.cos(angle), radius * xp.sin(angle)], axis=1)[:, :count]


@dataclass(frozen=True, repr=False)
class Erase(Colour):
    """With probability `p`, paints a rectangle over with `value` (Zhong et al. 2017, "Random erasing"; also Cutout).

    Its area is `scale` of the image's, and `ratio` times as wide as high, drawn as in `RandomResizedCrop`. Masks, boxes
    and keypoints stay as they are.

    >>> fx.data.transforms.Erase(scale=(1, 1), ratio=(1, 1))(np.ones((2, 2, 1))).sum().item() in (0.0, 4.0)
    True
    """

    colour_settings = ("value",)

    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: float = 0.0

    def __post_init__(self) -> None:
        probability(self, "p")
        interval(self, "scale", None, 1e-6, 1)
        interval(self, "ratio", None, 1e-3)
        number(self, "value")

    def colours(self, image: Any, keys: Any) -> Any:
        xp, size, numbers = namespace(image), image.shape[1:3], uniforms(keys, 5)
        parts = drawn_part(numbers, size, interval(self, "scale"), interval(self, "ratio"))
        hidden = per_image(numbers[:, 4] < np.float32(self.p))[..., 0]
        for axis, (part, whole) in enumerate(zip(parts, size, strict=True)):
            length = xp.maximum(xp.round(part), 1)
            start = xp.floor(numbers[:, 2 + axis] * (whole - length + 1))
            places = xp.arange(whole, dtype=np.float32)
            inside = (places >= start[:, None]) & (places < (start + length)[:, None])
            hidden = hidden & (inside[:, :, None] if axis == 0 else inside[:, None, :])
        return xp.where(hidden[..., None], np.float32(self.value), image)


Cutout = Erase  # its name in DeVries and Taylor 2017, where it has a fixed size


@dataclass(frozen=True, repr=False)
class ElasticDistortion(Sampled):
    """Looks at each pixel's colour `alpha * s` pixels away, `s` smooth noise (Simard et al. 2003).

    `s` are numbers from -1 to 1, drawn for each pixel and axis, under a Gaussian of standard deviation `sigma` pixels.
    Points move to where they are then seen; the options are those of `Rotate`.

    >>> fx.data.transforms.ElasticDistortion(30.0, 4.0)
    ElasticDistortion(30.0, 4.0)
    """

    is_geometric = False  # it is no matrix

    alpha: float = 50.0
    sigma: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "alpha", 0)
        number(self, "sigma", 1e-3)

    def apply(self, fields: Fields, keys: Any) -> Fields:
        size, sampling = image_size(fields), self.sampling
        away = self._away(keys, size)
        x, y = positions(Identity().matrix(keys, size), size, False)
        x, y = x + away[..., 0], y + away[..., 1]
        result = {**fields, "image": read(fields["image"], x, y, sampling)}
        if "mask" in fields:
            result["mask"] = read_mask(fields["mask"], x, y, sampling)
        return result | moved_points(fields, size, lambda points: _seen_at(points, away))

    def _away(self, keys: Any, size: tuple[int, int]) -> Any:
        """How far away each pixel looks, `(N, H, W, 2)`: x and y."""
        noise = uniforms(keys, math.prod(size) * 2).reshape(-1, *size, 2) * 2 - 1
        sigma = namespace(keys).full(keys.shape[:1], self.sigma, np.float32)
        return smoothed(noise, sigma, math.ceil(_WIDTHS * self.sigma)) * np.float32(self.alpha)


def _seen_at(points: Any, away: Any) -> Any:
    """Where points `(N, M, 2)` are seen: the places `p` with `p + away(p)` equal to the point, found step by step."""
    return repeated(_ROUNDS, lambda _, place: points - read(away, place[..., 0], place[..., 1], _EDGE), points)

"""Transforms that change colours, each pixel by itself. Formulas as in torchvision; colours are kept from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fluxion.data.keys import uniforms
from fluxion.data.transforms.base import Transform
from fluxion.data.transforms.checks import each_number, hashable, interval, probability
from fluxion.data.transforms.fields import Fields, is_on_device, namespace
from fluxion.data.transforms.geometry import between
from fluxion.errors import SizeError
from fluxion.kernels.operation import Operation

_MOST = 10  # times as bright: more leaves nothing of an image
GREY = (0.2989, 0.587, 0.114)  # red, green and blue in the grey of ITU-R 601


@dataclass(frozen=True, repr=False)
class Colour(Transform):
    """Base of the transforms that change the image alone: subclasses define `colours`."""

    def colours(self, image: Any, keys: Any) -> Any:
        """The new image of floats `(N, H, W, C)`."""
        raise NotImplementedError(f"{type(self).__name__} defines no colours(image, keys)")

    def apply(self, fields: Fields, keys: Any) -> Fields:
        return {**fields, "image": self.colours(fields["image"], keys)}


def per_image(numbers: Any) -> Any:
    """Numbers `(N,)` for arrays `(N, H, W, C)`."""
    return numbers[:, None, None, None]


def drawn(transform: Any, keys: Any, low: str, high: str | None = None) -> Any:
    """A number for each image from the interval of a setting, `(N, 1, 1, 1)`."""
    return per_image(between(uniforms(keys, 1)[:, 0], interval(transform, low, high)))


def grey_of(image: Any) -> Any:
    """The grey `(N, H, W, 1)` of colours; of images that have not three channels, the mean of them."""
    if image.shape[-1] != 3:
        return image.mean(axis=-1, keepdims=True)
    red, green, blue = (image[..., i : i + 1] * np.float32(GREY[i]) for i in range(3))
    return red + green + blue


def needs_colour(transform: Any, image: Any) -> None:
    """SizeError for images without three channels."""
    if image.shape[-1] != 3:
        raise SizeError(
            f"{transform!r} takes images of 3 channels, red, green and blue, got {image.shape[-1]} in {image.shape}; "
            f"a grey image has no such colours"
        )


def jittered(image: Any, factors: Any, *, stages: tuple[str, ...]) -> tuple[Any]:
    """The images `(N, H, W, C)` after stages, each with its factor in `(N, len(stages))`."""
    for i, stage in enumerate(stages):
        image = _STAGES[stage](image, per_image(factors[:, i]))
    return (image,)


def _brightened(image: Any, factor: Any) -> Any:
    return (image * factor).clip(0, 1)


def _contrasted(image: Any, factor: Any) -> Any:
    mean = grey_of(image).mean(axis=(1, 2, 3), keepdims=True)
    return (mean * (1 - factor) + image * factor).clip(0, 1)


def _saturated(image: Any, factor: Any) -> Any:
    return (grey_of(image) * (1 - factor) + image * factor).clip(0, 1)


def _hue_turned(image: Any, turns: Any) -> Any:
    """A colour is `most - chroma * min(1, max(0, min(p, 4 - p)))`, `p` sixths from its place on the colour circle."""
    xp = namespace(image)
    red, green, blue = (image[..., i : i + 1] for i in range(3))
    most, least = (pick(pick(red, green), blue) for pick in (xp.maximum, xp.minimum))
    chroma = most - least
    per_chroma = 1 / xp.where(chroma > 0, chroma, 1)
    hue = xp.where(most == green, (blue - red) * per_chroma + 2, (red - green) * per_chroma + 4)
    hue = xp.where(most == red, (green - blue) * per_chroma, hue) + turns * 6
    position = hue + xp.asarray([5, 3, 1], np.float32)
    position = position - xp.floor(position * np.float32(1 / 6)) * 6
    return most - chroma * xp.minimum(position, 4 - position).clip(0, 1)


_STAGES = {"brightness": _brightened, "contrast": _contrasted, "saturation": _saturated, "hue": _hue_turned}


def _jitter_kernel(machine: Any, mode: Any, image: Any, factors: Any, **settings: Any) -> Callable[..., Any] | None:
    from fluxion.kernels.jitter import jitter_call  # here because it brings LLVM

    return jitter_call(machine, image, grey=GREY, **settings)


_jittered = Operation("fluxion_jitter", jittered, _jitter_kernel)


class Jitter(Colour):
    """Base of those that draw one factor for each of some stages."""

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The stages in their order, and the interval of each one's factor."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        _ = self.ranges

    def colours(self, image: Any, keys: Any) -> Any:
        xp, ranges = namespace(image), self.ranges
        if ranges.keys() & {"saturation", "hue"}:
            needs_colour(self, image)
        numbers = uniforms(keys, len(ranges))
        factors = [between(numbers[:, i], bounds) for i, bounds in enumerate(ranges.values())]
        if not factors:
            return image
        jitter = _jittered if is_on_device(image) else jittered
        return jitter(image, xp.stack(factors, axis=-1), stages=tuple(ranges))[0]


def _around_one(transform: Any, name: str) -> tuple[float, float]:
    """The interval of factors: a pair, or from `1 - change` to `1 + change` for a number."""
    bounds = interval(transform, name, None, 0, _MOST)
    return bounds if isinstance(hashable(transform, name), tuple) else (max(0.0, 1 - bounds[0]), 1 + bounds[0])


def _around_zero(transform: Any, name: str) -> tuple[float, float]:
    """The interval of turns: a pair, or from `-change` to `change` for a number."""
    bounds = interval(transform, name, None, -0.5, 0.5)
    return bounds if isinstance(hashable(transform, name), tuple) else (-abs(bounds[0]), abs(bounds[0]))


@dataclass(frozen=True, repr=False)
class Brightness(Jitter):
    """`image * f` with `f` from `1 - change` to `1 + change`, or from a pair, lowest and highest.

    >>> fx.data.transforms.Brightness((0.5, 0.5))(np.ones((1, 1, 1))).tolist()
    [[[0.5]]]
    """

    change: float | tuple[float, float]

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        return {"brightness": _around_one(self, "change")}


@dataclass(frozen=True, repr=False)
class Contrast(Jitter):
    """`m + (image - m) * f`, `m` the image's mean grey, with `f` from `1 - change` to `1 + change`, or from a pair.

    >>> fx.data.transforms.Contrast((0.5, 0.5))(np.array([[[0.0], [1.0]]])).ravel().tolist()
    [0.25, 0.75]
    """

    change: float | tuple[float, float]

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        return {"contrast": _around_one(self, "change")}


@dataclass(frozen=True, repr=False)
class Saturation(Jitter):
    """`grey + (image - grey) * f` with `f` from `1 - change` to `1 + change`, or from a pair; 0 makes it grey.

    SizeError for images without three channels.

    >>> fx.data.transforms.Saturation(0.4)
    Saturation(0.4)
    """

    change: float | tuple[float, float]

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        return {"saturation": _around_one(self, "change")}


@dataclass(frozen=True, repr=False)
class Hue(Jitter):
    """Turns the colour circle by `-change` to `change` of a whole turn, or by a pair; 0.5 is the opposite colour.

    SizeError for images without three channels.

    >>> fx.data.transforms.Hue((1 / 3, 1 / 3))(np.array([[[1.0, 0, 0]]])).ravel().round(5).tolist()
    [0.0, 1.0, 0.0]
    """

    change: float | tuple[float, float]

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        return {"hue": _around_zero(self, "change")}


@dataclass(frozen=True, repr=False)
class ColorJitter(Jitter):
    """Brightness, contrast, saturation and hue in this order and one pass, each with a factor of its own.

    The settings are those of `Brightness`, `Contrast`, `Saturation` and `Hue`; 0 leaves one out. torchvision draws an
    order for each call; here it is fixed.

    >>> fx.data.transforms.ColorJitter(0.4, 0.4, hue=0.1)
    ColorJitter(0.4, 0.4, hue=0.1)
    """

    brightness: float | tuple[float, float] = 0.0
    contrast: float | tuple[float, float] = 0.0
    saturation: float | tuple[float, float] = 0.0
    hue: float | tuple[float, float] = 0.0

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        bounds = {name: _around_one(self, name) for name in ("brightness", "contrast", "saturation")}
        bounds["hue"] = _around_zero(self, "hue")
        return {name: pair for name, pair in bounds.items() if getattr(self, name) != 0}


@dataclass(frozen=True, repr=False)
class Greyscale(Colour):
    """Grey images of as many channels, with probability `p`; SizeError for images without three channels.

    >>> fx.data.transforms.Greyscale()(np.array([[[1.0, 0.0, 0.0]]])).ravel().round(4).tolist()
    [0.2989, 0.2989, 0.2989]
    """

    p: float = 1.0

    def __post_init__(self) -> None:
        probability(self, "p")

    def colours(self, image: Any, keys: Any) -> Any:
        needs_colour(self, image)
        grey = namespace(image).broadcast_to(grey_of(image), image.shape)
        return _with_chance(self, keys, grey, image)


@dataclass(frozen=True, repr=False)
class Invert(Colour):
    """`1 - image` with probability `p`.

    >>> fx.data.transforms.Invert()(np.array([[[0.25]]])).tolist()
    [[[0.75]]]
    """

    p: float = 1.0

    def __post_init__(self) -> None:
        probability(self, "p")

    def colours(self, image: Any, keys: Any) -> Any:
        return _with_chance(self, keys, 1 - image, image)


def _with_chance(transform: Any, keys: Any, changed: Any, image: Any) -> Any:
    """The changed images with the probability `p`, the others as they were."""
    return namespace(image).where(per_image(uniforms(keys, 1)[:, 0] < np.float32(transform.p)), changed, image)


@dataclass(frozen=True, repr=False)
class Gamma(Colour):
    """`image ** g` with `g` from `low` to `high`.

    >>> fx.data.transforms.Gamma(2)(np.array([[[0.5]]])).tolist()
    [[[0.25]]]
    """

    low: float
    high: float | None = None

    def __post_init__(self) -> None:
        interval(self, "low", "high", 1e-3)

    def colours(self, image: Any, keys: Any) -> Any:
        return image.clip(0, 1) ** drawn(self, keys, "low", "high")


@dataclass(frozen=True, repr=False)
class Posterise(Colour):
    """Keeps the `low` to `high` highest bits of the 256 levels of a colour, as Pillow's `posterize`.

    >>> fx.data.transforms.Posterise(1)(np.array([[[0, 127, 128, 255]]], np.uint8)).ravel().tolist()
    [0, 0, 128, 128]
    """

    low: int
    high: int | None = None

    def __post_init__(self) -> None:
        low, high = interval(self, "low", "high", 0, 8)
        if low % 1 or high % 1:
            raise ValueError(f"Posterise takes whole numbers of bits, got {low} to {high}")

    def colours(self, image: Any, keys: Any) -> Any:
        xp, (low, high) = namespace(image), interval(self, "low", "high")
        bits = np.float32(low) + xp.floor(uniforms(keys, 1)[:, 0] * np.float32(high - low + 1))
        step = per_image(xp.exp2(8 - bits))
        return xp.floor(xp.round(image.clip(0, 1) * 255) / step) * step / 255


@dataclass(frozen=True, repr=False)
class Solarise(Colour):
    """`1 - image` where the image is at least a threshold from `low` to `high`.

    >>> fx.data.transforms.Solarise(0.5)(np.array([[[0.25, 0.75]]])).ravel().tolist()
    [0.25, 0.25]
    """

    low: float
    high: float | None = None

    def __post_init__(self) -> None:
        interval(self, "low", "high", 0, 1)

    def colours(self, image: Any, keys: Any) -> Any:
        return namespace(image).where(image >= drawn(self, keys, "low", "high"), 1 - image, image)


@dataclass(frozen=True, repr=False)
class ToFloat(Colour):
    """Images of uint8 or uint16 as float32 from 0 to 1; the transforms after it leave them so.

    >>> fx.data.transforms.ToFloat()(np.array([[[255, 51]]], np.uint8)).ravel().tolist()
    [1.0, 0.20000000298023224]
    """

    makes_floats = True

    def colours(self, image: Any, keys: Any) -> Any:
        return image


@dataclass(frozen=True, repr=False)
class Normalize(Colour):
    """`(image - mean) / std`, numbers or one for each channel; images of integers count from 0 to 1 and become float32.

    SizeError where there are as many means as no image has channels; ValueError for a deviation that is not above 0,
    and for numbers that count from 0 to 255 beside images of integers.

    >>> fx.data.transforms.Normalize(0.5, 0.25)(np.ones((1, 1, 3))).ravel().tolist()
    [2.0, 2.0, 2.0]
    """

    makes_floats = True
    colour_settings = ("mean", "std")

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    def __post_init__(self) -> None:
        each_number(self, "mean")
        if min(each_number(self, "std")) <= 0:
            raise ValueError(f"Normalize divides by std=, which must be above 0, got {self.std}")

    def colours(self, image: Any, keys: Any) -> Any:
        mean, std = (np.asarray(values, np.float32) for values in (self.mean, self.std))
        for values in (mean, std):
            if values.size not in (1, image.shape[-1]):
                raise SizeError(
                    f"{self!r} has {values.size} numbers for the {image.shape[-1]} channels of {image.shape}"
                )
        return (image - mean) / std

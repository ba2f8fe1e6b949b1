"""Mixtures of transforms that were found to suit many data sets: RandAugment, TrivialAugment, AugMix."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fluxion.data.keys import fold, uniforms
from fluxion.data.transforms.base import Transform
from fluxion.data.transforms.checks import Ends, each_number, number
from fluxion.data.transforms.colour import Brightness, Contrast, Posterise, Saturation, Solarise, per_image
from fluxion.data.transforms.combine import OneOf
from fluxion.data.transforms.fields import Fields, namespace, repeated
from fluxion.data.transforms.filters import Sharpen
from fluxion.data.transforms.geometry import Identity, Rotate, ShearX, ShearY, Translate
from fluxion.data.transforms.levels import AutoContrast, Equalise

_BINS = 30  # the strongest magnitude of RandAugment


@dataclass(frozen=True, repr=False)
class RandAugment(Transform):
    """`count` transforms of 14, drawn for each image, all of one magnitude from 0 to 30 (Cubuk et al. 2019).

    At 30 images are sheared by 0.3, moved by 150/331 of their size, turned by 30 degrees, their brightness, colour,
    contrast and sharpness changed by 0.9, all with a random sign; posterised to 4 bits, solarised from 0 on; and
    equalised, stretched or left alone at any magnitude. `fill` is what comes from outside of the image.

    >>> fx.data.transforms.RandAugment(2, 9)(np.zeros((8, 8, 3), np.uint8)).shape
    (8, 8, 3)
    """

    colour_settings = ("fill",)

    count: int = 2
    magnitude: float = 9
    fill: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        _check_count(self, "count")
        number(self, "magnitude", 0, _BINS)
        each_number(self, "fill")

    def apply(self, fields: Fields, keys: Any) -> Fields:
        coloured = fields["image"].shape[-1] == 3
        one = _rand_augment(self.magnitude / _BINS, self.fill, coloured)
        return repeated(self.count, lambda i, fields: one.apply(fields, fold(keys, i)), fields)


@functools.cache
def _rand_augment(strength: float, fill: Any, coloured: bool) -> OneOf:
    either = lambda make, most: make(Ends((-most * strength, most * strength)))
    moves = _moves(either, math.degrees(math.atan(0.3 * strength)) / max(strength, 1e-9), 150 / 331, 30, False, fill)
    levels = [Posterise(8 - round(4 * strength)), Solarise(1 - strength), AutoContrast(), Equalise()]
    return OneOf([Identity(), *moves, *_tones(either, 0.9, coloured), *levels])


@dataclass(frozen=True, repr=False)
class TrivialAugment(Transform):
    """One of 14 transforms for each image, of random magnitude (Müller and Hutter 2021, the wide space).

    Images are sheared by up to 0.99, moved by up to 32 pixels, turned by up to 135 degrees, their brightness, colour,
    contrast and sharpness changed by up to 0.99, to either side; posterised to 2 to 8 bits, solarised; equalised,
    stretched or left alone. Magnitudes are drawn evenly where the paper has 31 steps.

    >>> fx.data.transforms.TrivialAugment()
    TrivialAugment()
    """

    colour_settings = ("fill",)

    fill: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        each_number(self, "fill")

    def apply(self, fields: Fields, keys: Any) -> Fields:
        return _trivial_augment(self.fill, fields["image"].shape[-1] == 3).apply(fields, keys)


@functools.cache
def _trivial_augment(fill: Any, coloured: bool) -> OneOf:
    moves = _moves(_evenly, math.degrees(math.atan(0.99)), 32, 135, True, fill)
    levels = [Posterise(2, 8), Solarise(0, 1), AutoContrast(), Equalise()]
    return OneOf([Identity(), *moves, *_tones(_evenly, 0.99, coloured), *levels])


@dataclass(frozen=True, repr=False)
class AugMix(Transform):
    """A mixture of the image and of `width` chains of one to `depth` transforms each (Hendrycks et al. 2019).

    The transforms are those of the paper: sheared by up to `severity / 10` of 0.3, moved by a third, turned by 30
    degrees, posterised, solarised, stretched, equalised. The chains' shares are drawn from Dirichlet(1), that of the
    original from Beta(1, 1). It changes images alone: ValueError beside masks, boxes or keypoints.

    >>> fx.data.transforms.AugMix(severity=5)
    AugMix(5)
    """

    severity: float = 3
    width: int = 3
    depth: int = 3

    def __post_init__(self) -> None:
        number(self, "severity", 0, 10)
        _check_count(self, "width")
        _check_count(self, "depth")

    def apply(self, fields: Fields, keys: Any) -> Fields:
        if found := fields.keys() - {"image", "labels"}:
            raise ValueError(
                f"{self!r} mixes images that were moved differently: it cannot move {', '.join(sorted(found))}"
            )
        xp, image = namespace(keys), fields["image"]
        numbers = uniforms(keys, self.width + 1)
        kept, waits = numbers[:, 0], -xp.log1p(-numbers[:, 1:])  # exponential: their shares of the sum are Dirichlet(1)
        shares = (1 - kept)[:, None] * waits / waits.sum(axis=1, keepdims=True)

        def with_chain(i: Any, mixture: Any) -> Any:
            return mixture + per_image(xp.take(shares, i, axis=1)) * self._chain(image, fold(keys, i))

        return {**fields, "image": repeated(self.width, with_chain, per_image(kept) * image)}

    def _chain(self, image: Any, keys: Any) -> Any:
        """The images after one to `depth` transforms in a row, each number equally likely."""
        xp, one = namespace(keys), _mixed_in(self.severity / 10)
        length = 1 + xp.floor(uniforms(keys, 1)[:, 0] * self.depth)

        def link(i: Any, fields: Fields) -> Fields:
            choice, its_keys = one.drawn(fold(keys, i))
            return one.chosen(fields, xp.where(i < length, choice, len(one.parts) - 1), its_keys)

        return repeated(self.depth, link, {"image": image})["image"]


@functools.cache
def _mixed_in(strength: float) -> OneOf:
    """The transforms of AugMix, and the Identity, which is for chains that have ended."""
    weaker = lambda make, most: _evenly(make, most * strength)
    moves = _moves(weaker, math.degrees(math.atan(0.3)), 1 / 3, 30, False, 0.0)
    bits = round(4 - 4 * strength)
    parts = [*moves, Posterise(bits, 4), Solarise(1 - strength, 1), AutoContrast(), Equalise()]
    return OneOf([*parts, Identity()], (*(1,) * len(parts), 0))


Spread = Callable[[Callable[..., Transform], float], Transform]


def _evenly(make: Callable[..., Transform], most: float) -> Transform:
    """The transform with a setting drawn evenly from `-most` to `most`."""
    return make((-most, most))


def _moves(spread: Spread, shear: float, shift: float, turn: float, pixels: bool, fill: Any) -> list[Transform]:
    """Shears, shifts and turns, whose strongest are these."""
    return [
        spread(functools.partial(ShearX, fill=fill), shear),
        spread(functools.partial(ShearY, fill=fill), shear),
        spread(lambda x: Translate(x, 0.0, pixels=pixels, fill=fill), shift),
        spread(lambda y: Translate(0.0, y, pixels=pixels, fill=fill), shift),
        spread(functools.partial(Rotate, fill=fill), turn),
    ]


def _tones(spread: Spread, most: float, coloured: bool) -> list[Transform]:
    """Brightness, contrast, colour and sharpness, whose factors are at most so far from 1; grey has no colour."""
    makes = (Brightness, Contrast, Saturation if coloured else _unchanged)
    factors = lambda change: type(change)(1 + end for end in change)
    return [spread(lambda change, make=make: make(factors(change)), most) for make in (*makes, Sharpen)]


def _unchanged(change: Any) -> Transform:
    return Identity()


def _check_count(transform: Any, name: str) -> None:
    value = getattr(transform, name)
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{type(transform).__name__} takes as {name}= a whole number of at least 1, got {value!r}")

"""Checks of the settings of transforms, which name the transform and the setting."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

_FAR = 10  # more than any colour is from 0 where white is 1, also after Normalize


class Ends(tuple[float, float]):
    """Two values of which one is drawn, where a pair is all that lies between them."""

    __slots__ = ()


def probability(transform: Any, name: str) -> None:
    """ValueError unless this setting is a probability."""
    value = getattr(transform, name)
    if not _is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"{type(transform).__name__} takes a probability from 0 to 1 as {name}=, got {value!r}")


def hashable(transform: Any, name: str) -> Any:
    """This setting, which becomes a tuple where it was a list or an array: equal transforms share compiled programs."""
    value = getattr(transform, name)
    if isinstance(value, (list, np.ndarray)):
        value = tuple(np.asarray(value).tolist())
        object.__setattr__(transform, name, value)
    return value


def each_number(transform: Any, name: str) -> tuple[float, ...]:
    """The numbers of a setting that is one number, or one for each channel; ValueError for anything else."""
    value = hashable(transform, name)
    values = value if isinstance(value, tuple) else (value,)
    if not values or not all(map(_is_number, values)):
        raise ValueError(f"{type(transform).__name__} takes as {name}= a number, or one a channel, got {value!r}")
    return values


def scaled(transform: Any) -> None:
    """ValueError where a setting of a transform, or of its parts, takes white for 255, in images where it is 1."""
    for part in getattr(transform, "parts", ()):
        scaled(part)
    for name in transform.colour_settings:
        if max(map(abs, each_number(transform, name))) > _FAR:
            raise ValueError(
                f"{transform!r} has {name}={getattr(transform, name)}, but images of integers are computed with "
                f"colours from 0 to 1: divide it by 255"
            )


def one_of(transform: Any, name: str, options: tuple[str, ...]) -> None:
    """ValueError unless this setting is one of the options."""
    value = getattr(transform, name)
    if value not in options:
        raise ValueError(f"{type(transform).__name__} takes as {name}= one of {options}, got {value!r}")


def interval(
    transform: Any, low: str, high: str | None = None, least: float = -math.inf, most: float = math.inf
) -> tuple[float, float]:
    """The lowest and highest value of a setting: two settings, of which the second may be None, or one that is a number
    or a pair. ValueError unless they are numbers in order, from `least` to `most`."""
    values = hashable(transform, low)
    if high is not None and getattr(transform, high) is not None:
        values = values, getattr(transform, high)
    pair = values if isinstance(values, tuple) else (values, values)
    name, names = type(transform).__name__, low if high is None else f"{low} and {high}"
    if len(pair) != 2 or not all(map(_is_number, pair)):
        raise ValueError(f"{name} takes numbers as {names}, one or the lowest and the highest, got {values!r}")
    if pair[0] > pair[1]:
        raise ValueError(f"{name} takes the lowest value first, got {pair[0]} before {pair[1]}")
    if pair[0] < least or pair[1] > most:
        wanted = f"of at least {least:g}" if math.isinf(most) else f"from {least:g} to {most:g}"
        raise ValueError(f"{name} takes as {names} numbers {wanted}, got {values!r}")
    bounds = float(pair[0]), float(pair[1])
    return Ends(bounds) if isinstance(pair, Ends) else bounds


def number(transform: Any, name: str, least: float = -math.inf, most: float = math.inf) -> None:
    """ValueError unless this setting is one number from `least` to `most`."""
    value = getattr(transform, name)
    if not _is_number(value):
        raise ValueError(f"{type(transform).__name__} takes a number as {name}=, got {value!r}")
    interval(transform, name, None, least, most)


def size_pair(transform: Any, name: str) -> tuple[int, int]:
    """Height and width of a setting that is a whole number, for both, or a pair; ValueError for anything else."""
    value = hashable(transform, name)
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2 or not all(
        isinstance(n, numbers.Integral) and not isinstance(n, bool) and int(n) > 0 for n in pair
    ):
        raise ValueError(
            f"{type(transform).__name__} takes as {name}= a whole number of pixels, or (height, width), got {value!r}"
        )
    return int(pair[0]), int(pair[1])


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)

"""Checks of what the functions of this package take, and values as errors show them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def whole_number(name: str, value: Any, least: int, most: int | None = None) -> int:
    """`value` as an int, if it is one from `least` to `most`; TypeError or ValueError otherwise."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is a whole number, got {value!r} of type {type(value).__name__}")
    if value < least or (most is not None and value > most):
        wanted = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {wanted}, got {value}")
    return int(value)


def fraction(name: str, value: Any) -> float:
    """`value` as a float, if it lies between 0 and 1; TypeError or ValueError otherwise."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is a fraction between 0 and 1, as in {name}=0.2, got {value!r}")
    if not 0 < value < 1:
        raise ValueError(f"{name} is a fraction between 0 and 1, as in {name}=0.2, got {value!r}")
    return float(value)


def one_of(function: str, name: str, value: Any, options: tuple[Any, ...]) -> Any:
    """`value`, if it is one of the options; ValueError otherwise."""
    if not any(value is option or (isinstance(value, str) and value == option) for option in options):
        raise ValueError(f"{function} takes {', '.join(map(repr, options))} as {name}, got {value!r}")
    return value


def listed(values: Iterable[Any], most: int = 8) -> str:
    """The first `most` values as one line.

    >>> listed("abc", most=2)
    "'a', 'b' and 1 more"
    """
    values = list(values)
    rest = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(repr, values[:most])) + rest

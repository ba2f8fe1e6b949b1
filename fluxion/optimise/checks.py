"""Checks of what users give to rules and schedules, and how hyperparameters that are schedules are evaluated."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fluxion.optimise.names import check_names


def number(value: Any, name: str, lower: float = 0.0, upper: float = float("inf")) -> float:
    """The value as a float, also that of an array without axes; `TypeError` for what is no number, `ValueError`
    outside of the bounds.
    """
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is a number, got {value!r} of type {type(value).__name__}")
    result = float(value)
    if lower <= result <= upper:
        return result
    below = "negative" if lower == 0 else f"below {lower:g}"
    side = below if result < lower else f"above {upper:g}" if result > upper else "NaN"
    raise ValueError(f"{name} cannot be {side}, got {value!r}")


def real(value: Any, name: str) -> float:
    """A number that may be negative."""
    return number(value, name, lower=-float("inf"))


def rate(value: Any, name: str = "learning_rate") -> Any:
    """A learning rate: a number that is not negative, or a schedule, which is asked for step 0."""
    if isinstance(value, type):
        raise TypeError(f"{name} is a number or a schedule, got the class {value.__name__} itself")
    if not callable(value):
        return number(value, name)
    try:
        first = value(0)
    except Exception as error:
        raise TypeError(f"{name} is a number or a function of the step; {value!r} fails at step 0: {error}") from error
    number(first, f"{name} at step 0")
    return value


def fractions(value: Any, name: str = "beta", count: int = 2) -> tuple[float, ...]:
    """A tuple of numbers between 0 and 1."""
    if not isinstance(value, tuple | list) or len(value) != count:
        words = {2: "a pair", 3: "a triple"}[count]
        raise TypeError(f"{name} is {words} of numbers, got {value!r}")
    return tuple(number(entry, f"{name}[{i}]", upper=1.0) for i, entry in enumerate(value))


def whole(value: Any, name: str, lower: int = 1) -> int:
    """A whole number from `lower` on."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} is a whole number, got {value!r} of type {type(value).__name__}")
    if value < lower:
        raise ValueError(f"{name} is a whole number from {lower} on, got {value!r}")
    return int(value)


def bind(make: Callable[..., Any], positional: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, without defaults; `TypeError` where they do not fit."""
    check_names(getattr(make, "__name__", str(make)), make, named)
    try:
        return dict(inspect.signature(make).bind(*positional, **named).arguments)
    except TypeError as error:
        raise TypeError(f"{getattr(make, '__name__', make)}: {error}") from None


def blank(cls: type, arguments: Mapping[str, Any]) -> Any:
    """An object whose fields are its arguments, not checked: they may be traced."""
    parameters = inspect.signature(cls).parameters.values()
    fields = {p.name: p.default for p in parameters if p.default is not p.empty}
    new: Any = object.__new__(cls)
    new.__dict__.update({**fields, **arguments})
    return new


def at(value: Any, step: Any) -> Any:
    """What a hyperparameter is at a step: a schedule is evaluated, also inside a tuple."""
    if type(value) is tuple:
        return tuple(at(entry, step) for entry in value)
    return value(step) if callable(value) else value


def typed(name: str, positional: Sequence[Any], named: Mapping[str, Any]) -> str:
    """A call as it is written."""
    return f"{name}({', '.join([*map(repr, positional), *(f'{key}={value!r}' for key, value in named.items())])})"

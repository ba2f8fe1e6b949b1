"""What all schedules share: calls with integers, arrays and traced counts, iteration, printing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.optimise.checks import real, typed
from fluxion.optimise.names import names_checked

Value = float | Callable[[Any], Any]


class Schedule:
    """The base of the schedules: an object that is called with a step, counted from 0.

    An integer gives a float and needs no JAX; a NumPy array, list or range of steps gives an array; a JAX array, also
    a traced one, gives a JAX array. `at(xp, step)` is the formula, written for `xp` NumPy or `jax.numpy`.

    >>> import fluxion as fx, itertools
    >>> halving = fx.schedules.Exp(0.8, 0.5)
    >>> halving(3), halving(np.arange(3)).tolist(), list(itertools.islice(halving, 3))
    (0.1, [0.8, 0.4, 0.2], [0.8, 0.4, 0.2])
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__init__" in vars(cls):
            cls.__init__ = names_checked(cls.__init__)  # type: ignore[method-assign]

    def at(self, xp: ModuleType, step: Any) -> Any:
        """The value at a step or at each of an array of steps."""
        raise NotImplementedError

    def __call__(self, step: Any) -> Any:
        xp = jnp if isinstance(step, jax.Array) else np
        value = self.at(xp, np.asarray(step) if isinstance(step, list | tuple | range) else step)
        return value if isinstance(value, jax.Array) or np.ndim(value) else float(value)

    def __iter__(self) -> Iterator[Any]:
        return map(self, itertools.count())

    def __repr__(self) -> str:
        return typed(type(self).__name__, (), vars(self))


class Constant(Schedule):
    """The same value at every step.

    >>> import fluxion as fx
    >>> fx.schedules.Constant(0.1)(7)
    0.1
    """

    def __init__(self, value: float) -> None:
        self.value = real(value, "value")

    def at(self, xp: ModuleType, step: Any) -> Any:
        return constant(xp, self.value, step)


def constant(xp: ModuleType, value: Any, step: Any) -> Any:
    """A number, or as many of it as there are steps."""
    return value + xp.zeros(xp.shape(step)) if xp.ndim(step) else value


def value_at(xp: ModuleType, schedule: Value, step: Any) -> Any:
    """What a schedule, or a number in the place of one, is at a step."""
    return schedule(step) if callable(schedule) else constant(xp, schedule, step)


def schedule_or_number(value: Any, name: str) -> Any:
    """The value, if it is a function of the step or a number."""
    if isinstance(value, type):
        raise TypeError(f"{name} is a schedule or a number, got the class {value.__name__} itself")
    return value if callable(value) else real(value, name)

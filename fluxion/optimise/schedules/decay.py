"""Schedules that fall: in steps, exponentially, as a polynomial, inversely."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from types import ModuleType
from typing import Any

from fluxion.optimise.checks import number, real, whole
from fluxion.optimise.schedules.base import Schedule


class Step(Schedule):
    """`start * decay^i` on the `i`-th stretch of steps. `step_sizes` is the length of every stretch, or the length of
    each; the last of a list never ends.

    PyTorch: `StepLR`, `MultiStepLR`.

    >>> import fluxion as fx
    >>> fx.schedules.Step(1.0, 0.5, [2, 1, 1])(np.arange(5)).tolist()
    [1.0, 1.0, 0.5, 0.25, 0.25]
    """

    def __init__(self, start: float, decay: float, step_sizes: int | Iterable[int]) -> None:
        self.start, self.decay = real(start, "start"), number(decay, "decay")
        self.step_sizes: int | tuple[int, ...]
        if isinstance(step_sizes, Iterable):
            self.step_sizes = tuple(whole(size, "a step size") for size in step_sizes)
        else:
            self.step_sizes = whole(step_sizes, "step_sizes")

    def at(self, xp: ModuleType, step: Any) -> Any:
        if isinstance(self.step_sizes, tuple):
            stretch = sum(step >= end for end in accumulate(self.step_sizes[:-1]))
        else:
            stretch = step // self.step_sizes
        return self.start * self.decay**stretch


class Exp(Schedule):
    """`start * decay^step`. PyTorch: `ExponentialLR`.

    >>> import fluxion as fx
    >>> fx.schedules.Exp(1.0, 0.5)(3)
    0.125
    """

    def __init__(self, start: float, decay: float) -> None:
        self.start, self.decay = real(start, "start"), number(decay, "decay")

    def at(self, xp: ModuleType, step: Any) -> Any:
        return self.start * self.decay**step


class Poly(Schedule):
    """`start * (1 - step / max_iter)^degree`, and 0 from step `max_iter` on. PyTorch: `PolynomialLR`.

    >>> import fluxion as fx
    >>> fx.schedules.Poly(1.0, 2, 10)(5)
    0.25
    """

    def __init__(self, start: float, degree: float, max_iter: int) -> None:
        self.start, self.degree = real(start, "start"), number(degree, "degree")
        self.max_iter = whole(max_iter, "max_iter")

    def at(self, xp: ModuleType, step: Any) -> Any:
        return self.start * (1 - xp.minimum(step, self.max_iter) / self.max_iter) ** self.degree


class Inv(Schedule):
    """`start / (1 + decay * step)^degree`.

    >>> import fluxion as fx
    >>> fx.schedules.Inv(1.0, 0.5, 2)(2)
    0.25
    """

    def __init__(self, start: float, decay: float, degree: float) -> None:
        self.start, self.decay = real(start, "start"), number(decay, "decay")
        self.degree = number(degree, "degree")

    def at(self, xp: ModuleType, step: Any) -> Any:
        return self.start / (1 + self.decay * step) ** self.degree

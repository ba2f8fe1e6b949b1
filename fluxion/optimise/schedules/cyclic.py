"""Schedules that rise and fall between two ends, in triangles, waves and cosines."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from fluxion.optimise.checks import number, real, whole
from fluxion.optimise.schedules.base import Schedule


class Wave(Schedule):
    """A shape from 0 to 1 that repeats, between two ends given in either order."""

    def __init__(self, low: float, high: float, period: float) -> None:
        self.low, self.high = real(low, "low"), real(high, "high")
        self.period = period if isinstance(period, int) else number(period, "period")
        if isinstance(period, bool) or period <= 0:
            raise ValueError(f"period is a positive number of steps, got {period!r}")

    def at(self, xp: ModuleType, step: Any) -> Any:
        low, high = xp.minimum(self.low, self.high), xp.maximum(self.low, self.high)
        return low + (high - low) * self.envelope(step) * self.shape(xp, step % self.period / self.period)

    def envelope(self, step: Any) -> Any:
        """How high the wave still is."""
        return 1

    def shape(self, xp: ModuleType, part: Any) -> Any:
        """The height after a part of the period."""
        raise NotImplementedError


class Decay2(Wave):
    """A wave whose height halves after every period."""

    def envelope(self, step: Any) -> Any:
        return 0.5 ** (step // self.period)


class ExpDecay(Wave):
    """A wave whose height is `decay^step`."""

    def __init__(self, low: float, high: float, period: float, decay: float) -> None:
        super().__init__(low, high, period)
        self.decay = number(decay, "decay")

    def envelope(self, step: Any) -> Any:
        return self.decay**step


class Triangle(Wave):
    """Linearly from the lower end to the higher in half a period, and back. PyTorch: `CyclicLR` with `period` twice its
    `step_size_up`.

    >>> import fluxion as fx
    >>> fx.schedules.Triangle(0.0, 1.0, 4)(np.arange(6)).tolist()
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.5]
    """

    def shape(self, xp: ModuleType, part: Any) -> Any:
        return 1 - xp.abs(2 * part - 1)


class TriangleDecay2(Decay2, Triangle):
    """A triangle whose height halves after every period. PyTorch: `CyclicLR(mode="triangular2")`.

    >>> import fluxion as fx
    >>> fx.schedules.TriangleDecay2(0.0, 1.0, 2)(np.arange(4)).tolist()
    [0.0, 1.0, 0.0, 0.5]
    """


class TriangleExp(ExpDecay, Triangle):
    """A triangle of height `decay^step`. PyTorch: `CyclicLR(mode="exp_range")`.

    >>> import fluxion as fx
    >>> fx.schedules.TriangleExp(0.0, 1.0, 2, 0.5)(np.arange(4)).tolist()
    [0.0, 0.5, 0.0, 0.125]
    """


class Sin(Wave):
    """`abs(sin(pi * step / period))` between the two ends, the lower one first.

    >>> import fluxion as fx
    >>> fx.schedules.Sin(0.0, 1.0, 6)(np.arange(4)).round(3).tolist()
    [0.0, 0.5, 0.866, 1.0]
    """

    def shape(self, xp: ModuleType, part: Any) -> Any:
        return xp.sin(xp.pi * part)


class SinDecay2(Decay2, Sin):
    """A sine wave whose height halves after every period.

    >>> import fluxion as fx
    >>> fx.schedules.SinDecay2(0.0, 1.0, 2)(np.arange(4)).tolist()
    [0.0, 1.0, 0.0, 0.5]
    """


class SinExp(ExpDecay, Sin):
    """A sine wave of height `decay^step`.

    >>> import fluxion as fx
    >>> fx.schedules.SinExp(0.0, 1.0, 2, 0.5)(np.arange(4)).tolist()
    [0.0, 0.5, 0.0, 0.125]
    """


class CosAnneal(Wave):
    """Half a cosine from the higher end to the lower in a period, then again from the higher end; with
    `restart=False` back up by the same way.

    PyTorch: `CosineAnnealingWarmRestarts`, and `CosineAnnealingLR` for `restart=False`.

    >>> import fluxion as fx
    >>> fx.schedules.CosAnneal(0.0, 1.0, 2)(np.arange(4)).tolist()
    [1.0, 0.5, 1.0, 0.5]
    """

    def __init__(self, low: float, high: float, period: float, restart: bool = True) -> None:
        super().__init__(low, high, period)
        self.restart = bool(restart)

    def at(self, xp: ModuleType, step: Any) -> Any:
        low, high = xp.minimum(self.low, self.high), xp.maximum(self.low, self.high)
        angle = step % (self.period if self.restart else 2 * self.period) / self.period
        return low + (high - low) * (1 + xp.cos(xp.pi * angle)) / 2


class OneCycle(Schedule):
    """Up along half a cosine from `start` to `peak` in the first `percent_start` of the steps, and down to `end`,
    reached at the last step (Smith and Topin 2018; as PyTorch's `OneCycleLR`, whose defaults these are).

    Without `start` it begins at `peak / 25`, without `end` it goes down to `start / 10000`.

    >>> import fluxion as fx
    >>> cycle = fx.schedules.OneCycle(100, 1.0)
    >>> round(cycle(0), 8), cycle(29), round(cycle(99), 8)
    (0.04, 1.0, 4e-06)
    """

    def __init__(
        self,
        steps: int,
        peak: float,
        start: float | None = None,
        end: float | None = None,
        percent_start: float = 0.3,
    ) -> None:
        self.steps, self.peak = whole(steps, "steps"), real(peak, "peak")
        self.start = None if start is None else real(start, "start")
        self.end = None if end is None else real(end, "end")
        self.percent_start = number(percent_start, "percent_start", upper=1.0)
        if not 1 < self.percent_start * self.steps < self.steps:
            raise ValueError(
                f"percent_start={percent_start!r} of steps={steps!r} leaves no step for the way up or for the way down"
            )

    def at(self, xp: ModuleType, step: Any) -> Any:
        start = self.peak / 25 if self.start is None else self.start
        end = start / 1e4 if self.end is None else self.end
        top, last = self.percent_start * self.steps - 1, self.steps - 1
        up = _half_cosine(xp, start, self.peak, step / top)
        down = _half_cosine(xp, self.peak, end, (xp.minimum(step, last) - top) / (last - top))
        return xp.where(step <= top, up, down)


def _half_cosine(xp: ModuleType, start: Any, end: Any, part: Any) -> Any:
    return end + (start - end) * (1 + xp.cos(xp.pi * part)) / 2

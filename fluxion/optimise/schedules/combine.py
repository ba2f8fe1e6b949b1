"""Schedules made of schedules. Where a schedule is asked for, any function of the step will do."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from fluxion.optimise.checks import at, bind, blank, real, typed, whole
from fluxion.optimise.schedules.base import Schedule, Value, schedule_or_number, value_at


class Sequence(Schedule):
    """Schedules one after the other, each from its own step 0: pairs of a schedule and how many steps it is followed.

    A number stands for a constant. The last schedule goes on for ever.

    >>> import fluxion as fx
    >>> from fluxion.optimise.schedules import Exp, Sequence
    >>> Sequence((0.1, 2), (Exp(1.0, 0.5), 3))(np.arange(5)).tolist()
    [0.1, 0.1, 1.0, 0.5, 0.25]
    """

    def __init__(self, *stages: tuple[Value, int]) -> None:
        if not stages or not all(isinstance(stage, tuple | list) and len(stage) == 2 for stage in stages):
            raise TypeError(f"Sequence takes pairs of a schedule and a number of steps, got {stages!r}")
        self.stages = tuple(
            (schedule_or_number(schedule, "a stage"), whole(steps, "the steps of a stage"))
            for schedule, steps in stages
        )

    def at(self, xp: ModuleType, step: Any) -> Any:
        begins = [0, *itertools.accumulate(steps for _, steps in self.stages)]
        last = self.stages[-1][0]
        value = value_at(xp, last, xp.maximum(step - begins[-2], 0))
        for (schedule, steps), begin in reversed(list(zip(self.stages[:-1], begins[:-2], strict=True))):
            here = value_at(xp, schedule, xp.clip(step - begin, 0, steps - 1))
            value = xp.where(step < begin + steps, here, value)
        return value

    def __repr__(self) -> str:
        return typed("Sequence", self.stages, {})


class Warmup(Schedule):
    """A straight line from `start` to the first value of a schedule in `steps` steps, then the schedule.

    >>> import fluxion as fx
    >>> from fluxion.optimise.schedules import Exp, Warmup
    >>> Warmup(Exp(1.0, 0.5), 2)(np.arange(5)).tolist()
    [0.0, 0.5, 1.0, 0.5, 0.25]
    """

    def __init__(self, schedule: Value, steps: int, start: float = 0.0) -> None:
        self.schedule, self.steps = schedule_or_number(schedule, "schedule"), whole(steps, "steps")
        self.start = real(start, "start")

    def at(self, xp: ModuleType, step: Any) -> Any:
        first = value_at(xp, self.schedule, 0 * step)
        line = self.start + (first - self.start) * step / self.steps
        return xp.where(step < self.steps, line, value_at(xp, self.schedule, xp.maximum(step - self.steps, 0)))


class Loop(Schedule):
    """The first `period` steps of a schedule, again and again.

    >>> import fluxion as fx
    >>> fx.schedules.Loop(fx.schedules.Exp(1.0, 0.5), 2)(np.arange(4)).tolist()
    [1.0, 0.5, 1.0, 0.5]
    """

    def __init__(self, schedule: Value, period: int) -> None:
        self.schedule, self.period = schedule_or_number(schedule, "schedule"), whole(period, "period")

    def at(self, xp: ModuleType, step: Any) -> Any:
        return value_at(xp, self.schedule, step % self.period)


class Interpolator(Schedule):
    """A schedule that advances once every `rate` steps: one that counts epochs, used in every batch. With
    `smooth=True` it advances a little at every step.

    >>> import fluxion as fx
    >>> from fluxion.optimise.schedules import Exp, Interpolator
    >>> Interpolator(Exp(1.0, 0.25), 2)(np.arange(4)).tolist()
    [1.0, 1.0, 0.25, 0.25]
    >>> Interpolator(Exp(1.0, 0.25), 2, smooth=True)(np.arange(4)).tolist()
    [1.0, 0.5, 0.25, 0.125]
    """

    def __init__(self, schedule: Value, rate: int, smooth: bool = False) -> None:
        self.schedule, self.rate = schedule_or_number(schedule, "schedule"), whole(rate, "rate")
        self.smooth = bool(smooth)

    def at(self, xp: ModuleType, step: Any) -> Any:
        return value_at(xp, self.schedule, step / self.rate if self.smooth else step // self.rate)


class Shifted(Schedule):
    """A schedule that starts at its step `offset`.

    >>> import fluxion as fx
    >>> fx.schedules.Shifted(fx.schedules.Exp(1.0, 0.5), 2)(0)
    0.25
    """

    def __init__(self, schedule: Value, offset: int) -> None:
        self.schedule = schedule_or_number(schedule, "schedule")
        self.offset = whole(offset, "offset", lower=0)

    def at(self, xp: ModuleType, step: Any) -> Any:
        return value_at(xp, self.schedule, step + self.offset)


class Shortened(Schedule):
    """The first `steps` steps of a schedule; iterating ends there, and later steps have the last value.

    >>> import fluxion as fx
    >>> list(fx.schedules.Shortened(fx.schedules.Exp(1.0, 0.5), 3))
    [1.0, 0.5, 0.25]
    """

    def __init__(self, schedule: Value, steps: int) -> None:
        self.schedule, self.steps = schedule_or_number(schedule, "schedule"), whole(steps, "steps")

    def at(self, xp: ModuleType, step: Any) -> Any:
        return value_at(xp, self.schedule, xp.minimum(step, self.steps - 1))

    def __iter__(self) -> Iterator[Any]:
        return map(self, range(self.steps))

    def __len__(self) -> int:
        return self.steps


class Reverse(Schedule):
    """The first `period` steps of a schedule, backwards.

    >>> import fluxion as fx
    >>> fx.schedules.Reverse(fx.schedules.Exp(1.0, 0.5), 3)(np.arange(3)).tolist()
    [0.25, 0.5, 1.0]
    """

    def __init__(self, schedule: Value, period: int) -> None:
        self.schedule, self.period = schedule_or_number(schedule, "schedule"), whole(period, "period")

    def at(self, xp: ModuleType, step: Any) -> Any:
        return value_at(xp, self.schedule, xp.maximum(self.period - 1 - step, 0))


class Symmetric(Reverse):
    """The first half of `period` steps of a schedule, then the same backwards.

    >>> import fluxion as fx
    >>> fx.schedules.Symmetric(fx.schedules.Exp(1.0, 0.5), 5)(np.arange(5)).tolist()
    [1.0, 0.5, 0.25, 0.5, 1.0]
    """

    def at(self, xp: ModuleType, step: Any) -> Any:
        return value_at(xp, self.schedule, xp.minimum(step, xp.maximum(self.period - 1 - step, 0)))


class ComposedSchedule(Schedule):
    """A schedule any of whose numbers may be a schedule: `ComposedSchedule(schedule_type, ...)` takes the arguments of
    that type. An argument that is called `schedule` there, as that of `Loop`, is a schedule in any case.

    >>> import fluxion as fx
    >>> from fluxion.optimise.schedules import ComposedSchedule, Exp, Triangle
    >>> ComposedSchedule(Triangle, 0.0, Exp(1.0, 0.5), period=2)(np.arange(4)).tolist()
    [0.0, 0.5, 0.0, 0.125]
    """

    def __init__(self, schedule_type: type[Schedule], *positional: Any, **named: Any) -> None:
        if not isinstance(schedule_type, type) or not issubclass(schedule_type, Schedule):
            raise TypeError(
                f"ComposedSchedule takes the class of a schedule, such as ComposedSchedule(Triangle, ...), "
                f"got {schedule_type!r}"
            )
        if issubclass(schedule_type, Sequence | ComposedSchedule):
            raise TypeError(f"{schedule_type.__name__} takes schedules itself; it needs no ComposedSchedule")
        self.schedule_type, self.arguments = schedule_type, bind(schedule_type, positional, named)
        schedule_type(**self._arguments_at(0))

    def at(self, xp: ModuleType, step: Any) -> Any:
        return blank(self.schedule_type, self._arguments_at(step)).at(xp, step)

    def _arguments_at(self, step: Any) -> dict[str, Any]:
        return {name: value if name == "schedule" else at(value, step) for name, value in self.arguments.items()}

    def __repr__(self) -> str:
        named = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"ComposedSchedule({self.schedule_type.__name__}, {named})"


class Stateful:
    """A schedule with a counter: `next(schedule)` gives the value and then advances, where `advance(step)` is true.

    With `fx.plateau` or `fx.early_stopping` as `advance` it falls only where training is stuck.

    >>> import fluxion as fx
    >>> rate = fx.schedules.Stateful(fx.schedules.Exp(1.0, 0.5), advance=lambda step: step < 2)
    >>> [next(rate) for _ in range(5)], rate.step
    ([1.0, 0.5, 0.25, 0.25, 0.25], 2)
    """

    def __init__(self, schedule: Callable[[Any], Any], advance: Callable[[int], Any] | None = None) -> None:
        if not callable(schedule) or isinstance(schedule, type):
            raise TypeError(f"Stateful takes a schedule, got {schedule!r}")
        self.schedule, self.advance, self.step = schedule, advance, 0

    def __iter__(self) -> Stateful:
        return self

    def __next__(self) -> Any:
        value = self.schedule(self.step)
        if self.advance is None or self.advance(self.step):
            self.step += 1
        return value

    def reset(self) -> None:
        """Back to step 0."""
        self.step = 0

    def __repr__(self) -> str:
        return f"Stateful({self.schedule!r}, step={self.step})"

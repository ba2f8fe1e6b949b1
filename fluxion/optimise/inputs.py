"""Which parts of a rule decide a program, and which are its inputs: floats, arrays, and what schedules give that only
Python can evaluate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fluxion.optimise.compose import AccumGrad, OptimiserChain
from fluxion.optimise.rule import Rule
from fluxion.tree.kinds import Identity
from fluxion.tree.rebuild import Rebuilt
from fluxion.tree.structure import Structure
from fluxion.tree.walk import Segment, Walk

MOST_REMEMBERED = 256


class Inputs:
    """A rule taken apart: `key` decides the program, `values` are its inputs, the floats and arrays of the rule."""

    def __init__(self, rule: Any) -> None:
        self.rule = rule
        opaque = tuple([Identity(part) for part in parts_of(rule) if not isinstance(part, Rule)])
        self.segment = Walk().run(_hollow(rule) if opaque else rule)
        self.values = _values(self.segment)
        self.key = (self.segment.structure, opaque) if opaque else self.segment.structure

    def rebuilt(self, values: list[Any]) -> Any:
        """The rule with other floats and arrays in it, which may be traced."""
        return _filled(_rebuilt(self.segment, values), self.rule)

    def need_python(self) -> bool:
        """True for a rule with a schedule that decides on the value of the step, which a program cannot do."""
        if self.key not in _rules_in_python:
            if len(_rules_in_python) > MOST_REMEMBERED:
                _rules_in_python.clear()
            _rules_in_python[self.key] = any(map(_only_in_python, _callables(self.rule)))
        return _rules_in_python[self.key]


_rules_in_python: dict[Any, bool] = {}


def _values(segment: Segment) -> list[Any]:
    return [*segment.numbers, *segment.leaves]


def _rebuilt(segment: Segment, values: list[Any]) -> Any:
    count = len(segment.numbers)
    return Rebuilt([segment.structure], [values[count:]], [values[:count]]).root


def parts_of(rule: Any) -> list[Any]:
    """The rule and all that it is made of: rules, and transformations of Optax."""
    found = [rule]
    for part in found:
        if isinstance(part, Rule):
            found += part.parts()
    return found


def _hollow(rule: Any) -> Any:
    """The rule without the Optax transformations in it, which are no data."""
    return rule.with_parts(*map(_hollow, rule.parts())) if isinstance(rule, Rule) else None


def _filled(rule: Any, original: Any) -> Any:
    """A hollow rule with the Optax transformations of another."""
    if not isinstance(original, Rule):
        return original
    return rule.with_parts(*map(_filled, rule.parts(), original.parts()))


def at_step(rule: Any, step: int) -> Any:
    """The rule with the schedules that only Python can evaluate replaced by what they give."""
    if isinstance(rule, OptimiserChain):
        return rule.with_parts(*_chain_at_step(rule.flat(), step))
    if not isinstance(rule, Rule):
        return rule
    now = rule.with_parts(*(at_step(part, step) for part in rule.parts()))
    now.__dict__.update({name: _evaluated(value, step) for name, value in now.hyperparameters().items()})
    return now


def _chain_at_step(rules: Sequence[Any], step: int) -> Iterator[Any]:
    for rule in rules:
        yield at_step(rule, step)
        if isinstance(rule, AccumGrad):  # what follows counts fewer steps
            step //= rule.n


def _evaluated(value: Any, step: int) -> Any:
    if type(value) is tuple:
        return tuple(_evaluated(entry, step) for entry in value)
    return jax.tree.map(float, value(step)) if _is_schedule(value) and _only_in_python(value) else value


def _callables(rule: Any) -> Iterator[Any]:
    for part in parts_of(rule):
        values = part.hyperparameters().values() if isinstance(part, Rule) else ()
        for value in values:
            yield from filter(_is_schedule, value if type(value) is tuple else (value,))


def _is_schedule(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)


_schedules_in_python: dict[Structure, bool] = {}


def _only_in_python(schedule: Any) -> bool:
    segment = Walk().run(schedule)
    if segment.structure not in _schedules_in_python:
        if len(_schedules_in_python) > MOST_REMEMBERED:
            _schedules_in_python.clear()
        _schedules_in_python[segment.structure] = not _can_be_traced(schedule, segment) and _succeeds(schedule, 0)
    return _schedules_in_python[segment.structure]


def _can_be_traced(schedule: Any, segment: Segment) -> bool:
    """Also with its own arrays as they are: a step past the end of a NumPy table raises, in a program it does not."""
    step = jax.ShapeDtypeStruct((), jnp.int32)
    traced = lambda values, t: _rebuilt(segment, values)(t)
    return _succeeds(jax.eval_shape, schedule, step) and _succeeds(jax.eval_shape, traced, _values(segment), step)


def _succeeds(function: Any, *args: Any) -> bool:
    try:
        function(*args)
    except Exception:
        return False
    return True

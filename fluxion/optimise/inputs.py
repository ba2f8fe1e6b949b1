"""Which parts of a rule decide a program, and which are its inputs: floats, and schedules that only Python can
evaluate.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fluxion.optimise.compose import AccumGrad, OptimiserChain
from fluxion.optimise.rule import Rule
from fluxion.tree.kinds import Identity
from fluxion.tree.rebuild import Rebuilt
from fluxion.tree.walk import Walk


class Inputs:
    """A rule taken apart: `key` decides the program, `floats` are its inputs."""

    def __init__(self, rule: Any) -> None:
        self.rule = rule
        opaque = tuple([Identity(part) for part in parts_of(rule) if not isinstance(part, Rule)])
        self.segment = Walk().run(_hollow(rule) if opaque else rule)
        self.floats = self.segment.numbers
        self.key = (self.segment.structure, opaque) if opaque else self.segment.structure

    def rebuilt(self, floats: list[Any]) -> Any:
        """The rule with other floats in it, which may be traced."""
        return _filled(Rebuilt([self.segment.structure], [self.segment.leaves], [floats]).root, self.rule)


def parts_of(rule: Any) -> list[Any]:
    """The rule and all that it is made of: rules, and transformations of Optax."""
    found = [rule]
    for part in found:
        if isinstance(part, Rule):
            found += part.parts()
    return found


def rules_of(rule: Any) -> list[Rule]:
    """The rule, if it is one of Fluxion's, and all those that it is made of."""
    return [part for part in parts_of(rule) if isinstance(part, Rule)]


def _hollow(rule: Any) -> Any:
    """The rule without the Optax transformations in it, which are no data."""
    return rule.with_parts(*map(_hollow, rule.parts())) if isinstance(rule, Rule) else None


def _filled(rule: Any, original: Any) -> Any:
    """A hollow rule with the Optax transformations of another."""
    if not isinstance(original, Rule):
        return original
    return rule.with_parts(*map(_filled, rule.parts(), original.parts()))


def needs_python(rule: Any) -> bool:
    """True for a rule with a schedule that decides on the value of the step, which a program cannot do."""
    for part in rules_of(rule):
        for value in vars(part).values():
            for entry in value if type(value) is tuple else (value,):
                if callable(entry) and _only_in_python(entry):
                    return True
    return False


def at_step(rule: Any, step: int) -> Any:
    """The rule with such schedules replaced by what they give."""
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
    return jax.tree.map(float, value(step)) if _only_in_python(value) else value


def _only_in_python(value: Any) -> bool:
    return callable(value) and not isinstance(value, type) and not _is_traceable(value)


@functools.lru_cache(maxsize=256)
def _is_traceable(schedule: Callable[[Any], Any]) -> bool:
    try:
        jax.eval_shape(schedule, jax.ShapeDtypeStruct((), jnp.int32))
    except Exception as error:
        if not isinstance(error, jax.errors.JAXTypeError | TypeError):
            raise
        return False
    return True

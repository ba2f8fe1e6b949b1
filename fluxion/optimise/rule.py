"""What all rules share: printing, the Optax transformation they stand for, and rules written as a formula."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fluxion.ops.arrays import at_least_float32
from fluxion.optimise.checks import typed
from fluxion.optimise.names import names_checked

LearningRate = float | Callable[[Any], Any]
Betas = tuple[float, float]


class Rule:
    """The base of the rules: a plain object whose fields are the hyperparameters, named as the arguments.

    `direction()` gives the Optax transformation of a gradient into the step that is subtracted from the parameters.
    It is called again for every program, with traced ones in place of the floats and arrays: these may change between
    steps without compiling anew. A rule of your own derives from this class.

    >>> import fluxion as fx, optax
    >>> class Sign(fx.Rule):
    ...     def __init__(self, learning_rate=0.01):
    ...         self.learning_rate = learning_rate
    ...     def direction(self):
    ...         return optax.chain(optax.scale_by_sign(), optax.scale(self.learning_rate))
    >>> fx.setup(Sign(0.1), fx.Dense(3, 2))
    OptState(Sign(learning_rate=0.1), 2 arrays)
    """

    ends_chain = False  # True where a rule has to see the whole step, so that none may follow it

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__init__" in vars(cls):
            cls.__init__ = names_checked(cls.__init__)  # type: ignore[method-assign]

    def direction(self) -> optax.GradientTransformation:
        """The transformation of gradients into what is subtracted."""
        raise NotImplementedError(f"{type(self).__name__} has no direction(), which every rule gives")

    def transformation(self) -> optax.GradientTransformation:
        """The transformation whose results are added. Half precision is computed and remembered in float32."""
        return in_float32(descend(self.direction()))

    def parts(self) -> tuple[Any, ...]:
        """The rules that this one is made of."""
        return ()

    def with_parts(self, *parts: Any) -> Rule:
        """A copy that is made of other rules."""
        return copy.copy(self)

    def hyperparameters(self) -> dict[str, Any]:
        """What `adjust` may change."""
        return vars(self)

    def adjusted(self, **changes: Any) -> Rule:
        """A copy with other hyperparameters, checked by the constructor where its arguments are the fields."""
        fields = {**vars(self), **changes}
        if inspect.signature(type(self)).parameters.keys() >= fields.keys():
            return type(self)(**fields)
        new = copy.copy(self)
        new.__dict__.update(changes)
        return new

    def __repr__(self) -> str:
        return typed(type(self).__name__, (), vars(self))


class Around(Rule):
    """The base of rules around one other."""

    rule: Rule

    def parts(self) -> tuple[Any, ...]:
        return (self.rule,)

    def with_parts(self, *parts: Any) -> Rule:
        new = copy.copy(self)
        (new.rule,) = parts
        return new


def is_optax(rule: Any) -> bool:
    """True for an Optax transformation."""
    return hasattr(rule, "init") and hasattr(rule, "update") and not isinstance(rule, Rule)


def scale(learning_rate: Any) -> optax.GradientTransformation:
    """Multiplies by a learning rate, or by what a schedule gives for the step count."""
    return optax.scale_by_schedule(schedule(learning_rate))


def schedule(learning_rate: Any) -> Callable[[Any], Any]:
    """A learning rate as a schedule. Steps are counted in any case, so that a schedule may replace a number."""
    return learning_rate if callable(learning_rate) else lambda step: learning_rate


def descend(direction: optax.GradientTransformation) -> optax.GradientTransformation:
    """Turns what is subtracted into what is added, and the other way round."""
    return optax.chain(direction, optax.scale(-1.0))


def in_float32(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """The transformation, on float32 copies of half-precision arrays: running means and small constants get lost in
    half precision.
    """

    def update(gradients: Any, state: Any, params: Any = None) -> Any:
        return inner.update(_widened(gradients), state, _widened(params))

    return optax.GradientTransformation(lambda params: inner.init(_widened(params)), update)


def _widened(tree: Any) -> Any:
    return jax.tree.map(at_least_float32, tree)


class FormulaState(NamedTuple):
    """How many steps there were, and what is remembered of each array."""

    count: Any
    memory: Any


def formula(
    start: Callable[[Any], tuple[Any, ...]], step: Callable[[Any, Any, tuple[Any, ...]], tuple[Any, tuple[Any, ...]]]
) -> optax.GradientTransformation:
    """A transformation of one array at a time: `step(t, gradient, memory) -> (direction, new memory)`.

    `t` counts from 1; `start(parameter)` is the memory before the first step.
    """

    def init(params: Any) -> FormulaState:
        return FormulaState(jnp.zeros((), jnp.int32), jax.tree.map(start, params))

    def update(gradients: Any, state: FormulaState, params: Any = None) -> tuple[Any, FormulaState]:
        count = state.count + 1
        pairs = jax.tree.map(lambda g, memory: step(count, g, memory), gradients, state.memory)
        directions = jax.tree.map(lambda _, pair: pair[0], gradients, pairs)
        return directions, FormulaState(count, jax.tree.map(lambda _, pair: pair[1], gradients, pairs))

    return optax.GradientTransformation(init, update)


def squared(x: Any) -> Any:
    """The squared absolute value."""
    return jnp.real(x * jnp.conj(x))

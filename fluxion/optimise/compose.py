"""Rules made of rules: chains, gradients collected over several calls, master weights, hyperparameters by schedule."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fluxion.optimise.checks import at, bind, blank, typed, whole
from fluxion.optimise.rule import Around, Rule, descend, in_float32, is_optax


class OptimiserChain(Rule):
    """Several rules one after the other, each working on what the one before gives. Flux: `OptimiserChain`.

    Optax transformations of the gradient (clipping, say) may stand before the last rule, which is one of Fluxion's.
    Without rules the gradient itself is subtracted. `TypeError` for what is no rule; `ValueError` for
    `MixedPrecision` inside a chain, which it has to enclose, and for `EMA` and `ScheduleFree` before other rules.

    >>> import fluxion as fx
    >>> fx.OptimiserChain(fx.ClipGrad(1.0), fx.Adam(1e-3)).rules[0]
    ClipGrad(limit=1.0)
    """

    def __init__(self, *rules: Any) -> None:
        for rule in rules:
            if not isinstance(rule, Rule) and not is_optax(rule):
                raise TypeError(f"OptimiserChain takes rules such as Adam(1e-3), got {rule!r}")
            if isinstance(rule, MixedPrecision):
                raise ValueError("MixedPrecision goes around a chain: MixedPrecision(OptimiserChain(...))")
        if rules and not isinstance(rules[-1], Rule):
            raise TypeError(
                "the last part of an OptimiserChain is a rule of Fluxion's; use optax.chain for Optax alone"
            )
        self.rules = rules
        for rule in self.flat()[:-1]:
            if getattr(rule.rule_type if isinstance(rule, Scheduler) else rule, "ends_chain", False):
                raise ValueError(f"{rule!r} is the last rule of a chain: it needs the whole step")

    def direction(self) -> optax.GradientTransformation:
        return _chained(self.flat())

    def flat(self) -> list[Any]:
        """The rules, with those of chains inside in place of the chains."""
        return [part for rule in self.rules for part in (rule.flat() if isinstance(rule, OptimiserChain) else [rule])]

    def parts(self) -> tuple[Any, ...]:
        return self.rules

    def with_parts(self, *parts: Any) -> Rule:
        new = copy.copy(self)
        new.rules = parts
        return new

    def hyperparameters(self) -> dict[str, Any]:
        return {}

    def __repr__(self) -> str:
        return typed("OptimiserChain", self.rules, {})


def _chained(rules: Sequence[Any]) -> optax.GradientTransformation:
    directions = [optax.identity()] if not rules else []
    for i, rule in enumerate(rules):
        if isinstance(rule, AccumGrad):
            return optax.chain(*directions, rule.before(_chained(rules[i + 1 :])))
        directions.append(rule.direction() if isinstance(rule, Rule) else rule)
    return optax.chain(*directions)


class AccumulatedState(NamedTuple):
    """How many calls there were, how many gradients were collected of each array, their sums, and the state of what
    follows.
    """

    count: Any
    collected: Any
    total: Any
    following: Any


class AccumGrad(Rule):
    """Collects gradients: every `n`-th call hands their mean to the rules that follow in the chain; on the calls
    between, neither parameters nor the state of those rules change. Flux: `AccumGrad`.

    An array without a gradient in some of the calls, as that of a frozen layer, has the mean of those it got.
    Gradients that are left over at the end of training are not used: let `n` divide the number of batches.

    >>> import fluxion as fx
    >>> fx.OptimiserChain(fx.AccumGrad(4), fx.Adam(1e-3)).rules[0]
    AccumGrad(n=4)
    """

    def __init__(self, n: int) -> None:
        self.n = whole(n, "n")

    def direction(self) -> optax.GradientTransformation:
        return self.before(optax.identity())

    def before(self, following: optax.GradientTransformation) -> optax.GradientTransformation:
        """The transformation that feeds another one every `n`-th time."""

        def init(params: Any) -> AccumulatedState:
            return AccumulatedState(*_nothing_collected(params), following.init(params))

        def update(gradients: Any, state: AccumulatedState, params: Any = None) -> tuple[Any, AccumulatedState]:
            zeros = jax.tree.map(jnp.zeros_like, gradients)
            total = jax.tree.map(lambda t, g: t + g, state.total, gradients)
            count, collected = jax.tree.map(lambda c: c + 1, (state.count, state.collected))

            def emit() -> tuple[Any, AccumulatedState]:
                mean = jax.tree.map(lambda t, c: t / c.astype(t.real.dtype), total, collected)
                updates, new = following.update(mean, state.following, params)
                empty = AccumulatedState(*_nothing_collected(total), _typed_as(new, state.following))
                return _typed_as(updates, zeros), empty

            def wait() -> tuple[Any, AccumulatedState]:
                return zeros, AccumulatedState(count, collected, total, state.following)

            return jax.lax.cond(count >= self.n, emit, wait)

        return optax.GradientTransformation(init, update)


def _nothing_collected(params: Any) -> tuple[Any, Any, Any]:
    none = jnp.zeros((), jnp.int32)
    return none, jax.tree.map(lambda p: none, params), jax.tree.map(jnp.zeros_like, params)


def _typed_as(new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), new, old)


class MasterState(NamedTuple):
    """The precise copies of the weights that are less precise, by path, and the state of the rule."""

    masters: Any
    rule: Any


class MixedPrecision(Around):
    """Trains float16 and bfloat16 weights by a precise copy of each, which takes the steps; the model holds the copy
    rounded. Steps too small for half precision add up instead of being lost. Flux: `MixedPrecision`.

    A weight that is assigned from outside replaces its copy. `dtype` is that of the copies.

    >>> import fluxion as fx
    >>> model = fx.bf16(fx.Dense(3, 2))
    >>> fx.setup(fx.MixedPrecision(fx.Adam(1e-3)), model)
    OptState(MixedPrecision(Adam(learning_rate=0.001, beta=(0.9, 0.999), epsilon=1e-08)), 2 arrays)
    """

    def __init__(self, rule: Rule, dtype: Any = jnp.float32) -> None:
        if not isinstance(rule, Rule) or isinstance(rule, MixedPrecision):
            raise TypeError(f"MixedPrecision takes a rule such as Adam(1e-3), got {rule!r}")
        self.rule, self.dtype = rule, jnp.dtype(dtype)
        if not jnp.issubdtype(self.dtype, jnp.floating):
            raise TypeError(f"dtype is a floating-point type, got {self.dtype}")

    def hyperparameters(self) -> dict[str, Any]:
        return {}

    def transformation(self) -> optax.GradientTransformation:
        inner = in_float32(descend(self.rule.direction()))

        def init(params: Any) -> MasterState:
            masters = {path: p.astype(self.dtype) for path, p in params.items() if self._is_coarse(p)}
            return MasterState(masters, inner.init({**params, **masters}))

        def update(gradients: Any, state: MasterState, params: Any = None) -> tuple[Any, MasterState]:
            masters = {path: _latest(master, params[path]) for path, master in state.masters.items()}
            precise = {path: g.astype(self.dtype) if path in masters else g for path, g in gradients.items()}
            updates, rule_state = inner.update(precise, state.rule, {**params, **masters})
            new = {path: (master + updates[path]).astype(self.dtype) for path, master in masters.items()}
            moved = {path: _move(params[path], master) for path, master in new.items()}
            return {**updates, **moved}, MasterState(new, rule_state)

        return optax.GradientTransformation(init, update)

    def _is_coarse(self, p: Any) -> bool:
        return jnp.issubdtype(p.dtype, jnp.floating) and jnp.finfo(p.dtype).bits < jnp.finfo(self.dtype).bits

    def __repr__(self) -> str:
        return typed("MixedPrecision", [self.rule], {} if self.dtype == jnp.float32 else {"dtype": self.dtype.name})


def _move(param: Any, master: Any) -> Any:
    """From the weight to the rounded copy: to the copy itself, the sum might round to the other side."""
    return master.astype(param.dtype).astype(master.dtype) - param.astype(master.dtype)


def _latest(master: Any, param: Any) -> Any:
    return jnp.where(master.astype(param.dtype) == param, master, param.astype(master.dtype))


class ScheduledState(NamedTuple):
    """How many steps there were, and the state of the rule."""

    count: Any
    rule: Any


class Scheduler(Rule):
    """A rule any of whose hyperparameters may be a schedule, a function of the step from 0. Flux: `Scheduler`.

    `Scheduler(rule_type, ...)` takes the arguments of the rule. The schedules run inside the compiled step. A
    learning rate alone needs no Scheduler: the rules take a schedule for it.

    >>> import fluxion as fx
    >>> from fluxion.optimise.schedules import Exp, Triangle
    >>> fx.Scheduler(fx.Momentum, Exp(0.1, 0.99), rho=Triangle(0.85, 0.95, 100))
    Scheduler(Momentum, learning_rate=Exp(start=0.1, decay=0.99), rho=Triangle(low=0.85, high=0.95, period=100))
    """

    def __init__(self, rule_type: type[Rule], *positional: Any, **named: Any) -> None:
        if not isinstance(rule_type, type) or not issubclass(rule_type, Rule):
            raise TypeError(f"Scheduler takes the class of a rule, such as Scheduler(Adam, ...), got {rule_type!r}")
        if issubclass(rule_type, OptimiserChain | AccumGrad | Around | Scheduler):
            raise TypeError(f"{rule_type.__name__} cannot be inside Scheduler; put it around or before Scheduler")
        self.rule_type = rule_type
        self.__dict__.update(bind(rule_type, positional, named))
        self._check_first_step()

    def _check_first_step(self) -> None:
        now = {name: at(value, 0) for name, value in self.hyperparameters().items()}
        changing = self.rule_type(**now).hyperparameters()
        for name, value in self.hyperparameters().items():
            if now[name] is not value and name not in changing:
                raise TypeError(f"{name} of {self.rule_type.__name__} stays as it is; it cannot be a schedule")

    def adjusted(self, **changes: Any) -> Rule:
        return Scheduler(self.rule_type, **{**self.hyperparameters(), **changes})

    def hyperparameters(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "rule_type"}

    def direction(self) -> optax.GradientTransformation:
        def init(params: Any) -> ScheduledState:
            return ScheduledState(jnp.zeros((), jnp.int32), self._rule_at(0).direction().init(params))

        def update(gradients: Any, state: ScheduledState, params: Any = None) -> tuple[Any, ScheduledState]:
            updates, new = self._rule_at(state.count).direction().update(gradients, state.rule, params)
            return updates, ScheduledState(state.count + 1, new)

        return optax.GradientTransformation(init, update)

    def _rule_at(self, step: Any) -> Rule:
        return blank(self.rule_type, {name: at(value, step) for name, value in self.hyperparameters().items()})

    def __repr__(self) -> str:
        named = ", ".join(f"{name}={value!r}" for name, value in self.hyperparameters().items())
        return f"Scheduler({self.rule_type.__name__}, {named})"

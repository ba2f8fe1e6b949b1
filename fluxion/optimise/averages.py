"""Rules that keep an average of the weights, and the model that holds it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax.contrib import ScheduleFreeState, schedule_free, schedule_free_eval_params

from fluxion.compile.trace import Call
from fluxion.optimise.checks import number, typed
from fluxion.optimise.compose import AccumGrad
from fluxion.optimise.inputs import parts_of
from fluxion.optimise.rule import Around, Rule, descend
from fluxion.optimise.state import OptState, check_state
from fluxion.optimise.update import layout_of
from fluxion.tree.functions import fmap, trainables


class AverageState(NamedTuple):
    """The moving average of the weights."""

    average: Any


class EMA(Rule):
    """Keeps the exponential moving average `a = decay * a + (1 - decay) * w` of the weights after each step; the
    last rule of a chain. `averaged_model` gives the model with these weights, which often tests better.

    >>> import fluxion as fx
    >>> fx.OptimiserChain(fx.Adam(1e-3), fx.EMA(0.999)).rules[1]
    EMA(decay=0.999)
    """

    ends_chain = True

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = number(decay, "decay", upper=1.0)

    def direction(self) -> optax.GradientTransformation:
        def update(steps: Any, state: AverageState, params: Any = None) -> tuple[Any, AverageState]:
            mix = lambda a, p, step: self.decay * a + (1 - self.decay) * (p - step)
            return steps, AverageState(jax.tree.map(mix, state.average, params, steps))

        return optax.GradientTransformation(AverageState, update)


class ScheduleFree(Around):
    """Averages in place of a decaying learning rate: no end of training has to be known (Defazio et al. 2024, as
    Optax).

    The rule moves hidden weights `z`, whose average is `x`; gradients are taken at the weights of the model, `y =
    interpolation * x + (1 - interpolation) * z`. Test with `averaged_model(opt_state, model)`, which holds `x`. The
    rule has a learning rate, without decay but maybe with a warm-up, and no momentum of its own.

    >>> import fluxion as fx
    >>> fx.ScheduleFree(fx.AdamW(0.0025, beta=(0.0, 0.999)))
    ScheduleFree(AdamW(learning_rate=0.0025, beta=(0.0, 0.999), decay=0.01, ...), interpolation=0.9)
    """

    ends_chain = True

    def __init__(self, rule: Rule, interpolation: float = 0.9) -> None:
        if not isinstance(rule, Rule) or not hasattr(_last(rule), "learning_rate"):
            raise TypeError(f"ScheduleFree takes a rule with a learning rate, such as Descent(1.0), got {rule!r}")
        for part in parts_of(rule):
            if isinstance(part, AccumGrad | Around):
                raise TypeError(f"{type(part).__name__} cannot be inside ScheduleFree; put it around or before")
        self.rule, self.interpolation = rule, number(interpolation, "interpolation", upper=1.0)
        if self.interpolation == 0:
            raise ValueError("interpolation is above 0; without it there is nothing to average")

    def hyperparameters(self) -> dict[str, Any]:
        return {"interpolation": self.interpolation}

    def direction(self) -> optax.GradientTransformation:
        free = schedule_free(descend(self.rule.direction()), _last(self.rule).learning_rate, self.interpolation)

        def update(gradients: Any, state: ScheduleFreeState, params: Any = None) -> tuple[Any, ScheduleFreeState]:
            updates, new = free.update(gradients, state, params)
            return updates, new._replace(b1=jnp.asarray(self.interpolation, state.b1.dtype))

        return descend(optax.GradientTransformation(free.init, update))

    def __repr__(self) -> str:
        return typed("ScheduleFree", [self.rule], {"interpolation": self.interpolation})


def _last(rule: Any) -> Any:
    parts = rule.parts() if isinstance(rule, Rule) else ()
    return _last(parts[-1]) if parts else rule


def averaged_model(opt_state: OptState, model: Any) -> Any:
    """A copy of the model with the averaged weights that `EMA` or `ScheduleFree` keeps; the model stays as it is.

    Weights that are frozen and arrays that are no weights are those of the model; set running statistics anew by a
    pass over the data in training mode where they matter. `ValueError` if the rule keeps no average, and for a model
    that `setup` did not see.

    >>> import fluxion as fx
    >>> model = fx.Dense(1, 1, init=fx.ones)
    >>> opt = fx.setup(fx.OptimiserChain(fx.Descent(1.0), fx.EMA(0.75)), model)
    >>> fx.trainstep(lambda m, x: m(x).sum(), model, jnp.ones((1, 1)), opt)
    Array(1., dtype=float32)
    >>> model.weight.item(), fx.averaged_model(opt, model).weight.item()
    (0.0, 0.75)
    """
    check_state(opt_state, "averaged_model")
    is_average = lambda x: isinstance(x, AverageState | ScheduleFreeState)
    found = [part for part in jax.tree.leaves(opt_state.state, is_leaf=is_average) if is_average(part)]
    if len(found) != 1:
        raise ValueError(
            f"{opt_state.rule!r} keeps no average of the weights; end it with EMA(0.999), "
            f"as in OptimiserChain(Adam(1e-3), EMA(0.999)), or use ScheduleFree"
        )
    layout, signature = layout_of(Call(None, (model,), True)), opt_state.signature
    weights = {path: w for path, w in trainables(model).items() if path in signature.shapes}
    signature.check(weights, layout.paths.frozen)
    averages = _averages(found[0], weights)
    replaced = {id(w): jnp.asarray(averages[path], w.dtype) for path, w in weights.items()}
    return fmap(lambda array: replaced.get(id(array), array), model)


def _averages(state: Any, weights: dict[str, Any]) -> Any:
    if isinstance(state, AverageState):
        return state.average
    return schedule_free_eval_params(state._replace(z={path: state.z[path] for path in weights}), weights)

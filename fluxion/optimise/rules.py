"""Update rules: plain objects whose fields are the hyperparameters, each turned into an Optax transformation
(Optimisers.jl).

`direction()` gives the transformation of a gradient into the step that is subtracted from the parameters. Any float
may change between steps without recompiling; a learning rate may also be a schedule, a function from the step count
(from 0) to a float.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

LearningRate = float | Callable[[Any], Any]


class Rule:
    """The base of the rules: printing, and checks of the hyperparameters."""

    def direction(self) -> optax.GradientTransformation:
        """The transformation of gradients into what is subtracted."""
        raise NotImplementedError

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({fields})"


def _rate(value: Any, name: str = "learning_rate") -> Any:
    if callable(value):
        return value
    return _number(value, name)


def _number(value: Any, name: str, upper: float = float("inf")) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number, got {value!r} of type {type(value).__name__}")
    if not 0 <= value <= upper:
        limit = "negative" if value < 0 else f"above {upper:g}"
        raise ValueError(f"{name} cannot be {limit}, got {value!r}")
    return float(value)


def _betas(value: Any) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"beta is a pair of numbers, got {value!r}")
    return _number(value[0], "beta[0]", 1.0), _number(value[1], "beta[1]", 1.0)


def scale(learning_rate: Any) -> optax.GradientTransformation:
    """Multiplies by a learning rate, or by what a schedule gives for the step count."""
    return optax.scale_by_schedule(learning_rate) if callable(learning_rate) else optax.scale(learning_rate)


class Descent(Rule):
    """Plain gradient descent: `step = learning_rate * g`. Flux: `Descent`.

    >>> import fluxion as fx
    >>> fx.Descent(0.1)
    Descent(learning_rate=0.1)
    """

    def __init__(self, learning_rate: LearningRate = 0.1) -> None:
        self.learning_rate = _rate(learning_rate)

    def direction(self) -> optax.GradientTransformation:
        return scale(self.learning_rate)


class Momentum(Rule):
    """Gradient descent with momentum: `v = rho * v + g`, `step = learning_rate * v` (Polyak 1964; as
    `torch.optim.SGD`).

    >>> import fluxion as fx
    >>> fx.Momentum(0.01, 0.9)
    Momentum(learning_rate=0.01, rho=0.9)
    """

    nesterov = False

    def __init__(self, learning_rate: LearningRate = 0.01, rho: float = 0.9) -> None:
        self.learning_rate, self.rho = _rate(learning_rate), _number(rho, "rho", 1.0)

    def direction(self) -> optax.GradientTransformation:
        return optax.chain(optax.trace(self.rho, nesterov=self.nesterov), scale(self.learning_rate))


class Nesterov(Momentum):
    """Nesterov's momentum: `v = rho * v + g`, `step = learning_rate * (g + rho * v)` (as
    `torch.optim.SGD(nesterov=True)`).

    >>> import fluxion as fx
    >>> fx.Nesterov(0.01).rho
    0.9
    """

    nesterov = True

    def __init__(self, learning_rate: LearningRate = 0.001, rho: float = 0.9) -> None:
        super().__init__(learning_rate, rho)


class RMSProp(Rule):
    """`q = rho * q + (1 - rho) * g^2`, `step = learning_rate * g / (sqrt(q) + epsilon)` (Tieleman and Hinton 2012).

    `centred=True` subtracts the squared mean of the gradient from `q`.

    >>> import fluxion as fx
    >>> fx.RMSProp(0.001).rho
    0.9
    """

    def __init__(
        self, learning_rate: LearningRate = 0.001, rho: float = 0.9, epsilon: float = 1e-8, centred: bool = False
    ) -> None:
        self.learning_rate, self.rho = _rate(learning_rate), _number(rho, "rho", 1.0)
        self.epsilon, self.centred = _number(epsilon, "epsilon"), bool(centred)

    def direction(self) -> optax.GradientTransformation:
        transform = optax.scale_by_stddev if self.centred else optax.scale_by_rms
        return optax.chain(transform(self.rho, self.epsilon, eps_in_sqrt=False), scale(self.learning_rate))


class Adam(Rule):
    """`m`, `v` are running means of `g` and `g^2`; `step = learning_rate * m_hat / (sqrt(v_hat) + epsilon)` (Kingma
    and Ba 2015).

    >>> import fluxion as fx
    >>> fx.Adam(3e-4)
    Adam(learning_rate=0.0003, beta=(0.9, 0.999), epsilon=1e-08)
    """

    def __init__(
        self, learning_rate: LearningRate = 0.001, beta: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8
    ) -> None:
        self.learning_rate, self.beta, self.epsilon = _rate(learning_rate), _betas(beta), _number(epsilon, "epsilon")

    def direction(self) -> optax.GradientTransformation:
        return optax.chain(optax.scale_by_adam(*self.beta, self.epsilon), scale(self.learning_rate))


class AdamW(Rule):
    """Adam with decoupled weight decay: `step = learning_rate * (adam + decay * w)` (Loshchilov and Hutter 2019; as
    PyTorch).

    >>> import fluxion as fx
    >>> fx.AdamW(3e-4).decay
    0.01
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta: tuple[float, float] = (0.9, 0.999),
        decay: float = 0.01,
        epsilon: float = 1e-8,
    ) -> None:
        self.learning_rate, self.beta = _rate(learning_rate), _betas(beta)
        self.decay, self.epsilon = _number(decay, "decay"), _number(epsilon, "epsilon")

    def direction(self) -> optax.GradientTransformation:
        adam = optax.scale_by_adam(*self.beta, self.epsilon)
        return optax.chain(adam, optax.add_decayed_weights(self.decay), scale(self.learning_rate))


class WeightDecay(Rule):
    """Adds `decay * w` to the gradient, as an L2 penalty does; the first rule of a chain. Flux: `WeightDecay`.

    >>> import fluxion as fx
    >>> fx.OptimiserChain(fx.WeightDecay(1e-4), fx.Momentum(0.1))
    OptimiserChain(WeightDecay(decay=0.0001), Momentum(learning_rate=0.1, rho=0.9))
    """

    def __init__(self, decay: float = 5e-4) -> None:
        self.decay = _number(decay, "decay")

    def direction(self) -> optax.GradientTransformation:
        return optax.add_decayed_weights(self.decay)


class ClipGrad(Rule):
    """Clips each entry of the gradient to `[-limit, limit]`. Flux: `ClipGrad`.

    >>> import fluxion as fx
    >>> fx.ClipGrad(1.0)
    ClipGrad(limit=1.0)
    """

    def __init__(self, limit: float = 10.0) -> None:
        self.limit = _number(limit, "limit")

    def direction(self) -> optax.GradientTransformation:
        return optax.stateless(lambda g, _: jax.tree.map(lambda x: jnp.clip(x, -self.limit, self.limit), g))


class ClipNorm(Rule):
    """Scales each gradient array whose 2-norm exceeds `limit` down to it; one array at a time. Flux: `ClipNorm`.

    >>> import fluxion as fx
    >>> fx.ClipNorm(1.0)
    ClipNorm(limit=1.0)
    """

    def __init__(self, limit: float = 10.0) -> None:
        self.limit = _number(limit, "limit")

    def direction(self) -> optax.GradientTransformation:
        def clip(x: Any) -> Any:
            norm = jnp.sqrt(jnp.sum(jnp.abs(x) ** 2))
            return x * jnp.minimum(self.limit / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny), 1)

        return optax.stateless(lambda g, _: jax.tree.map(clip, g))


class OptimiserChain(Rule):
    """Several rules one after the other, each working on what the one before gives. Flux: `OptimiserChain`.

    Optax transformations of the gradient (clipping, say) may stand before the last rule, which is one of Fluxion's.
    `TypeError` else.

    >>> import fluxion as fx
    >>> fx.OptimiserChain(fx.ClipGrad(1.0), fx.Adam(1e-3)).rules[0]
    ClipGrad(limit=1.0)
    """

    def __init__(self, *rules: Any) -> None:
        for rule in rules:
            if not isinstance(rule, Rule) and not is_optax(rule):
                raise TypeError(f"OptimiserChain takes rules such as Adam(1e-3), got {rule!r}")
        if rules and not isinstance(rules[-1], Rule):
            raise TypeError(
                "the last part of an OptimiserChain is a rule of Fluxion's; use optax.chain for Optax alone"
            )
        self.rules = rules

    def direction(self) -> optax.GradientTransformation:
        return optax.chain(*(rule.direction() if isinstance(rule, Rule) else rule for rule in self.rules))

    def __repr__(self) -> str:
        return f"OptimiserChain({', '.join(map(repr, self.rules))})"


def is_optax(rule: Any) -> bool:
    """True for an Optax transformation."""
    return hasattr(rule, "init") and hasattr(rule, "update") and not isinstance(rule, Rule)

"""Descent, with and without momentum, and the rules that scale each entry by the gradients seen so far: RMSProp,
Rprop, AdaGrad, AdaDelta, Lion. The family of Adam is in `adaptive.py`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from fluxion.optimise.checks import fractions, number, rate
from fluxion.optimise.rule import Betas, LearningRate, Rule, formula, scale, squared


class Descent(Rule):
    """Plain gradient descent: `step = learning_rate * g`. Flux: `Descent`.

    >>> import fluxion as fx
    >>> fx.Descent(0.1)
    Descent(learning_rate=0.1)
    """

    def __init__(self, learning_rate: LearningRate = 0.1) -> None:
        self.learning_rate = rate(learning_rate)

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
        self.learning_rate, self.rho = rate(learning_rate), number(rho, "rho", upper=1.0)

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
    """`q = rho * q + (1 - rho) * g^2`, `step = learning_rate * g / (sqrt(q) + epsilon)` (Tieleman and Hinton 2012; as
    PyTorch).

    `centred=True` subtracts the squared mean of the gradient from `q`.

    >>> import fluxion as fx
    >>> fx.RMSProp(0.001).rho
    0.99
    """

    def __init__(
        self, learning_rate: LearningRate = 0.01, rho: float = 0.99, epsilon: float = 1e-8, centred: bool = False
    ) -> None:
        self.learning_rate, self.rho = rate(learning_rate), number(rho, "rho", upper=1.0)
        self.epsilon, self.centred = number(epsilon, "epsilon"), bool(centred)

    def direction(self) -> optax.GradientTransformation:
        transform = optax.scale_by_stddev if self.centred else optax.scale_by_rms
        return optax.chain(transform(self.rho, self.epsilon, eps_in_sqrt=False), scale(self.learning_rate))


class Rprop(Rule):
    """Every entry has a step size, which grows by `factors[1]` while the sign of its gradient stays and shrinks by
    `factors[0]` when it turns, between `limits`; where the sign turned there is no step (Riedmiller and Braun 1993;
    as PyTorch). For whole data sets, not for batches.

    `learning_rate` is the step size to begin with, which `adjust` cannot change. Real parameters only.

    >>> import fluxion as fx
    >>> fx.Rprop(0.01)
    Rprop(learning_rate=0.01, factors=(0.5, 1.2), limits=(1e-06, 50.0))
    """

    def __init__(
        self, learning_rate: float = 0.01, factors: Betas = (0.5, 1.2), limits: tuple[float, float] = (1e-6, 50.0)
    ) -> None:
        self.learning_rate = number(learning_rate, "learning_rate")
        shrink, grow = factors
        self.factors = number(shrink, "factors[0]", upper=1.0), number(grow, "factors[1]", lower=1.0)
        smallest, largest = limits
        self.limits = number(smallest, "limits[0]"), number(largest, "limits[1]", lower=float(smallest))

    def hyperparameters(self) -> dict[str, Any]:
        return {"factors": self.factors, "limits": self.limits}

    def direction(self) -> optax.GradientTransformation:
        shrink, grow = self.factors

        def start(p: Any) -> tuple[Any, ...]:
            return jnp.zeros_like(p), jnp.full_like(p, self.learning_rate)

        def step(t: Any, g: Any, memory: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
            before, size = memory
            turned, stayed = g * before < 0, g * before > 0
            size = jnp.clip(size * jnp.where(stayed, grow, jnp.where(turned, shrink, 1)), *self.limits)
            sign = jnp.where(turned, 0, jnp.sign(g))
            return sign * size, (sign, size)

        return formula(start, step)


class AdaGrad(Rule):
    """`q = q + g^2`, `step = learning_rate * g / (sqrt(q) + epsilon)` (Duchi, Hazan and Singer 2011; as PyTorch).

    >>> import fluxion as fx
    >>> fx.AdaGrad(0.1)
    AdaGrad(learning_rate=0.1, epsilon=1e-10)
    """

    def __init__(self, learning_rate: LearningRate = 0.01, epsilon: float = 1e-10) -> None:
        self.learning_rate, self.epsilon = rate(learning_rate), number(epsilon, "epsilon")

    def direction(self) -> optax.GradientTransformation:
        def step(t: Any, g: Any, memory: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
            total = memory[0] + squared(g)
            return g / (jnp.sqrt(total) + self.epsilon), (total,)

        return optax.chain(formula(lambda p: (jnp.zeros_like(p.real),), step), scale(self.learning_rate))


class AdaDelta(Rule):
    """`q` and `d` are running means of `g^2` and of the squared step; `step = g * sqrt(d + epsilon) / sqrt(q +
    epsilon)`, times the learning rate, which is 1 in the paper (Zeiler 2012; as PyTorch).

    >>> import fluxion as fx
    >>> fx.AdaDelta(rho=0.95)
    AdaDelta(learning_rate=1.0, rho=0.95, epsilon=1e-06)
    """

    def __init__(self, learning_rate: LearningRate = 1.0, rho: float = 0.9, epsilon: float = 1e-6) -> None:
        self.learning_rate, self.rho = rate(learning_rate), number(rho, "rho", upper=1.0)
        self.epsilon = number(epsilon, "epsilon")

    def direction(self) -> optax.GradientTransformation:
        def step(t: Any, g: Any, memory: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
            squares = self.rho * memory[0] + (1 - self.rho) * squared(g)
            change = g * jnp.sqrt(memory[1] + self.epsilon) / jnp.sqrt(squares + self.epsilon)
            return change, (squares, self.rho * memory[1] + (1 - self.rho) * squared(change))

        return optax.chain(formula(lambda p: (jnp.zeros_like(p.real),) * 2, step), scale(self.learning_rate))


class Lion(Rule):
    """`step = learning_rate * (sign(beta[0] * m + (1 - beta[0]) * g) + decay * w)`, then `m = beta[1] * m + (1 -
    beta[1]) * g` (Chen et al. 2023, as in the paper; Flux weights the gradient by `beta[1]`).

    Takes a learning rate 3 to 10 times smaller and a decay as much larger than AdamW.

    >>> import fluxion as fx
    >>> fx.Lion(1e-4, decay=0.1)
    Lion(learning_rate=0.0001, beta=(0.9, 0.99), decay=0.1)
    """

    def __init__(self, learning_rate: LearningRate = 1e-4, beta: Betas = (0.9, 0.99), decay: float = 0.0) -> None:
        self.learning_rate, self.beta = rate(learning_rate), fractions(beta)
        self.decay = number(decay, "decay")

    def direction(self) -> optax.GradientTransformation:
        lion = optax.scale_by_lion(*self.beta)
        return optax.chain(lion, optax.add_decayed_weights(self.decay), scale(self.learning_rate))

"""Adam and its family: `m` and `v` are running means of the gradient `g` and of `g^2`; a hat stands for the correction
of their bias towards zero, `m_hat = m / (1 - beta[0]^t)` at step `t` (from 1).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from fluxion.optimise.checks import fractions, number, rate
from fluxion.optimise.rule import Betas, LearningRate, Rule, formula, scale, squared

Step = tuple[Any, tuple[Any, ...]]


class Adam(Rule):
    """`step = learning_rate * m_hat / (sqrt(v_hat) + epsilon)` (Kingma and Ba 2015; as PyTorch).

    >>> import fluxion as fx
    >>> fx.Adam(3e-4)
    Adam(learning_rate=0.0003, beta=(0.9, 0.999), epsilon=1e-08)
    """

    def __init__(self, learning_rate: LearningRate = 0.001, beta: Betas = (0.9, 0.999), epsilon: float = 1e-8) -> None:
        self.learning_rate, self.beta = rate(learning_rate), fractions(beta)
        self.epsilon = number(epsilon, "epsilon")

    def direction(self) -> optax.GradientTransformation:
        return optax.chain(self.scaled(), scale(self.learning_rate))

    def scaled(self) -> optax.GradientTransformation:
        """The step at learning rate 1."""
        return optax.scale_by_adam(*self.beta, self.epsilon)


class AdamW(Rule):
    """Adam with decoupled weight decay: `step = learning_rate * (adam + decay * w)` (Loshchilov and Hutter 2019; as
    PyTorch).

    `couple=False` leaves the decay alone by the learning rate, as the paper does: `learning_rate * adam + decay * w`.

    >>> import fluxion as fx
    >>> fx.AdamW(3e-4).decay
    0.01
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta: Betas = (0.9, 0.999),
        decay: float = 0.01,
        epsilon: float = 1e-8,
        couple: bool = True,
    ) -> None:
        self.learning_rate, self.beta = rate(learning_rate), fractions(beta)
        self.decay, self.epsilon = number(decay, "decay"), number(epsilon, "epsilon")
        self.couple = bool(couple)

    def direction(self) -> optax.GradientTransformation:
        adam, decay = optax.scale_by_adam(*self.beta, self.epsilon), optax.add_decayed_weights(self.decay)
        rates = scale(self.learning_rate)
        return optax.chain(adam, decay, rates) if self.couple else optax.chain(adam, rates, decay)


class RAdam(Adam):
    """Adam whose step is `learning_rate * m_hat` until `v` is known well enough, and is rectified from then on (Liu et
    al. 2020; as PyTorch).

    `v` is known from `l(t) = l - 2 * t * beta[1]^t / (1 - beta[1]^t) > 5` on, where `l = 2 / (1 - beta[1]) - 1`; then
    the step is `learning_rate * r * sqrt(1 - beta[1]^t) * m_hat / (sqrt(v) + epsilon)` with
    `r^2 = (l(t) - 4) * (l(t) - 2) * l / ((l - 4) * (l - 2) * l(t))`.

    >>> import fluxion as fx
    >>> fx.RAdam(1e-3).epsilon
    1e-08
    """

    def scaled(self) -> optax.GradientTransformation:
        first, second = self.beta
        longest = 2 / (1 - second) - 1

        def start(p: Any) -> tuple[Any, ...]:
            return jnp.zeros_like(p), jnp.zeros_like(p.real)

        def step(t: Any, g: Any, memory: tuple[Any, ...]) -> Step:
            m = first * memory[0] + (1 - first) * g
            v = second * memory[1] + (1 - second) * squared(g)
            length = longest - 2 * t * second**t / (1 - second**t)
            known = length > 5
            length = jnp.where(known, length, longest)
            squared_factor = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            factor = jnp.sqrt(jnp.where(known, squared_factor * (1 - second**t), 1))
            return m / (1 - first**t) * jnp.where(known, factor / (jnp.sqrt(v) + self.epsilon), 1), (m, v)

        return formula(start, step)


class AdaMax(Adam):
    """Adam with the largest absolute gradient in place of the mean square: `u = max(beta[1] * u, abs(g) + epsilon)`,
    `step = learning_rate * m_hat / u` (Kingma and Ba 2015; as PyTorch).

    >>> import fluxion as fx
    >>> fx.AdaMax().learning_rate
    0.002
    """

    def __init__(self, learning_rate: LearningRate = 0.002, beta: Betas = (0.9, 0.999), epsilon: float = 1e-8) -> None:
        super().__init__(learning_rate, beta, epsilon)

    def scaled(self) -> optax.GradientTransformation:
        return optax.scale_by_adamax(*self.beta, self.epsilon)


class OAdam(Adam):
    """Optimistic Adam, for games between models: twice the step of Adam less the one before (Daskalakis et al. 2018).

    >>> import fluxion as fx
    >>> fx.OAdam()
    OAdam(learning_rate=0.001, beta=(0.5, 0.9), epsilon=1e-08)
    """

    def __init__(self, learning_rate: LearningRate = 0.001, beta: Betas = (0.5, 0.9), epsilon: float = 1e-8) -> None:
        super().__init__(learning_rate, beta, epsilon)

    def scaled(self) -> optax.GradientTransformation:
        return optax.chain(super().scaled(), optax.scale_by_optimistic_gradient())


class AMSGrad(Adam):
    """Adam with the largest `v` so far in place of `v` (Reddi, Kale and Kumar 2018; as PyTorch,
    which corrects the bias of the largest).

    >>> import fluxion as fx
    >>> fx.AMSGrad(1e-3).beta
    (0.9, 0.999)
    """

    def scaled(self) -> optax.GradientTransformation:
        first, second = self.beta

        def start(p: Any) -> tuple[Any, ...]:
            return jnp.zeros_like(p), jnp.zeros_like(p.real), jnp.zeros_like(p.real)

        def step(t: Any, g: Any, memory: tuple[Any, ...]) -> Step:
            m = first * memory[0] + (1 - first) * g
            v = second * memory[1] + (1 - second) * squared(g)
            largest = jnp.maximum(memory[2], v)
            root = jnp.sqrt(largest / (1 - second**t))
            return m / (1 - first**t) / (root + self.epsilon), (m, v, largest)

        return formula(start, step)


class NAdam(Rule):
    """Adam with Nesterov's momentum, whose strength `mu(t) = beta[0] * (1 - 0.96^(t * momentum_decay) / 2)` grows from
    one half of `beta[0]` to all of it (Dozat 2016; as PyTorch).

    With `p(t)` the product of `mu(1) ... mu(t)`, the step is
    `learning_rate * (mu(t + 1) * m / (1 - p(t + 1)) + (1 - mu(t)) * g / (1 - p(t))) / (sqrt(v_hat) + epsilon)`.

    >>> import fluxion as fx
    >>> fx.NAdam()
    NAdam(learning_rate=0.002, beta=(0.9, 0.999), epsilon=1e-08, momentum_decay=0.004)
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.002,
        beta: Betas = (0.9, 0.999),
        epsilon: float = 1e-8,
        momentum_decay: float = 4e-3,
    ) -> None:
        self.learning_rate, self.beta = rate(learning_rate), fractions(beta)
        self.epsilon = number(epsilon, "epsilon")
        self.momentum_decay = number(momentum_decay, "momentum_decay")

    def direction(self) -> optax.GradientTransformation:
        first, second = self.beta

        def mu(t: Any) -> Any:
            return first * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))

        def start(p: Any) -> tuple[Any, ...]:
            return jnp.zeros_like(p), jnp.zeros_like(p.real), jnp.ones((), p.real.dtype)

        def step(t: Any, g: Any, memory: tuple[Any, ...]) -> Step:
            m = first * memory[0] + (1 - first) * g
            v = second * memory[1] + (1 - second) * squared(g)
            product = memory[2] * mu(t)
            mean = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
            return mean / (jnp.sqrt(v / (1 - second**t)) + self.epsilon), (m, v, product)

        return optax.chain(formula(start, step), scale(self.learning_rate))


class AdaBelief(Adam):
    """Adam with `(g - m)^2 + epsilon` in place of `g^2`: long steps where the gradient is as expected (Zhuang et al.
    2020).

    >>> import fluxion as fx
    >>> fx.AdaBelief(1e-3)
    AdaBelief(learning_rate=0.001, beta=(0.9, 0.999), epsilon=1e-16)
    """

    def __init__(self, learning_rate: LearningRate = 0.001, beta: Betas = (0.9, 0.999), epsilon: float = 1e-16) -> None:
        super().__init__(learning_rate, beta, epsilon)

    def scaled(self) -> optax.GradientTransformation:
        return optax.scale_by_belief(*self.beta, self.epsilon, self.epsilon)


class Yogi(Adam):
    """Adam whose `v` moves by at most `(1 - beta[1]) * g^2`: `v = v - (1 - beta[1]) * sign(v - g^2) * g^2` (Zaheer et
    al. 2018, as Optax).

    >>> import fluxion as fx
    >>> fx.Yogi()
    Yogi(learning_rate=0.01, beta=(0.9, 0.999), epsilon=0.001)
    """

    def __init__(self, learning_rate: LearningRate = 0.01, beta: Betas = (0.9, 0.999), epsilon: float = 1e-3) -> None:
        super().__init__(learning_rate, beta, epsilon)

    def scaled(self) -> optax.GradientTransformation:
        return optax.scale_by_yogi(*self.beta, self.epsilon)


class Adan(Rule):
    """Adam with a running mean of the change of the gradient, which gives Nesterov's momentum without a second
    gradient (Xie et al. 2022, as Optax); the decay is decoupled.

    >>> import fluxion as fx
    >>> fx.Adan(1e-3).beta
    (0.98, 0.92, 0.99)
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta: tuple[float, float, float] = (0.98, 0.92, 0.99),
        decay: float = 0.0,
        epsilon: float = 1e-8,
    ) -> None:
        self.learning_rate, self.beta = rate(learning_rate), fractions(beta, count=3)
        self.decay, self.epsilon = number(decay, "decay"), number(epsilon, "epsilon")

    def direction(self) -> optax.GradientTransformation:
        adan = optax.scale_by_adan(*self.beta, self.epsilon, self.epsilon)
        return optax.chain(adan, optax.add_decayed_weights(self.decay), scale(self.learning_rate))

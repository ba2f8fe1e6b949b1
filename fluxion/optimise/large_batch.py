"""Rules for large models and batches: steps relative to the size of a weight, factored memory, orthogonal steps, and
learning rates that are found while training.
"""

from __future__ import annotations

import optax
import optax.contrib

from fluxion.optimise.checks import fractions, number, rate
from fluxion.optimise.rule import Betas, LearningRate, Rule, descend, scale, schedule


class Lamb(Rule):
    """AdamW whose step of each array is as long as the array, times the learning rate (You et al. 2020, as Optax).

    >>> import fluxion as fx
    >>> fx.Lamb(0.01).epsilon
    1e-06
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta: Betas = (0.9, 0.999),
        decay: float = 0.0,
        epsilon: float = 1e-6,
    ) -> None:
        self.learning_rate, self.beta = rate(learning_rate), fractions(beta)
        self.decay, self.epsilon = number(decay, "decay"), number(epsilon, "epsilon")

    def direction(self) -> optax.GradientTransformation:
        adam, decay = optax.scale_by_adam(*self.beta, self.epsilon), optax.add_decayed_weights(self.decay)
        return optax.chain(adam, decay, optax.scale_by_trust_ratio(), scale(self.learning_rate))


class Lars(Rule):
    """Momentum over gradients that are scaled to `trust` times the length of their array (You, Gitman and Ginsburg
    2017, as Optax: the rate is inside the velocity).

    >>> import fluxion as fx
    >>> fx.Lars(1.0)
    Lars(learning_rate=1.0, rho=0.9, decay=0.0, trust=0.001)
    """

    def __init__(
        self, learning_rate: LearningRate = 1.0, rho: float = 0.9, decay: float = 0.0, trust: float = 0.001
    ) -> None:
        self.learning_rate, self.rho = rate(learning_rate), number(rho, "rho", upper=1.0)
        self.decay, self.trust = number(decay, "decay"), number(trust, "trust")

    def direction(self) -> optax.GradientTransformation:
        ratio = optax.scale_by_trust_ratio(trust_coefficient=self.trust)
        return optax.chain(
            optax.add_decayed_weights(self.decay), ratio, scale(self.learning_rate), optax.trace(self.rho)
        )


class NovoGrad(Rule):
    """Adam with one second moment for each array, and the gradient divided by it before the momentum (Ginsburg et al.
    2019, as Optax).

    >>> import fluxion as fx
    >>> fx.NovoGrad().beta
    (0.9, 0.25)
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        beta: Betas = (0.9, 0.25),
        decay: float = 0.0,
        epsilon: float = 1e-6,
    ) -> None:
        self.learning_rate, self.beta = rate(learning_rate), fractions(beta)
        self.decay, self.epsilon = number(decay, "decay"), number(epsilon, "epsilon")

    def direction(self) -> optax.GradientTransformation:
        novograd = optax.scale_by_novograd(*self.beta, self.epsilon, weight_decay=self.decay)
        return optax.chain(novograd, scale(self.learning_rate))


class Adafactor(Rule):
    """RMSProp that remembers the mean squares of the rows and of the columns of large arrays instead of each entry's,
    with steps relative to the size of the array (Shazeer and Stern 2018, as Optax).

    `learning_rate` is that relative size, `limit` the largest root mean square of a step before it.

    >>> import fluxion as fx
    >>> fx.Adafactor(0.01)
    Adafactor(learning_rate=0.01, decay_rate=0.8, limit=1.0)
    """

    def __init__(self, learning_rate: LearningRate = 0.01, decay_rate: float = 0.8, limit: float = 1.0) -> None:
        self.learning_rate = rate(learning_rate)
        self.decay_rate, self.limit = number(decay_rate, "decay_rate"), number(limit, "limit")

    def direction(self) -> optax.GradientTransformation:
        adafactor = optax.adafactor(
            schedule(self.learning_rate), decay_rate=self.decay_rate, clipping_threshold=self.limit
        )
        return descend(adafactor)


class Muon(Rule):
    """Momentum whose step of each matrix is made orthogonal by five steps of Newton and Schulz; all arrays that are
    no matrices take Adam (Jordan 2024, as Optax).

    Meant for the matrices inside a network, where it needs fewer steps than Adam.

    >>> import fluxion as fx
    >>> fx.Muon()
    Muon(learning_rate=0.02, beta=0.95, decay=0.0, adam_learning_rate=0.0003, adam_beta=(0.9, 0.999))
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.02,
        beta: float = 0.95,
        decay: float = 0.0,
        adam_learning_rate: LearningRate = 3e-4,
        adam_beta: Betas = (0.9, 0.999),
    ) -> None:
        self.learning_rate, self.beta = rate(learning_rate), number(beta, "beta", upper=1.0)
        self.decay = number(decay, "decay")
        self.adam_learning_rate = rate(adam_learning_rate, "adam_learning_rate")
        self.adam_beta = fractions(adam_beta, "adam_beta")

    def direction(self) -> optax.GradientTransformation:
        first, second = self.adam_beta
        return descend(
            optax.contrib.muon(
                schedule(self.learning_rate),
                beta=self.beta,
                weight_decay=self.decay,
                adam_b1=first,
                adam_b2=second,
                adam_learning_rate=schedule(self.adam_learning_rate),
                adam_weight_decay=self.decay,
            )
        )


class Prodigy(Rule):
    """AdamW that finds its learning rate, from the distance that the weights have gone (Mishchenko and Defazio 2023,
    as Optax). `learning_rate` is a factor of what it finds: leave it at 1 or give it a decaying schedule. Real
    parameters only.

    >>> import fluxion as fx
    >>> fx.Prodigy()
    Prodigy(learning_rate=1.0, beta=(0.9, 0.999), decay=0.0, epsilon=1e-08)
    """

    def __init__(
        self, learning_rate: LearningRate = 1.0, beta: Betas = (0.9, 0.999), decay: float = 0.0, epsilon: float = 1e-8
    ) -> None:
        self.learning_rate, self.beta = rate(learning_rate), fractions(beta)
        self.decay, self.epsilon = number(decay, "decay"), number(epsilon, "epsilon")

    def direction(self) -> optax.GradientTransformation:
        return descend(optax.contrib.prodigy(self.learning_rate, self.beta, eps=self.epsilon, weight_decay=self.decay))


class DAdaptAdam(Prodigy):
    """AdamW that finds its learning rate by D-adaptation, the forerunner of `Prodigy` (Defazio and Mishchenko 2023, as
    Optax).

    >>> import fluxion as fx
    >>> fx.DAdaptAdam().learning_rate
    1.0
    """

    def direction(self) -> optax.GradientTransformation:
        return descend(optax.contrib.dadapt_adamw(self.learning_rate, self.beta, self.epsilon, weight_decay=self.decay))

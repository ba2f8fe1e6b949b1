"""Rules that stand before others in an `OptimiserChain`: weight decay and clipping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fluxion.optimise.checks import number, real
from fluxion.optimise.rule import Rule


class WeightDecay(Rule):
    """Adds `decay * w` to the gradient, as the penalty `decay / 2 * sum(w^2)` does. Flux: `WeightDecay`.

    >>> import fluxion as fx
    >>> fx.OptimiserChain(fx.WeightDecay(1e-4), fx.Momentum(0.1))
    OptimiserChain(WeightDecay(decay=0.0001), Momentum(learning_rate=0.1, rho=0.9))
    """

    def __init__(self, decay: float = 5e-4) -> None:
        self.decay = number(decay, "decay")

    def direction(self) -> optax.GradientTransformation:
        return optax.add_decayed_weights(self.decay)


class SignDecay(Rule):
    """Adds `decay * sign(w)` to the gradient, as the penalty `decay * sum(abs(w))` does. Flux: `SignDecay`.

    >>> import fluxion as fx
    >>> fx.SignDecay(1e-4)
    SignDecay(decay=0.0001)
    """

    def __init__(self, decay: float = 1e-3) -> None:
        self.decay = number(decay, "decay")

    def direction(self) -> optax.GradientTransformation:
        return optax.stateless_with_tree_map(lambda g, w: g + self.decay * jnp.sign(w))


class ClipGrad(Rule):
    """Clips each entry of the gradient to `[-limit, limit]`. Real parameters only. Flux: `ClipGrad`.

    >>> import fluxion as fx
    >>> fx.ClipGrad(1.0)
    ClipGrad(limit=1.0)
    """

    def __init__(self, limit: float = 10.0) -> None:
        self.limit = number(limit, "limit")

    def direction(self) -> optax.GradientTransformation:
        return _mapped(lambda g: jnp.clip(g, -self.limit, self.limit))


class ClipNorm(Rule):
    """Scales each gradient array whose `p`-norm exceeds `limit` down to it; one array at a time. Flux: `ClipNorm`.

    `p` is any number: 0 counts the entries that are not zero, `inf` and `-inf` take the largest and the smallest.
    An array with a NaN or an infinite entry has no norm and is left as it is.

    >>> import fluxion as fx
    >>> fx.ClipNorm(1.0)
    ClipNorm(limit=1.0, p=2)
    """

    def __init__(self, limit: float = 10.0, p: float = 2) -> None:
        self.limit = number(limit, "limit")
        self.p = p if isinstance(p, int) and not isinstance(p, bool) else real(p, "p")

    def direction(self) -> optax.GradientTransformation:
        return _mapped(lambda g: g * _shrink(_norm(g, self.p), self.limit))


class ClipGlobalNorm(Rule):
    """Scales all gradients together so that their joint 2-norm is at most `limit` (as
    `torch.nn.utils.clip_grad_norm_`; NaN and infinite entries as for `ClipNorm`).

    >>> import fluxion as fx
    >>> fx.OptimiserChain(fx.ClipGlobalNorm(1.0), fx.Adam(1e-3)).rules[0]
    ClipGlobalNorm(limit=1.0)
    """

    def __init__(self, limit: float = 1.0) -> None:
        self.limit = number(limit, "limit")

    def direction(self) -> optax.GradientTransformation:
        def clip(gradients: Any, params: Any) -> Any:
            norms = jnp.stack([_norm(g, 2) for g in jax.tree.leaves(gradients)])
            factor = _shrink(_norm(norms, 2), self.limit)
            return jax.tree.map(lambda g: g * factor.astype(g.real.dtype), gradients)

        return optax.stateless(clip)


def _mapped(f: Callable[[Any], Any]) -> optax.GradientTransformation:
    return optax.stateless(lambda gradients, params: jax.tree.map(f, gradients))


def _shrink(norm: Any, limit: Any) -> Any:
    return jnp.where(norm > limit, limit / jnp.where(norm > limit, norm, 1), 1)


def _norm(x: Any, p: Any) -> Any:
    """The `p`-norm for any `p`, also a traced one; in units of an entry of `x`, so that no power overflows."""
    size = jnp.abs(x)
    unit = jnp.where(p > 0, jnp.max(size, initial=0), jnp.min(size, initial=jnp.inf))
    unit = jnp.where(unit == 0, 1, unit)
    norm = unit * jnp.sum((size / unit) ** p) ** (1 / (p + (p == 0)))
    return jnp.where(p == 0, jnp.sum(size != 0), norm)

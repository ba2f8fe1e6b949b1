"""Losses of numbers."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from fluxion.losses.common import Aggregate, aggregate, same_shape, spacing, xlogy
from fluxion.ops.arrays import is_concrete


def mse(pred: Any, target: Any, *, agg: Aggregate = jnp.mean, weights: Any = None, mask: Any = None) -> Any:
    """Mean squared error: `agg(abs(pred - target)^2)`. Flux: `mse`.

    >>> import fluxion as fx
    >>> float(fx.mse([1.0, 2.0], [1.0, 4.0]))
    2.0
    """
    pred, target = same_shape("mse", pred, target, mask)
    error = pred - target
    squares = jnp.real(error * jnp.conj(error)) if jnp.iscomplexobj(error) else jnp.square(error)
    return aggregate("mse", squares, agg, weights, mask)


def mae(pred: Any, target: Any, *, agg: Aggregate = jnp.mean, weights: Any = None, mask: Any = None) -> Any:
    """Mean absolute error: `agg(abs(pred - target))`. Flux: `mae`.

    >>> import fluxion as fx
    >>> float(fx.mae([1.0, 2.0], [1.0, 4.0]))
    1.0
    """
    pred, target = same_shape("mae", pred, target, mask)
    return aggregate("mae", jnp.abs(pred - target), agg, weights, mask)


def msle(
    pred: Any, target: Any, *, agg: Aggregate = jnp.mean, eps: Any = None, weights: Any = None, mask: Any = None
) -> Any:
    """Mean squared logarithmic error: `agg((log(pred + eps) - log(target + eps))^2)`. Flux: `msle`.

    Counts ratios, so it suits positive numbers of many sizes. `eps` is the spacing of the float type at 1 by default.

    >>> import fluxion as fx
    >>> round(float(fx.msle([1.1, 2.2, 3.3], [1.0, 2.0, 3.0])), 4)
    0.0091
    """
    pred, target = same_shape("msle", pred, target, mask)
    eps = spacing(pred, eps)
    return aggregate("msle", jnp.square(jnp.log(pred + eps) - jnp.log(target + eps)), agg, weights, mask)


def huber_loss(
    pred: Any, target: Any, *, delta: float = 1.0, agg: Aggregate = jnp.mean, weights: Any = None, mask: Any = None
) -> Any:
    """`agg` of `e^2 / 2` where the error `e = abs(pred - target)` is below `delta`, of `delta * (e - delta / 2)` else.

    Huber 1964; for `delta=1` the smooth L1 loss. Flux: `huber_loss`.

    >>> import fluxion as fx
    >>> float(fx.huber_loss([0.0, 0.0], [1.0, 3.0]))
    1.5
    """
    if is_concrete(delta) and not delta > 0:
        raise ValueError(f"huber_loss takes a delta above 0, got {delta!r}")
    pred, target = same_shape("huber_loss", pred, target, mask)
    error = jnp.abs(pred - target)
    inner = jnp.minimum(error, delta)
    return aggregate("huber_loss", inner * (error - inner / 2), agg, weights, mask)


def poisson_loss(pred: Any, target: Any, *, agg: Aggregate = jnp.mean, weights: Any = None, mask: Any = None) -> Any:
    """`agg(pred - target * log(pred))`, for counts `target` whose expectation is `pred`. Flux: `poisson_loss`.

    The negative logarithm of the probability of a Poisson distribution, without the part that `pred` has no part in.

    >>> import fluxion as fx
    >>> float(fx.poisson_loss([1.0, 2.0], [3, 0]))
    1.5
    """
    pred, target = same_shape("poisson_loss", pred, target, mask)
    return aggregate("poisson_loss", pred - xlogy(target, pred), agg, weights, mask)


def hinge_loss(pred: Any, target: Any, *, agg: Aggregate = jnp.mean, weights: Any = None, mask: Any = None) -> Any:
    """`agg(max(0, 1 - pred * target))`, for targets -1 and 1. Flux: `hinge_loss`.

    >>> import fluxion as fx
    >>> float(fx.hinge_loss([0.5, 2.0], [-1, 1]))
    0.75
    """
    return aggregate("hinge_loss", _hinge("hinge_loss", pred, target, mask), agg, weights, mask)


def squared_hinge_loss(
    pred: Any, target: Any, *, agg: Aggregate = jnp.mean, weights: Any = None, mask: Any = None
) -> Any:
    """`agg(max(0, 1 - pred * target)^2)`, for targets -1 and 1. Flux: `squared_hinge_loss`.

    >>> import fluxion as fx
    >>> float(fx.squared_hinge_loss([0.5, 2.0], [-1, 1]))
    1.125
    """
    margins = _hinge("squared_hinge_loss", pred, target, mask)
    return aggregate("squared_hinge_loss", jnp.square(margins), agg, weights, mask)


def _hinge(name: str, pred: Any, target: Any, mask: Any) -> Any:
    pred, target = same_shape(name, pred, target, mask)
    return jnp.maximum(0, 1 - pred * target)


def siamese_contrastive_loss(
    pred: Any, target: Any, *, margin: float = 1.0, agg: Aggregate = jnp.mean, weights: Any = None, mask: Any = None
) -> Any:
    """`agg((1 - target) * pred^2 + target * max(0, margin - pred)^2)` of distances `pred` between pairs.

    `target` is 0 for a pair that belongs together and 1 for one that does not, whose distance should reach `margin`
    (Hadsell et al. 2006). Flux: `siamese_contrastive_loss`.

    >>> import fluxion as fx
    >>> float(fx.siamese_contrastive_loss([0.5, 0.5], [0, 1]))
    0.25
    """
    if is_concrete(margin) and margin < 0:
        raise ValueError(f"siamese_contrastive_loss takes a margin of at least 0, got {margin!r}")
    pred, target = same_shape("siamese_contrastive_loss", pred, target, mask)
    losses = (1 - target) * jnp.square(pred) + target * jnp.square(jnp.maximum(0, margin - pred))
    return aggregate("siamese_contrastive_loss", losses, agg, weights, mask)

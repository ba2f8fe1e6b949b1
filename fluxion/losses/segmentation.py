"""Losses of overlaps: how far two sets, given by a membership for each position, cover each other."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from fluxion.losses.common import check_mask, check_real, same_shape


def dice_coeff_loss(pred: Any, target: Any, *, smooth: float = 1.0, mask: Any = None) -> Any:
    """`1 - (2 * sum(target * pred) + smooth) / (sum(target^2) + sum(pred^2) + smooth)`, summed over everything.

    Milletari et al. 2016. 0 where both are the same set. Flux: `dice_coeff_loss`.

    >>> import fluxion as fx
    >>> round(float(fx.dice_coeff_loss([1.0, 0.0], [1, 1])), 4)
    0.25
    """
    pred, target = _memberships("dice_coeff_loss", pred, target, mask)
    overlap = jnp.sum(target * pred)
    return 1 - (2 * overlap + smooth) / (jnp.sum(jnp.square(target)) + jnp.sum(jnp.square(pred)) + smooth)


def tversky_loss(pred: Any, target: Any, *, beta: float = 0.7, smooth: float = 1.0, mask: Any = None) -> Any:
    """`1 - (overlap + smooth) / (overlap + beta * false positives + (1 - beta) * false negatives + smooth)`.

    `overlap` is `sum(target * pred)`, the others `sum((1 - target) * pred)` and `sum(target * (1 - pred))`, over
    everything. A larger `beta` punishes what is found too much (Salehi et al. 2017). Flux: `tversky_loss`.

    >>> import fluxion as fx
    >>> round(float(fx.tversky_loss([1.0, 0.0], [1, 1])), 4)
    0.1304
    """
    pred, target = _memberships("tversky_loss", pred, target, mask)
    overlap, missed = jnp.sum(target * pred), jnp.sum(target * (1 - pred))
    extra = jnp.sum((1 - target) * pred)
    return 1 - (overlap + smooth) / (overlap + beta * extra + (1 - beta) * missed + smooth)


def _memberships(name: str, pred: Any, target: Any, mask: Any) -> tuple[Any, Any]:
    pred, target = same_shape(name, pred, target, mask)
    check_real(name, pred, target)
    if mask is None:
        return pred, target
    counts = check_mask(name, mask, pred.shape)
    return jnp.where(counts, pred, 0), jnp.where(counts, target, 0)

"""What losses share: the shapes of predictions and targets, masks, weights, and the one number made of all losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.ops.arrays import as_float, at_least_float32

Aggregate = Callable[[Array], Any]
_HARMLESS = 0.5  # where every loss and its derivatives are finite, as prediction and as target


def xlogy(x: Any, y: Any) -> Array:
    """`x * log(y)`, and 0 where `x` is 0, whatever `y` is. Flux: `xlogy`.

    >>> import fluxion as fx
    >>> fx.xlogy([0.0, 1.0], [0.0, 1.0]).tolist()
    [0.0, 0.0]
    """
    x, y = as_float(x), as_float(y)
    harmless = (x != 0) | ((y > 0) & (y < jnp.inf))
    return x * jnp.log(jnp.where(harmless, y, 1))


def xlogx(x: Any) -> Array:
    """`x * log(x)`, and 0 where `x` is 0. Flux: `xlogx`.

    >>> import fluxion as fx
    >>> fx.xlogx([0.0, 1.0]).tolist()
    [0.0, 0.0]
    """
    return xlogy(x, x)


def prediction(pred: Any) -> Array:
    return at_least_float32(as_float(pred))


def as_target(pred: Array, target: Any) -> Array:
    """`target` as numbers that do not change the type of the loss."""
    target = jnp.asarray(target)
    return target if jnp.issubdtype(target.dtype, jnp.inexact) else target.astype(jnp.finfo(pred.dtype).dtype)


def same_shape(name: str, pred: Any, target: Any, mask: Any = None) -> tuple[Array, Array]:
    """Prediction and target of equal shapes; where the mask leaves an entry out, numbers without consequence."""
    pred = prediction(pred)
    target = as_target(pred, target)
    if target.ndim == 0:
        target = jnp.broadcast_to(target, pred.shape)
    if pred.shape != target.shape:
        fix = "write target.reshape(pred.shape)" if pred.size == target.size else "check the output size of the model"
        raise ValueError(f"{name} expects pred and target of equal shapes, got {pred.shape} and {target.shape}; {fix}")
    if mask is not None:
        counts = check_mask(name, mask, pred.shape)
        pred, target = jnp.where(counts, pred, _HARMLESS), jnp.where(counts, target, _HARMLESS)
    return pred, target


def spacing(pred: Array, eps: Any) -> Any:
    """`eps`, by default the spacing of the float type at 1."""
    return jnp.finfo(pred.dtype).eps if eps is None else eps


def per_observation(name: str, what: str, values: Any, shape: tuple[int, ...]) -> Array:
    """One value for each loss: `values` have the shape of the losses, or that of their first axes."""
    values = jnp.asarray(values)
    if values.shape != shape[: values.ndim]:
        raise ValueError(f"{name} takes {what} of shape {shape} or of its first axes, got shape {values.shape}")
    return jnp.broadcast_to(values.reshape(values.shape + (1,) * (len(shape) - values.ndim)), shape)


def check_mask(name: str, mask: Any, shape: tuple[int, ...]) -> Array:
    """The mask as one boolean for each loss."""
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"{name} takes booleans as mask=, True for what counts, got an array of {mask.dtype}")
    return per_observation(name, "a mask", mask, shape)


def check_real(name: str, *values: Array) -> None:
    if any(map(jnp.iscomplexobj, values)):
        raise TypeError(f"{name} takes real numbers, got complex ones")


def aggregate(name: str, losses: Array, agg: Aggregate, weights: Any = None, mask: Any = None, share: Any = 1.0) -> Any:
    """`agg` of the weighted losses that count; `jnp.mean` of them is their weighted mean, 0 where none counts.

    `share` is the part that class weights have in the weight of each loss, which holds them already.
    """
    check_real(name, losses)
    if not callable(agg):
        raise TypeError(f"{name} takes a function as agg=, such as jnp.mean, jnp.sum or fluxion.identity, got {agg!r}")
    counts = jnp.broadcast_to(jnp.asarray(share, losses.dtype), losses.shape)
    if weights is not None:
        factors = per_observation(name, "weights", weights, losses.shape).astype(losses.dtype)
        losses, counts = losses * factors, counts * factors
    if mask is not None:
        counted = check_mask(name, mask, losses.shape)
        losses, counts = jnp.where(counted, losses, 0), jnp.where(counted, counts, 0)
    agg = jnp.mean if agg is np.mean else agg
    if agg is not jnp.mean or (weights is None and mask is None and isinstance(share, float)):
        return agg(losses)
    total = jnp.sum(counts)
    return jnp.where(total == 0, 0, jnp.sum(losses) / jnp.where(total == 0, 1, total))

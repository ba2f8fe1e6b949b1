"""Connectionist temporal classification: the loss of a sequence of labels whose positions in time are not known."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fluxion.losses.common import Aggregate, aggregate, prediction
from fluxion.ops.arrays import is_concrete
from fluxion.ops.indexing import at_least_int32, check_indices, integer_array
from fluxion.ops.softmax import logsoftmax
from fluxion.ops.windows import is_integer


def ctc_loss(
    pred: Any,
    target: Any,
    *,
    lengths: Any = None,
    target_lengths: Any = None,
    blank: int = 0,
    agg: Aggregate = jnp.mean,
    zero_infinity: bool = False,
) -> Any:
    """`agg(-log p(target | pred))`, where `p` sums over every way to spread the labels over the time steps.

    A way gives each time step a label or `blank`; repeated labels count once unless a blank is between them (Graves et
    al. 2006). `pred` has shape `(batch, time, classes)` and holds scores (logits) or logarithms of probabilities;
    `target` has shape `(batch, labels)` and holds integers other than `blank`. `lengths` and `target_lengths`, of shape
    `(batch,)`, say how many steps and labels count, and what comes after may be anything; by default all do. Without
    the batch axes it is one sequence. A target that fits in no way, such as one longer than `pred`, costs infinity, or
    0 with `zero_infinity`, and has no gradient. PyTorch's mean divides each loss by its number of labels first. Flux:
    `ctc_loss`, whose blank is the last class.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> round(float(fx.ctc_loss(jnp.zeros((1, 2, 2)), [[1]])), 4)
    0.2877
    """
    pred, target = prediction(pred), jnp.asarray(integer_array("ctc_loss", target, what="labels"))
    single = pred.ndim == 2 and target.ndim == 1
    if single:
        pred, target = pred[None], target[None]
    if pred.ndim != 3 or target.ndim != 2 or pred.shape[0] != target.shape[0]:
        shapes = f"{pred.shape} and {target.shape}"
        raise ValueError(f"ctc_loss expects shapes (batch, time, classes) and (batch, labels), got {shapes}")
    batch, steps, classes = pred.shape
    if not is_integer(blank) or not -classes <= blank < classes:
        raise ValueError(f"ctc_loss takes a blank from 0 to {classes - 1}, got {blank!r}")
    blank %= classes
    lengths = _lengths("lengths", lengths, batch, steps)
    target_lengths = _lengths("target_lengths", target_lengths, batch, target.shape[1])
    real = jnp.arange(target.shape[1])[None] < target_lengths[:, None]
    _check_labels(target, real, classes, blank)
    counts = jnp.arange(steps)[None] < lengths[:, None]
    logs = logsoftmax(jnp.where(counts[..., None], pred, 0))
    losses = _losses(logs, jnp.where(real, target, 0), counts, target_lengths, blank)
    if zero_infinity:
        losses = jnp.where(jnp.isinf(losses), 0, losses)
    return aggregate("ctc_loss", losses[0] if single else losses, agg)


def _lengths(what: str, lengths: Any, batch: int, most: int) -> Array:
    """One length for each sequence, checked where the values are known."""
    if lengths is None:
        return jnp.full(batch, most)
    lengths = at_least_int32(jnp.asarray(lengths))
    lengths = lengths[None] if lengths.ndim == 0 and batch == 1 else lengths
    if lengths.shape != (batch,) or not jnp.issubdtype(lengths.dtype, jnp.integer):
        got = f"an array of shape {lengths.shape} of {lengths.dtype}"
        raise ValueError(f"ctc_loss takes {what} as {batch} integers, one a sequence, got {got}")
    check_indices("ctc_loss", lengths, most + 1, ValueError, what=what)
    return lengths


def _check_labels(target: Array, real: Array, classes: int, blank: int) -> None:
    check_indices("ctc_loss", jnp.where(real, target, 0), classes, ValueError, what="labels")
    if is_concrete(target, real) and bool(jnp.any(real & (target == blank))):
        advice = "target_lengths= leaves out what only fills up"
        raise ValueError(f"ctc_loss takes labels other than blank={blank}; {advice}")


def _losses(logs: Array, target: Array, counts: Array, target_lengths: Array, blank: int) -> Array:
    """Minus the logarithm of the sum over all paths.

    `alpha[n, s]` is the logarithm of the sum over the paths that have reached place `s` of: blank, label, blank,
    label, ..., blank. A path stays, goes on by one place, or leaves out the blank between two labels that differ.
    """
    batch, steps, _ = logs.shape
    places = jnp.full((batch, 2 * target.shape[1] + 1), blank).at[:, 1::2].set(target)
    scores = jnp.take_along_axis(logs, jnp.broadcast_to(places[:, None], (batch, steps, places.shape[1])), axis=2)
    skips = (places != blank) & (places != jnp.roll(places, 2, axis=1))
    skips = skips.at[:, :2].set(False)

    def step(alpha: Array, at: Any) -> tuple[Array, None]:
        score, counted = at
        by_one = jnp.pad(alpha, ((0, 0), (1, 0)), constant_values=-jnp.inf)[:, :-1]
        by_two = jnp.pad(alpha, ((0, 0), (2, 0)), constant_values=-jnp.inf)[:, :-2]
        reached = _add_logs(alpha, by_one, jnp.where(skips, by_two, -jnp.inf)) + score
        return jnp.where(counted[:, None], reached, alpha), None

    start = jnp.full(places.shape, -jnp.inf, logs.dtype).at[:, 0].set(0)  # before the first step, at the first blank
    alpha, _ = jax.lax.scan(step, start, (jnp.moveaxis(scores, 1, 0), counts.T))
    last = jnp.take_along_axis(alpha, 2 * target_lengths[:, None], axis=1)[:, 0]
    before = jnp.take_along_axis(alpha, jnp.maximum(2 * target_lengths - 1, 0)[:, None], axis=1)[:, 0]
    return -_add_logs(last, jnp.where(target_lengths > 0, before, -jnp.inf))


def _add_logs(*logs: Array) -> Array:
    """`log(sum(exp(logs)))` of arrays, where minus infinity has no gradient."""
    top = jax.lax.stop_gradient(jnp.max(jnp.stack(logs), axis=0))
    nothing = top == -jnp.inf
    top = jnp.where(nothing, 0, top)
    total = sum(jnp.exp(log - top) for log in logs)
    return jnp.where(nothing, -jnp.inf, top + jnp.log(jnp.where(nothing, 1, total)))

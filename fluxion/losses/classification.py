"""Losses of classes: of probabilities, or of the scores (logits) that softmax or sigmoid makes probabilities of."""

from __future__ import annotations

import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import FluxionWarning
from fluxion.losses.classes import Classes
from fluxion.losses.common import Aggregate, aggregate, prediction, same_shape, spacing, xlogx, xlogy
from fluxion.ops.activations import softplus
from fluxion.ops.arrays import is_concrete
from fluxion.ops.indexing import known_axis
from fluxion.ops.softmax import logsoftmax

_warned: set[str] = set()


def crossentropy(
    pred: Any,
    target: Any,
    *,
    axis: int = -1,
    agg: Aggregate = jnp.mean,
    eps: Any = None,
    weights: Any = None,
    mask: Any = None,
    class_weights: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> Any:
    """`agg(-sum(target * log(pred + eps)))` with the sum along `axis`, where `pred` holds probabilities.

    `target` holds integer labels, with one axis less than `pred`, or is one-hot, or holds probabilities. `eps` is the
    spacing of the float type at 1 by default. `class_weights` has a weight for each class, `label_smoothing` is the
    part of every target that is shared by all classes (Szegedy et al. 2016), and integer labels that equal
    `ignore_index` do not count. The mean is then over the weights of the targets' classes. `logitcrossentropy` of
    scores is faster and more accurate than this of their softmax. Flux: `crossentropy`.

    >>> import fluxion as fx
    >>> round(float(fx.crossentropy([[0.5, 0.5]], [0])), 4)
    0.6931
    """
    classes = Classes("crossentropy", pred, target, axis, class_weights, ignore_index, label_smoothing, mask)
    eps = spacing(classes.pred, eps)
    if classes.labels is not None:
        logs = jnp.log(classes.pick(classes.pred) + eps)
    else:
        logs = jnp.sum(xlogy(classes.target, classes.pred + eps), axis=axis)
    return classes.aggregate(-logs, agg, weights)


def logitcrossentropy(
    pred: Any,
    target: Any,
    *,
    axis: int = -1,
    agg: Aggregate = jnp.mean,
    weights: Any = None,
    mask: Any = None,
    class_weights: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> Any:
    """`agg(-sum(target * logsoftmax(pred)))` with the sum along `axis`, where `pred` holds scores (logits).

    `target`, `class_weights`, `ignore_index` and `label_smoothing` are those of `crossentropy`. Scores that look like
    probabilities give a warning once, when not compiled: `pred` is what comes before the softmax. Flux:
    `logitcrossentropy`.

    >>> import fluxion as fx
    >>> round(float(fx.logitcrossentropy([[0.0, 0.0]], [0])), 4)
    0.6931
    >>> round(float(fx.logitcrossentropy([[0.0, 0.0], [1.0, 5.0]], [0, -1], ignore_index=-1)), 4)
    0.6931
    """
    classes = Classes("logitcrossentropy", pred, target, axis, class_weights, ignore_index, label_smoothing, mask)
    _warn_of_probabilities(classes.pred, axis)
    logs = logsoftmax(classes.pred, axis)
    if classes.labels is not None:
        return classes.aggregate(-classes.pick(logs), agg, weights)
    impossible = (classes.target == 0) & (logs == -jnp.inf)  # what is impossible and does not occur costs nothing
    logs = jnp.sum(classes.target * jnp.where(impossible, 0, logs), axis=axis)
    return classes.aggregate(-logs, agg, weights)


def focal_loss(
    pred: Any,
    target: Any,
    *,
    axis: int = -1,
    gamma: float = 2.0,
    agg: Aggregate = jnp.mean,
    eps: Any = None,
    weights: Any = None,
    mask: Any = None,
    class_weights: Any = None,
    ignore_index: int | None = None,
) -> Any:
    """`agg(-sum(target * (1 - pred)^gamma * log(pred)))`: cross-entropy that counts what is easy less.

    Lin et al. 2017. `pred` holds probabilities, to which `eps` is added; the other arguments are those of
    `crossentropy`, which this is for `gamma=0`. Flux: `focal_loss`.

    >>> import fluxion as fx
    >>> round(float(fx.focal_loss([[0.5, 0.5]], [0])), 4)
    0.1733
    """
    classes = Classes("focal_loss", pred, target, axis, class_weights, ignore_index, 0.0, mask)
    pred = classes.pred + spacing(classes.pred, eps)
    if classes.labels is not None:
        pred = classes.pick(pred)
        return classes.aggregate(-_focus(pred, gamma) * jnp.log(pred), agg, weights)
    return classes.aggregate(-jnp.sum(xlogy(classes.target * _focus(pred, gamma), pred), axis=axis), agg, weights)


def _focus(pred: Array, gamma: Any) -> Array:
    """`(1 - pred)^gamma`, with a probability that `eps` made more than 1 counting as 1."""
    missing = 1 - pred
    return jnp.where(missing > 0, jnp.where(missing > 0, missing, 1) ** gamma, jnp.asarray(gamma == 0, pred.dtype))


def kldivergence(
    pred: Any,
    target: Any,
    *,
    axis: int = -1,
    agg: Aggregate = jnp.mean,
    eps: Any = None,
    weights: Any = None,
    mask: Any = None,
) -> Any:
    """Kullback-Leibler divergence `agg(sum(target * log(target / (pred + eps))))` with the sum along `axis`.

    Both hold probabilities; it is 0 where they agree. Flux: `kldivergence`.

    >>> import fluxion as fx
    >>> round(float(fx.kldivergence([[0.5, 0.5]], [[1.0, 0.0]])), 4)
    0.6931
    """
    classes = Classes("kldivergence", pred, target, axis, None, None, 0.0, mask, labels=False)
    terms = xlogx(classes.target) - xlogy(classes.target, classes.pred + spacing(classes.pred, eps))
    return classes.aggregate(jnp.sum(terms, axis=axis), agg, weights)


def binarycrossentropy(
    pred: Any,
    target: Any,
    *,
    agg: Aggregate = jnp.mean,
    eps: Any = None,
    weights: Any = None,
    mask: Any = None,
) -> Any:
    """`agg(-target * log(pred + eps) - (1 - target) * log(1 - pred + eps))`, where `pred` holds probabilities.

    `target` holds 0 and 1, or probabilities. `eps` is the spacing of the float type at 1 by default.
    `logitbinarycrossentropy` of scores is more accurate than this of their sigmoid. Flux: `binarycrossentropy`.

    >>> import fluxion as fx
    >>> round(float(fx.binarycrossentropy([0.5, 0.5], [0, 1])), 4)
    0.6931
    """
    pred, target = same_shape("binarycrossentropy", pred, target, mask)
    eps = spacing(pred, eps)
    losses = -xlogy(target, pred + eps) - xlogy(1 - target, 1 - pred + eps)
    return aggregate("binarycrossentropy", losses, agg, weights, mask)


def logitbinarycrossentropy(
    pred: Any,
    target: Any,
    *,
    agg: Aggregate = jnp.mean,
    weights: Any = None,
    mask: Any = None,
    pos_weight: Any = None,
) -> Any:
    """`agg((1 - target) * pred - log(sigmoid(pred)))`: `binarycrossentropy` of `sigmoid(pred)`, for scores (logits).

    `pos_weight` multiplies the part of the targets 1: a number, or one for each entry of the last axis. Flux:
    `logitbinarycrossentropy`.

    >>> import fluxion as fx
    >>> round(float(fx.logitbinarycrossentropy([0.0, 0.0], [0, 1])), 4)
    0.6931
    """
    pred, target = same_shape("logitbinarycrossentropy", pred, target, mask)
    if pos_weight is None:
        losses = (1 - target) * pred + softplus(-pred)
    else:
        factor = 1 + (_of_last_axis("pos_weight", pos_weight, pred) - 1) * target
        losses = (1 - target) * pred + factor * softplus(-pred)
    return aggregate("logitbinarycrossentropy", losses, agg, weights, mask)


def _of_last_axis(what: str, values: Any, pred: Array) -> Array:
    values = jnp.asarray(values, pred.dtype)
    if values.shape not in ((), pred.shape[-1:]):
        raise ValueError(f"{what} takes a number or an array of shape {pred.shape[-1:]}, got shape {values.shape}")
    return jnp.broadcast_to(values.reshape((1,) * (pred.ndim - values.ndim) + values.shape), pred.shape)


def binary_focal_loss(
    pred: Any,
    target: Any,
    *,
    gamma: float = 2.0,
    agg: Aggregate = jnp.mean,
    eps: Any = None,
    weights: Any = None,
    mask: Any = None,
) -> Any:
    """`agg(-(1 - p)^gamma * log(p))`, where `p` is the probability that `pred` gives to the target, 0 or 1.

    Lin et al. 2017; `binarycrossentropy` for `gamma=0`. `eps` is added to `pred`. Flux: `binary_focal_loss`.

    >>> import fluxion as fx
    >>> round(float(fx.binary_focal_loss([0.5, 0.5], [0, 1])), 4)
    0.1733
    """
    pred, target = same_shape("binary_focal_loss", pred, target, mask)
    pred = pred + spacing(pred, eps)
    right = target * pred + (1 - target) * (1 - pred + 2 * spacing(pred, eps))
    return aggregate("binary_focal_loss", -_focus(right, gamma) * jnp.log(right), agg, weights, mask)


def label_smoothing(target: Any, alpha: float, *, axis: int | None = -1) -> Array:
    """`target * (1 - alpha) + alpha / classes`, with the number of classes along `axis`; 2 for `axis=None` (binary).

    Makes one-hot targets less certain (Szegedy et al. 2016). The losses of classes take `label_smoothing=` too. Flux:
    `label_smoothing`.

    >>> import fluxion as fx
    >>> fx.label_smoothing([[1.0, 0.0]], 0.5).tolist()
    [[0.75, 0.25]]
    """
    if is_concrete(alpha) and not 0 < alpha < 1:
        raise ValueError(f"label_smoothing takes an alpha between 0 and 1, got {alpha!r}")
    target = prediction(target)
    classes = 2 if axis is None else target.shape[known_axis("label_smoothing", axis, target.shape)]
    return target * (1 - alpha) + alpha / classes


def _warn_of_probabilities(pred: Array, axis: int) -> None:
    if "probabilities" in _warned or not is_concrete(pred) or pred.size == 0 or pred.shape[axis] < 2:
        return
    values = np.asarray(pred)
    if values.min() >= 0 and values.max() <= 1 and (abs(values.sum(axis) - 1) < 1e-3).all():
        _warned.add("probabilities")
        warnings.warn(
            "logitcrossentropy got predictions that look like probabilities (from 0 to 1, with sum 1); it takes the "
            "scores before the softmax: leave the softmax out of the model, or use crossentropy",
            FluxionWarning,
            stacklevel=3,
        )

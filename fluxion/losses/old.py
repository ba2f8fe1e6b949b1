"""Losses: one number that says how far predictions are from targets.

Each is called as `loss(pred, target, *, agg=jnp.mean)`. `agg` makes one number of the losses of all observations:
`jnp.sum`, `identity` for none, or your own, as `lambda l: jnp.mean(weights * l)`. `pred` and `target` have the same
shape; no axis is added or repeated behind your back. Half precision is computed, and returned, in float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import FluxionWarning
from fluxion.onehot import OneHotArray
from fluxion.ops.activations import logsoftmax, softplus
from fluxion.ops.arrays import as_float, at_least_float32, is_concrete

Aggregate = Callable[[Array], Any]
_warned: set[str] = set()


def mse(pred: Any, target: Any, *, agg: Aggregate = jnp.mean) -> Any:
    """Mean squared error: `agg(abs(pred - target)^2)`.

    >>> import fluxion as fx
    >>> float(fx.mse([1.0, 2.0], [1.0, 4.0]))
    2.0
    """
    pred, target = _same_shape("mse", pred, target)
    error = pred - target
    squares = jnp.real(error * jnp.conj(error)) if jnp.iscomplexobj(error) else jnp.square(error)
    return _aggregate("mse", agg, squares)


def mae(pred: Any, target: Any, *, agg: Aggregate = jnp.mean) -> Any:
    """Mean absolute error: `agg(abs(pred - target))`.

    >>> import fluxion as fx
    >>> float(fx.mae([1.0, 2.0], [1.0, 4.0]))
    1.0
    """
    pred, target = _same_shape("mae", pred, target)
    return _aggregate("mae", agg, jnp.abs(pred - target))


def crossentropy(pred: Any, target: Any, *, axis: int = -1, agg: Aggregate = jnp.mean, eps: Any = None) -> Any:
    """`agg(-sum(target * log(pred + eps)))` with the sum along `axis`, where `pred` holds probabilities.

    `target` holds integer labels, with one axis less than `pred`, or is one-hot, or holds probabilities. `eps` is the
    spacing of the float type at 1 by default. `logitcrossentropy` of scores is faster and more accurate than this of
    their softmax.

    >>> import fluxion as fx
    >>> round(float(fx.crossentropy([[0.5, 0.5]], [0])), 4)
    0.6931
    """
    pred = _prediction(pred)
    labels, target = _labels("crossentropy", pred, target, axis)
    eps = jnp.finfo(pred.dtype).eps if eps is None else eps
    if labels is not None:
        return _aggregate("crossentropy", agg, -jnp.log(_pick(pred, labels, axis) + eps))
    return _aggregate("crossentropy", agg, -jnp.sum(xlogy(target, pred + eps), axis=axis))


def logitcrossentropy(pred: Any, target: Any, *, axis: int = -1, agg: Aggregate = jnp.mean) -> Any:
    """`agg(-sum(target * logsoftmax(pred)))` with the sum along `axis`, where `pred` holds scores (logits).

    `target` holds integer labels, with one axis less than `pred`, or is one-hot, or holds probabilities. Scores that
    look like probabilities give a warning once, when not compiled: `pred` is what comes before the softmax.

    >>> import fluxion as fx
    >>> round(float(fx.logitcrossentropy([[0.0, 0.0]], [0])), 4)
    0.6931
    """
    pred = _prediction(pred)
    labels, target = _labels("logitcrossentropy", pred, target, axis)
    _warn_of_probabilities(pred, axis)
    logs = logsoftmax(pred, axis)
    if labels is not None:
        return _aggregate("logitcrossentropy", agg, -_pick(logs, labels, axis))
    logs = jnp.where((target == 0) & (logs == -jnp.inf), 0, logs)  # what is impossible and does not occur costs nothing
    return _aggregate("logitcrossentropy", agg, -jnp.sum(target * logs, axis=axis))


def binarycrossentropy(pred: Any, target: Any, *, agg: Aggregate = jnp.mean, eps: Any = None) -> Any:
    """`agg(-target * log(pred + eps) - (1 - target) * log(1 - pred + eps))`, where `pred` holds probabilities.

    `target` holds 0 and 1, or probabilities. `eps` is the spacing of the float type at 1 by default.
    `logitbinarycrossentropy` of scores is more accurate than this of their sigmoid.

    >>> import fluxion as fx
    >>> round(float(fx.binarycrossentropy([0.5, 0.5], [0, 1])), 4)
    0.6931
    """
    pred, target = _same_shape("binarycrossentropy", pred, target)
    eps = jnp.finfo(pred.dtype).eps if eps is None else eps
    return _aggregate("binarycrossentropy", agg, -xlogy(target, pred + eps) - xlogy(1 - target, 1 - pred + eps))


def logitbinarycrossentropy(pred: Any, target: Any, *, agg: Aggregate = jnp.mean) -> Any:
    """`agg((1 - target) * pred - log(sigmoid(pred)))`: `binarycrossentropy` of `sigmoid(pred)`, for scores (logits).

    >>> import fluxion as fx
    >>> round(float(fx.logitbinarycrossentropy([0.0, 0.0], [0, 1])), 4)
    0.6931
    """
    pred, target = _same_shape("logitbinarycrossentropy", pred, target)
    return _aggregate("logitbinarycrossentropy", agg, (1 - target) * pred + softplus(-pred))


def xlogy(x: Array, y: Array) -> Array:
    """`x * log(y)`, and 0 where `x` is 0, whatever `y` is."""
    harmless = (x != 0) | ((y > 0) & (y < jnp.inf))
    return x * jnp.log(jnp.where(harmless, y, 1))


def _prediction(pred: Any) -> Array:
    return at_least_float32(as_float(pred))


def _aggregate(name: str, agg: Aggregate, losses: Array) -> Any:
    if not callable(agg):
        raise TypeError(f"{name} takes a function as agg=, such as jnp.mean, jnp.sum or fluxion.identity, got {agg!r}")
    return agg(losses)


def _target(pred: Array, target: Any) -> Array:
    """`target` as numbers that do not change the type of the loss."""
    target = jnp.asarray(target)
    return target if jnp.issubdtype(target.dtype, jnp.inexact) else target.astype(jnp.finfo(pred.dtype).dtype)


def _same_shape(name: str, pred: Any, target: Any) -> tuple[Array, Array]:
    pred = _prediction(pred)
    target = _target(pred, target)
    if target.ndim == 0:
        target = jnp.broadcast_to(target, pred.shape)
    if pred.shape != target.shape:
        fix = "write target.reshape(pred.shape)" if pred.size == target.size else "check the output size of the model"
        raise ValueError(f"{name} expects pred and target of equal shapes, got {pred.shape} and {target.shape}; {fix}")
    return pred, target


def _labels(name: str, pred: Array, target: Any, axis: int) -> tuple[Any, Any]:
    """`(labels, None)` for integers and one-hot arrays, `(None, target)` for one number per entry of `pred`."""
    if not -pred.ndim <= axis < pred.ndim:
        raise ValueError(f"{name} has no axis {axis} in pred, an array of shape {pred.shape}")
    axis = axis % pred.ndim
    sizes = pred.shape[:axis] + pred.shape[axis + 1 :]
    if isinstance(target, OneHotArray):
        if target.count == pred.shape[axis] and target.indices.shape == sizes:
            return target.indices, None
    elif not hasattr(target, "shape"):
        target = jnp.asarray(target)
    if target.shape == pred.shape:
        return None, _target(pred, target)
    if target.shape == sizes and not isinstance(target, OneHotArray):
        if jnp.issubdtype(target.dtype, jnp.integer):
            _check_labels(name, target, pred.shape[axis])
            return target, None
        raise ValueError(f"{name} takes labels as integers, got {target.dtype}; write target.astype(int)")
    raise ValueError(
        f"{name} expects a target of shape {pred.shape} like pred, or integer labels of shape {sizes}, "
        f"got {tuple(target.shape)} of type {target.dtype}"
    )


def _check_labels(name: str, labels: Any, count: int) -> None:
    if is_concrete(labels) and labels.size:
        known = np.asarray(labels)
        if known.min() < 0 or known.max() >= count:
            wrong = known.min() if known.min() < 0 else known.max()
            raise ValueError(f"{name} expects labels from 0 to {count - 1}, got {wrong}")


def _pick(values: Array, labels: Any, axis: int) -> Array:
    """The entry of `values` that each label names; NaN for a label out of range, so that it cannot pass unnoticed."""
    axis = axis % values.ndim
    labels = jnp.asarray(labels)
    count = values.shape[axis]
    others = tuple(other for other in range(values.ndim) if other != axis)
    chosen = jnp.expand_dims(labels, axis) == jnp.expand_dims(jnp.arange(count, dtype=labels.dtype), others)
    picked = jnp.sum(jnp.where(chosen, values, 0), axis=axis)  # unlike a gather, this fuses with what comes before it
    return jnp.where((labels >= 0) & (labels < count), picked, jnp.nan)


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

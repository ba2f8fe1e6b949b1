"""Predictions and targets of a loss over classes: integer labels or one number per class, weighted and masked."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from fluxion.losses.common import Aggregate, aggregate, as_target, check_mask, prediction
from fluxion.onehot import OneHotArray
from fluxion.ops.arrays import is_concrete
from fluxion.ops.indexing import at_least_int32, check_indices, known_axis


class Classes:
    """`pred` with its classes along `axis`, and either `labels` (integers) or `target` (one number per class).

    `share` is what class weights make of the weight of each observation. What the mask leaves out holds numbers
    without consequence.
    """

    def __init__(
        self,
        name: str,
        pred: Any,
        target: Any,
        axis: int,
        class_weights: Any,
        ignore_index: int | None,
        smoothing: float,
        mask: Any,
        labels: bool = True,
    ) -> None:
        self.name, self.pred = name, prediction(pred)
        self.axis = known_axis(name, axis, self.pred.shape)
        self.count = self.pred.shape[axis]
        self.sizes = self.pred.shape[: self.axis] + self.pred.shape[self.axis + 1 :]
        self.mask = None if mask is None else check_mask(name, mask, self.sizes)
        self.labels, self.target = self._split(target, labels)
        self._ignore(ignore_index)
        if self.mask is not None:
            self.pred = jnp.where(jnp.expand_dims(self.mask, self.axis), self.pred, 0.5)
        if self.labels is not None:
            check_indices(name, self.labels, self.count, ValueError, what="labels")
        self.share: Any = 1.0
        if class_weights is not None:
            self._weigh(class_weights)
        if not is_concrete(smoothing) or smoothing != 0:
            self._smooth(smoothing)
        if class_weights is not None and self.target is not None:
            self.target = self.target * self.weights

    def _split(self, target: Any, labels: bool) -> tuple[Any, Any]:
        """`(labels, None)` for integers and one-hot arrays, `(None, target)` for one number per entry of `pred`."""
        name, wanted = self.name, self.pred.shape
        if isinstance(target, OneHotArray):
            if labels and target.count == self.count and target.indices.shape == self.sizes:
                return at_least_int32(target.indices), None
        elif not hasattr(target, "shape"):
            target = jnp.asarray(target)
            target = target if target.size else target.astype(int)  # an empty list holds floats
        if target.shape == wanted:
            return None, as_target(self.pred, target)
        if labels and target.shape == self.sizes and not isinstance(target, OneHotArray):
            if jnp.issubdtype(target.dtype, jnp.integer):
                return at_least_int32(target), None
            raise ValueError(f"{name} takes labels as integers, got {target.dtype}; write target.astype(int)")
        also = f" like pred, or integer labels of shape {self.sizes}," if labels else " like pred,"
        raise ValueError(
            f"{name} expects a target of shape {wanted}{also} got {tuple(target.shape)} of type {target.dtype}"
        )

    def _ignore(self, index: int | None) -> None:
        """Leaves out the labels that equal `index`; the labels left out become 0."""
        if index is not None:
            if self.labels is None:
                raise ValueError(f"{self.name} takes ignore_index with integer labels; write mask= for other targets")
            counts = jnp.asarray(self.labels) != index
            self.mask = counts if self.mask is None else self.mask & counts
        if self.labels is not None and self.mask is not None:
            self.labels = jnp.where(self.mask, jnp.asarray(self.labels), 0)

    def _weigh(self, class_weights: Any) -> None:
        weights = jnp.asarray(class_weights, self.pred.dtype)
        if weights.shape != (self.count,):
            raise ValueError(f"{self.name} takes {self.count} class_weights, one a class, got shape {weights.shape}")
        others = tuple(axis for axis in range(self.pred.ndim) if axis != self.axis)
        self.weights = jnp.expand_dims(weights, others)
        if self.labels is not None:
            self.share = self.pick(jnp.broadcast_to(self.weights, self.pred.shape))
        else:
            self.share = jnp.sum(self.target * self.weights, axis=self.axis)

    def _smooth(self, alpha: float) -> None:
        """Turns labels into one number per class, of which a part is shared by all classes."""
        if is_concrete(alpha) and not 0 <= alpha < 1:
            raise ValueError(f"{self.name} takes a label_smoothing of at least 0 and below 1, got {alpha!r}")
        target = self.target
        if self.labels is not None:
            target, self.labels = self._is_label().astype(self.pred.dtype), None
        self.target = target * (1 - alpha) + alpha / self.count

    def _is_label(self) -> Array:
        labels = jnp.asarray(self.labels)
        others = tuple(axis for axis in range(self.pred.ndim) if axis != self.axis)
        classes = jnp.expand_dims(jnp.arange(self.count, dtype=labels.dtype), others)
        return jnp.expand_dims(labels, self.axis) == classes

    def pick(self, values: Array) -> Array:
        """The entry of `values` that each label names; NaN for a label out of range, so that it is noticed."""
        picked = jnp.sum(jnp.where(self._is_label(), values, 0), axis=self.axis)  # unlike a gather, this fuses
        labels = jnp.asarray(self.labels)
        return jnp.where((labels >= 0) & (labels < self.count), picked, jnp.nan)

    def aggregate(self, losses: Array, agg: Aggregate, weights: Any) -> Any:
        """One number of the losses of all observations; those of labels are not yet weighted by their classes."""
        if self.labels is not None and not isinstance(self.share, float):
            losses = losses * self.share
        return aggregate(self.name, losses, agg, weights, self.mask, self.share)

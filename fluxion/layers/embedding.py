"""Learnt vectors for integers, one by one or in bags."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import SizeError
from fluxion.init import normal
from fluxion.layers.base import Layer, changed, draw, features, input_array, shape_of, size_of
from fluxion.onehot import OneHotArray
from fluxion.ops.arrays import as_float, at_least_float32, is_concrete
from fluxion.ops.indexing import check_indices, integer_array
from fluxion.ops.scatter import scatter
from fluxion.ops.windows import is_integer
from fluxion.random import Generator

_WORDS: dict[Any, str] = {
    jnp.mean: "mean",
    np.mean: "mean",
    jnp.sum: "sum",
    np.sum: "sum",
    sum: "sum",
    jnp.max: "max",
    np.max: "max",
    max: "max",
}


class Embedding(Layer):
    """A learnt vector for each of `vocabulary` integers: row `x` of `weight`, which has shape `(vocabulary, size)`.

    Takes integers of any shape `(...)`, gives `(..., size)`. Boolean or one-hot input of shape `(..., vocabulary)`
    picks the same rows. The integer `padding_idx`, if there is one, stands for nothing: its row starts as zeros, its
    output is zeros, and it has no gradient. An index out of range is an IndexError where its value is known; in
    compiled code it gives NaN, unless `debug(index=True)` checks it.

    >>> import fluxion as fx
    >>> fx.Embedding(1000, 16)([[1, 2, 3]]).shape
    (1, 3, 16)
    >>> fx.Embedding(1000, 2, padding_idx=0)([0]).tolist()
    [[0.0, 0.0]]
    """

    __trainable__ = ("weight",)

    def __init__(
        self,
        vocabulary: int,
        size: int,
        *,
        padding_idx: int | None = None,
        init: Callable[..., Any] = normal,
        rng: Generator | None = None,
    ) -> None:
        name = type(self).__name__
        weight = draw(init, (size_of(vocabulary, name), size_of(size, name)), rng)
        self.padding_idx = _checked_padding(padding_idx, vocabulary, name)
        self.weight = self._without_padding(weight)

    @classmethod
    def from_arrays(cls, weight: Any, *options: Any, **keywords: Any) -> Any:
        """A layer that holds the given weight `(vocabulary, size)`; its other arguments are those of the constructor.

        >>> import fluxion as fx
        >>> fx.Embedding.from_arrays([[1.0, 2.0], [3.0, 4.0]])(1).tolist()
        [3.0, 4.0]
        """
        weight = as_float(weight)
        if weight.ndim != 2:
            wanted = f"{cls.__name__} takes a weight of shape (vocabulary, size)"
            raise ValueError(f"{wanted}, got an array of shape {weight.shape}")
        return cls(*weight.shape, *options, init=lambda *shape: weight, **keywords)

    def __call__(self, x: Any) -> Array:
        x = x if hasattr(x, "dtype") else input_array(self, x)
        if x.dtype == bool:
            return features(self, x, self.weight.shape[0], "labels") @ self._without_padding(self.weight)
        x = integer_array(type(self).__name__, x, self)
        check_indices(type(self).__name__, x, self.weight.shape[0], layer=self)
        rows = jnp.asarray(self.weight).at[x].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
        return rows if self.padding_idx is None else jnp.where((x == self.padding_idx)[..., None], 0, rows)

    def _without_padding(self, weight: Array) -> Array:
        return weight if self.padding_idx is None else jnp.asarray(weight).at[self.padding_idx].set(0)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return list(self.weight.shape), changed(padding_idx=(self.padding_idx, None))


def _checked_padding(padding_idx: Any, vocabulary: int, name: str) -> int | None:
    if padding_idx is None:
        return None
    if not is_integer(padding_idx) or not 0 <= padding_idx < vocabulary:
        raise ValueError(f"{name} takes as padding_idx an int from 0 to {vocabulary - 1}, got {padding_idx!r}")
    return int(padding_idx)


class EmbeddingBag(Embedding):
    """One vector for each bag of integers: the mean, sum or maximum of the rows that an Embedding has for them.

    Bags are the last axis of an array `(..., bag)`, which gives `(..., size)`; or an array of all integers and
    `offsets`, where each bag starts in it; or a list of bags of any lengths. One-hot arrays `(..., bag, vocabulary)`
    do as well. `reduction` is "mean", "sum", "max", or a function that is called as `reduction(rows, axis=-2)`; with
    a function, compiled code cannot take offsets. `weights`, numbers in the shape of the integers, multiply the rows
    of a sum. What equals `padding_idx` is not in the bag. An empty bag gives zeros. `ValueError` for offsets that do
    not start at 0, decrease, or exceed the number of integers.

    >>> import fluxion as fx
    >>> bag = fx.EmbeddingBag.from_arrays([[1.0], [2.0], [4.0]], "sum")
    >>> bag([[0, 1], [2, 2]]).tolist(), bag([[0], [1, 2]]).tolist(), bag([0, 1, 2], offsets=[0, 1]).tolist()
    ([[3.0], [8.0]], [[1.0], [6.0]], [[1.0], [6.0]])
    """

    def __init__(
        self,
        vocabulary: int,
        size: int,
        reduction: Any = "mean",
        *,
        padding_idx: int | None = None,
        init: Callable[..., Any] = normal,
        rng: Generator | None = None,
    ) -> None:
        super().__init__(vocabulary, size, padding_idx=padding_idx, init=init, rng=rng)
        self.reduction: Any = _WORDS.get(reduction, reduction) if callable(reduction) else reduction
        if self.reduction not in ("mean", "sum", "max") and not callable(self.reduction):
            raise ValueError(f'EmbeddingBag takes the reduction "mean", "sum", "max" or a function, got {reduction!r}')
        if padding_idx is not None and callable(self.reduction):
            raise ValueError('EmbeddingBag takes a padding_idx with the reductions "mean", "sum" and "max" only')

    def __call__(self, indices: Any, offsets: Any = None, *, weights: Any = None) -> Array:
        if isinstance(indices, tuple):
            return self(*indices, weights=weights)
        if weights is not None and self.reduction != "sum":
            raise ValueError(f'{self.typed()} has no use for weights; they go with the reduction "sum"')
        if offsets is None and _is_list_of_bags(indices):
            offsets = np.cumsum([0, *map(len, indices)])[:-1]
            weights = None if weights is None else _joined(self._like_bags(weights, indices))
            indices = _joined(indices)
        indices = indices if hasattr(indices, "dtype") else np.asarray(indices)
        rows = self._weighted(super().__call__(indices), weights)
        if rows.ndim < 2:
            raise SizeError(f"{self.typed()} expects bags of indices, got a single one; Embedding takes those", self)
        kept = jnp.ones_like(rows[..., :1]) if self.padding_idx is None else self._kept(indices, rows)
        if offsets is None:
            return self._reduce_axis(rows, kept)
        return self._reduce_parts(rows, kept, self._checked_offsets(offsets, rows))

    def _weighted(self, rows: Array, weights: Any) -> Array:
        if weights is None:
            return rows
        weights = jnp.asarray(weights)
        if weights.shape != rows.shape[:-1]:
            wanted = f"{self.typed()} expects a weight for each index, of shape {rows.shape[:-1]}"
            raise SizeError(f"{wanted}, got an array of shape {weights.shape}", self)
        return rows * weights[..., None].astype(rows.dtype)

    def _like_bags(self, weights: Any, bags: list[Any]) -> list[Any]:
        counts = [len(bag) for bag in bags]
        if not isinstance(weights, list) or [np.size(bag) for bag in weights] != counts:
            got = [np.size(bag) for bag in weights] if isinstance(weights, list) else f"shape {shape_of(weights)}"
            raise SizeError(f"{self.typed()} expects a list of weights for bags of {counts} indices, got {got}", self)
        return weights

    def _kept(self, indices: Any, rows: Array) -> Array:
        """1 for what is in a bag and 0 for padding."""
        padding = indices[..., self.padding_idx] if indices.dtype == bool else indices == self.padding_idx
        return jnp.where(padding, 0, 1).astype(rows.dtype)[..., None]

    def _reduce_axis(self, rows: Array, kept: Array) -> Array:
        if callable(self.reduction):
            return self.reduction(rows, axis=-2) if rows.shape[-2] else jnp.zeros((*rows.shape[:-2], rows.shape[-1]))
        return self._combine(rows, kept, functools.partial(jnp.sum, axis=-2), lambda x: x.max(-2, initial=-jnp.inf))

    def _reduce_parts(self, rows: Array, kept: Array, offsets: Any) -> Array:
        """Reduces the parts of the first axis that start at the offsets."""
        if callable(self.reduction):
            return self._reduce_each(rows, offsets)
        bags = jnp.searchsorted(jnp.asarray(offsets), jnp.arange(len(rows)), side="right") - 1
        total = functools.partial(scatter, "add", idx=bags, size=len(offsets))

        def largest(x: Array) -> Array:
            """The maximum of each bag, whose gradient is shared by all entries that equal it, as that of `jnp.max`."""
            equal = x == jax.lax.stop_gradient(scatter("max", x, bags, size=len(offsets)))[bags]
            return total(jnp.where(equal, x, 0)) / jnp.maximum(total(equal.astype(x.dtype)), 1)

        return self._combine(rows, kept, total, largest)

    def _reduce_each(self, rows: Array, offsets: Any) -> Array:
        if not is_concrete(offsets):
            wanted = f'{self.typed()} takes offsets in compiled code with the reductions "mean", "sum" and "max" only'
            raise TypeError(f"{wanted}; a list of bags has lengths that are known")
        parts = [rows[start:end] for start, end in zip(offsets, [*offsets[1:], len(rows)], strict=True)]
        nothing = jnp.zeros(rows.shape[1:], rows.dtype)
        return jnp.stack([self.reduction(part, axis=0) if len(part) else nothing for part in parts])

    def _combine(self, rows: Array, kept: Array, total: Callable[..., Any], largest: Callable[..., Any]) -> Array:
        dtype, rows = rows.dtype, at_least_float32(rows)
        count = total(kept.astype(rows.dtype))
        if self.reduction == "max":
            return jnp.where(count > 0, largest(jnp.where(kept > 0, rows, -jnp.inf)), 0).astype(dtype)
        summed = total(rows)
        return (summed if self.reduction == "sum" else summed / jnp.maximum(count, 1)).astype(dtype)

    def _checked_offsets(self, offsets: Any, rows: Array) -> Any:
        offsets = integer_array("EmbeddingBag", offsets, self, "offsets")
        wanted = f"{self.typed()} expects integers as offsets"
        if offsets.ndim != 1 or rows.ndim != 2:
            got = f"got an array of indices of shape {rows.shape[:-1]} and of offsets of shape {offsets.shape}"
            raise SizeError(f"{wanted}, one for each bag, and all indices along one axis, {got}", self)
        if is_concrete(offsets) and len(rows) + offsets.size > 0:
            known = np.asarray(offsets)
            if not known.size or known[0] != 0 or (np.diff(known) < 0).any() or known[-1] > len(rows):
                rule = f"that start with 0, do not decrease, and are at most {len(rows)}, the number of indices"
                raise ValueError(f"{wanted} {rule}, got {known.tolist()}")
        return offsets

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, keywords = super().arguments()
        return [*positional, *([] if self.reduction == "mean" else [self.reduction])], keywords


def _is_list_of_bags(indices: Any) -> bool:
    """True for a list of bags that may differ in length; bags of one length are an array."""
    if not isinstance(indices, list) or not all(isinstance(bag, list) or np.ndim(bag) for bag in indices):
        return False
    return any(hasattr(bag, "dtype") for bag in indices) or len(set(map(len, indices))) > 1


def _joined(bags: list[Any]) -> Any:
    if all(isinstance(bag, OneHotArray) for bag in bags):
        return OneHotArray(jnp.concatenate([jnp.asarray(bag.indices) for bag in bags]), bags[0].count)
    parts = [bag if len(bag) else np.zeros(0, int) for bag in bags]  # NumPy's empty list holds floats
    if is_concrete(*bags):
        return np.concatenate([np.asarray(part) for part in parts])
    return jnp.concatenate([jnp.asarray(part) for part in parts])

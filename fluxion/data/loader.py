"""Batches of any data, in order or shuffled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from fluxion.data.observations import getobs, is_array, like_tuple, numobs
from fluxion.onehot import OneHotArray
from fluxion.random import Generator, generator


class DataLoader:
    """Iterates over `data` in batches of `batch_size` observations (Flux: MLUtils `DataLoader`).

    data        an array (one observation per entry of the first axis), a tuple or a dict of them, or anything with a
                length and `[i]`, whose items are collated: arrays and numbers are stacked, tuples and dicts are
                collated field by field, strings stay a list
    batch_size  observations in a batch
    shuffle     a new order each time the loader is iterated
    partial     whether a last batch of fewer observations is given or left out
    rng         a `fluxion.random.Generator` for the order; the default one where it is None

    A batch has the structure of the data: a tuple of arrays gives tuples of NumPy arrays. Arrays are indexed once per
    batch; without shuffling a batch is a view. `len` is the number of batches. After `fx.seed(0)` the same orders
    come again. Iterations that run at the same time do not disturb each other.

    Raises ValueError for parts of unequal length, no observations, or a batch size below 1, and TypeError for data
    that cannot be indexed.

    >>> loader = DataLoader((np.arange(10).reshape(5, 2), np.arange(5)), batch_size=2)
    >>> len(loader)
    3
    >>> [y.tolist() for x, y in loader]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        data: Any,
        batch_size: int = 128,
        *,
        shuffle: bool = False,
        partial: bool = True,
        rng: Generator | None = None,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)):
            raise TypeError(f"batch_size is a whole number, got {batch_size!r} of type {type(batch_size).__name__}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if rng is not None:
            generator(rng)
        self.data = _on_host(data)
        self.count = numobs(self.data)
        self.batch_size = int(batch_size)
        self.shuffle = shuffle
        self.partial = partial
        self.rng = rng
        if self.count == 0:
            raise ValueError("the data holds no observations")
        if len(self) == 0:
            raise ValueError(
                f"partial=False with {self.count} observations and batch_size={batch_size} leaves no batch at all; "
                f"use a batch_size of at most {self.count}"
            )

    def __len__(self) -> int:
        full, rest = divmod(self.count, self.batch_size)
        return full + (1 if rest and self.partial else 0)

    def __iter__(self) -> Iterator[Any]:
        # the order is drawn here, not at the first batch, so that it depends only on when the iteration was asked for
        return self._batches(shuffled(self.count, self.rng) if self.shuffle else None)

    def _batches(self, order: np.ndarray | None) -> Iterator[Any]:
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            batch = slice(start, min(start + self.batch_size, self.count))
            yield getobs(self.data, batch if order is None else order[batch])

    def __repr__(self) -> str:
        options = f", batch_size={self.batch_size}"
        options += ", shuffle=True" if self.shuffle else ""
        options += "" if self.partial else ", partial=False"
        return f"DataLoader({type(self.data).__name__} of {self.count:_} observations{options})"


def shuffled(count: int, rng: Generator | None) -> np.ndarray:
    """The numbers 0 to count - 1 in random order: one draw from the generator seeds NumPy's, which is faster here."""
    seed = np.asarray(jax.random.key_data(generator(rng).next_key())).tolist()
    return np.random.default_rng(seed).permutation(count)


def _on_host(data: Any) -> Any:
    """`data` with the arrays of its tuples and dicts as NumPy arrays."""
    if isinstance(data, Mapping):
        return {key: _on_host(value) for key, value in data.items()}
    if isinstance(data, tuple):
        return like_tuple(data, [_on_host(value) for value in data])
    if isinstance(data, OneHotArray):
        return OneHotArray(np.asarray(data.indices), data.count)
    return np.asarray(data) if is_array(data) else data

"""Batches of any data, in order or shuffled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fluxion.data.checks import whole_number
from fluxion.data.draws import shuffled
from fluxion.data.observations import getobs, is_array, numobs, over_parts, positions
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
    collate     makes a batch of a list of single observations, as `fx.data.pad_sequences` does of arrays of unequal
                length; `list` leaves them as they are
    rng         a `fluxion.random.Generator` for the order; the default one where it is None

    A batch has the structure of the data: a tuple of arrays gives tuples of NumPy arrays. Arrays are indexed once per
    batch; without shuffling a batch is a view. `len` is the number of batches. After `fx.seed(0)` the same orders
    come again. Iterations that run at the same time do not disturb each other.

    Raises ValueError for parts of unequal length, no observations, or a batch size below 1, and TypeError for data
    that cannot be indexed or options of another type.

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
        collate: Callable[[list[Any]], Any] | None = None,
        rng: Generator | None = None,
    ) -> None:
        self.batch_size = whole_number("batch_size", batch_size, least=1)
        if collate is not None and not callable(collate):
            raise TypeError(f"collate takes a function of a list of observations, got {collate!r}")
        if rng is not None:
            generator(rng)
        self.data = _on_host(data)
        self.count = numobs(self.data)
        self.shuffle = shuffle
        self.partial = partial
        self.collate = collate
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
            yield self._batch(batch if order is None else order[batch])

    def _batch(self, index: slice | np.ndarray) -> Any:
        if self.collate is None:
            return getobs(self.data, index)
        return self.collate([getobs(self.data, i) for i in positions("DataLoader", index, self.count).tolist()])

    def __repr__(self) -> str:
        options = f", batch_size={self.batch_size}"
        options += ", shuffle=True" if self.shuffle else ""
        options += "" if self.partial else ", partial=False"
        return f"DataLoader({type(self.data).__name__} of {self.count:_} observations{options})"


def _on_host(data: Any) -> Any:
    """`data` with the arrays of its tuples and dicts as NumPy arrays."""
    return over_parts(_part_on_host, data)


def _part_on_host(part: Any) -> Any:
    if isinstance(part, OneHotArray):
        return OneHotArray(np.asarray(part.indices), part.count)
    return np.asarray(part) if is_array(part) else part

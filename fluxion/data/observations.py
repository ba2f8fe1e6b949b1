"""Observations of any data: how many there are, and the ones at given places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def numobs(data: Any) -> int:
    """The number of observations in `data` (MLUtils: `numobs`).

    Arrays hold one observation per entry of their first axis. Tuples and dicts hold observations field by field, so
    all their fields must agree. Anything else needs a length and `[i]`.

    Raises ValueError where fields disagree or there are none, TypeError where `data` cannot be indexed.

    >>> numobs(np.zeros((7, 3)))
    7
    >>> numobs((np.zeros((7, 3)), ["a"] * 7))
    7
    """
    counts = _counts(data, "data")
    first_place, first = next(iter(counts.items()))
    for place, count in counts.items():
        if count != first:
            raise ValueError(
                f"every part of the data needs the same number of observations (first axis): "
                f"{first_place} has {first}, {place} has {count}"
            )
    return first


def getobs(data: Any, index: Any) -> Any:
    """The observations of `data` at `index`, an integer, a slice or an array of integers (MLUtils: `getobs`).

    Arrays are indexed once along their first axis. A container that is neither array, tuple nor dict gives its items
    one by one; for a slice or an array of integers these are stacked by `collate`.

    >>> x, y = getobs((np.arange(6).reshape(3, 2), ["a", "b", "c"]), slice(1, 3))
    >>> x.tolist(), y
    ([[2, 3], [4, 5]], ['b', 'c'])
    """
    if isinstance(data, Mapping):
        return {key: getobs(value, index) for key, value in data.items()}
    if isinstance(data, tuple):
        return like_tuple(data, [getobs(value, index) for value in data])
    if is_array(data) or isinstance(data, Subset):
        return data[index]
    if isinstance(index, (int, np.integer)):
        return data[int(index)]
    places = range(len(data))[index] if isinstance(index, slice) else np.asarray(index).tolist()
    return collate([data[i] for i in places])


class Subset:
    """The observations of `data` at `index`, without a copy: what `splitobs` gives of a container of items.

    >>> part = Subset(["a", "b", "c"], np.array([2, 0]))
    >>> len(part), part[0]
    (2, 'c')
    """

    def __init__(self, data: Any, index: np.ndarray) -> None:
        self.data = data
        self.index = index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, place: Any) -> Any:
        return getobs(self.data, self.index[place])

    def __repr__(self) -> str:
        return f"Subset of {len(self):_} out of {len(self.data):_} observations of a {type(self.data).__name__}"


def collate(items: Sequence[Any]) -> Any:
    """One batch out of single observations (MLUtils: `batch`).

    Arrays, numbers and lists of numbers are stacked along a new first axis; tuples and dicts are collated field by
    field; whatever else there is, strings for example, stays a list. Python floats become float32.

    Raises ValueError where arrays of different shapes would have to be stacked.

    >>> x, label = collate([(np.zeros(3), "zero"), (np.ones(3), "one")])
    >>> x.shape, label
    ((2, 3), ['zero', 'one'])
    """
    if not len(items):
        raise ValueError("cannot collate a batch of no observations")
    first = items[0]
    if isinstance(first, Mapping):
        _same_fields(items, [tuple(item) for item in items])
        return {key: collate([item[key] for item in items]) for key in first}
    if isinstance(first, tuple):
        _same_fields(items, [len(item) for item in items])
        return like_tuple(first, [collate([item[i] for item in items]) for i in range(len(first))])
    if not (is_array(first) or isinstance(first, (bool, int, float, complex, list))):
        return list(items)
    return _stack(items)


def is_array(x: Any) -> bool:
    """True for NumPy arrays and scalars, JAX arrays and whatever else is indexed as they are."""
    return hasattr(x, "shape") and hasattr(x, "dtype")


def like_tuple(original: tuple[Any, ...], fields: list[Any]) -> Any:
    """`fields` as a tuple, or as a named tuple where `original` is one."""
    return type(original)(*fields) if hasattr(original, "_fields") else tuple(fields)


def _counts(data: Any, place: str) -> dict[str, int]:
    """The number of observations of each part of nested tuples and dicts, by the place of the part."""
    if isinstance(data, (tuple, Mapping)):
        fields = data.items() if isinstance(data, Mapping) else enumerate(data)
        counts = {}
        for key, value in fields:
            counts.update(_counts(value, f"{place}[{key!r}]"))
        if not counts:
            raise ValueError(f"{place} is an empty {type(data).__name__}: there is nothing to take observations from")
        return counts
    if is_array(data):
        if not data.shape:
            raise TypeError(f"{place} is a single number (an array of shape ()): it has no axis of observations")
        return {place: int(data.shape[0])}
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise TypeError(
            f"{place} needs a length and [i] to take observations from, got {type(data).__name__}; "
            f"an iterator can be turned into a list first, and an iterable of ready batches needs no DataLoader"
        )
    return {place: len(data)}


def _same_fields(items: Sequence[Any], fields: list[Any]) -> None:
    for i, found in enumerate(fields):
        if found != fields[0] or type(items[i]) is not type(items[0]):
            raise ValueError(f"observations 0 and {i} of a batch have different fields: {items[0]!r} and {items[i]!r}")


def _stack(items: Sequence[Any]) -> np.ndarray:
    try:
        arrays = [np.asarray(item) for item in items]
    except ValueError as error:
        raise ValueError(f"an observation is a list that is not one array of numbers: {error}") from None
    for i, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"observations 0 and {i} of a batch have different shapes, {arrays[0].shape} and {array.shape}; "
                f"pad or cut them to one shape to make a batch of them"
            )
    stacked = np.stack(arrays)
    python_numbers = isinstance(items[0], (float, list)) and stacked.dtype == np.float64
    return stacked.astype(np.float32) if python_numbers and not isinstance(items[0], np.generic) else stacked

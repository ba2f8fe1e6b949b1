"""Observations of any data: how many there are, and the ones at given places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fluxion.data.buffers import aligned_empty
from fluxion.data.rows import by_position, rows_reader
from fluxion.onehot import OneHotArray
from fluxion.ops.indexing import check_indices


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


def getobs(data: Any, index: Any = slice(None)) -> Any:
    """The observations of `data` at `index`, an integer, a slice, integers or a mask of booleans (MLUtils: `getobs`).

    Arrays are indexed once along their first axis. A container that is neither array, tuple nor dict gives its items
    one by one; for anything but an integer these are stacked by `collate`. Without an index it is all observations.
    Of a frame of pandas or Polars, a table of PyArrow or a data set of Hugging Face an observation is a row, as a dict;
    several are a dict of columns, taken at once. Data sets with `__getitems__` (PyTorch) give several items at once.
    An index out of range is an IndexError; negative ones count from the end.

    >>> x, y = getobs((np.arange(6).reshape(3, 2), ["a", "b", "c"]), slice(1, 3))
    >>> x.tolist(), y
    ([[2, 3], [4, 5]], ['b', 'c'])
    """
    return over_parts(lambda part: _observations_of(part, index), data)


def _observations_of(part: Any, index: Any) -> Any:
    if isinstance(part, Observations) or (is_array(part) and isinstance(index, slice)):
        return by_position(part)[index]
    if type(index) is int and isinstance(part, np.ndarray):
        return part[index]  # NumPy itself checks it, in a tenth of the time
    places = positions("getobs", index, len(part))  # JAX would take the nearest entry where there is none
    if reader := rows_reader(part):
        columns = {name: _collated(column) for name, column in reader(part, np.atleast_1d(places)).items()}
        return columns if places.ndim else over_parts(lambda column: column[0], columns)
    if places.ndim == 0:
        return by_position(part)[int(places)]
    if is_array(part):
        return by_position(part)[places]
    if hasattr(part, "__getitems__"):
        return collate(part.__getitems__(places.tolist()))
    return collate([part[i] for i in places.tolist()])


def _collated(column: Any) -> Any:
    return collate(column) if isinstance(column, list) and column else column


class Observations:
    """Base of containers that make an observation when it is asked for: `len`, iteration and `[i]`.

    `[i]` with an integer is one observation; with a slice, integers or a mask of booleans it is a batch of them.
    `made_by` is the function that makes such a container, as errors name it.
    """

    made_by: ClassVar[str]

    def __len__(self) -> int:
        raise NotImplementedError

    def one(self, i: int) -> Any:
        """Observation `i`, from 0 to the length less one."""
        raise NotImplementedError

    def many(self, indices: np.ndarray) -> Any:
        """The observations at `indices` as one batch."""
        return collate([self.one(i) for i in indices.tolist()])

    @property
    def batched(self) -> bool:
        """Whether `many` is one call, faster than one for each observation; else threads of a loader call `one`."""
        return False

    @property
    def in_memory(self) -> bool:
        """Whether a batch is there at once, so that threads of a loader would gain nothing."""
        return self.batched

    def source(self, i: int) -> str | None:
        """The file that observation `i` comes from, None where it is from none: errors name it."""
        return None

    def __getitem__(self, index: Any) -> Any:
        places = positions(self.made_by, index, len(self))
        return self.one(int(places)) if places.ndim == 0 else self.many(places)

    def __iter__(self) -> Iterator[Any]:
        return (self.one(i) for i in range(len(self)))


def positions(name: str, index: Any, count: int) -> np.ndarray:
    """The positions, from 0 to `count - 1`, that an integer, a slice, integers or a mask of booleans name.

    >>> positions("getobs", [-1, 0], 3).tolist(), positions("getobs", [True, False, True], 3).tolist()
    ([2, 0], [0, 2])
    """
    if type(index) is int and 0 <= index < count:
        return np.array(index)  # what threads ask for again and again; the checks below take twenty times as long
    if isinstance(index, slice):
        return np.arange(*index.indices(count))
    indices = np.asarray(index)
    if indices.dtype == bool and indices.shape == (count,):
        return np.flatnonzero(indices)
    indices = indices if indices.size else indices.astype(int)  # NumPy's empty list holds floats
    if not np.issubdtype(indices.dtype, np.integer) or indices.ndim > 1:
        raise TypeError(
            f"{name} takes an integer, a slice, integers or {count} booleans as its index, "
            f"got an array of shape {indices.shape} of {indices.dtype}"
        )
    indices = np.where((indices < 0) & (indices >= -count), indices + count, indices)
    check_indices(name, indices, count)
    return indices


def collate(items: Iterable[Any]) -> Any:
    """One batch out of single observations (MLUtils: `batch`).

    Arrays, numbers and lists of numbers are stacked along a new first axis, as an array of NumPy; tuples and dicts are
    collated field by field; whatever else there is, strings for example, stays a list. Python floats become float32,
    one-hot arrays stay one-hot.

    Raises ValueError where arrays of different shapes would have to be stacked.

    >>> x, label = collate([(np.zeros(3), "zero"), (np.ones(3), "one")])
    >>> x.shape, label
    ((2, 3), ['zero', 'one'])
    """
    items = list(items)
    if not items:
        raise ValueError("cannot collate a batch of no observations")
    first = items[0]
    if isinstance(first, Mapping):
        _same_fields(items, [item.keys() if isinstance(item, Mapping) else None for item in items])
        return {key: collate([item[key] for item in items]) for key in first}
    if isinstance(first, tuple):
        _same_fields(items, [len(item) if isinstance(item, tuple) else None for item in items])
        return like_tuple(first, [collate([item[i] for item in items]) for i in range(len(first))])
    if isinstance(first, OneHotArray):
        _same_fields(items, [getattr(item, "count", None) for item in items])
        return OneHotArray(_stack([item.indices for item in items]), first.count)
    if not all(is_array(item) or isinstance(item, (bool, int, float, complex, list)) for item in items):
        return items
    return _stack(items)


batch = collate  # its name in MLUtils


def unbatch(data: Any) -> list[Any]:
    """The single observations of a batch, the opposite of `collate` (MLUtils: `unbatch`).

    >>> unbatch((np.array([1, 2]), ["a", "b"]))
    [(np.int64(1), 'a'), (np.int64(2), 'b')]
    """
    return list(eachobs(data))


def eachobs(data: Any) -> Iterator[Any]:
    """One observation of `data` after the other (MLUtils: `eachobs`); `DataLoader` gives batches.

    >>> [x.sum().item() for x in eachobs(np.ones((2, 3)))]
    [3.0, 3.0]
    """
    count = numobs(data)
    return (getobs(data, i) for i in range(count))


def over_parts(function: Callable[[Any], Any], data: Any) -> Any:
    """`data` with `function` of each part of its nested tuples and dicts in place of the part."""
    if isinstance(data, Mapping):
        return {key: over_parts(function, value) for key, value in data.items()}
    if isinstance(data, tuple):
        return like_tuple(data, [over_parts(function, value) for value in data])
    return function(data)


def parts_of(data: Any) -> list[Any]:
    """The parts of nested tuples and dicts."""
    found: list[Any] = []
    over_parts(found.append, data)
    return found


def is_batched(data: Any) -> bool:
    """Whether a batch of `data` is best read by one call: of arrays, tables, and what is in memory as a list."""
    return all(part.batched if isinstance(part, Observations) else _in_memory(part) for part in parts_of(data))


def is_in_memory(data: Any) -> bool:
    """Whether a batch of `data` is there at once."""
    return all(part.in_memory if isinstance(part, Observations) else _in_memory(part) for part in parts_of(data))


def _in_memory(part: Any) -> bool:
    return is_array(part) or isinstance(part, (list, range, str)) or rows_reader(part) is not None


def source_of(data: Any, i: int) -> str | None:
    """The file that observation `i` comes from, where a part of the data knows it."""
    found = (part.source(i) for part in parts_of(data) if isinstance(part, Observations))
    return next((source for source in found if source), None)


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


def _stack(items: Sequence[Any]) -> Any:
    """One array of arrays, numbers and lists of numbers; lists of anything else stay as they are."""
    try:
        arrays = [np.asarray(item) for item in items]
    except ValueError as error:
        raise ValueError(f"an observation is a list that is not one array of numbers: {error}") from None
    python = [not is_array(item) for item in items]
    if any(found and array.dtype.kind not in "biufc" for found, array in zip(python, arrays, strict=True)):
        return items
    for i, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"observations 0 and {i} of a batch have different shapes, {arrays[0].shape} and {array.shape}; "
                f"pad or cut them to one shape to make a batch of them"
            )
    dtype = np.result_type(*arrays)
    dtype = np.dtype(np.float32) if all(python) and dtype == np.float64 else dtype
    if dtype.hasobject:
        return np.stack(arrays)
    return np.stack(arrays, out=aligned_empty((len(arrays), *arrays[0].shape), dtype), casting="unsafe")

"""Data made of other data, lazily: parts of it, its observations changed, several of them joined, windows over it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from fluxion.data.checks import whole_number
from fluxion.data.draws import host_rng, shuffled
from fluxion.data.observations import (
    Observations,
    getobs,
    is_array,
    is_batched,
    is_in_memory,
    numobs,
    over_parts,
    positions,
    source_of,
)
from fluxion.data.rows import by_position
from fluxion.onehot import hashable
from fluxion.random import Generator


class ObsView(Observations):
    """The observations of `data` at `indices`, without a copy (MLUtils: `ObsView`).

    `indices` are a slice, integers or a mask of booleans; IndexError where they are out of range. A view of a view
    refers to the data itself.

    >>> part = ObsView(["a", "b", "c"], [2, 0])
    >>> len(part), part[0], ObsView(part, [1])[:]
    (2, 'c', ['a'])
    """

    made_by = "ObsView"

    def __init__(self, data: Any, indices: Any) -> None:
        places = np.atleast_1d(positions("ObsView", indices, numobs(data)))
        flat = isinstance(data, ObsView)
        self.data = data.data if flat else data
        self.indices = data.indices[places] if flat else places

    def __len__(self) -> int:
        return len(self.indices)

    def one(self, i: int) -> Any:
        return getobs(self.data, int(self.indices[i]))

    def many(self, indices: np.ndarray) -> Any:
        return getobs(self.data, self.indices[indices])

    @property
    def batched(self) -> bool:
        return is_batched(self.data)

    @property
    def in_memory(self) -> bool:
        return is_in_memory(self.data)

    def source(self, i: int) -> str | None:
        return source_of(self.data, int(self.indices[i]))

    def __repr__(self) -> str:
        return f"ObsView of {len(self):_} out of {numobs(self.data):_} observations of a {type(self.data).__name__}"


def obsview(data: Any, indices: Any) -> Any:
    """The part of `data` at `indices`: a slice, integers or a mask of booleans (MLUtils: `obsview`).

    It has the structure of `data`. Arrays stay arrays: views for a slice, copies otherwise (`ObsView` never copies).
    Other containers become an `ObsView`. IndexError for indices out of range, ValueError for parts of unequal length.

    >>> x, names = obsview((np.arange(4), ["a", "b", "c", "d"]), [3, 1])
    >>> x.tolist(), len(names), names[0]
    ([3, 1], 2, 'd')
    """
    count = numobs(data)
    places = indices if isinstance(indices, slice) else np.atleast_1d(positions("obsview", indices, count))
    return over_parts(lambda part: by_position(part)[places] if is_array(part) else ObsView(part, places), data)


class MappedObs(Observations):
    """What `mapobs` gives."""

    made_by = "mapobs"

    def __init__(self, function: Callable[[Any], Any], data: Any, batched: bool) -> None:
        if not callable(function):
            raise TypeError(f"mapobs takes a function of an observation first, got {function!r}")
        self.function = function
        self.data = data
        self.takes_batches = batched
        self.count = numobs(data)

    def __len__(self) -> int:
        return self.count

    def one(self, i: int) -> Any:
        return getobs(self.many(np.array([i])), 0) if self.takes_batches else self.function(getobs(self.data, i))

    def many(self, indices: np.ndarray) -> Any:
        return self.function(getobs(self.data, indices)) if self.takes_batches else super().many(indices)

    @property
    def batched(self) -> bool:
        return self.takes_batches

    @property
    def in_memory(self) -> bool:
        return self.takes_batches and is_in_memory(self.data)

    def source(self, i: int) -> str | None:
        return source_of(self.data, i)

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", repr(self.function))
        return f"mapobs of {name} over {self.count:_} observations of a {type(self.data).__name__}"


def mapobs(function: Callable[[Any], Any], data: Any, *, batched: bool = False) -> MappedObs:
    """`data` with `function` of each observation in its place, computed whenever it is asked for (MLUtils: `mapobs`).

    `function` takes one observation, a tuple or a dict where `data` is one; with `batched=True` it takes and gives
    whole batches, which is faster where it works on arrays. To change batches of a loader, load the mapped data.

    >>> halves = mapobs(lambda pair: (pair[0] / 2, pair[1]), (np.arange(4), ["a", "b", "c", "d"]))
    >>> halves[3]
    (np.float64(1.5), 'd')
    """
    return MappedObs(function, data, batched)


def filterobs(function: Callable[[Any], Any], data: Any) -> Any:
    """The part of `data` whose observations make `function` true; it is called once for each (MLUtils: `filterobs`).

    >>> filterobs(lambda x: x > 1, np.arange(4)).tolist()
    [2, 3]
    """
    return obsview(data, [i for i in range(numobs(data)) if function(getobs(data, i))])


def groupobs(function: Callable[[Any], Hashable], data: Any) -> dict[Any, Any]:
    """The parts of `data` with the same value of `function`, by that value, in order of appearance (MLUtils).

    >>> {key: part.tolist() for key, part in groupobs(lambda x: int(x) % 2, np.arange(5)).items()}
    {0: [0, 2, 4], 1: [1, 3]}
    """
    groups: dict[Any, list[int]] = {}
    for i in range(numobs(data)):
        groups.setdefault(hashable(function(getobs(data, i))), []).append(i)
    return {key: obsview(data, indices) for key, indices in groups.items()}


class JoinedObs(Observations):
    """What `joinobs` gives."""

    made_by = "joinobs"

    def __init__(self, parts: tuple[Any, ...]) -> None:
        if not parts:
            raise ValueError("joinobs takes at least one data set")
        self.parts = parts
        self.edges = np.cumsum([0, *(numobs(part) for part in parts)])

    def __len__(self) -> int:
        return int(self.edges[-1])

    def one(self, i: int) -> Any:
        return getobs(*self._place(i))

    def source(self, i: int) -> str | None:
        return source_of(*self._place(i))

    def _place(self, i: int) -> tuple[Any, int]:
        """The data set that holds observation `i`, and its number there."""
        part = int(np.searchsorted(self.edges, i, side="right")) - 1
        return self.parts[part], i - int(self.edges[part])

    def __repr__(self) -> str:
        return f"joinobs of {len(self):_} observations of {len(self.parts)} data sets"


def joinobs(*parts: Any) -> JoinedObs:
    """The observations of several data sets, one set after the other, without a copy (MLUtils: `joinobs`).

    >>> joinobs([1, 2], np.array([3]), range(4, 6))[:].tolist()
    [1, 2, 3, 4, 5]
    """
    return JoinedObs(parts)


class Windows(Observations):
    """What `slidingwindow` gives."""

    made_by = "slidingwindow"

    def __init__(self, data: Any, size: int, stride: int) -> None:
        count = whole_number("the number of observations", numobs(data), 1)
        self.data = data
        self.size = whole_number("size", size, 1, count)
        self.stride = whole_number("stride", stride, 1)
        self.count = (count - self.size) // self.stride + 1

    def __len__(self) -> int:
        return self.count

    def one(self, i: int) -> Any:
        start = i * self.stride
        return getobs(self.data, slice(start, start + self.size))

    def __repr__(self) -> str:
        return f"slidingwindow of {self.count:_} windows of {self.size} observations of a {type(self.data).__name__}"


def slidingwindow(data: Any, size: int, stride: int = 1) -> Windows:
    """Every `size` consecutive observations, starting `stride` apart, as one observation (MLUtils: `slidingwindow`).

    A last window of fewer observations is left out. Of arrays, one window is a view. Raises ValueError for a size
    that is not from 1 to the number of observations, or a stride below 1.

    >>> windows = slidingwindow(np.arange(10), size=4, stride=3)
    >>> [window.tolist() for window in windows]
    [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    >>> windows[:2].shape
    (2, 4)
    """
    return Windows(data, size, stride)


def shuffleobs(data: Any, *, rng: Generator | None = None) -> Any:
    """`data` with its observations in random order, drawn from `rng` (MLUtils: `shuffleobs`); see `obsview`.

    >>> x, y = shuffleobs((np.arange(9), np.arange(9)))
    >>> bool((x == y).all()), sorted(x.tolist()) == list(range(9))
    (True, True)
    """
    return obsview(data, shuffled(numobs(data), rng))


def randobs(data: Any, n: int | None = None, *, rng: Generator | None = None) -> Any:
    """One random observation, or a batch of `n` of them, which may repeat (MLUtils: `randobs`).

    >>> int(randobs(np.array([7, 7])))
    7
    >>> randobs(np.zeros((2, 3)), 5).shape
    (5, 3)
    """
    count = whole_number("the number of observations", numobs(data), 1)
    size = None if n is None else whole_number("n", n, 1)
    return getobs(data, host_rng(rng).integers(count, size=size))

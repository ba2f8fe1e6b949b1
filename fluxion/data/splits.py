"""Parts of a data set: training, validation, test."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from fluxion.data.loader import shuffled
from fluxion.data.observations import Subset, is_array, like_tuple, numobs
from fluxion.random import Generator


def splitobs(
    data: Any, at: float | int | tuple[float | int, ...] = 0.8, *, shuffle: bool = False, rng: Generator | None = None
) -> tuple[Any, ...]:
    """Splits `data` into parts of consecutive observations (MLUtils: `splitobs`).

    at       the size of the first part: a fraction from 0.0 to 1.0 (a float) or a number of observations (an int). A
             tuple gives the sizes of several parts; what remains is the last one.
    shuffle  puts the observations into random order first, drawn from `rng`

    Every part has the structure of `data`. Arrays in order are views; other containers become lazy subsets.

    Raises ValueError for sizes that do not fit into the data, TypeError for data that cannot be indexed.

    >>> train, test = splitobs(np.arange(10), 0.7)
    >>> train.tolist(), test.tolist()
    ([0, 1, 2, 3, 4, 5, 6], [7, 8, 9])
    >>> [len(part) for part in splitobs(list("abcdefghij"), (0.5, 2))]
    [5, 2, 3]
    """
    count = numobs(data)
    sizes = [_size(size, count) for size in (at if isinstance(at, tuple) else (at,))]
    if sum(sizes) > count:
        raise ValueError(f"at={at!r} asks for {sum(sizes)} observations, but there are only {count}")
    edges = [0, *np.cumsum(sizes).tolist(), count]
    order = shuffled(count, rng) if shuffle else None
    ranges = [slice(start, stop) for start, stop in pairwise(edges)]
    return tuple(_part(data, part if order is None else order[part], count) for part in ranges)


def _size(size: Any, count: int) -> int:
    if isinstance(size, (bool, np.bool_)) or not isinstance(size, (int, float, np.integer, np.floating)):
        raise TypeError(f"at= takes fractions (floats) and numbers of observations (ints), got {size!r}")
    if isinstance(size, (float, np.floating)):
        if not 0 <= size <= 1:
            raise ValueError(f"a fraction in at= lies between 0.0 and 1.0, got {size}; a count is an int, as in at=100")
        return round(float(size) * count)
    if not 0 <= size <= count:
        raise ValueError(f"a count in at= lies between 0 and the {count} observations there are, got {size}")
    return int(size)


def _part(data: Any, index: slice | np.ndarray, count: int) -> Any:
    if isinstance(data, Mapping):
        return {key: _part(value, index, count) for key, value in data.items()}
    if isinstance(data, tuple):
        return like_tuple(data, [_part(value, index, count) for value in data])
    if is_array(data):
        return data[index]
    return Subset(data, np.arange(count)[index])

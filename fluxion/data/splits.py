"""Parts of a data set: training, validation, test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fluxion.data.draws import host_rng, shuffled
from fluxion.data.groups import members
from fluxion.data.observations import numobs
from fluxion.data.views import obsview
from fluxion.random import Generator


def splitobs(
    data: Any,
    at: float | int | tuple[float | int, ...] = 0.8,
    *,
    shuffle: bool = False,
    stratified: Any = None,
    rng: Generator | None = None,
) -> tuple[Any, ...]:
    """Splits `data` into parts of consecutive observations (MLUtils: `splitobs`).

    at          the size of the first part: a fraction from 0.0 to 1.0 (a float) or a number of observations (an int).
                A tuple gives the sizes of several parts; what remains is the last one. Fractions that add up to 1
                leave nothing over.
    shuffle     puts the observations into random order first, drawn from `rng`
    stratified  one label for each observation: every part has each class in proportion, as far as its size allows

    Every part has the structure of `data`. Arrays in order are views; other containers become an `ObsView`.

    Raises ValueError for sizes that do not fit into the data, TypeError for data that cannot be indexed.

    >>> train, test = splitobs(np.arange(10), 0.7)
    >>> train.tolist(), test.tolist()
    ([0, 1, 2, 3, 4, 5, 6], [7, 8, 9])
    >>> [len(part) for part in splitobs(list("abcdefghij"), (0.5, 2))]
    [5, 2, 3]
    >>> splitobs(np.arange(6), 0.5, stratified="aaaabb")[0].tolist()
    [0, 1, 4]
    """
    count = numobs(data)
    sizes = _sizes(at if isinstance(at, tuple) else (at,), count)
    if sum(sizes) > count:
        raise ValueError(f"at={at!r} asks for {sum(sizes)} observations, but there are only {count}")
    sizes.append(count - sum(sizes))
    if stratified is not None:
        parts = _stratified(sizes, members("stratified", stratified, count), host_rng(rng) if shuffle else None)
        return tuple(obsview(data, part) for part in parts)
    ranges = [slice(start, stop) for start, stop in pairwise(np.cumsum([0, *sizes]).tolist())]
    order = shuffled(count, rng) if shuffle else None
    return tuple(obsview(data, part if order is None else order[part]) for part in ranges)


def _sizes(at: tuple[Any, ...], count: int) -> list[int]:
    """Numbers of observations; it is the sums of fractions that are rounded, so that they add up as these do."""
    sizes, total = [], 0.0
    for size in at:
        if _is_fraction(size, count):
            before, total = total, total + float(size)
            sizes.append(round(total * count) - round(before * count))
        else:
            sizes.append(int(size))
    return sizes


def _is_fraction(size: Any, count: int) -> bool:
    """Whether an entry of `at` is a fraction or a number of observations; an error if it is neither."""
    if isinstance(size, (bool, np.bool_)) or not isinstance(size, (int, float, np.integer, np.floating)):
        raise TypeError(f"at= takes fractions (floats) and numbers of observations (ints), got {size!r}")
    fraction = isinstance(size, (float, np.floating))
    if fraction and not 0 <= size <= 1:
        raise ValueError(f"a fraction in at= lies between 0.0 and 1.0, got {size}; a count is an int, as in at=100")
    if not fraction and not 0 <= size <= count:
        raise ValueError(f"a count in at= lies between 0 and the {count} observations there are, got {size}")
    return fraction


def _stratified(
    sizes: Sequence[int], groups: list[np.ndarray], draws: np.random.Generator | None
) -> Iterator[np.ndarray]:
    """Indices of parts of these sizes with each group in proportion, at random or from the front."""
    groups = [draws.permutation(group) if draws else group for group in groups]
    taken = np.zeros(len(groups), int)
    lengths = np.array([len(group) for group in groups], int)
    for size in sizes:
        shares = _shares(size, lengths - taken)
        pieces = [group[start : start + share] for group, start, share in zip(groups, taken, shares, strict=True)]
        part = np.concatenate([np.zeros(0, int), *pieces])
        yield draws.permutation(part) if draws else np.sort(part)
        taken = taken + shares


def _shares(size: int, left: np.ndarray) -> np.ndarray:
    """`size` shared out in proportion to what is `left` of each class; the largest remainders get one more."""
    shares, remainders = np.divmod(left * size, max(left.sum(), 1))
    shares[np.argsort(-remainders, kind="stable")[: size - shares.sum()]] += 1
    return shares

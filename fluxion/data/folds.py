"""Several splits of the same data into training and validation, for cross-validation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fluxion.data.checks import whole_number
from fluxion.data.draws import host_rng
from fluxion.data.groups import members
from fluxion.data.observations import numobs
from fluxion.data.views import obsview
from fluxion.random import Generator

Folds = Iterator[tuple[Any, Any]]


def kfolds(
    data: Any, k: int = 5, *, shuffle: bool = False, stratified: Any = None, rng: Generator | None = None
) -> Folds:
    """`k` pairs of training and validation data: each observation is validated in exactly one (MLUtils: `kfolds`).

    shuffle     puts observations into folds at random, drawn from `rng`; otherwise a fold is consecutive
    stratified  one label for each observation: folds differ by at most one observation of each class

    Folds differ by at most one observation in size. Each pair is made, see `obsview`, when it is its turn; of
    `np.arange(n)` it is the indices. Raises ValueError unless `k` is from 2 to the number of observations.

    >>> for train, validation in kfolds(np.arange(5), 2):
    ...     print(train, validation)
    [3 4] [0 1 2]
    [0 1 2] [3 4]
    """
    count = whole_number("the number of observations", numobs(data), 2)
    k = whole_number("k", k, 2, count)
    draws = host_rng(rng) if shuffle else None
    groups = [np.arange(count)] if stratified is None else members("stratified", stratified, count)
    order = np.concatenate([draws.permutation(group) if draws else group for group in groups])
    folds = np.array_split(order, k) if stratified is None else [order[fold::k] for fold in range(k)]
    return ((obsview(data, np.setdiff1d(order, fold)), obsview(data, np.sort(fold))) for fold in folds)


def leavepout(data: Any, p: int = 1) -> Folds:
    """`kfolds` with as many folds as leave `p`, or `p + 1`, observations out to validate (MLUtils: `leavepout`).

    Raises ValueError unless `p` is from 1 to half the number of observations.

    >>> [validation.tolist() for _, validation in leavepout(np.arange(5), 2)]
    [[0, 1, 2], [3, 4]]
    """
    count = whole_number("the number of observations", numobs(data), 2)
    return kfolds(data, count // whole_number("p", p, 1, count // 2))


def timeseries_kfolds(data: Any, k: int = 5, *, gap: int = 0, max_train_size: int | None = None) -> Folds:
    """`k` pairs of consecutive observations and the ones that come after them, for data in order of time (MLUtils).

    The validation parts are the last `k` of `k + 1` equal stretches; training ends `gap` observations before one of
    them, and starts at the beginning, or `max_train_size` observations before its end.
    Raises ValueError where that leaves a part without observations.

    >>> for train, validation in timeseries_kfolds(np.arange(9), 3):
    ...     print(train, validation)
    [0 1 2] [3 4]
    [0 1 2 3 4] [5 6]
    [0 1 2 3 4 5 6] [7 8]
    """
    count = whole_number("the number of observations", numobs(data), 3)
    k = whole_number("k", k, 2, count - 1)
    size = count // (k + 1)
    gap = whole_number("gap", gap, 0, count - k * size - 1)
    most = count if max_train_size is None else whole_number("max_train_size", max_train_size, 1)
    ends = [(start - gap, start) for start in range(count - k * size, count, size)]
    return (
        (obsview(data, slice(max(0, end - most), end)), obsview(data, slice(start, start + size)))
        for end, start in ends
    )

"""As many observations of each class."""

from __future__ import annotations

from typing import Any

import numpy as np

from fluxion.data.draws import host_rng
from fluxion.data.groups import members
from fluxion.data.observations import numobs
from fluxion.data.views import obsview
from fluxion.random import Generator


def oversample(
    data: Any, classes: Any = None, *, fraction: float = 1.0, shuffle: bool = True, rng: Generator | None = None
) -> Any:
    """Repeats observations until each class has `fraction` times as many as the largest one (MLUtils: `oversample`).

    `classes` holds one label for each observation, and the result is then the pair of `data` and `classes`. Without
    it `data` is a tuple whose last field are the labels. Within a class, no observation comes twice more often than
    another. With `shuffle=False` the repeated ones follow the others.

    >>> x, y = oversample(np.arange(4), ["a", "b", "b", "b"], shuffle=False)
    >>> x.tolist(), y[:]
    ([0, 1, 2, 3, 0, 0], ['a', 'b', 'b', 'b', 'a', 'a'])
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"oversample takes a fraction from 0.0 to 1.0, got {fraction!r}")
    data, groups = _data_and_classes("oversample", data, classes)
    draws = host_rng(rng)
    wanted = round(fraction * max(map(len, groups)))
    extra = [np.resize(draws.permutation(group), max(wanted - len(group), 0)) for group in groups]
    indices = np.concatenate([np.arange(numobs(data)), *extra])
    return obsview(data, draws.permutation(indices) if shuffle else indices)


def undersample(data: Any, classes: Any = None, *, shuffle: bool = True, rng: Generator | None = None) -> Any:
    """Leaves out random observations until each class has as many as the smallest one (MLUtils: `undersample`).

    `classes` as in `oversample`. With `shuffle=False` the observations stay in order.

    >>> x, y = undersample((np.arange(4), np.array([0, 1, 1, 1])))
    >>> sorted(y.tolist())
    [0, 1]
    """
    data, groups = _data_and_classes("undersample", data, classes)
    draws = host_rng(rng)
    smallest = min(map(len, groups))
    indices = np.concatenate([draws.permutation(group)[:smallest] for group in groups])
    return obsview(data, draws.permutation(indices) if shuffle else np.sort(indices))


def _data_and_classes(name: str, data: Any, classes: Any) -> tuple[Any, list[np.ndarray]]:
    if classes is not None:
        data = (data, classes)
    elif not isinstance(data, tuple):
        raise TypeError(f"{name} needs classes, or a tuple whose last field are the classes, got {type(data).__name__}")
    groups = members(name, data[-1], numobs(data))
    if not groups:
        raise ValueError(f"{name} needs observations, but the data holds none")
    return data, groups

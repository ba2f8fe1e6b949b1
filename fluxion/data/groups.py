"""Observations by their label."""

from __future__ import annotations

from typing import Any

import numpy as np

from fluxion.onehot import OneHotArray, hashable


def group_indices(labels: Any) -> dict[Any, np.ndarray]:
    """Where each label stands: label -> its positions, in order of appearance (MLUtils: `group_indices`).

    `labels` is an array or another iterable of hashable values, or one-hot, which counts as its integers. Labels that
    are NaN are one label.

    >>> group_indices(["yes", "no", "yes"])
    {'yes': array([0, 2]), 'no': array([1])}
    """
    found: dict[Any, list[int]] = {}
    for position, label in enumerate(_values(labels)):
        found.setdefault(hashable(label), []).append(position)
    return {label: np.asarray(places) for label, places in found.items()}


def group_counts(labels: Any) -> dict[Any, int]:
    """How often each label occurs (MLUtils: `group_counts`).

    >>> group_counts("abb")
    {'a': 1, 'b': 2}
    """
    return {label: len(places) for label, places in group_indices(labels).items()}


def members(name: str, labels: Any, count: int) -> list[np.ndarray]:
    """The positions of each class; ValueError unless there is one label for each of `count` observations."""
    if not hasattr(labels, "__iter__"):
        raise TypeError(f"{name} takes one label for each of the {count} observations, got {labels!r}")
    values = list(_values(labels))
    if len(values) != count:
        raise ValueError(f"{name} takes one label for each of the {count} observations, got {len(values)}")
    return list(group_indices(values).values())


def _values(labels: Any) -> Any:
    """The labels as Python values."""
    labels = labels.indices if isinstance(labels, OneHotArray) else labels
    if not hasattr(labels, "dtype"):
        return labels
    if labels.ndim != 1:
        raise ValueError(f"labels are one value for each observation, got an array of shape {tuple(labels.shape)}")
    return np.asarray(labels).tolist()

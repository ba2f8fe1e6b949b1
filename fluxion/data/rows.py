"""Rows of tables of other libraries, which need not be installed: a table can only be here if its library is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

Columns = dict[str, Any]


def rows_reader(data: Any) -> Callable[[Any, np.ndarray], Columns] | None:
    """What takes rows, as a dict of columns, out of a table like `data`; None where it is no table.

    A column is an array, or a list where there is no array of such values. Types are told by name, their bases' too.
    """
    return _reader_of(type(data))  # type: ignore[arg-type]  # mypy has it that a type has no hash


@functools.lru_cache(maxsize=256)
def _reader_of(kind: type) -> Callable[[Any, np.ndarray], Columns] | None:
    for base in kind.__mro__:
        reader = _READERS.get((base.__module__.partition(".")[0], base.__name__))
        if reader is not None:
            return reader
    return None


def by_position(part: Any) -> Any:
    """What `[i]` takes the i-th entry of: `part`, but `.iloc` of a Series of pandas, whose own `[i]` takes a label."""
    return getattr(part, "iloc", part)


def _pandas(frame: Any, places: np.ndarray) -> Columns:
    if not frame.columns.is_unique:
        raise ValueError(f"the columns of a frame need different names, got {list(frame.columns)}")
    taken = frame.iloc[places]
    return {name: _values(taken[name].to_numpy(), _misses_integers(whole)) for name, whole in frame.items()}


def _polars(frame: Any, places: np.ndarray) -> Columns:
    columns = zip(frame[places], frame, strict=True)
    return {column.name: _values(column.to_numpy(), whole.has_nulls()) for column, whole in columns}


def _pyarrow(frame: Any, places: np.ndarray) -> Columns:
    taken = frame.take(places)
    columns = zip(taken.column_names, taken.columns, frame.columns, strict=True)
    return {name: _values(column.to_numpy(), whole.null_count > 0) for name, column, whole in columns}


def _hugging_face(dataset: Any, places: np.ndarray) -> Columns:
    return dict(dataset[places.tolist()])


def _misses_integers(column: Any) -> bool:
    """Whether integers are missing in a column of pandas, which only its own dtypes allow; others are not searched."""
    return not isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu" and column.hasnans


def _values(column: np.ndarray, missing: bool) -> Any:
    if column.dtype == object:
        return column.tolist()
    # rows with missing values come as floats, and a column has the same dtype in every batch
    return column.astype(float) if missing and column.dtype.kind in "iu" else column


_READERS: dict[tuple[str, str], Callable[[Any, np.ndarray], Columns]] = {
    ("pandas", "DataFrame"): _pandas,
    ("polars", "DataFrame"): _polars,
    ("pyarrow", "Table"): _pyarrow,
    ("datasets", "Dataset"): _hugging_face,
}

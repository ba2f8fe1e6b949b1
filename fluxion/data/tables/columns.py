"""Columns of a table as numbers: what is learnt from the training rows, and how it is used on all rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from fluxion.data.checks import listed
from fluxion.data.tables.frames import kind_of
from fluxion.data.tables.reading import polars

DAY = 86_400_000_000  # microseconds


@dataclasses.dataclass(frozen=True)
class NumberColumn:
    """Gives `(x - shift) / scale`, where a missing x is `fill`, and with `indicator` 1 where x is missing, else 0."""

    name: str
    fill: float
    shift: float
    scale: float
    indicator: bool

    def expression(self) -> Any:
        """The column as Polars computes it."""
        pl = polars()
        return ((pl.col(self.name).fill_null(self.fill) - self.shift) / self.scale).cast(pl.Float32)

    def __str__(self) -> str:
        missing = ", and whether it is missing" if self.indicator else ""
        return f"(x - {self.shift:.6g}) / {self.scale:.6g}, {self.fill:.6g} where missing{missing}"


@dataclasses.dataclass(frozen=True)
class CategoryColumn:
    """Gives the place of x in `categories`, counted from 1, and 0 where it is none of them; None stands for missing."""

    name: str
    kind: str
    categories: tuple[Any, ...]

    @property
    def cardinality(self) -> int:
        """How many codes there are, 0 included."""
        return len(self.categories) + 1

    def expression(self) -> Any:
        """The column as Polars computes it."""
        pl = polars()
        codes = range(1, self.cardinality)
        return pl.col(self.name).replace_strict(list(self.categories), codes, default=0, return_dtype=pl.Int32)

    def __str__(self) -> str:
        return f"{len(self.categories)} categories: {listed(self.categories, most=5)}"


def prepared(frame: Any, numbers: Sequence[str], kinds: dict[str, str]) -> Any:
    """The columns `numbers` as Float64 and those of `kinds` as values of their kind; missing ones are null.

    Raises ValueError for infinite numbers, text that is no number, and columns of another kind than they should be.
    """
    columns = [_number(frame[name]) for name in numbers]
    columns += [_category(frame[name], kind) for name, kind in kinds.items()]
    return polars().DataFrame({column.name: column for column in columns})  # a list would rename what has no name


def matrix(frame: Any, expressions: list[Any], dtype: Any) -> np.ndarray:
    """One column of an array for each expression."""
    if not expressions:
        return np.zeros((len(frame), 0), dtype)
    columns = frame.select(expression.alias(str(number)) for number, expression in enumerate(expressions))
    return np.array(columns.to_numpy(), dtype, order="C")  # Polars itself takes longer to turn them into rows


def category_kind(column: Any) -> str:
    """The kind of categories that a column holds; an error where these would be fractions or times."""
    kind = kind_of(column.dtype)
    if kind == "number" and column.dtype.is_float() and not (column.drop_nulls().fill_nan(0) % 1 == 0).all():
        raise ValueError(f"the column {column.name!r} holds fractions, which are no categories; name it in numeric=")
    if kind not in ("number", "text", "boolean"):
        raise ValueError(f"the column {column.name!r} holds values of {column.dtype}, which are no categories; drop it")
    return kind


def fit_numbers(
    frame: Any, names: Sequence[str], scale: str | None, missing: str, indicate_missing: bool
) -> tuple[NumberColumn, ...]:
    """What prepared columns of numbers need, from one pass over the rows of `frame`."""
    pl = polars()
    measures = {
        "mean": "mean",
        "median": "median",
        "deviation": "std",
        "low": "min",
        "high": "max",
        "gaps": "null_count",
    }
    if missing != "median":
        del measures["median"]  # the one that takes a sort
    options = {"std": {"ddof": 0}}
    found = frame.select(
        getattr(pl.col(name), method)(**options.get(method, {})).alias(f"{measure} {number}")
        for number, name in enumerate(names)
        for measure, method in measures.items()
    )
    columns = []
    for number, name in enumerate(names):
        facts = {measure: found[f"{measure} {number}"][0] if len(found) else None for measure in measures}
        columns.append(_number_column(name, facts, len(frame), scale, missing, indicate_missing))
    return tuple(columns)


def _number_column(
    name: str, facts: dict[str, Any], rows: int, scale: str | None, missing: str, indicate_missing: bool
) -> NumberColumn:
    gaps = facts["gaps"]
    indicator = indicate_missing and gaps > 0
    if gaps == rows:
        return NumberColumn(name, 0.0, 0.0, 1.0, indicator)
    fill, low, high = facts[missing], facts["low"], facts["high"]
    shift, width = 0.0, 1.0
    if scale == "minmax":
        shift, width = low, high - low
    elif scale == "standard":  # of the column with its gaps filled
        there = 1 - gaps / rows
        shift = there * facts["mean"] + (1 - there) * fill
        spread = facts["deviation"] ** 2 + (facts["mean"] - shift) ** 2
        width = (there * spread + (1 - there) * (fill - shift) ** 2) ** 0.5
    return NumberColumn(name, fill, shift, width if low < high and width > 0 else 1.0, indicator)


def fit_categories(frame: Any, kinds: dict[str, str], most: int | None) -> tuple[CategoryColumn, ...]:
    """The categories of prepared columns, in order, missing last; the `most` frequent ones where there are more."""
    return tuple(CategoryColumn(name, kind, _categories(frame[name], kind, most)) for name, kind in kinds.items())


def _categories(column: Any, kind: str, most: int | None) -> tuple[Any, ...]:
    counted = dict(column.value_counts().iter_rows())
    gaps = counted.pop(None, 0)
    values = sorted(counted)
    if most is not None:
        values = sorted(sorted(values, key=lambda value: -counted[value])[:most])
    whole = [int(value) for value in values] if kind == "number" else values
    return (*whole, None) if gaps else tuple(whole)


def _number(column: Any) -> Any:
    """The column as Float64, missing values as null; times are counted in days."""
    pl = polars()
    kind = kind_of(column.dtype)
    if kind == "time":
        numbers = _days(column)
    elif kind == "text":
        numbers = column.cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
        wrong = (numbers.is_null() & column.is_not_null()).arg_true()
        if len(wrong):
            row = wrong[0]
            raise ValueError(f"the column {column.name!r} should hold numbers, but row {row} holds {column[row]!r}")
    elif kind is None:
        raise ValueError(f"the column {column.name!r} should hold numbers, but it holds values of {column.dtype}")
    else:
        numbers = column.cast(pl.Float64)
    if numbers.is_finite().all():
        return numbers
    numbers = numbers.fill_nan(None)
    infinite = numbers.is_infinite().arg_true()
    if len(infinite):
        raise ValueError(
            f"the column {column.name!r} is infinite in row {infinite[0]}; "
            f"replace infinite numbers, by None where they stand for missing ones"
        )
    return numbers


def _days(column: Any) -> Any:
    """Times as days, dates since the beginning of 1970."""
    pl = polars()
    if column.dtype == pl.Date:
        return column.cast(pl.Int32).cast(pl.Float64)
    if column.dtype == pl.Time:
        return column.cast(pl.Int64).cast(pl.Float64) / (1000 * DAY)
    unit = {"ms": DAY / 1000, "us": DAY, "ns": DAY * 1000}[column.dtype.time_unit]
    return column.cast(pl.Int64).cast(pl.Float64) / unit


def _category(column: Any, kind: str) -> Any:
    """The column as text, booleans, whole numbers or, where some are no categories for sure, Float64."""
    pl = polars()
    column = column.fill_nan(None) if column.dtype.is_float() else column
    if column.null_count() == len(column):
        dtype = {"text": pl.String, "boolean": pl.Boolean, "number": pl.Int64}[kind]
        return pl.Series(column.name, [None] * len(column), dtype)
    if kind_of(column.dtype) != kind:
        raise ValueError(f"the column {column.name!r} should hold categories of kind {kind}, it holds {column.dtype}")
    if kind == "number":
        return column.cast(pl.Float64 if column.dtype.is_float() else pl.Int64)
    return column.cast(pl.String) if isinstance(column.dtype, pl.Enum) else column

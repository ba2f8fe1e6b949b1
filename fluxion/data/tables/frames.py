"""Tables of other libraries as frames of Polars, and what kinds of columns there are."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from fluxion.data.errors import CorruptFileError
from fluxion.data.tables.names import check_names
from fluxion.data.tables.reading import CsvFormat, polars, read_csv


def frame_of(data: Any, csv: CsvFormat, drop: Collection[str], text: Collection[str], strict: bool) -> Any:
    """`data` as a `polars.DataFrame`, without the columns in `drop`, which must be there if `strict`.

    `data` is the path of a CSV or Parquet file, a table of Polars, pandas or PyArrow, or a dict of columns. In CSV
    files columns in `text` hold text, whatever it looks like.
    """
    pl = polars()
    if isinstance(data, (str, os.PathLike)):
        return _read(os.fspath(data), csv, drop, text, strict)
    elif isinstance(data, pl.LazyFrame):
        frame = data.collect()
    elif isinstance(data, pl.DataFrame):
        frame = data
    elif isinstance(data, Mapping) or _is_pandas(data):
        frame = _of_columns(list(data.items()))
    elif hasattr(data, "__arrow_c_stream__"):
        frame = pl.DataFrame(data)
    else:
        raise TypeError(
            f"a table is the path of a .csv, .tsv or .parquet file, a table of Polars, pandas or PyArrow, "
            f"or a dict of columns, got {type(data).__name__}"
        )
    return _without(frame, drop, strict)


def kind_of(dtype: Any) -> str | None:
    """The kind of a column of this type: "number", "text", "boolean" or "time"; None where it is none of these."""
    pl = polars()
    if dtype.is_numeric() or dtype == pl.Null:
        return "number"
    if isinstance(dtype, (pl.String, pl.Categorical, pl.Enum)):
        return "text"
    if dtype == pl.Boolean:
        return "boolean"
    return "time" if dtype.is_temporal() else None


def _read(path: str, csv: CsvFormat, drop: Collection[str], text: Collection[str], strict: bool) -> Any:
    pl = polars()
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path}")
    if path.lower().endswith(".parquet"):
        try:
            return _without(pl.read_parquet(path), drop, strict)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise CorruptFileError(path, f"this is no Parquet file that Polars reads: {error}") from None
    return read_csv(path, csv.of(path), drop, text, strict)


def _without(frame: Any, drop: Collection[str], strict: bool) -> Any:
    if strict:
        check_names("drop=", drop, frame.columns)
    return frame.drop(list(drop), strict=False)


def _is_pandas(data: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame)


def _of_columns(columns: list[tuple[Any, Any]]) -> Any:
    """A frame of named columns; errors name the column."""
    pl = polars()
    names = [name for name, _ in columns]
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"columns have names, got {name!r} of type {type(name).__name__} instead of a string")
        if names.count(name) > 1:
            raise ValueError(f"the table has {names.count(name)} columns named {name!r}; rename or drop all but one")
    series = [_series(name, values) for name, values in columns]
    lengths = {one.name: len(one) for one in series}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns of a table are of one length, got {lengths}")
    return pl.DataFrame({one.name: one for one in series})  # a list would rename what has no name


def _series(name: str, values: Any) -> Any:
    pl = polars()
    if np.isscalar(values):
        raise TypeError(f"a column has a value for each row, as in {{{name!r}: [{values!r}]}}, got {values!r}")
    try:
        if hasattr(values, "iloc"):
            return pl.from_pandas(values).alias(name)
        if hasattr(values, "__array__") and not isinstance(values, pl.Series):
            values = np.asarray(values)
        return pl.Series(name, values)
    except (TypeError, ValueError, OverflowError) as error:  # PyArrow's errors are among these
        first = str(error).partition("\n")[0]
        raise TypeError(f"the column {name!r} does not hold values of one kind: {first}") from None

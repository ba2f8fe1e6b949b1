"""Tables as text: columns of numbers and words from CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fluxion.data.errors import CorruptFileError
from fluxion.data.formats.cursor import AnyPath, contents


def csv_columns(path: AnyPath, types: Mapping[str, type], missing: str = "") -> dict[str, np.ndarray]:
    """The columns named in `types` of a CSV file (RFC 4180, UTF-8) with a line of names.

    float   float64, NaN where `missing`
    int     int32; a missing one is an error
    str     objects: text, or None where `missing`

    Raises CorruptFileError, with the line, for columns that lack and values that are not of their type.
    """
    try:
        rows = list(csv.reader(io.StringIO(str(contents(path), "utf-8"), newline="")))
    except (csv.Error, UnicodeDecodeError) as error:
        raise CorruptFileError(path, f"no table as text ({error})") from None
    names = rows[0] if rows else []
    absent = [name for name in types if name not in names]
    if absent:
        raise CorruptFileError(path, f"the table has no column {', '.join(absent)}")
    for line, row in enumerate(rows[1:], 2):
        if len(row) != len(names):
            raise CorruptFileError(path, f"row {line} has {len(row)} values for {len(names)} columns")
    columns = dict(zip(names, zip(*rows[1:], strict=True), strict=True)) if rows[1:] else dict.fromkeys(names, ())
    return {name: _typed(path, name, columns[name], kind, missing) for name, kind in types.items()}


def _typed(path: AnyPath, name: str, texts: tuple[str, ...], kind: type, missing: str) -> np.ndarray:
    values = np.empty(len(texts), {float: np.float64, int: np.int32, str: object}[kind])
    convert: Callable[[str], Any] = kind
    none = {float: np.nan, str: None}
    for row, text in enumerate(texts):
        try:
            values[row] = none[kind] if text == missing and kind in none else convert(text)
        except (ValueError, OverflowError):
            what = {float: "number", int: "whole number"}[kind]
            raise CorruptFileError(path, f"{name} in row {row + 2} is {text!r}, no {what}") from None
    return values

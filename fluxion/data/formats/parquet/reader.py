"""Whole columns of Parquet files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fluxion.data.formats.cursor import DEFLATE, AnyPath, Cursor, contents
from fluxion.data.formats.parquet.pages import Chunk
from fluxion.data.formats.parquet.schema import Column, described
from fluxion.data.formats.parquet.values import BYTES, plain

_CELLS = 1 << 22  # what even the smallest file may hold: a run of equal values takes a few bytes, however many they are


def read_parquet(path: AnyPath, columns: Iterable[str] | None = None) -> dict[str, Any]:
    """The columns of a Parquet file by name, or those called `columns` alone; a struct is a dict of its fields.

    numbers, booleans  arrays of the file's type; with missing values float NaN, in float64 where they are not float32
    text               arrays of objects: strings, None where missing
    bytes              arrays of objects: bytes, None where missing

    Dates and times are the integers that the file holds. Read are pages of versions 1 and 2, plain or with a
    dictionary, uncompressed or by Snappy or gzip, as most programs write them. Lists, maps, decimal numbers and other
    encodings and compressions are not: an error names them.

    Raises CorruptFileError where the file is damaged, something else or not read here, KeyError where it lacks one of
    `columns`. Needs no other package.

    Source: Apache Parquet, "File format".

    >>> import pathlib, pyarrow, pyarrow.parquet, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp(), "pets.parquet")
    >>> pyarrow.parquet.write_table(pyarrow.table({"name": ["cat", None], "legs": [4, 4]}), file)
    >>> fx.data.read_parquet(file)
    {'name': array(['cat', None], dtype=object), 'legs': array([4, 4])}
    """
    data = contents(path)
    description = described(data, path)
    names = list(dict.fromkeys(column.path[0] for column in description.columns))
    wanted = names if columns is None else list(columns)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise KeyError(f"{path} has no column {', '.join(missing)}; it has {', '.join(names)}")
    places = [place for place, column in enumerate(description.columns) if column.path[0] in wanted]
    if description.rows * len(places) > _CELLS + DEFLATE * len(data):
        raise Cursor(data, path).wrong(f"{description.rows} rows are more than {len(data)} bytes can hold")
    result: dict[str, Any] = {}
    for place in places:
        column = description.columns[place]
        pages = []
        for rows, chunks in description.groups:
            pages += _chunk(data, path, column, chunks[place]).read(rows)
        inner = result
        for name in column.path[:-1]:
            inner = inner.setdefault(name, {})
        inner[column.path[-1]] = _whole(pages, column, path)
    return {name: result[name] for name in wanted}


def _chunk(data: bytes, path: AnyPath, column: Column, about: dict[int, Any]) -> Chunk:
    """The pages of a column in a group of rows, from the first one on."""
    name, cursor = ".".join(column.path), Cursor(data, path)
    if column.refused:
        raise cursor.wrong(f"column {name} holds {column.refused}, which are not read; columns= can leave it out")
    first = about.get(9)
    numbers = [first, about.get(11) or first, about.get(7), about.get(4)]
    start, dictionary, size, codec = [n if type(n) is int else -1 for n in numbers]
    cursor.take(min(start, dictionary), f"what is before column {name}")
    return Chunk(Cursor(cursor.take(size, f"column {name}"), path), column, codec)


def _whole(pages: list[tuple[np.ndarray, np.ndarray]], column: Column, path: AnyPath) -> np.ndarray:
    """A column of its pages, with what stands for the values that are missing."""
    none = plain(Cursor(b"", path), column.kind, column.width, 0)  # a file of no rows has no pages
    values = np.concatenate([none, *(page[0] for page in pages)])
    there = np.concatenate([np.zeros(0, bool), *(page[1] for page in pages)])
    if column.kind == BYTES and column.text:
        try:
            values[:] = [str(value, "utf-8") for value in values]
        except UnicodeDecodeError as error:
            raise Cursor(b"", path).wrong(f"column {'.'.join(column.path)} is no text ({error})") from None
    if column.dtype and values.dtype.kind == "i":
        values = values.astype(column.dtype)
    if there.all():
        return values
    kind: Any = values.dtype if values.dtype.kind in "Of" else np.float64
    result = np.full(len(there), None if values.dtype.kind == "O" else np.nan, kind)
    result[there] = values
    return result

"""The pages of a column of a Parquet file."""

from __future__ import annotations

from typing import Any

import numpy as np

from fluxion.data.formats.cursor import Cursor, inflated
from fluxion.data.formats.parquet.schema import Column
from fluxion.data.formats.parquet.snappy import unsnappy
from fluxion.data.formats.parquet.thrift import struct
from fluxion.data.formats.parquet.values import BOOLEAN, hybrid, plain

_DATA, _DICTIONARY, _DATA_2 = 0, 2, 3
_PLAIN, _RUNS, _DICTIONARIES = 0, 3, (2, 8)
_UNCOMPRESSED, _SNAPPY, _GZIP = 0, 1, 2
_CODECS = {3: "LZO", 4: "Brotli", 5: "LZ4", 6: "Zstandard", 7: "LZ4"}
_ENCODINGS = {5: "DELTA_BINARY_PACKED", 6: "DELTA_LENGTH_BYTE_ARRAY", 7: "DELTA_BYTE_ARRAY", 9: "BYTE_STREAM_SPLIT"}

Page = tuple[np.ndarray, np.ndarray]  # the values that are there, and for each row whether it has one


class Chunk:
    """The pages of one column in one group of rows; `cursor` is at the first of them."""

    def __init__(self, cursor: Cursor, column: Column, codec: int) -> None:
        self.cursor, self.column, self.codec = cursor, column, codec
        self.dictionary: np.ndarray | None = None

    def read(self, rows: int) -> list[Page]:
        """The pages, which have `rows` rows together."""
        pages = []
        while rows:
            header = struct(self.cursor)
            body = self.cursor.take(_count(self.cursor, header, 3), "a page")
            size = _count(self.cursor, header, 2)
            if header.get(1) == _DICTIONARY:
                about = _about(self.cursor, header, 7)
                page = Cursor(self.decompressed(body, size), self.cursor.path)
                self.dictionary = plain(page, self.column.kind, self.column.width, _count(self.cursor, about, 1))
            elif header.get(1) in (_DATA, _DATA_2):
                first = header[1] == _DATA
                about = _about(self.cursor, header, 5 if first else 8)
                count = _count(self.cursor, about, 1)
                if not 0 < count <= rows:
                    raise self.cursor.wrong(f"a page of {count} rows where {rows} are left")
                pages.append((self.first if first else self.second)(about, body, size, count))
                rows -= count
        return pages

    def decompressed(self, body: memoryview, size: int) -> bytes | memoryview:
        path = self.cursor.path
        if self.codec == _UNCOMPRESSED or not size:
            return body
        if self.codec == _SNAPPY:
            return unsnappy(body, size, path)
        if self.codec == _GZIP:
            return inflated(body, size, path, "a page")
        name = _CODECS.get(self.codec, f"method {self.codec}")
        raise self.cursor.wrong(f"its pages are compressed by {name}; write it with Snappy, gzip or no compression")

    def first(self, about: dict[int, Any], body: memoryview, size: int, count: int) -> Page:
        """A data page of version 1: levels and values compressed together."""
        page = Cursor(self.decompressed(body, size), self.cursor.path)
        levels = b""
        if self.column.levels and about.get(3) != _RUNS:
            raise page.wrong(
                f"which values of column {'.'.join(self.column.path)} are missing is written in an old way"
            )
        if self.column.levels:
            (length,) = page.numbers("<I", "the size of the levels")
            levels = bytes(page.take(length, "the levels"))
        return self.values(page, levels, about.get(2), count)

    def second(self, about: dict[int, Any], body: memoryview, size: int, count: int) -> Page:
        """A data page of version 2: the levels, uncompressed, before the values."""
        length = _count(self.cursor, about, 5)
        if about.get(6, 0) != 0 or length > min(size, len(body)):
            raise self.cursor.wrong("a page with levels of lists, or longer than the page")
        rest = body[length:]
        values = self.decompressed(rest, size - length) if about.get(7, True) else rest
        return self.values(Cursor(values, self.cursor.path), bytes(body[:length]), about.get(4), count)

    def values(self, page: Cursor, levels: bytes, encoding: Any, count: int) -> Page:
        most = self.column.levels
        if most:
            level = hybrid(Cursor(levels, page.path), most.bit_length(), count)
            there = level == most
        else:
            there = np.ones(count, bool)
        number = int(there.sum())
        if encoding == _PLAIN:
            return plain(page, self.column.kind, self.column.width, number), there
        if encoding in _DICTIONARIES and self.dictionary is not None:
            return self.looked_up(page, number), there
        if encoding == _RUNS and self.column.kind == BOOLEAN:
            page.take(4, "the size of the booleans")
            return hybrid(page, 1, number).astype(bool), there
        name = _ENCODINGS.get(encoding, f"encoding {encoding}") if isinstance(encoding, int) else "no encoding"
        raise page.wrong(
            f"column {'.'.join(self.column.path)} is written as {name}; only plain and dictionaries are read"
        )

    def looked_up(self, page: Cursor, number: int) -> np.ndarray:
        assert self.dictionary is not None
        if not number:
            return self.dictionary[:0]
        width = page.take(1, "the width of the indices")[0]
        indices = hybrid(page, width, number)
        if indices.max() >= len(self.dictionary):
            raise page.wrong(f"an index of {indices.max()} into a dictionary of {len(self.dictionary)}")
        return self.dictionary[indices]


def _count(cursor: Cursor, fields: dict[int, Any], number: int) -> int:
    value = fields.get(number)
    if type(value) is not int or value < 0:
        raise cursor.wrong(f"field {number} of a page is {value!r}, no count")
    return value


def _about(cursor: Cursor, header: dict[int, Any], number: int) -> dict[int, Any]:
    value = header.get(number)
    if not isinstance(value, dict):
        raise cursor.wrong("a page without its header")
    return value

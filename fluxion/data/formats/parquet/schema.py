"""What a Parquet file says of itself: its columns and where their pages are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fluxion.data.formats.cursor import AnyPath, Cursor
from fluxion.data.formats.parquet.thrift import struct

_MAGIC = b"PAR1"
_TEXTS = (0, 4, 19)  # converted types: UTF-8, a word of an enumeration, JSON
_NARROW = {11: "u1", 12: "u2", 13: "u4", 14: "u8", 15: "i1", 16: "i2", 17: "i4", 18: "i8"}
_DECIMAL, _STRING_LOGICAL, _DECIMAL_LOGICAL = 5, 1, 5
_OPTIONAL, _REPEATED = 1, 2
_DEPTH = 8


@dataclass(frozen=True)
class Column:
    """A column of values; `levels` counts the optional ones among it and the structs that it is in.

    `refused` is why a column cannot be read, None where it can.
    """

    path: tuple[str, ...]
    kind: int
    width: int
    levels: int
    text: bool
    dtype: str | None
    refused: str | None


@dataclass(frozen=True)
class Description:
    """The columns of a file, the number of its rows, and for each group of rows its number and its columns' pages."""

    columns: list[Column]
    rows: int
    groups: list[tuple[int, list[dict[int, Any]]]]


def described(data: bytes, path: AnyPath) -> Description:
    """The description at the end of a file."""
    cursor = Cursor(data, path)
    if len(data) < 12 or data[:4] != _MAGIC or data[-4:] != _MAGIC:
        raise cursor.wrong("no Parquet file: it does not start and end with PAR1")
    size = int.from_bytes(data[-8:-4], "little")
    if size > len(data) - 12:
        raise cursor.wrong(f"its description of {size} bytes is longer than the file")
    cursor = Cursor(memoryview(data)[-8 - size : -8], path)
    fields = struct(cursor)
    try:
        elements = iter([_element(element) for element in fields[2]])
        root = next(elements)
        whole = Column((), 0, 0, 0, False, None, None)
        columns = [column for _ in range(root["children"]) for column in _columns(elements, whole, cursor)]
        rows = _number(fields[3])
        groups = [(_number(group[3]), [chunk[3] for chunk in group[1]]) for group in fields[4]]
        if any(not isinstance(chunk, dict) for _, chunks in groups for chunk in chunks):
            raise TypeError("a column is no struct")
    except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise cursor.wrong(f"its description is damaged ({type(error).__name__}: {error})") from None
    if any(len(chunks) != len(columns) for _, chunks in groups) or sum(number for number, _ in groups) != rows:
        raise cursor.wrong("its groups of rows do not have the columns and the rows of the file")
    paths = {column.path for column in columns}
    if len(paths) < len(columns) or any(path[:i] in paths for path in paths for i in range(len(path))):
        raise cursor.wrong("two of its columns have one name")
    return Description(columns, rows, groups)


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _element(fields: dict[int, Any]) -> dict[str, Any]:
    return {
        "kind": _number(fields.get(1, 0)),
        "width": _number(fields.get(2, 0)),
        "repetition": fields.get(3, 0),
        "name": str(fields[4], "utf-8"),
        "children": _number(fields.get(5, 0)),
        "converted": fields.get(6),
        "logical": fields.get(10) or {},
    }


def _columns(elements: Iterator[dict[str, Any]], outer: Column, cursor: Cursor) -> list[Column]:
    """The columns of the next element, which is within `outer`: itself, or those of its fields."""
    element = next(elements)
    if len(outer.path) > _DEPTH:
        raise cursor.wrong("structs within structs without an end")
    refused = outer.refused or _refused(element)
    levels = outer.levels + (element["repetition"] == _OPTIONAL)
    text = element["converted"] in _TEXTS or _STRING_LOGICAL in element["logical"]
    dtype = _NARROW.get(element["converted"])
    path = (*outer.path, element["name"])
    column = Column(path, element["kind"], element["width"], levels, text, dtype, refused)
    inner = [one for _ in range(element["children"]) for one in _columns(elements, column, cursor)]
    return inner if element["children"] else [column]


def _refused(element: dict[str, Any]) -> str | None:
    if element["repetition"] == _REPEATED:
        return "lists"
    if _DECIMAL_LOGICAL in element["logical"] or element["converted"] == _DECIMAL:
        return "decimal numbers"
    return None

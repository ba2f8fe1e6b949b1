"""Thrift's compact protocol, in which Parquet describes itself: structs as dicts of field numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fluxion.data.formats.cursor import Cursor

_DEPTH = 12  # Parquet's structs are not nested deeper
_TRUE, _FALSE, _LIST, _SET, _MAP, _STRUCT = 1, 2, 9, 10, 11, 12


def varint(cursor: Cursor) -> int:
    """An unsigned integer of up to 64 bits, seven in a byte, lowest first."""
    value = 0
    for shift in range(0, 70, 7):
        byte = cursor.take(1, "an integer")[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise cursor.wrong("an integer of more than 64 bits")


def struct(cursor: Cursor, depth: int = 0) -> dict[int, Any]:
    """The fields of a struct, by their numbers."""
    if depth > _DEPTH:
        raise cursor.wrong("structs within structs without an end")
    fields: dict[int, Any] = {}
    number = 0
    while header := cursor.take(1, "a field")[0]:
        kind, step = header & 0x0F, header >> 4
        number = number + step if step else _zigzag(cursor)
        fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else _value(cursor, kind, depth)
    return fields


def _zigzag(cursor: Cursor) -> int:
    value = varint(cursor)
    return (value >> 1) ^ -(value & 1)


def _binary(cursor: Cursor) -> bytes:
    return bytes(cursor.take(varint(cursor), "a string"))


def _double(cursor: Cursor) -> float:
    return float(cursor.numbers("<d", "a number")[0])


_SIMPLE: dict[int, Callable[[Cursor], Any]] = {
    _TRUE: lambda cursor: cursor.take(1, "a boolean")[0] == _TRUE,  # of a list; a field has it in its header
    _FALSE: lambda cursor: cursor.take(1, "a boolean")[0] == _TRUE,
    3: lambda cursor: cursor.take(1, "a byte")[0],
    4: _zigzag,
    5: _zigzag,
    6: _zigzag,
    7: _double,
    8: _binary,
}


def _value(cursor: Cursor, kind: int, depth: int) -> Any:
    if kind in _SIMPLE:
        return _SIMPLE[kind](cursor)
    if kind == _STRUCT:
        return struct(cursor, depth + 1)
    if kind in (_LIST, _SET):
        header = cursor.take(1, "a list")[0]
        count = header >> 4 if header < 0xF0 else varint(cursor)
        if count > cursor.left or depth > _DEPTH:
            raise cursor.wrong(f"a list of {count} items in {cursor.left} bytes")
        return [_value(cursor, header & 0x0F, depth + 1) for _ in range(count)]
    raise cursor.wrong(f"a field of the unknown kind {kind}")  # maps included, of which Parquet has none

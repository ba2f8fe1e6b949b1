"""The values in a page of a Parquet file: plain ones, and integers in runs or packed bit by bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fluxion.data.formats.cursor import Cursor
from fluxion.data.formats.parquet.thrift import varint

_PLAIN = {1: "<i4", 2: "<i8", 4: "<f4", 5: "<f8"}
BOOLEAN, BYTES, FIXED = 0, 6, 7


def plain(cursor: Cursor, kind: int, width: int, count: int) -> np.ndarray:
    """`count` values of a physical type as PLAIN has them; those of `width` bytes and of any length are objects."""
    if kind in _PLAIN:
        return cursor.array(_PLAIN[kind], (count,), f"{count} values")
    if kind == BOOLEAN:
        packed = cursor.array(np.uint8, (-(-count // 8),), f"{count} booleans")
        return np.unpackbits(packed, count=count, bitorder="little").astype(bool)
    if kind == FIXED and width:
        return _objects(cursor, count, lambda: width)
    if kind == BYTES:
        return _objects(cursor, count, lambda: int(cursor.numbers("<I", "a size")[0]))
    raise cursor.wrong(f"values of the type {kind} are not read")


def _objects(cursor: Cursor, count: int, size: Callable[[], int]) -> np.ndarray:
    """`count` strings of bytes, of which `size` tells how long the next is."""
    values = [bytes(cursor.take(size(), "a value")) for _ in range(count)]
    return np.fromiter(values, object, len(values))


def hybrid(cursor: Cursor, width: int, count: int) -> np.ndarray:
    """`count` integers of `width` bits: runs of one integer, and groups of eight packed from the lowest bit on."""
    if not 0 <= width <= 32:
        raise cursor.wrong(f"integers of {width} bits")
    parts = [np.zeros(0, np.int64)]
    found = 0
    while found < count:
        header = varint(cursor)
        number = (header >> 1) * (8 if header & 1 else 1)
        if not number:
            raise cursor.wrong("a run of no integers")
        taken = min(number, count - found)
        parts.append(_packed(cursor, width, number, taken) if header & 1 else _run(cursor, width, taken))
        found += taken
    return np.concatenate(parts)


def _run(cursor: Cursor, width: int, taken: int) -> np.ndarray:
    value = int.from_bytes(cursor.take((width + 7) // 8, "a run"), "little")
    return np.full(taken, value, np.int64)


def _packed(cursor: Cursor, width: int, number: int, taken: int) -> np.ndarray:
    packed = np.frombuffer(cursor.take(number * width // 8, "packed integers"), np.uint8)
    bits = np.unpackbits(packed, count=taken * width, bitorder="little").reshape(taken, width)
    return bits @ (1 << np.arange(width, dtype=np.int64))

"""Snappy, the compression that Parquet files mostly have."""

from __future__ import annotations

from fluxion.data.formats.cursor import AnyPath, Cursor
from fluxion.data.formats.parquet.thrift import varint


def unsnappy(data: bytes | memoryview, size: int, path: AnyPath) -> bytes:
    """The `size` bytes that Snappy data decompresses to.

    The data is pieces, of which the lowest two bits of the first byte tell the kind: literal bytes, or a copy of bytes
    that are there already, from an offset back that 1, 2 or 4 bytes hold.

    Source: Google, "Snappy compressed format description".
    """
    cursor = Cursor(data, path)
    if varint(cursor) != size:
        raise cursor.wrong(f"data compressed by Snappy is not of {size} bytes")
    result = bytearray()
    while cursor.left:
        tag = cursor.take(1, "a tag of Snappy")[0]
        if not tag & 3:
            result += cursor.take(_literal_size(cursor, tag >> 2), "the bytes of Snappy")
        else:
            _copy(cursor, result, tag)
        if len(result) > size:
            raise cursor.wrong(f"data compressed by Snappy is of more than {size} bytes")
    if len(result) != size:
        raise cursor.wrong(f"data compressed by Snappy has {len(result)} of {size} bytes")
    return bytes(result)


def _literal_size(cursor: Cursor, size: int) -> int:
    if size < 60:
        return size + 1
    return int.from_bytes(cursor.take(size - 59, "a size of Snappy"), "little") + 1


def _copy(cursor: Cursor, result: bytearray, tag: int) -> None:
    if tag & 3 == 1:
        size, offset = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | cursor.take(1, "an offset of Snappy")[0]
    else:
        size, width = (tag >> 2) + 1, 2 if tag & 3 == 2 else 4
        offset = int.from_bytes(cursor.take(width, "an offset of Snappy"), "little")
    if not 0 < offset <= len(result):
        raise cursor.wrong(f"Snappy copies from {offset} bytes back of {len(result)}")
    start = len(result) - offset
    piece = bytes(result[start : start + size])
    result += (piece * (size // offset + 1))[:size]  # a copy that reaches into itself repeats

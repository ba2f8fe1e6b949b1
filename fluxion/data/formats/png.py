"""PNG images of grey levels, as Omniglot has them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable

import numpy as np

from fluxion.data.formats.cursor import AnyPath, Cursor, inflated

_QUICK: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
    lambda points, above: points,
    lambda points, above: points.cumsum(dtype=np.uint8),
    lambda points, above: points + above,
)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def grey_png(data: bytes, path: AnyPath) -> np.ndarray:
    """The grey levels `(H, W)`, from 0 to 255, of a PNG of 1, 2, 4 or 8 bits without interlacing (ISO 15948)."""
    cursor = Cursor(data, path)
    if cursor.left < 8 or bytes(cursor.take(8, "the signature")) != _SIGNATURE:
        raise cursor.wrong("no PNG image: its first eight bytes are others")
    kind, header = _chunk(cursor)
    if kind != b"IHDR" or len(header) != 13:
        raise cursor.wrong("the image does not begin with its header")
    width, height, depth, colour, *ways = Cursor(header, path).numbers(">IIBBBBB", "the header")
    if colour != 0 or depth not in (1, 2, 4, 8) or any(ways) or not width or not height:
        raise cursor.wrong(f"an image of {width} x {height} points, colour type {colour}, {depth} bits: not read here")
    compressed = bytearray()
    while (chunk := _chunk(cursor))[0] != b"IEND":
        if chunk[0] == b"IDAT":
            compressed += chunk[1]
    width_bytes = math.ceil(width * depth / 8)
    raw = inflated(compressed, height * (1 + width_bytes), path, "the image")
    lines = np.frombuffer(raw, np.uint8).reshape(height, 1 + width_bytes)
    rows = _unfiltered(lines, cursor)
    bits = np.unpackbits(rows, axis=1)[:, : width * depth].reshape(height, width, depth)
    levels = np.packbits(bits, axis=-1)[..., 0] >> (8 - depth)
    return levels * np.uint8(255 // (2**depth - 1))


def _chunk(cursor: Cursor) -> tuple[bytes, memoryview]:
    size, kind = cursor.numbers(">I4s", "a chunk")
    body = cursor.take(size, f"chunk {kind!r}")
    (check,) = cursor.numbers(">I", "the checksum of a chunk")
    if zlib.crc32(body, zlib.crc32(kind)) != check:
        raise cursor.wrong(f"the checksum of chunk {kind!r} is wrong")
    return kind, body


def _unfiltered(lines: np.ndarray, cursor: Cursor) -> np.ndarray:
    """The rows of points; each line starts with how it was written as differences from the ones before it."""
    if not lines[:, 0].any():
        return lines[:, 1:]
    rows = np.zeros((len(lines) + 1, lines.shape[1] - 1), np.uint8)  # the first is above the image
    for i, line in enumerate(lines):
        way, points, above = int(line[0]), line[1:], rows[i]
        if way > 4:
            raise cursor.wrong(f"line {i + 1} has the unknown filter {way}")
        if way > 2:
            rows[i + 1] = _slowly(way, points.tolist(), above.tolist())
        else:
            rows[i + 1] = _QUICK[way](points, above)
    return rows[1:]


def _slowly(way: int, points: list[int], above: list[int]) -> list[int]:
    """A row of differences from what depends on the points to the left, above and in the corner between."""
    row, corner = [0], 0
    for point, up in zip(points, above, strict=True):
        row.append(point + ((row[-1] + up) // 2 if way == 3 else _paeth(row[-1], up, corner)) & 255)
        corner = up
    return row[1:]


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda value: abs(guess - value))

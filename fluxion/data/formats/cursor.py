"""Bytes of a file, taken from front to back and never beyond what there is."""

from __future__ import annotations

import math
import os
import struct
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fluxion.data.errors import CorruptFileError

DEFLATE = 1032  # the most bytes that one byte of a deflate stream can become
LARGEST = 1 << 32  # decompressed bytes of one file, at most
_CHUNK = 1 << 18
_RANK = 32  # axes that every version of NumPy takes

AnyPath = str | os.PathLike[str]
Bytes = bytes | bytearray | memoryview


def contents(path: AnyPath) -> bytes:
    """The bytes of a file; FileNotFoundError and its relatives are those of `open`."""
    return Path(path).read_bytes()


class Cursor:
    """A place in the bytes of `path`; what is asked for beyond their end raises CorruptFileError."""

    def __init__(self, data: Bytes, path: AnyPath) -> None:
        self.data = memoryview(data)
        self.path = path
        self.place = 0

    @property
    def left(self) -> int:
        """How many bytes may still be taken, at most."""
        return len(self.data) - self.place

    def wrong(self, what: str) -> CorruptFileError:
        """The error to raise for what is wrong with the file."""
        return CorruptFileError(self.path, what)

    def take(self, count: int, what: str) -> memoryview:
        """The next `count` bytes, which are `what`."""
        if not 0 <= count <= self.left:
            raise self.wrong(f"{what} of {count} bytes does not fit into the {self.left} bytes that are left")
        self.place += count
        return self.data[self.place - count : self.place]

    def numbers(self, form: str, what: str) -> tuple[Any, ...]:
        """The next numbers in the notation of `struct`."""
        return struct.unpack(form, self.take(struct.calcsize(form), what))

    def array(self, dtype: Any, shape: Sequence[int], what: str) -> np.ndarray:
        """The next array, in the machine's byte order; writing to it does not change the file's bytes."""
        dtype = np.dtype(dtype)
        shape = self.possible(shape, dtype, what)
        flat = np.frombuffer(self.take(math.prod(shape) * dtype.itemsize, what), dtype)
        return flat.astype(dtype.newbyteorder("="), copy=not flat.flags.writeable).reshape(shape)

    def possible(self, shape: Sequence[int], dtype: np.dtype, what: str) -> tuple[int, ...]:
        """`shape`, if NumPy could hold an array of it."""
        extent = math.prod(max(n, 1) for n in shape) * dtype.itemsize
        if len(shape) > _RANK or min(shape, default=0) < 0 or extent > sys.maxsize:
            raise self.wrong(f"{what} has the impossible shape {tuple(shape)}")
        return tuple(shape)

    def finish(self, what: str) -> None:
        """Raises where bytes follow the last of `what`."""
        if self.left:
            raise self.wrong(f"{self.left} bytes follow the end of {what}")


class DeflatedCursor(Cursor):
    """The same over bytes that deflate (gzip, zlib) makes of `data`, decompressed as they are taken."""

    def __init__(self, data: Bytes, path: AnyPath, wbits: int = zlib.MAX_WBITS | 32) -> None:
        super().__init__(data, path)
        self._wbits = wbits
        self._stream = zlib.decompressobj(wbits)
        self._fed = 0  # how many of the compressed bytes have been given to the stream
        self._pending: Bytes = b""  # what it did not take of these
        self._most = min(LARGEST, DEFLATE * len(self.data))

    @property
    def left(self) -> int:
        return self._most - self.place

    def take(self, count: int, what: str) -> memoryview:
        if not 0 <= count <= self.left:
            raise self.wrong(f"{what} of {count} bytes is more than {len(self.data)} compressed bytes can hold")
        taken = bytearray()
        while len(taken) < count:
            piece = self._inflate(count - len(taken))
            if not piece:
                raise self.wrong(f"{what} of {count} bytes: the compressed data ends after {len(taken)}")
            taken += piece
        self.place += count
        return memoryview(taken)

    def finish(self, what: str) -> None:
        if self._inflate(1):
            raise self.wrong(f"compressed data follows the end of {what}")
        if not self._stream.eof:
            raise self.wrong(f"the compressed data of {what} has no end")

    def _inflate(self, count: int) -> bytes:
        """Up to `count` bytes; none at the end of the data."""
        piece = b""
        try:
            while not piece:
                if self._stream.eof:  # another member of a gzip file may follow
                    self._pending = self._stream.unused_data or self._more()
                    if not self._pending:
                        break
                    self._stream = zlib.decompressobj(self._wbits)
                self._pending = self._pending or self._more()
                last = not self._pending
                piece = self._stream.decompress(self._pending, count)
                self._pending = self._stream.unconsumed_tail
                if last:
                    break
        except zlib.error as error:
            raise self.wrong(f"its compressed data is damaged ({error})") from None
        return piece

    def _more(self) -> memoryview:
        """The next compressed bytes; not all at once, as the stream copies what it does not take."""
        self._fed += _CHUNK
        return self.data[self._fed - _CHUNK : self._fed]


def inflated(data: Bytes, size: int, path: AnyPath, what: str) -> memoryview:
    """The `size` bytes, no more and no fewer, that zlib or gzip data decompresses to."""
    cursor = DeflatedCursor(data, path)
    result = cursor.take(size, what)
    cursor.finish(what)
    return result

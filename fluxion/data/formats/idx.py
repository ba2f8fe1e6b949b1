"""IDX, the format of MNIST: an array after a header of its type and sizes."""

from __future__ import annotations

import numpy as np

from fluxion.data.formats.cursor import AnyPath, Bytes, Cursor, DeflatedCursor, contents

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP = b"\x1f\x8b"


def read_idx(path: AnyPath) -> np.ndarray:
    """The array in an IDX file, the format of MNIST, which may be compressed by gzip.

    The file is two zero bytes, a byte for the type, one for the number of axes, the sizes as big-endian 32-bit
    integers, then the numbers, big-endian, last axis fastest. The array has the type and the shape of the file.

    Raises CorruptFileError where the file is damaged or something else; it takes no more memory than the numbers need.

    Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits".

    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp(), "labels.idx")
    >>> _ = file.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
    >>> fx.data.read_idx(file)
    array([5, 0, 4], dtype=uint8)
    """
    return idx_array(contents(path), path)


def idx_array(data: Bytes, path: AnyPath) -> np.ndarray:
    """The array in the bytes of an IDX file, for errors called `path`."""
    cursor = DeflatedCursor(data, path) if bytes(data[:2]) == _GZIP else Cursor(data, path)
    zeros, code, rank = cursor.numbers(">HBB", "the first four bytes of an IDX file")
    if zeros or code not in _TYPES or not rank:
        raise cursor.wrong(f"no IDX file: it starts with {zeros:04x}{code:02x}{rank:02x}, not with 0000, type, axes")
    shape = cursor.numbers(f">{rank}I", f"the sizes of {rank} axes")
    array = cursor.array(_TYPES[code], shape, f"an array of shape {shape}")
    cursor.finish("the array")
    return array

"""MAT-files of MATLAB, version 5: arrays of numbers, compressed or not."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from fluxion.data.formats.cursor import AnyPath, Cursor, DeflatedCursor, contents

_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_OTHER = {1: "a cell array", 2: "a struct", 3: "an object", 4: "text", 5: "a sparse matrix", 16: "a function"}
_MATRIX, _COMPRESSED = 14, 15
_COMPLEX, _LOGICAL = 0x0800, 0x0200


def read_mat(path: AnyPath, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of numbers in a MAT-file of version 5, by name, or those called `names` alone.

    They have the types and shapes that MATLAB shows, so at least two axes; logical arrays are bool. Cell arrays,
    structs, text and sparse matrices are not read: a file that holds some needs `names`. Nor are files that MATLAB
    saved with `-v7.3`, which are HDF5.

    Raises CorruptFileError where the file is damaged or something else, KeyError where it lacks one of `names`.

    Source: The MathWorks, "MAT-File Format", version 5; `scipy.io.loadmat`.

    >>> import pathlib, scipy.io, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp(), "numbers.mat")
    >>> scipy.io.savemat(file, {"X": np.eye(2, dtype=np.uint8)}, do_compression=True)
    >>> fx.data.read_mat(file)
    {'X': array([[1, 0], [0, 1]], dtype=uint8)}
    """
    wanted = None if names is None else list(names)
    cursor = Cursor(contents(path), path)
    order = _order(cursor)
    arrays = {}
    while cursor.left:
        name, array = _variable(cursor, order, wanted)
        if array is not None:
            arrays[name] = array
    missing = [name for name in wanted or () if name not in arrays]
    if missing:
        raise KeyError(f"{path} has no array {', '.join(missing)}; those asked for that it has: {', '.join(arrays)}")
    return arrays


def _order(cursor: Cursor) -> str:
    """The order of bytes, `<` or `>`, that the header tells."""
    text = bytes(cursor.take(124, "the header of a MAT-file"))
    version, mark = cursor.numbers("2s2s", "the version of a MAT-file")
    if mark not in (b"IM", b"MI"):
        raise cursor.wrong("no MAT-file of version 5: bytes 126 and 127 are neither IM nor MI")
    order = "<" if mark == b"IM" else ">"
    if version != (b"\x00\x01" if order == "<" else b"\x01\x00"):
        kind = "an HDF5 file (MATLAB's -v7.3); save it with -v7" if text.startswith(b"MATLAB 7.3") else "unknown"
        raise cursor.wrong(f"its version of MAT-files is {kind}")
    return order


def _variable(cursor: Cursor, order: str, wanted: list[str] | None) -> tuple[str, np.ndarray | None]:
    """The next variable, without its array where that is not wanted."""
    kind, size = cursor.numbers(f"{order}II", "the tag of a variable")
    body = cursor.take(size, "a variable")
    if kind != _COMPRESSED:
        inner = Cursor(body, cursor.path)
    else:
        inner = DeflatedCursor(body, cursor.path)
        kind, size = inner.numbers(f"{order}II", "the tag of a variable")
    if kind != _MATRIX:
        raise cursor.wrong(f"a variable is of type {kind}, not a matrix")
    flags, shape, name = _described(inner, order)
    if wanted is not None and name not in wanted:
        return name, None
    array = _numbers(inner, order, flags, shape, name)
    inner.finish(f"variable {name!r}")
    return name, array


def _described(cursor: Cursor, order: str) -> tuple[int, tuple[int, ...], str]:
    """The flags, the shape and the name of a matrix."""
    flags = _element(cursor, order, "the flags of a matrix")
    shape = _element(cursor, order, "the sizes of a matrix")
    name = _element(cursor, order, "the name of a matrix")
    if flags.dtype.kind != "u" or len(flags) != 2 or shape.dtype.kind != "i" or len(shape) < 2 or name.itemsize != 1:
        raise cursor.wrong("a matrix has no proper flags, sizes and name")
    return int(flags[0]), tuple(shape.tolist()), str(name.tobytes(), "latin-1")


def _numbers(cursor: Cursor, order: str, flags: int, shape: tuple[int, ...], name: str) -> np.ndarray:
    kind = flags & 0xFF
    if kind not in _CLASSES:
        what = _OTHER.get(kind, f"of class {kind}")
        raise cursor.wrong(f"variable {name!r} is {what}, which is not read; names= can leave it out")
    array = _part(cursor, order, shape, name).astype(_CLASSES[kind], copy=False)
    if flags & _COMPLEX:
        real, array = array, np.empty(array.shape, np.result_type(array.dtype, np.complex64))
        array.real, array.imag = real, _part(cursor, order, shape, name)
    return array.astype(bool) if flags & _LOGICAL else array


def _part(cursor: Cursor, order: str, shape: tuple[int, ...], name: str) -> np.ndarray:
    """The real or the imaginary part: numbers of the smallest type that holds them, first axis fastest."""
    flat = _element(cursor, order, f"variable {name!r}")
    shape = cursor.possible(shape, flat.dtype, f"variable {name!r}")
    if math.prod(shape) != len(flat):
        raise cursor.wrong(f"variable {name!r} of shape {shape} has {len(flat)} numbers")
    return flat.reshape(shape, order="F")


def _element(cursor: Cursor, order: str, what: str) -> np.ndarray:
    """The numbers of the next element; up to four bytes may stand in the tag itself."""
    (first,) = cursor.numbers(f"{order}I", what)
    kind, size = first & 0xFFFF, first >> 16
    if not size:
        kind, (size,) = first, cursor.numbers(f"{order}I", what)
        padding = -size % 8
    elif size <= 4:
        padding = 4 - size
    else:
        raise cursor.wrong(f"{what} of {size} bytes stands in a tag of 4")
    if kind not in _STORED or size % np.dtype(_STORED[kind]).itemsize:
        raise cursor.wrong(f"{what} is {size} bytes of type {kind}")
    dtype = np.dtype(order + _STORED[kind])
    numbers = cursor.array(dtype, (size // dtype.itemsize,), what)
    cursor.take(min(padding, cursor.left), what)
    return numbers

"""Archives of NumPy, without the pickles that they may hold."""

from __future__ import annotations

import re

import numpy as np

from fluxion.data.formats.archives import members
from fluxion.data.formats.cursor import AnyPath, Cursor

_HEADER = re.compile(
    r"\s*\{\s*'descr':\s*'([<>|=][biufc]\d+)',\s*'fortran_order':\s*(True|False),"
    r"\s*'shape':\s*(\((?:\d{1,18}, ?)*(?:\d{1,18})?\)),?\s*\}\s*"
)


def npz_arrays(path: AnyPath) -> dict[str, np.ndarray]:
    """The arrays of numbers in an `.npz` file, by name."""
    return {name.removesuffix(".npy"): npy_array(content, f"{path}:{name}") for name, content in members(path)}


def npy_array(data: bytes, path: AnyPath) -> np.ndarray:
    """The array of numbers in the bytes of an `.npy` file."""
    cursor = Cursor(data, path)
    magic, major, _ = cursor.numbers("6sBB", "the first bytes of an array")
    if magic != b"\x93NUMPY" or major not in (1, 2, 3):
        raise cursor.wrong("no array of NumPy")
    (size,) = cursor.numbers("<H" if major == 1 else "<I", "the size of the header")
    header = _HEADER.fullmatch(str(cursor.take(size, "the header"), "latin-1"))
    if header is None:
        raise cursor.wrong("the array is of a type other than plain numbers")
    shape = tuple(int(number) for number in re.findall(r"\d+", header[3]))
    try:
        dtype = np.dtype(header[1])
    except TypeError:
        raise cursor.wrong(f"NumPy has no type {header[1]}") from None
    fortran = header[2] == "True"
    array = cursor.array(dtype, shape[::-1] if fortran else shape, "the array")
    cursor.finish("the array")
    return array.transpose() if fortran else array

"""Rows of an array in main memory, collected at random places: what a batch of a shuffled data set is.

Copying a row takes as long as memory takes to answer for its first lines; a processor foresees the lines that follow,
but not where the next row is. So while a row is copied, the one after the next is asked for. This halves the time. It
is called by Python threads rather than by XLA's programs, outside the interpreter's lock.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from fluxion.kernels import ir
from fluxion.kernels.builder import Function
from fluxion.kernels.machine import Machine
from fluxion.kernels.routines import routine

LEAST_ROW = 256  # bytes; NumPy is as fast with shorter rows, and with arrays that the cache holds
LEAST_ARRAY = 8 << 20
AHEAD = 2  # rows
ARGUMENTS = ("uint8*", "int64*", "int64", "int64", "uint8*")


class RowTaker:
    """`take(index, out)` is `out[i] = array[index[i]]`, for int64 indices from 0 to the length less one.

    `out` is contiguous and of the dtype of `array`.

    >>> take, out = RowTaker(np.arange(12, dtype=np.float32).reshape(4, 3)), np.empty((2, 3), np.float32)
    >>> take(np.array([3, 1]), out)
    >>> out.tolist()
    [[9.0, 10.0, 11.0], [3.0, 4.0, 5.0]]
    """

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.row_bytes = array.nbytes // max(len(array), 1)  # of a single row the stride may be anything

    def __call__(self, index: np.ndarray, out: np.ndarray) -> None:
        self._take(np.ascontiguousarray(index, np.int64), out)

    @functools.cached_property
    def _take(self) -> Callable[[np.ndarray, np.ndarray], object]:
        array, size = self.array, self.row_bytes
        worth = size >= LEAST_ROW and array.nbytes >= LEAST_ARRAY and array.flags.c_contiguous
        copy = routine("take_rows", ARGUMENTS, routine_text) if worth else None
        if copy is None:  # the modes other than "clip" go through one more copy
            return lambda index, out: array.take(index, axis=0, out=out, mode="clip")
        start = array.ctypes.data
        return lambda index, out: copy(start, index.ctypes.data, len(index), size, out.ctypes.data)


def routine_text(machine: Machine) -> str:
    """The function `take_rows(array, index, count, bytes of a row, out)` in LLVM's language."""
    module = ir.Module(machine.triple)
    f = Function(module, machine, "take_rows", ARGUMENTS, internal=False)
    array, index, count, size, out = f.arguments
    lanes = machine.vector_bytes
    for row in f.range(count):
        source, target = array + index[row] * size, out + row * size
        following = array + index[f.minimum(row + AHEAD, count - 1)] * size
        for i in f.range(0, size - lanes, lanes):
            following.prefetch(i)
            target.store(source.load(i, lanes=lanes), i)
        last = size - lanes  # overlaps with what has been copied
        target.store(source.load(last, lanes=lanes), last)
    f.finish()
    return str(module)

"""How a loader reads: batches in one call where the data can, single observations by several threads where not."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fluxion.data.buffers import aligned_empty
from fluxion.data.errors import CorruptFileError, note
from fluxion.data.observations import collate, getobs, is_array, is_batched, over_parts, source_of
from fluxion.data.place import device_dtype, is_number
from fluxion.data.streams import is_stream
from fluxion.kernels.rows import RowTaker
from fluxion.onehot import OneHotArray

LARGE_ROW = 256  # bytes, from which on another copy of a batch costs more than to avoid it


class Skipped:
    """Stands for an observation that could not be read; `error` says why."""

    def __init__(self, index: int, error: CorruptFileError) -> None:
        self.index, self.error = index, error


class Reader:
    """Reads observations of `data`: `many` a batch at once, `singly` a list of them, which `assemble` makes a batch.

    For a device, the arrays of a batch are new ones, of the dtypes that the device has, and begin where XLA can take
    them without another copy.
    """

    def __init__(self, data: Any, collate: Callable[[list[Any]], Any] | None, skip: bool, on_host: bool) -> None:
        self.data, self.collate, self.skip, self.on_host = data, collate, skip, on_host
        self.batched = collate is None and is_batched(data)
        self.streamed = is_stream(data)
        self.parts = over_parts(self._reader, data) if self.batched else None

    def many(self, index: slice | np.ndarray) -> Any:
        return over_parts(lambda read: read(index), self.parts)

    def _reader(self, part: Any) -> Callable[[slice | np.ndarray], Any]:
        """What reads batches of a part of the data."""
        if type(part) is not np.ndarray or not is_number(part.dtype):
            return lambda index: self._new(getobs(part, index))
        dtype, row = part.dtype if self.on_host else device_dtype(part.dtype), part.shape[1:]
        large = math.prod(row) * dtype.itemsize >= LARGE_ROW
        empty = aligned_empty if large else np.empty
        take = RowTaker(part)
        if dtype != part.dtype:
            return lambda index: part[index].astype(dtype)

        def read(index: slice | np.ndarray) -> np.ndarray:
            if isinstance(index, slice):
                rows = part[index]
                if self.on_host:
                    return rows
                out = empty(rows.shape, dtype)
                out[...] = rows
            else:
                out = empty((len(index), *row), dtype)
                take(index, out)
            return out

        return read

    def singly(self, indices: np.ndarray) -> list[Any]:
        if hasattr(self.data, "__getitems__"):  # as PyTorch calls several at once
            with contextlib.suppress(Exception):  # that of a single one says which it is
                found = list(self.data.__getitems__(indices.tolist()))
                if len(found) == len(indices):  # some give one batch of them
                    return found
        return [self._one(i) for i in indices.tolist()]

    def _one(self, i: int) -> Any:
        try:
            return getobs(self.data, i)
        except Exception as error:
            if self.skip and isinstance(error, CorruptFileError):
                return Skipped(i, error)
            source = source_of(self.data, i)
            note(error, f"while reading observation {i}" + (f", {source}" if source else ""))
            raise

    def assemble(self, observations: list[Any]) -> Any:
        return self._new(self.collate(observations)) if self.collate else collate(observations)

    def _new(self, batch: Any) -> Any:
        """What a function of the user's has made, which may use its memory again while the batch is in use."""
        return batch if self.on_host else over_parts(_copy, batch)


def _copy(part: Any) -> Any:
    if not is_array(part) or isinstance(part, (jax.Array, OneHotArray)):
        return part
    array = np.asarray(part)
    out = aligned_empty(array.shape, array.dtype) if is_number(array.dtype) else np.empty_like(array)
    out[...] = array
    return out

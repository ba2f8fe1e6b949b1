"""How a loader reads: batches in one call where the data can, single observations by several threads where not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fluxion.data.buffers import aligned_empty
from fluxion.data.errors import CorruptFileError
from fluxion.data.observations import collate, getobs, is_batched, over_parts, source_of
from fluxion.data.place import device_dtype, is_number
from fluxion.data.streams import is_stream


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

    def many(self, index: slice | np.ndarray) -> Any:
        return over_parts(lambda part: self._of(part, index), self.data)

    def _of(self, part: Any, index: slice | np.ndarray) -> Any:
        if self.on_host or type(part) is not np.ndarray or not is_number(part.dtype):
            return getobs(part, index)
        dtype = device_dtype(part.dtype)
        if isinstance(index, slice) or dtype != part.dtype:
            rows = part[index]
            out = aligned_empty(rows.shape, dtype)
            out[...] = rows
            return out
        out = aligned_empty((len(index), *part.shape[1:]), dtype)
        return np.take(part, index, axis=0, out=out, mode="clip")  # other modes go through one more copy

    def singly(self, indices: np.ndarray) -> list[Any]:
        return [self._one(i) for i in indices.tolist()]

    def _one(self, i: int) -> Any:
        try:
            return getobs(self.data, i)
        except Exception as error:
            if self.skip and isinstance(error, CorruptFileError):
                return Skipped(i, error)
            source = source_of(self.data, i)
            error.add_note(f"while reading observation {i}" + (f", {source}" if source else ""))
            raise

    def assemble(self, observations: list[Any]) -> Any:
        return (self.collate or collate)(observations)

"""Which observations each batch of an epoch holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fluxion.data.checks import whole_number

PARTIAL = ("keep", "drop", "pad")


@dataclass
class Piece:
    """This process's part of batch `number`: where its observations are, and which of them are no repetition.

    `observations` are those of a stream, which have been read already.
    """

    number: int
    index: slice | np.ndarray
    valid: np.ndarray | None
    observations: list[Any] | None = None

    @property
    def places(self) -> np.ndarray:
        return np.arange(self.index.start, self.index.stop) if isinstance(self.index, slice) else self.index


class Plan:
    """How observations are cut into batches, and batches into the parts of `count` processes.

    Batches are those of all processes together, so that each process has as many, and so that training sees the same
    batches however many processes there are.
    """

    def __init__(self, batch_size: Any, partial: Any, shard: Any) -> None:
        self.batch_size = whole_number("batch_size", batch_size, least=1)
        if partial not in PARTIAL:
            raise ValueError(
                f'partial= takes "keep", "drop" or "pad" for a last batch that is not full, got {partial!r}'
            )
        if not (isinstance(shard, tuple) and len(shard) == 2):
            raise TypeError(f"shard= takes (number of this process, number of processes), got {shard!r}")
        self.partial = partial
        self.shards = whole_number("the number of shards", shard[1], least=1)
        self.shard = whole_number("the number of this shard", shard[0], least=0, most=self.shards - 1)
        if self.batch_size % self.shards:
            raise ValueError(
                f"batch_size={batch_size} is the size of the batches of all {self.shards} shards together and must be "
                f"a multiple of {self.shards}"
            )

    @property
    def of(self) -> tuple[int, int]:
        return self.shard, self.shards

    def check(self, count: int) -> None:
        """ValueError where `count` observations make no batch, or none for some shard."""
        if count == 0:
            raise ValueError("the data holds no observations")
        if self.length(count) == 0:
            raise ValueError(
                f'partial="drop" with {count} observations and batch_size={self.batch_size} leaves no batch at all; '
                f"use a batch_size of at most {count}"
            )
        self.check_last(count % self.batch_size)

    def check_last(self, rest: int) -> None:
        """ValueError where some shard gets none of the `rest` observations that the last batch has."""
        if self.partial == "keep" and 0 < rest < self.shards:
            raise ValueError(
                f"the last batch has {rest} observations for {self.shards} shards, so that some get none; "
                f'give partial="pad" or partial="drop"'
            )

    def length(self, count: int) -> int:
        full, rest = divmod(count, self.batch_size)
        return full + (1 if rest and self.partial != "drop" else 0)

    def pieces(self, count: int, order: np.ndarray | None, start: int) -> Iterator[Piece]:
        """The parts of this process in the batches from number `start` on."""
        for number in range(start, self.length(count)):
            first = number * self.batch_size
            size = min(self.batch_size, count - first)
            rows, valid = self.rows(size)
            if isinstance(rows, slice):
                rows = slice(first + rows.start, first + rows.stop)
                yield Piece(number, rows if order is None else order[rows], valid)
            else:
                yield Piece(number, first + rows if order is None else order[first + rows], valid)

    def rows(self, size: int) -> tuple[slice | np.ndarray, np.ndarray | None]:
        """Which of the `size` observations of a batch this process has, and with "pad" which are no repetition."""
        if self.partial != "pad":
            return slice(size * self.shard // self.shards, size * (self.shard + 1) // self.shards), None
        share = self.batch_size // self.shards
        places = np.arange(share * self.shard, share * (self.shard + 1))
        return places % size, places < size

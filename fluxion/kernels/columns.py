"""Sums over the rows of a matrix, for each channel: a bias's gradient, and what batch normalisation is made of.

Sums are taken in three steps, so that few numbers are ever added to a sum that is much larger than they are: over
BLOCK rows in registers, over the blocks of a task in memory, over the tasks. They depend on the shape alone, not on the
number of threads.

    task 0 | rows    0 ...  | block, block, ...   each block: all channels, BLOCK rows deep
    task 1 | rows 1024 ...  |                     -> one partial sum for each channel
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from fluxion.kernels.builder import Tile
from fluxion.kernels.finish import sloped
from fluxion.kernels.generated import Buffer, Kernel, Work, kernel
from fluxion.kernels.machine import Machine
from fluxion.kernels.values import Index, Number, Pointer, computed

BLOCK = 32  # rows that are summed in registers
WIDE = 4  # vectors of channels that are summed side by side
MOST_TASKS = 64
TASK_NUMBERS = 1 << 14  # so many numbers are worth a task of their own


@dataclass(frozen=True)
class Rows:
    """A matrix, and how its rows are dealt out to tasks."""

    rows: int
    channels: int

    @property
    def tasks(self) -> int:
        return max(1, min(MOST_TASKS, self.rows * self.channels // TASK_NUMBERS, self.rows // BLOCK))

    def share(self, f: Work, task: Index) -> tuple[Index, Index]:
        """First row of a task, and the row behind its last."""
        each = -(-self.rows // self.tasks)
        first = f.minimum(task * each, self.rows)
        return first, f.minimum(first + each, self.rows)

    def blocks(self, f: Work, lanes: int) -> Iterator[tuple[Index, Index, Index, int, Index | None]]:
        """The blocks of a task: first row and the one behind the last, first channel, vectors side by side, and how
        many lanes of the last are there (None: all).

        The body is emitted up to three times: for WIDE vectors, for one, and for the masked rest of the channels.
        """
        start, stop = self.share(f, f.task)
        wide = self.channels // (WIDE * lanes) * WIDE * lanes
        whole = self.channels // lanes * lanes
        for row in f.range(start, stop, BLOCK):
            end = f.minimum(row + BLOCK, stop)
            for channel in f.range(0, wide, WIDE * lanes):
                yield row, end, channel, WIDE, None
            for channel in f.range(wide, whole, lanes):
                yield row, end, channel, 1, None
            for channel in f.range(whole, self.channels, lanes):
                yield row, end, channel, 1, self.channels - whole


class Channels:
    """Vectors of numbers for each channel, for the channels of one block, loaded once."""

    def __init__(self, channel: Index, vectors: int, lanes: int, count: Index | None) -> None:
        self.places = [channel + v * lanes for v in range(vectors)]
        self.lanes, self.count = lanes, count

    def load(self, pointer: Pointer, offset: Index = 0) -> list[Number]:
        return [pointer.load(offset + place, self.count, self.lanes) for place in self.places]

    def store(self, pointer: Pointer, values: Sequence[Number], offset: Index = 0) -> None:
        for place, value in zip(self.places, values, strict=True):
            pointer.store(value, offset + place, self.count)


def sum_columns(
    k: Kernel, rows: Rows, partial: Buffer, terms: Callable[[Work, Channels], Callable[[Index], list[Number]]], n: int
) -> None:
    """A phase that puts `n` sums over the rows of each task, for each channel, into `partial` (tasks, n, channels).

    `terms(f, block)` prepares a block and returns a function of the row's start, which gives what is to be added: n
    vectors for the first vector of channels, n for the next, and so on.
    """
    dtype, lanes = partial.dtype, k.lanes(partial.dtype)
    with k.parallel(rows.tasks) as f:
        mine = f[partial] + f.task * (n * rows.channels)
        for i, count in f.vectors(n * rows.channels, dtype=dtype):
            mine.store(f.zero(dtype), i, count)
        for row, end, channel, vectors, count in rows.blocks(f, lanes):
            block = Channels(channel, vectors, lanes, count)
            term, total = terms(f, block), f.tile(vectors, n, f.zero(dtype))
            for r in f.range(row, end, carry=total):
                for i, value in enumerate(term(r * rows.channels)):
                    total[i] = total[i] + value
            for s in range(n):
                before = block.load(mine, s * rows.channels)
                sums = [a + total[v, s] for v, a in enumerate(before)]
                block.store(mine, sums, s * rows.channels)


def sum_tasks(f: Work, partial: Buffer, rows: Rows, n: int, channel: Index, count: Index | None) -> Tile:
    """The `n` sums over all rows, for one vector of channels."""
    lanes = f.lanes(partial.dtype)
    total = f.tile(n, value=f.zero(partial.dtype))
    for task in f.range(rows.tasks, carry=total):
        for s in range(n):
            total[s] = total[s] + f[partial].load((task * n + s) * rows.channels + channel, count, lanes)
    return total


@kernel
def column_sums(k: Kernel, x: Buffer, *others: Buffer) -> None:
    """The sum over the rows of `x` (rows, channels); of numbers whose `mask`, if there is one, is above 0."""
    *masks, sums = others
    rows, dtype = Rows(*x.shape), computed(x.dtype)
    partial = k.scratch(rows.tasks * rows.channels, dtype)

    def terms(f: Work, block: Channels) -> Callable[[Index], list[Number]]:
        def term(place: Index) -> list[Number]:
            numbers = block.load(f[x], place)
            for mask in masks:
                passes = block.load(f[mask], place)
                numbers = [sloped(f, number, y) for number, y in zip(numbers, passes, strict=True)]
            return numbers

        return term

    sum_columns(k, rows, partial, terms, 1)
    with k.parallel(1) as f:
        for channel, count in f.vectors(rows.channels, dtype=dtype):
            f[sums].store(sum_tasks(f, partial, rows, 1, channel, count)[0], channel, count)


def column_sums_call(machine: Machine, x: Any, *masks: Any) -> Callable[..., Any] | None:
    """What computes the sums of this type of `x` (..., channels) here; None where XLA is to."""
    dtype = np.dtype(x.dtype).name
    if dtype not in ("float32", "float64", "bfloat16"):
        return None
    rows = math.prod(x.shape[:-1]), x.shape[-1]
    output = jax.ShapeDtypeStruct(rows[1:], dtype)
    return lambda *arrays: (column_sums(*(a.reshape(rows) for a in arrays), outputs=output, machine=machine),)

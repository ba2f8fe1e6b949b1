"""The register tile: the innermost loop of every kernel that multiplies matrices, and so of nearly all of them.

    acc[r, v] += a[r, k] * b[k, v]        for all k

                     b: one row of vectors per k, packed one behind the other
                    +----+----+
                    | v0 | v1 |        2 loads
                    +----+----+
       a[0, k]  ->  | .. | .. |
       a[1, k]  ->  | .. | .. |        each number of a is spread over all lanes of a vector,
         ...        | .. | .. |        and multiplied into a row of the tile
       a[13, k] ->  | .. | .. |        28 accumulators, which stay in registers

A tile of R rows and V vectors does R * V multiplications for R + V loads. Processors start two of each in a cycle, so
with R * V > R + V the loads keep up, and a tile of about 12 x 2 of 32 registers (6 x 2 of 16) runs at the full speed of
the multipliers. Every accumulator needs its last result four cycles later: 8 of them are enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fluxion.kernels.builder import Function, Tile
from fluxion.kernels.machine import Machine
from fluxion.kernels.values import Index, Number, Pointer


def tile_rows(machine: Machine, columns: int) -> int:
    """The most rows of a tile of so many vectors a row that fits into the registers, two being left for operands."""
    return max((machine.registers - columns - 1) // columns, 1)


def multiply_add(
    f: Function,
    total: Tile,
    a: Pointer,
    row_stride: Index | Sequence[Index],
    b: Pointer,
    depth: Index,
    *,
    a_step: Index = 1,
    b_step: int,
    unroll: int = 4,
    last_lanes: Index | None = None,
) -> None:
    """Adds the product of a block of `a` and a block of `b` to a tile.

    Row r, position k of `a` lies at `r * row_stride + k * a_step`, or at `row_stride[r] + k * a_step` where a sequence
    is given; row k of `b`, as many vectors as the tile has columns, at `k * b_step`. Of the last vector of a row only
    `last_lanes` lanes are read.
    """
    rows = row_stride if isinstance(row_stride, Sequence) else [r * row_stride for r in range(total.rows)]
    lanes = total[0].lanes or 1
    for k in f.range(depth, unroll=unroll, carry=total):
        weights = b + k * b_step
        counts = [None] * (total.columns - 1) + [last_lanes]
        vectors = [weights.load(v * lanes, count) for v, count in enumerate(counts)]
        places = [a + k * a_step + row for row in rows]
        step(f, total, (place.splat() for place in places), vectors)


def step(f: Function, total: Tile, numbers: Iterable[Number], vectors: Sequence[Number]) -> None:
    """One step of the depth: each number, spread over all lanes, times all vectors, added to its row of the tile.

    A number is read when its turn comes: the registers that the sums leave hold one of them, not all.
    """
    for r, number in enumerate(numbers):
        for v, vector in enumerate(vectors):
            total[r, v] = f.fma(number, vector, total[r, v])

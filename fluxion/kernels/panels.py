"""Copies of a matrix in the order in which the register tile reads it: a block of columns, row by row.

     columns                          block 0    block 1
  +--------+--------+                +--------+ +--------+
k |  0..31 | 32..63 |                | k0     | | k0     |      one vector after the other, zeros
  |        |        |      ->        | k1     | | k1     |      behind the last column
  +--------+--------+                | k2     | | k2     |
"""

from __future__ import annotations

from fluxion.kernels.builder import Function
from fluxion.kernels.finish import sloped
from fluxion.kernels.values import Index, Number, Pointer


def pack_rows(
    f: Function,
    source: Pointer,
    row_stride: Index,
    depth: Index,
    columns: Index | None,
    target: Pointer,
    step: int,
    vectors: int = 1,
    mask: Pointer | None = None,
) -> None:
    """Row k of `source`, so many vectors of it, goes to `target + k * step`.

    Only the first `columns` columns are there (None: all). Numbers whose `mask` is not above 0 become 0.
    """
    lanes = f.lanes(target.dtype)
    for i in f.range(depth, unroll=4):
        for v in range(vectors):
            count = None if columns is None else columns - v * lanes
            numbers = load(f, source, mask, i * row_stride + v * lanes, count, lanes)
            target.store(numbers, i * step + v * lanes)


def pack_transposed(
    f: Function,
    source: Pointer,
    row_stride: int,
    depth: Index,
    columns: Index,
    target: Pointer,
    step: int,
    vectors: int,
) -> None:
    """The same for the transpose of `source`: its row k is column k of `source`, whose rows are the columns.

    A square of lanes x lanes numbers is transposed at a time. Behind the last column comes the last one again, and
    behind the last row what the rest of a vector holds: `target` has room for a multiple of `lanes` rows.
    """
    lanes = f.lanes(target.dtype)
    for v in range(vectors):
        places = [source + f.minimum(v * lanes + lane, columns - 1) * row_stride for lane in range(lanes)]
        for i, count in f.vectors(depth, dtype=target.dtype):
            for lane, vector in enumerate(f.transpose([place.load(i, count, lanes) for place in places])):
                target.store(vector, (i + lane) * step + v * lanes)


def load(
    f: Function, source: Pointer, mask: Pointer | None, place: Index, count: Index | None, lanes: int | None = None
) -> Number:
    """A vector of `source`, with 0 where `mask` is not above 0."""
    numbers = source.load(place, count, lanes)
    return numbers if mask is None else sloped(f, numbers, mask.load(place, count, lanes))

"""Cells: numbers of several images side by side, so that few channels fill a vector.

With 8 channels, half of the 16 lanes of a vector would be empty. Two images a and b share it instead: their numbers lie
in cells of two, a cell is read and repeated over the vector in one go, and each weight stands in the vector twice.

    rows of a and b  ->  a0 b0 a1 b1 a2 b2 ..        woven when the source is packed
    cell 1           ->  a1 b1 a1 b1 a1 b1 ..  x     one load
    weights of tap   ->  w0 w0 w1 w1 w2 w2 ..        w0 ... w7 are the weights of the output channels
    sums             ->  s0 t0 s1 t1 s2 t2 ..        s0 ... s7 belong to a, t0 ... t7 to b: taken apart to be stored
"""

from __future__ import annotations

from collections.abc import Sequence

from fluxion.kernels.builder import Function
from fluxion.kernels.values import Number, Pointer, ir_type, item_bytes


def weave(f: Function, rows: Sequence[Number]) -> list[Number]:
    """Vectors that hold the first numbers of all rows, then the second ones, and so on; a power of two of rows."""
    if len(rows) == 1:
        return list(rows)
    woven = []
    for a, b in zip(weave(f, rows[::2]), weave(f, rows[1::2]), strict=True):
        lanes = a.lanes or 1
        pairs = [lane for i in range(lanes) for lane in (i, lanes + i)]
        woven += [f.shuffle(a, b, pairs[:lanes]), f.shuffle(a, b, pairs[lanes:])]
    return woven


def unwoven(f: Function, vectors: Sequence[Number]) -> list[Number]:
    """The rows that, woven, are these vectors."""
    if len(vectors) == 1:
        return list(vectors)
    lanes = vectors[0].lanes or 1
    pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
    halves = [unwoven(f, [f.shuffle(a, b, range(i, 2 * lanes, 2)) for a, b in pairs]) for i in range(2)]
    return [row for two in zip(*halves, strict=True) for row in two]


def repeated(place: Pointer, cell: int) -> Number:
    """A vector that holds the cell of so many numbers at `place` again and again; float32 or float64."""
    f, lanes = place.f, place.f.lanes(place.dtype)
    if cell == 1:
        return place.splat()
    if cell == lanes:
        return place.load()
    # As one wide number, which LLVM reads and spreads in one instruction.
    count, size = cell * item_bytes(place.dtype) // 8, item_bytes(place.dtype)
    wide = Number(f, f.ir.load(place.ir, typ=ir_type("float64", count), align=size), "float64", count)
    spread = f.shuffle(wide, wide, [lane % count for lane in range(lanes * size // 8)])
    return Number(f, f.ir.bitcast(spread.ir, ir_type(place.dtype, lanes)), place.dtype, lanes)


def stretched(f: Function, numbers: Number, cell: int) -> Number:
    """A vector in which each number stands so many times."""
    lanes = numbers.lanes or 1
    return f.shuffle(numbers, numbers, [lane // cell for lane in range(lanes * cell)]) if cell > 1 else numbers


def parts(f: Function, numbers: Number, cell: int) -> list[Number]:
    """What a vector of cells holds of the first image, of the second, and so on."""
    lanes = numbers.lanes or 1
    return [f.shuffle(numbers, numbers, range(i, lanes, cell)) for i in range(cell)] if cell > 1 else [numbers]

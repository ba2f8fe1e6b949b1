"""How a matrix product is cut into pieces that fit the caches, and the pieces into tasks.

                       columns of b and c
                +--------+--------+--------+
                | group  | group  | group  |      A task is one group of rows, one group of columns and one part of
       +---+    +--------+--------+--------+      the depth. It goes through its depth block by block: packs the block
    a  |   |  rows   c   |        |        |      of b, which then stays in the second cache; and for each tile's
       +---+    +--------+--------+--------+      rows packs those of a, which stay in the first.
       depth

All of it follows from the shapes and the caches, never from the number of threads: the same sums, in the same order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from fluxion.kernels.geometry import Convolution, Direction, Shape
from fluxion.kernels.machine import Machine
from fluxion.kernels.tile import tile_rows
from fluxion.kernels.values import Index, item_bytes

TASKS = 32  # as many pieces as keep some dozen cores busy
DEEPEST = 256  # of a block of the depth: longer sums lose more bits
LATENCY = 8  # accumulators without which the multipliers wait for their own results
FEWEST_ROWS = 128  # of a group: a block of b that is packed for fewer is not worth it
FEWEST_COLUMNS = 256  # of a group: memory is slow where it is read in shorter stretches, a row of b after the other
WORTH = 1 << 19  # multiplications that are worth a task of their own


class Form(StrEnum):
    """Which of the two factors is stored transposed."""

    NN = "nn"
    NT = "nt"
    TN = "tn"


@dataclass(frozen=True)
class Places:
    """Where the rows of a matrix lie when they are every `stride`-th position of an image, from `start` on.

    >>> [int(Places((5,), (2,), (2,), (1,)).of(row)) for row in range(4)]
    [1, 3, 6, 8]
    """

    sizes: Shape
    counts: Shape
    stride: Shape
    start: Shape

    def of(self, row: Index) -> Index:
        """Number of the position of this row, counted over all images."""
        place: Index = 0
        apart = 1
        for size, count, stride, start in reversed(
            list(zip(self.sizes, self.counts, self.stride, self.start, strict=True))
        ):
            place = (row % count * stride + start) * apart + place
            row = row // count
            apart *= size
        return row * apart + place

    @property
    def consecutive(self) -> bool:
        """True where the rows are all positions, one behind the other."""
        return self.sizes == self.counts


@dataclass(frozen=True)
class Product:
    """`c = a b` in numbers. `a` is (rows, depth), or (depth, rows) in the form "tn"; `b` (depth, columns), or its
    transpose in "nt"; `c` (rows, columns).

    `places` tell where the rows of one array lie: those of `a` in the forms "nn" and "tn", of `c` in "nt". These are
    the three directions of a convolution with a kernel of one tap; the array is always that of its input.
    """

    form: Form
    rows: int
    depth: int
    columns: int
    places: Places | None = None

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * self.depth * self.columns

    def bytes(self, item: int) -> int:
        """Bytes of all three matrices, of numbers of so many bytes."""
        return item * (self.rows * self.depth + self.depth * self.columns + self.rows * self.columns)

    @classmethod
    def of(cls, geometry: Convolution, direction: Direction) -> Product | None:
        """A convolution as a product, or None where it is none."""
        starts = tuple(-low for low, _ in geometry.pads)
        axes = list(zip(starts, geometry.sizes, geometry.out_sizes, geometry.stride, strict=True))
        inside = all(start >= 0 and start + (count - 1) * step < size for start, size, count, step in axes)
        if geometry.groups != 1 or math.prod(geometry.kernel) != 1 or not inside:
            return None
        places: Places | None = Places(geometry.sizes, geometry.out_sizes, geometry.stride, starts)
        places = None if places is None or places.consecutive else places
        positions = geometry.batch * math.prod(geometry.out_sizes)
        inputs, outputs = geometry.inputs, geometry.outputs
        if direction is Direction.FORWARD:
            return cls(Form.NN, positions, inputs, outputs, places)
        if direction is Direction.INPUT_GRADIENT:
            return cls(Form.NT, positions, outputs, inputs, places)
        return cls(Form.TN, inputs, positions, outputs, places)


@dataclass(frozen=True)
class Plan:
    """Sizes of all pieces: `rows` x `vectors` of a tile, those of a group, and the depth of a block and of a part."""

    rows: int
    vectors: int
    group_rows: int
    group_columns: int
    block_depth: int
    part_depth: int

    def counts(self, problem: Product) -> tuple[int, int, int]:
        """How many groups of rows and of columns, and how many parts of the depth there are."""
        pairs = (
            (problem.rows, self.group_rows),
            (problem.columns, self.group_columns),
            (problem.depth, self.part_depth),
        )
        rows, columns, parts = (-(-whole // piece) for whole, piece in pairs)
        return rows, columns, parts


def make_plan(problem: Product, machine: Machine, dtype: str) -> Plan:
    """The pieces of a product whose numbers are computed as `dtype`."""
    lanes = machine.lanes(dtype)
    rows, vectors = _tile(problem, machine, lanes)
    width = vectors * lanes
    pieces = -(-problem.depth // DEEPEST)
    block_depth = _round_up(-(-problem.depth // pieces), lanes)
    most = max(machine.l2 // 2 // (block_depth * width * item_bytes(dtype)), 1)
    blocks, tiles = -(-problem.columns // width), -(-problem.rows // rows)

    wanted = min(TASKS, max(problem.flops // 2 // WORTH, 1))
    groups_of_rows = max(min(wanted, tiles * rows // FEWEST_ROWS), 1)
    groups_of_columns = min(-(-wanted // groups_of_rows), problem.columns // FEWEST_COLUMNS)
    groups_of_columns = min(max(groups_of_columns, -(-blocks // most)), blocks)
    parts = min(-(-wanted // (groups_of_rows * groups_of_columns)), pieces, problem.depth // (4 * problem.rows))
    parts = max(parts, 1)
    return Plan(
        rows=rows,
        vectors=vectors,
        group_rows=-(-tiles // groups_of_rows) * rows,
        group_columns=-(-blocks // groups_of_columns) * width,
        block_depth=block_depth,
        part_depth=-(-pieces // parts) * block_depth,
    )


def _tile(problem: Product, machine: Machine, lanes: int) -> tuple[int, int]:
    """Rows and vectors of the tile with the least work, what it computes beyond the edges included."""
    total = -(-problem.columns // lanes)

    def evenly(vectors: int) -> int:
        tiles = -(-problem.rows // tile_rows(machine, vectors))
        return -(-problem.rows // tiles)

    def work(vectors: int) -> float:
        rows = evenly(vectors)
        tiles = -(-problem.rows // rows) * -(-total // vectors)
        # b comes from the second cache, a from the first: a vector of b costs more than a number of a.
        return tiles * (max(rows * vectors, LATENCY) + 0.25 * rows + vectors)

    vectors = min(range(1, min(4, total) + 1), key=work)
    return evenly(vectors), vectors


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step

"""Matrix products of row-major arrays, in the three forms that are each other's derivatives.

    nn   c[m, n] = sum over k of a[m, k] b[k, n]         forward          x   w
    nt   c[m, n] = sum over k of a[m, k] b[n, k]         input gradient   dy  w, transposed
    tn   c[m, n] = sum over k of a[k, m] b[k, n]         weight gradient  x, transposed  dy

What all do with one block of the depth:

                                 b, packed: a block of columns     +----+----+
                                 lies there row by row             | k0 | k0 |
                                                                   | k1 | k1 |
      a: a tile's rows                                             +----+----+
      +---------+   nn, nt: as they are, or copied where the             |  times
      | k0 k1 . |   processor's cache could not hold rows that      +----+----+
      | k0 k1 . |   lie so far apart                                |  tile   |  stays in registers through the depth
      +---------+   tn: packed, the tile's column of k0, of k1 ...  +----+----+

Each block's sum starts from zero, and is added to those of the blocks before it: shorter sums lose fewer bits. A 1x1
convolution is a product too; its strides only say where the rows lie (`Places`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from jax import Array

from fluxion.kernels.builder import Tile
from fluxion.kernels.candidate import Candidate, expected_seconds
from fluxion.kernels.epilogue import Epilogue
from fluxion.kernels.finish import Finish
from fluxion.kernels.generated import Buffer, Kernel, Work, kernel
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.machine import Machine
from fluxion.kernels.panels import load, pack_rows, pack_transposed
from fluxion.kernels.product_plan import Form, Plan, Product, make_plan
from fluxion.kernels.tile import multiply_add
from fluxion.kernels.values import Index, Number, Pointer, computed, item_bytes

ALIASED = 1024  # bytes: rows that lie a multiple of it apart compete for few lines of the first cache
PLAIN = Epilogue()
START, EFFICIENCY = 3e-6, 0.82  # seconds before the first task, and the share of the peak: see `candidate`
PANELS = 64  # rows of tiles that are packed together
PIECE = 1 << 14  # numbers that a task of a simple pass goes through


@kernel
def product(
    k: Kernel,
    a: Buffer,
    b: Buffer,
    *rest: Buffer,
    problem: Product,
    masked: bool = False,
    epilogue: Epilogue = PLAIN,
    plan: Plan | None = None,
) -> None:
    """`epilogue(a b)`. With `masked`, the third operand says by `> 0` which numbers of the gradient `dy` count."""
    mask, extras, c = rest[0] if masked else None, rest[masked:-1], rest[-1]
    plan = plan or make_plan(problem, k.machine, computed(c.dtype))
    writer = _Writer(k, problem, plan, epilogue, extras, c)
    if writer.places:
        _clear(k, c)
    _Multiplication(k, problem, plan, a, b, mask, writer).write()
    if writer.partial:
        writer.finish()


@dataclass(frozen=True)
class _Block:
    """A block of the depth within a task, and the rows and columns that the task computes."""

    part: Index
    is_first: Number | bool
    start: Index
    depth: Index
    row: Index
    last_row: Index
    column: Index
    last_column: Index


class _Multiplication:
    """The phase that multiplies."""

    def __init__(
        self, k: Kernel, problem: Product, plan: Plan, a: Buffer, b: Buffer, mask: Buffer | None, writer: _Writer
    ) -> None:
        self.k, self.problem, self.plan = k, problem, plan
        self.a, self.b, self.mask, self.writer = a, b, mask, writer
        self.dtype = computed(a.dtype)
        self.lanes = k.lanes(self.dtype)
        self.width = plan.vectors * self.lanes
        self.right = k.private(plan.block_depth * plan.group_columns, self.dtype)
        self.row_stride, self.copies = self._left_layout()
        transposed = problem.form is Form.TN
        self.step = _up(plan.rows, 8) if transposed else 1
        self.panels = min(-(-PANELS // plan.rows), plan.group_rows // plan.rows) if transposed else 1
        size = plan.block_depth * self.step if transposed else plan.rows * self.row_stride
        self.panel_size = size + self.lanes  # the last store of a panel is a whole vector
        self.left = k.private(self.panels * self.panel_size, self.dtype)

    def _left_layout(self) -> tuple[int, bool]:
        """How far apart a tile's rows lie, and whether they are copied."""
        problem = self.problem
        if problem.form is Form.TN:
            return 1, True
        masked = self.mask is not None and problem.form is Form.NT
        strange = problem.places is not None and problem.form is Form.NN
        aliased = problem.depth * item_bytes(self.dtype) % ALIASED == 0 and problem.rows > 1
        copies = masked or strange or aliased or self.a.dtype != self.dtype
        return (self.plan.block_depth + 16, True) if copies else (problem.depth, False)

    def write(self) -> None:
        problem, plan = self.problem, self.plan
        row_groups, column_groups, parts = plan.counts(problem)
        with self.k.parallel(row_groups * column_groups * parts) as f:
            column = f.task % column_groups * plan.group_columns
            row = f.task // column_groups % row_groups * plan.group_rows
            part = f.task // (column_groups * row_groups) if parts > 1 else 0
            start = part * plan.part_depth
            stop = f.minimum(start + plan.part_depth, problem.depth)
            last_row = f.minimum(row + plan.group_rows, problem.rows)
            last_column = f.minimum(column + plan.group_columns, problem.columns)
            for place in f.range(start, stop, plan.block_depth):
                depth = f.minimum(plan.block_depth, stop - place)
                is_first = plan.block_depth >= plan.part_depth or f.number(place).equals(start)
                here = _Block(part, is_first, place, depth, row, last_row, column, last_column)
                self._pack_right(f, here)
                for first in f.range(row, last_row, self.panels * plan.rows):
                    self._rows(f, here, first)

    def _rows(self, f: Work, here: _Block, first: Index) -> None:
        """Some tiles one below the other, and all beside them."""
        if self.problem.form is not Form.TN:
            self._tiles(f, here, first, self._pack_left(f, here, first))
            return
        self._pack_panels(f, here, first)
        left = f[self.left]
        count = (here.last_row - first + (self.plan.rows - 1)) // self.plan.rows
        for panel in f.range(f.minimum(count, self.panels)):
            self._tiles(f, here, first + panel * self.plan.rows, left + panel * self.panel_size)

    def _tiles(self, f: Work, here: _Block, row: Index, left: Pointer) -> None:
        """All tiles of some rows."""
        for column in f.range(here.column, here.last_column, self.width):
            total = f.tile(self.plan.rows, self.plan.vectors, f.zero(self.dtype))
            right = f[self.right] + (column - here.column) * self.plan.block_depth
            multiply_add(f, total, left, self.row_stride, right, here.depth, a_step=self.step, b_step=self.width)
            self.writer.store(f, total, here, row, column)

    # ---------------------------------------------------------------- b

    def _pack_right(self, f: Work, here: _Block) -> None:
        problem, vectors = self.problem, self.plan.vectors
        for column in f.range(here.column, here.last_column, self.width):
            target = f[self.right] + (column - here.column) * self.plan.block_depth
            left_over = problem.columns - column
            if problem.form is Form.NT:
                source = f[self.b] + column * problem.depth + here.start
                pack_transposed(f, source, problem.depth, here.depth, left_over, target, self.width, vectors)
                continue
            place = here.start * problem.columns + column
            mask = f[self.mask] + place if self.mask else None
            count = None if problem.columns % self.width == 0 else left_over
            source = f[self.b] + place
            pack_rows(f, source, problem.columns, here.depth, count, target, self.width, vectors, mask)

    # ---------------------------------------------------------------- a

    def _pack_left(self, f: Work, here: _Block, row: Index) -> Pointer:
        """Where the tile's rows of this block of the depth lie."""
        plan, problem, copy = self.plan, self.problem, f[self.left]
        if self.copies:
            self._copy_rows(f, here, row)
            return copy
        source = f[self.a] + row * problem.depth + here.start
        if problem.rows % plan.rows == 0:
            return source
        whole = f.number(row) + plan.rows <= problem.rows
        with f.when(~whole):
            self._copy_rows(f, here, row)
        return f.select(whole, source, copy)

    def _copy_rows(self, f: Work, here: _Block, row: Index) -> None:
        problem, mask = self.problem, f[self.mask] if self.mask else None
        for r in f.range(f.minimum(self.plan.rows, problem.rows - row)):
            line = problem.places.of(row + r) if problem.places and problem.form is Form.NN else row + r
            place = line * problem.depth + here.start
            for i, count in f.vectors(here.depth, dtype=self.dtype):
                numbers = load(f, f[self.a], mask, place + i, count, self.lanes)
                f[self.left].store(numbers, r * self.row_stride + i, count)

    def _pack_panels(self, f: Work, here: _Block, first: Index) -> None:
        """For each k the columns of some tiles, from a row of a: as much of it as a few lines of the cache hold."""
        problem, places, rows = self.problem, self.problem.places, self.plan.rows
        edge = problem.rows % (self.panels * rows) != 0
        for i in f.range(here.depth, unroll=2):
            line = (places.of(here.start + i) if places else here.start + i) * problem.rows + first
            for panel, part in itertools.product(range(self.panels), range(0, rows, self.lanes)):
                count: Index = min(rows - part, self.lanes)
                place = panel * rows + part
                if edge:
                    count = f.minimum(count, f.number(problem.rows - place) - first)
                numbers = f[self.a].load(line + place, count, self.lanes)
                f[self.left].store(numbers, panel * self.panel_size + i * self.step + part)


class _Writer:
    """Takes finished tiles: into the result, or into partial sums, one matrix for each part of the depth."""

    def __init__(
        self, k: Kernel, problem: Product, plan: Plan, epilogue: Epilogue, extras: Sequence[Buffer], result: Buffer
    ) -> None:
        self.k, self.problem, self.plan, self.epilogue = k, problem, plan, epilogue
        self.extras, self.result = extras, result
        self.parts = plan.counts(problem)[2]
        self.places = problem.places if problem.form is Form.NT else None
        dtype = computed(result.dtype)
        separate = self.parts > 1 or (problem.depth > plan.block_depth and result.dtype != dtype)
        self.partial = k.scratch(self.parts * problem.rows * problem.columns, dtype) if separate else None

    def store(self, f: Work, total: Tile, here: _Block, row: Index, column: Index) -> None:
        """Adds a tile to what the blocks of the depth before this one gave, and finishes it after the last."""
        rows, columns, plan = self.problem.rows, self.problem.columns, self.plan
        width = plan.vectors * (total[0].lanes or 1)
        is_last: Number | bool = self.partial is None
        if is_last and plan.block_depth < self.problem.depth:
            is_last = f.number(here.start + here.depth) >= self.problem.depth
        inside = columns % width == 0 or f.number(column) + width <= columns
        for finished in _cases(f, is_last):
            for whole in _cases(f, inside):
                for r in range(total.rows):
                    with nullcontext() if rows % plan.rows == 0 else f.when(f.number(row + r) < rows):
                        vectors = total.values[r * plan.vectors : (r + 1) * plan.vectors]
                        self._store_row(f, vectors, here, row + r, column, finished, whole)

    def _store_row(
        self, f: Work, vectors: Sequence[Number], here: _Block, row: Index, column: Index, finished: bool, whole: bool
    ) -> None:
        columns = self.problem.columns
        target, line = self._target(f, here.part, row)
        finish = Finish(f, self.epilogue, self.extras, self.result) if finished else None
        for v, sums in enumerate(vectors):
            first = column + v * (sums.lanes or 1)
            count = None if whole else columns - first
            place = line * columns + first
            if not isinstance(here.is_first, bool):
                there = f.select(here.is_first, 0, f.number(columns if count is None else count))
                sums = target.load(place, there) + sums
            if finish:
                finish(sums, place, first, count)
            else:
                target.store(sums, place, count)

    def _target(self, f: Work, part: Index, row: Index) -> tuple[Pointer, Index]:
        """Where sums go, and in which row there."""
        if self.partial:
            return f[self.partial], part * self.problem.rows + row
        return f[self.result], self.places.of(row) if self.places else row

    def finish(self) -> None:
        """A phase that adds the parts, always in the same order."""
        rows, columns = self.problem.rows, self.problem.columns
        piece = max(PIECE // columns, 1)
        partial = self.partial
        assert partial is not None
        with self.k.parallel(-(-rows // piece)) as f:
            finish = Finish(f, self.epilogue, self.extras, self.result)
            first = f.task * piece
            for row in f.range(first, f.minimum(first + piece, rows)):
                line = self.places.of(row) if self.places else row
                for i, count in f.vectors(columns, dtype=partial.dtype):
                    sums = f[partial].load(row * columns + i, count)
                    for part in range(1, self.parts):
                        sums = sums + f[partial].load((part * rows + row) * columns + i, count)
                    finish(sums, line * columns + i, i, count)


def _cases(f: Work, condition: Number | bool) -> Iterator[bool]:
    """Both outcomes of a condition, the body being what is done there; only one where it is known."""
    if isinstance(condition, bool):
        yield condition
        return
    with f.when(condition):
        yield True
    with f.when(~condition):
        yield False


def _clear(k: Kernel, array: Buffer) -> None:
    """A phase that writes zeros, for the positions to which no row belongs."""
    dtype = computed(array.dtype)
    with k.parallel(-(-array.size // PIECE)) as f:
        first = f.task * PIECE
        for i, count in f.vectors(first, f.minimum(first + PIECE, array.size), dtype=dtype):
            f[array].store(f.zero(dtype), i, count)


# ---------------------------------------------------------------- 1x1 convolutions


def candidates(geometry: Convolution, direction: Direction, dtype: str, machine: Machine) -> list[Candidate]:
    """A convolution whose kernel has one tap and whose windows all lie inside, as a product."""
    problem = Product.of(geometry, direction)
    if problem is None:
        return []
    return [candidate(problem, geometry.result_shape(direction), dtype, machine)]


def candidate(problem: Product, shape: tuple[int, ...], dtype: str, machine: Machine) -> Candidate:
    """The kernel for a product whose result has this shape."""
    run = _run_forward if problem.form is Form.NN else _run_gradient
    result = jax.ShapeDtypeStruct(shape, dtype)
    seconds = _seconds(problem, machine, dtype)
    return Candidate("product", partial(run, problem=problem, result=result, machine=machine), seconds)


def _run_forward(
    x: Array, w: Array, *extras: Array, epilogue: Epilogue = PLAIN, problem: Product, result: Any, machine: Machine
) -> Array:
    made: Array = product(x, w, *extras, outputs=result, machine=machine, problem=problem, epilogue=epilogue)
    return made


def _run_gradient(
    left: Array, right: Array, mask: Array | None = None, *, problem: Product, result: Any, machine: Machine
) -> Array:
    masks = () if mask is None else (mask,)
    made: Array = product(
        left, right, *masks, outputs=result, machine=machine, problem=problem, masked=mask is not None
    )
    return made


def _seconds(problem: Product, machine: Machine, dtype: str) -> float:
    """The time that a product is expected to take: what its tiles compute beyond the edges and the packing included."""
    plan = make_plan(problem, machine, computed(dtype))
    lanes = machine.lanes(computed(dtype))
    row_groups, column_groups, parts = plan.counts(problem)
    # To pack a vector of b takes as long as to multiply it by so many rows; likewise for a and vectors of columns.
    rows = _up(problem.rows, plan.rows) + row_groups * (8 if problem.form is Form.NT else 4)
    columns = _up(problem.columns, plan.vectors * lanes) + column_groups * 4
    moved = problem.bytes(item_bytes(dtype))
    if parts > 1:
        moved += parts * problem.rows * problem.columns * item_bytes(computed(dtype))
    flops = 2 * rows * problem.depth * columns
    return START + expected_seconds(machine, flops, EFFICIENCY, moved, row_groups * column_groups * parts, dtype)


def _up(number: int, step: int) -> int:
    return -(-number // step) * step

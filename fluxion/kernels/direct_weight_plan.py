"""How the weight gradient of a convolution is cut: into tiles, into chunks of positions, and into tasks.

Everything here follows from shapes and the machine's registers and caches, not from how many threads it has: the sums
are the same on every number of them, to the last bit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from fluxion.kernels.geometry import Convolution
from fluxion.kernels.machine import Machine
from fluxion.kernels.tile import tile_rows
from fluxion.kernels.values import computed, item_bytes

LINE = 16  # float32 numbers of a cache line
ROW = 256  # positions of one row of a chunk, at most
SUM = 96  # positions that a tile sums over at most, unless a row has more
CHUNK = 512  # positions of a chunk at most, unless a row has more
RUN = 48  # positions that the innermost loop should run over
BUSY = 8  # sums that a core can work at while it waits for the result of the first

# Cycles of one core, measured where not said otherwise.
STEP, ROW_START = 0.3, 10.0  # what a step of a tile, and the start of a row, take beside the arithmetic
ADD_SUM = 1.5  # to add one vector of a tile to the sums of its task
PACK = 8.0  # to pack one vector, which often comes from memory
SPLIT = 2.0  # how many times as long that takes where a task reads only some channels of each position
STORE, STORE_PART = 3.0, 10.0  # to store a vector of sums at once, or as a part that is added later
TASK = 2000.0
WORKERS = {2: 0.5, 8: 0.3, 16: 0.2}  # numbers of threads that a plan should suit, and how much each matters: chosen
FULL, CROWDED = 0.8, 0.2  # the share of the second cache that may be used; the loss where as much again is


@dataclass(frozen=True)
class Axis:
    """One spatial axis. Output `i` reads input `(i + shift) * stride + phase`; each tap has a shift and a phase."""

    size: int
    out: int
    taps: int = 1
    stride: int = 1
    dilation: int = 1
    low: int = 0

    @property
    def is_trivial(self) -> bool:
        """True where output `i` is input `i`, for all of them."""
        return self == Axis(self.size, self.size)

    def tap(self, tap: int) -> tuple[int, int]:
        """The shift and the phase of a tap."""
        return divmod(tap * self.dilation - self.low, self.stride)

    def length(self, phase: int) -> int:
        """How many inputs have this phase."""
        return max(0, -(-(self.size - phase) // self.stride))

    def valid(self, tap: int) -> tuple[int, int]:
        """The outputs `low ... high - 1` read an input through the tap, the others the padding."""
        shift, phase = self.tap(tap)
        low, high = max(0, -shift), min(self.out, self.length(phase) - shift)
        return (low, high) if low < high else (0, 0)

    @cached_property
    def _read(self) -> list[tuple[int, int]]:
        return [self.tap(tap) for tap in range(self.taps) if self.valid(tap)[1]]

    @cached_property
    def phases(self) -> list[int]:
        """The phases that any tap reads."""
        return sorted({phase for _, phase in self._read})

    @cached_property
    def reach(self) -> tuple[int, int]:
        """The smallest and the largest shift."""
        shifts = [shift for shift, _ in self._read] or [0]
        return min(shifts), max(shifts)

    @property
    def meetings(self) -> int:
        """How many pairs of an output and a tap read an input."""
        return sum(high - low for low, high in map(self.valid, range(self.taps)))

    def packed(self, length: int) -> int:
        """How many indices a packed x has room for: what so many outputs read of each phase."""
        low, high = self.reach
        return max(1, len(self.phases)) * (length + high - low)


@dataclass(frozen=True)
class Plan:
    """How the work is cut.

    A tile has `rows` rows of `columns` vectors; where those are few, `chains` tiles take turns. If `merged`, the rows
    run over the taps of the last axis too. A chunk is `lengths` outputs on the three axes of `images` images; a tile
    sums over `sum_rows` rows of it. A task keeps the sums of `row_blocks` times `column_blocks` tiles for each tap,
    over one of `parts` of all chunks.
    """

    merged: bool
    images: int
    lengths: tuple[int, int, int]
    sum_rows: int
    rows: int = 1
    columns: int = 1
    chains: int = 1
    row_blocks: int = 1
    column_blocks: int = 1
    parts: int = 1


class Problem:
    """What follows from a convolution and its plan.

    `taps` are the taps of the outer loops, `tap_rows` the rows of the weight at one of them; `task_rows` of those are
    a task's. `width` is how many output channels a tile has.
    """

    def __init__(self, geometry: Convolution, plan: Plan, lanes: int) -> None:
        self.plan, self.lanes = plan, lanes
        self.groups, self.inputs, self.outputs = geometry.groups, geometry.group_inputs, geometry.group_outputs
        self.batch, self.axes = three_axes(geometry)
        z, y, x = self.axes
        self.kernel = (z.taps, y.taps, 1 if plan.merged else x.taps)
        self.taps, self.tap_rows = math.prod(self.kernel), self.inputs * (x.taps if plan.merged else 1)
        self.task_rows = min(plan.row_blocks * plan.rows, self.tap_rows)
        self.width = plan.columns * lanes
        self.all_row_blocks, self.all_column_blocks = -(-self.tap_rows // plan.rows), -(-self.outputs // self.width)
        self.row_splits = -(-self.all_row_blocks // plan.row_blocks)
        self.column_splits = -(-self.all_column_blocks // plan.column_blocks)
        counts = (-(-axis.out // length) for axis, length in zip(self.axes, plan.lengths, strict=True))
        self.chunks = (-(-self.batch // plan.images), *counts)
        self.part_chunks = -(-math.prod(self.chunks) // plan.parts)
        self.tasks = self.groups * self.row_splits * self.column_splits * plan.parts

    @property
    def positions(self) -> int:
        """All positions, those of all images."""
        return self.batch * math.prod(axis.out for axis in self.axes)

    @property
    def chunk_positions(self) -> int:
        """Positions of one chunk."""
        return self.plan.images * math.prod(self.plan.lengths)

    @property
    def pixel(self) -> int:
        """Numbers from one position of x to the next."""
        return self.inputs * self.groups

    @property
    def x_step(self) -> int:
        """The same in the packed x: an odd number of cache lines, so that no part of the cache is crowded."""
        lines = -(-self.task_rows // LINE)
        return (lines + 1 - lines % 2) * LINE

    @property
    def window(self) -> int:
        """Numbers of a packed row of x of one image, where taps are merged with channels."""
        axis = self.axes[2]
        count = ((self.plan.lengths[2] - 1) * axis.stride + axis.taps) * self.inputs
        return -(-count // self.lanes) * self.lanes

    @property
    def x_row(self) -> int:
        """Numbers of a packed row of x, that of all images of a chunk."""
        columns = self.axes[2].packed(self.plan.lengths[2]) * self.x_step
        return self.plan.images * (self.window if self.plan.merged else columns)

    @property
    def packed_x(self) -> int:
        """Numbers of the packed x."""
        z, y, _ = (axis.packed(length) for axis, length in zip(self.axes, self.plan.lengths, strict=True))
        return z * y * self.x_row

    @property
    def dy_block(self) -> int:
        """Numbers of one block of the packed dy, which lie apart by a cache line."""
        return self.chunk_positions * self.width + LINE

    @property
    def sums(self) -> int:
        """How many sums a task keeps."""
        tiles = self.plan.row_blocks * self.plan.column_blocks * self.taps
        return tiles * self.plan.rows * self.width


def three_axes(geometry: Convolution) -> tuple[int, tuple[Axis, Axis, Axis]]:
    """The batch and three axes. Leading axes that do nothing go into the batch."""
    lows = (low for low, _ in geometry.pads)
    numbers = (geometry.sizes, geometry.out_sizes, geometry.kernel, geometry.stride, geometry.dilation, lows)
    axes = [Axis(*axis) for axis in zip(*numbers, strict=True)]
    batch = geometry.batch
    while axes and axes[0].is_trivial:
        batch *= axes.pop(0).out
    first, second, third = [Axis(1, 1)] * (3 - len(axes)) + axes
    return batch, (first, second, third)


@lru_cache(maxsize=4096)
def choose(geometry: Convolution, machine: Machine, dtype: str, merged: bool) -> Plan:
    """The plan that is expected to be the fastest of those that merge taps with channels, or of those that do not."""
    lanes = machine.lanes(computed(dtype))
    plans: Iterator[Plan] = _tiled(geometry, _chunk(geometry, merged), machine, lanes)
    best = min(plans, key=lambda plan: tile_cycles(Problem(geometry, plan, lanes)))
    plans = _split(geometry, best, lanes)
    return min(plans, key=lambda plan: _cost(Problem(geometry, plan, lanes), machine, dtype))


def _even(total: int, most: int) -> int:
    """The size of pieces that are as equal as possible, of at most so many."""
    return -(-total // -(-total // max(1, most)))


def _chunk(geometry: Convolution, merged: bool) -> Plan:
    """Chunks of as many whole rows, and images where rows are short, as are good for loops and caches."""
    batch, (z, y, x) = three_axes(geometry)
    length = _even(x.out, ROW)
    images = _even(batch, (SUM if x.out * y.out * z.out == 1 else RUN) // length)
    row = length * images
    rows = _even(y.out, CHUNK // row)
    layers = _even(z.out, CHUNK // (row * rows)) if rows == y.out else 1
    return Plan(merged, images, (layers, rows, length), _even(rows, SUM // row))


def _tiled(geometry: Convolution, plan: Plan, machine: Machine, lanes: int) -> Iterator[Plan]:
    """The plan with every tile that fits into the registers."""
    tap_rows = geometry.group_inputs * (geometry.kernel[-1] if plan.merged else 1)
    for columns in range(1, min(4, -(-geometry.group_outputs // lanes)) + 1):
        rows = _even(tap_rows, tile_rows(machine, columns))
        chains = next(chains for chains in (1, 2, 4) if chains * rows * columns >= BUSY or chains == 4)
        yield replace(plan, rows=rows, columns=columns, chains=chains)


def _split(geometry: Convolution, plan: Plan, lanes: int) -> Iterator[Plan]:
    """The plan with all sensible ways to make tasks."""
    problem = Problem(geometry, plan, lanes)
    chunks = math.prod(problem.chunks)
    parts = sorted({-(-chunks // -(-chunks // count)) for count in (1, 2, 4, 8, 16, 32)})
    blocks = [
        sorted({-(-total // count) for count in (1, 2, 3, 4, 6, 8, 12, 16, 32, total)})
        for total in (problem.all_row_blocks, problem.all_column_blocks)
    ]
    for row_blocks, column_blocks, count in itertools.product(*blocks, parts):
        yield replace(plan, row_blocks=row_blocks, column_blocks=column_blocks, parts=count)


def tile_cycles(problem: Problem) -> float:
    """What all steps of all tiles take, in cycles of one core: two multiplications and two loads start in each."""
    plan, (z, y, x) = problem.plan, problem.axes
    tiles = problem.groups * problem.all_row_blocks * problem.all_column_blocks
    vectors = plan.rows * plan.columns
    step = max(vectors / 2, (plan.rows + plan.columns) / 2, 4 / plan.chains) + STEP
    rows = problem.batch * z.meetings * y.meetings
    starts = rows * (1 if plan.merged else x.taps / plan.images) * ROW_START
    sums = problem.positions * problem.taps / min(SUM, problem.chunk_positions) * vectors * ADD_SUM
    return tiles * (rows * (x.out if plan.merged else x.meetings) * step + starts + sums)


def cycles(problem: Problem) -> float:
    """What the whole takes, in cycles of one core."""
    plan, groups, width = problem.plan, problem.groups, problem.all_column_blocks * problem.width
    x: float = groups * math.prod(problem.chunks) * problem.column_splits * problem.row_splits * problem.packed_x
    x *= SPLIT if problem.row_splits > 1 else 1.0
    dy = groups * problem.positions * problem.row_splits * width
    weight = groups * problem.taps * problem.tap_rows * problem.outputs
    stored = weight * (STORE if plan.parts == 1 else STORE_PART * plan.parts)
    return tile_cycles(problem) + ((x + dy) * PACK + stored) / problem.lanes + TASK * problem.tasks


def _cost(problem: Problem, machine: Machine, dtype: str) -> float:
    """Cycles, and more where tasks cannot be shared evenly or where their memory does not fit the cache."""
    idle = sum(weight * -(-problem.tasks // n) * n / problem.tasks for n, weight in WORKERS.items())
    numbers = problem.sums + problem.packed_x + problem.dy_block * problem.plan.column_blocks
    crowded = max(0.0, numbers * item_bytes(computed(dtype)) / machine.l2 - FULL)
    return cycles(problem) * idle * (1 + CROWDED * crowded)

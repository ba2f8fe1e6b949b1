"""How the work of a direct convolution is cut: the register tile, and the part of the arrays that one task takes.

Many plans are made and counted out; the one that is expected to take the fewest cycles is kept. What counts:

* tiles that cover the positions without overlapping, and channels without empty lanes, which several images may share;
* tiles whose rows are images meet no padding, so that small images need fewer multiplications (4/9 of 3 x 3 taps touch
  an image of 2 x 2);
* a task's source and one block of weights stay in the second cache, and there are enough tasks to keep all cores busy;
* finer parts copy more source twice, since neighbouring parts read the same rows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from fluxion.kernels.machine import Machine
from fluxion.kernels.packing import ALIASED, Layout, packed_layout, whole_layout
from fluxion.kernels.sweep import Sweep
from fluxion.kernels.tile import tile_rows
from fluxion.kernels.values import computed, item_bytes

MOST_VECTORS = 6  # side by side in a tile
TASKS = (8, 16, 32, 64)  # numbers of tasks that are tried
# Measured on a Zen 5, in cycles of one core beyond those of the multiplications themselves.
LOAD, CHUNK, TILE, TASK, COPY, LINE, PART = 0.1, 6.0, 40.0, 2000.0, 4.0, 20.0, 2.0


@dataclass(frozen=True)
class Plan:
    """A tile of `images` x `along` rows (images, positions along x) of `vectors`, and in how many parts the work falls.

    `parts` counts the parts of images, z, y, x and blocks of output channels: a task takes one part of each, for one
    group. With `in_place` a task reads the source where it is, else it packs its part of it first. Where `cell` is not
    1, that many images share the lanes of a vector (see cells.py), and what is said of images is true of such cells.
    """

    images: int
    along: int
    vectors: int
    in_place: bool = False
    parts: tuple[int, ...] = (1, 1, 1, 1, 1)
    cell: int = 1

    @property
    def rows(self) -> int:
        """Rows of a tile."""
        return self.images * self.along

    @property
    def padded(self) -> bool:
        """Whether what is packed has zeros along x: the rows of a tile differ in which taps meet padding."""
        return self.along > 1 and not self.in_place


@dataclass(frozen=True)
class Planner:
    """Looks for the best plan; `copied` says that the source cannot be read in place."""

    sweep: Sweep
    machine: Machine
    dtype: str
    copied: bool

    @functools.cached_property
    def best(self) -> Plan:
        """The plan that is expected to be the fastest."""
        plans = dict.fromkeys(self.cut(tile, tasks) for tile in self.tiles() for tasks in TASKS)
        return min(plans, key=lambda plan: self.cycles(plan) * (1 + 1 / self.tasks(plan)))

    # ---------------------------------------------------------------- what a plan means

    @property
    def lanes(self) -> int:
        """Lanes of a vector."""
        return self.machine.lanes(self.dtype)

    def channels(self, plan: Plan) -> int:
        """How many output channels a vector holds."""
        return self.lanes // plan.cell

    def blocks(self, plan: Plan) -> int:
        """How many blocks of output channels a group has."""
        return -(-self.sweep.width // (plan.vectors * self.channels(plan)))

    def tasks(self, plan: Plan) -> int:
        """How many tasks there are."""
        return self.sweep.groups * math.prod(plan.parts)

    def layout(self, plan: Plan) -> tuple[Layout, int]:
        """Where a task finds its source, and how many numbers it packs for that."""
        if plan.in_place:
            return whole_layout(self.sweep), 0
        scale, images_last = self.sweep.axes[2].scale, plan.along == 1 and plan.images > 1
        depth = self.sweep.depth * plan.cell
        return packed_layout(self._extents(plan), depth, images_last, scale, computed(self.dtype))

    def merged(self, plan: Plan) -> bool:
        """Whether the channels of neighbouring taps along x lie one behind the other, to be read in one loop."""
        return self.layout(plan)[0].x == self.sweep.depth * plan.cell and self.sweep.axes[2].spacing == 1

    def joined(self, plan: Plan) -> bool:
        """Whether the sums of neighbouring rows of a tile lie side by side in the result, without empty lanes."""
        whole = self.sweep.width == plan.vectors * self.channels(plan) and self.sweep.groups == 1
        return whole and (plan.along == 1 or self.sweep.axes[2].step == 1)

    def _extents(self, plan: Plan) -> tuple[int, int, int, int]:
        """The most cells and source positions along z, y and x that a task reads."""
        images, *counts = (-(-count // parts) for count, parts in zip(self._counts(max), plan.parts, strict=False))
        z, y, x = (
            axis.extent(count, clipped=axis is not self.sweep.axes[2] or not plan.padded)
            for axis, count in zip(self.sweep.axes, counts, strict=True)
        )
        return -(-images // plan.cell), z, y, x

    def _counts(self, of: Callable[[Sequence[int]], int]) -> tuple[int, int, int, int]:
        """How many images there are, and values of `t` along z, y and x in the longest or shortest phase."""
        z, y, x = (of(axis.counts) for axis in self.sweep.axes)
        return self.sweep.batch, z, y, x

    # ---------------------------------------------------------------- plans

    def tiles(self) -> Iterator[Plan]:
        """Tiles that fit into the registers and leave few rows over."""
        x = self.sweep.axes[2]
        for cell in self._cells():
            for vectors in range(1, min(MOST_VECTORS, -(-self.sweep.width * cell // self.lanes)) + 1):
                rows = tile_rows(self.machine, vectors)
                for along in _even(min(x.counts), rows):
                    for images in _even(self.sweep.batch // cell, rows // along) if along in (1, x.size) else [1]:
                        yield Plan(images, along, vectors, cell=cell)
                    if cell == 1 and self._readable_in_place():
                        yield Plan(1, along, vectors, in_place=True)

    def _cells(self) -> Iterator[int]:
        """Sizes of cells, of which each leaves fewer lanes empty than the one before."""
        cell, least = 1, math.inf
        while cell <= min(self.lanes, self.sweep.batch):
            vectors = -(-self.sweep.width * cell // self.lanes) / cell
            if vectors < least:
                least = vectors
                yield cell
            cell *= 2

    def _readable_in_place(self) -> bool:
        x = self.sweep.axes[2]
        apart = x.scale * self.sweep.groups * self.sweep.depth * item_bytes(self.dtype)
        return not self.copied and all(axis.inside for axis in self.sweep.axes) and apart % (4 * ALIASED) != 0

    def cut(self, plan: Plan, tasks: int) -> Plan:
        """The same tile, with parts that fit into the cache and so many tasks, as far as there is something to cut."""
        size = item_bytes(computed(self.dtype))
        weights = len(self.sweep.taps) * self.sweep.depth * plan.vectors * self.lanes * size
        room = max(0.8 * (self.machine.l2 - weights), self.machine.l2 / 3)
        while self.layout(plan)[1] * size > room and (finer := self._finer(plan, (0, 1, 2, 3))):
            plan = finer
        while self.tasks(plan) < tasks and (finer := self._finer(plan, (0, 4, 1, 2, 3))):
            plan = finer
        return plan

    def _finer(self, plan: Plan, order: Sequence[int]) -> Plan | None:
        """The plan with twice the parts along the first of these axes that has enough for a tile in each."""
        counts = (*self._counts(min), self.blocks(plan))
        for axis in order:
            least = {0: plan.images * plan.cell, 3: plan.along}.get(axis, 1)
            parts = min(2 * plan.parts[axis], counts[axis] // least)
            if parts > plan.parts[axis]:
                more = list(plan.parts)
                more[axis] = parts
                return replace(plan, parts=tuple(more))
        return None

    # ---------------------------------------------------------------- costs

    def cycles(self, plan: Plan) -> float:
        """Cycles of one core that all tasks together are expected to take."""
        z, y, x = self.sweep.axes
        blocks = self.blocks(plan) * self.sweep.groups
        images = _tiles((self.sweep.batch,), plan.parts[0], plan.images, plan.cell) * blocks
        tiles = _tiles(x.counts, plan.parts[3], plan.along)
        if plan.along == 1:
            chunks = x.meetings
        else:
            phases = zip(x.counts, x.taps, strict=True)
            chunks = sum(_tiles((count,), plan.parts[3], plan.along) * len(taps) for count, taps in phases)
        lines = images * z.meetings * y.meetings
        total = lines * chunks * self.sweep.depth * self._step(plan)
        total += lines * (tiles if self.merged(plan) else chunks) * CHUNK
        total += images * z.size * y.size * tiles * (TILE + self._storing(plan))
        return total + self.tasks(plan) * (TASK + self._copying(plan))

    def _step(self, plan: Plan) -> float:
        """Cycles of one step of the depth: two multiplications or loads a cycle, and a result is there after four."""
        rows, vectors = plan.rows, plan.vectors
        return max(rows * vectors / 2, (rows + vectors) / 2, 4) + LOAD * (rows + vectors)

    def _storing(self, plan: Plan) -> float:
        """Cycles that a tile's sums take to be stored: in whole vectors, or image by image."""
        sums = plan.along * plan.vectors
        joined = sums // plan.cell * plan.cell if self.joined(plan) else 0
        return plan.images * (joined * (1 + math.log2(plan.cell)) + (sums - joined) * PART * plan.cell)

    def _copying(self, plan: Plan) -> float:
        """Cycles that a task takes to pack its source."""
        if plan.in_place:
            return 0.0
        images, z, y, x = self._extents(plan)
        depth = self.sweep.depth
        together = self.sweep.groups == 1 and self.layout(plan)[0].x == depth * plan.cell
        vectors = -(-x * depth // self.lanes) if together else x * -(-depth // self.lanes)
        return images * z * y * (LINE + COPY * vectors * plan.cell)


def _even(count: int, most: int) -> list[int]:
    """Sizes of tiles up to `most` that cut `count` evenly, the largest one always among them."""
    if count > most * most:
        return [most]
    return sorted({-(-count // parts) for parts in range(-(-count // most), count + 1)})


def _tiles(counts: Sequence[int], parts: int, tile: int, cell: int = 1) -> int:
    """How many tiles, of so many cells each, cover all parts of all counts."""
    ends = [[(part + 1) * count // parts - part * count // parts for part in range(parts)] for count in counts]
    return sum(-(-length // cell // tile) for lengths in ends for length in lengths)

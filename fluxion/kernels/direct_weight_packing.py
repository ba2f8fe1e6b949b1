"""The packed x and dy of a chunk of positions, as the weight gradient's tiles read them.

    dy   [o-block][z][y][x][image][channel of the block]
    x    [z][y][x][image][channel of the task]          on each axis first all inputs whose index is 0 modulo the
                                                        stride, then those with 1, ...; only what the windows reach

One tap meets a row of x that is shifted against the row of dy, whatever the stride is. The positions whose input lies
inside the image are one range, which holds all images of the chunk:

    tap 0, pad 1     x     . 0 1 2 3 4 5 6          tap 2      x     1 2 3 4 5 6 7 .
                     dy    0 1 2 3 4 5 6 7                     dy    0 1 2 3 4 5 6 7

So padding costs no copy and no multiplication, small images make loops as long as those of large ones, and both are
read from one end to the other. Where there are few channels, a row of x is packed as it is, between zeros: the window
of an output is then one piece of it, taps and channels together.

    dy   [o-block][z][y][image][x][channel of the block]
    x    [z][y][image][x][channel]                      0 0 0 r g b r g b r g b r g b 0 0 0      3 taps, 3 channels
                                                        +---------------+
                                                              +---------------+    9 numbers of each output
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fluxion.kernels.builder import Tile
from fluxion.kernels.direct_weight_plan import Axis, Problem
from fluxion.kernels.generated import Kernel, Work
from fluxion.kernels.values import Index, Pointer, computed, digits


class Constants:
    """Numbers that are looked up by an index; where the index is known already, or all are equal, without a load."""

    def __init__(self, k: Kernel, values: Sequence[int]) -> None:
        self.values = list(values)
        self.table = k.table(self.values) if len(set(values)) > 1 else None

    def at(self, f: Work, i: Index) -> Index:
        """The number at an index."""
        if isinstance(i, int):
            return self.values[i]
        return self.values[0] if self.table is None else f[self.table][i]


class Line:
    """One axis of the packed x, which holds what `length` outputs read."""

    def __init__(self, k: Kernel, axis: Axis, length: int) -> None:
        self.axis, self.size = axis, axis.packed(length)
        self._phase_size = self.size // max(1, len(axis.phases))
        self._phases = Constants(k, axis.phases)
        self._lengths = Constants(k, [axis.length(phase) for phase in axis.phases])
        self._places = Constants(k, [self._place(tap) for tap in range(axis.taps)])
        ends = zip(*(axis.valid(tap) for tap in range(axis.taps)), strict=True)
        self._lows, self._highs = (Constants(k, values) for values in ends)

    def _place(self, tap: int) -> int:
        """Where that is packed which the first output of a chunk reads through a tap."""
        shift, phase = self.axis.tap(tap)
        if phase not in self.axis.phases:
            return 0
        return self.axis.phases.index(phase) * self._phase_size + shift - self.axis.reach[0]

    def inputs(self, f: Work, start: Index, stop: Index) -> Iterator[tuple[Index, Index]]:
        """A loop over what the outputs `start ... stop - 1` read: where it is packed, and its index in x."""
        low, high = self.axis.reach
        for number in f.range(len(self.axis.phases)):
            phase, length = self._phases.at(f, number), self._lengths.at(f, number)
            first = start + low
            for i in f.range(f.maximum(0, 0 - first), f.minimum(stop + high, length) - first):
                yield number * self._phase_size + i, (first + i) * self.axis.stride + phase

    def outputs(self, f: Work, tap: Index, start: Index, stop: Index) -> tuple[Index, Index, Index]:
        """Which of the outputs `start ... stop - 1` read an input through a tap: first, end; and see `_place`."""
        low = f.maximum(start, self._lows.at(f, tap))
        return low, f.maximum(low, f.minimum(stop, self._highs.at(f, tap))), self._places.at(f, tap)


@dataclass(frozen=True)
class Chunk:
    """The positions whose x and dy are packed at one time."""

    first_image: Index
    images: Index
    starts: tuple[Index, ...]
    stops: tuple[Index, ...]


class Task:
    """What one task computes: some blocks of rows and of columns of one group, over some of the chunks."""

    def __init__(self, f: Work, problem: Problem) -> None:
        self.f, self.problem, plan = f, problem, problem.plan
        splits = (problem.groups, problem.row_splits, problem.column_splits, plan.parts)
        self.group, row, column, self.part = digits(f.task, splits)
        self.row, self.column = row * plan.row_blocks, column * plan.column_blocks
        self.origin = f.minimum(self.row * plan.rows, problem.tap_rows - problem.task_rows)
        self.row_blocks = f.minimum(plan.row_blocks, problem.all_row_blocks - self.row)
        self.column_blocks = f.minimum(plan.column_blocks, problem.all_column_blocks - self.column)

    def first_row(self, block: Index) -> Index:
        """The first row of a block. The last block overlaps the one before."""
        problem = self.problem
        return self.f.minimum((self.row + block) * problem.plan.rows, problem.tap_rows - problem.plan.rows)

    def new_row(self, block: Index) -> Index:
        """The first row of a block that the one before does not have."""
        return (self.row + block) * self.problem.plan.rows

    def output(self, block: Index, vector: int) -> tuple[Index, Index | None]:
        """The first output channel of a vector, within the group, and how many of its lanes exist; None: all."""
        output = (self.column + block) * self.problem.width + vector * self.problem.lanes
        return output, None if self.problem.outputs % self.problem.width == 0 else self.problem.outputs - output

    def chunks(self) -> Iterator[Chunk]:
        """A loop over the chunks."""
        f, problem, plan = self.f, self.problem, self.problem.plan
        first, count = self.part * problem.part_chunks, math.prod(problem.chunks)
        for number in f.range(first, f.minimum(first + problem.part_chunks, count)):
            group, *places = digits(number, problem.chunks)
            images, starts, stops = plan.images, [], []
            for place, length, axis in zip(places, plan.lengths, problem.axes, strict=True):
                starts.append(place * length)
                stops.append(f.minimum(place * length + length, axis.out))
            left = problem.batch - group * images
            yield Chunk(
                group * images,
                f.minimum(images, left) if problem.batch % images else images,
                tuple(starts),
                tuple(stops),
            )


class Columns:
    """Rows of the packed x that hold the channels of each position: [x][image][channel]."""

    def __init__(self, k: Kernel, problem: Problem) -> None:
        self.problem, self.step = problem, problem.x_step
        self.line = Line(k, problem.axes[2], problem.plan.lengths[2])

    def dy_place(self, chunk: Chunk, image: Index, x: Index) -> Index:
        """The number of a position in its row of dy."""
        return (x - chunk.starts[2]) * chunk.images + image

    def pack(self, f: Work, task: Task, chunk: Chunk, source: Pointer, target: Pointer, image: Index) -> None:
        """Packs one row of one image."""
        for packed, x in self.line.inputs(f, chunk.starts[2], chunk.stops[2]):
            place = target + (packed * chunk.images + image) * self.step
            channels = source + (x * self.problem.pixel + task.origin)
            for i, count in f.vectors(self.problem.task_rows, dtype=computed(source.dtype)):
                place.store(channels.load(i, count), i, count)

    def operand(self, task: Task, packed: Pointer, block: Index) -> Pointer:
        """The packed x, from the first row of a block on."""
        return packed + (task.first_row(block) - task.origin)

    def runs(self, f: Work, chunk: Chunk, tap: Index, totals: list[Tile]) -> Iterator[tuple[Index, Index, Index]]:
        """The ranges of positions of a row that a tap reads: where they begin in x and dy, and how many there are."""
        low, high, place = self.line.outputs(f, tap, chunk.starts[2], chunk.stops[2])
        skipped = low - chunk.starts[2]
        yield (place + skipped) * chunk.images * self.step, skipped * chunk.images, (high - low) * chunk.images


class Windows:
    """Rows of the packed x that are as in x, with zeros for the padding: [image][x][channel]."""

    def __init__(self, k: Kernel, problem: Problem) -> None:
        self.problem, self.axis = problem, problem.axes[2]
        self.step = self.axis.stride * problem.inputs

    def dy_place(self, chunk: Chunk, image: Index, x: Index) -> Index:
        """The number of a position in its row of dy."""
        return image * self.problem.plan.lengths[2] + (x - chunk.starts[2])

    def pack(self, f: Work, task: Task, chunk: Chunk, source: Pointer, target: Pointer, image: Index) -> None:
        """Packs one row of one image."""
        problem, axis, inputs = self.problem, self.axis, self.problem.inputs
        start = chunk.starts[2] * axis.stride - axis.low
        count = (problem.plan.lengths[2] - 1) * axis.stride + axis.taps
        low, high = f.maximum(start, 0), f.minimum(start + count, axis.size)
        place, dtype = target + image * problem.window, computed(source.dtype)
        for i in f.range(0, problem.window, problem.lanes):
            place.store(f.zero(dtype), i)
        together = problem.groups == 1
        for x in f.range(low, f.minimum(high, low + 1) if together else high):
            numbers = (high - low) * inputs if together else inputs
            for i, lanes in f.vectors(numbers, dtype=dtype):
                place.store(source.load(x * problem.pixel + i, lanes), (x - start) * inputs + i, lanes)

    def operand(self, task: Task, packed: Pointer, block: Index) -> Pointer:
        """The packed x, from the first row of a block on."""
        return packed + task.first_row(block)

    def runs(self, f: Work, chunk: Chunk, tap: Index, totals: list[Tile]) -> Iterator[tuple[Index, Index, Index]]:
        """The ranges of positions of a row that a tap reads: where they begin in x and dy, and how many there are."""
        length = chunk.stops[2] - chunk.starts[2]
        for image in f.range(chunk.images, carry=totals):
            yield image * self.problem.window, image * self.problem.plan.lengths[2], length

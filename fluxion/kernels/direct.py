"""Direct convolution and its input gradient, by one generator: for any kernel, stride, padding, dilation and groups.

Every destination position is a sum over the taps that meet the source, and over channels. A register tile computes rows
of neighbouring positions, all taps and channels, before it stores them once, with the epilogue:

                                    weights of one block: vectors of output channels, packed in the order of reading
                                    +-----------------------------------------------+
                                    | tap 0 c0 c1 c2 ..| tap 1 c0 c1 c2 ..| tap 2 ..|
                                    +-----------------------------------------------+
     source, packed by the task       |                  |                  |
     0 0 x0 x1 x2 x3 x4 x5 .. 0       v                  v                  v
     [tap 0     ] ................ -> row 0 +=  x[0..2] * taps       each row reads a window that lies `stride`
       [tap 1     ] .............. -> row 1 +=  x[1..3] * taps       positions behind that of the row before
         [tap 2     ] ............ -> row 2 +=  x[2..4] * taps

The rows of a tile are positions along x, or, where images are small, the same position of several images: these meet
exactly the same taps, so that nothing is multiplied with padding. Along the other axes loops visit only taps that meet
the source. A last tile that would reach too far starts earlier and computes some positions twice. So there is one copy
of the tile's code, for all positions, edges and phases of a gradient (see sweep.py). Where output channels are too few
to fill a vector, several images share it (see cells.py).

After "Anatomy of High-Performance Deep Learning Convolutions on SIMD Architectures" (Georganas et al., 2018).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from fluxion.kernels.builder import Tile
from fluxion.kernels.candidate import Candidate, expected_seconds
from fluxion.kernels.cells import parts, repeated, unwoven
from fluxion.kernels.direct_plan import Plan, Planner
from fluxion.kernels.epilogue import Epilogue
from fluxion.kernels.finish import Finish
from fluxion.kernels.generated import Buffer, Kernel, Table, Work, kernel
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.machine import Machine
from fluxion.kernels.packing import Part, pack_source, pack_weights
from fluxion.kernels.sweep import Axis, Sweep
from fluxion.kernels.tile import step
from fluxion.kernels.values import Index, Number, Pointer, computed, digits, item_bytes

PLAIN = Epilogue()
UNROLLED = 12  # steps of the depth that are written out


@kernel
def direct(
    k: Kernel,
    source: Buffer,
    weights: Buffer,
    *others: Buffer,
    geometry: Convolution,
    direction: Direction,
    epilogue: Epilogue,
    masked: bool,
    plan: Plan | None = None,
) -> None:
    """The output of a convolution, or its input gradient.

    Operands are source, weights, the mask where `masked`, and what the epilogue takes; numbers of the source whose mask
    is not above 0 count as 0. `plan` is the best one unless told otherwise.
    """
    *extras, result = others
    mask = extras.pop(0) if masked else None
    planner = planner_of(geometry, direction, source.dtype, k.machine, masked)
    plan = plan or planner.best
    packed = pack_weights(k, planner.sweep, weights, direction, plan.vectors, plan.cell)
    room = k.private(planner.layout(plan)[1], computed(source.dtype))
    tracks = [Track(k, axis) for axis in planner.sweep.axes]
    with k.parallel(planner.tasks(plan)) as f:
        task = Task(f, planner, plan, tracks)
        numbers = task.read_source(f[source], f[mask] if mask else None, f[room])
        task.sweep_all(numbers, f[packed], Finish(f, epilogue, extras, result))


@functools.cache
def planner_of(geometry: Convolution, direction: Direction, dtype: str, machine: Machine, masked: bool) -> Planner:
    """What cuts this problem into tasks."""
    return Planner(Sweep.of(geometry, direction), machine, dtype, masked or computed(dtype) != dtype)


@dataclass(frozen=True)
class Place:
    """A destination position on one axis, the source position of tap 0, and which taps are to be read.

    `tap` is the number of tap 0 among the packed ones.
    """

    target: Index
    source: Index
    low: Index
    high: Index
    tap: Index


class Track:
    """Visits the positions of one axis in code: what differs between its phases is looked up in tables."""

    def __init__(self, k: Kernel, axis: Axis) -> None:
        self.axis = axis
        columns = (axis.counts, axis.starts, tuple(map(len, axis.taps)), axis.firsts)
        self._columns = [column[0] if len(set(column)) == 1 else k.table(column) for column in columns]

    def places(self, f: Work, start: Index, stop: Index, rows: int, all_taps: bool) -> Iterator[Place]:
        """Every position of all phases with `t` from `start` to `stop`, in steps of so many rows of a tile."""
        axis = self.axis
        for phase in f.range(len(axis.counts)):
            count, begin, taps, first = (self._at(f, column, phase) for column in self._columns)
            end = f.minimum(stop, count)
            for t in f.range(start, end, rows):
                t = f.minimum(t, end - rows) if rows > 1 else t
                source = axis.scale * t + begin
                low, high = (0, taps) if all_taps or axis.inside else self._bounds(f, source, taps)
                yield Place(phase + axis.step * t, source, low, high, first)

    def read(self, f: Work, start: Index, stop: Index, *, clipped: bool) -> tuple[Index, Index]:
        """The source positions that these values of `t` read, from the first to the one behind the last."""
        axis, (low, high) = self.axis, self.axis.margins
        first, last = axis.scale * start + low, axis.scale * (stop - 1) + high
        if clipped:
            first = f.minimum(f.maximum(first, 0), axis.source)
            last = f.maximum(f.minimum(last, axis.source), first)
        return first, last

    def _bounds(self, f: Work, source: Index, taps: Index) -> tuple[Index, Index]:
        """The first tap that meets the source, and the first one that no longer does."""
        spacing = self.axis.spacing
        low = (f.maximum(0 - source, 0) + (spacing - 1)) // spacing
        high = (f.maximum(self.axis.source - source, 0) + (spacing - 1)) // spacing
        return low, f.minimum(high, taps)

    @staticmethod
    def _at(f: Work, column: int | Table, phase: Index) -> Index:
        return column if isinstance(column, int) else f[column][phase]


class Task:
    """Writes the code of one task."""

    def __init__(self, f: Work, planner: Planner, plan: Plan, tracks: Sequence[Track]) -> None:
        self.f, self.planner, self.plan, self.tracks, self.sweep = f, planner, plan, tracks, planner.sweep
        self.dtype = computed(planner.dtype)
        self.lanes, self.layout, self.merged = planner.lanes, planner.layout(plan)[0], planner.merged(plan)
        self.block, self.channels = plan.vectors * self.lanes, planner.channels(plan)
        self.group, *numbers = digits(f.task, (self.sweep.groups, *plan.parts))
        counts = (self.sweep.batch, *(max(axis.counts) for axis in self.sweep.axes), planner.blocks(plan))
        shares = [_share(*part) for part in zip(counts, plan.parts, numbers, strict=True)]
        self.images, *self.shares, self.blocks = shares
        self.origin: tuple[Index, ...] = (0, 0, 0)

    def read_source(self, source: Pointer, mask: Pointer | None, room: Pointer) -> Pointer:
        """Where the task finds the source of its group: in place, or packed."""
        channel, first = self.group * self.sweep.depth, self.images[0]
        if self.plan.in_place:
            return source + (channel + self.layout.at(first, 0, 0, 0))
        ends = [self.images]
        for track, share in zip(self.tracks, self.shares, strict=True):
            clipped = track is not self.tracks[2] or not self.plan.padded
            ends.append(track.read(self.f, *share, clipped=clipped))
        part = Part(tuple(first for first, _ in ends), tuple(stop for _, stop in ends), self.plan.cell)
        self.origin = part.first[1:]
        mask = None if mask is None else mask + channel
        pack_source(self.f, self.sweep, source + channel, mask, room, part, self.layout)
        return room

    def sweep_all(self, source: Pointer, weights: Pointer, finish: Finish) -> None:
        """All positions of the task's part, block after block of output channels."""
        f, plan, (depth_track, height_track, width_track) = self.f, self.plan, self.tracks
        (depths, heights, widths), (first, stop) = self.shares, self.images
        cells = (stop - first + (plan.cell - 1)) // plan.cell
        of_block = len(self.sweep.taps) * self.sweep.depth * self.block
        for block in f.range(*self.blocks):
            of_group = weights + (self.group * self.planner.blocks(plan) + block) * of_block
            for z in depth_track.places(f, *depths, 1, False):
                for y in height_track.places(f, *heights, 1, False):
                    for x in width_track.places(f, *widths, plan.along, plan.along > 1):
                        for n in f.range(0, cells, plan.images):
                            cell = f.minimum(n, cells - plan.images) if plan.images > 1 else n
                            total = f.tile(plan.rows, plan.vectors, f.zero(self.dtype))
                            self._add(total, source, of_group, cell, (z, y, x))
                            self._store(total, finish, block, cell, (z, y, x))

    def _add(
        self, total: Tile, source: Pointer, weights: Pointer, cell: Index, places: tuple[Place, Place, Place]
    ) -> None:
        """Sums over all taps that meet the source."""
        f, (z, y, x), axes = self.f, places, self.sweep.axes
        heights, widths = (len(axis.order) for axis in axes[1:])
        z0, y0, x0 = self.origin
        for a in f.range(z.low, z.high, carry=total):
            for b in f.range(y.low, y.high, carry=total):
                tap = ((z.tap + a) * heights + y.tap + b) * widths + x.tap
                line = self.layout.at(
                    cell, z.source + a * axes[0].spacing - z0, y.source + b * axes[1].spacing - y0, x.source - x0
                )
                self._add_line(total, source + line, weights + tap * (self.sweep.depth * self.block), x)

    def _add_line(self, total: Tile, source: Pointer, weights: Pointer, x: Place) -> None:
        """Sums over the taps along x: one after the other, or all channels of all taps in one loop."""
        f, x_axis, depth = self.f, self.sweep.axes[2], self.sweep.depth
        images, along = range(self.plan.images), range(self.plan.along)
        rows = [self.layout.at(i, 0, 0, q * x_axis.scale) for i in images for q in along]
        chunks: Iterable[Index] = [x.low] if self.merged else f.range(x.low, x.high, carry=total)
        steps = (x.high - x.low) * depth if self.merged else depth
        for c in chunks:
            begin = source + c * (x_axis.spacing * self.layout.x)
            taps = weights + c * (depth * self.block)
            for k in f.range(steps, unroll=self._unrolling(steps), carry=total):
                vectors = [taps.load(k * self.block + v * self.lanes) for v in range(self.plan.vectors)]
                places = (begin + (k * self.plan.cell + row) for row in rows)
                step(f, total, (repeated(place, self.plan.cell) for place in places), vectors)

    def _unrolling(self, steps: Index) -> int:
        """How many steps of the depth are written out.

        None of them reads what another row has read in a step before: LLVM would keep that, instead of the sums.
        """
        most = steps if isinstance(steps, int) and steps <= UNROLLED else 4
        apart = self.sweep.axes[2].scale * self.layout.x // self.plan.cell
        return min(most, apart) if self.plan.along > 1 else most

    def _store(
        self, total: Tile, finish: Finish, block: Index, cell: Index, places: tuple[Place, Place, Place]
    ) -> None:
        """Finishes the sums of a tile and stores them, image by image; neighbours together where that fills vectors."""
        sweep, (z, y, x), axes, plan = self.sweep, places, self.sweep.axes, self.plan
        channels = sweep.groups * sweep.width
        image_size = math.prod(axis.size for axis in axes) * channels
        place = ((z.target * axes[1].size + y.target) * axes[2].size + x.target) * channels
        neighbours = list(itertools.product(range(plan.along), range(plan.vectors)))
        together = plan.cell if self.planner.joined(plan) else 1
        for i, image in enumerate(self._images(cell, image_size)):
            for start in range(0, len(neighbours), together):
                few = neighbours[start : start + together]
                ready = [self._ready(total[i * plan.along + q, v], finish, block, v) for q, v in few]
                whole = len(few) == plan.cell
                pieces = [unwoven(self.f, [numbers for numbers, _, _ in ready])] if whole else []
                pieces = pieces or [parts(self.f, numbers, plan.cell) for numbers, _, _ in ready]
                for (q, _), (_, channel, count), row in zip(few, ready, pieces, strict=False):
                    at = place + image + (q * axes[2].step * channels + channel)
                    for j, numbers in enumerate(row):
                        finish.write(numbers, at + j * image_size, count)

    def _ready(self, sums: Number, finish: Finish, block: Index, vector: int) -> tuple[Number, Index, Index | None]:
        """Sums to be written, the number of their first channel among all, and how many channels are there."""
        width = self.sweep.width
        first = block * (self.plan.vectors * self.channels) + vector * self.channels
        count = None if width % (self.plan.vectors * self.channels) == 0 else width - first
        channel = self.group * width + first
        return finish.shifted(sums, channel, count, self.plan.cell), channel, count

    def _images(self, cell: Index, apart: int) -> list[Index]:
        """Where the images of a tile's rows start in the result, `apart` numbers each."""
        (first, stop), size = self.images, self.plan.cell
        first = first + cell * size
        if self.sweep.batch % (size * self.plan.parts[0]) == 0 or size == 1:
            return [first * apart + i * (size * apart) for i in range(self.plan.images)]
        return [self.f.minimum(first + i * size, stop - size) * apart for i in range(self.plan.images)]


def _share(count: int, parts: int, number: Index) -> tuple[Index, Index]:
    """Where part `number` of so many starts, and where it stops."""
    return number * count // parts, (number + 1) * count // parts


def candidates(geometry: Convolution, direction: Direction, dtype: str, machine: Machine) -> list[Candidate]:
    """The direct kernel, for the output and the input gradient of every convolution.

    >>> from fluxion.kernels.machine import AVX2
    >>> geometry = Convolution(2, (8, 8), 4, (3, 3), 8, (1, 1), ((1, 1), (1, 1)), (1, 1))
    >>> [candidate.name for candidate in candidates(geometry, Direction.FORWARD, "float32", AVX2)]
    ['direct']
    """
    if direction is Direction.WEIGHT_GRADIENT or dtype not in ("float32", "float64", "bfloat16"):
        return []

    def run(a: Any, b: Any, *extras: Any, epilogue: Epilogue = PLAIN, mask: Any = None) -> Any:
        operands = (a, b, *extras) if mask is None else (a, b, mask, *extras)
        outputs = jax.ShapeDtypeStruct(geometry.result_shape(direction), a.dtype)
        options = {"geometry": geometry, "direction": direction, "epilogue": epilogue, "masked": mask is not None}
        return direct(*operands, outputs=outputs, machine=machine, **options)

    return [Candidate("direct", run, _seconds(geometry, direction, dtype, machine))]


@functools.cache
def _seconds(geometry: Convolution, direction: Direction, dtype: str, machine: Machine) -> float:
    planner = planner_of(geometry, direction, dtype, machine, masked=False)
    plan = planner.best
    efficiency = geometry.flops / (planner.cycles(plan) * 4 * machine.lanes(dtype))
    shapes = (geometry.x_shape, geometry.y_shape, geometry.w_shape, geometry.w_shape, geometry.w_shape)
    moved = sum(map(math.prod, shapes)) * item_bytes(dtype)
    return expected_seconds(machine, geometry.flops, efficiency, moved, planner.tasks(plan), dtype)

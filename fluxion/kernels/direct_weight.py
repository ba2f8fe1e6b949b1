"""The gradient of a convolution's weight, for any kernel size, stride, padding, dilation and groups.

    dw[k, c, o] = sum over images n and positions i of  x[n, i * stride + k * dilation - pad, c] * dy[n, i, o]

A register tile holds the sums of some input channels and some vectors of output channels at one tap `k`. Positions are
what is summed over: each is one step of a product of matrices.

                                       dy of position i
                                       +----+----+
                                       | v0 | v1 |        positions i, i + 1, i + 2 ... are packed one behind the
                                       +----+----+        other, in x as in dy: see direct_weight_packing.py
    x[i s + k d - p, channel c    ] -> | .. | .. |
    x[i s + k d - p, channel c + 1] -> | .. | .. |        28 accumulators, added to the sums of the task
                ...                    | .. | .. |        after some 100 positions

    task:   for each chunk of positions:  pack x and dy                 into its worker's own memory
                for each block of output channels:
                    for some rows of the chunk:                         dy of these stays in the first cache
                        for each block of input channels, each tap:     x of these comes from the second
                            sums += tile over the rows
            store the sums

Long sums lose digits. Here are three short ones instead: over the positions of a tile, over the tiles of a task, and
over tasks, each in an order that depends on the shapes alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax

from fluxion.kernels.builder import Tile
from fluxion.kernels.candidate import Candidate, expected_seconds
from fluxion.kernels.direct_weight_packing import Chunk, Columns, Line, Task, Windows
from fluxion.kernels.direct_weight_plan import Plan, Problem, choose, cycles
from fluxion.kernels.finish import sloped
from fluxion.kernels.generated import Buffer, Kernel, Work, kernel
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.machine import Machine
from fluxion.kernels.tile import step
from fluxion.kernels.values import Index, Pointer, computed

UNROLLED = 4  # positions that are written out at most, a multiple of the tiles that take turns
ADDED = 4096  # numbers that one task of the last phase adds

Taps = tuple[Index, Index, Index]
Rows = tuple[Index, Index, Index]


@kernel
def direct_weight(k: Kernel, x: Buffer, dy: Buffer, *others: Buffer, geometry: Convolution, plan: Plan) -> None:
    """The gradient `dw` from `x` and `dy`; a third operand of dy's shape is a mask: where it is <= 0, so is dy."""
    *masks, dw = others
    problem = Problem(geometry, plan, k.lanes(computed(x.dtype)))
    whole = plan.parts == 1
    parts = dw if whole else k.scratch(plan.parts * dw.size, computed(dw.dtype))
    gradient = _Gradient(k, problem, x, dy, masks)
    with k.parallel(problem.tasks) as f:
        gradient.write(f, parts, 0 if whole else dw.size)
    if not whole:
        with k.parallel(-(-dw.size // ADDED)) as f:
            _add_parts(f, parts, dw, plan.parts)


def _add_parts(f: Work, parts: Buffer, dw: Buffer, count: int) -> None:
    start = f.task * ADDED
    for i, lanes in f.vectors(start, f.minimum(start + ADDED, dw.size), dtype=parts.dtype):
        total = Tile([f[parts].load(i, lanes)])
        for part in f.range(1, count, carry=total):
            total[0] = total[0] + f[parts].load(part * dw.size + i, lanes)
        f[dw].store(total[0], i, lanes)


class _Gradient:
    """The code of one task. `rows` in arguments of methods are (z, first y, last y + 1) of the output."""

    def __init__(self, k: Kernel, problem: Problem, x: Buffer, dy: Buffer, masks: list[Buffer]) -> None:
        self.problem, self.x, self.dy, self.masks = problem, x, dy, masks
        plan, self.dtype = problem.plan, computed(x.dtype)
        self.depth, self.height = (Line(k, problem.axes[axis], plan.lengths[axis]) for axis in (0, 1))
        self.columns = Windows(k, problem) if plan.merged else Columns(k, problem)
        self.packed_x = k.private(problem.packed_x, self.dtype)
        self.packed_dy = k.private(problem.dy_block * plan.column_blocks, self.dtype)
        self.sums = k.private(problem.sums, self.dtype)

    def write(self, f: Work, parts: Buffer, part_size: int) -> None:
        """Computes the sums of one task and stores them in `parts`."""
        task = Task(f, self.problem)
        for i in f.range(0, self.problem.sums, self.problem.lanes):
            f[self.sums].store(f.zero(self.dtype), i)
        for chunk in task.chunks():
            self._pack_x(f, task, chunk)
            self._pack_dy(f, task, chunk)
            for column in f.range(task.column_blocks):
                self._add_chunk(f, task, chunk, column)
        self._store(f, task, f[parts] + task.part * part_size)

    def _pack_x(self, f: Work, task: Task, chunk: Chunk) -> None:
        problem, sizes = self.problem, [axis.size for axis in self.problem.axes]
        for packed_z, z in self.depth.inputs(f, chunk.starts[0], chunk.stops[0]):
            for packed_y, y in self.height.inputs(f, chunk.starts[1], chunk.stops[1]):
                target = f[self.packed_x] + (packed_z * self.height.size + packed_y) * problem.x_row
                for image in f.range(chunk.images):
                    row = ((chunk.first_image + image) * sizes[0] + z) * sizes[1] + y
                    source = f[self.x] + (row * (sizes[2] * problem.pixel) + task.group * problem.inputs)
                    self.columns.pack(f, task, chunk, source, target, image)

    def _pack_dy(self, f: Work, task: Task, chunk: Chunk) -> None:
        problem, sizes = self.problem, [axis.out for axis in self.problem.axes]
        channels = problem.outputs * problem.groups
        for z in f.range(chunk.starts[0], chunk.stops[0]):
            for y in f.range(chunk.starts[1], chunk.stops[1]):
                for image in f.range(chunk.images):
                    row = (((chunk.first_image + image) * sizes[0] + z) * sizes[1] + y) * sizes[2]
                    for x in f.range(chunk.starts[2], chunk.stops[2]):
                        place = self._dy_row(chunk, z, y) + self.columns.dy_place(chunk, image, x)
                        source = (row + x) * channels + task.group * problem.outputs
                        self._pack_position(f, task, source, f[self.packed_dy] + place * problem.width)

    def _dy_row(self, chunk: Chunk, z: Index, y: Index) -> Index:
        """The number of the first position of a row in a block of the packed dy."""
        _, height, length = self.problem.plan.lengths
        row = (z - chunk.starts[0]) * height + (y - chunk.starts[1])
        return row * (length * self.problem.plan.images)

    def _pack_position(self, f: Work, task: Task, source: Index, target: Pointer) -> None:
        for block in f.range(task.column_blocks):
            for v in range(self.problem.plan.columns):
                output, count = task.output(block, v)
                numbers = f[self.dy].load(source + output, count)
                for mask in self.masks:
                    numbers = sloped(f, numbers, f[mask].load(source + output, count))
                target.store(numbers, block * self.problem.dy_block + v * self.problem.lanes)

    def _add_chunk(self, f: Work, task: Task, chunk: Chunk, column: Index) -> None:
        """Adds the products of a chunk to the sums of a block of output channels."""
        sum_rows, dy = self.problem.plan.sum_rows, f[self.packed_dy] + column * self.problem.dy_block
        for z in f.range(chunk.starts[0], chunk.stops[0]):
            for y in f.range(chunk.starts[1], chunk.stops[1], sum_rows):
                rows = (z, y, f.minimum(y + sum_rows, chunk.stops[1]))
                for block in f.range(task.row_blocks):
                    x = self.columns.operand(task, f[self.packed_x], block)
                    for tap, taps in self._taps(f):
                        tile = self._tile(f, chunk, taps, rows, x, dy)
                        sums = f[self.sums] + self._place(column, block, tap)
                        for i, value in enumerate(tile.values):
                            sums.store(sums.load(i * self.problem.lanes) + value, i * self.problem.lanes)

    def _taps(self, f: Work) -> Iterator[tuple[Index, Taps]]:
        """A loop over the taps of the outer loops: their numbers, and their indices on the axes."""
        depth, height, length = self.problem.kernel
        for z in f.range(depth):
            for y in f.range(height):
                for x in f.range(length):
                    yield (z * height + y) * length + x, (z, y, x)

    def _place(self, column: Index, block: Index, tap: Index) -> Index:
        """Where the sums of a tile are."""
        problem = self.problem
        tile = (column * problem.plan.row_blocks + block) * problem.taps + tap
        return tile * (problem.plan.rows * problem.width)

    def _tile(self, f: Work, chunk: Chunk, taps: Taps, rows: Rows, x: Pointer, dy: Pointer) -> Tile:
        """The sums over some rows of a chunk."""
        problem, plan = self.problem, self.problem.plan
        totals = [f.tile(plan.rows, plan.columns, f.zero(self.dtype)) for _ in range(plan.chains)]
        first_z, last_z, place_z = self.depth.outputs(f, taps[0], rows[0], rows[0] + 1)
        first_y, last_y, place_y = self.height.outputs(f, taps[1], rows[1], rows[2])
        for z in f.range(first_z, last_z, carry=totals):
            for y in f.range(first_y, last_y, carry=totals):
                row = (place_z + (z - chunk.starts[0])) * self.height.size + place_y + (y - chunk.starts[1])
                row_x, row_dy = x + row * problem.x_row, self._dy_row(chunk, z, y)
                for place_x, place_dy, count in self.columns.runs(f, chunk, taps[2], totals):
                    self._run(f, totals, row_x + place_x, dy + (row_dy + place_dy) * problem.width, count)
        total, *others = totals
        for other in others:
            total.values = [a + b for a, b in zip(total.values, other.values, strict=True)]
        return total

    def _run(self, f: Work, totals: list[Tile], x: Pointer, dy: Pointer, count: Index) -> None:
        """Adds the products of so many positions. The tiles take turns, so that none waits for its last result."""
        plan, lanes, width = self.problem.plan, self.problem.lanes, self.problem.width

        def add(total: Tile, i: Index) -> None:
            numbers, place = dy + i * width, x + i * self.columns.step
            places = [place + r for r in range(plan.rows)]
            vectors = [numbers.load(v * lanes) for v in range(plan.columns)]
            step(f, total, (place.splat() for place in places), vectors)

        written = self._unrolling(f.machine.registers)
        whole = count // written * written
        for i in f.range(0, whole, written, carry=totals):
            for part in range(written):
                add(totals[part % plan.chains], i + part)
        for i in f.range(whole, count, carry=totals[0]):
            add(totals[0], i)

    def _unrolling(self, registers: int) -> int:
        """How many positions are written out.

        Where taps are merged, neighbours share numbers of x. LLVM would keep these and not the sums, if not both fit.
        """
        plan = self.problem.plan
        shared = max(plan.rows - self.columns.step, 0)
        fits = plan.rows * plan.columns * plan.chains + shared <= registers
        return UNROLLED if fits else max(UNROLLED // 2, plan.chains)

    def _store(self, f: Work, task: Task, target: Pointer) -> None:
        """Stores the sums of a task, each once, as the weight is laid out."""
        problem, rows = self.problem, self.problem.plan.rows
        for column in f.range(task.column_blocks):
            for block in f.range(task.row_blocks):
                first = task.first_row(block)
                for tap, _ in self._taps(f):
                    for r in f.range(task.new_row(block) - first, rows):
                        sums = f[self.sums] + (self._place(column, block, tap) + r * problem.width)
                        row = (tap * problem.tap_rows + first + r) * problem.groups + task.group
                        for v in range(problem.plan.columns):
                            output, count = task.output(column, v)
                            target.store(sums.load(v * problem.lanes), row * problem.outputs + output, count)


def candidates(geometry: Convolution, direction: Direction, dtype: str, machine: Machine) -> list[Candidate]:
    """The weight gradient of every convolution; a second way where a row's taps can be merged with the channels.

    >>> from fluxion.kernels.machine import AVX2
    >>> geometry = Convolution(2, (8, 8), 3, (3, 3), 8, (1, 1), ((1, 1), (1, 1)), (1, 1))
    >>> [candidate.name for candidate in candidates(geometry, Direction.WEIGHT_GRADIENT, "float32", AVX2)]
    ['direct', 'direct, merged taps']
    """
    if direction is not Direction.WEIGHT_GRADIENT or dtype not in ("float32", "float64", "bfloat16"):
        return []
    mergeable = geometry.kernel[-1] > 1 and geometry.dilation[-1] == 1
    return [_candidate(geometry, dtype, machine, merged) for merged in ((False, True) if mergeable else (False,))]


def _candidate(geometry: Convolution, dtype: str, machine: Machine, merged: bool) -> Candidate:
    plan, lanes = choose(geometry, machine, dtype, merged), machine.lanes(computed(dtype))
    problem = Problem(geometry, plan, lanes)
    efficiency = geometry.flops / (cycles(problem) * 4 * lanes)  # two multiplications and additions start in a cycle

    def run(x: Any, dy: Any, mask: Any = None) -> Any:
        operands = (x, dy) if mask is None else (x, dy, mask)
        outputs = jax.ShapeDtypeStruct(geometry.w_shape, x.dtype)
        return direct_weight(*operands, outputs=outputs, machine=machine, geometry=geometry, plan=plan)

    seconds = expected_seconds(machine, geometry.flops, efficiency, 0.0, problem.tasks, dtype)
    return Candidate("direct, merged taps" if merged else "direct", run, seconds)

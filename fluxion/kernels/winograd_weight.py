"""The weight gradient of a 3x3 convolution by Winograd's method: F(3x3, 4x4) and F(3x3, 2x2).

A tile of gradients is the kernel here, slid over the pixels that it was computed from; its 3x3 results, summed over all
tiles, are the gradient of the weights. As the transform back is linear it follows the sum:

                  dw = A' [ sum over tiles of (B' x B) * (G dy G') ] A

      x          V'               dy         D              S
    +------+   +---------+      +-----+    +--------+    +---------+          +-----+
    | 6x6  | ->| inputs  |   x  | 4x4 | -> | tiles  | => | inputs  |    ->    | 3x3 |
    |pixels|   | x tiles |      |     |    |x outputs|   |x outputs|          | dw  |
    +------+   +---------+      +-----+    +--------+    +---------+          +-----+
          B' x B                     G dy G'      for each of 36 points   A' s A

A task takes a block of input channels, a block of output channels and a share of the tiles. It transforms some tiles at
a time and adds their products to its sums, all of which stay in its core's cache: transforming a tile again for each
block of the other channels costs less than keeping it. The gradients of the shares are added up at last, so that
each sum is one of short sums of short sums, which is what keeps the rounding error low.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
from jax import Array

from fluxion.kernels.candidate import Candidate, expected_seconds
from fluxion.kernels.cook_toom import Matrix, Transforms, cook_toom, transform
from fluxion.kernels.generated import Buffer, Kernel, Work, kernel
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.machine import Machine
from fluxion.kernels.tile import tile_rows
from fluxion.kernels.values import Index, Number, Pointer, computed, item_bytes
from fluxion.kernels.winograd_plan import EFFICIENCY, ENOUGH_TASKS, TRANSFORM, register_vectors
from fluxion.kernels.winograd_tiles import (
    TAPS,
    Grid,
    Images,
    Place,
    Planes,
    Range,
    applies,
    load_point,
    pieces,
    store_product,
    transform_tile,
)

ERRORS = {4: 2.0, 2: 0.75}  # measured on normal data, by the side of a tile
TILES = 16  # that are transformed and summed at once: more save nothing, and longer sums have more rounding error
BLOCK = 128  # channels of a block, on either side: its sums stream by, tiles are seldom transformed again
SMALLEST_SHARE = 96  # tiles: fewer would have too many gradients to be added up


@dataclass(frozen=True)
class Plan:
    """How the work is cut up.

    A task takes `share` tiles of `side x side` gradients, `inputs` and `outputs` channels. It transforms `tiles` of
    them at a time and multiplies in register tiles of `rows` rows and `vectors` vectors.
    """

    side: int
    tiles: int
    rows: int
    vectors: int
    inputs: int
    outputs: int
    share: int


@dataclass(frozen=True)
class Problem:
    """A weight gradient and how it is cut up."""

    geometry: Convolution
    plan: Plan
    lanes: int

    @property
    def transforms(self) -> Transforms:
        """The matrices."""
        return cook_toom(TAPS, self.plan.side)

    @property
    def points(self) -> int:
        """Points of the transforms, in two dimensions."""
        return (self.plan.side + TAPS - 1) ** 2

    @property
    def grid(self) -> Grid:
        """The tiles of the gradient."""
        return Grid(self.geometry.batch, self.geometry.out_sizes, self.plan.side)

    @property
    def shares(self) -> int:
        """In how many parts the tiles fall."""
        return pieces(self.grid.tiles, self.plan.share)

    @property
    def blocks(self) -> tuple[int, int]:
        """Blocks of input and of output channels in a group."""
        geometry = self.geometry
        return pieces(geometry.group_inputs, self.plan.inputs), pieces(geometry.group_outputs, self.plan.outputs)

    @property
    def tasks(self) -> int:
        """How many tasks there are."""
        inputs, outputs = self.blocks
        return self.shares * self.geometry.groups * inputs * outputs

    @property
    def planes(self) -> tuple[Planes, Planes, Planes]:
        """Those of the input's tiles, of the gradient's, and of the sums of their products."""
        plan = self.plan
        rows = pieces(plan.inputs, plan.rows) * plan.rows
        width = pieces(plan.outputs, plan.vectors * self.lanes) * plan.vectors * self.lanes
        inputs, outputs = (Planes.padded(self.points, plan.tiles, channels) for channels in (rows, width))
        return inputs, outputs, Planes(self.points, rows, width)


@dataclass(frozen=True)
class Block:
    """What a task does: a range of the channels of `x`, one of those of `dy`, and one of the tiles.

    Each range is where it starts and where it ends; `first_input` is where the first starts in its group.
    """

    share: Index
    first_input: Index
    inputs: Range
    outputs: Range
    tiles: Range

    @classmethod
    def of_task(cls, f: Work, problem: Problem) -> Block:
        """That of the task's number."""
        plan, geometry = problem.plan, problem.geometry
        input_blocks, output_blocks = problem.blocks
        rest, output = f.task // output_blocks, f.task % output_blocks * plan.outputs
        rest, inside = rest // input_blocks, rest % input_blocks * plan.inputs
        share, group = rest // geometry.groups, rest % geometry.groups
        x, y, tile = group * geometry.group_inputs, group * geometry.group_outputs, share * plan.share
        return cls(
            share,
            inside,
            (x + inside, x + f.minimum(inside + plan.inputs, geometry.group_inputs)),
            (y + output, y + f.minimum(output + plan.outputs, geometry.group_outputs)),
            (tile, f.minimum(tile + plan.share, problem.grid.tiles)),
        )


@kernel
def winograd_weight(
    k: Kernel, x: Buffer, dy: Buffer, *rest: Buffer, geometry: Convolution, plan: Plan, masked: bool
) -> None:
    """`dw` of `x` and `dy`, behind which there is a mask if `masked`."""
    dtype, result = computed(x.dtype), rest[-1]
    problem = Problem(geometry, plan, k.lanes(dtype))
    (top, _), (left, _) = geometry.pads
    images, gradients = Images.of(k, x, (top, left)), Images.of(k, dy, (0, 0), rest[0] if masked else None)
    v, d, s = (k.private(planes.size, dtype) for planes in problem.planes)
    shares = k.scratch(problem.shares * result.size, dtype) if problem.shares > 1 else result
    with k.parallel(problem.tasks) as f:
        block = Block.of_task(f, problem)
        for tile in f.range(block.tiles[0], block.tiles[1], plan.tiles):
            count = f.minimum(plan.tiles, block.tiles[1] - tile)
            for row in f.range(count):
                place = problem.grid.place(f.number(tile + row))
                _transform(f, problem, problem.transforms.data, images, place, block.inputs, f[v], row, 0)
                _transform(f, problem, problem.transforms.kernel, gradients, place, block.outputs, f[d], row, 1)
            _add_products(f, problem, block, f[v], f[d], f[s], count, f.number(tile) > block.tiles[0])
        _finish(f, problem, block, f[s], f[shares] + block.share * result.size)
    if problem.shares > 1:
        _add_shares(k, shares, result)


def _transform(
    f: Work,
    problem: Problem,
    matrix: Matrix,
    images: Images,
    place: Place,
    channels: Range,
    target: Pointer,
    row: Index,
    operand: int,
) -> None:
    """Row `row` of V (operand 0) or D (operand 1), from the tile at `place`."""
    planes = problem.planes[operand]
    whole = images.channels // problem.geometry.groups % problem.lanes == 0
    target, step = target + row * planes.stride, problem.plan.side
    transform_tile(f, matrix, images, place, channels, target, planes.plane, step=step, whole=whole)


def _add_products(
    f: Work, problem: Problem, block: Block, v: Pointer, d: Pointer, s: Pointer, count: Index, add: Number
) -> None:
    """The products of `count` tiles for all points, added to the sums if `add`."""
    plan = problem.plan
    v_planes, d_planes, s_planes = problem.planes
    inputs, outputs = block.inputs[1] - block.inputs[0], block.outputs[1] - block.outputs[0]
    for point in f.range(problem.points):
        for column in f.range(0, outputs, plan.vectors * problem.lanes):
            for row in f.range(0, inputs, plan.rows):
                a = v + (point * v_planes.plane + row)
                b = d + (point * d_planes.plane + column)
                c = s + (point * s_planes.plane + row * s_planes.stride + column)
                shape = plan.rows, plan.vectors
                store_product(f, shape, a, (1, v_planes.stride), b, d_planes.stride, count, c, s_planes.stride, add)


def _finish(f: Work, problem: Problem, block: Block, s: Pointer, result: Pointer) -> None:
    """`A' s A` of the sums."""
    geometry, planes = problem.geometry, problem.planes[2]
    side, tap = problem.plan.side + TAPS - 1, geometry.group_inputs * geometry.outputs
    whole = geometry.group_outputs % problem.lanes == 0
    first, last = block.outputs
    for row in f.range(block.inputs[1] - block.inputs[0]):
        for lane in f.range(0, last - first, problem.lanes):
            sums, count = s + (row * planes.stride + lane), None if whole else last - first - lane
            target = result + ((block.first_input + row) * geometry.outputs + first + lane)
            load = partial(load_point, sums, side, planes.plane)
            transform(f, problem.transforms.result, load, partial(_store_tap, target, tap, count))


def _store_tap(target: Pointer, tap: int, count: Index | None, i: int, j: int, value: Number) -> None:
    target.store(value, (i * TAPS + j) * tap, count)


def _add_shares(k: Kernel, shares: Buffer, result: Buffer) -> None:
    """The sum of the gradients of the shares."""
    step = 64 * k.lanes(shares.dtype)
    with k.parallel(pieces(result.size, step)) as f:
        start = f.task * step
        for i, count in f.vectors(start, f.minimum(start + step, result.size), dtype=shares.dtype):
            total = f.tile(1, 1, f.zero(shares.dtype))
            for share in f.range(shares.size // result.size, carry=total):
                total[0] = total[0] + f[shares].load(share * result.size + i, count)
            f[result].store(total[0], i, count)


def make_plan(geometry: Convolution, dtype: str, machine: Machine, side: int) -> Problem:
    """The problem, cut up for a machine."""
    lanes = machine.lanes(computed(dtype))
    inputs, outputs = (_block(channels, lanes) for channels in (geometry.group_inputs, geometry.group_outputs))
    vectors = register_vectors(outputs, lanes)
    rows = pieces(inputs, pieces(inputs, tile_rows(machine, vectors)))
    whole = Problem(geometry, Plan(side, 1, rows, vectors, inputs, outputs, 1), lanes)
    tiles = whole.grid.tiles
    channel_tasks = whole.tasks // tiles
    shares = max(min(pieces(ENOUGH_TASKS, channel_tasks), tiles // SMALLEST_SHARE), 1)
    share = pieces(tiles, 1 << (shares.bit_length() - 1))  # a power of two suits most numbers of cores
    return replace(whole, plan=replace(whole.plan, tiles=min(TILES, share), share=share))


def _block(channels: int, lanes: int) -> int:
    """Channels of a block: as even as whole vectors allow."""
    even = pieces(channels, pieces(channels, BLOCK))
    return min(pieces(even, lanes) * lanes, channels)


def seconds(problem: Problem, dtype: str, machine: Machine) -> float:
    """What the cost model expects."""
    geometry, plan, size = problem.geometry, problem.plan, item_bytes(dtype)
    _, _, sums = problem.planes
    input_blocks, output_blocks = problem.blocks
    blocks = geometry.groups * input_blocks * output_blocks
    flops = 2 * problem.points * problem.grid.tiles * blocks * sums.rows * sums.stride / EFFICIENCY
    vectors = pieces(plan.inputs, problem.lanes) + pieces(plan.outputs, problem.lanes)
    flops += 2 * TRANSFORM * problem.points * problem.lanes * problem.grid.tiles * blocks * vectors
    x, w, y = (math.prod(geometry.shape(name)) for name in "xwy")
    moved = size * (x * output_blocks + y * input_blocks + w * 2 * problem.shares)
    return expected_seconds(machine, flops, 1.0, moved, problem.tasks, dtype)


def candidates(geometry: Convolution, direction: Direction, dtype: str, machine: Machine) -> list[Candidate]:
    """Tiles of 4x4 and of 2x2."""
    if direction is not Direction.WEIGHT_GRADIENT or not applies(geometry, machine.lanes(computed(dtype))):
        return []
    return [_candidate(geometry, dtype, machine, side) for side in ERRORS]


def _candidate(geometry: Convolution, dtype: str, machine: Machine, side: int) -> Candidate:
    problem = make_plan(geometry, dtype, machine, side)
    result = jax.ShapeDtypeStruct(geometry.w_shape, dtype)
    call = partial(winograd_weight, outputs=result, machine=machine, geometry=geometry, plan=problem.plan)
    return Candidate(f"winograd {side}x{side}", partial(_run, call), seconds(problem, dtype, machine), ERRORS[side])


def _run(call: Callable[..., Array], x: Array, dy: Array, mask: Array | None = None) -> Array:
    return call(x, dy, *(() if mask is None else (mask,)), masked=mask is not None)

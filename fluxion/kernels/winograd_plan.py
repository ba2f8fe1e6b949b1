"""How the work of a Winograd convolution is cut up, and how long it should take."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fluxion.kernels.candidate import expected_seconds
from fluxion.kernels.cook_toom import Transforms, cook_toom
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.machine import Machine
from fluxion.kernels.tile import tile_rows
from fluxion.kernels.values import Index, Number, computed, item_bytes
from fluxion.kernels.winograd_tiles import TAPS, Grid, Planes, pieces

CACHE_SHARE = 0.75  # of a core's second cache, that what a task goes through again and again may fill
ENOUGH_TASKS = 16
MOST_TILES = {False: 28, True: 64}  # of a block, by whether they are transformed first: more gain nothing
LEAST_TILES = {False: 1, True: 32}  # fewer would have the weights transformed too often
DEPTH = 32  # channels that are summed at once: longer sums have more rounding error, and save nothing
# Fitted: see `candidate`.
EFFICIENCY = 0.7  # of the products
START = 4  # channels that take as long as to begin and end a sum
TRANSFORM = 8  # multiplications and additions that the transforms of a vector take for each point
WEIGHT_TRANSFORM = 12  # the same for weights, which are spread over memory
SHARED_CACHE = 20  # times a core's second cache: what is larger is read from memory each time
CACHE_GAIN = 5  # times faster than memory


@dataclass(frozen=True)
class Plan:
    """How the work is cut up.

    Tiles are `side x side` results. A task does `tiles` of them, in register tiles of `rows` rows and `vectors`
    vectors, and sums over `depth` channels at a time.
    """

    side: int
    tiles: int
    rows: int
    vectors: int
    depth: int
    tiles_first: bool


@dataclass(frozen=True)
class Problem:
    """A forward convolution or an input gradient, both as a convolution of a source, and how it is cut up."""

    geometry: Convolution
    direction: Direction
    plan: Plan
    lanes: int

    @property
    def is_forward(self) -> bool:
        """False for the input gradient."""
        return self.direction is Direction.FORWARD

    @property
    def low(self) -> tuple[int, int]:
        """Zeros before the first row and before the first column of the source."""
        (top, _), (left, _) = self.geometry.pads
        return (top, left) if self.is_forward else (TAPS - 1 - top, TAPS - 1 - left)

    @property
    def inputs(self) -> int:
        """Channels of the source in a group."""
        return self.geometry.group_inputs if self.is_forward else self.geometry.group_outputs

    @property
    def outputs(self) -> int:
        """Channels of the result in a group."""
        return self.geometry.group_outputs if self.is_forward else self.geometry.group_inputs

    @property
    def transforms(self) -> Transforms:
        """The matrices."""
        return cook_toom(self.plan.side, TAPS)

    @property
    def points(self) -> int:
        """Points of the transforms, in two dimensions."""
        return (self.plan.side + TAPS - 1) ** 2

    @property
    def grid(self) -> Grid:
        """The tiles of the result."""
        geometry = self.geometry
        return Grid(geometry.batch, geometry.out_sizes if self.is_forward else geometry.sizes, self.plan.side)

    @property
    def width(self) -> int:
        """Output channels of a block."""
        return self.plan.vectors * self.lanes

    @property
    def group_blocks(self) -> int:
        """Blocks of output channels in a group."""
        return pieces(self.outputs, self.width)

    @property
    def blocks(self) -> int:
        """Blocks of output channels."""
        return self.group_blocks * self.geometry.groups

    def place(self, block: Number) -> tuple[Index, Index]:
        """The group of a block of output channels, and its first channel counted in the group."""
        return block // self.group_blocks, block % self.group_blocks * self.width

    @property
    def tile_blocks(self) -> int:
        """Blocks of tiles."""
        return pieces(self.grid.tiles, self.plan.tiles)

    @property
    def rows(self) -> int:
        """Rows of a block of tiles: where register tiles do not divide it, the last ones repeat a tile."""
        return pieces(self.plan.tiles, self.plan.rows) * self.plan.rows

    @property
    def tile_planes(self) -> Planes:
        """V of a block of tiles."""
        return Planes.padded(self.points, self.rows, self.inputs * self.geometry.groups)

    @property
    def product_planes(self) -> Planes:
        """M of a block of tiles and a block of output channels."""
        return Planes(self.points, self.rows, self.width)

    def weight_planes(self, depth: int) -> Planes:
        """U of a block of output channels and so many input channels."""
        return Planes(self.points, depth, self.width)


def make_plan(
    geometry: Convolution, direction: Direction, dtype: str, machine: Machine, side: int, tiles_first: bool
) -> Problem:
    """The problem, cut up for a machine: what a task uses again and again fits into its core's cache."""
    lanes = machine.lanes(computed(dtype))
    inputs, outputs = geometry.group_inputs, geometry.group_outputs
    if direction is not Direction.FORWARD:
        inputs, outputs = outputs, inputs
    vectors, depth = register_vectors(outputs, lanes), min(DEPTH, inputs)
    whole = Problem(geometry, direction, Plan(side, 1, 1, vectors, depth, tiles_first), lanes)
    most = tile_rows(machine, vectors)
    blocks = min(
        max(
            pieces(whole.grid.tiles, _room(whole, machine, dtype)),
            pieces(ENOUGH_TASKS, whole.blocks if tiles_first else 1),
        ),
        pieces(whole.grid.tiles, max(most, LEAST_TILES[tiles_first])),
    )
    tiles = pieces(whole.grid.tiles, blocks)
    rows = pieces(tiles, pieces(tiles, most))
    return replace(whole, plan=Plan(side, tiles, rows, vectors, depth, tiles_first))


def _room(problem: Problem, machine: Machine, dtype: str) -> int:
    """How many tiles a block may have: what is kept of one is a row of M, and one of V unless that is made for all."""
    tiles_first, channels = problem.plan.tiles_first, problem.inputs * problem.geometry.groups
    numbers = int(machine.l2 * CACHE_SHARE) // item_bytes(computed(dtype)) // problem.points
    room = numbers // problem.width - problem.plan.depth if tiles_first else numbers // (channels + problem.width)
    return max(min(room, MOST_TILES[tiles_first]), 1)


def register_vectors(outputs: int, lanes: int) -> int:
    """Vectors in a row of a register tile: of the good numbers the one that leaves the fewest lanes unused."""
    return min((2, 3, 4, 1), key=lambda vectors: pieces(outputs, vectors * lanes) * vectors)


def seconds(problem: Problem, dtype: str, machine: Machine) -> float:
    """What the cost model expects."""
    plan, geometry, size = problem.plan, problem.geometry, item_bytes(dtype)
    wide = item_bytes(computed(dtype))
    rows = problem.tile_blocks * problem.rows
    vectors = pieces(problem.inputs * geometry.groups, problem.lanes) + problem.blocks * plan.vectors
    steps = problem.inputs + START * pieces(problem.inputs, plan.depth)
    flops = 2 * problem.points * rows * steps * problem.blocks * problem.width / EFFICIENCY
    flops += 2 * TRANSFORM * problem.points * problem.lanes * rows * vectors
    weights = problem.blocks * problem.width * problem.inputs
    flops += 2 * WEIGHT_TRANSFORM * problem.points * weights * (problem.tile_blocks if plan.tiles_first else 1)
    moved = float(size * sum(math.prod(geometry.shape(name)) for name in "xwy"))
    shared = problem.tile_planes.size * problem.tile_blocks if plan.tiles_first else problem.points * weights
    reads = problem.blocks if plan.tiles_first else problem.tile_blocks
    moved += wide * shared * (1 + reads / (1 if wide * shared > SHARED_CACHE * machine.l2 else CACHE_GAIN))
    tasks = problem.tile_blocks * (problem.blocks if plan.tiles_first else 1)
    return expected_seconds(machine, flops, 1.0, moved, tasks, dtype)

"""Winograd convolution: 3x3 taps, steps of one, with 4 (tiles of 4x4) or 2.25 (2x2) times fewer multiplications.

     source          V                U            M                   result
    +------+    +---------+       +------+    +---------+           +----------+
    | 6x6  | -> | tiles   |   x   |      | =  | tiles   |    ->     | 4x4 |    |
    |pixels|    | x inputs|       |      |    |x outputs|           |-----'    |
    +------+    +---------+       +------+    +---------+           +----------+
          B' d B     for each of 36 points:          A' m A            epilogue

`cook_toom` explains the transforms; U is `G w G'` of the weights. The input gradient is the same with the gradient as
its source, with the weights turned by half a circle, and with outputs for inputs. What is kept where decides:

  * weights first: U is made once, for all. A task takes a block of tiles, makes V of it and does one block of output
    channels after the other: V and M stay in its core's cache, U streams by. For many tiles.
  * tiles first: V is made once, for all. A task takes a block of output channels and makes its part of U, some input
    channels at a time, in its core's cache: U, four times as large as the weights, never goes to memory. For many
    channels and few tiles.

The products are summed over some `depth` of input channels at a time, which keeps the rounding error of F(4x4) near
that of a direct sum.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from jax import Array

from fluxion.kernels.candidate import Candidate
from fluxion.kernels.cook_toom import transform
from fluxion.kernels.epilogue import Epilogue
from fluxion.kernels.finish import Finish
from fluxion.kernels.generated import Buffer, Kernel, Work, kernel
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.machine import Machine
from fluxion.kernels.values import Index, Number, Pointer, computed
from fluxion.kernels.winograd_plan import Plan, Problem, make_plan, seconds
from fluxion.kernels.winograd_tiles import (
    TAPS,
    Images,
    Place,
    Range,
    applies,
    load_point,
    pieces,
    store_point,
    store_product,
    transform_tile,
)


@dataclass(frozen=True)
class Parts:
    """A problem with its buffers; `turned` is room for a block of turned weights."""

    problem: Problem
    images: Images
    weights: Buffer
    turned: Buffer
    epilogue: Epilogue
    extras: tuple[Buffer, ...]
    result: Buffer

    @property
    def dtype(self) -> str:
        """The type of what is computed."""
        return computed(self.result.dtype)


@kernel
def winograd(
    k: Kernel,
    source: Buffer,
    weights: Buffer,
    *rest: Buffer,
    geometry: Convolution,
    direction: Direction,
    plan: Plan,
    epilogue: Epilogue,
    masked: bool,
) -> None:
    """`y` of `x` and `w`, or `dx` of `dy` and `w`; behind these a mask if `masked`, and the epilogue's operands."""
    dtype = computed(source.dtype)
    lanes = k.lanes(dtype)
    problem = Problem(geometry, direction, plan, lanes)
    images = Images.of(k, source, problem.low, rest[0] if masked else None)
    turned = k.private(TAPS * TAPS * lanes * lanes, dtype)
    parts = Parts(problem, images, weights, turned, epilogue, rest[masked:-1], rest[-1])
    (_tiles_first if plan.tiles_first else _weights_first)(k, parts)


def _weights_first(k: Kernel, parts: Parts) -> None:
    problem, dtype = parts.problem, parts.dtype
    u_planes = problem.weight_planes(problem.inputs)
    u = k.scratch(problem.blocks * u_planes.size, dtype)
    v, m = k.private(problem.tile_planes.size, dtype), k.private(problem.product_planes.size, dtype)
    steps = pieces(problem.inputs, problem.lanes)
    with k.parallel(problem.blocks * steps) as f:
        block, start = f.task // steps, f.task % steps * problem.lanes
        target = f[u] + (block * u_planes.size + start * u_planes.stride)
        channels = start, f.minimum(start + problem.lanes, problem.inputs)
        _transform_weights(f, parts, block, channels, target, u_planes.plane)
    with k.parallel(problem.tile_blocks) as f:
        first = f.task * problem.plan.tiles
        for row in f.range(problem.rows):
            _transform_row(f, parts, first, row, f[v])
        for block in f.range(problem.blocks):
            weights = f[u] + block * u_planes.size
            _multiply(f, parts, f[v], weights, u_planes.plane, f[m], block, (0, problem.inputs))
            _finish(f, parts, f[m], first, block)


def _tiles_first(k: Kernel, parts: Parts) -> None:
    problem, plan, dtype = parts.problem, parts.problem.plan, parts.dtype
    u_planes, v_planes = problem.weight_planes(plan.depth), problem.tile_planes
    v = k.scratch(problem.tile_blocks * v_planes.size, dtype)
    u, m = k.private(u_planes.size, dtype), k.private(problem.product_planes.size, dtype)
    with k.parallel(problem.tile_blocks * problem.rows) as f:
        block, row = f.task // problem.rows, f.task % problem.rows
        _transform_row(f, parts, block * plan.tiles, row, f[v] + block * v_planes.size)
    with k.parallel(problem.tile_blocks * problem.blocks) as f:
        tile_block, block = f.task % problem.tile_blocks, f.task // problem.tile_blocks
        for start in f.range(0, problem.inputs, plan.depth):
            channels = start, f.minimum(start + plan.depth, problem.inputs)
            _transform_weights(f, parts, block, channels, f[u], u_planes.plane)
            tiles = f[v] + tile_block * v_planes.size
            _multiply(f, parts, tiles, f[u], u_planes.plane, f[m], block, channels)
        _finish(f, parts, f[m], tile_block * plan.tiles, block)


def _transform_row(f: Work, parts: Parts, first: Index, row: Index, v: Pointer) -> None:
    """Row `row` of V, of the block whose first tile is `first`: `B' d B`."""
    problem, planes = parts.problem, parts.problem.tile_planes
    place = problem.grid.place(f.minimum(first + row, problem.grid.tiles - 1))
    channels = parts.images.channels
    target, step, whole = v + row * planes.stride, problem.plan.side, channels % problem.lanes == 0
    matrix = problem.transforms.data
    transform_tile(f, matrix, parts.images, place, (0, channels), target, planes.plane, step=step, whole=whole)


def _multiply(
    f: Work, parts: Parts, v: Pointer, u: Pointer, u_plane: int, m: Pointer, block: Number, channels: Range
) -> None:
    """M for all points: the products of V and U over the input channels from the first up to the second.

    `u` starts at the first. What belongs to the group's first channel is stored, the rest is added.
    """
    problem, plan = parts.problem, parts.problem.plan
    v_planes, m_planes = problem.tile_planes, problem.product_planes
    group, _ = problem.place(block)
    for point in f.range(problem.points):
        for row in f.range(0, problem.rows, plan.rows):
            a = v + (point * v_planes.plane + row * v_planes.stride + group * problem.inputs)
            c = m + (point * m_planes.plane + row * m_planes.stride)
            for start in f.range(channels[0], channels[1], plan.depth):
                depth = f.minimum(plan.depth, channels[1] - start)
                b, shape = u + (point * u_plane + (start - channels[0]) * problem.width), (plan.rows, plan.vectors)
                add = None if plan.depth >= problem.inputs else f.number(start) > 0
                strides = v_planes.stride, 1
                store_product(f, shape, a + start, strides, b, problem.width, depth, c, m_planes.stride, add)


def _finish(f: Work, parts: Parts, m: Pointer, first: Index, block: Number) -> None:
    """The results of a block of tiles and a block of output channels: `A' m A`, and the epilogue."""
    problem, grid = parts.problem, parts.problem.grid
    group, inside = problem.place(block)
    for row in f.range(f.minimum(problem.plan.tiles, grid.tiles - first)):
        place = grid.place(first + row)
        for lane in f.range(0, f.minimum(problem.width, problem.outputs - inside), problem.lanes):
            count = None if problem.outputs % problem.lanes == 0 else problem.outputs - inside - lane
            products = m + (row * problem.product_planes.stride + lane)
            load = partial(load_point, products, problem.plan.side + TAPS - 1, problem.product_planes.plane)
            channel = group * problem.outputs + inside + lane
            transform(f, problem.transforms.result, load, _tile_store(f, parts, place, channel, count))


def _tile_store(
    f: Work, parts: Parts, place: Place, channel: Index, count: Index | None
) -> Callable[[int, int, Number], None]:
    """A function that stores a vector of pixel (i, j) of the tile at `place`, if that lies in the image."""
    _, height, width, channels = parts.result.shape
    image, top, left = place
    corner = ((image * height + top) * width + left) * channels + channel
    finish = Finish(f, parts.epilogue, parts.extras, parts.result)
    side = parts.problem.plan.side

    def store(i: int, j: int, value: Number) -> None:
        with _inside(f, top, i, height, side), _inside(f, left, j, width, side):
            finish(value, corner + (i * width + j) * channels, channel, count)

    return store


def _inside(f: Work, start: Index, offset: int, size: int, side: int) -> AbstractContextManager[None]:
    """A branch around what lies at `start + offset`, unless all tiles have that."""
    surely = size % side == 0 or offset < size % side
    return nullcontext() if surely else f.when(f.number(start) + offset < size)


def _transform_weights(f: Work, parts: Parts, block: Number, channels: Range, u: Pointer, plane: int) -> None:
    """U of a block of output channels, for the input channels from the first up to the second: `G w G'`."""
    (_plain_weights if parts.problem.is_forward else _turned_weights)(f, parts, block, channels, u, plane)


def _plain_weights(f: Work, parts: Parts, block: Number, channels: Range, u: Pointer, plane: int) -> None:
    """U of the forward convolution, whose weights lie in memory as vectors of output channels."""
    problem = parts.problem
    group, inside = problem.place(block)
    total = parts.weights.shape[-1]
    for channel in f.range(*channels):
        for lane in f.range(0, problem.width, problem.lanes):
            count = None if problem.outputs % problem.width == 0 else problem.outputs - inside - lane
            first = f[parts.weights] + (channel * total + group * problem.outputs + inside + lane)
            target = u + ((channel - channels[0]) * problem.width + lane)
            taps = [(tap * problem.inputs * total, count) for tap in range(TAPS * TAPS)]
            _transform_taps(f, problem, first, taps, target, plane)


def _turned_weights(f: Work, parts: Parts, block: Number, channels: Range, u: Pointer, plane: int) -> None:
    """U of the input gradient, whose output channels are the weights' inputs: blocks of weights are transposed."""
    problem, lanes = parts.problem, parts.problem.lanes
    _, inside = problem.place(block)
    taps = [(tap * lanes * lanes, None) for tap in reversed(range(TAPS * TAPS))]
    for lane in f.range(0, problem.width, lanes):
        for start in f.range(channels[0], channels[1], lanes):
            _transpose_weights(f, parts, block, inside + lane, start)
            for i in f.range(f.minimum(lanes, channels[1] - start)):
                target = u + ((start - channels[0] + i) * problem.width + lane)
                _transform_taps(f, problem, f[parts.turned] + i * lanes, taps, target, plane)


def _transpose_weights(f: Work, parts: Parts, block: Number, output: Index, start: Index) -> None:
    """A vector of output channels from `output` on, of each tap and each of a vector of input channels, to `turned`."""
    problem, lanes = parts.problem, parts.problem.lanes
    group, _ = problem.place(block)
    total = parts.weights.shape[-1]
    columns = f[parts.weights] + (group * problem.inputs + start)
    count = None if problem.inputs % lanes == 0 else problem.inputs - start
    last = problem.outputs - 1
    for tap in f.range(TAPS * TAPS):
        rows = [tap * problem.outputs + f.minimum(output + lane, last) for lane in range(lanes)]
        for i, vector in enumerate(f.transpose([columns.load(row * total, count) for row in rows])):
            f[parts.turned].store(vector, (tap * lanes + i) * lanes)


def _transform_taps(
    f: Work, problem: Problem, first: Pointer, taps: list[tuple[int, Any]], target: Pointer, plane: int
) -> None:
    """U of one vector of output channels; each tap is the distance of its vector from `first`, and its lanes."""
    side = problem.plan.side + TAPS - 1
    transform(
        f,
        problem.transforms.kernel,
        lambda i, j: first.load(*taps[i * TAPS + j]),
        partial(store_point, target, side, plane),
    )


ERRORS = {4: 1.5, 2: 0.6}  # measured on normal data, by the side of a tile


def candidates(geometry: Convolution, direction: Direction, dtype: str, machine: Machine) -> list[Candidate]:
    """Tiles of 4x4 and of 2x2, each with the weights transformed first and with the tiles transformed first."""
    if direction is Direction.WEIGHT_GRADIENT or not applies(geometry, machine.lanes(computed(dtype))):
        return []
    return [_candidate(geometry, direction, dtype, machine, side, first) for side in ERRORS for first in (False, True)]


def _candidate(
    geometry: Convolution, direction: Direction, dtype: str, machine: Machine, side: int, tiles_first: bool
) -> Candidate:
    problem = make_plan(geometry, direction, dtype, machine, side, tiles_first)
    result = jax.ShapeDtypeStruct(geometry.result_shape(direction), dtype)
    parameters = {"geometry": geometry, "direction": direction, "plan": problem.plan}
    call = partial(winograd, outputs=result, machine=machine, **parameters)
    return Candidate(
        f"winograd {side}x{side}, {'tiles' if tiles_first else 'weights'} first",
        partial(_run_forward if problem.is_forward else _run_gradient, call),
        seconds(problem, dtype, machine),
        ERRORS[side],
    )


NO_EPILOGUE = Epilogue()


def _run_forward(
    call: Callable[..., Array], x: Array, w: Array, *extras: Array, epilogue: Epilogue = NO_EPILOGUE
) -> Array:
    return call(x, w, *extras, epilogue=epilogue, masked=False)


def _run_gradient(call: Callable[..., Array], dy: Array, w: Array, mask: Array | None = None) -> Array:
    masks = () if mask is None else (mask,)
    return call(dy, w, *masks, epilogue=NO_EPILOGUE, masked=mask is not None)

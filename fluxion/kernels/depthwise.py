"""Depthwise convolution: every channel is filtered by itself, which leaves little to do but to read and write quickly.

A result of a 3 x 3 depthwise convolution takes nine multiplications, fewer than the processor does while it waits for
one number from memory. So the lanes of a vector are neighbouring channels, as they lie in memory, and what has been
read is used at once: the results of a tile, neighbours on a row, share their sources and their weights.

                  sources on one row, a vector of channels each
       x   |  0  |  1  |  2  |  3  |  4  |  5  | ...
              \\     |     /
              w0    w1   w2              3 vectors of weights: one row of the kernel
                \\   |   /
       y         |  0  |  1  |  2  |  3  | ...        a tile of 8 sums, in registers

    for each row of results, tile and vector of channels:                    (`walk.Visit`)
        for each row of sources that it reads:
            load the weights of this row of the kernel
            for each source on it:   load it once, and multiply it into all the sums that it belongs to
        store the sums

The gradient of the input is the same walk with other relations between positions (`walk.Axis`). The gradient of the
weight walks as the forward direction does, but the innermost loop adds products of sources and `dy` to the sums of a
row of the kernel. Each task has its own sums, and a second phase adds these up: short sums round less.

With a multiplier, channel `c` of the input makes the outputs `c * multiplier ...`, side by side in memory. In registers
they are parts: one vector for each of them, the lanes of which meet the same lanes of the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import jax
from jax import Array

from fluxion.kernels.builder import Function, Tile
from fluxion.kernels.candidate import Candidate, expected_seconds
from fluxion.kernels.epilogue import Epilogue
from fluxion.kernels.generated import Buffer, Kernel, Work, kernel
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.machine import Machine
from fluxion.kernels.values import Index, Number, Pointer, computed, item_bytes
from fluxion.kernels.walk import Axis, Lanes, Visit, Walk, split

Parts: TypeAlias = "list[Number]"

PLAIN = Epilogue()
TILE = 8  # sums in registers
SUMS_PER_TASK = 1 << 18  # fewer are added sooner than another thread begins
MOST_TAPS, MOST_PARTS = 64, 8  # on the last axis; beyond these the code of a tile would be long
EFFICIENCY = 0.5  # share of the peak that was measured with all arrays in the second-level cache


def axes_of(geometry: Convolution, direction: Direction) -> tuple[Axis, ...]:
    """The relations of a direction. Those of the weight gradient are the ones of the forward direction."""
    numbers = zip(
        geometry.kernel,
        geometry.sizes,
        geometry.out_sizes,
        geometry.stride,
        geometry.dilation,
        geometry.pads,
        strict=True,
    )
    if direction is Direction.INPUT_GRADIENT:
        return tuple(
            Axis(taps, size, out, 1, -step, low, stride) for taps, size, out, stride, step, (low, _) in numbers
        )
    return tuple(Axis(taps, out, size, stride, step, -low, 1) for taps, size, out, stride, step, (low, _) in numbers)


def plan(geometry: Convolution, direction: Direction, dtype: str, machine: Machine) -> Walk:
    """How a problem is split on this machine."""
    source = geometry.y_shape if direction is Direction.INPUT_GRADIENT else geometry.x_shape
    shape = (*source[:-1], geometry.inputs)
    tile = max(TILE // geometry.group_outputs, 1)
    walk = partial(split, axes_of(geometry, direction), shape, dtype, machine, tile)
    if direction is not Direction.WEIGHT_GRADIENT:
        return walk()
    # The sums of all tasks should not be larger than the operands.
    return walk(-(-walk().rows * math.prod(geometry.w_shape) // math.prod(geometry.x_shape)))


@dataclass(frozen=True)
class Channels:
    """Numbers in memory, of which each channel has `parts`, side by side. Places count channels.

    What is loaded counts as 0 where `mask`, which has the same shape, is not above 0.
    """

    f: Function
    pointer: Pointer
    parts: int = 1
    zeros: Pointer | None = None
    mask: Pointer | None = None

    def at(self, place: Index) -> Channels:
        """The numbers from there on."""
        offset = place * self.parts
        return replace(self, pointer=self.pointer + offset, mask=None if self.mask is None else self.mask + offset)

    def load(self, place: Index, count: Lanes, exists: Any = True) -> Parts:
        """The parts of a vector of channels, zeros where there is none."""
        parts = self._load(self.pointer, place, count, exists)
        if self.mask is None:
            return parts
        masks = self._load(self.mask, place, count, exists)
        return [self.f.select(mask <= 0.0, 0.0, part) for mask, part in zip(masks, parts, strict=True)]

    def _load(self, pointer: Pointer, place: Index, count: Lanes, exists: Any) -> Parts:
        pointer = pointer + place * self.parts
        if exists is not True:
            pointer = self.f.select(exists, pointer, self.zeros)
        lanes = self.f.lanes(pointer.dtype)
        vectors = [pointer.load(v * lanes, self.lanes(v, count)) for v in range(self.parts)]
        return _picked(self.f, vectors, [range(part, lanes * self.parts, self.parts) for part in range(self.parts)])

    def store(self, parts: Parts, place: Index, count: Lanes) -> None:
        """Writes the parts of a vector of channels."""
        for v, vector in enumerate(side_by_side(self.f, parts)):
            self.pointer.store(vector, place * self.parts + v * (vector.lanes or 1), self.lanes(v, count))

    def lanes(self, vector: int, count: Lanes) -> Lanes:
        """How many lanes exist of a vector in memory, where so many channels do."""
        return None if count is None else count * self.parts - vector * self.f.lanes(self.pointer.dtype)


def side_by_side(f: Function, parts: Parts) -> list[Number]:
    """Vectors in which the parts of each channel follow each other, as they do in memory."""
    lanes, count = parts[0].lanes or 1, len(parts)
    places = [(lane % count) * lanes + lane // count for lane in range(lanes * count)]
    return _picked(f, parts, [places[v * lanes : (v + 1) * lanes] for v in range(count)])


def _picked(f: Function, vectors: list[Number], wanted: Sequence[Sequence[int]]) -> list[Number]:
    """Vectors of lanes that are picked from all the vectors, counted through."""
    if len(vectors) == 1:
        return vectors
    lanes, made = vectors[0].lanes or 1, []
    for places in wanted:
        result = vectors[0]
        for number, vector in enumerate(vectors):
            theirs = [place // lanes == number for place in places]
            lane = [
                lanes + place % lanes if new else old
                for old, (place, new) in enumerate(zip(places, theirs, strict=True))
            ]
            result = f.shuffle(result, vector, lane)
        made.append(result)
    return made


@kernel
def depthwise_sums(
    k: Kernel, source: Buffer, weight: Buffer, *others: Buffer, walk: Walk, direction: Direction, epilogue: Epilogue
) -> None:
    """`y` from `x`, with the operands of the epilogue, or the gradient of `x` from `dy`, with or without a mask."""
    *extras, result = others
    multiplier = weight.shape[-1] // walk.channels
    ins, outs = (1, multiplier) if direction is Direction.FORWARD else (multiplier, 1)
    masks, extras = ([], extras) if direction is Direction.FORWARD else (extras, [])
    listed, zeros = k.private(walk.list_size, "int64"), _zeros(k, source, ins)
    with k.parallel(walk.tasks) as f:
        visit = Visit(f, walk, listed, source.dtype, walk.axes[-1].taps * walk.channels)
        store = epilogue.store(f, extras, result)
        sources = Channels(f, f[source], ins, f[zeros], *(f[mask] for mask in masks))
        results, weights = Channels(f, f[result], outs), Channels(f, f[weight], multiplier)
        for row, count in visit.rows():
            for tile, whole in visit.tiles():
                for channel, lanes in visit.vectors():
                    total = f.tile(walk.tile, outs, f.zero(computed(source.dtype)))
                    for there, taps in visit.listed(count, carry=total):
                        nearest = sources.at(there + walk.first_source(tile) * walk.channels + channel)
                        _add_row(visit, total, nearest, weights.at(taps + channel), (tile, whole, lanes))
                    first = row * walk.axes[-1].positions + tile * walk.tile
                    for position in visit.positions(tile):
                        place = (first + position) * walk.channels + channel
                        for v, vector in enumerate(side_by_side(f, _row(total, position))):
                            ahead = v * visit.lanes
                            store(vector, place * outs + ahead, channel * outs + ahead, results.lanes(v, lanes))


def _add_row(visit: Visit, total: Tile, sources: Channels, weights: Channels, where: tuple[Any, bool, Lanes]) -> None:
    """Adds the products of a row of sources and a row of the kernel to the sums of a tile."""
    (tile, whole, lanes), channels = where, visit.walk.channels
    filters = [weights.load(tap * channels, lanes) for tap in range(visit.walk.axes[-1].taps)]
    for distance, exists, uses in visit.sources(tile, whole):
        values = sources.load(distance * channels, lanes, exists)
        for position, tap in uses:
            _multiply_add(visit.f, total, position, values, filters[tap])


@kernel
def depthwise_weight_gradient(k: Kernel, x: Buffer, dy: Buffer, *others: Buffer, walk: Walk) -> None:
    """The gradient of the weight, with or without a mask of `dy`: the sums of each task, and the sum of these."""
    *masks, dw = others
    multiplier = dw.shape[-1] // walk.channels
    listed, zeros = k.private(walk.list_size, "int64"), _zeros(k, x, 1)
    sums = k.scratch(walk.row_blocks * dw.size, computed(x.dtype))
    with k.parallel(walk.tasks) as f:
        visit = Visit(f, walk, listed, x.dtype, walk.axes[-1].taps * walk.channels)
        sources = Channels(f, f[x], 1, f[zeros])
        given = Channels(f, f[dy], multiplier, None, *(f[mask] for mask in masks))
        mine = Channels(f, f[sums] + visit.block * dw.size, multiplier)
        _clear(visit, mine)
        for row, count in visit.rows():
            for tile, whole in visit.tiles():
                for channel, lanes in visit.vectors():
                    first = (row * walk.axes[-1].positions + tile * walk.tile) * walk.channels + channel
                    factors = [given.at(first).load(r * walk.channels, lanes) for r in visit.positions(tile)]
                    for there, taps in visit.listed(count):
                        nearest = sources.at(there + walk.first_source(tile) * walk.channels + channel)
                        _add_products(visit, mine.at(taps + channel), nearest, factors, (tile, whole, lanes))
    with k.parallel(-(-sums.size // SUMS_PER_TASK)) as f:
        _add_up(f, sums, dw, walk)


def _clear(visit: Visit, sums: Channels) -> None:
    walk, zero = visit.walk, visit.f.zero(sums.pointer.dtype)
    for tap in visit.f.range(walk.tap_rows * walk.axes[-1].taps):
        for channel, lanes in visit.vectors():
            sums.store([zero] * sums.parts, tap * walk.channels + channel, lanes)


def _add_products(
    visit: Visit, sums: Channels, sources: Channels, factors: list[Parts], where: tuple[Any, bool, Lanes]
) -> None:
    """Adds the products of a row of sources and the factors of a tile to the sums of a row of the kernel."""
    (tile, whole, lanes), channels, taps = where, visit.walk.channels, visit.walk.axes[-1].taps
    total = Tile([part for tap in range(taps) for part in sums.load(tap * channels, lanes)], sums.parts)
    for distance, exists, uses in visit.sources(tile, whole):
        values = sources.load(distance * channels, lanes, exists)
        for position, tap in uses:
            _multiply_add(visit.f, total, tap, values, factors[position])
    for tap in range(taps):
        sums.store(_row(total, tap), tap * channels, lanes)


def _add_up(f: Work, sums: Buffer, dw: Buffer, walk: Walk) -> None:
    """The sum of the sums of all blocks, in their order, for the task's share of the weights."""
    share = -(-dw.size // -(-sums.size // SUMS_PER_TASK))
    start = f.task * share
    for i, count in f.vectors(start, f.minimum(start + share, dw.size), dtype=sums.dtype):
        total = f.tile(1, 1, f.zero(sums.dtype))
        for block in f.range(walk.row_blocks, carry=total):
            total[0] = total[0] + f[sums].load(block * dw.size + i, count)
        f[dw].store(total[0], i, count)


def _multiply_add(f: Function, total: Tile, row: int, values: Parts, factors: Parts) -> None:
    """Adds the products of parts to a row of a tile, which has one sum for each of them or one for all."""
    for part, factor in enumerate(factors):
        column = part % total.columns
        total[row, column] = f.fma(values[part % len(values)], factor, total[row, column])


def _row(total: Tile, row: int) -> Parts:
    return total.values[row * total.columns : (row + 1) * total.columns]


def _zeros(k: Kernel, source: Buffer, parts: int) -> Any:
    """What is read in place of a source that does not exist."""
    return k.table([0] * (k.lanes(source.dtype) * parts), source.dtype)


def candidates(geometry: Convolution, direction: Direction, dtype: str, machine: Machine) -> list[Candidate]:
    """The kernel of a depthwise convolution; none for another, and where the code would be long."""
    channels = geometry.inputs
    apart = geometry.groups == channels and geometry.outputs % channels == 0
    if not apart or geometry.kernel[-1] > MOST_TAPS or geometry.group_outputs > MOST_PARTS:
        return []
    walk = plan(geometry, direction, dtype, machine)
    moved = item_bytes(dtype) * (math.prod(geometry.x_shape) + math.prod(geometry.y_shape))
    filled = channels / (-(-channels // machine.lanes(dtype)) * machine.lanes(dtype))
    seconds = expected_seconds(machine, geometry.flops, EFFICIENCY * filled, moved, walk.tasks, dtype)
    run = _runner(walk, jax.ShapeDtypeStruct(geometry.result_shape(direction), dtype), direction, machine)
    return [Candidate("depthwise", run, seconds)]


def _runner(walk: Walk, output: jax.ShapeDtypeStruct, direction: Direction, machine: Machine) -> Any:
    def forward(x: Array, w: Array, *extras: Array, epilogue: Epilogue = PLAIN) -> Array:
        settings = {"walk": walk, "direction": direction, "epilogue": epilogue}
        return depthwise_sums(x, w, *extras, outputs=output, machine=machine, **settings)

    def input_gradient(dy: Array, w: Array, mask: Array | None = None) -> Array:
        settings = {"walk": walk, "direction": direction, "epilogue": PLAIN}
        return depthwise_sums(dy, w, *_given(mask), outputs=output, machine=machine, **settings)

    def weight_gradient(x: Array, dy: Array, mask: Array | None = None) -> Array:
        return depthwise_weight_gradient(x, dy, *_given(mask), outputs=output, machine=machine, walk=walk)

    runs = (forward, input_gradient, weight_gradient)
    return dict(zip(Direction, runs, strict=True))[direction]


def _given(mask: Array | None) -> tuple[Array, ...]:
    return () if mask is None else (mask,)

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

With a multiplier, channel `c` of the input makes the outputs `c * multiplier ...`, side by side in memory. A vector of
the input is spread over as many vectors as it makes, so that weights and outputs are used as they lie in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import jax
from jax import Array

from fluxion.kernels.builder import Function, Tile
from fluxion.kernels.candidate import Candidate, expected_seconds
from fluxion.kernels.epilogue import Epilogue
from fluxion.kernels.finish import Finish, sloped
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
EFFICIENCY = 0.22  # share of the peak that was measured with all arrays in the second-level cache


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

    What is loaded is spread over `copies` times as many vectors, where each number follows itself so often. It counts
    as 0 where `mask`, which has the same shape, is not above 0.
    """

    f: Function
    pointer: Pointer
    parts: int = 1
    copies: int = 1
    zeros: Pointer | None = None
    mask: Pointer | None = None

    def at(self, place: Index) -> Channels:
        """The numbers from there on."""
        offset = place * self.parts
        return replace(self, pointer=self.pointer + offset, mask=None if self.mask is None else self.mask + offset)

    def load(self, place: Index, count: Lanes, exists: Any = True) -> Parts:
        """The vectors of the parts of a vector of channels, zeros where there is none."""
        vectors = self._load(self.pointer, place, count, exists)
        if self.mask is not None:
            masks = self._load(self.mask, place, count, exists)
            vectors = [sloped(self.f, numbers, mask) for numbers, mask in zip(vectors, masks, strict=True)]
        return vectors if self.copies == 1 else [copy for vector in vectors for copy in self._spread(vector)]

    def _load(self, pointer: Pointer, place: Index, count: Lanes, exists: Any) -> Parts:
        pointer = pointer + place * self.parts
        if exists is not True:
            pointer = self.f.select(exists, pointer, self.zeros)
        lanes = self.f.lanes(pointer.dtype)
        return [pointer.load(v * lanes, self.lanes(v, count)) for v in range(self.parts)]

    def _spread(self, vector: Number) -> Parts:
        lanes = vector.lanes or 1
        places = [lane // self.copies for lane in range(lanes * self.copies)]
        return [self.f.shuffle(vector, vector, places[v : v + lanes]) for v in range(0, len(places), lanes)]

    def store(self, parts: Parts, place: Index, count: Lanes) -> None:
        """Writes the vectors of the parts of a vector of channels."""
        for v, vector in enumerate(parts):
            self.pointer.store(vector, place * self.parts + v * (vector.lanes or 1), self.lanes(v, count))

    def lanes(self, vector: int, count: Lanes) -> Lanes:
        """How many lanes exist of a vector in memory, where so many channels do."""
        return None if count is None else count * self.parts - vector * self.f.lanes(self.pointer.dtype)


def sum_of_parts(f: Function, vectors: Parts) -> Number:
    """For each channel the sum of its parts, which lie side by side in as many vectors."""
    first, *others = (_picked(f, vectors, part) for part in range(len(vectors)))
    return sum(others, first)


def _picked(f: Function, vectors: Parts, part: int) -> Number:
    """One part of all channels."""
    lanes, picked = vectors[0].lanes or 1, vectors[0]
    places = range(part, lanes * len(vectors), len(vectors))
    for number, vector in enumerate(vectors if len(vectors) > 1 else []):
        picked = f.shuffle(
            picked, vector, [lanes + p % lanes if p // lanes == number else i for i, p in enumerate(places)]
        )
    return picked


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
        store = Finish(f, epilogue, extras, result)
        sources = Channels(f, f[source], ins, outs, f[zeros], *(f[mask] for mask in masks))
        results, weights = Channels(f, f[result], outs), Channels(f, f[weight], multiplier)
        for row, count in visit.rows():
            for tile, whole in visit.tiles():
                for channel, lanes in visit.vectors():
                    total = f.tile(walk.tile, multiplier, f.zero(computed(source.dtype)))
                    for there, taps in visit.listed(count, carry=total):
                        nearest = sources.at(there + walk.first_source(tile) * walk.channels + channel)
                        _add_row(visit, total, nearest, weights.at(taps + channel), (tile, whole, lanes))
                    first = row * walk.axes[-1].positions + tile * walk.tile
                    for position in visit.positions(tile):
                        place = (first + position) * walk.channels + channel
                        sums = _row(total, position)
                        for v, vector in enumerate(sums if ins == 1 else [sum_of_parts(f, sums)]):
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
        sources = Channels(f, f[x], 1, multiplier, f[zeros])
        given = Channels(f, f[dy], multiplier, mask=f[masks[0]] if masks else None)
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
    """Adds the products of the vectors of the parts to a row of a tile."""
    for column, (value, factor) in enumerate(zip(values, factors, strict=True)):
        total[row, column] = f.fma(value, factor, total[row, column])


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

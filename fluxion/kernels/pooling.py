"""Max pooling with the position of each maximum, which makes its derivative a matter of picking and scattering.

                   windows of 2 x 2, and the numbers of their taps:  0 1
                                                                     2 3
        x   3 1 | 4 1          y   7 | 8          positions   3 | 3
            2 7 | 1 8

    largest   y[i]  = max over taps k of x[window i, tap k],      positions[i] = the first k that has it
    picked    dy[i] = dx[window i, tap positions[i]]
    scattered dx[j] = sum over the windows i, in their order, that hold j at the tap positions[i], of dy[i]

`picked` is the derivative of `largest` and `scattered` is the transpose of `picked`; both are linear, and neither needs
`x`. A position takes a byte, so the backward pass reads a sixteenth of what comparing with `x` again would cost it.
All three are walks (`walk.Visit`): the first two from windows to what they hold, the last one from inputs to the
windows that hold them, so that nothing is written twice and tasks need not wait for each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
from jax import Array

from fluxion.kernels.builder import Tile
from fluxion.kernels.generated import Buffer, GeneratedKernel, Kernel, Table, Work, kernel
from fluxion.kernels.machine import Machine
from fluxion.kernels.values import Index, Number, Pointer, computed
from fluxion.kernels.walk import Axis, Lanes, Visit, Walk, split

Call: TypeAlias = "Callable[..., Sequence[Array]]"

MOST_TAPS = 32  # on the last axis; beyond it the code of a tile would be long
FLOATS = ("float32", "float64", "bfloat16")
NEGATIVE_INFINITY = {"float32": -math.inf, "float64": -math.inf, "bfloat16": 0xFF80}  # as memory holds it
NOWHERE = -1  # no tap has this number


def windows_of(x_shape: Sequence[int], y_shape: Sequence[int], windows: Any) -> tuple[Axis, ...]:
    """From windows to the inputs that they hold: `windows` has a `kernel`, `strides` and `pads`."""
    axes = zip(windows.kernel, y_shape[1:-1], x_shape[1:-1], windows.strides, windows.pads, strict=True)
    return tuple(Axis(taps, count, size, stride, 1, -low, 1) for taps, count, size, stride, (low, _) in axes)


def holders_of(x_shape: Sequence[int], y_shape: Sequence[int], windows: Any) -> tuple[Axis, ...]:
    """From inputs to the windows that hold them, in their order: taps are counted from the last one backwards."""
    axes = zip(windows.kernel, y_shape[1:-1], x_shape[1:-1], windows.strides, windows.pads, strict=True)
    return tuple(Axis(taps, size, count, 1, 1, low - taps + 1, stride) for taps, count, size, stride, (low, _) in axes)


@kernel
def max_pool(k: Kernel, x: Buffer, y: Buffer, *positions: Buffer, walk: Walk) -> None:
    """The largest value of each window and, where there is memory for it, its position. NaN is larger than all."""
    listed, lowest = k.private(walk.list_size, "int64"), _absent(k, x.dtype, NEGATIVE_INFINITY[x.dtype])
    with k.parallel(walk.tasks) as f:
        visit = Visit(f, walk, listed, x.dtype, walk.axes[-1].taps)
        for row, count in visit.rows():
            for tile, whole in visit.tiles():
                for channel, lanes in visit.vectors():
                    best = f.tile(walk.tile, 1, f.constant(-math.inf, computed(x.dtype), visit.lanes))
                    where = f.tile(walk.tile * len(positions), 1, f.constant(NOWHERE, "int32", visit.lanes))
                    for there, taps in visit.listed(count, carry=(best, where)):
                        source = f[x] + (there + walk.first_source(tile) * walk.channels + channel)
                        numbers = _tap_numbers(visit, taps)
                        for distance, exists, uses in visit.sources(tile, whole):
                            value = _loaded(visit, source + distance * walk.channels, lanes, exists, f[lowest])
                            for r, tap in uses:
                                _keep_larger(f, best, where, r, value, numbers[tap])
                    for r, place in _places(visit, row, tile, channel):
                        f[y].store(best[r], place, lanes)
                        for buffer in positions:
                            found = _first_if_nowhere(visit, where[r], tile, r)
                            f[buffer].store(f.convert(found, "int8"), place, lanes)


def _keep_larger(f: Work, best: Tile, where: Tile, r: int, value: Number, number: Number) -> None:
    """Takes a value that is larger than the best, or NaN, unless the best is NaN; its number where those are kept."""
    larger = ~(value <= best[r]) & best[r].equals(best[r])
    best[r] = f.select(larger, value, best[r])
    if where.rows:
        where[r] = f.select(larger, number, where[r])


def _first_if_nowhere(visit: Visit, where: Number, tile: Index, r: int) -> Number:
    """The position, which is the first one that lies in `x` for a window of nothing but negative infinity."""
    axis, f = visit.walk.axes[-1], visit.f
    start = f.number(axis.numerator(tile * visit.walk.tile + r, 0))
    first = visit.first_taps() + f.maximum(0 - start, f.number(0))
    return f.select(where < 0, f.splat(f.convert(first, "int32"), visit.lanes), where)


@kernel
def pick_positions(k: Kernel, x: Buffer, positions: Buffer, y: Buffer, *, walk: Walk) -> None:
    """What each window holds at its position."""
    listed, zeros = k.private(walk.list_size, "int64"), _absent(k, x.dtype, 0)
    with k.parallel(walk.tasks) as f:
        visit = Visit(f, walk, listed, x.dtype, walk.axes[-1].taps)
        for row, count in visit.rows():
            for tile, whole in visit.tiles():
                for channel, lanes in visit.vectors():
                    total = f.tile(walk.tile, 1, f.zero(computed(x.dtype)))
                    places = _places(visit, row, tile, channel)
                    wanted = [_position(visit, f[positions] + place, lanes) for _, place in places]
                    for there, taps in visit.listed(count, carry=total):
                        source = f[x] + (there + walk.first_source(tile) * walk.channels + channel)
                        numbers = _tap_numbers(visit, taps)
                        for distance, exists, uses in visit.sources(tile, whole):
                            value = _loaded(visit, source + distance * walk.channels, lanes, exists, f[zeros])
                            for r, tap in uses:
                                total[r] = f.select(wanted[r].equals(numbers[tap]), value, total[r])
                    for r, place in places:
                        f[y].store(total[r], place, lanes)


@kernel
def scatter_to_positions(k: Kernel, y: Buffer, positions: Buffer, x: Buffer, *, walk: Walk) -> None:
    """At each input the sum over the windows whose position it is."""
    listed, zeros = k.private(walk.list_size, "int64"), _absent(k, y.dtype, 0)
    nowhere, last = _absent(k, "int8", NOWHERE), math.prod(axis.taps for axis in walk.axes) - 1
    with k.parallel(walk.tasks) as f:
        visit = Visit(f, walk, listed, y.dtype, walk.axes[-1].taps)
        for row, count in visit.rows():
            for tile, whole in visit.tiles():
                for channel, lanes in visit.vectors():
                    total = f.tile(walk.tile, 1, f.zero(computed(y.dtype)))
                    for there, taps in visit.listed(count, carry=total):
                        nearest = there + walk.first_source(tile) * walk.channels + channel
                        numbers = [last - number for number in _tap_numbers(visit, taps)]
                        for distance, exists, uses in visit.sources(tile, whole):
                            place = nearest + distance * walk.channels
                            value = _loaded(visit, f[y] + place, lanes, exists, f[zeros])
                            position = _position(visit, f[positions] + place, lanes, exists, f[nowhere])
                            for r, tap in uses:
                                here = position.equals(numbers[tap])
                                total[r] = f.select(here, total[r] + value, total[r])
                    for r, place in _places(visit, row, tile, channel):
                        f[x].store(total[r], place, lanes)


@kernel
def sum_sources(k: Kernel, source: Buffer, result: Buffer, *, walk: Walk) -> None:
    """The sum of all the sources of each position: of what a window holds, or of the windows that hold an input."""
    listed, zeros = k.private(walk.list_size, "int64"), _absent(k, source.dtype, 0)
    with k.parallel(walk.tasks) as f:
        visit = Visit(f, walk, listed, source.dtype, walk.axes[-1].taps)
        for row, count in visit.rows():
            for tile, whole in visit.tiles():
                for channel, lanes in visit.vectors():
                    total = f.tile(walk.tile, 1, f.zero(computed(source.dtype)))
                    for there, _ in visit.listed(count, carry=total):
                        nearest = f[source] + (there + walk.first_source(tile) * walk.channels + channel)
                        for distance, exists, uses in visit.sources(tile, whole):
                            value = _loaded(visit, nearest + distance * walk.channels, lanes, exists, f[zeros])
                            for r, _ in uses:
                                total[r] = total[r] + value
                    for r, place in _places(visit, row, tile, channel):
                        f[result].store(total[r], place, lanes)


def _absent(k: Kernel, dtype: str, value: float) -> Table:
    """What is read in place of a source that does not exist."""
    return k.table([value] * k.lanes(dtype if dtype != "int8" else "float32"), dtype)


def _loaded(visit: Visit, pointer: Pointer, lanes: Lanes, exists: Any, absent: Pointer) -> Number:
    source = pointer if exists is True else visit.f.select(exists, pointer, absent)
    return source.load(0, lanes, visit.lanes)


def _position(
    visit: Visit, pointer: Pointer, lanes: Lanes, exists: Any = True, absent: Pointer | None = None
) -> Number:
    return visit.f.convert(_loaded(visit, pointer, lanes, exists, absent or pointer), "int32")


def _tap_numbers(visit: Visit, first: Number) -> list[Number]:
    """The numbers of the taps of a row, in all lanes."""
    start = visit.f.splat(visit.f.convert(first, "int32"), visit.lanes)
    return [start + tap for tap in range(visit.walk.axes[-1].taps)]


def _places(visit: Visit, row: Any, tile: Index, channel: Index) -> list[tuple[int, Any]]:
    """The positions of a tile, and where they are stored."""
    first = (row * visit.walk.axes[-1].positions + tile * visit.walk.tile) * visit.walk.channels + channel
    return [(r, first + r * visit.walk.channels) for r in visit.positions(tile)]


def largest_call(machine: Machine, x: Any, windows: Any, positions: bool) -> Call | None:
    """`max_pool` of arrays like `x`, or None where it has no kernel; it returns `y`, or `y` and the positions."""
    y_shape = _y_shape(x, windows, x.shape[1:-1])
    outputs = [jax.ShapeDtypeStruct(y_shape, x.dtype), jax.ShapeDtypeStruct(y_shape, "int8")][: 1 + positions]
    return _call(max_pool, machine, windows_of(x.shape, y_shape, windows), x, outputs)


def call_to_windows(made: GeneratedKernel, machine: Machine, x: Any, windows: Any, sizes: Sequence[int]) -> Call | None:
    """`pick_positions` or `sum_sources`, from inputs like `x` with these spatial sizes to windows; or None."""
    y_shape = _y_shape(x, windows, sizes)
    output = jax.ShapeDtypeStruct(y_shape, x.dtype)
    return _call(made, machine, windows_of(x.shape, y_shape, windows), x, [output])


def call_to_inputs(made: GeneratedKernel, machine: Machine, y: Any, windows: Any, sizes: Sequence[int]) -> Call | None:
    """`scatter_to_positions` or `sum_sources`, from windows like `y` to inputs with these spatial sizes; or None."""
    output = jax.ShapeDtypeStruct((y.shape[0], *sizes, y.shape[-1]), y.dtype)
    return _call(made, machine, holders_of(output.shape, y.shape, windows), y, [output])


def _y_shape(x: Any, windows: Any, sizes: Sequence[int]) -> tuple[int, ...]:
    return (x.shape[0], *windows.counts(sizes), x.shape[-1])


def _call(
    made: GeneratedKernel, machine: Machine, axes: tuple[Axis, ...], source: Any, outputs: Sequence[Any]
) -> Call | None:
    if source.dtype.name not in FLOATS or axes[-1].taps > MOST_TAPS:
        return None
    walk = walk_of(machine, axes, source)
    return lambda *operands: made(*operands, outputs=outputs, machine=machine, walk=walk)


def walk_of(machine: Machine, axes: tuple[Axis, ...], source: Any) -> Walk:
    """The walk over `axes` whose sources lie in arrays like `source`."""
    return split(axes, source.shape, source.dtype.name, machine, machine.registers // 4)

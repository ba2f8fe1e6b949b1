"""A walk over positions that each read some sources: what depthwise convolution and pooling have in common.

The lanes of a vector are neighbouring channels, as they lie in memory. Positions that are neighbours on a row make a
tile: they read the same sources, each of which is loaded once.

    for each row of positions:               list the rows of sources that it reads, and the taps that reach them
        for each tile on the row:
            for each vector of channels:
                for each row on the list:
                    for each source on it:   load it once, and use it for all the positions that read it

The list takes padding, strides and dilation of all axes but the last out of the inner loops, and any number of axes
looks the same to them. On the last axis, only tiles at the ends have to ask which of their sources exist.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from fluxion.kernels.builder import Tile
from fluxion.kernels.generated import Buffer, Work
from fluxion.kernels.machine import Machine
from fluxion.kernels.values import Index, Number, item_bytes

Lanes: TypeAlias = "Index | None"  # how many of a vector's lanes exist; None: all

TASKS = 64  # enough for many cores, and few enough that neighbouring tasks seldom read the same rows
LEAST_VECTORS = 4  # neighbouring vectors of channels that a task visits: memory is read by larger pieces than one


@dataclass(frozen=True)
class Axis:
    """Which source each tap of a position reads, along one axis:

        source = (position * scale + tap * step + shift) / divisor

    where that is a whole number, and at least 0 and less than `sources`.
    """

    taps: int
    positions: int
    sources: int
    scale: int
    step: int
    shift: int
    divisor: int

    def numerator(self, position: Index, tap: Index) -> Any:
        """What `divisor` divides."""
        return position * self.scale + tap * self.step + self.shift

    def uses(self, count: int) -> dict[int, list[tuple[int, int]]]:
        """For each source of the first `count` positions the pairs of position and tap that read it."""
        found: dict[int, list[tuple[int, int]]] = {}
        for position in range(count):
            for tap in range(self.taps):
                source, rest = divmod(self.numerator(position, tap), self.divisor)
                if not rest:
                    found.setdefault(source, []).append((position, tap))
        return dict(sorted(found.items()))


@dataclass(frozen=True)
class Walk:
    """How the positions are split: tasks of some rows and some channels, rows of tiles.

    Nothing here depends on the number of workers, and so no sum does.
    """

    axes: tuple[Axis, ...]
    batch: int
    channels: int
    tile: int
    rows_per_task: int
    channels_per_task: int

    @property
    def rows(self) -> int:
        """How many rows of positions there are."""
        return self.batch * math.prod(axis.positions for axis in self.axes[:-1])

    @property
    def tap_rows(self) -> int:
        """How many rows the taps form, one for each choice of taps on all axes but the last."""
        return math.prod(axis.taps for axis in self.axes[:-1])

    @property
    def list_size(self) -> int:
        """Memory for a pair of numbers for each row of taps, and one more that is written but never read."""
        return 2 * self.tap_rows + 2

    @property
    def row_blocks(self) -> int:
        """Tasks over the rows."""
        return -(-self.rows // self.rows_per_task)

    @property
    def channel_blocks(self) -> int:
        """Tasks over the channels."""
        return -(-self.channels // self.channels_per_task)

    @property
    def tasks(self) -> int:
        """How many tasks there are."""
        return self.row_blocks * self.channel_blocks

    @property
    def tiles(self) -> int:
        """How many tiles a row has."""
        return -(-self.axes[-1].positions // self.tile)

    def first_source(self, tile: Index) -> Any:
        """The source from which those of a tile are counted: `Axis.uses` says which."""
        return tile * (self.tile * self.axes[-1].scale // self.axes[-1].divisor)

    def whole_tiles(self) -> range:
        """The tiles all of whose sources exist, without the first and the last one."""
        axis = self.axes[-1]
        uses = axis.uses(self.tile)
        low, high = min(uses, default=0), max(uses, default=0)
        starts = {tile: self.first_source(tile) for tile in range(1, self.tiles - 1)}
        whole = [tile for tile, start in starts.items() if start + low >= 0 and start + high < axis.sources]
        return range(whole[0], whole[-1] + 1) if whole else range(1, 1)


def split(
    axes: tuple[Axis, ...], shape: Sequence[int], dtype: str, machine: Machine, longest: int, least_rows: int = 1
) -> Walk:
    """A walk over sources of this shape, with tiles of about `longest` positions, and at least so many rows a task.

    A task has so many channels that the rows of sources which its rows of positions share stay in the nearest cache.
    """
    last, lanes, channels = axes[-1], machine.lanes(dtype), shape[-1]
    tile = -(-last.positions // -(-last.positions // longest))
    tile = -(-tile // last.divisor) * last.divisor  # so that tiles start at sources
    walk = Walk(axes, shape[0], channels, tile, 1, channels)
    vectors, shared = -(-channels // lanes), walk.tap_rows * last.sources * lanes * item_bytes(dtype)
    blocks = max(vectors // max(machine.l1 // 2 // shared, LEAST_VECTORS), 1)
    rows = max(-(-walk.rows * blocks // TASKS), 4 * max((axis.taps for axis in axes[:-1]), default=1), least_rows)
    walk = replace(walk, rows_per_task=min(rows, walk.rows))
    blocks = max(blocks, min(TASKS // 2 // walk.row_blocks, vectors // LEAST_VECTORS))
    return replace(walk, channels_per_task=-(-vectors // blocks) * lanes)


class Visit:
    """The loops of a task, and the list of rows that each row of positions reads."""

    def __init__(self, f: Work, walk: Walk, listed: Buffer, dtype: str, tap_row: int) -> None:
        """`listed` is memory for `list_size` numbers; rows of taps count as `tap_row` apart."""
        self.f, self.walk, self.lanes, self._tap_row = f, walk, f.lanes(dtype), tap_row
        self._listed = f[listed]
        self.block = f.task // walk.channel_blocks
        self._channel = f.task % walk.channel_blocks * walk.channels_per_task

    def rows(self) -> Iterator[tuple[Any, Number]]:
        """The rows of positions, and how many rows of sources are on the list for each."""
        start = self.block * self.walk.rows_per_task
        for row in self.f.range(start, self.f.minimum(start + self.walk.rows_per_task, self.walk.rows)):
            yield row, self._list(row)

    def _list(self, row: Any) -> Number:
        places = []
        for axis in reversed(self.walk.axes[:-1]):
            places.append(row % axis.positions)
            row = row // axis.positions
        count = Tile([self.f.number(0)])
        self._list_axis(places[::-1], row, 0, self.f.constant(True, "bool"), count)
        return count[0]

    def _list_axis(self, places: Sequence[Any], source: Any, taps: Any, exists: Number, count: Tile) -> None:
        """Lists the rows that the taps of the innermost axes lead to, of which there are as many as `places`."""
        axis = self.walk.axes[-1 - len(places)]
        if not places:
            self._listed[count[0] * 2] = self.f.number(source * (axis.sources * self.walk.channels))
            self._listed[count[0] * 2 + 1] = self.f.number(taps * self._tap_row)
            count[0] = count[0] + self.f.convert(exists, "int64")  # kept where it exists
            return
        for tap in self.f.range(axis.taps, carry=count):
            numerator = self.f.number(axis.numerator(places[0], tap))
            found = exists & (numerator >= 0) & (numerator < axis.sources * axis.divisor)
            if axis.divisor > 1:
                found = found & (numerator % axis.divisor).equals(0)
            inner = source * axis.sources + numerator // axis.divisor
            self._list_axis(places[1:], inner, taps * axis.taps + tap, found, count)

    def listed(self, count: Number, carry: Any = ()) -> Iterator[tuple[Number, Number]]:
        """Of each row on the list where its sources begin, and where the row of taps does that they meet."""
        for n in self.f.range(count, carry=carry):
            yield self._listed[n * 2], self._listed[n * 2 + 1]

    def first_taps(self) -> Number:
        """Where the first row of taps on the list begins."""
        return self._listed[1]

    def tiles(self) -> Iterator[tuple[Any, bool]]:
        """The tiles on a row, and whether all their sources exist. The first and the last one are ints."""
        last, whole = self.walk.tiles - 1, self.walk.whole_tiles()
        for start, stop in ((0, 1), (1, whole.start)):
            for tile in self.f.range(start, stop):
                yield tile, False
        for tile in self.f.range(whole.start, whole.stop):
            yield tile, True
        for start, stop in ((whole.stop, last), (max(last, 1), last + 1)):
            for tile in self.f.range(start, stop):
                yield tile, False

    def vectors(self) -> Iterator[tuple[Any, Lanes]]:
        """The vectors of channels, and how many lanes exist."""
        rest = self.walk.channels % self.lanes
        stop = self.f.minimum(self._channel + self.walk.channels_per_task, self.walk.channels)
        whole = self.f.minimum(stop, self.walk.channels - rest)
        for channel in self.f.range(self._channel, whole, self.lanes):
            yield channel, None
        if rest:
            for channel in self.f.range(whole, stop, self.lanes):
                yield channel, rest

    def positions(self, tile: Index) -> range:
        """The positions of a tile that exist, all but in the last one."""
        left = self.walk.axes[-1].positions - tile * self.walk.tile if isinstance(tile, int) else self.walk.tile
        return range(min(self.walk.tile, left))

    def sources(self, tile: Index, whole: bool) -> Iterator[tuple[int, Any, list[tuple[int, int]]]]:
        """The sources of a tile: their place behind the first, whether they exist, and what reads them."""
        positions, size = self.positions(tile), self.walk.axes[-1].sources
        for distance, pairs in self.walk.axes[-1].uses(self.walk.tile).items():
            uses = [(position, tap) for position, tap in pairs if position in positions]
            source = self.walk.first_source(tile) + distance
            if isinstance(source, int):
                exists: Any = 0 <= source < size
            else:
                exists = whole or (source >= 0) & (source < size)
            if uses and exists is not False:
                yield distance, exists, uses

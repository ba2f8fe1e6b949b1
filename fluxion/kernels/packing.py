"""Copies of weights and source that a direct convolution reads from end to end, without gaps.

Weights: for each group and block of `width` output channels, the taps in the order in which they are read. The lanes of
a vector are output channels; the input gradient's are input channels, so that it transposes blocks in registers.

    w[tap][c][o]   ->   packed[group][block][tap][c][lanes of the block]

Source: the part that one task reads. Its last two axes depend on what the rows of a tile are, positions along x or
images, so that these are a short way apart:

    packed[image][z][y][x][c]   with zeros where the padding is,  or   packed[z][y][x][image][c]   without padding

Where several images share a vector (see cells.py), each number of the source becomes a cell of theirs, and each weight
stands as often in its vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fluxion.kernels.builder import Function
from fluxion.kernels.cells import stretched, weave
from fluxion.kernels.generated import Buffer, Kernel
from fluxion.kernels.geometry import Direction
from fluxion.kernels.panels import load
from fluxion.kernels.sweep import Sweep
from fluxion.kernels.values import Index, Pointer, computed, item_bytes

ALIASED = 1024  # bytes: numbers that lie a multiple of it apart compete for few lines of the first cache
FEW = 1 << 14  # numbers that are not worth a second thread


def pack_weights(k: Kernel, sweep: Sweep, weights: Buffer, direction: Direction, vectors: int, cell: int) -> Buffer:
    """A phase that copies the weights, so many vectors side by side in a block, each weight `cell` times."""
    dtype = computed(weights.dtype)
    lanes = k.lanes(dtype)
    block = vectors * lanes
    channels = lanes // cell
    blocks, taps = -(-sweep.width // (vectors * channels)), len(sweep.taps)
    packed = k.scratch(sweep.groups * blocks * taps * sweep.depth * block, dtype)
    table = k.table(sweep.taps)
    tap_numbers = sweep.depth * sweep.width * sweep.groups
    together = taps * sweep.depth * block < FEW
    each, shares = (taps, 1) if together else (1, taps)
    copy = _copy_rows if direction is Direction.FORWARD else _copy_transposed
    with k.parallel(sweep.groups * blocks * shares) as f:
        number, first = f.task // shares, f.task % shares * each
        group, channel = number // blocks, number % blocks * (vectors * channels)
        for tap in f.range(first, first + each):
            source = f[weights] + f[table][tap] * tap_numbers
            target = f[packed] + (number * taps + tap) * (sweep.depth * block)
            for v in range(vectors):
                copy(f, sweep, source, target + v * lanes, group, channel + v * channels, block, cell)
    return packed


def _copy_rows(
    f: Function, sweep: Sweep, source: Pointer, target: Pointer, group: Index, channel: Index, row: int, cell: int
) -> None:
    """One vector of output channels, for all input channels."""
    lanes = f.lanes(target.dtype)
    channels = lanes // cell
    count = None if sweep.width % channels == 0 and row == lanes else sweep.width - channel
    source = source + group * sweep.width + channel
    for c in f.range(sweep.depth, unroll=4):
        numbers = source.load(c * (sweep.groups * sweep.width), count, channels)
        target.store(stretched(f, numbers, cell), c * row)


def _copy_transposed(
    f: Function, sweep: Sweep, source: Pointer, target: Pointer, group: Index, channel: Index, row: int, cell: int
) -> None:
    """One vector of input channels, for all output channels: lanes x lanes numbers at a time."""
    dtype = target.dtype
    outputs = sweep.groups * sweep.depth
    # Behind the last channel the last one is read again: nobody looks at these lanes.
    places = [
        source + f.minimum(channel + lane // cell, sweep.width - 1) * outputs + group * sweep.depth
        for lane in range(f.lanes(dtype))
    ]
    for c, count in f.vectors(sweep.depth, dtype=dtype):
        columns = f.transpose([place.load(c, count) for place in places])
        for i, column in enumerate(columns[: count if isinstance(count, int) else None]):
            target.store(column, (c + i) * row)


@dataclass(frozen=True)
class Layout:
    """Where numbers of a source lie: how far apart neighbours along images, z, y and x are."""

    images: int
    z: int
    y: int
    x: int

    def at(self, image: Index, z: Index, y: Index, x: Index) -> Index:
        """How far behind the first number the first channel of a position lies."""
        return image * self.images + z * self.z + y * self.y + x * self.x


def whole_layout(sweep: Sweep) -> Layout:
    """The layout of the source array itself."""
    _, height, width = (axis.source for axis in sweep.axes)
    channels = sweep.groups * sweep.depth
    return Layout(
        sweep.axes[0].source * height * width * channels, height * width * channels, width * channels, channels
    )


def packed_layout(
    extents: tuple[int, int, int, int], depth: int, images_last: bool, scale: int, dtype: str
) -> tuple[Layout, int]:
    """The layout of a copy of so many images and positions along z, y and x, and how many numbers it holds.

    `scale` is how many positions apart the rows of a tile are. Images may be cells of several, of as much more `depth`.
    """
    images, z, y, x = extents
    size = item_bytes(dtype)
    pixel = _apart(depth, size, 1 if images_last else scale)
    if images_last:
        column = images * pixel
        return Layout(pixel, y * x * column, x * column, column), z * y * x * column
    line = _apart(x * pixel, size)
    image = _apart(z * y * line, size)
    return Layout(image, y * line, line, pixel), images * image


def _apart(numbers: int, size: int, times: int = 1) -> int:
    """A distance of at least so many numbers, `times` of which do not fall on the same lines of a cache."""
    return numbers + 64 // size if numbers * times * size % ALIASED == 0 else numbers


@dataclass(frozen=True)
class Part:
    """The source positions from `first` to `stop` along images, z, y and x; those along x may lie in the padding."""

    first: tuple[Index, ...]
    stop: tuple[Index, ...]
    cell: int

    @property
    def cells(self) -> Index:
        """How many cells the images are."""
        return (self.stop[0] - self.first[0] + (self.cell - 1)) // self.cell

    def image(self, f: Function, number: Index) -> Index:
        """The first image of a cell; the last cell starts earlier where it would reach too far."""
        first = self.first[0] + number * self.cell
        return f.minimum(first, self.stop[0] - self.cell) if self.cell > 1 else first


def pack_source(
    f: Function, sweep: Sweep, source: Pointer, mask: Pointer | None, packed: Pointer, part: Part, layout: Layout
) -> None:
    """Copies one group's channels of a part of the source; numbers whose `mask` is not above 0 become 0.

    `source` and `mask` point at the group's first channel.
    """
    whole, depth, cell = whole_layout(sweep), sweep.depth, part.cell
    left, right = part.first[3], part.stop[3]
    first = f.minimum(f.maximum(left, 0), right)
    stop = f.maximum(f.minimum(right, sweep.axes[2].source), first)
    # A row is copied in one go where nothing lies between its positions, here and there.
    together = whole.x == depth and layout.x == depth * cell
    run = stop - first if together else 1
    for n in f.range(part.cells):
        image = part.image(f, n)
        for z in f.range(part.first[1], part.stop[1]):
            for y in f.range(part.first[2], part.stop[2]):
                line = packed + layout.at(n, z - part.first[1], y - part.first[2], 0)
                _clear(f, line, (first - left) * layout.x)
                for x in [0] if together else f.range(0, stop - first, 1):
                    places = [whole.at(image + i, z, y, first + x) for i in range(cell)]
                    _copy(f, source, mask, places, line + (first - left + x) * layout.x, run * depth)
                _clear(f, line + (stop - left) * layout.x, (right - stop) * layout.x)


def _copy(
    f: Function, source: Pointer, mask: Pointer | None, places: Sequence[Index], target: Pointer, count: Index
) -> None:
    """Copies `count` numbers from each of these places of the source, woven into cells."""
    lanes, cell = f.lanes(target.dtype), len(places)
    for i, rest in f.vectors(count, dtype=target.dtype):
        rows = [load(f, source, mask, place + i, rest, lanes) for place in places]
        for v, numbers in enumerate(weave(f, rows)):
            target.store(numbers, i * cell + v * lanes, None if rest is None else rest * cell - v * lanes)


def _clear(f: Function, target: Pointer, count: Index) -> None:
    for i, lanes in f.vectors(count, dtype=target.dtype):
        target.store(f.zero(target.dtype), i, lanes)

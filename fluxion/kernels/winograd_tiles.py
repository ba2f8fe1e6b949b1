"""What Winograd's convolution and its weight gradient have in common: tiles of images, transformed and multiplied.

A transformed tile of 6 x 6 pixels and C channels is 36 rows of C numbers, one for each point. The rows of many tiles
make a matrix for each point, its *plane*:

       tile 0       tile 1                 point 0        point 1         point 35
    +----------+ +----------+           +-----------+  +-----------+    +-----------+
    | 6x6xC    | |          |  B' d B   | 0 |--C--| |  | 0 |     | |    | 0 |     | |
    | pixels   | |          | --------> | 1 |     | |  | 1 |     | | .. | 1 |     | |
    +----------+ +----------+           +-----------+  +-----------+    +-----------+

and these matrices are what is multiplied: the transforms cost little beside that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from fluxion.kernels.cook_toom import Matrix, transform
from fluxion.kernels.generated import Buffer, Kernel, Table, Work
from fluxion.kernels.geometry import Convolution
from fluxion.kernels.panels import load
from fluxion.kernels.tile import multiply_add
from fluxion.kernels.values import Index, Number, Pointer

TAPS = 3  # of the weights, on each axis
LINE = 16  # numbers of a line of the cache

Place = tuple[Index, Index, Index]  # image, row, column
Range = tuple[Index, Index]  # where it starts, where it ends


def pieces(number: int, size: int) -> int:
    """In how many parts of at most this size a number falls."""
    return -(-number // size)


def _odd_lines(size: int) -> int:
    """At least `size` numbers. Distances that powers of two divide would make rows compete for a few places."""
    return (pieces(size, LINE) | 1) * LINE


def applies(geometry: Convolution, lanes: int) -> bool:
    """True for the convolutions that Winograd's method is for: of images, 3x3 taps, steps of one, wide groups."""
    ones, pads = (1, 1), (number for pair in geometry.pads for number in pair)
    channels = min(geometry.group_inputs, geometry.group_outputs)
    return (
        (geometry.kernel, geometry.stride, geometry.dilation) == ((TAPS, TAPS), ones, ones)
        and all(0 <= pad < TAPS for pad in pads)
        and (geometry.groups == 1 or channels >= lanes)
    )


@dataclass(frozen=True)
class Grid:
    """The tiles of `step x step` pixels that a batch of images is cut into; those at the edges reach over them.

    +----+----+--.
    | 0  | 1  | 2.      Tile 0 of an image starts at its first pixel. Tiles are numbered by rows, and on from image
    +----+----+--.      to image.
    | 3  | 4  | 5.
    '..............
    """

    batch: int
    sizes: tuple[int, ...]
    step: int

    @property
    def counts(self) -> tuple[int, ...]:
        """Tiles of an image on each axis."""
        return tuple(pieces(size, self.step) for size in self.sizes)

    @property
    def tiles(self) -> int:
        """All tiles."""
        rows, columns = self.counts
        return self.batch * rows * columns

    def place(self, tile: Number) -> Place:
        """Image, row and column of a tile's first pixel."""
        rows, columns = self.counts
        image, rest = tile // (rows * columns), tile % (rows * columns)
        return image, rest // columns * self.step, rest % columns * self.step


@dataclass(frozen=True)
class Planes:
    """A matrix for each point: its entry (row, column) lies at `point * plane + row * stride + column`."""

    points: int
    rows: int
    stride: int

    @classmethod
    def padded(cls, points: int, rows: int, columns: int) -> Planes:
        """Such matrices with room for whole vectors at the end of each row."""
        return cls(points, rows, _odd_lines(columns))

    @property
    def plane(self) -> int:
        """Distance of one point's matrix from the next."""
        return _odd_lines(self.rows * self.stride)

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return self.points * self.plane


@dataclass(frozen=True)
class Images:
    """What tiles are read from: images, of which a tile starts `low` rows and columns before its place in the grid.

    Pixels outside of an image are 0: they are read from the table `zeros`. So is what lies where `mask`, of the shape
    of the images, is 0 or less.
    """

    images: Buffer
    low: tuple[int, int]
    zeros: Table
    mask: Buffer | None = None

    @classmethod
    def of(cls, k: Kernel, images: Buffer, low: tuple[int, int], mask: Buffer | None = None) -> Images:
        """Images of a kernel, with the table that they need."""
        return cls(images, low, k.table([0.0] * images.shape[-1], images.dtype), mask)

    @property
    def channels(self) -> int:
        """Channels of a pixel."""
        return self.images.shape[-1]


class Pixels:
    """The `side x side` pixels of the tile at `place`, as vectors of channels."""

    def __init__(self, f: Work, images: Images, place: Place, side: int) -> None:
        _, height, width, channels = images.images.shape
        image, top, left = place[0], f.number(place[1] - images.low[0]), f.number(place[2] - images.low[1])
        rows = [(top + i >= 0) & (top + i < height) for i in range(side)]
        columns = [(left + j >= 0) & (left + j < width) for j in range(side)]
        first = ((image * height + top) * width + left) * channels

        def pointers(buffer: Buffer) -> dict[tuple[int, int], Pointer]:
            start, zeros = f[buffer] + first, f[images.zeros]
            return {
                (i, j): f.select(rows[i] & columns[j], start + (i * width + j) * channels, zeros)
                for i in range(side)
                for j in range(side)
            }

        self.f, self.side, self.channels = f, side, channels
        self.pixels, self.masks = pointers(images.images), pointers(images.mask) if images.mask else None

    def load(self, channel: Index, count: Index | None, i: int, j: int) -> Number:
        """The vector at a channel of pixel (i, j); of its lanes the first `count`."""
        mask = None if self.masks is None else self.masks[i, j]
        return load(self.f, self.pixels[i, j], mask, channel, count)

    def prefetch(self, channel: Index, step: int) -> None:
        """Asks for what the tile `step` columns to the right reads and this one does not.

        Pixels of a tile are many short runs of memory, which processors do not foresee by themselves.
        """
        for pointers in filter(None, (self.pixels, self.masks)):
            for i in range(self.side):
                for j in range(max(self.side - step, 0), self.side):
                    pointers[i, j].prefetch(channel + step * self.channels)


def transform_tile(
    f: Work,
    matrix: Matrix,
    images: Images,
    place: Place,
    channels: Range,
    row: Pointer,
    plane: int,
    *,
    step: int,
    whole: bool,
) -> None:
    """Stores `matrix d matrix'` of the tile at `place`, for the channels from the first up to the second.

    The row of the first point starts at `row`, that of each other a `plane` further. The next tile is `step` columns
    away. `whole` says that the channels are a whole number of vectors.
    """
    pixels = Pixels(f, images, place, len(matrix[0]))
    for channel in f.range(channels[0], channels[1], f.lanes(row.dtype)):
        count = None if whole else channels[1] - channel
        target = row + (channel - channels[0])
        pixels.prefetch(channel, step)
        transform(
            f,
            matrix,
            partial(pixels.load, channel, count),
            partial(store_point, target, len(matrix), plane),
        )


def load_point(source: Pointer, side: int, plane: int, i: int, j: int) -> Number:
    """A vector of point (i, j) of `side x side`, each a `plane` behind the one before."""
    return source.load((i * side + j) * plane)


def store_point(target: Pointer, side: int, plane: int, i: int, j: int, value: Number) -> None:
    """Stores a vector of point (i, j): see `load_point`."""
    target.store(value, (i * side + j) * plane)


def store_product(
    f: Work,
    shape: tuple[int, int],
    a: Pointer,
    a_strides: tuple[int, int],
    b: Pointer,
    b_stride: int,
    depth: Index,
    c: Pointer,
    c_stride: int,
    add: Number | None,
) -> None:
    """The product of a block of `a` and a block of `b`, stored to `c`, or added to it where `add` holds.

    A long sum is made of several of these: sums of short sums lose less to rounding than one that runs on and on.
    """
    rows, vectors = shape
    lanes = f.lanes(c.dtype)
    total = f.tile(rows, vectors, f.zero(c.dtype))
    multiply_add(f, total, a, a_strides[0], b, depth, a_step=a_strides[1], b_step=b_stride)
    for row in range(rows):
        for vector in range(vectors):
            place, value = row * c_stride + vector * lanes, total[row, vector]
            c.store(value if add is None else value + f.select(add, c.load(place), 0.0), place)

"""Images seen through matrices: every pixel of the result is a mixture of four pixels of the source.

Where they lie and how much each counts is computed for a vector of pixels at a time; then each pixel's channels, which
lie side by side, are mixed as one vector:

    positions       x = a u + b v + c, y = ...      16 pixels at once
    neighbours      place of the upper left one, shares of the right and of the lower ones; 0 outside
    colours         for each pixel: 4 loads of C channels, 4 multiplications, 1 store

A row of the result is put together in memory of its own, where a vector may reach beyond its pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array

from fluxion.kernels.builder import Function
from fluxion.kernels.generated import Buffer, Kernel, Work, kernel
from fluxion.kernels.machine import Machine
from fluxion.kernels.values import Number, Pointer

ROWS = 16  # rows of a task


@kernel
def warp_images(
    k: Kernel,
    image: Buffer,
    matrix: Buffer,
    y: Buffer,
    *,
    method: str,
    border: str,
    fill: tuple[float, ...],
    projective: bool,
) -> None:
    """The images `y` (N, H, W, C) seen through matrices (N, 3, 3): see `fluxion.data.transforms.warp`."""
    (count, height, width, channels), lanes = y.shape, k.lanes()
    wide = min(lanes, 1 << (channels - 1).bit_length())  # numbers that are mixed at a time
    padded = -(-width // lanes) * lanes
    line, places = k.private(padded * channels + wide), k.private(lanes, "int64")
    shares, colour = k.private(5 * lanes), k.table([*fill, *(0.0,) * wide], "float32")
    blocks, distances = -(-height // ROWS), _distances(image.shape, method)
    with k.parallel(count * blocks) as f:
        number, first = f.task // blocks, f.task % blocks * ROWS
        look = _Look(f, f[matrix] + number * 9, image.shape[1:3], method, border, projective)
        source = f[image] + number * (image.size // count)
        for row in f.range(first, f.minimum(first + ROWS, height)):
            for column in f.range(0, padded, lanes):
                _write_neighbours(f, look, row, column, f[places], f[shares], channels)
                for i in f.range(lanes, unroll=4):
                    for c in range(0, channels, wide):
                        pixel = _mixed(f, source + (f[places][i] + c), f[shares] + i, distances, channels - c, wide)
                        if any(fill):
                            outside = (f[shares] + 4 * lanes).splat(i, wide)
                            pixel = f.fma(outside, (f[colour] + c).load(0, None, wide), pixel)
                        f[line].store(pixel, (column + i) * channels + c)
            target = f[y] + (number * height + row) * (width * channels)
            for i, some in f.vectors(width * channels):
                target.store(f[line].load(i, some), i, some)


class _Look:
    """The matrix of an image, and how positions become neighbours."""

    def __init__(
        self, f: Work, matrix: Pointer, size: Sequence[int], method: str, border: str, projective: bool
    ) -> None:
        self.f, self.size, self.method, self.border, self.projective = f, size, method, border, projective
        self.entries = [matrix.splat(i) for i in range(9)]

    def positions(self, row: Any, column: Any) -> tuple[Number, Number]:
        """x and y of a vector of pixels of a row."""
        f, lanes = self.f, self.f.lanes()
        u = f.convert(f.lane_numbers(lanes) + f.convert(f.number(column), "int32"), "float32") + 0.5
        v = f.splat(f.convert(f.number(row), "float32"), lanes) + 0.5
        x, y, w = (self.entries[3 * i] * u + self.entries[3 * i + 1] * v + self.entries[3 * i + 2] for i in range(3))
        if not self.projective:
            return x, y
        behind = w < 1e-6
        w = f.select(behind, 1.0, w)
        return f.select(behind, -1.0, x / w), f.select(behind, -1.0, y / w)

    def neighbours(self, position: Number, size: int) -> tuple[Number, Number]:
        """The first of two neighbours as a float, and the share of the second."""
        f = self.f
        if self.border == "reflect":
            period = position - f.floor(position / (2.0 * size)) * (2.0 * size)
            position = f.minimum(period, 2.0 * size - period)
        if self.method == "nearest":
            return self._kept(f.floor(position), size - 1), position.like(0.0)
        centred = self._kept(position - 0.5, size - 1)
        first = self._kept(f.floor(centred), max(size - 2, 0))
        return first, centred - first

    def _kept(self, number: Number, most: int) -> Number:
        return self.f.minimum(self.f.maximum(number, 0.0), float(most))

    def inside(self, position: Number, size: int) -> Number:
        """True in the lanes of an image whose border is not drawn on."""
        return (position >= 0.0) & (position <= float(size))


def _write_neighbours(
    f: Work, look: _Look, row: Any, column: Any, places: Pointer, shares: Pointer, channels: int
) -> None:
    """Of a vector of pixels: where their first neighbours lie, the shares of the four, and that of the fill colour."""
    (height, width), lanes = look.size, f.lanes()
    x, y = look.positions(row, column)
    (left, u), (top, v) = look.neighbours(x, width), look.neighbours(y, height)
    place = (f.convert(top, "int32") * width + f.convert(left, "int32")) * channels
    places.store(f.convert(place, "int64"))
    visible = u.like(1.0)
    if look.border == "fill":
        visible = f.select(look.inside(x, width) & look.inside(y, height), u.like(1.0), u.like(0.0))
    upper, lower = (1.0 - v) * visible, v * visible
    for i, share in enumerate((upper * (1.0 - u), upper * u, lower * (1.0 - u), lower * u, 1.0 - visible)):
        shares.store(share, i * lanes)


def _distances(shape: Sequence[int], method: str) -> tuple[int, ...]:
    """How far from a pixel's first neighbour the others lie: to the right, below, and both."""
    if method == "nearest":
        return (0,)
    _, height, width, channels = shape
    right, below = channels * min(1, width - 1), width * channels * min(1, height - 1)
    return 0, right, below, below + right


def _mixed(f: Function, source: Pointer, shares: Pointer, distances: Sequence[int], count: int, wide: int) -> Number:
    """The mixture of the neighbours at these distances, for `count` of the channels, `wide` at most."""
    total = f.zero(lanes=wide)
    for i, distance in enumerate(distances):
        total = f.fma(source.load(distance, min(count, wide), wide), shares.splat(i * f.lanes(), wide), total)
    return total


def warp_call(machine: Machine, image: Any, matrix: Any, **settings: Any) -> Callable[..., Any] | None:
    """What warps images of this type here; None where XLA is to."""
    if image.dtype != np.float32 or matrix.dtype != np.float32 or image.size >= 2**31:
        return None
    size, fill = settings.pop("size"), settings.pop("fill")
    channels = image.shape[-1]
    colours = tuple(np.broadcast_to(np.float32(fill), channels).tolist())
    output = jax.ShapeDtypeStruct((image.shape[0], *size, channels), image.dtype)

    def call(image: Array, matrix: Array) -> tuple[Array]:
        return (warp_images(image, matrix, outputs=output, machine=machine, fill=colours, **settings),)

    return call

"""Photographs in another size: the sums that Pillow computes, in a fifth of the time.

A pixel of the result is a weighted sum over the pixels that it covers, first along the rows and then along the columns,
in integers: weights have 22 bits behind the point, and what the first pass gives is rounded to 8 bits. The result is
Pillow's, bit for bit, but where Pillow 13 goes along the columns first.
Four taps of four bytes (red, green, blue and one that nobody reads) are a vector of 16 lanes. It is called by Python
threads rather than by XLA's programs, outside the interpreter's lock.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from fluxion.kernels import ir
from fluxion.kernels.builder import Function
from fluxion.kernels.machine import Machine
from fluxion.kernels.routines import routine
from fluxion.kernels.values import Number, Pointer

BITS = 22
LANES = 16  # of a vector: four pixels of four bytes
TAPS = LANES // 4
ROWS = 4  # that share the weights they are multiplied by
BLOCK = 4 * LANES  # bytes of a row in the second pass
POINTERS = ("uint8*", "int64*", "int32*", "int64*", "int32*", "uint8*", "uint8*")
ARGUMENTS = (*POINTERS, *["int64"] * 6)
FILTERS: dict[str, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {  # how far they reach, and their height there
    "BOX": (0.5, lambda x: ((x > -0.5) & (x <= 0.5)).astype(float)),
    "BILINEAR": (1.0, lambda x: np.maximum(1 - np.abs(x), 0)),
    "BICUBIC": (2.0, lambda x: _keys(np.abs(x))),
    "LANCZOS": (3.0, lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)),
}
Box = tuple[float, float, float, float]


def resample(place: int, stored: tuple[int, int], size: tuple[int, int], filter: str, box: Box) -> np.ndarray | None:
    """The part `box` of the image at the address `place` in another size: uint8 `(height, width, 3)`.

    The image has four bytes a pixel, row behind row; sizes are (width, height), a box (left, top, right, bottom), as in
    Pillow. None where the routine cannot be used: another processor, a filter that it does not know, a tiny image.
    """
    across = weights(stored[0], box[0], box[2], size[0], filter, TAPS) if filter in FILTERS else None
    down = weights(stored[1], box[1], box[3], size[1], filter, 1) if filter in FILTERS else None
    resized = routine("resample", ARGUMENTS, routine_text)
    if resized is None or across is None or down is None or size[0] * 4 < BLOCK or stored[1] < ROWS:
        return None
    (lefts, columns), (tops, rows) = across, down
    between = np.empty((stored[1], size[0], 4), np.uint8)
    whole = np.empty(size[0] * size[1] * 3 + TAPS, np.uint8)  # the last vector of a row has so many bytes too many
    widths = (*stored, *size, columns.shape[1] // 4, rows.shape[1])
    arrays = (lefts, columns, tops, rows, between, whole)
    resized(place, *(array.ctypes.data for array in arrays), *widths)
    return whole[:-TAPS].reshape(size[1], size[0], 3)


@functools.lru_cache(maxsize=512)
def weights(
    count: int, start: float, stop: float, size: int, filter: str, multiple: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """The first tap of each of `size` sums along an axis of `count` pixels, and the weights of its taps.

    Weights are int32 with 22 bits behind the point, and as many for each sum, a multiple of `multiple`; each is there
    for four channels where that is 4. None where an axis has fewer pixels than a sum has taps.
    """
    reach, height = FILTERS[filter]
    begin, end = np.float32(start), np.float32(stop)  # Pillow keeps a box in single precision
    scale = float(end - begin) / size
    wide = max(scale, 1.0)
    centres = float(begin) + (np.arange(size) + 0.5) * scale
    first = np.maximum((centres - reach * wide + 0.5).astype(int), 0)
    last = np.minimum((centres + reach * wide + 0.5).astype(int), count)
    taps = -(-int((last - first).max()) // multiple) * multiple
    if taps > count:
        return None
    moved = np.minimum(first, count - taps)  # a window at the end begins earlier, with weights of 0
    tap = moved[:, None] + np.arange(taps)
    inside = (tap >= first[:, None]) & (tap < last[:, None])
    heights = np.where(inside, height((tap - centres[:, None] + 0.5) / wide), 0.0)
    share = heights / heights.sum(axis=1, keepdims=True) * (1 << BITS)
    whole = np.trunc(share + np.copysign(0.5, share)).astype(np.int32)
    return moved.astype(np.int64), np.ascontiguousarray(whole.repeat(4, axis=1) if multiple == TAPS else whole)


def _keys(x: np.ndarray) -> np.ndarray:
    """The cubic of Keys (1981) with a = -1/2, for x from 0."""
    return np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, ((-0.5 * x + 2.5) * x - 4) * x + 2, 0.0))


def routine_text(machine: Machine) -> str:
    """The function `resample` in LLVM's language.

    Its arguments are the image; the first taps and the weights of columns and of rows; memory for what lies between the
    passes, and for the result; the image's width and height, those of the result, and how many taps sums have.
    """
    module = ir.Module(machine.triple)
    f = Function(module, machine, "resample", ARGUMENTS, internal=False)
    image, lefts, columns, tops, rows, between, out, width, height, new_width, new_height, across, down = f.arguments
    begin = tops[0]
    end = f.minimum(tops[new_height - 1] + down, height)
    for row in f.range(begin, end, ROWS):
        row = f.minimum(row, height - ROWS)  # the last rows overlap with those before them
        _across(f, image + row * width * 4, width * 4, lefts, columns, across, between + row * new_width * 4, new_width)
    for row in f.range(new_height):
        source = between + tops[row] * new_width * 4
        for place in f.range(0, new_width * 4, BLOCK):
            place = f.minimum(place, new_width * 4 - BLOCK)
            target = out + (row * new_width * 3 + (place >> 2) * 3)
            _down(f, source + place, new_width * 4, rows + row * down, down, target)
    f.finish()
    return str(module)


def _across(
    f: Function, image: Pointer, stride: Any, lefts: Pointer, weights: Pointer, taps: Any, out: Pointer, width: Any
) -> None:
    """Sums along a few rows at once."""
    for column in f.range(width):
        first, weight = image + lefts[column] * 4, weights + column * taps * 4
        sums = f.tile(ROWS, value=f.zero("int32", LANES))
        for tap in f.range(0, taps * 4, LANES, carry=sums):
            factor = weight.load(tap, lanes=LANES)
            for row in range(ROWS):
                pixels = f.convert((first + row * stride).load(tap, lanes=LANES), "int32")
                sums[row] = sums[row] + pixels * factor
        pixels = _rounded(f, _folded(f, [sums[row] for row in range(ROWS)]))
        for row in range(ROWS):
            (out + (row * width + column) * 4).store(f.shuffle(pixels, pixels, range(4 * row, 4 * row + 4)))


def _folded(f: Function, sums: list[Number]) -> Number:
    """The sums over the taps of each of four vectors: four channels of each row, row by row."""
    half = LANES // 2
    while len(sums) > 1:
        low = [lane for lane in range(2 * LANES) if not lane & half]
        high = [lane for lane in range(2 * LANES) if lane & half]
        pairs = zip(sums[::2], sums[1::2], strict=True)
        sums = [f.shuffle(a, b, low) + f.shuffle(a, b, high) for a, b in pairs]
        half //= 2
    return sums[0]


def _down(f: Function, image: Pointer, stride: Any, weights: Pointer, taps: Any, out: Pointer) -> None:
    """Sums along the columns of a block, of which three channels are stored."""
    sums = f.tile(BLOCK // LANES, value=f.zero("int32", LANES))
    for tap in f.range(taps, carry=sums):
        factor = weights.splat(tap, LANES)
        for part in range(BLOCK // LANES):
            pixels = f.convert((image + tap * stride).load(part * LANES, lanes=LANES), "int32")
            sums[part] = sums[part] + pixels * factor
    colours = [lane for lane in range(LANES) if lane % 4 < 3]
    for part in range(BLOCK // LANES):
        pixels = _rounded(f, sums[part])
        out.store(f.shuffle(pixels, pixels, [*colours, 0, 0, 0, 0]), part * len(colours))


def _rounded(f: Function, total: Number) -> Number:
    """Sums as bytes."""
    whole = f.maximum(total + (1 << (BITS - 1)), 0) >> BITS
    return f.convert(f.minimum(whole, 255), "uint8")

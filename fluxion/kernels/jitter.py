"""Brightness, contrast, saturation and hue of images of three channels in one pass.

Vectors of 16 reds, 16 greens and 16 blues are taken out of three vectors of 16 numbers, changed, and put back. Contrast
needs the mean grey of the image, so a task is a whole image: the second pass finds it in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array

from fluxion.kernels.generated import Buffer, Kernel, Work, kernel
from fluxion.kernels.machine import Machine
from fluxion.kernels.values import Number, Pointer


@kernel
def jitter_images(
    k: Kernel, image: Buffer, factors: Buffer, y: Buffer, *, stages: tuple[str, ...], grey: tuple[float, ...]
) -> None:
    """Images (N, H, W, 3) changed by factors (N, len(stages)): see `fluxion.data.transforms.colour`.

    `grey` is how much of red, green and blue there is in grey.
    """
    size, shares = image.size // image.shape[0], k.table(grey * k.lanes(), "float32")
    with k.parallel(image.shape[0]) as f:
        source, target = f[image] + f.task * size, f[y] + f.task * size
        factor = {stage: f[factors].splat(f.task * len(stages) + i) for i, stage in enumerate(stages)}
        mean = _mean_grey(f, source, size, f[shares], factor.get("brightness")) if "contrast" in stages else None
        for start, counts in _triples(f, size):
            red, green, blue = _apart(f, [source.load(start + i * f.lanes(), n) for i, n in enumerate(counts)])
            colours = _changed(f, [red, green, blue], factor, mean, grey)
            for i, vector in enumerate(_together(f, colours)):
                target.store(vector, start + i * f.lanes(), counts[i])


def _triples(f: Work, size: int, carry: Any = ()) -> Iterator[tuple[Any, Sequence[int | None]]]:
    """Where three vectors of whole pixels begin, and how many lanes of each are there; None: all."""
    lanes = f.lanes()
    whole = size // (3 * lanes) * 3 * lanes
    for start in f.range(0, whole, 3 * lanes, carry=carry):
        yield start, (None, None, None)
    if whole < size:
        yield whole, [min(max(size - whole - i * lanes, 0), lanes) for i in range(3)]


def _mean_grey(f: Work, source: Pointer, size: int, shares: Pointer, brightness: Number | None) -> Number:
    """The mean of the grey of the brightened image, in all lanes."""
    lanes, total = f.lanes(), f.tile(3)
    for start, counts in _triples(f, size, carry=total):
        for i, count in enumerate(counts):
            numbers = source.load(start + i * lanes, count)
            bright = numbers if brightness is None else _clipped(f, numbers * brightness)
            total[i] = f.fma(bright, shares.load(i * lanes), total[i])
    return f.splat(f.sum_lanes(total[0] + total[1] + total[2]) * (3.0 / size), lanes)


def _changed(
    f: Work, colours: list[Number], factor: dict[str, Number], mean: Number | None, shares: Sequence[float]
) -> list[Number]:
    """Red, green and blue after the stages that have factors."""
    if "brightness" in factor:
        colours = [_clipped(f, colour * factor["brightness"]) for colour in colours]
    if mean is not None:
        colours = _blended(f, mean, colours, factor["contrast"])
    if "saturation" in factor:
        grey = colours[0] * shares[0] + colours[1] * shares[1] + colours[2] * shares[2]
        colours = _blended(f, grey, colours, factor["saturation"])
    return _turned(f, colours, factor["hue"]) if "hue" in factor else colours


def _clipped(f: Work, number: Number) -> Number:
    return f.minimum(f.maximum(number, 0.0), 1.0)


def _blended(f: Work, grey: Number, colours: list[Number], factor: Number) -> list[Number]:
    """`factor` of each colour, and the rest of the grey."""
    rest = grey * (1.0 - factor)
    return [_clipped(f, f.fma(colour, factor, rest)) for colour in colours]


def _turned(f: Work, colours: list[Number], turns: Number) -> list[Number]:
    """The colours with their hue moved on by so many turns of the colour circle."""
    red, green, blue = colours
    most, least = f.maximum(f.maximum(red, green), blue), f.minimum(f.minimum(red, green), blue)
    chroma = most - least
    per_chroma = 1.0 / f.select(chroma > 0.0, chroma, 1.0)
    hue = f.select(most.equals(green), (blue - red) * per_chroma + 2.0, (red - green) * per_chroma + 4.0)
    hue = f.select(most.equals(red), (green - blue) * per_chroma, hue) + turns * 6.0
    return [_sixth(f, hue + float(n), most, chroma) for n in (5, 3, 1)]


def _sixth(f: Work, position: Number, most: Number, chroma: Number) -> Number:
    """A colour from its position on the circle, in sixths."""
    position = position - f.floor(position * (1 / 6)) * 6.0
    return most - chroma * _clipped(f, f.minimum(position, 4.0 - position))


def _apart(f: Work, vectors: list[Number]) -> list[Number]:
    """The reds, the greens and the blues of three vectors of pixels."""
    lanes, (a, b, c) = f.lanes(), vectors
    result = []
    for colour in range(3):
        places = [3 * i + colour for i in range(lanes)]
        ab = f.shuffle(a, b, [place % (2 * lanes) for place in places])
        result.append(f.shuffle(ab, c, [i if p < 2 * lanes else p - lanes for i, p in enumerate(places)]))
    return result


def _together(f: Work, colours: list[Number]) -> list[Number]:
    """Three vectors of pixels of their reds, greens and blues."""
    lanes, (red, green, blue) = f.lanes(), colours
    result = []
    for v in range(3):
        places = [divmod(v * lanes + i, 3) for i in range(lanes)]
        two = f.shuffle(red, green, [pixel + lanes * (colour == 1) for pixel, colour in places])
        result.append(f.shuffle(two, blue, [lanes + p if c == 2 else i for i, (p, c) in enumerate(places)]))
    return result


def jitter_call(machine: Machine, image: Any, **settings: Any) -> Callable[..., Any] | None:
    """What changes images of this type here; None where XLA is to."""
    if image.dtype != np.float32 or image.shape[-1] != 3:
        return None
    output = jax.ShapeDtypeStruct(image.shape, image.dtype)

    def call(image: Array, factors: Array) -> tuple[Array]:
        return (jitter_images(image, factors, outputs=output, machine=machine, **settings),)

    return call

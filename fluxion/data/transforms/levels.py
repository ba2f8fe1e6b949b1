"""Transforms that count the levels of an image: its histogram, or the coefficients that JPEG keeps of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fluxion.data.keys import uniforms
from fluxion.data.transforms.checks import interval
from fluxion.data.transforms.colour import Colour
from fluxion.data.transforms.fields import exact_einsum, namespace
from fluxion.data.transforms.geometry import between

_WAVES = (
    np.cos(np.pi / 8 * np.outer(np.arange(8), np.arange(8) + 0.5))
    * np.where(np.arange(8) == 0, 0.125, 0.25)[:, None] ** 0.5
)
# Annex K of the JPEG standard (ITU-T T.81): the steps of quality 50, for brightness and for colour
_BRIGHT_STEPS = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
_COLOUR_STEPS = (
    "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99 " + "99 " * 32
)
_STEPS = [np.array(text.split(), np.float32).reshape(8, 8) for text in (_BRIGHT_STEPS, _COLOUR_STEPS)]
_TO_BRIGHT = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
_TO_COLOUR = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], np.float32)


@dataclass(frozen=True, repr=False)
class AutoContrast(Colour):
    """Stretches each channel of each image so that its least colour is 0 and its largest 1.

    >>> fx.data.transforms.AutoContrast()(np.array([[[0.25], [0.5], [0.75]]])).ravel().tolist()
    [0.0, 0.5, 1.0]
    """

    def colours(self, image: Any, keys: Any) -> Any:
        xp = namespace(image)
        least, most = image.min(axis=(1, 2), keepdims=True), image.max(axis=(1, 2), keepdims=True)
        flat = most == least
        return xp.where(flat, image, (image - least) / xp.where(flat, 1, most - least))


@dataclass(frozen=True, repr=False)
class Equalise(Colour):
    """Makes the 256 levels of each channel of each image equally common, as Pillow's `equalize`; NaN counts as 0.

    >>> fx.data.transforms.Equalise()(np.array([[[0.5], [0.5], [0.6]]])).round(3).ravel().tolist()
    [0.502, 0.502, 0.6]
    """

    def colours(self, image: Any, keys: Any) -> Any:
        xp, (count, height, width, channels) = namespace(image), image.shape
        levels = xp.round(xp.nan_to_num(image).clip(0, 1) * 255).astype(np.int32)
        line = levels + 256 * xp.arange(count * channels, dtype=np.int32).reshape(count, 1, 1, channels)
        counts = _counts(line.reshape(-1), 256 * count * channels).reshape(-1, 256)
        last = xp.take_along_axis(counts, 255 - (counts[:, ::-1] > 0).argmax(axis=1)[:, None], axis=1)
        step = (height * width - last) // 255
        before = counts.cumsum(axis=1) - counts
        table = xp.where(step == 0, xp.arange(256), ((before + step // 2) // xp.maximum(step, 1)).clip(0, 255))
        return table.astype(np.float32).reshape(-1)[line] / 255


def _counts(numbers: Any, length: int) -> Any:
    """How often each of `length` numbers occurs."""
    if namespace(numbers) is np:
        return np.bincount(numbers, minlength=length)
    return namespace(numbers).bincount(numbers, length=length)


@dataclass(frozen=True, repr=False)
class Quantise(Colour):
    """What JPEG of a quality from `low` to `high` (1 to 100) leaves of an image, without subsampling of its colours.

    Blocks of 8 x 8 are transformed by a cosine transform, whose coefficients are rounded to multiples of the steps of
    the standard's Annex K, scaled by the quality as libjpeg does. Three channels are turned into brightness and colour.

    >>> fx.data.transforms.Quantise(30, 90)
    Quantise(30, 90)
    """

    low: float
    high: float | None = None

    def __post_init__(self) -> None:
        interval(self, "low", "high", 1, 100)

    def colours(self, image: Any, keys: Any) -> Any:
        xp, (_, height, width, channels) = namespace(image), image.shape
        coloured = channels == 3
        levels = xp.round(image.clip(0, 1) * 255)
        levels = (exact_einsum("nhwc,dc->nhwd", levels, _TO_BRIGHT) if coloured else levels) - np.array(
            [128, 0, 0] if coloured else 128, np.float32
        )
        blocks = _blocks(xp.round(levels))
        steps = _steps(between(uniforms(keys, 1)[:, 0], interval(self, "low", "high")), channels)
        waves = xp.round(_transformed(blocks, _WAVES) / steps) * steps
        kept = _joined(_transformed(waves, _WAVES.T))[:, :height, :width]
        kept = xp.round(kept) + np.array([128, 0, 0] if coloured else 128, np.float32)
        colours = exact_einsum("nhwc,dc->nhwd", kept, _TO_COLOUR) if coloured else kept
        return xp.round(colours).clip(0, 255) / 255


def _blocks(image: Any) -> Any:
    """`(N, rows, 8, columns, 8, C)`, filled up with the last row and column."""
    (count, height, width, channels), xp = image.shape, namespace(image)
    full = xp.pad(image, ((0, 0), (0, -height % 8), (0, -width % 8), (0, 0)), mode="edge")
    return full.reshape(count, -(-height // 8), 8, -(-width // 8), 8, channels)


def _joined(blocks: Any) -> Any:
    count, rows, _, columns, _, channels = blocks.shape
    return blocks.reshape(count, rows * 8, columns * 8, channels)


def _transformed(blocks: Any, matrix: np.ndarray) -> Any:
    """Rows and columns of the blocks multiplied by a matrix `(8, 8)`."""
    matrix = matrix.astype(np.float32)
    for places in ("ai,nhiwjc->nhawjc", "bj,nhawjc->nhawbc"):
        blocks = exact_einsum(places, matrix, blocks)
    return blocks


def _steps(quality: Any, channels: int) -> Any:
    """The steps `(N, 1, 8, 1, 8, C)` of the coefficients at a quality."""
    xp = namespace(quality)
    scale = xp.where(quality < 50, 5000 / quality, 200 - 2 * quality)[:, None, None, None]
    tables = np.stack([_STEPS[min(c, 1) if channels == 3 else 0] for c in range(channels)], axis=-1)
    return xp.floor((tables * scale + 50) / 100).clip(1, 255)[:, None, :, None]

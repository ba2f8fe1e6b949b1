"""The networks in Fluxion. Images are `(batch, height, width, channels)`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

import fluxion as fx

VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
MOBILENET = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
UNET = (32, 64, 128, 256)


def mnist() -> fx.Chain:
    """Four convolutions with stride 2, for images of 28 x 28."""
    return fx.Chain(
        fx.Conv((5, 5), 1, 8, fx.relu, stride=2, pad=2),
        fx.Conv((3, 3), 8, 16, fx.relu, stride=2, pad=1),
        fx.Conv((3, 3), 16, 32, fx.relu, stride=2, pad=1),
        fx.Conv((3, 3), 32, 32, fx.relu, stride=2, pad=1),
        fx.GlobalMeanPool(),
        fx.flatten,
        fx.Dense(32, 10),
    )


def vgg(plan: Sequence[Any] = VGG16, hidden: int = 4096, dropout: float = 0.5) -> fx.Chain:
    """Simonyan and Zisserman 2015, for images of 32 x 32 in ten classes; "M" is a max pool."""
    layers: list[Any] = []
    inputs = 3
    for outputs in plan:
        if outputs == "M":
            layers.append(fx.MaxPool((2, 2)))
        else:
            layers.append(fx.Conv((3, 3), inputs, outputs, fx.relu, pad=1))
            inputs = outputs
    return fx.Chain(
        *layers,
        fx.flatten,
        fx.Dense(inputs, hidden, fx.relu),
        fx.Dropout(dropout),
        fx.Dense(hidden, hidden, fx.relu),
        fx.Dropout(dropout),
        fx.Dense(hidden, 10),
    )


def residual(branch: fx.Chain, shortcut: fx.Chain | None) -> fx.Chain:
    """`relu(branch(x) + shortcut(x))`, and without a shortcut `relu(branch(x) + x)`."""
    if shortcut is None:
        return fx.Chain(fx.SkipConnection(branch, operator.add), fx.relu)
    return fx.Chain(fx.Parallel(operator.add, branch, shortcut), fx.relu)


def projection(inputs: int, outputs: int, stride: int) -> fx.Chain | None:
    """What brings the input of a block to the shape of its output, None where it has that shape."""
    if stride == 1 and inputs == outputs:
        return None
    return fx.Chain(fx.Conv((1, 1), inputs, outputs, stride=stride, bias=False), fx.BatchNorm(outputs))


def basic(inputs: int, width: int, stride: int) -> fx.Chain:
    """A residual block of two 3x3 convolutions."""
    branch = fx.Chain(
        fx.Conv((3, 3), inputs, width, stride=stride, pad=1, bias=False),
        fx.BatchNorm(width, fx.relu),
        fx.Conv((3, 3), width, width, pad=1, bias=False),
        fx.BatchNorm(width),
    )
    return residual(branch, projection(inputs, width, stride))


def bottleneck(inputs: int, width: int, stride: int) -> fx.Chain:
    """A residual block that computes its 3x3 convolution on a quarter of the channels."""
    branch = fx.Chain(
        fx.Conv((1, 1), inputs, width, bias=False),
        fx.BatchNorm(width, fx.relu),
        fx.Conv((3, 3), width, width, stride=stride, pad=1, bias=False),
        fx.BatchNorm(width, fx.relu),
        fx.Conv((1, 1), width, 4 * width, bias=False),
        fx.BatchNorm(4 * width),
    )
    return residual(branch, projection(inputs, 4 * width, stride))


def stages(block: Callable[..., Any], expansion: int, width: int, counts: Sequence[int]) -> list[Any]:
    """Blocks of which each stage doubles the width and, but for the first, halves the image."""
    layers, inputs = [], width
    for stage, count in enumerate(counts):
        for number in range(count):
            stride = 2 if stage > 0 and number == 0 else 1
            layers.append(block(inputs, width << stage, stride))
            inputs = expansion * (width << stage)
    return [*layers, fx.GlobalMeanPool(), fx.flatten]


def resnet18(width: int = 64) -> fx.Chain:
    """He et al. 2016 for images of 32 x 32 in ten classes: the stem is a 3x3 convolution and no pool."""
    return fx.Chain(
        fx.Conv((3, 3), 3, width, pad=1, bias=False),
        fx.BatchNorm(width, fx.relu),
        *stages(basic, 1, width, (2, 2, 2, 2)),
        fx.Dense(8 * width, 10),
    )


def resnet50(width: int = 64, counts: Sequence[int] = (3, 4, 6, 3)) -> fx.Chain:
    """He et al. 2016 for images of 224 x 224 in a thousand classes, with strides in the 3x3 convolutions."""
    return fx.Chain(
        fx.Conv((7, 7), 3, width, stride=2, pad=3, bias=False),
        fx.BatchNorm(width, fx.relu),
        fx.MaxPool((3, 3), stride=2, pad=1),
        *stages(bottleneck, 4, width, counts),
        fx.Dense(32 * width, 1000),
    )


def inverted(inputs: int, outputs: int, stride: int, expansion: int) -> Any:
    """A block that expands its channels, convolves each by itself and joins them again."""
    hidden = expansion * inputs
    expand = [fx.Conv((1, 1), inputs, hidden, bias=False), fx.BatchNorm(hidden, fx.relu6)] if expansion > 1 else []
    branch = fx.Chain(
        *expand,
        fx.DepthwiseConv((3, 3), hidden, hidden, stride=stride, pad=1, bias=False),
        fx.BatchNorm(hidden, fx.relu6),
        fx.Conv((1, 1), hidden, outputs, bias=False),
        fx.BatchNorm(outputs),
    )
    return fx.SkipConnection(branch, operator.add) if stride == 1 and inputs == outputs else branch


def mobilenet(plan: Sequence[tuple[int, int, int, int]] = MOBILENET, dropout: float = 0.2) -> fx.Chain:
    """Sandler et al. 2018 (version 2) for images of 224 x 224; the plan has expansion, channels, count and stride."""
    blocks, inputs = [], 32
    for expansion, outputs, count, stride in plan:
        for number in range(count):
            blocks.append(inverted(inputs, outputs, stride if number == 0 else 1, expansion))
            inputs = outputs
    return fx.Chain(
        fx.Conv((3, 3), 3, 32, stride=2, pad=1, bias=False),
        fx.BatchNorm(32, fx.relu6),
        *blocks,
        fx.Conv((1, 1), inputs, 1280, bias=False),
        fx.BatchNorm(1280, fx.relu6),
        fx.GlobalMeanPool(),
        fx.flatten,
        fx.Dropout(dropout),
        fx.Dense(1280, 1000),
    )


def double(inputs: int, outputs: int) -> fx.Chain:
    """Two 3x3 convolutions."""
    return fx.Chain(fx.Conv((3, 3), inputs, outputs, fx.relu, pad=1), fx.Conv((3, 3), outputs, outputs, fx.relu, pad=1))


def level(inputs: int, width: int, *deeper: int) -> fx.Chain:
    """What a UNet does at one resolution: convolve, join what the coarser resolutions make of it, convolve again."""
    if not deeper:
        return double(inputs, width)
    coarser = fx.Chain(fx.MaxPool((2, 2)), level(width, *deeper), fx.ConvTranspose((2, 2), deeper[0], width, stride=2))
    join = lambda up, same: jnp.concatenate([same, up], -1)
    return fx.Chain(double(inputs, width), fx.SkipConnection(coarser, join), double(2 * width, width))


def unet(widths: Sequence[int] = UNET) -> fx.Chain:
    """Ronneberger et al. 2015 with padding, for the mask of one class."""
    return fx.Chain(level(3, *widths), fx.Conv((1, 1), widths[0], 1))


def lstm(size: int = 256) -> fx.LSTM:
    """One layer."""
    return fx.LSTM(size, size)

"""Convolution, pooling and folding: how the layers read, and what they refuse."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.errors import SizeError

TYPED = [
    (lambda: fx.Conv((3, 3), 2, 4, fx.relu, stride=2, pad=1), "Conv((3, 3), 2, 4, relu, stride=2, pad=1)"),
    (
        lambda: fx.Conv((3,), 2, 4, pad="same", groups=2, bias=False),
        "Conv((3,), 2, 4, pad='same', groups=2, bias=False)",
    ),
    (lambda: fx.Conv((3, 3), 2, 4, pad=(0, 1, 2, 2)), "Conv((3, 3), 2, 4, pad=(0, 1, 2, 2))"),
    (lambda: fx.Conv((3, 3), 2, 4, stride=(1, 2), dilation=2), "Conv((3, 3), 2, 4, stride=(1, 2), dilation=2)"),
    (
        lambda: fx.ConvTranspose((3, 3), 2, 4, fx.relu, stride=2, outpad=(1, 0)),
        "ConvTranspose((3, 3), 2, 4, relu, stride=2, outpad=(1, 0))",
    ),
    (lambda: fx.DepthwiseConv((3, 3), 2, 4, pad=1), "DepthwiseConv((3, 3), 2, 4, pad=1)"),
    (lambda: fx.MaxPool((2, 2)), "MaxPool((2, 2))"),
    (lambda: fx.MeanPool((2, 2), stride=1, pad=1), "MeanPool((2, 2), stride=1, pad=1)"),
    (lambda: fx.MeanPool((2,), count_include_pad=False), "MeanPool((2,), count_include_pad=False)"),
    (lambda: fx.LPPool(2.0, (2,), pad=1), "LPPool(2, (2,), pad=1)"),
    (fx.GlobalMaxPool, "GlobalMaxPool()"),
    (fx.GlobalMeanPool, "GlobalMeanPool()"),
    (lambda: fx.AdaptiveMaxPool((7, 7)), "AdaptiveMaxPool((7, 7))"),
    (lambda: fx.AdaptiveMeanPool((7, 7)), "AdaptiveMeanPool((7, 7))"),
    (lambda: fx.Unfold((3, 3), stride=2), "Unfold((3, 3), stride=2)"),
    (lambda: fx.Fold((8, 8), (3, 3), dilation=(1, 2)), "Fold((8, 8), (3, 3), dilation=(1, 2))"),
]


@pytest.mark.parametrize(("make", "text"), TYPED)
def test_layers_read_as_typed(make, text):
    assert make().typed() == text


BAD_INPUTS = [
    (
        lambda: fx.Conv((3, 3), 3, 16),
        (1, 28, 28, 1),
        "Conv((3, 3), 3, 16) expects 3 input channels (last axis), got an array of shape (1, 28, 28, 1)",
    ),
    (
        lambda: fx.Conv((3, 3), 1, 8),
        (28, 28, 1),
        "Conv((3, 3), 1, 8) expects 4 axes (batch, height, width, channels), got an array of shape (28, 28, 1)",
    ),
    (
        lambda: fx.Conv((5,), 1, 8),
        (1, 4, 1),
        "Conv((5,), 1, 8) expects at least 5 positions for its window, got an array of shape (1, 4, 1)",
    ),
    (
        lambda: fx.ConvTranspose((3, 3), 4, 2),
        (1, 4, 8, 8),
        "ConvTranspose((3, 3), 4, 2) expects 4 input channels (last axis), got an array of shape (1, 4, 8, 8); "
        "channels come last: write jnp.moveaxis(x, 1, -1)",
    ),
    (
        lambda: fx.ConvTranspose((2, 2, 2), 1, 1),
        (1, 4, 4, 1),
        "ConvTranspose((2, 2, 2), 1, 1) expects 5 axes (batch, depth, height, width, channels), "
        "got an array of shape (1, 4, 4, 1)",
    ),
    (
        lambda: fx.ConvTranspose((2, 2), 1, 1, stride=2, pad=(3, 0)),
        (1, 3, 3, 1),
        "ConvTranspose((2, 2), 1, 1, stride=2, pad=(3, 0)) expects at least 4 x 1 positions for its pad, "
        "got an array of shape (1, 3, 3, 1)",
    ),
    (
        lambda: fx.DepthwiseConv((3,), 3, 6),
        (1, 8, 6),
        "DepthwiseConv((3,), 3, 6) expects 3 input channels (last axis), got an array of shape (1, 8, 6)",
    ),
    (
        lambda: fx.MaxPool((2,)),
        (2, 3),
        "MaxPool((2,)) expects 3 axes (batch, length, channels), got an array of shape (2, 3)",
    ),
    (
        lambda: fx.MeanPool((2, 2)),
        (1, 1, 4, 1),
        "MeanPool((2, 2)) expects at least 2 x 2 positions for its window, got an array of shape (1, 1, 4, 1)",
    ),
    (
        lambda: fx.LPPool(2, (9, 1)),
        (1, 8, 8, 3),
        "LPPool(2, (9, 1)) expects at least 9 x 1 positions for its window, got an array of shape (1, 8, 8, 3)",
    ),
    (
        fx.GlobalMeanPool,
        (2, 3),
        "GlobalMeanPool() expects at least 3 axes, as (batch, height, width, channels), got an array of shape (2, 3)",
    ),
    (
        fx.GlobalMaxPool,
        (2, 3),
        "GlobalMaxPool() expects at least 3 axes, as (batch, height, width, channels), got an array of shape (2, 3)",
    ),
    (
        lambda: fx.AdaptiveMaxPool((2, 2)),
        (2, 3, 1),
        "AdaptiveMaxPool((2, 2)) expects 4 axes (batch, height, width, channels), got an array of shape (2, 3, 1)",
    ),
    (
        lambda: fx.AdaptiveMeanPool((2, 2)),
        (2, 3, 1),
        "AdaptiveMeanPool((2, 2)) expects 4 axes (batch, height, width, channels), got an array of shape (2, 3, 1)",
    ),
    (
        lambda: fx.Unfold((3, 3), dilation=2),
        (1, 4, 8, 3),
        "Unfold((3, 3), dilation=2) expects at least 5 x 5 positions for its window, "
        "got an array of shape (1, 4, 8, 3)",
    ),
    (
        lambda: fx.Fold((4, 4), (2, 2)),
        (1, 9, 6),
        "Fold((4, 4), (2, 2)) expects an array of shape (batch, 9, 4 * channels), got an array of shape (1, 9, 6)",
    ),
    (
        lambda: fx.Fold((2,), (3,)),
        (1, 1, 3),
        "Fold((2,), (3,)) expects an array of shape (batch, 0, 3 * channels), got an array of shape (1, 1, 3)",
    ),
]


@pytest.mark.parametrize(("make", "shape", "message"), BAD_INPUTS)
def test_size_errors(make, shape, message):
    layer = make()
    with pytest.raises(SizeError) as caught:
        layer(jnp.ones(shape))
    assert str(caught.value) == message and caught.value.layer is layer
    with pytest.raises(SizeError, match="got"):
        jax.jit(layer)(jnp.ones(shape))


IMAGE, PADS = jnp.ones((1, 8, 8, 3)), r'pad takes an int of at least 0, 2 ints, 2 pairs \(low, high\), 4 ints or "same"'
CONV = {"x": (1, 8, 8, 3), "w": (3, 3, 3, 4)}
BAD_CONVS = [
    ({"x": (8, 8, 3)}, SizeError, r"conv expects 4 axes \(batch, height, width, channels\), got .* shape \(8, 8, 3\)"),
    ({"x": (1, 8, 8, 2)}, SizeError, r"conv expects 3 input channels \(last axis\), got .* shape \(1, 8, 8, 2\)$"),
    ({"x": (1, 3, 8, 8)}, SizeError, r"channels come last: write jnp.moveaxis\(x, 1, -1\)"),
    ({"x": (1, 4, 8, 3), "dilation": 2}, SizeError, r"conv expects at least 5 x 5 positions for its window"),
    ({"w": (3, 4)}, ValueError, r"conv takes a weight \(\*kernel, .*\) of 3 to 5 axes, got shape \(3, 4\)"),
    ({"w": (0, 3, 3, 4)}, ValueError, r"the kernel of conv takes an int or a tuple of 2 ints, each at least 1"),
    ({"w": (1, 1, 3, 3), "groups": 2}, ValueError, r"conv has 6 input and 3 output .*; groups=2 must divide both"),
    ({"groups": 0}, ValueError, r"groups takes an int of at least 1, got 0"),
    ({"groups": "2"}, ValueError, r"groups takes an int of at least 1, got '2'"),
    ({"stride": (1, 2, 3)}, ValueError, r"stride takes an int or a tuple of 2 ints, each at least 1, got \(1, 2, 3\)"),
    ({"dilation": 0}, ValueError, r"dilation takes an int or a tuple of 2 ints, each at least 1, got 0"),
    ({"pad": (1, 2, 3)}, ValueError, PADS + r", got \(1, 2, 3\)"),
    ({"pad": "SAME"}, ValueError, PADS + ", got 'SAME'"),
    ({"pad": -1}, ValueError, PADS + ", got -1"),
]


@pytest.mark.parametrize(("keywords", "error", "message"), BAD_CONVS)
def test_conv_refuses(keywords, error, message):
    shapes = CONV | keywords
    with pytest.raises(error, match=message):
        fx.conv(jnp.ones(shapes.pop("x")), jnp.ones(shapes.pop("w")), **shapes)


REFUSED = [
    (lambda: fx.conv_transpose(IMAGE, jnp.ones((3, 3, 2, 4))), SizeError, "conv_transpose expects 4 input channels"),
    (
        lambda: fx.conv_transpose(IMAGE, jnp.ones((3, 3, 2, 3)), groups=2),
        ValueError,
        "conv_transpose has 3 input and 4 output channels; groups=2 must divide both",
    ),
    (
        lambda: fx.conv_transpose(IMAGE, jnp.ones((3, 3, 2, 3)), outpad=-1),
        ValueError,
        "outpad takes an int or a tuple of 2 ints, each at least 0, got -1",
    ),
    (lambda: fx.depthwiseconv(IMAGE, jnp.ones((3, 3, 2, 4))), SizeError, "depthwiseconv expects 4 input channels"),
    (lambda: fx.depthwiseconv(IMAGE, jnp.ones((2, 4))), ValueError, r"depthwiseconv takes a weight \(\*kernel, mult"),
    (lambda: fx.Conv(3, 1, 1), ValueError, r"kernel takes a tuple with one size for each of 1 to 3 axes, .*, got 3"),
    (lambda: fx.Conv((3, 3), 3, 4, groups=2), ValueError, "Conv has 3 input and 4 output channels; groups=2 must"),
    (lambda: fx.Conv((3, 3), 3, 4, stride=0), ValueError, "stride takes an int or a tuple of 2 ints"),
    (lambda: fx.Conv((3, 3), 3, 4, pad="full"), ValueError, PADS + ", got 'full'"),
    (lambda: fx.Conv((3, 3), 3, 4, bias=np.ones(3)), ValueError, r"bias takes True, False or an array of shape \(4,\)"),
    (lambda: fx.Conv((3, 3), 3, 4, "relu"), TypeError, "Conv takes a function as its activation"),
    (lambda: fx.Conv.from_arrays(np.ones((2, 2))), ValueError, r"Conv takes a weight \(\*kernel, inputs // groups"),
    (lambda: fx.ConvTranspose((3,), 0, 4), ValueError, "ConvTranspose takes sizes that are ints of at least 1, got 0"),
    (lambda: fx.ConvTranspose((3,), 4, 4, outpad=(1, 1)), ValueError, "outpad takes an int or a tuple of one int"),
    (
        lambda: fx.DepthwiseConv((3,), 4, 6),
        ValueError,
        "DepthwiseConv takes outputs that are a multiple of its 4 inputs, got 6",
    ),
    (lambda: fx.MaxPool(2), ValueError, r"window takes a tuple with one size for each of 1 to 3 axes, .*, got 2"),
    (lambda: fx.max_pool(IMAGE, (2, 0)), ValueError, "window takes an int or a tuple of 2 ints, each at least 1"),
    (lambda: fx.max_pool(IMAGE, (9, 1)), SizeError, "max_pool expects at least 9 x 1 positions for its window"),
    (
        lambda: fx.max_pool(IMAGE, (2, 2), pad=2),
        ValueError,
        r"max_pool takes a pad smaller than its window \(2, 2\), got pad=2",
    ),
    (
        lambda: fx.mean_pool(IMAGE, (2, 2), pad=2, count_include_pad=False),
        ValueError,
        r"mean_pool takes a pad smaller than its window \(2, 2\), got pad=2",
    ),
    (lambda: fx.MaxPool((2, 2), pad=2), ValueError, r"MaxPool takes a pad smaller than its window \(2, 2\), got pad=2"),
    (
        lambda: fx.MeanPool((2,), pad=2, count_include_pad=False),
        ValueError,
        r"MeanPool takes a pad smaller than its window \(2,\), got pad=2",
    ),
    (lambda: fx.depthwiseconv(IMAGE[..., :0], np.ones((2, 2, 2, 0))), ValueError, "groups takes an int of at least 1"),
    (lambda: fx.LPPool(0, (2,)), ValueError, "LPPool takes a finite p greater than 0, got p=0"),
    (lambda: fx.lp_pool(IMAGE, math.inf, (2, 2)), ValueError, "got p=inf; for p = inf there is max_pool"),
    (lambda: fx.lp_pool(IMAGE, "2", (2, 2)), ValueError, "lp_pool takes a finite p greater than 0, got p='2'"),
    (lambda: fx.AdaptiveMeanPool(2), ValueError, r"out takes a tuple with one size for each of 1 to 3 axes"),
    (lambda: fx.Unfold(3), ValueError, r"kernel takes a tuple with one size for each of 1 to 3 axes"),
    (
        lambda: fx.Fold((4, 4), (2,)),
        ValueError,
        r"output_size takes one size for each axis of the kernel \(2,\), got \(4, 4\)",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()

"""Functions on arrays, against PyTorch and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import check_layer, numbers

import fluxion as fx
from fluxion.errors import SizeError
from fluxion.ops.windows import parse_pad, per_axis, short_pad

INF, NAN = float("inf"), float("nan")

ACTIVATIONS = {
    "relu": (fx.relu, torch.relu),
    "leakyrelu": (fx.leakyrelu, F.leaky_relu),
    "leakyrelu slope": (lambda x: fx.leakyrelu(x, 0.3), lambda x: F.leaky_relu(x, 0.3)),
    "sigmoid": (fx.sigmoid, torch.sigmoid),
    "tanh": (fx.tanh, torch.tanh),
    "gelu": (fx.gelu, lambda x: F.gelu(x, approximate="tanh")),
    "swish": (fx.swish, F.silu),
    "softplus": (fx.softplus, F.softplus),
    "identity": (fx.identity, lambda x: x * 1),
    "softmax": (fx.softmax, lambda x: torch.softmax(x, -1)),
    "softmax axis": (lambda x: fx.softmax(x, axis=0), lambda x: torch.softmax(x, 0)),
    "logsoftmax": (fx.logsoftmax, lambda x: torch.log_softmax(x, -1)),
    "flatten": (fx.flatten, lambda x: torch.flatten(x, 1)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    function, reference = ACTIVATIONS[name]
    check_layer(lambda: function, numbers(3, 4), reference=lambda p, x: reference(x))


POINTWISE = [fx.relu, fx.leakyrelu, fx.sigmoid, fx.tanh, fx.gelu, fx.swish, fx.softplus]


@pytest.mark.parametrize("function", POINTWISE)
def test_activation_of_special_values(function):
    assert jnp.isnan(function(NAN)) and jnp.isnan(function(jnp.array([1.0, NAN]))[1])
    assert function(np.arange(-2, 3)).dtype == function(3).dtype == function(True).dtype == jnp.float32
    assert not jnp.isnan(function(INF))
    assert function(jnp.zeros((2, 0))).shape == (2, 0)
    assert jnp.isfinite(jax.grad(function)(0.0)) and jnp.isfinite(jax.grad(jax.grad(function))(0.0))


def test_activation_derivatives_at_zero_and_far_out():
    assert jax.grad(fx.relu)(0.0) == 0
    assert jax.grad(jax.grad(fx.softplus))(0.0) == 0.25
    assert fx.softplus(1000.0) == 1000 and fx.softplus(-1000.0) == 0
    assert round(float(fx.gelu(1.0)), 7) == pytest.approx(0.8411919906, abs=1e-6)
    assert fx.sigmoid(0.0) == 0.5 and jax.grad(fx.sigmoid)(-200.0) == 0


def test_softmax_of_infinities():
    for row, wanted in [
        ([INF, 0, 1], [1, 0, 0]),
        ([INF, INF, 1], [0.5, 0.5, 0]),
        ([-INF, 0, 0], [0, 0.5, 0.5]),
        ([-INF, -INF], [NAN, NAN]),
        ([NAN, 1], [NAN, NAN]),
        ([1000, 1000], [0.5, 0.5]),
    ]:
        np.testing.assert_allclose(fx.softmax(row), wanted)
        np.testing.assert_allclose(fx.logsoftmax(row), np.log(np.maximum(wanted, 0), where=np.array(wanted) != 0,
                                                              out=np.full(len(row), -INF)), atol=1e-6)  # fmt: skip
    assert fx.softmax(np.array([1, 2])).dtype == jnp.float32
    np.testing.assert_allclose(fx.softmax(jnp.ones((2, 4)), axis=(0, 1)), np.full((2, 4), 1 / 8))
    assert jnp.isfinite(jax.grad(lambda x: fx.softmax(x)[0])(jnp.array([INF, 0.0]))).all()


@pytest.mark.parametrize("function", [fx.softmax, fx.logsoftmax])
def test_softmax_of_a_number(function):
    with pytest.raises(ValueError, match=f"{function.__name__} needs an array with an axis to sum over"):
        function(1.0)


def torch_conv(x, w, **keywords):
    spatial = w.ndim - 2
    conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[spatial]
    w = w.permute(spatial + 1, spatial, *range(spatial))
    return conv(x.movedim(-1, 1), w, **keywords).movedim(1, -1)


CONVS = {
    "one axis": ((2, 7, 3), (3, 3, 4), {}, {}),
    "two axes": ((2, 6, 5, 2), (3, 2, 2, 3), {}, {}),
    "three axes": ((1, 4, 3, 4, 2), (2, 2, 3, 2, 2), {}, {}),
    "stride and pad": ((2, 7, 6, 2), (3, 3, 2, 3), {"stride": 2, "pad": 1}, {"stride": 2, "padding": 1}),
    "tuples": (
        (1, 8, 7, 2),
        (3, 2, 2, 3),
        {"stride": (2, 1), "pad": (1, 0), "dilation": (1, 2)},
        {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)},
    ),
    "groups": ((1, 5, 5, 4), (3, 3, 2, 6), {"groups": 2}, {"groups": 2}),
    "depthwise": ((1, 5, 5, 3), (3, 3, 1, 6), {"groups": 3, "pad": "same"}, {"groups": 3, "padding": 1}),
    "same": ((1, 6, 6, 1), (5, 3, 1, 2), {"pad": "same"}, {"padding": "same"}),
}


@pytest.mark.parametrize("name", CONVS)
def test_conv(name):
    x, w, mine, theirs = CONVS[name]
    check_layer(
        lambda: lambda x, w: fx.conv(x, w, **mine),
        numbers(*x),
        numbers(*w, seed=1),
        reference=lambda p, x, w: torch_conv(x, w, **theirs),
        dtypes=("bfloat16",) if name == "three axes" else ("float16", "bfloat16"),
    )


def test_conv_of_ones_with_uneven_pads():
    y = fx.conv(jnp.ones((1, 28, 28, 1)), jnp.ones((3, 3, 1, 1)), pad=(0, 1, 1, 2))
    assert y.shape == (1, 27, 29, 1)
    corners = [float(y[0, i, j, 0]) for i, j in [(0, 0), (0, 1), (-1, 0), (-1, 1), (0, -1), (-1, -1)]]
    assert corners == [6, 9, 4, 6, 3, 2]
    pairs = fx.conv(jnp.ones((1, 28, 28, 1)), jnp.ones((3, 3, 1, 1)), pad=((0, 1), (1, 2)))
    assert (pairs == y).all()


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", range(1, 9))
def test_same_is_that_of_xla(kernel, stride):
    x, w = jnp.asarray(numbers(1, 10, 1)), jnp.asarray(numbers(kernel, 1, 1, seed=1))
    wanted = jax.lax.conv_general_dilated(x, w, (stride,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
    np.testing.assert_allclose(fx.conv(x, w, stride=stride, pad="same"), wanted, rtol=1e-5, atol=1e-6)
    assert fx.max_pool(x, (kernel,), stride=stride, pad="same").shape == (1, -(-10 // stride), 1)


def test_conv_takes_integers():
    y = fx.conv(np.ones((1, 4, 1), np.uint8), np.ones((2, 1, 1), np.int32))
    assert y.dtype == jnp.float32 and y.ravel().tolist() == [2, 2, 2]


PADS = r'pad takes an int of at least 0, 2 ints, 2 pairs \(low, high\), 4 ints or "same", got '
BAD_CONVS = [
    ({"x": (8, 8, 3)}, SizeError, r"conv expects 4 axes \(batch, height, width, channels\), got .* shape \(8, 8, 3\)"),
    ({"x": (1, 8, 8, 2)}, SizeError, r"conv expects 3 input channels \(last axis\), got .* shape \(1, 8, 8, 2\)$"),
    ({"x": (1, 3, 8, 8)}, SizeError, r"channels come last: write jnp.moveaxis\(x, 1, -1\)"),
    ({"x": (1, 4, 8, 3), "dilation": 2}, SizeError, r"conv expects at least 5 x 5 positions for its window"),
    ({"w": (3, 4)}, ValueError, r"conv takes a weight .* of 3 to 5 axes, got shape \(3, 4\)"),
    ({"w": (1, 1, 3, 3), "groups": 2}, ValueError, r"conv has 6 input and 3 output .*; groups=2 must divide both"),
    ({"groups": 0}, ValueError, r"groups takes an int of at least 1, got 0"),
    ({"stride": (1, 2, 3)}, ValueError, r"stride takes an int or a tuple of 2 ints, each at least 1, got \(1, 2, 3\)"),
    ({"dilation": 0}, ValueError, r"dilation takes an int or a tuple of 2 ints, each at least 1, got 0"),
    ({"pad": (1, 2, 3)}, ValueError, PADS + r"\(1, 2, 3\)"),
    ({"pad": "SAME"}, ValueError, PADS + "'SAME'"),
    ({"pad": -1}, ValueError, PADS + "-1"),
]


@pytest.mark.parametrize(("keywords", "error", "message"), BAD_CONVS)
def test_conv_refuses(keywords, error, message):
    shapes = {"x": (1, 8, 8, 3), "w": (3, 3, 3, 4)} | keywords
    with pytest.raises(error, match=message):
        fx.conv(jnp.ones(shapes.pop("x")), jnp.ones(shapes.pop("w")), **shapes)


def test_pads():
    assert parse_pad(1, 2) == ((1, 1), (1, 1))
    assert parse_pad((1, 2), 2) == ((1, 1), (2, 2))
    assert parse_pad(((0, 1), (2, 3)), 2) == parse_pad((0, 1, 2, 3), 2) == ((0, 1), (2, 3))
    assert parse_pad((0, 1), 1) == parse_pad(((0, 1),), 1) == ((0, 1),)
    assert short_pad(parse_pad((2,), 1)) == 2 and short_pad("same") == "same"
    assert per_axis(np.int64(2), 2, "stride") == (2, 2)
    with pytest.raises(ValueError, match=r"stride takes an int or a tuple of one int"):
        per_axis(True, 1, "stride")


def pooled(function, **keywords):
    return lambda p, x: function(x.movedim(-1, 1), **keywords).movedim(1, -1)


POOLS = {
    "max 1": (lambda x: fx.max_pool(x, (2,)), (2, 7, 2), pooled(F.max_pool1d, kernel_size=2)),
    "max 2": (
        lambda x: fx.max_pool(x, (3, 2), stride=(2, 1), pad=1),
        (1, 7, 5, 2),
        pooled(F.max_pool2d, kernel_size=(3, 2), stride=(2, 1), padding=1),
    ),
    "max 3": (lambda x: fx.max_pool(x, (2, 2, 2)), (1, 4, 4, 5, 2), pooled(F.max_pool3d, kernel_size=2)),
    "mean 1": (lambda x: fx.mean_pool(x, (3,)), (2, 7, 2), pooled(F.avg_pool1d, kernel_size=3)),
    "mean 2": (
        lambda x: fx.mean_pool(x, (3, 2), stride=2, pad=1),
        (1, 7, 5, 2),
        pooled(F.avg_pool2d, kernel_size=(3, 2), stride=2, padding=1),
    ),
    "mean 3": (lambda x: fx.mean_pool(x, (2, 2, 2)), (1, 4, 4, 5, 2), pooled(F.avg_pool3d, kernel_size=2)),
    "adaptive 1": (lambda x: fx.adaptive_mean_pool(x, (3,)), (2, 7, 2), pooled(F.adaptive_avg_pool1d, output_size=3)),
    "adaptive 2": (
        lambda x: fx.adaptive_mean_pool(x, (3, 4)),
        (1, 5, 8, 2),
        pooled(F.adaptive_avg_pool2d, output_size=(3, 4)),
    ),
    "adaptive up": (lambda x: fx.adaptive_mean_pool(x, (5,)), (1, 3, 2), pooled(F.adaptive_avg_pool1d, output_size=5)),
    "adaptive 3": (
        lambda x: fx.adaptive_mean_pool(x, (2, 2, 3)),
        (1, 3, 4, 5, 1),
        pooled(F.adaptive_avg_pool3d, output_size=(2, 2, 3)),
    ),
    "global max": (fx.global_max_pool, (2, 3, 4, 2), lambda p, x: x.amax((1, 2), keepdim=True)),
    "global mean": (fx.global_mean_pool, (2, 3, 4, 2), lambda p, x: x.mean((1, 2), keepdim=True)),
}


@pytest.mark.parametrize("name", POOLS)
def test_pool(name):
    function, shape, reference = POOLS[name]
    check_layer(lambda: function, numbers(*shape), reference=reference)


def test_max_pool_keeps_integers_and_nan_and_one_winner():
    assert fx.max_pool(-jnp.ones((1, 2, 1), jnp.int32), (2,), pad=1).ravel().tolist() == [-1, -1]
    assert fx.max_pool(jnp.array([[[False], [True]]]), (2,)).ravel().tolist() == [True]
    assert jnp.isnan(fx.max_pool(jnp.array([[[1.0], [NAN]]]), (2,)).ravel()[0])
    gradient = jax.grad(lambda x: fx.max_pool(x, (2, 2)).sum())(jnp.ones((1, 4, 4, 1)))
    assert gradient.sum() == 4 and set(gradient.ravel().tolist()) == {0.0, 1.0}


def test_mean_pool_counts_padded_zeros():
    assert fx.mean_pool(jnp.ones((1, 2, 1)), (2,), stride=1, pad=1).ravel().tolist() == [0.5, 1, 0.5]
    assert fx.mean_pool(np.arange(4).reshape(1, 4, 1), (2,)).dtype == jnp.float32


@pytest.mark.parametrize("pool", [fx.max_pool, fx.mean_pool])
def test_pool_refuses(pool):
    name, x = pool.__name__, jnp.ones((1, 8, 8, 3))
    with pytest.raises(
        SizeError, match=rf"{name} expects 4 axes \(batch, height, width, channels\), got .*\(8, 8, 3\)"
    ):
        pool(x[0], (2, 2))
    with pytest.raises(SizeError, match=f"{name} expects at least 9 x 1 positions for its window"):
        pool(x, (9, 1))
    with pytest.raises(ValueError, match=r"window takes a tuple with one size for each of 1 to 3 axes, .*, got 2"):
        pool(x, 2)
    with pytest.raises(ValueError, match="window takes an int or a tuple of 2 ints, each at least 1"):
        pool(x, (2, 0))


def test_more_pools_refuse():
    with pytest.raises(ValueError, match=r"max_pool takes a pad smaller than its window \(2, 2\), got pad=2"):
        fx.max_pool(jnp.ones((1, 8, 8, 3)), (2, 2), pad=2)
    with pytest.raises(SizeError, match=r"adaptive_mean_pool expects 4 axes"):
        fx.adaptive_mean_pool(jnp.ones((8, 8, 3)), (2, 2))
    with pytest.raises(ValueError, match="out takes a tuple"):
        fx.adaptive_mean_pool(jnp.ones((8, 8, 3)), 2)
    for pool in (fx.global_max_pool, fx.global_mean_pool):
        with pytest.raises(SizeError, match=rf"{pool.__name__} expects at least 3 axes"):
            pool(jnp.ones((2, 3)))


def test_normalise():
    check_layer(lambda: fx.normalise, numbers(3, 5), reference=lambda p, x: F.layer_norm(x, (5,)))
    check_layer(
        lambda: lambda x: fx.normalise(x, axis=(0, 2), eps=1e-3),
        numbers(3, 2, 4),
        reference=lambda p, x: F.batch_norm(x, None, None, training=True, eps=1e-3),
    )


def test_flatten_runs_over_channels_fastest():
    x = jnp.arange(12).reshape(2, 3, 2)
    assert fx.flatten(x).tolist() == [list(range(6)), list(range(6, 12))]
    assert fx.flatten(jnp.ones(3)).shape == (3, 1) and fx.flatten(jnp.ones((0, 2, 2))).shape == (0, 4)
    with pytest.raises(ValueError, match="flatten keeps the batch axis and needs an array that has one"):
        fx.flatten(1.0)

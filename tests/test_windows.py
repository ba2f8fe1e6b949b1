"""Convolution, pooling and folding: what is no formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import cases_of, numbers

import fluxion as fx
from fluxion.ops.windows import parse_pad, per_axis, short_pad

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("case", cases_of("windows"), ids=str)
def test_case(case):
    case.check()


@pytest.mark.parametrize("case", cases_of("windows"), ids=str)
def test_random_options(case):
    case.check_random()


# ------------------------------------------------------------------ padding


def test_pads():
    assert parse_pad(1, 2) == ((1, 1), (1, 1))
    assert parse_pad((1, 2), 2) == ((1, 1), (2, 2))
    assert parse_pad(((0, 1), (2, 3)), 2) == parse_pad((0, 1, 2, 3), 2) == ((0, 1), (2, 3))
    assert parse_pad((0, 1), 1) == parse_pad(((0, 1),), 1) == ((0, 1),)
    assert short_pad(parse_pad((2,), 1)) == 2 and short_pad("same") == "same"
    assert per_axis(np.int64(2), 2, "stride") == (2, 2)
    with pytest.raises(ValueError, match=r"stride takes an int or a tuple of one int"):
        per_axis(True, 1, "stride")


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", range(1, 9))
def test_same_is_that_of_xla(kernel, stride):
    x, w = jnp.asarray(numbers(1, 10, 1)), jnp.asarray(numbers(kernel, 1, 1, seed=1))
    wanted = jax.lax.conv_general_dilated(x, w, (stride,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
    np.testing.assert_allclose(fx.conv(x, w, stride=stride, pad="same"), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("kernel", range(1, 9))
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_sizes_with_pad_same(axes, kernel, stride):
    x, window = jnp.ones((1, *(10,) * axes, 2)), (kernel,) * axes
    options = {"stride": stride, "pad": "same"}
    dilated = options | {"dilation": max(kernel // 2, 1)}
    smaller, larger = (1, *(-(-10 // stride),) * axes, 2), (1, *(10 * stride,) * axes, 2)
    for layer in (fx.Conv(window, 2, 2, **dilated), fx.DepthwiseConv(window, 2, 2, **dilated)):
        assert jax.eval_shape(layer, x).shape == smaller
    for layer in (fx.MaxPool(window, **options), fx.MeanPool(window, **options), fx.LPPool(2, window, **options)):
        assert jax.eval_shape(layer, x).shape == smaller
    assert jax.eval_shape(fx.ConvTranspose(window, 2, 2, **dilated), x).shape == larger


# ------------------------------------------------------------------ convolution


def test_conv_of_ones_with_uneven_pads():
    y = fx.conv(jnp.ones((1, 28, 28, 1)), jnp.ones((3, 3, 1, 1)), pad=(0, 1, 1, 2))
    assert y.shape == (1, 27, 29, 1)
    corners = [float(y[0, i, j, 0]) for i, j in [(0, 0), (0, 1), (-1, 0), (-1, 1), (0, -1), (-1, -1)]]
    assert corners == [6, 9, 4, 6, 3, 2]
    assert (fx.conv(jnp.ones((1, 28, 28, 1)), jnp.ones((3, 3, 1, 1)), pad=((0, 1), (1, 2))) == y).all()


@pytest.mark.parametrize("kernel", [(3, 3), (3, 1), (1, 3)])
def test_conv_of_a_point_is_the_kernel(kernel):
    point = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(1)
    w = jnp.asarray(numbers(*kernel, 1, 1), jnp.float32)
    pad = tuple(size // 2 for size in kernel)
    around = (0, *(slice(2 - side, 3 + side) for side in pad), 0)
    np.testing.assert_array_equal(fx.conv(point, w, pad=pad, flipped=True)[around], w[..., 0, 0])
    np.testing.assert_array_equal(fx.conv(point, w, pad=pad)[around], w[::-1, ::-1, 0, 0])
    np.testing.assert_array_equal(fx.conv_transpose(point, w, pad=pad)[around], w[..., 0, 0])


def test_flipped_conv_is_that_of_numpy():
    x, w = numbers(9), numbers(4, seed=1)
    y = fx.conv(x[None, :, None], w[:, None, None], flipped=True)
    np.testing.assert_allclose(y.ravel(), np.convolve(x, w, "valid"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", [fx.Conv((3, 3), 1, 1, pad=1), fx.ConvTranspose((3, 3), 1, 1, pad=1)])
def test_only_a_bias_fits_a_constant_on_zeros(model):
    def after_training(model):
        state = fx.setup(fx.Descent(0.1), model)
        batch = jnp.zeros((2, 4, 4, 1)), jnp.full((2, 4, 4, 1), 2.0)
        loss = lambda m, x, y: fx.mse(m(x), y)
        fx.train(loss, model, [batch] * 20, state)
        return loss(model, *batch)

    without = type(model)((3, 3), 1, 1, pad=1, bias=False)
    assert after_training(without) == 4 and after_training(model) < 0.01


def test_conv_takes_integers_complex_numbers_and_no_images():
    y = fx.conv(np.ones((1, 4, 1), np.uint8), np.ones((2, 1, 1), np.int32))
    assert y.dtype == jnp.float32 and y.ravel().tolist() == [2, 2, 2]
    x, w = jnp.asarray(numbers(1, 5, 2)) * (1 + 2j), jnp.asarray(numbers(2, 2, 3, seed=1)) * 1j
    np.testing.assert_allclose(fx.conv(x, w), fx.conv(x / (1 + 2j), w / 1j).real * (-2 + 1j), rtol=1e-5, atol=1e-5)
    assert fx.Conv((2,), 1, 3)(jnp.ones((0, 4, 1))).shape == (0, 3, 3)
    assert fx.ConvTranspose((2,), 1, 3)(jnp.ones((0, 4, 1))).shape == (0, 5, 3)


TRANSPOSES = {
    "one axis": ((7,), (3,), 2, 3, {}),
    "stride": ((7, 8), (3, 2), 2, 1, {"stride": (3, 2)}),
    "uneven pads": ((7, 6), (3, 3), 2, 3, {"stride": 2, "pad": (0, 1, 2, 1)}),
    "dilation": ((7, 6), (3, 2), 1, 2, {"dilation": (2, 3), "pad": 1}),
    "groups": ((5, 5), (2, 2), 4, 6, {"groups": 2}),
    "three axes": ((4, 5, 4), (2, 3, 2), 2, 2, {"stride": (1, 2, 3), "pad": 1, "groups": 2}),
    "same": ((6, 8), (3, 4), 1, 2, {"stride": 2, "pad": "same"}),
    "same, kernel below stride": ((6,), (2,), 1, 2, {"stride": 3, "pad": "same"}),
    "pad beyond the kernel": ((3,), (2,), 1, 1, {"pad": 3}),
}


@pytest.mark.parametrize("name", TRANSPOSES)
def test_conv_transpose_is_the_gradient_of_conv(name):
    sizes, kernel, inputs, outputs, options = TRANSPOSES[name]
    groups = options.get("groups", 1)
    w = jnp.asarray(numbers(*kernel, inputs // groups, outputs), jnp.float32)
    y, pullback = jax.vjp(lambda x: fx.conv(x, w, **options), jnp.zeros((2, *sizes, inputs)))
    weights = jnp.asarray(numbers(*y.shape, seed=1), jnp.float32)
    plain = jax.eval_shape(lambda y: fx.conv_transpose(y, w, **options), weights).shape[1:-1]
    outpad = tuple(size - got for size, got in zip(sizes, plain, strict=True))
    got = fx.conv_transpose(weights, w, **options, outpad=outpad)
    np.testing.assert_allclose(got, pullback(weights)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_depthwise_conv_is_a_conv_with_as_many_groups(axes):
    layer = fx.DepthwiseConv((2,) * axes, 3, 6, fx.tanh, stride=2)
    w = jnp.moveaxis(layer.weight, -1, -2).reshape(*(2,) * axes, 1, 6)  # output channels of one input side by side
    other = fx.Conv.from_arrays(w, layer.bias, fx.tanh, stride=2, groups=3)
    x = jnp.asarray(numbers(2, *(4,) * axes, 3))
    np.testing.assert_allclose(layer(x), other(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "groups"),
    [
        (lambda init: fx.Conv((3, 2), 4, 6, groups=2, init=init), 2),
        (lambda init: fx.ConvTranspose((3, 2), 4, 6, groups=2, init=init), 2),
        (lambda init: fx.DepthwiseConv((3, 2), 2, 6, init=init), 2),
    ],
)
def test_each_group_is_drawn_by_itself(make, groups):
    shapes = []

    def init(*shape):
        shapes.append(shape)
        return jnp.full(shape, float(len(shapes)))

    layer = make(init)
    inputs = 2 if isinstance(layer, fx.DepthwiseConv) else 4
    assert shapes == [(3, 2, inputs // groups, 6 // groups)] * groups
    x = jnp.concatenate([jnp.ones((1, 3, 2, inputs // 2)), jnp.zeros((1, 3, 2, inputs // 2))], -1)
    y = layer(x)[0, 1 if isinstance(layer, fx.ConvTranspose) else 0, 0]
    assert (y[:3] > 0).all() and (y[3:] == 0).all()


@pytest.mark.parametrize("layer", [fx.Conv, fx.ConvTranspose, fx.DepthwiseConv])
@pytest.mark.parametrize("kernel", [(3,), (2, 3), (1, 2, 3)])
def test_identity_weights_return_the_input(layer, kernel):
    options = {} if layer is fx.DepthwiseConv else {"groups": 2}
    x = jnp.asarray(numbers(2, *(4 for _ in kernel), 4), jnp.float32)
    same = layer(kernel, 4, 4, pad="same", init=fx.identity_init, **options)
    np.testing.assert_allclose(same(x), x, rtol=1e-6)


def test_layers_from_arrays():
    assert (
        fx.Conv.from_arrays(np.ones((2, 2, 1, 3)), groups=3, pad=1).typed()
        == "Conv((2, 2), 3, 3, pad=1, groups=3, bias=False)"
    )
    bias = np.arange(4.0)
    transposed = fx.ConvTranspose.from_arrays(np.ones((3, 2, 6)), bias, fx.relu, groups=2, outpad=1, stride=2)
    assert transposed.typed() == "ConvTranspose((3,), 6, 4, relu, stride=2, groups=2, outpad=1)"
    assert transposed.bias.dtype == transposed.weight.dtype == jnp.float32 and transposed.bias.tolist() == [0, 1, 2, 3]
    depthwise = fx.DepthwiseConv.from_arrays(np.ones((3, 2, 6), np.int8), bias=True, dilation=2)
    assert depthwise.typed() == "DepthwiseConv((3,), 6, 12, dilation=2)" and depthwise.bias.shape == (12,)
    for layer in (fx.Conv((2,), 1, 2), transposed, depthwise):
        assert (type(layer).from_arrays(layer.weight, flipped=True).weight == layer.weight[::-1]).all()
    assert fx.CrossCor is fx.Conv


def test_conv_keeps_its_half_precision():
    for make in (fx.Conv, fx.ConvTranspose, fx.DepthwiseConv):
        layer = make((2,), 1, 2, init=fx.glorot_uniform(dtype=jnp.bfloat16))
        assert layer.bias.dtype == layer(jnp.ones((1, 4, 1))).dtype == jnp.bfloat16


# ------------------------------------------------------------------ pooling


def test_max_pool_keeps_integers_and_nan_and_one_winner():
    assert fx.max_pool(-jnp.ones((1, 2, 1), jnp.int32), (2,), pad=1).ravel().tolist() == [-1, -1]
    assert fx.max_pool(jnp.array([[[False], [True]]]), (2,)).ravel().tolist() == [True]
    assert jnp.isnan(fx.max_pool(jnp.array([[[1.0], [NAN]]]), (2,)).ravel()[0])
    gradient = jax.grad(lambda x: fx.max_pool(x, (2, 2)).sum())(jnp.ones((1, 4, 4, 1)))
    assert gradient.sum() == 4 and set(gradient.ravel().tolist()) == {0.0, 1.0}


def test_other_max_pools_keep_integers_and_nan_and_share_the_gradient():
    for pool in (fx.global_max_pool, lambda x: fx.adaptive_max_pool(x, (1,))):
        assert pool(-jnp.ones((1, 2, 1), jnp.int32)).tolist() == [[[-1]]]
        assert jnp.isnan(pool(jnp.array([[[1.0], [NAN]]])).ravel()[0])
        gradient = jax.grad(lambda x: pool(x).sum())(jnp.array([[[1.0], [0.0], [1.0]]]))  # noqa: B023
        assert gradient.ravel().tolist() == [0.5, 0, 0.5]


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_adaptive_pools_to_one_position_are_global(axes):
    x = jnp.asarray(numbers(2, *range(3, 3 + axes), 2))
    out = (1,) * axes
    np.testing.assert_array_equal(fx.adaptive_max_pool(x, out), fx.global_max_pool(x))
    np.testing.assert_allclose(fx.adaptive_mean_pool(x, out), fx.global_mean_pool(x), rtol=1e-5, atol=1e-6)


def test_mean_pool_counts_padded_zeros_or_not():
    assert fx.mean_pool(jnp.ones((1, 2, 1)), (2,), stride=1, pad=1).ravel().tolist() == [0.5, 1, 0.5]
    assert fx.mean_pool(np.arange(4).reshape(1, 4, 1), (2,)).dtype == jnp.float32
    x = numbers(2, 5, 4, 3)
    for pad in (1, (1, 0)):
        got = fx.mean_pool(x, (3, 2), stride=2, pad=pad, count_include_pad=False)
        theirs = F.avg_pool2d(torch.tensor(x).movedim(-1, 1), (3, 2), 2, pad, count_include_pad=False)
        np.testing.assert_allclose(got, theirs.movedim(1, -1), rtol=1e-5, atol=1e-6)


def test_mean_pools_of_complex_numbers():
    x = jnp.array([[[1.0 + 2j], [3.0], [5j], [1.0 + 1j]]])
    for pool in (lambda x: fx.mean_pool(x, (2,)), lambda x: fx.adaptive_mean_pool(x, (2,))):
        np.testing.assert_allclose(pool(x).ravel(), [2 + 1j, 0.5 + 3j], rtol=1e-6)
    np.testing.assert_allclose(fx.global_mean_pool(x).ravel(), [1.25 + 2j], rtol=1e-6)


def test_adaptive_pools_keep_what_is_not_finite_to_its_windows():
    x = jnp.array([1.0, INF, 2, 3, 4, NAN, 6]).reshape(1, 7, 1)
    assert fx.adaptive_mean_pool(x[:, :5], (2,)).ravel().tolist() == [INF, 3]
    np.testing.assert_array_equal(fx.adaptive_mean_pool(x, (3,)).ravel(), [INF, 3, NAN])


def test_pools_hold_nothing_that_trains():
    x, layer = 1 + jnp.arange(4.0).reshape(1, 4, 1), fx.LPPool(2.5, (2,))
    model = fx.Chain(fx.Scale(1), layer)
    opt = fx.setup(fx.Descent(0.1), model)
    fx.trainstep(lambda m, x: m(x).sum(), model, (x,), opt)
    assert layer.p == 2.5 and fx.gradient(lambda m: m(x).sum(), layer)[0] is None


POOLS = [
    lambda x: fx.max_pool(x, (2,), pad=1),
    lambda x: fx.mean_pool(x, (2,), pad="same"),
    lambda x: fx.adaptive_max_pool(x, (2,)),
    lambda x: fx.adaptive_mean_pool(x, (2,)),
    fx.global_max_pool,
    fx.global_mean_pool,
]


@pytest.mark.parametrize("pool", POOLS)
def test_pools_of_nothing(pool):
    with pytest.raises(fx.SizeError, match=r"expects at least \d positions for its window, got .* \(2, 0, 3\)"):
        pool(jnp.ones((2, 0, 3)))
    assert pool(jnp.ones((0, 4, 3))).shape[::2] == (0, 3) and pool(jnp.ones((2, 4, 0))).shape[::2] == (2, 0)


def test_lp_pool_at_zero_and_below():
    pooled = lambda x, p: fx.lp_pool(jnp.asarray(x)[None, :, None], p, (2,)).sum()
    gradient = jax.grad(pooled)
    for p in (0.5, 1.5, 2, 3):
        assert pooled([0.0, 0.0], p) == 0 and gradient(jnp.zeros(2), p).tolist() == [0, 0]
        assert jnp.isfinite(jax.jacfwd(gradient)(jnp.zeros(2), 2)).all()
    assert gradient(jnp.array([0.0, 0.0]), 1).tolist() == gradient(jnp.array([1.0, -1.0]), 1.0).tolist() == [1, 1]
    assert pooled([3.0, -5.0], 1) == -2 and pooled([3, -4], 2) == 5
    assert pooled([-2.0, 1.0], 3) == pytest.approx(-(7 ** (1 / 3)), rel=1e-6)
    assert jnp.isnan(pooled([-2.0, 1.0], 1.5))
    assert fx.lp_pool(jnp.full((1, 2, 1), 300.0, jnp.float16), 2, (2,)).ravel()[0] == pytest.approx(424.26, rel=1e-3)


# ------------------------------------------------------------------ folding


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_unfold_times_the_weight_is_conv(axes):
    x, w = jnp.asarray(numbers(2, *(5,) * axes, 2)), jnp.asarray(numbers(*(2, 3, 1)[:axes], 2, 4, seed=1))
    options = {"stride": 2, "pad": 1, "dilation": 2}
    y = fx.conv(x, w, **options)
    product = fx.unfold(x, w.shape[:-2], **options) @ w.reshape(-1, 4)
    np.testing.assert_allclose(product.reshape(y.shape), y, rtol=1e-4, atol=1e-5)


def test_folding_is_that_of_torch_but_for_the_order():
    x, y = numbers(2, 6, 5, 3), numbers(2, 9, 4, 3, seed=1)
    ours = {"stride": 2, "pad": 1, "dilation": 2}
    theirs = {"kernel_size": (2, 2), "stride": 2, "padding": 1, "dilation": 2}
    rows = F.unfold(torch.tensor(x).movedim(-1, 1), **theirs)  # (batch, channels * positions, windows)
    wanted = rows.reshape(2, 3, 4, 9).permute(0, 3, 2, 1).reshape(2, 9, 12)
    np.testing.assert_allclose(fx.unfold(x, (2, 2), **ours), wanted, rtol=1e-5)
    image = F.fold(torch.tensor(y).permute(0, 3, 2, 1).reshape(2, 12, 9), (6, 5), **theirs).movedim(1, -1)
    np.testing.assert_allclose(fx.fold(y.reshape(2, 9, 12), (6, 5), (2, 2), **ours), image, rtol=1e-5, atol=1e-6)


def test_fold_undoes_unfold():
    x, options = jnp.asarray(numbers(1, 5, 6, 2)), {"stride": (1, 2), "pad": "same"}
    fold = lambda rows: fx.fold(rows, (5, 6), (3, 2), **options)
    counts = fold(fx.unfold(jnp.ones_like(x), (3, 2), **options))
    np.testing.assert_allclose(fold(fx.unfold(x, (3, 2), **options)) / counts, x, rtol=1e-5, atol=1e-6)
    assert fx.unfold(np.ones((1, 3, 1), np.uint8), (2,)).dtype == np.uint8
    patches = fx.unfold(x, (5, 3), stride=(5, 3))
    np.testing.assert_array_equal(fx.fold(patches, (5, 6), (5, 3), stride=(5, 3)), x)

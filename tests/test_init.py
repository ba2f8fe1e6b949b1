"""Initialisers: shapes, types, variances, and what makes each one itself."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.init import fans
from fluxion.random import Generator

ALL = [
    fx.glorot_uniform,
    fx.glorot_normal,
    fx.kaiming_uniform,
    fx.kaiming_normal,
    fx.lecun_normal,
    fx.truncated_normal,
    fx.orthogonal,
    fx.identity_init,
    fx.normal,
    fx.zeros,
    fx.ones,
]
RANDOM = [init for init in ALL if init not in (fx.identity_init, fx.zeros, fx.ones)]
SHAPES = [(2000,), (100, 400), (3, 4, 40, 30)]


@pytest.mark.parametrize("init", ALL)
def test_shapes_types_and_keywords(init):
    assert init(3).shape == (3,) and init(4, 5).shape == (4, 5) and init(2, 3, 4, 5).shape == (2, 3, 4, 5)
    assert init(np.int64(2), 3).dtype == jnp.float32
    for dtype in (jnp.float16, jnp.bfloat16):
        assert init(4, 5, dtype=dtype).dtype == dtype
    with jax.enable_x64(True):
        assert init(4, 5, dtype=jnp.float64).dtype == jnp.float64
    curried = init(dtype=jnp.float16)
    assert curried(4, 5).dtype == jnp.float16 and curried(4, 5, dtype=jnp.float32).dtype == jnp.float32
    assert jnp.isfinite(init(4, 0)).all()


@pytest.mark.parametrize("init", ALL)
def test_initialisers_refuse(init):
    for shape in [((3, 4),), (3.0, 4), (-1, 2), (True, 2)]:
        with pytest.raises(
            TypeError, match=rf"{init.__name__} takes the sizes of the array as ints, as {init.__name__}\("
        ):
            init(*shape)


@pytest.mark.parametrize("init", RANDOM)
def test_random_numbers_repeat(init):
    one, two = init(3, 4, rng=Generator(1)), init(rng=Generator(1))(3, 4)
    assert (one == two).all() and not (init(3, 4) == init(3, 4)).all()
    fx.seed(5)
    before = init(3, 4)
    fx.seed(5)
    assert (init(3, 4) == before).all()
    with pytest.raises(TypeError, match=r"rng= takes a fluxion.random.Generator, got int"):
        init(3, rng=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_variances(shape):
    fan_in, fan_out = fans(*shape)
    for init, variance in [
        (fx.glorot_uniform, 2 / (fan_in + fan_out)),
        (fx.glorot_normal, 2 / (fan_in + fan_out)),
        (fx.kaiming_uniform, 2 / fan_in),
        (fx.kaiming_normal, 2 / fan_in),
        (fx.kaiming_normal(gain=1.0), 1 / fan_in),
        (fx.lecun_normal, 1 / fan_in),
        (fx.glorot_normal(gain=2.0), 8 / (fan_in + fan_out)),
        (fx.normal(std=0.5), 0.25),
    ]:
        x = np.asarray(init(*shape))
        assert x.var() == pytest.approx(variance, rel=0.1)
        assert abs(x.mean()) < 4 * math.sqrt(variance / math.prod(shape))


def test_bounds():
    x = fx.kaiming_uniform(100, 200)
    assert abs(x).max() <= math.sqrt(6 / 100) and abs(x).max() > 0.99 * math.sqrt(6 / 100)
    assert abs(fx.glorot_uniform(100, 200)).max() <= math.sqrt(6 / 300)
    x = fx.lecun_normal(100, 200)
    assert abs(x).max() <= 2.0001 * 0.1 / 0.8796


def test_fans_of_dense_and_conv():
    assert fans(10, 5) == (10, 5) and fans(3, 3, 8, 16) == (72, 144) and fans(7) == (1, 7) and fans() == (1, 1)


def test_truncated_normal():
    x = fx.truncated_normal(100, 100, mean=1.0, std=2.0, lo=-1.0, hi=4.0)
    assert -1 <= x.min() < -0.95 and 3.95 < x.max() <= 4
    with pytest.raises(ValueError, match=r"truncated_normal takes lo < hi and std > 0, got lo=2, hi=-2"):
        fx.truncated_normal(3, lo=2, hi=-2)


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (4, 4), (3, 3, 2, 5), (2, 2, 3, 20)])
def test_orthogonal(shape):
    q = np.asarray(fx.orthogonal(*shape, gain=2.0)).reshape(-1, shape[-1])
    small = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-4)


def test_identity_init():
    x = jnp.arange(12.0).reshape(3, 4)
    assert (fx.Dense(4, 4, init=fx.identity_init)(x) == x).all()
    assert (fx.Dense(4, 2, init=fx.identity_init(gain=3.0))(x) == 3 * x[:, :2]).all()
    assert fx.identity_init(3).tolist() == [0, 0, 0]
    for kernel in [(1,), (2,), (3,), (4,), (3, 4), (3, 3, 2)]:
        x = jnp.arange(float(2 * 5 ** len(kernel) * 3)).reshape(2, *[5] * len(kernel), 3)
        np.testing.assert_array_equal(fx.Conv(kernel, 3, 3, pad="same", init=fx.identity_init)(x), x)
    x = jnp.arange(6.0).reshape(1, 6, 1)
    moved = fx.Conv((3,), 1, 1, pad="same", init=fx.identity_init(shift=(1, 0, 0)))(x)
    assert moved.ravel().tolist() == [1, 2, 3, 4, 5, 0]


def test_zeros_and_ones():
    assert fx.zeros(2, 2).sum() == 0 and fx.ones(2, 2).sum() == 4
    assert fx.zeros(3, rng=Generator(1)).shape == (3,)


def test_a_mean_far_outside_is_warned_of():
    with pytest.warns(fx.FluxionWarning, match=r"has its mean=9.0 more than 2 std=1.0 outside \[-2.0, 2.0\]") as caught:
        x = fx.truncated_normal(4, mean=9.0)
    assert (x <= 2).all() and caught[0].filename == __file__


def test_numbers_of_lecun_normal():
    assert fx.lecun_normal(10, 1000).std() == pytest.approx(0.3162, rel=0.05)
    assert fx.lecun_normal(1000, 10).std() == pytest.approx(0.0316, rel=0.05)


@pytest.mark.parametrize(("rows", "columns", "sparsity"), [(10, 20, 0.25), (100, 3, 0.07), (5, 4, 0.0), (5, 4, 1.0)])
def test_sparse_init(rows, columns, sparsity):
    x = np.asarray(fx.sparse_init(rows, columns, sparsity=sparsity))
    assert ((x == 0).sum(axis=0) == np.ceil(round(sparsity * rows, 6))).all()
    assert x.shape == (rows, columns) and x.dtype == np.float32


def test_sparse_init_places_and_options():
    x = np.asarray(fx.sparse_init(200, 200, sparsity=0.5, std=0.1))
    assert x[x != 0].std() == pytest.approx(0.1, rel=0.05)
    assert len({tuple(column) for column in (x == 0).T.tolist()}) == 200
    assert abs((x == 0).sum(axis=1) - 100).max() < 40
    assert fx.Dense(10, 5, init=fx.sparse_init(sparsity=0.9)).weight.shape == (10, 5)
    assert (
        fx.sparse_init(4, 4, sparsity=0.5, rng=Generator(1)) == fx.sparse_init(4, 4, sparsity=0.5, rng=Generator(1))
    ).all()
    assert fx.sparse_init(4, 4, sparsity=0.5, dtype=jnp.bfloat16).dtype == jnp.bfloat16
    assert jax.jit(lambda: fx.sparse_init(4, 4, sparsity=0.5, rng=Generator(1)))().shape == (4, 4)
    for shape, sparsity in [((3,), 0.5), ((3, 3, 3), 0.5), ((3, 3), 1.5), ((3, 3), -0.1)]:
        with pytest.raises(ValueError, match=r"sparse_init takes two sizes and a sparsity from 0.0 to 1.0, got"):
            fx.sparse_init(*shape, sparsity=sparsity)


def test_uniform():
    x = np.asarray(fx.uniform(100, 100, low=-1.0, high=3.0))
    assert -1 <= x.min() < -0.99 and 2.99 < x.max() < 3 and x.mean() == pytest.approx(1, abs=0.05)
    x = np.asarray(fx.uniform(1000))
    assert x.min() >= 0 and x.max() < 1
    with pytest.raises(ValueError, match=r"uniform takes low < high, got low=1.0, high=0.0"):
        fx.uniform(3, low=1.0, high=0.0)


@pytest.mark.parametrize("kernel", [(3,), (5, 3)])
def test_identity_init_moves_and_cuts(kernel):
    x = jnp.arange(float(2 * 7 ** len(kernel) * 2)).reshape(2, *[7] * len(kernel), 2)
    wider = fx.Conv(kernel, 2, 3, pad="same", init=fx.identity_init)(x)
    np.testing.assert_array_equal(wider[..., :2], x)
    assert not wider[..., 2].any()
    swapped = fx.Conv(kernel, 2, 2, pad="same", init=fx.identity_init(shift=(0,) * (len(kernel) + 1) + (1,)))(x)
    np.testing.assert_array_equal(swapped, x[..., ::-1])
    assert fx.identity_init(2, 2, gain=5, shift=1).tolist() == [[5, 0], [0, 5]]


ONE_BY_ONE = [init for init in RANDOM if init is not fx.orthogonal]


@pytest.mark.parametrize("init", [*ONE_BY_ONE, fx.zeros, fx.uniform, fx.kaiming_normal(gain=1.0)])
def test_all_groups_of_a_convolution_are_drawn_at_once(init, monkeypatch):
    keys, next_key = [], Generator.next_key
    monkeypatch.setattr(Generator, "next_key", lambda self: keys.append(1) or next_key(self))
    for make, shape in [
        (lambda: fx.Conv((3, 3), 64, 128, groups=4, init=init), (3, 3, 16, 32)),
        (lambda: fx.ConvTranspose((3, 3), 64, 128, groups=4, init=init), (3, 3, 16, 32)),
        (lambda: fx.DepthwiseConv((3, 3), 960, 1920, init=init), (3, 3, 1, 2)),
    ]:
        keys.clear()
        weight, one_group = np.asarray(make().weight), init(64, 64, fans=fans(*shape))
        assert len(keys) == (init is not fx.zeros) * 2
        assert weight.std() == pytest.approx(float(one_group.std()), rel=0.1, abs=1e-6)


def test_fans_in_place_of_those_of_the_shape():
    assert fx.kaiming_normal(1000, 10, fans=(4, 1)).std() == pytest.approx(np.sqrt(2 / 4), rel=0.1)
    assert fx.glorot_uniform(1000, 10, fans=(1, 5)).std() == pytest.approx(np.sqrt(2 / 6), rel=0.1)
    given = fx.lecun_normal(fans=(100, 100))
    assert fx.Conv((3,), 80, 80, groups=2, init=given).weight.std() == pytest.approx(0.1, rel=0.1)
    for wrong in (3, (3,)):
        with pytest.raises(ValueError, match=r"fans takes a pair \(fan_in, fan_out\), got"):
            fx.glorot_normal(3, 2, fans=wrong)
    square = fx.Conv((1,), 8, 8, groups=2, init=fx.orthogonal).weight
    for group in (square[0, :, :4], square[0, :, 4:]):
        np.testing.assert_allclose(group.T @ group, np.eye(4), atol=1e-5)


@pytest.mark.parametrize("init", [*RANDOM, fx.uniform, fx.sparse_init(sparsity=0.5)])
def test_random_weights_are_floats(init):
    with pytest.raises(TypeError, match="random weights are floats, such as dtype=float32, got dtype=int32"):
        init(3, 2, dtype=jnp.int32)


def test_shifts_that_make_no_sense():
    for shift in (1.5, (1, 2, 3), "a"):
        with pytest.raises(ValueError, match="identity_init takes as shift an int or one for each of 2 axes, got"):
            fx.identity_init(3, 3, shift=shift)


def test_drawing_under_jit_leaves_the_generator_as_it_was():
    fx.seed(0)
    jax.jit(lambda: fx.Dense(3, 2)(jnp.ones(3)))()
    after = fx.normal(3)
    fx.seed(0)
    fx.Dense(3, 2)
    assert (fx.normal(3) == after).all()

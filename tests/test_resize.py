"""Padding, upsampling, pixel shuffling, sampling and rotation: the catalog's cases, Flux's numbers, edge cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import cases_of, numbers

import fluxion as fx
from fluxion.ops.transposed import linear


@pytest.mark.parametrize("case", cases_of("resize"), ids=str)
def test_case(case):
    case.check()


@pytest.mark.parametrize("case", cases_of("resize"), ids=str)
def test_random_options(case):
    case.check_random()


def image(values):
    """A matrix as a batch of one image with one channel."""
    return jnp.asarray(values)[None, :, :, None]


def matrix(x):
    return np.asarray(x)[0, :, :, 0].tolist()


# ------------------------------------------------------------------ padding

SQUARE = np.arange(1, 10).reshape(3, 3).T


@pytest.mark.parametrize(
    ("pad", "rows"),
    [
        (fx.pad_reflect, [[5, 2, 5, 8], [4, 1, 4, 7], [5, 2, 5, 8], [6, 3, 6, 9]]),
        (fx.pad_symmetric, [[1, 1, 4, 7], [1, 1, 4, 7], [2, 2, 5, 8], [3, 3, 6, 9]]),
        (fx.pad_repeat, [[1, 1, 4, 7], [1, 1, 4, 7], [2, 2, 5, 8], [3, 3, 6, 9]]),
        (fx.pad_circular, [[9, 3, 6, 9], [7, 1, 4, 7], [8, 2, 5, 8], [9, 3, 6, 9]]),
        (fx.pad_zeros, [[0, 0, 0, 0], [0, 1, 4, 7], [0, 2, 5, 8], [0, 3, 6, 9]]),
    ],
)
def test_padding_on_one_side(pad, rows):
    assert matrix(pad(image(SQUARE), (1, 0, 1, 0))) == rows
    assert pad(SQUARE, ((1, 0), (1, 0)), axes=(0, 1)).tolist() == rows
    assert pad(jnp.asarray(SQUARE, jnp.uint8), ((1, 0), (1, 0)), axes=(-1, -2)).dtype == jnp.uint8


def test_axes_that_are_not_named_stay():
    x = jnp.ones((2, 2, 2))
    assert fx.pad_repeat(x, (3, 2, 4, 5), axes=(0, 2)).shape == (7, 2, 11)
    assert fx.pad_constant(x, 1, axes=range(2)).shape == (4, 4, 2)
    assert fx.pad_zeros(jnp.ones((2, 3, 4, 5)), (1, 2)).shape == (2, 5, 8, 5)
    assert fx.pad_zeros(jnp.ones((2, 3, 5)), (1, 2)).shape == (2, 6, 5)


@pytest.mark.parametrize(("pad", "needed"), [(fx.pad_reflect, 4), (fx.pad_symmetric, 3), (fx.pad_circular, 3)])
def test_padding_that_needs_more_than_there_is(pad, needed):
    with pytest.raises(fx.SizeError, match=f"expects at least {needed} entries along axis 1 to pad it by 3"):
        pad(jnp.ones((1, needed - 1, 4, 1)), (3, 0))
    assert pad(jnp.ones((1, needed, 4, 1)), (3, 0)).shape == (1, needed + 6, 4, 1)
    with pytest.raises(fx.SizeError, match="pad_repeat expects entries to repeat"):
        fx.pad_repeat(jnp.ones((1, 0, 1)), 1)


def test_the_value_decides_the_type():
    assert fx.pad_constant([1, 2], 1, axes=0).dtype == jnp.int32
    assert fx.pad_constant([1, 2], 1, 0.5, axes=0).tolist() == [0.5, 1.0, 2.0, 0.5]
    assert fx.pad_constant(jnp.ones(2, jnp.bfloat16), 1, 0.5, axes=0).dtype == jnp.bfloat16


# ------------------------------------------------------------------ upsampling


def test_numbers_of_flux():
    x = image([[1.0, 2.0], [3.0, 4.0]])
    assert matrix(fx.upsample_nearest(x, 3))[0] == [1, 1, 1, 2, 2, 2]
    y = fx.upsample_bilinear(x, (3, 2), align_corners=True)
    np.testing.assert_allclose(np.array(matrix(y))[:, 0], [1, 7 / 5, 9 / 5, 11 / 5, 13 / 5, 3], rtol=1e-6)
    np.testing.assert_allclose(matrix(y)[1], [7 / 5, 26 / 15, 31 / 15, 12 / 5], rtol=1e-6)
    line = jnp.arange(1.0, 5.0).reshape(1, 4, 1)
    for target in ({"scale": 2.5}, {"size": 10}):
        got = fx.upsample_linear(line, **target, align_corners=True).ravel()
        np.testing.assert_allclose(got, np.linspace(1, 4, 10), rtol=1e-6)


def test_gradients_count_how_often_an_entry_is_used():
    _, back = jax.vjp(lambda x: fx.upsample_nearest(x, (2, 3)), image([[1.0, 2.0], [3.0, 4.0]]))
    assert matrix(back(fx.upsample_nearest(image([[1.0, 2.0], [3.0, 4.0]]), (2, 3)))[0]) == [[6, 12], [18, 24]]
    _, back = jax.vjp(lambda x: fx.upsample_trilinear(x, size=8), jnp.ones((1, 4, 4, 4, 1)))
    np.testing.assert_allclose(back(jnp.ones((1, 8, 8, 8, 1)))[0], 8 * np.ones((1, 4, 4, 4, 1)), rtol=1e-6)
    _, back = jax.vjp(lambda x: fx.upsample_nearest(x, 0.5), jnp.ones((1, 4, 1)))
    assert back(jnp.full((1, 2, 1), jnp.inf))[0].ravel().tolist() == [jnp.inf, 0, jnp.inf, 0]


def test_a_scale_is_the_fraction_it_stands_for():
    x = jnp.ones((1, 10, 1))
    for scale, size in ((0.7, 7), (0.1, 1), (1 / 3, 3), (2.9, 29), (np.float32(0.5), 5), (np.int64(2), 20)):
        assert fx.upsample_nearest(x, scale).shape == (1, size, 1)
    assert fx.upsample_nearest(jnp.arange(49).reshape(1, 49, 1), size=7).ravel().tolist() == list(range(0, 49, 7))


def test_nearest_copies_any_type_and_the_others_make_floats():
    x = jnp.array([True, False]).reshape(1, 2, 1)
    assert fx.upsample_nearest(x, 2).ravel().tolist() == [True, True, False, False]
    assert fx.upsample_nearest(jnp.ones((1, 2, 1), jnp.uint8), 2).dtype == jnp.uint8
    assert fx.upsample_linear(jnp.array([[[1], [3]]]), 1.5, align_corners=True).ravel().tolist() == [1.0, 2.0, 3.0]
    z = jnp.array([[[1 + 2j], [3 - 1j]]])
    np.testing.assert_allclose(fx.upsample_linear(z, 2).imag, fx.upsample_linear(z.imag, 2), rtol=1e-6)


def test_a_nan_reaches_its_neighbours_only():
    x = jnp.zeros((1, 8, 8, 1)).at[0, 1, 1, 0].set(jnp.nan)
    assert int(jnp.isnan(fx.upsample_bilinear(x, 2)).sum()) == 16


def test_the_same_size_is_the_same_array():
    x = jnp.asarray(numbers(2, 3, 4, 1), jnp.float32)
    for mode in ("bilinear", "bicubic", "nearest"):
        np.testing.assert_array_equal(fx.Upsample(size=(3, 4), mode=mode)(x), x)


def test_one_entry_to_many():
    x = jnp.asarray(numbers(2, 1, 1, 3), jnp.float32)
    for corners in (False, True):
        np.testing.assert_array_equal(fx.upsample_bilinear(x, size=(3, 2), align_corners=corners)[:, 2, 1], x[:, 0, 0])


def test_printed_as_typed():
    assert repr(fx.Upsample(2, "bilinear", align_corners=True)) == "Upsample(2, 'bilinear', align_corners=True)"
    assert repr(fx.Upsample([2, 1.5])) == "Upsample((2, 1.5))"
    assert repr(fx.Upsample(size=[4, 5], mode="bicubic")) == "Upsample(mode='bicubic', size=(4, 5))"
    assert repr(fx.PixelShuffle(3)) == "PixelShuffle(3)"


def test_real_scales_are_compiled_in_a_model():
    model = fx.Chain(fx.Conv((3, 3), 1, 4, pad=1), fx.Upsample(1.5, "bilinear"), fx.PixelShuffle(2))
    assert fx.outputsize(model, (2, 6, 6, 1)) == (2, 18, 18, 1)
    state = fx.setup(fx.Descent(0.1), model)
    x, y = jnp.ones((2, 6, 6, 1)), jnp.ones((2, 18, 18, 1))
    losses = [float(fx.trainstep(lambda m, x, y: fx.mse(m(x), y), model, (x, y), state)) for _ in range(3)]
    assert losses[2] < losses[0]


def test_linear_functions_with_a_transpose_in_every_mode():
    x = jnp.asarray(numbers(3, 2), jnp.float32)
    repeat, collect = _repeat, _collect

    def f(x):
        return linear(repeat, collect, x, 3)

    np.testing.assert_array_equal(f(x), jnp.repeat(x, 3, axis=-1))
    np.testing.assert_array_equal(jax.vmap(f, in_axes=1, out_axes=1)(x), jnp.repeat(x.T, 3, axis=-1).T)
    np.testing.assert_array_equal(jax.jacfwd(f)(x), jax.jacrev(f)(x))
    np.testing.assert_array_equal(jax.linear_transpose(f, x)(f(x))[0], 3 * x)
    np.testing.assert_array_equal(jax.jit(jax.grad(lambda x: (f(x) ** 2).sum()))(x), 6 * x)
    np.testing.assert_array_equal(jax.grad(lambda x: f(x)[0, 0])(x), jnp.zeros((3, 2)).at[0, 0].set(1))


def _repeat(x, times):
    return jnp.repeat(x, times, axis=-1)


def _collect(y, times):
    return y.reshape(*y.shape[:-1], -1, times).sum(-1)


# ------------------------------------------------------------------ pixel shuffling


def test_pixel_shuffle_of_flux():
    x = jnp.arange(1, 33).reshape(1, 8, 2, 2).transpose(0, 3, 2, 1)  # Flux's reshape(1:32, 2, 2, 8, 1), rows first
    y = fx.pixel_shuffle(x.transpose(0, 2, 1, 3), 2).transpose(0, 2, 1, 3)  # Flux counts its first axis fastest
    assert matrix(y[..., :1]) == [[1, 9, 3, 11], [5, 13, 7, 15], [2, 10, 4, 12], [6, 14, 8, 16]]
    assert matrix(y[..., 1:]) == [[17, 25, 19, 27], [21, 29, 23, 31], [18, 26, 20, 28], [22, 30, 24, 32]]


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_unshuffle_is_the_inverse(spatial):
    x = jnp.arange(2 * 3**spatial * 2 * 2**spatial).reshape(2, *(3,) * spatial, 2 * 2**spatial)
    y = fx.pixel_shuffle(x, 2)
    assert y.shape == (2, *(6,) * spatial, 2)
    np.testing.assert_array_equal(fx.pixel_unshuffle(y, 2), x)


# ------------------------------------------------------------------ sampling


def test_the_identity_grid_reads_the_image():
    x = jnp.asarray(numbers(2, 3, 4, 2), jnp.float32)
    theta = jnp.broadcast_to(jnp.eye(2, 3), (2, 2, 3))
    for corners in (True, False):
        grid = fx.affine_grid(theta, (3, 4), align_corners=corners)
        np.testing.assert_allclose(fx.grid_sample(x, grid, align_corners=corners), x, rtol=1e-5, atol=1e-6)


def test_ones_of_flux():
    corners = jnp.array([[[-1.0, -1.0], [1.0, -1.0]], [[-1.0, 1.0], [1.0, 1.0]]])[None]
    for dtype in ("float16", "float32"):
        x = jnp.ones((1, 2, 2, 1), dtype)
        y, back = jax.vjp(lambda x, grid: fx.grid_sample(x, grid, align_corners=True), x, corners.astype(dtype))
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, x)
        of_x, of_grid = back(x)
        np.testing.assert_array_equal(of_x, x)
        assert of_x.dtype == of_grid.dtype == dtype


@pytest.mark.parametrize("mode", ["zeros", "border", "reflection"])
def test_positions_far_away(mode):
    x, grid = jnp.ones((1, 3, 3, 1)), jnp.array([[[[1e30, 0.0], [-1e30, 1e30]]]])
    y = fx.grid_sample(x, grid, padding_mode=mode)
    np.testing.assert_allclose(y.ravel(), 0 if mode == "zeros" else 1)
    slope = jax.grad(lambda grid: fx.grid_sample(x, grid, padding_mode=mode).sum())(grid)
    assert bool(jnp.isfinite(slope).all())


def test_nearest_keeps_the_type():
    labels = jnp.arange(4).reshape(1, 2, 2, 1)
    assert fx.grid_sample(labels, jnp.zeros((1, 1, 1, 2)), mode="nearest").dtype == labels.dtype
    assert fx.imrotate(labels, 0.1, method="nearest").dtype == labels.dtype
    assert fx.imrotate(labels, 0.1).dtype == jnp.float32


# ------------------------------------------------------------------ rotation


def test_rotation_of_flux():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1, 0].set(1)
    assert np.argwhere(fx.imrotate(x, np.pi / 2)[0, :, :, 0]).tolist() == [[1, 3]]
    np.testing.assert_array_equal(fx.imrotate(x, np.pi / 2, centre=(1, 1)), x)
    x = jnp.zeros((1, 3, 3, 1)).at[0, 0, 1, 0].set(1)
    y = jax.jit(fx.imrotate)(x, np.pi / 4)[0, :, :, 0]
    np.testing.assert_allclose(y, [[0, 0.207107, 0.585786], [0, 0, 0.207107], [0, 0, 0]], atol=1e-6)
    assert np.argwhere(fx.imrotate(x, np.pi / 4, method="nearest")[0, :, :, 0]).tolist() == [[0, 2]]


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_quarter_turns_are_exact(method):
    odd, even = (jnp.asarray(numbers(2, n, n, 3), jnp.float32) for n in (5, 4))
    rotate = jax.jit(fx.imrotate, static_argnames=("method", "centre"))
    for turns in range(-5, 6):
        angle = turns * np.pi / 2
        np.testing.assert_array_equal(rotate(odd, angle, method=method), jnp.rot90(odd, -turns, axes=(1, 2)))
        turned = rotate(even, angle, method=method, centre=(1.5, 1.5))
        np.testing.assert_array_equal(turned, jnp.rot90(even, -turns, axes=(1, 2)))


def test_one_angle_for_each_image():
    x = jnp.asarray(numbers(2, 3, 3, 1), jnp.float32)
    y = fx.imrotate(x, jnp.array([0.3, -1.0]))
    np.testing.assert_allclose(y[0], fx.imrotate(x[:1], 0.3)[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y[1], fx.imrotate(x[1:], -1.0)[0], rtol=1e-5, atol=1e-6)


def test_an_angle_has_a_derivative_where_its_sine_is_zero():
    x = jnp.arange(25.0).reshape(1, 5, 5, 1)

    @jax.jit
    def read(angle):
        return fx.imrotate(x, angle)[0, 1, 1, 0]

    step = 1e-3
    ahead = (read(jnp.pi + step) - read(jnp.pi)) / step
    np.testing.assert_allclose(jax.jit(jax.grad(read))(jnp.pi), ahead, rtol=1e-2)


# ------------------------------------------------------------------ edges


def test_padding_with_a_value_that_the_type_cannot_hold():
    bytes_ = np.array([1], np.uint8)
    assert fx.pad_constant(bytes_, 1, 255, axes=0).tolist() == [255, 1, 255]
    for value in (256, -1):
        with pytest.raises(ValueError, match=f"cannot put {value} into an array of uint8; convert the array first"):
            fx.pad_constant(bytes_, 1, value, axes=0)


def test_the_value_of_a_padding_has_a_derivative():
    f = lambda value: (fx.pad_constant(jnp.ones((1, 2, 3, 1)), 1, value) ** 2).sum()
    assert jax.grad(f)(1.5) == jax.jit(jax.grad(f))(1.5) == 3 * (4 * 5 - 2 * 3)
    assert jax.vmap(lambda value: fx.pad_constant([1.0, 2.0], 1, value, axes=0))(jnp.arange(2.0)).tolist() == [
        [0, 1, 2, 0],
        [1, 1, 2, 1],
    ]


def test_a_scale_that_leaves_nothing():
    for scale in (1e-9, 0.1):
        with pytest.raises(fx.SizeError, match="leaves at least 1"):
            fx.upsample_linear(jnp.ones((1, 4, 1)), scale)
    with pytest.raises(ValueError, match=r"Upsample takes as mode one of .*, got \['nearest'\]"):
        fx.Upsample(2, ["nearest"])


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_sampling_of_nothing_is_nothing(mode):
    x = jnp.ones((2, 3, 3, 1))
    assert fx.grid_sample(x, jnp.zeros((2, 0, 4, 2)), mode=mode).shape == (2, 0, 4, 1)
    assert fx.grid_sample(x[:0], jnp.zeros((0, 1, 4, 2)), mode=mode).shape == (0, 1, 4, 1)
    assert fx.imrotate(x[:, :0], 1.0, method=mode).shape == (2, 0, 3, 1)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_a_position_that_is_nan_reads_no_pixel(padding):
    x, grid = jnp.ones((1, 3, 3, 1)), jnp.full((1, 1, 1, 2), jnp.nan)
    assert bool(jnp.isnan(fx.grid_sample(x, grid, padding_mode=padding)).all())
    assert fx.grid_sample(x, grid, mode="nearest", padding_mode=padding).ravel().tolist() == [0]

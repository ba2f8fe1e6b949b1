"""Short-time Fourier transforms and what is made of them: the catalog's cases, Flux's numbers, round trips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import cases_of, numbers

import fluxion as fx


@pytest.mark.parametrize("case", cases_of("signal"), ids=str)
def test_case(case):
    case.check()


@pytest.mark.parametrize("case", cases_of("signal"), ids=str)
def test_random_options(case):
    case.check_random()


def signal(*shape, seed=0):
    return jnp.asarray(numbers(*shape, seed=seed), jnp.float32)


def there_and_back(x, n_fft, length=None, return_complex=False, **options):
    """The inverse transform of the transform, in one program."""
    inverse = {"length": length, "return_complex": return_complex, **options}
    return jax.jit(lambda x: fx.istft(fx.stft(x, n_fft, **options), n_fft, **inverse))(x)


# ------------------------------------------------------------------ windows


@pytest.mark.parametrize("window", [fx.hann_window, fx.hamming_window])
def test_a_periodic_window_is_a_longer_symmetric_one(window):
    np.testing.assert_allclose(window(10), window(11, periodic=False)[:10], atol=1e-6)
    symmetric = window(10, periodic=False)
    np.testing.assert_allclose(symmetric, symmetric[::-1], atol=1e-6)
    assert window(1).tolist() == window(1, periodic=False).tolist() == [1.0]
    assert window(4).dtype == jnp.float32


def test_hann_is_a_hamming_window():
    np.testing.assert_allclose(fx.hann_window(7), fx.hamming_window(7, alpha=0.5, beta=0.5))


# ------------------------------------------------------------------ transforms


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_ones_of_flux(batch):
    x = jnp.ones((*batch, 16))
    y = fx.stft(x, 16)
    assert y.shape == (*batch, 5, 9)
    assert y.dtype == jnp.complex64
    np.testing.assert_allclose(y[..., 0].real, 16, rtol=1e-6)
    np.testing.assert_allclose(y[..., 1:], 0, atol=1e-5)
    np.testing.assert_allclose(fx.istft(y, 16), x, rtol=1e-5)


@pytest.mark.parametrize("hop", [32, 33, 255, 256, 511, 512])
def test_round_trip_of_many_hops(hop):
    x = signal(1234)
    np.testing.assert_allclose(there_and_back(x, 512, 1234, hop=hop), x, atol=1e-5)


@pytest.mark.parametrize("n_fft", [32, 33, 64, 65, 129, 512, 1, 2, 3])
def test_round_trip_of_many_sizes(n_fft):
    x = signal(2, 600)
    np.testing.assert_allclose(there_and_back(x, n_fft, 600), x, atol=1e-5)


@pytest.mark.parametrize("window", [fx.hann_window(64), fx.hamming_window(50), None])
@pytest.mark.parametrize("normalised", [True, False])
def test_round_trip_with_a_window(window, normalised):
    x = signal(333)
    options = {"window": window, "normalised": normalised, "hop": 16}
    np.testing.assert_allclose(there_and_back(x, 64, 333, **options), x, atol=1e-5)


def test_without_a_length_what_the_frames_are_sure_to_cover():
    x = signal(1111)
    got = there_and_back(x, 256)
    assert got.shape == (1088,)
    np.testing.assert_allclose(got, x[:1088], atol=1e-5)


def test_round_trip_of_a_complex_signal():
    x = signal(100) + 1j * signal(100, seed=1)
    assert fx.stft(x, 16).shape == (26, 16)
    np.testing.assert_allclose(there_and_back(x, 16, 100, return_complex=True), x, atol=1e-5)


def test_a_window_that_is_not_known_yet_leaves_zeros():
    window = fx.hann_window(8)
    x = signal(24)
    inverse = jax.jit(lambda y, w: fx.istft(y, 8, window=w, centre=False))
    got = inverse(fx.stft(x, 8, window=window, centre=False), window)
    np.testing.assert_allclose(got[1:], x[1:], atol=1e-5)
    assert got[0] == 0
    slope = jax.grad(lambda w: inverse(fx.stft(x, 8, centre=False), w).sum())(window)
    assert bool(jnp.isfinite(slope).all())


def test_a_known_window_is_checked_in_compiled_code_too():
    for window in (jnp.zeros(8), np.zeros(8), [0.0] * 8):
        with pytest.raises(ValueError, match="istft needs windows that cover every sample"):
            jax.jit(lambda y, window=window: fx.istft(y, 8, window=window))(jnp.ones((3, 5)))


# ------------------------------------------------------------------ spectrograms


def test_silence_has_gradients():
    x = jnp.zeros(20)
    for power in (2.0, 1.0, 0.5):
        slope = jax.grad(lambda x, power=power: fx.spectrogram(x, 8, power=power).sum())
        first, second = jax.jit(lambda x, slope=slope: jax.jvp(slope, (x,), (x + 1,)))(x)
        np.testing.assert_array_equal(first, 0)
        assert bool(jnp.isfinite(second).all())
        assert bool((second > 0).any()) == (power == 2)
    assert bool(jnp.isfinite(jax.jit(jax.grad(lambda x: jnp.abs(fx.stft(x, 8)).sum()))(x)).all())


def test_power_none_is_the_transform():
    x, window = signal(3, 64), fx.hann_window(16)
    y = fx.stft(x, 16, window=window)
    np.testing.assert_array_equal(fx.spectrogram(x, 16, power=None), y)
    np.testing.assert_allclose(fx.spectrogram(x, 16), jnp.abs(y) ** 2, rtol=1e-4)


def test_filters_between_all_frequencies_are_named():
    with pytest.warns(fx.FluxionWarning, match="mel filters fall between all 9 frequencies; take fewer n_mels"):
        fx.melscale_filterbanks(9, 40, 16000)


def test_decibels_and_back():
    s = fx.spectrogram(signal(2, 200), 32)
    np.testing.assert_allclose(fx.db_to_power(fx.power_to_db(s, top_db=None)), s, rtol=1e-4)
    np.testing.assert_allclose(fx.db_to_power(fx.power_to_db(s, ref=3.0), ref=3.0), s, rtol=1e-4, atol=1e-6)
    assert fx.power_to_db([0.0, 1.0], top_db=20.0).tolist() == [-20.0, 0.0]
    assert fx.power_to_db(jnp.array([0.0, 1.0], jnp.float16)).tolist() == [-80.0, 0.0]


def test_decibels_of_nothing():
    assert fx.power_to_db(jnp.zeros((0, 3))).shape == (0, 3)

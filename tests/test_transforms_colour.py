"""Transforms of colours, levels and neighbourhoods beside Pillow, SciPy and formulas; mixtures and policies."""

import colorsys
import io

import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps
import pytest
import scipy.ndimage
import scipy.stats

from fluxion.data import transforms as tf
from fluxion.data.keys import sample_keys
from fluxion.data.transforms.filters import normals
from fluxion.data.transforms.mixing import _quantiles

KEYS = sample_keys(2, 0, range(8))
GREY = np.array([0.2989, 0.587, 0.114], np.float32)


def images(count=8, height=20, width=27, channels=3, seed=0):
    """Smooth, so that neighbours are alike, with the whole range of colours."""
    noise = np.random.default_rng(seed).random((count, height, width, channels))
    smooth = scipy.ndimage.gaussian_filter(noise, (0, 2, 2, 0))
    low, high = smooth.min(), smooth.max()
    return ((smooth - low) / (high - low)).astype(np.float32)


def photos():
    return (images() * 255).round().astype(np.uint8)


def by_pillow(function, x):
    return np.stack([np.asarray(function(PIL.Image.fromarray(image))) for image in x])


def close(actual, expected, levels=1, but=0.0):
    """Equal within some levels, but for a share of the numbers."""
    assert (np.abs(actual.astype(int) - expected.astype(int)) > levels).mean() <= but


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
def test_tones_are_those_of_pillow(factor):
    x = photos()
    enhance = lambda kind: by_pillow(lambda image: kind(image).enhance(factor), x)
    close(tf.Brightness((factor, factor))(x), enhance(PIL.ImageEnhance.Brightness))
    close(tf.Contrast((factor, factor))(x), enhance(PIL.ImageEnhance.Contrast), levels=2)
    close(tf.Saturation((factor, factor))(x), enhance(PIL.ImageEnhance.Color), levels=2)
    close(tf.Sharpen(factor)(x), enhance(PIL.ImageEnhance.Sharpness), levels=2)


def test_levels_are_those_of_pillow():
    x = photos()
    for bits in (1, 3, 8):
        close(tf.Posterise(bits)(x), by_pillow(lambda image, b=bits: PIL.ImageOps.posterize(image, b), x), levels=0)
    close(tf.Solarise(128 / 255)(x), by_pillow(lambda image: PIL.ImageOps.solarize(image, 128), x), levels=0)
    close(tf.Equalise()(x), by_pillow(PIL.ImageOps.equalize, x), levels=0)
    close(tf.AutoContrast()(x // 2 + 20), by_pillow(PIL.ImageOps.autocontrast, x // 2 + 20))
    close(tf.Invert()(x), by_pillow(PIL.ImageOps.invert, x), levels=0)
    close(tf.Greyscale()(x)[..., 0], by_pillow(PIL.ImageOps.grayscale, x))
    flat = np.full((1, 5, 5, 3), 77, np.uint8)
    assert (tf.Equalise()(flat) == flat).all() and (tf.AutoContrast()(flat) == flat).all()


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_quantise_is_jpeg(quality):
    def jpeg(image):
        file = io.BytesIO()
        image.save(file, "jpeg", quality=quality, subsampling=0)
        return PIL.Image.open(file)

    x = photos()
    close(tf.Quantise(quality)(x), by_pillow(jpeg, x), levels=3, but=0.03)
    grey = x[..., 0]
    close(tf.Quantise(quality)(grey[..., None])[..., 0], by_pillow(jpeg, grey), levels=2, but=0.03)


def test_hue_turns_the_colour_circle():
    x = images(2, 5, 6)
    for turns in (-0.5, -0.1, 0.0, 0.25, 0.5):
        expected = np.empty_like(x)
        for place in np.ndindex(x.shape[:3]):
            h, s, v = colorsys.rgb_to_hsv(*x[place].tolist())
            expected[place] = colorsys.hsv_to_rgb((h + turns) % 1, s, v)
        np.testing.assert_allclose(tf.Hue((turns, turns))(x), expected, atol=1e-5)
    grey = np.full((1, 2, 2, 3), 0.3, np.float32)
    np.testing.assert_array_equal(tf.Hue(0.5)(grey), grey)


def test_jitter_is_its_stages_in_order_with_factors_from_their_ranges():
    x = images(200, 4, 4)
    keys = sample_keys(0, 0, range(200))
    one = tf.ColorJitter((0.7, 0.7), (1.3, 1.3), (0.5, 0.5), (0.2, 0.2))(x)
    apart = tf.Hue((0.2, 0.2))(tf.Saturation((0.5, 0.5))(tf.Contrast((1.3, 1.3))(tf.Brightness((0.7, 0.7))(x))))
    np.testing.assert_allclose(one, apart, atol=1e-6)
    factors = tf.ColorJitter(0.4)(np.full((200, 1, 1, 3), 0.5), keys=keys)[:, 0, 0, 0] * 2
    assert 0.6 <= factors.min() < 0.62 and 1.38 < factors.max() <= 1.4 and abs(factors.mean() - 1) < 0.05
    dark = tf.Brightness(3)(np.full((200, 1, 1, 1), 0.5), keys=keys)
    assert dark.min() >= 0 and dark.max() == 1.0


def test_contrast_of_grey_and_many_channels():
    for channels in (1, 2, 5):
        x = images(2, channels=channels)
        mean = x.mean(axis=(1, 2, 3), keepdims=True)
        np.testing.assert_allclose(tf.Contrast((0.5, 0.5))(x), mean + (x - mean) / 2, atol=1e-6)


def test_blur_is_that_of_scipy():
    x = images(2)
    expected = scipy.ndimage.gaussian_filter(x, (0, 1.3, 1.3, 0), mode="mirror", radius=(0, 4, 4, 0))
    np.testing.assert_allclose(tf.GaussianBlur(1.3)(x), expected, atol=1e-5)
    expected = scipy.ndimage.gaussian_filter(x, (0, 1.3, 1.3, 0), mode="mirror", radius=(0, 2, 2, 0))
    np.testing.assert_allclose(tf.GaussianBlur(1.3, radius=2)(x), expected, atol=1e-5)


def test_gamma_normalise_and_floats_by_their_formulas():
    x = images()
    np.testing.assert_allclose(tf.Gamma(2.2)(x), x**2.2, atol=1e-6)
    mean, std = np.float32([0.1, 0.2, 0.3]), np.float32([0.5, 0.6, 0.7])
    np.testing.assert_allclose(tf.Normalize(mean, std)(x), (x - mean) / std, atol=1e-6)
    np.testing.assert_allclose((tf.ToFloat() | tf.Normalize(0.5, 2))(photos()), (photos() / 255 - 0.5) / 2, atol=1e-6)


def test_noise_is_normal_and_new_for_each_number():
    numbers = normals(KEYS, 10_001)
    assert numbers.shape == (8, 10_001)
    assert scipy.stats.kstest(numbers.ravel(), "norm").statistic < 0.01
    assert np.abs(np.corrcoef(numbers) - np.eye(8)).max() < 0.05
    noisy = tf.GaussianNoise(0.05)(np.full((8, 40, 40, 3), 0.5, np.float32), keys=KEYS)
    assert np.allclose(noisy.std(axis=(1, 2, 3)), 0.05, rtol=0.1) and abs(noisy.mean() - 0.5) < 0.002


def test_erase_paints_rectangles_of_its_areas():
    keys = sample_keys(0, 0, range(300))
    x = np.ones((300, 40, 50, 2), np.float32)
    hidden = tf.Erase(0.5, value=0.25)(x, keys=keys) == 0.25
    assert (hidden[..., 0] == hidden[..., 1]).all()
    some = hidden.any(axis=(1, 2, 3))
    assert abs(some.mean() - 0.5) < 0.1
    for one in hidden[some][..., 0]:
        rows, columns = np.flatnonzero(one.any(axis=1)), np.flatnonzero(one.any(axis=0))
        assert one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert 0.015 < one.mean() < 0.35
    assert tf.Cutout is tf.Erase


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 4.0])
def test_shares_of_mixtures_have_a_beta_distribution(alpha):
    below, points = _quantiles(alpha)
    wanted = np.linspace(0.001, 0.999, 99)
    found = np.interp(wanted, below, points)
    np.testing.assert_allclose(found, scipy.stats.beta(alpha, alpha).ppf(wanted), atol=2e-3)


def test_cutmix_pastes_a_rectangle_and_counts_it():
    x = np.broadcast_to(np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1) / 8, (8, 30, 40, 1))
    mask = np.broadcast_to(np.arange(8).reshape(8, 1, 1), (8, 30, 40))
    image, mask, labels = tf.CutMix(classes=8)(x, mask, labels=np.arange(8), keys=KEYS)
    for i in range(8):
        own = image[i, ..., 0] == x[i, 0, 0, 0]
        assert (image[i, ..., 0][~own] == x[i - 1, 0, 0, 0]).all() and (mask[i] == np.where(own, i, (i - 1) % 8)).all()
        assert np.isclose(labels[i, i], own.mean(), atol=1e-6) and np.isclose(
            labels[i, i - 1], (~own).mean(), atol=1e-6
        )
    assert 0.1 < np.diag(labels).mean() < 0.9


def test_policies_change_images_in_many_ways():
    x = np.broadcast_to(images(1), (64, 20, 27, 3))
    keys = sample_keys(0, 0, range(64))
    for policy in (tf.RandAugment(), tf.TrivialAugment(), tf.AugMix()):
        result = policy(x, keys=keys)
        assert len({image.tobytes() for image in result}) > 20
        assert result.min() >= 0 and result.max() <= 1
        assert policy(photos()[..., :1], keys=KEYS).shape == (8, 20, 27, 1)
    same = (tf.TrivialAugment()(x, keys=sample_keys(1, 0, range(64))) == x).all(axis=(1, 2, 3)).mean()
    assert 0.02 < same < 0.3  # the identity is one of 14


def test_rand_augment_has_one_strength_with_both_signs():
    from fluxion.data.transforms.policies import _rand_augment

    turn = next(part for part in _rand_augment(0.5, 0.0, True).parts if isinstance(part, tf.Rotate))
    points = np.float32([[[20, 10]]]).repeat(64, axis=0)
    _, moved = turn(np.zeros((64, 20, 20, 1)), keypoints=points, keys=sample_keys(0, 0, range(64)))
    angles = np.rad2deg(np.arctan2(10 - moved[:, 0, 1], moved[:, 0, 0] - 10)).round(3)
    assert set(angles.tolist()) == {-15.0, 15.0}


def test_at_no_strength_nothing_is_moved():
    x = photos()
    mask, boxes = np.zeros((8, 20, 27), int), np.zeros((8, 1, 4))
    result, moved, _ = tf.RandAugment(1, 0)(x, mask, boxes, keys=KEYS)
    assert moved.shape == mask.shape
    equal = np.abs(result.astype(int) - x).max(axis=(1, 2, 3)) <= 1
    assert equal.mean() > 0.4  # all but solarised, stretched and equalised ones


def test_augmix_mixes_the_image_with_its_chains():
    x = images(64, 8, 8)
    mixed = tf.AugMix(severity=1)(x, keys=sample_keys(0, 0, range(64)))
    assert 0.001 < np.abs(mixed - x).mean() < 0.2
    assert np.abs(tf.AugMix(severity=10)(x, keys=sample_keys(0, 0, range(64))) - x).mean() > np.abs(mixed - x).mean()

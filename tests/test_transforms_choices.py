"""Transforms that choose a part for each sample: one by one, all at once, and by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_transforms import KEYS, images, made, same

import fluxion as fx
from fluxion.data import transforms as tf
from fluxion.data.keys import sample_keys
from fluxion.data.transforms import Brightness, FlipX, FlipY, Invert, Maybe, OneOf, Rotate, Translate, Zoom


@pytest.mark.parametrize("text", ["OneOf([FlipX(), Rotate(0, 20), Invert(), Equalise()])", "RandAugment()", "AugMix()"])
def test_one_by_one_equals_all_at_once(text):
    transform, x = made(text), jnp.asarray(images())
    ours = transform(x, keys=KEYS)
    with fx.kernels.use("xla"):
        same(ours, transform(x, keys=KEYS), text)


def test_choices_move_what_belongs_to_images():
    x, mask = images(), np.random.default_rng(1).integers(0, 3, (6, 11, 13, 2))
    boxes = np.broadcast_to(np.float32([[1, 2, 1, 2], [0, 0, 13, 11]]), (6, 2, 4))  # the first has no area
    transform = OneOf([FlipX(), Rotate(-20, 20) | Invert(), Invert(), Zoom(0.5, 2)])
    host = transform(x, mask, boxes, boxes[..., :2], keys=KEYS)
    for ours, expected in zip(transform(jnp.asarray(x), mask, boxes, boxes[..., :2], keys=KEYS), host, strict=True):
        assert (np.abs(np.asarray(ours) - expected) > 1e-3).mean() < 0.01 and ours.shape == expected.shape
    gradient = jax.grad(lambda x: (transform(x, mask, keys=KEYS)[0] * x).sum())(jnp.asarray(x))
    assert np.isfinite(gradient).all() and (gradient != 0).any()


def test_only_the_chosen_part_runs():
    program = jax.jit(lambda x: OneOf([Invert(), tf.Equalise()])(x, keys=KEYS)).lower(jnp.asarray(images()))
    assert "stablehlo.case" in program.as_text()
    with fx.kernels.use("xla"):
        program = jax.jit(lambda x: OneOf([Invert(), tf.Equalise()])(x, keys=KEYS)).lower(jnp.asarray(images()))
    assert "stablehlo.case" not in program.as_text()


@pytest.mark.parametrize("text", ["Rotate(-30, 30)", "RandAugment()", "Equalise()", "AutoContrast()", "AugMix()"])
def test_what_is_no_number_in_one_image_stays_there(text):
    transform, x = made(text), images()
    broken = x.copy()
    broken[0, 3, 3], broken[1] = np.nan, np.inf
    same(transform(broken, keys=KEYS)[2:], transform(x, keys=KEYS)[2:])


def test_one_of_draws_by_the_weights():
    x, keys = np.zeros((4000, 1, 1, 1), np.float32), sample_keys(0, 0, range(4000))
    levels = [Brightness((1, 1)) | Invert(), Translate(2, pixels=True, fill=0.5), tf.Identity()]
    result = OneOf(levels, weights=[1, 2, 5])(x, keys=keys).ravel()
    shares = [(result == value).mean() for value in (1.0, 0.5, 0.0)]
    assert np.allclose(shares, [1 / 8, 2 / 8, 5 / 8], atol=0.03)
    assert abs(Maybe(Invert(), 0.2)(x, keys=keys).mean() - 0.2) < 0.03
    assert (Maybe(Invert(), 0.0)(x, keys=keys) == 0).all() and (Maybe(Invert(), 1.0)(x, keys=keys) == 1).all()
    assert tf.Either is OneOf


def test_a_choice_of_moves_is_one_move():
    assert (Maybe(Rotate(10), 0.5) | OneOf([FlipX(), FlipY()])).is_geometric
    assert not Maybe(Rotate(10) | Invert(), 0.5).is_geometric
    assert not OneOf([Rotate(10), Rotate(10, border="edge")]).is_geometric

"""All transforms: by NumPy and compiled, one sample or many, integers, combinations, keys, errors."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.data import transforms as tf
from fluxion.data.keys import fold, sample_keys, uniforms
from fluxion.data.transforms import (
    Brightness,
    Compose,
    FlipX,
    Hue,
    Invert,
    MixUp,
    Normalize,
    OneOf,
    RandomCrop,
    Resize,
    Rotate,
    Rotate90,
    ToFloat,
    Translate,
    Zoom,
)
from fluxion.random import Generator

GEOMETRIC = [
    "Identity()",
    "FlipX(0.5)",
    "FlipY(0.5)",
    "Rotate90()",
    "Rotate90(-2)",
    "Rotate(-30, 30)",
    "Rotate(10, 20, method='nearest', border='edge')",
    "ShearX(-20, 20, border='reflect')",
    "ShearY(5)",
    "Zoom(0.5, 2, fill=0.5)",
    "Translate(0.25, (-0.5, 0.5), fill=(0.1, 0.2, 0.3))",
    "Translate(3, pixels=True)",
    "Perspective(0.4)",
    "Perspective(0.4, border='reflect')",
    "Crop((5, 6), 1, 2)",
    "CenterCrop(7)",
    "RandomCrop((6, 5))",
    "PadTo((20, 12), fill=1.0)",
    "Resize((5, 20))",
    "Resize(7, method='nearest')",
    "Resize((5, 20), antialias=True)",
    "Scale(0.5, 1.5)",
    "RandomResizedCrop(8)",
    "ElasticDistortion(10.0, 2.0)",
]
COLOUR = [
    "Brightness(0.4)",
    "Contrast(0.4)",
    "Saturation((0.5, 2.0))",
    "Hue(0.3)",
    "ColorJitter(0.4, 0.4, 0.4, 0.1)",
    "ColorJitter(contrast=0.4, hue=(0.1, 0.2))",
    "ColorJitter()",
    "Greyscale(0.5)",
    "Invert(0.5)",
    "Gamma(0.5, 2)",
    "Posterise(1, 8)",
    "Solarise(0, 1)",
    "Equalise()",
    "AutoContrast()",
    "GaussianBlur(0.1, 2)",
    "GaussianBlur(1.5, radius=2)",
    "Sharpen(0, 3)",
    "GaussianNoise(0, 0.2)",
    "Erase(0.9)",
    "Quantise(10, 90)",
    "Normalize((0.1, 0.2, 0.3), 0.5)",
    "ToFloat()",
]
COMBINED = [
    "FlipX(0.5) | Rotate(0, 20) | RandomCrop(6) | ColorJitter(0.4, 0.4, 0.4, 0.1)",
    "OneOf([FlipX(), Rotate(0, 20), Invert(), FlipY() | Brightness(0.2)])",
    "OneOf([FlipX(), Rotate(0, 20)], (1, 3))",
    "OneOf([RandomCrop(6), Resize(6) | Invert()])",
    "Maybe(Rotate(-10, 10) | Invert(), 0.5)",
    "Maybe(Rotate(-10, 10), 0.5) | Zoom(0.9, 1.1) | Maybe(Equalise(), 0.3)",
    "RandAugment(1)",
    "TrivialAugment()",
    "AugMix(5, 2, 2)",
]
MIXING = ["MixUp(0.3, 5)", "CutMix(classes=5)", "OneOf([MixUp(classes=5), CutMix(0.5, 5, 0.5)])"]
# JPEG and Equalise round in the middle: a number near a half may go either way, and then a whole level or more
COARSE = ("Quantise", "Equalise", "Posterise", "Solarise", "nearest", "Augment", "AugMix")
KEYS = sample_keys(0, 0, range(6))


def images(count=6, height=11, width=13, channels=3, seed=0):
    return np.random.default_rng(seed).random((count, height, width, channels), dtype=np.float32)


def made(text):
    return eval(text, vars(tf))


def same(actual, expected, text=""):
    """Equal to rounding; of coarse transforms, but for a few numbers."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    apart = np.abs(actual.astype(float) - expected.astype(float)) > 1e-4
    assert apart.mean() <= (0.1 if any(word in text for word in COARSE) else 0.0)


@pytest.mark.parametrize("text", [*GEOMETRIC, *COLOUR, *COMBINED, *MIXING])
def test_prints_as_typed_and_equals_its_like(text):
    assert repr(made(text)) == text
    assert made(text) == made(text) and hash(made(text)) == hash(made(text))


@pytest.mark.parametrize("text", [*GEOMETRIC, *COLOUR, *COMBINED])
def test_host_equals_device_and_does_not_depend_on_the_batch(text):
    transform, x = made(text), images()
    host, device = transform(x, keys=KEYS), transform(jnp.asarray(x), keys=jnp.asarray(KEYS))
    assert type(host) is np.ndarray and isinstance(device, jax.Array) and host.dtype == np.float32
    same(device, host, text)
    same(transform(x[[4, 2]], keys=KEYS[[4, 2]]), host[[4, 2]])
    same(transform(x[5], keys=KEYS[5]), host[5])
    assert host.shape == (6, *transform.size_after((11, 13)), 3)


@pytest.mark.parametrize("text", [*GEOMETRIC, *COLOUR, *COMBINED])
def test_bytes_are_computed_as_floats_and_rounded(text):
    transform, x = made(text), (images() * 255).round().astype(np.uint8)
    result, floats = transform(x, keys=KEYS), transform(x / np.float32(255), keys=KEYS)
    if transform.makes_floats:
        same(result, floats)
    else:
        assert result.dtype == np.uint8
        assert np.abs(result - floats.clip(0, 1) * 255).max() <= 0.501
        wide = transform((x.astype(np.uint16) * 257), keys=KEYS)
        assert wide.dtype == np.uint16 and np.abs(wide / 257 - result).max() < 0.51


@pytest.mark.parametrize("text", MIXING)
def test_mixtures_by_host_and_device(text):
    transform, x, y = made(text), images(), np.array([0, 1, 2, 3, 4, 0])
    host = transform(x, labels=y, keys=KEYS)
    device = transform(jnp.asarray(x), labels=jnp.asarray(y), keys=KEYS)
    for a, b in zip(device, host, strict=True):
        same(a, b)
    assert host[1].shape == (6, 5) and np.allclose(host[1].sum(axis=1), 1)


@pytest.mark.parametrize(
    "text", ["Rotate(-30, 30)", "Perspective(0.4)", "ColorJitter(0.4, 0.4, 0.4, 0.1)", "Zoom(0.5, 2)"]
)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 17, 40])
def test_kernels_compute_what_xla_computes(text, channels):
    if "Color" in text and channels != 3:
        text = "ColorJitter(0.4, 0.4)"
    transform, x = made(text), jnp.asarray(images(3, 19, 37, channels))
    ours = transform(x, keys=KEYS[:3])
    with fx.kernels.use("xla"):
        same(ours, transform(x, keys=KEYS[:3]))


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (2, 2), (3, 16), (4, 17), (33, 2)])
@pytest.mark.parametrize("border", ["fill", "edge", "reflect"])
@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_kernels_at_odd_sizes(size, border, method):
    transform, x = Rotate(-90, 90, border=border, method=method, fill=0.3), images(2, *size)
    for t in (transform, transform | Resize((5, 18)), Brightness(0.3) | tf.Contrast(0.5) | Hue(0.5)):
        same(t(jnp.asarray(x), keys=KEYS[:2]), t(x, keys=KEYS[:2]), method)


def test_an_empty_batch_stays_empty():
    empty = np.zeros((0, 8, 8, 3), np.float32)
    for x in (empty, jnp.asarray(empty)):
        for transform in (Rotate(10) | RandomCrop(4) | Brightness(0.2), OneOf([RandomCrop(4), Resize(4) | Invert()])):
            assert transform(x).shape == (0, 4, 4, 3)


def test_numbers_of_numpy_are_numbers():
    assert Rotate(np.float32(5), np.int64(6)) == Rotate(5, 6)
    assert Rotate90(np.int64(1)) == Rotate90(1) and tf.Scale(np.float32(0.5)) == tf.Scale(0.5)
    assert Resize(np.int64(5))(images()).shape == Resize([np.int64(5), 5])(images()).shape == (6, 5, 5, 3)


# ---- keys and generators


def test_the_same_key_gives_the_same_and_others_others():
    x = np.broadcast_to(images(1), (6, 11, 13, 3))
    result = Rotate(-90, 90)(x, keys=KEYS)
    assert len({image.tobytes() for image in result}) == 6
    assert (Rotate(-90, 90)(x, keys=KEYS) == result).all()


def test_folded_keys_are_new_keys_on_host_and_device():
    keys = sample_keys(0, 0, range(500))
    all_keys = np.concatenate([keys, *(fold(keys, i) for i in range(8))])
    assert len(np.unique(all_keys, axis=0)) == len(all_keys)
    assert (np.asarray(fold(jnp.asarray(keys), 3)) == fold(keys, 3)).all()
    numbers = np.concatenate([uniforms(fold(keys, i), 3) for i in range(8)], axis=1)
    assert np.abs(np.corrcoef(numbers.T) - np.eye(24)).max() < 0.2


def test_without_keys_the_generator_draws_them():
    x, transform = images(), FlipX(0.5) | Rotate(-90, 90)
    fx.seed(3)
    first, second = transform(x), transform(x)
    fx.seed(3)
    assert (transform(x) == first).all() and (first != second).any()
    rng = Generator(7)
    drawn = transform(x, rng=rng)
    assert (drawn != transform(x, rng=rng)).any() and (drawn == transform(x, rng=Generator(7))).all()
    same(transform(jnp.asarray(x), rng=Generator(7)), drawn)


def test_equal_transforms_share_a_program():
    from fluxion.data.transforms.base import _compiled

    x = jnp.asarray(images(2, 5, 9))
    Rotate(0, 33)(x, keys=KEYS[:2])
    before = _compiled._cache_size()
    Rotate(0, 33)(x, keys=KEYS[:2])
    assert _compiled._cache_size() == before


def test_trains_with_new_numbers_in_every_step():
    augment = FlipX(0.5) | Translate((-0.5, 0.5)) | Brightness(0.5)

    class Model:
        def __init__(self):
            self.weight, self.seen = jnp.zeros(()), jnp.asarray(images())

        def __call__(self, x):
            self.seen = augment(x)
            return self.seen.mean() * self.weight

    x, model = jnp.asarray(images()), Model()
    opt, seen = fx.setup(fx.Descent(0.1), model), set()
    for _ in range(4):
        fx.train(lambda m, x: (m(x) - 1) ** 2, model, [(x,)], opt)
        seen.add(np.asarray(model.seen).tobytes())
    assert len(seen) == 4 and float(model.weight) > 0


def test_a_member_of_a_model_keeps_its_settings():
    model = fx.Chain(Rotate(-10, 10) | Brightness(0.2), fx.flatten, fx.Dense(4 * 4 * 3, 2))
    opt = fx.setup(fx.Adam(0.01), model)
    before = repr(model.layers[0])
    fx.train(lambda m, x: (m(x) ** 2).sum(), model, [(jnp.asarray(images(6, 4, 4)),)] * 3, opt)
    assert repr(model.layers[0]) == before == "Rotate(-10, 10) | Brightness(0.2)"


def test_another_transform_under_the_same_name_takes_effect():
    x, weight = jnp.asarray(images()), jnp.ones(())
    found = []
    for level in (0.25, 0.5):
        augment = FlipX(0.5) | Brightness((level, level))
        found.append(float(fx.withgradient(lambda w, t=augment: (t(x) * w).mean(), weight)[0]))
    np.testing.assert_allclose(found, [0.25 * x.mean(), 0.5 * x.mean()], rtol=1e-5)


def test_gradients_flow_to_the_image():
    x = jnp.asarray(images(2, 6, 7))
    transform = Rotate(15, border="edge") | Brightness((0.5, 0.5))
    loss = lambda x: (transform(x, keys=KEYS[:2]) ** 2).sum()
    (g,) = fx.gradient(loss, x)
    direction = jnp.asarray(images(2, 6, 7, seed=1))
    numeric = (loss(x + 1e-2 * direction) - loss(x - 1e-2 * direction)) / 2e-2
    assert np.allclose((g * direction).sum(), numeric, rtol=1e-2)


def test_under_jit_and_vmap_of_the_users():
    x = jnp.asarray(images())
    transform = Rotate(-30, 30) | Brightness(0.2)
    expected = transform(x, keys=KEYS)
    same(jax.jit(lambda x, keys: transform(x, keys=keys))(x, KEYS), expected)
    same(jax.vmap(lambda x, key: transform(x, keys=key))(x, jnp.asarray(KEYS)), expected)


# ---- combinations


def test_composed_equals_sequential():
    x = images()
    steps = [FlipX(0.5), Brightness(0.3), Rotate90(), Invert(0.5), RandomCrop(7), Hue(0.2)]
    expected = x
    for i, step in enumerate(steps):
        expected = step(expected, keys=fold(KEYS, i))
    same(Compose(steps)(x, keys=KEYS), expected)
    same((Compose(steps[:2]) | Compose(steps[2:]))(x, keys=KEYS), expected)
    same((steps[0] | steps[1:])(x, keys=KEYS), expected)
    same((steps[:5] | steps[5])(x, keys=KEYS), expected)


def test_moves_in_a_row_are_resampled_once():
    x = images(1, 40, 40)
    there_and_back = (Rotate(30) | Rotate(-30) | Translate(0.5) | Translate(-0.5) | Zoom(2) | Zoom(0.5))(x)
    assert np.abs(there_and_back - x)[:, 1:-1, 1:-1].max() < 1e-3
    apart = Rotate(-30, border="edge")(Rotate(30)(x))
    same((Rotate(30) | Rotate(-30, border="edge"))(x), apart)
    assert np.abs(apart - x).max() > 0.1


def test_a_transform_of_ones_own():
    @dataclasses.dataclass(frozen=True, repr=False)
    class Darken(tf.Transform):
        by: float

        def apply(self, fields, keys):
            factor = 1 - self.by * uniforms(keys, 1)[:, 0]
            return {**fields, "image": fields["image"] * factor[:, None, None, None]}

    x = images()
    transform = FlipX() | Darken(0.5)
    assert repr(transform) == "FlipX() | Darken(0.5)"
    same(transform(jnp.asarray(x), keys=KEYS), transform(x, keys=KEYS))
    with pytest.raises(NotImplementedError, match=r"Transform defines no apply\(fields, keys\)"):
        tf.Transform()(x)


# ---- batches of loaders


def test_batches_of_every_form():
    x, y = images(), np.arange(6)
    flipped = x[:, :, ::-1]
    same(FlipX().batch(x, KEYS), flipped)
    image, label = FlipX().batch((x, y), KEYS)
    same(image, flipped)
    assert label is y
    image, text, more = FlipX().batch((x, list("abcdef"), {"k": 1}))
    same(image, flipped)
    assert text == list("abcdef") and more == {"k": 1}
    boxes = np.broadcast_to(np.float32([1, 2, 3, 4]), (6, 1, 4))
    result = FlipX().batch({"id": y, "image": x, "boxes": boxes, "label": y})
    assert list(result) == ["id", "image", "boxes", "label"] and result["label"] is y
    assert result["boxes"][0, 0].tolist() == [10, 2, 12, 4]
    points, image = FlipX().on("keypoints", "image").batch((boxes[..., :2], x))
    same(image, flipped)
    assert points[0, 0].tolist() == [12, 2]


@pytest.mark.parametrize("device", ["host", None])
def test_a_loader_transforms_its_batches(device):
    x, y = (images() * 255).astype(np.uint8), np.arange(6)
    augment = FlipX(0.5) | Rotate(-20, 20) | Brightness(0.3)
    load = lambda size: list(fx.DataLoader((x, y), size, seed=5, transform=augment, device=device))
    ((image, label),) = load(6)
    assert type(image) is np.ndarray if device == "host" else isinstance(image, jax.Array)
    assert np.asarray(label).tolist() == y.tolist() and image.dtype == np.uint8
    apart = np.concatenate([image for image, _ in load(4)])
    assert np.abs(apart.astype(int) - np.asarray(image)).max() <= 1


def test_labels_mix_in_batches():
    x, y = images(), np.arange(6)
    image, label = MixUp(0.5, classes=6).batch((x, y), KEYS)
    one_hot = np.eye(6, dtype=np.float32)
    share = label[np.arange(6), y]
    expected = share[:, None] * one_hot + (1 - share[:, None]) * np.roll(one_hot, 1, axis=0)
    same(label, expected.astype(np.float32))
    share = share[:, None, None, None]
    same(image, x * share + np.roll(x, 1, axis=0) * (1 - share))
    same(MixUp(0.5).batch((x, fx.onehotbatch(y, range(6))), KEYS)[1], label)
    same(MixUp(0.5).batch((x, one_hot), KEYS)[1], label)
    assert (MixUp(0.5, p=0.0).batch((x, one_hot), KEYS)[0] == x).all()
    pair = {"image": x, "label": y}
    same(MixUp(0.5, 6).batch(pair, KEYS)["label"], label)


def test_the_order_of_results_is_that_of_the_arguments():
    mask, points = np.ones((6, 11, 13), np.int32), np.zeros((6, 2, 2), np.float32)
    image, mask, points, labels = Resize(5)(images(), mask, keypoints=points, labels=np.arange(6))
    assert image.shape == (6, 5, 5, 3) and mask.shape == (6, 5, 5) and mask.dtype == np.int32
    assert points.shape == (6, 2, 2) and labels.tolist() == list(range(6))
    image, label = Resize(5)(images()[0], labels=3)
    assert image.shape == (5, 5, 3) and label == 3


def test_types_of_floats_stay():
    for dtype in (np.float16, np.float64, jnp.bfloat16):
        assert (Rotate(10) | Brightness(0.2))(images().astype(dtype)).dtype == dtype
    assert (ToFloat() | Normalize(0.5, 0.5))((images() * 255).astype(np.uint8)).dtype == np.float32
    assert (FlipX() | ToFloat())((images() * 255).astype(np.uint16)).max() < 0.005


def test_batches_that_are_split_over_devices():
    script = pathlib.Path(__file__).parent / "programs" / "transforms_on_two_devices.py"
    path = os.pathsep.join([str(script.parents[2]), os.environ.get("PYTHONPATH", "")])
    changes = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(command, env=os.environ | changes, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["Explicit", "Auto"]

"""Transforms that move pixels: exact where they only reorder, as PyTorch and Pillow elsewhere; what belongs along."""

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F

from fluxion.data import transforms as tf
from fluxion.data.keys import sample_keys
from fluxion.data.transforms import CenterCrop, Crop, FlipX, FlipY, PadTo, RandomCrop, Resize, Rotate, Rotate90

KEYS = sample_keys(1, 0, range(16))
RUNS = [np.asarray, jnp.asarray]


def images(count=4, height=9, width=14, channels=3, seed=0):
    return np.random.default_rng(seed).random((count, height, width, channels), dtype=np.float32)


def made(text):
    return eval(text, vars(tf))


def torch_of(x):
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def array_of(x):
    return x.numpy().transpose(0, 2, 3, 1)


# ---- exact


@pytest.mark.parametrize("on", RUNS)
def test_reordering_pixels_is_exact(on):
    x = images()
    for transform, expected in (
        (FlipX(), x[:, :, ::-1]),
        (FlipY(), x[:, ::-1]),
        (Crop((4, 5), 2, 3), x[:, 2:6, 3:8]),
        (CenterCrop((4, 5)), x[:, 2:6, 4:9]),
        (PadTo((12, 15), fill=0.5), np.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)), constant_values=0.5)),
        (PadTo((12, 5), border="edge"), np.pad(x, ((0, 0), (1, 2), (0, 0), (0, 0)), mode="edge")),
        (PadTo((12, 5), border="reflect"), np.pad(x, ((0, 0), (1, 2), (0, 0), (0, 0)), mode="symmetric")),
        *((Rotate90(k), np.rot90(x, k, axes=(1, 2))) for k in range(-1, 5)),
        (FlipX() | Rotate90() | FlipY() | CenterCrop(5), np.rot90(x[:, :, ::-1], axes=(1, 2))[:, ::-1][:, 4:9, 2:7]),
        (Rotate(0), x),
        (FlipX() | FlipX(), x),
        (Rotate90() | Rotate90(3), x),
        (tf.Translate(3, -2, pixels=True), np.pad(x, ((0, 0), (0, 2), (3, 0), (0, 0)))[:, 2:, :14]),
        (Resize((9, 14)), x),
    ):
        assert (np.asarray(transform(on(x))) == expected).all(), transform


def test_random_crops_are_parts_of_the_image_and_all_occur():
    x = np.arange(7 * 9, dtype=np.float32).reshape(1, 7, 9, 1).repeat(400, axis=0)
    corners = RandomCrop((6, 7))(x, keys=sample_keys(0, 0, range(400)))
    parts = {tuple(x[0, i : i + 6, j : j + 7].ravel()) for i in range(2) for j in range(3)}
    assert {tuple(crop.ravel()) for crop in corners} == parts


def test_flips_happen_with_their_probability():
    x = np.broadcast_to(np.float32([0, 1]).reshape(1, 1, 2, 1), (4000, 1, 2, 1))
    flipped = FlipX(0.3)(x, keys=sample_keys(0, 0, range(4000)))[:, 0, 0, 0]
    assert abs(flipped.mean() - 0.3) < 0.03


# ---- beside PyTorch and Pillow


@pytest.mark.parametrize("on", RUNS)
@pytest.mark.parametrize("size", [(5, 7), (18, 28), (9, 30), (1, 1), (13, 3)])
def test_resize_is_that_of_pytorch(size, on):
    x = images()
    for antialias in (False, True):
        expected = F.interpolate(torch_of(x), size, mode="bilinear", align_corners=False, antialias=antialias)
        np.testing.assert_allclose(Resize(size, antialias=antialias)(on(x)), array_of(expected), atol=2e-6)
    expected = F.interpolate(torch_of(x), size, mode="nearest-exact")
    np.testing.assert_array_equal(Resize(size, method="nearest")(on(x)), array_of(expected))


@pytest.mark.parametrize(("border", "padding"), [("edge", "border"), ("reflect", "reflection")])
@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_rotation_is_that_of_pytorch(border, padding, method):
    x, angle = images(2, 12, 17), 33.0
    sin, cos = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    theta = torch.tensor([[cos, -sin * 12 / 17, 0], [sin * 17 / 12, cos, 0]], dtype=torch.float32).repeat(2, 1, 1)
    grid = F.affine_grid(theta, [2, 3, 12, 17], align_corners=False)
    expected = F.grid_sample(torch_of(x), grid, method, padding, align_corners=False)
    np.testing.assert_allclose(Rotate(angle, border=border, method=method)(x), array_of(expected), atol=1e-5)


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_rotation_is_that_of_pillow_up_to_the_edge(method):
    x = (images(1, 24, 31)[0] * 255).astype(np.uint8)
    resample = {"bilinear": PIL.Image.Resampling.BILINEAR, "nearest": PIL.Image.Resampling.NEAREST}[method]
    for angle in (17, -50, 121):
        expected = np.asarray(PIL.Image.fromarray(x).rotate(angle, resample, fillcolor=(51, 102, 153)))
        ours = Rotate(angle, method=method, fill=(0.2, 0.4, 0.6))(x)
        assert (np.abs(ours.astype(int) - expected) > 1).mean() < 0.005


def test_shear_zoom_and_perspective_move_points_as_documented():
    points = np.float32([[[7, 4.5], [7, 6.5], [9, 4.5]]])
    x = images(1)
    moved = lambda transform: transform(x, keypoints=points, keys=KEYS[:1])[1][0]
    np.testing.assert_allclose(moved(tf.ShearX(45)), [[7, 4.5], [9, 6.5], [9, 4.5]], atol=1e-5)
    np.testing.assert_allclose(moved(tf.ShearY(45)), [[7, 4.5], [7, 6.5], [9, 6.5]], atol=1e-5)
    np.testing.assert_allclose(moved(tf.Zoom(2)), [[7, 4.5], [7, 8.5], [11, 4.5]], atol=1e-5)
    np.testing.assert_allclose(moved(tf.Scale(2, 1)), [[14, 4.5], [14, 6.5], [18, 4.5]], atol=1e-5)
    np.testing.assert_allclose(moved(tf.Translate(0.5, -1)), [[14, -4.5], [14, -2.5], [16, -4.5]], atol=1e-5)
    np.testing.assert_allclose(moved(Rotate(90)), [[7, 4.5], [9, 4.5], [7, 2.5]], atol=1e-5)
    corners = np.float32([[[0, 0], [14, 0], [14, 9], [0, 9]]]).repeat(16, axis=0)
    found = tf.Perspective(0.6)(images(16), keypoints=corners, keys=KEYS)[1]
    inwards = np.abs(found - corners)
    assert (inwards[..., 0] <= 0.3 * 14 + 1e-3).all() and (inwards[..., 1] <= 0.3 * 9 + 1e-3).all()
    assert (inwards > 0.01).mean() > 0.9 and (found >= -1e-3).all()


def test_random_resized_crops_have_their_area_and_shape():
    corners = np.float32([[[0, 0], [1, 0], [0, 1]]]).repeat(500, axis=0)
    transform = tf.RandomResizedCrop((20, 20), scale=(0.2, 0.5), ratio=(0.5, 2))
    found = transform(np.zeros((500, 40, 40, 1)), keypoints=corners, keys=sample_keys(0, 0, range(500)))[1]
    width, height = 20 / (found[:, 1, 0] - found[:, 0, 0]), 20 / (found[:, 2, 1] - found[:, 0, 1])
    area, shape = width * height / 1600, width / height
    assert 0.199 < area.min() < 0.22 and 0.48 < area.max() < 0.501 and abs(area.mean() - 0.35) < 0.02
    assert 0.499 < shape.min() < 0.55 and 1.8 < shape.max() < 2.001 and abs(np.log(shape).mean()) < 0.06


# ---- what belongs to an image goes along


BLOB = (12, 17, 8, 15)  # rows from, to, columns from, to


@pytest.mark.parametrize("on", RUNS)
@pytest.mark.parametrize(
    "text",
    [
        "FlipX()",
        "FlipY()",
        "Rotate90()",
        "Rotate90(2) | FlipX()",
        "Rotate(-40, 40)",
        "ShearX(-20, 20) | ShearY(-10, 10)",
        "Zoom(0.8, 1.5)",
        "Translate((-0.2, 0.2), (-0.2, 0.2))",
        "Perspective(0.4)",
        "RandomCrop((28, 30)) | FlipX(0.5)",
        "CenterCrop(28) | Resize((60, 50))",
        "PadTo((40, 50)) | Rotate(-90, 90) | Scale(2.0)",
        "Resize((64, 50), antialias=True)",
        "Maybe(Rotate(-40, 40) | Brightness(0.1), 0.5)",
        "OneOf([FlipX(), Rotate(20), Invert(0.0)])",
        "ElasticDistortion(30.0, 5.0)",
    ],
)
def test_points_boxes_and_masks_follow_the_pixels(text, on):
    """A blob is drawn, with a point in its middle, a box around it, and a mask of it."""
    top, bottom, left, right = BLOB
    mask = np.zeros((16, 32, 36), np.int32)
    mask[:, top:bottom, left:right] = 3
    x = (mask > 0).astype(np.float32)[..., None]
    boxes = np.float32([[[left, top, right, bottom]]]).repeat(16, axis=0)
    points = np.float32([[[(left + right) / 2, (top + bottom) / 2]]]).repeat(16, axis=0)
    results = made(text)(on(x), on(mask), on(boxes), on(points), keys=KEYS)
    image, mask, boxes, points = map(np.asarray, results)
    assert set(np.unique(mask)) == {0, 3} and mask.shape == image.shape[:3]
    assert ((image[..., 0] > 0.5) != (mask > 0)).mean() < 0.01
    slack = 1.5 * max(image.shape[1] / 32, 1)
    for i in range(16):
        rows, columns = np.nonzero(image[i, ..., 0] > 0.5)
        middle = columns.mean() + 0.5, rows.mean() + 0.5
        assert np.abs(points[i, 0] - middle).max() < slack
        around = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        wide = 4 * slack if "Elastic" in text or "Rot" in text or "Shear" in text else slack
        assert np.abs(boxes[i, 0] - around).max() < wide
        assert (boxes[i, 0, :2] <= np.add(around[:2], slack)).all() and (
            boxes[i, 0, 2:] >= np.subtract(around[2:], slack)
        ).all()


def test_boxes_are_cut_to_the_image_and_points_are_not():
    x = images(1, 10, 10)
    boxes = np.float32([[[1, 1, 4, 4], [7, 7, 9, 9], [4, 0, 8, 10]]])
    _, boxes, points = Crop(5, 0, 0)(x, boxes=boxes, keypoints=boxes[..., 2:])
    assert boxes[0].tolist() == [[1, 1, 4, 4], [5, 5, 5, 5], [4, 0, 5, 5]]
    assert points[0].tolist() == [[4, 4], [9, 9], [8, 10]]


def test_boxes_of_integers_and_of_one_image():
    image, boxes = FlipX()(images(1)[0], boxes=[[1, 2, 3, 4]])
    assert boxes.tolist() == [[11, 2, 13, 4]] and boxes.dtype == np.float32 and image.shape == (9, 14, 3)


def test_masks_of_channels_and_their_fill():
    mask = np.ones((4, 9, 14, 2), np.uint8)
    _, moved = tf.Translate(0.5, mask_fill=255)(images(), mask)
    assert moved.dtype == np.uint8 and (moved[:, :, :7] == 255).all() and (moved[:, :, 7:] == 1).all()


def test_elastic_distortion_is_smooth_and_as_strong_as_asked():
    ramp = np.broadcast_to(np.arange(64, dtype=np.float32)[:, None], (8, 64, 64, 1))
    away = [tf.ElasticDistortion(alpha, 4.0, border="edge")(ramp, keys=KEYS[:8]) - ramp for alpha in (10.0, 20.0)]
    inner = (slice(None), slice(None), slice(8, -8))
    np.testing.assert_allclose(away[1][inner], 2 * away[0][inner], atol=1e-3)
    # uniform noise of variance 1/3 under a Gaussian keeps 1 / (4 pi sigma^2) of its variance
    assert np.isclose(away[0][inner].std(), 10 / np.sqrt(3 * 4 * np.pi * 16), rtol=0.2)
    assert np.abs(np.diff(away[0][inner], axis=2)).max() < 0.5

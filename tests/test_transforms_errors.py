"""Errors of transforms: what was wrong, what was expected."""

import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.data import transforms as tf
from fluxion.data.keys import sample_keys
from fluxion.data.transforms import (
    Brightness,
    CenterCrop,
    FlipX,
    FlipY,
    Hue,
    Maybe,
    MixUp,
    Normalize,
    OneOf,
    RandomCrop,
    Resize,
    Rotate,
    Rotate90,
    Translate,
    Zoom,
)

KEYS = sample_keys(0, 0, range(6))
X = np.random.default_rng(0).random((2, 11, 13, 3), dtype=np.float32)
WRONG = [
    (lambda: FlipX(1.5), ValueError, r"FlipX takes a probability from 0 to 1 as p=, got 1.5"),
    (lambda: FlipX("yes"), ValueError, r"FlipX takes a probability from 0 to 1 as p=, got 'yes'"),
    (lambda: Maybe(FlipX(), -1), ValueError, r"Maybe takes a probability from 0 to 1 as p=, got -1"),
    (lambda: tf.Erase(2), ValueError, r"Erase takes a probability"),
    (lambda: tf.Greyscale(2), ValueError, r"Greyscale takes a probability"),
    (lambda: tf.Invert(2), ValueError, r"Invert takes a probability"),
    (lambda: FlipY(2), ValueError, r"FlipY takes a probability"),
    (lambda: Rotate(20, 0), ValueError, r"Rotate takes the lowest value first, got 20 before 0"),
    (
        lambda: Rotate("a"),
        ValueError,
        r"Rotate takes numbers as low and high, one or the lowest and the highest, got 'a'",
    ),
    (lambda: Rotate(0, float("nan")), ValueError, r"Rotate takes numbers"),
    (lambda: Rotate(0, 1, border="wrap"), ValueError, r"Rotate takes as border= one of \('fill', 'edge', 'reflect'\)"),
    (lambda: Rotate(0, 1, method="cubic"), ValueError, r"Rotate takes as method= one of"),
    (lambda: Rotate90(0.5), TypeError, r"Rotate90 takes a whole number of quarter turns, got 0.5"),
    (lambda: tf.ShearX(90), ValueError, r"ShearX takes as low and high numbers from -89 to 89, got 90"),
    (lambda: tf.ShearY(90), ValueError, r"ShearY takes"),
    (lambda: Zoom(0), ValueError, r"Zoom takes as low and high numbers of at least 0.001, got 0"),
    (lambda: tf.Perspective(2), ValueError, r"Perspective takes as distortion numbers from 0 to 1, got 2"),
    (lambda: Translate((1, 2, 3)), ValueError, r"Translate takes numbers as x, one or the lowest and the highest"),
    (lambda: tf.Scale(0), ValueError, r"Scale takes factors above 0, got 0"),
    (lambda: Resize(0), ValueError, r"Resize takes as size= a whole number of pixels, or \(height, width\), got 0"),
    (lambda: Resize((1, 2, 3)), ValueError, r"Resize takes as size="),
    (lambda: Resize(4, method="nearest", antialias=True), ValueError, r"Resize takes antialias=True with method"),
    (lambda: tf.PadTo(-1), ValueError, r"PadTo takes as size="),
    (lambda: tf.RandomResizedCrop(3, scale=(0.5, 2)), ValueError, r"RandomResizedCrop takes as scale numbers from"),
    (
        lambda: RandomCrop(12)(X),
        fx.SizeError,
        r"RandomCrop\(12\) does not lie within images of height and width \(11, 13\)",
    ),
    (lambda: CenterCrop((5, 14))(X), fx.SizeError, r"CenterCrop\(\(5, 14\)\) does not lie within .* PadTo"),
    (lambda: tf.Crop(5, 8, 0)(X), fx.SizeError, r"Crop\(5, 8\) does not lie within"),
    (lambda: Hue(0.7), ValueError, r"Hue takes as change numbers from -0.5 to 0.5, got 0.7"),
    (lambda: Brightness(-1), ValueError, r"Brightness takes as change numbers of at least 0, got -1"),
    (lambda: tf.Gamma(-1), ValueError, r"Gamma takes"),
    (lambda: tf.Solarise(2, 1), ValueError, r"Solarise takes the lowest value first"),
    (lambda: tf.Posterise(0, 9), ValueError, r"Posterise takes as low and high numbers from 0 to 8"),
    (lambda: tf.Posterise(1.5), ValueError, r"Posterise takes whole numbers of bits, got 1.5"),
    (lambda: tf.Sharpen(-1), ValueError, r"Sharpen takes"),
    (lambda: tf.GaussianBlur(0), ValueError, r"GaussianBlur takes as low and high numbers of at least 0.001"),
    (
        lambda: tf.GaussianBlur(1, radius=0),
        ValueError,
        r"GaussianBlur takes as radius= a whole number of pixels, got 0",
    ),
    (lambda: tf.GaussianNoise(-1), ValueError, r"GaussianNoise takes"),
    (lambda: tf.ElasticDistortion(-1), ValueError, r"ElasticDistortion takes as alpha numbers of at least 0"),
    (lambda: tf.Quantise(0), ValueError, r"Quantise takes as low and high numbers from 1 to 100, got 0"),
    (lambda: Normalize(0, 0), ValueError, r"Normalize divides by std=, which must not be 0, got 0"),
    (lambda: Normalize((0, 0), 1)(X), fx.SizeError, r"Normalize\(\(0, 0\), 1\) has 2 numbers for the 3 channels"),
    (lambda: Rotate(5, fill=(0, 1))(X), fx.SizeError, r"fill=\(0, 1\) has 2 numbers for images of 3 channels"),
    (lambda: Rotate(5, fill=(0, 1))(jnp.asarray(X)), fx.SizeError, r"fill=\(0, 1\) has 2 numbers"),
    (lambda: tf.ElasticDistortion(fill=(0, 1))(X), fx.SizeError, r"fill=\(0, 1\) has 2 numbers"),
    (lambda: Hue(0.1)(X[..., :1]), fx.SizeError, r"Hue\(0.1\) takes images of 3 channels, .* a grey image has no such"),
    (lambda: tf.Saturation(0.1)(X[..., :1]), fx.SizeError, r"Saturation\(0.1\) takes images of 3 channels"),
    (lambda: tf.Greyscale()(X[..., :1]), fx.SizeError, r"Greyscale\(\) takes images of 3 channels"),
    (lambda: OneOf(FlipX(), FlipY()), TypeError, r"OneOf takes a list of transforms, got FlipX\(\): write OneOf"),
    (lambda: OneOf([]), ValueError, r"OneOf takes at least one transform, got none"),
    (
        lambda: OneOf([FlipX()], [1, 2]),
        ValueError,
        r"OneOf takes a weight of at least 0 for each of its 1 parts, got \(1, 2\)",
    ),
    (
        lambda: OneOf([FlipX(), Resize(3)])(X),
        fx.SizeError,
        r"would make images of different sizes, .* must make the same",
    ),
    (lambda: Maybe(RandomCrop(3), 0.5)(X), fx.SizeError, r"would make images of different sizes"),
    (lambda: Maybe(MixUp(0.2, 3), 0.5)(X, labels=np.array([0, 1])), fx.SizeError, r"make different labels, of shapes"),
    (lambda: FlipX() | 3, TypeError, r"expected a transform, or a list of them, got 3"),
    (lambda: FlipX() | FlipY, TypeError, r"got <class .*FlipY'>: write FlipY\(...\)"),
    (lambda: tf.RandAugment(2, (3, 9)), ValueError, r"RandAugment takes a number as magnitude=, got \(3, 9\)"),
    (lambda: tf.Perspective((0.1, 0.2)), ValueError, r"Perspective takes a number as distortion="),
    (lambda: tf.RandAugment(0), ValueError, r"RandAugment takes as count= a whole number of at least 1, got 0"),
    (lambda: tf.RandAugment(2, 31), ValueError, r"RandAugment takes as magnitude numbers from 0 to 30, got 31"),
    (lambda: tf.AugMix(11), ValueError, r"AugMix takes as severity numbers from 0 to 10"),
    (lambda: tf.AugMix(3, 0), ValueError, r"AugMix takes as width="),
    (lambda: tf.AugMix()(X, np.zeros((2, 11, 13), int)), ValueError, r"AugMix\(\) mixes images .* it cannot move mask"),
    (lambda: MixUp(0), ValueError, r"MixUp takes as alpha numbers of at least 0.01, got 0"),
    (lambda: MixUp(1, classes=0), ValueError, r"MixUp takes as classes= the number of classes, got 0"),
    (lambda: MixUp(1)(X, labels=np.array([0, 1])), ValueError, r"needs the number of classes .* write classes="),
    (lambda: MixUp(1)(X, labels=np.zeros(2)), ValueError, r"takes labels that are integers \(N,\) or probabilities"),
    (
        lambda: MixUp(1)(X, np.zeros((2, 11, 13), int)),
        ValueError,
        r"MixUp\(1\) cannot mix mask; it takes images, labels",
    ),
    (lambda: tf.CutMix(1)(X, boxes=np.zeros((2, 1, 4))), ValueError, r"CutMix\(\) cannot mix boxes"),
    (lambda: FlipX()(X[0, ..., 0]), fx.SizeError, r"FlipX takes images \(N, H, W, C\) .*: image\[..., None\]"),
    (lambda: FlipX()(X.astype(np.int32)), TypeError, r"FlipX takes images of floats, uint8 or uint16, got int32"),
    (
        lambda: FlipX()(X, np.zeros((2, 11, 12), int)),
        fx.SizeError,
        r"takes mask of shape .* beside images \(2, 11, 13, 3\)",
    ),
    (lambda: FlipX()(X, np.zeros((2, 11, 13))), TypeError, r"FlipX takes a mask of integers, .* got float64"),
    (lambda: FlipX()(X, boxes=np.zeros((2, 4))), fx.SizeError, r"FlipX takes boxes of shape \(N, M, 4\)"),
    (lambda: FlipX()(X, keypoints=np.zeros((1, 3, 2))), fx.SizeError, r"FlipX takes keypoints of shape \(N, M, 2\)"),
    (lambda: FlipX()(X, keys=KEYS), fx.SizeError, r"keys are uint32 of shape \(2, 2\), one pair a sample, got uint32"),
    (lambda: FlipX()(X, rng=0), TypeError, r"rng= takes a fluxion.random.Generator"),
    (
        lambda: FlipX().batch(X[0], KEYS),
        fx.SizeError,
        r"FlipX takes a batch of images \(N, H, W, C\), got .* \(11, 13, 3\)",
    ),
    (lambda: FlipX().batch({"x": X}), ValueError, r"FlipX finds no images in a batch with the fields \['x'\]"),
    (lambda: FlipX().on("mask"), ValueError, r"on\(...\) names the fields of a batch, one of them 'image'"),
    (lambda: FlipX().on("image", "image"), ValueError, r"on\(...\) names"),
    (lambda: FlipX().on("image", "mask").batch((X,)), ValueError, r"names 2 fields, got a batch of 1"),
]


@pytest.mark.parametrize(("call", "kind", "text"), WRONG)
def test_errors_say_what_is_wrong(call, kind, text):
    with pytest.raises(kind, match=text):
        call()

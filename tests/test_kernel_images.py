"""Generated code for images: resampling and colours, on processors of several kinds, beside the formulas."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxion.data.transforms.colour import GREY, jittered
from fluxion.data.transforms.warp import plain
from fluxion.kernels.generated import required_host
from fluxion.kernels.jitter import jitter_images
from fluxion.kernels.machine import AVX2, NEON
from fluxion.kernels.warp import warp_images

MACHINES = {"host": required_host(), "eight lanes": dataclasses.replace(AVX2, workers=2)}
MACHINES = MACHINES if required_host().name == "avx512" else {"host": required_host()}
STAGES = ("brightness", "contrast", "saturation", "hue")


def case(height, width, channels):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.random((3, height, width, channels)), jnp.float32)
    matrix = np.eye(3) + rng.normal(size=(3, 3, 3)) * [[0.2, 0.2, 2], [0.2, 0.2, 2], [0.01, 0.01, 0]]
    return x, jnp.asarray(matrix, jnp.float32)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("border", ["fill", "edge", "reflect"])
@pytest.mark.parametrize("projective", [False, True])
@pytest.mark.parametrize("shape", [(17, 33, 3), (1, 9, 1), (20, 1, 2), (5, 16, 21)])
def test_images_are_resampled_as_by_the_formula(machine, border, projective, shape):
    x, matrix = case(*shape)
    fill = tuple(np.linspace(0.1, 0.9, shape[-1]).tolist())
    settings = {"method": "bilinear", "border": border, "projective": projective}
    output = jax.ShapeDtypeStruct((3, 18, 23, shape[-1]), x.dtype)
    ours = warp_images(x, matrix, outputs=output, machine=machine, fill=fill, **settings)
    (expected,) = plain(x, matrix, size=(18, 23), fill=fill, **settings)
    # where a position lies on the very edge, its rounding decides between the image and what is outside
    assert (np.abs(ours - expected) > 1e-4).mean() < 0.002


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("stages", [STAGES, STAGES[:1], STAGES[1:2], STAGES[2:], ("contrast", "hue")])
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (7, 13), (33, 8)])
def test_colours_are_changed_as_by_the_formula(machine, stages, size):
    x, _ = case(*size, 3)
    factors = jnp.asarray(np.random.default_rng(1).uniform(0.4, 1.6, (3, len(stages))), jnp.float32)
    ours = jitter_images(x, factors, outputs=x, machine=machine, stages=stages, grey=GREY)
    np.testing.assert_allclose(ours, jittered(x, factors, stages=stages)[0], atol=1e-5)


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
@pytest.mark.parametrize("border", ["fill", "edge", "reflect"])
def test_nothing_outside_of_an_image_is_read(method, border):
    """Around one image lie images of NaN, and positions are anything."""
    x, _ = case(6, 7, 3)
    x = jnp.full_like(x, jnp.nan).at[1].set(x[1])
    rng = np.random.default_rng(2)
    output, settings = jax.ShapeDtypeStruct((3, 33, 40, 3), x.dtype), {"method": method, "border": border}
    for scale in (0.0, 1.0, 1e10, np.inf, np.nan):
        matrix = jnp.asarray(rng.normal(size=(3, 3, 3)) * scale, jnp.float32)
        y = warp_images(x, matrix, outputs=output, fill=(0.5,) * 3, projective=True, **settings)
        assert jnp.isfinite(y[1]).all()


def test_code_for_four_lanes_can_be_written():
    x, matrix = case(9, 11, 3)
    settings = {"method": "nearest", "border": "reflect", "fill": (0.0,) * 3, "projective": True}
    assert "<4 x float>" in warp_images.text([x, matrix], [x], NEON, **settings)
    assert "<4 x float>" in jitter_images.text([x, matrix[:, 0]], [x], NEON, stages=STAGES[:3], grey=GREY)

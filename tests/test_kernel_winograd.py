"""Winograd convolution: its matrices exactly, its kernels against sums in float64, its errors against PyTorch's."""

from dataclasses import replace
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxion.kernels import objects, winograd, winograd_weight, xla
from fluxion.kernels.choice import PRECISE_ERROR
from fluxion.kernels.cook_toom import cook_toom
from fluxion.kernels.epilogue import Epilogue
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.machine import AVX2, NEON, host
from fluxion.kernels.winograd_plan import make_plan

WIDE = replace(AVX2, workers=2)
MACHINES = [host()] if host() is None or host().name == "neon" else [host(), WIDE]
DIRECTIONS = list(Direction)


def images(batch, sizes, inputs, outputs, pads=((1, 1), (1, 1)), groups=1):
    return Convolution(batch, sizes, inputs, (3, 3), outputs, (1, 1), pads, (1, 1), groups)


def found(geometry, direction, machine, dtype="float32"):
    family = winograd_weight if direction is Direction.WEIGHT_GRADIENT else winograd
    return family.candidates(geometry, direction, dtype, machine)


def operands(geometry, direction, dtype=np.float32, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=shape).astype(dtype) for shape in geometry.operand_shapes(direction)]


def exact(geometry, direction, left, right):
    """The result in float64."""
    with jax.enable_x64(True):
        left, right = (jnp.asarray(array, jnp.float64) for array in (left, right))
        return np.asarray(xla.convolve(left, right, direction=direction, geometry=geometry, precision="highest"))


def error(made, wanted):
    """The root mean square of the error over that of the result."""
    difference = np.asarray(made, np.float64) - wanted
    return np.sqrt(np.mean(difference**2) / np.mean(wanted**2))


@pytest.mark.parametrize("outputs, taps", [(2, 3), (4, 3), (3, 2), (3, 4)])
def test_the_matrices_compute_a_correlation_exactly(outputs, taps):
    random, transforms = np.random.default_rng(0), cook_toom(outputs, taps)
    for _ in range(5):
        data = [Fraction(int(number), 7) for number in random.integers(-50, 50, outputs + taps - 1)]
        weights = [Fraction(int(number), 3) for number in random.integers(-50, 50, taps)]
        left, right = _times(transforms.kernel, weights), _times(transforms.data, data)
        made = _times(transforms.result, [a * b for a, b in zip(left, right, strict=True)])
        assert made == [sum(data[i + k] * weights[k] for k in range(taps)) for i in range(outputs)]


def _times(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def test_no_matrices_for_a_number_of_points_that_is_not_known():
    with pytest.raises(KeyError):
        cook_toom(5, 5)


def test_f43_has_half_the_error_of_the_textbooks_points():
    matrices = cook_toom(4, 3)
    sizes = [max(abs(entry) for row in matrix for entry in row) for matrix in (matrices.data, matrices.result)]
    assert sizes == [Fraction(245, 100), Fraction(2744, 1000)]  # 5 and 8 with 0, +-1, +-2


pads = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3),
    sizes=st.tuples(st.integers(3, 11), st.integers(3, 11)),
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 70),
    pads=pads,
    direction=st.sampled_from(DIRECTIONS),
    machine=st.sampled_from(MACHINES),
)
def test_any_sizes_channels_and_pads(batch, sizes, inputs, outputs, pads, direction, machine):
    geometry = images(batch, sizes, inputs, outputs, pads)
    arrays = operands(geometry, direction)
    wanted = exact(geometry, direction, *arrays)
    for candidate in found(geometry, direction, machine):
        assert error(candidate.run(*arrays), wanted) < 2e-6


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("inputs, outputs, groups", [(40, 80, 2), (66, 48, 3)])
def test_groups(direction, inputs, outputs, groups):
    geometry = images(2, (6, 7), inputs, outputs, groups=groups)
    arrays = operands(geometry, direction)
    wanted = exact(geometry, direction, *arrays)
    made = found(geometry, direction, host())
    assert made
    for candidate in made:
        assert error(candidate.run(*arrays), wanted) < 2e-6


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_several_blocks_of_tiles_channels_and_depth(direction):
    geometry = images(3, (22, 17), 150, 140)
    machine = replace(host(), l2=host().l2 // 4)
    arrays = operands(geometry, direction)
    wanted = exact(geometry, direction, *arrays)
    for candidate in found(geometry, direction, machine):
        assert error(candidate.run(*arrays), wanted) < 2e-6


@pytest.mark.parametrize("dtype, bound", [("float64", 2e-14), ("bfloat16", 4e-3)])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_other_types(direction, dtype, bound):
    geometry = images(2, (9, 8), 20, 33)
    arrays = operands(geometry, direction)
    with jax.enable_x64(True):
        arrays = [jnp.asarray(array, dtype) for array in arrays]
        wanted = exact(geometry, direction, *(np.asarray(array, np.float64) for array in arrays))
        for candidate in found(geometry, direction, host(), dtype):
            made = candidate.run(*arrays)
            assert made.dtype == dtype
            assert error(made, wanted) < bound


@pytest.mark.parametrize("outputs", [32, 21])
def test_the_epilogue_follows_the_sum(outputs):
    geometry = images(2, (9, 10), 16, outputs)
    x, w = operands(geometry, Direction.FORWARD)
    random = np.random.default_rng(1)
    scale, bias = random.normal(size=(2, outputs)).astype(np.float32)
    residual = random.normal(size=geometry.y_shape).astype(np.float32)
    sums = exact(geometry, Direction.FORWARD, x, w)
    epilogue = Epilogue(scale=True, bias=True, residual=True, activation="relu")
    for candidate in found(geometry, Direction.FORWARD, host()):
        made = candidate.run(x, w, scale, bias, residual, epilogue=epilogue)
        np.testing.assert_allclose(made, np.maximum(sums * scale + bias + residual, 0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("direction", [Direction.INPUT_GRADIENT, Direction.WEIGHT_GRADIENT])
def test_the_mask_leaves_out_gradients(direction):
    geometry = images(2, (9, 10), 20, 21, ((0, 2), (1, 0)))
    left, right = operands(geometry, direction)
    mask = np.random.default_rng(1).normal(size=geometry.y_shape).astype(np.float32)
    mask[0, 0, 0] = 0
    masked = [np.where(mask > 0, array, 0) if array.shape == mask.shape else array for array in (left, right)]
    wanted = exact(geometry, direction, *masked)
    for candidate in found(geometry, direction, host()):
        assert error(candidate.run(left, right, mask=mask), wanted) < 2e-6


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_same_bits_for_any_number_of_workers(direction):
    geometry = images(4, (18, 18), 32, 32)
    arrays = operands(geometry, direction)
    one, several = (found(geometry, direction, replace(host(), workers=workers)) for workers in (1, 2))
    for a, b in zip(one, several, strict=True):
        np.testing.assert_array_equal(a.run(*arrays), b.run(*arrays))


def test_inside_a_compiled_program():
    geometry = images(1, (8, 8), 16, 16)
    x, w = operands(geometry, Direction.FORWARD)
    run = found(geometry, Direction.FORWARD, host())[0].run
    made = jax.jit(lambda x, w: run(x + 1, w) * 2)(x, w)
    np.testing.assert_allclose(made, 2 * exact(geometry, Direction.FORWARD, x + 1, w), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("geometry", [images(8, (32, 32), 64, 64), images(16, (4, 4), 256, 256)], ids=["wide", "deep"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_errors_beside_pytorchs(geometry, direction):
    arrays = operands(geometry, direction)
    wanted = exact(geometry, direction, *arrays)
    theirs = error(_by_pytorch(geometry, direction, *arrays), wanted)
    for candidate in found(geometry, direction, host()):
        ours = error(candidate.run(*arrays), wanted)
        assert ours < (4.2 if candidate.error > 1 else 1.5) * theirs


def _by_pytorch(geometry, direction, left, right):
    """Channels go second there, and outputs first in weights."""
    names = dict(zip(direction.operands, (left, right), strict=True))
    x, y = (torch.from_numpy(np.moveaxis(names.get(n, np.zeros(geometry.shape(n), "f")), -1, 1).copy()) for n in "xy")
    w = torch.from_numpy(np.transpose(names.get("w", np.zeros(geometry.w_shape, "f")), (3, 2, 0, 1)).copy())
    if direction is Direction.FORWARD:
        return np.moveaxis(torch.nn.functional.conv2d(x, w, padding=1).numpy(), 1, -1)
    wanted = [direction is Direction.INPUT_GRADIENT, direction is Direction.WEIGHT_GRADIENT, False]
    dx, dw, _ = torch.ops.aten.convolution_backward(y, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, wanted)
    return np.moveaxis(dx.numpy(), 1, -1) if dw is None else np.transpose(dw.numpy(), (2, 3, 1, 0))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    "change",
    [
        {"kernel": (5, 3)},
        {"stride": (2, 1)},
        {"dilation": (1, 2)},
        {"pads": ((3, 1), (1, 1))},
        {"pads": ((-1, 1), (1, 1))},
        {"inputs": 8, "outputs": 8, "groups": 4},
        {"sizes": (5,), "kernel": (3,), "stride": (1,), "dilation": (1,), "pads": ((1, 1),)},
    ],
)
def test_what_it_is_not_for(direction, change):
    assert found(replace(images(1, (9, 9), 8, 8), **change), direction, host()) == []


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("channels", [32, 21])
def test_it_compiles_for_neon(direction, channels):
    geometry = images(2, (9, 9), channels, channels)
    shapes = [jax.ShapeDtypeStruct(shape, "float32") for shape in geometry.operand_shapes(direction)]
    result = jax.ShapeDtypeStruct(geometry.result_shape(direction), "float32")
    text = partial(_text, geometry, direction, shapes, result)
    assert all(len(objects.compile_object(text(first), NEON)) > 1000 for first in (False, True))


def _text(geometry, direction, shapes, result, tiles_first):
    if direction is Direction.WEIGHT_GRADIENT:
        plan = winograd_weight.make_plan(geometry, "float32", NEON, 2 if tiles_first else 4).plan
        return winograd_weight.winograd_weight.text(shapes, [result], NEON, geometry=geometry, plan=plan, masked=False)
    plan = make_plan(geometry, direction, "float32", NEON, 4, tiles_first).plan
    parameters = {"geometry": geometry, "direction": direction, "plan": plan}
    return winograd.winograd.text(shapes, [result], NEON, **parameters, epilogue=Epilogue(), masked=False)


@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.INPUT_GRADIENT])
def test_the_cost_model_ranks_the_orders(direction):
    def best(geometry):
        return min(found(geometry, direction, replace(WIDE, l2=1 << 20)), key=lambda candidate: candidate.seconds).name

    assert best(images(64, (32, 32), 64, 64)) == "winograd 4x4, weights first"
    assert best(images(64, (4, 4), 512, 512)) == "winograd 4x4, tiles first"


def test_an_infinity_stays_with_the_results_that_meet_it_in_precise_kernels():
    geometry = images(1, (20, 20), 64, 64)
    x, w = operands(geometry, Direction.FORWARD)
    x[0, 9, 9, 3] = np.inf
    met = np.zeros((20, 20), bool)
    met[8:11, 8:11] = True
    for candidate in found(geometry, Direction.FORWARD, host()):
        spoilt = ~np.isfinite(candidate.run(x, w)).all(-1)[0]
        assert (spoilt == met).all() if candidate.error <= PRECISE_ERROR else (spoilt >= met).all() and spoilt.sum() > 9

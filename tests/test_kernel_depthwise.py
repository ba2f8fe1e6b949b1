"""Depthwise convolution kernels against float64 references."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fluxion.kernels import depthwise, objects
from fluxion.kernels.epilogue import Epilogue
from fluxion.kernels.generated import required_host
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.machine import AVX2, AVX512, NEON

TWO = dataclasses.replace(AVX2, workers=2)
MACHINES = {"host": required_host(), "eight lanes": TWO}
LAYER = Convolution(4, (28, 28), 48, (3, 3), 48, (1, 1), ((1, 1), (1, 1)), (1, 1), 48)


def arrays(geometry, direction, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in geometry.operand_shapes(direction)]


def run(geometry, direction, *operands, machine=None, **options):
    dtype = operands[0].dtype.name
    (candidate,) = depthwise.candidates(geometry, direction, dtype, machine or required_host())
    assert candidate.seconds > 0
    return candidate.run(*operands, **options)


def reference(geometry, direction, *operands):
    """PyTorch's convolution and its gradients, in the type of the operands."""
    left, right = (torch.from_numpy(np.array(operand)) for operand in operands)
    x, w = (torch.zeros(shape, dtype=left.dtype) for shape in (geometry.x_shape, geometry.w_shape))
    given = dict(zip(direction.operands, (left, right), strict=True))
    x, w = given.get("x", x).requires_grad_(), given.get("w", w).requires_grad_()
    y = convolved(geometry, x, w)
    if direction is Direction.FORWARD:
        return y.detach().numpy()
    (gradient,) = torch.autograd.grad(y, x if direction is Direction.INPUT_GRADIENT else w, given["y"])
    return gradient.numpy()


def convolved(geometry, x, w):
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(geometry.sizes) - 1]
    x, w = x.movedim(-1, 1), w.movedim((-1, -2), (0, 1))
    for axis, (low, high) in enumerate(geometry.pads):  # a pad that is negative cuts off
        x = x.narrow(axis + 2, max(-low, 0), x.shape[axis + 2] - max(-low, 0) - max(-high, 0))
    pads = [max(side, 0) for pair in reversed(geometry.pads) for side in pair]
    y = convolve(F.pad(x, pads), w, None, geometry.stride, 0, geometry.dilation, geometry.groups)
    return y.movedim(1, -1)


def terms(geometry, direction):
    """How many products a sum has at most."""
    return math.prod(geometry.y_shape[:-1] if direction is Direction.WEIGHT_GRADIENT else geometry.kernel)


def assert_close(got, geometry, direction, *operands, epsilon=2.0**-23):
    exact = [np.asarray(operand, np.float64) for operand in operands]
    wanted = reference(geometry, direction, *exact)
    largest = reference(geometry, direction, *map(np.abs, exact))
    assert got.shape == wanted.shape
    bound = epsilon * (terms(geometry, direction) + 2) * largest
    assert (np.abs(np.asarray(got, np.float64) - wanted) <= bound + 1e-30).all()


@st.composite
def geometries(draw):
    axes = draw(st.integers(1, 3))
    each = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(axes))
    kernel, channels = each(1, 4), draw(st.integers(1, 37))
    multiplier = draw(st.sampled_from([1, 1, 2, 3]))
    pads = tuple((draw(st.integers(-1, 3)), draw(st.integers(0, 3))) for _ in range(axes))
    stride, dilation, batch = each(1, 3), each(1, 2), draw(st.integers(1, 2))
    sizes = (*each(1, 6)[1:], draw(st.integers(1, 40)))
    outputs = channels * multiplier
    geometry = Convolution(batch, sizes, channels, kernel, outputs, stride, pads, dilation, channels)
    assume(all(geometry.out_sizes) and all(size + min(low, 0) > 0 for size, (low, _) in zip(sizes, pads, strict=True)))
    return geometry.trimmed()


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("direction", Direction)
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(geometry=geometries())
def test_any_geometry(machine, direction, geometry):
    operands = arrays(geometry, direction)
    got = run(geometry, direction, *operands, machine=machine)
    assert_close(got, geometry, direction, *operands)


WIDE = Convolution(1, (3, 70), 20, (2, 5), 20, (1, 2), ((1, 0), (9, 20)), (1, 4), 20)


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("multiplier", [1, 2, 8])
def test_pads_wider_than_a_tile(direction, multiplier):
    geometry = dataclasses.replace(WIDE, outputs=20 * multiplier)
    operands = arrays(geometry, direction)
    assert_close(run(geometry, direction, *operands), geometry, direction, *operands)


@pytest.mark.parametrize("direction", Direction)
def test_the_number_of_workers_changes_no_bit(direction):
    geometry = Convolution(3, (40, 9), 100, (5, 3), 100, (2, 1), ((2, 2), (1, 1)), (1, 1), 100)
    operands = arrays(geometry, direction)
    machines = [dataclasses.replace(required_host(), workers=workers) for workers in (1, 2, 64)]
    first, *others = (np.asarray(run(geometry, direction, *operands, machine=machine)) for machine in machines)
    assert all((first == other).all() for other in others)


@pytest.mark.parametrize("direction", Direction)
def test_float64(direction):
    with jax.enable_x64(True):
        operands = arrays(LAYER, direction, dtype="float64")
        got = run(LAYER, direction, *operands)
        assert got.dtype == np.float64
        assert_close(got, LAYER, direction, *operands, epsilon=2.0**-52)


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("multiplier", [1, 2])
def test_bfloat16_is_the_rounded_result_of_float32(direction, multiplier):
    geometry = dataclasses.replace(WIDE, outputs=20 * multiplier)
    operands = arrays(geometry, direction, dtype="bfloat16")
    wide = run(geometry, direction, *(operand.astype("float32") for operand in operands))
    got = run(geometry, direction, *operands)
    assert got.dtype == jnp.bfloat16 and (got == wide.astype("bfloat16")).all()


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("activation", ["identity", "relu", "relu6"])
@pytest.mark.parametrize("parts", [("bias",), ("scale", "bias"), ("scale", "residual"), ("bias", "residual")])
def test_epilogue(parts, activation, multiplier):
    geometry = dataclasses.replace(WIDE, outputs=20 * multiplier)
    x, w = arrays(geometry, Direction.FORWARD)
    rng = np.random.default_rng(1)
    shapes = {"scale": geometry.outputs, "bias": geometry.outputs, "residual": geometry.y_shape}
    extras = {name: jnp.asarray(3 * rng.normal(size=shapes[name]), "float32") for name in parts}
    epilogue = Epilogue(**dict.fromkeys(parts, True), activation=activation)
    got = run(geometry, Direction.FORWARD, x, w, *extras.values(), epilogue=epilogue)
    wanted = run(geometry, Direction.FORWARD, x, w) * extras.get("scale", 1.0) + extras.get("bias", 0.0)
    wanted = wanted + extras.get("residual", 0.0)
    limits = {"identity": (-np.inf, np.inf), "relu": (0, np.inf), "relu6": (0, 6)}
    np.testing.assert_allclose(got, jnp.clip(wanted, *limits[activation]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("direction", [Direction.INPUT_GRADIENT, Direction.WEIGHT_GRADIENT])
def test_mask(direction, multiplier):
    geometry = dataclasses.replace(WIDE, outputs=20 * multiplier)
    given = dict(zip(direction.operands, arrays(geometry, direction), strict=True))
    mask = jnp.asarray(np.random.default_rng(1).normal(size=geometry.y_shape), "float32").at[:, :, 0].set(0)
    masked = given | {"y": jnp.where(mask <= 0, 0, given["y"])}
    got, wanted = run(geometry, direction, *given.values(), mask=mask), run(geometry, direction, *masked.values())
    assert (got == wanted).all() and np.abs(wanted).max() > 0


@pytest.mark.parametrize("direction", Direction)
def test_rounding_errors_are_no_larger_than_those_of_torch(direction):
    operands = arrays(LAYER, direction)
    exact = reference(LAYER, direction, *(np.asarray(operand, np.float64) for operand in operands))
    error = lambda result: np.sqrt(np.mean((np.asarray(result, np.float64) - exact) ** 2))
    assert error(run(LAYER, direction, *operands)) <= 1.5 * error(reference(LAYER, direction, *operands))


def test_padding_is_not_multiplied():
    x = jnp.ones((1, 40, 4))
    geometry = Convolution(1, (40,), 4, (3,), 4, (1,), ((1, 1),), (1,), 4)
    y = run(geometry, Direction.FORWARD, x, jnp.full((3, 1, 4), jnp.inf))
    assert (y == jnp.inf).all()


def test_nan_stays_where_it_is_read():
    x = jnp.ones((1, 40, 20)).at[0, 11, 3].set(jnp.nan)
    geometry = Convolution(1, (40,), 20, (3,), 20, (1,), ((1, 1),), (1,), 20)
    y = run(geometry, Direction.FORWARD, x, jnp.ones((3, 1, 20)))
    assert np.argwhere(np.isnan(y)).tolist() == [[0, 10, 3], [0, 11, 3], [0, 12, 3]]


@pytest.mark.parametrize("direction", Direction)
def test_code_for_neon(direction):
    walk = depthwise.plan(WIDE, direction, "float32", NEON)
    struct = lambda shape: jax.ShapeDtypeStruct(shape, "float32")
    operands, result = map(struct, WIDE.operand_shapes(direction)), struct(WIDE.result_shape(direction))
    if direction is Direction.WEIGHT_GRADIENT:
        text = depthwise.depthwise_weight_gradient.text([*operands], [result], NEON, walk=walk)
    else:
        options = {"walk": walk, "direction": direction, "epilogue": Epilogue()}
        text = depthwise.depthwise_sums.text([*operands], [result], NEON, **options)
    assert objects.compile_object(text, NEON).startswith(b"\x7fELF")


@pytest.mark.parametrize("direction", list(Direction))
def test_code_of_a_multiplier_stays_small(direction):
    """Numbers are not moved between lanes for each tap."""
    geometry = dataclasses.replace(LAYER, outputs=LAYER.inputs * 8)
    shapes = [jax.ShapeDtypeStruct(shape, "float32") for shape in geometry.operand_shapes(direction)]
    result = jax.ShapeDtypeStruct(geometry.result_shape(direction), "float32")
    walk = depthwise.plan(geometry, direction, "float32", AVX512)
    if direction is Direction.WEIGHT_GRADIENT:
        text = depthwise.depthwise_weight_gradient.text(shapes, [result], AVX512, walk=walk)
    else:
        options = {"walk": walk, "direction": direction, "epilogue": Epilogue()}
        text = depthwise.depthwise_sums.text(shapes, [result], AVX512, **options)
    assert len(objects.compile_object(text, AVX512)) < 14 << 10


def test_what_it_leaves_to_others():
    candidates = lambda **changes: depthwise.candidates(
        dataclasses.replace(LAYER, **changes), Direction.FORWARD, "float32", TWO
    )
    assert [candidate.name for candidate in candidates()] == ["depthwise"]
    assert candidates(groups=24) == [] == candidates(groups=1)
    assert candidates(outputs=48 * 9) == [] == candidates(kernel=(3, 65), sizes=(28, 80))

"""The direct convolution kernel: output and input gradient against float64 sums, for every kind of window."""

import dataclasses
import math
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import llvmlite.binding as llvm
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fluxion.kernels import cells, objects
from fluxion.kernels.direct import candidates, direct, planner_of
from fluxion.kernels.direct_plan import Plan
from fluxion.kernels.epilogue import Epilogue
from fluxion.kernels.generated import kernel
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.machine import AVX2, AVX512, NEON, host
from fluxion.kernels.sweep import Axis, Sweep

pytestmark = pytest.mark.skipif(host() is None, reason="no code can be generated for this processor")
FORWARD, GRADIENT = Direction.FORWARD, Direction.INPUT_GRADIENT
LANES = {8: dataclasses.replace(AVX2, workers=2)} if host() and host().name != "neon" else {}
if host() and host().name == "avx512":
    LANES[16] = dataclasses.replace(host(), workers=2)
MACHINES = list(LANES.values()) or [host()]
PLAIN_SUMS = Epilogue()
ROOT = pathlib.Path(__file__).parents[1]
EPSILON = {"float32": 2**-23, "float64": 2**-52, "bfloat16": 2**-8}
SQUARE = Convolution(3, (9, 8), 5, (3, 3), 19, (1, 1), ((1, 1), (1, 1)), (1, 1))
STRIDED = Convolution(4, (7, 9), 16, (3, 3), 24, (2, 2), ((1, 1), (1, 0)), (1, 1))
SMALL = Convolution(14, (2, 2), 9, (3, 3), 33, (1, 1), ((1, 1), (1, 1)), (1, 1))
LONG = Convolution(1, (301,), 3, (5,), 8, (2,), ((4, 2),), (3,))
GROUPED = Convolution(2, (6, 6), 12, (3, 3), 18, (1, 1), ((1, 1), (1, 1)), (1, 1), 3)
SOLID = Convolution(2, (5, 6, 7), 4, (2, 3, 2), 6, (2, 1, 2), ((0, 1), (1, 1), (1, 0)), (1, 2, 1))
NARROW = Convolution(19, (6, 7), 8, (3, 2), 3, (2, 1), ((1, 1), (1, 0)), (1, 1))
PLAIN = [SQUARE, STRIDED, SMALL, LONG, GROUPED, SOLID, NARROW]


def numbers(shape, seed, dtype="float32"):
    """Normal numbers that this type holds without rounding, as float64."""
    return np.random.default_rng(seed).normal(size=shape).astype(jnp.dtype(dtype)).astype("float64")


def expected(geometry, direction, source, w):
    """The result and the sum of absolute values behind each number of it, which bounds rounding, in float64."""
    g, rank = geometry, len(geometry.sizes)
    padded = tuple(size + max(low, 0) + max(high, 0) for size, (low, high) in zip(g.sizes, g.pads, strict=True))
    x = np.zeros((g.batch, *padded, g.inputs))
    inner = (slice(None), *(slice(max(low, 0), max(low, 0) + n) for n, (low, _) in zip(g.sizes, g.pads, strict=True)))
    y = source if direction is GRADIENT else np.zeros(g.y_shape)
    if direction is FORWARD:
        x[inner] = source
    for tap in np.ndindex(*g.kernel):
        window = []
        for k, (low, _), count, step, hole in zip(tap, g.pads, g.out_sizes, g.stride, g.dilation, strict=True):
            first = k * hole - min(low, 0)
            window.append(slice(first, first + (count - 1) * step + 1, step))
        window = (slice(None), *window)
        for group in range(g.groups):
            i = (*window, slice(group * g.group_inputs, (group + 1) * g.group_inputs))
            o = (..., slice(group * g.group_outputs, (group + 1) * g.group_outputs))
            if direction is FORWARD:
                y[o] += np.tensordot(x[i], w[tap][o], axes=(rank + 1, 0))
            else:
                x[i] += np.tensordot(y[o], w[tap][o], axes=(rank + 1, 1))
    return y if direction is FORWARD else x[inner]


def terms(geometry, direction):
    """How many products a sum has at most."""
    channels = geometry.group_inputs if direction is FORWARD else geometry.group_outputs
    return math.prod(geometry.kernel) * channels


def run(geometry, direction, machine, dtype="float32", seed=0, **options):
    """What the kernel computes, as float64, and the two operands."""
    a, w = (numbers(shape, seed + place, dtype) for place, shape in enumerate(geometry.operand_shapes(direction)))
    (candidate,) = candidates(geometry, direction, dtype, machine)
    got = candidate.run(jnp.asarray(a, dtype), jnp.asarray(w, dtype), **options)
    assert got.dtype == dtype
    assert got.shape == geometry.result_shape(direction)
    return np.asarray(got).astype("float64"), a, w


def assert_right(geometry, direction, machine, dtype="float32", seed=0):
    got, a, w = run(geometry, direction, machine, dtype, seed)
    assert_close(got, geometry, direction, a, w, dtype)


def assert_close(got, geometry, direction, a, w, dtype):
    wanted = expected(geometry, direction, a, w)
    sizes = expected(geometry, direction, abs(a), abs(w))
    sums = EPSILON["float64" if dtype == "float64" else "float32"] * terms(geometry, direction)
    assert (abs(got - wanted) <= sums * sizes + EPSILON[dtype] * abs(wanted)).all()


@st.composite
def convolutions(draw, channels=(1, 3, 8, 16, 17, 33), batch=None):
    rank = draw(st.integers(1, 3))
    several = lambda low, high: tuple(draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank)))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outputs = (groups * draw(st.sampled_from(channels)) for _ in range(2))
    sizes = several(1, 10 if rank < 3 else 5)
    pads = tuple(zip(several(-2, 3), several(-2, 3), strict=True))
    batch = batch or draw(st.integers(1, 18))
    geometry = Convolution(batch, sizes, inputs, several(1, 4), outputs, several(1, 3), pads, several(1, 3), groups)
    assume(min(geometry.out_sizes) > 0)
    assume(all(size + min(low, 0) + min(high, 0) > 0 for size, (low, high) in zip(sizes, pads, strict=True)))
    return geometry


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(convolutions(), st.sampled_from([FORWARD, GRADIENT]), st.sampled_from(MACHINES), st.integers(0, 99))
def test_any_window(geometry, direction, machine, seed):
    assert_right(geometry, direction, machine, seed=seed)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize("direction", [FORWARD, GRADIENT])
@pytest.mark.parametrize("geometry", PLAIN, ids=str)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_types(geometry, direction, machine, dtype):
    with jax.enable_x64(True):
        assert_right(geometry, direction, machine, dtype)


def run_plan(geometry, direction, machine, plan, *operands, dtype="float32", epilogue=PLAIN_SUMS, masked=False):
    result = jax.ShapeDtypeStruct(geometry.result_shape(direction), dtype)
    options = {"geometry": geometry, "direction": direction, "epilogue": epilogue, "masked": masked, "plan": plan}
    return direct(*(jnp.asarray(a, dtype) for a in operands), outputs=result, machine=machine, **options)


@pytest.mark.parametrize("direction", [FORWARD, GRADIENT])
@pytest.mark.parametrize("geometry", PLAIN, ids=str)
def test_every_plan_computes_the_same(geometry, direction):
    machine = MACHINES[0]
    planner = planner_of(geometry, direction, "float32", machine, masked=False)
    a, w = (numbers(shape, place) for place, shape in enumerate(geometry.operand_shapes(direction)))
    tiles = list(planner.tiles())
    chosen = [planner.cut(tile, tasks) for tile, tasks in ((tiles[0], 64), (tiles[len(tiles) // 2], 8), (tiles[-1], 3))]
    chosen += [plan for plan in tiles if plan.in_place][-1:]
    wanted = expected(geometry, direction, a, w)
    for plan in chosen:
        got = run_plan(geometry, direction, machine, plan, a, w)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4, err_msg=str(plan))


@st.composite
def in_cells(draw):
    """A convolution with few channels, and a plan with cells of several images."""
    geometry = draw(convolutions([1, 2, 3, 5, 8], batch=draw(st.integers(2, 37))))
    direction, machine = draw(st.sampled_from([FORWARD, GRADIENT])), draw(st.sampled_from(MACHINES))
    dtype = draw(st.sampled_from(["float32", "float32", "bfloat16", "float64"]))
    planner = planner_of(geometry, direction, dtype, machine, masked=False)
    tiles = [plan for plan in planner.tiles() if plan.cell > 1]
    assume(tiles)
    cell = draw(st.sampled_from(sorted({plan.cell for plan in tiles})))
    tile = draw(st.sampled_from([plan for plan in tiles if plan.cell == cell]))
    return geometry, direction, machine, dtype, planner.cut(tile, draw(st.sampled_from([1, 3, 8])))


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(in_cells(), st.integers(0, 99), st.booleans())
def test_images_side_by_side(problem, seed, masked):
    geometry, direction, machine, dtype, plan = problem
    shapes = geometry.operand_shapes(direction)
    a, w = (numbers(shape, seed + place, dtype) for place, shape in enumerate(shapes))
    extras = [numbers(shapes[0], seed, dtype).round()] if masked else []
    with jax.enable_x64(True):
        got = np.asarray(run_plan(geometry, direction, machine, plan, a, w, *extras, dtype=dtype, masked=masked))
    a = np.where(extras[0] <= 0, 0, a) if masked else a
    assert_close(got.astype("float64"), geometry, direction, a, w, dtype)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("outputs", [1, 3, 4, 8])
def test_epilogue_of_images_side_by_side(outputs, residual):
    geometry = Convolution(17, (3, 5), 3, (2, 2), outputs, (1, 1), ((1, 0), (0, 1)), (1, 1))
    a, w = (numbers(shape, place) for place, shape in enumerate(geometry.operand_shapes(FORWARD)))
    scale, bias, added = numbers(outputs, 7), numbers(outputs, 8), numbers(geometry.y_shape, 9)
    wanted = (expected(geometry, FORWARD, a, w) * scale + bias + (added if residual else 0)).clip(0)
    epilogue = Epilogue(scale=True, bias=True, residual=residual, activation="relu")
    extras = (scale, bias, added) if residual else (scale, bias)
    planner = planner_of(geometry, FORWARD, "float32", MACHINES[-1], masked=False)
    for cell in {plan.cell for plan in planner.tiles()}:
        plan = planner.cut(max((p for p in planner.tiles() if p.cell == cell), key=lambda p: p.along * p.vectors), 2)
        got = run_plan(geometry, FORWARD, MACHINES[-1], plan, a, w, *extras, epilogue=epilogue)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4, err_msg=str(plan))


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect")
def test_images_side_by_side_between_forbidden_pages():
    program = (ROOT / "tests" / "programs" / "cells_between_forbidden_pages.py").read_text()
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == "all kernels stayed within their buffers\n", done.stderr


def test_images_share_vectors_where_that_pays():
    window = ((5, 5), 8, (2, 2), ((2, 2), (2, 2)), (1, 1))
    planned = lambda direction, *shape: planner_of(Convolution(*shape), direction, "float32", AVX512, masked=False).best
    assert planned(FORWARD, 128, (28, 28), 1, *window).cell == 2
    assert planned(FORWARD, 1, (28, 28), 1, *window).cell == 1
    assert planned(FORWARD, 16, (32, 32), 32, (3, 3), 4, (1, 1), ((1, 1), (1, 1)), (1, 1)).cell == 4
    assert planned(FORWARD, 16, (32, 32), 32, (3, 3), 64, (1, 1), ((1, 1), (1, 1)), (1, 1)).cell == 1
    assert planned(GRADIENT, 128, (14, 14), 8, (3, 3), 16, (2, 2), ((1, 1), (1, 1)), (1, 1)).cell == 2


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_rows_are_woven_and_taken_apart_again(rows):
    lanes = MACHINES[0].lanes()

    @kernel
    def weaving(k, x, woven, again, repetitions):
        with k.parallel(tasks=1) as f:
            made = cells.weave(f, [f[x].load(i * lanes) for i in range(rows)])
            for i, (numbers, row) in enumerate(zip(made, cells.unwoven(f, made), strict=True)):
                f[woven].store(numbers, i * lanes)
                f[again].store(row, i * lanes)
            f[repetitions].store(cells.repeated(f[x], rows))

    x = jnp.arange(float(rows * lanes)).reshape(rows, lanes)
    woven, again, repetitions = weaving(x, outputs=(x, x, x[0]), machine=MACHINES[0])
    np.testing.assert_array_equal(woven.ravel(), x.T.ravel())
    np.testing.assert_array_equal(again, x)
    np.testing.assert_array_equal(repetitions, np.tile(np.arange(rows), lanes // rows))


@pytest.mark.parametrize("inputs, outputs", [(1, 6), (3, 64)])
def test_sums_stay_in_registers(inputs, outputs):
    """Taps that overlap must not be kept from one step to the next, in the place of sums."""
    geometry = Convolution(8, (32, 32), inputs, (5, 5), outputs, (1, 1), ((2, 2), (2, 2)), (1, 1))
    shapes = [jax.ShapeDtypeStruct(shape, "float32") for shape in geometry.operand_shapes(FORWARD)]
    result = jax.ShapeDtypeStruct(geometry.result_shape(FORWARD), "float32")
    options = {"geometry": geometry, "direction": FORWARD, "epilogue": Epilogue(), "masked": False}
    module = llvm.parse_assembly(direct.text(shapes, [result], AVX512, **options))
    code = objects.target_machine(AVX512, jit=True).emit_assembly(module)
    assert "zmm" in code
    assert len([line for line in code.splitlines() if "zmm" in line and "rsp" in line]) < 10


@pytest.mark.parametrize("activation", ["identity", "relu", "relu6"])
@pytest.mark.parametrize("geometry", [SQUARE, GROUPED], ids=str)
def test_epilogue(geometry, activation):
    machine, outputs = MACHINES[-1], geometry.outputs
    scale, bias, residual = numbers(outputs, 7), numbers(outputs, 8), numbers(geometry.y_shape, 9)
    extras = [jnp.asarray(extra, "float32") for extra in (scale, bias, residual)]
    (candidate,) = candidates(geometry, FORWARD, "float32", machine)
    x, w = (numbers(shape, place) for place, shape in enumerate(geometry.operand_shapes(FORWARD)))
    epilogue = Epilogue(scale=True, bias=True, residual=True, activation=activation)
    got = candidate.run(jnp.asarray(x, "float32"), jnp.asarray(w, "float32"), *extras, epilogue=epilogue)
    sums = expected(geometry, FORWARD, x, w) * scale + bias + residual
    low, high = {"identity": (-np.inf, np.inf), "relu": (0, np.inf), "relu6": (0, 6)}[activation]
    np.testing.assert_allclose(got, sums.clip(low, high), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("geometry", PLAIN, ids=str)
def test_mask(geometry):
    machine = MACHINES[-1]
    mask = numbers(geometry.y_shape, 5).round()
    got, dy, w = run(geometry, GRADIENT, machine, mask=jnp.asarray(mask, "float32"))
    np.testing.assert_allclose(got, expected(geometry, GRADIENT, np.where(mask <= 0, 0, dy), w), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("direction", [FORWARD, GRADIENT])
@pytest.mark.parametrize("geometry", PLAIN, ids=str)
def test_workers_do_not_change_a_bit(geometry, direction):
    one, two = (run(geometry, direction, dataclasses.replace(MACHINES[-1], workers=n))[0] for n in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("direction", [FORWARD, GRADIENT])
@pytest.mark.parametrize("geometry", [SQUARE, STRIDED, SMALL], ids=str)
def test_compiles_for_neon(geometry, direction):
    shapes = [jax.ShapeDtypeStruct(shape, "float32") for shape in geometry.operand_shapes(direction)]
    result = jax.ShapeDtypeStruct(geometry.result_shape(direction), "float32")
    options = {"geometry": geometry, "direction": direction, "epilogue": Epilogue(), "masked": False}
    assert objects.compile_object(direct.text(shapes, [result], NEON, **options), NEON)[:4] == b"\x7fELF"


@pytest.mark.parametrize("direction", [FORWARD, GRADIENT])
@pytest.mark.parametrize("size, channels", [(16, 32), (4, 128)])
def test_error_is_that_of_pytorch(direction, size, channels):
    geometry = Convolution(16, (size, size), channels, (3, 3), channels, (1, 1), ((1, 1), (1, 1)), (1, 1))
    got, a, w = run(geometry, direction, MACHINES[-1])
    wanted = expected(geometry, direction, a, w)
    a, w = (torch.from_numpy(array.astype("float32")) for array in (a, w))
    function = torch.nn.functional.conv2d if direction is FORWARD else torch.nn.functional.conv_transpose2d
    theirs = function(a.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), padding=1).permute(0, 2, 3, 1).double().numpy()
    rms = lambda result: np.sqrt(np.mean((result - wanted) ** 2))
    assert rms(got) <= 1.5 * rms(theirs)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(*[st.integers(1, 9)] * 3, st.integers(-2, 4), st.integers(1, 4), st.integers(-2, 4))
def test_axes_meet_what_the_definition_says(size, kernel, stride, low, dilation, high):
    count = (size + low + high - (kernel - 1) * dilation - 1) // stride + 1
    assume(count > 0)
    pairs = {
        (i, i * stride + k * dilation - low, k)
        for i in range(count)
        for k in range(kernel)
        if 0 <= i * stride + k * dilation - low < size
    }

    def visited(axis):
        return {
            (phase + axis.step * t, source, tap)
            for phase, taps in enumerate(axis.taps)
            for t in range(axis.counts[phase])
            for j, tap in enumerate(taps)
            if 0 <= (source := axis.scale * t + axis.starts[phase] + axis.spacing * j) < axis.source
        }

    forward = Axis.forward(size, count, kernel, stride, low, dilation)
    gradient = Axis.gradient(size, count, kernel, stride, low, dilation)
    assert visited(forward) == pairs
    assert {(y, x, k) for x, y, k in visited(gradient)} == pairs
    assert forward.meetings == gradient.meetings == len(pairs)


def test_small_images_are_summed_over_images_and_large_ones_along_x():
    planned = lambda *shape: planner_of(Convolution(*shape), FORWARD, "float32", AVX512, masked=False).best
    window = ((1, 1), ((1, 1), (1, 1)), (1, 1))
    small = planned(64, (2, 2), 512, (3, 3), 512, *window)
    large = planned(1, (56, 56), 64, (3, 3), 64, *window)
    assert small.images > 1 == small.along
    assert large.along > 1 == large.images


def test_source_without_padding_can_be_read_in_place():
    geometry = Convolution(2, (8, 8), 24, (2, 2), 16, (2, 2), ((0, 0), (0, 0)), (1, 1))
    planner = planner_of(geometry, FORWARD, "float32", AVX512, masked=False)
    assert any(plan.in_place for plan in planner.tiles())
    masked = planner_of(geometry, FORWARD, "float32", AVX512, masked=True)
    assert not any(plan.in_place for plan in masked.tiles())
    assert planner.layout(Plan(1, 4, 1, in_place=True))[1] == 0


def test_no_candidate_for_weight_gradients_and_other_types():
    assert candidates(SQUARE, Direction.WEIGHT_GRADIENT, "float32", AVX512) == []
    assert candidates(SQUARE, FORWARD, "float16", AVX512) == []


def test_fewer_axes_are_axes_of_one_position():
    sweep = Sweep.of(LONG, FORWARD)
    assert [axis.size for axis in sweep.axes] == [1, 1, *LONG.out_sizes]
    assert sweep.taps == (0, 1, 2, 3, 4)

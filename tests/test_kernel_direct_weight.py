"""The direct weight-gradient kernel against float64 sums, for every kind of window."""

import dataclasses

import jax
import jax.numpy as jnp
import llvmlite.binding as llvm
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jax import ShapeDtypeStruct

from fluxion.kernels import objects
from fluxion.kernels.direct_weight import candidates, direct_weight
from fluxion.kernels.direct_weight_plan import Axis, Plan, Problem, choose, three_axes
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.machine import AVX2, AVX512, NEON, host

pytestmark = pytest.mark.skipif(host() is None, reason="no code can be generated for this processor")
WEIGHT = Direction.WEIGHT_GRADIENT
LANES = {8: dataclasses.replace(AVX2, workers=2)} if host() and host().name != "neon" else {}
if host() and host().name == "avx512":
    LANES[16] = dataclasses.replace(host(), workers=2)
MACHINES = list(LANES.values()) or [host()]
EPSILON = {"float32": 2**-23, "float64": 2**-52, "bfloat16": 2**-8}
SQUARE = Convolution(3, (9, 8), 5, (3, 3), 19, (1, 1), ((1, 1), (1, 1)), (1, 1))
STRIDED = Convolution(4, (7, 9), 16, (3, 3), 24, (2, 2), ((1, 1), (1, 0)), (1, 1))
SMALL = Convolution(14, (2, 2), 40, (3, 3), 33, (1, 1), ((1, 1), (1, 1)), (1, 1))
LONG = Convolution(1, (701,), 3, (5,), 8, (2,), ((4, 2),), (3,))
GROUPED = Convolution(2, (6, 6), 12, (3, 3), 18, (1, 1), ((1, 1), (1, 1)), (1, 1), 3)
DEPTHWISE = Convolution(2, (6, 6), 5, (3, 3), 10, (1, 1), ((1, 1), (1, 1)), (1, 1), 5)
SOLID = Convolution(2, (5, 6, 7), 4, (2, 3, 2), 6, (2, 1, 2), ((0, 1), (1, 1), (1, 0)), (1, 2, 1))
POINT = Convolution(3, (7, 11), 37, (1, 1), 70, (1, 1), ((0, 0), (0, 0)), (1, 1))
SPARSE = Convolution(2, (9, 9), 17, (1, 1), 16, (2, 3), ((0, -2), (-1, 0)), (1, 1))
FAR = Convolution(2, (3, 3), 2, (2, 2), 4, (9, 9), ((12, 12), (12, 12)), (12, 12))  # some taps read padding alone
CROWDED = Convolution(5, (9, 9), 6, (5, 5), 16, (1, 1), ((0, 0), (0, 0)), (1, 1))  # windows share most of their numbers
PLAIN = [SQUARE, STRIDED, SMALL, LONG, GROUPED, DEPTHWISE, SOLID, POINT, SPARSE, FAR, CROWDED]


def numbers(shape, seed, dtype="float32"):
    """Normal numbers that this type holds without rounding, as float64."""
    return np.random.default_rng(seed).normal(size=shape).astype(jnp.dtype(dtype)).astype("float64")


def expected(geometry, x, dy):
    """The gradient in float64: for each tap the product of all pairs of positions that it joins."""
    g, dw = geometry, np.zeros(geometry.w_shape)
    outputs = np.indices(g.out_sizes).reshape(len(g.sizes), -1)
    for tap in np.ndindex(*g.kernel):
        axes = zip(outputs, g.stride, tap, g.dilation, g.pads, strict=True)
        inputs = [i * stride + k * hole - low for i, stride, k, hole, (low, _) in axes]
        inside = np.all([(i >= 0) & (i < size) for i, size in zip(inputs, g.sizes, strict=True)], axis=0)
        met = x[(slice(None), *(i[inside] for i in inputs))]
        by = dy[(slice(None), *(i[inside] for i in outputs))]
        for group in range(g.groups):
            c = slice(group * g.group_inputs, (group + 1) * g.group_inputs)
            o = slice(group * g.group_outputs, (group + 1) * g.group_outputs)
            dw[tap][..., o] = np.einsum("npc,npo->co", met[..., c], by[..., o])
    return dw


def check(geometry, machine, dtype="float32", masked=False):
    """Every candidate keeps to the bound of a sum's rounding error."""
    x, dy, y = (numbers(shape, seed, dtype) for seed, shape in enumerate((geometry.x_shape, *[geometry.y_shape] * 2)))
    mask = {"mask": jnp.asarray(y, dtype)} if masked else {}
    kept = dy * (y > 0) if masked else dy
    want, size = expected(geometry, x, kept), expected(geometry, abs(x), abs(kept))
    found = candidates(geometry, WEIGHT, dtype, machine)
    for candidate in found:
        got = candidate.run(jnp.asarray(x, dtype), jnp.asarray(dy, dtype), **mask)
        assert got.dtype == dtype
        assert got.shape == geometry.w_shape
        bound = (8 if dtype == "bfloat16" else 32) * EPSILON[dtype] * size
        assert (abs(np.asarray(got, "float64") - want) <= bound + 1e-30).all(), candidate.name
    return len(found)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize("geometry", PLAIN, ids=str)
def test_weight_gradient(geometry, machine):
    assert check(geometry, machine) == (2 if geometry.kernel[-1] > 1 and geometry.dilation[-1] == 1 else 1)


@st.composite
def geometries(draw):
    axes = draw(st.integers(1, 3))
    group = draw(st.sampled_from([1, 1, 2, 3]))

    def each(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    geometry = Convolution(
        draw(st.integers(1, 9)),
        each(1, 24 if axes == 1 else 7),
        group * draw(st.integers(1, 20)),
        each(1, 4),
        group * draw(st.integers(1, 40)),
        each(1, 3),
        tuple(zip(each(-1, 3), each(-1, 3), strict=True)),
        each(1, 2),
        group,
    )
    assume(0 not in geometry.y_shape and all(size > 0 for size in geometry.out_sizes))
    return geometry.trimmed()


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(geometries(), st.sampled_from(MACHINES), st.booleans())
def test_any_geometry(geometry, machine, masked):
    check(geometry, machine, masked=masked)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("geometry", [SQUARE, SMALL, GROUPED], ids=str)
def test_other_types(geometry, dtype):
    with jax.enable_x64(dtype == "float64"):
        check(geometry, MACHINES[-1], dtype, masked=True)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_mask_is_relu_backward(machine):
    check(STRIDED, machine, masked=True)


def test_mask_leaves_out_what_is_not_a_number():
    """relu passes gradients on where its result is above 0, which NaN is not."""
    (candidate,) = candidates(POINT, WEIGHT, "float32", MACHINES[-1])
    x, dy = jnp.ones(POINT.x_shape), jnp.ones(POINT.y_shape)
    got = candidate.run(x, dy, mask=jnp.full(POINT.y_shape, jnp.nan).at[0].set(1.0))
    assert (got == 7 * 11).all()


def plans(geometry, machine, merged):
    """The chosen plan, and others that cut the same problem in ways which it would choose for larger ones."""
    chosen = choose(geometry, machine, "float32", merged)
    lanes = machine.lanes()
    for change in (
        {"row_blocks": 1, "column_blocks": 1, "parts": 1},
        {"rows": 2, "row_blocks": 2, "parts": 2, "sum_rows": 2},
        {"rows": 3, "row_blocks": 1, "images": 2, "chains": 4},
        {"rows": 4, "row_blocks": 3, "images": 3, "lengths": (1, 3, 3), "sum_rows": 2, "parts": 5},
        {"lengths": (2, 2, 5), "parts": 3, "chains": 2},
    ):
        plan = dataclasses.replace(chosen, **change)
        if plan.rows <= Problem(geometry, plan, lanes).tap_rows:
            yield plan


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("geometry", [SQUARE, STRIDED, GROUPED, SOLID], ids=str)
def test_every_plan_computes_the_same(geometry, merged):
    machine = MACHINES[-1]
    x, dy = numbers(geometry.x_shape, 0), numbers(geometry.y_shape, 1)
    want, outputs = expected(geometry, x, dy), ShapeDtypeStruct(geometry.w_shape, "float32")
    tried = 0
    for plan in plans(geometry, machine, merged):
        got = direct_weight(
            jnp.asarray(x, "float32"),
            jnp.asarray(dy, "float32"),
            outputs=outputs,
            machine=machine,
            geometry=geometry,
            plan=plan,
        )
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.sqrt(np.mean(want**2)), err_msg=str(plan))
        tried += 1
    assert tried >= 2


@pytest.mark.parametrize("geometry", [SMALL, POINT, LONG], ids=str)
def test_same_bits_on_any_number_of_workers(geometry):
    x, dy = (jnp.asarray(numbers(shape, 5), "float32") for shape in (geometry.x_shape, geometry.y_shape))
    machines = [dataclasses.replace(MACHINES[-1], workers=workers) for workers in (1, 2, 7)]
    results = [[c.run(x, dy) for c in candidates(geometry, WEIGHT, "float32", machine)] for machine in machines]
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            assert (one == other).all()


@pytest.mark.parametrize(
    "geometry",
    [
        Convolution(16, (32, 32), 64, (3, 3), 64, (1, 1), ((1, 1), (1, 1)), (1, 1)),
        Convolution(64, (4, 4), 128, (3, 3), 64, (1, 1), ((1, 1), (1, 1)), (1, 1)),
        Convolution(8, (56, 56), 64, (1, 1), 64, (1, 1), ((0, 0), (0, 0)), (1, 1)),
        Convolution(2, (112, 112), 3, (7, 7), 64, (2, 2), ((3, 3), (3, 3)), (1, 1)),
    ],
    ids=str,
)
def test_error_is_no_worse_than_that_of_torch(geometry):
    x, dy = numbers(geometry.x_shape, 0), numbers(geometry.y_shape, 1)

    def torch_gradient(dtype):
        w = torch.zeros(geometry.outputs, geometry.inputs, *geometry.kernel, dtype=dtype)
        a, c = (torch.from_numpy(v).to(dtype).permute(0, 3, 1, 2).contiguous() for v in (dy, x))
        pads = [low for low, _ in geometry.pads]
        arguments = (None, list(geometry.stride), pads, [1, 1], False, [0, 0], 1, [False, True, False])
        _, dw, _ = torch.ops.aten.convolution_backward(a, c, w, *arguments)
        return dw.permute(2, 3, 1, 0).double().numpy()

    want = torch_gradient(torch.float64)

    def error(got):
        return np.sqrt(np.mean((np.asarray(got, "float64") - want) ** 2))

    for candidate in candidates(geometry, WEIGHT, "float32", MACHINES[-1]):
        ours = error(candidate.run(jnp.asarray(x, "float32"), jnp.asarray(dy, "float32")))
        assert ours <= 1.5 * error(torch_gradient(torch.float32)), candidate.name


def test_compiles_for_neon():
    for geometry in (SQUARE, POINT):
        shapes = [ShapeDtypeStruct(shape, "float32") for shape in geometry.operand_shapes(WEIGHT)]
        outputs, plan = [ShapeDtypeStruct(geometry.w_shape, "float32")], choose(geometry, NEON, "float32", False)
        text = direct_weight.text(shapes, outputs, NEON, geometry=geometry, plan=plan)
        assert len(objects.compile_object(text, NEON)) > 1000


def test_code_stays_small():
    geometry = Convolution(8, (56, 56), 256, (3, 3), 256, (2, 2), ((1, 1), (1, 1)), (1, 1))
    shapes = [ShapeDtypeStruct(shape, "float32") for shape in geometry.operand_shapes(WEIGHT)]
    outputs = [ShapeDtypeStruct(geometry.w_shape, "float32")]
    for merged in (False, True):
        plan = choose(geometry, AVX512, "float32", merged)
        text = direct_weight.text(shapes, outputs, AVX512, geometry=geometry, plan=plan)
        assert len(objects.compile_object(text, AVX512)) < 16 << 10


def test_sums_stay_in_registers():
    shapes = [ShapeDtypeStruct(shape, "float32") for shape in CROWDED.operand_shapes(WEIGHT)]
    outputs, plan = [ShapeDtypeStruct(CROWDED.w_shape, "float32")], choose(CROWDED, AVX512, "float32", True)
    module = llvm.parse_assembly(direct_weight.text(shapes, outputs, AVX512, geometry=CROWDED, plan=plan))
    code = objects.target_machine(AVX512, jit=True).emit_assembly(module)
    assert len([line for line in code.splitlines() if "zmm" in line and "rsp" in line]) < plan.rows


def test_other_problems_are_left_to_others():
    for direction in (Direction.FORWARD, Direction.INPUT_GRADIENT):
        assert candidates(SQUARE, direction, "float32", MACHINES[-1]) == []
    assert candidates(SQUARE, WEIGHT, "float16", MACHINES[-1]) == []


def test_estimates_prefer_merged_taps_for_few_channels():
    def names(inputs):
        geometry = Convolution(32, (8, 8), inputs, (5, 5), 32, (1, 1), ((2, 2), (2, 2)), (1, 1))
        found = candidates(geometry, WEIGHT, "float32", AVX512)
        return [candidate.name for candidate in sorted(found, key=lambda candidate: candidate.seconds)]

    assert names(1) == ["direct, merged taps", "direct"]
    assert names(128) == ["direct", "direct, merged taps"]


def test_axis():
    axis = Axis(size=7, out=4, taps=3, stride=2, dilation=1, low=1)
    assert [axis.tap(tap) for tap in range(3)] == [(-1, 1), (0, 0), (0, 1)]
    assert [axis.valid(tap) for tap in range(3)] == [(1, 4), (0, 4), (0, 3)]
    assert axis.phases == [0, 1]
    assert axis.reach == (-1, 0)
    assert axis.meetings == 10
    assert Axis(5, 5, taps=1, stride=2).phases == [0]


def test_axes_that_do_nothing_join_the_batch():
    assert three_axes(POINT) == (3 * 7 * 11, (Axis(1, 1),) * 3)
    batch, axes = three_axes(SQUARE)
    assert batch == 3
    assert axes[0] == Axis(1, 1)
    assert axes[2].taps == 3


def test_plan_does_not_depend_on_workers():
    one, many = (dataclasses.replace(AVX512, workers=workers) for workers in (1, 64))
    for merged in (False, True):
        plan = choose(STRIDED, one, "float32", merged)
        assert isinstance(plan, Plan)
        assert plan == choose(STRIDED, many, "float32", merged)

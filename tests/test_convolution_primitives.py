"""The three primitives of convolution: values, derivatives, transformations of JAX, and where kernels take over."""

import functools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jax import export
from jax.lax import ConvDimensionNumbers

import fluxion as fx
from fluxion.kernels import choice, convolution, xla
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.modes import Mode

PRIMITIVES = {
    Direction.FORWARD: convolution.convolution,
    Direction.INPUT_GRADIENT: convolution.input_gradient,
    Direction.WEIGHT_GRADIENT: convolution.weight_gradient,
}
PLAIN = Convolution(2, (5, 6), 2, (3, 2), 3, (2, 1), ((1, 0), (0, 2)), (1, 2))
GROUPED = Convolution(2, (7,), 4, (3,), 6, (2,), ((1, 1),), (1,), 2)


@pytest.fixture(autouse=True)
def no_kernels(monkeypatch):
    """The primitives by themselves: kernels have tests of their own."""
    monkeypatch.setattr(choice, "convolution", lambda *question: None)


def numbers(shape, seed=0, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def arrays(geometry, seed=0, dtype=np.float64):
    return [numbers(geometry.shape(name), seed + place, dtype) for place, name in enumerate("xwy")]


def ours(geometry):
    return lambda x, w: convolution.convolution(x, w, geometry)


def reference(geometry):
    """XLA's convolution, with the derivatives that JAX has for it."""
    last = len(geometry.sizes) + 1
    outer, kernel = (0, last, *range(1, last)), (last, last - 1, *range(last - 1))
    return lambda x, w: jax.lax.conv_general_dilated(
        x,
        w,
        geometry.stride,
        geometry.pads,
        rhs_dilation=geometry.dilation,
        dimension_numbers=ConvDimensionNumbers(outer, kernel, outer),
        feature_group_count=geometry.groups,
    )


def assert_same(got, wanted, **tolerance):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, **({"rtol": 1e-9, "atol": 1e-9} | tolerance)), got, wanted
    )


def derivatives(function, point, tangents):
    """Values, first derivatives, and all second ones: forward and reverse mode over each other."""
    x, w, dy = point
    tx, tw, ty = tangents
    pull = lambda x, w, dy: jax.vjp(function, x, w)[1](dy)
    push = lambda x, w, tx, tw: jax.jvp(function, (x, w), (tx, tw))
    return {
        "reverse": pull(x, w, dy),
        "forward": push(x, w, tx, tw),
        "forward over reverse": jax.jvp(pull, (x, w, dy), (tx, tw, ty)),
        "reverse over reverse": jax.vjp(pull, x, w, dy)[1]((tx, tw)),
        "forward over forward": jax.jvp(push, (x, w, tx, tw), (tw.sum() * x, x.sum() * w, tx, tw)),
        "reverse over forward": jax.vjp(push, x, w, tx, tw)[1]((ty, dy)),
    }


@st.composite
def geometries(draw):
    rank = draw(st.integers(1, 3))
    each = lambda least, most: st.tuples(*[st.integers(least, most)] * rank)
    groups, inputs, outputs = (draw(st.integers(1, most)) for most in (3, 2, 2))
    geometry = Convolution(
        batch=draw(st.integers(0, 2)),
        sizes=draw(each(1, 7 - rank)),
        inputs=groups * inputs,
        kernel=draw(each(1, 3)),
        outputs=groups * outputs,
        stride=draw(each(1, 3)),
        pads=draw(st.tuples(*[st.tuples(st.integers(-2, 3), st.integers(-2, 3))] * rank)),
        dilation=draw(each(1, 3)),
        groups=groups,
    )
    assume(all(geometry.out_sizes))
    kept = zip(geometry.sizes, geometry.pads, strict=True)
    assume(all(size + min(low, 0) + min(high, 0) > 0 for size, (low, high) in kept))
    return geometry


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(geometries())
def test_values_and_derivatives_are_those_of_xlas_convolution(geometry):
    with jax.enable_x64(True):
        point, tangents = arrays(geometry), arrays(geometry, seed=3)
        compute = jax.jit(lambda: [derivatives(f(geometry), point, tangents) for f in (ours, reference)])
        assert_same(*compute())


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(geometries())
def test_trimmed_geometry_reads_the_same_inputs(geometry):
    trimmed = geometry.trimmed()
    assert trimmed.y_shape == geometry.y_shape and trimmed.trimmed() == trimmed
    for size, span, step, count, (low, high), (before, now) in zip(
        geometry.sizes, geometry.spans, geometry.stride, geometry.out_sizes, geometry.pads, trimmed.pads, strict=True
    ):
        end = (count - 1) * step - low + span  # the first position that no window reaches
        assert before == low and now <= max(high, 0)
        assert now == max(end - size, 0) or (end <= size - step and -step < now + size - end < step)


def test_geometry_counts_and_prints():
    assert GROUPED.operand_shapes(Direction.WEIGHT_GRADIENT) == ((2, 7, 4), (2, 4, 6))
    assert GROUPED.result_shape(Direction.WEIGHT_GRADIENT) == (3, 2, 6)
    assert (GROUPED.group_inputs, GROUPED.group_outputs, GROUPED.flops) == (2, 3, 2 * 2 * 4 * 6 * 3 * 2)
    assert Convolution(1, (2,), 1, (3,), 1, (1,), ((0, 0),), (1,)).out_sizes == (0,)
    text = "x 2x7x4, w 3x2x6, y 2x4x6, stride (2,), pads ((1, 1),), dilation (1,), groups 2"
    assert str(GROUPED) == text and text in str(jax.make_jaxpr(ours(GROUPED))(*arrays(GROUPED, dtype=np.float32)[:2]))


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float32, np.complex64])
def test_every_type_is_kept(dtype):
    x, w, dy = arrays(GROUPED, dtype=dtype)
    exact = [np.asarray(array, np.complex128 if dtype is np.complex64 else np.float64) for array in (x, w, dy)]
    with jax.enable_x64(True):
        y, pullback = jax.vjp(reference(GROUPED), *exact[:2])
        wanted = [y, *pullback(exact[2])]
    y, pullback = jax.vjp(ours(GROUPED), x, w)
    got = [y, *pullback(dy)]
    assert {array.dtype for array in got} == {np.dtype(dtype)}
    rounding = 8 * float(jnp.finfo(dtype).eps)
    assert_same([np.asarray(array, exact[0].dtype) for array in got], wanted, rtol=rounding, atol=4 * rounding)


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("field", ["batch", "inputs", "outputs"])
def test_empty_arrays(direction, field):
    geometry = Convolution(**{**vars(PLAIN), field: 0})
    left, right = (jnp.ones(shape) for shape in geometry.operand_shapes(direction))
    for run in (PRIMITIVES[direction], jax.jit(PRIMITIVES[direction], static_argnums=2)):
        assert_same(run(left, right, geometry), np.zeros(geometry.result_shape(direction)))


@pytest.mark.parametrize(
    ("x", "w", "message"),
    [
        (jnp.ones((2, 7, 5)), jnp.ones((3, 2, 6)), r"forward of a convolution expects x of shape \(2, 7, 4\), got"),
        (jnp.ones((2, 7, 4)), jnp.ones((3, 4, 6)), r"forward of a convolution expects w of shape \(3, 2, 6\), got"),
        (jnp.ones((2, 7, 4)), jnp.ones((3, 2, 6), jnp.bfloat16), "got float32 and bfloat16; convert with astype"),
        (jnp.ones((2, 7, 4), int), jnp.ones((3, 2, 6), int), "floating or complex type, got int32 and int32"),
    ],
)
def test_operands_that_do_not_fit(x, w, message):
    with pytest.raises(TypeError, match=message):
        convolution.convolution(x, w, GROUPED)


@pytest.mark.parametrize("geometry", [PLAIN, GROUPED], ids=["plain", "groups"])
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("mapped", [(0, None), (None, 1), (2, -1)], ids=["left", "right", "both"])
def test_vmap_is_a_loop(geometry, direction, mapped):
    run = lambda left, right: PRIMITIVES[direction](left, right, geometry)
    shapes = geometry.operand_shapes(direction)
    singles = [[numbers(s, seed, np.float32) for seed in range(3)] for s in shapes]
    stacks = [a[0] if axis is None else jnp.stack(a, axis) for a, axis in zip(singles, mapped, strict=True)]
    pick = lambda i: [a[0 if axis is None else i] for a, axis in zip(singles, mapped, strict=True)]
    wanted = [run(*pick(i)) for i in range(3)]
    assert_same(jax.vmap(run, mapped, 1)(*stacks), jnp.stack(wanted, 1), rtol=1e-4, atol=1e-5)
    jaxpr = str(jax.make_jaxpr(jax.vmap(run, mapped))(*stacks))
    assert jaxpr.count("geometry=") == 1


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("mapped", [(0, None), (None, 0), (0, 0)], ids=["left", "right", "both"])
def test_vmap_over_nothing(direction, mapped):
    shapes = GROUPED.operand_shapes(direction)
    operands = [jnp.ones(s if axis is None else (0, *s)) for s, axis in zip(shapes, mapped, strict=True)]
    result = jax.vmap(lambda left, right: PRIMITIVES[direction](left, right, GROUPED), mapped)(*operands)
    assert result.shape == (0, *GROUPED.result_shape(direction))


def test_nested_vmap_and_gradients_per_example():
    x, w = numbers((3, 4, *GROUPED.x_shape), 1, np.float32), numbers((4, *GROUPED.w_shape), 2, np.float32)
    per_example = lambda f: jax.vmap(jax.vmap(jax.grad(lambda w, x: jnp.sum(jnp.sin(f(x, w))))), (None, 0))
    got, wanted = (per_example(f(GROUPED))(w, x) for f in (ours, reference))
    assert got.shape == (3, 4, *GROUPED.w_shape)
    assert_same(got, wanted, rtol=1e-4, atol=1e-4)


def scanned(function, x, w):
    """Five steps, each of which convolves with a changed weight."""
    step = lambda total, scale: (total + jnp.tanh(function(x, w * scale)).sum(), None)
    return jax.lax.scan(step, jnp.zeros((), x.dtype), jnp.arange(1.0, 6.0, dtype=x.dtype))[0]


TRANSFORMED = {
    "linearize": lambda f, x, w: jax.linearize(f, x, w)[1](x + 1, w - 1),
    "linear_transpose": lambda f, x, w: jax.linear_transpose(lambda w: f(x, w), w)(f(x, w)),
    "jacfwd": lambda f, x, w: jax.jacfwd(f, (0, 1))(x, w),
    "jacrev": lambda f, x, w: jax.jacrev(f, (0, 1))(x, w),
    "hessian": lambda f, x, w: jax.hessian(lambda w: jnp.sum(jnp.sin(f(x, w))))(w),
    "checkpoint": lambda f, x, w: jax.grad(jax.checkpoint(lambda x, w: jnp.sum(jnp.sin(f(x, w)))), (0, 1))(x, w),
    "scan": lambda f, x, w: jax.value_and_grad(lambda *args: scanned(f, *args), (0, 1))(x, w),
    "grad of grad": lambda f, x, w: jax.grad(lambda x: jnp.sum(jax.grad(lambda w: jnp.sum(f(x, w) ** 3))(w) ** 2))(x),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformations(name):
    transform = TRANSFORMED[name]
    geometry = Convolution(1, (4,), 2, (2,), 2, (2,), ((1, 0),), (1,), 2)
    with jax.enable_x64(True):
        x, w, _ = arrays(geometry)
        wanted = transform(reference(geometry), x, w)
        assert_same(transform(ours(geometry), x, w), wanted)
        assert_same(jax.jit(lambda x, w: transform(ours(geometry), x, w))(x, w), wanted)


def test_the_precision_in_force_reaches_xla():
    x, w, _ = arrays(PLAIN, dtype=np.float32)
    with jax.default_matmul_precision("highest"):
        traced = jax.jit(jax.grad(lambda w: jnp.sum(ours(PLAIN)(x, w) ** 2))).trace(w)
    text = traced.lower().as_text()
    assert (text.count("stablehlo.convolution"), text.count("precision HIGHEST")) == (2, 4)


@pytest.fixture
def asked(monkeypatch):
    """What the choice of kernels was asked, while it answers with one that gives twice the result."""
    questions = []

    def choose(geometry, direction, dtype, mode, machine):
        questions.append((geometry, direction, dtype, mode))
        return lambda left, right: 2 * xla.convolve(left, right, direction=direction, geometry=geometry)

    monkeypatch.setattr(choice, "convolution", choose)
    return questions


def test_a_kernel_takes_over_on_the_cpu(asked):
    x, w, dy = arrays(GROUPED, dtype=np.float32)
    y, pullback = jax.vjp(reference(GROUPED), x, w)
    pull = jax.jit(lambda x, w, dy: (ours(GROUPED)(x, w), *jax.vjp(ours(GROUPED), x, w)[1](dy)))
    assert_same(pull(x, w, dy), tuple(2 * array for array in (y, *pullback(dy))), rtol=1e-4, atol=1e-5)
    assert {question[1] for question in asked} == set(Direction)
    assert {question[0] for question in asked} == {GROUPED.trimmed()} and GROUPED.trimmed().pads == ((1, 1),)
    assert {question[2:] for question in asked} == {(np.dtype("float32"), Mode())}


def test_a_choice_may_run_programs_while_one_is_compiled(monkeypatch):
    def choose(geometry, direction, dtype, mode, machine):
        left, right = (jnp.ones(shape, dtype) for shape in geometry.operand_shapes(direction))
        timed = jax.jit(lambda left, right: xla.convolve(left, right, direction=direction, geometry=geometry))
        scale = float(timed(left, right).max())
        return lambda left, right: scale * timed(left, right)

    monkeypatch.setattr(choice, "convolution", choose)
    x, w, _ = arrays(GROUPED, dtype=np.float32)
    assert_same(jax.jit(lambda x, w: ours(GROUPED)(x, w))(x, w), 6 * reference(GROUPED)(x, w), rtol=1e-4, atol=1e-5)


def test_the_mode_is_part_of_every_program(asked):
    x, w, _ = arrays(GROUPED, dtype=np.float32)
    run = jax.jit(jax.grad(lambda w: jnp.sum(ours(GROUPED)(x, w) ** 2)))
    run(w)
    mode = Mode("auto", precise=True)
    with fx.kernels.use(precise=True):
        run(w)
        traced = run.trace(w)
        with fx.kernels.use("xla"):
            pass
    traced.lower()
    assert [question[3] for question in asked] == [Mode()] * 2 + [mode] * 4
    assert str(mode) in str(traced.jaxpr)


def test_an_export_holds_xlas_convolution(asked):
    model = jax.jit(jax.value_and_grad(lambda w, x: jnp.sum(jnp.sin(fx.conv(x, w, stride=2, pad=1)))))
    types = jax.ShapeDtypeStruct((3, 3, 2, 4), np.float32), jax.ShapeDtypeStruct((2, 8, 8, 2), np.float32)
    for platforms in (["cpu"], ["cuda"], ["tpu"], ["cpu", "cuda", "tpu"]):
        text = export.export(model, platforms=platforms)(*types).mlir_module()
        assert "stablehlo.convolution" in text and "custom_call" not in text, platforms
    assert not asked


def test_an_export_for_any_batch():
    (batch,) = export.symbolic_shape("batch")
    w = numbers((3, 3, 2, 4), dtype=np.float32)
    pass_back = lambda x: jax.vjp(lambda x: fx.conv(x, w, stride=2, pad=1), x)[1](jnp.ones((x.shape[0], 4, 4, 4)))
    program = export.export(jax.jit(pass_back))(jax.ShapeDtypeStruct((batch, 8, 8, 2), np.float32))
    x = numbers((5, 8, 8, 2), dtype=np.float32)
    assert_same(program.call(x), pass_back(x), rtol=1e-5, atol=1e-5)


def test_a_nan_is_found_in_the_convolution_that_makes_it():
    model, x = fx.Conv((3,), 1, 1), jnp.full((1, 5, 1), jnp.inf)
    with fx.debug(nan=True), pytest.raises(FloatingPointError, match="encountered in finished_convolution"):
        fx.compile(lambda m, x: m(x))(model, x * jnp.array([1, -1, 1, -1, 1.0])[:, None])


def test_eight_devices():
    tests = pathlib.Path(__file__).parent
    changes = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(tests.parent), os.environ.get("PYTHONPATH", "")]),
    }
    script = tests / "programs" / "convolution_on_eight_devices.py"
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(command, env=os.environ | changes, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["shard_map", "partitioned", "explicit"]

"""Max pooling with positions: kernels and plain operations against references, and derivatives in every mode."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import export

import fluxion as fx
from fluxion.kernels import objects, pooling
from fluxion.kernels.generated import required_host
from fluxion.kernels.machine import AVX2, NEON
from fluxion.ops import maxpool, windowsums
from fluxion.ops.windows import Windows

MACHINES = {"host": required_host(), "eight lanes": dataclasses.replace(AVX2, workers=2)}
TYPES = ("float32", "bfloat16")


def numbers(shape, seed=0, dtype="float32"):
    """Few different numbers, so that maxima tie."""
    return jnp.asarray(np.random.default_rng(seed).integers(-2, 3, shape), dtype)


def windows_of(kernel, strides, pads):
    return Windows(kernel, strides, pads, (1,) * len(kernel))


@st.composite
def problems(draw):
    axes = draw(st.integers(1, 3))
    each = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(axes))
    kernel, strides = each(1, 4), each(1, 3)
    pads = tuple((draw(st.integers(0, size - 1)), draw(st.integers(0, size - 1))) for size in kernel)
    sizes = (*each(4, 6)[1:], draw(st.integers(4, 40)))
    return (draw(st.integers(1, 2)), *sizes, draw(st.integers(1, 37))), windows_of(kernel, strides, pads)


PADDED = ((2, 7, 30, 20), windows_of((3, 3), (2, 2), ((1, 1), (2, 1))))
EXACT = ((2, 8, 32, 20), windows_of((2, 2), (2, 2), ((0, 0), (0, 0))))


def reference(x, windows):
    """XLA's own operation, with the derivative that JAX has for it."""
    return windowsums.reduce_windows(x, -np.inf, jax.lax.max, windows)


def operations(machine, shape, windows, dtype="float32"):
    """The kernels by themselves: `largest`, `picked` and `scattered`."""
    x_type = jax.ShapeDtypeStruct(shape, dtype)
    y_shape = (shape[0], *windows.counts(shape[1:-1]), shape[-1])
    y_type = jax.ShapeDtypeStruct(y_shape, dtype)
    return (
        pooling.largest_call(machine, x_type, windows, True),
        pooling.call_to_windows(pooling.pick_positions, machine, x_type, windows, shape[1:-1]),
        pooling.call_to_inputs(pooling.scatter_to_positions, machine, y_type, windows, shape[1:-1]),
    )


def plain_operations(shape, windows):
    settings = {"windows": windows, "sizes": shape[1:-1]}
    return (
        functools.partial(maxpool._plain_largest_at, windows=windows),
        functools.partial(maxpool._plain_picked, **settings),
        functools.partial(maxpool._plain_scattered, **settings),
    )


def assert_equal(got, wanted):
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(np.asarray(got, np.float64), np.asarray(wanted, np.float64))


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(problem=problems(), dtype=st.sampled_from(TYPES))
def test_kernels_and_plain_operations_agree(machine, problem, dtype):
    shape, windows = problem
    x = numbers(shape, dtype=dtype)
    wanted, pull = jax.vjp(functools.partial(reference, windows=windows), x)
    dx, dy = numbers(shape, 1, dtype), jnp.asarray(np.random.default_rng(2).normal(size=wanted.shape), dtype)
    kernels, plain = operations(machine, shape, windows, dtype), plain_operations(shape, windows)
    (y, positions), (plain_y, plain_positions) = kernels[0](x), plain[0](x)
    assert_equal(y, wanted)
    assert_equal(plain_y, wanted)
    assert_equal(positions, plain_positions)
    assert_equal(kernels[1](dx, positions)[0], plain[1](dx, positions)[0])
    assert_equal(kernels[1](x, positions)[0], y)
    if dtype == "float32":
        assert_equal(kernels[2](dy, positions)[0], pull(dy)[0])
        assert_equal(plain[2](dy, positions)[0], pull(dy)[0])
    else:
        wide = kernels[2](dy, positions)[0].astype("float32")
        np.testing.assert_allclose(wide, plain[2](dy.astype("float32"), positions)[0], rtol=2**-8, atol=1e-30)


def test_float64():
    shape, windows = PADDED
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).normal(size=shape))
        largest, picked, scattered = operations(required_host(), shape, windows, "float64")
        y, positions = largest(x)
        assert_equal(y, reference(x, windows))
        assert_equal(picked(x, positions)[0], y)
        pulled = jax.vjp(functools.partial(reference, windows=windows), x)[1](y)[0]
        assert_equal(scattered(y, positions)[0], pulled)


@pytest.mark.parametrize("operations", [functools.partial(operations, required_host()), plain_operations])
def test_nan_and_negative_infinity(operations):
    shape, windows = (1, 3, 40, 5), windows_of((2, 2), (1, 2), ((1, 0), (1, 1)))
    x = jnp.full(shape, -jnp.inf).at[0, 1, 5:8].set(jnp.nan).at[0, 2, 6].set(1.0)
    y, positions = operations(shape, windows)[0](x)
    np.testing.assert_array_equal(y, reference(x, windows))
    in_x = lambda row, column: positions[0, row, column, 0].item()
    assert [in_x(0, 0), in_x(0, 1), in_x(1, 0), in_x(2, 20)] == [3, 2, 1, 0]  # the first one that is no padding
    assert [in_x(2, 3), in_x(1, 3), in_x(2, 4)] == [0, 2, 0]  # the first NaN


@pytest.mark.parametrize("kernels", ["auto", "xla"])
@pytest.mark.parametrize("problem", [PADDED, EXACT])
def test_derivatives_in_every_mode(problem, kernels):
    shape, windows = problem
    rng = np.random.default_rng(0)
    x, dx, ddx = (jnp.asarray(rng.normal(size=shape), "float32") for _ in range(3))
    pool = lambda f: lambda x: f(jnp.sin(x), windows)

    def derivatives(f):
        y, pull = jax.vjp(f, x)
        push = lambda x: jax.jvp(f, (x,), (dx,))[1]
        gradient = lambda x: jax.grad(lambda x: (f(x) ** 2).sum())(x)
        return {
            "value": y,
            "forward": push(x),
            "reverse": pull(y)[0],
            "forward over reverse": jax.jvp(gradient, (x,), (ddx,))[1],
            "reverse over reverse": jax.grad(lambda x: (gradient(x) * ddx).sum())(x),
            "forward over forward": jax.jvp(push, (x,), (ddx,))[1],
            "reverse over forward": jax.grad(lambda x: (push(x) ** 2).sum())(x),
            "vmap": jax.vmap(gradient)(jnp.stack([x, dx]))[0],
            "checkpoint": jax.grad(lambda x: (jax.checkpoint(f)(x) ** 2).sum())(x),
        }

    with fx.kernels.use(kernels):
        got = derivatives(pool(maxpool.max_pool_of_floats))
    wanted = derivatives(pool(reference))
    for name in wanted:
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_mapped_axis_becomes_part_of_the_batch():
    shape, windows = PADDED
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, *shape)), "float32")
    gradient = jax.grad(lambda x: (maxpool.max_pool_of_floats(x, windows) ** 2).sum())
    several = jax.jit(jax.vmap(gradient))
    text = several.lower(x).as_text()
    assert all(f"fluxion_{name}" in text for name in ("max_pool", "scatter_to_positions"))
    np.testing.assert_array_equal(several(x), jnp.stack([gradient(one) for one in x]))
    nothing = jax.vmap(gradient)(x[:0])
    assert nothing.shape == (0, *shape)


def test_second_derivatives_run_on_kernels():
    shape, windows = PADDED
    gradient = jax.grad(lambda x: (maxpool.max_pool_of_floats(x, windows) ** 2).sum())
    text = jax.jit(lambda x: jax.jvp(gradient, (x,), (x,))[1]).lower(jnp.ones(shape)).as_text()
    for name in ("max_pool", "pick_positions", "scatter_to_positions"):
        assert f"fluxion_{name}" in text
    assert "stablehlo.pad" not in text


def test_as_torch():
    x = np.random.default_rng(0).normal(size=(2, 13, 17, 24)).astype("float32")
    theirs = torch.tensor(x).movedim(-1, 1).requires_grad_()
    y = F.max_pool2d(theirs, 3, 2, 1)
    y.backward(y.detach())
    pooled, pull = jax.vjp(lambda x: fx.max_pool(x, (3, 3), stride=2, pad=1), jnp.asarray(x))
    np.testing.assert_array_equal(pooled, y.detach().movedim(1, -1))
    np.testing.assert_allclose(pull(pooled)[0], theirs.grad.movedim(1, -1), rtol=1e-6)


def test_exported_programs_hold_no_kernels():
    x = jnp.ones((1, 8, 8, 4))
    gradient = jax.jit(jax.grad(lambda x: fx.max_pool(x, (2, 2)).sum()))
    exported = export.export(gradient, platforms=("cpu", "cuda"))(x)
    assert "fluxion_" not in exported.mlir_module() and "fluxion_" in gradient.lower(x).as_text()
    assert_equal(exported.call(x), gradient(x))


def test_windows_too_large_for_positions():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 20, 20, 3)), "float32")
    windows = windows_of((9, 9), (5, 5), ((0, 0), (0, 0)))
    assert not maxpool.has_positions(x, windows) and not maxpool.has_positions(x.astype(int), EXACT[1])
    got = jax.grad(lambda x: fx.max_pool(x, (9, 9), stride=5).sum())(x)
    assert_equal(got, jax.grad(lambda x: reference(x, windows).sum())(x))


def test_the_number_of_workers_changes_no_bit():
    shape, windows = (3, 40, 9, 100), windows_of((3, 3), (1, 2), ((1, 1), (1, 1)))
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), "float32")
    results = []
    for workers in (1, 2, 64):
        largest, _, scattered = operations(dataclasses.replace(required_host(), workers=workers), shape, windows)
        y, positions = largest(x)
        results.append((y, positions, scattered(y, positions)[0]))
    for result in results[1:]:
        jax.tree.map(assert_equal, result, results[0])


def test_code_for_neon():
    (shape, windows), struct = PADDED, jax.ShapeDtypeStruct
    y_shape = (shape[0], *windows.counts(shape[1:-1]), shape[-1])
    x, y, positions = struct(shape, "float32"), struct(y_shape, "float32"), struct(y_shape, "int8")
    forward = pooling.walk_of(NEON, pooling.windows_of(shape, y_shape, windows), x)
    backward = pooling.walk_of(NEON, pooling.holders_of(shape, y_shape, windows), y)
    texts = [
        pooling.max_pool.text([x], [y, positions], NEON, walk=forward),
        pooling.pick_positions.text([x, positions], [y], NEON, walk=forward),
        pooling.scatter_to_positions.text([y, positions], [x], NEON, walk=backward),
    ]
    assert all(objects.compile_object(text, NEON).startswith(b"\x7fELF") for text in texts)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(problem=problems(), dtype=st.sampled_from(TYPES))
def test_sums_of_windows(machine, problem, dtype):
    shape, windows = problem
    x = numbers(shape, dtype=dtype)
    wanted, pull = jax.vjp(lambda x: windowsums.reduce_windows(x, 0, jax.lax.add, windows), x)
    assert_equal(pooling.call_to_windows(pooling.sum_sources, machine, x, windows, shape[1:-1])(x)[0], wanted)
    dy = numbers(wanted.shape, 1, dtype)
    assert_equal(pooling.call_to_inputs(pooling.sum_sources, machine, dy, windows, shape[1:-1])(dy)[0], pull(dy)[0])


@pytest.mark.parametrize("kernels", ["auto", "xla"])
def test_derivatives_of_sums_of_windows(kernels):
    shape, windows = PADDED
    x, dx = numbers(shape), numbers(shape, 1)
    both = (windowsums.sum_windows, lambda x, windows: windowsums.reduce_windows(x, 0, jax.lax.add, windows))
    results = []
    with fx.kernels.use(kernels):
        for pool in both:
            square = lambda x: (pool(x, windows) ** 2).sum()  # noqa: B023
            results.append(
                [
                    jax.jvp(jax.grad(square), (x,), (dx,)),
                    jax.grad(lambda x: jax.jvp(square, (x,), (dx,))[1])(x),  # noqa: B023
                    jax.vmap(jax.grad(square))(jnp.stack([x, dx])),
                ]
            )
    jax.tree.map(assert_equal, *results)


def test_sums_of_overlapping_windows_run_on_kernels():
    shape, windows = PADDED
    gradient = jax.jit(jax.grad(lambda x, windows: (windowsums.sum_windows(x, windows) ** 2).sum()), static_argnums=1)
    assert gradient.lower(jnp.ones(shape), windows).as_text().count("@fluxion_sum_sources") == 2
    assert "@fluxion_" not in gradient.lower(jnp.ones(EXACT[0]), EXACT[1]).as_text()

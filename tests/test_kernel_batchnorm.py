"""Batch-norm kernels and their derivatives, against float64 and PyTorch."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export

import fluxion as fx
from fluxion.kernels import objects
from fluxion.kernels.batchnorm import backward_call, batchnorm_backward, batchnorm_forward, forward_call
from fluxion.kernels.machine import AVX2, NEON, host
from fluxion.ops.batchnorm import normalised

MACHINES = {machine.name: machine for machine in (host(), replace(AVX2, workers=2))}
EPS = 1e-5


def draw(rows, channels, dtype="float32", offset=0.0):
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, rows, channels))
    return [(x + offset).astype(dtype), dy.astype(dtype)], list(rng.normal(size=(2, channels)))


def reference(x, dy, scale, bias, activation):
    """Values and gradients in float64, by PyTorch."""
    x, scale, bias = (torch.tensor(np.asarray(a, "float64"), requires_grad=True) for a in (x, scale, bias))
    y = F.batch_norm(x, None, None, scale, bias, training=True, eps=EPS)
    y = {"identity": lambda y: y, "relu": F.relu, "relu6": F.relu6}[activation](y)
    gradients = torch.autograd.grad(y, [x, scale, bias], torch.tensor(np.asarray(dy, "float64")))
    return [y.detach().numpy(), *(g.numpy() for g in gradients)]


def ours(x, dy, scale, bias, activation, machine):
    x, dy, scale, bias = (jnp.asarray(a) for a in (x, dy, scale, bias))
    y, mean, var = forward_call(machine, x, eps=EPS, activation=activation)(x, scale, bias)
    return [y, *backward_call(machine, x, eps=EPS, activation=activation)(dy, x, scale, bias, mean, var)]


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    rows=st.sampled_from([2, 3, 31, 32, 33, 100, 2100]),
    channels=st.sampled_from([1, 3, 16, 17, 40, 64, 130]),
    activation=st.sampled_from(["identity", "relu", "relu6"]),
    machine=st.sampled_from(sorted(MACHINES)),
)
def test_values_and_gradients(rows, channels, activation, machine):
    arrays, affine = draw(rows, channels, "float64")
    with jax.enable_x64(True):
        made = ours(*arrays, *affine, activation, MACHINES[machine])
    for one, other in zip(made, reference(*arrays, *affine, activation), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    rows=st.sampled_from([2, 33, 2100]),
    channels=st.sampled_from([1, 17, 64, 130]),
    activation=st.sampled_from(["identity", "relu", "relu6"]),
    machine=st.sampled_from(sorted(MACHINES)),
)
def test_a_residual_is_added_before_the_activation(rows, channels, activation, machine):
    (x, residual), affine = draw(rows, channels, "float64")
    with jax.enable_x64(True):
        x, residual, *affine = map(jnp.asarray, (x, residual, *affine))
        call = lambda activation, *more: forward_call(MACHINES[machine], x, eps=EPS, activation=activation)(
            x, *affine, *more
        )
        (made, *statistics), (y, *wanted) = call(activation, residual), call("identity")
        made, *statistics, y, mean, var = map(np.asarray, (made, *statistics, y, *wanted))
    total = y + np.asarray(residual)
    np.testing.assert_allclose(made, {"identity": total, "relu": total.clip(0), "relu6": total.clip(0, 6)}[activation])
    np.testing.assert_array_equal(statistics, [mean, var])


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_float32_is_more_exact_than_pytorch(machine, offset):
    arrays, affine = draw(5000, 40, offset=offset)
    affine = [a.astype("float32") for a in affine]
    exact = reference(*arrays, *affine, "identity")
    made = ours(*arrays, *affine, "identity", MACHINES[machine])
    x, scale, bias = (torch.tensor(a, requires_grad=True) for a in (arrays[0], *affine))
    y = F.batch_norm(x, None, None, scale, bias, training=True, eps=EPS)
    theirs = [y.detach(), *torch.autograd.grad(y, [x, scale, bias], torch.tensor(arrays[1]))]
    for one, other, right in zip(made, theirs, exact, strict=True):
        error, allowed = (np.sqrt(np.mean((np.asarray(a) - right) ** 2)) for a in (one, other))
        assert error <= 1.5 * allowed + 1e-7 * np.abs(right).max()


@pytest.mark.parametrize("mean", [0.0, 1e4])
def test_rows_unlike_the_others_cost_no_digits(mean):
    x = (np.random.default_rng(0).normal(size=(20000, 20)) + mean).astype("float32")
    x[:40] = x[7000:7050] = 0
    call = forward_call(host(), jnp.asarray(x), eps=EPS, activation="identity")
    y, average, var = (np.asarray(a, "float64") for a in call(x, np.ones(20, "float32"), np.zeros(20, "float32")))
    exact = x.astype("float64")
    np.testing.assert_allclose(average, exact.mean(0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(var, exact.var(0), rtol=3e-6)
    np.testing.assert_allclose(y, (exact - exact.mean(0)) / np.sqrt(exact.var(0) + EPS), atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_shows_in_the_statistics(value):
    x = np.ones((100, 20), "float32")
    x[5, 3] = value
    call = forward_call(host(), jnp.asarray(x), eps=EPS, activation="identity")
    y, average, var = map(np.asarray, call(x, np.ones(20, "float32"), np.zeros(20, "float32")))
    assert np.isnan(var[3]) and not np.isfinite(average[3]) and np.isnan(y[:, 3]).all()
    others = np.arange(20) != 3
    assert not var[others].any() and (average[others] == 1).all()


def test_bfloat16_is_computed_in_float32():
    (x, dy), affine = draw(100, 20)
    affine = [a.astype("float32") for a in affine]
    x, dy = jnp.asarray(x, "bfloat16"), jnp.asarray(dy, "bfloat16")
    made = ours(x, dy, *affine, "relu", host())
    assert [a.dtype.name for a in made] == ["bfloat16", "bfloat16", "float32", "float32"]
    exact = reference(x.astype("float32"), dy.astype("float32"), *affine, "relu")
    for one, other in zip(made, exact, strict=True):
        np.testing.assert_allclose(np.asarray(one, "float32"), other, rtol=0.02, atol=0.05)


def test_the_number_of_workers_changes_no_bit():
    arrays, affine = draw(3000, 24)
    affine = [a.astype("float32") for a in affine]
    one, two = (ours(*arrays, *affine, "relu", replace(host(), workers=workers)) for workers in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_code_for_neon_compiles():
    matrix, channels = jax.ShapeDtypeStruct((50, 20), "float32"), jax.ShapeDtypeStruct((20,), "float32")
    texts = (
        batchnorm_forward.text([matrix, channels, channels], [matrix, channels, channels], NEON, **SETTINGS),
        batchnorm_forward.text([matrix, channels, channels, matrix], [matrix, channels, channels], NEON, **SETTINGS),
        batchnorm_backward.text([matrix] * 2 + [channels] * 4, [matrix, channels, channels], NEON, **SETTINGS),
    )
    for text in texts:
        assert objects.compile_object(text, NEON)[:4] == b"\x7fELF"


SETTINGS = {"eps": EPS, "activation": "relu"}


# -------------------------------------------------------------------- as an operation of JAX


def plain(x, scale, bias, residual=0.0, activation="relu"):
    mean, var = x.mean((0, 1)), x.var((0, 1))
    y = (x - mean) * (scale * jax.lax.rsqrt(var + EPS)) + bias + residual
    return {"relu": jax.nn.relu, "identity": lambda y: y}[activation](y)


def fast(x, scale, bias, residual=None, activation="relu"):
    return normalised(x, scale, bias, residual, EPS, activation)[0]


@pytest.fixture
def double():
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("mode", ["auto", "xla"])
@pytest.mark.parametrize("residual", [False, True])
def test_derivatives_of_every_order(double, mode, residual):
    rng = np.random.default_rng(0)
    shapes = ((4, 5, 3), (3,), (3,), (4, 5, 3))[: 3 + residual]
    given = [jnp.asarray(rng.normal(size=shape)) for shape in shapes]
    arguments, axes = tuple(range(len(given))), (0, None, 0, None)[: len(given)]
    direction = [jnp.cos(a) for a in given]
    weights = jnp.asarray(rng.normal(size=(4, 5, 3)))
    both = [lambda *a, f=f: jnp.sum(jnp.sin(f(*a)) * weights) for f in (fast, plain)]
    gradient = lambda f: jax.grad(f, arguments)
    second = lambda f: jax.jvp(gradient(f), given, direction)[1]
    third = lambda f: gradient(lambda *a: sum(jnp.sum(g**2) for g in gradient(f)(*a)))(*given)
    stacked = lambda f: jax.vmap(gradient(f), axes)(
        *(a if axis is None else jnp.stack([a, 2 * a]) for a, axis in zip(given, axes, strict=True))
    )
    with fx.kernels.use(mode):
        for made in (
            lambda f: gradient(f)(*given),
            lambda f: jax.jvp(f, given, direction),
            second,
            third,
            stacked,
        ):
            one, other = (jax.jit(made, static_argnums=0)(f) for f in both)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8), one, other)


def test_only_programs_of_this_cpu_hold_kernels():
    step = jax.jit(jax.grad(lambda x, s, b: fast(x, s, b).sum(), (0, 1, 2)))
    types = [jax.ShapeDtypeStruct(shape, "float32") for shape in ((4, 5, 3), (3,), (3,))]
    assert step.lower(*types).as_text().count("custom_call") == 2
    for platform in ("cpu", "cuda", "tpu"):
        assert "custom_call" not in export.export(step, platforms=[platform])(*types).mlir_module()


def test_the_layer_uses_it_while_training():
    layer = fx.BatchNorm(3, fx.relu)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5, 3)), "float32")
    (gradient,) = fx.gradient(lambda m: jnp.sum(jnp.sin(m(x))), layer)
    ds, db = jax.grad(lambda s, b: jnp.sum(jnp.sin(plain(x, s[None, None], b[None, None]))), (0, 1))(
        layer.scale, layer.bias * 0
    )
    np.testing.assert_allclose(gradient.scale, ds, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradient.bias, db, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.mean, 0.1 * x.mean((0, 1)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(layer.var, 0.9 + 0.1 * x.var((0, 1)) * 30 / 29, rtol=1e-4)

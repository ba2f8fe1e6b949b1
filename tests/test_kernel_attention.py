"""Attention block by block: values and gradients against float64, rules of differentiation, and where it is used."""

import functools
import os
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export

import fluxion as fx
from fluxion.kernels import objects
from fluxion.kernels.attention import Problem
from fluxion.kernels.attention_backward import attend_backward, backward
from fluxion.kernels.attention_forward import attend, forward
from fluxion.kernels.machine import AVX2, NEON, host

MACHINES = [replace(host(), workers=2), replace(AVX2, workers=2)] if host().name == "avx512" else [host()]
SMALL_CACHE = {"l2": 1}  # cuts the keys into the smallest blocks


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def arrays_of(problem, seed=0):
    shapes = (problem.q_shape, problem.k_shape, problem.v_shape, problem.out_shape)
    return [normal(*shape, seed=seed + number) for number, shape in enumerate(shapes)]


def extras_of(problem, mask_shape, bias_shape):
    mask = normal(*mask_shape, seed=7) > -0.3
    mask[..., :1, :] &= mask_shape[-2] == 1  # the first query may attend to nothing, where a mask tells queries apart
    return ([mask] if problem.masked else []) + ([normal(*bias_shape, seed=8)] if problem.biased else [])


def exact(problem, q, k, v, dout, *extras):
    """Output and gradients in float64, by PyTorch."""
    q, k, v, dout = (torch.from_numpy(x.astype(np.float64).swapaxes(1, 2)).requires_grad_() for x in (q, k, v, dout))
    given = dict(zip(problem.extras, map(torch.from_numpy, extras), strict=True))
    scores = problem.scale * q @ k.repeat_interleave(problem.group, 1).mT
    scores = scores + given.get("bias", torch.zeros(()))
    allowed = given.get("mask", torch.ones((), dtype=bool)).expand_as(scores)
    if problem.causal:
        allowed = allowed & torch.ones(scores.shape[-2:], dtype=bool).tril()
    seen = allowed.any(-1, keepdim=True)
    weights = torch.where(seen, scores.masked_fill(~allowed & seen, -torch.inf), 0).softmax(-1) * seen
    out = weights @ v.repeat_interleave(problem.group, 1)
    gradients = torch.autograd.grad(out, (q, k, v), dout)
    return [x.detach().numpy().swapaxes(1, 2) for x in (out, *gradients)]


def generated(problem, machine, q, k, v, dout, *extras):
    out, top, total = forward(q, k, v, *map(jnp.asarray, extras), problem=problem, machine=machine)
    operands = (q, k, v, *map(jnp.asarray, extras), out, top, total, dout)
    return [np.asarray(x) for x in (out, *backward(*operands, problem=problem, machine=machine))]


def check(problem, machine, mask_shape=(1, 1, 1, 1), bias_shape=(1, 1, 1, 1)):
    operands = (*arrays_of(problem), *extras_of(problem, mask_shape, bias_shape))
    for got, wanted in zip(generated(problem, machine, *operands), exact(problem, *operands), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5 * max(np.abs(wanted).max(), 1))


@pytest.fixture(scope="module", params=MACHINES, ids=lambda machine: machine.name)
def machine(request):
    return request.param


# ------------------------------------------------------------------ the kernels


@settings(max_examples=6, deadline=None, derandomize=True)
@given(data=st.data())
def test_values_and_gradients(machine, data):
    def number(low, high):
        return data.draw(st.integers(low, high))

    group, key_heads = number(1, 2), number(1, 2)
    sizes = (number(1, 2), number(1, 70), number(1, 70), group * key_heads, key_heads, number(1, 40), number(1, 40))
    choice = [data.draw(st.booleans()) for _ in range(3)]
    problem = Problem(*sizes, 0.3, *choice)
    scores = (problem.batch, problem.heads, problem.queries, problem.keys)
    shapes = [tuple(data.draw(st.sampled_from((1, size))) for size in scores) for _ in range(2)]
    small = data.draw(st.booleans())
    check(problem, replace(machine, **SMALL_CACHE) if small else machine, *shapes)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1, 3), (7, 257, 20), (257, 7, 64), (257, 257, 20)])
def test_odd_sizes(machine, sizes, causal):
    queries, keys, size = sizes
    check(Problem(1, queries, keys, 2, 1, size, size, size**-0.5, causal), machine)


def test_keys_in_several_tasks(machine):
    check(Problem(1, 40, 300, 2, 2, 8, 8, 0.4, causal=True), replace(machine, **SMALL_CACHE))


def test_infinite_biases(machine):
    problem = Problem(1, 9, 40, 1, 1, 4, 4, 0.5, biased=True)
    bias = np.zeros((1, 1, 9, 40), np.float32)
    bias[..., 1, [3, 30]] = np.inf
    bias[..., 2, :20] = -np.inf
    bias[..., 3, :] = -np.inf
    q, k, v, dout = arrays_of(problem)
    got = generated(problem, replace(machine, **SMALL_CACHE), q, k, v, dout, bias)
    np.testing.assert_allclose(got[0][0, 1, 0], v[0, [3, 30], 0].mean(0), rtol=1e-6)
    np.testing.assert_array_equal(got[0][0, 3, 0], np.zeros(4))
    np.testing.assert_array_equal(got[1][0, [1, 3]], np.zeros((2, 1, 4)))
    plain = functools.partial(fx.dot_product_attention, bias=bias[0, 0], scale=0.5)
    with fx.kernels.use("xla"):
        out, pull = jax.vjp(plain, q[:, :, 0], k[:, :, 0], v[:, :, 0])
        for mine, wanted in zip(got, (out, *pull(dout[:, :, 0])), strict=True):
            np.testing.assert_allclose(mine[:, :, 0], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("problem", [Problem(2, 37, 50, 4, 2, 12, 20, 0.3, True), Problem(1, 9, 300, 1, 1, 8, 8, 0.3)])
def test_any_number_of_workers_gives_the_same_bits(problem):
    operands = arrays_of(problem)
    one, two = (
        generated(problem, replace(MACHINES[0], workers=workers, **SMALL_CACHE), *operands) for workers in (1, 2)
    )
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_rounding_errors_are_those_of_pytorch():
    problem = Problem(2, 256, 256, 2, 2, 64, 64, 0.125)
    operands = arrays_of(problem)
    wanted = exact(problem, *operands)
    q, k, v, dout = (torch.from_numpy(x.swapaxes(1, 2).copy()).requires_grad_() for x in operands)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    theirs = [x.detach().numpy().swapaxes(1, 2) for x in (out, *torch.autograd.grad(out, (q, k, v), dout))]
    for mine, other, right in zip(generated(problem, MACHINES[0], *operands), theirs, wanted, strict=True):
        assert np.square(mine - right).mean() ** 0.5 <= 1.5 * np.square(other - right).mean() ** 0.5


@pytest.mark.parametrize("problem", [Problem(2, 40, 300, 4, 2, 20, 24, 0.3, True, True, True)])
def test_neon_compiles(problem):
    floats = lambda *shapes: [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    mask = jax.ShapeDtypeStruct((1, 1, 300, 40), np.int8)
    operands = floats(problem.q_shape, problem.k_shape, problem.v_shape)
    sums = floats(problem.out_shape, problem.sums_shape, problem.sums_shape)
    extras = [mask, *floats((1, 4, 300, 1))]
    for text in (
        attend.text([*operands, *extras], sums, NEON, problem=problem),
        attend_backward.text([*operands, *sums, sums[0], *extras], operands, NEON, problem=problem),
    ):
        assert objects.compile_object(text, NEON)


# ------------------------------------------------------------------ as an operation of JAX

BIAS = normal(4, 1, 9, seed=5)
MASK = normal(2, 1, 11, 9, seed=4) > -0.5
OPTIONS = {
    "causal and mask": {"causal": True, "mask": np.concatenate([np.zeros((2, 1, 1, 9), bool), MASK[:, :, 1:]], axis=2)},
    "mask and bias": {"mask": MASK[:1], "bias": BIAS},
}
POINT = [jnp.asarray(normal(2, *shape, seed=shape[0])) for shape in ((11, 24), (9, 12), (9, 20), (11, 40))]


def attend_with(options):
    return lambda q, k, v: fx.dot_product_attention(q, k, v, nheads=4, kv_heads=2, **options)


def gradients_of(function, dout):
    return jax.grad(lambda *operands: (function(*operands) * dout).sum(), (0, 1, 2))


def squares(tree):
    return sum((x**2).sum() for x in jax.tree.leaves(tree))


TRANSFORMATIONS = {
    "value": lambda f, dout, *x: f(*x),
    "reverse": lambda f, dout, *x: jax.jit(gradients_of(f, dout))(*x),
    "reverse in keys alone": lambda f, dout, q, k, v: jax.vjp(lambda k: f(q, k, v), k)[1](dout),
    "forward": lambda f, dout, *x: jax.jvp(f, x, x),
    "forward over reverse": lambda f, dout, *x: jax.jvp(gradients_of(f, dout), x, x),
    "reverse over reverse": lambda f, dout, *x: jax.grad(lambda *x: squares(gradients_of(f, dout)(*x)), (0, 1, 2))(*x),
    "reverse over forward": lambda f, dout, *x: jax.grad(lambda *x: squares(jax.jvp(f, x, x)[1]), (0, 1, 2))(*x),
    "in what comes back": lambda f, dout, *x: jax.grad(lambda dout: squares(gradients_of(f, dout)(*x)))(dout),
    "vmap": lambda f, dout, q, k, v: jax.vmap(gradients_of(f, dout), (0, None, None))(jnp.stack([q, 2 * q]), k, v),
    "vmap of keys": lambda f, dout, q, k, v: jax.vmap(f, (None, 1, None))(q, jnp.stack([k, 2 * k], 1), v),
    "vmap of what comes back": lambda f, dout, *x: jax.vmap(jax.vjp(f, *x)[1])(jnp.stack([dout, 2 * dout])),
    "checkpoint": lambda f, dout, *x: jax.jit(gradients_of(jax.checkpoint(f), dout))(*x),
    "linearize": lambda f, dout, *x: jax.linearize(f, *x)[1](*x),
}


def assert_same(got, wanted):
    for mine, other in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5 * max(float(jnp.abs(other).max()), 1))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("transform", TRANSFORMATIONS.values(), ids=TRANSFORMATIONS)
def test_transformations(transform, options):
    got = transform(attend_with(options), POINT[3], *POINT[:3])
    with fx.kernels.use("xla"):
        assert_same(got, transform(attend_with(options), POINT[3], *POINT[:3]))


def test_a_bias_and_a_scale_have_derivatives():
    q, k, v, dout = POINT

    def loss(bias, scale, q):
        return (fx.dot_product_attention(q, k, v, bias, nheads=4, kv_heads=2, scale=scale) * dout).sum()

    def everything():
        point = (jnp.asarray(BIAS), jnp.float32(0.3), q)
        first = jax.grad(loss, (0, 1, 2))
        biases = jnp.stack([point[0], -point[0]])
        return first(*point), jax.jvp(first, point, point), jax.vmap(first, (0, None, None))(biases, *point[1:])

    got = everything()
    with fx.kernels.use("xla"):
        assert_same(got, everything())


def test_any_leading_axes():
    q, k, v = (jnp.asarray(normal(*shape)) for shape in ((2, 3, 9, 4), (2, 3, 5, 4), (2, 3, 5, 4)))
    masks = [None, normal(3, 1, 1, 5) > -1, normal(2, 1, 1, 9, 5) > -1, normal(2, 3, 1, 1, 5) > -1]
    for mask in masks:
        got = fx.dot_product_attention(q, k, v, mask=mask, nheads=2)
        with fx.kernels.use("xla"):
            assert_same(got, fx.dot_product_attention(q, k, v, mask=mask, nheads=2))
    assert_same(fx.dot_product_attention(q[0, 0], k[0, 0], v[0, 0]), fx.dot_product_attention(q, k, v)[0, 0])


def program(*shapes, dtype=jnp.float32, **options):
    x = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    return str(jax.make_jaxpr(lambda q, k: fx.dot_product_attention(q, k, k, **options))(*x))


def test_what_the_kernels_take():
    assert " attention[" in program((1, 16, 8), (1, 16, 8))
    assert " attention[" not in program((1, 1, 8), (1, 16, 8))  # few queries leave most lanes empty
    assert " attention[" not in program((1, 16, 8), (1, 16, 8), dtype=jnp.bfloat16)
    assert " attention[" not in program((1, 16, 8), (1, 16, 8), return_weights=True)
    assert " attention[" not in program((1, 16, 8), (1, 16, 8), dropout=lambda weights: 2 * weights)
    with fx.kernels.use("xla"):
        assert " attention[" not in program((1, 16, 8), (1, 16, 8))


def test_a_compiled_program_calls_the_kernels():
    gradients = jax.jit(gradients_of(attend_with({}), POINT[3])).lower(*POINT[:3])
    assert gradients.as_text().count("custom_call @fluxion_attend") == 2


def test_an_export_holds_plain_operations():
    gradients = jax.jit(gradients_of(attend_with({"causal": True}), POINT[3]))
    for platforms in (["cpu"], ["cuda", "tpu"]):
        assert "custom_call" not in export.export(gradients, platforms=platforms)(*POINT[:3]).mlir_module()
    assert_same(export.export(gradients)(*POINT[:3]).call(*POINT[:3]), gradients(*POINT[:3]))


DEVICES = """
import functools, jax, jax.numpy as jnp, numpy as np, fluxion as fx
from jax.sharding import NamedSharding, PartitionSpec
x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 16, 8)), jnp.float32)
f = jax.grad(lambda x: (fx.dot_product_attention(x, x, x, nheads=2) ** 2).sum())
mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
shards = jax.jit(jax.shard_map(f, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data")))
assert "fluxion_attend" in shards.lower(spread).as_text()
assert "fluxion_attend" not in jax.jit(f).lower(spread).as_text()
for y in (jax.jit(f)(spread), shards(spread)):
    np.testing.assert_allclose(y, f(x), rtol=1e-4, atol=1e-5)
print("same")
"""


def test_eight_devices():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run([sys.executable, "-c", DEVICES], env=environment, capture_output=True, text=True, check=False)
    assert run.stdout == "same\n", run.stderr

"""Convolution over eight devices, against one; run by test_convolution_primitives.py, which forces that many."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fluxion as fx
from fluxion.kernels import choice

asked = []
choice.convolution = lambda geometry, *question: asked.append(geometry.batch)
images = jnp.asarray(np.random.default_rng(0).normal(size=(16, 8, 8, 2)), jnp.float32)
weight = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 2, 4)), jnp.float32)


def network(x, w):
    smaller = jnp.sin(fx.conv(x, w, stride=2, pad=1))
    return fx.conv_transpose(smaller, w, stride=2, pad=1, outpad=1)


def loss(x, w):
    return jnp.sum(network(x, w) ** 2)


def assert_same(got, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, wanted)


expected = jax.jit(jax.value_and_grad(loss, (0, 1)))(images, weight)
second = jax.jit(jax.grad(lambda w: jnp.sum(jax.grad(loss)(images, w) ** 2)))(weight)
assert asked and set(asked) == {16}


def each_device_by_itself():
    """Inside `shard_map` every device runs its own convolution, for which kernels are chosen."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split = jax.shard_map(
        lambda x, w: jax.lax.psum(loss(x, w), "data"), mesh=mesh, in_specs=(P("data"), P()), out_specs=P()
    )
    asked.clear()
    assert_same(jax.jit(jax.value_and_grad(split, (0, 1)))(images, weight), expected)
    assert_same(jax.grad(lambda w: jnp.sum(jax.grad(split)(images, w) ** 2))(weight), second)
    assert asked and set(asked) == {2}

    def unchecked(x, w):
        value, (dx, dw) = jax.value_and_grad(loss, (0, 1))(x, w)
        return jax.lax.psum(value, "data"), (dx, jax.lax.psum(dw, "data"))

    specs = {"in_specs": (P("data"), P()), "out_specs": (P(), (P("data"), P()))}
    assert_same(jax.jit(jax.shard_map(unchecked, mesh=mesh, check_vma=False, **specs))(images, weight), expected)

    part = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    asked.clear()
    partly = jax.shard_map(network, mesh=part, axis_names={"data"}, in_specs=(P("data"), P()), out_specs=P("data"))
    assert_same(jax.jit(partly)(images, weight), network(images, weight))
    assert not set(asked) & {4}


def partitioned_by_xla():
    """A program over arrays that lie on eight devices holds XLA's operation, which XLA can split: no kernels."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    x = jax.device_put(images, NamedSharding(mesh, P("data")))
    w = jax.device_put(weight, NamedSharding(mesh, P()))
    asked.clear()
    step = jax.jit(jax.value_and_grad(loss, (0, 1)))
    assert_same(step(x, w), expected)
    assert not asked
    text = step.lower(x, w).compile().as_text()
    assert "all-gather" not in text and "all-reduce" in text


def sharding_in_types():
    """Where the types say how arrays are split, JAX's own rules for a convolution hold."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(images, NamedSharding(mesh, P("data")))
        w = jax.device_put(weight, NamedSharding(mesh, P()))
        value, (dx, dw) = jax.jit(jax.value_and_grad(loss, (0, 1)))(x, w)
        assert jax.typeof(dx).sharding.spec[0] == "data"
        pooled = jax.jit(jax.grad(lambda x: (fx.max_pool(x, (2, 2)) ** 2).sum()))(x)
        assert jax.typeof(pooled).sharding.spec[0] == "data"
        assert_same((value, (dx, dw)), expected)


for name, check in {
    "shard_map": each_device_by_itself,
    "partitioned": partitioned_by_xla,
    "explicit": sharding_in_types,
}.items():
    check()
    print(name)

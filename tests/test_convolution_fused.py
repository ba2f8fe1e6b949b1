"""A convolution that finishes its sums: values and derivatives of every order against the plain formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.kernels.fused import finished_convolution
from fluxion.kernels.geometry import Convolution

GEOMETRY = Convolution(2, (5, 4), 3, (3, 2), 4, (1, 2), ((1, 1), (0, 1)), (1, 1))


def arrays(names, dtype=np.float64):
    rng = np.random.default_rng(0)
    shapes = {"scale": (4,), "bias": (4,), "residual": GEOMETRY.y_shape}
    draw = lambda shape: jnp.asarray(rng.normal(size=shape), dtype)
    return draw(GEOMETRY.x_shape), draw(GEOMETRY.w_shape), {name: draw(shapes[name]) for name in names}


def plain(x, w, extras, activation):
    y = jax.lax.conv_general_dilated(x, w, GEOMETRY.stride, GEOMETRY.pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    y = y * extras.get("scale", 1.0) + extras.get("bias", 0.0) + extras.get("residual", 0.0)
    return {"identity": lambda y: y, "relu": jax.nn.relu, "relu6": jax.nn.relu6}[activation](y)


def ours(x, w, extras, activation):
    return finished_convolution(x, w, GEOMETRY, **extras, activation=activation)


def close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), one, other)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("activation", ["identity", "relu", "relu6"])
@pytest.mark.parametrize("names", [(), ("bias",), ("scale", "bias"), ("residual",), ("scale", "bias", "residual")])
def test_values_and_derivatives(names, activation):
    given = arrays(names)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=GEOMETRY.y_shape))
    both = [lambda *a, f=f: jnp.sum(jnp.sin(f(*a, activation)) * weights) for f in (ours, plain)]
    close(ours(*given, activation), plain(*given, activation))
    close(*(jax.jit(jax.grad(f, (0, 1, 2)))(*given) for f in both))
    direction = jax.tree.map(jnp.cos, given)
    close(*(jax.jvp(f, given, direction)[1] for f in both))
    second = lambda f: jax.jvp(jax.grad(f, (0, 1, 2)), given, direction)[1]
    close(*(jax.jit(second, static_argnums=0)(f) for f in both))


def test_vmap_over_inputs_and_over_weights():
    x, w, extras = arrays(("bias",))
    xs, ws = jnp.stack([x, 2 * x, -x]), jnp.stack([w, w + 1, -w])
    for axes, given in (((0, None), (xs, w)), ((None, 0), (x, ws)), ((0, 0), (xs, ws))):
        both = [jax.vmap(lambda x, w, f=f: f(x, w, extras, "relu"), axes)(*given) for f in (ours, plain)]
        close(*both)


def test_no_work_for_what_is_not_differentiated():
    x, w, extras = arrays(("bias",))
    text = str(jax.make_jaxpr(jax.grad(lambda w: jnp.sum(ours(x, w, extras, "relu"))))(w))
    assert text.count("masked_weight_gradient") == 1 and "input_gradient" not in text


def test_layers_reach_it_by_themselves():
    def names(model, shape):
        with jax.numpy_dtype_promotion("standard"):
            return str(jax.make_jaxpr(lambda x: model(x))(jnp.ones(shape, jnp.float32)))

    fused = names(fx.Conv((3, 3), 3, 4, fx.relu), (1, 5, 5, 3))
    assert "finished_convolution" in fused and "max" not in fused and "add" not in fused
    assert "finished_convolution" in names(fx.DepthwiseConv((3, 3), 3, 6, fx.relu6), (1, 5, 5, 3))
    other = names(fx.Conv((3, 3), 3, 4, fx.tanh), (1, 5, 5, 3))
    assert "activation='identity'" in other and "tanh" in other
    assert "finished_convolution" not in names(fx.Conv((3, 3), 3, 4, bias=False), (1, 5, 5, 3))


def test_scale_and_bias_of_the_wrong_size():
    x, w, _ = arrays(())
    with pytest.raises(fx.SizeError, match=r"conv expects bias of shape \(4,\), got an array of shape \(3,\)"):
        fx.conv(x, w, bias=jnp.ones(3))
    with pytest.raises(fx.SizeError, match=r"conv expects scale of shape \(4,\), got an array of shape \(1, 4\)"):
        fx.conv(x, w, scale=jnp.ones((1, 4)))
    with pytest.raises(fx.SizeError, match=r"conv_transpose expects bias of shape \(3,\), got an array"):
        fx.conv_transpose(jnp.ones((1, 4, 4, 4)), w, bias=jnp.ones(4))


def test_types_that_differ_are_computed_one_after_the_other():
    x, w, _ = arrays((), np.float32)
    y = fx.conv(x, w, scale=np.full(4, 2.0), bias=jnp.ones(4, "bfloat16"))
    np.testing.assert_allclose(y, fx.conv(x, w) * 2.0 + 1.0, rtol=1e-6)

"""Layers, against PyTorch and finite differences."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.errors import SizeError
from fluxion.layers.base import typed
from fluxion.random import Generator

# ------------------------------------------------------------------ Dense and what all layers share


def test_dense_takes_half_integers_and_float64():
    layer = fx.Dense(4, 3)
    assert layer(np.ones((2, 4))).dtype == layer(np.ones((2, 4), int)).dtype == jnp.float32
    assert layer([1, 2, 3, 4]).shape == (3,)
    half = fx.Dense(4, 3, init=fx.glorot_uniform(dtype=jnp.float16))
    assert half.bias.dtype == half(jnp.ones((2, 4))).dtype == half(np.ones((2, 4), int)).dtype == jnp.float16


def test_dense_from_arrays_and_own_initialisers():
    w, b = np.ones((3, 2), np.float32), np.array([1, 2])
    layer = fx.Dense.from_arrays(w, b, fx.relu)
    assert layer(np.ones(3)).tolist() == [4, 5] and layer.bias.dtype == jnp.float32
    assert fx.Dense.from_arrays(w).bias is None
    assert fx.Dense(3, 2, init=lambda *shape: jnp.full(shape, 7.0)).weight[0, 0] == 7
    same = [fx.Dense(3, 2, rng=Generator(1)).weight for _ in range(2)]
    assert (same[0] == same[1]).all()


def test_weights_are_float_arrays_of_jax():
    for make in (np.ones, functools.partial(np.ones, dtype=int), lambda shape: np.ones(shape).tolist()):
        layer = fx.Dense(3, 2, init=lambda *shape, make=make: make(shape))
        assert isinstance(layer.weight, jax.Array) and layer.weight.dtype == layer.bias.dtype == jnp.float32
    layer.weight = np.ones((3, 2), int)
    assert layer(jnp.ones(3)).tolist() == [3, 3]
    with pytest.raises(TypeError, match=r"init takes a function of sizes, such as fluxion\.glorot_uniform, got None"):
        fx.Dense(3, 2, init=None)


def test_half_precision_stays_half():
    x = jnp.ones((2, 3))
    for layer in (fx.Dense(3, 2), fx.Scale(3), fx.Bilinear(3, 2)):
        assert fx.bf16(layer)(x).dtype == jnp.bfloat16


@pytest.mark.parametrize("make", [fx.Conv, fx.ConvTranspose, fx.DepthwiseConv])
def test_wrong_arguments_name_the_layer(make):
    with pytest.raises(TypeError, match=f"^{make.__name__}: got an unexpected keyword argument 'padding'"):
        make((3,), 2, 2, padding=1)


def test_dense_looks_up_one_hot_rows():
    layer, tokens = fx.Dense(4, 3), fx.onehotbatch([1, 3], range(4))
    np.testing.assert_allclose(layer(tokens), layer(jnp.asarray(tokens, jnp.float32)), rtol=1e-6)
    with pytest.raises(SizeError, match=r"Dense\(4, 3\) expects 4 input features \(last axis\), got .*\(2, 5\)"):
        layer(fx.onehotbatch([1, 3], range(5)))


TYPED = [
    (lambda: fx.Dense(10, 5), "Dense(10, 5)"),
    (lambda: fx.Dense(10, 5, fx.relu, bias=False), "Dense(10, 5, relu, bias=False)"),
    (lambda: fx.Scale(3, 4, activation=jnp.sin, bias=False), "Scale(3, 4, activation=sin, bias=False)"),
    (lambda: fx.Embedding(10, 3), "Embedding(10, 3)"),
    (lambda: fx.Dropout(0.5, axes=1, active=True), "Dropout(0.5, axes=(1,), active=True)"),
    (lambda: fx.Chain(fx.Dense(2, 1), fx.softmax), "Chain(Dense(2, 1), softmax)"),
    (lambda: fx.Chain(enc=fx.Dense(2, 1)), "Chain(enc=Dense(2, 1))"),
    (lambda: fx.SkipConnection(fx.Dense(2, 2), operator.add), "SkipConnection(Dense(2, 2), add)"),
    (lambda: fx.Parallel(jnp.add, a=fx.relu, b=fx.tanh), "Parallel(add, a=relu, b=tanh)"),
    (lambda: fx.Chain(functools.partial(fx.leakyrelu, slope=0.2)), "Chain(partial(leakyrelu, slope=0.2))"),
]


@pytest.mark.parametrize(("make", "text"), TYPED)
def test_layers_read_as_typed(make, text):
    assert make().typed() == text


def test_anything_reads_as_typed():
    class Mine:
        pass

    assert typed(Mine()) == "Mine(...)" and typed([1, (2,)]) == "[1, (2,)]" and typed("a") == "'a'"
    assert typed(jnp.ones((2, 3))) == "array(2, 3)" and typed(jnp.array(2)) == "2"
    assert jax.jit(lambda p: len(typed(p)))(0.5) == 3  # a field that is an input of compiled code


# ------------------------------------------------------------------ modes


def test_trainmode_and_testmode():
    norm, drop = fx.BatchNorm(3), fx.Dropout(0.5)
    model = fx.Chain(fx.Dense(3, 3), fx.SkipConnection(norm, operator.add), enc := fx.Chain(drop))
    assert fx.trainmode(model) is None
    assert norm.active is True and drop.active is True
    fx.testmode(enc)
    assert norm.active is True and drop.active is False
    for set_mode, wanted in [
        (lambda: fx.testmode(model, False), True),
        (lambda: fx.trainmode(model, False), False),
        (lambda: fx.trainmode(model, "auto"), None),
        (lambda: fx.testmode(model), False),
        (lambda: fx.testmode(model, "auto"), None),
        (lambda: fx.testmode(norm), None),
    ]:
        set_mode()
        assert drop.active is wanted
    assert norm.active is False


def test_modes_leave_other_fields_called_active_alone():
    class Mine:
        def __init__(self):
            self.active = 3
            self.inner = fx.Dropout(0.5)

        def __call__(self, x):
            return self.inner(x)

    mine = Mine()
    fx.trainmode(mine)
    assert mine.active == 3 and mine.inner.active is True


@pytest.mark.parametrize("function", [fx.trainmode, fx.testmode])
def test_modes_refuse(function):
    with pytest.raises(ValueError, match=f"{function.__name__} accepts only the string \"auto\", got 'foo'"):
        function(fx.Dropout(0.5), "foo")
    with pytest.raises(TypeError, match=f'{function.__name__} takes True, False, None or "auto" .*, got 1'):
        function(fx.Dropout(0.5), 1)

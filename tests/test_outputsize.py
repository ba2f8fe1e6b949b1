"""Shapes without computing."""

import copy
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion import (
    BatchNorm,
    Chain,
    Conv,
    Dense,
    Dropout,
    Embedding,
    GlobalMeanPool,
    MaxPool,
    Parallel,
    SkipConnection,
    flatten,
    outputsize,
    relu,
)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Dense(10, 5), (32, 10)),
        (Chain(Dense(10, 5, relu), Dense(5, 2)), (32, 10)),
        (Chain(Conv((3, 3), 1, 4, stride=2, pad=1), BatchNorm(4), MaxPool((2, 2)), flatten), (2, 8, 8, 1)),
        (Chain(SkipConnection(Dense(3, 3), jnp.add), lambda x: x[:, None], relu), (4, 3)),
        (Chain(), (4, 3)),
        (jnp.sum, (4, 3)),
    ],
)
def test_the_shape_is_that_of_the_output(model, shape):
    assert outputsize(model, shape) == model(jnp.ones(shape)).shape


def test_the_table():
    model = Chain(Chain(a=Conv((3, 3), 1, 4, relu, pad=1), b=BatchNorm(4)), GlobalMeanPool(), flatten, Dense(4, 2))
    expected = [
        "input                                                  (3, 8, 8, 1)",
        'model.layers[0]["a"]  Conv((3, 3), 1, 4, relu, pad=1)  (3, 8, 8, 4)',
        'model.layers[0]["b"]  BatchNorm(4)                     (3, 8, 8, 4)',
        "model.layers[1]       GlobalMeanPool()                 (3, 1, 1, 4)",
        "model.layers[2]       flatten                          (3, 4)",
        "model.layers[3]       Dense(4, 2)                      (3, 2)",
    ]
    sizes = outputsize(model, (3, 8, 8, 1))
    assert str(sizes).splitlines() == expected
    assert repr(sizes) == "(3, 2)"
    assert sizes.rows[-1] == ("model.layers[3]", "Dense(4, 2)", "(3, 2)")


def test_sizes_are_copied_and_pickled():
    sizes = fx.outputsize(fx.Chain(fx.Dense(3, 2)), (4, 3))
    for other in (copy.copy(sizes), copy.deepcopy(sizes), pickle.loads(pickle.dumps(sizes))):
        assert other == sizes and str(other) == str(sizes)


def test_the_table_of_other_containers():
    class Mine:
        def __init__(self):
            self.body = Chain(Dense(2, 3), relu)

        def __call__(self, x):
            return self.body(x)

    block = SkipConnection(Chain(Dense(3, 3), relu), jnp.add)
    model = Chain(Mine(), block, Parallel(jnp.add, a=Dense(3, 4), b=Dense(3, 4)))
    expected = [
        ("input", "", "(1, 2)"),
        ("model.layers[0]", "Mine(...)", "(1, 3)"),
        ("model.layers[1].layer.layers[0]", "Dense(3, 3)", "(1, 3)"),
        ("model.layers[1].layer.layers[1]", "relu", "(1, 3)"),
        ("model.layers[1].connection", "add", "(1, 3)"),
        ("model.layers[1]", "SkipConnection(Chain(Dense(3, 3), relu), add)", "(1, 3)"),
        ('model.layers[2]["a"]', "Dense(3, 4)", "(1, 4)"),
        ('model.layers[2]["b"]', "Dense(3, 4)", "(1, 4)"),
        ("model.layers[2].connection", "add", "(1, 4)"),
        ("model.layers[2]", "Parallel(add, a=Dense(3, 4), b=Dense(3, 4))", "(1, 4)"),
    ]
    assert list(outputsize(model, (1, 2)).rows) == expected
    paths = [path for path, _, _ in outputsize(block, (1, 3)).rows]
    assert paths == ["input", "model.layer.layers[0]", "model.layer.layers[1]", "model.connection", "model"]


def test_layers_without_sizes_get_them_in_the_copy():
    model = Chain(Dense(None, 3), BatchNorm(None))
    fx.seed(0)
    drawn = fx.random.generator().uniform()
    fx.seed(0)
    assert outputsize(model, (1, 2)).rows[1:] == (
        ("model.layers[0]", "Dense(2, 3)", "(1, 3)"),
        ("model.layers[1]", "BatchNorm(3)", "(1, 3)"),
    )
    assert model.typed() == "Chain(Dense(None, 3), BatchNorm(None))" and fx.random.generator().uniform() == drawn


def test_several_inputs_and_outputs():
    both = Parallel(jnp.add, Dense(2, 4), Dense(3, 4))
    assert outputsize(both, (1, 2), (1, 3)) == (1, 4)
    assert outputsize(both, ((1, 2), (1, 3))) == (1, 4)
    assert outputsize(Chain(both, relu), (1, 2), (1, 3)) == (1, 4)
    assert outputsize(lambda x: (x, {"mean": x.mean()}), (1, 2)) == ((1, 2), ())


def test_types_of_inputs():
    assert outputsize(Embedding(10, 4), (3, 5), dtype=int) == (3, 5, 4)
    assert outputsize(Embedding(10, 4), jax.ShapeDtypeStruct((3, 5), "int32")) == (3, 5, 4)
    assert outputsize(Embedding(10, 4), np.zeros((3, 5), np.int32)) == (3, 5, 4)


def test_nothing_is_computed():
    huge = Chain(Dense(10, 10), lambda x: jnp.broadcast_to(x, (10_000, *x.shape)))
    assert outputsize(huge, (10_000_000, 10)) == (10_000, 10_000_000, 10)


def test_the_model_is_left_as_it_was():
    model = Chain(BatchNorm(3, active=True), Dropout(0.5, active=True), Dense(3, 3))
    before = fx.leaves(model)
    fx.seed(0)
    drawn = fx.random.generator().uniform()
    fx.seed(0)
    outputsize(model, (4, 3))
    assert all(a is b for a, b in zip(fx.leaves(model), before, strict=True))
    assert fx.random.generator().uniform() == drawn


def test_a_wrong_size_names_the_layer():
    model = Chain(Dense(3, 2), Chain(first=relu, second=Dense(3, 2)))
    message = "Dense(3, 2) expects 3 input features (last axis), got an array of shape (1, 2)"
    with pytest.raises(fx.SizeError, match=re.escape(message)) as caught:
        outputsize(model, (1, 3))
    assert str(caught.value).endswith('in model.layers[1]["second"]')
    with pytest.raises(fx.SizeError) as called:
        model(jnp.ones((1, 3)))
    assert str(called.value) == str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "outputsize needs the shape of the input, batch first, as in outputsize(model, (32, 10))"),
        ((32, 10), "outputsize takes shapes, batch first, as in outputsize(model, (32, 10)), got 32"),
        (((32, -1),), "got (32, -1)"),
        (((32, 1.5),), "got (32, 1.5)"),
        (("32",), "got '32'"),
    ],
)
def test_shapes_that_are_none(arguments, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        outputsize(Dense(10, 5), *arguments)


def test_a_model_that_is_none():
    with pytest.raises(TypeError, match=re.escape("outputsize takes a model, which is callable, got [3]")):
        outputsize([3], (1,))

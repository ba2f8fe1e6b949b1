"""Layers, against PyTorch and finite differences."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import check_layer, numbers, pure, read, slots

import fluxion as fx
from fluxion.errors import SizeError
from fluxion.layers.base import typed
from fluxion.mode import gradient_mode
from fluxion.random import Generator

TOKENS = np.array([[1, 0, 2], [3, 3, 1]])


def first(x):
    return x.movedim(-1, 1)


def last(x):
    return x.movedim(1, -1)


def torch_conv(p, x, **keywords):
    w = p["weight"]
    spatial = w.ndim - 2
    w = w.permute(spatial + 1, spatial, *range(spatial))
    conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[spatial]
    return last(conv(first(x), w, p.get("bias"), **keywords))


def torch_norm(p, x, training):
    stats = p["mean"].clone(), p["var"].clone()
    return last(F.batch_norm(first(x), *stats, p["scale"], p["bias"], training, 0.1, 1e-5))


def with_arrays(layer):
    """Values that zeros and ones would hide mistakes behind."""
    for seed, (path, (part, name)) in enumerate(slots(layer, trainable=False).items()):
        value = getattr(part, name)
        low = 0.5 if path == "var" else -1.0
        setattr(part, name, jnp.asarray(numbers(*value.shape, seed=seed, low=low, high=1.5), value.dtype))
    return layer


LAYERS = {
    "Dense": (lambda: fx.Dense(4, 3, fx.tanh), [(5, 4)], lambda p, x: torch.tanh(x @ p["weight"] + p["bias"])),
    "Dense no bias": (lambda: fx.Dense(4, 3, bias=False), [(2, 5, 4)], lambda p, x: x @ p["weight"]),
    "Dense vector": (lambda: fx.Dense(4, 3), [(4,)], lambda p, x: x @ p["weight"] + p["bias"]),
    "Scale": (lambda: fx.Scale(4), [(5, 4)], lambda p, x: x * p["scale"] + p["bias"]),
    "Scale 2": (
        lambda: fx.Scale(3, 4, activation=fx.tanh, bias=False),
        [(2, 3, 4)],
        lambda p, x: torch.tanh(x * p["scale"]),
    ),
    "Embedding": (lambda: fx.Embedding(4, 3), [TOKENS], lambda p, x: F.embedding(x, p["weight"])),
    "Conv 1": (lambda: fx.Conv((3,), 2, 3, fx.tanh), [(2, 6, 2)], lambda p, x: torch.tanh(torch_conv(p, x))),
    "Conv 2": (
        lambda: fx.Conv((3, 2), 2, 4, stride=2, pad=(1, 0), dilation=(1, 2), groups=2),
        [(2, 6, 5, 2)],
        lambda p, x: torch_conv(p, x, stride=2, padding=(1, 0), dilation=(1, 2), groups=2),
    ),
    "Conv 3": (lambda: fx.Conv((2, 2, 2), 2, 3, bias=False), [(1, 3, 4, 3, 2)], torch_conv),
    "MaxPool": (lambda: fx.MaxPool((2, 2)), [(1, 5, 4, 2)], lambda p, x: last(F.max_pool2d(first(x), 2))),
    "MeanPool": (
        lambda: fx.MeanPool((3,), stride=1, pad="same"),
        [(1, 5, 2)],
        lambda p, x: last(F.avg_pool1d(first(x), 3, 1, 1)),
    ),
    "GlobalMaxPool": (fx.GlobalMaxPool, [(2, 5, 2)], lambda p, x: x.amax(1, keepdim=True)),
    "GlobalMeanPool": (fx.GlobalMeanPool, [(2, 5, 2)], lambda p, x: x.mean(1, keepdim=True)),
    "AdaptiveMeanPool": (
        lambda: fx.AdaptiveMeanPool((2, 3)),
        [(1, 5, 4, 2)],
        lambda p, x: last(F.adaptive_avg_pool2d(first(x), (2, 3))),
    ),
    "LayerNorm": (
        lambda: with_arrays(fx.LayerNorm(5)),
        [(3, 5)],
        lambda p, x: F.layer_norm(x, (5,), p["scale"], p["bias"]),
    ),
    "LayerNorm 2": (
        lambda: with_arrays(fx.LayerNorm(3, 5, activation=fx.tanh, eps=1e-3)),
        [(2, 3, 5)],
        lambda p, x: torch.tanh(F.layer_norm(x, (3, 5), p["scale"], p["bias"], 1e-3)),
    ),
    "LayerNorm bare": (lambda: fx.LayerNorm((5,), affine=False), [(3, 5)], lambda p, x: F.layer_norm(x, (5,))),
    "BatchNorm": (lambda: with_arrays(fx.BatchNorm(3)), [(4, 3)], functools.partial(torch_norm, training=False)),
    "BatchNorm bare": (
        lambda: fx.BatchNorm(3, affine=False, track_stats=False, eps=1e-3),
        [(2, 4, 3)],
        lambda p, x: last(F.batch_norm(first(x), None, None, training=True, eps=1e-3)),
    ),
    "Dropout": (lambda: fx.Dropout(0.5), [(3, 4)], lambda p, x: x * 1),
    "Chain": (
        lambda: fx.Chain(fx.Dense(4, 3, fx.tanh), fx.Dense(3, 2), fx.softmax),
        [(5, 4)],
        lambda p, x: torch.softmax(
            torch.tanh(x @ p["layers.0.weight"] + p["layers.0.bias"]) @ p["layers.1.weight"] + p["layers.1.bias"], -1
        ),
    ),
    "SkipConnection": (
        lambda: fx.SkipConnection(fx.Dense(3, 3), operator.sub),
        [(2, 3)],
        lambda p, x: x @ p["layer.weight"] + p["layer.bias"] - x,
    ),
    "Parallel": (
        lambda: fx.Parallel(operator.mul, fx.Dense(3, 2, bias=False), fx.Dense(4, 2, bias=False)),
        [(2, 3), (2, 4)],
        lambda p, x, y: (x @ p["layers.0.weight"]) * (y @ p["layers.1.weight"]),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    make, shapes, reference = LAYERS[name]
    inputs = [numbers(*shape, seed=i) if isinstance(shape, tuple) else shape for i, shape in enumerate(shapes)]
    halves = ("bfloat16",) if name == "Conv 3" else ("float16", "bfloat16")
    check_layer(make, *inputs, reference=reference, dtypes=halves)


@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 3), (2, 2, 3, 3)])
def test_batchnorm_while_training(shape):
    reference = functools.partial(torch_norm, training=True)
    check_layer(lambda: with_arrays(fx.BatchNorm(3)), numbers(*shape), reference=reference, training=True)


# ------------------------------------------------------------------ Dense and what all layers share


def test_dense_takes_half_integers_and_float64():
    layer = fx.Dense(4, 3)
    assert layer(np.ones((2, 4))).dtype == layer(np.ones((2, 4), int)).dtype == jnp.float32
    assert layer([1, 2, 3, 4]).shape == (3,)
    half = fx.Dense(4, 3, init=fx.glorot_uniform(dtype=jnp.float16))
    assert half.bias.dtype == half(jnp.ones((2, 4))).dtype == half(np.ones((2, 4), int)).dtype == jnp.float16
    conv = fx.Conv((2,), 1, 2, init=fx.glorot_uniform(dtype=jnp.bfloat16))
    assert conv(jnp.ones((1, 4, 1))).dtype == jnp.bfloat16


def test_dense_from_arrays_and_own_initialisers():
    w, b = np.ones((3, 2), np.float32), np.array([1, 2])
    layer = fx.Dense.from_arrays(w, b, fx.relu)
    assert layer(np.ones(3)).tolist() == [4, 5] and layer.bias.dtype == jnp.float32
    assert fx.Dense.from_arrays(w).bias is None
    assert fx.Dense(3, 2, init=lambda *shape: jnp.full(shape, 7.0)).weight[0, 0] == 7
    assert (
        fx.Conv.from_arrays(np.ones((2, 2, 1, 3)), groups=3, pad=1).typed()
        == "Conv((2, 2), 3, 3, pad=1, groups=3, bias=False)"
    )
    same = [fx.Dense(3, 2, rng=Generator(1)).weight for _ in range(2)]
    assert (same[0] == same[1]).all()


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
    (lambda: fx.Conv((3, 3), 2, 4, fx.relu, stride=2, pad=1), "Conv((3, 3), 2, 4, relu, stride=2, pad=1)"),
    (
        lambda: fx.Conv((3,), 2, 4, pad="same", groups=2, bias=False),
        "Conv((3,), 2, 4, pad='same', groups=2, bias=False)",
    ),
    (lambda: fx.Conv((3, 3), 2, 4, pad=(0, 1, 2, 2)), "Conv((3, 3), 2, 4, pad=(0, 1, 2, 2))"),
    (lambda: fx.Conv((3, 3), 2, 4, stride=(1, 2), dilation=2), "Conv((3, 3), 2, 4, stride=(1, 2), dilation=2)"),
    (lambda: fx.MaxPool((2, 2)), "MaxPool((2, 2))"),
    (lambda: fx.MeanPool((2, 2), stride=1, pad=1), "MeanPool((2, 2), stride=1, pad=1)"),
    (fx.GlobalMaxPool, "GlobalMaxPool()"),
    (fx.GlobalMeanPool, "GlobalMeanPool()"),
    (lambda: fx.AdaptiveMeanPool((7, 7)), "AdaptiveMeanPool((7, 7))"),
    (lambda: fx.BatchNorm(8, fx.relu, eps=1e-3), "BatchNorm(8, relu, eps=0.001)"),
    (
        lambda: fx.BatchNorm(8, affine=False, track_stats=False, momentum=0.5, active=False),
        "BatchNorm(8, affine=False, track_stats=False, momentum=0.5, active=False)",
    ),
    (lambda: fx.LayerNorm(4, 5, activation=fx.relu, affine=False), "LayerNorm(4, 5, activation=relu, affine=False)"),
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


BAD_INPUTS = [
    (
        lambda: fx.Dense(10, 5),
        (32, 12),
        r"Dense(10, 5) expects 10 input features (last axis), got an array of shape (32, 12)",
    ),
    (lambda: fx.Dense(10, 5), (), r"Dense(10, 5) expects 10 input features (last axis), got an array of shape ()"),
    (lambda: fx.Scale(3, 4), (2, 4), r"Scale(3, 4) expects last axes of sizes (3, 4), got an array of shape (2, 4)"),
    (lambda: fx.Scale(3), (4,), r"Scale(3) expects last axes of sizes (3,), got an array of shape (4,)"),
    (
        lambda: fx.Conv((3, 3), 3, 16),
        (1, 28, 28, 1),
        "Conv((3, 3), 3, 16) expects 3 input channels (last axis), got an array of shape (1, 28, 28, 1)",
    ),
    (
        lambda: fx.Conv((3, 3), 1, 8),
        (28, 28, 1),
        "Conv((3, 3), 1, 8) expects 4 axes (batch, height, width, channels), got an array of shape (28, 28, 1)",
    ),
    (
        lambda: fx.Conv((5,), 1, 8),
        (1, 4, 1),
        "Conv((5,), 1, 8) expects at least 5 positions for its window, got an array of shape (1, 4, 1)",
    ),
    (
        lambda: fx.MaxPool((2,)),
        (2, 3),
        "MaxPool((2,)) expects 3 axes (batch, length, channels), got an array of shape (2, 3)",
    ),
    (
        lambda: fx.MeanPool((2, 2)),
        (1, 1, 4, 1),
        "MeanPool((2, 2)) expects at least 2 x 2 positions for its window, got an array of shape (1, 1, 4, 1)",
    ),
    (
        fx.GlobalMeanPool,
        (2, 3),
        "GlobalMeanPool() expects at least 3 axes, as (batch, height, width, channels), got an array of shape (2, 3)",
    ),
    (
        lambda: fx.AdaptiveMeanPool((2, 2)),
        (2, 3, 1),
        "AdaptiveMeanPool((2, 2)) expects 4 axes (batch, height, width, channels), got an array of shape (2, 3, 1)",
    ),
    (lambda: fx.BatchNorm(8), (2, 3), "BatchNorm(8) expects 8 channels (last axis), got an array of shape (2, 3)"),
    (
        lambda: fx.BatchNorm(8, active=True),
        (1, 8),
        "BatchNorm(8, active=True) expects more than one value per channel while training, "
        "got an array of shape (1, 8)",
    ),
    (lambda: fx.LayerNorm(8), (2, 3), "LayerNorm(8) expects last axes of sizes (8,), got an array of shape (2, 3)"),
    (
        lambda: fx.Dropout(0.5, axes=2, active=True),
        (2, 3),
        "Dropout(0.5, axes=(2,), active=True) expects an array that has these axes, got one of shape (2, 3)",
    ),
]


@pytest.mark.parametrize(("make", "shape", "message"), BAD_INPUTS)
def test_size_errors(make, shape, message):
    layer = make()
    with pytest.raises(SizeError) as caught:
        layer(jnp.ones(shape))
    assert str(caught.value) == message and caught.value.layer is layer
    with pytest.raises(SizeError, match="got"):
        jax.jit(layer)(jnp.ones(shape))


BAD_CONSTRUCTORS = [
    (lambda: fx.Dense(10.5, 5), ValueError, r"Dense takes sizes that are ints of at least 1, got 10\.5"),
    (lambda: fx.Dense(10, 0), ValueError, "Dense takes sizes that are ints of at least 1, got 0"),
    (lambda: fx.Dense(10, 5, "relu"), TypeError, "Dense takes a function as its activation, such as .*, got 'relu'"),
    (
        lambda: fx.Dense(10, 5, bias=np.ones(4)),
        ValueError,
        r"bias takes True, False or an array of shape \(5,\), got .*4",
    ),
    (lambda: fx.Dense(2, 5, init=lambda *s: np.ones(3)), ValueError, r"made an array of shape \(3,\), wanted \(2, 5\)"),
    (lambda: fx.Dense.from_arrays(np.ones(3)), ValueError, r"Dense takes a weight of shape \(inputs, outputs\)"),
    (lambda: fx.Dense(1, 1)((1, 2)), TypeError, r"Dense\(1, 1\) expects one array, got a tuple of 2"),
    (fx.Scale, ValueError, r"Scale takes the sizes of the last axes of its input, as Scale\(10\), got none"),
    (lambda: fx.Scale(1.0), ValueError, r"Scale takes sizes that are ints of at least 1, got 1\.0"),
    (lambda: fx.Embedding(0, 5), ValueError, "Embedding takes sizes that are ints of at least 1, got 0"),
    (lambda: fx.Dropout(1.5), ValueError, r"Dropout expects a probability 0 <= p <= 1, got 1\.5"),
    (lambda: fx.Dropout(0.5, active=1), ValueError, r'Dropout takes active=True, False, None or "auto", got 1'),
    (lambda: fx.Dropout(0.5, rng=1), TypeError, r"rng= takes a fluxion.random.Generator"),
    (lambda: fx.Conv(3, 1, 1), ValueError, r"kernel takes a tuple with one size for each of 1 to 3 axes, .*, got 3"),
    (
        lambda: fx.Conv((3, 3), 3, 4, groups=2),
        ValueError,
        "Conv has 3 input and 4 output channels; groups=2 must divide",
    ),
    (lambda: fx.Conv((3, 3), 3, 4, stride=0), ValueError, "stride takes an int or a tuple of 2 ints"),
    (
        lambda: fx.Conv((3, 3), 3, 4, pad="full"),
        ValueError,
        "pad takes an int of at least 0, .* or \"same\", got 'full'",
    ),
    (lambda: fx.Conv.from_arrays(np.ones((2, 2))), ValueError, "kernel takes a tuple"),
    (lambda: fx.MaxPool(2), ValueError, r"window takes a tuple with one size for each of 1 to 3 axes"),
    (lambda: fx.AdaptiveMeanPool(2), ValueError, r"out takes a tuple with one size for each of 1 to 3 axes"),
    (lambda: fx.BatchNorm("3"), ValueError, "BatchNorm takes sizes that are ints of at least 1, got '3'"),
    (
        lambda: fx.BatchNorm(3, active="on"),
        ValueError,
        r'BatchNorm takes active=True, False, None or "auto", got \'on\'',
    ),
    (fx.LayerNorm, ValueError, r"LayerNorm takes the sizes of the last axes of its input"),
    (lambda: fx.Chain(1), TypeError, "Chain takes layers, which are callable, got 1"),
    (lambda: fx.Chain([fx.relu]), TypeError, r"Chain takes layers, .*, got \[relu\]; write \*layers"),
    (lambda: fx.Chain(fx.relu, b=fx.relu), TypeError, "Chain takes its layers by position or by name, got both"),
    (lambda: fx.Chain()(), TypeError, "Chain expects at least one input, got none"),
    (lambda: fx.Chain(fx.relu)["a"], KeyError, "Chain has no layer 'a'; its layers have no names"),
    (lambda: fx.Chain(a=fx.relu, b=fx.tanh)["c"], KeyError, "Chain has no layer 'c'; its names are a, b"),
    (lambda: fx.SkipConnection(fx.relu, 1), TypeError, "SkipConnection takes a layer and a function of two arguments"),
    (lambda: fx.Parallel(1, fx.relu), TypeError, "Parallel takes first the function that joins the outputs, got 1"),
    (lambda: fx.Parallel(jnp.add), ValueError, "Parallel expects at least one layer, got none"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_CONSTRUCTORS)
def test_constructors_refuse(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ------------------------------------------------------------------ containers


def test_chain_is_a_list_of_layers():
    a, b, c = fx.Dense(3, 4), fx.Dense(4, 2), fx.softmax
    chain = fx.Chain(a, b, c)
    assert len(chain) == 3 and list(chain) == [a, b, c] and chain[-1] is c
    assert type(chain[:-1]) is fx.Chain and chain[:-1][1] is b and len(chain[3:]) == 0
    chain[1] = fx.Dense(4, 7)
    assert chain(jnp.ones(3)).shape == (7,)
    with pytest.raises(TypeError, match="Chain takes layers, which are callable, got None"):
        chain[1] = None
    named = fx.Chain(enc=a, dec=b)
    assert named["enc"] is a and named[1] is b and named[1:].names == ("dec",) and named.names == ("enc", "dec")
    named["dec"] = fx.identity
    assert named(jnp.ones(3)).shape == (4,)


def test_chain_of_nothing_and_of_several_inputs():
    assert fx.Chain()("x") == "x" and fx.Chain()
    assert fx.Chain(fx.identity)(1, 2, 3) == (1, 2, 3)
    assert fx.Chain(fx.Parallel(operator.add, fx.identity, fx.identity))(1, 2) == 3


def test_activations():
    chain = fx.Chain(lambda x: x + 1, str)
    assert fx.activations(chain, 1) == (2, "2") and fx.activations(fx.Chain(), 1) == ()
    assert fx.activations(fx.Chain(a=str, b=len), 25) == ("25", 2)
    with pytest.raises(SizeError, match=r"in model.layers\[1\]"):
        fx.activations(fx.Chain(fx.identity, fx.Dense(2, 1)), jnp.ones(3))


def test_parallel_deals_inputs_out():
    def three(*outputs):
        return outputs

    m = fx.Parallel(three, a=lambda x: x + 1, b=lambda x: x * 2, c=lambda x: -x)
    assert m(5) == (6, 10, -5) and m(1, 2, 3) == m((1, 2, 3)) == (2, 4, -3)
    assert m["b"](4) == 8 and len(m[:2]) == 2 and m[:2](1) == (2, 2) and m[:2].names == ("a", "b")
    assert fx.Parallel(three, lambda x: x + 1)(1, 2, 3) == (2, 3, 4)
    with pytest.raises(ValueError, match="Parallel with 3 layers takes one input or 3 inputs, got 2 inputs"):
        m(1, 2)
    with pytest.raises(ValueError, match="Parallel expects at least one input, got none"):
        m()


def test_size_errors_name_the_path():
    def path_of(model, shape=(1, 3)):
        with pytest.raises(SizeError) as caught:
            model(jnp.ones(shape))
        assert str(caught.value).endswith(f"\n  in {caught.value.path}")
        return caught.value.path

    bad, same = fx.Dense(4, 3), fx.identity
    assert path_of(fx.Chain(same, bad)) == "model.layers[1]"
    assert path_of(fx.Chain(same, fx.Chain(same, same, bad))) == "model.layers[1].layers[2]"
    assert path_of(fx.Chain(enc=fx.Chain(same, bad))) == 'model["enc"].layers[1]'
    assert path_of(fx.Chain(fx.SkipConnection(fx.Chain(bad), operator.add))) == "model.layers[0].layer.layers[0]"
    assert path_of(fx.SkipConnection(same, lambda y, x: bad(y))) == "model.connection"
    assert path_of(fx.Parallel(operator.add, a=same, b=bad)) == 'model["b"]'
    assert path_of(fx.Chain(fx.Parallel(lambda *ys: bad(ys[0]), same))) == "model.layers[0].connection"
    message = r"Dense\(4, 3\) expects 4 input features \(last axis\), got .* \(1, 3\)\n  in model.layers\[0\]"
    with pytest.raises(SizeError, match=message):
        jax.eval_shape(fx.Chain(bad), jnp.ones((1, 3)))


def test_a_shared_layer_stays_one():
    shared = fx.Dense(3, 3)
    chain = fx.Chain(shared, fx.relu, shared)
    chain[0].weight = jnp.zeros((3, 3))
    assert chain[2].weight.sum() == 0 and chain[:1][0] is shared


# ------------------------------------------------------------------ Embedding, Dropout


def test_embedding_takes_integers_one_hot_and_booleans():
    layer = fx.Embedding(4, 3)
    one_hot = fx.onehotbatch(TOKENS, range(4))
    for tokens in (TOKENS, TOKENS.tolist(), jnp.asarray(TOKENS), one_hot, np.asarray(one_hot)):
        np.testing.assert_allclose(layer(tokens), layer.weight[TOKENS], rtol=1e-6)
    assert layer(2).shape == (3,) and layer(np.zeros((0,), int)).shape == (0, 3)


def test_embedding_refuses():
    layer = fx.Embedding(4, 3)
    for tokens, wrong in [([0, 4], 4), (-1, -1), (jnp.array([7]), 7)]:
        with pytest.raises(IndexError, match=rf"Embedding\(4, 3\) expects indices from 0 to 3, got {wrong}"):
            layer(tokens)
    assert jnp.isnan(jax.jit(layer)(jnp.array([0, 4, -1]))).any(1).tolist() == [False, True, True]
    with pytest.raises(TypeError, match=r"Embedding\(4, 3\) expects integers, got an array of float32"):
        layer(jnp.ones(3))
    with pytest.raises(
        SizeError, match=r"Embedding\(4, 3\) expects 4 labels \(last axis\), got an array of shape \(2, 5\)"
    ):
        layer(fx.onehotbatch([0, 1], range(5)))


def test_dropout_drops_and_keeps_the_mean():
    layer, x = fx.Dropout(0.25, active=True), jnp.ones((100, 100))
    y = layer(x)
    assert set(np.unique(y).tolist()) == {0.0, np.float32(1 / 0.75)}
    assert abs(y.mean() - 1) < 0.02 and not (layer(x) == y).all()
    assert (fx.Dropout(1, active=True)(x) == 0).all() and (fx.Dropout(0, active=True)(x) == x).all()
    assert (jax.grad(lambda x: fx.Dropout(1, active=True)(x).sum())(x) == 0).all()
    assert layer(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16 and layer(np.ones(3, int)).dtype == jnp.float32


def test_dropout_modes_and_repetition():
    x = jnp.ones((4, 8))
    assert fx.Dropout(0.5)(x) is x and (fx.Dropout(0.5, active=False)(x) == x).all()
    with gradient_mode():
        assert (fx.Dropout(0.5)(x) == 0).any() and (fx.Dropout(0.5, active=False)(x) == x).all()
    one, two = (fx.Dropout(0.5, rng=Generator(3), active=True) for _ in range(2))
    assert (one(x) == two(x)).all() and (one(x) == two(x)).all()
    fx.seed(1)
    y = fx.Dropout(0.5, active=True)(x)
    fx.seed(1)
    assert (fx.Dropout(0.5, active=True)(x) == y).all()


def test_dropout_along_axes():
    y = fx.Dropout(0.5, axes=(0, -1), active=True)(jnp.ones((4, 5, 6)))
    assert (y == y[:, :1]).all() and (y == 0).any() and (y != 0).any()


def test_dropout_has_the_gradient_of_its_mask():
    layer = fx.Dropout(0.5, rng=Generator(2), active=True)
    key = layer.rng.key

    def total(x):
        layer.rng.key = key
        return (layer(x) ** 2).sum()

    x = jnp.asarray(numbers(6, 6), jnp.float32)
    layer.rng.key = key
    masked = layer(x)
    np.testing.assert_allclose(jax.grad(total)(x), 4 * masked, rtol=1e-5)


# ------------------------------------------------------------------ norms


def test_batchnorm_tracks_statistics_as_flux_and_torch_do():
    layer, x = fx.BatchNorm(2, active=True), jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    np.testing.assert_allclose(layer(x)[0], [-1.22474, -1.22474], rtol=1e-4)
    np.testing.assert_allclose(layer.mean, [0.3, 0.4], rtol=1e-6)
    np.testing.assert_allclose(layer.var, [1.3, 1.3], rtol=1e-6)
    theirs, mine = torch.nn.BatchNorm2d(3, momentum=0.3), fx.BatchNorm(3, momentum=0.3)
    for seed in range(3):
        image = numbers(2, 4, 4, 3, seed=seed).astype(np.float32)
        theirs(first(torch.tensor(image)))
        with gradient_mode():
            mine(image)
    np.testing.assert_allclose(mine.mean, theirs.running_mean.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mine.var, theirs.running_var.numpy(), rtol=1e-5)
    theirs.eval()
    np.testing.assert_allclose(
        mine(image), last(theirs(first(torch.tensor(image)))).detach().numpy(), rtol=1e-4, atol=1e-5
    )


def test_batchnorm_while_testing_leaves_statistics_alone():
    layer, x = fx.BatchNorm(3), jnp.asarray(numbers(4, 3), jnp.float32)
    before = layer.mean
    layer(x)
    layer.active = False
    with gradient_mode():
        layer(x)
    assert layer.mean is before and layer(jnp.ones((1, 3))).shape == (1, 3)
    untracked = fx.BatchNorm(3, track_stats=False, active=True)
    np.testing.assert_allclose(untracked(x).mean(0), 0, atol=1e-6)
    assert untracked.mean is None


def test_norms_compute_half_precision_in_float32():
    x = (1000 + jnp.asarray(numbers(64, 4), jnp.float32)).astype(jnp.float16)
    for layer in (fx.BatchNorm(4, active=True), fx.LayerNorm(4)):
        y = layer(x)
        assert y.dtype == jnp.float16
        wide = layer(x.astype(jnp.float32))
        np.testing.assert_allclose(np.asarray(y, np.float32), wide, atol=2e-2)
    layer = fx.BatchNorm(4, active=True)
    layer(x)
    assert layer.mean.dtype == layer.var.dtype == jnp.float32


def test_batchnorm_statistics_have_no_gradient():
    layer, x = fx.BatchNorm(3, active=True), jnp.asarray(numbers(4, 3), jnp.float32)

    def loss(x):
        layer(x)
        return layer.mean.sum() + layer.var.sum()

    assert (jax.grad(loss)(x) == 0).all()
    layer.mean, layer.var = jnp.zeros(3), jnp.ones(3)
    with jax.enable_x64(True):
        assert read(slots(layer)).keys() == {"scale", "bias"}
    assert pure(layer, True)({}, x).shape == (4, 3)


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


def test_batch_norm_keeps_float32_in_a_half_model():
    model = fx.f16(fx.Chain(fx.Dense(2, 3), fx.BatchNorm(3)))
    assert model[0].weight.dtype == jnp.float16
    assert {getattr(model[1], name).dtype for name in ("scale", "bias", "mean", "var")} == {jnp.dtype("float32")}
    assert model(jnp.ones((4, 2), jnp.float16)).dtype == jnp.float16

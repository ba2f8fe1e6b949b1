"""Layers that get their sizes from their input."""

import copy
import operator
import pickle
import re
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion import Chain, Dense, Maxout, Parallel, SkipConnection, autosize, relu
from fluxion.errors import SizeError
from fluxion.layers.lazy import check_sized
from fluxion.random import Generator

FLAT, SEQUENCE, IMAGE = (4, 7), (2, 5, 6), (2, 8, 8, 3)
UNSIZED = [
    (lambda n: Dense(n, 3, relu, bias=False), FLAT, 7),
    (lambda n: fx.Scale(n), FLAT, 7),
    (lambda n: fx.Scale(8, n, activation=relu), IMAGE, 3),
    (lambda n: fx.Bilinear(n, 3), FLAT, 7),
    (lambda n: fx.Bilinear((7, n), 3), FLAT, 7),
    (lambda n: fx.Conv((3, 3), n, 4, relu, stride=2), IMAGE, 3),
    (lambda n: fx.ConvTranspose((3, 3), n, 4, stride=2, outpad=1), IMAGE, 3),
    (lambda n: fx.DepthwiseConv((3, 3), n, 6), IMAGE, 3),
    (lambda n: fx.BatchNorm(n, relu, eps=1e-3), IMAGE, 3),
    (lambda n: fx.GroupNorm(n, 3), IMAGE, 3),
    (lambda n: fx.InstanceNorm(n), IMAGE, 3),
    (lambda n: fx.LayerNorm(n), FLAT, 7),
    (lambda n: fx.LayerNorm((8, n)), IMAGE, 3),
    (lambda n: fx.RMSNorm(n), FLAT, 7),
    (lambda n: fx.LSTMCell(n, 3), FLAT, 7),
    (lambda n: fx.RNN(n, 3, relu, bias=False), SEQUENCE, 6),
    (lambda n: fx.GRU(n, 3, layers=2, bidirectional=True), SEQUENCE, 6),
    (lambda n: fx.Recurrence(fx.LSTMCell(n, 3)), SEQUENCE, 6),
    (lambda n: fx.Bidirectional(fx.GRUCell(n, 2), fx.RNNCell(n, 3)), SEQUENCE, 6),
    (lambda n: fx.MultiHeadAttention(n, nheads=2), SEQUENCE, 6),
    (lambda n: fx.MultiHeadAttention((n, 4, 5), nheads=2), SEQUENCE, 6),
    (lambda n: fx.TransformerEncoder(n, 2, nheads=2), SEQUENCE, 6),
    (lambda n: fx.WeightNorm(Dense(n, 3)), FLAT, 7),
]


def same(a, b):
    pairs = zip(fx.leaves(a), fx.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs) and a.typed() == b.typed()


@pytest.mark.parametrize(("make", "shape", "size"), UNSIZED, ids=lambda x: x(None).typed() if callable(x) else "")
def test_every_layer_takes_its_size_from_its_input(make, shape, size):
    fx.seed(1)
    wanted = make(size)
    text = make(None).typed()
    assert "None" in text and eval(text, vars(fx)).typed() == text
    by_call, by_shape = make(None), make(None)
    ways = [(by_call, lambda: by_call(np.ones(shape, np.float32))), (by_shape, lambda: autosize(by_shape, shape))]
    for layer, find in ways:
        assert isinstance(layer, type(wanted)) and not fx.trainables(layer)
        fx.seed(1)
        find()
        assert type(layer) is type(wanted) and same(layer, wanted) and vars(layer).keys() == vars(wanted).keys()


def test_autosize_goes_through_everything_that_is_called():
    class Mine:
        def __init__(self):
            self.parts = {"first": Dense(None, 4)}

        def __call__(self, x):
            return self.parts["first"](x)

    closed_over = Dense(None, 3)
    model = Chain(
        Maxout(lambda: Dense(None, 5, relu), 2),
        SkipConnection(Dense(None, 2), lambda y, x: jnp.concatenate([y, x], -1)),
        Parallel(operator.add, a=Dense(None, 3), b=Chain(Mine(), Dense(None, 3))),
        lambda x: closed_over(x),
    )
    assert autosize(model, (1, 6)) is model
    assert closed_over.weight.shape == (3, 3)
    sizes = [layer.weight.shape for layer in fx.modules(model) if isinstance(layer, Dense)]
    assert sizes == [(6, 5), (6, 5), (5, 2), (7, 3), (7, 4), (4, 3), (3, 3)]
    function = lambda x: closed_over(Dense(2, 3)(x))
    assert autosize(function, (1, 2)) is function


def test_autosize_as_in_flux():
    image = Chain(fx.Conv((3, 3), None, 5, relu), fx.BatchNorm(None), fx.flatten, Dense(None, 10))
    autosize(image, (2, 9, 8, 3))
    assert [image[0].weight.shape, image[1].scale.shape, image[3].weight.shape] == [(3, 3, 3, 5), (5,), (210, 10)]
    words = autosize(Chain(fx.Embedding(26, 8), fx.GRU(None, 4), fx.LayerNorm(None)), (2, 5), dtype=int)
    assert words[1].inputs == 8 and words[2].size == (4,)
    two = autosize(Parallel(operator.add, Dense(None, 3), Dense(None, 3)), (1, 2), (1, 5))
    assert [layer.weight.shape for layer in two] == [(2, 3), (5, 3)]
    assert autosize(fx.Bilinear((None, 3), 10), (1, 32), (1, 3)).weight.shape == (32, 3, 10)
    assert autosize(fx.Bilinear(None, 10), ((1, 32), (1, 3))).weight.shape == (32, 3, 10)
    attention = autosize(fx.MultiHeadAttention((None, 4, 4), nheads=2), (1, 2, 3), (1, 5, 6), (1, 5, 7))
    assert attention.dims[0] == (3, 6, 7)


def test_a_class_of_the_user_takes_part():
    class Block(fx.Layer):
        __unsized__ = ("inputs",)

        def __init__(self, inputs, factor=2, *, rng=None):
            self.inputs = inputs
            self.dense, self.rest = Dense(inputs, inputs * factor, rng=rng), Dense(None, 1, rng=rng)

        def __call__(self, x):
            return self.rest(self.dense(x))

        def arguments(self):
            return [self.inputs], {}

    class Narrow(Dense):
        def __init__(self, outputs):
            super().__init__(None, outputs, relu)
            self.note = "kept"

    block, narrow = Block(None, factor=3), Narrow(4)
    assert block.typed() == "Block(None, 3)" and isinstance(block, Block)
    model = autosize(Chain(block, narrow), (1, 2))
    assert type(block) is Block and block.rest.weight.shape == (6, 1)
    assert type(narrow) is Narrow and narrow.weight.shape == (1, 4) and narrow.note == "kept"
    (gradient,) = fx.gradient(lambda m: m(jnp.ones((1, 2))).sum(), model)
    assert gradient.layers[0].dense.weight.shape == (2, 6)
    with pytest.raises(TypeError, match="missing a required argument: 'inputs'"):
        Block()


def test_a_shared_layer_is_sized_once():
    shared = Dense(None, 3)
    model = autosize(Chain(shared, relu, shared), (1, 3))
    assert model[0] is model[2] is shared and len(fx.trainables(model)) == 2
    with pytest.raises(SizeError, match=re.escape("Dense(2, 3) expects 2 input features")):
        autosize(Chain(other := Dense(None, 3), other), (1, 2))
    assert other.typed() == "Dense(None, 3)"


def test_a_failure_leaves_the_model_as_it_was():
    model = Chain(fx.Conv((3, 3), None, 4), Dense(None, 3), lambda x: x @ jnp.ones((7, 1)))
    before = model.typed()
    with pytest.raises(TypeError, match="dot_general"):
        autosize(model, (1, 8, 8, 1))
    assert model.typed() == before
    with pytest.raises(SizeError, match=re.escape("expects 4 axes (batch, height, width, channels)")) as caught:
        autosize(model, (8, 8, 1))
    assert model.typed() == before and caught.value.path == "model.layers[0]"
    with pytest.raises(SizeError):
        model(jnp.ones((8, 8, 1)))
    assert model.typed() == before
    assert autosize(model[:2], (1, 8, 8, 1))(jnp.ones((1, 8, 8, 1))).shape == (1, 6, 6, 3)
    with pytest.raises(SizeError, match=re.escape("Dense(None, 3) expects an array of at least 1 axes, got")):
        autosize(Dense(None, 3), ())


def test_autosize_runs_without_values_and_leaves_the_rest_alone():
    model = Chain(fx.BatchNorm(3, active=True), fx.Dropout(0.5, rng=Generator(1), active=True), Dense(None, 2))
    mean, key = model[0].mean, model[1].rng.key
    fx.seed(0)
    autosize(model, (100_000_000, 3))
    assert model[0].mean is mean and model[1].rng.key is key
    fx.seed(0)
    assert (model[2].weight == Dense(3, 2).weight).all()
    first = model[2].weight
    assert autosize(model, (2, 3))[2].weight is first  # what has its sizes keeps them


def test_weights_come_from_the_generator_that_was_given():
    for find in (lambda layer: autosize(layer, (1, 4)), lambda layer: layer(jnp.ones(4))):
        layer, rng = Dense(None, 2, rng=(own := Generator(5))), Generator(5)
        find(layer)
        assert (layer.weight == Dense(4, 2, rng=rng).weight).all() and (own.key == rng.key).all()


def test_compiled_code_and_gradients_ask_for_autosize():
    model, x = Chain(relu, Dense(None, 2)), jnp.ones((1, 3))
    message = "Dense(None, 2) does not know its sizes yet, and cannot get them inside compiled code or a gradient; call"
    for call in (
        lambda: fx.gradient(lambda m: m(x).sum(), model),
        lambda: fx.compile(model)(x),
        lambda: jax.jit(model)(x),
        lambda: jax.jit(lambda: model(np.ones((1, 3))))(),
        lambda: jax.vmap(model)(x),
    ):
        with pytest.raises(SizeError, match=re.escape(message)) as caught:
            call()
        assert caught.value.path.endswith("layers[1]")
        assert model[1].typed() == "Dense(None, 2)"
    with fx.eager(), pytest.raises(SizeError, match=re.escape(message)):
        fx.gradient(lambda m: m(x).sum(), model)
    with pytest.raises(ValueError, match=re.escape("setup needs the sizes of all layers, Dense(None, 2) has none yet")):
        fx.setup(fx.Adam(), model)
    autosize(model, (1, 3))
    check_sized(model, "setup")
    assert fx.gradient(lambda m: m(x).sum(), model)[0].layers[1].weight.shape == (3, 2)
    assert fx.compile(model)(x).shape == (1, 2)


def test_fields_that_need_sizes_say_so():
    layer = Dense(None, 2)
    message = (
        "Dense(None, 2) has no 'weight' as long as its sizes are unknown; call fx.autosize(model, input_shape), or"
    )
    with pytest.raises(AttributeError, match=re.escape(message)):
        layer.weight  # noqa: B018
    assert layer.outputs == 2
    recurrent = fx.LSTM(None, 2, layers=3)
    assert recurrent.inputs is None and recurrent.layers == 3
    assert not hasattr(fx.Recurrence(fx.GRUCell(None, 2)), "inputs")


def test_unsized_layers_are_copied_pickled_mapped_and_frozen():
    layer = fx.BatchNorm(None, relu)
    copies = copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fx.fmap(jnp.ones_like, layer)
    for other in copies:
        assert other is not layer and other.typed() == "BatchNorm(None, relu)"
        assert other(jnp.ones((2, 3))).shape == (2, 3) and other.typed() == "BatchNorm(3, relu)"
    fx.trainmode(layer)
    assert layer.typed() == "BatchNorm(None, relu, active=True)"
    model = Chain(layer, fx.LSTM(None, 2))
    fx.freeze(model)
    autosize(model, (1, 4, 3))
    assert model[0].active is True and not fx.trainables(model)
    fx.thaw(model)
    assert len(fx.trainables(model)) == 5
    assert repr(Chain(Dense(None, 2), fx.Scale(2))).splitlines()[1].strip() == "Dense(None, 2),"


def test_inputs_by_keyword_are_told_apart():
    for call in (lambda m, x, y: m(x, y=y), lambda m, x, y: m(y=y, x=x)):
        layer = fx.Bilinear(None, 2)
        call(layer, jnp.ones((4, 3)), jnp.ones((4, 5)))
        assert layer.typed() == "Bilinear((3, 5), 2)"
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        Dense(None, 2)()


def test_the_first_call_may_come_from_several_threads():
    x = jnp.ones((4, 3))
    for _ in range(20):
        layer, outputs, start = Dense(None, 2), [], threading.Barrier(4)
        run = lambda layer=layer, outputs=outputs, start=start: (start.wait(), outputs.append(layer(x)))
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(outputs) == 4 and all((y == outputs[0]).all() for y in outputs)


def test_autosize_refuses():
    for around in (fx.compile, lambda f: lambda x: fx.gradient(f, x)):
        with pytest.raises(ValueError, match="autosize draws weights, which it cannot inside compiled code or a grad"):
            around(lambda x: autosize(Dense(None, 2), (4, 3))(x).sum())(jnp.ones((4, 3)))
    for arguments, message in [
        ((Dense(None, 2),), "autosize needs the shape of the input, batch first, as in autosize(model, (32, 10))"),
        ((Dense(None, 2), 3), "autosize takes shapes, batch first, as in autosize(model, (32, 10)), got 3"),
        (([3], (1, 2)), "autosize takes a model, which is callable, got [3]"),
    ]:
        with pytest.raises(TypeError, match=re.escape(message)):
            autosize(*arguments)

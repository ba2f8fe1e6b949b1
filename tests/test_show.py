"""Models read as they were typed."""

import dataclasses
import functools
import io
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion import BatchNorm, Chain, Conv, Dense, Dropout, Layer, Parallel, SkipConnection, relu, softmax, tanh
from fluxion.show import show, show_text


def lines(text):
    """A text written with the indentation of the test around it."""
    return "\n".join(line[4:] for line in text.strip("\n").splitlines()).rstrip()


class Affine:
    def __init__(self, inputs=3, outputs=4):
        self.weight = jnp.ones((inputs, outputs))
        self.bias = jnp.ones(outputs)
        self._cache = None

    def __call__(self, x):
        return x @ self.weight + self.bias


def test_a_chain():
    expected = """
    Chain(
      Dense(10, 5, relu),  # 55 parameters
      Dense(5, 5, tanh),   # 30 parameters
      Dense(5, 2),         # 12 parameters
      softmax,
    )                      # Total: 6 arrays, 97 parameters, 388 bytes
    """
    model = Chain(Dense(10, 5, relu), Dense(5, 5, tanh), Dense(5, 2), softmax)
    assert show_text(model) == repr(model) == str(model) == lines(expected)


def test_names_nesting_and_what_does_not_train():
    expected = """
    Chain(
      body=Chain(
        Conv((3, 3), 1, 4, relu, pad=1),  # 40 parameters
        BatchNorm(4),                     # 8 parameters, plus 8
      ),
      skip=SkipConnection(
        Dense(4, 4, bias=False),          # 16 parameters
        add,
      ),
      both=Parallel(
        add,
        Dense(4, 1),                      # 5 parameters
        lambda x: ...,
      ),
      drop=Dropout(0.5),
      empty=Chain(relu, tanh),
    )                                     # Total: 7 trainable arrays, 69 parameters, plus 2 non-trainable, 8 parameters, 308 bytes
    """  # noqa: E501
    model = Chain(
        body=Chain(Conv((3, 3), 1, 4, relu, pad=1), BatchNorm(4)),
        skip=SkipConnection(Dense(4, 4, bias=False), jnp.add),
        both=Parallel(jnp.add, Dense(4, 1), lambda x: x),
        drop=Dropout(0.5),
        empty=Chain(relu, tanh),
    )
    assert show_text(model) == lines(expected)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (Dense(10, 5, relu), "Dense(10, 5, relu)  # 55 parameters"),
        (Chain(relu, tanh), "Chain(relu, tanh)"),
        (np.ones((3, 4), np.float32), "float32(3, 4)  # 12 parameters"),
        (np.ones((), np.float32), "float32()  # 1 parameter"),
        (np.ones(5, np.int32), "int32(5)  # 5 non-trainable"),
        (relu, "relu"),
        (lambda x, y: x, "lambda x, y: ..."),
        (lambda: 1, "lambda: ..."),
        (0.5, "0.5"),
        ("same", "'same'"),
        (None, "None"),
        ([], "[]"),
        ((1,), "(1,)"),
        ({"a": 1, "b": [True, None]}, "{'a': 1, 'b': [True, None]}"),
        (list(range(50_000)), "[0, 1, 2, 3, 4, 5, 6, 7, ...]"),
        ("a" * 1000, f"'{'a' * 43}..."),
        (Dense, "Dense"),
    ],
)
def test_one_line(x, text):
    assert show_text(x) == text


def test_what_is_printed_is_python():
    model = Chain(enc=Chain(Dense(3, 2, relu, bias=False), Dropout(0.5)), dec=Conv((3, 3), 1, 2, pad=1, stride=2))
    text = show_text(model)
    again = eval(text, vars(fx))
    assert show_text(again) == text


def test_tied_layers_and_weights_are_marked_and_counted_once():
    expected = """
    Chain(
      Dense(2, 2),  # 6 parameters
      Chain(
        Dense(2, 2),  # tied to layers[0]
        Dense(2, 2),  # 2 parameters, weight tied to layers[0].weight
      ),
      Chain(...),     # tied to layers[1]
    )                 # Total: 3 arrays, 8 parameters, 32 bytes
    """.replace("Dense(2, 2),  # 6", "Dense(2, 2),    # 6")
    shared = Dense(2, 2)
    other = Dense(2, 2)
    other.weight = shared.weight
    other.bias = jnp.ones(2)
    inner = Chain(shared, other)
    assert show_text(Chain(shared, inner, inner)) == lines(expected)


def test_a_model_that_holds_itself():
    model = Chain(relu, Dense(2, 2))
    model.layers.append(model)
    assert "Chain(...),   # tied to the whole" in show_text(model)


def test_frozen_parts_are_marked():
    model = Chain(Dense(2, 3), BatchNorm(3), Dense(3, 2))
    fx.freeze(model)
    fx.thaw(model[2])
    expected = """
    Chain(
      Dense(2, 3),   # 9 parameters, frozen
      BatchNorm(3),  # 6 parameters, plus 6, frozen
      Dense(3, 2),   # 8 parameters
    )                # Total: 2 trainable arrays, 8 parameters, plus 6 non-trainable, 21 parameters, 116 bytes
    """
    assert show_text(model) == lines(expected)


def test_objects_of_your_own_classes():
    assert show_text(Affine()) == "Affine(weight=float32(3, 4), bias=float32(4))  # 16 parameters"

    class Pair:
        def __init__(self):
            self.first, self.second, self.count = Affine(), Dense(4, 1), 2

    expected = """
    Pair(
      first=Affine(weight=float32(3, 4), bias=float32(4)),  # 16 parameters
      second=Dense(4, 1),                                   # 5 parameters
      count=2,
    )                                                       # Total: 4 arrays, 21 parameters, 84 bytes
    """
    assert show_text(Pair()) == lines(expected)


def test_a_layer_of_your_own():
    class Block(Layer):
        def __init__(self, width):
            self.inner = Dense(width, width)
            self.scale = jnp.ones(())

    expected = """
    Block(
      inner=Dense(2, 2),  # 6 parameters
      scale=float32(),    # 1 parameter
    )                     # Total: 3 arrays, 7 parameters, 28 bytes
    """
    assert repr(Block(2)) == lines(expected)


def test_dataclasses_slots_and_namedtuples():
    @dataclasses.dataclass
    class Point:
        x: np.ndarray
        name: str = "p"

    class Slotted:
        __slots__ = ("w",)

    Named = namedtuple("Named", "w b")
    slotted = Slotted()
    slotted.w = np.ones(2, np.float32)
    assert show_text(Point(np.ones(3, np.float32))) == "Point(x=float32(3), name='p')  # 3 parameters"
    assert show_text(slotted) == "Slotted(w=float32(2))  # 2 parameters"
    assert show_text(Named(slotted.w, 1)) == "Named(w=float32(2), b=1)  # 2 parameters"


def test_a_text_of_your_own_is_used_inside():
    class Table(Affine):
        def __repr__(self):
            return "Table of 3 x 4"

    assert "  Table of 3 x 4,  # 16 parameters" in show_text(Chain(Table(), relu))


def test_functions_show_what_they_close_over():
    w, b = jnp.ones((3, 4)), jnp.ones(4)

    def affine(x):
        return x @ w + b

    assert show_text(affine) == "affine(b=float32(4), w=float32(3, 4))  # 16 parameters"
    inner, outer = Dense(1, 2, tanh), Dense(2, 1)
    expected = """
    <lambda>(
      inner=Dense(1, 2, tanh),  # 4 parameters
      outer=Dense(2, 1),        # 3 parameters
    )                           # Total: 4 arrays, 7 parameters, 28 bytes
    """
    text = show_text(lambda x: outer(inner(x)))
    assert sorted(text.splitlines()) == sorted(lines(expected).splitlines())


def test_methods_and_partials():
    affine = Affine()
    assert show_text(affine.__call__).splitlines()[1].startswith("  Affine(weight=float32(3, 4)")
    partial = functools.partial(lambda w, x: w * x, jnp.ones(2))
    assert show_text(partial) == "partial(lambda w, x: ..., float32(2))  # 2 parameters"


def test_trouble_in_the_weights_is_pointed_out():
    model = Chain(Dense(2, 2), Dense(2, 2), Dense(2, 2))
    model[0].weight = model[0].weight.at[0, 0].set(jnp.nan)
    model[1].bias = model[1].bias.at[0].set(-jnp.inf)
    model[2].weight = jnp.zeros((2, 2))
    text = show_text(model).splitlines()
    assert text[1].endswith("# 6 parameters, some NaN")
    assert text[2].endswith("# 6 parameters, some Inf")
    assert text[3].endswith("# 6 parameters, all zero")
    large = np.full(4, 3e38, np.float32)
    assert show_text(large) == "float32(4)  # 4 parameters"


def test_random_state_is_not_a_parameter():
    assert show_text(Dropout(0.5, rng=fx.random.Generator(0))).startswith("Dropout(0.5")
    assert "#" not in show_text(Dropout(0.5, rng=fx.random.Generator(0)))


@pytest.mark.parametrize(("count", "size"), [(255, "1020 bytes"), (256, "1.000 KiB"), (2**20, "4.000 MiB")])
def test_sizes(count, size):
    third = np.ones(count - 2, np.float32)
    text = show_text([third, np.ones(1, np.float32), Affine(1, 1).bias, {}, [Dense(1, 1), relu][1:], Chain(relu)])
    assert text.endswith(f"# {count:_} parameters")
    pieces = [{"a": third}, {"a": np.ones(1, np.float32)}, {"a": np.ones(1, np.float32)}]
    assert show_text(pieces).endswith(f"# Total: 3 arrays, {count:_} parameters, {size}")


def test_show_prints(capsys):
    show(Dense(2, 1))
    assert capsys.readouterr().out == "Dense(2, 1)  # 3 parameters\n"
    file = io.StringIO()
    fx.show(relu, file)
    assert file.getvalue() == "relu\n"
    with pytest.raises(AttributeError, match="write"):
        show(relu, file=3)


def test_while_jax_traces():
    model, texts = Dense(2, 1), []

    def run(weight):
        model.weight = weight
        texts.append(show_text(model))

    jax.eval_shape(run, model.weight)
    assert texts == ["Dense(2, 1)  # 3 parameters"]

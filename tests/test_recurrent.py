"""Recurrent cells and layers: the catalog of cases, and what no formula tells."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from harness import cases_of, fill, numbers

import fluxion as fx
from fluxion.mode import gradient_mode
from fluxion.random import Generator

KINDS = ("RNN", "LSTM", "GRU", "GRUv3")


@pytest.mark.parametrize("case", cases_of("recurrent"), ids=str)
def test_case(case):
    case.check()


@pytest.mark.parametrize("case", cases_of("recurrent"), ids=str)
def test_random_options(case):
    case.check_random()


def single(*shape, seed=0):
    return jnp.asarray(numbers(*shape, seed=seed), jnp.float32)


def cell_of(kind, *arguments, **options):
    return fill(getattr(fx, f"{kind}Cell")(*arguments, **options))


def close(got, wanted):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


# ------------------------------------------------------------------ cells


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_starts_from_zeros_and_returns_its_state(kind):
    cell, x = cell_of(kind, 3, 5), single(2, 3)
    output, state = cell(x)
    close((output, state), cell(x, fx.initialstates(cell)))
    assert output is (state[0] if kind == "LSTM" else state)
    assert output.shape == (2, 5) and cell(x[0])[0].shape == (5,)
    close(cell(x[1])[0], output[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_counts_for_the_whole_batch(kind):
    cell, x = cell_of(kind, 3, 5), single(2, 3)
    vectors = jax.tree.map(lambda zeros: single(5, seed=1), fx.initialstates(cell))
    output, state = cell(x, vectors)
    close((output, state), cell(x, jax.tree.map(lambda vector: jnp.stack([vector] * 2), vectors)))
    layer = fx.Recurrence(cell, return_state=True)
    y, last = layer(x[:, None], vectors)
    close((y[:, 0], last), (output, state))


@pytest.mark.parametrize(("kind", "arrays"), [("RNN", 3), ("LSTM", 3), ("GRU", 3), ("GRUv3", 3)])
def test_trainable_arrays(kind, arrays):
    make = getattr(fx, f"{kind}Cell")
    assert len(fx.trainables(make(3, 5))) == arrays
    assert len(fx.trainables(make(3, 5, bias=False))) == arrays - 1
    assert make(3, 5).bias.tolist() == [0.0] * len(make(3, 5).bias)


def test_a_gru_has_a_second_bias_on_request():
    cell = fx.GRUCell(3, 5, recurrent_bias=True)
    assert len(fx.trainables(cell)) == 4 and cell.recurrent_bias.shape == (15,)
    assert cell.typed() == "GRUCell(3, 5, recurrent_bias=True)"
    assert fx.GRU(3, 5, recurrent_bias=True).layers[0].cell.recurrent_bias is not None


def test_weights_have_the_fans_of_the_stacked_matrix():
    cell = fx.LSTMCell(300, 200)
    assert cell.input_weight.shape == (300, 800) and cell.recurrent_weight.shape == (200, 800)
    for weight in (cell.input_weight, cell.recurrent_weight):
        bound = math.sqrt(6 / sum(weight.shape))
        assert 0.98 * bound < abs(weight).max() <= bound
    same = [fx.GRUCell(3, 2, rng=Generator(1)).recurrent_weight for _ in range(2)]
    assert (same[0] == same[1]).all()


def test_a_cell_from_arrays_of_torch():
    theirs = torch.nn.GRUCell(3, 5)
    weights = {name: value.detach().numpy() for name, value in theirs.named_parameters()}
    mine = fx.GRUCell.from_arrays(
        weights["weight_ih"].T, weights["weight_hh"].T, weights["bias_ih"], recurrent_bias=weights["bias_hh"]
    )
    x, h = numbers(2, 3).astype(np.float32), numbers(2, 5, seed=1).astype(np.float32)
    close(mine(x, h)[0], theirs(torch.tensor(x), torch.tensor(h)).detach().numpy())


def test_types_of_weights_inputs_and_states():
    half = fx.LSTMCell(3, 2, init_kernel=fx.glorot_uniform(dtype=jnp.float16))
    assert {array.dtype for array in fx.trainables(half).values()} == {jnp.dtype("float16")}
    layer = fx.Recurrence(half, return_state=True)
    outputs = layer(np.ones((2, 4, 3)), fx.initialstates(fx.LSTMCell(3, 2)))
    assert {array.dtype for array in jax.tree.leaves(outputs)} == {jnp.dtype("float16")}
    assert fx.GRU(3, 2)(np.ones((4, 3), int)).dtype == jnp.float32


def test_an_lstm_as_flux_computes_it():
    cell = fx.LSTMCell.from_arrays(jnp.zeros((1, 4)), jnp.zeros((1, 4)), jnp.array([0.0, 0.0, 1.0, 0.0]))
    h, (_, c) = cell(jnp.zeros(1), (jnp.zeros(1), jnp.ones(1)))
    assert float(c[0]) == pytest.approx(0.5 + 0.5 * math.tanh(1))
    assert float(h[0]) == pytest.approx(0.5 * math.tanh(float(c[0])))


# ------------------------------------------------------------------ layers


def loop(cell, xs, state):
    outputs = []
    for x in xs:
        y, state = cell(x, state)
        outputs.append(y)
    return jnp.stack(outputs)


def comprehension(cell, xs, state):
    return jnp.stack([y for y, state in [(None, state)] for x in xs for y, state in [cell(x, state)]])


def concatenation(cell, xs, state):
    y, state = cell(xs[0], state)
    outputs = y[None]
    for x in xs[1:]:
        y, state = cell(x, state)
        outputs = jnp.concatenate([outputs, y[None]])
    return outputs


def scan(cell, xs, state):
    return jax.lax.scan(lambda state, x: cell(x, state)[::-1], state, xs)[1]


@pytest.mark.parametrize("kind", KINDS)
def test_loops_of_every_style_equal_the_layer(kind):
    layer = fill(getattr(fx, kind)(3, 4))
    cell, xs, w = layer.layers[0].cell, single(3, 2, 3), single(3, 2, 4, seed=1)
    state = jax.tree.map(lambda zeros: jnp.zeros((2, 4)), fx.initialstates(layer))
    wanted = fx.withgradient(lambda m: (jnp.swapaxes(m(jnp.swapaxes(xs, 0, 1)), 0, 1) * w).sum(), layer)
    for style in (loop, comprehension, concatenation, scan):
        value, (gradient,) = fx.withgradient(lambda c: (style(c, xs, state) * w).sum(), cell)  # noqa: B023
        close(value, wanted[0])
        for name in ("input_weight", "recurrent_weight", "bias"):
            close(getattr(gradient, name), getattr(wanted[1][0].layers[0].cell, name))


@pytest.mark.parametrize("kind", KINDS)
def test_recurrence_of_a_cell_equals_the_layer(kind):
    layer = fill(getattr(fx, kind)(3, 4, return_state=True))
    x = single(2, 5, 3)
    close(fx.Recurrence(layer.layers[0].cell, return_state=True)(x), layer(x))


class Wrapped:
    """Hides a cell from the layers, which then know nothing but how to call it."""

    def __init__(self, cell):
        self.cell = cell

    def __call__(self, x, state):
        return self.cell(x, state)

    def initialstates(self):
        return fx.initialstates(self.cell)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [None, [5, 3]])
def test_a_cell_that_the_layers_do_not_know(kind, lengths):
    cell, x = cell_of(kind, 3, 4), single(2, 5, 3)
    for reverse in (False, True):
        known, unknown = (fx.Recurrence(c, reverse=reverse, return_state=True) for c in (cell, Wrapped(cell)))
        close(unknown(x, lengths=lengths), known(x, lengths=lengths))


def test_a_subclass_may_change_the_call():
    class Doubled(fx.RNNCell):
        def __call__(self, x, state=None):
            y, state = super().__call__(x, state)
            return 2 * y, state

    cell = fill(Doubled(3, 4))
    plain = fx.RNNCell.from_arrays(cell.input_weight, cell.recurrent_weight, cell.bias)
    x = single(2, 5, 3)
    close(fx.Recurrence(cell)(x), 2 * fx.Recurrence(plain)(x))


@pytest.mark.parametrize("kind", KINDS)
def test_single_sequences_and_single_steps(kind):
    layer = fill(getattr(fx, kind)(3, 4, layers=2, bidirectional=True, return_state=True))
    x = single(2, 5, 3)
    y, state = layer(x)
    one, last = layer(x[1])
    assert one.shape == (5, 8)
    close((one, last), (y[1], jax.tree.map(lambda part: part[1], state)))
    assert layer(x[:, :1])[0].shape == (2, 1, 8)
    empty, unchanged = layer(x[:, :0])
    assert empty.shape == (2, 0, 8) and all((part == 0).all() for part in jax.tree.leaves(unchanged))
    close(layer(x, fx.initialstates(layer)), (y, state))


def test_states_are_nested_by_layer_and_direction():
    shapes = lambda state: jax.tree.map(jnp.shape, state)
    x, h = single(2, 5, 3), (2, 4)
    for options, wanted in [
        ({}, (h, h)),
        ({"bidirectional": True}, ((h, h), (h, h))),
        ({"layers": 2}, ((h, h), (h, h))),
        ({"layers": 2, "bidirectional": True}, (((h, h), (h, h)), ((h, h), (h, h)))),
    ]:
        layer = fx.LSTM(3, 4, return_state=True, **options)
        assert shapes(layer(x)[1]) == wanted
        assert jax.tree.structure(fx.initialstates(layer)) == jax.tree.structure(layer(x)[1])


def test_a_sequence_in_two_parts_equals_the_whole():
    layer, x = fill(fx.GRU(3, 4, layers=2, return_state=True)), single(2, 6, 3)
    y, last = layer(x)
    first, state = layer(x[:, :4])
    second, state = layer(x[:, 4:], state)
    close((jnp.concatenate([first, second], 1), state), (y, last))


class Noisy:
    """A cell that draws random numbers and counts its steps in an array."""

    def __init__(self):
        self.drop, self.cell, self.steps = fx.Dropout(0.5, active=True), fx.GRUCell(3, 3), jnp.zeros((), int)

    def __call__(self, x, state):
        self.steps = self.steps + 1
        return self.cell(self.drop(x), state)

    def initialstates(self):
        return fx.initialstates(self.cell)


def test_draws_and_writes_of_a_cell_go_on_from_step_to_step():
    cell, x, draw = Noisy(), single(5, 3), fx.Dropout(0.5, active=True)
    layer = fx.Recurrence(cell)
    fx.seed(0)
    wanted = loop(cell, x, fx.initialstates(cell)), draw(x)
    fx.seed(0)
    close((layer(x), draw(x)), wanted)
    assert int(cell.steps) == 10
    fx.seed(0)
    value, _ = fx.withgradient(lambda layer: layer(x).sum(), layer)
    close((value, draw(x)), (wanted[0].sum(), wanted[1]))
    assert int(cell.steps) == 15
    with pytest.raises(fx.CaptureError, match="is written inside a transformation of JAX"):
        jax.jit(layer)(x)


def test_a_cell_that_replaces_one_of_two_places():
    class Split(Noisy):
        def __init__(self):
            super().__init__()
            self.twin = self.steps

    with pytest.raises(fx.CaptureError, match="replaces an array in one of the places that share it"):
        fx.Recurrence(Split())(single(5, 3))


# ------------------------------------------------------------------ lengths


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_nothing(kind, bidirectional):
    layer = fill(getattr(fx, kind)(3, 4, layers=2, bidirectional=bidirectional, return_state=True))
    x, lengths = single(3, 5, 3), [3, 5, 1]
    padded = x.at[0, 3:].set(jnp.nan).at[2, 1:].set(jnp.inf)
    y, state = layer(padded, lengths=lengths)
    for index, length in enumerate(lengths):
        alone, last = layer(x[index, :length])
        close(y[index, :length], alone)
        close(jax.tree.map(lambda part: part[index], state), last)  # noqa: B023
        assert (y[index, length:] == 0).all()
    gradients = fx.gradient(lambda m, x: (m(x, lengths=jnp.asarray(lengths))[0] ** 2).sum(), layer, padded)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(fx.trainables(gradients[0])))
    assert jnp.isfinite(gradients[1]).all() and (gradients[1][0, 3:] == 0).all() and (gradients[1][2, 1:] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_without_steps_keeps_its_state(kind):
    layer = fill(getattr(fx, kind)(3, 4, bidirectional=True, return_state=True))
    start = jax.tree.map(lambda zeros: single(2, 4, seed=3), fx.initialstates(layer))
    y, state = layer(single(2, 5, 3), start, lengths=[0, 5])
    assert (y[0] == 0).all()
    close(jax.tree.map(lambda part: part[0], state), jax.tree.map(lambda part: part[0], start))
    one, last = layer(single(5, 3), lengths=0)
    assert (one == 0).all() and all((part == 0).all() for part in jax.tree.leaves(last))
    (gradient,) = fx.gradient(lambda layer: layer(single(2, 0, 3))[0].sum(), layer)
    assert not any(part.any() for part in jax.tree.leaves(gradient))


def test_lengths_are_data_of_the_compiled_program():
    layer, x = fill(fx.LSTM(3, 4)), single(2, 5, 3)
    compiled = jax.jit(lambda lengths: layer(x, lengths=lengths))
    for lengths in ([1, 5], [4, 2]):
        close(compiled(jnp.asarray(lengths)), layer(x, lengths=lengths))
    assert jnp.isnan(
        jax.jit(lambda n: fx.LSTM(3, 4, return_state=True)(x, lengths=n)[1][0])(jnp.array([6, 5]))[0]
    ).all()


def test_one_hot_sequences():
    layer, tokens = fill(fx.GRU(4, 3, bidirectional=True)), fx.onehotbatch([[1, 3, 0], [2, 2, 1]], range(4))
    dense = jnp.asarray(tokens, jnp.float32)
    close(layer(tokens), layer(dense))
    close(layer(tokens, lengths=[2, 3]), layer(dense, lengths=[2, 3]))
    close(layer(tokens[0]), layer(dense[0]))
    unknown = fx.Recurrence(Wrapped(layer.layers[0].forward.cell), reverse=True)
    close(unknown(tokens, lengths=[2, 3]), unknown(dense, lengths=[2, 3]))


# ------------------------------------------------------------------ with the rest of the library


def test_dropout_between_layers_while_training():
    x = single(2, 5, 3)
    layer = fill(fx.GRU(3, 4, layers=2, dropout=0.5))
    plain = fx.GRU(3, 4, layers=2)
    plain.layers = layer.layers
    close(layer(x), plain(x))
    with gradient_mode():
        assert not np.allclose(layer(x), plain(x))
        alone, same = fx.GRU(3, 4, dropout=0.5), fx.GRU(3, 4)
        same.layers = alone.layers
        close(alone(x), same(x))
    fx.testmode(layer)
    with gradient_mode():
        close(layer(x), plain(x))


def test_layers_read_as_typed():
    layer = fx.LSTM(3, 4, layers=2, bidirectional=True, dropout=0.5, return_state=True, bias=False)
    text = "LSTM(3, 4, layers=2, bidirectional=True, dropout=0.5, return_state=True, bias=False)"
    assert layer.typed() == text
    assert fx.RNN(3, 4, fx.relu).typed() == "RNN(3, 4, relu)" and fx.RNN(3, 4).typed() == "RNN(3, 4)"
    assert fx.Recurrence(fx.RNNCell(3, 4), reverse=True).typed() == "Recurrence(RNNCell(3, 4), reverse=True)"


def test_return_state_survives_a_copy():
    layer = fx.fmap(lambda array: array + 0, fx.GRU(3, 4, return_state=True))
    assert layer.return_state and len(layer(single(2, 5, 3))) == 2


class Starting:
    """A user's model that learns the state its layer starts from."""

    def __init__(self):
        self.rnn = fx.GRU(2, 4)
        self.start = jnp.zeros(4)

    def __call__(self, x):
        return self.rnn(x, self.start)


def test_an_initial_state_can_be_trained():
    model, x = Starting(), single(3, 5, 2)
    (gradient,) = fx.gradient(lambda m: (m(x) ** 2).sum(), model)
    assert (gradient.start != 0).any() and len(fx.trainables(model)) == 4
    before = model(x)
    fx.train(lambda m, x: (m(x) ** 2).sum(), model, [(x,)], fx.setup(fx.Descent(0.1), model), progress=False)
    assert (model.start != 0).all() and not np.allclose(model(x), before)


def test_an_activation_may_change():
    slope = [1.0]
    layer, x = fill(fx.RNN(3, 4, lambda x: slope[0] * x)), single(2, 5, 3)
    before = layer(x)
    slope[0] = 0.0
    assert (before != 0).any() and (layer(x) == 0).all()


def test_an_lstm_learns_to_remember():
    fx.seed(0)
    x = numbers(256, 8, 1, seed=0).astype(np.float32)
    y = (x[:, :1, 0] > 0).astype(np.float32)
    model = fx.Chain(fx.LSTM(1, 16), lambda y: y[:, -1], fx.Dense(16, 1))
    loss = lambda m, x, y: fx.logitbinarycrossentropy(m(x), y)
    fx.train(loss, model, [(x, y)] * 150, fx.setup(fx.Adam(0.03), model), progress=False)
    assert ((model(x) > 0) == (y > 0)).mean() > 0.97


def test_outputsize_of_recurrent_layers():
    model = fx.Chain(fx.Embedding(10, 3), fx.LSTM(3, 4, bidirectional=True), fx.Dense(8, 2))
    assert fx.outputsize(model, (5, 7), dtype=int) == (5, 7, 2)

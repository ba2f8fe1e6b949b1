"""Recurrent cells and layers, against PyTorch."""

import jax.numpy as jnp
import numpy as np
import torch
from harness import Sample, case, fill

import fluxion as fx


def torch_weights(p, path, suffix=""):
    """What `functional_call` wants for the cell at `path`: transposed weights, and a second bias, zero but for GRU."""
    bias = p.get(f"{path}bias", torch.zeros(p[f"{path}input_weight"].shape[1], dtype=torch.float64))
    second = p.get(f"{path}recurrent_bias", torch.zeros_like(bias))
    return {
        f"weight_ih{suffix}": p[f"{path}input_weight"].T,
        f"weight_hh{suffix}": p[f"{path}recurrent_weight"].T,
        f"bias_ih{suffix}": bias,
        f"bias_hh{suffix}": second,
    }


def torch_cell(kind, p, x, state, **options):
    size = p["recurrent_weight"].shape[0]
    module = getattr(torch.nn, f"{kind}Cell")(x.shape[-1], size, dtype=torch.float64, **options)
    state = tuple(part.expand(*x.shape[:-1], size) for part in state) if kind == "LSTM" else state
    return torch.func.functional_call(module, torch_weights(p, ""), (x, state))


def cell_sample(draw, kind, **options):
    inputs, outputs = draw.size(3), draw.size(3)
    batch = draw.choose((2,), ())
    x = draw.normal(*batch, inputs)
    hidden = draw.normal(*batch, outputs)
    bias = {} if draw.choose(True, False) else {"bias": False}

    def reference(p, x, state):
        new = torch_cell(kind, p, x, state)
        return (new[0], *new) if kind == "LSTM" else (new, new)

    state = (hidden, draw.normal(*batch, outputs)) if kind == "LSTM" else hidden
    make = getattr(fx, f"{kind}Cell")
    return Sample(lambda: fill(make(inputs, outputs, **options, **bias)), x, state, reference=reference)


@case("RNNCell", errors=[
    (lambda: fx.RNNCell(3, 2)(np.ones(4)), fx.SizeError,
     "RNNCell(3, 2) expects 3 input features (last axis), got an array of shape (4,)"),
    (lambda: fx.RNNCell(3, 2)(np.ones(3), np.ones(3)), fx.SizeError,
     "RNNCell(3, 2) expects a state of shape (2,), got an array of shape (3,)"),
    (lambda: fx.RNNCell(3, 2)(np.ones((4, 3)), np.ones((5, 2))), fx.SizeError,
     "RNNCell(3, 2) expects a state of shape (4, 2) or (2,), got an array of shape (5, 2)"),
    (lambda: fx.RNNCell(3, 0), ValueError, "RNNCell takes sizes that are ints of at least 1, got 0"),
    (lambda: fx.RNNCell(3, 2, "tanh"), TypeError, "RNNCell takes a function as its activation"),
    (lambda: fx.RNNCell(3, 2, bias=np.ones(3)), ValueError, "bias takes True, False or an array of shape (2,)"),
    (lambda: fx.RNNCell.from_arrays(np.ones(3), np.ones((2, 2))), ValueError,
     "RNNCell takes two weights of 2 axes, got arrays of shapes (3,) and (2, 2)"),
])  # fmt: skip
def rnn_cell(draw):
    return cell_sample(draw, "RNN")


@case("LSTMCell", errors=[
    (lambda: fx.LSTMCell(3, 2)(np.ones(3), np.ones(2)), TypeError,
     "LSTMCell(3, 2) takes as its state a pair (h, c), got array(2,)"),
    (lambda: fx.LSTMCell(3, 2)(np.ones(3), (np.ones(2), np.ones(3))), fx.SizeError,
     "LSTMCell(3, 2) expects a state of shape (2,), got an array of shape (3,)"),
    (lambda: fx.LSTMCell.from_arrays(np.ones((3, 8)), np.ones((2, 4))), ValueError,
     "made an array of shape (2, 4), wanted (2, 8)"),
])  # fmt: skip
def lstm_cell(draw):
    return cell_sample(draw, "LSTM")


@case("GRUCell", errors=[
    (lambda: fx.GRUCell(3, 2)(np.ones(3), (np.ones(2),)), TypeError,
     "GRUCell(3, 2) takes as its state one array, got ("),
    (lambda: fx.GRUCell(3, 2, recurrent_bias=np.ones(2)), ValueError,
     "bias takes True, False or an array of shape (6,)"),
])  # fmt: skip
def gru_cell(draw):
    return cell_sample(draw, "GRU", recurrent_bias=draw.choose(True, False))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_v3(p, x, h):
    """One step, written out."""
    size = h.shape[-1]
    w = np.split(p["input_weight"], 3, 1)
    v = np.split(p["recurrent_weight"], 3, 1)
    b = np.split(p.get("bias", np.zeros(3 * size)), 3)
    r, z = (sigmoid(x @ w[k] + h @ v[k] + b[k]) for k in (0, 1))
    n = np.tanh(x @ w[2] + (r * h) @ v[2] + b[2])
    return (1 - z) * n + z * h


@case("GRUv3Cell")
def gru_v3_cell(draw):
    inputs, outputs, batch = draw.size(3), draw.size(3), draw.choose((2,), ())
    bias = {} if draw.choose(True, False) else {"bias": False}
    return Sample(
        lambda: fill(fx.GRUv3Cell(inputs, outputs, **bias)),
        draw.normal(*batch, inputs),
        draw.normal(*batch, outputs),
        expected=lambda p, x, h: (gru_v3(p, x, h),) * 2,
    )


@case("GRUv3", errors=[
    (lambda: fx.GRUv3(3, 2)(np.ones((2, 5, 4))), fx.SizeError,
     "GRUv3(3, 2) expects 3 input features (last axis), got an array of shape (2, 5, 4)"),
])  # fmt: skip
def gru_v3_layer(draw):
    inputs, outputs, batch, time = draw.size(3), draw.size(3), draw.size(3), draw.size(4)

    def expected(p, x, h):
        p = {path.rsplit(".", 1)[-1]: value for path, value in p.items()}
        states = [h]
        for t in range(time):
            states.append(gru_v3(p, x[:, t], states[-1]))
        return np.stack(states[1:], 1), states[-1]

    return Sample(
        lambda: fill(fx.GRUv3(inputs, outputs, return_state=True)),
        draw.normal(batch, time, inputs),
        draw.normal(batch, outputs),
        expected=expected,
    )


def torch_layer(kind, p, x, states, lengths, outputs, layers, bidirectional, **options):
    """`torch.nn.RNN` and its relatives; states as lists, by layer and then by direction, of tuples of arrays."""
    directions = 2 if bidirectional else 1
    options |= {"num_layers": layers, "bidirectional": bidirectional, "batch_first": True, "dtype": torch.float64}
    module = getattr(torch.nn, kind)(x.shape[-1], outputs, **options)
    weights = {}
    for layer in range(layers):
        for direction in range(directions):
            part = f"{('forward', 'backward')[direction]}.cell." if bidirectional else "cell."
            suffix = f"_l{layer}" + "_reverse" * direction
            weights |= torch_weights(p, f"layers.{layer}.{part}", suffix)
    start = tuple(torch.stack(parts) for parts in zip(*states, strict=True))
    time = x.shape[1]
    if lengths is not None:
        pack = torch.nn.utils.rnn.pack_padded_sequence
        x = pack(x, torch.as_tensor(lengths), batch_first=True, enforce_sorted=False)
    y, last = torch.func.functional_call(module, weights, (x, start if kind == "LSTM" else start[0]))
    if lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=time)
    last = last if kind == "LSTM" else (last,)
    return y, [part for row in zip(*last, strict=True) for part in row]


def nest(states, layers, bidirectional):
    """Cell states as the layer takes them."""
    rows = [tuple(states[2 * k : 2 * k + 2]) if bidirectional else states[k] for k in range(layers)]
    return tuple(rows) if layers > 1 else rows[0]


def flat(state, kind):
    """The inverse: a list of tuples of arrays."""
    if kind == "LSTM" and not isinstance(state[0], tuple):
        return [state]
    if not isinstance(state, tuple):
        return [(state,)]
    return [cell for part in state for cell in flat(part, kind)]


def layer_sample(draw, kind, layers, bidirectional, with_lengths, differences=True, **options):
    inputs, outputs, batch, time = draw.size(3), draw.size(3), draw.size(3), draw.size(4, least=2)
    x = draw.normal(batch, time, inputs)
    count = layers * (1 + bidirectional)
    parts = 2 if kind == "LSTM" else 1
    states = [tuple(draw.normal(batch, outputs) for _ in range(parts)) for _ in range(count)]
    state = nest(states if parts == 2 else [part for (part,) in states], layers, bidirectional)
    lengths = draw.integers(1, time + 1, batch) if with_lengths else None
    relu = {"nonlinearity": "relu"} if "activation" in options else {}
    options |= {"layers": layers, "bidirectional": bidirectional}

    def reference(p, x, state):
        p = {path.removeprefix("layer."): value for path, value in p.items()}
        return torch_layer(kind, p, x, flat(state, kind), lengths, outputs, layers, bidirectional, **relu)

    def make():
        layer = fill(getattr(fx, kind)(inputs, outputs, return_state=True, **options))
        return layer if lengths is None else WithLengths(layer, lengths)

    return Sample(make, x, state, reference=reference, vmap=lengths is None, differences=differences)


class WithLengths:
    """A layer that is always called with the same lengths."""

    def __init__(self, layer, lengths):
        self.layer, self.lengths = layer, lengths

    def __call__(self, x, state):
        return self.layer(x, state, lengths=self.lengths)


AXES = "expects 2 axes (time, features) or 3 axes (batch, time, features), got an array of shape"


@case("RNN", errors=[
    (lambda: fx.RNN(3, 2)(np.ones((2, 5, 4))), fx.SizeError,
     "RNN(3, 2) expects 3 input features (last axis), got an array of shape (2, 5, 4)"),
    (lambda: fx.RNN(3, 2)(np.ones((1, 2, 5, 3))), fx.SizeError, f"RNN(3, 2) {AXES} (1, 2, 5, 3)"),
    (lambda: fx.RNN(3, 2)(np.ones(3)), fx.SizeError, f"RNN(3, 2) {AXES} (3,)"),
    (lambda: fx.RNN(3, 2, layers=0), ValueError, "RNN takes sizes that are ints of at least 1, got 0"),
    (lambda: fx.RNN(3, 2, dropout=2.0), ValueError, "0 <= p <= 1, got 2.0"),
    (lambda: fx.RNN(3, 2, layers=2)(np.ones((1, 5, 3)), np.ones((1, 2))), TypeError,
     "RNN(3, 2, layers=2) takes as its state a tuple with an entry for each of its 2 layers, got array(1, 2)"),
])  # fmt: skip
def rnn(draw):
    activation = draw.choose({}, {"activation": fx.relu})
    return layer_sample(draw, "RNN", 1, draw.choose(False, True), draw.choose(False, True), **activation)


@case("LSTM", errors=[
    (lambda: fx.LSTM(3, 2)(np.ones((2, 5, 3)), lengths=[5]), fx.SizeError,
     "LSTM(3, 2) expects lengths= of integers of shape (2,), got int32 of shape (1,)"),
    (lambda: fx.LSTM(3, 2)(np.ones((2, 5, 3)), lengths=[5.0, 1.0]), fx.SizeError,
     "LSTM(3, 2) expects lengths= of integers of shape (2,), got float32 of shape (2,)"),
    (lambda: fx.LSTM(3, 2)(np.ones((2, 5, 3)), lengths=[5, 6]), ValueError,
     "LSTM(3, 2) expects lengths from 0 to 5, got 6"),
])  # fmt: skip
def lstm(draw):
    return layer_sample(draw, "LSTM", 1, False, draw.choose(False, True))


def deep_sample(draw, kind):
    layers, bidirectional = draw.choose(1, 2, 3), draw.choose(True, False)
    return layer_sample(draw, kind, layers, bidirectional, draw.choose(True, False), differences=False)


@case("LSTM", label="deep, bidirectional, of several lengths")
def deep_lstm(draw):
    return deep_sample(draw, "LSTM")


@case("GRU")
def gru(draw):
    return layer_sample(draw, "GRU", 1, False, draw.choose(False, True), recurrent_bias=draw.choose(True, False))


@case("GRU", label="deep, bidirectional, of several lengths")
def deep_gru(draw):
    return deep_sample(draw, "GRU")


class Momentum:
    """A cell that is no layer of the library; its state is a dict."""

    def __init__(self, size):
        self.weight = jnp.ones((size, size))

    def __call__(self, x, state):
        velocity = 0.5 * state["velocity"] + x @ self.weight
        return velocity - state["place"], {"place": state["place"] + velocity, "velocity": velocity}

    def initialstates(self):
        return {"place": 1.0, "velocity": 0.0}


class Wrong:
    """A cell whose state starts with another shape than it goes on with, or that gives no pair."""

    def __init__(self, pair):
        self.pair = pair

    def initialstates(self):
        return np.zeros(2, np.float32)

    def __call__(self, x, state):
        return (x, x) if self.pair else x


@case("Recurrence", errors=[
    (lambda: fx.Recurrence(fx.RNNCell), TypeError, "Recurrence takes a cell, called as cell(x, state), got"),
    (lambda: fx.Recurrence(Wrong(False))(np.ones((4, 3))), TypeError, "must give a pair (output, state)"),
    (lambda: fx.Recurrence(Wrong(True))(np.ones((4, 3))), fx.SizeError,
     "must keep the shapes of its state, got a state of (2,) and one of (3,) after a step"),
    (lambda: fx.Recurrence(3), TypeError, "Recurrence takes a cell, called as cell(x, state), got 3"),
    (lambda: fx.Recurrence(fx.tanh)(np.ones((2, 3))), TypeError,
     "initialstates takes a cell or layer that has a method initialstates(), got tanh"),
    (lambda: fx.Recurrence(fx.GRUCell(3, 2))(np.ones((2, 5, 4))), fx.SizeError,
     "Recurrence(GRUCell(3, 2)) expects 3 input features (last axis), got an array of shape (2, 5, 4)"),
    (lambda: fx.Recurrence(Momentum(3))(np.ones(3)), fx.SizeError,
     "expects at least 2 axes, (time, ...) or (batch, time, ...), got an array of shape (3,)"),
])  # fmt: skip
def recurrence(draw):
    size, batch, time, reverse = draw.size(3), draw.size(3), draw.size(4), draw.choose(True, False)

    def expected(p, x):
        x = x[:, ::-1] if reverse else x
        place, velocity, outputs = 1.0, 0.0, []
        for t in range(time):
            velocity = 0.5 * velocity + x[:, t] @ p["cell.weight"]
            outputs.append(velocity - place)
            place = place + velocity
        y = np.stack(outputs, 1)
        return y[:, ::-1] if reverse else y, place, velocity

    def make():
        return fill(fx.Recurrence(Momentum(size), reverse=reverse, return_state=True))

    return Sample(make, draw.normal(batch, time, size), expected=expected, printed=False)


@case("Bidirectional", errors=[
    (lambda: fx.Bidirectional(fx.RNNCell(3, 2), fx.RNNCell(4, 2))(np.ones((4, 3))), fx.SizeError,
     "RNNCell(4, 2) expects 4 input features (last axis), got an array of shape (4, 3)"),
    (lambda: fx.Bidirectional(fx.RNNCell(3, 2), fx.RNNCell(3, 2))(np.ones((4, 3)), np.ones(2)), TypeError,
     "Bidirectional(RNNCell(3, 2), RNNCell(3, 2)) takes as its state a pair (forward, backward), got array(2,)"),
])  # fmt: skip
def bidirectional(draw):
    inputs, sizes, batch, time = draw.size(3), (draw.size(3), draw.size(3)), draw.size(3), draw.size(4)

    def reference(p, x):
        forward = torch.nn.GRU(inputs, sizes[0], batch_first=True, dtype=torch.float64)
        backward = torch.nn.LSTM(inputs, sizes[1], batch_first=True, dtype=torch.float64)
        ahead = torch.func.functional_call(forward, torch_weights(p, "forward.cell.", "_l0"), (x,))[0]
        back = torch.func.functional_call(backward, torch_weights(p, "backward.cell.", "_l0"), (x.flip(1),))[0]
        return torch.cat([ahead, back.flip(1)], -1)

    def make():
        return fill(fx.Bidirectional(fx.GRUCell(inputs, sizes[0]), fx.LSTMCell(inputs, sizes[1])))

    return Sample(make, draw.normal(batch, time, inputs), reference=reference, differences=False)

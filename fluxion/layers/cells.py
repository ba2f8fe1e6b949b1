"""Recurrent cells: one step in time. The layers that run them over sequences are in `recurrent`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from jax import Array

from fluxion.errors import SizeError
from fluxion.init import glorot_uniform
from fluxion.layers.base import Layer, draw, features, function_of, make_bias, multiply, size_of, typed
from fluxion.ops.activations import tanh
from fluxion.ops.arrays import as_float
from fluxion.ops.recurrent import (
    gru_scan,
    gru_step,
    gru_v3_scan,
    gru_v3_step,
    lstm_scan,
    lstm_step,
    rnn_scan,
    rnn_step,
)
from fluxion.random import Generator


class Cell(Layer):
    """What the recurrent cells share: their weights, their call, and their states.

    A subclass has as many blocks of columns in its weights as `gates` says, makes a new state of the input multiplied
    by its weight and the old state in `step`, and does so for all steps of a sequence in `scan`. The output is the
    state, or its first entry.
    """

    __trainable__: tuple[str, ...] = ("input_weight", "recurrent_weight", "bias")
    __unsized__ = ("inputs",)
    gates: ClassVar[int] = 1

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        bias: Any = True,
        init_kernel: Callable[..., Any] = glorot_uniform,
        init_recurrent_kernel: Callable[..., Any] = glorot_uniform,
        rng: Generator | None = None,
    ) -> None:
        name = type(self).__name__
        inputs, outputs = size_of(inputs, name), size_of(outputs, name)
        self.input_weight = draw(init_kernel, (inputs, self.gates * outputs), rng)
        recurrent = draw(init_recurrent_kernel, (outputs, self.gates * outputs), rng)
        self.recurrent_weight = jnp.asarray(recurrent, self.input_weight.dtype)
        self.bias = make_bias(bias, self.input_weight)

    @classmethod
    def from_arrays(cls, input_weight: Any, recurrent_weight: Any, bias: Any = None, **options: Any) -> Self:
        """A cell that holds the given weights, shaped as in a new cell, and bias, None for no bias.

        >>> import fluxion as fx
        >>> import jax.numpy as jnp
        >>> cell = fx.RNNCell.from_arrays([[1.0]], [[0.5]], activation=fx.relu)
        >>> cell(jnp.ones(1), 4 * jnp.ones(1))[0].tolist()
        [3.0]
        """
        weights = as_float(input_weight), as_float(recurrent_weight)
        if any(weight.ndim != 2 for weight in weights):
            shapes = " and ".join(str(weight.shape) for weight in weights)
            raise ValueError(f"{cls.__name__} takes two weights of 2 axes, got arrays of shapes {shapes}")
        sizes = [weight.shape[0] for weight in weights]
        options |= {"init_kernel": lambda *shape: weights[0], "init_recurrent_kernel": lambda *shape: weights[1]}
        return cls(*sizes, bias=bias, **options)

    @property
    def inputs(self) -> int:
        """The number of features of an input."""
        return self.input_weight.shape[0]

    @property
    def outputs(self) -> int:
        """The number of features of an output."""
        return self.recurrent_weight.shape[0]

    def __call__(self, x: Any, state: Any = None) -> tuple[Array, Any]:
        x = self.project(features(self, x, self.inputs, "input features"))
        state = self.step(x, self.match_state(state, x.shape[:-1], x.dtype))
        return self.output(state), state

    def unroll(self, x: Any, state: Any) -> tuple[Any, Array, Any]:
        """The state before the first step, and the outputs and states of all steps of `x`, whose first axis is time."""
        x = self.project(features(self, x, self.inputs, "input features"))
        start = self.match_state(state, x.shape[1:-1], x.dtype)
        states = self.scan(x, start)
        return start, self.output(states), states

    def initialstates(self) -> Any:
        """The state that a sequence starts from where none is given: zeros of shape `(outputs,)`."""
        return jnp.zeros(self.outputs, self.recurrent_weight.dtype)

    def output(self, state: Any) -> Array:
        """The output that belongs to a state."""
        return state

    def project(self, x: Any) -> Array:
        """The part of a step that knows nothing of the state."""
        return multiply(x, self.input_weight)

    def step(self, x: Array, state: Any) -> Any:
        """The state after one step."""
        raise NotImplementedError

    def scan(self, x: Array, state: Any) -> Any:
        """The states after every step of a sequence."""
        raise NotImplementedError

    def match_state(self, state: Any, batch: tuple[int, ...], dtype: Any) -> Any:
        """`state`, or zeros, in the type and with the batch of an input; a vector counts for the whole batch."""
        zeros = self.initialstates()
        state = zeros if state is None else state
        structure: Any = jax.tree.structure(zeros)
        if structure != jax.tree.structure(state):
            wanted = "a pair (h, c)" if isinstance(zeros, tuple) else "one array"
            raise TypeError(f"{typed(self)} takes as its state {wanted}, got {typed(state)}")
        shape = (*batch, self.outputs)
        return jax.tree.map(lambda part: self._match(jnp.asarray(part), shape).astype(dtype), state)

    def _match(self, state: Array, shape: tuple[int, ...]) -> Array:
        if state.shape not in (shape, shape[-1:]):
            ways = " or ".join(str(way) for way in dict.fromkeys((shape, shape[-1:])))
            raise SizeError(f"{typed(self)} expects a state of shape {ways}, got an array of shape {state.shape}", self)
        return jnp.broadcast_to(state, shape)

    def bias_or_zeros(self, bias: Array | None) -> Array:
        """The bias, or zeros where there is none."""
        return jnp.zeros(self.gates * self.outputs, self.input_weight.dtype) if bias is None else bias

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.inputs, self.outputs], {"bias": False} if self.bias is None else {}


class RNNCell(Cell):
    """One step of a plain recurrent network: `h' = activation(x @ input_weight + h @ recurrent_weight + bias)`.

    Elman 1990. `cell(x, h)` gives `(h', h')`. Takes `(inputs,)` or `(batch, inputs)` and a state `(outputs,)` or
    `(batch, outputs)`, zeros where it is left out. `input_weight` has shape `(inputs, outputs)`, `recurrent_weight`
    `(outputs, outputs)` and `bias` `(outputs,)`; `init_kernel` and `init_recurrent_kernel` make the weights. SizeError
    where a size does not fit.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> cell = fx.RNNCell(3, 5)
    >>> output, state = cell(jnp.ones((2, 3)))
    >>> output.shape, output is state
    ((2, 5), True)
    """

    def __init__(self, inputs: int, outputs: int, activation: Callable[..., Any] = tanh, **options: Any) -> None:
        super().__init__(inputs, outputs, **options)
        self.activation = function_of(activation, type(self).__name__)

    def step(self, x: Array, state: Array) -> Array:
        return rnn_step(x, self.bias_or_zeros(self.bias), state, self.recurrent_weight, self.activation)

    def scan(self, x: Array, state: Array) -> Array:
        return rnn_scan(x, self.bias_or_zeros(self.bias), state, self.recurrent_weight, self.activation)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, keywords = super().arguments()
        return positional + ([] if self.activation is tanh else [self.activation]), keywords


class LSTMCell(Cell):
    """One step of long short-term memory: `c' = f * c + i * g` and `h' = o * tanh(c')`.

    Hochreiter and Schmidhuber 1997. The gates i, f, g, o are the four blocks of columns of `x @ input_weight + h @
    recurrent_weight + bias`, g under tanh and the others under sigmoid, in the order of PyTorch and Flux. `cell(x, (h,
    c))` gives `(h', (h', c'))`. Takes `(inputs,)` or `(batch, inputs)` and states `(outputs,)` or `(batch, outputs)`,
    zeros where they are left out. `input_weight` has shape `(inputs, 4 * outputs)`, `recurrent_weight` `(outputs, 4 *
    outputs)` and `bias` `(4 * outputs,)`. SizeError where a size does not fit.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> output, (h, c) = fx.LSTMCell(3, 5)(jnp.ones((2, 3)))
    >>> output.shape, c.shape
    ((2, 5), (2, 5))
    """

    gates = 4

    def initialstates(self) -> tuple[Array, Array]:
        return super().initialstates(), super().initialstates()

    def output(self, state: Any) -> Array:
        return state[0]

    def step(self, x: Array, state: Any) -> Any:
        return lstm_step(x, self.bias_or_zeros(self.bias), state, self.recurrent_weight)[0]

    def scan(self, x: Array, state: Any) -> Any:
        return lstm_scan(x, self.bias_or_zeros(self.bias), *state, self.recurrent_weight)


class GRUCell(Cell):
    """One step of a gated recurrent unit: `h' = (1 - z) * n + z * h` with `n = tanh(a_n + r * b_n)`.

    Cho et al. 2014, in the form of PyTorch, Keras and Flux that resets after the product. The gates r, z, n are the
    three blocks of columns of `a = x @ input_weight + bias` and `b = h @ recurrent_weight`, with `r = sigmoid(a_r +
    b_r)` and `z = sigmoid(a_z + b_z)`. With `recurrent_bias=True`, or an array, a second bias is added to `b`, as
    weights of PyTorch and Keras need it. `cell(x, h)` gives `(h', h')`. Takes `(inputs,)` or `(batch, inputs)` and a
    state `(outputs,)` or `(batch, outputs)`, zeros where it is left out. `input_weight` has shape `(inputs, 3 *
    outputs)`, `recurrent_weight` `(outputs, 3 * outputs)` and a bias `(3 * outputs,)`. SizeError where a size does not
    fit.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> output, state = fx.GRUCell(3, 5)(jnp.ones((2, 3)))
    >>> output.shape, output is state
    ((2, 5), True)
    """

    __trainable__ = (*Cell.__trainable__, "recurrent_bias")
    gates = 3

    def __init__(self, inputs: int, outputs: int, *, recurrent_bias: Any = False, **options: Any) -> None:
        super().__init__(inputs, outputs, **options)
        self.recurrent_bias = make_bias(recurrent_bias, self.recurrent_weight)

    def step(self, x: Array, state: Array) -> Array:
        return gru_step(x, *self._arrays(state))[0]

    def scan(self, x: Array, state: Array) -> Array:
        return gru_scan(x, *self._arrays(state))

    def _arrays(self, state: Array) -> tuple[Array, ...]:
        biases = self.bias_or_zeros(self.bias), self.bias_or_zeros(self.recurrent_bias)
        return biases[0], state, self.recurrent_weight, biases[1]

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, keywords = super().arguments()
        return positional, keywords | ({} if self.recurrent_bias is None else {"recurrent_bias": True})


class GRUv3Cell(Cell):
    """One step of a gated recurrent unit that resets before the product: `n = tanh(a_n + (r * h) @ weight_n)`.

    Cho et al. 2014, the third version of the paper; Keras has it as `reset_after=False`. `weight_n` is the block of
    columns of `recurrent_weight` for n. All else is as in `GRUCell`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> output, state = fx.GRUv3Cell(3, 5)(jnp.ones((2, 3)))
    >>> output.shape, output is state
    ((2, 5), True)
    """

    gates = 3

    def step(self, x: Array, state: Array) -> Array:
        return gru_v3_step(x, self.bias_or_zeros(self.bias), state, self.recurrent_weight)

    def scan(self, x: Array, state: Array) -> Array:
        return gru_v3_scan(x, self.bias_or_zeros(self.bias), state, self.recurrent_weight)


def initialstates(cell: Any) -> Any:
    """The state that a cell or recurrent layer starts from where none is given (Flux: `Flux.initialstates`).

    Vectors of zeros, shaped and nested as the layer's documentation tells. TypeError for a cell that has no method
    `initialstates`.

    >>> import fluxion as fx
    >>> h, c = fx.initialstates(fx.LSTMCell(3, 2))
    >>> h.tolist()
    [0.0, 0.0]
    """
    if not hasattr(cell, "initialstates"):
        raise TypeError(f"initialstates takes a cell or layer that has a method initialstates(), got {typed(cell)}")
    return cell.initialstates()

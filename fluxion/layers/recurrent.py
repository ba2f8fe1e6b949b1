"""Recurrent layers: cells over sequences, in stacks and in both directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from fluxion.errors import CaptureError, SizeError
from fluxion.layers.base import Layer, changed, features, input_array, size_of, typed
from fluxion.layers.cells import Cell, GRUCell, GRUv3Cell, LSTMCell, RNNCell, initialstates
from fluxion.layers.dropout import dropout_of, make_dropout
from fluxion.onehot import OneHotArray
from fluxion.ops.activations import tanh
from fluxion.ops.indexing import check_indices
from fluxion.random import Generator, generator


class Recurrent(Layer):
    """What layers over sequences share: the call, with batch first, around `unroll`, with time first."""

    return_state: bool
    inputs: int | None

    def __call__(self, x: Any, state: Any = None, *, lengths: Any = None) -> Any:
        x = self._check(x)
        axis = 0 if x.ndim == 2 else 1
        x = _by_position(x, lambda array: jnp.moveaxis(array, axis, 0))
        steps = Steps(x.shape[0], self._ends(lengths, x))
        y, state = self.unroll(steps.clear(x), state, steps)
        y = jnp.moveaxis(steps.clear(y), 0, axis)
        return (y, state) if self.return_state else y

    def unroll(self, x: Any, state: Any, steps: Steps) -> tuple[Array, Any]:
        """Outputs and final state for `x`, whose first axis is time."""
        raise NotImplementedError

    def _check(self, x: Any) -> Any:
        if self.inputs is not None:
            x = features(self, x, self.inputs, "input features")
            if x.ndim not in (2, 3):
                ways = "2 axes (time, features) or 3 axes (batch, time, features)"
                raise SizeError(f"{typed(self)} expects {ways}, got an array of shape {x.shape}", self)
            return x
        x = x if isinstance(x, OneHotArray) else input_array(self, x)
        if x.ndim < 2:
            ways = "at least 2 axes, (time, ...) or (batch, time, ...)"
            raise SizeError(f"{typed(self)} expects {ways}, got an array of shape {x.shape}", self)
        return x

    def _ends(self, lengths: Any, x: Any) -> Array | None:
        """The `ends` of the steps of the time-major `x`."""
        if lengths is None:
            return None
        lengths, batch = jnp.asarray(lengths), x.shape[1:2] if x.ndim > 2 else ()
        if lengths.shape != batch or not jnp.issubdtype(lengths.dtype, jnp.integer):
            got = f"{lengths.dtype} of shape {lengths.shape}"
            raise SizeError(f"{typed(self)} expects lengths= of integers of shape {batch}, got {got}", self)
        check_indices("", lengths, x.shape[0] + 1, ValueError, self, "lengths")
        return lengths[None]


@dataclass
class Steps:
    """Which of `count` steps, on the first axis of an array, belong to a sequence: all, or those before its end.

    `ends` has an axis of size 1 in place of time, then those of the batch.
    """

    count: int
    ends: Array | None

    def clear(self, x: Any) -> Any:
        """`x` with zeros after the end of each sequence."""
        if self.ends is None:
            return x
        inside = self._time() < self.ends
        if isinstance(x, OneHotArray):
            return OneHotArray(jnp.where(inside, x.indices, -1), x.count)
        return jnp.where(_match_axes(inside, x), x, jnp.zeros_like(x))

    def reverse(self, x: Any) -> Any:
        """`x` with each sequence from its end to its start, in place of the same steps."""
        if self.ends is None:
            return _by_position(x, lambda array: jnp.flip(array, 0))
        time = self._time()
        order = jnp.where(time < self.ends, self.ends - 1 - time, time)
        return _by_position(x, lambda array: _take(array, order))

    def last(self, start: Any, states: Any) -> Any:
        """The states after the last step of each sequence; `start` for a sequence without steps."""
        if self.ends is None:
            return jax.tree.map(lambda state: state[-1], states) if self.count else start
        ends = self.ends
        return jax.tree.map(lambda one, many: _take(jnp.concatenate([one[None], many]), ends)[0], start, states)

    def _time(self) -> Array:
        return _match_axes(jnp.arange(self.count), self.ends)


def _by_position(x: Any, function: Callable[[Any], Array]) -> Any:
    """`function(x)` for a function that only moves positions; a one-hot array stays one."""
    return OneHotArray(function(x.indices), x.count) if isinstance(x, OneHotArray) else function(x)


def _take(x: Array, order: Array) -> Array:
    return jnp.take_along_axis(x, _match_axes(order, x), axis=0)


def _match_axes(values: Array, x: Any) -> Array:
    """`values` with axes of size 1 at the end, as many as it takes to have as many axes as `x`."""
    return values.reshape(*values.shape, *(1,) * (x.ndim - values.ndim))


class Recurrence(Recurrent):
    """Calls a cell step after step: `y[t], state = cell(x[t], state)`, compiled as one loop (`jax.lax.scan`).

    Takes `(batch, time, ...)`, or `(time, features)` for a single sequence, gives the outputs of all steps in the same
    order of axes. Any cell will do that is called as `cell(x, state)`, gives `(y, state)`, and has a method
    `initialstates()`; a state is an array or tuples, lists and dicts of them. Random draws of the cell, and what it
    writes to its own arrays, go on from step to step. `reverse=True` runs from the end to the start.
    `return_state=True` gives `(y, state)` with the final state.

    Called as `layer(x, state, lengths=lengths)`. `state` is the initial state, by default `initialstates(cell)`; a
    vector counts for the whole batch. `lengths`, integers of shape `(batch,)`, tell how many steps of each sequence
    count: what comes after them changes nothing, outputs there are zero, the final state is the one after the last
    step that counts, and `reverse=True` starts at that step. SizeError for an input of the wrong shape.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> class Sum:
    ...     def __call__(self, x, state):
    ...         return state + x, state + x
    ...     def initialstates(self):
    ...         return jnp.zeros(1)
    >>> fx.Recurrence(Sum())(jnp.ones((1, 3, 1))).ravel().tolist()
    [1.0, 2.0, 3.0]
    """

    __unsized__ = ("cell",)

    def __init__(self, cell: Any, *, reverse: bool = False, return_state: bool = False) -> None:
        self.cell = _callable(cell, "Recurrence")
        self.reverse, self.return_state = reverse, return_state

    @property
    def inputs(self) -> int | None:  # type: ignore[override]
        return self.cell.inputs if isinstance(self.cell, Cell) else None

    def unroll(self, x: Any, state: Any, steps: Steps) -> tuple[Array, Any]:
        x = steps.reverse(x) if self.reverse else x
        own = isinstance(self.cell, Cell) and type(self.cell).__call__ is Cell.__call__
        start, y, states = self.cell.unroll(x, state) if own else unroll(self.cell, x, state)
        return steps.reverse(y) if self.reverse else y, steps.last(start, states)

    def initialstates(self) -> Any:
        """The state that a call starts from where none is given."""
        return initialstates(self.cell)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.cell], changed(reverse=(self.reverse, False), return_state=(self.return_state, False))


def _callable(cell: Any, name: str) -> Any:
    if not callable(cell) or isinstance(cell, type):
        raise TypeError(f"{name} takes a cell, called as cell(x, state), got {typed(cell)}")
    return cell


def unroll(cell: Any, x: Any, state: Any) -> tuple[Any, Any, Any]:
    """As `Cell.unroll`, for any cell. What the cell writes to its own arrays, and what it draws from the default random
    generator, goes on from step to step, as in a loop in Python.
    """
    from fluxion.compile.trace import Call, Context  # the one place that needs what is made of layers

    call = Call(cell, (), True, generator())
    leaves = call.leaves()

    def context(x: Any, state: Any) -> Context:
        return Context(call, (), lambda cell, _: _output_and_state(cell, cell(x, state)), True)

    def step(carry: Any, x: Array) -> Any:
        state, written = carry
        now = [written.get(index, leaf) for index, leaf in enumerate(leaves)]
        (y, state), new = context(x, state).invoke(now, call.numbers, strict=False)
        return (state, {**written, **new}), (y, state)

    x = x.dense() if isinstance(x, OneHotArray) else x
    state = initialstates(cell) if state is None else state
    (after, written), _ = jax.eval_shape(step, (state, {}), jax.ShapeDtypeStruct(x.shape[1:], x.dtype))
    if any(index < 0 for index in written):
        raise CaptureError(f"{typed(cell)} replaces an array in one of the places that share it, which no loop can do")
    start = _match_state(cell, state, after)
    (_, written), (y, states) = jax.lax.scan(step, (start, {index: leaves[index] for index in written}), x)
    call.write(written, context(x, state))
    return start, y, states


def _output_and_state(cell: Any, result: Any) -> Any:
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"{typed(cell)} is no cell: cell(x, state) must give a pair (output, state)")
    return result


def _match_state(cell: Any, state: Any, after: Any) -> Any:
    """`state` with the shapes and types of the state `after` a step, which may have a batch where `state` has none."""
    try:
        return jax.tree.map(lambda part, new: jnp.broadcast_to(part, new.shape).astype(new.dtype), state, after)
    except ValueError:
        shapes = " and one of ".join(str(jax.tree.map(jnp.shape, one)) for one in (state, after))
        raise SizeError(
            f"{typed(cell)} must keep the shapes of its state, got a state of {shapes} after a step"
        ) from None


class Bidirectional(Recurrent):
    """Two cells over a sequence, one from the start and one from the end, with their outputs side by side.

    Schuster and Paliwal 1997. Takes `(batch, time, inputs)` or `(time, inputs)`, gives as many outputs as both cells
    together. States, given and returned, are pairs `(forward, backward)`. All else is as in `Recurrence`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.Bidirectional(fx.LSTMCell(3, 5), fx.GRUCell(3, 4))(jnp.ones((2, 7, 3))).shape
    (2, 7, 9)
    """

    __unsized__ = ("forward", "backward")

    def __init__(self, forward: Any, backward: Any, *, return_state: bool = False) -> None:
        self.forward, self.backward = Recurrence(forward), Recurrence(backward, reverse=True)
        self.return_state = return_state

    @property
    def inputs(self) -> int | None:  # type: ignore[override]
        return self.forward.inputs

    def unroll(self, x: Any, state: Any, steps: Steps) -> tuple[Array, Any]:
        states = _parts(self, state, 2, "a pair (forward, backward)")
        pairs = zip((self.forward, self.backward), states, strict=True)
        outputs, states = zip(*(layer.unroll(x, part, steps) for layer, part in pairs), strict=True)
        return jnp.concatenate(outputs, -1), states

    def initialstates(self) -> tuple[Any, Any]:
        """The states that a call starts from where none are given."""
        return self.forward.initialstates(), self.backward.initialstates()

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.forward.cell, self.backward.cell], changed(return_state=(self.return_state, False))


def _parts(layer: Any, state: Any, count: int, wanted: str) -> tuple[Any, ...]:
    """The states of `count` parts of a layer."""
    if state is None:
        return (None,) * count
    if not isinstance(state, (tuple, list)) or len(state) != count:
        raise TypeError(f"{typed(layer)} takes as its state {wanted}, got {typed(state)}")
    return tuple(state)


class Stack(Recurrent):
    """What RNN, LSTM, GRU and GRUv3 share."""

    __unsized__ = ("inputs",)

    cell: ClassVar[type[Cell]]

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        return_state: bool = False,
        rng: Generator | None = None,
        **options: Any,
    ) -> None:
        name = type(self).__name__
        self.layers: list[Any] = []
        for _ in range(size_of(layers, name)):
            cells = [self.cell(inputs, outputs, rng=rng, **options) for _ in range(1 + bidirectional)]
            self.layers.append(Bidirectional(*cells) if bidirectional else Recurrence(*cells))
            inputs = outputs * len(cells)
        self.dropout = make_dropout(dropout, rng)
        self.return_state = return_state

    @property
    def inputs(self) -> int:  # type: ignore[override]
        return self.layers[0].inputs

    def unroll(self, x: Any, state: Any, steps: Steps) -> tuple[Array, Any]:
        count = len(self.layers)
        wanted = f"a tuple with an entry for each of its {count} layers"
        states = list(_parts(self, state, count, wanted)) if count > 1 else [state]
        for index, layer in enumerate(self.layers):
            x = self.dropout(x) if index else x
            x, states[index] = layer.unroll(x, states[index], steps)
        return x, tuple(states) if count > 1 else states[0]

    def initialstates(self) -> Any:
        """The states that a call starts from where none are given."""
        states = tuple(layer.initialstates() for layer in self.layers)
        return states if len(states) > 1 else states[0]

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        first = self.layers[0]
        two = isinstance(first, Bidirectional)
        positional, keywords = (first.forward if two else first).cell.arguments()
        return positional, changed(
            layers=(len(self.layers), 1),
            bidirectional=(two, False),
            dropout=(dropout_of(self.dropout), 0.0),
            return_state=(self.return_state, False),
        ) | keywords


class RNN(Stack):
    """Plain recurrent network over sequences: `RNNCell` step after step.

    Takes `(batch, time, inputs)`, or `(time, inputs)` for a single sequence, gives the outputs of all steps, `(batch,
    time, outputs)` or `(time, outputs)`. `layers` cells stand on top of each other. With `bidirectional=True` each
    layer has a second cell that runs from the end to the start, and its output, `2 * outputs` wide, is that of both.
    `dropout` is the probability with which an entry between two layers is dropped while training. Further keywords go
    to the cells: `bias`, `init_kernel`, `init_recurrent_kernel`.

    Called as `layer(x, state, lengths=lengths)`. `lengths`, integers of shape `(batch,)`, tell how many steps of each
    sequence count: what comes after them changes nothing, outputs there are zero, and each direction ends at, or
    starts from, the last step that counts. `state` is the initial state, zeros by default; vectors count for the whole
    batch. With `return_state=True` the result is `(y, state)`.

    The state is an array `(batch, outputs)`; with `bidirectional=True` a pair `(forward, backward)` of them; with
    several layers a tuple of that, with an entry for each layer. SizeError for an input of the wrong shape.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.RNN(3, 5, fx.relu)(jnp.ones((2, 7, 3))).shape
    (2, 7, 5)
    """

    cell = RNNCell

    def __init__(self, inputs: int, outputs: int, activation: Callable[..., Any] = tanh, **options: Any) -> None:
        super().__init__(inputs, outputs, activation=activation, **options)


class LSTM(Stack):
    """Long short-term memory over sequences: `LSTMCell` step after step.

    The state of a cell is a pair `(h, c)`, so that `state` is `(h, c)`, or `((h, c), (h, c))` with
    `bidirectional=True`, and with several layers a tuple of that. All else is as in `RNN`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> layer = fx.LSTM(3, 5, layers=2, return_state=True)
    >>> y, ((h0, c0), (h1, c1)) = layer(jnp.ones((2, 7, 3)), lengths=[7, 4])
    >>> y.shape, bool((h1[1] == y[1, 3]).all())
    ((2, 7, 5), True)
    """

    cell = LSTMCell


class GRU(Stack):
    """Gated recurrent units over sequences: `GRUCell` step after step.

    The keyword `recurrent_bias` goes to the cells. All else is as in `RNN`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.GRU(3, 5, bidirectional=True)(jnp.ones((2, 7, 3))).shape
    (2, 7, 10)
    """

    cell = GRUCell


class GRUv3(Stack):
    """Gated recurrent units that reset before the product, over sequences: `GRUv3Cell` step after step.

    All else is as in `RNN`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.GRUv3(3, 5)(jnp.ones((7, 3))).shape
    (7, 5)
    """

    cell = GRUv3Cell

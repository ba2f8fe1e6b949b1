"""Recurrences over time-major arrays: the steps of the cells, and their scans over a whole sequence.

Everywhere `x` is the input already multiplied by its weight, `(time, batch, gates * size)`, one block of columns for
each gate; `weight` is the recurrent weight `(size, gates * size)`, and a state is `(batch, size)`. A scan gives the
states after every step, `(time, batch, size)`. All of these may come without the axis `batch`.

The scans of LSTM and GRU have derivatives of their own. What a recurrent weight does to a state is `h @ weight`. In the
derivative of a plain loop the change of `weight` enters each step, so that reverse mode adds up a gradient of the size
of `weight` in every step. Here it enters before the loop, in one product for all steps, for the states are known by
then, and the loop carries changes of the state only. Transposed, that is one product after the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.kernels.machine import Machine
from fluxion.kernels.operation import Operation
from fluxion.ops.linear import product

Pair = tuple[Array, Array]


# ------------------------------------------------------------------ steps


def rnn_step(x: Array, bias: Array, hidden: Array, weight: Array, activation: Callable[..., Any]) -> Array:
    """`activation(x + hidden @ weight + bias)`."""
    return activation(x + _rows(bias, x) + hidden @ weight)


def lstm_step(x: Array, bias: Array, state: Pair, weight: Array) -> tuple[Pair, Array]:
    """The new `(hidden, cell)` of an LSTM, and its gates i, f, g, o side by side."""
    hidden, cell = state
    factors = _lstm_factors(x)
    gates = jnp.tanh((x + _rows(bias, x) + hidden @ weight) * factors) * factors + (1 - factors)
    i, f, g, o = jnp.split(gates, 4, -1)
    cell = f * cell + i * g
    return (o * jnp.tanh(cell), cell), gates


def gru_step(
    x: Array, bias: Array, hidden: Array, weight: Array, recurrent_bias: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    """The new state of a GRU; its gates r and z side by side, its candidate n, and what r was multiplied by."""
    x = x + _rows(bias, x)
    product = hidden @ weight + _rows(recurrent_bias, x)
    size = hidden.shape[-1]
    gates = _sigmoid(x[..., : 2 * size] + product[..., : 2 * size])
    r, z = jnp.split(gates, 2, -1)
    inner = product[..., 2 * size :]
    candidate = jnp.tanh(x[..., 2 * size :] + r * inner)
    return candidate + z * (hidden - candidate), (gates, candidate, inner)


def gru_v3_step(x: Array, bias: Array, hidden: Array, weight: Array) -> Array:
    """The new state of a GRU whose reset gate is applied before the product."""
    x = x + _rows(bias, x)
    size = hidden.shape[-1]
    gates = _sigmoid(x[..., : 2 * size] + hidden @ weight[:, : 2 * size])
    r, z = jnp.split(gates, 2, -1)
    candidate = jnp.tanh(x[..., 2 * size :] + (r * hidden) @ weight[:, 2 * size :])
    return candidate + z * (hidden - candidate)


def _rows(bias: Array, x: Array) -> Array:
    return jnp.expand_dims(bias, tuple(range(x.ndim - 1)))


def _sigmoid(x: Array) -> Array:
    return 0.5 * jnp.tanh(0.5 * x) + 0.5  # XLA runs this faster on a CPU than 1 / (1 + exp(-x))


def _lstm_factors(x: Array) -> Array:
    """The `s` with which `s * tanh(s * x) + 1 - s` is sigmoid for the gates i, f, o and tanh for g.

    One tanh over all columns is several times faster on a CPU than four functions on a quarter of the columns each, for
    which XLA uses no vector instructions.
    """
    factors = np.repeat(np.asarray([0.5, 0.5, 1.0, 0.5], x.dtype), x.shape[-1] // 4)
    return _rows(jnp.asarray(factors), x)


# ------------------------------------------------------------------ scans


def rnn_scan(x: Array, bias: Array, hidden: Array, weight: Array, activation: Callable[..., Any]) -> Array:
    """The states of a plain RNN after every step.

    Not compiled by itself as the others are: `activation` may be any function, and what that reads may change.
    """
    return _scan(lambda state, x: (rnn_step(x, bias, state, weight, activation),) * 2, hidden, x)


@jax.jit
def gru_v3_scan(x: Array, bias: Array, hidden: Array, weight: Array) -> Array:
    """The states of a GRU with reset before the product, after every step."""
    return _scan(lambda state, x: (gru_v3_step(x, bias, state, weight),) * 2, hidden, x)


@jax.jit
def lstm_scan(x: Array, bias: Array, hidden: Array, cell: Array, weight: Array) -> Pair:
    """The states `(hidden, cell)` of an LSTM after every step."""
    if x.ndim == 2:
        hiddens, cells = _lstm(x[:, None], bias, hidden[None], cell[None], weight)
        return hiddens[:, 0], cells[:, 0]
    return _lstm(x, bias, hidden, cell, weight)


@jax.jit
def gru_scan(x: Array, bias: Array, hidden: Array, weight: Array, recurrent_bias: Array) -> Array:
    """The states of a GRU after every step."""
    if x.ndim == 2:
        return _gru(x[:, None], bias, hidden[None], weight, recurrent_bias)[:, 0]
    return _gru(x, bias, hidden, weight, recurrent_bias)


def _scan(step: Callable[..., Any], start: Any, xs: Any) -> Any:
    return jax.lax.scan(step, start, xs)[1]


def _before(start: Array, states: Array) -> Array:
    """The states before every step."""
    return jnp.concatenate([start[None], states])[:-1]


def _times_transposed(weight: Array) -> Callable[[Array], Array]:
    """`h @ weight` by a transposed copy of `weight`: reverse mode then multiplies by that copy as it lies in memory."""
    transposed = jax.lax.optimization_barrier(weight.T)
    return lambda h: jax.lax.dot_general(h, transposed, (((1,), (1,)), ((), ())))


# ------------------------------------------------------------------ on a CPU


def _kernel(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Chooses the kernel of this name, which computes the same as `plain`, for batches of float32; otherwise none."""

    def choose(machine: Machine, mode: Any, *types: Any, **settings: Any) -> Callable[..., Any] | None:
        if any(array.dtype != jnp.float32 for array in types):
            return None
        from fluxion.kernels import recurrent  # here because it brings LLVM

        outputs = jax.eval_shape(partial(plain, **settings), *types)
        return partial(getattr(recurrent, name), outputs=outputs, machine=machine)

    return choose


# ------------------------------------------------------------------ LSTM


def _lstm_plain(
    x: Array, bias: Array, hidden: Array, cell: Array, weight: Array, *, details: bool
) -> tuple[Array, ...]:
    """The states after every step, and with `details` the gates of every step."""

    def step(state: Pair, x: Array) -> Any:
        new, gates = lstm_step(x, bias, state, weight)
        return new, (*new, gates) if details else new

    return _scan(step, (hidden, cell), x)


def _lstm_tangent_plain(
    da: Array, dhidden: Array, dcell: Array, cell: Array, weight: Array, cells: Array, gates: Array
) -> Pair:
    """With `a` the sum before the gates: `dc = f dc + g di + c df + i dg` and `dh = tanh(c) do + o tanh'(c) dc`."""
    i, f, g, o = jnp.split(gates, 4, -1)
    squashed = jnp.tanh(cells)
    partners = jax.lax.optimization_barrier(jnp.concatenate([g, _before(cell, cells), i, squashed], -1))
    slopes = partners * (gates + (2 * _lstm_factors(gates) - 1)) * (1 - gates)
    times_weight = _times_transposed(weight)

    def step(state: Pair, now: Any) -> Any:
        dh, dc = state
        da, slopes, output, forget = now
        of_i, of_f, of_g, of_o = jnp.split(slopes * (da + times_weight(dh)), 4, -1)
        dc = forget * dc + of_i + of_f + of_g
        new = of_o + output * dc, dc
        return new, new

    return _scan(step, (dhidden, dcell), (da, slopes, o * (1 - squashed * squashed), f))


def _lstm_back_plain(dhiddens: Array, dcells: Array, cell: Array, *known: Any) -> tuple[Array, ...]:
    """The transpose of the tangent: what the states' cotangents pass on to `da`, `dhidden` and `dcell`."""
    _, _, gates = known

    def tangent(da: Array, dhidden: Array, dcell: Array) -> Pair:
        return _lstm_tangent_plain(da, dhidden, dcell, cell, *known)

    return jax.linear_transpose(tangent, gates, cell, cell)((dhiddens, dcells))


def _lstm_tangent_transpose(cotangents: Sequence[Array], *operands: Any) -> Sequence[Array]:
    return _lstm_back(*cotangents, *operands[3:])


def _lstm_back_transpose(cotangents: Sequence[Array], *operands: Any) -> Sequence[Array]:
    return _lstm_tangent(*cotangents, *operands[2:])


_lstm_states = Operation("lstm", _lstm_plain, _kernel("lstm", _lstm_plain), folds=((1, None, 0, 0, None), (1, 1, 1)))
_lstm_tangent = Operation("lstm_tangent", _lstm_tangent_plain, transpose=_lstm_tangent_transpose)
_lstm_back = Operation(
    "lstm_back",
    _lstm_back_plain,
    _kernel("lstm_back", _lstm_back_plain),
    _lstm_back_transpose,
    folds=((1, 1, 0, None, 1, 1), (1, 0, 0)),
)


@jax.custom_jvp
def _lstm(x: Array, bias: Array, hidden: Array, cell: Array, weight: Array) -> Pair:
    hiddens, cells = _lstm_states(x, bias, hidden, cell, weight, details=False)
    return hiddens, cells


@_lstm.defjvp
def _lstm_jvp(primals: Any, tangents: Any) -> Any:
    _, _, hidden, cell, weight = primals
    dx, dbias, dhidden, dcell, dweight = tangents
    hiddens, cells, gates = _lstm_states(*primals, details=True)
    da = dx + _rows(dbias, dx) + product(_before(hidden, hiddens), dweight)
    return (hiddens, cells), _lstm_tangent(da, dhidden, dcell, cell, weight, cells, gates)


# ------------------------------------------------------------------ GRU


def _gru_plain(
    x: Array, bias: Array, hidden: Array, weight: Array, recurrent_bias: Array, *, details: bool
) -> tuple[Array, ...]:
    """The state after every step, and with `details` what `gru_step` tells of every step."""

    def step(state: Array, x: Array) -> Any:
        new, found = gru_step(x, bias, state, weight, recurrent_bias)
        return new, (new, *found) if details else (new,)

    return _scan(step, hidden, x)


def _gru_tangent_plain(
    dx: Array,
    dproduct: Array,
    dhidden: Array,
    hidden: Array,
    weight: Array,
    hiddens: Array,
    gates: Array,
    candidate: Array,
    inner: Array,
) -> tuple[Array]:
    """`dh' = z dh + (1 - z) dn + (h - n) dz` with `dn = (1 - n^2) (dx_n + r dq + q dr)`, q what r is multiplied by."""
    r, z = jnp.split(gates, 2, -1)
    slope = (1 - z) * (1 - candidate * candidate)
    slopes = (slope * inner * r * (1 - r), (_before(hidden, hiddens) - candidate) * z * (1 - z), slope * r)
    slopes = jax.lax.optimization_barrier(slopes)
    times_weight = _times_transposed(weight)

    def through(slopes: Any, da: Array) -> Array:
        return sum(slope * part for slope, part in zip(slopes, jnp.split(da, 3, -1), strict=True))

    def step(dh: Array, now: Any) -> Any:
        direct, slopes, z = now
        dh = direct + z * dh + through(slopes, times_weight(dh))
        return dh, (dh,)

    return _scan(step, dhidden, (through(slopes, dproduct) + through((*slopes[:2], slope), dx), slopes, z))


def _gru_back_plain(dhiddens: Array, hidden: Array, weight: Array, *known: Any) -> tuple[Array, ...]:
    """The transpose of the tangent: what the states' cotangents pass on to `dx`, `dproduct` and `dhidden`."""
    wide = jax.ShapeDtypeStruct((*dhiddens.shape[:-1], weight.shape[-1]), dhiddens.dtype)

    def tangent(dx: Array, dproduct: Array, dhidden: Array) -> tuple[Array]:
        return _gru_tangent_plain(dx, dproduct, dhidden, hidden, weight, *known)

    return jax.linear_transpose(tangent, wide, wide, hidden)((dhiddens,))


def _gru_tangent_transpose(cotangents: Sequence[Array], *operands: Any) -> Sequence[Array]:
    return _gru_back(*cotangents, *operands[3:])


def _gru_back_transpose(cotangents: Sequence[Array], *operands: Any) -> Sequence[Array]:
    return _gru_tangent(*cotangents, *operands[1:])


_gru_states = Operation("gru", _gru_plain, _kernel("gru", _gru_plain), folds=((1, None, 0, None, None), (1, 1, 1, 1)))
_gru_tangent = Operation("gru_tangent", _gru_tangent_plain, transpose=_gru_tangent_transpose)
_gru_back = Operation(
    "gru_back",
    _gru_back_plain,
    _kernel("gru_back", _gru_back_plain),
    _gru_back_transpose,
    folds=((1, 0, None, 1, 1, 1, 1), (1, 1, 0)),
)


@jax.custom_jvp
def _gru(x: Array, bias: Array, hidden: Array, weight: Array, recurrent_bias: Array) -> Array:
    (hiddens,) = _gru_states(x, bias, hidden, weight, recurrent_bias, details=False)
    return hiddens


@_gru.defjvp
def _gru_jvp(primals: Any, tangents: Any) -> Any:
    _, _, hidden, weight, _ = primals
    dx, dbias, dhidden, dweight, drecurrent_bias = tangents
    hiddens, *details = _gru_states(*primals, details=True)
    dproduct = product(_before(hidden, hiddens), dweight) + _rows(drecurrent_bias, dx)
    (changes,) = _gru_tangent(dx + _rows(dbias, dx), dproduct, dhidden, hidden, weight, hiddens, *details)
    return hiddens, changes

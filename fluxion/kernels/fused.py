"""A convolution that finishes its sums before it stores them: `activation(convolution * scale + bias + residual)`.

The operation has a rule for its derivative (`jax.custom_jvp`) that is made of the bilinear convolutions and of passes
over memory, so every mode of differentiation works:

    y = activation(z),   z = conv(x, w) * scale + bias + residual
    dy = slope(y) * (conv(dx, w) * scale + conv(x, dw) * scale + conv(x, w) * dscale + dbias + dresidual)

In the common case, a bias and an activation, reverse mode has a kernel for the bias's gradient too. And where arrays
are small, the gradients behind a relu read `dy` and `y` and take numbers of `dy` for 0 where those of `y` are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from fluxion.kernels.convolution import (
    Convolution,
    Direction,
    convolution,
    input_gradient,
    weight_gradient,
)
from fluxion.kernels.epilogue import Epilogue, match_rank, plain_sloped
from fluxion.kernels.machine import Machine
from fluxion.kernels.modes import Mode
from fluxion.kernels.operation import Operation

# Numbers that XLA masks on one thread. Beyond, a pass by itself is as fast, and lets `y` go earlier.
FEW = 1 << 18


def finished_convolution(
    x: Array,
    w: Array,
    geometry: Convolution,
    *,
    scale: Array | None = None,
    bias: Array | None = None,
    residual: Array | None = None,
    activation: str = "identity",
) -> Array:
    """`activation(convolution(x, w, geometry) * scale + bias + residual)`, all of one floating type.

    `scale` and `bias` have shape `(outputs,)`, `residual` that of the result; None leaves one out. `activation` is
    "identity", "relu" or "relu6".
    """
    given = {"scale": scale, "bias": bias, "residual": residual}
    extras = tuple(value for value in given.values() if value is not None)
    epilogue = Epilogue(**{name: value is not None for name, value in given.items()}, activation=activation)
    if epilogue == Epilogue():
        return convolution(x, w, geometry)
    return _finished(geometry, epilogue, x, w, extras)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _finished(geometry: Convolution, epilogue: Epilogue, x: Array, w: Array, extras: tuple[Array, ...]) -> Array:
    return _operation(x, w, *extras, geometry=geometry, epilogue=epilogue)[0]


def _tangent(geometry: Convolution, epilogue: Epilogue, primals: Any, tangents: Any) -> tuple[Array, Array]:
    x, w, extras = primals
    dx, dw, dextras = tangents
    y = _finished(geometry, epilogue, x, w, extras)
    known, changes = (dict(zip(epilogue.operands, values, strict=True)) for values in (extras, dextras))
    there = {part: change for part, change in {"x": dx, "w": dw, **changes}.items() if _is_there(change)}
    if not there:
        return y, jnp.zeros_like(y)
    if epilogue.operands in ((), ("bias",)):
        settings = {"geometry": geometry, "activation": epilogue.activation, "parts": tuple(there)}
        return y, _biased_tangent(*there.values(), x, w, y, **settings)[0]
    effects = _effects(there, x, w, y, geometry)
    if "scale" in known:
        scale = match_rank(known["scale"], y)
        effects |= {part: effects[part] * scale for part in ("x", "w") if part in there}
    return y, plain_sloped(reduce(add, effects.values()), y, epilogue.activation)


_finished.defjvp(_tangent, symbolic_zeros=True)


def _effects(changes: dict[str, Array], x: Array, w: Array, y: Array, geometry: Convolution) -> dict[str, Array]:
    """What the change of each part does to the sum before the activation, where no scale takes part."""
    effects = {
        "x": lambda change: convolution(change, w, geometry),
        "w": lambda change: convolution(x, change, geometry),
        "scale": lambda change: convolution(x, w, geometry) * match_rank(change, y),
        "bias": lambda change: jnp.broadcast_to(match_rank(change, y), y.shape),
        "residual": lambda change: change,
    }
    return {part: effects[part](change) for part, change in changes.items()}


def _plain_biased_tangent(
    *arrays: Array, geometry: Convolution, activation: str, parts: tuple[str, ...]
) -> tuple[Array]:
    """What changes of these parts (of x, w and bias) do to `y`."""
    *changes, x, w, y = arrays
    effects = _effects(dict(zip(parts, changes, strict=True)), x, w, y, geometry)
    return (plain_sloped(reduce(add, effects.values()), y, activation),)


def _transposed_biased_tangent(
    cotangents: Sequence[Array], *arrays: Any, geometry: Convolution, activation: str, parts: tuple[str, ...]
) -> list[Any]:
    (dy,), (*changes, x, w, y) = cotangents, arrays
    if activation == "relu" and y.size <= FEW:
        gradients = {
            "x": lambda: _masked_input_gradient(dy, y, w, geometry=geometry)[0],
            "w": lambda: _masked_weight_gradient(x, dy, y, geometry=geometry)[0],
            "bias": lambda: _channel_sums(dy, y)[0],
        }
    else:
        sloped = plain_sloped(dy, y, activation)
        gradients = {
            "x": lambda: input_gradient(sloped, w, geometry),
            "w": lambda: weight_gradient(x, sloped, geometry),
            "bias": lambda: _channel_sums(sloped)[0],
        }
    return [gradients[part]() if change is None else None for part, change in zip(parts, changes, strict=True)]


def _plain(x: Array, w: Array, *extras: Array, geometry: Convolution, epilogue: Epilogue) -> tuple[Array]:
    return (epilogue.plain(convolution(x, w, geometry), extras),)


def _finished_kernel(
    machine: Machine, mode: Mode, *types: Any, geometry: Convolution, epilogue: Epilogue
) -> Callable[..., Any] | None:
    """The convolution's kernel, which finishes its sums."""
    found = _chosen(Direction.FORWARD, machine, mode, types[0], geometry)
    return found and (lambda *arrays: (found(*arrays, epilogue=epilogue),))


def _chosen(
    direction: Direction, machine: Machine, mode: Mode, operand: Any, geometry: Convolution
) -> Callable[..., Any] | None:
    from fluxion.kernels import choice  # here because it brings LLVM

    return choice.convolution(geometry.trimmed(), direction, operand.dtype, mode, machine)


def _masked_kernel(
    direction: Direction, machine: Machine, mode: Mode, *types: Any, geometry: Convolution
) -> Callable[..., Any] | None:
    """The gradient's kernel, which masks `dy` when it reads it."""
    found = _chosen(direction, machine, mode, types[0], geometry)
    if found is None:
        return None
    if direction is Direction.INPUT_GRADIENT:
        return lambda dy, y, w: (found(dy, w, mask=y),)
    return lambda x, dy, y: (found(x, dy, mask=y),)


def _channel_sums_kernel(machine: Machine, mode: Mode, *types: Any) -> Callable[..., Any] | None:
    from fluxion.kernels.columns import column_sums_call

    return column_sums_call(machine, *types)


def _plain_channel_sums(dy: Array, *masks: Array) -> tuple[Array]:
    for y in masks:
        dy = plain_sloped(dy, y)
    return (jnp.sum(dy, tuple(range(dy.ndim - 1))),)


_operation = Operation("finished_convolution", _plain, _finished_kernel)
_biased_tangent = Operation("biased_convolution_tangent", _plain_biased_tangent, transpose=_transposed_biased_tangent)
_masked_input_gradient = Operation(
    "convolution_masked_input_gradient",
    lambda dy, y, w, *, geometry: (input_gradient(plain_sloped(dy, y), w, geometry),),
    partial(_masked_kernel, Direction.INPUT_GRADIENT),
)
_masked_weight_gradient = Operation(
    "convolution_masked_weight_gradient",
    lambda x, dy, y, *, geometry: (weight_gradient(x, plain_sloped(dy, y), geometry),),
    partial(_masked_kernel, Direction.WEIGHT_GRADIENT),
)
_channel_sums = Operation("channel_sums", _plain_channel_sums, _channel_sums_kernel)


def _is_there(tangent: Any) -> bool:
    """False for a tangent that is known to be zero: no work is spent on it."""
    return tangent is not None and type(tangent) is not SymbolicZero

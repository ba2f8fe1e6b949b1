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
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jax.interpreters.xla import apply_primitive

from fluxion.kernels.convolution import (
    Convolution,
    Direction,
    chosen_kernel,
    convolution,
    input_gradient,
    is_explicit,
    vary_alike,
    weight_gradient,
)
from fluxion.kernels.epilogue import Epilogue, match_rank, plain_sloped
from fluxion.kernels.machine import Machine
from fluxion.kernels.modes import Mode, current_mode
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
    if any(is_explicit(array) for array in (x, w, *extras)):
        return _plain(x, w, *extras, geometry=geometry, epilogue=epilogue)
    arrays = vary_alike(x, w, *extras)
    return _primitive.bind(*arrays, geometry=geometry, epilogue=epilogue, mode=current_mode())


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


def _masked_kernel(
    direction: Direction, machine: Machine, mode: Mode, *types: Any, geometry: Convolution
) -> Callable[..., Any] | None:
    """The gradient's kernel, which masks `dy` when it reads it."""
    from fluxion.kernels import choice

    found = choice.convolution(geometry.trimmed(), direction, types[0].dtype, mode, machine)
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


def _plain(x: Array, w: Array, *extras: Array, geometry: Convolution, epilogue: Epilogue, mode: Any = None) -> Array:
    return epilogue.plain(convolution(x, w, geometry), extras)


def _result_type(x: Any, w: Any, *extras: Any, geometry: Convolution, **_: Any) -> Any:
    return x.update(shape=geometry.y_shape, weak_type=False)


def _batch(operands: Sequence[Array], axes: Sequence[int | None], **parameters: Any) -> tuple[Array, int]:
    return jax.vmap(partial(_plain, **parameters), axes)(*operands), 0


def _lower(context: Any, *operands: Any, geometry: Convolution, epilogue: Epilogue, mode: Mode) -> Any:
    kernel = chosen_kernel(context, Direction.FORWARD, geometry, mode)
    if kernel is None:
        compute = partial(_plain, geometry=geometry, epilogue=epilogue)
    else:
        compute = partial(kernel, epilogue=epilogue)
    return mlir.lower_fun(compute, multiple_results=False)(context, *operands)


_primitive = Primitive("finished_convolution")
_primitive.def_impl(partial(apply_primitive, _primitive))
_primitive.def_abstract_eval(_result_type)
batching.primitive_batchers[_primitive] = _batch
mlir.register_lowering(_primitive, _lower)

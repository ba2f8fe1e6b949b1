"""A convolution that finishes its sums before it stores them: `activation(convolution * scale + bias + residual)`.

The operation has a rule for its derivative (`jax.custom_jvp`) that is made of the bilinear convolutions and of passes
over memory, so every mode of differentiation works:

    y = activation(z),   z = conv(x, w) * scale + bias + residual
    dy = slope(y) * (conv(dx, w) * scale + conv(x, dw) * scale + conv(x, w) * dscale + dbias + dresidual)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
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
    is_explicit,
    vary_alike,
)
from fluxion.kernels.epilogue import Epilogue, over_channels
from fluxion.kernels.modes import Mode, current_mode


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
    linear = [convolution(a, b, geometry) for a, b in ((dx, w), (x, dw)) if _is_there(a) and _is_there(b)]
    if "scale" in known:
        linear = [part * over_channels(known["scale"], y) for part in linear]
        if _is_there(changes["scale"]):
            linear.append(convolution(x, w, geometry) * over_channels(changes["scale"], y))
    if _is_there(changes.get("bias")):
        linear.append(jnp.broadcast_to(over_channels(changes["bias"], y), y.shape))
    if _is_there(changes.get("residual")):
        linear.append(changes["residual"])
    total = sum(linear[1:], linear[0]) if linear else jnp.zeros_like(y)
    passes = epilogue.slopes(y)
    return y, total if passes is None else jnp.where(passes, total, 0)


_finished.defjvp(_tangent, symbolic_zeros=True)


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

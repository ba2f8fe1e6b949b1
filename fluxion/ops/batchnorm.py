"""Batch normalisation with the statistics of its own input, and its derivative.

With c = x - mean, s = 1 / sqrt(var + eps) and averages <> over all rows:

    y  = activation(scale s c + bias + residual)
    dy = slope * (scale s (dx - <dx>) - scale s^3 <c dx> c + dscale s c + dbias + dresidual)

Without a residual the slope is computed from `x` again. With one it is read off `y`, which the next layer keeps anyway,
by XLA: it sums the gradients that meet there in the same pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fluxion.kernels.epilogue import Epilogue, plain_sloped
from fluxion.kernels.operation import Operation
from fluxion.ops.arrays import at_least_float32, match_rank


@partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def normalised(
    x: Array, scale: Array, bias: Array, residual: Array | None, eps: float, activation: str
) -> tuple[Array, Array, Array]:
    """`(y, mean, var)`: `x` of shape `(..., channels)` normalised over all axes but the last, and the statistics used.

    `residual` has shape and type of `x`. The variance is the biased one. `scale`, `bias` and the statistics have the
    type in which half precision is summed. No derivative flows through the statistics that come back. `activation` is
    one of an Epilogue.
    """
    arrays = (x, scale, bias) if residual is None else (x, scale, bias, residual)
    y, mean, var = _forward(*arrays, eps=eps, activation=activation)
    return y, mean, var


@normalised.defjvp
def _derivative(eps: float, activation: str, primals: Any, tangents: Any) -> Any:
    y, mean, var = normalised(*primals, eps, activation)
    known, changes, dresidual = (*primals[:3], mean, var), tangents[:3], tangents[3]
    if dresidual is None:
        (dy,) = _tangent(*changes, *known, eps=eps, activation=activation)
    else:
        (linear,) = _tangent(*changes, *known, eps=eps, activation="identity")
        dy = plain_sloped(linear + dresidual, y, activation)
    return (y, mean, var), (dy, jnp.zeros_like(mean), jnp.zeros_like(var))


def _plain(
    x: Array, scale: Array, bias: Array, *residual: Array, eps: float, activation: str
) -> tuple[Array, Array, Array]:
    wide = at_least_float32(x)
    mean = _average(wide)
    var = _average(jnp.square(wide - match_rank(mean, x)))
    y = (wide - match_rank(mean, x)) * match_rank(scale * jax.lax.rsqrt(var + eps), x) + match_rank(bias, x)
    return Epilogue(residual=bool(residual), activation=activation).plain(y, residual).astype(x.dtype), mean, var


def _plain_tangent(*arrays: Array, eps: float, activation: str) -> tuple[Array]:
    dx, dscale, dbias, x, scale, bias, mean, var = arrays
    centred, inverse = at_least_float32(x) - match_rank(mean, x), jax.lax.rsqrt(var + eps)
    wide, factor = at_least_float32(dx), scale * inverse
    along = dscale * inverse - factor * jnp.square(inverse) * _average(centred * wide)
    linear = (
        (wide - match_rank(_average(wide), x)) * match_rank(factor, x)
        + centred * match_rank(along, x)
        + match_rank(dbias, x)
    )
    before = centred * match_rank(factor, x) + match_rank(bias, x)
    return (plain_sloped(linear, before, activation).astype(x.dtype),)


def _plain_backward(*arrays: Array, eps: float, activation: str) -> tuple[Array, Array, Array]:
    dy, x, scale, bias, mean, var = arrays
    centred, inverse = at_least_float32(x) - match_rank(mean, x), jax.lax.rsqrt(var + eps)
    factor, rows = scale * inverse, math.prod(x.shape[:-1])
    g = plain_sloped(at_least_float32(dy), centred * match_rank(factor, x) + match_rank(bias, x), activation)
    dbias, dscale = _average(g) * rows, _average(g * centred) * rows * inverse
    along = dscale * inverse / rows
    dx = (g - match_rank(dbias / rows, x) - centred * match_rank(along, x)) * match_rank(factor, x)
    return dx.astype(x.dtype), dscale, dbias


def _smooth_tangent(*arrays: Array, eps: float, activation: str) -> tuple[Array]:
    """The tangent as a function of `x`, on which the statistics depend."""
    dx, dscale, dbias, x, scale, bias, _, _ = arrays
    forward = lambda *primals: _plain(*primals, eps=eps, activation=activation)[0]
    return (jax.jvp(forward, (x, scale, bias), (dx, dscale, dbias))[1],)


def _smooth_backward(*arrays: Array, eps: float, activation: str) -> tuple[Array, Array, Array]:
    """The backward as a function of `x`, on which the statistics depend."""
    dy, x, scale, bias, _, _ = arrays
    forward = lambda *primals: _plain(*primals, eps=eps, activation=activation)[0]
    return tuple(jax.vjp(forward, x, scale, bias)[1](dy))


def _transposed(cotangents: Sequence[Array], *arrays: Any, **settings: Any) -> Sequence[Array]:
    return _backward(cotangents[0], *arrays[3:], **settings)


def _average(x: Array) -> Array:
    return jnp.mean(x, axis=tuple(range(x.ndim - 1)))


def _forward_kernel(machine: Any, mode: Any, x: Any, *others: Any, **settings: Any) -> Callable[..., Any] | None:
    from fluxion.kernels.batchnorm import forward_call

    return forward_call(machine, x, **settings)


def _backward_kernel(machine: Any, mode: Any, dy: Any, *others: Any, **settings: Any) -> Callable[..., Any] | None:
    from fluxion.kernels.batchnorm import backward_call

    return backward_call(machine, dy, **settings)


_forward = Operation("batchnorm", _plain, _forward_kernel)
_tangent = Operation("batchnorm_tangent", _plain_tangent, transpose=_transposed, differentiable=_smooth_tangent)
_backward = Operation("batchnorm_backward", _plain_backward, _backward_kernel, differentiable=_smooth_backward)

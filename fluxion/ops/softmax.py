"""Exponentials along axes: softmax, its logarithm, the logarithm of sums of exponentials, and gated linear units.

Half precision is computed in float32 and returned in its own type.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fluxion.errors import SizeError
from fluxion.ops.arrays import as_float, at_least_float32
from fluxion.ops.indexing import known_axis

Axis = int | tuple[int, ...] | None


def softmax(x: Any, axis: Axis = -1) -> Array:
    """`exp(x) / sum(exp(x))` along `axis`, or all axes where it is None: positive numbers that sum to 1.

    The largest entry is subtracted first, so nothing overflows. Entries of +inf share the whole between them, entries
    of -inf get 0, and a slice of nothing but -inf gives NaN.

    >>> import fluxion as fx
    >>> fx.softmax([0.0, 0.0]).tolist()
    [0.5, 0.5]
    """
    x = _checked(x, axis, "softmax")
    exponentials = jnp.exp(_below(at_least_float32(x), _largest(x, axis)))
    return (exponentials / jnp.sum(exponentials, axis=axis, keepdims=True)).astype(x.dtype)


def logsoftmax(x: Any, axis: Axis = -1) -> Array:
    """Logarithm of `softmax(x, axis)`, computed without taking the logarithm of a tiny number.

    >>> import fluxion as fx
    >>> round(float(fx.logsoftmax([0.0, 0.0])[0]), 4)
    -0.6931
    """
    x = _checked(x, axis, "logsoftmax")
    below = _below(at_least_float32(x), _largest(x, axis))
    return (below - jnp.log(jnp.sum(jnp.exp(below), axis=axis, keepdims=True))).astype(x.dtype)


def logsumexp(x: Any, axis: Axis = None, *, keepdims: bool = False) -> Array:
    """`log(sum(exp(x)))` along `axis`, or all axes where it is None, computed so that nothing overflows.

    Its gradient is `softmax(x, axis)`. A slice of nothing but -inf, or of nothing at all, gives -inf, with gradient 0.
    `keepdims` keeps the axes, with size 1.

    >>> import fluxion as fx
    >>> round(float(fx.logsumexp([1000.0, 1000.0])), 2)
    1000.69
    """
    x = _checked(x, axis, "logsumexp")
    top = _largest(x, axis)
    nothing = top == -jnp.inf
    below = jnp.where(nothing, 0, _below(at_least_float32(x), top))
    total = jnp.sum(jnp.exp(below), axis=axis, keepdims=True)
    logarithm = jnp.where(nothing, -jnp.inf, top + jnp.log(jnp.where(nothing, 1, total))).astype(x.dtype)
    return logarithm if keepdims else jnp.squeeze(logarithm, axis)


def glu(x: Any, axis: int = -1) -> Array:
    """Gated linear unit: `a * sigmoid(b)`, where `a` and `b` are the halves of `x` along `axis` (Dauphin et al. 2016).

    `axis` must have an even size, else `SizeError`; the result has half of it.

    >>> import fluxion as fx
    >>> fx.glu([[2.0, 4.0, 0.0, 0.0]]).tolist()
    [[1.0, 2.0]]
    """
    x = as_float(x)
    if x.shape[known_axis("glu", axis, x.shape)] % 2:
        raise SizeError(f"glu expects an even size along axis {axis}, got an array of shape {x.shape}")
    value, gate = jnp.split(x, 2, axis)
    return value * jax.nn.sigmoid(gate)


def _checked(x: Any, axis: Axis, name: str) -> Array:
    x = as_float(x)
    for entry in axis if isinstance(axis, tuple) else () if axis is None else (axis,):
        known_axis(name, entry, x.shape)
    return x


def _largest(x: Array, axis: Axis) -> Array:
    """The largest entry along `axis`, as a constant: every result here is the same whatever is subtracted."""
    return at_least_float32(jax.lax.stop_gradient(jnp.max(x, axis=axis, keepdims=True, initial=-jnp.inf)))


@jax.custom_jvp
def _below(x: Array, top: Array) -> Array:
    """`x - top`, with 0 for inf - inf."""
    return jnp.where(x == jnp.inf, jnp.zeros_like(x), x - top)


_below.defjvps(lambda tangent, below, x, top: tangent, None)  # that of x - top also where x is infinite

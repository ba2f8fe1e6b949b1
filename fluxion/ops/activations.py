"""Activation functions, on arrays of any shape. Float types stay, integers become floats, NaN stays NaN."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fluxion.ops.arrays import as_float


def identity(x: Any) -> Any:
    """Returns `x` itself, whatever it is.

    >>> import fluxion as fx
    >>> fx.identity("anything")
    'anything'
    """
    return x


def relu(x: Any) -> Array:
    """Rectified linear unit: `max(x, 0)`. Its derivative at 0 is 0.

    >>> import fluxion as fx
    >>> fx.relu([-1.0, 2.0]).tolist()
    [0.0, 2.0]
    """
    return jax.nn.relu(as_float(x))


def leakyrelu(x: Any, slope: Any = 0.01) -> Array:
    """`x` where `x > 0`, `slope * x` elsewhere (Maas et al. 2013).

    >>> import fluxion as fx
    >>> fx.leakyrelu([-1.0, 2.0], 0.5).tolist()
    [-0.5, 2.0]
    """
    x = as_float(x)
    return jnp.where(x > 0, x, slope * x)


def sigmoid(x: Any) -> Array:
    """Logistic function: `1 / (1 + exp(-x))`.

    >>> import fluxion as fx
    >>> float(fx.sigmoid(0))
    0.5
    """
    return jax.nn.sigmoid(as_float(x))


def tanh(x: Any) -> Array:
    """Hyperbolic tangent.

    >>> import fluxion as fx
    >>> float(fx.tanh(0))
    0.0
    """
    return jnp.tanh(as_float(x))


def gelu(x: Any) -> Array:
    """Gaussian error linear unit in its tanh form: `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.

    Hendrycks and Gimpel 2016; the form that Flux means by `gelu`. PyTorch's default is the form with erf, which differs
    by up to 0.0005.

    >>> import fluxion as fx
    >>> round(float(fx.gelu(1.0)), 4)
    0.8412
    """
    return jax.nn.gelu(as_float(x), approximate=True)


def swish(x: Any) -> Array:
    """`x * sigmoid(x)` (Ramachandran et al. 2017), also called SiLU.

    >>> import fluxion as fx
    >>> round(float(fx.swish(1.0)), 4)
    0.7311
    """
    return jax.nn.silu(as_float(x))


def softplus(x: Any) -> Array:
    """`log(1 + exp(x))`, computed so that no large `x` overflows.

    >>> import fluxion as fx
    >>> round(float(fx.softplus(0)), 4)
    0.6931
    """
    return jax.nn.softplus(as_float(x))


def softmax(x: Any, axis: int | tuple[int, ...] = -1) -> Array:
    """`exp(x) / sum(exp(x))` along `axis`: positive numbers that sum to 1.

    The largest entry is subtracted first, so nothing overflows. Entries of +inf share the whole between them, entries
    of -inf get 0, and a slice of nothing but -inf gives NaN.

    >>> import fluxion as fx
    >>> fx.softmax([0.0, 0.0]).tolist()
    [0.5, 0.5]
    """
    exponentials = jnp.exp(_below_maximum(x, axis, "softmax"))
    return exponentials / jnp.sum(exponentials, axis=axis, keepdims=True)


def logsoftmax(x: Any, axis: int | tuple[int, ...] = -1) -> Array:
    """Logarithm of `softmax(x, axis)`, computed without taking the logarithm of a tiny number.

    >>> import fluxion as fx
    >>> round(float(fx.logsoftmax([0.0, 0.0])[0]), 4)
    -0.6931
    """
    below = _below_maximum(x, axis, "logsoftmax")
    return below - jnp.log(jnp.sum(jnp.exp(below), axis=axis, keepdims=True))


def _below_maximum(x: Any, axis: int | tuple[int, ...], name: str) -> Array:
    x = as_float(x)
    if x.ndim == 0:
        raise ValueError(f"{name} needs an array with an axis to sum over, got a single number")
    top = jax.lax.stop_gradient(jnp.max(x, axis=axis, keepdims=True))
    return jnp.where(x == jnp.inf, jnp.zeros_like(x), x - top)  # inf - inf would be NaN

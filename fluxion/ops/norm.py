"""Normalisation: zero mean and unit variance."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fluxion.ops.arrays import as_float, at_least_float32, match_rank


def normalise(x: Any, axis: int | tuple[int, ...] = -1, eps: Any = 1e-5) -> Array:
    """`(x - mean) / sqrt(variance + eps)` with mean and (biased) variance along `axis`.

    Half precision is computed in float32 and returned in its own type. Flux: `normalise`.

    >>> import fluxion as fx
    >>> fx.normalise([1.0, 3.0], eps=0.0).tolist()
    [-1.0, 1.0]
    """
    x = as_float(x)
    return rescale(x, *moments(x, axis, keepdims=True), eps)


def moments(x: Array, axis: Any, keepdims: bool = False) -> tuple[Array, Array]:
    """Mean and biased variance along `axis`, in float32 for half precision."""
    wide = at_least_float32(x)
    return jnp.mean(wide, axis=axis, keepdims=keepdims), jnp.var(wide, axis=axis, keepdims=keepdims)


def rescale(x: Array, mean: Any, var: Any, eps: Any, scale: Any = None, bias: Any = None) -> Array:
    """`scale * (x - mean) / sqrt(var + eps) + bias` in the type of `x`; the other arrays fit the last axes of `x`."""
    factor = jax.lax.rsqrt(var + eps)
    if scale is not None:
        factor = match_rank(factor, scale) * match_rank(scale, factor)
    y = (at_least_float32(x) - match_rank(mean, x)) * match_rank(factor, x)
    return (y if bias is None else y + match_rank(bias, x)).astype(x.dtype)

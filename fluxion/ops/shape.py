"""Changing the shape of arrays."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import Array


def flatten(x: Any) -> Array:
    """`x` of shape `(batch, ...)` as `(batch, product of the rest)`. Channels, the last axis, run fastest.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.flatten(jnp.ones((32, 4, 4, 8))).shape
    (32, 128)
    """
    x = jnp.asarray(x)
    if x.ndim == 0:
        raise ValueError("flatten keeps the batch axis and needs an array that has one, got a single number")
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))

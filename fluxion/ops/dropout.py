"""Dropout as a function, which drops whether or not a gradient is taken."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import SizeError
from fluxion.ops.arrays import as_float, is_concrete
from fluxion.ops.windows import is_integer
from fluxion.random import Generator, generator


def dropout(x: Any, p: Any, *, axes: int | tuple[int, ...] | None = None, rng: Generator | None = None) -> Array:
    """Sets each entry of `x` to 0 with probability `p` and multiplies the others by `1 / (1 - p)`, in every mode.

    Srivastava et al. 2014. `axes` are the axes along which choices differ; along the other axes one choice counts for
    all, so that `axes=(0, -1)` drops whole channels of an image. `p` is a number from 0, which keeps everything, to 1,
    which drops everything; `ValueError` outside of that. Draws for every `p`, so that what is drawn later does not
    depend on it. The layer `Dropout` drops while training only.

    >>> import fluxion as fx
    >>> sorted(set(fx.dropout(fx.ones(100), 0.75).tolist()))
    [0.0, 4.0]
    """
    x = as_float(x)
    keep = 1 - jnp.asarray(probability(p, "dropout"), jnp.float32)
    kept = generator(rng).bernoulli(keep, _mask_shape(x, axes_tuple(axes, "dropout")))
    factor = (1 / jnp.where(keep > 0, keep, 1)).astype(x.dtype)  # 0 * inf would be NaN where everything is dropped
    return jnp.where(kept, x * factor, jnp.zeros_like(x))


def probability(p: Any, name: str) -> Any:
    """`p` itself, checked where its value is known: a single number from 0 to 1."""
    if is_concrete(p):
        number = np.ndim(p) == 0 and np.asarray(p).dtype.kind in "iuf"
        if not number or not 0 <= p <= 1:
            raise ValueError(f"{name} expects a probability 0 <= p <= 1, got {p!r}")
    return p


def axes_tuple(axes: Any, name: str) -> tuple[int, ...] | None:
    """`axes` as a tuple of ints, or None."""
    values = axes if isinstance(axes, (tuple, list)) else () if axes is None else (axes,)
    if not all(map(is_integer, values)):
        raise ValueError(f"{name} takes as axes= an int, a tuple of ints or None, got {axes!r}")
    return None if axes is None else tuple(map(int, values))


def _mask_shape(x: Array, axes: tuple[int, ...] | None) -> tuple[int, ...]:
    if axes is None:
        return x.shape
    if any(not -x.ndim <= axis < x.ndim for axis in axes):
        raise SizeError(f"dropout expects an array that has these axes, got one of shape {x.shape}")
    varying = {axis % x.ndim for axis in axes}
    return tuple(size if axis in varying else 1 for axis, size in enumerate(x.shape))

"""Positions: rotary embeddings of queries and keys, and sinusoidal encodings to add to an input."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import SizeError
from fluxion.ops.arrays import as_float, at_least_float32, match_rank
from fluxion.ops.attention import check_heads, split_heads
from fluxion.ops.windows import is_integer


def rotary(
    x: Any, positions: Any = None, *, nheads: int = 1, base: float = 10000.0, interleaved: bool = False
) -> Array:
    """Turns pairs of features by angles that grow with the position (Su et al. 2021).

    Takes `(..., length, features)` with `nheads` heads side by side, each of an even size `d`. Pair `i` of a head at
    position `p` is `(a, b)` and becomes `(a cos t - b sin t, a sin t + b cos t)` with `t = p * base ** (-2 i / d)`, so
    that the product of a query and a key depends on the distance of their positions only. `positions` are `0, 1, 2 ...`
    by default, or numbers of shape `(..., length)`. The pairs are features `i` and `i + d / 2` (as in LLaMA), or with
    `interleaved` features `2 i` and `2 i + 1` (as in the paper and GPT-J).

    >>> import fluxion as fx
    >>> print(fx.rotary([[1.0, 0.0], [1.0, 0.0]]).round(3))
    [[1.    0.   ]
     [0.54  0.841]]
    """
    x = as_float(x)
    check_heads("rotary", nheads, nheads)
    if x.ndim < 2 or x.shape[-1] % (2 * nheads):
        wanted = f"(..., length, features) with an even number of features in each of {nheads} heads"
        raise SizeError(f"rotary expects an array {wanted}, got one of shape {x.shape}")
    heads = at_least_float32(split_heads(x, nheads))
    half = heads.shape[-1] // 2
    places = _positions(positions, x)[..., None]
    angles = places * match_rank(_frequencies(half, base, heads.dtype), places)
    cos, sin = (match_rank(turn[..., None, :], heads) for turn in (jnp.cos(angles), jnp.sin(angles)))
    if interleaved:
        pairs = heads.reshape(*heads.shape[:-1], half, 2)
        return jnp.stack(_turned(pairs[..., 0], pairs[..., 1], cos, sin), -1).reshape(x.shape).astype(x.dtype)
    turned = _turned(heads[..., :half], heads[..., half:], cos, sin)
    return jnp.concatenate(turned, -1).reshape(x.shape).astype(x.dtype)


def positional_encoding(length: int, size: int, *, base: float = 10000.0) -> Array:
    """Sines and cosines of the position, `(length, size)`, to be added to embeddings (Vaswani et al. 2017).

    Feature `2 i` of position `p` is `sin(p * base ** (-2 i / size))` and feature `2 i + 1` is the cosine.

    >>> import fluxion as fx
    >>> print(fx.positional_encoding(2, 2).round(3))
    [[0.    1.   ]
     [0.841 0.54 ]]
    """
    if not all(is_integer(count) and count >= 0 for count in (length, size)):
        raise ValueError(f"positional_encoding takes a length and a size, ints of at least 0, got {length!r}, {size!r}")
    angles = np.arange(length)[:, None] * np.asarray(base, float) ** (-np.arange(0, size, 2) / size)
    pairs = np.stack([np.sin(angles), np.cos(angles)], -1)
    return jnp.asarray(pairs.reshape(length, 2 * angles.shape[1])[:, :size], float)


def _positions(positions: Any, x: Array) -> Array:
    positions = jnp.arange(x.shape[-2]) if positions is None else jnp.asarray(positions)
    shape = x.shape[:-1]
    fits = 1 <= positions.ndim <= len(shape) and positions.shape[-1] == shape[-1]
    if not fits or any(size not in (1, want) for size, want in zip(positions.shape[::-1], shape[::-1], strict=False)):
        raise SizeError(f"rotary expects positions that broadcast to {shape}, got an array of shape {positions.shape}")
    return positions


def _frequencies(half: int, base: float, dtype: Any) -> Array:
    return jnp.asarray(base, dtype) ** (-jnp.arange(half, dtype=dtype) / half)


def _turned(first: Array, second: Array, cos: Array, sin: Array) -> tuple[Array, Array]:
    return first * cos - second * sin, first * sin + second * cos

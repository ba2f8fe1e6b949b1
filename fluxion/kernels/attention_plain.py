"""Attention as XLA's own operations: on every device but the CPU, and wherever weights are wanted or dropped.

Heads have an axis of their own here: `q` is `(..., q_len, heads, size)`, `k` and `v` are alike;
what broadcasts to the scores has all of their axes, `(..., heads, q_len, kv_len)`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def restricted_scores(
    q: Array, k: Array, bias: Array | None, allowed: Array | None, causal: bool, scale: float | Array
) -> Array:
    """`scale * q k' + bias`, and -inf where nothing may be attended to."""
    scores = _products(q, k) * scale
    if bias is not None:
        scores = scores + bias
    if causal:
        lower = jnp.expand_dims(jnp.tri(scores.shape[-2], scores.shape[-1], dtype=bool), range(scores.ndim - 2))
        allowed = lower if allowed is None else allowed & lower
    if allowed is not None:
        scores = jnp.where(allowed, scores, -jnp.inf)
    return scores


def shares_of(scores: Array, top: Array, may_be_infinite: bool) -> tuple[Array, Array]:
    """What each query gives to each key, and its sum over the keys, by which nothing is divided yet: to divide what
    attention gives is less work than to divide the weights. `top` is the largest score of each query.

    Only where `may_be_infinite` a score of +inf takes a share of its own instead of making everything NaN.
    """
    if may_be_infinite:  # inf - inf would be NaN
        scores = jnp.where(scores == jnp.inf, 0, jnp.where(top == jnp.inf, -jnp.inf, scores))
    shares = jnp.exp(scores - jnp.where(jnp.isinf(top), 0, top))
    total = jnp.sum(shares, axis=-1, keepdims=True)
    return shares, jnp.where(total == 0, 1, total)


def largest(scores: Array) -> Array:
    """The largest score of each query; its derivative would cancel out of everything that is computed with it."""
    return jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True, initial=-jnp.inf))


def average(shares: Array, v: Array, total: Array) -> Array:
    """`shares @ v / total` with the heads in an axis of their own, `(..., q_len, heads, outputs)`."""
    *leading, heads, length, kv_len = shares.shape
    kv_heads, group = v.shape[-2], heads // v.shape[-2]
    shares = shares.reshape(*leading, kv_heads, group * length, kv_len)
    y = jnp.einsum("...hqk,...khd->...qhd", shares, v, preferred_element_type=total.dtype)
    y = jnp.moveaxis(y.reshape(*leading, group, length, kv_heads, v.shape[-1]), -4, -2)
    return (y.reshape(*leading, length, heads, v.shape[-1]) / jnp.swapaxes(total, -2, -3)).astype(v.dtype)


def _products(q: Array, k: Array) -> Array:
    """Scores `(..., heads, q_len, kv_len)`; the queries of heads that share their keys count as one longer sequence."""
    wide = jnp.promote_types(jnp.result_type(q.dtype, k.dtype), jnp.float32)
    *leading, length, heads, size = q.shape
    kv_heads, group = k.shape[-2], heads // k.shape[-2]
    q = q.reshape(*leading, length, kv_heads, group, size)
    q = jnp.moveaxis(q, -2, -4).reshape(*leading, group * length, kv_heads, size)
    scores = jnp.einsum("...qhd,...khd->...hqk", q, k, preferred_element_type=wide)
    return scores.reshape(*leading, heads, length, k.shape[-3])

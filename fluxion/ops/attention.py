"""Attention: averages of values, weighted by how well each query agrees with each key."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fluxion.errors import SizeError
from fluxion.kernels import attention_plain as plain
from fluxion.kernels.attention import attention, is_taken
from fluxion.ops.activations import identity
from fluxion.ops.arrays import as_float, match_rank
from fluxion.ops.indexing import check_indices
from fluxion.ops.windows import is_integer

Function = Callable[..., Any]


def dot_product_attention(
    q: Any,
    k: Any,
    v: Any,
    bias: Any = None,
    *,
    mask: Any = None,
    causal: bool = False,
    nheads: int = 1,
    kv_heads: int | None = None,
    scale: Any = None,
    dropout: Function = identity,
    return_weights: bool = False,
) -> Any:
    """`softmax(scale * q k' + bias) v` in each of `nheads` heads (Vaswani et al. 2017).

    Takes queries `(..., q_len, features)`, keys `(..., kv_len, features)` and values `(..., kv_len, outputs)` with the
    same leading axes, any number of them; gives `(..., q_len, outputs)`. The heads lie side by side in the last axes.
    With fewer `kv_heads`, keys and values have only that many heads, and each serves `nheads // kv_heads` heads of the
    queries that follow one another (Ainslie et al. 2023). `scale` is `1 / sqrt(features // nheads)` by default.

    The softmax runs over the keys. `bias` (numbers) and `mask` (booleans, True: may attend) broadcast to `(..., nheads,
    q_len, kv_len)`; the mask is applied after the bias. `causal` lets query `i` attend to keys `0` to `i`. A query that
    may attend to nothing gives zeros. Entries of `bias` may be infinite: -inf forbids, and keys at +inf share all
    attention evenly. `dropout` is a function that multiplies each weight by some number. `return_weights=True` gives
    `(outputs, weights)` with weights `(..., nheads, q_len, kv_len)`, after dropout.

    In float32 a CPU computes it, and its gradient, block by block, without ever holding all of the weights (Dao et al.
    2022). Half precision computes weights in float32; on an NVIDIA GPU it is cuDNN's fused kernel where nothing but
    `causal` is asked for, which has no forward-mode derivative. SizeError where sizes do not suit each other. Flux:
    `dot_product_attention`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> q, kv = jnp.ones((2, 5, 8)), jnp.ones((2, 7, 8))
    >>> fx.dot_product_attention(q, kv, kv, nheads=4).shape
    (2, 5, 8)
    """
    q, k, v = as_float(q), as_float(k), as_float(v)
    kv_heads = nheads if kv_heads is None else kv_heads
    check_heads("dot_product_attention", nheads, kv_heads)
    _check_sizes(q, k, v, nheads, kv_heads)
    q, k, v = split_heads(q, nheads), split_heads(k, kv_heads), split_heads(v, kv_heads)
    if _is_plain(bias, mask, dropout, return_weights) and _has_fused(q, k, v):
        return _merge_heads(_fused(q, k, v, causal, scale))
    bias, mask = _extras(q, k, bias, mask)
    if dropout is identity and not return_weights and (bias is None or bias.dtype == v.dtype) and is_taken(q, k, v):
        return _merge_heads(_blockwise(q, k, v, bias, mask, causal, scale))
    shares, total = _shares(q, k, bias, mask, causal, scale)
    shares = dropout(shares.astype(v.dtype))
    y = _merge_heads(plain.average(shares, v, total))
    return (y, (shares / total).astype(v.dtype)) if return_weights else y


def dot_product_attention_scores(
    q: Any,
    k: Any,
    bias: Any = None,
    *,
    mask: Any = None,
    causal: bool = False,
    scale: Any = None,
    dropout: Function = identity,
) -> Array:
    """The weights of `dot_product_attention`: `dropout(softmax(scale * q k' + bias))` over the keys.

    Takes queries `(..., q_len, heads, features)` and keys `(..., kv_len, kv_heads, features)`, already split into
    heads; gives `(..., heads, q_len, kv_len)`. Flux: `dot_product_attention_scores`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> q, k = jnp.ones((2, 1, 4)), jnp.ones((2, 1, 4))
    >>> fx.dot_product_attention_scores(q, k, causal=True).tolist()
    [[[1.0, 0.0], [0.5, 0.5]]]
    """
    q, k = as_float(q), as_float(k)
    _check_split(q, k)
    shares, total = _shares(q, k, *_extras(q, k, bias, mask), causal, scale)
    return dropout((shares / total).astype(jnp.result_type(q.dtype, k.dtype)))


def make_causal_mask(x: Any) -> Array:
    """Booleans `(length, length)` that let position `i` attend to positions `0` to `i`.

    `x` is the length, or an array `(..., length, features)` that has it. Flux: `make_causal_mask`, transposed.

    >>> import fluxion as fx
    >>> print(fx.make_causal_mask(3).astype(int))
    [[1 0 0]
     [1 1 0]
     [1 1 1]]
    """
    if not is_integer(x) and jnp.ndim(x) < 2:
        raise SizeError(
            f"make_causal_mask takes a length or an array (..., length, features), got one of shape {jnp.shape(x)}"
        )
    length = int(x) if is_integer(x) else jnp.shape(x)[-2]
    return _lower(length, length)


def make_padding_mask(lengths: Any, length: int) -> Array:
    """Booleans that let every query attend to the first `lengths[n]` of `length` keys in observation `n`.

    `lengths` are integers of shape `(...)`, the mask has shape `(..., 1, 1, length)`, which fits the weights of
    attention. A known entry outside `0` to `length` is a ValueError.

    >>> import fluxion as fx
    >>> print(fx.make_padding_mask([1, 3], 3)[:, 0, 0].astype(int))
    [[1 0 0]
     [1 1 1]]
    """
    lengths = jnp.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"make_padding_mask takes integers as lengths, got an array of {lengths.dtype}")
    check_indices("make_padding_mask", lengths, length + 1, ValueError, what="lengths")
    lengths = jnp.expand_dims(lengths, (-3, -2, -1))
    return match_rank(jnp.arange(length), lengths) < lengths


def join_masks(*masks: Any) -> Array | None:
    """What all of the masks allow; a mask that is None allows everything.

    >>> join_masks(None, [True, False], [[True, True]]).tolist()
    [[True, False]]
    """
    given = [_booleans(mask) for mask in masks if mask is not None]
    if not given:
        return None
    try:
        jnp.broadcast_shapes(*(mask.shape for mask in given))
    except ValueError:
        shapes = " and ".join(str(mask.shape) for mask in given)
        raise SizeError(f"attention expects masks that broadcast to each other, got shapes {shapes}") from None
    largest = max(given, key=jnp.ndim)
    return functools.reduce(jnp.logical_and, [match_rank(mask, largest) for mask in given])


def check_heads(name: str, nheads: Any, kv_heads: Any) -> None:
    """Raises a ValueError unless `nheads` is a multiple of `kv_heads`."""
    for label, count in (("nheads", nheads), ("kv_heads", kv_heads)):
        if not is_integer(count) or count < 1:
            raise ValueError(f"{name} takes an int of at least 1 as {label}, got {count!r}")
    if nheads % kv_heads:
        raise ValueError(f"{name} has nheads={nheads}, which must be a multiple of kv_heads={kv_heads}")


def split_heads(x: Array, heads: int) -> Array:
    """`(..., length, heads * size)` as `(..., length, heads, size)`."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def _merge_heads(x: Array) -> Array:
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def _check_sizes(q: Array, k: Array, v: Array, nheads: int, kv_heads: int) -> None:
    shapes = f"got q {q.shape}, k {k.shape}, v {v.shape}"
    if min(q.ndim, k.ndim, v.ndim) < 2:
        raise SizeError(f"dot_product_attention expects arrays (..., length, features), {shapes}")
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        raise SizeError(f"dot_product_attention expects the same leading axes of q, k and v, {shapes}")
    if k.shape[-2] != v.shape[-2]:
        raise SizeError(f"dot_product_attention expects as many keys as values, {shapes}")
    for name, x, heads in (("q", q, nheads), ("k", k, kv_heads), ("v", v, kv_heads)):
        if x.shape[-1] % heads:
            raise SizeError(
                f"dot_product_attention has {heads} heads, which must divide the features of {name}, {shapes}"
            )
    if q.shape[-1] * kv_heads != k.shape[-1] * nheads:
        raise SizeError(f"dot_product_attention expects as many features per head in q as in k, {shapes}")


def _check_split(q: Array, k: Array) -> None:
    fits = min(q.ndim, k.ndim) >= 3 and q.shape[:-3] == k.shape[:-3] and q.shape[-1] == k.shape[-1]
    if not fits or q.shape[-2] % k.shape[-2]:
        raise SizeError(
            f"dot_product_attention_scores expects q (..., q_len, heads, features) and k (..., kv_len, kv_heads, "
            f"features), got q {q.shape}, k {k.shape}"
        )


def _extras(q: Array, k: Array, bias: Any, mask: Any) -> tuple[Array | None, Array | None]:
    """Bias and mask, each None or with all the axes of the scores."""
    scores = (*q.shape[:-3], q.shape[-2], q.shape[-3], k.shape[-3])
    bias = None if bias is None else _fitting("bias", _numbers(bias), scores)
    return bias, None if mask is None else _fitting("mask", _booleans(mask), scores)


def _fitting(name: str, value: Array, scores: tuple[int, ...]) -> Array:
    """A bias or mask with an axis for each of those of the scores."""
    sizes = zip(value.shape[::-1], scores[::-1], strict=False)
    if value.ndim > len(scores) or any(size not in (1, wanted) for size, wanted in sizes):
        wanted = f"that broadcasts to its weights (..., heads, q_len, kv_len) = {scores}"
        raise SizeError(f"dot_product_attention expects a {name} {wanted}, got one of shape {value.shape}")
    return jnp.expand_dims(value, range(len(scores) - value.ndim))


def _numbers(bias: Any) -> Array:
    bias = jnp.asarray(bias)
    if bias.dtype == bool:
        raise TypeError("attention adds its bias to the scores, got booleans; pass them as mask=")
    return bias


def _booleans(mask: Any) -> Array:
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        wanted = "attention takes booleans as its mask, True where a query may attend"
        raise TypeError(f"{wanted}, got an array of {mask.dtype}; numbers to add to the scores are the bias")
    return mask


def _lower(rows: int, columns: int) -> Array:
    return jnp.tri(rows, columns, dtype=bool)


def _shares(
    q: Array, k: Array, bias: Array | None, mask: Array | None, causal: bool, scale: Any
) -> tuple[Array, Array]:
    """What each query gives to each key, `(..., heads, q_len, kv_len)`, and its sum; see `shares_of`."""
    scores = plain.restricted_scores(q, k, bias, mask, causal, _default_scale(q) if scale is None else scale)
    return plain.shares_of(scores, plain.largest(scores), bias is not None)


def _default_scale(q: Array) -> float:
    return 1 / math.sqrt(q.shape[-1])


# ------------------------------------------------------------------ the generated kernels of CPUs


def _blockwise(q: Array, k: Array, v: Array, bias: Array | None, mask: Array | None, causal: bool, scale: Any) -> Array:
    """Attention that never holds all of the weights."""
    leading = q.shape[:-3]
    if scale is not None and not isinstance(scale, (int, float)):  # it may be traced, and have a derivative
        q, scale = q * jnp.asarray(scale, q.dtype), 1.0
    mask, bias = (extra if extra is None else _one_batch(extra, leading) for extra in (mask, bias))
    q, k, v = (_one_batch(x, leading) for x in (q, k, v))
    scale = _default_scale(q) if scale is None else scale
    y = attention(q, k, v, mask=mask, bias=bias, causal=causal, scale=scale)
    return y.reshape(*leading, *y.shape[1:])


def _one_batch(x: Array, leading: tuple[int, ...]) -> Array:
    """An array whose leading axes are one, of length 1 where it is the same for all of them."""
    last = x.shape[-3:]
    if all(size == 1 for size in x.shape[:-3]):
        return x.reshape(1, *last)
    return jnp.broadcast_to(x, (*leading, *last)).reshape(math.prod(leading), *last)


# ------------------------------------------------------------------ the fused kernel of NVIDIA GPUs


def _is_plain(bias: Any, mask: Any, dropout: Function, return_weights: bool) -> bool:
    return bias is None and mask is None and dropout is identity and not return_weights


def _has_fused(q: Array, k: Array, v: Array) -> bool:
    """Whether cuDNN's kernel takes heads of these sizes and this type."""
    half = q.dtype == k.dtype == v.dtype and q.dtype in (jnp.float16, jnp.bfloat16)
    size = q.shape[-1]
    return half and q.ndim in (3, 4) and size == v.shape[-1] and size % 8 == 0 and size <= 128 and _has_cudnn()


@functools.cache
def _has_cudnn() -> bool:
    """Whether the device that JAX computes on is an NVIDIA GPU of Ampere or later."""
    device = jax.devices()[0]
    return "cuda" in device.client.platform_version and float(device.compute_capability) >= 8


def _fused(q: Array, k: Array, v: Array, causal: bool, scale: Any) -> Array:
    return jax.nn.dot_product_attention(q, k, v, scale=scale, is_causal=causal, implementation="cudnn")

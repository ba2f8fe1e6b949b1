"""Multi-head attention, and the cache with which it decodes step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fluxion.errors import SizeError
from fluxion.init import glorot_uniform
from fluxion.layers.base import Layer, call_op, changed, inside, shape_of, size_of
from fluxion.layers.basic import Dense
from fluxion.layers.dropout import dropout_of, make_dropout
from fluxion.ops.arrays import is_concrete
from fluxion.ops.attention import check_heads, dot_product_attention, join_masks, make_padding_mask
from fluxion.ops.windows import is_integer, per_axis, short_tuple
from fluxion.random import Generator

Sizes = tuple[tuple[int, ...], tuple[int, ...], int]


class MultiHeadAttention(Layer):
    """`out_proj(dot_product_attention(q_proj(q), k_proj(k), v_proj(v)))`, with the attention in several heads.

    Vaswani et al. 2017. `dims` is one size for everything, or `(inputs, inner, outputs)`, where `inputs` may be one
    size each for `(q, k, v)`, and `inner`, the size of all heads together, one for `(qk, v)`. Both inner sizes are
    multiples of `nheads`. With fewer `kv_heads`, each key and value serves `nheads // kv_heads` heads. The four maps
    are Dense layers with the given `init` and `bias`. `dropout` is the probability with which a weight of attention is
    dropped while training. `rotary` is a function such as `fluxion.rotary` that is called on the mapped queries and
    keys as `rotary(x, positions, nheads=heads)`.

    Called as `attention(q)`, `attention(q, kv)` or `attention(q, k, v)`, optionally with a `bias` as the fourth. Takes
    queries `(..., q_len, features)`, keys and values `(..., kv_len, features)`, gives `(..., q_len, outputs)`. `bias`,
    `mask` and `causal` are those of `dot_product_attention`; `lengths`, integers of shape `(...)`, are the numbers of
    keys that count in each observation; the others must still be finite. `return_weights=True` gives `(outputs,
    weights)`. A `cache` made by the method `cache` makes it go on where the last call stopped: queries attend to all
    that the cache holds, then to the new keys up to their own position.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> attention = fx.MultiHeadAttention(64, nheads=4)
    >>> attention(jnp.ones((2, 10, 64)), causal=True).shape
    (2, 10, 64)
    """

    __unsized__ = ("dims",)

    def __init__(
        self,
        dims: Any,
        *,
        nheads: int = 8,
        kv_heads: int | None = None,
        bias: bool = False,
        dropout: float = 0.0,
        rotary: Callable[..., Any] | None = None,
        init: Callable[..., Any] = glorot_uniform,
        rng: Generator | None = None,
    ) -> None:
        self.dims = _sizes(dims)
        self.nheads, self.kv_heads = nheads, nheads if kv_heads is None else kv_heads
        check_heads("MultiHeadAttention", self.nheads, self.kv_heads)
        (q, k, v), (qk, values), outputs = self.dims
        for name, size in (("qk", qk), ("v", values)):
            if size % nheads:
                raise ValueError(f"MultiHeadAttention has inner size {name}={size}; nheads={nheads} must divide it")
        options: dict[str, Any] = {"bias": bias, "init": init, "rng": rng}
        self.q_proj = Dense(q, qk, **options)
        self.k_proj = Dense(k, qk // nheads * self.kv_heads, **options)
        self.v_proj = Dense(v, values // nheads * self.kv_heads, **options)
        self.out_proj = Dense(values, outputs, **options)
        self.dropout = make_dropout(dropout, rng)
        self.rotary = _rotary_of(rotary)

    def __call__(
        self,
        q: Any,
        k: Any = None,
        v: Any = None,
        bias: Any = None,
        *,
        mask: Any = None,
        causal: bool = False,
        lengths: Any = None,
        cache: KVCache | None = None,
        return_weights: bool = False,
    ) -> Any:
        k = q if k is None else k
        q, k, v = self._project("q_proj", q), self._project("k_proj", k), self._project("v_proj", k if v is None else v)
        if self.rotary is not None:
            q, k = self._turn(q, self.nheads, cache), self._turn(k, self.kv_heads, cache)
        if lengths is not None:
            mask = join_masks(mask, self._padding(lengths, k, cache))
        if cache is not None:
            mask = join_masks(mask, cache.attended(q))
            k, v = cache.append(k, v)
        options: dict[str, Any] = {"nheads": self.nheads, "kv_heads": self.kv_heads, "dropout": self.dropout}
        options |= {"mask": mask, "causal": causal and cache is None, "return_weights": return_weights}
        found = call_op(self, dot_product_attention, q, k, v, bias, **options)
        if return_weights:
            return self._project("out_proj", found[0]), found[1]
        return self._project("out_proj", found)

    def cache(self, batch: int, length: int) -> KVCache:
        """An empty cache for `batch` sequences of at most `length` positions.

        >>> import fluxion as fx
        >>> import jax.numpy as jnp
        >>> attention = fx.MultiHeadAttention(8, nheads=2)
        >>> cache = attention.cache(1, 16)
        >>> for token in jnp.ones((3, 1, 1, 8)):
        ...     y = attention(token, cache=cache)
        >>> int(cache.length)
        3
        """
        shape = size_of(batch, "cache"), size_of(length, "cache")
        _, keys, values = self.dims[0]
        return KVCache(_empty(self.k_proj, (*shape, keys)), _empty(self.v_proj, (*shape, values)))

    def sizes_from(self, sizes: Any, *inputs: Any) -> Any:
        given = [shape_of(x)[-1] for x in inputs[:3] if x is not None]
        return given[0] if sizes is None else (tuple([*given, given[-1], given[-1]][:3]), *sizes[1:])

    def _project(self, name: str, x: Any) -> Array:
        try:
            return getattr(self, name)(x)
        except SizeError as error:
            inside(error, f".{name}")
            raise

    def _padding(self, lengths: Any, k: Array, cache: KVCache | None) -> Array:
        lengths = jnp.asarray(lengths)
        if lengths.shape != k.shape[:-2]:
            got = f"got an array of shape {lengths.shape}"
            raise SizeError(f"{self.typed()} expects lengths= of integers of shape {k.shape[:-2]}, {got}", self)
        return make_padding_mask(lengths, k.shape[-2] if cache is None else cache.capacity)

    def _turn(self, x: Array, heads: int, cache: KVCache | None) -> Array:
        assert self.rotary is not None
        return self.rotary(x, None if cache is None else cache.positions(x), nheads=heads)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        inputs, inner, outputs = short_tuple(self.dims[0]), short_tuple(self.dims[1]), self.dims[2]
        dims = outputs if inputs == inner == outputs else (inputs, inner, outputs)
        return [dims], {"nheads": self.nheads} | changed(
            kv_heads=(self.kv_heads, self.nheads),
            bias=(getattr(self.q_proj, "bias", None) is not None, False),
            dropout=(dropout_of(self.dropout), 0.0),
            rotary=(self.rotary, None),
        )


class KVCache:
    """The mapped keys and values of the positions that attention has seen, for decoding step by step.

    `keys` and `values` are arrays `(batch, capacity, features)` of which the first `length` positions are filled;
    a call of the attention with `cache=` fills the next ones. In eager code a position beyond the capacity is a
    SizeError; in compiled code it gives NaN. MultiHeadAttention makes one by its method `cache`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> cache = fx.KVCache(jnp.zeros((1, 16, 8)), jnp.zeros((1, 16, 8)))
    >>> cache
    KVCache(length 0 of 16)
    """

    __trainable__ = ()

    def __init__(self, keys: Any, values: Any) -> None:
        self.keys, self.values = keys, values
        self.length = jnp.zeros((), jnp.int32)

    @property
    def capacity(self) -> int:
        """How many positions fit."""
        return self.keys.shape[-2]

    def positions(self, x: Array) -> Array:
        """Where the positions of `x`, `(batch, new, features)`, come to stand."""
        return self.length + jnp.arange(x.shape[-2], dtype=jnp.int32)

    def attended(self, x: Array) -> Array:
        """Booleans `(new, capacity)` that let each position of `x` attend to itself and to those before it."""
        return jnp.arange(self.capacity)[None] <= self.positions(x)[:, None]

    def append(self, k: Array, v: Array) -> tuple[Array, Array]:
        """Fills the next positions; returns all keys and values, filled or not."""
        self._check(k)
        end = self.length + k.shape[-2]
        missing = jnp.where(end <= self.capacity, 0, jnp.nan)  # what no longer fits must not go unnoticed
        self.keys = self._filled(self.keys, k + missing.astype(k.dtype))
        self.values = self._filled(self.values, v)
        self.length = end
        return self.keys, self.values

    def _filled(self, old: Array, new: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), self.length, axis=-2)

    def _check(self, k: Array) -> None:
        if k.ndim != 3 or k.shape[0] != self.keys.shape[0] or k.shape[-1] != self.keys.shape[-1]:
            raise SizeError(f"KVCache holds keys of shape {self.keys.shape}, got new ones of shape {k.shape}")
        if is_concrete(self.length) and int(self.length) + k.shape[-2] > self.capacity:
            raise SizeError(f"{self!r} has no room for {k.shape[-2]} more; make one of a larger length")

    def __repr__(self) -> str:
        filled = int(self.length) if is_concrete(self.length) else "..."
        return f"KVCache(length {filled} of {self.capacity})"


def _sizes(dims: Any) -> Sizes:
    """Sizes of the inputs (q, k, v), inside (qk, v), and of the output."""
    parts = (dims,) * 3 if is_integer(dims) else dims
    if not isinstance(parts, (tuple, list)) or len(parts) != 3:
        raise ValueError(f"MultiHeadAttention takes one size or (inputs, inner, outputs), got {dims!r}")
    inputs, inner, outputs = parts
    inputs, inner = per_axis(inputs, 3, "inputs of attention"), per_axis(inner, 2, "inner size of attention")
    return inputs, inner, size_of(outputs, "MultiHeadAttention")


def _rotary_of(rotary: Any) -> Callable[..., Any] | None:
    if rotary is not None and not callable(rotary):
        raise TypeError(f"rotary takes a function such as fluxion.rotary, or None, got {rotary!r}")
    return rotary


def _empty(projection: Callable[..., Any], shape: tuple[int, ...]) -> Array:
    """Zeros of the shape and type that a projection gives for an input of this shape."""
    made = jax.eval_shape(projection, jax.ShapeDtypeStruct(shape, jnp.float32))
    return jnp.zeros(made.shape, made.dtype)

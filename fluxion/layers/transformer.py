"""Transformers: blocks of attention and a small perceptron, each with a residual connection and a normalisation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jax import Array

from fluxion.errors import SizeError
from fluxion.init import glorot_uniform
from fluxion.layers.attention import KVCache, MultiHeadAttention
from fluxion.layers.base import Layer, changed, features, inside, size_of
from fluxion.layers.basic import Dense
from fluxion.layers.containers import Chain
from fluxion.layers.dropout import dropout_of, make_dropout
from fluxion.layers.norm import LayerNorm
from fluxion.ops.activations import identity, relu
from fluxion.ops.transposed import branching
from fluxion.random import Generator


class _TransformerLayer(Layer):
    """The parts of a block, and how they are joined."""

    __unsized__ = ("size",)

    has_memory = False

    def __init__(
        self,
        size: int,
        *,
        nheads: int = 8,
        kv_heads: int | None = None,
        hidden: int | None = None,
        activation: Callable[..., Any] = relu,
        dropout: float = 0.1,
        norm_first: bool = False,
        norm: Callable[..., Any] = LayerNorm,
        bias: bool = True,
        rotary: Callable[..., Any] | None = None,
        init: Callable[..., Any] = glorot_uniform,
        rng: Generator | None = None,
    ) -> None:
        self.size = size_of(size, type(self).__name__)
        self.norm_first = norm_first
        self.given = changed(
            nheads=(nheads, 8),
            kv_heads=(kv_heads, None),
            hidden=(hidden, None),
            activation=(activation, relu),
            norm_first=(norm_first, False),
            norm=(norm, LayerNorm),
            bias=(bias, True),
            rotary=(rotary, None),
        )
        dense: dict[str, Any] = {"bias": bias, "init": init, "rng": rng}
        hidden = 4 * self.size if hidden is None else hidden
        attention: Callable[..., Any] = functools.partial(
            MultiHeadAttention, nheads=nheads, kv_heads=kv_heads, dropout=dropout, **dense
        )
        self.attention, self.attention_norm = attention(size, rotary=rotary), norm(size)
        if self.has_memory:
            self.memory_attention, self.memory_attention_norm = attention(size), norm(size)
        self.feedforward = Chain(
            Dense(size, hidden, activation, **dense), make_dropout(dropout, rng), Dense(hidden, size, **dense)
        )
        self.feedforward_norm = norm(size)
        self.dropout = make_dropout(dropout, rng)

    def _residual(self, part: str, x: Array, *inputs: Any, **options: Any) -> Array:
        """The part of that name with its normalisation, around which `x` goes as well."""
        function, norm, x = getattr(self, part), getattr(self, f"{part}_norm"), branching(x)
        try:
            if self.norm_first:
                return x + self.dropout(function(norm(x), *inputs, **options))
            return norm(x + self.dropout(function(x, *inputs, **options)))
        except SizeError as error:
            inside(error, f".{part}")
            raise

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.size], self.given | changed(dropout=(dropout_of(self.dropout), 0.1))


class TransformerEncoderLayer(_TransformerLayer):
    """Attention of a sequence to itself, then a perceptron at every position (Vaswani et al. 2017).

    Both parts have a residual connection: `x = norm(x + dropout(part(x)))`, or with `norm_first`
    `x = x + dropout(part(norm(x)))`. The perceptron is `Chain(Dense(size, hidden, activation), dropout, Dense(hidden,
    size))`, with `hidden` four times `size` by default. `dropout` is the probability everywhere, also for the weights
    of attention. `norm` is called as `norm(size)` for each normalisation. `bias=False` leaves the bias out of attention
    and perceptron. `nheads`, `kv_heads` and `rotary` are those of `MultiHeadAttention`.

    Takes and gives `(..., length, size)`; `mask`, `causal`, `lengths` and `cache` are those of a call of
    `MultiHeadAttention`. The parts are the fields `attention`, `attention_norm`, `feedforward` and `feedforward_norm`;
    any function may take the place of one.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> layer = fx.TransformerEncoderLayer(16, nheads=2)
    >>> layer(jnp.ones((4, 10, 16)), lengths=[10, 7, 3, 8]).shape
    (4, 10, 16)
    """

    def __call__(
        self, x: Any, *, mask: Any = None, causal: bool = False, lengths: Any = None, cache: KVCache | None = None
    ) -> Array:
        x = features(self, x, self.size, "features")
        x = self._residual("attention", x, mask=mask, causal=causal, lengths=lengths, cache=cache)
        return self._residual("feedforward", x)


class TransformerDecoderLayer(_TransformerLayer):
    """Attention of a sequence to itself, then to a memory, then a perceptron at every position (Vaswani et al. 2017).

    Takes a sequence `(..., length, size)` and a memory `(..., memory length, size)`, which an encoder made; gives
    `(..., length, size)`. The attention to itself is `causal` by default; `mask`, `lengths` and `cache` belong to it,
    `memory_mask` and `memory_lengths` to the attention to the memory. The arguments of the constructor are those of
    `TransformerEncoderLayer`; `rotary` acts in the attention to itself only. The fields `memory_attention` and
    `memory_attention_norm` come on top.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> layer = fx.TransformerDecoderLayer(16, nheads=2)
    >>> layer(jnp.ones((4, 5, 16)), jnp.ones((4, 10, 16)), memory_lengths=[10, 7, 3, 8]).shape
    (4, 5, 16)
    """

    has_memory = True

    def __call__(
        self,
        x: Any,
        memory: Any,
        *,
        mask: Any = None,
        causal: bool = True,
        lengths: Any = None,
        memory_mask: Any = None,
        memory_lengths: Any = None,
        cache: KVCache | None = None,
    ) -> Array:
        x = features(self, x, self.size, "features")
        x = self._residual("attention", x, mask=mask, causal=causal, lengths=lengths, cache=cache)
        x = self._residual("memory_attention", x, memory, mask=memory_mask, lengths=memory_lengths)
        return self._residual("feedforward", x)


class _Stack(Layer):
    """Blocks of one kind, one after the other."""

    __unsized__ = ("size",)

    make_layer: type[Any]

    def __init__(self, size: int, layers: int = 6, **options: Any) -> None:
        count = size_of(layers, type(self).__name__)
        self.layers = [self.make_layer(size, **options) for _ in range(count)]
        self.norm = options.get("norm", LayerNorm)(size) if options.get("norm_first") else identity

    def __call__(self, x: Any, *memory: Any, cache: Any = None, **options: Any) -> Array:
        caches = [None] * len(self.layers) if cache is None else cache
        if not isinstance(caches, (list, tuple)) or len(caches) != len(self.layers):
            raise ValueError(f"{self.typed()} takes a list of {len(self.layers)} caches, as its method cache makes it")
        index = 0
        try:
            for index, (layer, own) in enumerate(zip(self.layers, caches, strict=True)):  # noqa: B007
                x = layer(x, *memory, cache=own, **options)
        except SizeError as error:
            inside(error, f".layers[{index}]")
            raise
        return self.norm(x)

    def cache(self, batch: int, length: int) -> list[KVCache]:
        """Empty caches of all blocks, for `batch` sequences of at most `length` positions."""
        return [layer.attention.cache(batch, length) for layer in self.layers]

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, keywords = self.layers[0].arguments()
        return [*positional, len(self.layers)], keywords


class TransformerEncoder(_Stack):
    """`layers` blocks `TransformerEncoderLayer(size, **options)` in a row; with `norm_first` one more norm at the end.

    Called like one block; `mask`, `causal` and `lengths` go to all of them. With `causal=True` it is the body of a
    language model, which decodes step by step with the caches that the method `cache` makes, one for each block.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> model = fx.TransformerEncoder(16, 2, nheads=2, norm_first=True)
    >>> model(jnp.ones((4, 10, 16)), causal=True).shape
    (4, 10, 16)
    >>> caches = model.cache(4, 10)
    >>> model(jnp.ones((4, 1, 16)), cache=caches).shape
    (4, 1, 16)
    """

    make_layer = TransformerEncoderLayer


class TransformerDecoder(_Stack):
    """`layers` blocks `TransformerDecoderLayer(size, **options)` in a row; with `norm_first` one more norm at the end.

    Called like one block, with a sequence and a memory; the masks and lengths go to all blocks.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> model = fx.TransformerDecoder(16, 2, nheads=2)
    >>> model(jnp.ones((4, 5, 16)), jnp.ones((4, 10, 16))).shape
    (4, 5, 16)
    """

    make_layer = TransformerDecoderLayer

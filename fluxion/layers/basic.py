"""Dense, Scale, Embedding and Dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import SizeError
from fluxion.init import glorot_uniform, normal, ones
from fluxion.layers.base import (
    Layer,
    activation_argument,
    active_of,
    add_bias,
    changed,
    draw,
    features,
    function_of,
    input_array,
    make_bias,
    match_half,
    size_of,
    typed,
)
from fluxion.mode import is_training
from fluxion.onehot import OneHotArray
from fluxion.ops.activations import identity
from fluxion.ops.arrays import as_float, is_concrete, match_rank
from fluxion.random import Generator, generator


class Dense(Layer):
    """Fully connected layer: `activation(x @ weight + bias)`.

    `weight` has shape `(inputs, outputs)` and `bias` shape `(outputs,)`. Takes `(..., inputs)`, gives `(...,
    outputs)`. `init` makes the weight; `bias` is True for zeros, False for none, or an array. A one-hot input costs a
    look-up of rows instead of a product. A half-precision layer converts its input to its own type; otherwise types
    follow JAX.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.Dense(10, 5, fx.relu)(jnp.ones((32, 10))).shape
    (32, 5)
    """

    __trainable__ = ("weight", "bias")

    def __init__(
        self,
        inputs: int,
        outputs: int,
        activation: Callable[..., Any] = identity,
        *,
        bias: Any = True,
        init: Callable[..., Any] = glorot_uniform,
        rng: Generator | None = None,
    ) -> None:
        self.weight = draw(init, (size_of(inputs, "Dense"), size_of(outputs, "Dense")), rng)
        self.bias = make_bias(bias, self.weight)
        self.activation = function_of(activation, "Dense")

    @classmethod
    def from_arrays(cls, weight: Any, bias: Any = None, activation: Callable[..., Any] = identity) -> Dense:
        """A Dense that holds the given weight `(inputs, outputs)` and bias `(outputs,)`, None for no bias.

        >>> import fluxion as fx
        >>> fx.Dense.from_arrays([[2.0], [3.0]])([1.0, 1.0]).tolist()
        [5.0]
        """
        weight = as_float(weight)
        if weight.ndim != 2:
            raise ValueError(f"Dense takes a weight of shape (inputs, outputs), got an array of shape {weight.shape}")
        inputs, outputs = weight.shape
        return cls(inputs, outputs, activation, bias=bias, init=lambda *shape: weight)

    def __call__(self, x: Any) -> Array:
        x = features(self, x, self.weight.shape[0], "input features")
        return self.activation(add_bias(match_half(x, self.weight) @ self.weight, self.bias))

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [*self.weight.shape, *activation_argument(self.activation)], {"bias": False} if self.bias is None else {}


class Scale(Layer):
    """Multiplication by a learnt number per feature: `activation(scale * x + bias)`.

    `scale` and `bias` have shape `size`, the sizes of the last axes of the input; an input axis of size 1 is repeated.

    >>> import fluxion as fx
    >>> fx.Scale(2)([3.0, 4.0]).tolist()
    [3.0, 4.0]
    """

    __trainable__ = ("scale", "bias")

    def __init__(
        self,
        *size: int,
        activation: Callable[..., Any] = identity,
        bias: Any = True,
        init: Callable[..., Any] = ones,
        rng: Generator | None = None,
    ) -> None:
        if not size:
            raise ValueError("Scale takes the sizes of the last axes of its input, as Scale(10), got none")
        self.scale = draw(init, tuple(size_of(entry, "Scale") for entry in size), rng)
        self.bias = make_bias(bias, self.scale, self.scale.shape)
        self.activation = function_of(activation, "Scale")

    def __call__(self, x: Any) -> Array:
        x = as_float(input_array(self, x))
        size = self.scale.shape
        ending = x.shape[-len(size) :]
        if len(ending) < len(size) or any(got not in (1, want) for got, want in zip(ending, size, strict=True)):
            raise SizeError(f"{self.typed()} expects last axes of sizes {size}, got an array of shape {x.shape}", self)
        return self.activation(add_bias(x * match_rank(self.scale, x), self.bias))

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        keywords = {} if self.activation is identity else {"activation": self.activation}
        return list(self.scale.shape), keywords | ({"bias": False} if self.bias is None else {})


class Embedding(Layer):
    """A learnt vector for each of `vocabulary` integers: row `x` of `weight`, which has shape `(vocabulary, size)`.

    Takes integers of any shape `(...)`, gives `(..., size)`. Boolean or one-hot input of shape `(..., vocabulary)`
    picks the same rows. An index out of range is an IndexError where its value is known; in compiled code it gives
    NaN.

    >>> import fluxion as fx
    >>> fx.Embedding(1000, 16)([[1, 2, 3]]).shape
    (1, 3, 16)
    """

    __trainable__ = ("weight",)

    def __init__(
        self, vocabulary: int, size: int, *, init: Callable[..., Any] = normal, rng: Generator | None = None
    ) -> None:
        self.weight = draw(init, (size_of(vocabulary, "Embedding"), size_of(size, "Embedding")), rng)

    def __call__(self, x: Any) -> Array:
        if not isinstance(x, OneHotArray):
            x = x if hasattr(x, "dtype") else input_array(self, x)
        if x.dtype == bool:
            x = features(self, x, self.weight.shape[0], "labels")
            return x @ self.weight
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise TypeError(f"{self.typed()} expects integers, got an array of {x.dtype}; write x.astype(int)")
        self._check_range(x)
        return jnp.asarray(self.weight).at[x].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)

    def _check_range(self, x: Any) -> None:
        if not is_concrete(x) or x.size == 0:
            return
        known, count = np.asarray(x), self.weight.shape[0]
        if known.min() < 0 or known.max() >= count:
            wrong = known.min() if known.min() < 0 else known.max()
            raise IndexError(f"{self.typed()} expects indices from 0 to {count - 1}, got {wrong}")

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return list(self.weight.shape), {}


class Dropout(Layer):
    """While training, sets each entry to zero with probability `p` and multiplies the others by `1 / (1 - p)`.

    Srivastava et al. 2014. While testing it returns its input. `axes` are the axes along which choices differ; along
    the other axes one choice counts for all, so that `axes=(0, -1)` drops whole channels of an image. `active` fixes
    the mode: True trains, False tests, None trains inside a gradient.

    >>> import fluxion as fx
    >>> fx.Dropout(0.5)([1.0, 2.0]).tolist()
    [1.0, 2.0]
    """

    __trainable__ = ()

    def __init__(
        self,
        p: float,
        *,
        axes: int | tuple[int, ...] | None = None,
        rng: Generator | None = None,
        active: Any = None,
    ) -> None:
        if isinstance(p, bool) or not isinstance(p, (int, float, np.number)) or not 0 <= p <= 1:
            raise ValueError(f"Dropout expects a probability 0 <= p <= 1, got {p!r}")
        self.p = float(p)
        self.axes = (axes,) if isinstance(axes, int) else axes
        self.rng = None if rng is None else generator(rng)
        self.active = active_of(active, "Dropout")

    def __call__(self, x: Any) -> Array:
        x = as_float(input_array(self, x))
        if not is_training(self.active):
            return x
        keep = 1 - jnp.asarray(self.p, jnp.float32)
        kept = generator(self.rng).bernoulli(keep, self._mask_shape(x))
        factor = (1 / jnp.where(keep > 0, keep, 1)).astype(x.dtype)  # 0 * inf would be NaN where everything is dropped
        return jnp.where(kept, x * factor, jnp.zeros_like(x))

    def _mask_shape(self, x: Array) -> tuple[int, ...]:
        if self.axes is None:
            return x.shape
        if any(not -x.ndim <= axis < x.ndim for axis in self.axes):
            raise SizeError(f"{self.typed()} expects an array that has these axes, got one of shape {x.shape}", self)
        axes = {axis % x.ndim for axis in self.axes}
        return tuple(size if axis in axes else 1 for axis, size in enumerate(x.shape))

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.p], changed(axes=(self.axes, None), active=(self.active, None))


__all__ = ["Dense", "Dropout", "Embedding", "Scale", "typed"]

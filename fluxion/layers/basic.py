"""Layers that multiply their input by weights: Dense, Scale and Bilinear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from fluxion.errors import SizeError
from fluxion.init import glorot_uniform, ones
from fluxion.layers.base import (
    Layer,
    activation_argument,
    add_bias,
    draw,
    features,
    function_of,
    input_array,
    make_bias,
    match_half,
    multiply,
    shape_of,
    size_of,
)
from fluxion.layers.lazy import last_axes
from fluxion.ops.activations import identity
from fluxion.ops.arrays import as_float, match_rank
from fluxion.random import Generator


class Dense(Layer):
    """Fully connected layer: `activation(x @ weight + bias)`.

    `weight` has shape `(inputs, outputs)` and `bias` shape `(outputs,)`. Takes `(..., inputs)`, gives `(...,
    outputs)`. `init` makes the weight; `bias` is True for zeros, False for none, or an array. With None for `inputs`
    the layer takes that size from its first input, or from `autosize`. A one-hot input costs a look-up of rows instead
    of a product. A half-precision layer converts its input to its own type; otherwise types follow JAX.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.Dense(10, 5, fx.relu)(jnp.ones((32, 10))).shape
    (32, 5)
    """

    __trainable__ = ("weight", "bias")
    __unsized__ = ("inputs",)

    def __init__(
        self,
        inputs: int | None,
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
        return self.activation(add_bias(multiply(x, self.weight), self.bias))

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [*self.weight.shape, *activation_argument(self.activation)], {"bias": False} if self.bias is None else {}


class Scale(Layer):
    """Multiplication by a learnt number per feature: `activation(scale * x + bias)`.

    `scale` and `bias` have shape `size`, the sizes of the last axes of the input; an input axis of size 1 is repeated.
    A half-precision layer converts its input to its own type.

    >>> import fluxion as fx
    >>> fx.Scale(2)([3.0, 4.0]).tolist()
    [3.0, 4.0]
    """

    __trainable__ = ("scale", "bias")
    __unsized__ = ("size",)

    def __init__(
        self,
        *size: int | None,
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

    @classmethod
    def from_arrays(cls, scale: Any, bias: Any = None, activation: Callable[..., Any] = identity) -> Scale:
        """A Scale that holds the given scale and bias, which have one shape; None for no bias.

        >>> import fluxion as fx
        >>> fx.Scale.from_arrays([2.0, 3.0], [1.0, 0.0])([1.0, 1.0]).tolist()
        [3.0, 3.0]
        """
        scale = as_float(scale)
        return cls(*scale.shape, activation=activation, bias=bias, init=lambda *shape: scale)

    def __call__(self, x: Any) -> Array:
        x = match_half(as_float(input_array(self, x)), self.scale)
        size = self.scale.shape
        ending = x.shape[-len(size) :]
        if len(ending) < len(size) or any(got not in (1, want) for got, want in zip(ending, size, strict=True)):
            raise SizeError(f"{self.typed()} expects last axes of sizes {size}, got an array of shape {x.shape}", self)
        return self.activation(add_bias(x * match_rank(self.scale, x), self.bias))

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        keywords = {} if self.activation is identity else {"activation": self.activation}
        return list(self.scale.shape), keywords | ({"bias": False} if self.bias is None else {})


class Bilinear(Layer):
    """A learnt product of two inputs: output `k` is `activation(x @ weight[:, :, k] @ y + bias[k])`.

    `Bilinear((in1, in2), out)` takes `(..., in1)` and `(..., in2)`, gives `(..., out)`; `weight` has shape `(in1, in2,
    out)` and `bias` shape `(out,)`. `Bilinear(in, out)` is `Bilinear((in, in), out)`. Called as `layer(x, y)` or
    `layer((x, y))`; `layer(x)` is `layer(x, x)`. `SizeError` where the inputs differ in their other axes.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.Bilinear((10, 7), 5, fx.tanh)(jnp.ones((32, 10)), jnp.ones((32, 7))).shape
    (32, 5)
    """

    __trainable__ = ("weight", "bias")
    __unsized__ = ("inputs",)

    def __init__(
        self,
        inputs: int | tuple[int | None, int | None] | None,
        outputs: int,
        activation: Callable[..., Any] = identity,
        *,
        bias: Any = True,
        init: Callable[..., Any] = glorot_uniform,
        rng: Generator | None = None,
    ) -> None:
        pair = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs, inputs)
        if len(pair) != 2:
            raise ValueError(f"Bilinear takes the sizes of two inputs, as Bilinear((10, 7), 5), got {inputs}")
        self.weight = draw(init, tuple(size_of(size, "Bilinear") for size in (*pair, outputs)), rng)
        self.bias = make_bias(bias, self.weight)
        self.activation = function_of(activation, "Bilinear")

    @classmethod
    def from_arrays(cls, weight: Any, bias: Any = None, activation: Callable[..., Any] = identity) -> Bilinear:
        """A Bilinear that holds the given weight `(in1, in2, out)` and bias `(out,)`, None for no bias.

        >>> import fluxion as fx
        >>> fx.Bilinear.from_arrays([[[2.0]]])([3.0], [5.0]).tolist()
        [30.0]
        """
        weight = as_float(weight)
        if weight.ndim != 3:
            raise ValueError(f"Bilinear takes a weight of shape (in1, in2, out), got an array of shape {weight.shape}")
        return cls(weight.shape[:2], weight.shape[2], activation, bias=bias, init=lambda *shape: weight)

    def __call__(self, x: Any, y: Any = None) -> Array:
        first, second = _two_inputs(x, y)
        first = match_half(features(self, first, self.weight.shape[0], "features of its first input"), self.weight)
        second = match_half(features(self, second, self.weight.shape[1], "features of its second input"), self.weight)
        if first.shape[:-1] != second.shape[:-1]:
            wanted = f"{self.typed()} expects inputs that agree in all axes but the last"
            raise SizeError(f"{wanted}, got arrays of shapes {first.shape} and {second.shape}", self)
        products = jnp.einsum("...i,ijk,...j->...k", as_float(first), self.weight, as_float(second))
        return self.activation(add_bias(products, self.bias))

    def sizes_from(self, sizes: Any, *inputs: Any) -> Any:
        both = [last_axes(None, shape_of(x)) for x in _two_inputs(*inputs)]
        pair = sizes or (None, None)
        return tuple(known or found for known, found in zip(pair, both, strict=True))

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        first, second, outputs = self.weight.shape
        inputs = first if first == second else (first, second)
        return [inputs, outputs, *activation_argument(self.activation)], {"bias": False} if self.bias is None else {}


def _two_inputs(x: Any, y: Any = None) -> tuple[Any, Any]:
    if isinstance(x, tuple) and y is None:
        if len(x) != 2:
            raise TypeError(f"Bilinear takes one or two inputs, got a tuple of {len(x)}")
        return x
    return x, x if y is None else y

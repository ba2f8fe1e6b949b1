"""Convolution layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax import Array

from fluxion.init import glorot_uniform
from fluxion.layers.base import (
    Layer,
    activation_argument,
    add_bias,
    call_op,
    changed,
    draw,
    function_of,
    input_array,
    make_bias,
    match_half,
    size_of,
)
from fluxion.ops.activations import identity
from fluxion.ops.arrays import as_float
from fluxion.ops.conv import check_groups, conv
from fluxion.ops.windows import parse_pad, per_axis, short_pad, short_tuple, window_sizes
from fluxion.random import Generator


class Conv(Layer):
    """Convolution over 1, 2 or 3 axes, as many as `kernel` has sizes: `activation(conv(x, weight) + bias)`.

    Takes `(batch, *sizes, inputs)`, gives `(batch, *new sizes, outputs)`; `weight` has shape `(*kernel, inputs //
    groups, outputs)` and `bias` shape `(outputs,)`. `stride`, `pad`, `dilation` and `groups` are those of `conv`,
    which is cross-correlation (Flux: `CrossCor`). A half-precision layer converts its input to its own type.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.Conv((3, 3), 3, 16, fx.relu, stride=2, pad=1)(jnp.ones((8, 32, 32, 3))).shape
    (8, 16, 16, 16)
    """

    __trainable__ = ("weight", "bias")

    def __init__(
        self,
        kernel: tuple[int, ...],
        inputs: int,
        outputs: int,
        activation: Callable[..., Any] = identity,
        *,
        stride: Any = 1,
        pad: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: Any = True,
        init: Callable[..., Any] = glorot_uniform,
        rng: Generator | None = None,
    ) -> None:
        kernel = window_sizes(kernel, "kernel")
        inputs, outputs = size_of(inputs, "Conv"), size_of(outputs, "Conv")
        check_groups("Conv", inputs, outputs, groups)
        self.weight = draw(init, (*kernel, inputs // groups, outputs), rng)
        self.bias = make_bias(bias, self.weight)
        self.activation = function_of(activation, "Conv")
        self.stride = per_axis(stride, len(kernel), "stride")
        self.pad = parse_pad(pad, len(kernel))
        self.dilation = per_axis(dilation, len(kernel), "dilation")
        self.groups = groups

    @classmethod
    def from_arrays(
        cls,
        weight: Any,
        bias: Any = None,
        activation: Callable[..., Any] = identity,
        *,
        groups: int = 1,
        **windows: Any,
    ) -> Conv:
        """A Conv that holds the given weight `(*kernel, inputs // groups, outputs)` and bias, None for no bias.

        >>> import fluxion as fx
        >>> import jax.numpy as jnp
        >>> fx.Conv.from_arrays(jnp.ones((2, 1, 1)), stride=2)(jnp.ones((1, 4, 1))).ravel().tolist()
        [2.0, 2.0]
        """
        weight = as_float(weight)
        *kernel, inputs, outputs = weight.shape if weight.ndim > 2 else (0, 0)
        windows |= {"groups": groups, "bias": bias, "init": lambda *shape: weight}
        return cls(tuple(kernel), inputs * groups, outputs, activation, **windows)

    def __call__(self, x: Any) -> Array:
        x = match_half(input_array(self, x), self.weight)
        windows = {"stride": self.stride, "pad": self.pad, "dilation": self.dilation, "groups": self.groups}
        y = call_op(self, conv, x, self.weight, **windows)
        return self.activation(add_bias(y, self.bias))

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        *kernel, inputs, outputs = self.weight.shape
        stride, dilation, pad = short_tuple(self.stride), short_tuple(self.dilation), short_pad(self.pad)
        keywords = changed(stride=(stride, 1), pad=(pad, 0), dilation=(dilation, 1), groups=(self.groups, 1))
        positional = [tuple(kernel), inputs * self.groups, outputs, *activation_argument(self.activation)]
        return positional, keywords | ({"bias": False} if self.bias is None else {})

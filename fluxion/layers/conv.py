"""Convolution layers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.init import fans, glorot_uniform
from fluxion.layers.base import (
    Layer,
    activation_argument,
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
from fluxion.ops.arrays import as_float, is_concrete
from fluxion.ops.conv import (
    check_groups,
    check_weight,
    conv,
    conv_transpose,
    depthwiseconv,
    flip_kernel,
    group_count,
)
from fluxion.ops.windows import parse_pad, per_axis, short_pad, short_tuple, window_sizes
from fluxion.random import Generator


class _Convolution(Layer):
    """What the convolution layers share. Each names its `op`, the options of that, and how its weight is laid out."""

    __trainable__ = ("weight", "bias")
    __unsized__ = ("inputs",)

    op: ClassVar[Callable[..., Array]]
    options: ClassVar[tuple[str, ...]] = ("stride", "pad", "dilation", "groups")
    layout: ClassVar[str] = "(*kernel, out // groups, in)"
    inputs_last: ClassVar[bool] = True

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
        name = type(self).__name__
        kernel, groups = window_sizes(kernel, "kernel"), group_count(groups)
        inputs, outputs = size_of(inputs, name), size_of(outputs, name)
        check_groups(name, inputs, outputs, groups)
        self.weight = _draw_groups(init, (*kernel, inputs // groups, outputs // groups), groups, self.inputs_last, rng)
        self.bias = make_bias(bias, self.weight, (outputs,))
        self.activation = function_of(activation, name)
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
        flipped: bool = False,
        **options: Any,
    ) -> Self:
        """A layer that holds the given weight, laid out as the layer says, and bias `(outputs,)`, None for no bias.

        `flipped=True` reverses the spatial axes of the weight first, as weights that come from Flux need.

        >>> import fluxion as fx
        >>> import jax.numpy as jnp
        >>> fx.Conv.from_arrays(jnp.ones((2, 1, 1)), stride=2)(jnp.ones((1, 4, 1))).ravel().tolist()
        [2.0, 2.0]
        """
        weight = check_weight(cls.__name__, as_float(weight), cls.layout)
        kernel, inputs, outputs = cls._sizes(weight, options.get("groups", 1))
        layer = cls(kernel, inputs, outputs, activation, bias=False, init=_unset, **options)
        layer.weight = flip_kernel(weight) if flipped else weight
        layer.bias = make_bias(bias, weight, (outputs,))
        return layer

    @classmethod
    def _sizes(cls, weight: Array, groups: Any) -> tuple[tuple[int, ...], int, int]:
        """Kernel, inputs and outputs of a layer with this weight."""
        *kernel, first, last = weight.shape
        grouped = first * group_count(groups)
        return (tuple(kernel), last, grouped) if cls.inputs_last else (tuple(kernel), grouped, last)

    @property
    def outputs(self) -> int:
        """How many output channels there are."""
        return self._sizes(self.weight, self.groups)[2]

    def __call__(self, x: Any) -> Array:
        return self.finished(x, None, self.bias, self.activation)

    def finished(self, x: Any, scale: Any, bias: Any, activation: Callable[..., Any], residual: Any = None) -> Array:
        """`activation(convolution * scale + bias + residual)`, with what the layer's `op` takes of these."""
        x = match_half(input_array(self, x), self.weight)
        given = {"scale": scale, "residual": residual}
        options = {name: getattr(self, name) for name in self.options}
        options |= {name: value for name, value in given.items() if value is not None}
        return call_op(self, type(self).op, x, self.weight, bias=bias, activation=activation, **options)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional = [*self._sizes(self.weight, self.groups), *activation_argument(self.activation)]
        keywords = changed(
            stride=(short_tuple(self.stride), 1),
            pad=(short_pad(self.pad), 0),
            dilation=(short_tuple(self.dilation), 1),
            groups=(self.groups, 1),
        )
        return positional, keywords | ({"bias": False} if self.bias is None else {})


class Conv(_Convolution):
    """Convolution over 1, 2 or 3 axes, as many as `kernel` has sizes: `activation(conv(x, weight) + bias)`.

    Takes `(batch, *sizes, inputs)`, gives `(batch, *new sizes, outputs)`; `weight` has shape `(*kernel, inputs //
    groups, outputs)` and `bias` shape `(outputs,)`. `stride`, `pad`, `dilation` and `groups` are those of `conv`,
    which is cross-correlation: `CrossCor` is another name of this layer, and `Conv.from_arrays(weight, flipped=True)`
    takes the weight of a Conv of Flux. `init` draws the weight of each group by itself, all at
    once where it takes `fans`. A half-precision layer
    converts its input to its own type.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.Conv((3, 3), 3, 16, fx.relu, stride=2, pad=1)(jnp.ones((8, 32, 32, 3))).shape
    (8, 16, 16, 16)
    """

    op = staticmethod(conv)
    layout = "(*kernel, inputs // groups, outputs)"
    inputs_last = False


CrossCor = Conv


class ConvTranspose(_Convolution):
    """Transposed convolution, which enlarges what Conv makes smaller: `activation(conv_transpose(x, weight) + bias)`.

    Takes `(batch, *sizes, inputs)`, gives `(batch, *new sizes, outputs)`; `weight` has shape `(*kernel, outputs //
    groups, inputs)` and `bias` shape `(outputs,)`. `stride`, `pad`, `outpad`, `dilation` and `groups` are those of
    `conv_transpose`; the rest is as in `Conv`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.ConvTranspose((3, 3), 16, 3, stride=2, pad="same")(jnp.ones((8, 16, 16, 16))).shape
    (8, 32, 32, 3)
    """

    op = staticmethod(conv_transpose)
    options = (*_Convolution.options, "outpad")
    layout = "(*kernel, outputs // groups, inputs)"

    def __init__(
        self,
        kernel: tuple[int, ...],
        inputs: int,
        outputs: int,
        activation: Callable[..., Any] = identity,
        *,
        outpad: Any = 0,
        **options: Any,
    ) -> None:
        super().__init__(kernel, inputs, outputs, activation, **options)
        self.outpad = per_axis(outpad, len(self.stride), "outpad", least=0)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, keywords = super().arguments()
        return positional, keywords | changed(outpad=(short_tuple(self.outpad), 0))


class DepthwiseConv(_Convolution):
    """Convolution of each channel by itself: `activation(depthwiseconv(x, weight) + bias)`.

    `outputs` is a multiple of `inputs`; `weight` has shape `(*kernel, outputs // inputs, inputs)` and `bias` shape
    `(outputs,)`. It computes what a Conv with `groups=inputs` does. `stride`, `pad` and `dilation` are those of `conv`;
    the rest is as in `Conv`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.DepthwiseConv((3, 3), 3, 6, pad=1)(jnp.ones((8, 32, 32, 3))).shape
    (8, 32, 32, 6)
    """

    op = staticmethod(depthwiseconv)
    options = ("stride", "pad", "dilation")
    layout = "(*kernel, outputs // inputs, inputs)"

    def __init__(
        self,
        kernel: tuple[int, ...],
        inputs: int,
        outputs: int,
        activation: Callable[..., Any] = identity,
        **options: Any,
    ) -> None:
        if size_of(outputs, "DepthwiseConv") % size_of(inputs, "DepthwiseConv"):
            raise ValueError(f"DepthwiseConv takes outputs that are a multiple of its {inputs} inputs, got {outputs}")
        super().__init__(kernel, inputs, outputs, activation, groups=inputs, **options)

    @classmethod
    def _sizes(cls, weight: Array, groups: Any) -> tuple[tuple[int, ...], int, int]:
        return super()._sizes(weight, weight.shape[-1])

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, keywords = super().arguments()
        return positional, {name: value for name, value in keywords.items() if name != "groups"}


def _draw_groups(
    init: Callable[..., Any], shape: tuple[int, ...], groups: int, inputs_last: bool, rng: Generator | None
) -> Array:
    """The weights `(*kernel, in, out)` that `init` draws for each group, side by side.

    Each group is a convolution of its own, whose numbers of inputs and outputs are what `init` has to know. Where it
    takes them as `fans`, one draw serves all groups.
    """
    if _takes_fans(init):
        *kernel, inputs, outputs = shape
        last_axes = (outputs, groups * inputs) if inputs_last else (inputs, groups * outputs)
        return draw(functools.partial(init, fans=fans(*shape)), (*kernel, *last_axes), rng)
    drawn = [draw(init, shape, rng) for _ in range(groups)]
    numerical = np if is_concrete(*drawn) else jnp  # NumPy compiles nothing
    parts = [numerical.swapaxes(part, -1, -2) for part in drawn] if inputs_last else drawn
    return jnp.asarray(numerical.concatenate(parts, axis=-1))


def _takes_fans(init: Callable[..., Any]) -> bool:
    """True for an initialiser that takes `fans`, and has not been given any."""
    try:
        parameter = inspect.signature(init).parameters.get("fans")
    except (TypeError, ValueError):  # some functions written in C have no signature
        return False
    return parameter is not None and parameter.default is None


def _unset(*shape: int, fans: Any = None) -> np.ndarray:
    return np.zeros(shape, np.float32)

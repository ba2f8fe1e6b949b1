"""Convolution, and the transposed and the depthwise one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from fluxion.errors import SizeError
from fluxion.kernels.convolution import Convolution, convolution, input_gradient
from fluxion.kernels.fused import finished_convolution
from fluxion.kernels.xla import exchange_channels, flip_kernel
from fluxion.ops.activations import identity
from fluxion.ops.arrays import match_rank
from fluxion.ops.fused import fused_name
from fluxion.ops.windows import (
    Windows,
    check_axes,
    check_positions,
    fitting_windows,
    is_integer,
    parse_pad,
    per_axis,
    window_sizes,
    window_spans,
)


def conv(
    x: Any,
    w: Any,
    *,
    stride: Any = 1,
    pad: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    flipped: bool = False,
    scale: Any = None,
    bias: Any = None,
    activation: Callable[..., Any] = identity,
    residual: Any = None,
) -> Array:
    """Convolution of `x` of shape `(batch, *sizes, in)` with `w` of shape `(*kernel, in // groups, out)`.

    In one dimension `y[n, i, o] = sum over k, c of x[n, i * stride + k * dilation - low, c] * w[k, c, o]`, zeros
    outside `x`. That is cross-correlation, as in every Python framework; `flipped=True` flips the kernel first, which
    is convolution in the sense of mathematics and of Flux. There are 1 to 3 spatial axes, as many as `kernel` has,
    and each comes out with `(size + low + high - dilation * (kernel - 1) - 1) // stride + 1` positions.

    `stride` and `dilation` take an int or one int for each spatial axis. `pad` takes an int, one int for each axis, one
    pair `(low, high)` for each axis, all lows and highs in one tuple, or "same" for `ceil(size / stride)` positions.
    `groups` splits the channels into that many independent convolutions.

    The result is `activation(y * scale + bias + residual)`, with `scale` and `bias` of shape `(out,)` and a `residual`
    that broadcasts against it, None for none: all in one pass over memory where a generated kernel computes it, the
    activation is relu or relu6 and the residual has the result's shape.

    SizeError where `x` does not suit `w`, ValueError where another argument makes no sense.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.conv(jnp.ones((1, 28, 28, 3)), jnp.ones((5, 5, 3, 8)), stride=2, pad=2).shape
    (1, 14, 14, 8)
    """
    w = check_weight("conv", w, "(*kernel, in // groups, out)")
    finish = _Finish(scale, bias, residual, activation)
    return _convolve("conv", jnp.asarray(x), flip_kernel(w) if flipped else w, stride, pad, dilation, groups, finish)


def conv_transpose(
    x: Any,
    w: Any,
    *,
    stride: Any = 1,
    pad: Any = 0,
    outpad: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    bias: Any = None,
    activation: Callable[..., Any] = identity,
) -> Array:
    """Transposed convolution: the gradient of `conv` with respect to its input, for the same arguments and weight.

    Takes `x` of shape `(batch, *sizes, in)` and `w` of shape `(*kernel, out // groups, in)`. In one dimension `x[n, i,
    c] * w[k, o, c]` is added to `y[n, i * stride + k * dilation - low, o]`, and what falls outside is left out. Each
    spatial axis comes out with `(size - 1) * stride + dilation * (kernel - 1) + 1 - low - high + outpad` positions:
    `outpad` adds positions at the high end, so that any of the sizes which `conv` maps to `size` can be had.
    `pad="same"` gives `size * stride` positions. The other arguments and errors are those of `conv`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.conv_transpose(jnp.ones((1, 14, 14, 8)), jnp.ones((5, 5, 3, 8)), stride=2, pad=2, outpad=1).shape
    (1, 28, 28, 3)
    """
    name, x, w = "conv_transpose", jnp.asarray(x), check_weight("conv_transpose", w, "(*kernel, out // groups, in)")
    spatial, groups = w.ndim - 2, group_count(groups)
    check_axes(name, x, spatial)
    check_groups(name, w.shape[-1], w.shape[-2] * groups, groups)
    _check_channels(name, x, w.shape[-1])
    strides, dilations = per_axis(stride, spatial, "stride"), per_axis(dilation, spatial, "dilation")
    spans = window_spans(w.shape[:-2], dilations)
    crops = _transposed_crops(pad, per_axis(outpad, spatial, "outpad", least=0), spans, strides)
    needed = tuple(
        max(-(-(1 - span + low + high) // step) + 1, 1)
        for span, (low, high), step in zip(spans, crops, strides, strict=True)
    )
    check_positions(name, x, needed, "pad")
    axes = zip(x.shape[1:-1], strides, spans, crops, strict=True)
    sizes = tuple((size - 1) * step + span - sum(crop) for size, step, span, crop in axes)
    geometry = _geometry(x.shape[0], sizes, w, Windows(w.shape[:-2], strides, crops, dilations), groups)
    finish = _Finish(None, bias, None, activation).checked(name, geometry.inputs)
    return finish.after(input_gradient(*_common_type(x, w), geometry))


def depthwiseconv(
    x: Any,
    w: Any,
    *,
    stride: Any = 1,
    pad: Any = 0,
    dilation: Any = 1,
    scale: Any = None,
    bias: Any = None,
    activation: Callable[..., Any] = identity,
    residual: Any = None,
) -> Array:
    """Convolution of each channel by itself, with `w` of shape `(*kernel, multiplier, in)`.

    Takes `in` channels and gives `in * multiplier`: channel `c * multiplier + m` is `conv` of input channel `c` with
    `w[..., m, c]`. The other arguments and errors are those of `conv`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.depthwiseconv(jnp.ones((1, 28, 28, 3)), jnp.ones((5, 5, 2, 3)), pad="same").shape
    (1, 28, 28, 6)
    """
    w = check_weight("depthwiseconv", w, "(*kernel, multiplier, in)")
    groups = group_count(w.shape[-1])
    x, w, finish = jnp.asarray(x), exchange_channels(w, groups), _Finish(scale, bias, residual, activation)
    return _convolve("depthwiseconv", x, w, stride, pad, dilation, groups, finish)


def check_weight(name: str, w: Any, layout: str) -> Array:
    """`w` as an array; one that has not 1 to 3 spatial axes of at least one position is a ValueError."""
    w = jnp.asarray(w)
    if not 3 <= w.ndim <= 5:
        raise ValueError(f"{name} takes a weight {layout} of 3 to 5 axes, got shape {w.shape}")
    window_sizes(w.shape[:-2], f"the kernel of {name}")
    return w


def group_count(groups: Any) -> int:
    """`groups` as an int; anything but a positive integer is a ValueError."""
    if not is_integer(groups) or groups < 1:
        raise ValueError(f"groups takes an int of at least 1, got {groups!r}")
    return int(groups)


def check_groups(name: str, inputs: int, outputs: int, groups: int) -> None:
    """Raises a ValueError unless `groups` divides both channel counts."""
    if inputs % groups or outputs % groups:
        raise ValueError(f"{name} has {inputs} input and {outputs} output channels; groups={groups} must divide both")


class _Finish(NamedTuple):
    """What becomes of a convolution: `activation(y * scale + bias + residual)`."""

    scale: Any
    bias: Any
    residual: Any
    activation: Callable[..., Any]

    def checked(self, name: str, outputs: int) -> _Finish:
        """The same with arrays; SizeError unless scale and bias have one number for each output channel."""
        given = {"scale": self.scale, "bias": self.bias}
        arrays: dict[str, Any] = {key: jnp.asarray(value) for key, value in given.items() if value is not None}
        for key, array in arrays.items():
            if array.shape != (outputs,):
                raise SizeError(f"{name} expects {key} of shape ({outputs},), got an array of shape {array.shape}")
        if self.residual is not None:
            arrays["residual"] = jnp.asarray(self.residual)
        return self._replace(**arrays)

    def of(self, x: Array, w: Array, geometry: Convolution) -> Array:
        """The finished convolution of two arrays of one type."""
        given = {"scale": self.scale, "bias": self.bias, "residual": self.residual}
        alike = all(value.dtype == x.dtype for value in given.values() if value is not None)
        fits = self.residual is None or self.residual.shape == geometry.y_shape
        if not (alike and fits and jnp.issubdtype(x.dtype, jnp.floating)):
            return self.after(convolution(x, w, geometry))
        name = fused_name(self.activation)
        y = finished_convolution(x, w, geometry, **given, activation=name or "identity")
        return y if name else self.activation(y)

    def after(self, y: Array) -> Array:
        """The same from what was stored."""
        if self.scale is not None:
            y = y * match_rank(self.scale, y)
        for term in (self.bias, self.residual):
            y = y if term is None else y + match_rank(term, y)
        return self.activation(y)


def _convolve(
    name: str, x: Array, w: Array, stride: Any, pad: Any, dilation: Any, groups: Any, finish: _Finish
) -> Array:
    groups = group_count(groups)
    channels = w.shape[-2] * groups
    check_axes(name, x, w.ndim - 2)
    check_groups(name, channels, w.shape[-1], groups)
    _check_channels(name, x, channels)
    windows = fitting_windows(name, x, w.shape[:-2], stride, pad, dilation)
    finish = finish.checked(name, w.shape[-1])
    return finish.of(*_common_type(x, w), _geometry(x.shape[0], x.shape[1:-1], w, windows, groups))


def _geometry(batch: int, sizes: tuple[int, ...], w: Array, windows: Windows, groups: int) -> Convolution:
    """`conv` of an input of these sizes with `w`."""
    kernel, strides, pads, dilations = windows
    return Convolution(batch, sizes, w.shape[-2] * groups, kernel, w.shape[-1], strides, pads, dilations, groups)


def _common_type(x: Array, w: Array) -> tuple[Array, Array]:
    """Both arrays in the float type that they have in common."""
    dtype = jnp.result_type(x.dtype, w.dtype, float)
    return x.astype(dtype), w.astype(dtype)


def _transposed_crops(
    pad: Any, outpads: tuple[int, ...], spans: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """How many positions `conv_transpose` leaves out at both ends of each axis; a negative number adds some."""
    pads = parse_pad(pad, len(spans))
    if pads == "same":
        pads = tuple(_same_crop(span - stride) for span, stride in zip(spans, strides, strict=True))
    return tuple((low, high - extra) for (low, high), extra in zip(pads, outpads, strict=True))


def _same_crop(total: int) -> tuple[int, int]:
    """What `conv` with pad="same" adds to the sizes that its stride divides."""
    low = max(total, 0) // 2
    return low, total - low


def _check_channels(name: str, x: Array, channels: int) -> None:
    if x.shape[-1] != channels:
        hint = "; channels come last: write jnp.moveaxis(x, 1, -1)" if x.shape[1] == channels else ""
        raise SizeError(f"{name} expects {channels} input channels (last axis), got an array of shape {x.shape}{hint}")

"""Convolution, and the transposed and the depthwise one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fluxion.errors import SizeError
from fluxion.ops.windows import (
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
    x: Any, w: Any, *, stride: Any = 1, pad: Any = 0, dilation: Any = 1, groups: int = 1, flipped: bool = False
) -> Array:
    """Convolution of `x` of shape `(batch, *sizes, in)` with `w` of shape `(*kernel, in // groups, out)`.

    In one dimension `y[n, i, o] = sum over k, c of x[n, i * stride + k * dilation - low, c] * w[k, c, o]`, zeros
    outside `x`. That is cross-correlation, as in every Python framework; `flipped=True` flips the kernel first, which
    is convolution in the sense of mathematics and of Flux. There are 1 to 3 spatial axes, as many as `kernel` has,
    and each comes out with `(size + low + high - dilation * (kernel - 1) - 1) // stride + 1` positions.

    `stride` and `dilation` take an int or one int for each spatial axis. `pad` takes an int, one int for each axis, one
    pair `(low, high)` for each axis, all lows and highs in one tuple, or "same" for `ceil(size / stride)` positions.
    `groups` splits the channels into that many independent convolutions.

    SizeError where `x` does not suit `w`, ValueError where another argument makes no sense.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.conv(jnp.ones((1, 28, 28, 3)), jnp.ones((5, 5, 3, 8)), stride=2, pad=2).shape
    (1, 14, 14, 8)
    """
    w = check_weight("conv", w, "(*kernel, in // groups, out)")
    return _convolve("conv", jnp.asarray(x), flip_kernel(w) if flipped else w, stride, pad, dilation, groups)


def conv_transpose(
    x: Any, w: Any, *, stride: Any = 1, pad: Any = 0, outpad: Any = 0, dilation: Any = 1, groups: int = 1
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
    return _dilated(
        x,
        exchange_channels(flip_kernel(w), groups),
        window_strides=(1,) * spatial,
        padding=tuple((span - 1 - low, span - 1 - high) for span, (low, high) in zip(spans, crops, strict=True)),
        lhs_dilation=strides,
        rhs_dilation=dilations,
        feature_group_count=groups,
    )


def depthwiseconv(x: Any, w: Any, *, stride: Any = 1, pad: Any = 0, dilation: Any = 1) -> Array:
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
    return _convolve("depthwiseconv", jnp.asarray(x), exchange_channels(w, groups), stride, pad, dilation, groups)


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


def flip_kernel(w: Array) -> Array:
    """`w` with its spatial axes in reverse order."""
    return jnp.flip(w, tuple(range(w.ndim - 2)))


def exchange_channels(w: Array, groups: int) -> Array:
    """A weight `(*kernel, out // groups, in)` in the layout `(*kernel, in // groups, out)` of `conv`."""
    *kernel, outputs, inputs = w.shape
    grouped = w.reshape(*kernel, outputs, groups, inputs // groups)
    return jnp.swapaxes(grouped, -3, -1).reshape(*kernel, inputs // groups, groups * outputs)


def _convolve(name: str, x: Array, w: Array, stride: Any, pad: Any, dilation: Any, groups: Any) -> Array:
    groups = group_count(groups)
    channels = w.shape[-2] * groups
    check_axes(name, x, w.ndim - 2)
    check_groups(name, channels, w.shape[-1], groups)
    _check_channels(name, x, channels)
    windows = fitting_windows(name, x, w.shape[:-2], stride, pad, dilation)
    return _dilated(
        x,
        w,
        window_strides=windows.strides,
        padding=windows.pads,
        rhs_dilation=windows.dilations,
        feature_group_count=groups,
    )


def _dilated(x: Array, w: Array, **windows: Any) -> Array:
    """XLA's convolution in our layout, in the float type that the two arrays have in common."""
    dtype = jnp.result_type(x.dtype, w.dtype, float)
    last = x.ndim - 1
    outer, kernel = (0, last, *range(1, last)), (last, last - 1, *range(last - 1))
    layout = jax.lax.ConvDimensionNumbers(outer, kernel, outer)
    return jax.lax.conv_general_dilated(x.astype(dtype), w.astype(dtype), dimension_numbers=layout, **windows)


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

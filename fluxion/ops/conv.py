"""Convolution."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fluxion.errors import SizeError
from fluxion.ops.windows import check_axes, parse_pad, per_axis, resolve_pads


def conv(x: Any, w: Any, *, stride: Any = 1, pad: Any = 0, dilation: Any = 1, groups: int = 1) -> Array:
    """Convolution of `x` of shape `(batch, *sizes, in)` with `w` of shape `(*kernel, in // groups, out)`.

    In one dimension `y[n, i, o] = sum over k, c of x[n, i * stride + k * dilation - low, c] * w[k, c, o]`, zeros
    outside `x`. That is cross-correlation: the kernel is not flipped (Flux's `conv` flips it, its `CrossCor` does
    not). There are 1 to 3 spatial axes, as many as `kernel` has, and each comes out with `(size + low + high -
    dilation * (kernel - 1) - 1) // stride + 1` positions.

    `stride` and `dilation` take an int or one int for each spatial axis. `pad` takes an int, one int for each axis, one
    pair `(low, high)` for each axis, all lows and highs in one tuple, or "same" for `ceil(size / stride)` positions.
    `groups` splits the channels into that many independent convolutions.

    SizeError where `x` does not suit `w`, ValueError where another argument makes no sense.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.conv(jnp.ones((1, 28, 28, 3)), jnp.ones((5, 5, 3, 8)), stride=2, pad=2).shape
    (1, 14, 14, 8)
    """
    x, w = jnp.asarray(x), jnp.asarray(w)
    spatial = w.ndim - 2
    if not 1 <= spatial <= 3:
        raise ValueError(f"conv takes a weight (*kernel, in // groups, out) of 3 to 5 axes, got shape {w.shape}")
    check_axes("conv", x, spatial)
    check_groups("conv", w.shape[-2] * groups, w.shape[-1], groups)
    _check_channels(x, w.shape[-2] * groups)
    strides, dilations = per_axis(stride, spatial, "stride"), per_axis(dilation, spatial, "dilation")
    pads = resolve_pads("conv", x, w.shape[:-2], strides, parse_pad(pad, spatial), dilations)
    dtype = jnp.result_type(x.dtype, w.dtype, float)
    axes = tuple(range(1, spatial + 1))
    layout = jax.lax.ConvDimensionNumbers(
        (0, spatial + 1, *axes), (spatial + 1, spatial, *range(spatial)), (0, spatial + 1, *axes)
    )
    return jax.lax.conv_general_dilated(
        x.astype(dtype),
        w.astype(dtype),
        window_strides=strides,
        padding=pads,
        rhs_dilation=dilations,
        dimension_numbers=layout,
        feature_group_count=groups,
    )


def check_groups(name: str, inputs: int, outputs: int, groups: Any) -> None:
    """Raises a ValueError unless `groups` divides both channel counts."""
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ValueError(f"groups takes an int of at least 1, got {groups!r}")
    if inputs % groups or outputs % groups:
        raise ValueError(f"{name} has {inputs} input and {outputs} output channels; groups={groups} must divide both")


def _check_channels(x: Array, channels: int) -> None:
    if x.shape[-1] != channels:
        hint = "; channels come last: write jnp.moveaxis(x, 1, -1)" if x.shape[1] == channels else ""
        raise SizeError(f"conv expects {channels} input channels (last axis), got an array of shape {x.shape}{hint}")

"""Convolution and its two gradients as XLA's own operation: on every device but the CPU, and wherever no kernel is
faster.

XLA's convolution strides, pads and dilates both of its operands, which is enough to write all three with it. With span
`(kernel - 1) * dilation + 1`:

    y   slides w over x,              steps of `stride`,   taps `dilation` apart
    dx  slides w, reversed, over dy,  steps of 1,          taps `dilation` apart, dy spread out by `stride`
    dw  slides dy over x,             steps of `dilation`, taps `stride` apart,   the batch takes the channels' place
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import ConvDimensionNumbers

from fluxion.kernels.geometry import Convolution, Direction


def convolve(
    left: Array, right: Array, *, direction: Direction, geometry: Convolution, precision: str | None = None
) -> Array:
    """The result of `direction`, from its two operands."""
    shape = geometry.result_shape(direction)
    if any(0 in array for array in (left.shape, right.shape, shape)):
        return jnp.zeros(shape, left.dtype)
    return _DIRECTIONS[direction](left, right, geometry, precision)


def _output(x: Array, w: Array, geometry: Convolution, precision: str | None) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        w,
        window_strides=geometry.stride,
        padding=geometry.pads,
        rhs_dilation=geometry.dilation,
        dimension_numbers=_channels_last(x.ndim),
        feature_group_count=geometry.groups,
        precision=precision,
    )


def _input_gradient(dy: Array, w: Array, geometry: Convolution, precision: str | None) -> Array:
    return jax.lax.conv_general_dilated(
        dy,
        exchange_channels(flip_kernel(w), geometry.groups),
        window_strides=(1,) * len(geometry.kernel),
        padding=_input_pads(geometry),
        lhs_dilation=geometry.stride,
        rhs_dilation=geometry.dilation,
        dimension_numbers=_channels_last(dy.ndim),
        feature_group_count=geometry.groups,
        precision=precision,
    )


def _weight_gradient(x: Array, dy: Array, geometry: Convolution, precision: str | None) -> Array:
    last = x.ndim - 1
    by_channel, by_batch = (last, 0, *range(1, last)), (last, 0, *range(1, last))
    return jax.lax.conv_general_dilated(
        x,
        dy,
        window_strides=geometry.dilation,
        padding=_weight_pads(geometry),
        rhs_dilation=geometry.stride,
        dimension_numbers=ConvDimensionNumbers(by_channel, by_batch, (last - 1, last, *range(last - 1))),
        batch_group_count=geometry.groups,
        precision=precision,
    )


_DIRECTIONS = {
    Direction.FORWARD: _output,
    Direction.INPUT_GRADIENT: _input_gradient,
    Direction.WEIGHT_GRADIENT: _weight_gradient,
}


def _input_pads(geometry: Convolution) -> list[tuple[int, int]]:
    """Pads of the spread `dy` with which `size` windows fit on it."""
    axes = zip(geometry.sizes, geometry.spans, geometry.pads, _spreads(geometry), strict=True)
    return [(span - 1 - low, size - spread + low) for size, span, (low, _), spread in axes]


def _weight_pads(geometry: Convolution) -> list[tuple[int, int]]:
    """Pads of `x` with which `kernel` windows, each as long as the spread `dy`, fit on it."""
    axes = zip(geometry.sizes, geometry.spans, geometry.pads, _spreads(geometry), strict=True)
    return [(low, span - 1 + spread - size - low) for size, span, (low, _), spread in axes]


def _spreads(geometry: Convolution) -> list[int]:
    """Sizes of `dy` with `stride - 1` zeros between its positions."""
    return [(count - 1) * step + 1 for count, step in zip(geometry.out_sizes, geometry.stride, strict=True)]


def flip_kernel(w: Array) -> Array:
    """`w` with its spatial axes in reverse order."""
    return jnp.flip(w, tuple(range(w.ndim - 2)))


def exchange_channels(w: Array, groups: int) -> Array:
    """A weight `(*kernel, out // groups, in)` in the layout `(*kernel, in // groups, out)` of `conv`."""
    *kernel, outputs, inputs = w.shape
    grouped = w.reshape(*kernel, outputs, groups, inputs // groups)
    return jnp.swapaxes(grouped, -3, -1).reshape(*kernel, inputs // groups, groups * outputs)


def _channels_last(axes: int) -> ConvDimensionNumbers:
    last = axes - 1
    outer, kernel = (0, last, *range(1, last)), (last, last - 1, *range(last - 1))
    return ConvDimensionNumbers(outer, kernel, outer)

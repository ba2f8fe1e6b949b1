"""Layers of a Chain that are computed together, in one pass over memory instead of several.

A convolution followed by an activation function, or, while testing, by a BatchNorm, finishes its sums with them before
it stores them: BatchNorm with fixed statistics is a scale and a shift for each channel,

    scale (y + b - mean) / sqrt(var + eps) + bias  =  y * factor + (b - mean) * factor + bias.

The Chain finds these rows by itself. What it computes is the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fluxion.layers.base import is_watched
from fluxion.layers.conv import Conv, DepthwiseConv
from fluxion.layers.norm import BatchNorm
from fluxion.mode import inside_gradient, is_training
from fluxion.ops.activations import identity
from fluxion.ops.fused import fused_name

LONGEST = 3  # layers in a row that are computed together


def fused(layers: Sequence[Any]) -> tuple[Callable[[Any], Any], int]:
    """What does the work of the first layers at once, and of how many; the first layer itself where there is no more.

    Only layers of exactly the classes that are known here are taken together: a subclass may do something else.
    """
    first: Any = layers[0]
    following = layers[1:]
    after = _KNOWN.get(first.__class__)
    if not following or is_watched() or after is None or first.activation is not identity:
        return first, 1
    second = following[0]
    if _is_activation(second):
        return after(first, second), 2
    if after is _after_norm or type(second) is not BatchNorm or not _is_fixed(first, second):
        return first, 1
    activation, count = second.activation, 2
    if activation is identity and _is_activation(following[-1]):
        activation, count = following[-1], 3
    return lambda x: first.finished(x, *_scale_and_shift(first, second), activation), count


def _after_conv(conv: Any, activation: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda x: conv.finished(x, None, conv.bias, activation)


def _after_norm(norm: Any, activation: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda x: norm.finished(x, activation)


_KNOWN: dict[Any, Callable[..., Any]] = {Conv: _after_conv, DepthwiseConv: _after_conv, BatchNorm: _after_norm}


def _is_activation(layer: Any) -> bool:
    return layer is not identity and fused_name(layer) is not None


def _is_fixed(conv: Any, norm: BatchNorm) -> bool:
    """True where the norm is one fixed scale and shift of what the convolution gives."""
    if inside_gradient() or is_training(norm.active) or norm.mean is None or norm.var is None:
        return False
    arrays = [a for a in (conv.weight, conv.bias, norm.mean, norm.var, norm.scale, norm.bias) if a is not None]
    return all(array.dtype == jnp.float32 for array in arrays) and norm.mean.shape == (conv.outputs,)


def _scale_and_shift(conv: Any, norm: Any) -> tuple[Any, Any]:
    factor = jax.lax.rsqrt(norm.var + norm.eps)
    factor = factor if norm.scale is None else factor * norm.scale
    shift = -norm.mean if conv.bias is None else conv.bias - norm.mean
    return factor, shift * factor if norm.bias is None else shift * factor + norm.bias

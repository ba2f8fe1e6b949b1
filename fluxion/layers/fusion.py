"""Layers that are computed together, in one pass over memory instead of several.

A convolution or a BatchNorm can take what follows it into its last pass: an activation function, and the sum with what
comes round it in a residual block,

    activation(layer(x) + residual).

While testing, a BatchNorm behind a convolution is a scale and a shift for each channel, which the convolution takes as
well:

    scale (y + b - mean) / sqrt(var + eps) + bias  =  y * factor + (b - mean) * factor + bias.

Containers find such rows by themselves. What they compute is the same up to rounding.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.layers.base import is_watched
from fluxion.layers.conv import Conv, DepthwiseConv
from fluxion.layers.norm import BatchNorm
from fluxion.mode import inside_gradient, is_training
from fluxion.ops.activations import identity
from fluxion.ops.fused import fused_name

LONGEST = 3  # layers in a row that are computed together
_ADDITIONS = (operator.add, jnp.add)

Function: TypeAlias = "Callable[..., Any]"
_Class = TypeVar("_Class", bound=type)


@dataclass(frozen=True)
class LastPass:
    """A layer or some in a row, whose last pass over memory can do more.

    They compute `finished(x, activation, None)`; `finished(x, f, residual)` is what they give with `f` for their
    activation and `residual` added before it.
    """

    activation: Function
    finished: Callable[[Any, Function, Any], Any]

    def __call__(self, x: Any) -> Any:
        return self.finished(x, self.activation, None)


_FINDERS: dict[type, Callable[[Any], LastPass | None]] = {}


def finds_last_pass(of: type) -> Callable[[Callable[[Any], LastPass | None]], Any]:
    """Decorates a function that returns the last pass of a layer of exactly this class, or None.

    A subclass may do something else.
    """

    def register(finder: Callable[[Any], LastPass | None]) -> Any:
        _FINDERS[of] = finder
        return finder

    return register


def last_pass(layer: Any) -> LastPass | None:
    """The last pass of a layer, or None where it has none that can do more, or is to be called part by part."""
    finder = _FINDERS.get(type(layer))
    return finder(layer) if finder and not is_watched() else None


def sum_pass(layer: Any, connection: Function, *, second: bool = False) -> LastPass | None:
    """The last pass of a layer that can take in the sum which `connection` is; None where there is no such thing.

    The layer's output is the first operand of the sum, or the second.
    """
    found = last_pass(layer) if any(connection is addition for addition in _ADDITIONS) else None
    if found is None or found.activation is not identity:
        return None

    def finished(x: Any, activation: Function, residual: Any) -> Any:
        if isinstance(residual, (jax.Array, np.ndarray)):
            return found.finished(x, activation, residual)
        terms = (residual, found(x)) if second else (found(x), residual)
        return activation(connection(*terms))  # whatever that means, or the error that it is

    return LastPass(identity, finished)


def fused(layers: Sequence[Any]) -> tuple[Function, int]:
    """What does the work of the first layers at once, and of how many; or the first layer itself."""
    first, following = layers[0], layers[1:]
    found, count = last_pass(first), 1
    if found is None:
        return first, 1
    if found.activation is identity and following and _is_fixed_norm(following[0], after=first):
        found, count = _normalised(first, following[0]), 2
    if found.activation is identity and len(layers) > count and _is_activation(layers[count]):
        found, count = replace(found, activation=layers[count]), count + 1
    return found, count


@finds_last_pass(Conv)
@finds_last_pass(DepthwiseConv)
def _of_convolution(conv: Any) -> LastPass:
    return LastPass(conv.activation, lambda x, *finish: conv.finished(x, None, conv.bias, *finish))


@finds_last_pass(BatchNorm)
def _of_norm(norm: Any) -> LastPass:
    return LastPass(norm.activation, norm.finished)


def _is_activation(layer: Any) -> bool:
    return layer is not identity and fused_name(layer) is not None


def _is_fixed_norm(norm: Any, after: Any) -> bool:
    """True for a norm that is one fixed scale and shift of what the convolution before it gives."""
    if type(norm) is not BatchNorm or type(after) not in (Conv, DepthwiseConv):
        return False
    if inside_gradient() or is_training(norm.active) or norm.mean is None or norm.var is None:
        return False
    channels = [a for a in (after.bias, norm.mean, norm.var, norm.scale, norm.bias) if a is not None]
    arrays = [after.weight, *channels]
    if not all(isinstance(array, jax.Array) and array.dtype == jnp.float32 for array in arrays):
        return False
    return all(array.shape == (after.outputs,) for array in channels)


def _normalised(conv: Any, norm: Any) -> LastPass:
    """A convolution and the fixed norm behind it."""

    def finished(x: Any, activation: Function, residual: Any) -> Any:
        factor = jax.lax.rsqrt(norm.var + norm.eps)
        factor = factor if norm.scale is None else factor * norm.scale
        shift = -norm.mean if conv.bias is None else conv.bias - norm.mean
        shift = shift * factor if norm.bias is None else shift * factor + norm.bias
        return conv.finished(x, factor, shift, activation, residual)

    return LastPass(norm.activation, finished)

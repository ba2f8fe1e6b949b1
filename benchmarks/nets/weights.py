"""Copies weights of PyTorch's networks into ours, whose layers come in the same order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from torch import Tensor, nn

import fluxion as fx

Read = Callable[[Tensor], Tensor | None]
Arrays = dict[str, np.ndarray]


def convolution(layer: Any, read: Read) -> Arrays:
    """From `(out, in // groups, *kernel)`, or transposed from `(in, out // groups, *kernel)`, to kernel first."""
    return {"weight": array(read(layer.weight)).transpose(2, 3, 1, 0), **bias(layer, read)}


def dense(layer: nn.Linear, read: Read) -> Arrays:
    """From `(out, in)` to `(in, out)`."""
    return {"weight": array(read(layer.weight)).T, **bias(layer, read)}


def bias(layer: Any, read: Read) -> Arrays:
    """The bias, where there is one."""
    return {} if layer.bias is None else {"bias": array(read(layer.bias))}


def batch_norm(layer: nn.BatchNorm2d, read: Read) -> Arrays:
    """Scale and bias, and the running statistics, which have no gradient."""
    return {
        "scale": array(read(layer.weight)),
        "bias": array(read(layer.bias)),
        "mean": array(layer.running_mean),
        "var": array(layer.running_var),
    }


def lstm(layer: nn.LSTM, read: Read) -> Arrays:
    """The gates are in the same order. PyTorch has a second bias, with the same gradient; it is set to zero."""
    nn.init.zeros_(layer.bias_hh_l0)
    return {
        "input_weight": array(read(layer.weight_ih_l0)).T,
        "recurrent_weight": array(read(layer.weight_hh_l0)).T,
        "bias": array(read(layer.bias_ih_l0)),
    }


KINDS: dict[type, tuple[tuple[type, ...], Callable[[Any, Read], Arrays]]] = {
    nn.Conv2d: ((fx.Conv, fx.DepthwiseConv), convolution),
    nn.ConvTranspose2d: ((fx.ConvTranspose,), convolution),
    nn.Linear: ((fx.Dense,), dense),
    nn.BatchNorm2d: ((fx.BatchNorm,), batch_norm),
    nn.LSTM: ((fx.LSTMCell,), lstm),
}


def array(tensor: Tensor | None) -> np.ndarray:
    """A copy, contiguous."""
    assert tensor is not None
    return tensor.detach().numpy().copy()


def pairs(model: Any, module: nn.Module, read: Read) -> Iterator[tuple[Any, Arrays]]:
    """Each layer of `model` that has weights, and what `read` finds in PyTorch's parameters, in the layout of ours."""
    known = tuple(kind for kinds, _ in KINDS.values() for kind in kinds)
    layers = [layer for layer in fx.modules(model) if isinstance(layer, known)]
    modules = [layer for layer in module.modules() if type(layer) in KINDS]
    for layer, other in zip(layers, modules, strict=True):
        kinds, convert = KINDS[type(other)]
        assert isinstance(layer, kinds), f"{layer} stands where PyTorch has {other}"
        yield layer, convert(other, read)


def copy_weights(model: Any, module: nn.Module, read: Read = lambda parameter: parameter) -> None:
    """Gives `model` the weights and running statistics of `module`, or what else `read` finds in its parameters."""
    for layer, arrays in pairs(model, module, read):
        for name, value in arrays.items():
            before = getattr(layer, name)
            assert before.shape == value.shape, f"{layer}.{name} is {before.shape}, PyTorch has {value.shape}"
            setattr(layer, name, jnp.asarray(value))

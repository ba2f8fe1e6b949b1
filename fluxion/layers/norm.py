"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from fluxion.errors import SizeError
from fluxion.layers.base import (
    Layer,
    activation_argument,
    active_of,
    changed,
    features,
    function_of,
    input_array,
    size_of,
    stop_gradient,
)
from fluxion.mode import is_training
from fluxion.ops.activations import identity
from fluxion.ops.arrays import as_float
from fluxion.ops.norm import moments, rescale


class BatchNorm(Layer):
    """Zero mean and unit variance for each channel: `activation(scale * (x - mean) / sqrt(var + eps) + bias)`.

    Ioffe and Szegedy 2015. Takes `(batch, ..., channels)`. While training, mean and (biased) variance are those of
    the input over all axes but the last, and the fields `mean` and `var` move towards them: `mean = (1 - momentum) *
    mean + momentum * new`, with the unbiased variance. While testing, `mean` and `var` take their place, and do not
    change. `affine=False` leaves `scale` and `bias` out; `track_stats=False` leaves `mean` and `var` out, and the
    input's own statistics count always. `active` fixes the mode: True trains, False tests, None trains inside a
    gradient. Half precision is computed in float32 and returned in its own type.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> layer = fx.BatchNorm(2, active=True)
    >>> print(layer(jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])).round(3))
    [[-1.225 -1.225]
     [ 0.     0.   ]
     [ 1.225  1.225]]
    >>> print(layer.mean.round(3))
    [0.3 0.4]
    """

    __trainable__ = ("scale", "bias")
    __float32__ = ("scale", "bias", "mean", "var")

    def __init__(
        self,
        channels: int,
        activation: Callable[..., Any] = identity,
        *,
        affine: bool = True,
        track_stats: bool = True,
        eps: float = 1e-5,
        momentum: float = 0.1,
        active: Any = None,
    ) -> None:
        self.channels = size_of(channels, "BatchNorm")
        self.activation = function_of(activation, "BatchNorm")
        self.scale = jnp.ones(channels) if affine else None
        self.bias = jnp.zeros(channels) if affine else None
        self.mean = jnp.zeros(channels) if track_stats else None
        self.var = jnp.ones(channels) if track_stats else None
        self.eps, self.momentum = eps, momentum
        self.active = active_of(active, "BatchNorm")

    def __call__(self, x: Any) -> Array:
        x = as_float(features(self, x, self.channels, "channels"))
        training = is_training(self.active)
        if training or self.mean is None:
            mean, var = moments(x, tuple(range(x.ndim - 1)))
        else:
            mean, var = stop_gradient(self.mean), stop_gradient(self.var)
        if training:
            _track(self, x, mean, var)
        return self.activation(rescale(x, mean, var, self.eps, self.scale, self.bias))

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.channels, *activation_argument(self.activation)], changed(
            affine=(self.scale is not None, True),
            track_stats=(self.mean is not None, True),
            eps=(self.eps, 1e-5),
            momentum=(self.momentum, 0.1),
            active=(self.active, None),
        )


def _track(layer: Any, x: Array, mean: Array, var: Array) -> None:
    """Moves the running statistics of a layer towards those of `x`; the variance without the bias of a sample."""
    count = x.size // layer.channels
    if count < 2:
        wanted = f"{layer.typed()} expects more than one value per channel while training"
        raise SizeError(f"{wanted}, got an array of shape {x.shape}", layer)
    if layer.mean is not None:
        layer.mean = _blend(layer.mean, mean, layer.momentum)
        layer.var = _blend(layer.var, var * (count / (count - 1)), layer.momentum)


def _blend(old: Array, new: Array, momentum: Any) -> Array:
    return ((1 - momentum) * old + momentum * stop_gradient(new)).astype(old.dtype)


class LayerNorm(Layer):
    """Zero mean and unit variance for each observation: `activation(scale * (x - mean) / sqrt(var + eps) + bias)`.

    Ba et al. 2016. `size` are the sizes of the last axes of the input; mean and (biased) variance are taken over
    them, and `scale` and `bias` have that shape. `affine=False` leaves them out. Half precision is computed in
    float32 and returned in its own type.

    >>> import fluxion as fx
    >>> fx.LayerNorm(2)([[1.0, 3.0]]).round(3).tolist()
    [[-1.0, 1.0]]
    """

    __trainable__ = ("scale", "bias")

    def __init__(
        self, *size: Any, activation: Callable[..., Any] = identity, affine: bool = True, eps: float = 1e-5
    ) -> None:
        size = tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
        if not size:
            raise ValueError("LayerNorm takes the sizes of the last axes of its input, as LayerNorm(10), got none")
        self.size = tuple(size_of(entry, "LayerNorm") for entry in size)
        self.activation = function_of(activation, "LayerNorm")
        self.scale = jnp.ones(self.size) if affine else None
        self.bias = jnp.zeros(self.size) if affine else None
        self.eps = eps

    def __call__(self, x: Any) -> Array:
        x = as_float(input_array(self, x))
        if x.shape[-len(self.size) :] != self.size:
            wanted = f"{self.typed()} expects last axes of sizes {self.size}"
            raise SizeError(f"{wanted}, got an array of shape {x.shape}", self)
        axes = tuple(range(-len(self.size), 0))
        return self.activation(rescale(x, *moments(x, axes, keepdims=True), self.eps, self.scale, self.bias))

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        keywords = {} if self.activation is identity else {"activation": self.activation}
        return list(self.size), keywords | changed(affine=(self.scale is not None, True), eps=(self.eps, 1e-5))

"""Normalisation layers. Their scale, bias and statistics stay float32 in a half-precision model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import SizeError
from fluxion.layers.base import (
    Layer,
    activation_argument,
    active_of,
    call_op,
    changed,
    features,
    function_of,
    input_array,
    size_of,
    typed,
)
from fluxion.mode import is_training
from fluxion.ops.activations import identity
from fluxion.ops.arrays import is_concrete
from fluxion.ops.norm import batchnorm, groupnorm, instancenorm, layernorm, rmsnorm


class Norm(Layer):
    """What the normalisation layers share: a learnt scale and bias, None where they are left out."""

    __trainable__ = ("scale", "bias")
    __float32__ = ("scale", "bias", "mean", "var")

    scale: Array | None
    bias: Array | None
    activation: Callable[..., Any]

    def _start(self, size: tuple[int, ...], activation: Callable[..., Any], affine: bool, eps: Any) -> None:
        self.activation = function_of(activation, type(self).__name__)
        self.scale = jnp.ones(size) if affine else None
        self.bias = jnp.zeros(size) if affine else None
        self.eps = _number(eps, f"{type(self).__name__} takes as eps")


def hasaffine(layer: Any) -> bool:
    """True for a normalisation layer with a learnt scale (Flux: `hasaffine`); TypeError for any other layer.

    >>> import fluxion as fx
    >>> fx.hasaffine(fx.BatchNorm(3)), fx.hasaffine(fx.InstanceNorm(3))
    (True, False)
    """
    if not isinstance(layer, Norm):
        raise TypeError(f"hasaffine takes a normalisation layer such as BatchNorm, got {typed(layer)}")
    return layer.scale is not None


class ChannelNorm(Norm):
    """What BatchNorm and InstanceNorm share: one entry per channel, and running statistics."""

    __unsized__ = ("channels",)

    _op: Callable[..., Any]
    _default: bool  # of affine and of track_stats

    def _start_channels(
        self,
        channels: int,
        activation: Callable[..., Any],
        affine: bool,
        track_stats: bool,
        eps: Any,
        momentum: Any,
        active: Any,
    ) -> None:
        name = type(self).__name__
        self.channels = size_of(channels, name)
        self._start((self.channels,), activation, affine, eps)
        self.mean = jnp.zeros(self.channels) if track_stats else None
        self.var = jnp.ones(self.channels) if track_stats else None
        self.momentum = _number(momentum, f"{name} takes as momentum", most=1)
        self.active = active_of(active, name)

    def __call__(self, x: Any) -> Array:
        return self.finished(x, self.activation)

    def finished(self, x: Any, activation: Callable[..., Any], residual: Any = None) -> Array:
        """What the layer gives with this activation function, and with `residual` (of BatchNorm) added before it."""
        x = features(self, x, self.channels, "channels")
        arrays = self.mean, self.var, self.scale, self.bias
        training = is_training(self.active)
        options = {"momentum": self.momentum, "eps": self.eps, "activation": activation}
        options |= {} if residual is None else {"residual": residual}
        y, self.mean, self.var = call_op(self, type(self)._op, x, *arrays, training=training, **options)
        return y

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.channels, *activation_argument(self.activation)], changed(
            affine=(self.scale is not None, self._default),
            track_stats=(self.mean is not None, self._default),
            eps=(self.eps, 1e-5),
            momentum=(self.momentum, 0.1),
            active=(self.active, None),
        )


class BatchNorm(ChannelNorm):
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

    _op = staticmethod(batchnorm)
    _default = True

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
        self._start_channels(channels, activation, affine, track_stats, eps, momentum, active)


class InstanceNorm(ChannelNorm):
    """BatchNorm with mean and variance of each observation and channel, by default without scale, bias and statistics.

    Ulyanov et al. 2016. Takes `(batch, *sizes, channels)`, with one axis or more in the middle, over which mean and
    (biased) variance are taken. With `affine=True` there are a learnt `scale` and `bias`; with `track_stats=True` the
    fields `mean` and `var` move towards the means over the batch, and take their place while testing. The other
    arguments are those of BatchNorm.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.InstanceNorm(1)(jnp.array([[[1.0], [3.0]], [[10.0], [30.0]]])).round(3).ravel().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """

    _op = staticmethod(instancenorm)
    _default = False

    def __init__(
        self,
        channels: int,
        activation: Callable[..., Any] = identity,
        *,
        affine: bool = False,
        track_stats: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
        active: Any = None,
    ) -> None:
        self._start_channels(channels, activation, affine, track_stats, eps, momentum, active)


class GroupNorm(Norm):
    """Zero mean and unit variance for each observation and group of channels: `activation(scale * normal + bias)`.

    Wu and He 2018. Takes `(batch, ..., channels)`. `groups` divides `channels` into groups of neighbours; mean and
    (biased) variance are taken over a group and all axes in the middle, `scale` and `bias` have shape `(channels,)`.
    `groups=1` normalises whole observations, `groups=channels` each channel, as InstanceNorm does. The arguments are in
    Flux's order; `torch.nn.GroupNorm` takes the groups first.

    >>> import fluxion as fx
    >>> fx.GroupNorm(4, 2)([[1.0, 3.0, 10.0, 20.0]]).round(3).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """

    __unsized__ = ("channels",)

    def __init__(
        self,
        channels: int,
        groups: int,
        activation: Callable[..., Any] = identity,
        *,
        affine: bool = True,
        eps: float = 1e-5,
    ) -> None:
        self.channels, self.groups = size_of(channels, "GroupNorm"), size_of(groups, "GroupNorm")
        if channels % groups:
            raise ValueError(f"GroupNorm has {channels} channels; groups={groups} must divide them")
        self._start((self.channels,), activation, affine, eps)

    def __call__(self, x: Any) -> Array:
        x = features(self, x, self.channels, "channels")
        return self.activation(call_op(self, groupnorm, x, self.groups, self.scale, self.bias, eps=self.eps))

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        keywords = changed(affine=(self.scale is not None, True), eps=(self.eps, 1e-5))
        return [self.channels, self.groups, *activation_argument(self.activation)], keywords


class LayerNorm(Norm):
    """Zero mean and unit variance for each observation: `activation(scale * (x - mean) / sqrt(var + eps) + bias)`.

    Ba et al. 2016. `size` are the sizes of the last axes of the input; mean and (biased) variance are taken over
    them, and `scale` and `bias` have that shape. `affine=False` leaves them out. Half precision is computed in
    float32 and returned in its own type.

    >>> import fluxion as fx
    >>> fx.LayerNorm(2)([[1.0, 3.0]]).round(3).tolist()
    [[-1.0, 1.0]]
    """

    __unsized__ = ("size",)

    def __init__(
        self, *size: Any, activation: Callable[..., Any] = identity, affine: bool = True, eps: float = 1e-5
    ) -> None:
        self.size = _sizes(size, "LayerNorm")
        self._start(self.size, activation, affine, eps)

    def __call__(self, x: Any) -> Array:
        x = _ending_in(self, x, self.size)
        return self.activation(layernorm(x, self.scale, self.bias, axes=len(self.size), eps=self.eps))

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        keywords = {} if self.activation is identity else {"activation": self.activation}
        return list(self.size), keywords | changed(affine=(self.scale is not None, True), eps=(self.eps, 1e-5))


class RMSNorm(Norm):
    """Unit mean square for each observation: `scale * x / sqrt(mean(x^2) + eps)`.

    Zhang and Sennrich 2019; as `torch.nn.RMSNorm`. `size` are the sizes of the last axes of the input, over which the
    mean is taken; `scale` has that shape, `affine=False` leaves it out. `eps=None` stands for the machine epsilon of
    what is computed in, 1.2e-7 for float32 and for half precision, which is computed in float32.

    >>> import fluxion as fx
    >>> fx.RMSNorm(2)([[3.0, -3.0]]).tolist()
    [[1.0, -1.0]]
    """

    __unsized__ = ("size",)

    def __init__(self, *size: Any, affine: bool = True, eps: float | None = None) -> None:
        self.size = _sizes(size, "RMSNorm")
        self.scale = jnp.ones(self.size) if affine else None
        self.eps = None if eps is None else _number(eps, "RMSNorm takes as eps None or")

    def __call__(self, x: Any) -> Array:
        return rmsnorm(_ending_in(self, x, self.size), self.scale, axes=len(self.size), eps=self.eps)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return list(self.size), changed(affine=(self.scale is not None, True), eps=(self.eps, None))


def _number(value: Any, text: str, most: float = math.inf) -> Any:
    """`value` itself, checked where it is known: a number from 0 to `most`."""
    if is_concrete(value):
        single = np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf"
        if not single or not 0 <= value <= most:
            wanted = "a number of at least 0" if most == math.inf else f"a number from 0 to {most}"
            raise ValueError(f"{text} {wanted}, got {value!r}")
    return value.item() if isinstance(value, np.generic) else value


def _sizes(size: tuple[Any, ...], name: str) -> tuple[int, ...]:
    """The sizes of axes, given as several arguments or as one tuple."""
    size = tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
    if not size:
        raise ValueError(f"{name} takes the sizes of the last axes of its input, as {name}(10), got none")
    return tuple(size_of(entry, name) for entry in size)


def _ending_in(layer: Layer, x: Any, size: tuple[int, ...]) -> Array:
    """`x` as an array whose last axes have the given sizes."""
    x = input_array(layer, x)
    if x.shape[-len(size) :] != size:
        raise SizeError(f"{typed(layer)} expects last axes of sizes {size}, got an array of shape {x.shape}", layer)
    return x

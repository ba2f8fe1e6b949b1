"""Weight normalisation: a weight as a length times a direction."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from fluxion.layers.base import Layer, call_part, changed, typed
from fluxion.ops.arrays import as_float, at_least_float32, is_concrete
from fluxion.ops.windows import is_integer
from fluxion.tree.structure import REFERENCE
from fluxion.tree.walk import Walk


class WeightNorm(Layer):
    """A layer whose weight is `g * v / ||v||`, with length `g` and direction `v` learnt apart.

    Salimans and Kingma 2016. `which` names the field of `layer` that holds `v`; the weight is computed from it at each
    call. `axes` are those that the norm sums over: by default all but the last, which gives each output a length of its
    own, as `torch.nn.utils.parametrizations.weight_norm` does. `g` starts as `||v||`, so that wrapping a layer does not
    change what it computes. ValueError for an array of zeros, which has no direction. `remove_weight_norms` turns
    the layer back into a plain one.

    >>> import fluxion as fx
    >>> layer = fx.Dense.from_arrays([[3.0], [4.0]])
    >>> normed = fx.WeightNorm(layer)
    >>> normed.g.tolist(), normed([1.0, 1.0]).tolist()
    ([[5.0]], [7.0])
    >>> normed.g = 2 * normed.g
    >>> normed([1.0, 1.0]).tolist()
    [14.0]
    """

    __unsized__ = ("layer",)

    def __init__(self, layer: Any, which: str = "weight", *, axes: int | tuple[int, ...] | None = None) -> None:
        v = _direction(layer, which)
        if axes is None:
            axes = tuple(range(max(1, v.ndim - 1)))
        self.layer = layer
        self.which = which
        self.axes = _checked_axes(axes, v.ndim)
        self.g = jnp.sqrt(_squared_norm(v, self.axes)).astype(v.dtype)

    def weight(self) -> Array:
        """`g * v / ||v||`; where `v` is zero, so is the weight."""
        v = getattr(self.layer, self.which)
        square = _squared_norm(v, self.axes)
        length = jnp.sqrt(jnp.where(square > 0, square, 1))  # the derivative of the root of zero is infinite
        return (at_least_float32(v) * (self.g / length)).astype(v.dtype)

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        layer = copy.copy(self.layer)
        setattr(layer, self.which, self.weight())
        part = functools.partial(layer, **keywords) if keywords else layer
        try:
            return call_part(self, ".layer", part, *inputs)
        finally:
            _hand_back(layer, self.layer, self.which)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        usual = tuple(range(max(1, self.g.ndim - 1)))
        which = [] if self.which == "weight" else [self.which]
        return [self.layer, *which], changed(axes=(self.axes, usual))


def remove_weight_norms(model: Any) -> Any:
    """The model with each WeightNorm replaced by a plain layer, a copy of its own that holds `g * v / ||v||`.

    Changes the model in place and returns it; a model that is a WeightNorm itself comes back as the plain layer. A
    WeightNorm in several places becomes one layer. TypeError where a WeightNorm stands in a tuple, which cannot be
    changed. Flux: `remove_weight_norms`.

    >>> import fluxion as fx
    >>> model = fx.Chain(fx.WeightNorm(fx.Dense(3, 2)), fx.relu)
    >>> print(fx.remove_weight_norms(model).typed())
    Chain(Dense(3, 2), relu)
    """
    holder = [model]
    plain: dict[int, tuple[WeightNorm, Any]] = {}
    while places := _weight_norms(holder):  # the layer inside may be, or hold, another one
        for _, _, normed in places:
            if id(normed) not in plain:
                plain[id(normed)] = normed, _plain_layer(normed)
        for setter, key, normed in places:
            setter(key, plain[id(normed)][1])
    return holder[0]


def _weight_norms(holder: list[Any]) -> list[tuple[Callable[..., None], Any, WeightNorm]]:
    """Setter and key of each place that holds a WeightNorm, but for those inside of another one."""
    segment = Walk().run(holder)
    places = []
    for node in segment.structure.nodes.values():
        owner = segment.objects[node.index]
        for i, (marker, what) in enumerate(node.children if not isinstance(owner, WeightNorm) else ()):
            if marker is REFERENCE and isinstance(segment.objects[what], WeightNorm):
                place = node.kind.place(owner, node.header, i)
                if place is None:
                    raise TypeError("a WeightNorm in a tuple cannot be replaced; put it in a list or an object")
                places.append((*place, segment.objects[what]))
    return places


def _plain_layer(normed: WeightNorm) -> Any:
    """A copy of the layer, which may also be used elsewhere, with the weight in place of the direction."""
    layer = copy.copy(normed.layer)
    setattr(layer, normed.which, normed.weight())
    return layer


def _direction(layer: Any, which: str) -> Array:
    """The array in the field of a layer."""
    arrays = {name: value for name, value in getattr(layer, "__dict__", {}).items() if getattr(value, "ndim", 0) > 0}
    if which not in arrays:
        raise ValueError(f"{typed(layer)} has no array in a field {which!r}; it has {', '.join(arrays) or 'none'}")
    v = as_float(arrays[which])
    if is_concrete(v) and not v.any():
        raise ValueError(f"{which} of {typed(layer)} is all zero, which has no direction: g * v / ||v|| would be NaN")
    return v


def _checked_axes(axes: int | tuple[int, ...], ndim: int) -> tuple[int, ...]:
    entries = tuple(axes) if isinstance(axes, (tuple, list)) else (axes,)
    if not entries or not all(is_integer(axis) and -ndim <= axis < ndim for axis in entries):
        raise ValueError(f"WeightNorm takes axes of its weight, which has {ndim}, got axes={axes!r}")
    return tuple(sorted({int(axis) % ndim for axis in entries}))


def _squared_norm(v: Any, axes: tuple[int, ...]) -> Array:
    v = at_least_float32(v)
    return jnp.sum(jnp.real(v * jnp.conj(v)), axis=axes, keepdims=True)


def _hand_back(called: Any, layer: Any, which: str) -> None:
    """Gives a layer what the copy that was called in its place wrote to its fields, such as running statistics."""
    for name, value in vars(called).items():
        if name != which and vars(layer).get(name) is not value:
            setattr(layer, name, value)

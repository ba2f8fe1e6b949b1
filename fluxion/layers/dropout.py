"""Layers that drop something at random while training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
from jax import Array

from fluxion.errors import SizeError
from fluxion.layers.base import Layer, active_of, call_op, changed, input_array
from fluxion.mode import is_training
from fluxion.ops.activations import identity
from fluxion.ops.arrays import as_float, at_least_float32
from fluxion.ops.dropout import axes_tuple, dropout, probability
from fluxion.random import Generator, generator

_SELU_AT_MINUS_INFINITY = -1.7580993408473766


class Dropping(Layer):
    """What Dropout and its relatives share: a probability, a generator, and a mode; while testing, the input."""

    __trainable__ = ()

    def _set(self, p: float, rng: Generator | None, active: Any) -> None:
        name = type(self).__name__
        self.p = float(probability(p, name))
        self.rng = None if rng is None else generator(rng)
        self.active = active_of(active, name)

    def __call__(self, x: Any) -> Array:
        x = as_float(input_array(self, x))
        return self.drop(x) if is_training(self.active) else x

    def drop(self, x: Array) -> Array:
        """What becomes of `x` while training."""
        raise NotImplementedError


class Dropout(Dropping):
    """While training, sets each entry to zero with probability `p` and multiplies the others by `1 / (1 - p)`.

    Srivastava et al. 2014. While testing it returns its input. `axes` are the axes along which choices differ; along
    the other axes one choice counts for all, so that `axes=(0, -1)` drops whole channels of an image. `active` fixes
    the mode: True trains, False tests, None trains inside a gradient.

    >>> import fluxion as fx
    >>> fx.Dropout(0.5)([1.0, 2.0]).tolist()
    [1.0, 2.0]
    """

    def __init__(
        self,
        p: float,
        *,
        axes: int | tuple[int, ...] | None = None,
        rng: Generator | None = None,
        active: Any = None,
    ) -> None:
        self._set(p, rng, active)
        self.axes = axes_tuple(axes, "Dropout")

    def drop(self, x: Array) -> Array:
        return call_op(self, dropout, x, self.p, axes=self.axes, rng=self.rng)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.p], changed(axes=(self.axes, None), active=(self.active, None))


def make_dropout(p: Any, rng: Generator | None) -> Callable[..., Any]:
    """A Dropout layer, or the identity for a probability of 0, which then draws no random numbers."""
    layer = Dropout(p, rng=rng)
    return layer if layer.p > 0 else identity


def dropout_of(function: Any) -> float:
    """The probability that made a dropout of `make_dropout`."""
    return getattr(function, "p", 0.0)


class AlphaDropout(Dropping):
    """Dropout that keeps mean 0 and variance 1, for layers with `selu`: `a * (where(kept, x, low) - low * p)`.

    Klambauer et al. 2017. While training, each entry becomes `low = -1.7580993`, which is `selu(-inf)`, with
    probability `p`; `a = 1 / sqrt((1 - p) * (1 + p * low ** 2))`. With `p = 1` everything is zero. While testing it
    returns its input. `active` fixes the mode: True trains, False tests, None trains inside a gradient.

    >>> import fluxion as fx
    >>> y = fx.AlphaDropout(0.5, active=True)(fx.normal(10_000))
    >>> bool(abs(y.mean()) < 0.1), bool(abs(y.var() - 1) < 0.1)
    (True, True)
    """

    def __init__(self, p: float, *, rng: Generator | None = None, active: Any = None) -> None:
        self._set(p, rng, active)

    def drop(self, x: Array) -> Array:
        low, p = _SELU_AT_MINUS_INFINITY, jnp.asarray(self.p, jnp.float32)
        kept = generator(self.rng).bernoulli(1 - p, x.shape)
        variance = jnp.where(p < 1, 1 - p, 1) * (1 + p * low**2)
        y = (jnp.where(kept, at_least_float32(x), low) - low * p) / jnp.sqrt(variance)
        return y.astype(x.dtype)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.p], changed(active=(self.active, None))


class StochasticDepth(Dropping):
    """While training, sets whole observations to zero with probability `p` and multiplies the rest by `1 / (1 - p)`.

    Huang et al. 2016. At the end of the branch of a residual block it makes the network skip the block at random.
    `mode` is "row", where each observation (along the first axis) has a choice of its own, or "batch", where one
    choice counts for all. While testing it returns its input. `active` fixes the mode: True trains, False tests, None
    trains inside a gradient.

    >>> import fluxion as fx
    >>> block = fx.SkipConnection(fx.Chain(fx.Dense(4, 4), fx.StochasticDepth(0.2)), lambda y, x: x + y)
    >>> block(fx.ones(8, 4)).shape
    (8, 4)
    """

    def __init__(
        self, p: float, mode: Literal["row", "batch"] = "row", *, rng: Generator | None = None, active: Any = None
    ) -> None:
        self._set(p, rng, active)
        if mode not in ("row", "batch"):
            raise ValueError(f'StochasticDepth takes the mode "row" or "batch", got {mode!r}')
        self.mode = mode

    def drop(self, x: Array) -> Array:
        if x.ndim == 0:
            raise SizeError(f"{self.typed()} expects an array of observations, got a single number", self)
        return dropout(x, self.p, axes=0 if self.mode == "row" else (), rng=self.rng)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.p, *([] if self.mode == "row" else [self.mode])], changed(active=(self.active, None))

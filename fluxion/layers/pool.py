"""Pooling layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from jax import Array

from fluxion.layers.base import Layer, call_op, changed
from fluxion.ops.pool import adaptive_mean_pool, global_max_pool, global_mean_pool, max_pool, mean_pool
from fluxion.ops.windows import parse_pad, per_axis, short_pad, short_tuple, window_sizes


class _Pool(Layer):
    op: ClassVar[Callable[..., Array]]

    def __init__(self, window: tuple[int, ...], *, stride: Any = None, pad: Any = 0) -> None:
        self.window = window_sizes(window, "window")
        self.stride = self.window if stride is None else per_axis(stride, len(self.window), "stride")
        self.pad = parse_pad(pad, len(self.window))

    def __call__(self, x: Any) -> Array:
        return call_op(self, type(self).op, x, self.window, stride=self.stride, pad=self.pad)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        stride = {} if self.stride == self.window else {"stride": short_tuple(self.stride)}
        return [self.window], stride | changed(pad=(short_pad(self.pad), 0))


class MaxPool(_Pool):
    """Largest value of each window; `stride` is the window by default, and `pad` is that of `conv` and never wins.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.MaxPool((2, 2))(jnp.ones((8, 28, 28, 3))).shape
    (8, 14, 14, 3)
    """

    op = staticmethod(max_pool)


class MeanPool(_Pool):
    """Average of each window, padded zeros included; `stride` is the window by default, and `pad` is that of `conv`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.MeanPool((3, 3), stride=2, pad=1)(jnp.ones((8, 28, 28, 3))).shape
    (8, 14, 14, 3)
    """

    op = staticmethod(mean_pool)


class GlobalMaxPool(Layer):
    """Largest value over all spatial axes, each of which is left with size 1.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.GlobalMaxPool()(jnp.ones((8, 28, 28, 3))).shape
    (8, 1, 1, 3)
    """

    def __call__(self, x: Any) -> Array:
        return call_op(self, global_max_pool, x)


class GlobalMeanPool(Layer):
    """Average over all spatial axes, each of which is left with size 1.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.GlobalMeanPool()(jnp.ones((8, 28, 28, 3))).shape
    (8, 1, 1, 3)
    """

    def __call__(self, x: Any) -> Array:
        return call_op(self, global_mean_pool, x)


class AdaptiveMeanPool(Layer):
    """Average over windows chosen so that the spatial axes come out with the sizes `out` (see `adaptive_mean_pool`).

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.AdaptiveMeanPool((7, 7))(jnp.ones((8, 30, 20, 3))).shape
    (8, 7, 7, 3)
    """

    def __init__(self, out: tuple[int, ...]) -> None:
        self.out = window_sizes(out, "out")

    def __call__(self, x: Any) -> Array:
        return call_op(self, adaptive_mean_pool, x, self.out)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.out], {}

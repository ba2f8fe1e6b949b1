"""Pooling layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from jax import Array

from fluxion.layers.base import Layer, call_op, changed
from fluxion.ops.pool import (
    adaptive_max_pool,
    adaptive_mean_pool,
    check_pads,
    exponent,
    global_max_pool,
    global_mean_pool,
    lp_pool,
    max_pool,
    mean_pool,
)
from fluxion.ops.windows import parse_pad, per_axis, short_pad, short_tuple, window_sizes


class _Pool(Layer):
    """What the layers with a sliding window share. Each names its `op` and the options of that."""

    __trainable__ = ()

    op: ClassVar[Callable[..., Array]]
    options: ClassVar[tuple[str, ...]] = ("window", "stride", "pad")

    def __init__(self, window: tuple[int, ...], *, stride: Any = None, pad: Any = 0) -> None:
        self.window = window_sizes(window, "window")
        self.stride = self.window if stride is None else per_axis(stride, len(self.window), "stride")
        self.pad = parse_pad(pad, len(self.window))

    def __call__(self, x: Any) -> Array:
        return call_op(self, type(self).op, x, **{name: getattr(self, name) for name in self.options})

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

    def __init__(self, window: tuple[int, ...], *, stride: Any = None, pad: Any = 0) -> None:
        super().__init__(window, stride=stride, pad=pad)
        check_pads("MaxPool", self.window, self.pad)


class MeanPool(_Pool):
    """Average of each window; `stride` is the window by default, and `pad` is that of `conv`.

    Padded zeros count, unless `count_include_pad` is False.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.MeanPool((3, 3), stride=2, pad=1)(jnp.ones((8, 28, 28, 3))).shape
    (8, 14, 14, 3)
    """

    op = staticmethod(mean_pool)
    options = (*_Pool.options, "count_include_pad")

    def __init__(
        self, window: tuple[int, ...], *, stride: Any = None, pad: Any = 0, count_include_pad: bool = True
    ) -> None:
        super().__init__(window, stride=stride, pad=pad)
        self.count_include_pad = bool(count_include_pad)
        if not self.count_include_pad:
            check_pads("MeanPool", self.window, self.pad)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, keywords = super().arguments()
        return positional, keywords | changed(count_include_pad=(self.count_include_pad, True))


class LPPool(_Pool):
    """`(sum of x ** p) ** (1 / p)` over each window (see `lp_pool`); the rest is as in `MeanPool`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.LPPool(2, (2, 2))(jnp.ones((1, 2, 2, 1))).ravel().tolist()
    [2.0]
    """

    op = staticmethod(lp_pool)
    options = ("p", *_Pool.options)

    def __init__(self, p: float, window: tuple[int, ...], *, stride: Any = None, pad: Any = 0) -> None:
        super().__init__(window, stride=stride, pad=pad)
        self.p = exponent(p, "LPPool")

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, keywords = super().arguments()
        return [self.p, *positional], keywords


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


class _AdaptivePool(Layer):
    op: ClassVar[Callable[..., Array]]

    def __init__(self, out: tuple[int, ...]) -> None:
        self.out = window_sizes(out, "out")

    def __call__(self, x: Any) -> Array:
        return call_op(self, type(self).op, x, self.out)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.out], {}


class AdaptiveMaxPool(_AdaptivePool):
    """Largest value of each of the windows that give the spatial axes the sizes `out` (see `adaptive_max_pool`).

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.AdaptiveMaxPool((7, 7))(jnp.ones((8, 30, 20, 3))).shape
    (8, 7, 7, 3)
    """

    op = staticmethod(adaptive_max_pool)


class AdaptiveMeanPool(_AdaptivePool):
    """Average of each of the windows that give the spatial axes the sizes `out` (see `adaptive_mean_pool`).

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.AdaptiveMeanPool((7, 7))(jnp.ones((8, 30, 20, 3))).shape
    (8, 7, 7, 3)
    """

    op = staticmethod(adaptive_mean_pool)

"""Layers that take an image apart into its windows, and put it together again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from jax import Array

from fluxion.layers.base import Layer, call_op, changed
from fluxion.ops.fold import check_output_size, fold, unfold
from fluxion.ops.windows import parse_pad, per_axis, short_pad, short_tuple, window_sizes


class _Windows(Layer):
    """What Unfold and Fold share. Each names its `op` and the options of that."""

    op: ClassVar[Callable[..., Array]]
    options: ClassVar[tuple[str, ...]] = ("kernel", "stride", "pad", "dilation")

    def __init__(self, kernel: tuple[int, ...], *, stride: Any = 1, pad: Any = 0, dilation: Any = 1) -> None:
        self.kernel = window_sizes(kernel, "kernel")
        self.stride = per_axis(stride, len(self.kernel), "stride")
        self.pad = parse_pad(pad, len(self.kernel))
        self.dilation = per_axis(dilation, len(self.kernel), "dilation")

    def __call__(self, x: Any) -> Array:
        return call_op(self, type(self).op, x, **{name: getattr(self, name) for name in self.options})

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.kernel], changed(
            stride=(short_tuple(self.stride), 1),
            pad=(short_pad(self.pad), 0),
            dilation=(short_tuple(self.dilation), 1),
        )


class Unfold(_Windows):
    """Every window as a row: `(batch, *sizes, channels)` becomes `(batch, windows, prod(kernel) * channels)`.

    The options are those of `unfold`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.Unfold((16, 16), stride=16)(jnp.ones((8, 64, 32, 3))).shape
    (8, 8, 768)
    """

    op = staticmethod(unfold)


class Fold(_Windows):
    """Adds windows up: `(batch, windows, prod(kernel) * channels)` becomes `(batch, *output_size, channels)`.

    The options are those of `fold`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.Fold((64, 32), (16, 16), stride=16)(jnp.ones((8, 8, 768))).shape
    (8, 64, 32, 3)
    """

    op = staticmethod(fold)
    options = ("output_size", *_Windows.options)

    def __init__(self, output_size: tuple[int, ...], kernel: tuple[int, ...], **options: Any) -> None:
        super().__init__(kernel, **options)
        self.output_size = check_output_size(output_size, self.kernel)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, keywords = super().arguments()
        return [self.output_size, *positional], keywords

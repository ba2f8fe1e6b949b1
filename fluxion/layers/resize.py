"""Layers that change the number of positions along the spatial axes."""

from __future__ import annotations

from typing import Any

from jax import Array

from fluxion.layers.base import Layer, call_op, changed, size_of
from fluxion.ops.resize import (
    check_target,
    pixel_shuffle,
    upsample_bicubic,
    upsample_bilinear,
    upsample_linear,
    upsample_nearest,
    upsample_trilinear,
)

_MODES = {
    "nearest": upsample_nearest,
    "linear": upsample_linear,
    "bilinear": upsample_bilinear,
    "bicubic": upsample_bicubic,
    "trilinear": upsample_trilinear,
}


class Upsample(Layer):
    """More (or fewer) positions along all spatial axes, `scale` times as many or exactly `size`.

    `mode` is "nearest" for any number of spatial axes, "linear" for 1 to 3 of them, "bilinear" or "bicubic" for 2,
    "trilinear" for 3. `scale`, `size` and `align_corners` are those of `upsample_linear`; `align_corners` is False by
    default, as in PyTorch (Flux: always true), and makes no sense for "nearest".

    >>> import fluxion as fx
    >>> fx.Upsample(2, "bilinear")(fx.ones(8, 14, 14, 64)).shape
    (8, 28, 28, 64)
    """

    __trainable__ = ()

    def __init__(
        self, scale: Any = None, mode: str = "nearest", *, size: Any = None, align_corners: bool = False
    ) -> None:
        if mode not in tuple(_MODES):
            raise ValueError(f"Upsample takes as mode one of {', '.join(map(repr, _MODES))}, got {mode!r}")
        if align_corners and mode == "nearest":
            raise ValueError('Upsample takes align_corners=True for the modes that interpolate, not for "nearest"')
        check_target("Upsample", scale, size)
        self.scale = tuple(scale) if isinstance(scale, list) else scale
        self.mode = mode
        self.size = tuple(size) if isinstance(size, list) else size
        self.align_corners = bool(align_corners)

    def __call__(self, x: Any) -> Array:
        options = {"align_corners": True} if self.align_corners else {}
        return call_op(self, _MODES[self.mode], x, self.scale, size=self.size, **options)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        mode = changed(mode=(self.mode, "nearest"))
        options = changed(size=(self.size, None), align_corners=(self.align_corners, False))
        return ([], mode | options) if self.scale is None else ([self.scale, *mode.values()], options)


class PixelShuffle(Layer):
    """Channels into positions, `r` times as many along each spatial axis (see `pixel_shuffle`).

    >>> import fluxion as fx
    >>> fx.PixelShuffle(2)(fx.ones(8, 14, 14, 64)).shape
    (8, 28, 28, 16)
    """

    def __init__(self, r: int) -> None:
        self.r = size_of(r, "PixelShuffle")

    def __call__(self, x: Any) -> Array:
        return call_op(self, pixel_shuffle, x, self.r)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.r], {}

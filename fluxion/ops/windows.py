"""Windows that slide over the spatial axes of an array: parsing and checking what convolution and pooling share."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from jax import Array

from fluxion.errors import SizeError

Pads = tuple[tuple[int, int], ...]
AXES = {
    1: "(batch, length, channels)",
    2: "(batch, height, width, channels)",
    3: "(batch, depth, height, width, channels)",
}


def is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def size_of(value: Any, name: str, what: str = "sizes that are ints") -> int:
    """A size as an int; anything but a positive integer is an error."""
    if not is_integer(value) or value < 1:
        raise ValueError(f"{name} takes {what} of at least 1, got {getattr(value, '__name__', None) or repr(value)}")
    return int(value)


def per_axis(value: Any, count: int, name: str, least: int = 1) -> tuple[int, ...]:
    """One int for each of `count` axes, from one int for all of them or a tuple.

    >>> per_axis(2, 3, "stride")
    (2, 2, 2)
    """
    values = (value,) * count if is_integer(value) else tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(values) != count or not all(is_integer(entry) and entry >= least for entry in values):
        many = f"a tuple of {count} ints" if count > 1 else "a tuple of one int"
        raise ValueError(f"{name} takes an int or {many}, each at least {least}, got {value!r}")
    return tuple(int(entry) for entry in values)


def window_sizes(window: Any, name: str) -> tuple[int, ...]:
    """A window as a tuple with one size for each of 1 to 3 spatial axes.

    >>> window_sizes([3, 3], "kernel")
    (3, 3)
    """
    if not isinstance(window, (tuple, list)) or not 1 <= len(window) <= 3:
        raise ValueError(f"{name} takes a tuple with one size for each of 1 to 3 axes, as (3, 3), got {window!r}")
    return per_axis(window, len(window), name)


def parse_pad(pad: Any, count: int) -> Pads | Literal["same"]:
    """Padding as (low, high) pairs, one for each axis, or the word "same".

    `pad` is one int for every side, `count` ints for both sides of each axis, `count` pairs (low, high), `2 * count`
    ints (low, high, low, high ...), or "same".

    >>> parse_pad((0, 1, 1, 2), 2)
    ((0, 1), (1, 2))
    """
    if isinstance(pad, str) and pad == "same":
        return "same"
    pairs = parse_pairs(pad, count)
    if pairs is None:
        ways = f"{count} ints, {count} pairs (low, high), {2 * count} ints" if count > 1 else "a pair (low, high)"
        raise ValueError(f'pad takes an int of at least 0, {ways} or "same", got {pad!r}')
    return pairs


def parse_pairs(pad: Any, count: int) -> Pads | None:
    """Padding as (low, high) pairs, one for each axis; None for what names no such pairs, the word "same" included.

    >>> parse_pairs(1, 2), parse_pairs("same", 2)
    (((1, 1), (1, 1)), None)
    """
    values = (pad,) * count if is_integer(pad) else tuple(pad) if isinstance(pad, (tuple, list)) else ()
    if len(values) == count and all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in values):
        values = tuple(entry for pair in values for entry in pair)
    elif len(values) == count:
        values = tuple(entry for entry in values for _ in range(2))
    if len(values) != 2 * count or not all(is_integer(entry) and entry >= 0 for entry in values):
        return None
    return tuple((int(low), int(high)) for low, high in zip(values[::2], values[1::2], strict=True))


def short_pad(pad: Pads | Literal["same"]) -> Any:
    """The shortest way to write what `parse_pad` returned.

    >>> short_pad(((1, 1), (1, 1))), short_pad(((1, 1), (2, 2))), short_pad(((0, 1), (2, 2)))
    (1, (1, 2), (0, 1, 2, 2))
    """
    if isinstance(pad, str):
        return pad
    if any(low != high for low, high in pad):
        return tuple(entry for pair in pad for entry in pair)
    return short_tuple(tuple(low for low, _ in pad))


def short_tuple(values: tuple[int, ...]) -> Any:
    """One int where all entries agree.

    >>> short_tuple((2, 2)), short_tuple((1, 2))
    (2, (1, 2))
    """
    return values[0] if len(set(values)) == 1 else values


def check_axes(name: str, x: Array, spatial: int) -> None:
    """Raises a SizeError unless `x` has a batch axis, `spatial` axes and a channel axis."""
    if x.ndim != spatial + 2:
        raise SizeError(f"{name} expects {spatial + 2} axes {AXES[spatial]}, got an array of shape {x.shape}")


class Windows(NamedTuple):
    """Windows over the spatial axes of an array, in numbers: one entry for each axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: Pads
    dilations: tuple[int, ...]

    def counts(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """How many windows fit on axes of these sizes."""
        spans = window_spans(self.kernel, self.dilations)
        axes = zip(sizes, spans, self.strides, self.pads, strict=True)
        return tuple(max((size + sum(pair) - span) // stride + 1, 0) for size, span, stride, pair in axes)


def window_spans(kernel: tuple[int, ...], dilations: tuple[int, ...]) -> tuple[int, ...]:
    """How many positions a window reaches over, its holes included."""
    return tuple((size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True))


def windows_over(sizes: tuple[int, ...], kernel: tuple[int, ...], stride: Any, pad: Any, dilation: Any = 1) -> Windows:
    """Windows over axes of these sizes, on which they need not fit, from what the user gave."""
    count = len(kernel)
    strides, dilations = per_axis(stride, count, "stride"), per_axis(dilation, count, "dilation")
    pads = parse_pad(pad, count)
    if pads == "same":
        pads = tuple(map(_same, sizes, window_spans(kernel, dilations), strides))
    return Windows(kernel, strides, pads, dilations)


def fitting_windows(name: str, x: Array, kernel: tuple[int, ...], stride: Any, pad: Any, dilation: Any = 1) -> Windows:
    """Windows over `x` of shape (batch, ..., channels); where none fits is a SizeError."""
    sizes = x.shape[1:-1]
    windows = windows_over(sizes, kernel, stride, pad, dilation)
    spans = window_spans(kernel, windows.dilations)
    needed = tuple(max(span - sum(pair), 1) for span, pair in zip(spans, windows.pads, strict=True))
    check_positions(name, x, needed, "window")
    return windows


def check_positions(name: str, x: Array, needed: tuple[int, ...], what: str) -> None:
    """Raises a SizeError where `x` has fewer positions than its windows or their pads need."""
    if any(size < least for size, least in zip(x.shape[1:-1], needed, strict=True)):
        positions = " x ".join(map(str, needed))
        raise SizeError(
            f"{name} expects at least {positions} positions for its {what}, got an array of shape {x.shape}"
        )


def _same(size: int, span: int, stride: int) -> tuple[int, int]:
    """Pads for `ceil(size / stride)` outputs, an odd one on the high side: what XLA and Keras call SAME."""
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2

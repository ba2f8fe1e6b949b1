"""Padding: more positions at both ends of some axes, filled in one of five ways.

Each function takes `pad` as one int for every side, one int for both sides of each axis, one pair `(low, high)` for
each axis, or all lows and highs in one tuple `(low, high, low, high, ...)`. `axes` are the axes to pad, by default the
spatial ones: all but the first, the batch, and the last, the channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import SizeError
from fluxion.ops.arrays import is_concrete
from fluxion.ops.windows import Pads, is_integer, parse_pairs


def pad_constant(x: Any, pad: Any, value: Any = 0, *, axes: Any = None) -> Array:
    """`x` with `value`, one number, around it along `axes` (all but the first and the last).

    `pad` is an int for every side, one int for each axis, one pair `(low, high)` for each axis, or all lows and highs
    in one tuple. The type is the one that `x + value` has. ValueError for a `pad` or `axes` that make no sense. Flux:
    `pad_constant`, which pads all axes by default.

    >>> import fluxion as fx
    >>> fx.pad_constant([1, 2, 3], (1, 2), 9, axes=0).tolist()
    [9, 1, 2, 3, 9, 9]
    """
    x = jnp.asarray(x)
    pads = _pads("pad_constant", x, pad, axes)
    if np.ndim(value) > 0:
        raise ValueError(f"pad_constant takes one number as its value, got one of shape {np.shape(value)}")
    x = x.astype(jnp.result_type(x, value))
    if is_concrete(value):
        check_holds("pad_constant", x.dtype, value)
        return jnp.pad(x, pads, constant_values=value)
    inside = jnp.pad(jnp.ones(x.shape, bool), pads)  # `jnp.pad` itself has no derivative for its value alone
    return jnp.where(inside, jnp.pad(x, pads), value)


def pad_zeros(x: Any, pad: Any, *, axes: Any = None) -> Array:
    """`x` with zeros around it along `axes` (all but the first and the last); `pad` is that of `pad_constant`.

    >>> import fluxion as fx
    >>> fx.pad_zeros(fx.ones(8, 28, 28, 3), 2).shape
    (8, 32, 32, 3)
    """
    x = jnp.asarray(x)
    return jnp.pad(x, _pads("pad_zeros", x, pad, axes))


def pad_reflect(x: Any, pad: Any, *, axes: Any = None) -> Array:
    """`x` mirrored at its first and last entries along `axes`, without repeating these.

    `pad` and `axes` are those of `pad_constant`; each side is smaller than its axis, else SizeError. Flux:
    `pad_reflect`.

    >>> import fluxion as fx
    >>> fx.pad_reflect([1, 2, 3], 2, axes=0).tolist()
    [3, 2, 1, 2, 3, 2, 1]
    """
    return _pad_with("pad_reflect", "reflect", x, pad, axes, kept=1)


def pad_symmetric(x: Any, pad: Any, *, axes: Any = None) -> Array:
    """`x` mirrored at its borders along `axes`, so that its first and last entries are repeated.

    `pad` and `axes` are those of `pad_constant`; no side is larger than its axis, else SizeError. Flux:
    `pad_symmetric`.

    >>> import fluxion as fx
    >>> fx.pad_symmetric([1, 2, 3], 2, axes=0).tolist()
    [2, 1, 1, 2, 3, 3, 2]
    """
    return _pad_with("pad_symmetric", "symmetric", x, pad, axes, kept=0)


def pad_circular(x: Any, pad: Any, *, axes: Any = None) -> Array:
    """`x` continued periodically along `axes`.

    `pad` and `axes` are those of `pad_constant`; no side is larger than its axis, else SizeError. Flux: `pad_circular`.

    >>> import fluxion as fx
    >>> fx.pad_circular([1, 2, 3], (1, 2), axes=0).tolist()
    [3, 1, 2, 3, 1, 2]
    """
    return _pad_with("pad_circular", "wrap", x, pad, axes, kept=0)


def pad_repeat(x: Any, pad: Any, *, axes: Any = None) -> Array:
    """`x` with its first and last entries along `axes` repeated; `pad` and `axes` are those of `pad_constant`.

    SizeError where `x` is empty along such an axis. Flux: `pad_repeat`.

    >>> import fluxion as fx
    >>> fx.pad_repeat([1, 2, 3], (1, 2), axes=0).tolist()
    [1, 1, 2, 3, 3, 3]
    """
    x = jnp.asarray(x)
    pads = _pads("pad_repeat", x, pad, axes)
    if any(size == 0 and any(pair) for size, pair in zip(x.shape, pads, strict=True)):
        raise SizeError(f"pad_repeat expects entries to repeat, got an array of shape {x.shape}")
    return jnp.pad(x, pads, mode="edge")


def _pad_with(name: str, mode: str, x: Any, pad: Any, axes: Any, kept: int) -> Array:
    """Padding that copies entries of `x`, of which `kept` at each border are not copied."""
    x = jnp.asarray(x)
    pads = _pads(name, x, pad, axes)
    for axis, (size, pair) in enumerate(zip(x.shape, pads, strict=True)):
        if max(pair) > max(size - kept, 0):
            at_least = f"at least {max(pair) + kept} entries along axis {axis} to pad it by {max(pair)}"
            raise SizeError(f"{name} expects {at_least}, got an array of shape {x.shape}")
    return jnp.pad(x, pads, mode=mode)


def check_holds(name: str, dtype: Any, value: Any) -> None:
    """Raises a ValueError where an array of booleans, integers or strings cannot hold a value as it is.

    >>> import numpy as np
    >>> check_holds("pad_constant", np.dtype("uint8"), 300)
    Traceback (most recent call last):
    ValueError: pad_constant cannot put 300 into an array of uint8; convert the array first
    """
    if dtype.kind not in "biuSU":
        return
    with np.errstate(invalid="ignore"):
        given = np.asarray(value)
        if given.astype(dtype) != given:
            raise ValueError(f"{name} cannot put {value!r} into an array of {dtype}; convert the array first")


def _pads(name: str, x: Array, pad: Any, axes: Any) -> Pads:
    """One pair (low, high) for every axis of `x`, zeros for those that are not padded."""
    chosen = _axes(name, x, axes)
    pairs = parse_pairs(pad, len(chosen))
    if pairs is None:
        ways = "an int of at least 0, one int or pair (low, high) for each axis, or all lows and highs in one tuple"
        raise ValueError(f"{name} takes as pad {ways}, for the axes {chosen} here, got {pad!r}")
    by_axis = dict(zip(chosen, pairs, strict=True))
    return tuple(by_axis.get(axis, (0, 0)) for axis in range(x.ndim))


def _axes(name: str, x: Array, axes: Any) -> tuple[int, ...]:
    if axes is None:
        if x.ndim < 3:
            raise SizeError(
                f"{name} expects axes between batch and channels, got an array of shape {x.shape}; say which as axes=0"
            )
        return tuple(range(1, x.ndim - 1))
    return counted_axes(name, axes, x.ndim)


def counted_axes(name: str, axes: Any, ndim: int) -> tuple[int, ...]:
    """One axis, or several that differ, of an array with `ndim` axes, counted from the front; ValueError for others.

    >>> counted_axes("pad_zeros", (0, -1), 3)
    (0, 2)
    """
    given = tuple(axes) if isinstance(axes, Iterable) else (axes,)
    counted = tuple(int(axis) % ndim for axis in given if is_integer(axis) and -ndim <= axis < ndim)
    if len(set(counted)) != len(given):
        raise ValueError(f"{name} takes axes that differ, of an array with {ndim} axes, got {axes!r}")
    return counted

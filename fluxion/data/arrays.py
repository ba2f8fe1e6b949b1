"""Cutting, stacking, scaling and searching arrays: NumPy arrays give NumPy arrays, JAX arrays JAX arrays.

On JAX arrays whatever computes floats is differentiable. Lists count as NumPy arrays, with floats as float32.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.data.checks import whole_number
from fluxion.data.observations import is_array
from fluxion.onehot import OneHotArray
from fluxion.ops.arrays import is_concrete
from fluxion.ops.pad import check_holds, counted_axes

Axes = int | tuple[int, ...] | None


def module_of(*arrays: Any) -> Any:
    """What computes with these arrays: `jax.numpy` if one of them is a JAX array, else NumPy."""
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np


def as_array(x: Any) -> Any:
    """`x` itself if it is an array, else as an array of NumPy, in which Python floats are float32."""
    if is_array(x):
        return x
    array = np.asarray(x)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def chunk(
    x: Any,
    n: int | None = None,
    *,
    size: int | Sequence[int] | None = None,
    partition: Sequence[int] | None = None,
    axis: int = 0,
) -> list[Any]:
    """Cuts `x` along `axis` into a list of arrays (MLUtils: `chunk`, along its last axis).

    n          this many parts of equal size, the last one smaller where they do not fit, or fewer of them
    size       parts of this size, the last one smaller where they do not fit; or the size of each part
    partition  the number, from 0 on, of the part that each entry belongs to, in ascending order; `n` is then the
               number of parts, if there are empty ones at the end

    >>> import fluxion as fx
    >>> [part.tolist() for part in fx.data.chunk([1, 2, 3, 4, 5], 2)]
    [[1, 2, 3], [4, 5]]
    >>> [part.tolist() for part in fx.data.chunk([1, 2, 3, 4, 5], size=[1, 4])]
    [[1], [2, 3, 4, 5]]
    >>> [part.tolist() for part in fx.data.chunk([1, 2, 3], partition=[0, 0, 2])]
    [[1, 2], [], [3]]
    """
    x = as_array(x)
    (axis,) = counted_axes("chunk", axis, x.ndim)
    length = x.shape[axis]
    if size is not None and (n is not None or partition is not None):
        raise TypeError("chunk takes n or size= or partition=, not several")
    if partition is not None:
        sizes = _sizes_of_parts(partition, length, n)
    elif isinstance(size, (Sequence, np.ndarray)):
        sizes = [whole_number("each size of a chunk", entry, 0) for entry in size]
        if sum(sizes) != length:
            raise ValueError(f"sizes of chunks add up to the {length} entries along axis {axis}, got {sizes}")
    elif size is not None or n is not None:
        step = whole_number("size", size, 1) if n is None else -(-length // whole_number("n", n, 1)) or 1
        sizes = [min(step, length - start) for start in range(0, length, step)]
    else:
        raise TypeError("chunk takes the number n of parts, their size= or a partition=")
    return list(module_of(x).split(x, np.cumsum(sizes)[:-1].astype(int), axis=axis))


def _sizes_of_parts(partition: Sequence[int], length: int, n: int | None) -> list[int]:
    numbers = np.asarray(partition, None if len(partition) else int)
    if numbers.shape != (length,) or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(
            f"partition takes one integer for each of {length} entries, got shape {numbers.shape} of {numbers.dtype}"
        )
    if (np.diff(numbers) < 0).any() or numbers.min(initial=0) < 0:
        raise ValueError("partition numbers the parts from 0 on and in ascending order; sort the entries first")
    least = int(numbers.max(initial=-1)) + 1
    return np.bincount(numbers, minlength=least if n is None else whole_number("n", n, least)).tolist()


def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    """Arrays of one shape along a new axis; one-hot arrays stay one-hot (MLUtils: `stack`).

    >>> import fluxion as fx
    >>> fx.data.stack([[1, 2], [3, 4]], axis=1).tolist()
    [[1, 3], [2, 4]]
    """
    arrays = [as_array(array) for array in arrays]
    return module_of(*arrays).stack(arrays, axis=axis)


def unstack(x: Any, axis: int = 0) -> list[Any]:
    """The entries of `x` along `axis`, as a list of arrays (MLUtils: `unstack`).

    >>> import fluxion as fx
    >>> [column.tolist() for column in fx.data.unstack([[1, 2], [3, 4]], axis=1)]
    [[1, 3], [2, 4]]
    """
    x = as_array(x)
    return list(module_of(x).moveaxis(x, axis, 0))


def unsqueeze(x: Any, axis: int) -> Any:
    """`x` with an axis of size 1 more, which is then axis `axis` (MLUtils: `unsqueeze`).

    >>> import fluxion as fx
    >>> fx.data.unsqueeze([1, 2, 3], axis=1).shape
    (3, 1)
    """
    x = as_array(x)
    return module_of(x).expand_dims(x, axis)


def rpad_constant(x: Any, n: int | Sequence[int], value: Any = 0, axis: Axes = None) -> Any:
    """`x` with `value` at the end of `axis`, up to size `n` (MLUtils: `rpad_constant`).

    `axis` is one axis, a tuple of them, or None for all; `n` is one size, or one for each axis. What is longer stays.
    ValueError for a `value` that an array of integers cannot hold, such as 0.5.

    >>> import fluxion as fx
    >>> fx.data.rpad_constant([1, 2], 4, -1).tolist()
    [1, 2, -1, -1]
    """
    x = as_array(x)
    axes = tuple(range(x.ndim)) if axis is None else counted_axes("rpad_constant", axis, x.ndim)
    sizes = tuple(n) if isinstance(n, (Sequence, np.ndarray)) else (n,) * len(axes)
    if len(sizes) != len(axes):
        raise ValueError(f"rpad_constant takes one size, or one for each of {len(axes)} axes, got n={n!r}")
    if np.ndim(value) > 0:
        raise ValueError(f"rpad_constant takes one number as its value, got one of shape {np.shape(value)}")
    if is_concrete(value):
        check_holds("rpad_constant", x.dtype, value)
    widths = [(0, 0)] * x.ndim
    for place, size in zip(axes, sizes, strict=True):
        widths[place] = (0, max(whole_number("n", size, 0) - x.shape[place], 0))
    return module_of(x).pad(x, widths, constant_values=value)


def normalise(x: Any, axis: Axes = 0, eps: float = 1e-5) -> Any:
    """`(x - mean) / (std + eps)` along `axis`, the observations (MLUtils: `normalise`).

    The standard deviation is the biased one. ValueError without observations. `fx.normalise` has its `eps` under the
    root, as normalisation layers do.

    >>> import fluxion as fx
    >>> fx.data.normalise([1.0, 3.0], eps=0.0).tolist()
    [-1.0, 1.0]
    """
    xp, x, wide = _wide("normalise", x)
    centred = wide - wide.mean(axis=axis, keepdims=True)
    variance = (centred**2).mean(axis=axis, keepdims=True)
    varies = variance > 0  # the root has no derivative at 0
    std = xp.where(varies, xp.sqrt(xp.where(varies, variance, 1)), 0)
    return (centred / (std + eps)).astype(x.dtype)


def rescale(x: Any, axis: Axes = 0, eps: float = 1e-5) -> Any:
    """`(x - min) / (max - min + eps)` along `axis`, the observations: from 0 to 1 (MLUtils: `rescale`).

    ValueError without observations.

    >>> import fluxion as fx
    >>> fx.data.rescale([1.0, 2.0, 5.0], eps=0.0).tolist()
    [0.0, 0.25, 1.0]
    """
    _, x, wide = _wide("rescale", x)
    low, high = wide.min(axis=axis, keepdims=True), wide.max(axis=axis, keepdims=True)
    return ((wide - low) / (high - low + eps)).astype(x.dtype)


def _wide(name: str, x: Any) -> tuple[Any, Any, Any]:
    """The module that computes with `x`, `x` as floats, and in at least single precision."""
    x = x.dense() if isinstance(x, OneHotArray) else as_array(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise TypeError(f"{name} takes real numbers, got an array of {x.dtype}")
    if not x.size:
        raise ValueError(f"{name} needs observations, got an array of shape {x.shape}")
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        x = x.astype(jnp.result_type(float))
    return module_of(x), x, x.astype(jnp.promote_types(x.dtype, jnp.float32))


def topk(x: Any, k: int, axis: int = -1, largest: bool = True) -> tuple[Any, Any]:
    """The `k` largest (or smallest) entries along `axis`, in order, and their indices (MLUtils: `topk`).

    Of equal entries the first comes first; NaN counts as larger than any number. The values are differentiable.
    Raises ValueError unless `k` is from 1 to the size of the axis.

    >>> import fluxion as fx
    >>> values, indices = fx.data.topk([3, 1, 2], 2)
    >>> values.tolist(), indices.tolist()
    ([3, 2], [0, 2])
    """
    x = as_array(x)
    (axis,) = counted_axes("topk", axis, x.ndim)
    xp, size = module_of(x), x.shape[axis]
    k = whole_number("k", k, 1, size)
    if largest:  # sorted backwards, both ways, so that equal entries stay in order
        order = size - 1 - xp.flip(xp.argsort(xp.flip(x, axis), axis=axis, stable=True), axis)
    else:
        order = xp.argsort(x, axis=axis, stable=True)
    indices = xp.moveaxis(xp.moveaxis(order, axis, 0)[:k], 0, axis)
    return xp.take_along_axis(x, indices, axis=axis), indices


def batched_searchsorted(ordered: Any, x: Any, side: str = "left", axis: int = -1) -> Any:
    """How many entries of `ordered`, ascending along `axis`, are less than each entry of `x`, batch by batch.

    `ordered` and `x` agree in all axes but `axis`. With `side="right"` equal entries count too. So "left" gives the
    index of the first entry that is not less (MLUtils: `batched_searchsortedfirst`), and "right", less one, the index
    of the last entry that is not greater (`batched_searchsortedlast`), -1 if there is none.

    >>> import fluxion as fx
    >>> fx.data.batched_searchsorted([[1, 3, 5], [2, 4, 6]], [[3], [7]]).tolist()
    [[1], [3]]
    """
    ordered, x = as_array(ordered), as_array(x)
    xp = module_of(ordered, x)
    if side not in ("left", "right"):
        raise ValueError(f'batched_searchsorted takes side="left" or side="right", got {side!r}')
    ordered, x = xp.moveaxis(ordered, axis, -1), xp.moveaxis(x, axis, -1)
    if ordered.shape[:-1] != x.shape[:-1]:
        raise ValueError(
            f"batched_searchsorted takes arrays that agree in all axes but one, "
            f"got batches of shape {ordered.shape[:-1]} and {x.shape[:-1]}"
        )
    types = {} if xp is jnp else {"otypes": [np.intp]}
    search = xp.vectorize(functools.partial(xp.searchsorted, side=side), signature="(n),(m)->(m)", **types)
    return xp.moveaxis(search(ordered, x), -1, axis)

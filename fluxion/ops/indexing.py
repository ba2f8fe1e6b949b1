"""Picking entries by index (`gather`), and the checks of indices and axes that everything shares."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.debug import check_later, checks_indices
from fluxion.errors import SizeError
from fluxion.ops.arrays import is_concrete
from fluxion.ops.windows import is_integer


def gather(src: Any, idx: Any, axis: int = 0) -> Array:
    """The entries of `src` along `axis` that the integers `idx` name, in an array of any shape; repeats are fine.

    `src` of shape `(*before, n, *after)` gives `(*before, *idx.shape, *after)`. A tuple of index arrays of one shape
    picks along as many axes, from `axis` on: `gather(src, (i, j))[k] = src[i[k], j[k]]`. An index out of range is an
    IndexError where its value is known; in compiled code it gives NaN (of integers: the lowest), unless
    `debug(index=True)` checks it. `TypeError` for indices that are no integers. Flux: `gather`, along the last axis.

    >>> import fluxion as fx
    >>> fx.gather([10.0, 20.0, 30.0], [2, 0, 0]).tolist()
    [30.0, 10.0, 10.0]
    >>> fx.gather([[1, 2], [3, 4]], ([0, 1], [1, 1])).tolist()
    [2, 4]
    """
    src, indices = jnp.asarray(src), index_arrays("gather", idx)
    axis = known_axis("gather", axis, src.shape)
    sizes = src.shape[axis : axis + len(indices)]
    if len(sizes) < len(indices):
        raise SizeError(f"gather has no {len(indices)} axes to pick along from axis {axis} on in shape {src.shape}")
    for index, size in zip(indices, sizes, strict=True):
        check_indices("gather", index, size)
    place = (*(slice(None),) * axis, *indices)
    return src.at[place].get(mode="fill", wrap_negative_indices=False)


def index_arrays(name: str, idx: Any) -> tuple[Any, ...]:
    """One array of integers for each axis that `idx` counts along, all of one shape."""
    arrays = tuple(integer_array(name, entry) for entry in (idx if isinstance(idx, tuple) else (idx,)))
    if len({entry.shape for entry in arrays}) != 1:
        shapes = " and ".join(str(entry.shape) for entry in arrays) or "none"
        raise SizeError(f"{name} expects index arrays of equal shapes, got {shapes}")
    return arrays


def integer_array(name: str, values: Any, layer: Any = None, what: str = "indices") -> Any:
    """`values` as an array of integers, in a type that one can count with; NumPy arrays stay NumPy's.

    Anything but integers is a TypeError, whose text names `layer` as typed, or else the function `name`.

    >>> integer_array("gather", np.array([1, 255], np.uint8)).dtype
    dtype('int32')
    """
    array = values if hasattr(values, "dtype") else np.asarray(values)
    if array.size == 0 and jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(int)  # NumPy's empty list holds floats
    if not jnp.issubdtype(array.dtype, jnp.integer):
        name = name if layer is None else layer.typed()
        fix = "; write .astype(int)" if jnp.issubdtype(array.dtype, jnp.floating) else ""
        raise TypeError(f"{name} expects integers as {what}, got an array of {array.dtype}{fix}")
    return at_least_int32(array)


def at_least_int32(array: Any) -> Any:
    """Integers in a type that holds the number of what they count, which that of the largest of them need not do."""
    return array.astype(np.int32) if array.dtype.itemsize < 4 else array


def known_axis(name: str, axis: Any, shape: tuple[int, ...]) -> int:
    """`axis` counted from the front; one that an array of this shape does not have is a SizeError."""
    if not is_integer(axis) or not -len(shape) <= axis < len(shape):
        raise SizeError(f"{name} has no axis {axis!r} in an array of shape {shape}")
    return int(axis) % len(shape)


def check_indices(
    name: str, indices: Any, count: int, error: type[Exception] = IndexError, layer: Any = None, what: str = "indices"
) -> None:
    """Raises `error` unless every entry of `indices`, an array of integers, is from 0 to `count - 1`.

    The text names `layer` as typed, or else the function `name`. Values that are not known while JAX traces are
    checked when the program runs, if `debug(index=True)` is on.

    >>> import numpy as np
    >>> check_indices("gather", np.array([0, 3]), 3)
    Traceback (most recent call last):
    IndexError: gather expects indices from 0 to 2, got 3 in an array of shape (2,)
    """
    if indices.size == 0:
        return
    shape = tuple(indices.shape)
    if is_concrete(indices):
        known = np.asarray(indices)
        _check_range(name, known.min(), known.max(), count, shape, error, layer, what)
    elif checks_indices():
        name = name if layer is None else layer.typed()  # now, for the program that checks later holds no layers
        check = functools.partial(_check_range, name, count=count, shape=shape, error=error, layer=None, what=what)
        check_later(check, jnp.min(indices), jnp.max(indices))


def _check_range(
    name: str, low: Any, high: Any, count: int, shape: tuple[int, ...], error: type[Exception], layer: Any, what: str
) -> None:
    if low < 0 or high >= count:
        name = name if layer is None else layer.typed()
        wrong = low if low < 0 else high
        raise error(f"{name} expects {what} from 0 to {count - 1}, got {wrong} in an array of shape {shape}")

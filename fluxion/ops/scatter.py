"""Putting entries together by index: sums, products, extremes and means of what has the same index."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import SizeError
from fluxion.ops.arrays import as_float, at_least_float32, is_concrete
from fluxion.ops.indexing import check_indices, index_arrays
from fluxion.ops.windows import is_integer

_OPERATORS: dict[Any, str] = {
    operator.add: "add",
    operator.sub: "sub",
    operator.mul: "mul",
    operator.truediv: "div",
    max: "max",
    min: "min",
    jnp.add: "add",
    jnp.subtract: "sub",
    jnp.multiply: "mul",
    jnp.divide: "div",
    jnp.maximum: "max",
    jnp.minimum: "min",
    jnp.mean: "mean",
}


def scatter(op: Any, src: Any, idx: Any, *, size: Any = None, init: Any = None, into: Any = None) -> Array:
    """Combines the entries of `src` that have the same index: entry `i` is `op` of all `src[k]` with `idx[k] == i`.

    `op` is "add", "sub", "mul", "div", "max", "min" or "mean", or the function of Python or `jax.numpy` that does this,
    as `operator.add` or `jnp.maximum`. `idx` holds integers, in an array of any shape, and `src` has the shape
    `(*idx.shape, *rest)`; the result has the shape `(size, *rest)`, where `size` is one more than the largest index
    if it is not given, which compiled code has to. With a tuple of index arrays of one shape `size` is a tuple too.

    Everything starts from `into`, an array of the shape of the result, or from the number `init` everywhere, or from
    what changes nothing: 0 for "add", "sub" and "mean", 1 for "mul" and "div", the lowest number for "max", the
    highest for "min". It takes part: "sub" and "div" are `into - sum` and `into / product`, "mean" is `into + mean`.

    An index out of range is an IndexError where its value is known; in compiled code its entry is left out, unless
    `debug(index=True)` checks it. Booleans count as 0 and 1. Half precision is computed in float32 and returned in its
    own type. All entries that equal the maximum or minimum get its gradient. `SizeError` where shapes do not fit. Flux:
    `scatter`, `scatter!`.

    >>> import fluxion as fx
    >>> fx.scatter("add", [1.0, 2.0, 4.0], [0, 2, 2]).tolist()
    [1.0, 0.0, 6.0]
    >>> fx.scatter("max", [1, 2, 4], [0, 2, 2], size=4, init=0).tolist()
    [1, 0, 4, 0]
    """
    name = op if isinstance(op, str) else _name_of(op)
    if name not in _REDUCTIONS:
        raise ValueError(f"scatter takes one of {', '.join(map(repr, _REDUCTIONS))} as its operation, got {op!r}")
    src = as_float(src) if name in ("div", "mean") else _numbers(src)
    indices = index_arrays("scatter", idx)
    shape = indices[0].shape
    if src.shape[: len(shape)] != shape:
        raise SizeError(f"scatter expects one entry of src for each index of shape {shape}, got shape {src.shape}")
    start = _start(name, src, indices, src.shape[len(shape) :], size, init, into)
    sizes = start.shape[: len(indices)]
    for index, count in zip(indices, sizes, strict=True):
        check_indices("scatter", index, count)
    positions = _positions(indices, sizes)
    if positions.size == 0:
        return start
    rest = start.shape[len(indices) :]
    flat = _wide(start).reshape(math.prod(sizes), *rest), positions, _wide(src).reshape(positions.size, *rest)
    return _REDUCTIONS[name](*flat).reshape(start.shape).astype(start.dtype)


def _name_of(op: Any) -> str:
    return next((name for function, name in _OPERATORS.items() if op is function), "")


def _start(name: str, src: Array, indices: Any, rest: tuple[int, ...], size: Any, init: Any, into: Any) -> Array:
    """What the entries are combined with, in the type of the result."""
    if into is None:
        init = _identity(name, src.dtype) if init is None else init
        if np.ndim(init):
            raise ValueError(f"scatter takes a number as init=, got {init!r}; into= takes an array")
        sizes = _sizes(indices, size)
        return jnp.full((*sizes, *rest), init, jnp.result_type(src, init))
    if size is not None or init is not None:
        raise ValueError("scatter takes into= or size= and init=, not both: into has a shape and values of its own")
    into = jnp.asarray(into)
    if into.ndim != len(indices) + len(rest) or into.shape[len(indices) :] != rest:
        raise SizeError(f"scatter expects {len(indices)} axes and then {rest} in into, got shape {into.shape}")
    return into.astype(jnp.result_type(src, into))


def _sizes(indices: tuple[Any, ...], size: Any) -> tuple[int, ...]:
    if size is None:
        if not is_concrete(*indices):
            raise ValueError("scatter needs size= in compiled code, where the largest index is not known")
        return tuple(int(np.max(index, initial=-1)) + 1 for index in indices)
    sizes = tuple(size) if isinstance(size, (tuple, list)) else (size,)
    if len(sizes) != len(indices) or not all(is_integer(entry) and entry >= 0 for entry in sizes):
        wanted = f"an int of at least 0 for each of {len(indices)} index arrays"
        raise ValueError(f"scatter takes as size= {wanted}, got {size!r}")
    return tuple(int(entry) for entry in sizes)


def _identity(name: str, dtype: Any) -> Any:
    """What combined with any number gives that number."""
    if name in ("max", "min"):
        if jnp.issubdtype(dtype, jnp.inexact):
            return np.asarray(-np.inf if name == "max" else np.inf, dtype)
        limits = jnp.iinfo(dtype)
        return np.asarray(limits.min if name == "max" else limits.max, dtype)
    return np.asarray(name in ("mul", "div"), dtype)


def _positions(indices: tuple[Any, ...], sizes: tuple[int, ...]) -> Array:
    """One number for each tuple of indices; one that is out of range becomes a position past the end."""
    position, valid = jnp.zeros((), jnp.int32), jnp.ones((), bool)
    for index, size in zip(indices, sizes, strict=True):
        index = jnp.ravel(index)
        valid = valid & (index >= 0) & (index < size)
        position = position * size + index
    return jnp.where(valid, position, math.prod(sizes))


def _numbers(src: Any) -> Array:
    src = jnp.asarray(src)
    return src.astype(int) if src.dtype == bool else src


def _wide(x: Array) -> Array:
    return at_least_float32(x) if jnp.issubdtype(x.dtype, jnp.inexact) else x


def _sum(positions: Array, src: Array, count: int) -> Array:
    return jnp.zeros((count, *src.shape[1:]), src.dtype).at[positions].add(src, mode="drop")


def _mean(start: Array, positions: Array, src: Array) -> Array:
    hits = _sum(positions, jnp.ones_like(src), len(start))
    return start + _sum(positions, src, len(start)) / jnp.maximum(hits, 1)


def _product(positions: Array, src: Array, count: int) -> Array:
    """Product of what has the same position, by a scan over sorted positions: differentiable, also where it is 0."""
    order = jnp.argsort(positions)
    positions, src = positions[order], src[order]
    column = (-1, *(1,) * (src.ndim - 1))
    first = (positions != jnp.roll(positions, 1)).at[0].set(True).reshape(column)
    last = (positions != jnp.roll(positions, -1)).at[-1].set(True).reshape(column)

    def combine(before: tuple[Array, Array], after: tuple[Array, Array]) -> tuple[Array, Array]:
        return before[0] | after[0], jnp.where(after[0], after[1], before[1] * after[1])

    _, products = jax.lax.associative_scan(combine, (first, src))
    hit = _sum(positions, last.astype(src.dtype), count)
    return jnp.where(hit > 0, _sum(positions, jnp.where(last, products, 0), count), 1)


def _extreme(method: str) -> Callable[[Array, Array, Array], Array]:
    """The reduction "max" or "min"."""

    @jax.custom_jvp
    def extreme(start: Array, positions: Array, src: Array) -> Array:
        return getattr(start.at[positions], method)(src, mode="drop")

    @extreme.defjvp
    def tangent(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
        """Every entry that equals the extreme passes its tangent on; JAX's own rule would share it among them."""
        (start, positions, src), (start_tangent, _, src_tangent) = primals, tangents
        found = extreme(start, positions, src)
        ties = src == found.at[positions].get(mode="clip")
        passed = jnp.where(start == found, start_tangent, 0)
        return found, passed.at[positions].add(jnp.where(ties, src_tangent, 0), mode="drop")

    return extreme


_REDUCTIONS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "add": lambda start, positions, src: start + _sum(positions, src, len(start)),
    "sub": lambda start, positions, src: start - _sum(positions, src, len(start)),
    "mul": lambda start, positions, src: start * _product(positions, src, len(start)),
    "div": lambda start, positions, src: start / _product(positions, src, len(start)),
    "max": _extreme("max"),
    "min": _extreme("min"),
    "mean": _mean,
}

"""One-hot arrays: which of several labels each observation has, stored as one integer per observation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.lib.mixins import NDArrayOperatorsMixin

from fluxion.ops.arrays import is_concrete
from fluxion.ops.indexing import check_indices
from fluxion.ops.windows import is_integer


class OneHotArray(NDArrayOperatorsMixin):
    """A boolean array of shape `(*indices.shape, count)` that is true where the last axis equals the index.

    It holds the integers `indices` and the int `count` of labels. Losses, Embedding, Dense and `y @ weight` use the
    integers; indexing, `np.concatenate` and `np.stack` along other axes than the last one keep the type. Operators and
    any other function of NumPy see the boolean array, as do those of JAX that convert their arguments; the rest, as
    `jnp.sum`, need `dense()`. An index outside `0..count-1` is a row without a true entry.

    >>> y = OneHotArray([0, 2], 3)
    >>> y.shape, y[1].shape
    ((2, 3), (3,))
    """

    __trainable__ = ()

    def __init__(self, indices: Any, count: int) -> None:
        indices = indices if hasattr(indices, "dtype") else np.asarray(indices)
        indices = indices if indices.size else indices.astype(int)  # NumPy's empty list holds floats
        if not jnp.issubdtype(indices.dtype, jnp.integer):
            raise TypeError(f"OneHotArray takes integer indices, got {indices.dtype}")
        if not is_integer(count) or count < 0:
            raise ValueError(f"OneHotArray takes the number of labels, an int of at least 0, got {count!r}")
        self.indices = indices
        self.count = int(count)

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.indices.shape, self.count)

    @property
    def ndim(self) -> int:
        return self.indices.ndim + 1

    @property
    def size(self) -> int:
        return self.indices.size * self.count

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(bool)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, position: Any) -> Any:
        """Observations stay one-hot; a position that reaches into the label axis gives the boolean entries."""
        parts = position if isinstance(position, tuple) else (position,)
        parts = tuple(np.asarray(part) if isinstance(part, (list, range)) else part for part in parts)
        if is_concrete(*parts):
            np.broadcast_to(False, self.shape)[parts]  # JAX would take the nearest entry where there is none
        if any(part is Ellipsis for part in parts) or sum(map(_axes_read, parts)) > self.indices.ndim:
            return self.dense()[parts]
        return OneHotArray(self.indices[parts], self.count)

    def __iter__(self) -> Iterator[Any]:
        return (self[position] for position in range(len(self)))

    def dense(self) -> Any:
        """The boolean array: NumPy's where the indices are NumPy's, else JAX's."""
        if isinstance(self.indices, (np.ndarray, np.generic)):
            return np.asarray(self.indices)[..., None] == np.arange(self.count)
        labels = jnp.expand_dims(jnp.arange(self.count, dtype=self.indices.dtype), tuple(range(self.indices.ndim)))
        return self.indices[..., None] == labels

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.dense(), dtype)

    def __jax_array__(self) -> Array:
        return jnp.asarray(self.dense())

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Operators, and the elementwise functions of NumPy: those of JAX where an input is a JAX array."""
        if ufunc is np.matmul and isinstance(inputs[0], OneHotArray):
            return _rows(inputs[0], jnp.asarray(_dense(inputs[1])))
        dense = [_dense(x) for x in inputs]
        function = getattr(jnp if any(isinstance(x, jax.Array) for x in dense) else np, ufunc.__name__)
        return function(*dense, **options) if method == "__call__" else getattr(function, method)(*dense, **options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        """The other functions of NumPy."""
        joined = _joined(function, *args, **options) if function in (np.concatenate, np.stack) else None
        if joined is not None:
            return joined
        args, options = jax.tree.map(_dense, (args, options))
        return function(*args, **options)

    def __eq__(self, other: Any) -> Any:
        return self.dense() == _dense(other)

    def __ne__(self, other: Any) -> Any:
        return self.dense() != _dense(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"OneHotArray(indices of shape {self.indices.shape}, {self.count} labels)"


def _axes_read(part: Any) -> int:
    """The number of axes that a part of an index reads."""
    if part is None:
        return 0
    return part.ndim if getattr(part, "dtype", None) == np.dtype(bool) else 1


def _dense(x: Any) -> Any:
    return x.dense() if isinstance(x, OneHotArray) else x


def _rows(y: OneHotArray, weight: Array) -> Array:
    """`y @ weight` without its multiplications: row `indices` of `weight`, of shape `(count, n)` or `(count,)`."""
    if weight.ndim not in (1, 2) or weight.shape[0] != y.count:
        raise ValueError(f"one-hot of shape {y.shape} @ array of shape {weight.shape}: wanted {y.count} rows")
    return weight.at[y.indices].get(mode="fill", fill_value=0, wrap_negative_indices=False)


def _joined(function: Any, arrays: Sequence[Any], axis: int | None = 0, **options: Any) -> OneHotArray | None:
    """What `np.concatenate` or `np.stack` gives, or None where that is not one-hot."""
    if options or axis is None or not all(isinstance(array, OneHotArray) for array in arrays):
        return None
    axes = arrays[0].ndim + (function is np.stack)
    if axis not in range(-axes, axes) or axis % axes == axes - 1:
        return None
    counts = [array.count for array in arrays]
    if len(set(counts)) > 1:
        raise ValueError(f"one-hot arrays with as many labels can be joined, got arrays of {counts} labels")
    indices = [array.indices for array in arrays]
    module = jnp if any(isinstance(index, jax.Array) for index in indices) else np
    return OneHotArray(getattr(module, function.__name__)(indices, axis=axis % axes), counts[0])


def onehot(x: Any, labels: Iterable[Any], *default: Any) -> OneHotArray:
    """The one-hot vector of `x` among `labels`; a value that is none of them counts as `default`, if there is one.

    >>> import fluxion as fx
    >>> import numpy as np
    >>> np.asarray(fx.onehot("b", "abc")).tolist()
    [False, True, False]
    >>> np.asarray(fx.onehot("z", "abc", "a")).tolist()
    [True, False, False]
    """
    batch = onehotbatch([x] if is_concrete(x) else jnp.asarray(x)[None], labels, *default)
    return batch[0]


def onehotbatch(xs: Any, labels: Iterable[Any], *default: Any) -> OneHotArray:
    """One-hot array of shape `(*xs.shape, len(labels))`: where each value of `xs` stands among `labels`.

    `xs` is an array, a list, a string or another iterable of values. `labels` are distinct values: a list, a string,
    a range; TypeError for a set, which has no order. A value that is none of them is an error, or counts as `default`,
    if there is one. While JAX traces `xs`, whose values are then not known, it becomes a row without a true entry.

    >>> import fluxion as fx
    >>> import numpy as np
    >>> np.asarray(fx.onehotbatch([1, 0, 1], range(2))).astype(int).tolist()
    [[0, 1], [1, 0], [0, 1]]
    >>> fx.onehotbatch("abba", "abc").shape
    (4, 3)
    """
    labels = _ordered(labels)
    fallback = _default_position(labels, *default)
    if not is_concrete(xs):
        return OneHotArray(_traced_positions(xs, labels, fallback), len(labels))
    values, shape = _values_and_shape(xs)
    positions = _numeric_positions(values, labels)
    if positions is None:
        table = {hashable(label): position for position, label in enumerate(labels)}
        values = values.tolist() if isinstance(values, np.ndarray) else values
        positions = np.asarray([table.get(hashable(value), -1) for value in values], np.int32)
    if (positions < 0).any():
        if fallback is None:
            missing = values[int(np.argmax(positions < 0))]
            raise ValueError(
                f"Value {_plain(missing)!r} is not in labels {_some(labels)}; a third argument is a default"
            )
        positions = np.where(positions < 0, np.int32(fallback), positions)
    indices = positions.astype(np.int32).reshape(shape)
    return OneHotArray(jnp.asarray(indices) if isinstance(xs, jax.Array) else indices, len(labels))


def onecold(y: Any, labels: Iterable[Any] | None = None) -> Any:
    """Position of the largest entry along the last axis (the first of equals), or the label that stands there.

    `y` is a one-hot array, scores or probabilities. With `labels` the result is a NumPy array of labels, or one label
    for a vector `y`. Inverse of `onehotbatch`. ValueError for scores that are NaN, IndexError for rows of a one-hot
    array without a true entry, where the values are known.

    >>> import fluxion as fx
    >>> fx.onecold([[0.1, 0.7, 0.2], [0.9, 0.1, 0.0]], ["a", "b", "c"]).tolist()
    ['b', 'a']
    """
    if not isinstance(y, OneHotArray):
        y = y if hasattr(y, "shape") else np.asarray(y)
        if len(y.shape) == 0 or y.shape[-1] == 0:
            raise ValueError(f"onecold needs an array with labels along its last axis, got an array of shape {y.shape}")
        if is_concrete(y) and jnp.issubdtype(y.dtype, jnp.inexact) and bool(jnp.isnan(jnp.asarray(y)).any()):
            raise ValueError(f"onecold got NaN among the scores, an array of shape {y.shape}")
    labels = None if labels is None else _ordered(labels)
    if labels is not None and len(labels) != y.shape[-1]:
        raise ValueError(
            f"onecold got {len(labels)} labels for {y.shape[-1]} entries along the last axis of an array of shape "
            f"{tuple(y.shape)}; these must agree"
        )
    if isinstance(y, OneHotArray):
        check_indices("onecold", y.indices, y.count)
    positions = y.indices if isinstance(y, OneHotArray) else jnp.argmax(jnp.asarray(y), axis=-1)
    if labels is None:
        return positions
    if not is_concrete(positions):
        return jnp.asarray(labels)[positions]
    found = _label_array(labels)[np.asarray(positions)]
    return found if np.ndim(positions) else _plain(found)


def _default_position(labels: list[Any], *default: Any) -> int | None:
    """Checks the labels, and finds the default among them."""
    if len(default) > 1:
        raise TypeError(f"one default label at most, got {len(default)}: {default}")
    if not labels:
        raise ValueError("labels are empty; give at least one label")
    seen: set[Any] = set()
    for label in labels:
        if label in seen:
            raise ValueError(f"Label {label!r} occurs more than once in labels {_some(labels)}")
        seen.add(label)
    if default and default[0] not in seen:
        raise ValueError(f"Default value {default[0]!r} is not in labels {_some(labels)}")
    return labels.index(default[0]) if default else None


def _ordered(values: Iterable[Any], what: str = "labels") -> list[Any]:
    if isinstance(values, (set, frozenset)) or not hasattr(values, "__iter__"):
        raise TypeError(f"{what} come in order, as in a list or a range, got {values!r}")
    return list(np.asarray(values) if isinstance(values, jax.Array) else values)


def _values_and_shape(xs: Any) -> tuple[Any, tuple[int, ...]]:
    """The values of `xs` in one row, and the shape they had."""
    if not hasattr(xs, "__array__"):
        xs = _ordered(xs, "values")
        if not any(isinstance(x, list) or hasattr(x, "__array__") for x in xs):
            return xs, (len(xs),)
    values = np.asarray(xs)
    return values.ravel(), values.shape


def _numeric_positions(values: Any, labels: list[Any]) -> np.ndarray | None:
    """Positions of numbers among numbers, -1 where there is none, in a few calls of NumPy; None for other values.

    NaN is found where it is a label.
    """
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        return None
    if not all(isinstance(label, (int, float, np.number, np.bool_)) for label in labels):
        return None
    known = np.asarray(labels)
    order = np.argsort(known)
    places = np.minimum(np.searchsorted(known[order], values), len(labels) - 1)
    positions = order[places]
    found = known[positions]
    return np.where((found == values) | ((found != found) & (values != values)), positions, -1)


def _traced_positions(xs: Array, labels: list[Any], fallback: int | None) -> Array:
    known = jnp.expand_dims(jnp.asarray(labels), tuple(range(xs.ndim)))
    hits = (xs[..., None] == known) | ((xs != xs)[..., None] & (known != known))
    missing = len(labels) if fallback is None else fallback
    return jnp.where(hits.any(-1), jnp.argmax(hits, -1), missing).astype(jnp.int32)


def _label_array(labels: list[Any]) -> np.ndarray:
    found = np.asarray(labels) if not any(isinstance(label, (tuple, list)) for label in labels) else None
    mixed = len({type(label) for label in labels}) > 1 and any(isinstance(label, str) for label in labels)
    if found is None or mixed:
        found = np.empty(len(labels), object)
        found[:] = labels
    return found


def hashable(value: Any) -> Any:
    """A value as it is found in a dict: numbers of arrays as Python's, and any NaN as the same one.

    >>> {math.nan: "missing"}[hashable(np.float32("nan"))]
    'missing'
    """
    value = _plain(value)
    return math.nan if isinstance(value, float) and value != value else value


def _plain(value: Any) -> Any:
    return value.item() if getattr(value, "ndim", None) == 0 and not isinstance(value, OneHotArray) else value


def _some(labels: list[Any]) -> str:
    shown = [repr(_plain(label)) for label in labels[:10]]
    return f"[{', '.join(shown)}{', ...' if len(labels) > 10 else ''}]"

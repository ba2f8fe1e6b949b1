"""The state of a model or an optimiser as plain containers, and how it is loaded back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.layers.lazy import check_sized
from fluxion.optimise.rule import Rule
from fluxion.optimise.state import OptState
from fluxion.tree import kinds
from fluxion.tree.plan import write
from fluxion.tree.rebuild import child_path
from fluxion.tree.select import data_children, label
from fluxion.tree.structure import NUMBER, REFERENCE, Marker, Node
from fluxion.tree.walk import Segment, Walk

Child = tuple[Marker, Any]
Filter = Callable[[Any], bool]

_MISSING = {}  # type: ignore[var-annotated]  # what the source holds where it holds nothing
_SHOWN = 8


def state(model: Any) -> Any:
    """What a model holds, as nested dicts, lists and tuples of arrays, numbers, strings and None (Flux: `state`).

    An object becomes a dict of its fields, a function a dict of what it closes over. Running statistics, flags and
    options are there too, the arrays are those of the model itself, and a tied array is one array. Functions that hold
    nothing, types and everything else become None. The state of an optimiser becomes the type and the
    hyperparameters of its rule, its count of steps, and its arrays by path.

    >>> import fluxion as fx
    >>> fx.state(fx.Dense.from_arrays([[2.0]], activation=fx.relu))
    {'weight': Array([[2.]], dtype=float32), 'bias': None, 'activation': None}
    """
    return _state(model, None)


def loadmodel(model: Any, source: Any, *, filter: Filter | None = None) -> None:
    """Copies the arrays of another model, or of what `state` or `load` gave, into a model (Flux: `loadmodel!`).

    Trainable arrays, statistics and the keys of random generators are copied, in the type that the model has them in;
    functions, numbers, flags and options of the model stay as they are. An optimiser state also takes its count of
    steps and its hyperparameters. No bias counts as a bias of zeros. `filter` says of each part of `model`, and of
    `source`, whether it takes part; parts of a list that are left out do not count for the position of the others.

    ValueError with all arrays that are missing, too many, of another shape or of another kind, that differ where the
    model has one array in two places, or hold integers that its type cannot; and for layers that have no sizes yet.
    Then nothing has been changed.

    >>> import fluxion as fx
    >>> model, other = fx.Dense(3, 2), fx.Dense(3, 2)
    >>> fx.loadmodel(model, other)
    >>> bool((model.weight == other.weight).all())
    True
    """
    check_sized((model, source), "loadmodel")
    loading = _Loading(model, filter)
    loading.match(loading.segment.structure.root, _state(source, filter), "")
    if loading.problems:
        shown = loading.problems[:_SHOWN]
        shown += [f"and {len(loading.problems) - _SHOWN} more"] if len(loading.problems) > _SHOWN else []
        raise ValueError("\n  ".join(["loadmodel: the source does not fit the model; nothing was changed", *shown]))
    loading.write()


# ------------------------------------------------------------------ from objects to plain containers


def _state(x: Any, keep: Filter | None) -> Any:
    segment = Walk().run(x)
    return _Reader(segment, keep).plain(segment.structure.root)


class _Reader:
    def __init__(self, segment: Segment, keep: Filter | None) -> None:
        self.segment, self.keep = segment, keep
        self.known: dict[int, Any] = {}

    def plain(self, child: Child) -> Any:
        marker, what = child
        if marker is NUMBER:
            return self.segment.numbers[what]
        if marker is not REFERENCE:
            return _plain_data(what)
        if what not in self.known:
            self.known[what] = None  # for parts that refer back to what holds them
            self.known[what] = self.opened(what)
        return self.known[what]

    def opened(self, index: int) -> Any:
        x, node = self.segment.objects[index], self.segment.structure.nodes.get(index)
        if node is None:
            return x
        if isinstance(x, OptState):
            return _state({"type": type(x.rule).__name__, "rule": x.rule, "steps": x.steps, "state": x.state}, None)
        parts = {key: self.plain(child) for key, _, child in _parts(self.segment, node, self.keep)}
        if isinstance(node.kind, kinds.CellKind):
            return next(iter(parts.values()), None)
        if _is_sequence(node):
            return tuple(parts.values()) if isinstance(node.kind, kinds.TupleKind) else list(parts.values())
        return None if not parts and not isinstance(node.kind, kinds.DictKind | kinds.ObjectKind) else parts


def _parts(segment: Segment, node: Node, keep: Filter | None) -> Iterator[tuple[Any, int, Child]]:
    """Key, number and child of each part that the filter keeps; the mark that `freeze` leaves is no part."""
    for i, child in data_children(node):
        marker, what = child
        key = node.header[1][i] if isinstance(node.kind, kinds.DictKind) else label(node, i)
        is_part = marker is REFERENCE and what in segment.structure.nodes
        if key != "_frozen" and not (keep is not None and is_part and not keep(segment.objects[what])):
            yield key, i, child


def _is_sequence(node: Node) -> bool:
    named = isinstance(node.kind, kinds.TupleKind) and hasattr(node.header[0], "_fields")
    return isinstance(node.kind, kinds.ListKind | kinds.TupleKind) and not named


def _plain_data(x: Any) -> Any:
    """Numbers and strings, also in containers; None for everything else."""
    if isinstance(x, (list, tuple)):
        return type(x)(map(_plain_data, x)) if type(x) in (list, tuple) else None
    if isinstance(x, np.ndarray):
        return x  # strings, dates or objects
    if type(x) is dict:
        return {key: _plain_data(value) for key, value in x.items()}
    return x if type(x) in (bool, int, float, complex, str) else None


# ------------------------------------------------------------------ from plain containers into objects


class _Loading:
    """Compares a model with a source first, noting what to write and what does not fit; then writes."""

    def __init__(self, model: Any, keep: Filter | None) -> None:
        self.segment, self.keep = Walk().run(model), keep
        self.ordinals = {index: k for k, index in enumerate(self.segment.structure.leaf_indices)}
        self.values: dict[int, Any] = {}
        self.sources: dict[int, tuple[Any, str]] = {}
        self.afterwards: list[Callable[[], None]] = []
        self.problems: list[str] = []
        self.seen: set[tuple[int, int]] = set()

    def write(self) -> None:
        write(self.segment, self.values)
        for do in self.afterwards:
            do()

    def match(self, child: Child, source: Any, path: str) -> None:
        marker, what = child
        if marker is not REFERENCE:
            self.refuse_extra(source, path)
        elif what in self.ordinals:
            self.match_array(self.ordinals[what], source, path)
        elif (what, id(source)) not in self.seen:
            self.seen.add((what, id(source)))
            x, node = self.segment.objects[what], self.segment.structure.nodes[what]
            if isinstance(x, OptState):
                self.match_optimiser(x, source, path)
            elif isinstance(node.kind, kinds.CellKind):
                self.match(node.children[0], source, path)
            else:
                self.match_parts(node, _MISSING if source is None else source, path)

    def match_parts(self, node: Node, source: Any, path: str) -> None:
        parts = list(_parts(self.segment, node, self.keep))
        if _is_sequence(node) and source is not _MISSING:
            if not isinstance(source, (list, tuple)) or len(source) != len(parts):
                self.problems.append(
                    f"{path or 'model'}: {len(parts)} entries in the model, {_text(source)} in the source"
                )
                return
            named = {key: value for (key, _, _), value in zip(parts, source, strict=True)}
        elif isinstance(source, dict):
            named = dict(source)
        else:
            self.problems.append(f"{path or 'model'}: parts in the model, {_text(source)} in the source")
            return
        for key, i, child in parts:
            self.match(child, named.pop(key, _MISSING), child_path(node, i, path))
        for key, extra in named.items():
            place = f"[{key!r}]" if isinstance(node.kind, kinds.DictKind) else f".{key}"
            self.refuse_extra(extra, f"{path}{place}".removeprefix("."))

    def match_array(self, leaf: int, source: Any, path: str) -> None:
        old = self.segment.leaves[leaf]
        if source is None and _is_bias(path):
            source = np.zeros(old.shape, old.dtype)
        if not _is_array(source) or source.shape != old.shape or _kind(source) != _kind(old):
            self.problems.append(f"{path or 'model'}: {_text(old)} in the model, {_text(source)} in the source")
        elif leaf not in self.sources:
            self.sources[leaf] = source, path
            self.values[leaf] = _like(old, source)
            if _kind(old) is jnp.integer and not _equal(self.values[leaf], source):
                self.problems.append(f"{path}: {_text(old)} in the model, numbers beyond that in the source")
        elif source is not (other := self.sources[leaf])[0] and not _equal(source, other[0]):
            self.problems.append(f"{path}: tied to {other[1]} in the model, but another array in the source")

    def match_optimiser(self, optimiser: OptState, source: Any, path: str) -> None:
        kind = type(optimiser.rule).__name__
        if not isinstance(source, dict) or source.get("type") != kind:
            found = source.get("type", "none") if isinstance(source, dict) else _text(source)
            self.problems.append(
                f"{path or 'model'}: the optimiser state of {kind} in the model, {found} in the source"
            )
            return
        view = {"state": optimiser.state}
        arrays = _Loading(view, None)
        arrays.match(arrays.segment.structure.root, {"state": source["state"]}, "")
        self.problems += [f"{path}.{problem}".removeprefix(".") for problem in arrays.problems]

        def finish() -> None:
            arrays.write()
            optimiser.state = view["state"]
            optimiser.steps = source["steps"]
            _restore(optimiser.rule, source["rule"])

        self.afterwards.append(finish)

    def refuse_extra(self, source: Any, path: str) -> None:
        """What the source holds and the model has no place for; a bias of zeros is as good as none."""
        for inner, array in _arrays(source, path):
            if not (inner == path and _is_bias(path) and not np.any(array)):
                self.problems.append(f"{inner}: nothing in the model, {_text(array)} in the source")


def _restore(rule: Any, source: Any) -> None:
    """Gives a rule, and the rules inside it, the hyperparameters of a source."""
    if not isinstance(rule, Rule) or not isinstance(source, dict):
        return
    for name, old in vars(rule).items():
        new = source.get(name)
        if isinstance(old, Rule):
            _restore(old, new)
        elif isinstance(old, tuple) and any(isinstance(part, Rule) for part in old):
            for part, saved in zip(old, new or (), strict=False):
                _restore(part, saved)
        elif new is not None and not callable(old):
            setattr(rule, name, new)


def _arrays(source: Any, path: str) -> Iterator[tuple[str, Any]]:
    if _is_array(source):
        yield path, source
    elif isinstance(source, dict):
        for key, value in source.items():
            yield from _arrays(value, f"{path}.{key}".removeprefix("."))
    elif isinstance(source, (list, tuple)):
        for i, value in enumerate(source):
            yield from _arrays(value, f"{path}[{i}]")


def _like(old: Any, new: Any) -> Any:
    """A copy of `new` with the type, the kind of array and the place of `old`."""
    if isinstance(old, np.ndarray | np.generic):
        copied = np.array(new, old.dtype)
        return copied if isinstance(old, np.ndarray) else copied[()]
    made = jnp.array(new, old.dtype, copy=True)
    return jax.device_put(made, old.sharding) if getattr(old, "committed", False) else made


def _kind(array: Any) -> Any:
    kinds_of_numbers = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)
    return next((kind for kind in kinds_of_numbers if jnp.issubdtype(array.dtype, kind)), array.dtype)


def _equal(a: Any, b: Any) -> bool:
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    return np.array_equal(a, b, equal_nan=True)


def _is_array(x: Any) -> bool:
    """True for arrays of numbers, booleans, and the keys of random generators."""
    return isinstance(x, jax.Array) or (isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind not in "SUOMm")


def _is_bias(path: str) -> bool:
    return re.search(r"\bbias\w*\W*$", path) is not None


def _text(x: Any) -> str:
    if _is_array(x):
        return f"{x.dtype}{list(x.shape)}"
    if x is _MISSING or x is None:
        return "nothing"
    if isinstance(x, (list, tuple, dict)):
        return f"{len(x)} entries"
    return repr(x)

"""What kind of value something is: one with children, an array, a number, a constant; decided once per type."""

from __future__ import annotations

import array
import collections
import enum
import functools
import random
import sys
import threading
import types
from typing import Any

import jax
import numpy as np

from fluxion.tree import kinds, large
from fluxion.tree.kinds import Kind
from fluxion.tree.structure import LEAF, NUMBER, Marker, Structure

ATOM, OPAQUE, RANDOM, ITERATOR, TRACER, SET = map(Marker, ("ATOM", "OPAQUE", "RANDOM", "ITERATOR", "TRACER", "SET"))

_BUILT_IN_ITERATORS = tuple({type(iter(empty())) for empty in (list, tuple, dict, set, str)})
_ITERATORS = (types.GeneratorType, zip, map, filter, enumerate, reversed, *_BUILT_IN_ITERATORS)

ATOMS = (int, bool, str, bytes, type(None), range, type(...), np.dtype)
_PLAIN = frozenset((*ATOMS, float, complex))
_OPAQUE_ROOTS = frozenset(("jax", "jaxlib", "numpy", "scipy", "torch", "tensorflow", "pandas", "polars", "matplotlib"))
_OPEN_ROOTS = frozenset(("argparse", "collections", "functools", "types"))  # of the standard library: plain records
_CONTAINERS = {list: kinds.LIST, tuple: kinds.TUPLE, dict: kinds.DICT, types.FunctionType: kinds.FUNCTION}
LARGE = 64


_known: dict[type, Kind | Marker] = {}


def classify(x: Any) -> Kind | Marker:
    """The kind of a value, or the marker of one without children; decided once per type."""
    cls = type(x)
    kind = _known.get(cls)
    if kind is None:
        kind = _known[cls] = _classify_type(cls) or _classify_object(cls, not jax.tree_util.all_leaves([x]))
    return kind


def _classify_type(cls: type) -> Kind | Marker | None:
    if issubclass(cls, jax.core.Tracer):
        return TRACER
    if issubclass(cls, jax.Array | np.ndarray | np.generic):
        return LEAF
    if cls in (float, complex):
        return NUMBER
    if issubclass(cls, enum.Enum | Structure) or cls in ATOMS or issubclass(cls, np.dtype):
        return ATOM
    if issubclass(cls, np.random.Generator | np.random.RandomState | random.Random):
        return RANDOM
    if cls in _ITERATORS or cls.__module__ == "itertools":
        return ITERATOR
    if issubclass(cls, set | frozenset):
        return SET
    for base, kind in (
        (types.FunctionType, kinds.FUNCTION),
        (types.MethodType, kinds.METHOD),
        (types.BuiltinMethodType, kinds.BUILTIN_METHOD),
        (types.CellType, kinds.CELL),
        (types.ModuleType, kinds.MODULE),
        (functools.partial, kinds.PARTIAL),
        (property, kinds.WRAPPER),
        (staticmethod, kinds.WRAPPER),
        (classmethod, kinds.WRAPPER),
        (type, kinds.CLASS),
        (tuple, kinds.TUPLE),
    ):
        if issubclass(cls, base):
            return kind
    if issubclass(cls, jax.custom_jvp | jax.custom_vjp):
        return kinds.CUSTOM
    if cls is type(functools.cache(len)):
        return kinds.CACHED
    if cls is types.MappingProxyType:
        return kinds.PROXY
    if cls in (bytearray, array.array):
        return SET
    if cls in (list, collections.deque):
        return kinds.LIST
    if cls in (dict, collections.OrderedDict, collections.defaultdict):
        return kinds.DICT
    if issubclass(cls, list | dict | collections.deque):
        return kinds.SUBCLASS
    return None


def _classify_object(cls: type, is_pytree: bool) -> Kind | Marker:
    root = cls.__module__.partition(".")[0]
    has_fields = bool(cls.__dictoffset__) or bool(kinds.slot_names(cls))
    otherwise = kinds.PYTREE if is_pytree else OPAQUE
    if issubclass(cls, BaseException) or not has_fields:
        return otherwise
    foreign = root in _OPAQUE_ROOTS or (root in sys.stdlib_module_names and root not in _OPEN_ROOTS)
    if foreign and not is_pytree and root != "__main__":
        return OPAQUE
    return kinds.OBJECT if kinds.can_be_blank(cls) else otherwise


WATCHED = (list, dict, set, tuple, frozenset)
_verdicts: dict[int, tuple[Any, int, bool, bool]] = {}
_verdicts_lock = threading.Lock()


def is_plain_data(x: Any) -> bool:
    """True for a container that holds only strings, numbers and the like; remembered for large ones by length."""
    return _holds_plain_data(x) if len(x) < LARGE else _verdict(x)[2]


def holds_floats(x: Any) -> bool:
    """True for a large container of which an entry is a float."""
    return _verdict(x)[3]


def _verdict(x: Any) -> tuple[Any, int, bool, bool]:
    known = _verdicts.get(id(x))
    if id(x) in large.misjudged:
        large.misjudged.discard(id(x))
        known = None
    if known is None or known[0] is not x or known[1] != len(x):
        values = x.values() if isinstance(x, dict) else x
        known = (x, len(x), _holds_plain_data(x), any(type(value) is float for value in values))
        with _verdicts_lock:
            if len(_verdicts) >= 64:
                _verdicts.pop(next(iter(_verdicts)))
            _verdicts[id(x)] = known
    return known


def _holds_plain_data(x: Any) -> bool:
    values = x.values() if isinstance(x, dict) else x
    types_inside = set(map(type, values))
    return types_inside <= _PLAIN or (
        types_inside <= _PLAIN | {tuple} and all(set(map(type, v)) <= _PLAIN for v in values if type(v) is tuple)
    )


def _is_numeric(x: Any) -> bool:
    return isinstance(x, jax.Array) or x.dtype.kind in "biufc" or (x.dtype.kind == "V" and x.dtype.names is None)

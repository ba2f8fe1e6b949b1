"""Containers of plain data (a vocabulary, a loss history) are guarded by what a function reads of them, not by all
their entries.
"""

from __future__ import annotations

import operator
from typing import Any

import jax
import numpy as np

_ALL = object()
_LENGTH = object()
_MISSING = object()
_PLAIN = frozenset(
    (int, float, complex, bool, str, bytes, type(None), tuple, range, np.dtype, type(...), type(_MISSING))
)
misjudged: set[int] = set()  # containers taken for plain data that turned out to hold something else


class Reads:
    """What a traced function read of one container; `hold(x)` is true while a container still answers the same."""

    def __init__(self) -> None:
        self.answers: dict[Any, Any] = {}
        self.mutated = False

    def hold(self, x: Any) -> bool:
        """True if `x` would give the same answers."""
        return all(_same(answer, _ask(x, question)) for question, answer in self.answers.items())


def _ask(x: Any, question: Any) -> Any:
    if question is _ALL:
        return (
            tuple(x.items())
            if isinstance(x, dict)
            else tuple(sorted(x, key=repr))
            if isinstance(x, set | frozenset)
            else tuple(x)
        )
    if question is _LENGTH:
        return len(x)
    kind, key = question
    if kind == "in":
        return key in x
    try:
        return x[key]
    except (KeyError, IndexError):
        return _MISSING


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b) or (isinstance(a, tuple) and len(a) != len(b)):
        return False
    if isinstance(a, tuple):
        return a == b and list(map(type, a)) == list(map(type, b)) and all(map(_same, *_inner(a, b)))
    return a is b or (type(a).__eq__ is not object.__eq__ and bool(a == b) and (a != 0 or repr(a) == repr(b)))


def _inner(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[list[Any], list[Any]]:
    """The pairs of which `==` does not tell enough: tuples inside, and zeros of either sign."""
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if type(x) is tuple or (type(x) is float and x == 0)]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _note_all(x: Any) -> None:
    _record(x, _ALL)


def _record(x: Any, question: Any) -> None:
    answer = x.reads.answers[question] = _ask(x.content, question)
    values = (
        x.content.values()
        if question is _ALL and isinstance(x.content, dict)
        else answer
        if question is _ALL
        else (answer,)
    )
    if not set(map(type, values)) <= _PLAIN and not all(isinstance(value, np.dtype) for value in values):
        misjudged.add(id(x.content))
        x.reads.mutated = True


def plain_copy(x: Any) -> Any:
    """What a watched copy holds, as the plain container that it stands for."""
    _note_all(x)
    return x.base(x)


def _note(question: Any) -> Any:
    def decorate(name: str) -> Any:
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            _record(self, question)
            for other in args:
                if type(other) in _BASES:  # read past its own methods
                    _note_all(other)
            return getattr(self.base, name)(self, *args, **kwargs)

        return method

    return decorate


def _reflected(operator: Any) -> Any:
    def method(self: Any, other: Any) -> Any:
        _note_all(self)
        return operator(other, self.base(self))

    return method


def _mutator(name: str) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.reads.mutated = True
        return getattr(self.base, name)(self, *args, **kwargs)

    return method


def _getitem(self: Any, key: Any) -> Any:
    question = _ALL if isinstance(key, slice) else ("get", key if self.base is dict else operator.index(key))
    _record(self, question)
    return self.base.__getitem__(self, key)


def _contains(self: Any, key: Any) -> bool:
    try:
        _record(self, ("in", key))
    except TypeError:  # a key that cannot be hashed
        _note_all(self)
    return self.base.__contains__(self, key)


def _get(self: Any, key: Any, default: Any = None) -> Any:
    return self[key] if key in self else default  # noqa: SIM401 (this is what `get` is made of)


_WHOLE = [
    "__iter__",
    "__reversed__",
    "__eq__",
    "__ne__",
    "__add__",
    "__or__",
    "__and__",
    "__sub__",
    "__repr__",
    "__lt__",
    "__le__",
    "__gt__",
    "__ge__",
    "__mul__",
    "__rmul__",
    "__xor__",
    "keys",
    "values",
    "items",
    "copy",
    "index",
    "count",
    "union",
    "issubset",
    "issuperset",
    "intersection",
    "difference",
    "isdisjoint",
    "symmetric_difference",
]
_MUTATORS = [
    "__setitem__",
    "__delitem__",
    "__iadd__",
    "__imul__",
    "__ior__",
    "__iand__",
    "__isub__",
    "__ixor__",
    "append",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "clear",
    "sort",
    "reverse",
    "update",
    "setdefault",
    "add",
    "discard",
    "difference_update",
    "intersection_update",
    "symmetric_difference_update",
]


_REFLECTED = {"add": operator.add, "or": operator.or_, "and": operator.and_, "sub": operator.sub, "xor": operator.xor}


def _watched_class(base: type) -> type:
    namespace: dict[str, Any] = {"base": base, "__hash__": base.__hash__, "__len__": _note(_LENGTH)("__len__")}
    namespace["mutated"] = property(lambda self: self.reads.mutated)
    if hasattr(base, "__getitem__"):
        namespace["__getitem__"] = _getitem
    if base is dict:
        namespace["get"] = _get
    namespace["__contains__"] = _contains
    namespace.update((name, _note(_ALL)(name)) for name in _WHOLE if hasattr(base, name))
    namespace.update((name, _mutator(name)) for name in _MUTATORS if hasattr(base, name))
    namespace.update(
        (f"__r{name}__", _reflected(call)) for name, call in _REFLECTED.items() if hasattr(base, f"__{name}__")
    )
    if base.__hash__ is not None:
        namespace["__hash__"] = _note(_ALL)("__hash__")
    return type(f"Watched{base.__name__.capitalize()}", (base,), namespace)


_CLASSES = {base: _watched_class(base) for base in (list, dict, set, tuple, frozenset)}


def _as_tree(x: Any) -> tuple[Any, Any]:
    _note_all(x)
    keys = tuple(sorted(x.content)) if x.base is dict else None
    return [x.content[key] for key in keys] if keys is not None else list(x.content), (x.base, keys)


def _from_tree(header: Any, values: Any) -> Any:
    base, keys = header
    return base(values) if keys is None else dict(zip(keys, values, strict=True))


for _base in (list, tuple, dict):  # JAX takes them for the containers that they copy
    jax.tree_util.register_pytree_node(_CLASSES[_base], _as_tree, _from_tree)
_BASES = frozenset(_CLASSES.values())
WATCHED_COPIES = {watched: base for base, watched in _CLASSES.items()}


def watched_copy(x: Any) -> Any:
    """A copy of a container that notes what is read of it in `reads`."""
    copied = _CLASSES[type(x)](x)
    copied.content, copied.reads = x, Reads()
    return copied

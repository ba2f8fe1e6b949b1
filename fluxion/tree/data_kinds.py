"""Kinds of data: containers, objects with fields, and what JAX knows as pytrees."""

from __future__ import annotations

import collections
import functools
import types
from typing import Any

import jax

from fluxion.tree.kind import (
    Header,
    Kind,
    Place,
    attribute_names,
    blank,
    getattr_static,
    slot_names,
)
from fluxion.tree.user import is_user_class


class ListKind(Kind):
    """list, deque and their subclasses without fields of their own."""

    def open(self, x: Any) -> tuple[Header, Any]:
        return (type(x), len(x), getattr(x, "maxlen", None)), list(x)

    def shell(self, header: Header) -> Any:
        return collections.deque(maxlen=header[2]) if header[0] is collections.deque else header[0]()

    def fill(self, shell: Any, header: Header, children: list[Any]) -> Any:
        shell.extend(children)
        return shell

    def place(self, x: Any, header: Header, i: int) -> Place | None:
        return x.__setitem__, i


class TupleKind(Kind):
    """tuple and namedtuples."""

    def open(self, x: Any) -> tuple[Header, Any]:
        return (type(x), len(x)), x

    def fill(self, shell: Any, header: Header, children: list[Any]) -> Any:
        cls = header[0]
        return cls(*children) if hasattr(cls, "_fields") else tuple.__new__(cls, children)

    def path(self, header: Header, i: int) -> str:
        fields = getattr(header[0], "_fields", None)
        return f".{fields[i]}" if fields else f"[{i}]"


class DictKind(Kind):
    """dict, OrderedDict, defaultdict: the keys are structure, the values children."""

    def open(self, x: Any) -> tuple[Header, Any]:
        return (type(x), tuple(x), getattr(x, "default_factory", None)), list(x.values())

    def shell(self, header: Header) -> Any:
        return header[0](header[2]) if header[2] is not None else header[0]()

    def fill(self, shell: Any, header: Header, children: list[Any]) -> Any:
        for key, child in zip(header[1], children, strict=True):
            shell[key] = child
        return shell

    def place(self, x: Any, header: Header, i: int) -> Place | None:
        return x.__setitem__, header[1][i]

    def path(self, header: Header, i: int) -> str:
        return f"[{header[1][i]!r}]"


class ObjectKind(Kind):
    """Any object with fields; where its class is the user's own, the class is the first child."""

    def open(self, x: Any) -> tuple[Header, Any]:
        cls: Any = type(x)
        if "_pending" in getattr(x, "__dict__", ()) and hasattr(cls, "_expand"):  # a gradient that is not arranged yet
            x._expand()
        fields = x.__dict__ if not slot_names(cls) else {name: getattr_static(x, name) for name in attribute_names(x)}
        if is_user_class(cls):
            return (cls, tuple(fields), True), [cls, *fields.values()]
        return (cls, tuple(fields), False), list(fields.values())

    def reopen(self, x: Any, header: Header) -> list[Any] | None:
        if attribute_names(x) != header[1]:
            return None
        return [type(x)] * header[2] + [getattr_static(x, name) for name in header[1]]

    def shell(self, header: Header) -> Any:
        return blank(header[0])

    def fill(self, shell: Any, header: Header, children: list[Any]) -> Any:
        if header[2]:
            children = children[1:]
        for name, child in zip(header[1], children, strict=True):
            object.__setattr__(shell, name, child) if name in slot_names(header[0]) else shell.__dict__.__setitem__(
                name, child
            )
        return shell

    def place(self, x: Any, header: Header, i: int) -> Place | None:
        name = header[1][i - header[2]]
        if i < header[2]:
            return None
        if name in getattr(x, "__dict__", ()):
            return x.__dict__.__setitem__, name
        return functools.partial(object.__setattr__, x), name

    def path(self, header: Header, i: int) -> str:
        return f".{header[1][i - header[2]]}" if i >= header[2] else ".__class__"


class PytreeKind(Kind):
    """A value that JAX knows as a pytree and that has no Python fields."""

    def open(self, x: Any) -> tuple[Header, Any]:

        children, definition = jax.tree_util.tree_flatten(x, is_leaf=lambda y: y is not x)
        return definition, children

    def fill(self, shell: Any, header: Header, children: list[Any]) -> Any:
        return header.unflatten(children)


class SubclassKind(PytreeKind):
    """A subclass of list, dict or deque: what it holds, its fields, and its class where that is the user's own."""

    def open(self, x: Any) -> tuple[Header, Any]:
        cls = type(x)
        keys, items = (tuple(x), list(dict.values(x))) if isinstance(x, dict) else (len(x), list(x))
        names = attribute_names(x)
        extra: Any = x.maxlen if isinstance(x, collections.deque) else None
        extra = x.default_factory if isinstance(x, collections.defaultdict) else extra
        is_user = is_user_class(cls)
        fields = [getattr_static(x, name) for name in names]
        return (cls, keys, names, extra, is_user), [*([cls] if is_user else []), *fields, *items]

    def shell(self, header: Header) -> Any:
        return blank(header[0])

    def fill(self, shell: Any, header: Header, children: list[Any]) -> Any:
        cls, keys, names, extra, has_class = header
        start = has_class + len(names)
        for name, child in zip(names, children[has_class:start], strict=True):
            object.__setattr__(shell, name, child)
        items = children[start:]
        if issubclass(cls, collections.deque):
            collections.deque.__init__(shell, items, extra)
        elif issubclass(cls, list):
            list.__init__(shell, items)
        else:
            if issubclass(cls, collections.defaultdict):
                shell.default_factory = extra
            insert = (
                collections.OrderedDict.__setitem__ if issubclass(cls, collections.OrderedDict) else dict.__setitem__
            )
            for key, child in zip(keys, items, strict=True):
                insert(shell, key, child)
        return shell

    def place(self, x: Any, header: Header, i: int) -> Place | None:
        _, keys, names, _, has_class = header
        i -= has_class
        if i < len(names):
            return (functools.partial(object.__setattr__, x), names[i]) if i >= 0 else None
        i -= len(names)
        return x.__setitem__, i if isinstance(keys, int) else keys[i]

    def path(self, header: Header, i: int) -> str:
        _, keys, names, _, has_class = header
        i -= has_class
        if i < len(names):
            return f".{names[i]}" if i >= 0 else ".__class__"
        i -= len(names)
        return f"[{i if isinstance(keys, int) else keys[i]!r}]"


class CachedKind(PytreeKind):
    """A function under `functools.cache`: traced with an empty cache, so that no traced value stays in it."""

    def open(self, x: Any) -> tuple[Header, Any]:
        return tuple(x.cache_parameters().values()), [x.__wrapped__]

    def fill(self, shell: Any, header: Header, children: list[Any]) -> Any:
        return functools.lru_cache(*header)(children[0])

    def path(self, header: Header, i: int) -> str:
        return ""


class CustomKind(PytreeKind):
    """A `jax.custom_jvp` or `jax.custom_vjp` of the user's: its functions."""

    def open(self, x: Any) -> tuple[Header, Any]:
        return (type(x), tuple(x.__dict__)), list(x.__dict__.values())

    def fill(self, shell: Any, header: Header, children: list[Any]) -> Any:
        made = object.__new__(header[0])
        made.__dict__.update(zip(header[1], children, strict=True))
        return made

    def path(self, header: Header, i: int) -> str:
        return f".{header[1][i]}"


class ProxyKind(PytreeKind):
    """A read-only view of a dict."""

    def open(self, x: Any) -> tuple[Header, Any]:
        return (), [x.copy()]

    def fill(self, shell: Any, header: Header, children: list[Any]) -> Any:
        return types.MappingProxyType(children[0])

    def path(self, header: Header, i: int) -> str:
        return ""

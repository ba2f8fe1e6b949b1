"""How each kind of Python value opens into children, is built anew from other children, and takes a child back.

A kind is a stateless object. `open(x)` gives `(header, children)`: the header is hashable and holds everything that
is not a child. `shell(header)` makes an empty object of that kind, `fill(shell, header, children)` completes and
returns it; the two steps let cycles close. `place(x, header, i)` gives `(set, key)` such that `set(key, value)`
replaces child `i`, or None where the object cannot change. `path(header, i)` is how the child is written in source.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import numpy as np

Header = Any
Place = tuple[Callable[[Any, Any], Any], Any]


class _Absent:
    __slots__ = ()

    def __repr__(self) -> str:
        return "undefined"


ABSENT = _Absent()


class Identity:
    """Stands in a structure for an object that is compared by identity."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return type(other) is Identity and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)

    def __repr__(self) -> str:
        return repr(self.value)


class Snapshot(Identity):
    """Stands for an object that is compared by what it held when it was walked: a set, bytes, an array of strings."""

    __slots__ = ("content",)

    content: Any

    def __init__(self, value: Any) -> None:
        items: Any
        if isinstance(value, np.ndarray):
            items = tuple(value.ravel().tolist()) if value.dtype.hasobject else value.tobytes()
            self.value, self.content = value, (value.dtype, value.shape, items)
        elif isinstance(value, set | frozenset):
            self.value, self.content = value, frozenset(value)
        elif isinstance(value, dict | list | tuple):
            items = tuple(value.items()) if isinstance(value, dict) else tuple(value)
            values = value.values() if isinstance(value, dict) else value
            self.value, self.content = value, (items, tuple(map(type, values)))
        else:
            self.value, self.content = value, bytes(value)

    def __eq__(self, other: object) -> bool:
        if type(other) is not Snapshot or type(other.value) is not type(self.value):
            return False
        return other.content is self.content or bool(other.content == self.content)

    def __hash__(self) -> int:
        try:
            return hash(self.content)
        except TypeError:  # an array of objects that do not hash
            return hash(self.content[:2])


class Kind:
    """The base of the kinds: a mutable value opened by name."""

    def open(self, x: Any) -> tuple[Header, Any]:
        raise NotImplementedError

    def reopen(self, x: Any, header: Header) -> list[Any] | None:
        """The children again of a value built from `header`; None where it no longer has the same ones."""
        now, children = self.open(x)
        return list(children) if now == header else None

    def shell(self, header: Header) -> Any:
        return None

    def fill(self, shell: Any, header: Header, children: list[Any]) -> Any:
        raise NotImplementedError

    def place(self, x: Any, header: Header, i: int) -> Place | None:
        return None

    def path(self, header: Header, i: int) -> str:
        return f"[{i}]"


def attribute_names(x: Any) -> tuple[str, ...]:
    """Names of the fields of an object, those of `__slots__` included."""
    cls: Any = type(x)
    names = list(getattr(x, "__dict__", ()))
    names += [name for name in slot_names(cls) if hasattr(x, name)]
    return tuple(names)


def getattr_static(x: Any, name: str) -> Any:
    """A field of an object, past any property of the same name."""
    fields = getattr(x, "__dict__", {})
    return fields[name] if name in fields else getattr(x, name)


def blank(cls: type) -> Any:
    """An object of a class without fields, made past every `__new__` and `__init__` of the user's; see
    `can_be_blank`.
    """
    return _maker(cls).__new__(cls)


def can_be_blank(cls: type) -> bool:
    """True where an object without fields makes sense: not for a subclass of int, str and the like, which would lose
    its value.
    """
    return _maker(cls) in (object, types.SimpleNamespace)


def _maker(cls: type) -> Any:
    return next(base for base in cls.__mro__ if isinstance(base.__dict__.get("__new__"), types.BuiltinFunctionType))


@functools.cache
def slot_names(cls: Any) -> tuple[str, ...]:
    """Names that `__slots__` of a class and its bases declare, mangled as Python stores them."""
    names = []
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            private = name.startswith("__") and not name.endswith("__")
            names.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))

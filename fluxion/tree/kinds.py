"""How each kind of Python value opens into children, is built anew from other children, and takes a child back.

A kind is a stateless object. `open(x)` gives `(header, children)`: the header is hashable and holds everything that is not a
child. `shell(header)` makes an empty object of that kind, `fill(shell, header, children)` completes and returns it; the
two steps let cycles close. `place(x, header, i)` gives `(set, key)` such that `set(key, value)` replaces child `i`, or None where
the object cannot change. `path(header, i)` is how the child is written in source.
"""

from __future__ import annotations

import collections
import functools
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from fluxion.tree.user import CodeInfo, code_info, is_user_class

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

    def __init__(self, value: Any) -> None:
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
    names = list(getattr(x, "__dict__", ()))
    names += [name for name in slot_names(type(x)) if hasattr(x, name)]
    return tuple(names)


def getattr_static(x: Any, name: str) -> Any:
    """A field of an object, past any property of the same name."""
    fields = getattr(x, "__dict__", ())
    return fields[name] if name in fields else getattr(x, name)


def blank(cls: type) -> Any:
    """An object of a class without fields, made past every `__new__` and `__init__` of the user's; see `can_be_blank`."""
    return _maker(cls).__new__(cls)


def can_be_blank(cls: type) -> bool:
    """True where an object without fields makes sense: not for a subclass of int, str and the like, which would lose its value."""
    return _maker(cls) in (object, types.SimpleNamespace)


def _maker(cls: type) -> Any:
    return next(base for base in cls.__mro__ if isinstance(base.__dict__.get("__new__"), types.BuiltinFunctionType))


@functools.cache
def slot_names(cls: type) -> tuple[str, ...]:
    """Names that `__slots__` of a class and its bases declare, mangled as Python stores them."""
    names = []
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            private = name.startswith("__") and not name.endswith("__")
            names.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


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
        cls = type(x)
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
            object.__setattr__(shell, name, child) if name in slot_names(header[0]) else shell.__dict__.__setitem__(name, child)
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


class CellKind(Kind):
    """A closure cell: two functions over one variable share it."""

    def open(self, x: Any) -> tuple[Header, Any]:
        try:
            return (), [x.cell_contents]
        except ValueError:
            return (), [ABSENT]

    def shell(self, header: Header) -> Any:
        return types.CellType()

    def fill(self, shell: Any, header: Header, children: list[Any]) -> Any:
        if children[0] is not ABSENT:
            shell.cell_contents = children[0]
        return shell

    def place(self, x: Any, header: Header, i: int) -> Place | None:
        return functools.partial(setattr, x), "cell_contents"

    def path(self, header: Header, i: int) -> str:
        return ""


class FunctionKind(Kind):
    """A Python function: cells, defaults, attributes, and the globals that the user's own code names."""

    def open(self, x: Any) -> tuple[Header, Any]:
        info = code_info(x.__code__)
        scope = x.__globals__
        names: tuple[str, ...] = ()
        children = []
        if info.is_user:
            names = info.globals
            children = [scope.get(name, ABSENT) for name in names]
        cells = x.__closure__ or ()
        defaults = x.__defaults__ or ()
        keywords = x.__kwdefaults__ or {}
        header = (info, Identity(scope), names, len(cells), len(defaults), tuple(keywords), tuple(x.__dict__))
        children += [*cells, *defaults, *keywords.values(), *x.__dict__.values()]
        return header, children

    def reopen(self, x: Any, header: Header) -> list[Any] | None:
        now, children = self.open(x)
        return children if now[2:] == header[2:] else None

    def split(self, header: Header, children: list[Any]) -> tuple[list[Any], ...]:
        """The children as (globals, cells, defaults, keyword defaults, attributes)."""
        _, _, names, cells, defaults, keywords, attributes = header
        bounds = [0]
        for count in (len(names), cells, defaults, len(keywords), len(attributes)):
            bounds.append(bounds[-1] + count)
        return tuple(children[start:end] for start, end in zip(bounds, bounds[1:], strict=False))

    def place(self, x: Any, header: Header, i: int) -> Place | None:
        _, _, names, cells, defaults, keywords, attributes = header
        if i < len(names):
            return x.__globals__.__setitem__, names[i]
        i -= len(names) + cells + defaults
        if i < 0:
            return None
        if i < len(keywords):
            return x.__kwdefaults__.__setitem__, keywords[i]
        return x.__dict__.__setitem__, attributes[i - len(keywords)]

    def path(self, header: Header, i: int) -> str:
        info, _, names, cells, defaults, keywords, attributes = header
        code = info.code
        arguments = code.co_varnames[: code.co_argcount]
        labels = [*names, *code.co_freevars[:cells], *arguments[len(arguments) - defaults :], *keywords, *attributes]
        return f".{labels[i]}"


class MethodKind(Kind):
    """A bound method: its function and its object."""

    def open(self, x: Any) -> tuple[Header, Any]:
        return (), [x.__func__, x.__self__]

    def fill(self, shell: Any, header: Header, children: list[Any]) -> Any:
        return types.MethodType(*children)

    def path(self, header: Header, i: int) -> str:
        return (".__func__", ".__self__")[i]


class BuiltinMethodKind(Kind):
    """A built-in method taken from an object, such as `history.append`."""

    def open(self, x: Any) -> tuple[Header, Any]:
        return x.__name__, [x.__self__]

    def fill(self, shell: Any, header: Header, children: list[Any]) -> Any:
        return getattr(children[0], header)

    def path(self, header: Header, i: int) -> str:
        return ".__self__"


class PartialKind(Kind):
    """functools.partial and its subclasses."""

    def open(self, x: Any) -> tuple[Header, Any]:
        return (type(x), len(x.args), tuple(x.keywords)), [x.func, *x.args, *x.keywords.values()]

    def fill(self, shell: Any, header: Header, children: list[Any]) -> Any:
        cls, count, names = header
        return cls(children[0], *children[1 : 1 + count], **dict(zip(names, children[1 + count :], strict=True)))

    def place(self, x: Any, header: Header, i: int) -> Place | None:
        _, count, names = header
        return (x.keywords.__setitem__, names[i - 1 - count]) if i > count else None

    def path(self, header: Header, i: int) -> str:
        _, count, names = header
        if i == 0:
            return ".func"
        return f".args[{i - 1}]" if i <= count else f".keywords[{names[i - 1 - count]!r}]"


class WrapperKind(Kind):
    """staticmethod, classmethod and property, as they stand in a class."""

    def open(self, x: Any) -> tuple[Header, Any]:
        if isinstance(x, property):
            return property, [x.fget, x.fset, x.fdel]
        return type(x), [x.__func__]

    def fill(self, shell: Any, header: Header, children: list[Any]) -> Any:
        return header(*children)

    def path(self, header: Header, i: int) -> str:
        return ""


class ClassKind(Kind):
    """A class of the user's own: its bases, and what its methods read."""

    def open(self, x: Any) -> tuple[Header, Any]:
        items = {name: value for name, value in x.__dict__.items() if _is_class_field(name, value)}
        return (x, len(x.__bases__), tuple(items)), [*x.__bases__, *items.values()]

    def reopen(self, x: Any, header: Header) -> list[Any] | None:
        return [*x.__bases__, *(x.__dict__.get(name, ABSENT) for name in header[2])]

    def place(self, x: Any, header: Header, i: int) -> Place | None:
        return functools.partial(setattr, x), header[2][i - header[1]]

    def path(self, header: Header, i: int) -> str:
        return f".{header[2][i - header[1]]}" if i >= header[1] else ".__base__"


_CLASS_VALUES = (types.MemberDescriptorType, types.GetSetDescriptorType)


def _is_class_field(name: str, value: Any) -> bool:
    if isinstance(value, types.FunctionType | staticmethod | classmethod | property):
        return True
    private = name.startswith("_") and name.endswith("_")  # also what an Enum keeps
    return not (private or name.startswith(("__", "_abc_"))) and not isinstance(value, _CLASS_VALUES)


class ModuleKind(Kind):
    """A module of the user's own, seen by one function: only the attributes that the function names."""

    def open(self, x: Any) -> tuple[Header, Any]:
        raise NotImplementedError  # needs the function: see Walk.visit

    def open_for(self, x: Any, info: CodeInfo | None) -> tuple[Header, Any]:
        """`info` is the code that reads the module; None where that is not known, which counts everything."""
        found = info.attributes & x.__dict__.keys() if info is not None else x.__dict__.keys()
        names = tuple(sorted(name for name in found if not name.startswith("__")))
        return (Identity(x), names), [x.__dict__[name] for name in names]

    def reopen(self, x: Any, header: Header) -> list[Any] | None:
        return [x.__dict__.get(name, ABSENT) for name in header[1]]

    def place(self, x: Any, header: Header, i: int) -> Place | None:
        return x.__dict__.__setitem__, header[1][i]

    def path(self, header: Header, i: int) -> str:
        return f".{header[1][i]}"


class PytreeKind(Kind):
    """A value that JAX knows as a pytree and that has no Python fields."""

    def open(self, x: Any) -> tuple[Header, Any]:
        import jax

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
        extra = x.maxlen if isinstance(x, collections.deque) else None
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
            insert = collections.OrderedDict.__setitem__ if issubclass(cls, collections.OrderedDict) else dict.__setitem__
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


LIST, TUPLE, DICT, OBJECT, CELL = ListKind(), TupleKind(), DictKind(), ObjectKind(), CellKind()
FUNCTION, METHOD, BUILTIN_METHOD, PARTIAL = FunctionKind(), MethodKind(), BuiltinMethodKind(), PartialKind()
WRAPPER, CLASS, MODULE, PYTREE = WrapperKind(), ClassKind(), ModuleKind(), PytreeKind()
SUBCLASS, CACHED, CUSTOM, PROXY = SubclassKind(), CachedKind(), CustomKind(), ProxyKind()

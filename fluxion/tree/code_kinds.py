"""Kinds of code: functions with what they close over and name, methods, classes and modules of the user's own."""

from __future__ import annotations

import functools
import itertools
import types
from typing import Any

from fluxion.tree.kind import (
    ABSENT,
    Header,
    Identity,
    Kind,
    Place,
)
from fluxion.tree.user import CodeInfo, code_info


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
        return tuple(children[start:end] for start, end in itertools.pairwise(bounds))

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

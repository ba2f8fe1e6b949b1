"""Which code is the user's own, and which names it reads."""

from __future__ import annotations

import dis
import functools
import os
import pathlib
import sys
import sysconfig
from types import CodeType, FunctionType

_PACKAGE = str(pathlib.Path(__file__).resolve().parent.parent) + os.sep
_LIBRARY = (
    *{sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")},
    _PACKAGE,
    "<frozen",
)
_INSTALLED = {"site-packages", "dist-packages"}  # of the user, of the system and of other environments as well


@functools.cache
def is_user_file(filename: str) -> bool:
    """True for code that is neither the standard library's nor an installed package's nor Fluxion's."""
    return not filename.startswith(_LIBRARY) and _INSTALLED.isdisjoint(pathlib.PurePath(filename).parts)


@functools.cache
def _is_user_module(name: str) -> bool:
    if name in sys.builtin_module_names:
        return False
    filename = getattr(sys.modules.get(name), "__file__", None)
    return filename is None or is_user_file(filename)


def is_user_class(cls: type) -> bool:
    """True for a class that the user's own code defines."""
    return _is_user_module(cls.__module__)


def is_user_module(module: object) -> bool:
    """True for a module of the user's own."""
    return _is_user_module(getattr(module, "__name__", ""))


class CodeInfo:
    """What a code object reads: `globals` it loads, `attributes` it names; equal code shares one CodeInfo.

    `handed_on` are the globals and closure variables of which it does not only read attributes: what happens to
    these is not known.
    """

    __slots__ = ("attributes", "code", "globals", "handed_on", "is_user")

    def __init__(self, code: CodeType) -> None:
        self.code = code
        self.is_user = is_user_file(code.co_filename)
        names: dict[str, None] = {}
        attributes: set[str] = set()
        handed_on: set[str] = set()
        pending = [code]
        while pending:
            current = pending.pop()
            attributes.update(current.co_names)
            instructions = list(dis.get_instructions(current))
            for instruction, following in zip(instructions, [*instructions[1:], None], strict=True):
                if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL"):
                    names[str(instruction.argval)] = None
                elif instruction.opname not in ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"):
                    continue
                if following is None or following.opname not in ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR"):
                    handed_on.add(str(instruction.argval))
            pending.extend(constant for constant in current.co_consts if isinstance(constant, CodeType))
        self.globals = tuple(names)
        self.attributes = frozenset(attributes)
        self.handed_on = frozenset(handed_on)

    def __repr__(self) -> str:
        return f"{self.code.co_qualname} (line {self.code.co_firstlineno})"


_by_value: dict[tuple[str, CodeType], CodeInfo] = {}
_by_identity: dict[int, tuple[CodeType, CodeInfo]] = {}


def code_info(code: CodeType) -> CodeInfo:
    """The CodeInfo of a code object; hashing code is slow, so it is found by identity first."""
    found = _by_identity.get(id(code))
    if found is None:
        info = _by_value.setdefault((code.co_filename, code), CodeInfo(code))  # equal code may stand in two files
        if len(_by_identity) > 10_000:
            _by_identity.clear()
        _by_identity[id(code)] = found = (code, info)
    return found[1]


def is_published(function: FunctionType) -> bool:
    """True for a function that its module offers under its own name, so that it closes over nothing of the user's."""
    home = function.__globals__.get("__name__", "")  # `functools.wraps` makes `__module__` that of the wrapped function
    return function.__module__ == home and getattr(sys.modules.get(home), function.__name__, None) is function

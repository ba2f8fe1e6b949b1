"""Pickles of plain data, read without running anything: the files of CIFAR and Planetoid are such."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from fluxion.data.errors import CorruptFileError
from fluxion.data.formats.cursor import AnyPath, Cursor

_MARK = object()
_ARRAY, _SCALAR, _DTYPE, _RECORD, _MATRIX = "array", "scalar", "dtype", "record", "matrix"
_TEXT, _DICT, _EMPTY = "text", "dict", "empty"
_GLOBALS = {
    "numpy.core.multiarray _reconstruct": _ARRAY,
    "numpy._core.multiarray _reconstruct": _ARRAY,
    "numpy.core.multiarray scalar": _SCALAR,
    "numpy._core.multiarray scalar": _SCALAR,
    "numpy ndarray": None,
    "numpy dtype": _DTYPE,
    "copy_reg _reconstructor": _RECORD,
    "copyreg _reconstructor": _RECORD,
    "scipy.sparse.csr csr_matrix": _MATRIX,
    "scipy.sparse._csr csr_matrix": _MATRIX,
    "__builtin__ object": None,
    "builtins object": None,
    "collections defaultdict": _DICT,
    "__builtin__ list": None,
    "builtins list": None,
    "_codecs encode": _TEXT,
    "__builtin__ bytes": _EMPTY,  # how Python 3 writes no bytes for Python 2
}


class Global:
    """A name in a pickle; `makes` says what calling it makes. Nothing of that name is ever imported."""

    def __init__(self, makes: str | None) -> None:
        self.makes = makes


class Record:
    """An object of which only the fields are read."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}


class _Type:
    """The type of the numbers of an array; its byte order comes later in a pickle than the type itself."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype


def plain_pickle(data: bytes, path: AnyPath) -> Any:
    """The dicts, lists, tuples, strings, numbers and NumPy arrays in a pickle of any protocol.

    Strings of Python 2 are bytes, as keys of a dict text. An object of SciPy's `csr_matrix` is a `Record`. A pickle is
    a program; here only the instructions that plain data needs are known, and of names only those of `_GLOBALS`, which
    stand for themselves. Anything else raises CorruptFileError.
    """
    machine = _Machine(data, path)
    try:
        return machine.result()
    except CorruptFileError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise machine.cursor.wrong(f"no pickle of plain data ({type(error).__name__}: {error})") from None


class _Machine:
    def __init__(self, data: bytes, path: AnyPath) -> None:
        self.data = data
        self.cursor = Cursor(data, path)
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        while (code := bytes(self.cursor.take(1, "an instruction"))) != b".":
            if code in _CONSTANTS:
                self.stack.append(_CONSTANTS[code]())
            elif code in _READ:
                self.stack.append(_READ[code](self))
            elif code in _ACT:
                _ACT[code](self)
            else:
                raise self.cursor.wrong(f"the pickle uses the instruction {code!r}, which plain data does not need")
        return self.stack.pop()

    # What the instructions take out of the file

    def line(self) -> str:
        end = self.data.find(b"\n", self.cursor.place)
        if end < 0:
            raise self.cursor.wrong("a line of the pickle has no end")
        return str(self.cursor.take(end + 1 - self.cursor.place, "a line")[:-1], "latin-1")

    def counted(self, form: str) -> bytes:
        (size,) = self.cursor.numbers(form, "a size")
        return bytes(self.cursor.take(size, "a string"))

    def skip(self, count: int) -> None:
        self.cursor.take(count, "an instruction")

    def number(self, form: str) -> int:
        return int(self.cursor.numbers(form, "a number")[0])

    def whole(self) -> int | bool:
        text = self.line()
        return {"00": False, "01": True}[text] if text in ("00", "01") else int(text.rstrip("L"))

    def quoted(self) -> bytes:
        """A string of Python 2's text protocol, with its escapes."""
        text = self.line().strip()
        if not re.fullmatch(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", text, re.ASCII):
            raise self.cursor.wrong("a string of the pickle has no quotes")
        return bytes(ast.literal_eval("b" + text))

    def name(self, module: str, attribute: str) -> Global:
        name = f"{module} {attribute}"
        if name not in _GLOBALS:
            raise self.cursor.wrong(f"the pickle names {name.replace(' ', '.')!r}; names that could run are not read")
        return Global(_GLOBALS[name])

    # What they do with the stack

    def pop_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise self.cursor.wrong("the pickle closes what it did not open")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def pop_tuple(self, count: int) -> tuple[Any, ...]:
        items = tuple(self.stack[-count:])
        if len(items) < count or any(item is _MARK for item in items):
            raise self.cursor.wrong("the pickle takes more values than it has")
        del self.stack[len(self.stack) - count :]
        return items

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise self.cursor.wrong("the pickle appends to what is no list")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise self.cursor.wrong("the pickle sets items of what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, bytes, int, float)):
                raise self.cursor.wrong(f"a dict of the pickle has a key of type {type(key).__name__}")
            target[str(key, "latin-1") if isinstance(key, bytes) else key] = value

    def new_dict(self, items: list[Any]) -> None:
        self.stack.append({})
        self.set_items(items)

    def new_name(self) -> None:
        module, attribute = self.pop_tuple(2)
        self.stack.append(self.name(module, attribute))

    def call(self) -> None:
        function, arguments = self.pop_tuple(2)
        makes = function.makes if isinstance(function, Global) and isinstance(arguments, tuple) else None
        if makes is None or makes == _MATRIX:
            raise self.cursor.wrong("the pickle calls what cannot be called")
        self.stack.append(self.made(makes, arguments))

    def new_object(self) -> None:
        kind, arguments = self.pop_tuple(2)
        if not isinstance(kind, Global) or kind.makes != _MATRIX or arguments != ():
            raise self.cursor.wrong("the pickle makes an object of what is no type")
        self.stack.append(Record())

    def made(self, makes: str, arguments: tuple[Any, ...]) -> Any:
        if makes == _TEXT:
            text, encoding = arguments
            if encoding != "latin1":
                raise self.cursor.wrong(f"the pickle encodes bytes as {encoding!r}")
            return text.encode("latin-1")
        if makes == _SCALAR:
            number = np.zeros(0)
            self.fill(number, 1, (), arguments[0], 0, arguments[1])
            return number.item()
        if makes == _DTYPE:
            name = arguments[0]
            name = str(name, "ascii") if isinstance(name, bytes) else name
            if not re.fullmatch(r"[|<>=]?(b1|[iu][1248]|f[248]|c8|c16)", name):
                raise self.cursor.wrong(f"the pickle has an array of type {name!r}, which holds no plain numbers")
            return _Type(np.dtype(name))
        return {_ARRAY: lambda: np.zeros(0), _RECORD: Record, _DICT: dict, _EMPTY: bytes}[makes]()

    def build(self) -> None:
        target, state = self.pop_tuple(2)
        if isinstance(target, np.ndarray):
            self.fill(target, *state)
        elif isinstance(target, _Type):
            order: Any = str(state[1], "ascii") if isinstance(state[1], bytes) else state[1]
            target.dtype = target.dtype.newbyteorder(order)
        elif isinstance(target, Record) and isinstance(state, dict):
            target.fields = state
        else:
            raise self.cursor.wrong("the pickle gives a state to what has none")
        self.stack.append(target)

    def fill(
        self, target: np.ndarray, version: int, shape: tuple[int, ...], kind: _Type, fortran: int, raw: Any
    ) -> None:
        """Makes an array of `shape` of `target` itself, to which the memo already points."""
        raw = raw.encode("latin-1") if isinstance(raw, str) else raw
        whole = all(type(n) is int and 0 <= n <= len(raw) for n in shape)
        if not whole or math.prod(shape) * kind.dtype.itemsize != len(raw):
            raise self.cursor.wrong(f"an array of shape {shape} does not have {len(raw)} bytes")
        state: Any = (1, shape, kind.dtype, bool(fortran), raw)
        target.__setstate__(state)


def _long(raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True)


_CONSTANTS: dict[bytes, Callable[[], Any]] = {
    b"(": lambda: _MARK,
    b"}": dict,
    b"]": list,
    b")": tuple,
    b"N": lambda: None,
    b"\x88": lambda: True,
    b"\x89": lambda: False,
}
_READ: dict[bytes, Callable[[_Machine], Any]] = {
    b"K": lambda m: m.number("<B"),
    b"M": lambda m: m.number("<H"),
    b"J": lambda m: m.number("<i"),
    b"G": lambda m: m.cursor.numbers(">d", "a number")[0],
    b"\x8a": lambda m: _long(m.counted("<B")),
    b"\x8b": lambda m: _long(m.counted("<i")),
    b"I": lambda m: m.whole(),
    b"L": lambda m: m.whole(),
    b"F": lambda m: float(m.line()),
    b"S": lambda m: m.quoted(),
    b"U": lambda m: m.counted("<B"),
    b"T": lambda m: m.counted("<i"),
    b"C": lambda m: m.counted("<B"),
    b"B": lambda m: m.counted("<I"),
    b"\x8e": lambda m: m.counted("<Q"),
    b"V": lambda m: m.line().encode("latin-1").decode("raw-unicode-escape"),
    b"\x8c": lambda m: str(m.counted("<B"), "utf-8"),
    b"X": lambda m: str(m.counted("<I"), "utf-8"),
    b"\x8d": lambda m: str(m.counted("<Q"), "utf-8"),
    b"c": lambda m: m.name(m.line(), m.line()),
    b"g": lambda m: m.memo[int(m.line())],
    b"h": lambda m: m.memo[m.number("<B")],
    b"j": lambda m: m.memo[m.number("<I")],
    b"\x85": lambda m: m.pop_tuple(1),
    b"\x86": lambda m: m.pop_tuple(2),
    b"\x87": lambda m: m.pop_tuple(3),
    b"t": lambda m: tuple(m.pop_mark()),
    b"l": lambda m: m.pop_mark(),
}
_ACT: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": lambda m: m.skip(1),
    b"\x95": lambda m: m.skip(8),
    b"d": lambda m: m.new_dict(m.pop_mark()),
    b"a": lambda m: m.extend(list(m.pop_tuple(1))),
    b"e": lambda m: m.extend(m.pop_mark()),
    b"s": lambda m: m.set_items(list(m.pop_tuple(2))),
    b"u": lambda m: m.set_items(m.pop_mark()),
    b"p": lambda m: m.memo.__setitem__(int(m.line()), m.stack[-1]),
    b"q": lambda m: m.memo.__setitem__(m.number("<B"), m.stack[-1]),
    b"r": lambda m: m.memo.__setitem__(m.number("<I"), m.stack[-1]),
    b"\x94": lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    b"\x93": lambda m: m.new_name(),
    b"R": lambda m: m.call(),
    b"\x81": lambda m: m.new_object(),
    b"b": lambda m: m.build(),
}

"""Printing: a model reads as it was typed, with what it holds beside it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

import jax
import numpy as np

from fluxion.layers.base import Layer, typed

_WIDTH = 88
_SHOWN_ITEMS = 8


def show(x: Any, file: TextIO | None = None) -> None:
    """Prints `show_text(x)` to `file`, standard output where it is None.

    >>> show([np.zeros((3, 4), "float32")])
    [float32(3, 4)]  # 12 parameters, all zero
    """
    print(show_text(x), file=sys.stdout if file is None else file)


def show_text(x: Any) -> str:
    """`x` as it was typed, with the parameters that each part holds (Flux: `show` of a layer).

    Works for any value: layers, functions with the arrays they read, objects of your own classes, dicts, lists and
    arrays. What trains counts as parameters, what does not is told apart; a part that stands in two places is marked
    at the second; frozen parts and NaN, infinite or all-zero weights are pointed out.

    >>> import fluxion as fx
    >>> print(show_text(fx.Chain(fx.Dense(10, 5, fx.relu), fx.BatchNorm(5), fx.Dense(5, 2))))
    Chain(
      Dense(10, 5, relu),  # 55 parameters
      BatchNorm(5),        # 10 parameters, plus 10
      Dense(5, 2),         # 12 parameters
    )                      # Total: 6 trainable arrays, 77 parameters, plus 2 non-trainable, 10 parameters, 348 bytes
    """
    printer = _Printer(x)
    printer.write(x, _Spot())
    return printer.text()


@dataclasses.dataclass(frozen=True)
class _Part:
    """A child as shown: `key` leads to it from its owner, `label` is written before it."""

    key: str
    label: str
    value: Any


@dataclasses.dataclass(frozen=True)
class _Spot:
    """Where something is written, and whether what holds it is frozen. `path` leads there from the whole."""

    path: str = ""
    label: str = ""
    indent: int = 0
    frozen: bool = False

    def inside(self, part: _Part) -> _Spot:
        return _Spot(_joined(self.path, part.key), part.label, self.indent + 1, self.frozen)


class _Printer:
    def __init__(self, root: Any) -> None:
        from fluxion.tree import trainables

        self.trainable = {id(array) for array in trainables(root).values()}
        self.keys = _random_keys(root)
        self.written: dict[int, str] = {}
        self.counted: dict[int, tuple[str, Any]] = {}
        self.lines: list[tuple[str, str]] = []

    def text(self) -> str:
        width = max((len(text) for text, comment in self.lines if comment), default=0) + 2
        return "\n".join(f"{text:<{width}}# {comment}" if comment else text for text, comment in self.lines)

    def write(self, x: Any, spot: _Spot) -> None:
        """Writes `x` on one line, or its parts on a line each between brackets."""
        if hasattr(x, "__dict__"):
            spot = dataclasses.replace(spot, frozen=getattr(x, "_frozen", False))
        if id(x) in self.written:
            self.line(spot, self.one_line(x), f"tied to {self.written[id(x)] or 'the whole'}")
            return
        arrays = self.arrays(x)
        if arrays and not _is_array(x):
            self.written[id(x)] = spot.path
        if self.fits_on_a_line(x, spot):
            self.line(spot, self.one_line(x, root=spot.indent == 0), self.count(x, arrays, spot))
            return
        opening, closing = _brackets(x)
        self.line(spot, opening, "", comma=False)
        for part in _parts(x):
            self.write(part.value, spot.inside(part))
        self.line(dataclasses.replace(spot, label=""), closing, self.total() if spot.indent == 0 else "")

    def line(self, spot: _Spot, text: str, comment: str, comma: bool = True) -> None:
        ending = "," if comma and spot.indent else ""
        self.lines.append(("  " * spot.indent + spot.label + text + ending, comment))

    def arrays(self, x: Any) -> list[Any]:
        """The arrays in `x`, each once, without the keys of random generators."""
        from fluxion.tree import leaves

        return [leaf for leaf in leaves(x) if _is_array(leaf) and id(leaf) not in self.keys]

    def holds_parts(self, x: Any) -> bool:
        """Whether arrays lie deeper in `x` than in its own fields."""
        if _tells_arguments(x) and any(_is_array(value) for value in vars(x).values()):
            return False
        return any(not _is_array(part.value) and self.arrays(part.value) for part in _parts(x))

    def fits_on_a_line(self, x: Any, spot: _Spot) -> bool:
        if self.holds_parts(x):
            return spot.indent > 0 and not isinstance(x, Layer) and _own_text(x) is not None
        if _tells_arguments(x) or not _parts(x):
            return True
        return 2 * spot.indent + len(spot.label) + len(self.one_line(x, root=spot.indent == 0)) <= _WIDTH

    def one_line(self, x: Any, depth: int = 0, root: bool = False) -> str:
        """`x` without line breaks; what lies deep, or was written before, is cut to `...`."""
        text = _plain_text(x)
        if text is None and not root:
            text = _own_text(x)
        if text is None and _tells_arguments(x) and not self.holds_parts(x):
            text = x.typed()
        if text is not None:
            return text
        opening, closing = _brackets(x)
        if depth > 2 or (self.holds_parts(x) and not root):
            return f"{opening}...{closing}"
        parts = _parts(x)
        shown = [part.label + self.one_line(part.value, depth + 1) for part in parts[:_SHOWN_ITEMS]]
        shown += ["..."] if len(parts) > _SHOWN_ITEMS else []
        comma = "," if type(x) is tuple and len(shown) == 1 else ""
        return f"{opening}{', '.join(shown)}{comma}{closing}"

    def count(self, x: Any, arrays: list[Any], spot: _Spot) -> str:
        """The comment of a line: the parameters that come with it, and what is special about them."""
        from fluxion.tree import trainables

        named = trainables(x)
        ties = [(name, self.counted[id(array)][0]) for name, array in named.items() if id(array) in self.counted]
        new = [array for array in arrays if id(array) not in self.counted]
        names = {id(array): name for name, array in named.items()}
        self.counted.update((id(array), (_joined(spot.path, names.get(id(array), "")), array)) for array in new)
        trained = [array for array in new if id(array) in self.trainable]
        frozen = [array for array in new if id(array) not in self.trainable and spot.frozen and _may_train(x, array)]
        others = [array for array in new if not any(array is known for known in (*trained, *frozen))]
        notes = [_parameters([*trained, *frozen])] if trained or frozen else []
        notes += [f"plus {_size(others):_}" if notes else f"{_size(others):_} non-trainable"] if others else []
        notes += ["frozen"] if frozen else []
        notes += [f"{name} tied to {path}".removeprefix(" ") for name, path in ties]
        return ", ".join(notes + _warnings([*trained, *frozen]))

    def total(self) -> str:
        arrays = [array for _, array in self.counted.values()]
        trained = [array for array in arrays if id(array) in self.trainable]
        others = [array for array in arrays if id(array) not in self.trainable]
        if len(arrays) <= 2:
            return ""
        what = "trainable arrays" if others else "arrays"
        rest = f"plus {len(others)} non-trainable, {_parameters(others)}, " if others else ""
        return f"Total: {len(trained)} {what}, {_parameters(trained)}, {rest}{_bytes(arrays)}"


def _parts(x: Any) -> list[_Part]:
    """The children of `x` in the order in which they are typed."""
    if _tells_arguments(x):
        return _arguments(x)
    if isinstance(x, Mapping):
        return [_Part(f"[{key!r}]", f"{key!r}: ", value) for key, value in x.items()]
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return [_Part(f".{name}", f"{name}=", getattr(x, name)) for name in x._fields]
    if isinstance(x, (list, tuple)):
        return [_Part(f"[{i}]", "", value) for i, value in enumerate(x)]
    if isinstance(x, types.FunctionType):
        return [_Part(f".{name}", f"{name}=", value) for name, value in _captured(x).items()]
    if isinstance(x, types.MethodType):
        return [_Part(".__self__", "", x.__self__)]
    if isinstance(x, functools.partial):
        positional = [_Part(f".args[{i}]", "", value) for i, value in enumerate(x.args)]
        named = [_Part(f".keywords[{key!r}]", f"{key}=", value) for key, value in x.keywords.items()]
        return [_Part(".func", "", x.func), *positional, *named]
    if _plain_text(x) is not None:
        return []
    return [_Part(f".{name}", f"{name}=", value) for name, value in _fields(x) if not name.startswith("_")]


def _arguments(layer: Layer) -> list[_Part]:
    """The arguments that make a layer, each with the field in which the layer keeps it."""
    places: list[tuple[str, Any]] = []
    for name, value in vars(layer).items():
        is_list = isinstance(value, list)
        places += [(f".{name}[{i}]", item) for i, item in enumerate(value)] if is_list else [(f".{name}", value)]
    positional, keywords = layer.arguments()
    parts = []
    for label, value in [*(("", value) for value in positional), *((f"{key}=", v) for key, v in keywords.items())]:
        found = next((place for place in places if place[1] is value), ("", None))
        if found[0]:
            places = [place for place in places if place is not found]
        parts.append(_Part(found[0], label, value))
    return parts


def _tells_arguments(x: Any) -> bool:
    """True for layers that say how they are typed; the others are shown by their fields."""
    return isinstance(x, Layer) and type(x).arguments is not Layer.arguments


def _fields(x: Any) -> list[tuple[str, Any]]:
    slots = [name for base in type(x).__mro__ for name in _slots(base)]
    named = [(name, getattr(x, name)) for name in slots if hasattr(x, name)]
    return [*named, *getattr(x, "__dict__", {}).items()]


def _slots(cls: type) -> Iterable[str]:
    slots = cls.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else slots


def _captured(function: types.FunctionType) -> dict[str, Any]:
    """What a function reads from outside that holds arrays."""
    from fluxion.tree import children, leaves

    return {name: value for name, value in children(function).items() if any(map(_is_array, leaves(value)))}


def _brackets(x: Any) -> tuple[str, str]:
    for cls, opening, closing in ((list, "[", "]"), (tuple, "(", ")"), (dict, "{", "}")):
        if type(x) is cls:
            return opening, closing
    if isinstance(x, types.MethodType):
        return f"{x.__func__.__name__}(", ")"
    return f"{x.__name__ if isinstance(x, types.FunctionType) else type(x).__name__}(", ")"


def _plain_text(x: Any) -> str | None:
    """The text of a value that has no parts, None for others."""
    if _is_array(x):
        return f"{x.dtype}({', '.join(map(str, x.shape))})"
    if isinstance(x, types.FunctionType):
        if _captured(x):
            return None
        arguments = ", ".join(inspect.signature(x).parameters)
        return f"lambda {arguments}: ...".replace("lambda :", "lambda:") if x.__name__ == "<lambda>" else x.__name__
    if isinstance(x, (types.MethodType, functools.partial, Layer)):
        return None
    if x is None or isinstance(x, (bool, int, float, complex, str, bytes, range, type(...))):
        return repr(x) if len(repr(x)) <= _WIDTH else f"{repr(x)[: _WIDTH // 2]}..."
    return typed(x) if callable(x) and hasattr(x, "__name__") else None


def _own_text(x: Any) -> str | None:
    """What the user's class says of its objects in a `__repr__` of its own, if it takes one line."""
    if isinstance(x, (Layer, list, tuple, Mapping, functools.partial, types.FunctionType, types.MethodType)):
        return None
    if type(x).__repr__ is object.__repr__ or "__dataclass_fields__" in vars(type(x)):
        return None
    text = repr(x)
    return text if "\n" not in text and "#" not in text and len(text) <= _WIDTH else None


def _may_train(x: Any, array: Any) -> bool:
    """Whether an array of `x` would train if `x` were not frozen."""
    from fluxion.tree import leaves

    declared = getattr(type(x), "__trainable__", None)
    inside = x if declared is None else [getattr(x, name, None) for name in declared]
    return jax.numpy.issubdtype(array.dtype, jax.numpy.inexact) and any(leaf is array for leaf in leaves(inside))


def _random_keys(x: Any) -> set[int]:
    from fluxion.random import Generator
    from fluxion.tree import objects

    return {id(found.key) for found in objects(x) if isinstance(found, Generator)}


def _is_array(x: Any) -> bool:
    return isinstance(x, (np.ndarray, jax.Array))


def _joined(path: str, key: str) -> str:
    return (path + key if not key or key[0] in ".[" else f"{path}.{key}").removeprefix(".")


def _size(arrays: list[Any]) -> int:
    return sum(int(np.prod(array.shape)) for array in arrays)


def _parameters(arrays: list[Any]) -> str:
    return "1 parameter" if _size(arrays) == 1 else f"{_size(arrays):_} parameters"


def _bytes(arrays: list[Any]) -> str:
    size = float(sum(_size([array]) * array.dtype.itemsize for array in arrays))
    if size < 1024:
        return f"{size:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024 or unit == "GiB":
            break
    return f"{size:.3f} {unit}"


def _warnings(arrays: list[Any]) -> list[str]:
    """Signs of trouble in the weights; a sum is one pass without a copy, and is finite where every number is."""
    if any(isinstance(array, jax.core.Tracer) for array in arrays):
        return []
    known = [np.asarray(array) for array in arrays if array.size]
    with np.errstate(all="ignore"):
        odd = [array for array in known if array.dtype.kind in "fcV" and not np.isfinite(array.sum(dtype=np.float64))]
    notes = ["some NaN"] * any(np.isnan(array).any() for array in odd)
    notes += ["some Inf"] * any(np.isinf(array).any() for array in odd)
    notes += ["all zero"] if known and not any(array.any() for array in known) else []
    return notes

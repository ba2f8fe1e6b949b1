"""What was compiled, when and why: `explain`, and the warning after several compilations of one function."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fluxion.errors import RecompileWarning
from fluxion.tree.kinds import ABSENT
from fluxion.tree.rebuild import child_path
from fluxion.tree.select import resolve
from fluxion.tree.structure import DATA, NUMBER, REFERENCE, STATIC, Structure
from fluxion.tree.user import code_info, is_user_file

WARN_AFTER = 5


@dataclass
class Compilation:
    """One compilation: how long tracing, compiling and the first run took, and what was new."""

    seconds: float
    changes: list[str]
    by_value: bool = False


@dataclass
class Report:
    """All compilations of one function. `eager` says why it runs uncompiled, if it does."""

    name: str
    compilations: list[Compilation] = field(default_factory=list)
    eager: str | None = None
    warned: bool = False

    @property
    def count(self) -> int:
        """How often the function was compiled."""
        return len(self.compilations)

    @property
    def seconds(self) -> float:
        """How long all of it took."""
        return sum(compilation.seconds for compilation in self.compilations)

    def __str__(self) -> str:
        lines = [f"{self.name}: compiled {self.count} times in {self.seconds:.2f} s"]
        for number, compilation in enumerate(self.compilations, 1):
            reason = "; ".join(compilation.changes) or "first call"
            lines.append(f"  {number}. {compilation.seconds:.2f} s: {reason}")
        if self.eager:
            lines.append(f"  runs eagerly: {self.eager}")
        return "\n".join(lines)

    __repr__ = __str__

    def add(self, seconds: float, changes: list[str], by_value: bool = False) -> None:
        """Notes a compilation, and warns once when changing values make the same function compile again and again."""
        self.compilations.append(Compilation(seconds, changes, by_value))
        if self.warned or not by_value or sum(c.by_value for c in self.compilations) < WARN_AFTER:
            return
        self.warned = True
        warnings.warn(
            f"{self.name} has been compiled {self.count} times; the last time because {'; '.join(changes)}. "
            f"Pass what changes "
            "as an array or a float, or keep it constant; fx.explain(f) lists every compilation",
            RecompileWarning,
            stacklevel=_user_level(),
        )


def _user_level() -> int:
    """How many frames above `Report.add` the user's own code is."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and not is_user_file(frame.f_code.co_filename):
        level, frame = level + 1, frame.f_back
    return level


_reports: dict[Any, Report] = {}


def identity_of(f: Any) -> Any:
    """What tells one function from another in reports: its code, or the class of a callable object."""
    if isinstance(f, types.MethodType):
        f = f.__func__
    if isinstance(f, types.FunctionType):
        return code_info(f.__code__)
    return type(f)


def report_of(f: Any) -> Report:
    """The report of a function, made on first use."""
    key = identity_of(f)
    report = _reports.get(key)
    if report is None:  # of two threads that make it at once, both take the same
        name = getattr(f, "__qualname__", None) or type(f).__qualname__
        report = _reports.setdefault(key, Report(name))
    return report


def explain(f: Any) -> Report:
    """How often `f` was compiled, how long that took, and what changed each time. Print it, or read its fields.

    `f` is the function, lambda, layer or model that was given to `compile`, `gradient`, `train`, ...

    >>> import fluxion as fx
    >>> f = lambda x: x**2
    >>> fx.gradient(f, 2.0), fx.gradient(f, 3.0)
    ((4.0,), (6.0,))
    >>> fx.explain(f).count
    1
    """
    if not callable(f):
        raise TypeError(f"explain takes the function that was compiled, got {type(f).__name__}")
    return report_of(getattr(f, "__wrapped__", f))


def differences(
    old: Sequence[Structure], new: Sequence[Structure], names: Sequence[str], limit: int = 3
) -> tuple[list[str], bool]:
    """In words: what differs between two walks of the same call; and whether it is only values, in the same
    structure.
    """
    found: list[str] = []
    by_value = True
    seen: set[tuple[int, int]] = set()
    pending: list[Any] = [((0, old[0].root), (0, new[0].root), None)]
    while pending and len(found) < limit:
        a, b, path = pending.pop()
        a_number, (a_marker, a_what) = resolve(old, *a)
        b_number, (b_marker, b_what) = resolve(new, *b)
        if a_marker is STATIC and b_marker is STATIC:
            if type(a_what) is not type(b_what) or not _equal(a_what, b_what):
                found.append(f"{path} changed from {_short(a_what)} to {_short(b_what)}")
            continue
        a_node = old[a_number].nodes.get(a_what) if a_marker is REFERENCE else None
        b_node = new[b_number].nodes.get(b_what) if b_marker is REFERENCE else None
        if a_node is None or b_node is None:
            a_text, b_text = _describe(a_marker, a_what, a_node), _describe(b_marker, b_what, b_node)
            if a_text != b_text:
                by_value = False
                found.append(f"{path} changed from {a_text} to {b_text}")
            continue
        if (a_number, a_what) in seen:
            continue
        seen.add((a_number, a_what))
        if a_node.kind is not b_node.kind or len(a_node.children) != len(b_node.children):
            a_text, b_text = _describe(a_marker, a_what, a_node), _describe(b_marker, b_what, b_node)
            by_value = False
            found.append(f"{path} changed from {a_text} to {b_text}")
            continue
        if a_node.header != b_node.header:
            by_value = False
            parts = [x[0] if isinstance(x, tuple) and x else x for x in (a_node.header, b_node.header)]
            same = parts[0] == parts[1]
            found.append(f"{path} changed" if same else f"{path} changed from {_short(parts[0])} to {_short(parts[1])}")
            continue
        children = [
            ((a_number, x), (b_number, y), child_path(b_node, i, path, names))
            for i, (x, y) in enumerate(zip(a_node.children, b_node.children, strict=True))
        ]
        pending += reversed(children)
    return found, by_value and bool(found)


def _equal(a: Any, b: Any) -> bool:
    return a is b or (isinstance(a, int | str | bytes | range) and a == b)


def _describe(marker: Any, what: Any, node: Any) -> str:
    if marker is NUMBER:
        return "a float"
    if marker is STATIC:
        return _short(what)
    if marker is DATA:
        return f"a {what[1].__name__} of plain data"
    if node is None:
        return "an array"
    header = node.header[0] if isinstance(node.header, tuple) and node.header else node.kind
    kind = header.__name__ if isinstance(header, type) else type(node.kind).__name__.removesuffix("Kind").lower()
    return f"{kind} with {len(node.children)} parts"


def _short(x: Any) -> str:
    text = x.__qualname__ if isinstance(x, types.FunctionType | type) else "undefined" if x is ABSENT else repr(x)
    return text if len(text) <= 60 else text[:57] + "..."

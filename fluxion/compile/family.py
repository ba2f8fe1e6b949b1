"""The programs of one structure, which threads share, and all structures that were met."""

from __future__ import annotations

import array
import collections
import threading
from typing import Any

from fluxion.compile.program import Program
from fluxion.compile.trace import Call


class Family:
    """The programs of one structure: they differ in their constant floats and in the plain data they read.

    `dynamic` are the floats that are inputs, of which `start` always were. Threads share a family: what is written
    here is replaced under the lock, never changed, so that whoever reads it needs none.
    """

    def __init__(self) -> None:
        self.programs: dict[Any, list[Program]] = {}
        self.dynamic: frozenset[int] = frozenset()
        self.must_be_constant: frozenset[int] = frozenset()
        self.has_generator = False
        self.numbers: list[Any] | None = None
        self.eager: str | None = None
        self.start: frozenset[int] | None = None
        self.lock = threading.Lock()

    def find(self, call: Call) -> Program | None:
        """The program for a call, if it is there."""
        for program in self.programs.get(_constants(call, self.dynamic), ()):
            if program.reads_hold(call):
                return program
        return None

    def add(self, program: Program, call: Call) -> None:
        """Keeps a program for calls like the one that it was made for."""
        self.programs.setdefault(_constants(call, program.dynamic), []).append(program)
        self.numbers = call.numbers

    def widen(self, call: Call) -> list[int]:
        """Makes floats that changed since the last compilation inputs; returns which."""
        with self.lock:
            if self.numbers is None:
                return []
            pairs = enumerate(zip(self.numbers, call.numbers, strict=True))
            changed = [i for i, (a, b) in pairs if a != b and i not in self.dynamic]
            self.dynamic |= set(changed) - self.must_be_constant
            return changed

    def narrow(self, program: Program) -> bool:
        """Makes the floats constants again that became inputs of a program; False if there were none."""
        with self.lock:
            widened = program.dynamic - (self.start or set())
            self.must_be_constant |= widened
            self.dynamic -= widened
            return bool(widened)

    def started(self, inputs: set[int]) -> frozenset[int]:
        """The floats that are inputs of a new program; `inputs` always are."""
        with self.lock:
            if self.start is None:
                self.start = frozenset(inputs)
                self.dynamic |= self.start
            return self.dynamic


def _constants(call: Call, dynamic: frozenset[int]) -> Any:
    """The floats that are constants of a program, and which ones they are, as something to hash."""
    numbers = call.numbers
    if not numbers:
        return b""
    values = [n for i, n in enumerate(numbers) if i not in dynamic] if dynamic else numbers
    try:
        return dynamic, array.array("d", values).tobytes()
    except TypeError:  # complex numbers
        return dynamic, tuple(map(repr, values))


_families: collections.OrderedDict[Any, Family] = collections.OrderedDict()
_families_lock = threading.RLock()  # comparing keys may run code of the user's, and that may call compiled functions
MAX_FAMILIES = 1024


def family_of(key: Any) -> Family:
    """The programs of a structure; the structures that were not met for longest are forgotten."""
    with _families_lock:
        family = _families.get(key)
        if family is None:
            family = _families[key] = Family()
            if len(_families) > MAX_FAMILIES:
                _families.popitem(last=False)
        else:
            _families.move_to_end(key)
    return family

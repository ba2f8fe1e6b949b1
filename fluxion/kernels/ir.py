"""LLVM's language, written as text: the part of it that kernels are made of.

    define internal void @phase0(ptr %a0, i64 %a1, i64 %a2) {
    b0:
      %1 = getelementptr float, ptr %a0, i64 4
      %2 = load <16 x float>, ptr %1, align 4
      %3 = fadd <16 x float> %2, %2
      store <16 x float> %3, ptr %1, align 4
      ret void
    }

A type is its text. A value is its type and the text that stands for it: `%3`, or the constant itself. An instruction
becomes a line as soon as it is known, so that writing a kernel costs little more than the text; what is wrong with it
LLVM's own parser and verifier find.
"""

from __future__ import annotations

import contextlib
import functools
import struct
from collections.abc import Iterator, Sequence

VOID, BIT, I8, I16, I32, I64, POINTER = "void", "i1", "i8", "i16", "i32", "i64", "ptr"
FLOAT, DOUBLE = "float", "double"


def vector(kind: str, lanes: int) -> str:
    """The type of a vector."""
    return f"<{lanes} x {kind}>"


class Value:
    """What an instruction computes, an argument, or a constant."""

    __slots__ = ("kind", "text")

    def __init__(self, kind: str, text: str) -> None:
        self.kind, self.text = kind, text

    def __str__(self) -> str:
        return f"{self.kind} {self.text}"


class Loop:
    """Whether the body of a loop is still being written."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open = True


class Local(Value):
    """What an instruction in the body of a loop computes: a RuntimeError where something behind the loop uses it."""

    __slots__ = ("loop", "name")

    def __init__(self, kind: str, name: str, loop: Loop) -> None:
        self.kind, self.name, self.loop = kind, name, loop

    @property
    def text(self) -> str:  # type: ignore[override]
        """How others call it."""
        if self.loop.open:
            return self.name
        raise RuntimeError(
            "a number that was made in a loop is used behind it: keep it in a tile, and name that in "
            "f.range(..., carry=tile)"
        )


class Phi(Value):
    """A value that depends on the block from which control came; it may be joined until the text is asked for."""

    __slots__ = ("incoming",)

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.incoming: list[str] = []

    def join(self, value: Value, block: Block) -> None:
        """It is `value` where control comes from this block."""
        self.incoming.append(f"[ {value.text}, %{block.name} ]")

    def line(self) -> str:
        """The instruction."""
        return f"{self.text} = phi {self.kind} {', '.join(self.incoming)}"


NULL = Value(POINTER, "null")


def constant(kind: str, number: float) -> Value:
    """A number as a constant of a scalar type."""
    if kind in (FLOAT, DOUBLE):  # in the bits of a double, whichever it is
        rounded = struct.unpack("<f", struct.pack("<f", number))[0] if kind == FLOAT else number
        return Value(kind, f"0x{struct.unpack('<Q', struct.pack('<d', rounded))[0]:016X}")
    return Value(kind, str(int(number)))


def repeated(kind: str, number: float, lanes: int) -> Value:
    """A vector of equal constants."""
    one = constant(kind, number)
    zero = one.text in ("0", "0x0000000000000000")
    return Value(vector(kind, lanes), "zeroinitializer" if zero else f"<{', '.join([str(one)] * lanes)}>")


@functools.cache
def integers(kind: str, numbers: Sequence[int]) -> Value:
    """A vector of constants of an integer type, from a tuple or range."""
    if not any(numbers):
        return Value(vector(kind, len(numbers)), "zeroinitializer")
    return Value(vector(kind, len(numbers)), f"<{', '.join(f'{kind} {int(number)}' for number in numbers)}>")


class Module:
    """What becomes one object file."""

    def __init__(self, triple: str = "") -> None:
        self.triple = triple
        self.functions: list[Function] = []
        self._declared: dict[str, str] = {}
        self._tables: list[str] = []

    def table(self, kind: str, numbers: Sequence[float], align: int) -> Value:
        """An array of constants; the value is where it lies."""
        name = f"@table{len(self._tables)}"
        listed = ", ".join(str(constant(kind, number)) for number in numbers)
        array = f"[{len(numbers)} x {kind}] [{listed}]"
        self._tables.append(f"{name} = internal constant {array}, align {align}")
        return Value(POINTER, name)

    def slot(self, name: str) -> Value:
        """A pointer that may change, at first null; the value is where it lies."""
        self._tables.append(f"@{name} = global ptr null, align 8")
        return Value(POINTER, f"@{name}")

    def declare(self, name: str, result: str, kinds: Sequence[str]) -> Value:
        """A function of LLVM or of the C library."""
        if name not in self._declared:
            self._declared[name] = f"declare {result} @{name}({', '.join(kinds)})"
        return Value(result, f"@{name}")

    def __str__(self) -> str:
        parts = [f'target triple = "{self.triple}"', *self._tables, *self._declared.values()]
        return "\n".join([*parts, *map(str, self.functions), ""])


class Block:
    """Instructions without a branch, and the one that ends them."""

    __slots__ = ("end", "lines", "name")

    def __init__(self, name: str) -> None:
        self.name, self.end = name, ""
        self.lines: list[str | Phi] = []

    def __str__(self) -> str:
        lines = [line if isinstance(line, str) else line.line() for line in self.lines]
        return "\n  ".join([f"{self.name}:", *lines, self.end])


class Function:
    """A function; as a value for `Builder.call`, of the type that it returns."""

    def __init__(self, module: Module, name: str, result: str, kinds: Sequence[str], internal: bool = True) -> None:
        self.value = Value(result, f"@{name}")
        self.arguments = [Value(kind, f"%a{number}") for number, kind in enumerate(kinds)]
        self.blocks: list[Block] = []
        self.names = 0
        self._internal = internal
        module.functions.append(self)

    def block(self) -> Block:
        """A new block, behind all others."""
        self.blocks.append(Block(f"b{len(self.blocks)}"))
        return self.blocks[-1]

    def __str__(self) -> str:
        head = f"{'internal ' if self._internal else ''}{self.value.kind} {self.value.text}"
        arguments = ", ".join(map(str, self.arguments))
        return "\n".join([f"define {head}({arguments}) {{", *map(str, self.blocks), "}"])


class Builder:
    """Writes instructions at the end of a block of a function."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.place = function.block()
        self.loop: Loop | None = None  # the innermost whose body is being written

    def _new(self, kind: str, instruction: str) -> Value:
        self.function.names += 1
        name = f"%v{self.function.names}"
        self.place.lines.append(f"{name} = {instruction}")
        return Value(kind, name) if self.loop is None else Local(kind, name, self.loop)

    def handed_on(self, value: Value, loop: Loop) -> Value:
        """A value of this loop as one that the code behind it may use."""
        if not isinstance(value, Local) or value.loop is not loop:
            return value
        return Value(value.kind, value.text) if self.loop is None else Local(value.kind, value.text, self.loop)

    # ---------------------------------------------------------------- arithmetic

    def binary(self, operation: str, a: Value, b: Value) -> Value:
        """`operation` is that of LLVM, with its flags: "fadd", "add nsw" ..."""
        return self._new(a.kind, f"{operation} {a.kind} {a.text}, {b.text}")

    def unary(self, operation: str, a: Value) -> Value:
        """As `binary`, of one operand: "fneg"."""
        return self._new(a.kind, f"{operation} {a.kind} {a.text}")

    def compare(self, operation: str, a: Value, b: Value) -> Value:
        """A bit, or one for each lane; `operation` is "icmp slt", "fcmp oeq" ..."""
        kind = BIT if a.kind[0] != "<" else f"{a.kind[: a.kind.index(' x ')]} x i1>"
        return self._new(kind, f"{operation} {a.kind} {a.text}, {b.text}")

    def cast(self, operation: str, a: Value, kind: str) -> Value:
        """`a` in another type, by "sext", "fptosi" ..."""
        return self._new(kind, f"{operation} {a.kind} {a.text} to {kind}")

    def bitcast(self, a: Value, kind: str) -> Value:
        """The bits of `a` read as another type."""
        return self.cast("bitcast", a, kind)

    def opaque(self, a: Value) -> Value:
        """`a`, of which LLVM's analyses of loops know nothing more."""
        return self._new(a.kind, f"freeze {a}")

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        """`yes` where the condition holds."""
        return self._new(yes.kind, f"select {condition}, {yes}, {no}")

    def phi(self, kind: str) -> Phi:
        """A value that gets its operands later. It has to come first in its block."""
        self.function.names += 1
        made = Phi(kind, f"%v{self.function.names}")
        self.place.lines.append(made)
        return made

    # ---------------------------------------------------------------- vectors

    def insert(self, kind: str, scalar: Value) -> Value:
        """A vector of this type whose first lane holds `scalar`, and whose others nothing."""
        return self._new(kind, f"insertelement {kind} poison, {scalar}, i32 0")

    def extract(self, a: Value) -> Value:
        """The first lane of a vector."""
        return self._new(a.kind[a.kind.index(" x ") + 3 : -1], f"extractelement {a}, i32 0")

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        """Lanes of two vectors."""
        kind = vector(a.kind[a.kind.index(" x ") + 3 : -1], len(lanes))
        return self._new(kind, f"shufflevector {a}, {b}, {integers(I32, tuple(lanes))}")

    # ---------------------------------------------------------------- memory

    def stack(self, size: int) -> Value:
        """So many bytes that live as long as the call."""
        with self.entry():
            return self._new(POINTER, f"alloca [{-(-size // 8)} x i64], align 8")

    def offset(self, base: Value, index: Value | int, kind: str) -> Value:
        """Where a number of this type lies, `index` behind another."""
        number = f"i64 {index}" if isinstance(index, int) else str(index)
        return self._new(POINTER, f"getelementptr {kind}, ptr {base.text}, {number}")

    def load(self, place: Value, typ: str, align: int = 8) -> Value:
        """What lies there, read as this type."""
        return self._new(typ, f"load {typ}, ptr {place.text}, align {align}")

    def store(self, value: Value, place: Value, align: int = 8) -> None:
        """Puts a value there."""
        self.place.lines.append(f"store {value}, ptr {place.text}, align {align}")

    def load_atomic(self, place: Value, kind: str, order: str) -> Value:
        """An i64 or pointer that other threads write."""
        return self._new(kind, f"load atomic {kind}, ptr {place.text} {order}, align 8")

    def store_atomic(self, value: Value, place: Value, order: str) -> None:
        """Puts an i64 there for other threads."""
        self.place.lines.append(f"store atomic {value}, ptr {place.text} {order}, align 8")

    def atomic(self, operation: str, place: Value, number: int, order: str) -> Value:
        """Changes an i64 by "add" or "sub"; the value is what was there before."""
        return self._new(I64, f"atomicrmw {operation} ptr {place.text}, i64 {number} {order}")

    # ---------------------------------------------------------------- control

    def call(self, function: Value, arguments: Sequence[Value]) -> Value:
        """Calls a function, or a pointer to one; `function.kind` is the type of the result."""
        text = f"call {function}({', '.join(map(str, arguments))})"
        if function.kind != VOID:
            return self._new(function.kind, text)
        self.place.lines.append(text)
        return function

    def jump(self, target: Block) -> None:
        """Ends the block."""
        self.place.end = f"br label %{target.name}"

    def branch(self, condition: Value, yes: Block, no: Block) -> None:
        """Ends the block, in two ways."""
        self.place.end = f"br {condition}, label %{yes.name}, label %{no.name}"

    def give_back(self, value: Value | None = None) -> None:
        """Ends the block and the function."""
        self.place.end = "ret void" if value is None else f"ret {value}"

    @contextlib.contextmanager
    def entry(self) -> Iterator[None]:
        """Has what is written meanwhile put at the end of the first block, which comes before all others."""
        place, loop = self.place, self.loop
        self.place, self.loop = self.function.blocks[0], None
        yield
        self.place, self.loop = place, loop

    @contextlib.contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """A branch around what is written meanwhile, which may end the function."""
        body, after = self.function.block(), self.function.block()
        self.branch(condition, body, after)
        self.place = body
        yield
        if not self.place.end:
            self.jump(after)
        self.place = after

    @contextlib.contextmanager
    def count(self, stop: Value) -> Iterator[Value]:
        """A loop over 0 ... stop - 1 around what is written meanwhile."""
        before, body, after = self.place, self.function.block(), self.function.block()
        self.branch(self.compare("icmp slt", constant(I64, 0), stop), body, after)
        self.place = body
        number = self.phi(I64)
        yield number
        following = self.binary("add", number, constant(I64, 1))
        number.join(constant(I64, 0), before)
        number.join(following, self.place)
        self.branch(self.compare("icmp slt", following, stop), body, after)
        self.place = after

"""Numbers and pointers of generated code, which are written like those of Python.

`a * b + c` on them emits the instructions that will compute it. Python's own ints and floats are constants: an index
computed from them alone stays a Python int, and costs nothing when the code runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from fluxion.kernels import ir

if TYPE_CHECKING:
    from fluxion.kernels.builder import Function

Index: TypeAlias = "int | Number"

_TYPES = {
    "bool": ir.BIT,
    "int8": ir.I8,
    "uint8": ir.I8,
    "int16": ir.I16,
    "int32": ir.I32,
    "int64": ir.I64,
    "float32": ir.FLOAT,
    "float64": ir.DOUBLE,
    "bfloat16": ir.I16,  # the upper half of a float32: LLVM's own type would need an AVX-512 extension
}
_BYTES = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "int32": 4, "int64": 8} | {
    "float32": 4,
    "float64": 8,
    "bfloat16": 2,
}
TYPES = tuple(_BYTES)
_FLOAT_OPS = {"+": "fadd", "-": "fsub", "*": "fmul", "/": "fdiv"}
_INT_OPS = {"+": "add", "-": "sub", "*": "mul", "//": "udiv", "%": "urem", "&": "and", "|": "or", "^": "xor"}
_INT_OPS |= {"<<": "shl", ">>": "lshr"}
_COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq"}


def item_bytes(dtype: str) -> int:
    """Bytes of one number in memory."""
    return _BYTES[dtype]


def computed(dtype: str) -> str:
    """The type in which numbers of a type of memory are computed."""
    return "float32" if dtype == "bfloat16" else dtype


def ir_type(dtype: str, lanes: int | None = None) -> str:
    """LLVM's type of a scalar, or of a vector of so many lanes."""
    return _TYPES[dtype] if lanes is None else ir.vector(_TYPES[dtype], lanes)


def constant(value: float, dtype: str, lanes: int | None = None) -> ir.Value:
    """A constant of this type, the same in all lanes."""
    kind = _TYPES[dtype]
    return ir.constant(kind, value) if lanes is None else ir.repeated(kind, value, lanes)


class Number:
    """A scalar (`lanes` None) or vector that generated code computes; comparisons give one of dtype "bool".

    `//` and `%` take numbers that are not negative.
    """

    __slots__ = ("dtype", "f", "ir", "lanes")

    def __init__(self, f: Function, value: ir.Value, dtype: str, lanes: int | None = None) -> None:
        self.f, self.ir, self.dtype, self.lanes = f, value, dtype, lanes

    @property
    def is_float(self) -> bool:
        """True for float32 and float64."""
        return self.dtype.startswith("float")

    def like(self, value: Any) -> Number:
        """`value` as a number of this type and this many lanes."""
        if isinstance(value, Number):
            if value.dtype != self.dtype:
                raise TypeError(f"a number of type {self.dtype} meets one of type {value.dtype}: convert one of them")
            return self.f.splat(value, self.lanes) if value.lanes is None and self.lanes is not None else value
        return self.f.constant(value, self.dtype, self.lanes)

    def with_ir(self, value: ir.Value) -> Number:
        """A number of the same type."""
        return Number(self.f, value, self.dtype, self.lanes)

    def _arithmetic(self, symbol: str, other: Any, swapped: bool = False) -> Any:
        if not self.is_float and isinstance(other, int) and self.lanes is None:
            folded = _fold(self, symbol, other, swapped)
            if folded is not None:
                return folded
        if isinstance(other, Number) and other.lanes is not None and self.lanes is None:
            return other.like(self)._arithmetic(symbol, other, swapped)
        if symbol not in (_FLOAT_OPS if self.is_float else _INT_OPS):
            raise TypeError(f"numbers of type {self.dtype} have no {symbol}")
        left, right = (self.like(other), self) if swapped else (self, self.like(other))
        name = (_FLOAT_OPS if self.is_float else _INT_OPS)[symbol]
        flag = " nsw" if self.dtype == "int64" and symbol in "+-*" else ""
        return self.with_ir(self.f.ir.binary(name + flag, left.ir, right.ir))

    def _compare(self, symbol: str, other: Any) -> Number:
        if isinstance(other, Number) and other.lanes is not None and self.lanes is None:
            return other.like(self)._compare(symbol, other)
        other = self.like(other)
        kind = "fcmp o" if self.is_float else "icmp " if symbol == "==" else "icmp s"
        return Number(self.f, self.f.ir.compare(kind + _COMPARISONS[symbol], self.ir, other.ir), "bool", self.lanes)

    def __add__(self, other: Any) -> Any:
        return self._arithmetic("+", other)

    def __radd__(self, other: Any) -> Any:
        return self._arithmetic("+", other, swapped=True)

    def __sub__(self, other: Any) -> Any:
        return self._arithmetic("-", other)

    def __rsub__(self, other: Any) -> Any:
        return self._arithmetic("-", other, swapped=True)

    def __mul__(self, other: Any) -> Any:
        return self._arithmetic("*", other)

    def __rmul__(self, other: Any) -> Any:
        return self._arithmetic("*", other, swapped=True)

    def __truediv__(self, other: Any) -> Any:
        return self._arithmetic("/", other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._arithmetic("/", other, swapped=True)

    def __floordiv__(self, other: Any) -> Any:
        return self._arithmetic("//", other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._arithmetic("//", other, swapped=True)

    def __mod__(self, other: Any) -> Any:
        return self._arithmetic("%", other)

    def __and__(self, other: Any) -> Any:
        return self._arithmetic("&", other)

    def __or__(self, other: Any) -> Any:
        return self._arithmetic("|", other)

    def __xor__(self, other: Any) -> Any:
        return self._arithmetic("^", other)

    def __lshift__(self, other: Any) -> Any:
        return self._arithmetic("<<", other)

    def __rshift__(self, other: Any) -> Any:
        return self._arithmetic(">>", other)

    def __invert__(self) -> Number:
        return self ^ -1

    def __neg__(self) -> Any:
        return self.with_ir(self.f.ir.unary("fneg", self.ir)) if self.is_float else 0 - self

    def __lt__(self, other: Any) -> Number:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Number:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Number:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Number:
        return self._compare(">=", other)

    def equals(self, other: Any) -> Number:
        """True where both are equal."""
        return self._compare("==", other)

    def __eq__(self, other: Any) -> Any:
        raise TypeError("== would compare while the code is generated: write a.equals(b), or ~a.equals(b) for a != b")

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise TypeError("a number of generated code has no value while the code is generated: use f.when or f.select")


def _fold(number: Number, symbol: str, other: int, swapped: bool) -> Any:
    """The result where no instruction is needed, else None."""
    if other == 0 and (symbol in ("+", "|", "^") or (symbol in ("-", "<<", ">>") and not swapped)):
        return number
    if other == 1 and (symbol == "*" or (symbol == "//" and not swapped)):
        return number
    if (other == 0 and symbol in ("*", "&")) or (other == 1 and symbol == "%" and not swapped):
        return 0
    return None


class Pointer:
    """Where numbers of type `dtype` lie, one behind the other; `pointer + 3` is where the fourth lies.

    `pointer[i]` loads and stores scalars, `load` and `store` vectors. bfloat16 becomes float32 on the way in, and is
    rounded to the nearest (ties to even) on the way out.
    """

    __slots__ = ("dtype", "f", "ir")

    def __init__(self, f: Function, value: ir.Value, dtype: str) -> None:
        self.f, self.ir, self.dtype = f, value, dtype

    def __add__(self, offset: Index) -> Pointer:
        if isinstance(offset, int) and offset == 0:
            return self
        moved = self.f.ir.offset(self.ir, self.f.index(offset), ir_type(self.dtype))
        return Pointer(self.f, moved, self.dtype)

    def __getitem__(self, offset: Index) -> Number:
        loaded = self.f.ir.load((self + offset).ir, ir_type(self.dtype), item_bytes(self.dtype))
        return self.f.from_memory(Number(self.f, loaded, self.dtype))

    def __setitem__(self, offset: Index, value: Number | float) -> None:
        number = self.f.constant(value, computed(self.dtype)) if not isinstance(value, Number) else value
        stored = self.f.to_memory(number, self.dtype)
        self.f.ir.store(stored.ir, (self + offset).ir, item_bytes(self.dtype))

    def load(self, offset: Index = 0, count: Index | None = None, lanes: int | None = None) -> Number:
        """The vector at `offset`. Of its lanes only the first `count` are read, the others are 0."""
        lanes = lanes or self.f.lanes(self.dtype)
        place, kind, align = (self + offset).ir, ir_type(self.dtype, lanes), item_bytes(self.dtype)
        if count is None or (isinstance(count, int) and count >= lanes):
            loaded = self.f.ir.load(place, kind, align)
        else:
            zeros = constant(0, self.dtype if self.dtype != "bfloat16" else "int16", lanes)
            mask = self.f.first_lanes(count, lanes).ir
            suffix = f"v{lanes}{_suffix(self.dtype)}"
            loaded = self.f.intrinsic(
                f"llvm.masked.load.{suffix}.p0", kind, place, ir.constant(ir.I32, align), mask, zeros
            )
        return self.f.from_memory(Number(self.f, loaded, self.dtype, lanes))

    def store(self, value: Number, offset: Index = 0, count: Index | None = None) -> None:
        """Writes a vector at `offset`; of its lanes only the first `count`."""
        stored, place, align = self.f.to_memory(value, self.dtype), (self + offset).ir, item_bytes(self.dtype)
        lanes = stored.lanes
        if lanes is None:
            raise TypeError("Pointer.store takes a vector; write pointer[offset] = number for a scalar")
        if count is None or (isinstance(count, int) and count >= lanes):
            self.f.ir.store(stored.ir, place, align)
            return
        if isinstance(count, int) and count == 1:
            # LLVM 22 stores 32 bits where a vector is narrowed and then one lane of 16 bits is stored through a mask.
            self.f.ir.store(self.f.ir.extract(stored.ir), place, align)
            return
        mask, suffix = self.f.first_lanes(count, lanes).ir, f"v{lanes}{_suffix(self.dtype)}"
        align_value = ir.constant(ir.I32, align)
        self.f.intrinsic(f"llvm.masked.store.{suffix}.p0", ir.VOID, stored.ir, place, align_value, mask)

    def prefetch(self, offset: Index = 0) -> None:
        """Has the line of the cache around `offset` loaded, any place in memory or outside of it; changes nothing."""
        read, keep, data = (ir.constant(ir.I32, number) for number in (0, 3, 1))
        self.f.intrinsic("llvm.prefetch.p0", ir.VOID, (self + offset).ir, read, keep, data)

    def splat(self, offset: Index = 0, lanes: int | None = None) -> Number:
        """A vector all of whose lanes hold the number at `offset`."""
        return self.f.splat(self[offset], lanes or self.f.lanes(self.dtype))


def _suffix(dtype: str) -> str:
    """How LLVM spells a type in the name of an intrinsic function."""
    kind = _TYPES[dtype]
    return {ir.FLOAT: "f32", ir.DOUBLE: "f64"}.get(kind, kind)


def intrinsic_suffix(number: Number) -> str:
    """How LLVM spells the type of a number in the name of an intrinsic function."""
    return _suffix(number.dtype) if number.lanes is None else f"v{number.lanes}{_suffix(number.dtype)}"


def digits(number: Index, sizes: Sequence[int]) -> list[Index]:
    """The digits of a number, written in a system with these bases."""
    found: list[Index] = []
    for size in reversed(sizes):
        found.append(number % size)
        number = number // size
    return found[::-1]

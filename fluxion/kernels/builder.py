"""Functions of generated code: loops and branches that are written as those of Python are.

    with kernel.parallel(tasks) as f:                   # f.task is the number of the task
        a, b, c = f[a], f[b], f[c]                      # buffers as pointers
        total = f.tile(4, 2)                            # 4 x 2 vectors, held in registers
        for k in f.range(depth, carry=total):           # the body runs once, and emits the loop's code
            for row in range(4):                        # a loop of Python is unrolled
                x = a.splat(row * depth + k)
                for column in range(2):
                    total[row, column] = f.fma(x, b.load(...), total[row, column])

What a loop changes from one round to the next is named in `carry`; everything else is computed anew in each round. The
code is in LLVM's form of static single assignment from the start, so its optimiser has nothing to find: values stay in
registers because they never had another place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fluxion.kernels import ir
from fluxion.kernels.machine import Machine
from fluxion.kernels.values import (
    Index,
    Number,
    Pointer,
    computed,
    constant,
    intrinsic_suffix,
    ir_type,
)


class Tile:
    """Values that a loop carries: `tile[i]`, or `tile[row, column]` in a tile of so many columns."""

    def __init__(self, values: Sequence[Number], columns: int = 1) -> None:
        self.values, self.columns = list(values), columns
        self._depth = len(values[0].f.open_loops) if values else 0

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.values) // self.columns

    def _place(self, key: int | tuple[int, int]) -> int:
        return key if isinstance(key, int) else key[0] * self.columns + key[1]

    def __getitem__(self, key: int | tuple[int, int]) -> Number:
        return self.values[self._place(key)]

    def __setitem__(self, key: int | tuple[int, int], value: Number) -> None:
        if any(id(self) not in carried for carried in value.f.open_loops[self._depth :]):
            raise RuntimeError(
                "a tile is changed in a loop that does not carry it: name it in f.range(..., carry=tile)"
            )
        self.values[self._place(key)] = value


class Function:
    """A function of generated code, while it is written; `ir` writes its instructions."""

    def __init__(
        self, module: ir.Module, machine: Machine, name: str, arguments: Sequence[str], internal: bool = True
    ) -> None:
        """`arguments` are types: "int64", "float32" ..., or "float32*" for a pointer to such.

        An `internal` function is called by others of its module only.
        """
        kinds = [ir.POINTER if kind.endswith("*") else ir_type(kind) for kind in arguments]
        self.machine, self.module = machine, module
        self.function = ir.Function(module, name, ir.VOID, kinds, internal)
        self.ir = ir.Builder(self.function)
        self.arguments: list[Any] = [
            Pointer(self, value, kind[:-1]) if kind.endswith("*") else Number(self, value, kind)
            for value, kind in zip(self.function.arguments, arguments, strict=True)
        ]
        self.open_loops: list[set[int]] = []  # of each loop that is being written, which tiles it carries

    # ---------------------------------------------------------------- numbers

    def lanes(self, dtype: str = "float32") -> int:
        """How many numbers of this type a vector holds."""
        return self.machine.lanes(dtype)

    def constant(self, value: float, dtype: str, lanes: int | None = None) -> Number:
        """A constant, the same in all lanes."""
        return Number(self, constant(value, dtype, lanes), dtype, lanes)

    def zero(self, dtype: str = "float32", lanes: int | None = None) -> Number:
        """A vector of zeros."""
        return self.constant(0, dtype, lanes or self.lanes(dtype))

    def index(self, value: Index) -> ir.Value:
        """LLVM's 64-bit value of an index."""
        return ir.constant(ir.I64, value) if isinstance(value, int) else value.ir

    def number(self, value: Index) -> Number:
        """An index as a Number, also where it is known already."""
        return self.constant(value, "int64") if isinstance(value, int) else value

    def splat(self, scalar: Number, lanes: int | None) -> Number:
        """A vector all of whose lanes hold `scalar`."""
        lanes = lanes or self.lanes(scalar.dtype)
        one = self.ir.insert(ir_type(scalar.dtype, lanes), scalar.ir)
        return Number(self, self.ir.shuffle(one, one, [0] * lanes), scalar.dtype, lanes)

    def lane_numbers(self, lanes: int) -> Number:
        """The int32 vector 0, 1, 2, ..."""
        return Number(self, ir.integers(ir.I32, range(lanes)), "int32", lanes)

    def first_lanes(self, count: Index, lanes: int) -> Number:
        """A mask that is true in the first `count` lanes."""
        if isinstance(count, int):
            return Number(self, ir.integers(ir.BIT, tuple(lane < count for lane in range(lanes))), "bool", lanes)
        return self.lane_numbers(lanes) < self.convert(self.minimum(count, lanes), "int32")

    def convert(self, value: Number, dtype: str) -> Number:
        """The same number in another type: ints among each other, floats among each other, ints to floats."""
        if value.dtype == dtype:
            return value
        kind = ir_type(dtype, value.lanes)
        if value.is_float:
            operation = "fpext" if dtype == "float64" else "fptrunc"
            operation = operation if dtype.startswith("float") else "fptosi"
        elif dtype.startswith("float"):
            operation = "sitofp"
        else:
            wider = kind_width(dtype) > kind_width(value.dtype)
            unsigned = value.dtype in ("bool", "uint8")
            operation = ("zext" if unsigned else "sext") if wider else "trunc"
        return Number(self, self.ir.cast(operation, value.ir, kind), dtype, value.lanes)

    def bits(self, value: Number, dtype: str) -> Number:
        """The bits of a number read as another type of the same width."""
        return Number(self, self.ir.bitcast(value.ir, ir_type(dtype, value.lanes)), dtype, value.lanes)

    def from_memory(self, stored: Number) -> Number:
        """A number as memory holds it, in the type in which it is computed."""
        if stored.dtype != "bfloat16":
            return stored
        wide = self.convert(Number(self, stored.ir, "int16", stored.lanes), "int32")
        return self.bits(wide << 16, "float32")

    def to_memory(self, value: Number, dtype: str) -> Number:
        """A computed number as memory of type `dtype` holds it; TypeError for a number of another type."""
        if value.dtype != computed(dtype):
            raise TypeError(f"memory of type {dtype} takes a number of type {computed(dtype)}, got {value.dtype}")
        if dtype != "bfloat16":
            return value
        bits = self.bits(value, "int32")
        rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16
        not_a_number = Number(self, self.ir.compare("fcmp uno", value.ir, value.ir), "bool", value.lanes)
        kept = self.select(not_a_number, (bits >> 16) | 0x40, rounded)
        return Number(self, self.convert(kept, "int16").ir, "bfloat16", value.lanes)

    def intrinsic(self, name: str, result: str, *arguments: ir.Value) -> ir.Value:
        """A call of one of LLVM's intrinsic functions, or of a function of the C library."""
        return self.ir.call(self.module.declare(name, result, [value.kind for value in arguments]), arguments)

    def _same(self, name: str, *values: Number) -> Number:
        """An intrinsic function from numbers of one type to that type."""
        first = values[0]
        return first.with_ir(
            self.intrinsic(f"{name}.{intrinsic_suffix(first)}", first.ir.kind, *(value.ir for value in values))
        )

    def fma(self, a: Number, b: Number, c: Number) -> Number:
        """`a * b + c`, rounded once."""
        return self._same("llvm.fma", a, b, c)

    def sqrt(self, x: Number) -> Number:
        """The square root."""
        return self._same("llvm.sqrt", x)

    def floor(self, x: Number) -> Number:
        """The integer below."""
        return self._same("llvm.floor", x)

    def round(self, x: Number) -> Number:
        """The nearest integer, the even one of two."""
        return self._same("llvm.rint", x)

    def absolute(self, x: Number) -> Number:
        """`x` without its sign."""
        return self._same("llvm.fabs", x)

    def copysign(self, x: Number, sign: Number) -> Number:
        """`x` with the sign of the other."""
        return self._same("llvm.copysign", x, sign)

    def select(self, condition: Number, yes: Any, no: Any) -> Any:
        """`yes` where the condition holds, else `no`; numbers, or two pointers.

        One of two numbers may be a float of Python; two ints of Python are indices.
        """
        if isinstance(yes, Pointer):
            return Pointer(self, self.ir.select(condition.ir, yes.ir, no.ir), yes.dtype)
        if not isinstance(yes, Number):
            if not isinstance(no, Number) and not isinstance(yes, int):
                raise TypeError(f"f.select cannot tell the type of {yes} and {no}: give one of them as f.constant(...)")
            yes = no.like(yes) if isinstance(no, Number) else self.number(yes)
        no = yes.like(no)
        lanes = next((value.lanes for value in (condition, yes, no) if value.lanes is not None), None)
        if lanes is not None:
            yes, no = (value if value.lanes is not None else self.splat(value, lanes) for value in (yes, no))
        return yes.with_ir(self.ir.select(condition.ir, yes.ir, no.ir))

    def minimum(self, a: Any, b: Any) -> Any:
        """The smaller one; `b` where `a` is NaN."""
        return min(a, b) if isinstance(a, int) and isinstance(b, int) else self._smaller(a, b)

    def maximum(self, a: Any, b: Any) -> Any:
        """The larger one; `b` where `a` is NaN."""
        return max(a, b) if isinstance(a, int) and isinstance(b, int) else self._smaller(a, b, larger=True)

    def _smaller(self, a: Any, b: Any, larger: bool = False) -> Number:
        a = b.like(a) if not isinstance(a, Number) else a
        b = a.like(b)
        return self.select(a > b if larger else a < b, a, b)

    def shuffle(self, a: Number, b: Number, lanes: Sequence[int]) -> Number:
        """Lanes picked from `a` (0, 1, ...) and from `b` (counted on after the last of `a`)."""
        return Number(self, self.ir.shuffle(a.ir, b.ir, lanes), a.dtype, len(lanes))

    def sum_lanes(self, x: Number) -> Number:
        """The sum of all lanes of a vector, by halves."""
        return self._across(x, lambda a, b: a + b)

    def max_lanes(self, x: Number) -> Number:
        """The largest of all lanes of a vector."""
        return self._across(x, self.maximum)

    def _across(self, x: Number, combine: Callable[[Number, Number], Number]) -> Number:
        lanes = x.lanes or 1
        while lanes > 1:
            lanes //= 2
            x = combine(self.shuffle(x, x, range(lanes)), self.shuffle(x, x, range(lanes, 2 * lanes)))
        return Number(self, self.ir.extract(x.ir), x.dtype)

    def transpose(self, rows: Sequence[Number]) -> list[Number]:
        """The transpose of as many vectors as each has lanes, in log2(lanes) rounds that swap quarters of blocks."""
        lanes, rows = len(rows), list(rows)
        half = lanes // 2
        while half:
            low = [lane if not lane & half else lanes + lane - half for lane in range(lanes)]
            high = [lane + half if not lane & half else lanes + lane for lane in range(lanes)]
            for i in range(lanes):
                if not i & half:
                    a, b = rows[i], rows[i + half]
                    rows[i], rows[i + half] = self.shuffle(a, b, low), self.shuffle(a, b, high)
            half //= 2
        return rows

    # ---------------------------------------------------------------- values that loops carry

    def tile(self, rows: int, columns: int = 1, value: Number | None = None) -> Tile:
        """A tile all of whose values are `value`, vectors of zeros unless told otherwise."""
        value = self.zero() if value is None else value
        return Tile([value] * (rows * columns), columns)

    # ---------------------------------------------------------------- loops and branches

    def range(
        self, start: Index, stop: Index | None = None, step: int = 1, *, unroll: int = 1, carry: Any = ()
    ) -> Iterator[Any]:
        """Emits a loop whose body is the body of the `for` statement; leave that by its end only.

        `carry` is a Tile, or several, whose values the body changes; behind the loop, a RuntimeError refuses any other
        number that the body made. A loop known to run once is no loop; `unroll` puts so many rounds into one.
        """
        if stop is None:
            start, stop = 0, start
        if unroll > 1:
            yield from self._unrolled(start, stop, step, unroll, carry)
            return
        if isinstance(start, int) and isinstance(stop, int) and stop - start <= step:
            if start < stop:
                yield start
            return
        yield from self._loop(start, stop, step, [carry] if isinstance(carry, Tile) else list(carry))

    def _unrolled(self, start: Index, stop: Index, step: int, unroll: int, carry: Any) -> Iterator[Any]:
        count = self.maximum(stop - start + (step - 1), 0) // step
        middle = start + count // unroll * (unroll * step)
        for i in self.range(start, middle, unroll * step, carry=carry):
            for part in range(unroll):
                yield i + part * step
        yield from self.range(middle, stop, step, carry=carry)

    def _loop(self, start: Index, stop: Index, step: int, carry: list[Tile]) -> Iterator[Number]:
        before, body, after = self.ir.place, self.function.block(), self.function.block()
        surely = isinstance(start, int) and isinstance(stop, int)
        if surely:
            self.ir.jump(body)
        else:
            self.ir.branch(self.ir.compare("icmp slt", self.index(start), self.index(stop)), body, after)
        self.ir.place = body
        counter = self.ir.phi(ir.I64)
        initial = [list(tile.values) for tile in carry]
        phis = [[self.ir.phi(value.ir.kind) for value in tile.values] for tile in carry]
        for tile, values in zip(carry, phis, strict=True):
            tile.values = [number.with_ir(value) for number, value in zip(tile.values, values, strict=True)]
        self.open_loops.append({id(tile) for tile in carry})
        outer, loop = self.ir.loop, ir.Loop()
        self.ir.loop = loop
        number = self.ir.opaque(counter)  # LLVM would take as long for its addresses as for all else, and gain nothing
        yield Number(self, number, "int64")
        self.open_loops.pop()
        following, end = self.ir.binary("add nsw", number, ir.constant(ir.I64, step)), self.ir.place
        counter.join(self.index(start), before)
        counter.join(following, end)
        for tile, values, first in zip(carry, phis, initial, strict=True):
            for value, phi, old in zip(tile.values, values, first, strict=True):
                phi.join(old.ir, before)
                phi.join(value.ir, end)
        self.ir.branch(self.ir.compare("icmp slt", following, self.index(stop)), body, after)
        self.ir.place, self.ir.loop = after, outer
        for tile, skipped in zip(carry, initial, strict=True):
            if surely:
                tile.values = [new.with_ir(self.ir.handed_on(new.ir, loop)) for new in tile.values]
            else:
                pairs = zip(skipped, tile.values, strict=True)
                tile.values = [self._either(old, before, new, end) for old, new in pairs]
        loop.open = False

    def _either(self, a: Number, from_a: ir.Block, b: Number, from_b: ir.Block) -> Number:
        """`a` where control came from one block, `b` where it came from the other."""
        phi = self.ir.phi(a.ir.kind)
        phi.join(a.ir, from_a)
        phi.join(b.ir, from_b)
        return a.with_ir(phi)

    @contextlib.contextmanager
    def when(self, condition: Number) -> Iterator[None]:
        """Emits a branch around the body of the `with` statement, taken unless the condition holds."""
        with self.ir.when(condition.ir):
            yield

    def vectors(
        self, start: Index, stop: Index | None = None, *, dtype: str = "float32", carry: Any = ()
    ) -> Iterator[tuple[Any, Index | None]]:
        """Steps of one vector each: pairs of position and count of lanes, for `load` and `store`.

        `dtype` is the type of the numbers, on which the lanes of a vector depend. The body runs twice: for the loop
        over whole vectors, whose count is None, and for the masked rest.
        """
        if stop is None:
            start, stop = 0, start
        lanes = self.lanes(dtype)
        whole = self.maximum(stop - start, 0) // lanes * lanes
        for i in self.range(start, start + whole, lanes, carry=carry):
            yield i, None
        for i in self.range(start + whole, stop, lanes, carry=carry):
            yield i, stop - i

    def call(self, function: Function, *arguments: Any) -> None:
        """Calls another function of the same kernel."""
        self.ir.call(function.function.value, [self._argument(value) for value in arguments])

    def _argument(self, value: Any) -> ir.Value:
        return value.ir if isinstance(value, (Number, Pointer)) else self.index(value)

    def finish(self) -> None:
        """Ends the function."""
        if self.open_loops:
            raise RuntimeError("a loop of generated code was left by break or return: leave it by its end")
        self.ir.give_back()


def kind_width(dtype: str) -> int:
    """Bits of an integer type."""
    return int(ir_type(dtype)[1:])

"""The door between XLA and a kernel: an FFI handler, written in LLVM's language instead of C.

XLA calls `handler(frame)`. The frame tells where the operands and results lie. The work is a row of phases, each a
function `(buffers, task, worker)` that is called once for every task; a phase starts when the one before is done:

    caller    | task 0 | task 2 | task 3 |  spin  |        next phase ...
    pool      |    | task 1      | task 4    | done
                   ^ started late: it takes what is left, or nothing

Whoever is free takes the next number from an atomic counter. The caller works too and never waits for a thread to
*begin*, only for tasks that have begun: a pool that is busy, or has one thread, makes it slower and cannot block it. A
thread that comes too late finds the counter used up; the state lives until the last one has let go of it.

XLA gets its memory from the system anew for every run of a program, page by page as they are first written: that takes
as long as all the arithmetic of a network that is bound by memory. So a handler asks Linux for pages of 2 MiB where it
is going to write more than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.ir as ir

from fluxion.kernels.abi import Header
from fluxion.kernels.values import POINTER

_I32, _I64, _VOID = ir.IntType(32), ir.IntType(64), ir.VoidType()
_STATE = _I64.as_pointer()
# One cache line each, so that the counter that all threads write does not slow down those who read the rest.
_NEXT, _DONE, _OWNERS, _WORKERS, _BUFFERS = 0, 8, 16, 24, 32
_HUGE_PAGE, _MADV_HUGEPAGE = 2 << 20, 14


@dataclass
class Phase:
    """A function `(buffers: pointers, task, worker)` and how often it is called."""

    function: ir.Function
    tasks: int


def write_handler(
    module: ir.Module, header: Header, phases: Sequence[Phase], written: Sequence[int], workers: int
) -> None:
    """Adds `handler`, which XLA calls: it runs the phases with at most so many workers.

    `written` has for each buffer how many bytes the phases write there, 0 for an operand.
    """
    _Handler(module, header, phases, written, workers).write()


class _Handler:
    def __init__(
        self, module: ir.Module, header: Header, phases: Sequence[Phase], written: Sequence[int], workers: int
    ) -> None:
        self.module, self.header, self.phases = module, header, phases
        self.written, self.buffers, self.workers = written, len(written), workers
        self.function = ir.Function(module, ir.FunctionType(POINTER, [POINTER]), "handler")
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))

    def write(self) -> None:
        b, frame = self.b, self.function.args[0]
        execute = self.header.value("XLA_FFI_ExecutionStage_EXECUTE")
        self._answer_metadata(frame)
        with b.if_then(b.icmp_signed("!=", self._field(frame, "XLA_FFI_CallFrame", "stage", _I32), _I32(execute))):
            b.ret(POINTER(None))
        pointers = self._stack(8 * self.buffers)
        count = self._copy_pointers(frame, "args", "args", _I64(0), pointers)
        self._copy_pointers(frame, "rets", "rets", count, pointers)
        if "linux" in self.module.triple:
            self._ask_for_huge_pages(pointers)
        threads = self._thread_count(frame)
        for number, phase in enumerate(self.phases):
            if phase.tasks <= 1 or self.workers == 1:
                self._serially(phase, pointers)
            else:
                self._in_parallel(number, phase, pointers, frame, threads)
        b.ret(POINTER(None))

    # ---------------------------------------------------------------- XLA's structs

    def _stack(self, size: int) -> ir.Value:
        """So many bytes that live as long as the call."""
        with self.b.goto_entry_block():
            place = self.b.alloca(_I64, _I64(-(-size // 8)))
            place.type = POINTER  # llvmlite would allow numbers of one type only
            return place

    def _at(self, base: ir.Value, offset: int) -> ir.Value:
        return self.b.gep(base, [_I64(offset)], source_etype=ir.IntType(8))

    def _field(self, base: ir.Value, struct: str, field: str, kind: ir.Type = POINTER) -> ir.Value:
        return self.b.load(self._at(base, self.header.offset(struct, field)), typ=kind)

    def _answer_metadata(self, frame: ir.Value) -> None:
        """XLA asks each handler once for the version of the interface that it was written for."""
        b, extension = self.b, self._field(frame, "XLA_FFI_CallFrame", "extension_start")
        struct = "XLA_FFI_Metadata_Extension"
        with b.if_then(b.icmp_unsigned("!=", extension, POINTER(None))):
            kind = self._field(extension, struct, "extension_base.type", _I32)
            wanted = _I32(self.header.value("XLA_FFI_Extension_Metadata"))
            with b.if_then(b.icmp_signed("==", kind, wanted)):
                answer = self._field(extension, struct, "metadata")
                version = dict(zip(("major_version", "minor_version"), self.header.version(), strict=True))
                for name, value in version.items():
                    place = self.header.offset("XLA_FFI_Metadata", f"api_version.{name}")
                    b.store(_I32(value), self._at(answer, place))
                b.store(_I32(0), self._at(answer, self.header.offset("XLA_FFI_Metadata", "traits")))
                b.ret(POINTER(None))

    def _copy_pointers(self, frame: ir.Value, part: str, field: str, count: ir.Value, target: ir.Value) -> ir.Value:
        """Puts the addresses of all operands (or results) behind the first `count` of `target`."""
        b = self.b
        size = self._field(frame, "XLA_FFI_CallFrame", f"{part}.size", _I64)
        listed = self._field(frame, "XLA_FFI_CallFrame", f"{part}.{field}")
        with self._counting(size) as number:
            buffer = b.load(b.gep(listed, [number], source_etype=POINTER), typ=POINTER)
            data = self._field(buffer, "XLA_FFI_Buffer", "data")
            b.store(data, b.gep(target, [b.add(count, number)], source_etype=POINTER))
        return b.add(count, size)

    def _counting(self, stop: ir.Value) -> Any:
        return _Counting(self.b, self.function, stop)

    def _call_api(self, frame: ir.Value, name: str, **values: ir.Value) -> ir.Value:
        """Calls a function of XLA's interface; returns 1 where it succeeded, and destroys its error where not."""
        b = self.b
        failed = self._call(self._field(frame, "XLA_FFI_CallFrame", "api"), name, values, frame)
        success = b.icmp_unsigned("==", failed, POINTER(None))
        with b.if_then(b.not_(success)):
            api = self._field(frame, "XLA_FFI_CallFrame", "api")
            self._call(api, "XLA_FFI_Error_Destroy", {"error": failed}, None, _VOID)
        return success

    def _call(
        self, api: ir.Value, name: str, values: dict[str, ir.Value], frame: ir.Value | None, result: ir.Type = POINTER
    ) -> ir.Value:
        b, struct = self.b, f"{name}_Args"
        layout = self.header.layout(struct)
        arguments = self._stack(layout.size)
        b.store(_I64(layout.size), arguments)
        b.store(POINTER(None), self._at(arguments, layout.offsets["extension_start"]))
        if frame is not None:
            context = self._field(frame, "XLA_FFI_CallFrame", "ctx")
            b.store(context, self._at(arguments, self.header.offset(struct, "ctx")))
        for field, value in values.items():
            b.store(value, self._at(arguments, self.header.offset(struct, field)))
        function = self._field(api, "XLA_FFI_Api", name, ir.FunctionType(result, [POINTER]).as_pointer())
        return b.call(function, [arguments])

    def _thread_count(self, frame: ir.Value) -> ir.Value:
        """How many threads the pool has; 1 where there is none."""
        b = self.b
        place = self._stack(8)
        b.store(_I64(1), place)
        self._call_api(frame, "XLA_FFI_ThreadPool_NumThreads", num_threads=place)
        return b.load(place, typ=_I64)

    # ---------------------------------------------------------------- memory

    def _ask_for_huge_pages(self, pointers: ir.Value) -> None:
        """For the huge pages that a large buffer touches; where the system has none to give, nothing changes."""
        b, mask = self.b, _I64(-_HUGE_PAGE)
        for index, size in enumerate(self.written):
            if size >= _HUGE_PAGE // 2:
                start = b.load(b.gep(pointers, [_I64(index)], source_etype=POINTER), typ=_I64)
                first = b.and_(start, mask)
                length = b.sub(b.and_(b.add(start, _I64(size + _HUGE_PAGE - 1)), mask), first)
                b.call(self._extern("madvise", _I32, _I64, _I64, _I32), [first, length, _I32(_MADV_HUGEPAGE)])

    # ---------------------------------------------------------------- phases

    def _serially(self, phase: Phase, pointers: ir.Value) -> None:
        with self._counting(_I64(phase.tasks)) as task:
            self.b.call(phase.function, [pointers, task, _I64(0)])

    def _in_parallel(self, number: int, phase: Phase, pointers: ir.Value, frame: ir.Value, threads: ir.Value) -> None:
        b, work = self.b, self._work(number, phase)
        helper = self._helper(number, work)
        most = _I64(min(phase.tasks, self.workers))
        wanted = b.select(b.icmp_signed("<", threads, most), threads, most)
        malloc = self._extern("malloc", _STATE, _I64)
        state = b.call(malloc, [_I64(8 * (_BUFFERS + self.buffers))])
        b.store_atomic(_I64(0), self._slot(b, state, _NEXT), "monotonic", 8)
        b.store_atomic(_I64(0), self._slot(b, state, _DONE), "monotonic", 8)
        b.store_atomic(wanted, self._slot(b, state, _OWNERS), "monotonic", 8)
        b.store_atomic(_I64(0), self._slot(b, state, _WORKERS), "monotonic", 8)
        for index in range(self.buffers):
            pointer = b.load(b.gep(pointers, [_I64(index)], source_etype=POINTER), typ=POINTER)
            b.store(b.ptrtoint(pointer, _I64), self._slot(b, state, _BUFFERS + index))
        with self._counting(b.sub(wanted, _I64(1))):
            started = self._call_api(frame, "XLA_FFI_ThreadPool_Schedule", task=helper, data=state)
            with b.if_then(b.not_(started)):
                b.atomic_rmw("sub", self._slot(b, state, _OWNERS), _I64(1), "acq_rel")
        b.call(work, [state])
        self._wait(state, phase.tasks)
        self._let_go(b, state)

    def _work(self, number: int, phase: Phase) -> ir.Function:
        """Takes tasks until there are no more."""
        function = ir.Function(self.module, ir.FunctionType(_VOID, [_STATE]), f"work{number}")
        function.linkage = "internal"
        b, state = ir.IRBuilder(function.append_basic_block("entry")), function.args[0]
        worker = b.atomic_rmw("add", self._slot(b, state, _WORKERS), _I64(1), "monotonic")
        take, do, end = (function.append_basic_block(name) for name in ("take", "do", "end"))
        b.branch(take)
        b.position_at_end(take)
        task = b.atomic_rmw("add", self._slot(b, state, _NEXT), _I64(1), "monotonic")
        b.cbranch(b.icmp_signed("<", task, _I64(phase.tasks)), do, end)
        b.position_at_end(do)
        b.call(phase.function, [self._slot(b, state, _BUFFERS), task, worker])
        b.atomic_rmw("add", self._slot(b, state, _DONE), _I64(1), "release")
        b.branch(take)
        b.position_at_end(end)
        b.ret_void()
        return function

    def _helper(self, number: int, work: ir.Function) -> ir.Function:
        """What a thread of the pool runs."""
        function = ir.Function(self.module, ir.FunctionType(_VOID, [_STATE]), f"helper{number}")
        function.linkage = "internal"
        b = ir.IRBuilder(function.append_basic_block("entry"))
        b.call(work, function.args)
        self._let_go(b, function.args[0])
        b.ret_void()
        return function

    def _wait(self, state: ir.Value, tasks: int) -> None:
        b = self.b
        look, spin, end = (self.function.append_basic_block(name) for name in ("look", "spin", "end"))
        b.branch(look)
        b.position_at_end(look)
        done = b.load_atomic(self._slot(b, state, _DONE), "acquire", 8)
        b.cbranch(b.icmp_signed("<", done, _I64(tasks)), spin, end)
        b.position_at_end(spin)
        b.call(self._extern("sched_yield", _I32), [])
        b.branch(look)
        b.position_at_end(end)

    def _let_go(self, b: ir.IRBuilder, state: ir.Value) -> None:
        """The last owner frees the state."""
        owners = b.atomic_rmw("sub", self._slot(b, state, _OWNERS), _I64(1), "acq_rel")
        with b.if_then(b.icmp_signed("==", owners, _I64(1))):
            b.call(self._extern("free", _VOID, _STATE), [state])

    def _slot(self, b: ir.IRBuilder, state: ir.Value, index: int) -> ir.Value:
        return b.gep(state, [_I64(index)])

    def _extern(self, name: str, result: ir.Type, *arguments: ir.Type) -> ir.Function:
        known = self.module.globals.get(name)
        return known or ir.Function(self.module, ir.FunctionType(result, list(arguments)), name)


class _Counting:
    """A `with` statement whose body becomes the body of a loop over 0 ... stop - 1."""

    def __init__(self, b: ir.IRBuilder, function: ir.Function, stop: ir.Value) -> None:
        self.b, self.stop = b, stop
        self.body, self.after = (function.append_basic_block(name) for name in ("body", "after"))

    def __enter__(self) -> ir.Value:
        b, before = self.b, self.b.block
        b.cbranch(b.icmp_signed("<", _I64(0), self.stop), self.body, self.after)
        b.position_at_end(self.body)
        self.number = b.phi(_I64)
        self.number.add_incoming(_I64(0), before)
        return self.number

    def __exit__(self, *_: object) -> None:
        b = self.b
        following = b.add(self.number, _I64(1))
        self.number.add_incoming(following, b.block)
        b.cbranch(b.icmp_signed("<", following, self.stop), self.body, self.after)
        b.position_at_end(self.after)

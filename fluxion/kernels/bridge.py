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

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from fluxion.kernels import ir
from fluxion.kernels.abi import Header

# One cache line each, so that the counter that all threads write does not slow down those who read the rest.
_NEXT, _DONE, _OWNERS, _WORKERS, _PHASE, _TASKS, _BUFFERS = 0, 8, 16, 24, 32, 33, 34
_HUGE_PAGE, _MADV_HUGEPAGE = 2 << 20, 14
_PATIENCE = 100  # microseconds between two looks at whether a kernel is there


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


def _i32(number: int) -> ir.Value:
    return ir.constant(ir.I32, number)


def _i64(number: int) -> ir.Value:
    return ir.constant(ir.I64, number)


def write_gates(module: ir.Module, header: Header, count: int) -> None:
    """Adds `gate0`, `gate1` ..., which XLA may call: each passes its calls on to the handler in `slot0`, `slot1` ...

    It waits where there is none yet. `broken` is a handler that returns an error.
    """
    door = _Door(module, header, "enter", [ir.POINTER, ir.POINTER])
    b, (frame, slot) = door.b, door.function.arguments
    door.answer_metadata(frame)
    look, wait, go = (door.function.block() for _ in range(3))
    b.jump(look)
    b.place = look
    handler = b.load_atomic(slot, ir.POINTER, "acquire")
    b.branch(b.compare("icmp eq", handler, ir.NULL), wait, go)
    b.place = wait
    b.call(module.declare("usleep", ir.I32, [ir.I32]), [_i32(_PATIENCE)])
    b.jump(look)
    b.place = go
    b.give_back(b.call(handler, [frame]))
    for number in range(count):
        gate = _Door(module, header, f"gate{number}", [ir.POINTER], internal=False)
        slot = module.slot(f"slot{number}")
        gate.b.give_back(gate.b.call(door.function.value, [*gate.function.arguments, slot]))
    _Broken(module, header, "broken", [ir.POINTER], internal=False).write()


class _Door:
    """A function that deals with XLA's structs."""

    def __init__(
        self, module: ir.Module, header: Header, name: str, kinds: Sequence[str], internal: bool = True
    ) -> None:
        self.module, self.header = module, header
        self.function = ir.Function(module, name, ir.POINTER, kinds, internal)
        self.b = ir.Builder(self.function)

    def _field(self, base: ir.Value, struct: str, field: str, kind: str = ir.POINTER) -> ir.Value:
        return self.b.load(self._place(base, struct, field), kind)

    def _place(self, base: ir.Value, struct: str, field: str) -> ir.Value:
        return self.b.offset(base, self.header.offset(struct, field), ir.I8)

    def answer_metadata(self, frame: ir.Value) -> None:
        """XLA asks each handler once for the version of the interface that it was written for."""
        b, extension = self.b, self._field(frame, "XLA_FFI_CallFrame", "extension_start")
        struct = "XLA_FFI_Metadata_Extension"
        with b.when(b.compare("icmp ne", extension, ir.NULL)):
            kind = self._field(extension, struct, "extension_base.type", ir.I32)
            wanted = _i32(self.header.value("XLA_FFI_Extension_Metadata"))
            with b.when(b.compare("icmp eq", kind, wanted)):
                answer = self._field(extension, struct, "metadata")
                version = dict(zip(("major_version", "minor_version"), self.header.version(), strict=True))
                for name, value in version.items():
                    b.store(_i32(value), self._place(answer, "XLA_FFI_Metadata", f"api_version.{name}"), 4)
                b.store(_i32(0), self._place(answer, "XLA_FFI_Metadata", "traits"), 4)
                b.give_back(ir.NULL)

    def _call(
        self, api: ir.Value, name: str, values: dict[str, ir.Value], frame: ir.Value | None, result: str = ir.POINTER
    ) -> ir.Value:
        b, struct = self.b, f"{name}_Args"
        layout = self.header.layout(struct)
        arguments = b.stack(layout.size)
        b.store(_i64(layout.size), arguments)
        b.store(ir.NULL, self._place(arguments, struct, "extension_start"))
        if frame is not None:
            b.store(self._field(frame, "XLA_FFI_CallFrame", "ctx"), self._place(arguments, struct, "ctx"))
        for field, value in values.items():
            b.store(value, self._place(arguments, struct, field))
        function = self._field(api, "XLA_FFI_Api", name)
        return b.call(ir.Value(result, function.text), [arguments])

    def call_api(self, frame: ir.Value, name: str, **values: ir.Value) -> ir.Value:
        """Calls a function of XLA's interface; returns 1 where it succeeded, and destroys its error where not."""
        b = self.b
        failed = self._call(self._field(frame, "XLA_FFI_CallFrame", "api"), name, values, frame)
        with b.when(b.compare("icmp ne", failed, ir.NULL)):
            api = self._field(frame, "XLA_FFI_CallFrame", "api")
            self._call(api, "XLA_FFI_Error_Destroy", {"error": failed}, None, ir.VOID)
        return b.compare("icmp eq", failed, ir.NULL)


class _Broken(_Door):
    """A handler that returns an error."""

    def write(self) -> None:
        text = self.module.table(ir.I8, [*b"a kernel could not be compiled: see the error printed before", 0], 1)
        code = _i32(self.header.value("XLA_FFI_Error_Code_INTERNAL"))
        api = self._field(self.function.arguments[0], "XLA_FFI_CallFrame", "api")
        self.b.give_back(self._call(api, "XLA_FFI_Error_Create", {"message": text, "errc": code}, None))


class _Handler(_Door):
    def __init__(
        self, module: ir.Module, header: Header, phases: Sequence[Phase], written: Sequence[int], workers: int
    ) -> None:
        super().__init__(module, header, "handler", [ir.POINTER], internal=False)
        self.phases = phases
        self.written, self.buffers, self.workers = written, len(written), workers

    @functools.cached_property
    def _parallel(self) -> _Parallel:
        parallel = _Parallel(self.module, self.header, self.buffers)
        parallel.write()
        return parallel

    def write(self) -> None:
        b, frame = self.b, self.function.arguments[0]
        execute = self.header.value("XLA_FFI_ExecutionStage_EXECUTE")
        self.answer_metadata(frame)
        stage = self._field(frame, "XLA_FFI_CallFrame", "stage", ir.I32)
        with b.when(b.compare("icmp ne", stage, _i32(execute))):
            b.give_back(ir.NULL)
        pointers = b.stack(8 * self.buffers)
        count = self._copy_pointers(frame, "args", "args", _i64(0), pointers)
        self._copy_pointers(frame, "rets", "rets", count, pointers)
        if "linux" in self.module.triple:
            self._ask_for_huge_pages(pointers)
        threads = self._thread_count(frame)
        for phase in self.phases:
            if phase.tasks <= 1 or self.workers == 1:
                self._serially(phase, pointers)
            else:
                self._in_parallel(phase, pointers, frame, threads)
        b.give_back(ir.NULL)

    # ---------------------------------------------------------------- XLA's call frame

    def _copy_pointers(self, frame: ir.Value, part: str, field: str, count: ir.Value, target: ir.Value) -> ir.Value:
        """Puts the addresses of all operands (or results) behind the first `count` of `target`."""
        b = self.b
        size = self._field(frame, "XLA_FFI_CallFrame", f"{part}.size", ir.I64)
        listed = self._field(frame, "XLA_FFI_CallFrame", f"{part}.{field}")
        with b.count(size) as number:
            buffer = b.load(b.offset(listed, number, ir.POINTER), ir.POINTER)
            data = self._field(buffer, "XLA_FFI_Buffer", "data")
            b.store(data, b.offset(target, b.binary("add", count, number), ir.POINTER))
        return b.binary("add", count, size)

    def _thread_count(self, frame: ir.Value) -> ir.Value:
        """How many threads the pool has; 1 where there is none."""
        place = self.b.stack(8)
        self.b.store(_i64(1), place)
        self.call_api(frame, "XLA_FFI_ThreadPool_NumThreads", num_threads=place)
        return self.b.load(place, ir.I64)

    # ---------------------------------------------------------------- memory

    def _ask_for_huge_pages(self, pointers: ir.Value) -> None:
        """For the huge pages that a large buffer touches; where the system has none to give, nothing changes."""
        b, mask = self.b, _i64(-_HUGE_PAGE)
        for index, size in enumerate(self.written):
            if size >= _HUGE_PAGE // 2:
                start = b.load(b.offset(pointers, index, ir.POINTER), ir.I64)
                first = b.binary("and", start, mask)
                end = b.binary("and", b.binary("add", start, _i64(size + _HUGE_PAGE - 1)), mask)
                madvise = self.module.declare("madvise", ir.I32, [ir.I64, ir.I64, ir.I32])
                b.call(madvise, [first, b.binary("sub", end, first), _i32(_MADV_HUGEPAGE)])

    # ---------------------------------------------------------------- phases

    def _serially(self, phase: Phase, pointers: ir.Value) -> None:
        with self.b.count(_i64(phase.tasks)) as task:
            self.b.call(phase.function.value, [pointers, task, _i64(0)])

    def _in_parallel(self, phase: Phase, pointers: ir.Value, frame: ir.Value, threads: ir.Value) -> None:
        most = _i64(min(phase.tasks, self.workers))
        wanted = self.b.select(self.b.compare("icmp slt", threads, most), threads, most)
        function = ir.Value(ir.POINTER, phase.function.value.text)
        self.b.call(self._parallel.function.value, [frame, pointers, wanted, function, _i64(phase.tasks)])


class _Parallel(_Door):
    """`parallel(frame, pointers, threads, phase, tasks)` runs a phase in so many threads."""

    def __init__(self, module: ir.Module, header: Header, buffers: int) -> None:
        super().__init__(module, header, "parallel", [ir.POINTER, ir.POINTER, ir.I64, ir.POINTER, ir.I64])
        self.buffers = buffers

    def write(self) -> None:
        b, (frame, pointers, threads, phase, tasks) = self.b, self.function.arguments
        work = self._work()
        helper = ir.Value(ir.POINTER, self._helper(work).value.text)
        state = b.call(self.module.declare("malloc", ir.POINTER, [ir.I64]), [_i64(8 * (_BUFFERS + self.buffers))])
        for slot, value in ((_NEXT, _i64(0)), (_DONE, _i64(0)), (_OWNERS, threads), (_WORKERS, _i64(0))):
            b.store_atomic(value, b.offset(state, slot, ir.I64), "monotonic")
        for slot, value in ((_PHASE, phase), (_TASKS, tasks)):
            b.store(value, b.offset(state, slot, ir.I64))
        for index in range(self.buffers):
            pointer = b.load(b.offset(pointers, index, ir.POINTER), ir.POINTER)
            b.store(pointer, b.offset(state, _BUFFERS + index, ir.POINTER))
        with b.count(b.binary("sub", threads, _i64(1))):
            started = self.call_api(frame, "XLA_FFI_ThreadPool_Schedule", task=helper, data=state)
            with b.when(b.compare("icmp eq", started, ir.constant(ir.BIT, 0))):
                b.atomic("sub", b.offset(state, _OWNERS, ir.I64), 1, "acq_rel")
        b.call(work.value, [state])
        self._wait(state, tasks)
        self._let_go(b, state)
        b.give_back(ir.NULL)

    def _work(self) -> ir.Function:
        """Takes tasks until there are no more."""
        function = ir.Function(self.module, "work", ir.VOID, [ir.POINTER])
        b, state = ir.Builder(function), function.arguments[0]
        worker = b.atomic("add", b.offset(state, _WORKERS, ir.I64), 1, "monotonic")
        phase = ir.Value(ir.VOID, b.load(b.offset(state, _PHASE, ir.I64), ir.POINTER).text)
        tasks = b.load(b.offset(state, _TASKS, ir.I64), ir.I64)
        take, do, end = function.block(), function.block(), function.block()
        b.jump(take)
        b.place = take
        task = b.atomic("add", b.offset(state, _NEXT, ir.I64), 1, "monotonic")
        b.branch(b.compare("icmp slt", task, tasks), do, end)
        b.place = do
        b.call(phase, [b.offset(state, _BUFFERS, ir.I64), task, worker])
        b.atomic("add", b.offset(state, _DONE, ir.I64), 1, "release")
        b.jump(take)
        b.place = end
        b.give_back()
        return function

    def _helper(self, work: ir.Function) -> ir.Function:
        """What a thread of the pool runs."""
        function = ir.Function(self.module, "helper", ir.VOID, [ir.POINTER])
        b = ir.Builder(function)
        b.call(work.value, function.arguments)
        self._let_go(b, function.arguments[0])
        b.give_back()
        return function

    def _wait(self, state: ir.Value, tasks: ir.Value) -> None:
        b = self.b
        look, spin, end = self.function.block(), self.function.block(), self.function.block()
        b.jump(look)
        b.place = look
        done = b.load_atomic(b.offset(state, _DONE, ir.I64), ir.I64, "acquire")
        b.branch(b.compare("icmp slt", done, tasks), spin, end)
        b.place = spin
        b.call(self.module.declare("sched_yield", ir.I32, []), [])
        b.jump(look)
        b.place = end

    def _let_go(self, b: ir.Builder, state: ir.Value) -> None:
        """The last owner frees the state."""
        owners = b.atomic("sub", b.offset(state, _OWNERS, ir.I64), 1, "acq_rel")
        with b.when(b.compare("icmp eq", owners, _i64(1))):
            b.call(self.module.declare("free", ir.VOID, [ir.POINTER]), [state])

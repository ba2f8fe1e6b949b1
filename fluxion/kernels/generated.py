"""Kernels: Python functions that write machine code for given shapes, called like any function of JAX."""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import math
import pathlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import llvmlite
import llvmlite.binding as llvm
import numpy as np

from fluxion.kernels import abi, gates, ir, objects
from fluxion.kernels.bridge import Phase, write_handler
from fluxion.kernels.builder import Function
from fluxion.kernels.machine import Machine, host
from fluxion.kernels.values import TYPES, Number, Pointer, ir_type, item_bytes

ALIGNMENT = 64  # bytes of a cache line, and of the widest vector


@dataclass(frozen=True)
class Buffer:
    """An array that a kernel reads or writes. Within a phase, `f[buffer]` is the pointer to it.

    `number` says which of XLA's buffers it lies in, `offset` at which byte. A private one lies there once for each
    worker, `stride` bytes apart.
    """

    shape: tuple[int, ...]
    dtype: str
    number: int
    offset: int = 0
    stride: int = 0

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    def __getitem__(self, index: Any) -> Any:
        raise TypeError("a buffer is read within a phase, through its pointer: write f[buffer][index]")


@dataclass(frozen=True)
class Table:
    """Constants that are part of the code."""

    place: ir.Value
    dtype: str


class Work(Function):
    """A phase of a kernel, while it is written: what is done for task number `task` by worker number `worker`."""

    task: Number
    worker: Number

    def __init__(self, module: ir.Module, machine: Machine, name: str) -> None:
        super().__init__(module, machine, name, ("float32*", "int64", "int64"))
        self.task, self.worker = self.arguments[1:]
        self._pointers: dict[Buffer, Pointer] = {}

    def __getitem__(self, buffer: Buffer | Table) -> Pointer:
        if isinstance(buffer, Table):
            return Pointer(self, buffer.place, buffer.dtype)
        if buffer not in self._pointers:
            with self.ir.entry():
                self._pointers[buffer] = self._pointer(buffer)
        return self._pointers[buffer]

    def _pointer(self, buffer: Buffer) -> Pointer:
        place = self.ir.offset(self.arguments[0].ir, buffer.number, ir.POINTER)
        base = Pointer(self, self.ir.load(place, ir.POINTER), "int8")
        start = base + (self.worker * buffer.stride + buffer.offset)
        return Pointer(self, start.ir, buffer.dtype)


class Kernel:
    """A kernel while it is written: the function under `@kernel` gets it as its first argument."""

    def __init__(self, machine: Machine, operands: Sequence[Any], results: Sequence[Any]) -> None:
        self.machine = machine
        self.module = ir.Module(machine.triple)
        arrays = [*operands, *results]
        self.buffers = [Buffer(tuple(a.shape), np.dtype(a.dtype).name, n) for n, a in enumerate(arrays)]
        self.scratch_bytes = 0
        self._operands = len(operands)
        self._phases: list[Phase] = []
        self._open = False
        for buffer in self.buffers:
            if buffer.dtype not in TYPES:
                raise TypeError(f"kernels take arrays of {', '.join(TYPES)}, got one of {buffer.dtype}")

    def lanes(self, dtype: str = "float32") -> int:
        """How many numbers of this type a vector holds."""
        return self.machine.lanes(dtype)

    def scratch(self, size: int, dtype: str = "float32") -> Buffer:
        """Memory for `size` numbers that all tasks share; its contents are undefined at first."""
        buffer = Buffer((size,), dtype, len(self.buffers), self.scratch_bytes)
        self.scratch_bytes += _padded(size * item_bytes(dtype))
        return buffer

    def private(self, size: int, dtype: str = "float32") -> Buffer:
        """Memory for `size` numbers that each worker has for itself; its contents are undefined when a task starts."""
        stride = _padded(size * item_bytes(dtype))
        buffer = Buffer((size,), dtype, len(self.buffers), self.scratch_bytes, stride)
        self.scratch_bytes += stride * self.machine.workers
        return buffer

    def table(self, values: Sequence[float], dtype: str = "int64") -> Table:
        """Constants to be looked up with an index that only the running code knows."""
        return Table(self.module.table(ir_type(dtype), values, ALIGNMENT), dtype)

    @contextlib.contextmanager
    def parallel(self, tasks: int) -> Iterator[Work]:
        """A phase of so many tasks, which run in any order and at the same time, when the phase before is done."""
        if not isinstance(tasks, int) or tasks < 1:
            raise ValueError(f"k.parallel takes the number of tasks, an int of at least 1, got {tasks!r}")
        if self._open:
            raise RuntimeError("k.parallel within k.parallel: end one phase before the next")
        self._open = True
        work = Work(self.module, self.machine, f"phase{len(self._phases)}")
        yield work
        work.finish()
        self._open = False
        self._phases.append(Phase(work.function, tasks))

    @contextlib.contextmanager
    def routine(self, name: str, *arguments: str) -> Iterator[Function]:
        """A function for `f.call`, whose code is there once however often it is called."""
        function = Function(self.module, self.machine, name, arguments)
        yield function
        function.finish()

    def text(self, header: abi.Header) -> str:
        """The whole kernel in LLVM's language."""
        if not self._phases:
            raise RuntimeError("a kernel needs a phase that writes its results: with k.parallel(tasks) as f: ...")
        results = [buffer.size * item_bytes(buffer.dtype) for buffer in self.buffers[self._operands :]]
        written = [0] * self._operands + results + [self.scratch_bytes] * bool(self.scratch_bytes)
        write_handler(self.module, header, self._phases, written, self.machine.workers)
        return str(self.module)


@dataclass(frozen=True)
class _Ready:
    """Machine code that XLA knows by `name`."""

    name: str
    scratch_bytes: int


_lock = threading.RLock()
_registered: dict[str, _Ready] = {}  # what XLA knows, by name: it takes each once
# Not in the kernels themselves, which programs may reach: what grows there would be a change of the program.
_ready: weakref.WeakKeyDictionary[Callable[..., None], dict[Any, _Ready]] = weakref.WeakKeyDictionary()


def _key(operands: Sequence[Any], results: Sequence[Any], machine: Machine, parameters: dict[str, Any]) -> Any:
    """What the code depends on, beside the function that writes it."""
    shapes = tuple((tuple(a.shape), np.dtype(a.dtype).name) for a in (*operands, *results))
    # By their text: 1, 1.0 and True are equal, and so are 0.0 and -0.0.
    return shapes, len(operands), machine, tuple(sorted((name, repr(value)) for name, value in parameters.items()))


class GeneratedKernel:
    """What `@kernel` makes of a function: see there."""

    def __init__(self, build: Callable[..., None]) -> None:
        functools.update_wrapper(self, build)
        self._build = build
        self._ours = build.__module__.startswith("fluxion.kernels.")

    def __call__(self, *operands: Any, outputs: Any, machine: Machine | None = None, **parameters: Any) -> Any:
        """The kernel's results as JAX arrays: one for a single `outputs`, a tuple for a sequence."""
        operands = tuple(jnp.asarray(operand) for operand in operands)
        several = isinstance(outputs, (tuple, list))
        results = tuple(jax.ShapeDtypeStruct(o.shape, o.dtype) for o in (outputs if several else (outputs,)))
        if all(result.size == 0 for result in results):
            made: Sequence[Any] = [jnp.zeros(result.shape, result.dtype) for result in results]
        else:
            made = self._call(operands, results, machine or required_host(), parameters)
        return tuple(made) if several else made[0]

    def _call(
        self, operands: tuple[Any, ...], results: tuple[Any, ...], machine: Machine, parameters: dict[str, Any]
    ) -> Sequence[Any]:
        ready = self.prepare(operands, results, machine, **parameters)
        scratch = (jax.ShapeDtypeStruct((ready.scratch_bytes,), jnp.uint8),) if ready.scratch_bytes else ()
        call = jax.ffi.ffi_call(ready.name, (*results, *scratch), vmap_method="sequential")
        made = call(*operands)
        return made[: len(results)]

    def prepare(self, operands: Sequence[Any], results: Sequence[Any], machine: Machine, **parameters: Any) -> _Ready:
        """Makes the kernel known to XLA: its machine code is found on disk, or compiled meanwhile."""
        key = _key(operands, results, machine, parameters)
        with _lock:
            known = _ready.setdefault(self._build, {})
            if key not in known:
                known[key] = self._register(operands, results, machine, parameters)
            return known[key]

    def _register(
        self, operands: Sequence[Any], results: Sequence[Any], machine: Machine, parameters: dict[str, Any]
    ) -> _Ready:
        name, written = self._name(operands, results, machine, parameters)
        if name in _registered:
            return _registered[name]
        kept = objects.recall(name)
        if kept is not None:
            facts, code = kept
            address = objects.load(code, "handler", machine)
        else:
            kernel, text = written or self._written(operands, results, machine, parameters)
            facts = {"scratch_bytes": kernel.scratch_bytes}
            make = lambda: objects.load(_compiled(name, text, facts, machine), "handler", machine)
            # Only the library's own code is sure to be sound: what is wrong with other is told here and now.
            address = gates.made_meanwhile(make, machine) if self._ours else make()
        _make_known(name, address)
        _registered[name] = _Ready(name, facts["scratch_bytes"])
        return _registered[name]

    def text(
        self, operands: Sequence[Any], results: Sequence[Any], machine: Machine | None = None, **parameters: Any
    ) -> str:
        """The kernel in LLVM's language, for operands and results of these shapes and types."""
        return self._written(operands, results, machine or required_host(), parameters)[1]

    def _written(
        self, operands: Sequence[Any], results: Sequence[Any], machine: Machine, parameters: dict[str, Any]
    ) -> tuple[Kernel, str]:
        kernel = Kernel(machine, operands, results)
        with _no_collection():
            self._build(kernel, *kernel.buffers, **parameters)
            return kernel, kernel.text(abi.installed())

    def _name(
        self, operands: Sequence[Any], results: Sequence[Any], machine: Machine, parameters: dict[str, Any]
    ) -> tuple[str, tuple[Kernel, str] | None]:
        """A name that tells this machine code from all other; and the kernel's text, if it had to be written for it."""
        facts = (llvmlite.__version__, llvm.llvm_version_info, abi.installed().version())
        # The library's own code determines what its generators write; that of others may depend on anything.
        written = None if self._ours else self._written(operands, results, machine, parameters)
        source = generator_version() if written is None else written[1]
        key = _key(operands, results, machine, parameters)
        where = self._build.__module__, self._build.__qualname__
        digest = hashlib.sha256(repr((facts, where, source, key)).encode()).hexdigest()[:24]
        return f"fluxion_{self._build.__name__}_{digest}", written


def _make_known(name: str, address: int) -> None:
    try:
        jax.ffi.register_ffi_target(name, objects.capsule(address), platform="cpu")
    except Exception as error:  # of XLA's, whose class JAX does not name
        if "Duplicate" not in str(error):  # an interrupt came after it had been registered, and before it was noted
            raise


def _compiled(name: str, text: str, facts: dict[str, Any], machine: Machine) -> bytes:
    """Machine code, which is also kept on disk under this name."""
    code = objects.compile_object(text, machine)
    objects.remember(name, facts, code)
    return code


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Holds back the garbage collection, which would look at every instruction again and again: up to half the time."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def kernel(build: Callable[..., None]) -> GeneratedKernel:
    """Makes a kernel of a function `(k, *operands, *results, **parameters)` that writes its code.

    `k` is the Kernel; operands and results are its Buffers. What comes out is called with arrays, inside compiled
    functions or outside, on a CPU: `outputs` says what to allocate for the results (anything with shape and dtype, or
    several), and the keyword parameters reach the function. The code is generated once for each set of shapes, types
    and parameters, and kept on disk.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> @fx.kernels.kernel
    ... def double(k, x, y):
    ...     with k.parallel(tasks=1) as f:
    ...         for i, count in f.vectors(x.size, dtype=x.dtype):
    ...             f[y].store(f[x].load(i, count) * 2.0, i, count)
    >>> x = jnp.arange(5.0)
    >>> double(x, outputs=x).tolist()
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    return GeneratedKernel(build)


def required_host() -> Machine:
    """The machine that this process runs on; a RuntimeError where no code can be generated for it."""
    machine = host()
    if machine is None:
        raise RuntimeError("no kernels can be generated for this processor: they need AVX2 and FMA, or NEON")
    return machine


@functools.cache
def generator_version() -> str:
    """A hash of the code that writes the kernels."""
    total = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


def _padded(size: int) -> int:
    """Bytes up to the next cache line, and one line more: blocks a power of two apart would compete for the cache."""
    return -(-size // ALIGNMENT) * ALIGNMENT + ALIGNMENT

"""Runs a kernel without XLA: its handler is called with a frame made here, its buffers lie between forbidden pages.

A kernel that reads or writes one byte outside of a buffer dies of it, so use this in a process of its own.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from typing import Any

import ml_dtypes  # noqa: F401 - bfloat16 for NumPy
import numpy as np

from fluxion.kernels import abi, objects
from fluxion.kernels.generated import GeneratedKernel
from fluxion.kernels.machine import Machine

PAGE = mmap.PAGESIZE
HEADER = abi.installed()
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_POISON = 0xFF  # every float made of it is NaN


class Guarded:
    """So many bytes that end where a forbidden page begins, or begin where one ends."""

    def __init__(self, size: int, at_end: bool) -> None:
        pages = -(-max(size, 1) // PAGE)
        self._map = mmap.mmap(-1, (pages + 2) * PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.address = base + PAGE + (pages * PAGE - size if at_end else 0)
        ctypes.memset(base, _POISON, (pages + 2) * PAGE)
        for guard in (base, base + (pages + 1) * PAGE):
            if _libc.mprotect(guard, PAGE, 0):
                raise OSError(ctypes.get_errno(), "mprotect")


class _Struct:
    """A struct of XLA's interface, laid out by the header."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.memory = ctypes.create_string_buffer(HEADER.layout(name).size)
        self.address = ctypes.addressof(self.memory)
        self.kept: list[Any] = []

    def put(self, field: str, value: int, kind: Any = ctypes.c_int64) -> None:
        kind.from_address(self.address + HEADER.offset(self.name, field)).value = value


_CALL = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)


@_CALL
def _one_thread(arguments: int) -> int | None:
    offset = HEADER.offset("XLA_FFI_ThreadPool_NumThreads_Args", "num_threads")
    place = ctypes.c_int64.from_address(arguments + offset).value
    ctypes.c_int64.from_address(place).value = 1
    return None


def run(
    kernel: GeneratedKernel, operands: Sequence[np.ndarray], outputs: Sequence[Any], machine: Machine, **parameters: Any
) -> list[np.ndarray]:
    """The results of the kernel, computed twice: with forbidden pages right behind its buffers and right before."""
    kernel_, text = kernel._written(operands, outputs, machine, parameters)
    address = objects.load(objects.compile_object(text, machine), "handler", machine)
    first, second = (_run(address, operands, outputs, kernel_.scratch_bytes, at_end) for at_end in (True, False))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    return first


def _run(
    address: int, operands: Sequence[np.ndarray], outputs: Sequence[Any], scratch: int, at_end: bool
) -> list[np.ndarray]:
    inputs = [Guarded(array.nbytes, at_end) for array in operands]
    for guarded, array in zip(inputs, operands, strict=True):
        ctypes.memmove(guarded.address, np.ascontiguousarray(array).ctypes.data, array.nbytes)
    sizes = [int(np.prod(o.shape)) * np.dtype(o.dtype).itemsize for o in outputs]
    results = [Guarded(size, at_end) for size in sizes]
    scratches = [Guarded(scratch, at_end)] if scratch else []
    frame, api = _Struct("XLA_FFI_CallFrame"), _Struct("XLA_FFI_Api")
    api.put("XLA_FFI_ThreadPool_NumThreads", ctypes.cast(_one_thread, ctypes.c_void_p).value or 0)
    frame.put("api", api.address)
    frame.put("stage", HEADER.value("XLA_FFI_ExecutionStage_EXECUTE"), ctypes.c_int32)
    _list(frame, "args", inputs)
    _list(frame, "rets", [*results, *scratches])
    error = _CALL(address)(frame.address)
    assert error is None
    return [
        np.frombuffer(ctypes.string_at(guarded.address, size), o.dtype).reshape(o.shape)
        for guarded, size, o in zip(results, sizes, outputs, strict=True)
    ]


def _list(frame: _Struct, part: str, buffers: Sequence[Guarded]) -> None:
    described = [_Struct("XLA_FFI_Buffer") for _ in buffers]
    for struct, buffer in zip(described, buffers, strict=True):
        struct.put("data", buffer.address)
    pointers = (ctypes.c_void_p * max(len(buffers), 1))(*(struct.address for struct in described))
    frame.kept += [described, pointers]
    frame.put(f"{part}.size", len(buffers))
    frame.put(f"{part}.{part}", ctypes.addressof(pointers))

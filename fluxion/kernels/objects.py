"""From LLVM's language to machine code that XLA can call, kept on disk between runs.

A file of the cache holds a header of one line (what the caller wants remembered, and the hash of the rest), then an
object file as a compiler would write it. It is written under another name first and moved into place, so an interrupted
run leaves nothing half-written; a file whose hash is wrong is made anew.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import llvmlite.binding as llvm

from fluxion._cache import cache_folder, write_atomically
from fluxion.kernels.machine import Machine

_engines: list[Any] = []  # machine code lives as long as its engine


@functools.cache
def _prepare_llvm() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def target_machine(machine: Machine, jit: bool = False) -> Any:
    """LLVM's code generator for a machine."""
    _prepare_llvm()
    target = llvm.Target.from_triple(machine.triple)
    return target.create_target_machine(cpu=machine.cpu, features=machine.features, opt=2, jit=jit)


def compile_object(text: str, machine: Machine) -> bytes:
    """An object file of the functions in `text`. The code is good as it is: LLVM's passes are not run."""
    _prepare_llvm()
    module = llvm.parse_assembly(text)
    module.verify()
    return bytes(target_machine(machine, jit=True).emit_object(module))


def load(code: bytes, symbol: str, machine: Machine) -> int:
    """The address of a function of an object file."""
    return load_all(code, [symbol], machine)[symbol]


def load_all(code: bytes, symbols: Sequence[str], machine: Machine) -> dict[str, int]:
    """The addresses of functions and variables of an object file."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine(machine))
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return {symbol: int(engine.get_function_address(symbol)) for symbol in symbols}


def capsule(address: int) -> Any:
    """An address in the form in which JAX takes it."""
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(address, None, None)


def folder() -> pathlib.Path | None:
    """Where machine code is kept, or None with FLUXION_CACHE=0."""
    return cache_folder("kernels")


def recall(name: str) -> tuple[dict[str, Any], bytes] | None:
    """What is on disk under this name, or None where nothing, or nothing sound, is."""
    place = folder()
    if place is None:
        return None
    try:
        head, _, code = (place / f"{name}.o").read_bytes().partition(b"\n")
        kept = json.loads(head)
        return (kept["facts"], code) if kept["sha256"] == _checksum(kept["facts"], code) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(name: str, facts: dict[str, Any], code: bytes) -> None:
    """Puts machine code and facts about it on disk; where that is not possible, it is compiled again next time."""
    place = folder()
    if place is None:
        return
    head = json.dumps({"facts": facts, "sha256": _checksum(facts, code)}).encode()
    write_atomically(place / f"{name}.o", head + b"\n" + code)


def _checksum(facts: dict[str, Any], code: bytes) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode() + code).hexdigest()

"""Kernels that XLA can have before their machine code is there.

XLA asks for a kernel's address when it compiles a program, but jumps there no sooner than when the program runs. So
LLVM compiles kernels in threads of their own while Python writes the next ones and XLA compiles the program:

    Python   | write A | write B | write C |  XLA compiles  | run A, B, C
    LLVM               | compile A | compile B | compile C |

What XLA gets is a gate, a few instructions that jump to the code when it is there, and wait until then.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

from fluxion.kernels import abi, ir, objects
from fluxion.kernels.bridge import write_gates
from fluxion.kernels.machine import Machine

COUNT = 64  # gates that are made at a time

_free: list[tuple[int, int, int]] = []  # of each gate its address, where the code's address goes, and that of `broken`
_running: set[threading.Thread] = set()


def made_meanwhile(make: Callable[[], int], machine: Machine) -> int:
    """The address of a gate to what lies at the address that `make` returns, which is called in another thread.

    Where `make` fails, calls of the gate return an error to XLA.
    """
    if not _free:
        _free.extend(_new_gates(machine))
    address, slot, broken = _free.pop()
    thread = threading.Thread(target=_open, args=(make, slot, broken), name="fluxion kernel")
    _running.add(thread)
    try:
        thread.start()
    except RuntimeError:  # no more threads: the process ends, or has too many
        _running.discard(thread)
        _open(make, slot, broken)
    return address


def finish() -> None:
    """Waits until all kernels are there."""
    for thread in list(_running):
        thread.join()


def _open(make: Callable[[], int], slot: int, broken: int) -> None:
    address = broken
    try:
        address = make()
    finally:
        ctypes.c_void_p.from_address(slot).value = address
        _running.discard(threading.current_thread())


def _new_gates(machine: Machine) -> list[tuple[int, int, int]]:
    module = ir.Module(machine.triple)
    write_gates(module, abi.installed(), COUNT)
    names = [f"{what}{number}" for number in range(COUNT) for what in ("gate", "slot")]
    found = objects.load_all(objects.compile_object(str(module), machine), [*names, "broken"], machine)
    return [(found[f"gate{number}"], found[f"slot{number}"], found["broken"]) for number in range(COUNT)]

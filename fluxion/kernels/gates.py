"""Kernels that XLA can have before their machine code is there.

XLA asks for a kernel's address when it compiles a program, but jumps there no sooner than when the program runs. So
LLVM compiles kernels in a thread of its own while Python writes the next ones and XLA compiles the program:

    Python   | write A | write B | write C |  XLA compiles  | run A, B, C
    LLVM               | compile A | compile B | compile C |

What XLA gets is a gate, a few instructions that jump to the code when it is there, and wait until then.
"""

from __future__ import annotations

import ctypes
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from fluxion.kernels import abi, ir, objects
from fluxion.kernels.bridge import write_gates
from fluxion.kernels.machine import Machine

COUNT = 64  # gates that are made at a time

# Of each gate its address, where the code's address goes, and that of `broken`. Whoever takes one holds a lock.
_free: list[tuple[int, int, int]] = []
_compiler = ThreadPoolExecutor(1, "fluxion kernels")  # LLVM's bindings let one thread in at a time
_last: deque[Future[None]] = deque(maxlen=1)


def made_meanwhile(make: Callable[[], int], machine: Machine) -> int:
    """The address of a gate to what lies at the address that `make` returns, which is called in another thread.

    Where `make` fails, calls of the gate return an error to XLA.
    """
    if not _free:
        _free.extend(_new_gates(machine))
    address, slot, broken = _free.pop()
    try:
        _last.append(_compiler.submit(_open, make, slot, broken))
    except RuntimeError:  # no more threads: the process ends, or has too many
        _open(make, slot, broken)
    return address


def finish() -> None:
    """Waits until all kernels are there."""
    for future in list(_last):  # they come one after the other
        future.result()


def _open(make: Callable[[], int], slot: int, broken: int) -> None:
    address = broken
    try:
        address = make()
    except Exception:
        traceback.print_exc()
    finally:
        ctypes.c_void_p.from_address(slot).value = address


def _new_gates(machine: Machine) -> list[tuple[int, int, int]]:
    module = ir.Module(machine.triple)
    write_gates(module, abi.installed(), COUNT)
    names = [f"{what}{number}" for number in range(COUNT) for what in ("gate", "slot")]
    found = objects.load_all(objects.compile_object(str(module), machine), [*names, "broken"], machine)
    return [(found[f"gate{number}"], found[f"slot{number}"], found["broken"]) for number in range(COUNT)]

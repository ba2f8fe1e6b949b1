"""Generated functions that Python calls itself, outside XLA's programs and outside the interpreter's lock."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

from fluxion.kernels.availability import usable_machine
from fluxion.kernels.machine import Machine


@functools.cache
def routine(name: str, arguments: tuple[str, ...], text: Callable[[Machine], str]) -> Callable[..., Any] | None:
    """The function `name` of what `text` writes in LLVM's language, None where no code can be generated.

    `arguments` are their types as in `builder.Function`: addresses, such as "uint8*", and numbers of "int64".
    """
    machine = usable_machine()
    if machine is None:
        return None
    from fluxion.kernels import objects  # LLVM itself, which takes a quarter of a second to load

    address = objects.load(objects.compile_object(text(machine), machine), name, machine)
    kinds = [ctypes.c_void_p if kind.endswith("*") else ctypes.c_int64 for kind in arguments]
    return ctypes.CFUNCTYPE(None, *kinds)(address)

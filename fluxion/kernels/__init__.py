"""Machine code for CPUs, written by Python: where XLA's own operations are slower than they need be.

`use` says which kernels programs use, `report` which were chosen where, `kernel` makes one of your own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluxion.kernels.availability import KernelNotice
from fluxion.kernels.modes import use
from fluxion.kernels.reports import report

if TYPE_CHECKING:
    from fluxion.kernels.generated import kernel

__all__ = ["KernelNotice", "kernel", "report", "use"]


def __getattr__(name: str) -> Any:
    """`kernel` brings LLVM with it, which programs without kernels of their own spare."""
    if name == "kernel":
        from fluxion.kernels.generated import kernel

        return kernel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The most memory that a step takes beyond what its inputs take.

Linux counts the largest resident set of a process (VmHWM) and resets it on request. A fresh process for each contender
sets up its model, runs two steps, resets the count, and runs one more. The result is that count less the resident set
just before, the most of three: gradients, activations and scratch memory, without weights, the optimiser's state and
the batch. PyTorch's gradients are None at that point (`zero_grad` ends a step). The C library gives every block of
64 KiB or more back to the system at once, so that what it would keep of the last step does not hide the next one.
"""

from __future__ import annotations

import gc
import pathlib
import re
import time
from collections.abc import Callable

from benchmarks.processes import run_fresh

STATUS, RESET = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")
CODE = """
import sys
from benchmarks import memory
from benchmarks.convnets import build
print(memory.of_step(build(*sys.argv[1:])))
"""


def available() -> bool:
    """True where the system counts and resets."""
    return RESET.exists()


def of_contender(task: str, contender: str) -> float:
    """MiB of a step of a contender of `convnets`, in a process of its own."""
    return float(run_fresh(CODE, task, contender, MALLOC_MMAP_THRESHOLD_="65536")[1])


def of_step(run: Callable[[], object]) -> float:
    """MiB that one call of `run` takes at most beyond what is taken before it."""
    run()
    run()
    return max(growth(run) for _ in range(3))


def growth(run: Callable[[], object]) -> float:
    """MiB that this call of `run` takes at most beyond what is taken before it."""
    gc.collect()
    time.sleep(0.1)  # threads of the library may still be freeing
    before = resident("VmRSS")
    RESET.write_text("5")
    run()
    return (resident("VmHWM") - before) / 1024


def resident(field: str) -> int:
    """KiB in a field of the process's status."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{STATUS} has no line {field}")
    return int(found[1])

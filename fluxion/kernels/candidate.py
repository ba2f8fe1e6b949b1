"""A way to compute a problem, with what is known of it before it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fluxion.kernels.machine import Machine

# Fitted, with the constants of the families, to 230 kernels for 75 problems on one core of a Zen 5. The model errs by a
# third; the kernel that it takes for the fastest took 1 % longer than the fastest, in the geometric mean.
PEAK = 250e9  # multiplications and additions of float32 that a core does in a second, in vectors of 64 bytes
BANDWIDTH = 40e9  # bytes that all cores together move from or to memory in a second


@dataclass(frozen=True)
class Candidate:
    """One way to compute a result.

    `run` takes the operands. `seconds` is what the cost model expects on this machine; candidates are compared by it,
    so only ratios matter. `error` is the rounding error against that of a direct sum.
    """

    name: str
    run: Callable[..., Any]
    seconds: float
    error: float = 1.0


def expected_seconds(
    machine: Machine, flops: float, efficiency: float, moved: float, tasks: int, dtype: str = "float32"
) -> float:
    """What a kernel takes that does so many `flops` at a share `efficiency` of the peak, and moves so many bytes.

    `tasks` is how many pieces of work there are: the last round leaves cores idle.
    """
    rounds = -(-tasks // machine.workers)
    used = tasks / rounds if rounds else 1.0
    peak = PEAK * machine.vector_bytes / 64 * (0.5 if dtype == "float64" else 1.0)
    return flops / (peak * efficiency * used) + moved / BANDWIDTH

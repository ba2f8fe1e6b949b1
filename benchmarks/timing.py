"""Times contenders side by side: in every round each one takes its turn, so a busy moment hits all alike.

Before its turn a contender rests (the thread pools of the others stop spinning) and runs once untimed (caches).
Garbage collection stays on, as it does for a user; what the set-up left behind is frozen first.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

REST = 0.003


@dataclass
class Contender:
    """`run` does `steps` steps and waits for the last result; `times` are seconds per step, one per round."""

    name: str
    run: Callable[[], object]
    steps: int = 1
    times: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds per step."""
        return float(np.median(self.times))

    @property
    def least(self) -> float:
        """Seconds per step in the best round."""
        return min(self.times)

    @property
    def p99(self) -> float:
        """Seconds per step in the hundredth worst round."""
        return float(np.percentile(self.times, 99))

    def over(self, other: Contender) -> float:
        """How many times slower than `other`: the median over rounds."""
        return float(np.median(np.divide(self.times, other.times)))

    def least_over(self, other: Contender) -> float:
        """How many times slower than `other`, best round against best round."""
        return self.least / other.least


def race(contenders: Sequence[Contender], rounds: int, seconds: float = 60.0, calls: int = 1, warm: int = 3) -> None:
    """Fills in the times of all contenders: `rounds` turns of `calls` runs, fewer (but ten) when `seconds` are over."""
    for contender in contenders:
        for _ in range(warm):
            contender.run()
    gc.collect()
    gc.freeze()
    end = time.perf_counter() + seconds
    for number in range(rounds):
        shift = number % len(contenders)
        for contender in (*contenders[shift:], *contenders[:shift]):
            contender.times += _turn(contender, calls)
        if number >= 9 and time.perf_counter() > end:
            break
    gc.unfreeze()


def _turn(contender: Contender, calls: int) -> list[float]:
    time.sleep(REST)
    contender.run()
    stamps = [time.perf_counter()]
    for _ in range(calls):
        contender.run()
        stamps.append(time.perf_counter())
    return [(after - before) / contender.steps for before, after in pairwise(stamps)]

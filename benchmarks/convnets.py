"""Convolutional networks, an LSTM and attention beside PyTorch: `convnets`, or some tasks as `convnets:vgg16,unet`.

All contenders of a task run in one process and take turns. A time is the median in ms, with the least in parentheses.
A ratio is that of the fastest of PyTorch's contenders, whichever it is, to Fluxion. `memory` tells what peak memory is;
PyTorch's is that of the eager layout that takes less.
"""

from __future__ import annotations

import functools
import gc
import sys
import time
from collections.abc import Sequence

import fluxion as fx
from benchmarks import memory
from benchmarks.nets.tasks import TASKS, Run, Task
from benchmarks.peers import attempt, peer
from benchmarks.table import Table, Target
from benchmarks.timing import Contender, race

OURS, PLAIN = "Fluxion", "with XLA's kernels"
THEIRS = {  # channels last, compiled
    "PyTorch": (False, False),
    "channels last": (True, False),
    "torch.compile": (False, True),
    "compiled, channels last": (True, True),
}
RATIOS, PEAKS = ["best PyTorch / Fluxion", "of least times"], ["peak MiB", "PyTorch's"]
TURNS, MOST, SECONDS = 3, 30, 12.0
LAGGING = 3.0  # times slower than the best
VISIBLE = 8.0  # MiB: the stacks of threads and pages of code come and go in less


def run(*names: str) -> Table:
    """Times the tasks of these names, or all."""
    if unknown := set(names) - set(TASKS):
        raise SystemExit(f"convnets has no {', '.join(sorted(unknown))}; there are {', '.join(TASKS)}")
    table = Table("Networks: one step, median (least) in ms", ["", OURS, PLAIN, *THEIRS, *RATIOS, *PEAKS])
    for name in names or TASKS:
        add_row(table, name)
        forget()
    return table


def add_row(table: Table, name: str) -> None:
    """Times a task: a row, and its targets."""
    task, found = TASKS[name], contenders_of(name)
    compete(list(found.values()))
    times = [times_of(found.get(contender)) for contender in (OURS, PLAIN, *THEIRS)]
    ratios, peaks = speed(found), memory_of(name)
    table.rows.append([task.title, *times, *cells(ratios, ".2f"), *cells(peaks, ".0f")])
    print("  " + " | ".join(table.rows[-1]), file=sys.stderr, flush=True)  # a run takes long enough to be broken off
    if ratios:
        what = f"best PyTorch / Fluxion: {task.title}"
        table.targets.append(Target(what, ratios[0], task.at_least, at_least=True, best=ratios[1]))
    if peaks and max(peaks) >= VISIBLE:
        table.targets.append(Target(f"peak memory, Fluxion / PyTorch: {task.title}", peaks[0] / peaks[1], 1.0))


def times_of(contender: Contender | None) -> str:
    """Median and least time in ms, with three digits that count."""
    if contender is None:
        return ""
    median, least = (
        f"{ms:.3g}" if ms < 1000 else f"{ms:.0f}" for ms in (1e3 * contender.median, 1e3 * contender.least)
    )
    return f"{median} ({least})"


def cells(numbers: Sequence[float] | None, form: str) -> list[str]:
    """Two cells, empty where there are no numbers."""
    return [format(number, form) for number in numbers] if numbers else ["", ""]


def contenders_of(task: str) -> dict[str, Contender]:
    """All that can run here, each built and run once."""
    names = [OURS, PLAIN, *torch_contenders(TASKS[task])]
    started = {name: start(task, name) for name in names}
    return {name: Contender(name, run, TASKS[task].steps) for name, run in started.items() if run is not None}


def torch_contenders(task: Task) -> list[str]:
    """Those of `THEIRS` that make a difference."""
    if not peer("torch"):
        return []
    return [name for name, (channels_last, _) in THEIRS.items() if task.images or not channels_last]


def start(task: str, contender: str) -> Run | None:
    """`build`, and the first call, which compiles; None where PyTorch cannot compile, or takes too long."""

    def started() -> Run:
        run = build(task, contender)
        run()
        return run

    compiled = THEIRS.get(contender, (False, False))[1]
    return attempt(f"{contender}, {task}", started) if compiled else started()


def build(task: str, contender: str) -> Run:
    """What a contender runs, from the two names."""
    if contender == OURS:
        return TASKS[task].ours()
    if contender == PLAIN:
        return functools.partial(with_xla, TASKS[task].ours())
    channels_last, compiled = THEIRS[contender]
    return TASKS[task].theirs(peer("torch"), channels_last, compiled)


def with_xla(run: Run) -> None:
    """Runs the same program of Fluxion's with XLA's own operations in place of generated kernels."""
    with fx.kernels.use("xla"):
        run()


def compete(contenders: Sequence[Contender]) -> None:
    """All take a few turns; those not far behind take more, until `SECONDS` are over."""
    race(contenders, rounds=TURNS, warm=0)
    best = min(contender.least for contender in contenders)
    quick = [contender for contender in contenders if contender.least < LAGGING * best]
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end and len(quick[0].times) < MOST:
        race(quick, rounds=TURNS, warm=0)


def speed(found: dict[str, Contender]) -> tuple[float, float] | None:
    """How many times slower the fastest of PyTorch's is than ours: by medians, and by least times."""
    ours, peers = found[OURS], [contender for name, contender in found.items() if name in THEIRS]
    if not peers:
        return None
    return min(peer.median for peer in peers) / ours.median, min(peer.least for peer in peers) / ours.least


def memory_of(task: str) -> tuple[float, float] | None:
    """MiB of a training step, ours and PyTorch's; None where there is nothing to compare or nothing to be had."""
    eager = [name for name in torch_contenders(TASKS[task]) if not THEIRS[name][1]]
    if not (TASKS[task].trains and eager and memory.available()):
        return None
    return memory.of_contender(task, OURS), min(memory.of_contender(task, name) for name in eager)


def forget() -> None:
    """Lets go of what the last task compiled."""
    if torch := peer("torch"):
        torch.compiler.reset()
    gc.collect()

"""Which kernel computes which problem.

Every family of kernels names its candidates for a problem, with the time that its cost model expects. Where one is
expected to be clearly faster than the rest, it is chosen. Where some are close, those are timed once, on this machine,
and the winner is written down in a file that belongs to the model of processor: from then on the choice is always the
same, whatever else the machine does. With `deterministic` the cost model alone decides.
"""

from __future__ import annotations

import functools
import hashlib
import json
import pathlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion._cache import write_atomically
from fluxion.kernels import gates, objects
from fluxion.kernels.candidate import Candidate
from fluxion.kernels.generated import generator_version
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.machine import Machine
from fluxion.kernels.modes import Mode
from fluxion.kernels.reports import Decision, note

CLEAR = 1.1  # candidates that are expected to take no more than this much longer than the best are timed
WORTH_TIMING = 1e-2  # seconds: below it a wrong choice costs less, in a thousand runs, than finding out
MOST_TIMED = 4
ROUNDS = 3
PRECISE_ERROR = 1.05

_lock = threading.RLock()


def convolution(
    geometry: Convolution, direction: Direction, dtype: Any, mode: Mode, machine: Machine
) -> Callable[..., Any] | None:
    """A function of the two operands of `direction` that computes its result on this machine.

    It is traced into the program in place of the convolution and may be made of any operations of JAX; `geometry` is
    trimmed and nothing in it is empty. None leaves the convolution to XLA.
    """
    name = np.dtype(dtype).name
    if mode.kernels == "xla" or name not in ("float32", "float64", "bfloat16"):
        return None
    found = [
        candidate for family in families(mode) for candidate in family.candidates(geometry, direction, name, machine)
    ]
    operands = [jax.ShapeDtypeStruct(shape, name) for shape in geometry.operand_shapes(direction)]
    chosen = choose(f"{direction} {name}: {geometry}", found, operands, machine, mode)
    return chosen.run if chosen else None


def families(mode: Mode) -> Sequence[Any]:
    """The modules with candidates for convolutions."""
    from fluxion.kernels import depthwise, direct, direct_weight, product, winograd, winograd_weight

    if mode.kernels == "direct":
        return direct, direct_weight
    return direct, direct_weight, product, depthwise, winograd, winograd_weight


def choose(
    problem: str, candidates: Sequence[Candidate], operands: Sequence[Any], machine: Machine, mode: Mode
) -> Candidate | None:
    """The candidate for a problem, whose text tells it from all others; None where there are no candidates.

    `operands` are the shapes and types with which candidates that are close are timed.
    """
    allowed = [c for c in candidates if c.error <= PRECISE_ERROR or not mode.precise]
    ranked = sorted(allowed, key=lambda candidate: candidate.seconds)
    if not ranked:
        return None
    best = ranked[0]
    close = [c for c in ranked if c.seconds <= CLEAR * best.seconds][:MOST_TIMED]
    if len(close) == 1 or mode.deterministic or best.seconds < WORTH_TIMING:
        winner, reason = best, "cost model"
    else:
        winner, reason = _timed(problem, close, operands, machine)
    note(Decision(problem, winner.name, reason, tuple((c.name, c.seconds) for c in ranked)))
    return winner


def _timed(
    problem: str, close: Sequence[Candidate], operands: Sequence[Any], machine: Machine
) -> tuple[Candidate, str]:
    """The winner of the close candidates, and how it was found."""
    by_name = {candidate.name: candidate for candidate in close}
    key = f"{problem} | {' | '.join(sorted(by_name))}"
    with _lock:
        known = _winners(_winners_file(machine))
        if known.get(key) in by_name:
            return by_name[known[key]], "timed before"
        winner = min(zip(_race(close, operands), close, strict=True), key=lambda pair: pair[0])[1]
        known[key] = winner.name
        _keep(_winners_file(machine), key, winner.name)
    return winner, "timed"


def _race(close: Sequence[Candidate], operands: Sequence[Any]) -> list[float]:
    """The least seconds of each candidate, over rounds in which each has its turn."""
    with jax.ensure_compile_time_eval():
        arrays = [jnp.ones(o.shape, o.dtype) for o in operands]
        functions = [jax.jit(candidate.run) for candidate in close]
        times: list[list[float]] = [[] for _ in close]
        for function in functions:
            jax.block_until_ready(function(*arrays))
        gates.finish()  # or LLVM would take a core while the clock runs
        for _ in range(ROUNDS):
            for function, spent in zip(functions, times, strict=True):
                start = time.perf_counter()
                jax.block_until_ready(function(*arrays))
                spent.append(time.perf_counter() - start)
    return [min(spent) for spent in times]


def _winners_file(machine: Machine) -> pathlib.Path | None:
    folder = objects.folder()
    kind = hashlib.sha256(repr((machine, generator_version())).encode()).hexdigest()[:16]
    return folder and folder / f"winners-{machine.cpu}-{kind}.json"


@functools.cache
def _winners(path: pathlib.Path | None) -> dict[str, str]:
    """What was found before, as one dict for the whole process."""
    return _read(path)


def _read(path: pathlib.Path | None) -> dict[str, str]:
    try:
        content = json.loads(path.read_text()) if path else {}
    except (OSError, ValueError):
        return {}
    return {key: name for key, name in content.items() if isinstance(name, str)} if isinstance(content, dict) else {}


def _keep(path: pathlib.Path | None, key: str, name: str) -> None:
    """Adds a winner to the file, beside what other processes have written meanwhile."""
    if path:
        write_atomically(path, json.dumps(_read(path) | {key: name}, indent=1).encode())

"""`import fluxion` against `import jax, optax`, in fresh processes by turns; the disk's cache is warm."""

from __future__ import annotations

import numpy as np

from benchmarks.processes import run_fresh
from benchmarks.table import Table, Target, of_contenders
from benchmarks.timing import Contender

ROUNDS = 15


def run() -> Table:
    """Times whole processes, so that the interpreter's own start is shown as well."""
    codes = {"import fluxion": "import fluxion", "import jax, optax": "import jax, optax", "nothing": "pass"}
    contenders = {code: Contender(name, lambda: None) for name, code in codes.items()}
    for number in range(ROUNDS + 1):
        for code, contender in contenders.items():
            seconds, _ = run_fresh(code)
            if number:
                contender.times.append(seconds)
    ours, plain, _ = contenders.values()
    table = of_contenders("Import time of a fresh process", list(contenders.values()), plain)
    what, best = "import fluxion less import jax, optax", ours.least - plain.least
    table.targets = [Target(what, float(np.median(np.subtract(ours.times, plain.times))), 0.3, "s", best=best)]
    return table

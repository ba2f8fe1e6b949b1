"""From the start of a process to the first finished training step of the demo's network, without and with a disk cache.

The cache is the one that Fluxion turns on, in a temporary `XDG_CACHE_HOME`.
"""

from __future__ import annotations

import json
import tempfile

import numpy as np

from benchmarks.processes import run_fresh
from benchmarks.table import Table, Target

ROUNDS = 5
CODE = """
import time
started = time.perf_counter()
import json, jax, fluxion as fx
from benchmarks.nets.ours import mnist
imported = time.perf_counter()
fx.seed(0)
(x, y), _ = fx.data.digits()
model = mnist()
jax.block_until_ready(fx.leaves(model))
opt = fx.setup(fx.Adam(1e-3), model)
made = time.perf_counter()
loss = lambda m, x, y: fx.logitcrossentropy(m(x), y)
jax.block_until_ready(fx.trainstep(loss, model, (x[:32], y[:32]), opt))
first = time.perf_counter()
jax.block_until_ready(fx.trainstep(loss, model, (x[32:64], y[32:64]), opt))
second = time.perf_counter()
print(json.dumps([imported - started, made - imported, first - made, second - first]))
"""


def measure(cache: str) -> list[float]:
    """Seconds: whole process, import, data and model and optimiser, first step, second step."""
    total, printed = run_fresh(CODE, XDG_CACHE_HOME=cache)
    return [total, *json.loads(printed)]


def run() -> Table:
    """Some pairs of a first and a second process, each pair with a new cache."""
    cold, warm = [], []
    run_fresh("import fluxion")
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(measure(cache))
            warm.append(measure(cache))
    header = ["seconds, median", "process", "import", "data, model, optimiser", "first step", "second step"]
    rows = [
        [name, *(f"{value:.3g}" for value in np.median(times, axis=0))]
        for name, times in (("empty disk cache", cold), ("warm disk cache", warm))
    ]
    first_step = float(np.median(warm, axis=0)[3])
    targets = [Target("first step with a warm disk cache", first_step, 1.0, "s")]
    return Table("Start to first training step of the digits network", header, rows, targets)

"""Level 2 (your loop, a new lambda in each iteration) against `train`, on three models from small to large arrays."""

from __future__ import annotations

from typing import Any

import fluxion as fx
from benchmarks import mlp, steps50
from benchmarks.nets.ours import mnist
from benchmarks.steps import Fluxion, batch_of, fluxion_model
from benchmarks.table import Table, of_contenders, ratio
from benchmarks.timing import Contender, race


def cases() -> dict[str, Any]:
    """Name: a function that makes the model, and its batch."""
    (x, y), _ = fx.data.digits()
    return {
        "50 Dense": (lambda: fluxion_model(steps50.SIZES), *batch_of(steps50.SIZES, 32)),
        "digits convnet": (mnist, x[:128], y[:128]),
        "MLP 784-1024-1024-10": (lambda: fluxion_model(mlp.SIZES), *batch_of(mlp.SIZES, 128)),
    }


def run() -> Table:
    """One table; the ratio of a level 2 row is against the `train` row of the same model."""
    rows, targets = [], []
    for name, (model, x, y) in cases().items():
        steps = 5 if name.startswith("MLP") else 10
        first = Contender(f"{name}, train", Fluxion(model(), x, y, steps).train, steps)
        second = Contender(f"{name}, level 2", Fluxion(model(), x, y, steps).loop, steps)
        race([first, second], rounds=60, seconds=30)
        part = of_contenders("Level 2 against train", [first, second], first)
        rows += part.rows
        targets.append(ratio(second, first, 1.15))
    return Table(part.title, part.header, rows, targets)

"""An epoch of training fed by a shuffled loader, against as many of the same steps on one batch that never changes.

The network is that of the MNIST tutorial, the pictures random numbers of that shape. With augmentation the digits are
turned and shifted anew in each step: within the step, so that the fixed batch pays for it too and the loader's share
shows; and by the loader, against steps on a fixed batch that are not augmented at all, so that the whole price shows.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import fluxion as fx
from benchmarks.nets.ours import mnist
from benchmarks.table import Table, Target
from benchmarks.timing import Contender, race
from fluxion.data.transforms import Rotate, ToFloat, Transform, Translate

STEPS, BATCH = 150, 128
MOST = 1.05
AUGMENT = ToFloat() | Rotate(-10, 10) | Translate((-0.07, 0.07), (-0.07, 0.07))


def pair(name: str, dtype: Any, inside: Transform | None, by_loader: Transform | None) -> tuple[Contender, Contender]:
    """Steps on a fixed batch, and fed by a loader."""
    draws = np.random.default_rng(0)
    x = draws.integers(0, 256, (STEPS * BATCH, 28, 28, 1), np.uint8)
    x, y = x if dtype == np.uint8 else x.astype(np.float32) / 255, draws.integers(0, 10, STEPS * BATCH, np.int32)
    loader = fx.DataLoader((x, y), BATCH, shuffle=True, seed=0, transform=by_loader)
    fixed = jax.device_put((x[:BATCH], y[:BATCH]))
    if by_loader and not inside:
        fixed = by_loader.batch(fixed)
    start = inside or (lambda x: x)

    def loss(model: Any, x: Any, y: Any) -> Any:
        return fx.logitcrossentropy(model(start(x)), y)

    def trained(batches: Any) -> Any:
        model = mnist()
        opt = fx.setup(fx.Adam(1e-3), model)
        return lambda: fx.train(loss, model, batches, opt)

    return (
        Contender(f"{name}: one batch again and again", trained([fixed] * STEPS), STEPS),
        Contender(f"{name}: loader", trained(loader), STEPS),
    )


def run() -> Table:
    """Times each pair side by side."""
    pairs = [
        pair("float32, no augmentation", np.float32, None, None),
        pair("bytes, augmented within the step", np.uint8, AUGMENT, None),
        pair("bytes, augmented by the loader", np.uint8, None, AUGMENT),
    ]
    header = ["", "median ms", "least ms", "x slower (median)", "x slower (least)"]
    table = Table(f"Training the MNIST network from a loader, batch {BATCH}", header)
    for fixed, fed in pairs:
        race([fixed, fed], rounds=30, seconds=40)
        for one in (fixed, fed):
            times = [f"{1e3 * value:.3g}" for value in (one.median, one.least)]
            table.rows.append([one.name, *times, f"{one.over(fixed):.3f}", f"{one.least_over(fixed):.3f}"])
        table.targets.append(Target(f"{fed.name} / the same step", fed.over(fixed), MOST, best=fed.least_over(fixed)))
    return table

"""One training step of 50 Dense layers, 16 wide, batch 32, with Adam: 301 small arrays, so that dispatch shows."""

from __future__ import annotations

from benchmarks.steps import Fluxion, batch_of, fluxion_model, peers_of, plain_jax
from benchmarks.table import Table, of_contenders, ratio
from benchmarks.timing import Contender, race

SIZES = [16] * 51
STEPS = 10


def run() -> Table:
    """Times all levels of Fluxion and the peers."""
    x, y = batch_of(SIZES, 32)
    levels = [
        Contender(f"Fluxion, {name}", getattr(Fluxion(fluxion_model(SIZES), x, y, STEPS), method), STEPS)
        for name, method in (("train", "train"), ("trainstep", "trainstep"), ("level 2", "loop"), ("level 3", "rule"))
    ]
    plain = Contender("plain JAX, jit over a dict", plain_jax(SIZES, x, y, STEPS), STEPS)
    peers = peers_of(SIZES, x, y, STEPS)
    race([plain, *levels, *peers], rounds=60)
    table = of_contenders("One step, 50 Dense layers with Adam", [plain, *levels, *peers], plain)
    table.targets = [ratio(c, plain, 1.10) for c in levels[:2]]
    rivals = [c for c in peers if c.name.startswith(("Equinox", "Flax"))]
    table.targets += [ratio(levels[0], c, 1.0) for c in rivals]
    return table

"""One training step of a perceptron 784-1024-1024-10, batch 128, with Adam: large arrays, so that arithmetic shows."""

from __future__ import annotations

from benchmarks.steps import Fluxion, batch_of, fluxion_model, peers_of, plain_jax
from benchmarks.table import Table, of_contenders, ratio
from benchmarks.timing import Contender, race

SIZES = [784, 1024, 1024, 10]
STEPS = 5


def run() -> Table:
    """Times `train` beside plain JAX and PyTorch."""
    x, y = batch_of(SIZES, 128)
    ours = Contender("Fluxion, train", Fluxion(fluxion_model(SIZES), x, y, STEPS).train, STEPS)
    plain = Contender("plain JAX, jit over a dict", plain_jax(SIZES, x, y, STEPS), STEPS)
    peers = peers_of(SIZES, x, y, STEPS, jax_libraries=False)
    race([ours, plain, *peers], rounds=40)
    table = of_contenders("MLP 784-1024-1024-10, batch 128, one step", [ours, plain, *peers], ours)
    eager = [c for c in peers if c.name == "PyTorch eager"]
    table.targets = [ratio(c, ours, 1.3, at_least=True) for c in eager]
    return table

"""One training step of a recurrent layer, 128 wide over 64 steps, batch 32, with Adam: a loop of small products."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fluxion as fx
from benchmarks.peers import attempt, peer
from benchmarks.steps import RATE, Run
from benchmarks.table import Table, of_contenders, ratio
from benchmarks.timing import Contender, race

BATCH, TIME, SIZE, STEPS = 32, 64, 128, 5
KINDS = ("LSTM", "GRU", "RNN")


def squared_error(model: Any, x: Any, y: Any) -> Any:
    """The loss of Fluxion's contenders."""
    return fx.mse(model(x), y)


def with_fluxion(kind: str, x: np.ndarray, y: np.ndarray) -> Run:
    """`trainstep` on one batch."""
    model = getattr(fx, kind)(SIZE, SIZE)
    opt, batch = fx.setup(fx.Adam(RATE), model), (jnp.asarray(x), jnp.asarray(y))

    def run() -> None:
        for _ in range(STEPS):
            loss = fx.trainstep(squared_error, model, batch, opt)
        jax.block_until_ready(loss)

    return run


def with_torch(torch: Any, kind: str, x: np.ndarray, y: np.ndarray) -> Run:
    """The usual five lines."""
    model = getattr(torch.nn, kind)(SIZE, SIZE, batch_first=True)
    optimizer, x, y = torch.optim.Adam(model.parameters(), lr=RATE), torch.from_numpy(x), torch.from_numpy(y)

    def run() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(x)[0], y).backward()
            optimizer.step()

    return run


def run() -> Table:
    """Each row is compared with the Fluxion row of the same layer."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(BATCH, TIME, SIZE)).astype(np.float32) for _ in range(2))
    rows, targets = [], []
    title = f"One step with Adam, {SIZE} features over {TIME} steps, batch {BATCH}"
    table = Table(title)
    for kind in KINDS:
        contenders = [Contender(f"{kind}, Fluxion, trainstep", with_fluxion(kind, x, y), STEPS)]
        torch = peer("torch")
        theirs = attempt("torch", lambda: with_torch(torch, kind, x, y)) if torch else None  # noqa: B023
        contenders += [Contender(f"{kind}, PyTorch eager", theirs, STEPS)] if theirs else []
        race(contenders, rounds=60, seconds=20)
        table = of_contenders(title, contenders, contenders[0])
        rows += table.rows
        targets += [ratio(other, contenders[0], 1.0, at_least=True) for other in contenders[1:]]
    return Table(title, table.header, rows, targets)

"""One training step of a transformer encoder, 4 layers 256 wide, 16 sequences of 64 positions, with Adam."""

from __future__ import annotations

from typing import Any

import numpy as np

import fluxion as fx
from benchmarks.peers import attempt, peer
from benchmarks.steps import RATE, Fluxion, Run
from benchmarks.table import Table, of_contenders, ratio
from benchmarks.timing import Contender, race

SIZE, LAYERS, HEADS, BATCH, LENGTH, CLASSES = 256, 4, 8, 16, 64, 10
STEPS = 2


class Classifier:
    """The average over positions of what the encoder gives, then a linear map."""

    def __init__(self, dropout: float) -> None:
        self.encoder = fx.TransformerEncoder(SIZE, LAYERS, nheads=HEADS, dropout=dropout)
        self.head = fx.Dense(SIZE, CLASSES)

    def __call__(self, x: Any) -> Any:
        return self.head(self.encoder(x).mean(1))


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Random sequences and labels."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(BATCH, LENGTH, SIZE)).astype(np.float32), rng.integers(0, CLASSES, BATCH)


def pytorch(torch: Any, dropout: float) -> Run:
    """The same with `torch.nn.TransformerEncoder`, not compiled."""
    x, y = map(torch.from_numpy, batch())
    options = {"dim_feedforward": 4 * SIZE, "dropout": dropout, "batch_first": True}
    layer = torch.nn.TransformerEncoderLayer(SIZE, HEADS, **options)
    encoder = torch.nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
    head = torch.nn.Linear(SIZE, CLASSES)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=RATE)

    def run() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(head(encoder(x).mean(1)), y).backward()
            optimizer.step()

    return run


def run() -> Table:
    """Times `train` beside PyTorch, without and with dropout."""
    torch = peer("torch")
    contenders, targets = [], []
    for dropout in (0.0, 0.1):
        ours = Contender(f"Fluxion, train, dropout {dropout}", Fluxion(Classifier(dropout), *batch(), STEPS).train, STEPS)
        contenders.append(ours)
        theirs = attempt("torch", lambda: pytorch(torch, dropout)) if torch else None  # noqa: B023
        if theirs:
            contenders.append(Contender(f"PyTorch eager, dropout {dropout}", theirs, STEPS))
            targets.append((contenders[-1], ours))
    race(contenders, rounds=30)
    table = of_contenders("Transformer encoder, 4 layers of 256, 16 x 64 positions, one step", contenders, contenders[0])
    table.targets = [ratio(theirs, ours, 1.0, at_least=True) for theirs, ours in targets]
    return table

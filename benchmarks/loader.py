"""One epoch of shuffled batches of arrays in memory, of the size of MNIST, beside PyTorch's DataLoader and Grain."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import fluxion as fx
from benchmarks.peers import attempt, peer
from benchmarks.table import Table, of_contenders, ratio
from benchmarks.timing import Contender, race

COUNT, BATCH = 60_000, 128
BATCHES = -(-COUNT // BATCH)
Arrays = tuple[np.ndarray, np.ndarray]


def arrays() -> Arrays:
    """Images and labels."""
    rng = np.random.default_rng(0)
    return rng.random((COUNT, 28, 28, 1), np.float32), rng.integers(0, 10, COUNT, np.int32)


def epoch(name: str, batches: Callable[[], Iterable[Any]], steps: int = BATCHES) -> Contender:
    """Goes through the first batches of an epoch and does nothing with them."""

    def run() -> None:
        taken = 0
        for _ in batches():
            taken += 1
            if taken == steps:
                break
        assert taken == steps

    return Contender(name, run, steps)


def of_torch(torch: Any, x: np.ndarray, y: np.ndarray) -> list[Contender]:
    """Read by the process itself, and by two others."""
    data = torch.utils.data
    source = data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    context = {"multiprocessing_context": "forkserver", "persistent_workers": True}
    options: dict[str, dict[str, Any]] = {"0": {}, "2": {"num_workers": 2, **context}}
    return [
        epoch(f"torch DataLoader, {workers} workers", data.DataLoader(source, BATCH, shuffle=True, **chosen).__iter__)
        for workers, chosen in options.items()
    ]


def of_grain(grain: Any, x: np.ndarray, y: np.ndarray) -> Contender:
    """Its map-style data set, shuffled and batched."""

    class Source:
        def __len__(self) -> int:
            return len(x)

        def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
            return x[i], y[i]

    batches = grain.MapDataset.source(Source()).shuffle(seed=0).batch(BATCH)
    return epoch("Grain", batches.to_iter_dataset().__iter__, steps=100)


def run() -> Table:
    """Times all that are installed."""
    x, y = arrays()
    mine = epoch("fluxion DataLoader", fx.DataLoader((x, y), BATCH, shuffle=True, seed=0).__iter__)
    hosted = fx.DataLoader((x, y), BATCH, shuffle=True, seed=0, device="host")
    contenders = [mine, epoch("fluxion DataLoader, NumPy arrays", hosted.__iter__)]
    limits = {}
    if torch := peer("torch"):
        theirs = of_torch(torch, x, y)
        contenders += theirs
        limits |= {one.name: 10.0 for one in theirs}
    if grain := peer("grain"):
        one = attempt("grain", lambda: of_grain(grain, x, y))
        contenders += [one] if one else []
        limits |= {one.name: 3.0} if one else {}
    race(contenders, rounds=12, warm=1)
    table = of_contenders(f"A batch of {BATCH} of {COUNT:,} images of 28 x 28, shuffled", contenders, mine, "us")
    table.targets = [ratio(one, mine, limits[one.name], at_least=True) for one in contenders if one.name in limits]
    return table

"""One training step (forward, gradient, Adam) of single layers and a transformer, beside PyTorch eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fluxion as fx
from benchmarks.peers import peer
from benchmarks.table import Table, Target
from benchmarks.timing import Contender, race

RATE = 1e-3
STEPS = 3
Loss = Callable[[Any, Any, Any], Any]


def ours(model: Any, loss: Loss, x: np.ndarray, y: np.ndarray) -> Contender:
    """Steps of `fluxion.trainstep`."""
    opt, batch = fx.setup(fx.Adam(RATE), model), (jnp.asarray(x), jnp.asarray(y))

    def run() -> None:
        for _ in range(STEPS):
            value = fx.trainstep(loss, model, batch, opt)
        jax.block_until_ready(value)

    return Contender("Fluxion", run, STEPS)


def theirs(torch: Any, model: Any, loss: Loss, x: np.ndarray, y: np.ndarray) -> Contender:
    """The usual five lines of PyTorch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def run() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss(model, x, y).backward()
            optimizer.step()

    return Contender("PyTorch eager", run, STEPS)


def squares(model: Any, x: Any, y: Any) -> Any:
    """Mean squared error, in either library."""
    return ((model(x) - y) ** 2).mean()


def rows(torch: Any) -> dict[str, tuple[Contender, Contender]]:
    """Both contenders of each row."""
    nn, rng = torch.nn, np.random.default_rng(0)

    def floats(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    class First(nn.Module):  # type: ignore[misc, name-defined]
        """The outputs of a recurrent layer without its state."""

        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Any) -> Any:
            return self.layer(x)[0]

    def pair(model: Any, module: Any, x: np.ndarray, y: np.ndarray, loss: Loss = squares, other: Loss = squares) -> Any:
        return ours(model, loss, x, y), theirs(torch, module, other, x, y)

    def encoders(dropout: float) -> Any:
        layer = nn.TransformerEncoderLayer(256, 8, 1024, dropout=dropout, batch_first=True)
        module = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        model = fx.TransformerEncoder(256, 4, dropout=dropout)
        return pair(model, module, floats(16, 64, 256), floats(16, 64, 256))

    sequence, tokens, labels = floats(32, 64, 128), rng.integers(0, 50_000, (32, 64)), rng.integers(0, 10_000, 128)
    return {
        "LSTM 128, 64 steps, batch 32": pair(
            fx.LSTM(128, 128), First(nn.LSTM(128, 128, batch_first=True)), sequence, floats(32, 64, 128)
        ),
        "GRU 128, 64 steps, batch 32": pair(
            fx.GRU(128, 128), First(nn.GRU(128, 128, batch_first=True)), sequence, floats(32, 64, 128)
        ),
        "transformer encoder, 4 layers of 256, 64 tokens, batch 16": encoders(0.0),
        "the same with dropout 0.1": encoders(0.1),
        "Embedding 50,000 x 128, 32 x 64 tokens": pair(
            fx.Embedding(50_000, 128), nn.Embedding(50_000, 128), tokens, floats(32, 64, 128)
        ),
        "4 x LayerNorm 512, 2,048 rows": pair(
            fx.Chain(*(fx.LayerNorm(512) for _ in range(4))),
            nn.Sequential(*(nn.LayerNorm(512) for _ in range(4))),
            floats(2048, 512),
            floats(2048, 512),
        ),
        "softmax and cross-entropy, 10,000 classes after Dense 128, batch 128": pair(
            fx.Dense(128, 10_000),
            nn.Linear(128, 10_000),
            floats(128, 128),
            labels,
            lambda m, x, y: fx.logitcrossentropy(m(x), y),
            lambda m, x, y: nn.functional.cross_entropy(m(x), y),
        ),
    }


def run() -> Table:
    """Times both libraries row by row."""
    header = ["", "Fluxion ms", "PyTorch ms", "PyTorch / Fluxion", "best rounds"]
    table = Table("The catalog: one training step", header)
    torch = peer("torch")
    if not torch:
        return table
    ratios = []
    for name, (mine, other) in rows(torch).items():
        race([mine, other], rounds=40, seconds=30)
        ratio, best = other.over(mine), other.least_over(mine)
        ratios.append((ratio, best))
        table.rows.append([name, *(f"{1e3 * c.median:.3g}" for c in (mine, other)), f"{ratio:.2f}", f"{best:.2f}"])
        table.targets.append(Target(f"PyTorch / Fluxion: {name}", ratio, 1.0, at_least=True, best=best))
    means = [float(np.exp(np.mean(np.log(column)))) for column in zip(*ratios, strict=True)]
    table.targets.append(Target("PyTorch / Fluxion: geometric mean", means[0], 1.3, at_least=True, best=means[1]))
    return table

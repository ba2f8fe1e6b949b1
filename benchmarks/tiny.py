"""One gradient of a tiny perceptron, 4-5-5-1 with tanh, batch 8, mean squared error: nothing but overhead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fluxion as fx
from benchmarks.peers import peer
from benchmarks.table import Table, of_contenders, ratio
from benchmarks.timing import Contender, race

CALLS = 20


def with_fluxion(x: np.ndarray, y: np.ndarray) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The gradient of a function that stays, and of a lambda that is new in every call."""
    model = fx.Chain(fx.Dense(4, 5, fx.tanh), fx.Dense(5, 5, fx.tanh), fx.Dense(5, 1))
    x, y = jnp.asarray(x), jnp.asarray(y)

    def loss(m: Any) -> Any:
        return fx.mse(m(x), y)

    def persistent() -> Any:
        (g,) = fx.gradient(loss, model)
        return jax.block_until_ready(g.layers[0].weight)

    def fresh() -> Any:
        (g,) = fx.gradient(lambda m: fx.mse(m(x), y), model)
        return jax.block_until_ready(g.layers[0].weight)

    return persistent, fresh


def with_jax(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """`jax.jit(jax.grad(...))` over a dict of parameters, called with the batch."""
    sizes, x, y = [(4, 5), (5, 5), (5, 1)], jnp.asarray(x), jnp.asarray(y)
    params = {f"w{i}": jnp.ones(size) for i, size in enumerate(sizes)}
    params |= {f"b{i}": jnp.zeros(size[1]) for i, size in enumerate(sizes)}

    def loss(p: dict[str, Any], x: Any, y: Any) -> Any:
        for i in range(2):
            x = jnp.tanh(x @ p[f"w{i}"] + p[f"b{i}"])
        return jnp.mean((x @ p["w2"] + p["b2"] - y) ** 2)

    df = jax.jit(jax.grad(loss))
    return lambda: jax.block_until_ready(df(params, x, y)["w0"])


def with_torch(torch: Any, x: np.ndarray, y: np.ndarray) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The gradient of all parameters by `backward`, as usual, and by `torch.autograd.grad`."""
    nn = torch.nn
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 1))
    parameters, x, y = list(model.parameters()), torch.from_numpy(x), torch.from_numpy(y)

    def backward() -> None:
        model.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()

    return backward, lambda: torch.autograd.grad(nn.functional.mse_loss(model(x), y), parameters)


def run() -> Table:
    """Times single calls, each waited for."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 4)).astype(np.float32), rng.normal(size=(8, 1)).astype(np.float32)
    persistent, fresh = with_fluxion(x, y)
    ours = [
        Contender("Fluxion, a function that stays", persistent),
        Contender("Fluxion, a new lambda each time", fresh),
    ]
    plain = Contender("plain JAX, jit(grad(...)) over a dict", with_jax(x, y))
    peers = []
    if torch := peer("torch"):
        names = ("PyTorch eager, backward", "PyTorch eager, autograd.grad")
        peers = [Contender(*pair) for pair in zip(names, with_torch(torch, x, y), strict=True)]
    everyone = [*ours, plain, *peers]
    race(everyone, rounds=100, calls=CALLS)
    table = of_contenders("MLP 4-5-5-1, batch 8, one gradient", everyone, ours[0], unit="us")
    table.targets = [ratio(p, c, 3, at_least=True) for p in peers for c in ours]
    return table

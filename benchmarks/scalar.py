"""The derivative of one number: `df(2.0)` for f(x) = 3 x^2 + 2 x + 1, read as a Python float, one call at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

import fluxion as fx
from benchmarks.peers import peer
from benchmarks.table import Table, Target, of_contenders, ratio
from benchmarks.timing import Contender, race

CALLS = 50


def f(x: Any) -> Any:
    """3 x^2 + 2 x + 1."""
    return 3 * x**2 + 2 * x + 1


def with_torch(torch: Any) -> Callable[[], float]:
    """PyTorch's functional gradient of one number."""

    def df() -> float:
        x = torch.tensor(2.0, requires_grad=True)
        return torch.autograd.grad(f(x), x)[0].item()

    return df


def with_tensorflow(tf: Any) -> Callable[[], float]:
    """TensorFlow's tape."""

    def df() -> float:
        x = tf.Variable(2.0)
        with tf.GradientTape() as tape:
            y = f(x)
        return float(tape.gradient(y, x))

    return df


def run() -> Table:
    """Times single calls; p99 is over single calls too."""
    jitted = jax.jit(jax.grad(f))
    ours = Contender("Fluxion, fx.gradient(f, 2.0)[0]", lambda: fx.gradient(f, 2.0)[0])
    fresh = Contender("Fluxion, a new lambda each time", lambda: fx.gradient(lambda x: 3 * x**2 + 2 * x + 1, 2.0)[0])
    plain = Contender("plain JAX, float(jit(grad(f))(2.0))", lambda: float(jitted(2.0)))
    peers = []
    if torch := peer("torch"):
        peers.append(Contender("PyTorch, autograd.grad", with_torch(torch)))
    if tf := peer("tensorflow"):
        peers.append(Contender("TensorFlow, GradientTape", with_tensorflow(tf)))
    everyone = [ours, fresh, plain, *peers]
    assert all(c.run() == 14.0 for c in everyone)
    race(everyone, rounds=100, calls=CALLS)
    table = of_contenders("df(2.0) for f(x) = 3 x^2 + 2 x + 1", everyone, plain, unit="us")
    more = {name: 1e6 * (getattr(ours, name) - getattr(plain, name)) for name in ("median", "least", "p99")}
    table.targets = [
        Target("Fluxion less plain JAX", more["median"], 10, "us", best=more["least"]),
        Target("Fluxion less plain JAX, p99", more["p99"], 10, "us"),
    ]
    table.targets += [ratio(c, ours, 5, at_least=True) for c in peers]
    return table

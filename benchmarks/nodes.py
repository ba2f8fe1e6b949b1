"""What a call costs by the number of nodes (objects and arrays) that it reaches; the computation is trivial.

A block is one object with one array of one number; the function reads the first, so the time goes to finding inputs.
"""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fluxion as fx
from benchmarks.table import Table
from benchmarks.timing import Contender, race
from fluxion.tree.walk import Walk

COUNTS = (10, 100, 1000, 5000)
WORDS = 50_000


class Block:
    """One array."""

    def __init__(self, value: float) -> None:
        self.value = jnp.asarray(value)


class Blocks:
    """Many blocks; a call reads the first."""

    def __init__(self, count: int) -> None:
        self.blocks = [Block(float(i)) for i in range(count)]
        self.vocabulary: dict[str, int] = {}

    def __call__(self, x: Any) -> Any:
        return self.blocks[0].value * x


def contenders(count: int) -> list[Contender]:
    """A model that stays, one built anew by `fmap` (also timed alone), and one with a large dict of words."""
    x = jnp.ones(())
    same, wordy = Blocks(count), Blocks(count)
    wordy.vocabulary = {f"word{i}": i for i in range(WORDS)}
    plain, arrays = jax.jit(lambda arrays, x: arrays[0] * x), fx.leaves(same)
    call_same, call_wordy = fx.compile(same), fx.compile(wordy)

    def loss(m: Any) -> Any:
        return m(x)

    def rebuilt() -> Any:
        return fx.fmap(lambda array: array, same)

    return [
        Contender("compiled call", lambda: jax.block_until_ready(call_same(x))),
        Contender("compiled call, 50,000 words", lambda: jax.block_until_ready(call_wordy(x))),
        Contender("compiled call, rebuilt", lambda: jax.block_until_ready(fx.compile(rebuilt())(x))),
        Contender("fmap alone", rebuilt),
        Contender("gradient", lambda: fx.gradient(loss, same)),
        Contender("plain JAX, jit over a list of the arrays", lambda: jax.block_until_ready(plain(arrays, x))),
    ]


def run() -> Table:
    """Microseconds per call, and per node between the second and the last count."""
    warnings.simplefilter("ignore", fx.RecompileWarning)  # the sizes differ on purpose
    nodes, fastest, names = [], [], []
    for count in COUNTS:
        found = contenders(count)
        race(found, rounds=20 if count > 500 else 50, seconds=20)
        nodes.append(len(Walk().run(Blocks(count)).objects))
        fastest.append([1e6 * c.least for c in found])
        names = [c.name for c in found]
    header = ["us per call, best round", *(f"{n:,} nodes" for n in nodes), "us per node"]
    per_node = (np.array(fastest[-1]) - fastest[1]) / (nodes[-1] - nodes[1])
    rows = [[name, *(f"{times[i]:.4g}" for times in fastest), f"{per_node[i]:.3f}"] for i, name in enumerate(names)]
    note = "A node is an object, a list, a dict or an array; here half are arrays. 'rebuilt' includes 'fmap alone'."
    return Table("Cost of a call by the number of nodes", header, rows, notes=[note])

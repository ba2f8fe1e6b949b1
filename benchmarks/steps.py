"""One training step of the same multilayer perceptron with Adam, written in the manner of each library.

Each function returns a callable that runs `steps` training steps and waits for the last one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fluxion as fx
from benchmarks.peers import attempt, peer
from benchmarks.timing import Contender

RATE = 1e-3
Sizes = Sequence[int]
Run = Callable[[], Any]


def batch_of(sizes: Sizes, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs and labels."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], count)


def fluxion_model(sizes: Sizes) -> fx.Chain:
    """The perceptron: relu between layers."""
    hidden = [fx.Dense(a, b, fx.relu) for a, b in pairwise(sizes[:-1])]
    return fx.Chain(*hidden, fx.Dense(sizes[-2], sizes[-1]))


def cross_entropy(model: Any, x: Any, y: Any) -> Any:
    """The loss of Fluxion's contenders."""
    return fx.logitcrossentropy(model(x), y)


def wait(model: Any) -> None:
    """Waits until the last step is done."""
    jax.block_until_ready(list(fx.trainables(model).values()))


class Fluxion:
    """A model, its optimiser and a batch, with a method for each level of training."""

    def __init__(self, model: Any, x: Any, y: Any, steps: int) -> None:
        self.model, self.steps = model, steps
        self.x, self.y = jnp.asarray(x), jnp.asarray(y)
        self.opt = fx.setup(fx.Adam(RATE), model)
        self.data = [(self.x, self.y)] * steps

    def train(self) -> None:
        """Level 1: one call; it waits itself."""
        fx.train(cross_entropy, self.model, self.data, self.opt, progress=False)

    def trainstep(self) -> None:
        """Level 1 with a loop around it."""
        for batch in self.data:
            loss = fx.trainstep(cross_entropy, self.model, batch, self.opt)
        jax.block_until_ready(loss)

    def loop(self) -> None:
        """Level 2: your loop, with a new lambda in each iteration."""
        model, opt = self.model, self.opt
        for x, y in self.data:
            _, (g,) = fx.withgradient(lambda m: cross_entropy(m, x, y), model)  # noqa: B023
            fx.update(opt, model, g)
        wait(model)

    def rule(self) -> None:
        """Level 3: your own update rule, op by op."""
        model = self.model
        for x, y in self.data:
            (g,) = fx.gradient(lambda m: cross_entropy(m, x, y), model)  # noqa: B023
            model = fx.fmap(lambda p, d: p - RATE * d, model, g)
        wait(model)


def plain_jax(sizes: Sizes, x: Any, y: Any, steps: int) -> Run:
    """`jax.jit` over a dict of parameters, donated with the optimiser's state."""
    rng, rule = np.random.default_rng(0), optax.adam(RATE)
    params = {}
    for i, (a, b) in enumerate(pairwise(sizes)):
        params[f"w{i}"] = jnp.asarray(rng.normal(size=(a, b)) * np.sqrt(2 / (a + b)), jnp.float32)
        params[f"b{i}"] = jnp.zeros(b)
    last, x, y = len(sizes) - 2, jnp.asarray(x), jnp.asarray(y)

    def loss(p: dict[str, Any], x: Any, y: Any) -> Any:
        for i in range(last):
            x = jax.nn.relu(x @ p[f"w{i}"] + p[f"b{i}"])
        return optax.softmax_cross_entropy_with_integer_labels(x @ p[f"w{last}"] + p[f"b{last}"], y).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(p: dict[str, Any], state: Any, x: Any, y: Any) -> Any:
        value, g = jax.value_and_grad(loss)(p, x, y)
        updates, state = rule.update(g, state, p)
        return optax.apply_updates(p, updates), state, value

    state = rule.init(params)

    def run() -> None:
        nonlocal params, state
        for _ in range(steps):
            params, state, value = step(params, state, x, y)
        jax.block_until_ready(value)

    return run


def equinox(eqx: Any, sizes: Sizes, x: Any, y: Any, steps: int) -> Run:
    """`eqx.filter_jit` with model and state donated."""
    keys = jax.random.split(jax.random.key(0), len(sizes) - 1)
    parts = []
    for (a, b), key in zip(pairwise(sizes), keys, strict=True):
        parts += [eqx.nn.Linear(a, b, key=key), eqx.nn.Lambda(jax.nn.relu)]
    model, rule, batch = eqx.nn.Sequential(parts[:-1]), optax.adam(RATE), (jnp.asarray(x), jnp.asarray(y))
    state = rule.init(eqx.filter(model, eqx.is_array))

    def loss(model: Any, x: Any, y: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()

    @eqx.filter_jit(donate="all-except-first")
    def step(batch: Any, model: Any, state: Any) -> Any:
        value, g = eqx.filter_value_and_grad(loss)(model, *batch)
        updates, state = rule.update(g, state, eqx.filter(model, eqx.is_array))
        return eqx.apply_updates(model, updates), state, value

    def run() -> None:
        nonlocal model, state
        for _ in range(steps):
            model, state, value = step(batch, model, state)
        jax.block_until_ready(value)

    return run


def flax_nnx(nnx: Any, sizes: Sizes, x: Any, y: Any, steps: int, cached: bool) -> Run:
    """`nnx.jit` over model and optimiser; with `cached`, over the two bound beforehand by `nnx.cached_partial`."""
    rngs, parts = nnx.Rngs(0), []
    for a, b in pairwise(sizes):
        parts += [nnx.Linear(a, b, rngs=rngs), jax.nn.relu]
    model, x, y = nnx.Sequential(*parts[:-1]), jnp.asarray(x), jnp.asarray(y)
    optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param)

    def loss(model: Any, x: Any, y: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    @nnx.jit(donate_argnums=(0, 1))
    def step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        value, g = nnx.value_and_grad(loss)(model, x, y)
        optimizer.update(model, g)
        return value

    bound = nnx.cached_partial(step, model, optimizer) if cached else functools.partial(step, model, optimizer)

    def run() -> None:
        for _ in range(steps):
            value = bound(x, y)
        jax.block_until_ready(value)

    return run


def pytorch(torch: Any, sizes: Sizes, x: Any, y: Any, steps: int, compiled: bool = False, fused: bool = False) -> Run:
    """The usual five lines; with `compiled`, model and loss go through `torch.compile`."""
    parts = []
    for a, b in pairwise(sizes):
        parts += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    model, x, y = torch.nn.Sequential(*parts[:-1]), torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=fused or None)

    def loss(x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(x), y)

    if compiled:
        loss = torch.compile(loss)

    def run() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            loss(x, y).backward()
            optimizer.step()

    run()
    return run


def peers_of(sizes: Sizes, x: Any, y: Any, steps: int, jax_libraries: bool = True) -> list[Contender]:
    """Contenders of all peers that are installed."""
    found: list[Contender] = []

    def add(name: str, build: Callable[..., Run], *args: Any, **options: Any) -> None:
        run = attempt(name, lambda: build(*args, sizes, x, y, steps, **options))
        if run is not None:
            found.append(Contender(name, run, steps))

    if jax_libraries and (eqx := peer("equinox")):
        add("Equinox, filter_jit", equinox, eqx)
    if jax_libraries and peer("flax"):
        nnx = peer("flax.nnx")
        add("Flax NNX, nnx.jit", flax_nnx, nnx, cached=False)
        add("Flax NNX, cached_partial", flax_nnx, nnx, cached=True)
    if torch := peer("torch"):
        add("PyTorch eager", pytorch, torch)
        add("PyTorch eager, fused Adam", pytorch, torch, fused=True)
        add("PyTorch torch.compile", pytorch, torch, compiled=True)
    return found

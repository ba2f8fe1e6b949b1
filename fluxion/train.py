"""Training: `train` is a loop over `trainstep`, and `trainstep` is gradient, update and captured writes in one
program.
"""

from __future__ import annotations

import collections
import functools
import inspect
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.compile.engine import run
from fluxion.compile.outputs import unpack
from fluxion.compile.program import Program, Task
from fluxion.compile.trace import Call, Context, commit, inside_trace
from fluxion.errors import NonFiniteLossError
from fluxion.gradient import Differentiation, scalar_loss
from fluxion.layers.base import Layer, typed
from fluxion.optimise.checks import whole
from fluxion.optimise.state import OptState, check_state, copy_if_shared
from fluxion.optimise.update import refuse_tracers

PENDING = 8


class Step(Task):
    """One training step. `healthy` is an array that turns false at the first loss that is not finite; then nothing
    changes.
    """

    names = ("model", "batch", "loss")

    def __init__(self, opt_state: OptState, healthy: Any, with_gradient: bool) -> None:
        self.opt_state, self.healthy, self.with_gradient = opt_state, healthy, with_gradient
        self.rule = opt_state.inputs()
        self.key = ("step", self.rule.key, opt_state.definition, opt_state.signature, with_gradient)

    @staticmethod
    def apply(f: Any, args: list[Any]) -> Any:
        model, batch = args
        return f(model, *batch) if type(batch) is tuple else f(model, batch)

    def plan(self, context: Context) -> Differentiation:
        """What is differentiated: the arrays of the model, no floats."""
        memory = context.memory
        if "differentiation" not in memory:
            plan = memory["differentiation"] = Differentiation(context, 1)
            plan.numbers = {}
        return memory["differentiation"]

    def inputs(self, context: Context) -> tuple[set[int], set[int]]:
        return {i for i in self.plan(context).leaves if context.inexact[i]}, set()

    def extra(self) -> Any:
        return self.opt_state.owned_leaves()

    def constants(self) -> Any:
        return self.rule.values, self.healthy

    def protect(self, program: Program, call: Call, donated: list[Any]) -> list[Any]:
        owners = call.owners()
        return copy_if_shared(donated, [owners[i] for i in program.donated_order])

    def body(
        self, context: Context, leaves: list[Any], numbers: list[Any], extra: Any, constants: Any, strict: bool
    ) -> Any:
        values, healthy = constants
        plan = self.plan(context)
        out, writes, gradients, _ = plan.value_and_gradient(leaves, numbers, strict)
        paths = {key: path.removeprefix("model").removeprefix(".") for key, path in context.paths().items()}
        names = {i: paths[plan.leaves[i]] for i in gradients}
        params = {name: leaves[i] for i, name in names.items()}
        self.opt_state.signature.check(params, [path for path in paths.values() if path not in params])
        step = self.opt_state.updater()
        healthy = jnp.logical_and(healthy, jnp.isfinite(scalar_loss(unpack(out))))
        new, new_state = _only_if(healthy, step, params, {names[i]: g for i, g in gradients.items()}, extra, values)
        writes = {i: jnp.where(healthy, value, leaves[context.written_leaf(i)]) for i, value in writes.items()}
        weights = [writes.pop(i, new[names[i]] if i in names else leaves[i]) for i in plan.order]
        return out, writes, weights, new_state, healthy, gradients if self.with_gradient else None

    def land(self, program: Program, call: Call, outputs: Any) -> Any:
        out, writes, weights, new_state, healthy, gradients = outputs
        values = dict(zip(self.plan(program).order, weights, strict=True))
        call.write({**values, **writes} if writes else values, program)
        self.opt_state.advance(new_state)
        arranged = self.plan(program).arrange(gradients, {})[0] if gradients is not None else None
        return unpack(out), healthy, arranged

    def eager(self, call: Call) -> Any:
        context = Context(call, self.names, self.apply, False)
        leaves = call.leaves()
        outputs = self.body(context, leaves, call.numbers, self.opt_state.leaves, self.constants(), strict=False)
        if not inside_trace():
            refuse_tracers([leaves[i] for i in self.plan(context).order], outputs[2])
        commit(context, call)
        return self.land(context, call, outputs)  # type: ignore[arg-type]


def _only_if(healthy: Any, step: Callable[..., Any], params: Any, gradients: Any, state: Any, values: Any) -> Any:
    """The update, or nothing new where the loss is not finite; one branch runs, which is cheaper than a select on
    every array.
    """
    if not isinstance(healthy, jax.core.Tracer):
        return step(params, gradients, state, values) if bool(healthy) else (params, state)
    return jax.lax.cond(
        healthy, lambda p, g, s: step(p, g, s, values), lambda p, g, s: (p, s), params, gradients, state
    )


@functools.cache
def _healthy() -> Any:
    return jnp.asarray(True)


def _step(loss: Any, model: Any, batch: Any, opt_state: OptState, healthy: Any, with_gradient: bool = False) -> Any:
    try:
        return run(Step(opt_state, healthy, with_gradient), loss, (model, batch))
    except TypeError as error:
        _check_batch(loss, model, batch, error)
        raise


def _check_batch(loss: Any, model: Any, batch: Any, error: TypeError) -> None:
    """A better error where the parts of the batch are not what the loss takes."""
    signature = inspect.signature(loss)
    try:
        signature.bind(model, *(batch if type(batch) is tuple else (batch,)))
    except TypeError:
        got = f"a {type(batch).__name__} of {len(batch)}" if isinstance(batch, list | tuple | dict) else typed(batch)
        raise TypeError(
            f"the loss takes {signature}, which a batch that is {got} does not fill; it is called as "
            f"loss(model, *batch) for a tuple and as loss(model, batch) for any other; data is a list of batches, as "
            f"in [(x, y)]"
        ) from error


def trainstep(loss: Callable[..., Any], model: Any, batch: Any, opt_state: OptState) -> Any:
    """One training step, compiled as one program: gradient of `loss(model, *batch)`, update, captured writes. Flux:
    `trainstep!`.

    Changes model and state in place and returns what `loss` returned, before the update. A batch that is a tuple is
    splatted, any other is passed whole. If the loss is not finite, nothing is changed.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> model = fx.Dense(2, 1)
    >>> opt = fx.setup(fx.Descent(0.1), model)
    >>> loss = lambda m, x, y: fx.mse(m(x), y)
    >>> fx.trainstep(loss, model, (jnp.ones((4, 2)), jnp.ones((4, 1))), opt).shape
    ()
    """
    _check_call(loss, model, opt_state, "trainstep")
    return _step(loss, model, batch, opt_state, _healthy())[0]


def trainstep_withgradient(loss: Callable[..., Any], model: Any, batch: Any, opt_state: OptState) -> tuple[Any, Any]:
    """`(loss, gradient)` of one training step; the gradient is that of the model, before the update. Flux:
    `trainstep_withgradient!`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> model = fx.Dense(2, 1)
    >>> opt = fx.setup(fx.Descent(0.1), model)
    >>> value, g = fx.trainstep_withgradient(lambda m, x: m(x).sum(), model, jnp.ones((4, 2)), opt)
    >>> g.bias.tolist()
    [4.0]
    """
    _check_call(loss, model, opt_state, "trainstep_withgradient")
    value, _, gradient = _step(loss, model, batch, opt_state, _healthy(), with_gradient=True)
    return value, gradient


@dataclass
class Progress:
    """What a callback of `train` sees after each step: epoch and batch count from 0, `loss` is what the loss
    function returned.
    """

    epoch: int
    batch: int
    loss: Any


def train(
    loss: Callable[..., Any],
    model: Any,
    data: Iterable[Any],
    opt_state: OptState,
    *,
    epochs: int = 1,
    callback: Callable[[Progress], Any] | None = None,
    progress: bool | None = None,
) -> None:
    """Trains a model in place: for each epoch and each batch of `data`, one `trainstep`. Flux: `train!`.

    `data` is any iterable of batches; a tuple is splatted into `loss(model, *batch)`. `callback` is called with a
    `Progress` after every step; training ends where it returns True. `progress` shows a bar; None shows one on a
    terminal.

    `NonFiniteLossError` names the epoch and the batch whose loss was NaN or infinite; model and optimiser are then
    as before that batch. `ValueError` if there are no batches, or if an iterator is used up after the first epoch.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> model, x = fx.Dense(1, 1), jnp.linspace(-1, 1, 20)[:, None]
    >>> opt = fx.setup(fx.Momentum(0.1), model)
    >>> fx.train(lambda m, x, y: fx.mse(m(x), y), model, [(x, 3 * x + 1)], opt, epochs=200)
    >>> round(float(model.weight[0, 0]), 2), round(float(model.bias[0]), 2)
    (3.0, 1.0)
    """
    _check_call(loss, model, opt_state, "train")
    epochs = whole(epochs, "epochs", lower=0)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback is a function of a Progress, got {callback!r}")
    if not isinstance(data, collections.abc.Iterable):
        raise TypeError(f"data is an iterable of batches, such as a DataLoader or [(x, y)], got {type(data).__name__}")
    if epochs > 1 and isinstance(data, collections.abc.Iterator):
        raise ValueError(
            "data is an iterator, which is used up after one epoch; pass a list of batches or a DataLoader"
        )
    watch = _Watch()
    with _Bar(data, epochs, progress) as bar:
        for epoch in range(epochs):
            batch_number = -1
            for batch_number, batch in enumerate(data):
                value, watch.healthy, _ = _step(loss, model, batch, opt_state, watch.healthy)
                watch.add(epoch, batch_number, value)
                bar.advance(epoch, value)
                if callback is not None and _is_true(callback(Progress(epoch, batch_number, value))):
                    watch.finish()
                    return
            if batch_number < 0:
                raise ValueError("data holds no batches")
        watch.finish()


def _is_true(answer: Any) -> bool:
    """True for a truth value, also as an array, and for nothing else: many a function returns what nobody asked for."""
    return getattr(answer, "dtype", type(answer)) in (bool, np.bool_) and bool(answer)


class _Watch:
    """Looks at the losses a few steps late, so that the device is never waited for; the steps between changed
    nothing.
    """

    def __init__(self) -> None:
        self.healthy = _healthy()
        self.pending: collections.deque[tuple[int, int, Any, Any]] = collections.deque()

    def add(self, epoch: int, batch: int, value: Any) -> None:
        """Notes a step, and looks at an earlier one."""
        self.pending.append((epoch, batch, value, self.healthy))
        if len(self.pending) > PENDING:
            self._look(*self.pending.popleft())

    def finish(self) -> None:
        """Looks at all steps that are left."""
        while self.pending:
            self._look(*self.pending.popleft())

    def _look(self, epoch: int, batch: int, value: Any, healthy: Any) -> None:
        if not bool(healthy):
            raise NonFiniteLossError(
                f"the loss became {float(scalar_loss(value))} at epoch {epoch}, batch {batch} (both counted "
                f"from 0); model and optimiser are as before that batch"
            )


class _Bar:
    """A progress bar with the latest loss, or nothing."""

    def __init__(self, data: Any, epochs: int, wanted: bool | None) -> None:
        self.bar: Any = None
        if sys.stderr.isatty() if wanted is None else wanted:
            from tqdm.auto import tqdm

            total = len(data) * epochs if hasattr(data, "__len__") else None
            self.bar = tqdm(total=total, unit="batch", mininterval=0.2)
        self.epochs = epochs

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.close()

    def advance(self, epoch: int, value: Any) -> None:
        """One batch more."""
        if self.bar is not None and self.bar.update(1):
            shown = float(scalar_loss(value))
            self.bar.set_description(f"epoch {epoch + 1}/{self.epochs}", refresh=False)
            self.bar.set_postfix(loss=f"{shown:.4f}" if math.isfinite(shown) else str(shown), refresh=False)


def _check_call(loss: Any, model: Any, opt_state: Any, name: str) -> None:
    if not callable(loss) or isinstance(loss, Layer):
        hint = "; the loss comes first: " + f"{name}(loss, model, ...)" if callable(model) else ""
        raise TypeError(f"{name} takes a loss function first, got {type(loss).__name__}{hint}")
    check_state(opt_state, name)

"""The state of an optimiser, and updates of a model with it (Optimisers.jl)."""

from __future__ import annotations

import itertools
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fluxion.layers.lazy import check_sized
from fluxion.optimise.inputs import Inputs, at_step, needs_python, rules_of
from fluxion.optimise.rule import Rule, is_optax
from fluxion.packing import Packing
from fluxion.tree.functions import trainables
from fluxion.tree.plan import check_writable
from fluxion.tree.select import Trainable
from fluxion.tree.walk import Walk

Shape = tuple[tuple[int, ...], Any]


class Signature:
    """Which arrays an optimiser state belongs to: path, shape and dtype of each; compares and hashes fast."""

    __slots__ = ("_hash", "shapes")

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.shapes = {
            path: (tuple(array.shape), jax.dtypes.canonicalize_dtype(array.dtype)) for path, array in params.items()
        }
        self._hash = hash(tuple(self.shapes))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is Signature and self.shapes == other.shapes)

    def check(self, params: Mapping[str, Any], frozen: Sequence[str] = ()) -> None:
        """`ValueError` naming what the model has and the optimiser state has not, or the other way round."""
        now = Signature(params).shapes
        gone = [path for path in self.shapes if path not in now and path not in frozen]
        new = [path for path in now if path not in self.shapes]
        other = [
            f"{path} {_text(self.shapes[path])} is now {_text(now[path])}"
            for path in now
            if path in self.shapes and now[path] != self.shapes[path]
        ]
        if not (gone or new or other):
            return
        parts = [f"missing: {', '.join(gone)}"] * bool(gone) + [f"new: {', '.join(new)}"] * bool(new) + other
        raise ValueError(
            f"the model is not the one that setup saw ({'; '.join(parts)}); call fx.setup(rule, model) again "
            f"after changing a model"
        )


def _text(shape: Shape) -> str:
    return f"{jnp.dtype(shape[1]).name}{list(shape[0])}"


class OptState:
    """What an optimiser remembers between updates. `rule` holds the hyperparameters; `state` is the Optax state."""

    __trainable__ = ()

    def __init__(self, rule: Any, params: Mapping[str, Any]) -> None:
        self.rule = rule
        self.steps = 0
        self.signature = Signature(params)
        state = self.transformation(self.current_rule()).init(
            {path: jnp.asarray(array) for path, array in params.items()}
        )
        leaves, self.definition = jax.tree.flatten(state)
        self.packing = Packing(leaves)
        # fresh buffers: the program takes them over at each update
        self.leaves = [jnp.array(leaf, copy=True) for leaf in self.packing.pack(leaves)]

    @staticmethod
    def transformation(rule: Any) -> optax.GradientTransformation:
        """The rule as an Optax transformation, whose updates are added."""
        return rule.transformation() if isinstance(rule, Rule) else rule

    @property
    def state(self) -> Any:
        """The Optax state, over a dict from paths to arrays."""
        return jax.tree.unflatten(self.definition, self.packing.unpack(self.leaves))

    def current_rule(self) -> Any:
        """The rule, with schedules that only Python can evaluate replaced by what they give for this step."""
        return at_step(self.rule, self.steps) if needs_python(self.rule) else self.rule

    def hyperparameters(self) -> tuple[Any, list[float]]:
        """What of the rule decides the program, and the floats that are its inputs."""
        inputs = Inputs(self.current_rule())
        return inputs.key, inputs.floats

    def advance(self, leaves: list[Any]) -> None:
        """Takes the arrays of the next state."""
        self.leaves[:] = leaves
        if needs_python(self.rule):
            self.steps += 1

    def owned_leaves(self) -> list[Any]:
        """The arrays of the state; those that somebody else holds too are copied first."""
        return copy_if_shared(self.leaves)

    def updater(self) -> Callable[..., Any]:
        """The pure function `(params, gradients, state leaves, floats) -> (new params, new state leaves)`."""
        inputs, definition, packing = Inputs(self.current_rule()), self.definition, self.packing
        signature, transformation = self.signature, self.transformation

        def step(params: dict[str, Any], gradients: dict[str, Any], packed: list[Any], floats: list[Any]) -> Any:
            leaves = packing.unpack(packed)
            state = jax.tree.unflatten(definition, leaves)
            frozen = [path for path in signature.shapes if path not in params]
            everything = dict(params)
            for path in frozen:  # their place in the state is kept, and not changed
                shape, dtype = signature.shapes[path]
                everything[path] = jnp.zeros(shape, dtype)
            full = {path: gradients.get(path) for path in everything}
            # JAX's complex gradient is the conjugate of the direction of ascent
            full = {path: jnp.zeros_like(everything[path]) if g is None else jnp.conj(g) for path, g in full.items()}
            updates, new_state = transformation(inputs.rebuilt(floats)).update(full, state, everything)
            skipped = {path for path in everything if path not in gradients or path in frozen}
            if skipped:
                new_state = _keep(state, new_state, skipped)
            new = {path: p if path in skipped else (p + updates[path]).astype(p.dtype) for path, p in params.items()}
            new_leaves = [n.astype(o.dtype) for n, o in zip(jax.tree.leaves(new_state), leaves, strict=True)]
            return new, packing.pack(new_leaves)

        return step

    def __repr__(self) -> str:
        return f"OptState({self.rule!r}, {len(self.signature.shapes)} arrays)"


def _keep(old: Any, new: Any, paths: set[str]) -> Any:
    """The new state, but the old one at the given paths."""

    def choose(path: Any, a: Any, b: Any) -> Any:
        return a if any(getattr(entry, "key", None) in paths for entry in path) else b

    return jax.tree_util.tree_map_with_path(choose, old, new)


_ALONE = next(map(sys.getrefcount, [object()]))


def copy_if_shared(arrays: list[Any], owners: list[int] | None = None) -> list[Any]:
    """The same arrays, but copies of those that the user holds too: their buffers are about to be taken over.

    `owners` are how many references besides this list are known of; none where it is left out.
    """
    counts = map(sys.getrefcount, arrays)
    known = itertools.repeat(_ALONE) if owners is None else [_ALONE + own for own in owners]
    if not any(map(operator.gt, counts, known)):
        return arrays
    limits = [_ALONE] * len(arrays) if owners is None else known
    shared = list(map(operator.gt, map(sys.getrefcount, arrays), limits))
    return [
        jnp.array(array, copy=True) if held and isinstance(array, jax.Array) else array
        for array, held in zip(arrays, shared, strict=True)
    ]


def setup(rule: Any, model: Any) -> OptState:
    """The optimiser state for a model: one entry per trainable array, a tied array once. Flux: `setup`.

    `rule` is one of Fluxion's (`Adam(1e-3)`), a chain of them, or any `optax.GradientTransformation`, which sees a
    dict from paths to arrays. `TypeError` for anything else, and for a model that cannot be changed in place, such
    as a bare tuple; `ValueError` if the model has nothing to train.

    >>> import fluxion as fx
    >>> model = fx.Dense(3, 2)
    >>> fx.setup(fx.Adam(1e-3), model)
    OptState(Adam(learning_rate=0.001, beta=(0.9, 0.999), epsilon=1e-08), 2 arrays)
    """
    if isinstance(rule, type):
        raise TypeError(f"setup takes a rule such as {rule.__name__}(1e-3), got the class {rule.__name__} itself")
    if not isinstance(rule, Rule) and not is_optax(rule):
        swapped = isinstance(model, Rule) or is_optax(model)
        hint = "; the rule comes first: setup(rule, model)" if swapped else ""
        raise TypeError(
            f"setup takes a rule such as Adam(1e-3) or an Optax transformation, got {type(rule).__name__}{hint}"
        )
    check_sized(model, "setup")
    params = trainables(model)
    if not params:
        raise ValueError(
            "setup found nothing to train in this model: no floating-point arrays, or all of them are frozen"
        )
    segment = Walk().run(model)
    check_writable(segment, [k for _, k in Trainable([segment.structure], 0, segment.structure.root).leaves])
    return OptState(rule, params)


def adjust(opt_state: OptState, **hyperparameters: Any) -> None:
    """Changes hyperparameters in place and keeps the state; no recompilation for floats. Flux: `adjust!`.

    In a chain every rule that has a hyperparameter of that name takes it. `ValueError` if none has; then nothing is
    changed.

    >>> import fluxion as fx
    >>> opt = fx.setup(fx.Adam(1e-3), fx.Dense(3, 2))
    >>> fx.adjust(opt, learning_rate=1e-4)
    >>> opt.rule.learning_rate
    0.0001
    """
    check_state(opt_state, "adjust")
    if not hyperparameters:
        raise TypeError("adjust needs something to change, such as adjust(opt_state, learning_rate=1e-4)")
    rules = rules_of(opt_state.rule)
    known = {name for rule in rules for name in rule.hyperparameters()}
    for name in hyperparameters:
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise ValueError(f"{opt_state.rule!r} has no hyperparameter {name!r}; it has {names}")
    changed = []
    for rule in rules:
        taken = {name: value for name, value in hyperparameters.items() if name in rule.hyperparameters()}
        if taken:
            changed.append((rule, vars(type(rule)(**{**vars(rule), **taken}))))
    for rule, fields in changed:
        rule.__dict__.update(fields)


def check_state(opt_state: Any, name: str) -> None:
    """`TypeError` unless this is an optimiser state; `name` is the function that was called."""
    if isinstance(opt_state, Rule) or is_optax(opt_state):
        raise TypeError(
            f"{name} takes an optimiser state, got the rule {opt_state!r}; make one with fx.setup(rule, model)"
        )
    if not isinstance(opt_state, OptState):
        raise TypeError(f"{name} takes an optimiser state from fx.setup(rule, model), got {type(opt_state).__name__}")

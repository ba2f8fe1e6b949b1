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
from fluxion.optimise.inputs import Inputs, at_step, parts_of
from fluxion.optimise.names import hint
from fluxion.optimise.rule import Rule, in_float32, is_optax
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
    """What an optimiser remembers between updates. `rule` holds the hyperparameters, `steps` is how many updates there
    were, `state` is the Optax state.
    """

    __trainable__ = ()

    def __init__(self, rule: Any, params: Mapping[str, Any]) -> None:
        self.rule = rule
        self.signature = Signature(params)
        init = _transformation(_inputs(rule, 0).rule).init
        leaves, self.definition = jax.tree.flatten(init({path: jnp.asarray(p) for path, p in params.items()}))
        self.packing = Packing(leaves)
        # fresh buffers: the program takes them over at each update
        self.leaves = [jnp.array(leaf, copy=True) for leaf in (jnp.int32(0), *self.packing.pack(leaves))]

    @property
    def steps(self) -> int:
        """How many updates there were; those of a loss that is not finite do not count."""
        return int(self.leaves[0])

    @steps.setter
    def steps(self, count: int) -> None:
        self.leaves[0] = jnp.asarray(count, jnp.int32)

    @property
    def state(self) -> Any:
        """The Optax state, over a dict from paths to arrays."""
        return jax.tree.unflatten(self.definition, self.packing.unpack(self.leaves[1:]))

    @state.setter
    def state(self, state: Any) -> None:
        self.leaves[1:] = self.packing.pack(jax.tree.leaves(state))

    def inputs(self) -> Inputs:
        """What of the rule decides the program, and what are its inputs, for the coming step."""
        inputs = Inputs(self.rule)
        return _inputs(self.rule, self.steps) if inputs.need_python() else inputs

    def fits(self, rule: Any) -> bool:
        """True if another rule remembers the same arrays."""
        params = {path: jax.ShapeDtypeStruct(*shape) for path, shape in self.signature.shapes.items()}
        leaves, definition = jax.tree.flatten(jax.eval_shape(_transformation(_inputs(rule, 0).rule).init, params))
        return (definition, Packing(leaves)) == (self.definition, self.packing)

    def advance(self, leaves: list[Any]) -> None:
        """Takes the arrays of the next state."""
        self.leaves[:] = leaves

    def owned_leaves(self) -> list[Any]:
        """The arrays of the state; those that somebody else holds too are copied first."""
        return copy_if_shared(self.leaves)

    def updater(self) -> Callable[..., Any]:
        """The pure function `(params, gradients, state leaves, values of the rule) -> (new params, new leaves)`."""
        inputs, definition, packing, signature = self.inputs(), self.definition, self.packing, self.signature

        def step(params: dict[str, Any], gradients: dict[str, Any], packed: list[Any], values: list[Any]) -> Any:
            leaves = packing.unpack(packed[1:])
            state = jax.tree.unflatten(definition, leaves)
            frozen = [path for path in signature.shapes if path not in params]
            everything = dict(params)
            for path in frozen:  # their place in the state is kept, and not changed
                shape, dtype = signature.shapes[path]
                everything[path] = jnp.zeros(shape, dtype)
            full = {path: gradients.get(path) for path in everything}
            # JAX's complex gradient is the conjugate of the direction of ascent
            full = {path: jnp.zeros_like(everything[path]) if g is None else jnp.conj(g) for path, g in full.items()}
            updates, new_state = _transformation(inputs.rebuilt(values)).update(full, state, everything)
            skipped = {path for path in everything if path not in gradients or path in frozen}
            if skipped:
                new_state = _keep(state, new_state, skipped)
            new = {path: p if path in skipped else (p + updates[path]).astype(p.dtype) for path, p in params.items()}
            new_leaves = [n.astype(o.dtype) for n, o in zip(jax.tree.leaves(new_state), leaves, strict=True)]
            return new, [packed[0] + 1, *packing.pack(new_leaves)]

        return step

    def __repr__(self) -> str:
        return f"OptState({self.rule!r}, {len(self.signature.shapes)} arrays)"


def _transformation(rule: Any) -> optax.GradientTransformation:
    """The rule as an Optax transformation, whose updates are added."""
    return rule.transformation() if isinstance(rule, Rule) else in_float32(rule)


def _inputs(rule: Any, step: int) -> Inputs:
    """The rule for a step, schedules that only Python can evaluate replaced by what they give."""
    return Inputs(at_step(rule, step))


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
    """Changes hyperparameters and keeps the state; no recompilation for floats. Flux: `adjust!`.

    In a chain every rule that has a hyperparameter of that name takes it. The rule that `setup` got stays as it is,
    which other states may share. `ValueError` if no rule has the hyperparameter, or if another state is needed for
    it; then nothing is changed.

    >>> import fluxion as fx
    >>> opt = fx.setup(fx.Adam(1e-3), fx.Dense(3, 2))
    >>> fx.adjust(opt, learning_rate=1e-4)
    >>> opt.rule.learning_rate
    0.0001
    """
    check_state(opt_state, "adjust")
    if not hyperparameters:
        raise TypeError("adjust needs something to change, such as adjust(opt_state, learning_rate=1e-4)")
    rule = opt_state.rule
    known = sorted({name for part in parts_of(rule) if isinstance(part, Rule) for name in part.hyperparameters()})
    for name in hyperparameters:
        if name not in known:
            raise ValueError(
                f"{rule!r} has no hyperparameter {name!r}{hint(name, known)}; it has {', '.join(known) or 'none'}"
            )
    new = _adjusted(rule, hyperparameters)
    if Inputs(new).key != Inputs(rule).key and not opt_state.fits(new):
        raise ValueError(f"{new!r} remembers other arrays than {rule!r}; call fx.setup(rule, model) for it")
    opt_state.rule = new


def _adjusted(rule: Any, hyperparameters: dict[str, Any]) -> Any:
    if not isinstance(rule, Rule):
        return rule
    taken = {name: value for name, value in hyperparameters.items() if name in rule.hyperparameters()}
    new = rule.with_parts(*(_adjusted(part, hyperparameters) for part in rule.parts()))
    return new.adjusted(**taken) if taken else new


def check_state(opt_state: Any, name: str) -> None:
    """`TypeError` unless this is an optimiser state; `name` is the function that was called."""
    if isinstance(opt_state, Rule) or is_optax(opt_state):
        raise TypeError(
            f"{name} takes an optimiser state, got the rule {opt_state!r}; make one with fx.setup(rule, model)"
        )
    if not isinstance(opt_state, OptState):
        raise TypeError(f"{name} takes an optimiser state from fx.setup(rule, model), got {type(opt_state).__name__}")

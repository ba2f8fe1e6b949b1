"""`update`: one step of an optimiser on a model, given a gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from fluxion.compile.fallback import is_eager, outside_traces
from fluxion.compile.landing import run_and_land
from fluxion.compile.trace import Call, Context
from fluxion.optimise.state import OptState, Signature, check_state, copy_if_shared
from fluxion.tree.functions import is_inexact
from fluxion.tree.select import Gradient, Trainable, data_children, matching_part, resolve
from fluxion.tree.structure import REFERENCE, Structure

Picks = tuple[int | None, ...]


class Layout:
    """Where the trainable arrays of a structure are: their numbers among all arrays, and their paths."""

    def __init__(self, call: Call) -> None:
        self.context = Context(call, ("", ""), lambda f, args: None, False)
        self.keys = Trainable(self.context.structures, 0, self.context.argument(0)).leaves
        leaves = call.leaves()
        self.keys = [key for key in self.keys if is_inexact(leaves[self.context.leaf_number(key)])]
        self.numbers = [self.context.leaf_number(key) for key in self.keys]
        structures = {number for number, _ in self.keys}
        self._in_one_structure = structures.pop() if len(structures) == 1 else None
        paths = self.context.paths()
        trainable = tuple(paths[key].removeprefix(".") for key in self.keys)
        everything = dict.fromkeys(path.removeprefix(".") for path in paths.values())
        self.paths = Paths(trainable, tuple(path for path in everything if path not in trainable))

    def gradients(self, gradient: Any) -> tuple[Any, Picks | None]:
        """The gradient of each trainable array, None where there is none; or a bundle, and where in it they are."""
        number, (marker, what) = resolve(self.context.structures, 0, self.context.argument(0))
        pending = getattr(gradient, "_pending", None) if type(gradient) is Gradient else None
        if pending is not None and self._in_one_structure == number:
            whole = pending.found.of_structure(pending.number, self.context.structures[number])
            if whole is not None and pending.node.index == what:
                bundle, picks = whole
                return bundle, tuple(picks[k] for _, k in self.keys)
        found: dict[tuple[int, int], Any] = {}
        self._collect(number, (marker, what), gradient, "", found)
        indices = [self.context.structures[s].leaf_indices[k] for s, k in self.keys]
        return [found.get((s, index)) for (s, _), index in zip(self.keys, indices, strict=True)], None

    def _collect(self, number: int, child: Any, part: Any, path: str, found: dict[tuple[int, int], Any]) -> None:
        number, (marker, what) = resolve(self.context.structures, number, child)
        if part is None or marker is not REFERENCE or (number, what) in found:
            return
        found[number, what] = part
        node = self.context.structures[number].nodes.get(what)
        if node is not None:
            for i, inner in data_children(node):
                if resolve(self.context.structures, number, inner)[1][0] is REFERENCE:
                    self._collect(
                        number, inner, matching_part(part, node, i, path), path + node.kind.path(node.header, i), found
                    )


_layouts: dict[Structure, Layout] = {}


def layout_of(call: Call) -> Layout:
    """The layout of a walked model, remembered by structure."""
    layout = _layouts.get(call.structure)
    if layout is None:
        if len(_layouts) > 256:
            _layouts.clear()
        layout = _layouts[call.structure] = Layout(call)
    return layout


def update(opt_state: OptState, model: Any, gradient: Any) -> None:
    """Changes the model and the optimiser state by one step of the rule, in place. Flux: `update!`.

    `gradient` is one entry of what `fx.gradient` returns. Where it is None, neither the array nor its state changes.

    `ValueError` for a gradient of another model, and for a model that was changed after `setup`; `TypeError` for a
    whole tuple of gradients. Nothing is changed then.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> model = fx.Dense(2, 1, init=fx.ones)
    >>> opt = fx.setup(fx.Descent(0.5), model)
    >>> (g,) = fx.gradient(lambda m: m(jnp.ones(2)).sum(), model)
    >>> fx.update(opt, model, g)
    >>> model.weight.tolist(), model.bias.tolist()
    ([[0.5], [0.5]], [-0.5])
    """
    check_state(opt_state, "update")
    if type(model) is Gradient:
        raise TypeError("update takes the model before the gradient: update(opt_state, model, gradient)")
    if isinstance(gradient, tuple) and len(gradient) == 1 and not (isinstance(model, tuple) and len(model) == 1):
        raise TypeError(
            "update takes the gradient of the model, got the tuple that fx.gradient returns; unpack it: (g,) = "
            "fx.gradient(...)"
        )
    call = Call(None, (model,), True)
    layout = layout_of(call)
    try:
        gradients, picks = layout.gradients(gradient)
    except ValueError as error:
        raise ValueError(f"this gradient is not one of this model: {error}") from None
    leaves = call.leaves()
    params = [leaves[number] for number in layout.numbers]
    del leaves
    rule = opt_state.inputs()
    if is_eager() or call.traced or not outside_traces():
        new, new_state = _step(opt_state, layout.paths, picks)(params, gradients, opt_state.leaves, rule.values)
        refuse_tracers([*params, *opt_state.leaves], [*new, *new_state])
        _land(call, layout, opt_state, (new, new_state))
        return
    program = _compiled(rule.key, opt_state, layout.paths, picks)
    owners = call.owners()
    params = copy_if_shared(params, [owners[number] for number in layout.numbers])
    inputs = (params, gradients, opt_state.owned_leaves(), rule.values)
    run_and_land(program, inputs, lambda outputs: _land(call, layout, opt_state, outputs))


def _land(call: Call, layout: Layout, opt_state: OptState, outputs: tuple[list[Any], list[Any]]) -> None:
    new, new_state = outputs
    call.write(dict(zip(layout.numbers, new, strict=True)), layout.context)
    opt_state.advance(new_state)


def refuse_tracers(old: Sequence[Any], new: Sequence[Any]) -> None:
    """`TypeError` where an update inside a transformation of JAX would store traced values in live objects."""
    for a, b in zip(old, new, strict=True):
        if isinstance(b, jax.core.Tracer) and not isinstance(a, jax.core.Tracer):
            raise TypeError(
                "an update inside jax.jit, vmap, scan or grad would store traced values in the model; put "
                "fx.compile around the loop instead, or take fx.gradient and return the new arrays"
            )


def _check(signature: Signature, paths: Paths, params: list[Any], gradients: list[Any]) -> None:
    signature.check(dict(zip(paths.trainable, params, strict=True)), paths.frozen)
    for path, param, gradient in zip(paths.trainable, params, gradients, strict=True):
        if gradient is not None and tuple(getattr(gradient, "shape", ())) != tuple(param.shape):
            raise ValueError(
                f"this gradient is not one of this model: {path} has shape {tuple(param.shape)}, its gradient "
                f"{tuple(getattr(gradient, 'shape', ()))}"
            )


class Paths(NamedTuple):
    """The paths of a model's arrays."""

    trainable: tuple[str, ...]
    frozen: tuple[str, ...]


def _step(opt_state: OptState, paths: Paths, picks: Picks | None) -> Callable[..., Any]:
    updater, signature = opt_state.updater(), opt_state.signature

    def step(params: list[Any], gradients: Any, leaves: list[Any], values: list[Any]) -> Any:
        if picks is not None:
            arrays = gradients.packing.unpack(gradients.packed)
            gradients = [None if i is None else arrays[i] for i in picks]
        _check(signature, paths, params, gradients)
        named = dict(zip(paths.trainable, params, strict=True))
        given = {path: g for path, g in zip(paths.trainable, gradients, strict=True) if g is not None}
        new, new_leaves = updater(named, given, leaves, values)
        return [new[path] for path in paths.trainable], new_leaves

    return step


_programs: dict[tuple[Any, ...], Callable[..., Any]] = {}


def _compiled(rule_key: Any, opt_state: OptState, paths: Paths, picks: Picks | None) -> Callable[..., Any]:
    key = (rule_key, opt_state.definition, opt_state.signature, paths, picks)
    program = _programs.get(key)
    if program is None:
        if len(_programs) > 256:
            _programs.clear()
        program = _programs[key] = jax.jit(_step(opt_state, paths, picks), donate_argnums=(0, 2))
    return program

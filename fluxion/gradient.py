"""Gradients of any function with respect to any value (Zygote.jl)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fluxion.compile.api import argument_names
from fluxion.compile.engine import run
from fluxion.compile.outputs import pack, unpack
from fluxion.compile.program import Program, Task
from fluxion.compile.trace import Call, Context, commit
from fluxion.mode import gradient_mode
from fluxion.packing import Bundle, unbundle
from fluxion.tree import kinds
from fluxion.tree.functions import is_inexact
from fluxion.tree.select import Arrangement, Gradient, Pending, Trainable, resolve
from fluxion.tree.structure import NUMBER, REFERENCE, Structure


class Differentiation:
    """Which leaves and floats of a call are differentiated, and how the gradients are arranged."""

    def __init__(self, context: Context, arguments: int) -> None:
        self.context = context
        self.children = [context.argument(i) for i in range(arguments)]
        chosen = [Trainable(context.structures, 0, child) for child in self.children]
        self.leaves = {context.leaf_number(key): key for part in chosen for key in part.leaves}
        self.numbers = {context.number_number(key): key for part in chosen for key in part.numbers}
        self.order = sorted(i for i in self.leaves if context.inexact[i])
        direct = self.children == [(NUMBER, 0)]
        self._only_number = 0 if direct and not self.leaves and set(self.numbers) == {0} else None
        self._has_arrays = [any(context.inexact[context.leaf_number(key)] for key in part.leaves) for part in chosen]
        self.arrangement = Arrangement(
            context.structures,
            {key: i for i, key in self.leaves.items()},
            {key: i for i, key in self.numbers.items()},
        )
        self._picks: dict[tuple[int, tuple[int, ...]], tuple[int | None, ...]] = {}

    def value_and_gradient(
        self, leaves: list[Any], numbers: list[Any], strict: bool
    ) -> tuple[Any, dict[int, Any], dict[int, Any], dict[int, Any]]:
        """`(result, writes, gradients of leaves, gradients of floats)`."""

        def loss(some_leaves: dict[int, Any], some_numbers: dict[int, Any]) -> Any:
            every_leaf, every_number = list(leaves), list(numbers)
            for i, value in some_leaves.items():
                every_leaf[i] = value
            for i, value in some_numbers.items():
                every_number[i] = value
            with gradient_mode():
                out, writes = self.context.invoke(every_leaf, every_number, strict)
            return scalar_loss(out), (pack(out), writes)

        wanted = {i: leaves[i] for i in self.leaves if is_inexact(leaves[i])}
        floats = {i: numbers[i] for i in self.numbers if not isinstance(numbers[i], complex)}
        (_, (out, writes)), (leaf_gradients, number_gradients) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
            wanted, floats
        )
        return out, writes, leaf_gradients, number_gradients

    def arrange(self, leaves: Bundle | dict[int, Any], numbers: dict[int, Any]) -> tuple[Any, ...]:
        """The gradients, one per argument, each in the shape of the argument."""
        if self._only_number is not None:
            return (as_number(numbers[self._only_number]),)
        found = Found(self, leaves, numbers)
        return tuple(
            found.later(child) if has_arrays else found.arranged(0, child)
            for child, has_arrays in zip(self.children, self._has_arrays, strict=True)
        )

    def picks(self, number: int, order: tuple[int, ...]) -> tuple[int | None, ...]:
        """Where in a bundle of that order the gradient of each array of structure `number` is."""
        key = number, order
        if key not in self._picks:
            start = sum(self.context.leaf_counts[:number])
            positions = {n: i for i, n in enumerate(order)}
            self._picks[key] = tuple(positions.get(start + k) for k in range(self.context.leaf_counts[number]))
        return self._picks[key]


class Found:
    """Gradients as they came out of a program until somebody asks for them by name."""

    def __init__(self, plan: Differentiation, leaves: Bundle | dict[int, Any], numbers: dict[int, Any]) -> None:
        self._plan, self._leaves, self._numbers = plan, leaves, numbers
        self._built: dict[Any, Any] = {}
        self._arrays: dict[int, Any] | None = None

    def arranged(self, number: int, child: Any) -> Any:
        """The gradient of one value, in its shape."""
        if self._arrays is None:
            self._arrays = unbundle(self._leaves) if isinstance(self._leaves, Bundle) else self._leaves
            self._numbers = {i: as_number(value) for i, value in self._numbers.items()}
        recipe = self._plan.arrangement.recipe(number, child)
        return None if recipe is None else recipe(self._arrays, self._numbers, self._built)

    def later(self, child: Any) -> Any:
        """The gradient of an argument: for an object, one whose fields are arranged when they are asked for."""
        structures = self._plan.context.structures
        number, (marker, what) = resolve(structures, 0, child)
        node = structures[number].nodes.get(what) if marker is REFERENCE else None
        if node is None or not isinstance(node.kind, kinds.ObjectKind):
            return self.arranged(0, child)
        return Gradient.later(Pending(self, number, node))

    def of_structure(self, number: int, structure: Structure) -> tuple[Bundle, tuple[int | None, ...]] | None:
        """All gradients, and where among them those of the arrays of one structure are; None if they are of another."""
        if not isinstance(self._leaves, Bundle) or self._plan.context.structures[number] != structure:
            return None
        return self._leaves, self._plan.picks(number, self._leaves.numbers)


def as_number(x: Any) -> Any:
    """A Python float where the value is known."""
    return x if isinstance(x, jax.core.Tracer) or x.ndim else x.item()


def scalar_loss(out: Any) -> Any:
    """The loss in the result of a function: the result, or the first entry of a tuple or dict of results."""
    loss = out
    if isinstance(out, tuple | dict):
        if not out:
            raise TypeError("the function returned an empty tuple or dict; its first entry has to be the loss")
        loss = out[0] if isinstance(out, tuple) else next(iter(out.values()))
    if isinstance(loss, int | float) and not isinstance(loss, bool):
        return jnp.asarray(float(loss))
    if not hasattr(loss, "dtype") or not hasattr(loss, "shape"):
        raise TypeError(
            f"a gradient needs a function that returns a number, got {type(loss).__name__}; return the loss"
        )
    if tuple(loss.shape) != ():
        raise TypeError(
            f"a gradient needs a function that returns one number, got an array of shape {tuple(loss.shape)}; "
            "reduce it with mean() or sum(), or take fx.jacobian"
        )
    if jnp.issubdtype(loss.dtype, jnp.complexfloating):
        raise TypeError(
            "a gradient needs a function that returns a real number, got a complex one; take its real part or abs()"
        )
    return loss if is_inexact(loss) else loss.astype(jnp.float32)


class Differentiate(Task):
    """`(result, gradients)` of a function."""

    key = ("gradient",)
    watch_arguments = False

    def __init__(self, names: tuple[str, ...], count: int) -> None:
        self.names = names
        self.count = count

    def inputs(self, context: Context) -> tuple[set[int], set[int]]:
        return set(), set(self.plan(context).numbers)

    def plan(self, context: Context) -> Differentiation:
        """What is differentiated; remembered with the program."""
        memory = context.memory
        if "differentiation" not in memory:
            memory["differentiation"] = Differentiation(context, self.count)
        return memory["differentiation"]

    def body(
        self, context: Context, leaves: list[Any], numbers: list[Any], extra: Any, constants: Any, strict: bool
    ) -> Any:
        out, writes, gradients, floats = self.plan(context).value_and_gradient(leaves, numbers, strict)
        return out, writes, Bundle.of(gradients) if strict and gradients else gradients, floats

    def land(self, program: Program, call: Call, outputs: Any) -> Any:
        out, writes, leaf_gradients, number_gradients = outputs
        if writes:
            call.write(writes, program)
        return unpack(out), self.plan(program).arrange(leaf_gradients, number_gradients)

    def eager(self, call: Call) -> Any:
        context = Context(call, self.names, self.apply, False)
        outputs = self.body(context, call.leaves(), call.numbers, (), (), strict=False)
        if context.rebuilt is not None:
            commit(context, call)
        return self.land(context, call, outputs)  # type: ignore[arg-type]


def withgradient(f: Callable[..., Any], *args: Any) -> tuple[Any, tuple[Any, ...]]:
    """`(f(*args), gradient)`, the gradient as `gradient` gives it. Flux: `withgradient`.

    `f` may return a tuple or a dict whose first entry is the loss; the value is then the whole of it.

    >>> import fluxion as fx
    >>> value, (g,) = fx.withgradient(lambda x: x**2, 3.0)
    >>> float(value), g
    (9.0, 6.0)
    """
    check_arguments(f, args, "withgradient")
    return run(Differentiate(argument_names(f, len(args)), len(args)), f, args)


def gradient(f: Callable[..., Any], *args: Any) -> tuple[Any, ...]:
    """The gradient of the number `f(*args)`: a tuple with one entry per argument, also for one argument. Flux:
    `gradient`.

    An entry has the structure of its argument: floats for floats, arrays for arrays, lists, tuples and dicts of
    them, and for an object or a function an object with the same field names. Parts that cannot be differentiated
    (integers, strings, frozen layers, fields not named in `__trainable__`) are None; parts that `f` does not use are
    zero. Layers inside `f` train.

    `TypeError` if `f` does not return one real number.

    >>> import fluxion as fx
    >>> fx.gradient(lambda x: 3 * x**2 + 2 * x + 1, 2.0)
    (14.0,)
    >>> df = lambda x: fx.gradient(lambda y: 3 * y**2 + 2 * y + 1, x)[0]
    >>> fx.gradient(df, 2.0)
    (6.0,)
    """
    check_arguments(f, args, "gradient")
    return run(Differentiate(argument_names(f, len(args)), len(args)), f, args)[1]


def check_arguments(f: Any, args: tuple[Any, ...], name: str) -> None:
    """`TypeError` unless there is a function, and something to differentiate with respect to."""
    if not callable(f):
        raise TypeError(f"{name}(f, *args) takes a function first, got {type(f).__name__}")
    if not args:
        raise TypeError(f"{name}(f, *args) needs at least one argument to differentiate with respect to")

"""Other derivatives than the gradient: pullbacks, Jacobians, Hessians, forward mode; and what is left out or
computed twice.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fluxion import random as fluxion_random
from fluxion.compile.api import argument_names
from fluxion.compile.outputs import pack, unpack
from fluxion.compile.trace import Call, Context
from fluxion.gradient import Differentiation, check_arguments, scalar_loss
from fluxion.mode import gradient_mode
from fluxion.tree.functions import fmap, is_inexact


class _Function:
    """`f` as a function of the arrays and floats that are differentiated, everything else held fixed."""

    def __init__(self, f: Any, args: tuple[Any, ...], name: str) -> None:
        check_arguments(f, args, name)
        self.call = Call(f, args, False)
        self.context = Context(self.call, argument_names(f, len(args)), lambda g, a: g(*a), False)
        self.plan = Differentiation(self.context, len(args))
        self.all_leaves = self.call.leaves()
        leaves = {i: self.all_leaves[i] for i in self.plan.leaves if is_inexact(self.all_leaves[i])}
        numbers = {i: self.call.numbers[i] for i in self.plan.numbers}
        self.inputs = (leaves, numbers)

    def __call__(self, inputs: tuple[dict[int, Any], dict[int, Any]]) -> tuple[Any, dict[int, Any]]:
        leaves, numbers = list(self.all_leaves), list(self.call.numbers)
        for i, value in inputs[0].items():
            leaves[i] = value
        for i, value in inputs[1].items():
            numbers[i] = value
        with gradient_mode():
            return self.context.invoke(leaves, numbers, strict=False)

    def arrange(self, leaves: dict[int, Any], numbers: dict[int, Any]) -> tuple[Any, ...]:
        """Derivatives by input, one entry per argument."""
        return self.plan.arrange(leaves, numbers)


def pullback(f: Callable[..., Any], *args: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """`(y, back)` with `y = f(*args)` and `back(dy)` the gradient of `sum(dy * y)`, one entry per argument. Zygote:
    `pullback`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> y, back = fx.pullback(lambda x: x**2, jnp.array([1.0, 2.0]))
    >>> back(jnp.array([1.0, 10.0]))[0].tolist()
    [2.0, 40.0]
    """
    function = _Function(f, args, "pullback")
    out, vjp, (kept, writes) = jax.vjp(lambda inputs: _differentiable(*function(inputs)), function.inputs, has_aux=True)
    function.call.write(writes, function.context)

    def back(cotangent: Any) -> tuple[Any, ...]:
        matched = jax.tree.map(lambda c, y: jnp.asarray(c, y.dtype), cotangent, out)
        return function.arrange(*vjp(matched)[0])

    return unpack(kept), back


def _differentiable(out: Any, writes: dict[int, Any]) -> Any:
    return jax.tree.map(jnp.asarray, out), (pack(out), writes)


def pushforward(f: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    """The derivative of `f` at `args` as a function of directions: `J dx`, in forward mode. Zygote: `pushforward`.

    The directions are numbers, arrays or pytrees of them shaped like the arguments.

    >>> import fluxion as fx
    >>> float(fx.pushforward(lambda x: x**2, 3.0)(1.0))
    6.0
    """
    if not callable(f):
        raise TypeError(f"pushforward(f, *args) takes a function first, got {type(f).__name__}")

    def push(*directions: Any) -> Any:
        if len(directions) != len(args):
            raise TypeError(f"this pushforward takes {len(args)} directions, one per argument, got {len(directions)}")
        points = jax.tree.map(lambda x: jnp.asarray(x, _inexact_type(x)), args)
        tangents = jax.tree.map(lambda x, d: jnp.broadcast_to(jnp.asarray(d, x.dtype), x.shape), points, directions)
        with gradient_mode():
            return jax.jvp(f, points, tangents)[1]

    return push


def _inexact_type(x: Any) -> Any:
    dtype = jnp.asarray(x).dtype
    return dtype if jnp.issubdtype(dtype, jnp.inexact) else jnp.float32


def derivative(f: Callable[[Any], Any], x: float) -> Any:
    """`f'(x)` for a number `x`: a float where `f(x)` is one number, else an array of the shape of `f(x)`. Forward mode.

    >>> import fluxion as fx, math
    >>> fx.derivative(lambda x: x**3, 2.0)
    12.0
    """
    if not isinstance(x, int | float) and jnp.shape(x) != ():
        raise TypeError(
            f"derivative takes a number, got an array of shape {jnp.shape(x)}; use fx.gradient or fx.jacobian"
        )
    result = pushforward(f, x)(1.0)
    known = isinstance(x, int | float) and jnp.shape(result) == () and not isinstance(result, jax.core.Tracer)
    return float(result) if known else result


def jacobian(f: Callable[..., Any], *args: Any) -> tuple[Any, ...]:
    """The Jacobian for each argument: an array of shape `f(*args).shape + argument.shape`; None for what has none.
    Zygote: `jacobian`.

    For an object or a container, the same structure holding one Jacobian per array. `TypeError` if the result is not
    one array.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.jacobian(lambda x: x**2, jnp.array([1.0, 3.0]))[0].tolist()
    [[2.0, 0.0], [0.0, 6.0]]
    """
    function = _Function(f, args, "jacobian")

    def single(inputs: Any) -> Any:
        out = function(inputs)[0]
        if not hasattr(out, "shape"):
            raise TypeError(f"jacobian needs a function that returns one array, got {type(out).__name__}")
        if jnp.issubdtype(out.dtype, jnp.complexfloating):
            raise TypeError(
                "jacobian needs a real result, got a complex one; take the Jacobians of its real and imaginary parts"
            )
        return out

    outputs = jax.eval_shape(single, function.inputs).size
    inputs = sum(jnp.size(x) for part in function.inputs for x in part.values())
    transform = jax.jacfwd if inputs < outputs else jax.jacrev
    leaves, numbers = transform(single)(function.inputs)
    return function.arrange(leaves, numbers)


def hessian(f: Callable[[Any], Any], x: Any) -> Any:
    """The Hessian of a scalar function of one array or number: shape `x.shape + x.shape`. Zygote: `hessian` (forward
    over reverse).

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.hessian(lambda x: x[0] ** 2 * x[1], jnp.array([1.0, 2.0])).tolist()
    [[4.0, 2.0], [2.0, 0.0]]
    """
    _check_point(f, x, "hessian")
    with gradient_mode():
        result = jax.hessian(lambda point: scalar_loss(f(point)))(_point(x))
    return float(result) if isinstance(x, int | float) and not isinstance(result, jax.core.Tracer) else result


def diaghessian(f: Callable[..., Any], *args: Any) -> tuple[Any, ...]:
    """The diagonal of the Hessian for each array argument, in its shape; None for arguments that are no arrays.
    Zygote: `diaghessian`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.diaghessian(lambda x: (x**3).sum(), jnp.array([1.0, 2.0]))[0].tolist()
    [6.0, 12.0]
    """
    check_arguments(f, args, "diaghessian")
    return tuple(_diagonal(f, args, i) if _is_point(args[i]) else None for i in range(len(args)))


def _diagonal(f: Any, args: tuple[Any, ...], i: int) -> Any:
    point = _point(args[i])
    gradient = jax.grad(lambda p: scalar_loss(f(*args[:i], p.reshape(point.shape), *args[i + 1 :])))

    def entry(direction: Any) -> Any:
        return jnp.vdot(jax.jvp(gradient, (point.ravel(),), (direction,))[1], direction)

    with gradient_mode():
        return jax.vmap(entry)(jnp.eye(point.size, dtype=point.dtype)).reshape(point.shape)


def _is_point(x: Any) -> bool:
    return isinstance(x, float) or (hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating))


def _point(x: Any) -> Any:
    return jnp.asarray(x, _inexact_type(x))


def _check_point(f: Any, x: Any, name: str) -> None:
    check_arguments(f, (x,), name)
    if not (_is_point(x) or isinstance(x, int)):
        raise TypeError(
            f"{name} takes an array or a number, got {type(x).__name__}; for a model take flat, re = "
            f"fx.destructure(model) and "
            f"fx.{name}(lambda p: loss(re(p)), flat)"
        )


def ignore_derivatives(x: Any) -> Any:
    """`x` as a constant: no gradient flows through it. A function is called, and its result is the constant.
    ChainRules: `ignore_derivatives`.

    >>> import fluxion as fx
    >>> fx.gradient(lambda x: x * fx.ignore_derivatives(x), 3.0)
    (3.0,)
    """
    if isinstance(x, types.FunctionType):
        x = x()
    if isinstance(x, int | float | jax.Array):
        return jax.lax.stop_gradient(x) if isinstance(x, jax.Array) else x
    return fmap(jax.lax.stop_gradient, x)


def checkpointed(f: Callable[..., Any], *args: Any) -> Any:
    """`f(*args)`, computed again in the backward pass instead of keeping its intermediate arrays. Zygote:
    `checkpointed`.

    Saves memory for time. `f` may be a layer; its writes and random draws happen once.

    >>> import fluxion as fx
    >>> fx.gradient(lambda x: fx.checkpointed(lambda y: y**3, x), 2.0)
    (12.0,)
    """
    if not callable(f):
        raise TypeError(f"checkpointed(f, *args) takes a function first, got {type(f).__name__}")
    call = Call(f, args, True, fluxion_random.generator())
    context = Context(call, argument_names(f, len(args)), lambda g, a: g(*a), True)

    def inner(leaves: list[Any], numbers: list[Any]) -> Any:
        out, writes = context.invoke(leaves, numbers, strict=False)
        return pack(out), writes

    out, writes = jax.checkpoint(inner)(call.leaves(), call.numbers)
    call.write(writes, context)
    return unpack(out)


def rrule(f: Callable[..., tuple[Any, Callable[[Any], tuple[Any, ...]]]]) -> Callable[..., Any]:
    """A function with its own gradient rule: `f(*args)` returns `(y, pullback)`, forward and backward side by side.
    ChainRules: `rrule`.

    `pullback(dy)` returns one gradient per argument, None where there is none. Arguments and result are arrays,
    numbers or containers of them. Differentiable again if the pullback is written in differentiable operations.
    `TypeError` where the rule returns something else or another number of gradients.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> @fx.rrule
    ... def clipped_square(x):
    ...     def pullback(dy):
    ...         return (jnp.clip(2 * x * dy, -1, 1),)
    ...     return x**2, pullback
    >>> fx.gradient(clipped_square, 3.0)
    (1.0,)
    """
    if not callable(f):
        raise TypeError(f"rrule decorates a function that returns (y, pullback), got {type(f).__name__}")
    name = getattr(f, "__name__", "the function")

    def both(*args: Any) -> Any:
        result = f(*args)
        if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
            raise TypeError(f"{name} is decorated with rrule, so it has to return (y, pullback)")
        return result

    def backward(packed: tuple[int, Any], cotangent: Any) -> tuple[Any, ...]:
        count, residuals = packed
        gradients = unpack(residuals)(cotangent)
        if not isinstance(gradients, tuple) or len(gradients) != count:
            got = len(gradients) if isinstance(gradients, tuple) else type(gradients).__name__
            raise TypeError(
                f"the pullback of {name} has to return a tuple of {count} gradients, one per argument, got {got}"
            )
        return gradients

    def forward(*args: Any) -> Any:
        y, back = both(*args)
        return y, (_Count(len(args)), pack(back))

    rule = jax.custom_vjp(lambda *args: both(*args)[0])
    rule.defvjp(forward, lambda residuals, cotangent: backward((residuals[0].value, residuals[1]), cotangent))

    def function(*args: Any) -> Any:
        return rule(*(jnp.asarray(x) if isinstance(x, float) else x for x in args))

    function.__name__, function.__doc__ = name, f.__doc__
    return function


class _Count:
    def __init__(self, value: int) -> None:
        self.value = value


jax.tree_util.register_pytree_node(_Count, lambda count: ((), count.value), lambda value, _: _Count(value))

"""`compile`: any function as one XLA program."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from fluxion.compile.engine import run
from fluxion.compile.outputs import pack, unpack
from fluxion.compile.program import Program, Task
from fluxion.compile.trace import Call, Context


class Apply(Task):
    """Runs a function: the last argument holds the keyword arguments."""

    key = ("call",)

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    @staticmethod
    def apply(f: Any, args: list[Any]) -> Any:
        return f(*args[:-1], **args[-1])

    def body(
        self, context: Context, leaves: list[Any], numbers: list[Any], extra: Any, constants: Any, strict: bool
    ) -> Any:
        out, writes = context.invoke(leaves, numbers, strict)
        return pack(out), writes

    def land(self, program: Program, call: Call, outputs: Any) -> Any:
        out, writes = outputs
        if writes:
            call.write(writes, program)
        return unpack(out)

    def eager(self, call: Call) -> Any:
        return self.apply(call.function, list(call.arguments))


@functools.lru_cache(maxsize=4096)
def _names_of_code(code: Any) -> tuple[str, ...]:
    return code.co_varnames[: code.co_argcount]


def argument_names(f: Any, count: int) -> tuple[str, ...]:
    """What a function calls its arguments, for messages."""
    names: tuple[str, ...] = ()
    code = getattr(f, "__code__", None)
    if code is not None:
        names = _names_of_code(code)
    else:
        method = getattr(f, "__func__", None) or inspect.getattr_static(type(f), "__call__", None)
        code = getattr(method, "__code__", None)
        names = _names_of_code(code)[1:] if code is not None else ()
    return (*names[:count], *(f"argument {i}" for i in range(len(names), count)), "")


def compile(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` as one compiled program per structure of its arguments; a decorator, or a function for inference.

    Arrays and floats among the arguments, and arrays that `f` closes over or holds, are inputs: a new value never
    recompiles and never is stale. Whatever else changes (an int, a string, a layer replaced) compiles anew;
    `explain(f)` tells what it was.
    Writes to arrays that exist before the call are carried out after it. What cannot be compiled runs eagerly and
    says so once.
    Layers are in test mode, as outside every gradient. `TypeError` if `f` is not callable.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> model = fx.compile(fx.Chain(fx.Dense(3, 2, fx.relu), fx.Dense(2, 1)))
    >>> model(jnp.ones((4, 3))).shape
    (4, 1)
    """
    if not callable(f):
        raise TypeError(f"compile takes a function or any callable object, got {type(f).__name__}")
    if inspect.isgeneratorfunction(f) or inspect.iscoroutinefunction(f):
        raise TypeError(f"compile cannot take the generator or coroutine {f.__qualname__}; return the values instead")

    def compiled(*args: Any, **kwargs: Any) -> Any:
        return run(Apply((*argument_names(f, len(args))[:-1], "keywords", "")), f, (*args, kwargs))

    for name in functools.WRAPPER_ASSIGNMENTS:
        if name != "__type_params__" and hasattr(f, name) and not isinstance(getattr(f, name), property):
            setattr(compiled, name, getattr(f, name))
    compiled.__wrapped__ = f  # type: ignore[attr-defined]
    return compiled

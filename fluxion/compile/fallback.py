"""Running without compilation: conversions that work on values inside an eager gradient, and notices that say where
and why.

Besides `fluxion/_jax.py` and `fluxion/_cache.py` this is the only file that touches JAX internals: it replaces the
conversions of `Tracer`.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

import jax
import numpy as np

from fluxion._jax import outside_traces
from fluxion.errors import EagerNotice
from fluxion.tree.user import is_user_file

__all__ = ["cannot_trace", "eager", "eager_conversions", "is_eager", "notify", "outside_traces", "user_line"]

CANNOT_TRACE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


class _State(threading.local):
    eager = bool(int(os.environ.get("FLUXION_EAGER", "0") or "0"))
    conversions = 0


_state = _State()


def is_eager() -> bool:
    """True inside `with fx.eager():` and under `FLUXION_EAGER=1`."""
    return _state.eager


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Runs everything operation by operation, so that `print` and `pdb` see values; the numbers are the same.

    The environment variable `FLUXION_EAGER=1` does it for a whole process.

    >>> import fluxion as fx
    >>> with fx.eager():
    ...     fx.gradient(lambda x: x**2, 3.0)
    (6.0,)
    """
    before, _state.eager = _state.eager, True
    try:
        yield
    finally:
        _state.eager = before


def cannot_trace(error: BaseException) -> bool:
    """True for the errors of code that needs the value of a traced array, or that takes it for a NumPy array."""
    if isinstance(error, AttributeError):
        return isinstance(error.obj, jax.core.Tracer) and hasattr(np.ndarray, error.name or "")
    return isinstance(error, CANNOT_TRACE) or (
        isinstance(error, TypeError)
        and str(error).startswith(("JAX arrays are immutable", "Shapes must be 1D sequences"))
    )


@contextlib.contextmanager
def eager_conversions() -> Iterator[None]:
    """Lets `float(x)`, `int(x)` and `np.asarray(x)` read values that an eager gradient is taken of."""
    _state.conversions += 1
    try:
        yield
    finally:
        _state.conversions -= 1


def _value(tracer: Any) -> Any:
    if not _state.conversions or _state.conversions < 0:
        return None
    while isinstance(tracer, jax.core.Tracer):
        tracer = getattr(tracer, "primal", None)
    return tracer


def _allow(name: str, convert: Callable[[Any], Any]) -> None:
    original = getattr(jax.core.Tracer, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        value = _value(self)
        return original(self, *args, **kwargs) if value is None else convert(np.asarray(value, *args, **kwargs))

    setattr(jax.core.Tracer, name, method)


for _name, _convert in (("__float__", float), ("__int__", int), ("__index__", int), ("__complex__", complex)):
    _allow(_name, _convert)
_allow("__array__", lambda array: array)
_allow("tolist", lambda array: array.tolist())


def _format(self: Any, specification: str) -> str:
    value = _value(self)
    if value is not None:
        return format(np.asarray(value)[()], specification)
    if specification:
        raise jax.errors.ConcretizationTypeError(self, f"formatting it as {specification!r} needs its value")
    return str(self)


jax.core.Tracer.__format__ = _format  # type: ignore[method-assign]


def user_line(traceback: TracebackType | None) -> tuple[str, int]:
    """File and line of the innermost frame of the user's own code."""
    found = ("<unknown>", 0)
    while traceback is not None:
        if is_user_file(traceback.tb_frame.f_code.co_filename):
            found = (traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found


_notified: set[tuple[str, int, str]] = set()


def notify(reason: str, name: str, where: tuple[str, int]) -> None:
    """Says once per place that a function runs eagerly."""
    key = (*where, name)
    if key in _notified:
        return
    _notified.add(key)
    message = f"{name} runs eagerly from now on, uncompiled: {reason} (at {where[0]}:{where[1]})"
    warnings.warn_explicit(message, EagerNotice, where[0], where[1])


class RandomState:
    """Python's and NumPy's random state, and that of generators a function holds, to see whether a function drew
    from them.
    """

    def __init__(self, generators: list[Any]) -> None:
        self.generators = generators
        self.before = self.read()

    def read(self) -> list[Any]:
        """The states now."""
        return [random.getstate(), _comparable(np.random.get_state()), *map(_state_of, self.generators)]

    def changed(self) -> bool:
        """True if anything was drawn."""
        return self.read() != self.before

    def restore(self) -> None:
        """Puts every state back."""
        random.setstate(self.before[0])
        name, words, *rest = self.before[1]
        np.random.set_state((name, np.array(words, dtype=np.uint32), *rest))
        for generator, state in zip(self.generators, self.before[2:], strict=True):
            if isinstance(generator, random.Random):
                generator.setstate(state)
            elif isinstance(generator, np.random.RandomState):
                generator.set_state((state[0], np.array(state[1], dtype=np.uint32), *state[2:]))
            else:
                generator.bit_generator.state = state


def _comparable(state: Any) -> Any:
    return (state[0], state[1].tolist(), *state[2:])


def _state_of(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.RandomState):
        return _comparable(generator.get_state())
    return generator.bit_generator.state


@contextlib.contextmanager
def find_random_line(generators: list[Any], found: list[tuple[str, int]]) -> Iterator[None]:
    """Notes the first line of the user's code that draws from a random state."""
    state = RandomState(generators)
    last: list[tuple[str, int]] = []

    def check() -> None:
        if last and not found and state.changed():
            found.append(last[0])

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if found or not is_user_file(frame.f_code.co_filename):
            return None
        check()
        last[:] = [(frame.f_code.co_filename, frame.f_lineno)]
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
        check()

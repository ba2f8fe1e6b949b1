"""Debugging of compiled code: what `debug` switches on, and how errors found while a program runs reach the user."""

from __future__ import annotations

import collections
import functools
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any

import jax

_checking = jax.make_user_context(False)  # part of what every program of JAX depends on, those of `jax.jit` too
_found: collections.deque[Exception] = collections.deque(maxlen=16)


class debug:
    """Switches checks of compiled code on or off, for the whole process; after `with`, back to what it was.

    `index=True` checks the indices that Embedding, gather, scatter, one-hot labels and losses get: a wrong one raises
    the IndexError (or ValueError) that it raises where its value is known before. Without it, an index out of range in
    compiled code gives NaN. `nan=True` makes an operation that gives NaN a FloatingPointError, by running a
    program whose results hold NaN again, operation by operation; a NaN on purpose counts too. None leaves a check as it
    is. Switching compiles anew, and no program takes over its inputs meanwhile, so that model and optimiser are as
    before the call that failed. Under a `jax.jit` of your own, outside `with`, the error is a JaxRuntimeError that
    quotes it.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> pick = fx.compile(lambda i: fx.gather(jnp.ones(3), i))
    >>> with fx.debug(index=True):
    ...     pick(jnp.array([0, 3]))
    Traceback (most recent call last):
    IndexError: gather expects indices from 0 to 2, got 3 in an array of shape (2,)
    """

    def __init__(self, *, index: bool | None = None, nan: bool | None = None) -> None:
        self._before = _checking.get_global(), jax.debug_nans.value
        for name, wanted in (("index", index), ("nan", nan)):
            if wanted is not None and not isinstance(wanted, bool):
                raise TypeError(f"debug takes {name}=True, False or None, got {wanted!r}")
        _switch(*(now if wanted is None else wanted for now, wanted in zip(self._before, (index, nan), strict=True)))

    def __enter__(self) -> debug:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: TracebackType | None) -> None:
        _switch(*self._before)
        if isinstance(error, jax.errors.JaxRuntimeError):
            _raise_found(error)


def _switch(index: bool, nan: bool) -> None:
    _checking.set_global(index)
    jax.config.update("jax_debug_nans", nan)


def checks_indices() -> bool:
    """True while compiled code checks its indices."""
    return _checking.value


def is_debugging() -> bool:
    """True while any check of compiled code is on."""
    return checks_indices() or jax.debug_nans.value


def check_later(check: Callable[..., None], *values: Any) -> None:
    """Calls `check(*values)` when the program that is being traced runs; what it raises ends the program."""

    def run(*known: Any) -> None:
        try:
            check(*known)
        except Exception as error:
            _found.append(error)
            raise

    jax.debug.callback(run, *values)


def raising(program: Callable[..., Any]) -> Callable[..., Any]:
    """`program`, which waits for its results and raises what a check found as it is, not as an error of the runtime."""

    @functools.wraps(program)
    def waiting(*inputs: Any) -> Any:
        try:
            return jax.block_until_ready(program(*inputs))
        except jax.errors.JaxRuntimeError as error:
            _raise_found(error)
            raise

    return waiting


def _raise_found(error: BaseException) -> None:
    """Raises the error of a check that an error of the runtime quotes."""
    for found in _found:
        if str(found) in str(error):
            raise found.with_traceback(None) from None


def _is_news(record: logging.LogRecord) -> bool:
    return record.exc_info is None or record.exc_info[1] not in _found


logging.getLogger("jax._src.debugging").addFilter(_is_news)  # it would print the traceback that is raised as well

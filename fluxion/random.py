"""Random numbers: a generator is an object whose key is state like any other."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["Generator", "default_generator", "generator", "seed"]


class Generator:
    """A stream of random numbers. Each draw replaces `key`, so compiled code carries the stream along.

    The same seed gives the same bits, eager or compiled. Any function of Fluxion that draws takes one as `rng=`.

    >>> rng = Generator(0)
    >>> rng.uniform((2,)).shape
    (2,)
    >>> bool((Generator(1).normal((3,)) == Generator(1).normal((3,))).all())
    True
    """

    __trainable__ = ()

    def __init__(self, seed: int = 0) -> None:
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Starts the stream anew."""
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"a seed is an integer, got {seed!r} of type {type(seed).__name__}")
        with jax.ensure_compile_time_eval():  # the first draw of a process may be one inside a `jax.jit` of the user's
            self.key = jax.random.key_data(jax.random.key(seed % 2**63))

    def next_key(self) -> Array:
        """A fresh key for the functions of `jax.random`."""
        # under a `jax.jit` of the user's the stored key must stay a concrete array
        traced = isinstance(self.key, jax.core.Tracer)
        with contextlib.nullcontext() if traced else jax.ensure_compile_time_eval():
            keys = jax.random.split(jax.random.wrap_key_data(self.key))
            self.key, drawn = jax.random.key_data(keys[0]), keys[1]
        return drawn

    def uniform(self, shape: Sequence[int] = (), low: Any = 0.0, high: Any = 1.0, dtype: Any = jnp.float32) -> Array:
        """Uniform draws in `[low, high)`."""
        return jax.random.uniform(self.next_key(), tuple(shape), dtype, low, high)

    def normal(self, shape: Sequence[int] = (), dtype: Any = jnp.float32) -> Array:
        """Draws of mean 0 and standard deviation 1."""
        return jax.random.normal(self.next_key(), tuple(shape), dtype)

    def bernoulli(self, probability: Any, shape: Sequence[int] = ()) -> Array:
        """Booleans that are true with the given probability."""
        return jax.random.bernoulli(self.next_key(), probability, tuple(shape))

    def __repr__(self) -> str:
        return "Generator()"


@functools.cache
def _default() -> Generator:
    """The default generator, made on first use: a key starts JAX's backend, which an import should not."""
    return Generator(0)


class _Current(threading.local):
    generator: Generator | None = None


_current = _Current()


def seed(seed: int) -> None:
    """Starts the default generator anew: initialisers, Dropout and shuffling repeat exactly.

    >>> seed(0)
    """
    generator().seed(seed)


def generator(rng: Generator | None = None) -> Generator:
    """`rng` itself, or the default generator where it is None."""
    if rng is not None:
        if not isinstance(rng, Generator):
            raise TypeError(f"rng= takes a fluxion.random.Generator, got {type(rng).__name__}; write Generator(seed)")
        return rng
    return _current.generator or _default()


@contextlib.contextmanager
def default_generator(stream: Generator) -> Iterator[None]:
    """Makes `stream` the default generator of this thread for the code of the `with` block."""
    before, _current.generator = _current.generator, stream
    try:
        yield
    finally:
        _current.generator = before

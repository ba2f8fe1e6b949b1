"""Random numbers on the host: one draw from a generator of Fluxion seeds NumPy's, which is faster here."""

from __future__ import annotations

import jax
import numpy as np

from fluxion.random import Generator, generator


def host_rng(rng: Generator | None) -> np.random.Generator:
    """A random generator of NumPy that `rng`, or the default generator, seeds."""
    return np.random.default_rng(np.asarray(jax.random.key_data(generator(rng).next_key())).tolist())


def shuffled(count: int, rng: Generator | None) -> np.ndarray:
    """The numbers 0 to count - 1 in random order."""
    return host_rng(rng).permutation(count)

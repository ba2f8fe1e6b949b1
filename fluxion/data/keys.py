"""Random numbers from keys, the same bits by NumPy and by JAX: a sample's numbers depend on its key alone.

A key is a pair of uint32; `(N, 2)` of them are the keys of N samples. The generator is Threefry-2x32 with 20 rounds
(Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), the one behind `jax.random`.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def threefry(key: Any, counter: Any) -> tuple[Any, Any]:
    """Two random uint32 for each pair of keys `(..., 2)` and counters, whose arrays broadcast with `key[..., 0]`.

    NumPy arrays give NumPy arrays, JAX arrays JAX arrays; not single numbers, whose overflow NumPy warns of.

    >>> zeros = np.zeros((1, 2), np.uint32)
    >>> [word.tolist() for word in threefry(zeros, (zeros[:, 0], zeros[:, 1]))]
    [[1797259609], [2579123966]]
    """
    first, second = key[..., 0], key[..., 1]
    schedule = (first, second, first ^ second ^ np.uint32(_PARITY))
    x, y = counter[0] + schedule[0], counter[1] + schedule[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = (y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation))
            y = x ^ y
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def sample_keys(seed: int, epoch: int, indices: Any) -> np.ndarray:
    """The keys `(N, 2)` of the samples at `indices` in an epoch: they depend on seed, epoch and index alone.

    >>> keys = sample_keys(0, 3, [5, 9])
    >>> keys.shape, bool((sample_keys(0, 3, [9])[0] == keys[1]).all())
    ((2, 2), True)
    """
    indices = np.asarray(indices, np.uint64)
    low, high = indices.astype(np.uint32), (indices >> np.uint64(32)).astype(np.uint32)
    return np.stack(threefry(_epoch_key(seed, epoch), (low, high)), axis=-1)


@functools.lru_cache(maxsize=64)
def _epoch_key(seed: int, epoch: int) -> np.ndarray:
    return np.stack(threefry(_words(seed), _words(epoch).T), axis=-1)


def uniforms(keys: Any, count: int) -> Any:
    """`count` float32 numbers in `[0, 1)` for each key: `(N, count)` of keys `(N, 2)`, by NumPy or JAX as the keys are.

    >>> numbers = uniforms(sample_keys(0, 0, range(3)), 4)
    >>> numbers.shape, bool((numbers == np.asarray(uniforms(jnp.asarray(sample_keys(0, 0, range(3))), 4))).all())
    ((3, 4), True)
    """
    xp = jnp if isinstance(keys, jax.Array) else np
    pairs = xp.arange((count + 1) // 2, dtype=np.uint32)
    words = xp.concatenate(threefry(keys[..., None, :], (pairs, xp.zeros_like(pairs))), axis=-1)[..., :count]
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def fold(keys: Any, number: Any) -> Any:
    """New keys, of which each depends on one of `keys` `(N, 2)` and on a number; `uniforms` draws none of them.

    The number is the same for all, or an array `(N,)`.

    >>> keys = sample_keys(0, 0, range(3))
    >>> fold(keys, 1).shape, bool((fold(keys, 1) != fold(keys, 2)).any(axis=1).all())
    ((3, 2), True)
    """
    xp = jnp if isinstance(keys, jax.Array) else np
    counter = xp.full(keys.shape[:-1], number, np.uint32)
    return xp.stack(threefry(keys, (counter, xp.ones_like(counter))), axis=-1)


def _words(number: int) -> np.ndarray:
    """The low and the high half of 64 bits of an integer, as one key `(1, 2)`."""
    return np.array([[number & 0xFFFFFFFF, (number >> 32) & 0xFFFFFFFF]], np.uint32)

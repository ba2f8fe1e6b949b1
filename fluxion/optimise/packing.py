"""Many small arrays as a few vectors: a program pays for each buffer it takes and returns, however small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

SMALL = 4096


class Packing:
    """How a list of arrays is stored: small ones of one dtype joined in a vector, large ones as they are."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.shapes = [tuple(array.shape) for array in arrays]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        groups: dict[Any, list[int]] = {}
        for i, array in enumerate(arrays):
            if self.sizes[i] <= SMALL and not jnp.issubdtype(array.dtype, jax.dtypes.extended):
                groups.setdefault(jnp.dtype(array.dtype), []).append(i)
        self.groups = [members for members in groups.values() if len(members) > 1]
        joined = {i for members in self.groups for i in members}
        self.single = [i for i in range(len(arrays)) if i not in joined]

    def pack(self, arrays: Sequence[Any]) -> list[Any]:
        """The vectors, then the large arrays."""
        vectors = [jnp.concatenate([jnp.ravel(arrays[i]) for i in members]) for members in self.groups]
        return [*vectors, *(arrays[i] for i in self.single)]

    def unpack(self, packed: Sequence[Any]) -> list[Any]:
        """The arrays again."""
        arrays: list[Any] = [None] * len(self.shapes)
        for members, vector in zip(self.groups, packed, strict=False):
            start = 0
            for i in members:
                arrays[i] = jax.lax.slice(vector, (start,), (start + self.sizes[i],)).reshape(self.shapes[i])
                start += self.sizes[i]
        for i, array in zip(self.single, packed[len(self.groups) :], strict=True):
            arrays[i] = array
        return arrays

"""Many small arrays as a few vectors: a program pays for each buffer it takes and returns, however small."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

SMALL = 4096
FEW = 16


class Packing:
    """How a list of arrays is stored: small ones of one dtype joined in a vector, large ones as they are."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.shapes = [tuple(array.shape) for array in arrays]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        groups: dict[Any, list[int]] = {}
        for i, array in enumerate(arrays):
            if self.sizes[i] <= SMALL and not jnp.issubdtype(array.dtype, jax.dtypes.extended):
                groups.setdefault(jnp.dtype(array.dtype), []).append(i)
        self.groups = [members for members in groups.values() if len(members) > FEW]
        self._key = (tuple(self.shapes), tuple(array.dtype for array in arrays))
        joined = {i for members in self.groups for i in members}
        self.single = [i for i in range(len(arrays)) if i not in joined]

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is Packing and self._key == other._key)

    def __hash__(self) -> int:
        return hash(self._key)

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


class Bundle:
    """Numbered arrays on their way out of one program and into the next: `numbers[i]` is the number of array `i`."""

    def __init__(self, packed: Sequence[Any], numbers: tuple[int, ...], packing: Packing) -> None:
        self.packed, self.numbers, self.packing = packed, numbers, packing

    @classmethod
    def of(cls, arrays: Mapping[int, Any]) -> Bundle:
        """A bundle of some arrays."""
        packing = Packing(list(arrays.values()))
        return cls(packing.pack(list(arrays.values())), tuple(arrays), packing)

    def arrays(self) -> dict[int, Any]:
        """The arrays by number."""
        return dict(zip(self.numbers, self.packing.unpack(self.packed), strict=True))


jax.tree_util.register_pytree_node(
    Bundle,
    lambda bundle: (tuple(bundle.packed), (bundle.numbers, bundle.packing)),
    lambda static, packed: Bundle(packed, *static),
)


@jax.jit
def _unpacked(bundle: Bundle) -> dict[int, Any]:
    return bundle.arrays()


def unbundle(bundle: Bundle) -> dict[int, Any]:
    """The arrays of a bundle; by one program where they are joined."""
    return _unpacked(bundle) if bundle.packing.groups else bundle.arrays()

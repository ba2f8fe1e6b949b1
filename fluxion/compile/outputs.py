"""Results of a compiled function: any Python value goes through the program as its arrays and comes out whole."""

from __future__ import annotations

from typing import Any

import jax

from fluxion.tree.rebuild import Rebuilt
from fluxion.tree.structure import Structure
from fluxion.tree.walk import Walk


class Packed:
    """A value that is no pytree of arrays, on its way through `jax.jit`: arrays, and the structure of the rest."""

    def __init__(self, leaves: Any, structure: Structure, numbers: tuple[Any, ...]) -> None:
        self.leaves, self.structure, self.numbers = leaves, structure, numbers


jax.tree_util.register_pytree_node(
    Packed,
    lambda packed: (tuple(packed.leaves), (packed.structure, packed.numbers)),
    lambda static, leaves: Packed(leaves, *static),
)


def pack(x: Any) -> Any:
    """`x` itself where it is a pytree of arrays, else the same in a form that `jax.jit` can return."""
    if _is_plain(x):
        return x
    segment = Walk().run(x)
    return Packed(segment.leaves, segment.structure, tuple(segment.numbers))


def _is_plain(x: Any) -> bool:
    """True for an array, and for tuples and lists of them; dicts would come back with their keys sorted."""
    if isinstance(x, jax.Array):
        return True
    return type(x) in (tuple, list) and all(map(_is_plain, x))


def unpack(x: Any) -> Any:
    """The inverse of `pack`."""
    if type(x) is not Packed:
        return x
    return Rebuilt([x.structure], [list(x.leaves)], [list(x.numbers)]).root

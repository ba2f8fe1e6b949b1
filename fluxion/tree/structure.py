"""The structure of a value: all of it that is not an array or a number, as tokens that compare and hash, and as
nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fluxion.tree.kinds import Identity, Kind


class Marker:
    """A token that is not a kind; also the answer of `classify` for values without children."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


LEAF, NUMBER, REFERENCE, OUTSIDE, STATIC, SEGMENT, DATA = map(
    Marker, ("LEAF", "NUMBER", "REFERENCE", "OUTSIDE", "STATIC", "SEGMENT", "DATA")
)


@dataclass(slots=True)
class Node:
    """A value with children. Each child is `(marker, what)`; `index` counts the values of the segment in order."""

    index: int
    kind: Kind
    header: Any
    children: list[tuple[Marker, Any]] = field(default_factory=list)


class Structure:
    """Everything of a value that is not an array or a number: types, names, strings, integers, code. Compares and
    hashes.
    """

    __slots__ = ("_cache", "_hash", "tokens")

    def __init__(self, tokens: tuple[Any, ...]) -> None:
        self.tokens = tokens
        self._hash = hash(tokens)
        self._cache: dict[str, Any] = {}

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is Structure and other._hash == self._hash and other.tokens == self.tokens)

    def __repr__(self) -> str:
        return f"Structure({len(self.nodes)} nodes, {self.leaf_count} arrays)"

    @property
    def root(self) -> tuple[Marker, Any]:
        """The outermost value, as a child."""
        return self._parsed()[0]

    @property
    def nodes(self) -> dict[int, Node]:
        """The nodes by index."""
        return self._parsed()[1]

    @property
    def leaf_indices(self) -> list[int]:
        """The index of each array, in order."""
        return self._parsed()[2]

    @property
    def leaf_count(self) -> int:
        return len(self.leaf_indices)

    @property
    def number_count(self) -> int:
        """How many Python floats the value holds."""
        return self._parsed()[3]

    @property
    def data_indices(self) -> list[int]:
        """The index of each container of plain data, in order."""
        return self._parsed()[4]

    def _parsed(self) -> tuple[tuple[Marker, Any], dict[int, Node], list[int], int, list[int]]:
        if "parsed" not in self._cache:
            self._cache["parsed"] = _Parser(self.tokens).result()
        return self._cache["parsed"]


class _Parser:
    def __init__(self, tokens: tuple[Any, ...]) -> None:
        self.tokens = iter(tokens)
        self.count = 0
        self.nodes: dict[int, Node] = {}
        self.leaves: list[int] = []
        self.data: list[int] = []
        self.numbers = 0

    def result(self) -> tuple[tuple[Marker, Any], dict[int, Node], list[int], int, list[int]]:
        return self.child(), self.nodes, self.leaves, self.numbers, self.data

    def next_index(self) -> int:
        self.count += 1
        return self.count - 1

    def child(self) -> tuple[Marker, Any]:
        token = next(self.tokens)
        if token is LEAF:
            self.leaves.append(self.next_index())
            return REFERENCE, self.leaves[-1]
        if token is REFERENCE or token is SEGMENT or token is OUTSIDE:
            return token, next(self.tokens)
        if token is NUMBER:
            self.numbers += 1
            return NUMBER, self.numbers - 1
        if token is DATA:
            self.data.append(self.next_index())
            return DATA, (self.data[-1], next(self.tokens))
        if isinstance(token, Kind):
            node = Node(self.next_index(), token, next(self.tokens))
            self.nodes[node.index] = node
            node.children = [self.child() for _ in range(next(self.tokens))]
            return REFERENCE, node.index
        value = next(self.tokens)
        return STATIC, value.value if isinstance(value, Identity) else value

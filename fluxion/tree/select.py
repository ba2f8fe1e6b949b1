"""Which arrays of a structure train, and gradients in the shape of what they are gradients of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from fluxion.tree import kinds
from fluxion.tree.structure import NUMBER, OUTSIDE, REFERENCE, SEGMENT, STATIC, Marker, Node, Structure

Key = tuple[int, int]
Child = tuple[Marker, Any]


_expanding = threading.RLock()


class Gradient:
    """The gradient of an object: the same field names, each holding the gradient of that field, None where there is
    none.

    Fields are arranged when one is first asked for: an update takes the arrays as they came.
    """

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    @classmethod
    def later(cls, pending: Pending) -> Gradient:
        """A gradient whose fields are not arranged yet."""
        made = cls()
        made.__dict__["_pending"] = pending
        return made

    def _expand(self) -> None:
        if "_pending" not in self.__dict__:
            return
        with _expanding:  # other threads may ask meanwhile: the mark goes once the fields are there
            if "_pending" in self.__dict__:
                self.__dict__.update(self.__dict__["_pending"].fields())
                del self.__dict__["_pending"]

    def __getattr__(self, name: str) -> Any:
        self._expand()
        if name in self.__dict__:
            return self.__dict__[name]
        raise AttributeError(f"this gradient has no field {name!r}; it has {', '.join(self.__dict__)}")

    def __setattr__(self, name: str, value: Any) -> None:
        self._expand()
        self.__dict__[name] = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Gradient):
            return NotImplemented
        self._expand()
        other._expand()
        return self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        self._expand()
        return f"Gradient({', '.join(f'{name}={_brief(value)}' for name, value in self.__dict__.items())})"


def _flatten_gradient(gradient: Gradient) -> tuple[list[Any], tuple[str, ...]]:
    gradient._expand()
    return list(gradient.__dict__.values()), tuple(gradient.__dict__)


def _flatten_gradient_with_keys(gradient: Gradient) -> tuple[list[Any], tuple[str, ...]]:
    values, names = _flatten_gradient(gradient)
    return [(jax.tree_util.GetAttrKey(name), value) for name, value in zip(names, values, strict=True)], names


jax.tree_util.register_pytree_with_keys(
    Gradient,
    _flatten_gradient_with_keys,
    lambda names, values: Gradient(**dict(zip(names, values, strict=True))),
    _flatten_gradient,
)


class Pending:
    """What the fields of a gradient will be made from: `found` arranges the gradient of a node of structure
    `number`.
    """

    def __init__(self, found: Any, number: int, node: Node) -> None:
        self.found, self.number, self.node = found, number, node

    def fields(self) -> dict[str, Any]:
        """The fields."""
        arranged = self.found.arranged(self.number, (REFERENCE, self.node.index))
        return dict(arranged.__dict__) if arranged is not None else {}


def _brief(x: Any) -> str:
    if hasattr(x, "shape") and getattr(x, "ndim", 0) > 0:
        return f"{x.dtype}{tuple(x.shape)}"
    return repr(x)


def resolve(structures: Sequence[Structure], number: int, child: Child) -> tuple[int, Child]:
    """Follows references from one structure into another."""
    marker, what = child
    if marker is SEGMENT:
        return resolve(structures, what[0], what[1].root)
    if marker is OUTSIDE:
        return what[0], (REFERENCE, what[1])
    return number, child


def data_children(node: Node) -> list[tuple[int, Child]]:
    """The children that are the value's own data: not its class, nor what a module holds."""
    if isinstance(node.kind, kinds.ModuleKind | kinds.ClassKind):
        return []
    skip = 1 if isinstance(node.kind, kinds.ObjectKind) and node.header[2] else 0
    return list(enumerate(node.children))[skip:]


def is_frozen(node: Node) -> bool:
    """True for an object or a function that `freeze` marked."""
    if isinstance(node.kind, kinds.ObjectKind):
        names = node.header[1]
    elif isinstance(node.kind, kinds.FunctionKind):
        names = node.header[6]
    else:
        return False
    return "_frozen" in names and node.children[len(node.children) - len(names) + names.index("_frozen")] == (
        STATIC,
        True,
    )


def _trainable_children(node: Node) -> list[Child]:
    declared = getattr(node.header[0], "__trainable__", None) if isinstance(node.kind, kinds.ObjectKind) else None
    if declared is None:
        return [child for _, child in data_children(node)]
    skip = node.header[2]
    return [child for i, child in data_children(node) if node.header[1][i - skip] in declared]


class Trainable:
    """The arrays (`leaves`) and floats (`numbers`) below a value that training may change, in order, as (structure,
    number).
    """

    def __init__(self, structures: Sequence[Structure], number: int, child: Child) -> None:
        self._structures = structures
        self._ordinals = [{index: k for k, index in enumerate(s.leaf_indices)} for s in structures]
        self._frozen: set[Key] = set()
        self._seen: set[tuple[int, int, bool]] = set()
        found: dict[Key, None] = {}
        numbers: dict[Key, None] = {}
        self._visit(number, child, False, found, numbers)
        self.leaves = [key for key in found if key not in self._frozen]
        self.numbers = list(numbers)

    def _visit(self, number: int, child: Child, frozen: bool, found: dict[Key, None], numbers: dict[Key, None]) -> None:
        number, (marker, what) = resolve(self._structures, number, child)
        if marker is NUMBER and not frozen:
            numbers[number, what] = None
        if marker is not REFERENCE:
            return
        ordinal = self._ordinals[number].get(what)
        if ordinal is not None:
            if frozen:
                self._frozen.add((number, ordinal))
            found[number, ordinal] = None
            return
        node = self._structures[number].nodes.get(what)
        if node is None:  # a container of plain data
            return
        if isinstance(node.kind, kinds.ObjectKind | kinds.FunctionKind):
            frozen = is_frozen(node)
        if (number, what, frozen) in self._seen:
            return
        self._seen.add((number, what, frozen))
        for inner in _trainable_children(node):
            self._visit(number, inner, frozen, found, numbers)


Recipe = Callable[[Mapping[int, Any], Mapping[int, Any], dict[Key, Any]], Any]


class Arrangement:
    """How gradients of arrays and floats, by number, are arranged in the shape of the value that holds them.

    A recipe is made once per value of a structure; called with the gradients (and a dict for what is shared) it
    gives the arranged gradient, None where nothing can be differentiated.
    """

    def __init__(self, structures: Sequence[Structure], arrays: Mapping[Key, int], floats: Mapping[Key, int]) -> None:
        self.structures = structures
        self._floats = floats
        self._arrays = {(s, structures[s].leaf_indices[k]): number for (s, k), number in arrays.items()}
        self._recipes: dict[Key, Recipe | None] = {}

    def recipe(self, number: int, child: Child) -> Recipe | None:
        """The recipe of one value; None if it holds nothing that can be differentiated."""
        number, (marker, what) = resolve(self.structures, number, child)
        if marker is NUMBER:
            position = self._floats.get((number, what))
            return None if position is None else lambda arrays, floats, built: floats.get(position)
        if marker is not REFERENCE:
            return None
        key = (number, what)
        if key in self._arrays:
            array = self._arrays[key]
            return lambda arrays, floats, built: arrays.get(array)
        if key not in self._recipes:
            self._recipes[key] = lambda arrays, floats, built: built.get(key)  # while it is made: a cycle
            node = self.structures[number].nodes.get(what)
            self._recipes[key] = None if node is None else self._recipe_of_node(key, node)
        return self._recipes[key]

    def _recipe_of_node(self, key: Key, node: Node) -> Recipe | None:
        parts = [self.recipe(key[0], child) for _, child in data_children(node)]
        if all(part is None for part in parts):
            return None
        finish = _finisher(node)

        def arranged(arrays: Mapping[int, Any], floats: Mapping[int, Any], built: dict[Key, Any]) -> Any:
            if key not in built:
                built[key] = None
                values = [part and part(arrays, floats, built) for part in parts]
                if any(value is not None for value in values):
                    built[key] = finish(values)
            return built[key]

        return arranged


def _finisher(node: Node) -> Callable[[list[Any]], Any]:
    if isinstance(node.kind, kinds.CellKind):
        return lambda values: values[0]
    if isinstance(node.kind, kinds.ListKind):
        return lambda values: values
    if isinstance(node.kind, kinds.TupleKind):
        return lambda values: node.kind.fill(None, node.header, values)
    if isinstance(node.kind, kinds.DictKind):
        return lambda values: dict(zip(node.header[1], values, strict=True))
    labels = [label(node, i) for i, _ in data_children(node)]
    return lambda values: Gradient(**dict(zip(labels, values, strict=True)))


def label(node: Node, i: int) -> str:
    """The field name of a child."""
    return node.kind.path(node.header, i).removeprefix(".")


def matching_part(other: Any, node: Node, i: int, where: str) -> Any:
    """What stands in `other` where child `i` stands in a node."""
    if other is None or isinstance(node.kind, kinds.CellKind):
        return other
    try:
        if isinstance(node.kind, kinds.ListKind | kinds.TupleKind):
            if len(other) != len(node.children):
                raise ValueError
            return other[i]
        if isinstance(node.kind, kinds.DictKind):
            return other[node.header[1][i]]
        if isinstance(other, Gradient) or isinstance(node.kind, kinds.ObjectKind):
            return getattr(other, label(node, i))
        now = node.kind.reopen(other, node.header)
        if now is None:
            raise ValueError
        child = now[i]
        return child.cell_contents if type(child).__name__ == "cell" else child
    except (TypeError, KeyError, AttributeError, ValueError, IndexError):
        raise ValueError(
            f"the trees differ at {where or 'the top'}: the first has {node.kind.path(node.header, i)} there, "
            f"the other is "
            f"{_brief(other)[:80]}; the trees given together must have the same structure"
        ) from None

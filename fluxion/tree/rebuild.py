"""Builds a value anew from its structure and other leaves, and tells what a function wrote to such a value."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fluxion.tree import kinds
from fluxion.tree.large import watched_copy
from fluxion.tree.structure import DATA, NUMBER, OUTSIDE, REFERENCE, SEGMENT, STATIC, Marker, Node, Structure

Key = tuple[int, int]
Child = tuple[Marker, Any]


class _Blank:
    """Stands in for the bases of a class while it is made."""


_SHELLED = (kinds.CellKind, kinds.FunctionKind, kinds.ListKind, kinds.DictKind, kinds.ObjectKind, kinds.SubclassKind)


class Rebuilt:
    """The values of several structures that refer to each other, built with the given leaves.

    `objects[s][i]` is the new value of index `i` of structure `s`; the first structure is the outermost.
    """

    def __init__(
        self,
        structures: Sequence[Structure],
        leaves: Sequence[Sequence[Any]],
        numbers: Sequence[Sequence[Any]],
        data: Sequence[Sequence[Any]] = (),
        replaced: Mapping[int, Any] | None = None,
    ) -> None:
        self._replaced = replaced or {}
        self.structures = structures
        self.numbers = numbers
        self.data = data
        self.objects: list[dict[int, Any]] = [
            dict(zip(structure.leaf_indices, values, strict=True))
            for structure, values in zip(structures, leaves, strict=True)
        ]
        self.watched: list[Any] = []
        self._scopes: dict[int, dict[str, Any]] = {}
        self._modules: dict[int, types.ModuleType] = {}
        self._unfilled: list[tuple[int, Node]] = []
        self._live = _live_nodes(structures, numbers)
        self._build()
        self.root = self.value(0, structures[0].root)

    def nodes(self) -> Iterator[tuple[int, Node]]:
        """Every node, with the number of its structure."""
        for number, structure in enumerate(self.structures):
            for node in structure.nodes.values():
                yield number, node

    def value(self, number: int, child: Child) -> Any:
        """What a child of a node of structure `number` is in the new value."""
        marker, what = child
        if marker is STATIC:
            return self._replaced.get(id(what), what) if self._replaced else what
        if marker is NUMBER:
            return self.numbers[number][what]
        if marker is SEGMENT:
            return self.value(what[0], what[1].root)
        if marker is OUTSIDE:
            return self._object(*what)
        return self._object(number, what[0] if marker is DATA else what)

    def is_live(self, number: int, node: Node) -> bool:
        """True where arrays, or data whose reads are noted, are reached through the node, so that it has to be built
        anew.
        """
        return (number, node.index) in self._live

    def _object(self, number: int, index: int) -> Any:
        objects = self.objects[number]
        if index not in objects:
            node = self.structures[number].nodes[index]
            if isinstance(node.kind, _SHELLED):
                objects[index] = self._shell(number, node)
                self._unfilled.append((number, node))
            else:
                objects[index] = self._make(number, node)
        return objects[index]

    def _children(self, number: int, node: Node) -> list[Any]:
        return [self.value(number, child) for child in node.children]

    def _build(self) -> None:
        """Makes every shell first, cells before the functions that close over them, then fills them: cycles close."""
        self._copy_data()
        for wanted in _SHELLED:
            for number, node in self.nodes():
                if isinstance(node.kind, wanted):
                    self._object(number, node.index)
        for number, node in self._unfilled:
            self._fill(number, node)

    def _copy_data(self) -> None:
        for number, structure in enumerate(self.structures):
            for position, index in enumerate(structure.data_indices):
                copied = watched_copy(self.data[number][position])
                self.objects[number][index] = copied
                self.watched.append(copied)

    def _shell(self, number: int, node: Node) -> Any:
        if isinstance(node.kind, kinds.FunctionKind):
            info, scope, names, cells, *_ = node.header
            closure = node.children[len(names) : len(names) + cells]
            new_cells = tuple(self.value(number, child) for child in closure)
            return types.FunctionType(info.code, self._scope(scope.value), info.code.co_name, None, new_cells or None)
        if isinstance(node.kind, kinds.ObjectKind | kinds.SubclassKind) and node.header[-1]:
            return kinds.blank(self.value(number, node.children[0]))
        return node.kind.shell(node.header)

    def _scope(self, scope: dict[str, Any]) -> dict[str, Any]:
        return self._scopes.setdefault(id(scope), dict(scope))

    def _fill(self, number: int, node: Node) -> None:
        shell = self.objects[number][node.index]
        children = self._children(number, node)
        if not isinstance(node.kind, kinds.FunctionKind):
            node.kind.fill(shell, node.header, children)
            return
        _, _, names, _, _, keywords, attributes = node.header
        values, _, defaults, keyword_values, attribute_values = node.kind.split(node.header, children)
        shell.__globals__.update((n, v) for n, v in zip(names, values, strict=True) if v is not kinds.ABSENT)
        shell.__defaults__ = tuple(defaults) or None
        shell.__kwdefaults__ = dict(zip(keywords, keyword_values, strict=True)) or None
        shell.__dict__.update(zip(attributes, attribute_values, strict=True))
        shell.__qualname__ = node.header[0].code.co_qualname

    def _make(self, number: int, node: Node) -> Any:
        if isinstance(node.kind, kinds.ClassKind):
            return self._make_class(number, node) if self.is_live(number, node) else node.header[0]
        if isinstance(node.kind, kinds.ModuleKind):
            return self._make_module(number, node)
        return node.kind.fill(None, node.header, self._children(number, node))

    def _make_class(self, number: int, node: Node) -> type:
        """A class beside the original one, whose methods read the new arrays; `isinstance` still knows it by
        `__class__`.
        """
        original, base_count, names = node.header
        children = self._children(number, node)
        skipped = {"__dict__", "__weakref__", *kinds.slot_names(original)}
        namespace = {name: value for name, value in original.__dict__.items() if name not in skipped}
        namespace.update(zip(names, children[base_count:], strict=True))
        namespace["__class__"] = property(lambda self: original)
        bases = tuple(children[:base_count])
        try:
            made = type.__new__(type(original), original.__name__, (_Blank,), namespace)
            made.__bases__ = bases  # so that no `__init_subclass__` of the user's runs again
        except TypeError:  # slots, or bases of another layout
            made = type.__new__(type(original), original.__name__, bases, namespace)
        return made

    def _make_module(self, number: int, node: Node) -> types.ModuleType:
        original = node.header[0].value
        if not self.is_live(number, node):
            return original
        module = self._modules.get(id(original))
        if module is None:
            module = self._modules[id(original)] = types.ModuleType(original.__name__)
            module.__dict__.update(original.__dict__)
        module.__dict__.update(zip(node.header[1], self._children(number, node), strict=True))
        return module


def _live_nodes(structures: Sequence[Structure], numbers: Sequence[Sequence[Any]]) -> set[Key]:
    live = {(s, index) for s, structure in enumerate(structures) for index in structure.leaf_indices}
    pending = [(s, node) for s, structure in enumerate(structures) for node in structure.nodes.values()]

    def is_live(s: int, child: Child) -> bool:
        marker, what = child
        if marker is NUMBER:
            return not isinstance(numbers[s][what], float | complex)
        if marker is SEGMENT:
            return is_live(what[0], what[1].root)
        if marker is DATA:  # read through a copy that notes what is read
            return True
        return (marker is REFERENCE and (s, what) in live) or (marker is OUTSIDE and what in live)

    changed = True
    while changed:
        found = {(s, node.index) for s, node in pending if any(is_live(s, child) for child in node.children)}
        changed = not found <= live
        live |= found
    return live


def find_paths(structures: Sequence[Structure], names: Sequence[str] = ()) -> dict[Key, str]:
    """How each object is written in source, by (structure, index); `names` are those of the outermost tuple's items."""
    paths: dict[Key, str] = {}
    pending: list[tuple[int, Child, str | None]] = [(0, structures[0].root, None)]
    while pending:
        number, (marker, what), path = pending.pop()
        if marker is SEGMENT:
            number, (marker, what) = what[0], what[1].root
        if marker is DATA:
            what = what[0]
        elif marker is not REFERENCE:
            continue
        if (number, what) in paths:
            continue
        paths[number, what] = path or ""
        node = structures[number].nodes.get(what)
        if node is not None:
            parts = [(number, child, child_path(node, i, path, names)) for i, child in enumerate(node.children)]
            pending += reversed(parts)
    return paths


def child_path(node: Node, i: int, path: str | None, names: Sequence[str] = ()) -> str:
    """The path of child `i` of a node that stands at `path`, which is None for the outermost one."""
    if path is None and i < len(names):
        return names[i]
    path = path or ""
    return (path + node.kind.path(node.header, i)).removeprefix("" if path else ".")


class Changes:
    """What a call wrote to a rebuilt value.

    `leaves` are arrays replaced everywhere they stand, by (structure, leaf); `places` arrays replaced in one place
    of several, by (structure, node, child), with the leaf that stood there; `others` everything else as (path, old,
    new).
    """

    def __init__(self, rebuilt: Rebuilt, names: Sequence[str] = ()) -> None:
        self.leaves: dict[Key, Any] = {}
        self.places: dict[tuple[int, int, int], tuple[Key, Any]] = {}
        self.others: list[tuple[str, Any, Any]] = []
        self._rebuilt, self._names = rebuilt, names
        self._paths: dict[Key, str] | None = None
        self._ordinals = [{index: k for k, index in enumerate(s.leaf_indices)} for s in rebuilt.structures]
        written: dict[Key, list[tuple[int, int, int, Any]]] = {}
        for number, node in rebuilt.nodes():
            self._compare(number, node, written)
        if written:
            self._sort_out(written)
        self.others += [("a container of plain data", x, x) for x in rebuilt.watched if x.mutated]

    def _is_fixed(self, number: int, node: Node) -> bool:
        if node.index not in self._rebuilt.objects[number] or isinstance(node.kind, kinds.ProxyKind):
            return True
        return isinstance(node.kind, kinds.ClassKind | kinds.ModuleKind) and not self._rebuilt.is_live(number, node)

    def _compare(self, number: int, node: Node, written: dict[Key, list[tuple[int, int, int, Any]]]) -> None:
        if self._is_fixed(number, node):
            return
        x = self._rebuilt.objects[number][node.index]
        now = node.kind.reopen(x, node.header)
        before = [self._rebuilt.value(number, child) for child in node.children]
        if now is None:
            self.others += _shape_changes(node, self._path(number, node), x, before)
            return
        for i, (old, new) in enumerate(zip(before, now, strict=True)):
            if new is old or _same_constant(old, new):
                continue
            leaf = self._leaf(number, node.children[i])
            if leaf is not None and _is_array(new):
                written.setdefault(leaf, []).append((number, node.index, i, new))
            else:
                self.others.append((child_path(node, i, self._path(number, node), self._names), old, new))

    def _leaf(self, number: int, child: Child) -> Key | None:
        marker, what = child
        if marker is not REFERENCE and marker is not OUTSIDE:
            return None
        target, index = (number, what) if marker is REFERENCE else what
        k = self._ordinals[target].get(index)
        return None if k is None else (target, k)

    def _sort_out(self, written: dict[Key, list[tuple[int, int, int, Any]]]) -> None:
        """An array that was replaced alike in all its places stays shared; else each place has its own."""
        counts = dict.fromkeys(written, 0)
        for number, node in self._rebuilt.nodes():
            if not self._is_fixed(number, node):
                for child in node.children:
                    leaf = self._leaf(number, child)
                    if leaf in counts:
                        counts[leaf] += 1
        for leaf, places in written.items():
            if len(places) == counts[leaf] and all(place[3] is places[0][3] for place in places):
                self.leaves[leaf] = places[0][3]
            else:
                self.places.update({(s, node, i): (leaf, value) for s, node, i, value in places})

    def _path(self, number: int, node: Node) -> str:
        if self._paths is None:
            self._paths = find_paths(self._rebuilt.structures, self._names)
        return self._paths.get((number, node.index), "")


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype")


def _same_constant(a: Any, b: Any) -> bool:
    if isinstance(a, types.MethodType) and isinstance(b, types.MethodType):
        return a.__func__ is b.__func__ and a.__self__ is b.__self__
    return type(a) is type(b) and type(a) in (int, float, str, bool, bytes, complex) and bool(a == b)


def _shape_changes(node: Node, path: str, x: Any, before: list[Any]) -> list[tuple[str, Any, Any]]:
    """Entries that a container gained or lost."""
    header, children = node.kind.open(x)
    old = {child_path(node, i, path): child for i, child in enumerate(before)}
    probe = Node(node.index, node.kind, header)
    new = {child_path(probe, i, path): child for i, child in enumerate(children)}
    gained = [(name, kinds.ABSENT, value) for name, value in new.items() if name not in old]
    lost = [(name, value, kinds.ABSENT) for name, value in old.items() if name not in new]
    return gained + lost or [(path, before, children)]

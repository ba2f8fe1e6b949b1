"""One walk over any Python value, by identity: what it holds, and a hashable structure of everything else.

The walk writes a flat list of tokens, because that is the cheapest thing to build and to hash; `Structure.nodes`
reads the tokens back into nodes for everything that happens once per compilation rather than once per call.
"""

from __future__ import annotations

import types
from typing import Any

from fluxion.tree import kinds
from fluxion.tree.classify import (
    _CONTAINERS,
    ATOM,
    ITERATOR,
    LARGE,
    RANDOM,
    SET,
    TRACER,
    WATCHED,
    _is_numeric,
    classify,
    holds_floats,
    is_plain_data,
)
from fluxion.tree.kinds import Identity, Kind, Snapshot
from fluxion.tree.large import WATCHED_COPIES, plain_copy
from fluxion.tree.structure import DATA, LEAF, NUMBER, OUTSIDE, REFERENCE, SEGMENT, STATIC, Marker, Structure
from fluxion.tree.user import code_info, is_published, is_user_class, is_user_module

FOREIGN = -1_000  # an array that may share its buffer with one that the user holds


class Segment:
    """A walked value: its structure and what it held. `objects[i]` is the value of index `i` of the structure."""

    __slots__ = (
        "data",
        "depends_on_watch",
        "iterators",
        "leaves",
        "numbers",
        "objects",
        "positions",
        "randoms",
        "self_contained",
        "structure",
        "traced",
    )

    structure: Structure

    def __init__(self) -> None:
        self.objects: list[Any] = []
        self.positions: dict[int, int] = {}
        self.leaves: list[Any] = []
        self.numbers: list[Any] = []
        self.data: list[Any] = []
        self.randoms: list[Any] = []
        self.iterators: list[Any] = []
        self.self_contained = True
        self.depends_on_watch = False
        self.traced = False

    def find(self, x: Any) -> int | None:
        """The index of an object of this segment."""
        return self.positions.get(id(x))

    def object(self, index: int) -> Any:
        """The object of an index."""
        return self.objects[index]

    def owners(self) -> list[int]:
        """How many references to each array are known, if the array came out of a program; else `FOREIGN`."""
        return [FOREIGN] * len(self.leaves)


class Walk:
    """Walks one value. `outer` are segments walked before, whose objects are referred to rather than walked again.

    `nested(x)`, where given, is asked for the segment of each outermost object, which may come from a cache.
    `watch` lets containers of plain data be guarded by what is read of them instead of by all their entries: True
    all lists and large containers, False large ones only, None (where nothing is called) none.
    """

    def __init__(self, outer: list[Any] | None = None, nested: Any = None, watch: bool | None = None) -> None:
        self.segment = Segment()
        self.tokens: list[Any] = []
        self.outer = outer if outer is not None else []
        self.nested = nested
        self.watch = watch
        self.info: Any = None
        self.reader: types.FunctionType | None = None
        self.open_modules: set[types.ModuleType] = set()
        self.inside_class = False

    def run(self, x: Any) -> Segment:
        """Walks `x` and returns its segment."""
        self.visit(x)
        self.segment.structure = Structure(tuple(self.tokens))
        return self.segment

    def visit_argument(self, x: Any) -> None:
        """Visits an argument of a call: a bare array is a leaf of its own, also where the function holds it too."""
        kind = classify(x)
        if kind is TRACER or (kind is LEAF and _is_numeric(x)):
            self._add_leaf(x, kind)
        else:
            self.visit(x)

    def visit(self, x: Any) -> None:
        cls = type(x)
        tokens = self.tokens
        if cls in WATCHED_COPIES:
            x, cls = plain_copy(x), WATCHED_COPIES[cls]
        kind = _CONTAINERS.get(cls) or classify(x)
        if kind is ATOM:
            tokens.append(cls)
            tokens.append(x)
            return
        segment = self.segment
        if kind is NUMBER:
            tokens.append(NUMBER)
            segment.numbers.append(x)
            return
        index = segment.positions.get(id(x))
        if index is not None and kind is not kinds.MODULE:
            tokens.append(REFERENCE)
            tokens.append(index)
            return
        if self.outer and self._visit_outer(x):
            return
        if isinstance(kind, Marker):
            self._visit_marker(x, cls, kind)
        elif kind is kinds.MODULE:
            self._visit_module(x)
        elif kind is kinds.OBJECT and self.nested is not None:
            self._visit_segment(x)
        else:
            self._visit_node(x, cls, kind)

    def _visit_outer(self, x: Any) -> bool:
        for number, other in enumerate(self.outer):
            index = other.find(x)
            if index is not None:
                self.tokens += (OUTSIDE, (number, index))
                self.segment.self_contained = False
                return True
        return False

    def _visit_marker(self, x: Any, cls: type, kind: Marker) -> None:
        tokens, segment = self.tokens, self.segment
        if (kind is LEAF and _is_numeric(x)) or kind is TRACER:
            segment.positions[id(x)] = len(segment.objects)
            self._add_leaf(x, kind)
        elif kind is SET:
            if self._is_data(x, cls):
                self._visit_data(x, cls)
            else:
                tokens += (STATIC, Snapshot(x))
        else:
            if kind is RANDOM:
                segment.randoms.append(x)
            elif kind is ITERATOR:
                segment.iterators.append(x)
            tokens += (STATIC, Snapshot(x) if kind is LEAF else Identity(x))

    def _add_leaf(self, x: Any, kind: Marker | Kind) -> None:
        segment = self.segment
        segment.objects.append(x)
        segment.leaves.append(x)
        segment.traced |= kind is TRACER
        self.tokens.append(LEAF)

    def _visit_node(self, x: Any, cls: type, kind: Kind) -> None:
        tokens, segment = self.tokens, self.segment
        if (kind is kinds.FUNCTION and _is_plain_function(x)) or (kind is kinds.CLASS and not is_user_class(x)):
            tokens += (STATIC, Identity(x))
            return
        if kind is kinds.CUSTOM and not (isinstance(x.fun, types.FunctionType) and not _is_plain_function(x.fun)):
            tokens += (STATIC, Identity(x))
            return
        if kind is kinds.BUILTIN_METHOD and (x.__self__ is None or isinstance(x.__self__, types.ModuleType | type)):
            tokens += (STATIC, Identity(x))
            return
        if (kind is kinds.LIST or kind is kinds.DICT or kind is kinds.TUPLE) and self._is_data(x, cls):
            self._visit_data(x, cls)
            return
        segment.positions[id(x)] = len(segment.objects)
        segment.objects.append(x)
        header, children = kind.open(x)
        tokens.append(kind)
        tokens.append(header)
        tokens.append(len(children))
        if kind is kinds.FUNCTION:
            before, self.info, self.reader = (self.info, self.reader), header[0], x
            for child in children:
                self.visit(child)
            self.info, self.reader = before
        elif kind is kinds.CLASS:  # classes are not built anew for a few strings
            was_inside, self.inside_class = self.inside_class, True
            for child in children:
                self.visit(child)
            self.inside_class = was_inside
        else:
            for child in children:
                self.visit(child)

    def _visit_module(self, x: Any) -> None:
        tokens = self.tokens
        if not is_user_module(x) or x in self.open_modules:
            tokens += (STATIC, Identity(x))
            return
        known = self.reader is not None and not _hands_on(self.reader, self.info, x)
        header, children = kinds.MODULE.open_for(x, self.info if known else None)
        if not known:
            self.open_modules.add(x)
        self.segment.objects.append(x)
        tokens += (kinds.MODULE, header, len(children))
        for child in children:
            self.visit(child)

    def _visit_segment(self, x: Any) -> None:
        segment = self.nested(x, self)
        number = len(self.outer)
        self.outer.append(segment)
        self.tokens += (SEGMENT, (number, segment.structure))
        self.segment.traced |= segment.traced

    def _is_data(self, x: Any, cls: type) -> bool:
        if not x or cls not in WATCHED:
            return False
        if len(x) >= LARGE:  # floats in an argument of a gradient are not data, but what is differentiated
            is_argument = self.watch is False and self.nested is not None
            return is_plain_data(x) and not (is_argument and holds_floats(x))
        if cls is not list or self.inside_class or not is_plain_data(x):
            return False
        self.segment.depends_on_watch = True
        return bool(self.watch)

    def _visit_data(self, x: Any, cls: type) -> None:
        segment = self.segment
        if self.watch is None:
            self.tokens += (STATIC, Snapshot(x))
            return
        segment.positions[id(x)] = len(segment.objects)
        segment.objects.append(x)
        segment.data.append(x)
        self.tokens += (DATA, cls)


def _hands_on(function: types.FunctionType, info: Any, module: types.ModuleType) -> bool:
    """True if a function does more with a module than to read its attributes."""
    held = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    scope = function.__globals__
    return any(scope.get(n) is module or (n in held and _content(held[n]) is module) for n in info.handed_on)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _is_plain_function(x: Any) -> bool:
    return not code_info(x.__code__).is_user and (not x.__closure__ or is_published(x))


def flatten(x: Any) -> tuple[list[Any], Structure]:
    """The arrays and Python floats of any value, and the structure of everything else.

    Arrays come first, in order of first visit and each once however often it is shared; then the floats. Functions
    count their closure cells, their defaults, and the globals that the user's own code names. Flux: `Functors.fleaves`,
    `Optimisers.destructure`.

    >>> leaves, structure = flatten({"w": np.ones(2), "name": "a", "scale": 0.5})
    >>> [type(leaf).__name__ for leaf in leaves]
    ['ndarray', 'float']
    >>> structure == flatten({"w": np.zeros(2), "name": "a", "scale": 0.1})[1]
    True
    """
    segment = Walk().run(x)
    return [*segment.leaves, *segment.numbers], segment.structure

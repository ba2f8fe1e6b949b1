"""Calling a function on a rebuilt copy of everything it reaches, and collecting what it wrote to arrays."""

from __future__ import annotations

import bisect
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fluxion import random as fluxion_random
from fluxion.compile.fallback import RandomState, outside_traces
from fluxion.errors import CaptureError, SizeError
from fluxion.tree import kinds
from fluxion.tree.kinds import ABSENT
from fluxion.tree.large import Reads
from fluxion.tree.plan import Plan, PlanCache, write
from fluxion.tree.rebuild import Changes, Rebuilt, find_paths
from fluxion.tree.structure import Structure
from fluxion.tree.walk import Segment, Walk


class NeedsGenerator(BaseException):
    """Raised while tracing a call that draws from the default generator, which then becomes an input."""


class CannotCompile(Exception):
    """A call whose effect on Python objects cannot be repeated by a compiled program; it runs eagerly instead."""


class _MissingGenerator(fluxion_random.Generator):
    def __init__(self) -> None:
        pass

    def next_key(self) -> Any:
        raise NeedsGenerator


_MISSING = _MissingGenerator()


class _CapturedIterator:
    """Stands for an iterator that a function holds: what it gives next differs from call to call."""

    def __iter__(self) -> _CapturedIterator:
        return self

    def __next__(self) -> Any:
        raise CannotCompile("it draws from an iterator that it did not make itself")


class _Depth(threading.local):
    traces = 0


_depth = _Depth()

_plans = PlanCache()


class Call:
    """One call, walked: arguments first, then the function, then the default generator where it is used."""

    __slots__ = ("arguments", "direct", "function", "numbers", "segments", "structure", "traced")

    def __init__(self, f: Any, args: Sequence[Any], watch: bool, generator: Any = None) -> None:
        self.function, self.arguments = f, args
        walk = Walk(nested=_plans.segment, watch=watch)
        root = walk.segment
        self.segments: list[Segment] = walk.outer
        self.segments.append(root)
        count = len(args) + (1 if generator is None else 2)
        root.objects.append(None)  # the outermost tuple
        walk.tokens += (kinds.TUPLE, (tuple, count), count)
        for argument in args:
            walk.visit_argument(argument)
        self.direct = len(root.numbers)
        walk.watch = True
        walk.visit(f)
        if generator is not None:
            walk.visit(generator)
        self.structure = root.structure = Structure(tuple(walk.tokens))
        self.traced = root.traced
        self.numbers = [n for segment in self.segments for n in segment.numbers]

    def leaves(self) -> list[Any]:
        """All arrays, in order."""
        return [leaf for segment in self.segments for leaf in segment.leaves]

    def owners(self) -> list[int]:
        """How many places hold each array: those that the walk knows, and its own notes."""
        return [count for segment in self.segments for count in segment.owners()]

    def write(self, values: dict[int, Any], context: Context) -> None:
        """Puts new arrays in place, by their number; a negative one is a single place of a shared array."""
        if not outside_traces() and not inside_trace():
            self._refuse_leaks(values, context)
        single = [k for k in values if k < 0]
        for k in single:
            (number, index, i), _ = context.places[-k - 1]
            node = context.structures[number].nodes[index]
            place = node.kind.place(self.segments[number].object(index), node.header, i)
            assert place is not None
            place[0](place[1], values[k])
        if single:
            values = {k: value for k, value in values.items() if k >= 0}
        bounds = list(itertools.accumulate(len(segment.leaves) for segment in self.segments))
        inside: list[dict[int, Any]] = [{} for _ in self.segments]
        number, start, end = 0, 0, bounds[0]
        for k, value in values.items():
            if not start <= k < end:
                number = bisect.bisect_right(bounds, k)
                start, end = bounds[number] - len(self.segments[number].leaves), bounds[number]
            inside[number][k - start] = value
        for segment, part in zip(self.segments, inside, strict=True):
            if part:
                segment.write(part) if isinstance(segment, Plan) else write(segment, part)

    def _refuse_leaks(self, values: dict[int, Any], context: Context) -> None:
        leaves = self.leaves()
        for k, value in values.items():
            leaf = context.written_leaf(k)
            if isinstance(value, jax.core.Tracer) and not isinstance(leaves[leaf], jax.core.Tracer):
                path = list(context.paths().values())[leaf]
                raise CaptureError(
                    f"{path} is written inside a transformation of JAX (jit, vmap, scan, grad), which cannot carry the "
                    f"new value out; use fx.compile or fx.gradient around it, or fx.testmode for the statistics of "
                    f"normalisation layers"
                )


class Context:
    """What stays the same between the calls of one structure, and how such a call is made on other arrays."""

    def __init__(self, call: Call, names: Sequence[str], apply: Callable[..., Any], has_generator: bool) -> None:
        self.names = names
        self.apply = apply
        self.has_generator = has_generator
        self.structures = [segment.structure for segment in call.segments]
        self.leaf_counts = [len(segment.leaves) for segment in call.segments]
        self.number_counts = [len(segment.numbers) for segment in call.segments]
        self.data = [segment.data for segment in call.segments]
        self.inexact = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in call.leaves()]
        self.randoms = [generator for segment in call.segments for generator in segment.randoms]
        iterators = [iterator for segment in call.segments for iterator in segment.iterators]
        self.stand_ins = {id(iterator): _CapturedIterator() for iterator in iterators}
        self.reads: list[Reads] = []
        self.places: list[tuple[tuple[int, int, int], int]] = []
        self.rebuilt: Rebuilt | None = None
        self.memory: dict[str, Any] = {}

    def argument(self, i: int) -> Any:
        """Argument `i` as a child of the outermost structure."""
        root = self.structures[0].nodes[self.structures[0].root[1]]
        return root.children[i]

    def written_leaf(self, number: int) -> int:
        """The leaf that a write replaces."""
        return number if number >= 0 else self.places[-number - 1][1]

    def leaf_number(self, key: tuple[int, int]) -> int:
        """The number of leaf `(structure, k)` among all leaves."""
        return sum(self.leaf_counts[: key[0]]) + key[1]

    def number_number(self, key: tuple[int, int]) -> int:
        """The number of float `(structure, k)` among all floats."""
        return sum(self.number_counts[: key[0]]) + key[1]

    def paths(self) -> dict[tuple[int, int], str]:
        """The path of each leaf, by `(structure, k)`."""
        found = find_paths(self.structures, self.names)
        return {
            (s, k): found.get((s, index), "")
            for s, structure in enumerate(self.structures)
            for k, index in enumerate(structure.leaf_indices)
        }

    def rebuild(self, leaves: Sequence[Any], numbers: Sequence[Any], strict: bool) -> Rebuilt:
        """The call's values with other arrays and floats."""
        return Rebuilt(
            self.structures,
            _split(leaves, self.leaf_counts),
            _split(numbers, self.number_counts),
            self.data,
            self.stand_ins if strict else None,
        )

    def invoke(self, leaves: Sequence[Any], numbers: Sequence[Any], strict: bool = True) -> tuple[Any, dict[int, Any]]:
        """Calls the function on the given arrays; returns its result and the arrays it wrote, by number.

        `strict` refuses what only a compiled program could not repeat: changed Python state, random numbers of
        Python or NumPy.
        """
        rebuilt = self.rebuilt = self.rebuild(leaves, numbers, strict)
        *args, f = rebuilt.root[: len(rebuilt.root) - self.has_generator]
        state = RandomState(self.randoms) if strict else None
        _depth.traces += 1
        try:
            generator = rebuilt.root[-1] if self.has_generator else _MISSING if strict else fluxion_random.generator()
            with fluxion_random.default_generator(generator):
                out = self.apply(f, args)
        except SizeError as error:
            self._locate(error, rebuilt)
            raise
        finally:
            _depth.traces -= 1
            if state is not None and state.changed():
                state.restore()
                raise CannotCompile("it draws from the random state of Python or NumPy")
        reads = [copied.reads for copied in rebuilt.watched]
        for before, now in zip(self.reads, reads, strict=False):  # of another trace, for other shapes
            now.answers = before.answers | now.answers
        self.reads = reads  # at once: other threads ask whether the program fits their calls
        return out, self._captured(rebuilt, leaves, strict)

    def _locate(self, error: SizeError, rebuilt: Rebuilt) -> None:
        """Names the layer that refused an array by its path from the arguments of the call."""
        for s, objects in enumerate(rebuilt.objects):
            for index, value in objects.items():
                if value is error.layer:
                    error.path = find_paths(self.structures, self.names).get((s, index), error.path) or error.path

    def _captured(self, rebuilt: Rebuilt, leaves: Sequence[Any], strict: bool) -> dict[int, Any]:
        changes = Changes(rebuilt, self.names)
        for path, _, new in changes.others:
            if _holds_tracer(new):
                raise CaptureError(
                    f"{path} was set to a traced value ({brief(new)}) while the function ran compiled or in a "
                    f"gradient; only arrays "
                    f"that exist before the call, as an attribute, an item or a closure variable, can be replaced. "
                    f"Return the value instead, or make {path} an array of the same shape before the call"
                )
        if changes.others and strict:
            path, old, new = changes.others[0]
            raise CannotCompile(f"it changes {path} from {brief(old)} to {brief(new)}, which is no array")
        writes = {self.leaf_number(key): value for key, value in changes.leaves.items()}
        for place, (key, value) in changes.places.items():
            self._check_write(key, leaves[self.leaf_number(key)], value)
            self.places.append((place, self.leaf_number(key)))
            writes[-len(self.places)] = value
        for key, value in changes.leaves.items():
            self._check_write(key, leaves[self.leaf_number(key)], value)
        return writes

    def _check_write(self, key: tuple[int, int], old: Any, new: Any) -> None:
        if tuple(old.shape) != tuple(new.shape) or _dtype(old) != _dtype(new):
            raise CaptureError(
                f"{self.paths()[key]} changed from {brief(old)} to {brief(new)} during the call; an array "
                f"that a function "
                f"replaces keeps its shape and dtype"
            )


def _dtype(x: Any) -> Any:
    return jax.dtypes.canonicalize_dtype(x.dtype, allow_extended_dtype=True)


def inside_trace() -> bool:
    """True while Fluxion calls a function on a rebuilt copy."""
    return _depth.traces > 0


def _split(values: Sequence[Any], counts: Sequence[int]) -> list[Sequence[Any]]:
    parts, start = [], 0
    for count in counts:
        parts.append(values[start : start + count])
        start += count
    return parts


def _holds_tracer(x: Any) -> bool:
    if x is ABSENT:
        return False
    return any(isinstance(leaf, jax.core.Tracer) for leaf in Walk().run(x).leaves)


def brief(x: Any) -> str:
    """A value in a message: dtype and shape of an array, else its text, shortened."""
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"{x.dtype}{list(x.shape)}"
    text = repr(x)
    return text if len(text) <= 60 else text[:57] + "..."


def commit(context: Context, call: Call) -> None:
    """Repeats on the caller's own objects the changes to Python state that an eager call made on the rebuilt ones."""
    rebuilt = context.rebuilt
    assert rebuilt is not None
    originals = {}
    for s, segment in enumerate(call.segments):
        for index, value in rebuilt.objects[s].items():
            original = segment.object(index)
            originals[id(value)] = value if original is None else original
    for s, node in list(rebuilt.nodes()):
        mine = call.segments[s].object(node.index)
        theirs = rebuilt.objects[s].get(node.index)
        if (
            isinstance(node.kind, kinds.ClassKind | kinds.ModuleKind)
            or mine is None
            or mine is theirs
            or theirs is None
        ):
            continue
        if node.kind.reopen(theirs, node.header) is not None:
            _copy_constants(node, mine, theirs)
        else:
            _copy_entries(node, mine, theirs, originals)


def _copy_constants(node: Any, mine: Any, theirs: Any) -> None:
    _, now = node.kind.open(theirs)
    for i, (value, before) in enumerate(zip(now, node.kind.open(mine)[1], strict=False)):
        plain = int | float | str | bool | bytes | complex | None
        if isinstance(value, plain) and (type(value) is not type(before) or value != before):
            place = node.kind.place(mine, node.header, i)
            if place is not None:
                place[0](place[1], value)


def _copy_entries(node: Any, mine: Any, theirs: Any, originals: dict[int, Any]) -> None:
    if isinstance(node.kind, kinds.ListKind):
        items = [originals.get(id(x), x) for x in theirs]
        mine.clear()
        mine.extend(items)
    elif isinstance(node.kind, kinds.DictKind | kinds.ObjectKind):
        source = theirs if isinstance(node.kind, kinds.DictKind) else theirs.__dict__
        target = mine if isinstance(node.kind, kinds.DictKind) else mine.__dict__
        entries = {key: originals.get(id(x), x) for key, x in source.items()}
        target.clear()
        target.update(entries)

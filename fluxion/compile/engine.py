"""Call once to trace, many times to run: which program a call belongs to, and what happens when there is none yet.

A call is walked (`Call`); its structure picks a `Family`; the family's Python floats and the plain data that was
read pick a `Program`.
Arrays are inputs, so new arrays of the same shapes run the same program; `jax.jit` underneath tells shapes apart.
"""

from __future__ import annotations

import array
import collections
import threading
import time
from collections.abc import Sequence
from typing import Any

import jax

from fluxion import random as fluxion_random
from fluxion.compile.fallback import (
    cannot_trace,
    eager_conversions,
    find_random_line,
    is_eager,
    notify,
    outside_traces,
    user_line,
)
from fluxion.compile.landing import run_and_land
from fluxion.compile.report import Report, differences, report_of
from fluxion.compile.trace import Call, CannotCompile, Context, NeedsGenerator, brief
from fluxion.debug import is_debugging, raising
from fluxion.kernels.modes import current_mode
from fluxion.mode import inside_gradient
from fluxion.tree.rebuild import child_path, find_paths
from fluxion.tree.structure import NUMBER
from fluxion.tree.user import is_user_file


class Task:
    """What is done with a function: run it, differentiate it, train with it. `key` tells tasks with different
    programs apart.
    """

    key: tuple[Any, ...] = ()
    watch_arguments = True
    names: Sequence[str] = ()

    @staticmethod
    def apply(f: Any, args: list[Any]) -> Any:
        """Calls the function on rebuilt arguments."""
        return f(*args)

    def inputs(self, context: Context) -> tuple[set[int], set[int]]:
        """Numbers of the leaves whose buffers the program may take over, and of the floats that have to be inputs."""
        return set(), set()

    def body(
        self, context: Context, leaves: list[Any], numbers: list[Any], extra: Any, constants: Any, strict: bool
    ) -> Any:
        """The computation on arrays; what it returns is a pytree."""
        raise NotImplementedError

    def extra(self) -> Any:
        """Further arrays that the program takes over."""
        return ()

    def constants(self) -> Any:
        """Further inputs that stay the caller's."""
        return ()

    def protect(self, program: Program, call: Call, donated: list[Any]) -> list[Any]:
        """The arrays that the program takes over: copies of those that the user holds too."""
        return donated

    def land(self, program: Program, call: Call, outputs: Any) -> Any:
        """Writes what the program returned into the caller's objects; returns the result."""
        raise NotImplementedError

    def eager(self, call: Call) -> Any:
        """The same without compilation."""
        raise NotImplementedError


class _Running(threading.local):
    """The task and the plain data of the call that this thread makes: a program itself holds nothing of the user's."""

    task: Task | None = None
    data: list[Any] = []  # noqa: RUF012 (replaced, never changed)


_running = _Running()


class Program(Context):
    """One traced function of one structure."""

    def __init__(self, task: Task, call: Call, has_generator: bool) -> None:
        super().__init__(call, task.names, task.apply, has_generator)
        self.donated, _ = task.inputs(self)
        self.dynamic: list[int] = []
        self.static_numbers = list(call.numbers)
        self.traces = 0
        self.shapes: list[str] = []
        self.shape_changes: list[str] = []
        self.donated_order = sorted(self.donated)
        self.kept_order = [i for i in range(sum(self.leaf_counts)) if i not in self.donated]
        self.tracing = threading.RLock()
        self.jitted = raising(jax.jit(self._trace)) if is_debugging() else jax.jit(self._trace, donate_argnums=(0, 3))

    def _trace(self, donated: list[Any], kept: list[Any], numbers: list[Any], extra: Any, constants: Any) -> Any:
        leaves: list[Any] = [None] * (len(donated) + len(kept))
        for order, values in ((self.donated_order, donated), (self.kept_order, kept)):
            for i, value in zip(order, values, strict=True):
                leaves[i] = value
        floats = list(self.static_numbers)
        for i, value in zip(self.dynamic, numbers, strict=True):
            floats[i] = value
        task = _running.task
        assert task is not None
        with self.tracing:
            self._compare_shapes(leaves)
            self.data = _running.data
            try:
                outputs = task.body(self, leaves, floats, extra, constants, strict=True)
            except StopIteration as error:  # would end the `map` that runs the program
                raise _Stopped(error) from error
            finally:
                self.data, self.rebuilt = [], None
            self.traces += 1
        return outputs

    def _compare_shapes(self, leaves: list[Any]) -> None:
        shapes = [brief(leaf) for leaf in leaves]
        if self.shapes:
            paths = list(self.paths().values())
            changed = [i for i, (a, b) in enumerate(zip(self.shapes, shapes, strict=True)) if a != b]
            self.shape_changes = [f"{paths[i]} changed from {self.shapes[i]} to {shapes[i]}" for i in changed[:3]]
        self.shapes = shapes

    def reads_hold(self, call: Call) -> bool:
        """True if the plain data that was read while tracing still answers the same."""
        if not self.reads:
            return True
        data = [x for segment in call.segments for x in segment.data]
        return all(reads.hold(x) for reads, x in zip(self.reads, data, strict=True))

    def run(self, task: Task, call: Call) -> Any:
        """Runs the program and lands its outputs."""
        leaves = call.leaves()
        numbers = [call.numbers[i] for i in self.dynamic]
        if self.donated:
            donated = [leaves[i] for i in self.donated_order]
            kept = [leaves[i] for i in self.kept_order]
            del leaves
            donated = task.protect(self, call, donated)
        else:
            donated, kept = [], leaves
        inputs = (donated, kept, numbers, task.extra(), task.constants())
        del donated, kept
        _running.task, _running.data = task, [segment.data for segment in call.segments]
        try:
            return run_and_land(self.jitted, inputs, lambda outputs: task.land(self, call, outputs))
        finally:
            _running.task, _running.data = None, []


class _Stopped(Exception):
    """Carries a StopIteration of the user's function."""


class Family:
    """The programs of one structure: they differ in their constant floats and in the plain data they read."""

    def __init__(self) -> None:
        self.programs: dict[Any, list[Program]] = {}
        self.dynamic: set[int] = set()
        self.must_be_constant: set[int] = set()
        self.has_generator = False
        self.numbers: list[Any] | None = None
        self.eager: str | None = None
        self.start: set[int] | None = None

    def find(self, call: Call) -> Program | None:
        """The program for a call, if it is there."""
        for program in self.programs.get(self.constants(call), ()):
            if program.reads_hold(call):
                return program
        return None

    def constants(self, call: Call) -> Any:
        """The floats that are constants of the program, as something to hash."""
        numbers = call.numbers
        if not numbers:
            return b""
        values = [n for i, n in enumerate(numbers) if i not in self.dynamic] if self.dynamic else numbers
        try:
            return array.array("d", values).tobytes()
        except TypeError:  # complex numbers
            return tuple(map(repr, values))

    def widen(self, call: Call) -> list[int]:
        """Makes floats that changed since the last compilation inputs; returns which."""
        if self.numbers is None:
            return []
        changed = [
            i
            for i, (a, b) in enumerate(zip(self.numbers, call.numbers, strict=True))
            if a != b and i not in self.dynamic
        ]
        self.dynamic.update(i for i in changed if i not in self.must_be_constant)
        return changed


_families: collections.OrderedDict[Any, Family] = collections.OrderedDict()
_latest: dict[Any, tuple[Any, Any]] = {}
MAX_FAMILIES = 1024


def run(task: Task, f: Any, args: Sequence[Any], generator: Any = None) -> Any:
    """Does a task, compiled where possible."""
    call = Call(f, args, task.watch_arguments, generator)
    if is_eager():
        return _eagerly(task, call)
    if call.traced or not outside_traces():
        return _guarded(task, call)
    key = (task.key, inside_gradient(), is_debugging(), current_mode(), call.structure)
    family = _families.get(key)
    if family is None:
        family = _families[key] = Family()
        if len(_families) > MAX_FAMILIES:
            _families.popitem(last=False)
    else:
        _families.move_to_end(key)
    if family.eager is not None:
        return _eagerly(task, call)
    if family.has_generator and generator is None:
        return run(task, f, args, fluxion_random.generator())
    return _run_in(family, task, call, generator)


def _run_in(family: Family, task: Task, call: Call, generator: Any) -> Any:
    """Runs the program of a family that fits a call; makes it first where there is none."""
    program = family.find(call)
    changes: list[str] = []
    by_value = False
    if program is None:
        numbers = family.widen(call)
        program = family.find(call)
        if program is None:
            changes, by_value = _what_changed(task, call, numbers)
            program = _new_program(family, task, call, generator is not None)
    traces, started = program.traces, time.perf_counter()
    try:
        result = program.run(task, call)
    except BaseException as error:
        return _recover(task, call, family, error, generator)
    if program.traces != traces:
        if traces == 0:
            family.programs.setdefault(family.constants(call), []).append(program)
            family.numbers = list(call.numbers)
            _latest[_group(task, call)] = ([segment.structure for segment in call.segments], family.numbers)
        report_of(call.function).add(time.perf_counter() - started, changes or program.shape_changes, by_value)
    return result


def _new_program(family: Family, task: Task, call: Call, has_generator: bool) -> Program:
    program = Program(task, call, has_generator)
    if family.start is None:
        _, family.start = task.inputs(program)
        family.start |= set(range(call.direct)) if task.watch_arguments else set()
        family.dynamic |= family.start
    program.dynamic = sorted(family.dynamic)
    return program


def _group(task: Task, call: Call) -> Any:
    return task.key[:1], id(report_of(call.function))


def _what_changed(task: Task, call: Call, numbers: list[int]) -> tuple[list[str], bool]:
    latest = _latest.get(_group(task, call))
    if latest is None:
        return [], False
    structures = [segment.structure for segment in call.segments]
    found, by_value = differences(latest[0], structures, task.names)
    if not found and numbers:
        paths = _number_paths(structures, task.names)
        found = [f"{paths[i]} changed from {latest[1][i]!r} to {call.numbers[i]!r}" for i in numbers]
        by_value = True
    return found or ["plain data that it reads, or a mode, changed"], by_value


def _number_paths(structures: list[Any], names: Sequence[str]) -> list[str]:
    paths = find_paths(structures, names)
    found: dict[tuple[int, int], str] = {}
    for s, structure in enumerate(structures):
        for node in structure.nodes.values():
            for i, (marker, what) in enumerate(node.children):
                if marker is NUMBER:
                    found[s, what] = child_path(node, i, paths.get((s, node.index), ""), names)
    return [
        found.get((s, k), "a float") for s, structure in enumerate(structures) for k in range(structure.number_count)
    ]


def _recover(task: Task, call: Call, family: Family, error: BaseException, generator: Any) -> Any:
    """Another way to run a call whose tracing failed: with the generator as input, with constant floats, or eagerly."""
    if isinstance(error, _Stopped):
        raise tidy(error.args[0])
    if isinstance(error, NeedsGenerator):
        family.has_generator = True
        return run(task, call.function, call.arguments, fluxion_random.generator())
    widened = family.dynamic - (family.start or set())
    if isinstance(error, Exception) and widened:
        family.must_be_constant |= widened
        family.dynamic -= widened
        return _run_in(family, task, call, generator)
    report = report_of(call.function)
    if isinstance(error, CannotCompile):
        family.eager = str(error)
        return _eagerly_at_random_line(task, call, report, str(error))
    if cannot_trace(error):
        where = user_line(error.__traceback__)
        family.eager = f"line {where[1]} needs the value of an array ({type(error).__name__})"
        report.eager = family.eager
        reason = "it needs the value of an array"
        if call.direct or any(segment.numbers for segment in call.segments):
            reason += " or of a float that is an input (name the parameters of a class in __trainable__)"
        notify(reason, report.name, where)
        return _eagerly(task, call)
    raise tidy(error)


def _eagerly_at_random_line(task: Task, call: Call, report: Report, reason: str) -> Any:
    found: list[tuple[str, int]] = []
    report.eager = reason
    if "random" in reason:
        generators = [generator for segment in call.segments for generator in segment.randoms]
        with find_random_line(generators, found):
            result = _eagerly(task, call)
    else:
        result = _eagerly(task, call)
    notify(reason, report.name, found[0] if found else _definition(call.function))
    return result


def _definition(f: Any) -> tuple[str, int]:
    function = f if hasattr(f, "__code__") else getattr(f, "__func__", type(f).__dict__.get("__call__"))
    code = getattr(function, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code is not None else ("<unknown>", 0)


def _eagerly(task: Task, call: Call) -> Any:
    with eager_conversions():
        return _guarded(task, call)


def _guarded(task: Task, call: Call) -> Any:
    try:
        return task.eager(call)
    except Exception as error:
        raise tidy(error) from error.__cause__


_NOTE = "For simplicity, JAX has removed its internal frames"
_HERE = __file__.rsplit("/", 2)[0]


def tidy(error: BaseException) -> BaseException:
    """The same exception, its traceback without the machinery between the user's call and the user's line."""
    notes = getattr(error, "__notes__", None)
    if notes:
        error.__notes__ = [note for note in notes if _NOTE not in note]
    frames = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.append(traceback)
        traceback = traceback.tb_next
    kept = [frame for frame in frames if _is_of_interest(frame.tb_frame.f_code.co_filename)]
    if kept:
        for frame, following in zip(kept, [*kept[1:], None], strict=True):
            frame.tb_next = following
        return error.with_traceback(kept[0])
    return error


def _is_of_interest(filename: str) -> bool:
    machinery = ("/compile/", "/tree/", "gradient.py", "train.py", "random.py", "mode.py")
    if filename.startswith(_HERE):
        return not any(part in filename for part in machinery)
    return is_user_file(filename) or not any(name in filename for name in ("/jax/", "/jaxlib/", "contextlib"))

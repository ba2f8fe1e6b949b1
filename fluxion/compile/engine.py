"""Call once to trace, many times to run: which program a call belongs to, and what happens when there is none yet.

A call is walked (`Call`); its structure picks a `Family`; the family's Python floats and the plain data that was
read pick a `Program`.
Arrays are inputs, so new arrays of the same shapes run the same program; `jax.jit` underneath tells shapes apart.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

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
from fluxion.compile.family import Family, family_of
from fluxion.compile.program import Program, Stopped, Task
from fluxion.compile.report import Report, differences, report_of
from fluxion.compile.trace import Call, CannotCompile, NeedsGenerator
from fluxion.debug import is_debugging
from fluxion.kernels.modes import current_mode
from fluxion.mode import inside_gradient
from fluxion.tree.rebuild import child_path, find_paths
from fluxion.tree.structure import NUMBER
from fluxion.tree.user import is_user_file

_latest: dict[Any, tuple[Any, Any]] = {}


def run(task: Task, f: Any, args: Sequence[Any], generator: Any = None) -> Any:
    """Does a task, compiled where possible."""
    call = Call(f, args, task.watch_arguments, generator)
    if is_eager():
        return _eagerly(task, call)
    if call.traced or not outside_traces():
        return _guarded(task, call)
    key = (task.key, inside_gradient(), is_debugging(), current_mode(), call.structure)
    family = family_of(key)
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
        return _recover(task, call, family, program, error, generator)
    if program.traces != traces:
        if traces == 0:
            family.add(program, call)
            _latest[_group(task, call)] = ([segment.structure for segment in call.segments], call.numbers)
        report_of(call.function).add(time.perf_counter() - started, changes or program.shape_changes, by_value)
    return result


def _new_program(family: Family, task: Task, call: Call, has_generator: bool) -> Program:
    program = Program(task, call, has_generator)
    direct = set(range(call.direct)) if task.watch_arguments else set()
    program.dynamic = family.started(program.float_inputs | direct)
    program.dynamic_order = sorted(program.dynamic)
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


def _recover(task: Task, call: Call, family: Family, program: Program, error: BaseException, generator: Any) -> Any:
    """Another way to run a call whose tracing failed: with the generator as input, with constant floats, or eagerly."""
    if isinstance(error, Stopped):
        raise tidy(error.args[0])
    if isinstance(error, NeedsGenerator):
        family.has_generator = True
        return run(task, call.function, call.arguments, fluxion_random.generator())
    if isinstance(error, Exception) and family.narrow(program):
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

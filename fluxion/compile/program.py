"""One traced function of one structure, and what is done with it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import jax

from fluxion.compile.landing import run_and_land
from fluxion.compile.trace import Call, Context, brief
from fluxion.debug import is_debugging, raising


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
        self.donated, self.float_inputs = task.inputs(self)
        self.dynamic: frozenset[int] = frozenset()
        self.dynamic_order: list[int] = []
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
        for i, value in zip(self.dynamic_order, numbers, strict=True):
            floats[i] = value
        task = _running.task
        assert task is not None
        with self.tracing:
            self._compare_shapes(leaves)
            self.data = _running.data
            try:
                outputs = task.body(self, leaves, floats, extra, constants, strict=True)
            except StopIteration as error:  # would end the `map` that runs the program
                raise Stopped(error) from error
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
        numbers = [call.numbers[i] for i in self.dynamic_order]
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


class Stopped(Exception):
    """Carries a StopIteration of the user's function."""

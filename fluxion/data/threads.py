"""Results in order from several threads."""

from __future__ import annotations

import atexit
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax

GRACE = 0.5  # seconds to end in: Ctrl-C during a step ends the loop over batches as `break` does, and has to be quick
LAST_GRACE = 2.0
SLICE = 0.2  # seconds to wait at a time: Python does not notice a Ctrl-C that comes just before a wait without an end

_started: weakref.WeakSet[OrderedThreads] = weakref.WeakSet()
_starting = threading.Lock()


class OrderedThreads:
    """`function` of each of `items`, in their order, computed by `workers` threads once it is iterated.

    At most `ahead` results wait or are being computed. An error of `function`, or of the iterator of items, is raised
    at its place in the order. After `close` the threads end as soon as they have finished the item they are at.
    What the thread that makes this has set of JAX by `with` holds in the threads too.
    """

    def __init__(self, function: Callable[[Any], Any], items: Iterable[Any], workers: int, ahead: int) -> None:
        self.function, self.items, self.ahead = function, iter(items), ahead
        self.changed = threading.Condition()  # guards what follows
        self.results: dict[int, tuple[Any, BaseException | None]] = {}
        self.taken = self.given = 0
        self.ended = self.closed = False
        self.taking = threading.Lock()  # the thread that takes the next item holds it, for taking may last
        self.wide, self.device = jax.config.jax_enable_x64, jax.config.jax_default_device  # type: ignore[attr-defined]
        self.threads = [threading.Thread(target=self._work, name="fluxion-data", daemon=True) for _ in range(workers)]

    def __iter__(self) -> Iterator[Any]:
        with _starting:
            _started.add(self)
        for thread in self.threads:
            thread.start()
        for number in itertools.count():
            with self.changed:
                while number not in self.results:
                    if self.closed or (self.ended and number == self.taken):
                        return
                    self.changed.wait(SLICE)
                result, error = self.results.pop(number)
                self.given += 1
                self.changed.notify_all()
            if error is not None:
                try:
                    raise error
                finally:
                    del error  # whose traceback holds this frame, and the frame all that is read
            yield result

    def close(self) -> None:
        """Lets the threads end."""
        with self.changed:
            self.closed = True
            self.results.clear()
            self.changed.notify_all()

    def join(self, deadline: float) -> None:
        """Waits until they have ended, or until `time.monotonic()` is `deadline`, for one may hang."""
        for thread in self.threads:
            # an abandoned iteration is closed where Python happens to collect garbage, which may be one of the threads
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        with jax.enable_x64(self.wide), jax.default_device(self.device):
            self._compute()

    def _compute(self) -> None:
        while (task := self._take()) is not None:
            number, item = task
            try:
                self._put(number, self.function(item), None)
            except BaseException as error:
                self._put(number, None, error)

    def _take(self) -> tuple[int, Any] | None:
        """The next item and its number, None when there is none."""
        with self.taking:
            with self.changed:
                self.changed.wait_for(lambda: self.closed or self.ended or self.taken < self.given + self.ahead)
                if self.closed or self.ended:
                    return None
            try:
                item = next(self.items)
            except StopIteration:
                self._end()
                return None
            except BaseException as error:
                self._put(self.taken, None, error)
                self.taken += 1
                self._end()
                return None
            self.taken += 1
            return self.taken - 1, item

    def _put(self, number: int, result: Any, error: BaseException | None) -> None:
        with self.changed:
            self.results[number] = result, error
            self.changed.notify_all()

    def _end(self) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()


@atexit.register
def _end_all() -> None:
    """Python stops the threads that outlive it wherever they are, which aborts the process if that is in XLA."""
    with _starting:
        stages = list(_started)
    end(stages, LAST_GRACE)


def end(stages: Iterable[OrderedThreads], seconds: float) -> None:
    """Lets the threads of `stages` end, and waits until they have, or so many seconds: one may hang."""
    for stage in stages:
        stage.close()
    deadline = time.monotonic() + seconds
    for stage in stages:
        stage.join(deadline)

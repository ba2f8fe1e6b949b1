"""When to call, and when to stop: functions that wrap a function and remember earlier calls (Flux's helpers)."""

from __future__ import annotations

import math
import operator
import threading
import time
from collections.abc import Callable
from typing import Any

from fluxion.optimise.checks import number, real, whole


class _Throttled:
    """A function that is called at most once in `timeout` seconds."""

    def __init__(self, f: Callable[..., Any], timeout: float, leading: bool, trailing: bool) -> None:
        self.f, self.timeout, self.leading, self.trailing = f, timeout, leading, trailing
        self.ready_at = -math.inf
        self.result: Any = None
        self.later: Callable[[], Any] | None = None
        self.lock = threading.RLock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.lock:
            now = time.monotonic()
            if self.later is None and now >= self.ready_at:
                self.ready_at = now + self.timeout
                if self.leading:
                    self.result = self.f(*args, **kwargs)
                else:
                    self._postpone(lambda: self.f(*args, **kwargs))
            elif self.trailing:
                self._postpone(lambda: self.f(*args, **kwargs))
            return self.result

    def _postpone(self, call: Callable[[], Any]) -> None:
        first, self.later = self.later is None, call
        if first:
            timer = threading.Timer(max(self.ready_at - time.monotonic(), 0), self._call_later)
            timer.daemon = True
            timer.start()

    def _call_later(self) -> None:
        with self.lock:
            call, self.later = self.later, None
            self.ready_at = time.monotonic() + self.timeout
            if call is not None:
                self.result = call()


def throttle(
    f: Callable[..., Any], timeout: float, *, leading: bool = True, trailing: bool = False
) -> Callable[..., Any]:
    """A function that calls `f`, but at most once in `timeout` seconds; in between it returns the latest result. Flux:
    `throttle`.

    `leading` calls `f` at once at the first of many calls. `trailing` calls it again when the time is over, with the
    arguments of the last call, in a thread of its own. Without `leading` the first call, too, waits until then.

    >>> import fluxion as fx
    >>> report = fx.throttle(print, timeout=60)
    >>> for step in range(1000):
    ...     report("step", step)
    step 0
    """
    _check_function(f, "throttle")
    return _Throttled(f, number(timeout, "timeout"), bool(leading), bool(trailing))


def patience(predicate: Callable[..., Any], wait: int) -> Callable[..., bool]:
    """A function that is true once `predicate` was true in `wait` calls in a row. Flux: `patience`.

    >>> import fluxion as fx
    >>> losses = iter([3.0, 1.0, 3.0, 3.0])
    >>> stuck = fx.patience(lambda: next(losses) > 2, 2)
    >>> [stuck() for _ in range(4)]
    [False, False, False, True]
    """
    _check_function(predicate, "patience")
    wait, count = whole(wait, "wait"), 0

    def waited(*args: Any, **kwargs: Any) -> bool:
        nonlocal count
        count = count + 1 if predicate(*args, **kwargs) else 0
        return count >= wait

    return waited


def early_stopping(
    f: Callable[..., Any],
    delay: int,
    *,
    distance: Callable[[Any, Any], Any] = operator.sub,
    init_score: float = math.inf,
    min_dist: float = 0.0,
) -> Callable[..., bool]:
    """A function that calls `f` for a score, and is true once the best score improved by less than `min_dist` in
    `delay` calls in a row. Flux: `early_stopping`.

    `distance(best, score)` is the improvement. For a score that shall grow, such as an accuracy, give
    `distance=lambda best, score: score - best, init_score=-math.inf`.

    >>> import fluxion as fx
    >>> losses = iter([3.0, 2.0, 2.5, 2.1])
    >>> stop = fx.early_stopping(lambda: next(losses), 2)
    >>> [stop() for _ in range(4)]
    [False, False, False, True]
    """
    _check_function(f, "early_stopping")
    best, least = init_score, real(min_dist, "min_dist")

    def improved_too_little(*args: Any, **kwargs: Any) -> bool:
        nonlocal best
        score = f(*args, **kwargs)
        improvement = distance(best, score)
        if improvement >= 0:
            best = score
        return not improvement >= least

    return patience(improved_too_little, whole(delay, "delay"))


def plateau(
    f: Callable[..., Any],
    width: int,
    *,
    distance: Callable[[Any, Any], Any] = operator.sub,
    init_score: float = math.inf,
    min_dist: float = 1e-6,
) -> Callable[..., bool]:
    """A function that calls `f` for a score, and is true once the score changed by less than `min_dist` in `width`
    calls in a row. Flux: `plateau`.

    >>> import fluxion as fx
    >>> losses = iter([3.0, 2.0, 2.0, 2.0])
    >>> flat = fx.plateau(lambda: next(losses), 2)
    >>> [flat() for _ in range(4)]
    [False, False, False, True]
    """
    _check_function(f, "plateau")
    last, least = init_score, number(min_dist, "min_dist")

    def changed_too_little(*args: Any, **kwargs: Any) -> bool:
        nonlocal last
        score = f(*args, **kwargs)
        change, last = abs(distance(last, score)), score
        return bool(change < least)

    return patience(changed_too_little, whole(width, "width"))


def _check_function(f: Any, name: str) -> None:
    if not callable(f):
        raise TypeError(f"{name} takes a function, got {f!r}")

"""The other libraries, each used only where it is installed, all with the same number of threads."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_told: set[str] = set()


def peer(name: str) -> Any:
    """The module, or None with one line that says so."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        skip(name, "not installed")
        return None
    if name == "torch":
        module.set_num_threads(THREADS)
    return module


def skip(name: str, reason: str) -> None:
    """Says once that a peer is left out, and why."""
    if name not in _told:
        _told.add(name)
        print(f"skipped: {name} ({reason})", file=sys.stderr)


def attempt(name: str, build: Callable[[], Any], seconds: int = 150) -> Any:
    """What `build` returns, or None if it raises or takes too long (a missing compiler, for example)."""
    try:
        with _limit(seconds):
            return build()
    except Exception as error:
        first = str(error).strip().splitlines() or [""]
        skip(name, f"{type(error).__name__}: {first[0][:100]}")
        return None


@contextlib.contextmanager
def _limit(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

"""Training and testing mode: inside a gradient layers train, outside they test."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class _Depth(threading.local):
    gradients = 0


_depth = _Depth()


def inside_gradient() -> bool:
    """True while Fluxion differentiates the calling code (Flux: `within_gradient`).

    >>> inside_gradient()
    False
    """
    return _depth.gradients > 0


@contextlib.contextmanager
def gradient_mode(active: bool = True) -> Iterator[None]:
    """Makes `inside_gradient()` true (or false) for the code of the `with` block."""
    before = _depth.gradients
    _depth.gradients = before + 1 if active else 0
    try:
        yield
    finally:
        _depth.gradients = before


def is_training(active: bool | None) -> bool:
    """What a layer's `active` field means now: True trains, False tests, None follows the gradient."""
    if active is None:
        return inside_gradient()
    if not isinstance(active, bool):
        raise TypeError(f"active is True, False or None, got {active!r}")
    return active

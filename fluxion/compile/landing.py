"""Running a program that takes over its inputs, so that its outputs are never lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def run_and_land(program: Callable[..., Any], inputs: tuple[Any, ...], land: Callable[[Any], Any]) -> Any:
    """`land(program(*inputs))`, also when Ctrl-C arrives in between: by then the old buffers may be gone.

    The call and the storing of its result happen inside one call of `list.extend`, where Python handles no signals.
    `land` may run twice, so it has to give the same again.
    """
    landed: list[Any] = []
    result: list[Any] = []
    try:
        landed.extend(map(program, *((x,) for x in inputs)))
    finally:
        if landed:
            try:
                result.append(land(landed[0]))
            except KeyboardInterrupt:
                land(landed[0])
                raise
    return result[0]

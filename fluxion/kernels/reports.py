"""What was chosen where, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """One choice: for which problem, which kernel, how it was found, and what the cost model expected of all."""

    problem: str
    chosen: str
    reason: str
    expected: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        expected = ", ".join(f"{name} {1e3 * seconds:.3g}" for name, seconds in self.expected)
        return f"{self.problem}\n    {self.chosen} ({self.reason}; expected ms: {expected})"


class Report(tuple[Decision, ...]):
    """Decisions in the order in which they were made; prints as a text."""

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "no kernel has been chosen yet"

    __repr__ = __str__


_decisions: dict[str, Decision] = {}


def note(decision: Decision) -> None:
    """Keeps a decision for the report."""
    _decisions[decision.problem] = decision


def report() -> Report:
    """Which kernel was chosen for each problem so far in this process, why, and what was expected of the others.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> _ = fx.Conv((3, 3), 16, 16, pad=1)(jnp.ones((2, 8, 8, 16)))
    >>> print(fx.kernels.report()[-1])  # doctest: +SKIP
    forward float32: x 2x8x8x16, w 3x3x16x16, y 2x8x8x16, stride (1, 1), pads ((1, 1), (1, 1)), ...
        direct (cost model; expected ms: direct 0.021, winograd 2x2 0.034)
    """
    return Report(_decisions.values())

"""Tables of results, as text or as Markdown, and targets with a note whether they were reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.timing import Contender


@dataclass
class Target:
    """A number with a bound: `limit` is the most it may be, or with `at_least` the least.

    `value` is from medians, `best` from the best rounds; both must keep to the bound.
    """

    what: str
    value: float
    limit: float
    unit: str = "x"
    at_least: bool = False
    best: float | None = None

    @property
    def reached(self) -> bool:
        """True if the number keeps within its bound."""
        values = [self.value] if self.best is None else [self.value, self.best]
        return min(values) >= self.limit if self.at_least else max(values) <= self.limit

    def cells(self) -> list[str]:
        """The columns of the summary."""
        sign = ">=" if self.at_least else "<="
        verdict = "yes" if self.reached else "NO"
        best = "" if self.best is None else f"{self.best:.3g} {self.unit}"
        return [self.what, f"{sign} {self.limit:.4g} {self.unit}", f"{self.value:.3g} {self.unit}", best, verdict]


def ratio(one: Contender, other: Contender, limit: float, at_least: bool = False) -> Target:
    """How many times slower `one` is than `other`, as a target."""
    what = f"{one.name} / {other.name}"
    return Target(what, one.over(other), limit, at_least=at_least, best=one.least_over(other))


@dataclass
class Table:
    """The result of one benchmark."""

    title: str
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def show(self, markdown: bool) -> str:
        """The table as text."""
        parts = [f"### {self.title}" if markdown else self.title, "", grid(self.header, self.rows, markdown)]
        if self.targets:
            parts += ["", grid(SUMMARY, [target.cells() for target in self.targets], markdown)]
        parts += [line for note in self.notes for line in ("", note)]
        return "\n".join(parts) + "\n"


SUMMARY = ["target", "must be", "median", "best rounds", "reached"]


def of_contenders(
    title: str, contenders: Sequence[Contender], reference: Contender, unit: str = "ms", notes: Sequence[str] = ()
) -> Table:
    """One row per contender: median, least and 99th percentile, and how many times slower than the reference."""
    scale = {"ms": 1e3, "us": 1e6}[unit]
    header = ["", f"median {unit}", f"least {unit}", f"p99 {unit}", "x slower (median)", "x slower (least)"]
    rows = [
        [
            c.name,
            *(f"{scale * value:.3g}" for value in (c.median, c.least, c.p99)),
            f"{c.over(reference):.2f}",
            f"{c.least_over(reference):.2f}",
        ]
        for c in contenders
    ]
    return Table(title, header, rows, notes=list(notes))


def grid(header: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool) -> str:
    """Aligned columns: the first to the left, the others to the right."""
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    lines = [_line(row, widths, markdown) for row in table]
    rule = ["-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    lines.insert(1, _line(rule, widths, markdown) if markdown else "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int], markdown: bool) -> str:
    padded = [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))]
    return "| " + " | ".join(padded) + " |" if markdown else "  ".join(padded).rstrip()

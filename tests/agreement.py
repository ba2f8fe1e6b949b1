"""Prints how closely layers, losses and functions agree with PyTorch: `python tests/agreement.py [--update PAGE]`.

Each case of the catalog is computed in float32, on its first sample and on some drawn by Hypothesis, and compared with
PyTorch in float64. A deviation is relative to the largest entry.
"""

from __future__ import annotations

import argparse
import pathlib

import cases
from checks import deviation
from harness import CATALOG, Case, First, Sample

SAMPLES = 8
MARK = "<!-- figures -->\n"


def row(case: Case) -> tuple[str, str, float, float] | None:
    """Name, what it is compared with, and the worst deviations of values and gradients."""
    worst = [0.0, 0.0]
    against = set()

    def measure(sample: Sample) -> None:
        if sample.reference is None and sample.expected is None:
            return
        against.add("a formula" if sample.reference is None else "PyTorch")
        found = deviation(sample, "float32")
        worst[:] = [max(pair) for pair in zip(worst, found, strict=True)]

    measure(case.draw(First()))
    case.for_samples(measure, SAMPLES)
    return (str(case), ", ".join(sorted(against)), *worst) if against else None


def tables() -> str:
    """One table for each area of the catalog."""
    cases.load()
    parts = []
    for area, entries in sorted(CATALOG.items()):
        rows = [found for entry in entries if (found := row(entry))]
        lines = [f"## {area.capitalize()}", "", "| case | against | values | gradients |", "|---|---|---:|---:|"]
        lines += [
            f"| {name} | {against} | {forward:.1e} | {f'{gradient:.1e}' if against == 'PyTorch' else ''} |"
            for name, against, forward, gradient in rows
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", type=pathlib.Path, metavar="PAGE", help="put the tables into a Markdown page")
    page = parser.parse_args().update
    text = tables()
    print(text)
    if page:
        page.write_text(page.read_text().split(MARK)[0] + MARK + "\n" + text)


if __name__ == "__main__":
    main()

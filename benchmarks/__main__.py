"""Runs the benchmarks named on the command line, or all, and prints their tables."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import pathlib
import platform
import sys

from benchmarks.peers import THREADS
from benchmarks.table import SUMMARY, Table, grid

NAMES = (
    *("steps50", "levels", "mlp", "catalog", "convnets", "accuracy", "tiny", "scalar", "imports", "cold", "nodes"),
    *("loader", "folder", "augmentation", "tables", "feeding"),
)
HELP = f"of {', '.join(NAMES)}; none: all; convnets:vgg16,unet runs some tasks of convnets"
START, END = "<!-- figures -->\n", "<!-- end of figures -->\n"


def machine() -> str:
    """Processor, cores, load and versions in one paragraph."""
    model = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    versions = [f"Python {platform.python_version()}"]
    for name in ("jax", "optax", "equinox", "flax", "torch", "tensorflow", "polars", "pandas", "scikit-learn"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    load = f"load average at the start {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{model}, {THREADS} cores for each library, {load}. " + ", ".join(versions) + "."


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=HELP)
    parser.add_argument("--markdown", action="store_true", help="tables as Markdown")
    parser.add_argument(
        "--update", type=pathlib.Path, metavar="PAGE", help="put the tables into a Markdown page as well"
    )
    options = parser.parse_args()
    requests = [name.partition(":")[::2] for name in options.names or NAMES]
    if unknown := {name for name, _ in requests} - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    about = machine()
    print(about, flush=True)
    tables = []
    for name, parts in requests:
        print(f"running {name}", file=sys.stderr, flush=True)
        tables.append(importlib.import_module(f"benchmarks.{name}").run(*parts.split(",") if parts else ()))
        print("\n" + tables[-1].show(options.markdown), flush=True)
    print("\n" + summary(tables, options.markdown))
    if options.update:
        update(options.update, [about + "\n", summary(tables, True), *(table.show(True) for table in tables)])


def summary(tables: list[Table], markdown: bool) -> str:
    """All targets in one table."""
    cells = [target.cells() for table in tables for target in table.targets]
    return ("### " if markdown else "") + "All targets\n\n" + grid(SUMMARY, cells, markdown) + "\n"


def update(page: pathlib.Path, parts: list[str]) -> None:
    """Replaces what stands between the two marks of a page."""
    before, rest = page.read_text().split(START)
    _, after = rest.split(END)
    page.write_text(before + START + "\n" + "\n".join(parts) + END + after)


if __name__ == "__main__":
    main()

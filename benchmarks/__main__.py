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
from benchmarks.table import SUMMARY, grid

NAMES = ("steps50", "levels", "mlp", "tiny", "scalar", "imports", "cold", "nodes")


def machine() -> str:
    """Processor, cores, load and versions in one paragraph."""
    model = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    versions = [f"Python {platform.python_version()}"]
    for name in ("jax", "optax", "equinox", "flax", "torch", "tensorflow"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    load = f"load average at the start {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{model}, {THREADS} cores for each library, {load}. " + ", ".join(versions) + "."


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}; none: all")
    parser.add_argument("--markdown", action="store_true", help="tables as Markdown")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    print(machine(), flush=True)
    targets = []
    for name in options.names or NAMES:
        print(f"running {name}", file=sys.stderr, flush=True)
        table = importlib.import_module(f"benchmarks.{name}").run()
        targets += table.targets
        print("\n" + table.show(options.markdown), flush=True)
    if targets:
        title = "All targets"
        print("\n" + (f"### {title}" if options.markdown else title) + "\n")
        print(grid(SUMMARY, [target.cells() for target in targets], options.markdown))


if __name__ == "__main__":
    main()

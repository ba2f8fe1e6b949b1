"""Where the time of a step goes: `python -m benchmarks.profile mobilenet` lists kernels and XLA's operations by time.

XLA's profiler knows its operations by number only; which kernel a call runs, and on which shapes, stands in the program
that XLA writes into a folder.
"""

from __future__ import annotations

import argparse
import collections
import os
import pathlib
import re
import tempfile

DUMP = tempfile.mkdtemp()
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={DUMP} --xla_dump_hlo_as_text"

import jax  # noqa: E402 - reads the flags

from benchmarks.convnets import OURS, build  # noqa: E402
from benchmarks.nets.tasks import TASKS  # noqa: E402

CALL = re.compile(r'%?([\w.\-]+) = (\(?[^=]*?) custom-call\(.*?custom_call_target="fluxion_(\w+?)_[0-9a-f]{24}"')
FUSION = re.compile(r"%?([\w.\-]+) = ([^ ]+) fusion\(")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--rows", type=int, default=30, help="how many single operations to list")
    options = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)  # a program from the cache is not written
    step = build(options.task, OURS)
    for _ in range(3):
        step()
    with jax.profiler.trace(folder := tempfile.mkdtemp()):
        step()
    report(milliseconds(folder), described(), options.rows)


def described() -> dict[str, tuple[str, str]]:
    """For each operation of the largest program: the kernel that it runs, or "XLA", and the shapes of its results."""
    texts = sorted(pathlib.Path(DUMP).glob("*after_optimizations.txt"), key=lambda path: path.stat().st_size)
    text = texts[-1].read_text()
    found = {match[1]: ("XLA", match[2]) for match in FUSION.finditer(text)}
    return found | {match[1]: (match[3], re.sub(r"\{[\d,]*\}", "", match[2])) for match in CALL.finditer(text)}


def milliseconds(folder: str) -> collections.Counter[str]:
    """What each operation took, all its runs together."""
    (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
    spent: collections.Counter[str] = collections.Counter()
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                if {"hlo_op", "hlo_module"} & {name for name, _ in event.stats or ()}:
                    spent[event.name] += event.duration_ns / 1e6
    return spent


def report(spent: collections.Counter[str], operations: dict[str, tuple[str, str]], rows: int) -> None:
    """Prints sums for each kernel, then the single operations that take longest."""
    totals: collections.Counter[str] = collections.Counter()
    for name, time in spent.items():
        totals[operations.get(name, ("XLA", ""))[0]] += time
    for kernel, time in totals.most_common():
        print(f"{time:9.2f} ms  {kernel}")
    print()
    for name, time in spent.most_common(rows):
        kernel, shapes = operations.get(name, ("XLA", ""))
        print(f"{time:9.2f} ms  {name}: {kernel} {shapes}")


if __name__ == "__main__":
    main()

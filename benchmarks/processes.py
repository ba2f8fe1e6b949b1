"""Runs pieces of Python in fresh processes and times them from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run_fresh(code: str, *arguments: str, **environment: str) -> tuple[float, str]:
    """Seconds from the start of a new interpreter to its end, and what it printed."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=variables, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(done.stderr)
    return seconds, done.stdout

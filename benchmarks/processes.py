"""Runs pieces of Python in fresh processes and times them from outside.

Byte code is kept in a temporary folder, as an installed package has it: measure after a first process that wrote it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
_bytecode = tempfile.TemporaryDirectory()


def run_fresh(code: str, *arguments: str, **environment: str) -> tuple[float, str]:
    """Seconds from the start of a new interpreter to its end, and what it printed."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": _bytecode.name, **environment}
    for name in ("PYTHONDONTWRITEBYTECODE", "JAX_COMPILATION_CACHE_DIR"):
        variables.pop(name, None)
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=variables, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(done.stderr)
    return seconds, done.stdout

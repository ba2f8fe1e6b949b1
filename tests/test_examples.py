"""Every example runs as a user runs it, and keeps its promise; VGG16 is for timing and is not run here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["gradients", "closure", "levels", "schedules", "digits", "shapes"])
def test_example(name, tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    if name in ("digits", "shapes"):
        assert (tmp_path / "demo-output" / f"{name}.png").stat().st_size > 10_000
        assert str(tmp_path / "demo-output") in run.stdout

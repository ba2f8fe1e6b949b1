"""What `import fluxion` brings along."""

import contextlib
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import fluxion as fx

ROOT = Path(__file__).parent.parent
CORE = {"fluxion", "jax", "jaxlib", "numpy", "optax", "safetensors", "tqdm"}
SCRIPT = """
import json, sys
import jax, numpy, optax, safetensors, tqdm
before = set(sys.modules)
import fluxion
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)))
"""


def test_import_loads_the_core_only():
    run = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    loaded = set(json.loads(run.stdout))
    assert loaded <= CORE, f"not of the core: {sorted(loaded - CORE)}"


def test_version():
    assert fx.__version__ == "0.1.0"
    assert f'version = "{fx.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## {fx.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    with contextlib.suppress(metadata.PackageNotFoundError):  # on the path only, not installed
        assert metadata.version("fluxion-ml") == fx.__version__


def test_everything_public_is_there():
    assert [name for name in fx.__all__ if not hasattr(fx, name)] == []
    assert "annotations" not in fx.__all__

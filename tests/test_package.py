"""What `import fluxion` brings along."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import fluxion as fx

ROOT = Path(__file__).parent.parent
CORE = {
    "absl",
    "chex",
    "fluxion",
    "jax",
    "jaxlib",
    "jaxtyping",
    "ml_dtypes",
    "numpy",
    "opt_einsum",
    "optax",
    "safetensors",
    "scipy",
    "toolz",
    "tqdm",
    "typing_extensions",
    "wadler_lindig",
}
SCRIPT = """
import json, sys
before = set(sys.modules)
import fluxion
new = {name.partition(".")[0] for name in set(sys.modules) - before}
named = {name for name in new if getattr(sys.modules.get(name), "__file__", None)}
print(json.dumps(sorted(named - sys.stdlib_module_names)))
"""


def test_import_loads_the_core_only():
    run = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    loaded = {name for name in json.loads(run.stdout) if not name.startswith("_")}
    assert loaded <= CORE, f"not of the core: {sorted(loaded - CORE)}"


def test_version():
    assert fx.__version__ == "0.1.0"
    assert f'version = "{fx.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## {fx.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    try:
        assert metadata.version("fluxion-ml") == fx.__version__
    except metadata.PackageNotFoundError:  # not installed, only on the path
        pass


def test_everything_public_is_there():
    assert [name for name in fx.__all__ if not hasattr(fx, name)] == []
    assert "annotations" not in fx.__all__

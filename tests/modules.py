"""Modules of a user's own, written to real files, for tests of what functions read from around them."""

from __future__ import annotations

import importlib
import itertools
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

_numbers = itertools.count()
HEADER = "import jax\nimport jax.numpy as jnp\nimport numpy as np\nimport fluxion as fx\n"


@pytest.fixture
def module(tmp_path, monkeypatch) -> Iterator[Callable[..., ModuleType]]:
    """`module(source, name=None)` imports the source from a file of a folder on `sys.path`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []

    def make(source: str, name: str | None = None) -> ModuleType:
        name = name or f"user_module_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(HEADER + textwrap.dedent(source))
        importlib.invalidate_caches()
        made.append(name)
        return importlib.import_module(name)

    yield make
    for name in made:
        sys.modules.pop(name, None)

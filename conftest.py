"""Settings of every test: CPU unless told otherwise, a fixed seed, and the Python blocks of README.md and docs/."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

import fluxion as fx

collect_ignore = ["tests/programs"]  # run by tests, in processes of their own


def _seed_blocks(namespace: dict[str, Any]) -> None:
    namespace["__name__"] = "__main__"  # as in a script, where classes belong to a module of the user's
    fx.seed(0)


def pytest_make_parametrize_id(val: Any, argname: str) -> str | None:
    """Files as parameters hold dates, which must not be part of a test's name: both workers collect the same ones."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    fx.seed(0)


@pytest.fixture(autouse=True)
def _names_in_doctests(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace.update(fx=fx, jnp=jnp, np=np)


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["README.md", "docs/*.md"],
    setup=_seed_blocks,
).pytest()

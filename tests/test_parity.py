"""The table of Flux's names: every name in it exists, is documented, and is tested."""

import ast
import functools
import inspect
import pathlib
import sys
import tomllib

import cases
import pytest
from harness import CATALOG

import fluxion as fx

DOCS = pathlib.Path(__file__).parents[1] / "docs"
PARITY = tomllib.loads((DOCS / "parity.toml").read_text())
ROWS = [(section, *row) for section in PARITY["section"] for row in section["rows"]]
NAMES = sorted({name for _, _, _, ours, _ in ROWS for name in ours.split()})
IN_CATALOG = sorted({name for section, _, _, ours, _ in ROWS if section["catalog"] for name in ours.split()})


def resolve(name):
    return functools.reduce(getattr, name.split("."), fx)


def test_every_row_of_the_checklist_is_there():
    last = {"L": 48, "N": 68, "S": 20, "I": 12, "O": 44, "C": 18, "G": 23, "T": 44, "D": 54, "V": 76}
    rows = [row for _, row, _, _, _ in ROWS]
    assert len(rows) == len(set(rows))
    for letter, end in last.items():
        assert f"{letter}{end}" in rows
    for letter in "LNSIC":
        assert {f"{letter}{number}" for number in range(1, last[letter] + 1)} <= set(rows)


@pytest.mark.parametrize("name", NAMES)
def test_name_is_public_and_documented(name):
    value, (owner, _, last) = resolve(name), name.rpartition(".")
    assert last in (resolve(owner) if owner else fx).__all__
    assert ">>>" in inspect.getdoc(value), f"the docstring of {name} has no example"


def test_rows_without_a_name_say_why():
    for _, row, _, ours, note in ROWS:
        assert ours or note, row


@functools.cache
def covered():
    cases.load()
    return {name for entries in CATALOG.values() for case in entries for name in case.names}


@pytest.mark.parametrize("name", IN_CATALOG)
def test_name_is_in_the_catalog(name):
    assert name in covered() or name in used_in_tests()


@functools.cache
def used_in_tests():
    """Every name that a test uses as an attribute of something, as `fx.name`, or imports."""
    used: set[str] = set()
    for path in pathlib.Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.ImportFrom):
                used |= {alias.name for alias in node.names}
    return used


@pytest.mark.parametrize("name", NAMES)
def test_name_is_tested(name):
    assert name in covered() or name.rsplit(".", 1)[-1] in used_in_tests()


def test_generated_pages_are_up_to_date():
    sys.path.insert(0, str(DOCS))
    try:
        import generate
    finally:
        sys.path.remove(str(DOCS))
    for path, text in generate.pages().items():
        assert path.read_text() == text, f"{path.name} is out of date: run python docs/generate.py"

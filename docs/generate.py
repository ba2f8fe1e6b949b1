"""Writes the generated pages of the documentation: `python docs/generate.py`.

`docs/reference/` gets a page for each part of the library, made of the docstrings of its public names; `docs/parity.md`
the table of Flux's names in `docs/parity.toml`.
"""

from __future__ import annotations

import inspect
import pathlib
import re
import tomllib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import fluxion as fx
from fluxion.layers.base import typed

DOCS = pathlib.Path(__file__).parent
NOTE = "<!-- written by docs/generate.py -->\n"
PAGES = {
    "layers": ("Layers", "fluxion.layers"),
    "functions": ("Functions on arrays", "fluxion.ops"),
    "losses": ("Losses", "fluxion.losses"),
    "initialisers": ("Initialisers", "fluxion.init"),
    "random": ("Random numbers", "fluxion.random"),
    "optimisers": ("Optimisers", "fluxion.optimise"),
    "schedules": ("Schedules", "fluxion.optimise.schedules"),
    "training": ("Training", "fluxion.train fluxion.stopping"),
    "gradients": ("Gradients", "fluxion.gradient fluxion.derivatives fluxion.mode"),
    "data": ("Data", "fluxion.data"),
    "files": ("Files and tables", "fluxion.data.folders fluxion.data.tables"),
    "datasets": ("Data sets that Fluxion knows", "fluxion.data.named fluxion.data.formats"),
    "transforms": ("Transforms of images", "fluxion.data.transforms fluxion.data.show"),
    "onehot": ("One-hot arrays", "fluxion.onehot"),
    "models": ("Models as trees, sizes, printing", "fluxion.tree fluxion.outputsize fluxion.show"),
    "saving": ("Saving and loading", "fluxion.state fluxion.save"),
    "devices": ("Devices and precision", "fluxion.device"),
    "compile": ("Compilation", "fluxion.compile fluxion.debug"),
    "kernels": ("CPU kernels", "fluxion.kernels"),
    "errors": ("Errors and warnings", "fluxion.errors"),
}


def public_names() -> dict[str, Any]:
    """Every public name as a user writes it after `fx.`, with what it names."""
    found: dict[str, Any] = {}
    _add_names(found, fx, "")
    return found


def _add_names(found: dict[str, Any], module: ModuleType, prefix: str) -> None:
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, ModuleType):
            _add_names(found, value, f"{prefix}{name}.")
        elif not prefix or getattr(fx, name, None) is not value:
            found[prefix + name] = value


def page_of(name: str, value: Any) -> str:
    """The page that a public name is on: the one whose module's name is the longest start of its module's."""
    module = inspect.unwrap(value).__module__
    fits = [
        (len(start), page) for page, (_, starts) in PAGES.items() for start in starts.split() if _within(module, start)
    ]
    if not fits:
        raise ValueError(f"fluxion.{name} is in {module}, for which docs/generate.py has no page")
    return max(fits)[1]


def _within(module: str, start: str) -> bool:
    return module == start or module.startswith(f"{start}.")


def entry(name: str, value: Any) -> str:
    """A public name with its signature and its docstring, as Markdown."""
    *owner, last = name.split(".")
    own = ".".join([*owner, value.__name__])
    if value.__name__ != last:
        return f"### `{name}`\n\nAnother name of `{own}`.\n"
    return f"### `{name}`\n\n```text\n{name}{signature(value)}\n```\n\n{markdown(inspect.getdoc(value) or '')}\n"


def signature(value: Any) -> str:
    """The arguments of a function or class with their defaults, as they are typed."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except ValueError:
        return "(...)"
    plain = [parameter.replace(annotation=parameter.empty) for parameter in parameters]
    shown = [p if p.default is p.empty else p.replace(default=_Typed(p.default)) for p in plain]
    return str(inspect.Signature(shown))


class _Typed:
    """A default that prints as it is typed: a function by its name."""

    def __init__(self, default: Any) -> None:
        self.default = default

    def __repr__(self) -> str:
        return typed(self.default)


def markdown(text: str) -> str:
    """A docstring as Markdown: examples in fences, aligned lists of arguments as bullet points."""
    blocks = [_block(block) for block in re.split(r"\n\s*\n", text.strip())]
    return re.sub(r"\n```\n\n```pycon\n", "\n", "\n\n".join(blocks))


def _block(block: str) -> str:
    if block.startswith(">>>"):
        return f"```pycon\n{block}\n```"
    points = re.findall(r"^(\S+(?:, \S+)*)  +(.*(?:\n  +.*)*)", block, re.M)
    if points and block.startswith(points[0][0]):
        return "\n".join(f"- `{name}`: {' '.join(text.split())}" for name, text in points)
    return block


def reference() -> dict[pathlib.Path, str]:
    """The pages of the reference by path."""
    entries: dict[str, list[str]] = {page: [] for page in PAGES}
    for name, value in sorted(public_names().items(), key=lambda pair: pair[0].lower()):
        entries[page_of(name, value)].append(entry(name, value))
    pages = {}
    for page, texts in entries.items():
        title = PAGES[page][0]
        pages[DOCS / "reference" / f"{page}.md"] = f"# {title}\n\n{NOTE}\n" + "\n".join(texts)
    contents = [f"- [{PAGES[page][0]}]({page}.md): {_summary(texts)}" for page, texts in entries.items()]
    pages[DOCS / "reference" / "index.md"] = f"# Reference\n\n{NOTE}\n" + "\n".join(contents) + "\n"
    return pages


def _summary(texts: Iterable[str]) -> str:
    return ", ".join(text.split("\n", 1)[0].removeprefix("### ") for text in texts)


def parity() -> dict[pathlib.Path, str]:
    """The table of Flux's names and ours."""
    data = tomllib.loads((DOCS / "parity.toml").read_text())
    lines = ["# Flux, name by name", "", NOTE, data["introduction"].strip(), ""]
    for section in data["section"]:
        lines += [f"## {section['title']}", "", "| row | Flux | Fluxion | |", "|---|---|---|---|"]
        for row, flux, ours, note in section["rows"]:
            names = ", ".join(f"`{name}`" for name in ours.split())
            lines.append(f"| {row} | {flux.replace('|', chr(92) + '|')} | {names or '—'} | {note} |")
        lines.append("")
    return {DOCS / "parity.md": "\n".join(lines)}


def pages() -> dict[pathlib.Path, str]:
    """Every generated page by path."""
    return reference() | parity()


def main() -> None:
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()

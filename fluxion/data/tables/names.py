"""Names of columns, as errors speak of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from fluxion.data.checks import listed


def check_names(where: str, names: Iterable[str], known: Iterable[str]) -> None:
    """ValueError unless all `names`, given as `where`, are columns of a table with the columns `known`."""
    known = list(known)
    for name in names:
        if name not in known:
            raise ValueError(f"{where} names the column {name!r}, which the table does not have; {_hint(name, known)}")


def _hint(name: str, known: list[str]) -> str:
    if len(known) == 1:
        return f"it has {known[0]!r} alone; if that is several names, say by separator= what stands between them"
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"it has {listed(known)}"

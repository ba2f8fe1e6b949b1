"""Any Python value as a tree of arrays: take it apart, build it anew, write arrays back (Functors.jl).

`walk` looks at a value once and by identity, `kinds` says how each kind of value opens and is built, `rebuild` makes
new values, `plan` remembers walks of objects that do not change, `functions` offers it all to users.
"""

from fluxion.tree.functions import (
    assign,
    children,
    destructure,
    fmap,
    freeze,
    leaves,
    objects,
    params_count,
    rebuild,
    thaw,
    trainables,
)
from fluxion.tree.structure import Structure
from fluxion.tree.walk import flatten

__all__ = [
    "Structure",
    "assign",
    "children",
    "destructure",
    "flatten",
    "fmap",
    "freeze",
    "leaves",
    "objects",
    "params_count",
    "rebuild",
    "thaw",
    "trainables",
]

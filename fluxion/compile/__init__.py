"""Plain Python functions as compiled XLA programs, without a decorator and never stale.

`engine` picks the `program` of a call from its `family`, `trace` calls functions on rebuilt values and captures their
writes, `fallback` runs what cannot be compiled, `report` tells what was compiled and why, `outputs` carries any result
through a program.
"""

from fluxion.compile.api import compile
from fluxion.compile.fallback import eager
from fluxion.compile.report import explain

__all__ = ["compile", "eager", "explain"]

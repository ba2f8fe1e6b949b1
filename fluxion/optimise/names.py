"""Which argument is meant by a name that there is not: what PyTorch and Optax call it, or what is nearest to it."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any

OTHER_NAMES = {
    "lr": ("learning_rate", "start"),
    "eta": ("learning_rate",),
    "step_size": ("step_sizes", "learning_rate"),
    "betas": ("beta",),
    "momentum": ("rho", "beta"),
    "alpha": ("rho",),
    "eps": ("epsilon",),
    "weight_decay": ("decay",),
    "lambd": ("decay",),
    "gamma": ("decay",),
    "centered": ("centred",),
    "etas": ("factors",),
    "max_norm": ("limit",),
    "clip_value": ("limit",),
    "norm_type": ("p",),
    "T_max": ("period",),
    "T_0": ("period",),
    "base_lr": ("low",),
    "eta_min": ("low",),
    "max_lr": ("high", "peak"),
    "power": ("degree",),
    "total_iters": ("max_iter", "steps"),
    "total_steps": ("steps",),
    "pct_start": ("percent_start",),
}
OTHER_WAYS = {
    "weight_decay": "put WeightDecay before the rule in an OptimiserChain",
    "momentum": "use Momentum",
    "nesterov": "use Nesterov",
    "amsgrad": "use AMSGrad",
    "milestones": "write step_sizes, the lengths from one to the next",
}


def names_checked(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that tells an argument of another name which of its own is meant."""

    @functools.wraps(init)
    def checked(self: Any, *positional: Any, **named: Any) -> None:
        check_names(type(self).__name__, init, named)
        init(self, *positional, **named)

    return checked


def check_names(called: str, make: Callable[..., Any], named: Collection[str]) -> None:
    """`TypeError` for a keyword argument that there is not."""
    parameters = inspect.signature(make).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in named:
        if name not in parameters:
            known = [known for known in parameters if known != "self"]
            raise TypeError(f"{called} has no argument {name!r}{hint(name, known)}; it takes {', '.join(known)}")


def hint(name: str, known: Collection[str]) -> str:
    """What to write for a name that is not known, where one can tell."""
    meant = [other for other in OTHER_NAMES.get(name, ()) if other in known]
    meant = meant or difflib.get_close_matches(name, known, n=1)
    return f", write {meant[0]}" if meant else f", {OTHER_WAYS[name]}" if name in OTHER_WAYS else ""

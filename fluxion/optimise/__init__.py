"""Optimisers: rules (`rules.py`), their state (`state.py`) and the update of a model (`update.py`). Optimisers.jl
over Optax.
"""

from fluxion.optimise.rules import (
    Adam,
    AdamW,
    ClipGrad,
    ClipNorm,
    Descent,
    Momentum,
    Nesterov,
    OptimiserChain,
    RMSProp,
    Rule,
    WeightDecay,
)
from fluxion.optimise.state import OptState, adjust, setup
from fluxion.optimise.update import update

__all__ = [
    "Adam",
    "AdamW",
    "ClipGrad",
    "ClipNorm",
    "Descent",
    "Momentum",
    "Nesterov",
    "OptState",
    "OptimiserChain",
    "RMSProp",
    "Rule",
    "WeightDecay",
    "adjust",
    "setup",
    "update",
]

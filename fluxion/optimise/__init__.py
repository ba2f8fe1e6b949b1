"""Optimisers.jl and ParameterSchedulers.jl over Optax: rules, their schedules (`schedules/`), their state (`state.py`)
and the update of a model (`update.py`).
"""

from fluxion.optimise import schedules
from fluxion.optimise.adaptive import AdaBelief, Adam, AdaMax, AdamW, Adan, AMSGrad, NAdam, OAdam, RAdam, Yogi
from fluxion.optimise.averages import EMA, ScheduleFree, averaged_model
from fluxion.optimise.compose import AccumGrad, MixedPrecision, OptimiserChain, Scheduler
from fluxion.optimise.large_batch import Adafactor, DAdaptAdam, Lamb, Lars, Muon, NovoGrad, Prodigy
from fluxion.optimise.regularise import ClipGlobalNorm, ClipGrad, ClipNorm, SignDecay, WeightDecay
from fluxion.optimise.rule import Rule
from fluxion.optimise.rules import AdaDelta, AdaGrad, Descent, Lion, Momentum, Nesterov, RMSProp, Rprop
from fluxion.optimise.state import OptState, adjust, setup
from fluxion.optimise.update import update

__all__ = [
    "EMA",
    "AMSGrad",
    "AccumGrad",
    "AdaBelief",
    "AdaDelta",
    "AdaGrad",
    "AdaMax",
    "Adafactor",
    "Adam",
    "AdamW",
    "Adan",
    "ClipGlobalNorm",
    "ClipGrad",
    "ClipNorm",
    "DAdaptAdam",
    "Descent",
    "Lamb",
    "Lars",
    "Lion",
    "MixedPrecision",
    "Momentum",
    "Muon",
    "NAdam",
    "Nesterov",
    "NovoGrad",
    "OAdam",
    "OptState",
    "OptimiserChain",
    "Prodigy",
    "RAdam",
    "RMSProp",
    "Rprop",
    "Rule",
    "ScheduleFree",
    "Scheduler",
    "SignDecay",
    "WeightDecay",
    "Yogi",
    "adjust",
    "averaged_model",
    "schedules",
    "setup",
    "update",
]

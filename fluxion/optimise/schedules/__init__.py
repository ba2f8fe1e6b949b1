"""Schedules: what a learning rate, or any hyperparameter, is at each step, counted from 0 (ParameterSchedulers.jl).

Every schedule is a callable. It runs inside the compiled step on traced counts, gives plain floats for plain
integers, and takes an array of steps, for a plot. Past its end it keeps its last value.
"""

from fluxion.optimise.schedules.base import Constant, Schedule
from fluxion.optimise.schedules.combine import (
    ComposedSchedule,
    Interpolator,
    Loop,
    Reverse,
    Sequence,
    Shifted,
    Shortened,
    Stateful,
    Symmetric,
    Warmup,
)
from fluxion.optimise.schedules.cyclic import (
    CosAnneal,
    OneCycle,
    Sin,
    SinDecay2,
    SinExp,
    Triangle,
    TriangleDecay2,
    TriangleExp,
)
from fluxion.optimise.schedules.decay import Exp, Inv, Poly, Step

__all__ = [
    "ComposedSchedule",
    "Constant",
    "CosAnneal",
    "Exp",
    "Interpolator",
    "Inv",
    "Loop",
    "OneCycle",
    "Poly",
    "Reverse",
    "Schedule",
    "Sequence",
    "Shifted",
    "Shortened",
    "Sin",
    "SinDecay2",
    "SinExp",
    "Stateful",
    "Step",
    "Symmetric",
    "Triangle",
    "TriangleDecay2",
    "TriangleExp",
    "Warmup",
]

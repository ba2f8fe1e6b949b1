"""Schedules beside their formulas, PyTorch's and Optax's; traced and in arrays; Stateful."""

import itertools
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import fluxion as fx
from fluxion import schedules as s

COUNT = 60
TRIANGLE = lambda t, period: 2 / math.pi * abs(math.asin(math.sin(math.pi * t / period)))
SINE = lambda t, period: abs(math.sin(math.pi * t / period))

# ParameterSchedulers.jl's formulas, with its t counted from 0
FORMULAS = {
    "Constant": (s.Constant(0.3), lambda t: 0.3),
    "Step": (s.Step(0.8, 0.5, 7), lambda t: 0.8 * 0.5 ** (t // 7)),
    "Step list": (s.Step(0.8, 0.5, [3, 5, 4]), lambda t: 0.8 * 0.5 ** ((t >= 3) + (t >= 8))),
    "Exp": (s.Exp(0.8, 0.9), lambda t: 0.8 * 0.9**t),
    "Poly": (s.Poly(0.8, 2, 40), lambda t: 0.8 * (1 - min(t, 40) / 40) ** 2),
    "Inv": (s.Inv(0.8, 0.1, 2), lambda t: 0.8 / (1 + 0.1 * t) ** 2),
    "Triangle": (s.Triangle(0.2, 0.8, 8), lambda t: 0.2 + 0.6 * TRIANGLE(t, 8)),
    "Triangle turned": (s.Triangle(0.8, 0.2, 7.5), lambda t: 0.2 + 0.6 * TRIANGLE(t, 7.5)),
    "TriangleDecay2": (s.TriangleDecay2(0.2, 0.8, 8), lambda t: 0.2 + 0.6 * 0.5 ** (t // 8) * TRIANGLE(t, 8)),
    "TriangleExp": (s.TriangleExp(0.2, 0.8, 8, 0.9), lambda t: 0.2 + 0.6 * 0.9**t * TRIANGLE(t, 8)),
    "Sin": (s.Sin(0.2, 0.8, 8), lambda t: 0.2 + 0.6 * SINE(t, 8)),
    "SinDecay2": (s.SinDecay2(0.2, 0.8, 8), lambda t: 0.2 + 0.6 * 0.5 ** (t // 8) * SINE(t, 8)),
    "SinExp": (s.SinExp(0.2, 0.8, 8, 0.9), lambda t: 0.2 + 0.6 * 0.9**t * SINE(t, 8)),
    "CosAnneal": (s.CosAnneal(0.2, 0.8, 8), lambda t: 0.2 + 0.3 * (1 + math.cos(math.pi * (t % 8) / 8))),
    "CosAnneal on": (s.CosAnneal(0.8, 0.2, 8, restart=False), lambda t: 0.2 + 0.3 * (1 + math.cos(math.pi * t / 8))),
    "Sequence": (
        s.Sequence((0.5, 10), (s.Step(0.1, 0.5, 10), 50)),
        lambda t: 0.5 if t < 10 else 0.1 * 0.5 ** ((t - 10) // 10),
    ),
    "Sequence of three": (
        s.Sequence((s.Exp(1.0, 0.5), 3), (lambda t: 2.0 + t, 4), (s.Poly(0.5, 1, 10), 10)),
        lambda t: 0.5**t if t < 3 else 2.0 + t - 3 if t < 7 else 0.5 * (1 - min(t - 7, 10) / 10),
    ),
    "Warmup": (s.Warmup(s.Exp(0.8, 0.9), 5, 0.1), lambda t: 0.1 + 0.7 * t / 5 if t < 5 else 0.8 * 0.9 ** (t - 5)),
    "Loop": (s.Loop(s.Exp(0.8, 0.9), 6), lambda t: 0.8 * 0.9 ** (t % 6)),
    "Interpolator": (s.Interpolator(s.Exp(0.8, 0.5), 10), lambda t: 0.8 * 0.5 ** (t // 10)),
    "Interpolator smooth": (s.Interpolator(s.Exp(0.8, 0.5), 10, smooth=True), lambda t: 0.8 * 0.5 ** (t / 10)),
    "Shifted": (s.Shifted(s.Exp(0.8, 0.9), 5), lambda t: 0.8 * 0.9 ** (t + 5)),
    "Shortened": (s.Shortened(s.Exp(0.8, 0.9), 20), lambda t: 0.8 * 0.9 ** min(t, 19)),
    "Reverse": (s.Reverse(s.Exp(0.8, 0.9), 20), lambda t: 0.8 * 0.9 ** max(19 - t, 0)),
    "Symmetric": (s.Symmetric(s.Exp(0.8, 0.9), 20), lambda t: 0.8 * 0.9 ** (t if t < 10 else max(19 - t, 0))),
    "ComposedSchedule": (
        s.ComposedSchedule(s.Sin, 0.2, s.Exp(0.8, 0.9), period=8),
        lambda t: 0.2 + (0.8 * 0.9**t - 0.2) * SINE(t, 8) if 0.8 * 0.9**t > 0.2 else None,
    ),
    "a plain function": (s.Loop(lambda t: t * 0.1, 4), lambda t: 0.1 * (t % 4)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_values_for_integers_arrays_and_traced_counts(name):
    schedule, formula = FORMULAS[name]
    steps = [t for t in range(COUNT) if formula(t) is not None]
    expected = [formula(t) for t in steps]
    values = [schedule(t) for t in steps]
    assert {type(value) for value in values} == {float}
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(schedule(np.array(steps)), expected, rtol=1e-12, atol=1e-12)
    traced = jax.jit(schedule.__call__)
    np.testing.assert_allclose(traced(jnp.array(steps)), expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(traced(jnp.int32(steps[-1])), expected[-1], rtol=2e-5, atol=1e-6)
    if len(steps) == COUNT and not hasattr(schedule, "__len__"):
        assert list(itertools.islice(schedule, COUNT)) == values


@pytest.mark.parametrize("name", FORMULAS)
def test_a_schedule_prints_as_it_is_typed(name):
    schedule, _ = FORMULAS[name]
    if "function" not in repr(schedule):
        assert repr(eval(repr(schedule), vars(s))) == repr(schedule)
        assert eval(repr(schedule), vars(s))(5) == schedule(5)


def _torch(make, start):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], start)
    scheduler = make(optimiser)
    rates = []
    for _ in range(COUNT):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


SCHEDULERS = torch.optim.lr_scheduler
LIKE_TORCH = {
    "StepLR": (s.Step(0.8, 0.5, 7), lambda o: SCHEDULERS.StepLR(o, 7, 0.5)),
    "MultiStepLR": (s.Step(0.8, 0.5, [10, 20, 5]), lambda o: SCHEDULERS.MultiStepLR(o, [10, 30], 0.5)),
    "ConstantLR": (s.Sequence((0.4, 5), (0.8, 1)), lambda o: SCHEDULERS.ConstantLR(o, 0.5, 5)),
    "LinearLR": (s.Warmup(0.8, 5, 0.2), lambda o: SCHEDULERS.LinearLR(o, 0.25, 1.0, 5)),
    "ExponentialLR": (s.Exp(0.8, 0.9), lambda o: SCHEDULERS.ExponentialLR(o, 0.9)),
    "PolynomialLR": (s.Poly(0.8, 2, 40), lambda o: SCHEDULERS.PolynomialLR(o, 40, 2)),
    "LambdaLR": (lambda t: 0.8 / (t + 1), lambda o: SCHEDULERS.LambdaLR(o, lambda t: 1 / (t + 1))),
    "CosineAnnealingLR": (
        s.CosAnneal(0.1, 0.8, 20, restart=False),
        lambda o: SCHEDULERS.CosineAnnealingLR(o, 20, 0.1),
    ),
    "CosineAnnealingWarmRestarts": (
        s.CosAnneal(0.1, 0.8, 20),
        lambda o: SCHEDULERS.CosineAnnealingWarmRestarts(o, 20, eta_min=0.1),
    ),
    "CyclicLR": (
        s.Triangle(0.1, 0.8, 10),
        lambda o: SCHEDULERS.CyclicLR(o, 0.1, 0.8, 5, cycle_momentum=False),
    ),
    "CyclicLR triangular2": (
        s.TriangleDecay2(0.1, 0.8, 10),
        lambda o: SCHEDULERS.CyclicLR(o, 0.1, 0.8, 5, mode="triangular2", cycle_momentum=False),
    ),
    "CyclicLR exp_range": (
        s.TriangleExp(0.1, 0.8, 10, 0.95),
        lambda o: SCHEDULERS.CyclicLR(o, 0.1, 0.8, 5, mode="exp_range", gamma=0.95, cycle_momentum=False),
    ),
    "OneCycleLR": (s.OneCycle(61, 0.8), lambda o: SCHEDULERS.OneCycleLR(o, 0.8, 61, cycle_momentum=False)),
    "OneCycleLR options": (
        s.OneCycle(61, 0.8, 0.1, 0.02, percent_start=0.5),
        lambda o: SCHEDULERS.OneCycleLR(
            o, 0.8, 61, pct_start=0.5, div_factor=8, final_div_factor=5, cycle_momentum=False
        ),
    ),
    "SequentialLR": (
        s.Sequence((0.08, 10), (s.Exp(0.8, 0.9), 50)),
        lambda o: SCHEDULERS.SequentialLR(
            o, [SCHEDULERS.ConstantLR(o, 0.1, 20), SCHEDULERS.ExponentialLR(o, 0.9)], [10]
        ),
    ),
}


@pytest.mark.parametrize("name", LIKE_TORCH)
def test_equals_torch(name):
    schedule, make = LIKE_TORCH[name]
    np.testing.assert_allclose([schedule(t) for t in range(COUNT)], _torch(make, 0.8), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("schedule", "theirs"),
    [
        (s.Exp(0.8, 0.9), optax.exponential_decay(0.8, 1, 0.9)),
        (s.Poly(0.8, 3, 40), optax.polynomial_schedule(0.8, 0.0, 3, 40)),
        (s.Shortened(s.CosAnneal(0.0, 0.8, 40, restart=False), 41), optax.cosine_decay_schedule(0.8, 40)),
        (
            s.Warmup(s.Shortened(s.CosAnneal(0.0, 0.8, 30, restart=False), 31), 10),
            optax.warmup_cosine_decay_schedule(0.0, 0.8, 10, 40),
        ),
        (
            s.Sequence((s.Exp(0.8, 0.9), 20), (0.1, 1)),
            optax.join_schedules([optax.exponential_decay(0.8, 1, 0.9), optax.constant_schedule(0.1)], [20]),
        ),
        (s.Step(0.8, 0.5, [5, 10, 1]), optax.piecewise_constant_schedule(0.8, {5: 0.5, 15: 0.5})),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_equals_optax(schedule, theirs):
    steps = jnp.arange(COUNT)
    np.testing.assert_allclose(schedule(np.arange(COUNT)), jax.vmap(theirs)(steps), rtol=1e-5, atol=1e-6)


def test_fixtures_of_the_julia_tests():
    stages = s.Sequence((1, 1), (s.Step(0.1, 0.5, 10), 50))
    assert [stages(0), stages(1)] == [1.0, 0.1]
    np.testing.assert_allclose([stages(41), stages(51)], [0.00625, 0.003125])
    held = s.Interpolator(s.Sequence((1, 10), (2, 10), (3, 30)), 5)
    np.testing.assert_array_equal(held(np.arange(250)), np.repeat([1, 2, 3], [50, 50, 150]))
    wave = s.Sin(0.0, 1.0, 7)
    assert [s.Shifted(wave, 5)(t) for t in range(9)] == [wave(t + 5) for t in range(9)]


def test_stateful_advances_only_where_it_is_told_to():
    sticks = s.Stateful(s.Exp(1.0, 0.5), advance=lambda step: step == 0)
    assert [next(sticks) for _ in range(4)] == [1.0, 0.5, 0.5, 0.5]
    sticks.reset()
    assert repr(sticks) == "Stateful(Exp(start=1.0, decay=0.5), step=0)"
    free = s.Stateful(lambda step: step)
    assert list(itertools.islice(free, 3)) == [0, 1, 2]


def test_a_plateau_reduces_the_learning_rate():
    losses = iter([3.0, 2.0, 2.0, 2.0, 1.0, 0.5])
    rate = s.Stateful(s.Exp(0.1, 0.5), advance=fx.plateau(lambda step: next(losses), 2))
    np.testing.assert_allclose([next(rate) for _ in range(6)], [0.1, 0.1, 0.1, 0.1, 0.05, 0.05])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: s.Step(0.1, 0.5, 0), "step_sizes is a whole number from 1 on, got 0"),
        (lambda: s.Step(0.1, 0.5, [3, 2.5]), "a step size is a whole number, got 2.5"),
        (lambda: s.Exp("fast", 0.5), "start is a number, got 'fast' of type str"),
        (lambda: s.Exp(0.1, -0.5), "decay cannot be negative"),
        (lambda: s.Poly(0.1, 2, 1.5), "max_iter is a whole number"),
        (lambda: s.Triangle(0.0, 1.0, 0), "period is a positive number of steps, got 0"),
        (lambda: s.OneCycle(100, 1.0, percent_start=1.0), "leaves no step for the way up or for the way down"),
        (lambda: s.Sequence(s.Exp(0.1, 0.5), 5), "Sequence takes pairs of a schedule and a number of steps"),
        (lambda: s.Sequence(("fast", 5)), "a stage is a number, got 'fast'"),
        (lambda: s.Loop(s.Exp, 5), "schedule is a schedule or a number, got the class Exp itself"),
        (lambda: s.Shifted(s.Exp(0.1, 0.5), -1), "offset is a whole number from 0 on"),
        (lambda: s.Stateful(0.1), "Stateful takes a schedule, got 0.1"),
        (lambda: s.ComposedSchedule(s.Exp(0.1, 0.5)), "takes the class of a schedule"),
        (lambda: s.ComposedSchedule(s.Exp, 0.1, 0.5, speed=3), "Exp has no argument 'speed'; it takes start, decay"),
        (lambda: s.ComposedSchedule(s.Exp, 0.1, s.Constant(-0.5)), "decay cannot be negative"),
        (lambda: fx.Scheduler(fx.Adam(1e-3)), "Scheduler takes the class of a rule, such as"),
        (lambda: fx.Scheduler(fx.Adam, s.Constant(-1.0)), "learning_rate cannot be negative, got -1.0"),
        (
            lambda: fx.Scheduler(fx.Adam, speed=s.Exp(1.0, 0.5)),
            "Adam has no argument 'speed'; it takes learning_rate, beta",
        ),
        (lambda: fx.Adam(s.Exp), "learning_rate is a number or a schedule, got the class Exp itself"),
        (lambda: s.Exp(0.1, gamma=0.9), "Exp has no argument 'gamma', write decay; it takes start, decay"),
        (lambda: s.CosAnneal(0.0, 0.1, T_max=20), "CosAnneal has no argument 'T_max', write period"),
        (lambda: s.OneCycle(total_steps=100, max_lr=0.1), "no argument 'total_steps', write steps"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_plain_numbers_do_not_start_jax():
    code = (
        "import jax\nfrom fluxion.optimise.schedules import Exp, Warmup\n"
        "assert Warmup(Exp(1.0, 0.5), 2)(1) == 0.5\n"
        "from jax._src import xla_bridge\nassert not xla_bridge._backends"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=fx.__path__[0] + "/..")

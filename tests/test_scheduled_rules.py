"""Schedules inside rules: in compiled steps, of every kind of function, counted, adjusted and freed."""

import dataclasses
import gc
import weakref

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fluxion as fx
from fluxion import schedules as s


def _total(m, x):
    return m(x).sum()


def _walk_down(rule, steps=4):
    """The weight after steps along a gradient of ones, all by one program."""
    model = fx.Dense(1, 1, bias=False, init=fx.zeros)
    opt = fx.setup(rule, model)
    fx.trainstep(_total, model, jnp.ones((1, 1)), opt)
    compiled = fx.explain(_total).count
    for _ in range(steps - 1):
        fx.trainstep(_total, model, jnp.ones((1, 1)), opt)
    assert fx.explain(_total).count == compiled
    return model.weight.item()


SCHEDULES = [
    s.Exp(1.0, 0.5),
    s.Step(1.0, 0.5, [2, 1, 1]),
    s.Sequence((0.5, 2), (lambda t: 1.0 / (t + 1), 5)),
    s.Warmup(s.Triangle(0.1, 1.0, 4), 2),
    s.Interpolator(s.Loop(s.Exp(1.0, 0.5), 2), 2),
    s.OneCycle(10, 1.0),
    s.ComposedSchedule(s.Sin, 0.1, s.Exp(1.0, 0.9), 3),
    lambda t: 1.0 if t < 2 else 0.25,
    lambda t: fx.schedules.Exp(1.0, 0.5)(t),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_learning_rates_by_schedule_in_the_compiled_step(schedule):
    np.testing.assert_allclose(_walk_down(fx.Descent(schedule)), -sum(map(schedule, range(4))), rtol=1e-6)


def test_numbers_inside_a_schedule_change_without_compiling_anew():
    model = fx.Dense(1, 1, bias=False, init=fx.zeros)
    schedule = s.Warmup(s.Sequence((0.5, 1), (s.Exp(1.0, 0.5), 5)), 1)
    opt, loss = fx.setup(fx.Descent(schedule), model), lambda m, x: m(x).sum()
    fx.trainstep(loss, model, jnp.ones((1, 1)), opt)
    schedule.schedule.stages[1][0].start = 4.0
    fx.trainstep(loss, model, jnp.ones((1, 1)), opt)
    fx.adjust(opt, learning_rate=s.Warmup(s.Sequence((0.5, 1), (s.Exp(4.0, 0.25), 5)), 1))
    fx.trainstep(loss, model, jnp.ones((1, 1)), opt)
    np.testing.assert_allclose(model.weight.item(), -(0 + 0.5 + 4.0))
    assert fx.explain(loss).count == 1


def test_any_hyperparameter_by_schedule():
    rates, masses = s.Exp(1.0, 0.5), s.Step(0.8, 0.5, 2)
    expected, velocity = 0.0, 0.0
    for t in range(4):
        velocity = masses(t) * velocity + 1.0
        expected -= rates(t) * velocity
    np.testing.assert_allclose(_walk_down(fx.Scheduler(fx.Momentum, rates, rho=masses)), expected, rtol=1e-6)
    in_python = fx.Scheduler(fx.Momentum, rates, rho=lambda t: 0.8 if t < 2 else 0.4)
    np.testing.assert_allclose(_walk_down(in_python), expected, rtol=1e-6)
    np.testing.assert_allclose(
        _walk_down(fx.OptimiserChain(fx.ClipGrad(2.0), fx.Scheduler(fx.Momentum, rates, rho=masses))),
        expected,
        rtol=1e-6,
    )


def test_a_scheduler_takes_pairs_is_printed_and_adjusted():
    rule = fx.Scheduler(fx.Adam, 0.1, beta=(s.Exp(0.9, 0.5), 0.999))
    assert repr(rule) == "Scheduler(Adam, learning_rate=0.1, beta=(Exp(start=0.9, decay=0.5), 0.999))"
    opt = fx.setup(rule, fx.Dense(1, 1))
    fx.adjust(opt, learning_rate=s.Exp(0.2, 0.5))
    assert opt.rule.learning_rate(1) == 0.1
    with pytest.raises(ValueError, match="learning_rate cannot be negative"):
        fx.adjust(opt, learning_rate=-1.0)
    with pytest.raises(ValueError, match="has no hyperparameter 'epsilon'; it has beta, learning_rate"):
        fx.adjust(opt, epsilon=1.0)
    np.testing.assert_allclose(
        _walk_down(fx.Scheduler(fx.Adam, 0.1, beta=(s.Constant(0.9), 0.999))), _walk_down(fx.Adam(0.1)), rtol=1e-6
    )


def _table(values):
    return lambda step: values[step]


def _jax_table(values):
    return lambda step: jnp.asarray(values)[step]


def _above(threshold, high, low):
    return lambda step: high if threshold > 0.3 else low


def _halved_from(start):
    return lambda step: s.Exp(start, 0.5)(step)


@dataclasses.dataclass
class Inverse:
    start: float

    def __call__(self, step):
        return self.start / (1 + step)


OF_USERS = {
    "a table": (_jax_table(np.array([1.0, 2.0, 3.0], "f")), [1, 2, 3]),
    "another table": (_jax_table(np.array([4.0, 5.0, 6.0], "f")), [4, 5, 6]),
    "a table in JAX": (_jax_table(jnp.array([7.0, 8.0, 9.0])), [7, 8, 9]),
    "a table in NumPy": (_table(np.array([1.0, 4.0, 9.0])), [1, 4, 9]),
    "a list": (_table([1.0, 2.0, 4.0]), [1, 2, 4]),
    "a dict": (_table({0: 1.0, 1: 3.0, 2: 5.0}), [1, 3, 5]),
    "a float that decides": (_above(0.5, 2.0, 1.0), [2, 2, 2]),
    "another float that decides": (_above(0.2, 2.0, 1.0), [1, 1, 1]),
    "a schedule made of floats": (_halved_from(4.0), [4, 2, 1]),
    "a dataclass": (Inverse(6.0), [6, 3, 2]),
    "a method": (Inverse(12.0).__call__, [12, 6, 4]),
    "a method of an integer": (lambda step: 1.0 + step.bit_length(), [1, 2, 3]),
    "Optax": (optax.exponential_decay(8.0, 1, 0.5), [8, 4, 2]),
}


@pytest.mark.parametrize("name", OF_USERS)
def test_functions_of_every_kind_are_schedules(name):
    schedule, expected = OF_USERS[name]
    for by_update in (False, True):
        model = fx.Dense(1, 1, bias=False, init=fx.zeros)
        opt, steps = fx.setup(fx.Descent(schedule), model), []
        for _ in range(3):
            before = model.weight.item()
            if by_update:
                fx.update(opt, model, fx.gradient(lambda m: m(jnp.ones((1, 1))).sum(), model)[0])
            else:
                fx.trainstep(_total, model, jnp.ones((1, 1)), opt)
            steps.append(before - model.weight.item())
        np.testing.assert_allclose(steps, expected, rtol=1e-6)


def test_a_table_that_is_too_short_is_an_error():
    model = fx.Dense(1, 1)
    opt = fx.setup(fx.Descent(_table(np.array([1.0, 2.0]))), model)
    with pytest.raises(IndexError):
        fx.train(_total, model, [jnp.ones((1, 1))] * 3, opt)


@pytest.mark.parametrize("schedule", [s.Step(1.0, 0.5, 2), lambda step: 1.0 if step < 2 else 0.5], ids=["traced", "if"])
def test_a_loss_that_is_not_finite_is_no_step_of_the_schedule(schedule):
    model = fx.Dense(1, 1, bias=False, init=fx.zeros)
    opt, good, bad = fx.setup(fx.Descent(schedule), model), jnp.ones((1, 1)), jnp.full((1, 1), jnp.nan)
    fx.trainstep(_total, model, good, opt)
    fx.trainstep(_total, model, bad, opt)
    with pytest.raises(fx.NonFiniteLossError):
        fx.train(_total, model, [bad, *[good] * 20], opt)
    assert opt.steps == 1
    fx.train(_total, model, [good] * 2, opt)
    np.testing.assert_allclose(model.weight, [[-2.5]])


def test_numbers_and_schedules_replace_each_other_while_the_steps_are_counted():
    model = fx.Dense(1, 1, bias=False, init=fx.zeros)
    opt, loss = fx.setup(fx.Descent(1.0), model), lambda m, x: m(x).sum()
    for rate in (1.0, s.Exp(1.0, 0.5), lambda step: 3.0 if step == 2 else 0.0, 0.125):
        fx.adjust(opt, learning_rate=rate)
        fx.trainstep(loss, model, jnp.ones((1, 1)), opt)
    np.testing.assert_allclose(model.weight, [[-(1.0 + 0.5 + 3.0 + 0.125)]])
    assert opt.steps == 4


def test_a_dropped_schedule_is_freed():
    for schedule in (s.Exp(0.1, 0.9), lambda step: 0.1 if step < 2 else 0.05):
        model = fx.Dense(1, 1)
        fx.trainstep(_total, model, jnp.ones((1, 1)), fx.setup(fx.Descent(schedule), model))
    watch = weakref.ref(schedule)
    del schedule
    gc.collect()
    assert watch() is None


def test_steps_may_be_a_list_or_a_range():
    assert s.Exp(0.8, 0.5)(range(3)).tolist() == s.Exp(0.8, 0.5)([0, 1, 2]).tolist() == [0.8, 0.4, 0.2]


def test_a_composed_schedule_leaves_the_schedules_inside_schedules():
    looped = s.ComposedSchedule(s.Warmup, s.Exp(1.0, 0.5), 2, start=lambda step: 0.5)
    assert looped(np.arange(5)).tolist() == [0.5, 0.75, 1.0, 0.5, 0.25]
    with pytest.raises(TypeError, match="Sequence takes schedules itself"):
        s.ComposedSchedule(s.Sequence, (0.1, 5))

"""throttle, patience, early_stopping and plateau: Flux's sequences, and a clock that does as it is told."""

import math
import threading
import time

import jax.numpy as jnp
import pytest

import fluxion as fx


class Clock:
    """A clock and timers that move only when told to."""

    def __init__(self, monkeypatch):
        self.now, self.timers = 100.0, []
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(threading, "Timer", self._timer)

    def _timer(self, seconds, call):
        clock = self

        class Timer:
            def start(self):
                clock.timers.append((clock.now + seconds, call))

        return Timer()

    def wait(self, seconds):
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer[0] <= end]:
            timer = min(due, key=lambda timer: timer[0])
            self.timers.remove(timer)
            self.now = timer[0]
            timer[1]()
        self.now = end


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def _recorder():
    calls = []

    def record(value, *, plus=0):
        calls.append(value + plus)
        return value + plus

    return calls, record


def test_throttle_calls_once_in_its_time_and_returns_the_latest_result(clock):
    calls, record = _recorder()
    throttled = fx.throttle(record, 2)
    assert [throttled(1), throttled(2), throttled(3)] == [1, 1, 1]
    clock.wait(1.9)
    assert throttled(4) == 1
    clock.wait(0.2)
    assert throttled(5, plus=10) == 15
    assert calls == [1, 15]
    assert not clock.timers


def test_throttle_trailing_keeps_the_last_arguments(clock):
    calls, record = _recorder()
    throttled = fx.throttle(record, 2, trailing=True)
    for value in range(1, 5):
        throttled(value)
    clock.wait(1.9)
    assert calls == [1]
    clock.wait(0.2)
    assert calls == [1, 4]
    throttled(5)
    clock.wait(1.8)
    assert calls == [1, 4]
    clock.wait(0.2)
    assert calls == [1, 4, 5]
    clock.wait(5)
    assert throttled(6) == 6
    assert calls == [1, 4, 5, 6]


def test_throttle_without_leading_waits(clock):
    calls, record = _recorder()
    throttled = fx.throttle(record, 2, leading=False, trailing=True)
    throttled(1)
    throttled(2)
    clock.wait(1.9)
    assert calls == []
    clock.wait(0.2)
    assert calls == [2]
    first_only, record = _recorder()
    throttled = fx.throttle(record, 2, leading=False)
    throttled(1)
    throttled(2)
    clock.wait(2.1)
    assert first_only == [1]


def test_throttle_runs_on_real_timers():
    done = threading.Event()
    fx.throttle(lambda value: done.set(), 0.01, leading=False)(1)
    assert done.wait(10)


@pytest.mark.parametrize(
    ("sequence", "wait", "expected"),
    [
        ([0, 1, 0, 1, 1, 1], 3, [0, 0, 0, 0, 0, 1]),
        ([1, 1, 1, 0, 1], 2, [0, 1, 1, 0, 0]),
        ([1, 0, 1], 1, [1, 0, 1]),
    ],
)
def test_patience(sequence, wait, expected):
    values = iter(sequence)
    waited = fx.patience(lambda: next(values), wait)
    assert [waited() for _ in sequence] == [bool(value) for value in expected]


def _calls_before(trigger, call=lambda trigger, n: trigger(n)):
    """How many of at most 99 calls, numbered from 0, come before the one that triggers."""
    return next((n for n in range(99) if call(trigger, n)), 99)


def test_early_stopping_counts_of_flux():
    assert _calls_before(fx.early_stopping(lambda score: score, 10, init_score=10)) == 10
    with_options = fx.early_stopping(lambda x, *, y=1: x + y, 10, init_score=0, min_dist=3)
    assert _calls_before(with_options, lambda trigger, n: trigger(-n, y=-n)) == 9
    growing = lambda best, score: score - best
    assert _calls_before(fx.early_stopping(lambda score: score, 10, distance=growing, init_score=-math.inf)) == 99
    assert _calls_before(fx.early_stopping(lambda score: score, 10, distance=growing)) == 9
    assert _calls_before(fx.early_stopping(lambda score: -score, 10)) == 99


def test_early_stopping_of_a_score_that_grows():
    accuracies = iter([0.1, 0.5, 0.4, 0.5, 0.45, 0.3])
    stop = fx.early_stopping(
        lambda: next(accuracies), 3, distance=lambda best, score: score - best, init_score=-math.inf, min_dist=0.01
    )
    assert [stop() for _ in range(6)] == [False, False, False, False, True, True]


def test_early_stopping_keeps_the_best_and_takes_nan_for_no_improvement():
    losses = iter([2.0, 5.0, 1.9, math.nan, math.nan, 1.8])
    stop = fx.early_stopping(lambda: jnp.float32(next(losses)), 2)
    assert [stop() for _ in range(6)] == [False, False, False, False, True, False]


def test_plateau_compares_with_the_last_score():
    scores = iter([3.0, 2.0, 2.0 + 1e-9, 2.0, 4.0, 4.0, 4.0])
    flat = fx.plateau(lambda: next(scores), 2)
    assert [flat() for _ in range(7)] == [False, False, False, True, False, False, True]
    shifted = fx.plateau(lambda scale, *, shift: scale + shift, 4)
    assert _calls_before(shifted, lambda trigger, n: trigger(1.0, shift=2.0)) == 4


def test_plateau_count_of_flux():
    value = 10.0

    def turning():
        nonlocal value
        value = math.copysign(1, value) - value
        return value

    assert _calls_before(fx.plateau(turning, 3, init_score=10, min_dist=18), lambda trigger, n: trigger()) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fx.throttle(1, 2), "throttle takes a function, got 1"),
        (lambda: fx.throttle(print, -1), "timeout cannot be negative, got -1"),
        (lambda: fx.patience(print, 0), "wait is a whole number from 1 on, got 0"),
        (lambda: fx.early_stopping(3.0, 2), "early_stopping takes a function, got 3.0"),
        (lambda: fx.early_stopping(print, 1.5), "delay is a whole number, got 1.5"),
        (lambda: fx.plateau(print, 2, min_dist=-1e-3), "min_dist cannot be negative"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_they_stop_a_training():
    model, x = fx.Dense(1, 1), jnp.linspace(-1, 1, 8)[:, None]
    loss = lambda m, x, y: fx.mse(m(x), y)
    stop = fx.early_stopping(lambda progress: float(progress.loss), 3, min_dist=1e-3)
    seen = []

    def callback(progress):
        seen.append(float(progress.loss))
        return stop(progress)

    fx.train(loss, model, [(x, 2 * x)], fx.setup(fx.Descent(0.1), model), epochs=500, callback=callback)
    assert 10 < len(seen) < 100
    assert seen[-1] < 0.1

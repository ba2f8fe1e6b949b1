"""Functions, gradients and models that threads share."""

import sys
import threading
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx

COUNT = 4
ROUNDS = 8


@pytest.fixture(autouse=True)
def _threads_take_turns_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(work):
    """Calls `work(number)` in several threads, which start together; returns what it returned in each."""
    start = threading.Barrier(COUNT)
    found = [None] * COUNT

    def thread(number):
        start.wait()
        found[number] = work(number)

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(COUNT)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fx.RecompileWarning)
        [t.start() for t in threads], [t.join() for t in threads]
    return found


def fresh(source, line):
    """A function that was never compiled: code on another line is other code."""
    scope = {}
    exec("\n" * line + source, scope)
    return scope["f"]


@pytest.mark.parametrize("line", range(ROUNDS))
@pytest.mark.parametrize(
    "source", ["def f(k): return lambda x: x * k", "def f(k): return lambda x: x * int(k)"], ids=["input", "constant"]
)
def test_a_float_that_a_function_closes_over_counts_in_each_thread(source, line):
    make = fresh(source, line)
    floats = [[10.0 * number + i for i in range(4)] for number in range(COUNT)]
    found = at_once(lambda number: [float(fx.compile(make(k))(jnp.ones(()))) for k in floats[number]])
    assert found == floats


@pytest.mark.parametrize("line", range(ROUNDS))
def test_a_float_is_differentiated_in_each_thread(line):
    f = fresh("def f(x): return x**2", line)
    assert at_once(lambda number: fx.gradient(f, float(number))) == [(2.0 * number,) for number in range(COUNT)]


def test_a_gradient_is_read_by_many_threads():
    model = fx.Chain(fx.Dense(3, 2), fx.Dense(2, 1))
    for _ in range(20):
        (g,) = fx.gradient(lambda m: m(jnp.ones((4, 3))).sum(), model)
        for bias in at_once(lambda number: g.layers[1].bias):  # noqa: B023
            np.testing.assert_array_equal(bias, [4.0])

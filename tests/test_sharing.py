"""Sharing and aliasing at the edges: arguments, single places of shared arrays, results."""

import jax
import jax.numpy as jnp
import numpy as np

import fluxion as fx


def test_a_bare_array_argument_is_not_tied_to_other_arguments_or_closures():
    x = jnp.ones(3)
    a, b = fx.gradient(lambda a, b: (a * b).sum(), x, x)
    np.testing.assert_array_equal(a, x)
    np.testing.assert_array_equal(b, x)
    (g,) = fx.gradient(lambda w: (w * x).sum(), x)
    np.testing.assert_array_equal(g, x)


def test_a_model_that_the_function_also_closes_over_is_one_model():
    model = fx.Dense(2, 1, bias=False)
    x = jnp.ones((1, 2))
    (g,) = fx.gradient(lambda m: (m(x) * model(x)).sum(), model)
    expected = jax.grad(lambda w: ((x @ w) ** 2).sum())(model.weight)
    np.testing.assert_allclose(g.weight, expected, rtol=1e-6)


class State:
    def __init__(self):
        self.h = self.c = jnp.zeros(2)


def test_two_names_of_one_array_that_get_different_values_part():
    state = State()

    def step(x):
        state.h = state.h + x
        state.c = state.c - x
        return (state.h * state.c).sum()

    compiled = fx.compile(step)
    compiled(1.0), compiled(1.0)
    assert state.h.tolist() == [2.0, 2.0]
    assert state.c.tolist() == [-2.0, -2.0]


def test_one_of_two_names_of_an_array_can_be_replaced_alone():
    state = State()

    @fx.compile
    def step(x):
        state.h = state.h + x
        return x

    step(1.0)
    assert state.h.tolist() == [1.0, 1.0]
    assert state.c.tolist() == [0.0, 0.0]


def test_writes_to_single_places_in_a_training_step():
    class Model:
        def __init__(self):
            self.dense, self.state = fx.Dense(2, 1), State()

        def __call__(self, x):
            self.state.h = self.state.h + 1
            return self.dense(x)

    model = Model()
    opt = fx.setup(fx.Descent(0.1), model.dense)
    loss = lambda dense, x: (dense(x) * (model(x) * 0 + 1)).sum()
    fx.trainstep(loss, model.dense, jnp.ones((1, 2)), opt)
    assert model.state.h.tolist() == [1.0, 1.0]
    assert model.state.c.tolist() == [0.0, 0.0]


def test_returned_dicts_keep_their_order_and_mixed_keys():
    out = fx.compile(lambda x: {"b": x, 1: 2 * x, "a": None})(jnp.ones(1))
    assert list(out) == ["b", 1, "a"]


def test_a_training_step_inside_a_compiled_function():
    model = fx.Dense(2, 1, init=fx.ones)
    opt = fx.setup(fx.Momentum(0.1), model)
    loss = lambda m, x: m(x).sum()

    @fx.compile
    def two_steps(x):
        fx.trainstep(loss, model, x, opt)
        return fx.trainstep(loss, model, x, opt)

    reference, state = fx.Dense(2, 1, init=fx.ones), None
    state = fx.setup(fx.Momentum(0.1), reference)
    x = jnp.ones((1, 2))
    two_steps(x)
    fx.train(loss, reference, [x, x], state)
    np.testing.assert_allclose(model.weight, reference.weight, rtol=1e-6)
    np.testing.assert_allclose(opt.leaves[0], state.leaves[0], rtol=1e-6)


def test_typed_random_keys_are_state_like_any_other():
    class Noise:
        def __init__(self):
            self.key = jax.random.key(0)

        def __call__(self, x):
            self.key, key = jax.random.split(self.key)
            return x + jax.random.normal(key, x.shape)

    noise = Noise()
    draw = fx.compile(noise)
    first, second = draw(jnp.zeros(2)), draw(jnp.zeros(2))
    assert not np.allclose(first, second)


def test_an_iterator_that_the_function_holds_gives_its_next_value_at_every_call():
    import itertools

    import pytest

    numbers = itertools.count(1)
    following = fx.compile(lambda x: x * next(numbers))
    with pytest.warns(fx.EagerNotice, match="iterator"):
        first = following(1.0)
    assert [first, following(1.0), following(1.0)] == [1.0, 2.0, 3.0]


def test_stop_iteration_comes_through():
    import pytest

    def stop(x):
        raise StopIteration("end")

    with pytest.raises(StopIteration, match="end"):
        fx.compile(stop)(1.0)


def test_a_write_wins_over_the_update_of_the_same_array():
    class Counting:
        def __init__(self):
            self.weight, self.calls = jnp.ones(()), jnp.zeros(())

        def __call__(self, x):
            self.calls = self.calls + 1
            return self.weight * x

    model = Counting()
    opt = fx.setup(fx.Descent(0.1), model)
    fx.train(lambda m, x: m(x), model, [1.0, 1.0], opt)
    assert float(model.calls) == 2.0
    np.testing.assert_allclose(model.weight, 0.8, rtol=1e-6)


def test_threads_that_call_one_function_with_new_shapes_do_not_disturb_each_other():
    from concurrent.futures import ThreadPoolExecutor

    words = {f"w{i}": i for i in range(100)}
    model = fx.Chain(fx.Dense(2, 4, fx.tanh), fx.Dense(4, 1))
    compiled = fx.compile(lambda x: model(x).sum() * words["w2"])
    sizes = list(range(1, 13))
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda n: float(compiled(jnp.ones((n, 2)))), sizes * 2))
    expected = float(model(jnp.ones((1, 2))).sum() * 2)
    np.testing.assert_allclose(results, [n * expected for n in sizes * 2], rtol=1e-5)


def test_typed_random_keys_advance_in_training_steps():
    class Noisy:
        def __init__(self):
            self.dense, self.key = fx.Dense(2, 1), jax.random.key(0)

        def __call__(self, x):
            self.key, key = jax.random.split(self.key)
            return self.dense(x + jax.random.normal(key, x.shape))

    model = Noisy()
    opt = fx.setup(fx.Adam(0.01), model)
    before = jax.random.key_data(model.key)
    fx.train(lambda m, x: (m(x) ** 2).mean(), model, [jnp.ones((4, 2))] * 2, opt)
    assert not np.array_equal(before, jax.random.key_data(model.key))

"""What cannot be compiled runs eagerly with the right answer and one notice; exceptions come through; Ctrl-C too."""

import os
import random
import subprocess
import sys
import textwrap
import traceback
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from modules import module  # noqa: F401

import fluxion as fx
from fluxion.tree.walk import Walk

ONES = jnp.ones(3)


class Weights:
    """A model of one array."""

    def __init__(self):
        self.w = jnp.ones(3)

    def __call__(self, x):
        return self.w * x


def line_of(f):
    return f.__code__.co_firstlineno


def notices(call, times=3):
    """Results of calls, and the notices they gave."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = [call() for _ in range(times)]
    assert all(issubclass(w.category, fx.EagerNotice) for w in caught), [str(w.message) for w in caught]
    return results, caught


def _if(x):
    return (x if x.sum() > 0 else -x).sum()


def _while(x):
    while x.sum() < 10:
        x = 2 * x
    return x.sum()


def _assert(x):
    assert x.sum() > 0
    return x.sum()


def _float(x):
    return x.sum() * float(x[0])


def _int(x):
    return x[: int(x[0])].sum()


def _item(x):
    return x.sum() + x[0].item()


def _asarray(x):
    return (x * np.asarray(x)).sum()


def _numpy(x):
    return (x * np.sin(x)).sum()


def _mask(x):
    return x[x > 0].sum()


def _range(x):
    return sum(x.sum() for _ in range(int(x[0])))


def _list(x):
    return x.sum() * x.tolist()[0]


def _format(x):
    return x.sum() * len(f"{x[0]:.1f}")


def _sorted(x):
    return sorted(x)[0]


def _unique(x):
    return jnp.unique(x).sum()


def _min(x):
    return min(x[0], x[1])


@pytest.mark.parametrize(
    "f",
    [
        _if,
        _while,
        _assert,
        _float,
        _int,
        _item,
        _asarray,
        _numpy,
        _mask,
        _range,
        _list,
        _format,
        _sorted,
        _unique,
        _min,
    ],
)
@pytest.mark.parametrize("way", ["compile", "gradient", "trainstep"])
def test_a_decision_on_a_value_runs_eagerly_with_the_right_answer(f, way):
    x = jnp.array([2.0, 3.0, 4.0])
    model = Weights()
    opt = fx.setup(fx.Descent(0.0), model)
    calls = {
        "compile": lambda: fx.compile(f)(x),
        "gradient": lambda: fx.withgradient(f, x)[0],
        "trainstep": lambda: fx.trainstep(lambda m, x: f(m(x)), model, x, opt),
    }
    results, caught = notices(calls[way])
    np.testing.assert_allclose(results, [f(x)] * 3, rtol=1e-6)
    assert len(caught) <= 1
    if caught:
        assert caught[0].filename == __file__ and line_of(f) <= caught[0].lineno <= line_of(f) + 4
        assert f"{__file__}:{caught[0].lineno}" in str(caught[0].message)


@pytest.mark.filterwarnings("ignore::fluxion.EagerNotice")
def test_a_numpy_integer_can_be_a_shape():
    n = np.int64(3)
    assert fx.compile(lambda x: x * jnp.zeros(n))(1.0).shape == (3,)
    with pytest.raises(TypeError, match="Shapes must be"):
        fx.compile(lambda x: jnp.zeros("a"))(1.0)


def test_the_notice_comes_once_and_the_report_remembers_it():
    def choose(x):
        return x.sum() if x[0] > 0 else -x.sum()

    (first, second, third), caught = notices(lambda: fx.gradient(choose, ONES)[0])
    np.testing.assert_allclose([first, second, third], np.ones((3, 3)))
    (notice,) = caught
    assert "choose runs eagerly" in str(notice.message) and notice.lineno == line_of(choose) + 1
    assert fx.explain(choose).count == 0 and fx.explain(choose).eager


@pytest.mark.filterwarnings("ignore::fluxion.EagerNotice")
def test_gradients_of_an_eager_function_follow_the_branch_taken():
    def f(x):
        return (2 * x if x.sum() > 0 else -x).sum()

    np.testing.assert_allclose(fx.gradient(f, ONES)[0], 2 * ONES)
    np.testing.assert_allclose(fx.gradient(f, -ONES)[0], -ONES)
    x = 3.0
    assert fx.gradient(lambda y: y**2 if y > 0 else y, x) == (6.0,)


@pytest.mark.filterwarnings("ignore::fluxion.EagerNotice")
def test_an_eager_step_trains_and_captures_writes():
    class Counting(Weights):
        def __init__(self):
            super().__init__()
            self.calls = jnp.zeros(())

        def __call__(self, x):
            self.calls = self.calls + 1
            return self.w * x if x.sum() > 0 else x

    m = Counting()
    fx.train(lambda m, x: m(x).sum(), m, [ONES] * 3, fx.setup(fx.Descent(0.1), m))
    np.testing.assert_allclose(m.w, 0.7 * ONES, rtol=1e-6)
    assert float(m.calls) == 3


@pytest.mark.filterwarnings("ignore::fluxion.EagerNotice")
def test_a_numpy_buffer_can_be_written_into():
    class Buffered:
        def __init__(self):
            self.buffer = np.zeros(3, np.float32)

        def __call__(self, x):
            self.buffer[0] = 7
            return x * self.buffer.sum()

    m = Buffered()
    np.testing.assert_allclose(fx.compile(m)(ONES), 7 * ONES)
    assert m.buffer.tolist() == [7, 0, 0]


# --- random state

DRAWS = {
    "random": (lambda: random.random(), lambda: random.seed(5)),
    "random.gauss": (lambda: random.gauss(0, 1), lambda: random.seed(5)),
    "numpy": (lambda: np.random.rand(), lambda: np.random.seed(5)),
    "numpy.normal": (lambda: np.random.normal(), lambda: np.random.seed(5)),
    "numpy.shuffle": (lambda: float(np.random.permutation(5)[0]), lambda: np.random.seed(5)),
}


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("way", ["compile", "gradient"])
def test_global_random_numbers_are_drawn_at_each_call_as_in_plain_python(kind, way):
    draw, seed = DRAWS[kind]

    def noisy(x):
        return (x * draw()).sum()

    call = {"compile": lambda: fx.compile(noisy)(ONES), "gradient": lambda: fx.withgradient(noisy, ONES)[0]}[way]
    seed()
    wanted = [float(noisy(ONES)) for _ in range(4)]
    after = draw()
    seed()
    results, caught = notices(call, 4)
    np.testing.assert_allclose(results, wanted, rtol=1e-6)
    assert draw() == after
    assert len(caught) <= 1


def test_the_notice_of_a_draw_names_its_line():
    def noisy(x):
        y = 2 * x
        z = y * random.random()
        return z.sum()

    _, (notice,) = notices(lambda: fx.gradient(noisy, ONES))
    assert (notice.filename, notice.lineno) == (__file__, line_of(noisy) + 2)


@pytest.mark.parametrize("make", [np.random.default_rng, random.Random, np.random.RandomState])
@pytest.mark.parametrize("where", ["cell", "attribute", "default", "argument"])
def test_a_captured_generator_draws_at_each_call(make, where):
    def draw(rng):
        return float(rng.random() if hasattr(rng, "random") else rng.random_sample())

    class Noisy:
        def __call__(self, x):
            return x * draw(self.rng)

    rng, plain, noisy = make(3), make(3), Noisy()
    noisy.rng = rng
    f = {
        "cell": lambda x: x * draw(rng),
        "attribute": noisy,
        "default": lambda x, rng=rng: x * draw(rng),
        "argument": lambda x: fx.compile(lambda x, rng: x * draw(rng))(x, rng),
    }[where]
    results, caught = notices(lambda: (f if where == "argument" else fx.compile(f))(ONES))
    np.testing.assert_allclose(results, [draw(plain) * np.ones(3) for _ in range(3)], rtol=1e-6)
    assert len(caught) <= 1


def test_the_default_generator_gives_the_same_bits_compiled_and_eager():
    def noisy(x):
        return x * fx.random.generator().uniform((3,))

    fx.seed(1)
    compiled = [fx.compile(noisy)(ONES) for _ in range(3)]
    fx.seed(1)
    with fx.eager():
        plain = [fx.compile(noisy)(ONES) for _ in range(3)]
    np.testing.assert_array_equal(compiled, plain)
    assert not np.allclose(compiled[0], compiled[1])


# --- Python state


def test_a_python_counter_counts_eagerly_with_a_notice():
    class Counting(Weights):
        calls = 0

        def __call__(self, x):
            self.calls += 1
            return self.w * x

    m = Counting()
    _, caught = notices(lambda: fx.gradient(lambda m: m(ONES).sum(), m))
    assert m.calls == 3
    (notice,) = caught
    assert "m.calls" in str(notice.message)


def test_a_history_that_a_function_appends_to_grows_eagerly():
    history, table = [], {}

    def f(x):
        history.append(len(history))
        table[len(table)] = "a"
        return x.sum()

    _, caught = notices(lambda: fx.compile(f)(ONES))
    assert history == [0, 1, 2] and table == {0: "a", 1: "a", 2: "a"}
    assert len(caught) == 1


def test_global_and_nonlocal_counters_count(module):  # noqa: F811
    user = module("""
        n = 0
        def f(x):
            global n
            n += 1
            return x.sum() * n
    """)
    results, _ = notices(lambda: fx.compile(user.f)(ONES))
    assert user.n == 3 and [float(r) for r in results] == [3, 6, 9]
    k = 0

    def g(x):
        nonlocal k
        k += 1
        return x.sum() * k

    results, _ = notices(lambda: fx.compile(g)(ONES))
    assert k == 3 and [float(r) for r in results] == [3, 6, 9]


def test_an_object_made_inside_can_be_stored():
    class Box:
        item = None

    class Item:
        pass

    box = Box()

    def f(x):
        box.item = Item()
        return x.sum()

    notices(lambda: fx.compile(f)(ONES))
    assert type(box.item) is Item


# --- eager mode


def test_eager_mode_compiles_nothing_and_gives_the_same_numbers():
    def loss(m, x):
        return (m(x) ** 2).mean()

    def run():
        fx.seed(0)
        m = fx.Chain(fx.Dense(3, 4, fx.tanh), fx.Dropout(0.5), fx.BatchNorm(4), fx.Dense(4, 1))
        opt = fx.setup(fx.Momentum(0.1), m)
        x = jax.random.normal(jax.random.key(1), (8, 3))
        fx.train(loss, m, [(x,)] * 3, opt)
        value, (g,) = fx.withgradient(loss, m, x)[0], fx.gradient(lambda m: loss(m, x), m)
        fx.update(opt, m, g)
        return [value, *fx.trainables(m).values(), m[2].mean]

    with fx.eager():
        plain = run()
    assert fx.explain(loss).count == 0
    for a, b in zip(plain, run(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_eager_mode_sees_values():
    seen = []

    def f(x):
        seen.append(float(x.sum()))
        return x.sum()

    with fx.eager():
        fx.compile(f)(ONES)
    assert seen == [3.0]


def test_eager_mode_reads_values_inside_gradients():
    with fx.eager():
        value, (g,) = fx.withgradient(
            lambda x: (x * float(x[0]) * np.asarray(x)[1]).sum() if x[0] > 0 else x.sum(), ONES
        )
    assert float(value) == 3
    np.testing.assert_allclose(g, ONES)


def test_eager_mode_ends_with_its_block():
    f = fx.compile(lambda x: x + 1)
    with pytest.raises(RuntimeError), fx.eager():
        raise RuntimeError
    f(ONES)
    assert fx.explain(f).count == 1


def run_python(source, **environment):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_environment_variable_turns_compilation_off():
    source = """
        import jax, jax.numpy as jnp, fluxion as fx
        def loss(m, x): return (m(x) ** 2).mean()
        fx.seed(0)
        m = fx.Dense(3, 2)
        fx.train(loss, m, [(jnp.ones((4, 3)),)] * 3, fx.setup(fx.Adam(0.1), m))
        print(fx.explain(loss).count, *(f"{v:.5f}" for v in m.weight.ravel()))
    """
    eager = run_python(source, FLUXION_EAGER="1").split()
    compiled = run_python(source, FLUXION_EAGER="0").split()
    assert (eager[0], compiled[0]) == ("0", "1")
    np.testing.assert_allclose([float(v) for v in eager[1:]], [float(v) for v in compiled[1:]], atol=2e-5)


def test_ctrl_c_during_training_leaves_a_usable_model():
    out = run_python("""
        import signal, time, jax.numpy as jnp, numpy as np, fluxion as fx
        def loss(m, x, y): return fx.mse(m(x), y)
        m = fx.Chain(*[fx.Dense(64, 64, fx.tanh) for _ in range(6)])
        opt = fx.setup(fx.Adam(1e-3), m)
        x, y = jnp.ones((8, 64)), jnp.zeros((8, 64))
        fx.train(loss, m, [(x, y)], opt)
        for delay in (0.01, 0.02, 0.04):
            signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
            try:  # pressed again after a while: Python drops what is raised where it collects garbage
                signal.setitimer(signal.ITIMER_REAL, delay, 2.0)
                fx.train(loss, m, [(x, y)] * 100000, opt)
            except KeyboardInterrupt:
                signal.setitimer(signal.ITIMER_REAL, 0)
            else:
                raise SystemExit("not interrupted")
            assert np.isfinite(float(loss(m, x, y)))
            assert all(np.isfinite(np.asarray(v)).all() for v in fx.leaves(opt.state))
            fx.train(loss, m, [(x, y)], opt)
        print("fine")
    """)
    assert out.strip() == "fine"


# --- exceptions


class Refused(Exception):
    """An exception of the user's with arguments of its own."""

    def __init__(self, code, detail):
        super().__init__(code, detail)
        self.code = code


ERROR = Refused(3, "no")
RAISED_AT = {}


def raising(m, x):
    m.w = m.w * 2
    raise ERROR


WAYS = {
    "gradient": lambda f, m, opt: fx.gradient(f, m, ONES),
    "compile": lambda f, m, opt: fx.compile(f)(m, ONES),
    "trainstep": lambda f, m, opt: fx.trainstep(f, m, ONES, opt),
    "train": lambda f, m, opt: fx.train(f, m, [ONES], opt),
}


@pytest.mark.parametrize(
    ("way", "eager"), [(way, eager) for way in WAYS for eager in (False, True) if (way, eager) != ("compile", True)]
)
def test_an_exception_comes_through_unchanged(way, eager):
    m = Weights()
    opt = fx.setup(fx.Descent(0.1), m)
    before = m.w
    python, numpy = random.getstate(), np.random.get_state()[1].tolist()
    key = np.asarray(fx.random.generator().key)
    with pytest.raises(Refused) as caught:
        if eager:
            with fx.eager():
                WAYS[way](raising, m, opt)
        else:
            WAYS[way](raising, m, opt)
    error = caught.value
    assert error is ERROR and error.args == (3, "no") and error.code == 3
    last = traceback.extract_tb(error.__traceback__)[-1]
    assert (last.filename, last.lineno) == (__file__, line_of(raising) + 2)
    assert m.w is before
    assert random.getstate() == python and np.random.get_state()[1].tolist() == numpy
    assert np.array_equal(np.asarray(fx.random.generator().key), key)
    assert not any(isinstance(leaf, jax.core.Tracer) for leaf in Walk().run((m, opt)).leaves)


def test_an_exception_after_a_draw_leaves_the_default_generator_alone():
    def f(x):
        fx.random.generator().uniform()
        raise ValueError("mine")

    key = np.asarray(fx.random.generator().key)
    with pytest.raises(ValueError, match="mine"):
        fx.gradient(f, ONES)
    assert np.array_equal(np.asarray(fx.random.generator().key), key)


@pytest.mark.parametrize(
    "kind",
    [ValueError, KeyError, AttributeError, NameError, TypeError, ZeroDivisionError, AssertionError, StopIteration],
)
def test_ordinary_exceptions_keep_type_and_arguments(kind):
    def f(x):
        raise kind("text")

    with pytest.raises(kind) as caught:
        fx.gradient(f, ONES)
    assert type(caught.value) is kind and caught.value.args == ("text",)


def test_errors_that_python_raises_name_the_users_line():
    def f(x):
        return x.sum() + missing  # noqa: F821

    with pytest.raises(NameError, match="missing") as caught:
        fx.gradient(f, ONES)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].lineno == line_of(f) + 1


def test_a_chained_exception_keeps_its_cause():
    def f(x):
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise Refused(1, "outer") from error

    with pytest.raises(Refused) as caught:
        fx.compile(f)(ONES)
    assert isinstance(caught.value.__cause__, KeyError)


def test_the_traceback_is_short():
    def f(x):
        raise Refused(1, "x")

    with pytest.raises(Refused) as caught:
        fx.gradient(f, ONES)
    assert len(traceback.extract_tb(caught.value.__traceback__)) <= 8


def test_a_function_works_again_after_an_exception():
    flag = [True]

    def f(x):
        if flag[0]:
            raise Refused(1, "x")
        return x.sum()

    with pytest.raises(Refused):
        fx.gradient(f, ONES)
    flag[0] = False
    np.testing.assert_allclose(fx.gradient(f, ONES)[0], ONES)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError])
def test_a_callback_that_raises_leaves_a_usable_model(kind):
    m = Weights()
    opt = fx.setup(fx.Adam(0.1), m)

    def callback(progress):
        if progress.batch == 2:
            raise kind

    with pytest.raises(kind):
        fx.train(lambda m, x: m(x).sum(), m, [ONES] * 5, opt, callback=callback)
    after = np.asarray(m.w)
    assert np.isfinite(after).all() and not np.allclose(after, 1)
    fx.train(lambda m, x: m(x).sum(), m, [ONES], opt)


def test_a_failing_data_iterator_comes_through():
    m = Weights()

    def batches():
        yield ONES
        raise Refused(7, "data")

    with pytest.raises(Refused):
        fx.train(lambda m, x: m(x).sum(), m, batches(), fx.setup(fx.Descent(0.1), m))
    np.testing.assert_allclose(m.w, 0.9 * ONES, rtol=1e-6)

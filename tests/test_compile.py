"""One compilation for many calls, captured writes, ties, donation, large containers, nesting, threads and memory."""

import functools
import gc
import threading
import time
import warnings
import weakref
from collections import defaultdict, deque, namedtuple
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from modules import module  # noqa: F401

import fluxion as fx
from fluxion.tree.walk import Walk

ONES = jnp.ones(3)
Pair = namedtuple("Pair", "a b")


class Weights:
    """A model of one array."""

    def __init__(self, n=3):
        self.w = jnp.ones(n)

    def __call__(self, x):
        return self.w * x


class Counter(Weights):
    """A model that counts its calls in an array."""

    def __init__(self):
        super().__init__()
        self.calls = jnp.zeros(())

    def __call__(self, x):
        self.calls = self.calls + 1
        return self.w * x


def total(m, x):
    return m(x).sum()


def no_tracers(*values):
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in Walk().run(values).leaves)


# --- one compilation


def test_a_new_lambda_over_new_arrays_in_a_function_compiles_once():
    for i in range(5):
        x, y = i * ONES, ONES + i
        f = lambda w: ((w * x - y) ** 2).sum()  # noqa: B023
        np.testing.assert_allclose(fx.gradient(f, ONES)[0], 2 * i * (i * ONES - y))
    assert fx.explain(f).count == 1


def test_a_new_lambda_over_new_arrays_in_a_module_compiles_once(module):  # noqa: F811
    user = module("""
        model = fx.Dense(3, 1)
        opt = fx.setup(fx.Descent(0.1), model)
        for i in range(5):
            x, y = i * jnp.ones((2, 3)), jnp.ones((2, 1))
            l, (g,) = fx.withgradient(lambda m: fx.mse(m(x), y), model)
            fx.update(opt, model, g)
        f = lambda m: fx.mse(m(x), y)
        last = fx.gradient(f, model)[0]
    """)
    found = [user.f.__code__.co_firstlineno]
    report = [r for r in _reports() if r.name == "<lambda>" and r.count and _line(r) == found[0] - 2]
    assert [r.count for r in report] == [1]


def _reports():
    from fluxion.compile import report

    return [_with_key(key, value) for key, value in report._reports.items()]


def _with_key(key, value):
    value.key = key
    return value


def _line(report):
    code = getattr(report.key, "code", None)
    return code.co_firstlineno if code is not None and "user_module" in code.co_filename else None


def test_source_executed_again_compiles_once():
    source = "import fluxion as fx\nf = lambda w: (w * x).sum()\nout = fx.gradient(f, v)[0]"
    cell = {"__name__": "__main__"}
    for i in range(4):
        cell |= {"x": ONES * i, "v": ONES + i}
        exec(compile(source, "<cell>", "exec"), cell)
        np.testing.assert_allclose(cell["out"], i * ONES)
    assert fx.explain(cell["f"]).count == 1


def test_the_same_function_in_two_files_has_two_reports(module):  # noqa: F811
    a, b = module("def f(x): return x * 2"), module("def f(x): return x * 2")
    fx.compile(a.f)(ONES)
    assert (fx.explain(a.f).count, fx.explain(b.f).count) == (1, 0)


def test_a_changing_float_argument_compiles_once():
    f = fx.compile(lambda x, k: x * k)
    for k in (0.1, 0.2, 0.3, 0.4):
        np.testing.assert_allclose(f(ONES, k), k * ONES, rtol=1e-6)
    assert fx.explain(f).count == 1


@pytest.mark.parametrize("hold", ["cell", "attribute", "dict", "tuple", "default", "partial"])
def test_a_changing_float_elsewhere_compiles_twice_at_most(hold):
    model = Weights()
    functions = set()
    for k in (0.1, 0.2, 0.3, 0.4, 0.5):
        model.k, table, pair = k, {"k": k}, (k, 1)
        f = {
            "cell": lambda w: (w * k).sum(),  # noqa: B023
            "attribute": lambda w: (w * model.k).sum(),
            "dict": lambda w: (w * table["k"]).sum(),  # noqa: B023
            "tuple": lambda w: (w * pair[0]).sum(),  # noqa: B023
            "default": lambda w, k=k: (w * k).sum(),
            "partial": functools.partial(lambda k, w: (w * k).sum(), k),
        }[hold]
        np.testing.assert_allclose(fx.gradient(f, ONES)[0], k * ONES, rtol=1e-6)
        functions.add(fx.explain(f).count)
    if hold != "partial":
        assert max(functions) <= 2


@pytest.mark.filterwarnings("ignore::fluxion.RecompileWarning")
def test_a_float_that_an_if_needs_is_compiled_per_value():
    def f(w, x):
        return (w * x).sum() if k > 0.25 else (w + x).sum()

    for k in (0.1, 0.2, 0.3, 0.4, 0.1):
        wanted = ONES if k > 0.25 else jnp.ones(3)
        np.testing.assert_allclose(fx.gradient(f, 2 * ONES, ONES)[0], wanted)
        np.testing.assert_allclose(fx.withgradient(f, 2 * ONES, ONES)[0], 6 if k > 0.25 else 9)
    assert fx.explain(f).eager is None


def test_an_int_that_decides_a_shape_compiles_anew():
    f = fx.compile(lambda n: jnp.zeros(n))
    assert [f(n).shape for n in (1, 2, 3, 2)] == [(1,), (2,), (3,), (2,)]
    assert fx.explain(f).count == 3
    assert "n changed from 2 to 3" in str(fx.explain(f))


def test_recompiling_again_and_again_warns_once_with_both_ways_out():
    f = fx.compile(lambda n: jnp.zeros(n))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(1, 10):
            f(n)
    (warning,) = [w for w in caught if w.category is fx.RecompileWarning]
    assert "n changed from 5 to 6" in str(warning.message)
    assert "as an array or a float" in str(warning.message) and "keep it constant" in str(warning.message)
    assert warning.filename == __file__


def test_a_new_shape_compiles_anew_and_says_so():
    f = fx.compile(lambda x: x + 1)
    for n in (1, 2, 1):
        assert f(jnp.ones(n)).shape == (n,)
    assert fx.explain(f).count == 2
    assert "x changed from float32[1] to float32[2]" in str(fx.explain(f))


def test_explain_tells_counts_seconds_and_reasons():
    f = fx.compile(lambda x, mode: x if mode == "a" else -x)
    f(ONES, "a"), f(ONES, "b")
    report = fx.explain(f)
    assert report.count == 2 and report.seconds > 0
    assert "mode changed from 'a' to 'b'" in str(report)


def test_explain_of_a_function_that_never_ran():
    assert fx.explain(lambda: None).count == 0


@pytest.mark.parametrize("call", [fx.compile, fx.explain])
def test_only_callables_are_compiled_and_explained(call):
    with pytest.raises(TypeError, match="function"):
        call(3)


def test_a_replaced_layer_is_named_in_the_report():
    f = fx.compile(fx.Chain(fx.Dense(3, 3), fx.relu))
    f(ONES)
    f.__wrapped__.layers[1] = lambda x: 2 * x  # code of its own, which no other test has compiled
    f(ONES)
    assert "layers[1]" in str(fx.explain(f).compilations[-1].changes)


# --- any argument, any result


def test_compile_decorates_functions():
    @fx.compile
    def scaled(x, *more, k=2.0, **rest):
        """Doc."""
        return x * k + sum(more) + sum(rest.values())

    assert scaled.__name__ == "scaled" and scaled.__doc__ == "Doc."
    np.testing.assert_allclose(scaled(ONES), 2 * ONES)
    np.testing.assert_allclose(scaled(ONES, ONES, 1.0, k=3.0, other=ONES), 6 * ONES)


def test_compile_takes_a_model_a_method_and_a_partial():
    model = fx.Chain(fx.Dense(3, 2), fx.relu)
    wanted = model(ONES)
    for f in (model, model.__call__, functools.partial(model), lambda x: model(x)):
        np.testing.assert_allclose(fx.compile(f)(ONES), wanted, rtol=1e-6)


def test_a_compiled_model_is_in_test_mode():
    model = fx.Chain(fx.Dropout(0.5))
    np.testing.assert_allclose(fx.compile(model)(ONES), ONES)


@dataclass
class Result:
    value: object
    name: str = "r"


@pytest.mark.parametrize(
    "make",
    [
        lambda x: (x, 2 * x),
        lambda x: {"a": x, "b": [x, None, "text", 3, 2.5]},
        lambda x: Pair(x, 1),
        lambda x: Result(x),
        lambda x: None,
        lambda x: "text",
        lambda x: 3,
        lambda x: x.shape,
        lambda x: {1: x, "b": deque([x])},
        lambda x: defaultdict(list, a=[x]),
        lambda x: [],
        lambda x: fx.onehot(1, range(3)),
    ],
)
def test_any_result_comes_out_whole(make):
    wanted, got = make(ONES), fx.compile(make)(ONES)
    again = fx.compile(make)(ONES)
    for found in (got, again):
        assert type(found) is type(wanted)
        a, b = fx.leaves(wanted), fx.leaves(found)
        assert len(a) == len(b) and all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))
        if not a:
            assert found == wanted


def test_a_function_can_return_a_function():
    f = fx.compile(lambda k: lambda x: x * k)
    np.testing.assert_allclose(f(ONES)(2 * ONES), 2 * ONES)


def test_returning_an_argument_gives_its_value():
    np.testing.assert_allclose(fx.compile(lambda x: x)(ONES), ONES)
    assert fx.compile(lambda d: d)({"a": ONES, "b": "text"})["b"] == "text"


def test_returning_plain_data_gives_plain_containers():
    data = {"names": ["a", "b"], "sizes": [1, 2]}
    got = fx.compile(lambda x: (data["names"], data["sizes"], x))(ONES)
    assert got[:2] == (["a", "b"], [1, 2])
    assert type(got[0]) is list


def test_recursion_and_lambdas_in_defaults():
    def power(x, n=3, g=lambda x: x + 1):
        return g(x) if n == 0 else x * power(x, n - 1)

    np.testing.assert_allclose(fx.compile(power)(2 * ONES), 8 * 3 * ONES)


def test_generators_and_coroutines_are_refused():
    def generate():
        yield 1

    async def wait():
        return 1

    for f in (generate, wait):
        with pytest.raises(TypeError, match="generator"):
            fx.compile(f)


def test_an_empty_cell_is_an_unbound_name_as_in_python():
    def make():
        def f(x):
            return x if x.ndim else later

        if False:
            later = 1
        return f

    np.testing.assert_allclose(fx.compile(make())(ONES), ONES)
    with pytest.raises(NameError):
        fx.compile(make())(jnp.ones(()))


def test_try_and_except_in_user_code_work():
    def f(x):
        try:
            return x @ jnp.ones(7)
        except TypeError:
            return x * 2

    np.testing.assert_allclose(fx.compile(f)(ONES), 2 * ONES)


def test_isinstance_and_type_know_rebuilt_classes():
    class Box:
        scale = ONES

        def copy(self):
            return type(self)()

    box = Box()

    def f(x):
        assert isinstance(box, Box) and isinstance(box.copy(), Box)
        return x * box.copy().scale

    np.testing.assert_allclose(fx.compile(f)(ONES), ONES)


def test_classes_with_hooks_are_left_in_peace():
    made = []

    class Base:
        def __init_subclass__(cls):
            made.append(cls.__name__)

    class Child(Base):
        scale = 2 * ONES

    np.testing.assert_allclose(fx.compile(lambda x: x * Child.scale)(ONES), 2 * ONES)
    assert made == ["Child"]


def test_a_class_defined_inside_the_function():
    def f(x):
        class Local(Weights):
            def __call__(self, x):
                return 2 * super().__call__(x)

        return Local()(x)

    np.testing.assert_allclose(fx.compile(f)(ONES), 2 * ONES)


def test_cycles_and_self_reference():
    class Node:
        pass

    a, b = Node(), Node()
    a.next, b.next, a.w, b.me, b.items = b, a, jnp.ones(3), b, []
    b.items.append(b.items)
    f = fx.compile(lambda x: x * a.next.next.w)
    np.testing.assert_allclose(f(ONES), ONES)
    a.w = 5 * ONES
    np.testing.assert_allclose(f(ONES), 5 * ONES)
    assert fx.explain(f).count == 1


# --- captured writes


def test_an_attribute_write_lands_each_time():
    m = Counter()
    for _ in range(3):
        fx.compile(m)(ONES)
    fx.gradient(total, m, ONES)
    assert float(m.calls) == 4
    assert isinstance(m.calls, jax.Array) and no_tracers(m)


@pytest.mark.parametrize("eager", [False, True])
def test_writes_land_in_every_kind_of_place(eager):
    calls = jnp.zeros(())
    items, table = [jnp.zeros(())], {"n": jnp.zeros(())}

    class Place:
        __slots__ = ("n",)

    place = Place()
    place.n = jnp.zeros(())

    def f(x):
        nonlocal calls
        calls = calls + 1
        items[0] = items[0] + 1
        table["n"] += 1
        place.n += 1
        f.n += 1
        Weights.n = Weights.n + 1
        return x.sum()

    f.n = jnp.zeros(())
    Weights.n = jnp.zeros(())
    try:
        for _ in range(2):
            with fx.eager() if eager else warnings.catch_warnings():
                fx.gradient(f, ONES)
        assert [float(v) for v in (calls, items[0], table["n"], place.n, f.n, Weights.n)] == [2] * 6
        assert no_tracers(calls, items, table, place, f, Weights)
    finally:
        del Weights.n


def test_a_global_array_can_be_rebound(module):  # noqa: F811
    user = module("""
        count = jnp.zeros(())
        def f(x):
            global count
            count = count + 1
            return x.sum()
    """)
    fx.gradient(user.f, ONES), fx.gradient(user.f, ONES)
    assert float(user.count) == 2


def test_a_write_to_a_tied_array_lands_where_it_was_written():
    a, b = Weights(), Weights()
    a.w = b.w = ONES

    def f(x):
        a.w = a.w * 2
        return (b.w * x).sum()

    assert float(fx.compile(f)(ONES)) == 3
    assert float(a.w[0]) == 2 and float(b.w[0]) == 1


def test_a_write_through_a_shared_object_is_seen_by_both():
    m = Counter()
    twice = [m, m]
    fx.compile(lambda x: twice[1](twice[0](x)))(ONES)
    assert float(m.calls) == 2 and twice[0] is twice[1]


def test_two_closures_share_a_written_cell():
    def make():
        n = jnp.zeros(())

        def add():
            nonlocal n
            n = n + 1

        return add, lambda: n

    add, get = make()

    def f(x):
        add()
        return x * get()

    np.testing.assert_allclose(fx.compile(f)(ONES), ONES)
    np.testing.assert_allclose(fx.compile(f)(ONES), 2 * ONES)
    assert float(get()) == 2


def test_a_random_key_can_be_state():
    class Noise:
        def __init__(self):
            self.key = jax.random.key(0)

        def __call__(self, x):
            self.key, k = jax.random.split(self.key)
            return x + jax.random.normal(k, x.shape)

    compiled, plain = Noise(), Noise()
    f = fx.compile(compiled)
    for _ in range(2):
        np.testing.assert_allclose(f(ONES), plain(ONES), rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "text"),
    [(jnp.zeros(2), r"calls .*float32\[\].*float32\[2\]"), (jnp.zeros((), int), r"calls .*float32\[\].*int32\[\]")],
)
def test_an_array_that_changes_shape_or_dtype_is_refused_by_name(value, text):
    m = Counter()

    def f(m, x):
        m.calls = value
        return (m.w * x).sum()

    before = m.calls
    with pytest.raises(fx.CaptureError, match=text):
        fx.gradient(f, m, ONES)
    assert m.calls is before


def _append(m, x):
    m.log.append((m.w * x).sum())
    return (m.w * x).sum()


def _new_attribute(m, x):
    m.last = m.w * x
    return m.last.sum()


def _new_entry(m, x):
    m.table["last"] = m.w * x
    return m.w.sum()


def _number_to_array(m, x):
    m.k = (m.w * x).sum()
    return m.k


def _number_in_dict(m, x):
    m.table["k"] = (m.w * x).sum()
    return m.w.sum()


@pytest.mark.parametrize(
    ("f", "named"),
    [(_append, "log"), (_new_attribute, "last"), (_new_entry, r"table\['last'\]"), (_number_to_array, "[.]k"),
     (_number_in_dict, r"table\['k'\]")],
)  # fmt: skip
@pytest.mark.parametrize("run", ["gradient", "compile", "trainstep"])
def test_a_write_that_cannot_be_captured_is_an_error_that_names_it(f, named, run):
    m = Weights()
    m.log, m.table, m.k = [], {"k": 1.0}, 1.0
    opt = fx.setup(fx.Descent(0.1), m)
    calls = {
        "gradient": lambda: fx.gradient(f, m, ONES),
        "compile": lambda: fx.compile(f)(m, ONES),
        "trainstep": lambda: fx.trainstep(f, m, ONES, opt),
    }
    with pytest.raises(fx.CaptureError, match=named):
        calls[run]()
    assert no_tracers(m, f, opt)
    assert m.log == [] and m.table == {"k": 1.0} and m.k == 1.0 and not hasattr(m, "last")


def test_a_rebound_global_that_was_no_array_is_an_error_that_names_it(module):  # noqa: F811
    user = module("""
        last = None
        def f(x):
            global last
            last = x * 2
            return x.sum()
    """)
    with pytest.raises(fx.CaptureError, match="last"):
        fx.gradient(user.f, ONES)
    assert user.last is None


def test_a_nonlocal_that_was_no_array_is_an_error_that_names_it():
    last = None

    def f(x):
        nonlocal last
        last = x * 2
        return x.sum()

    with pytest.raises(fx.CaptureError, match="last"):
        fx.gradient(f, ONES)
    assert last is None


# --- ties


def _tied_by(kind):
    a = fx.Dense(3, 3, bias=False)
    if kind == "layer":
        model = fx.Chain(a, a)
        return model, model, a
    if kind == "weight":
        b = fx.Dense(3, 3, bias=False)
        b.weight = a.weight
        model = fx.Chain(a, b)
        return model, model, a
    if kind == "list":
        model = [a, a]
        return model, lambda x: model[1](model[0](x)), a
    if kind == "closure":
        return (lambda x: a(a(x))), None, a
    model = functools.partial(lambda f, g, x: f(g(x)), a.__call__, a.__call__)
    return model, None, a


@pytest.mark.parametrize("kind", ["layer", "weight", "list", "closure", "method"])
def test_tied_weights_have_one_summed_gradient_and_stay_tied(kind):
    model, _, a = _tied_by(kind)
    w0 = a.weight
    x = jnp.ones((2, 3))

    def loss(m, x):
        return (m[1](m[0](x)) if isinstance(m, list) else m(x)).sum()

    slope = jax.grad(lambda w: (x @ w @ w).sum())(w0)
    opt = fx.setup(fx.Descent(0.1), model)
    assert len(fx.trainables(model)) == 1
    fx.trainstep(loss, model, x, opt)
    np.testing.assert_allclose(a.weight, w0 - 0.1 * slope, rtol=1e-5)
    if kind == "weight":
        assert model[0].weight is model[1].weight
    if kind in ("layer", "list"):
        assert model[0] is model[1]
    w1 = a.weight
    (g,) = fx.gradient(lambda m: loss(m, x), model)
    fx.update(opt, model, g)
    np.testing.assert_allclose(a.weight, w1 - 0.1 * jax.grad(lambda w: (x @ w @ w).sum())(w1), rtol=1e-5)


# --- donation


def _aliases(w):
    return {
        "array": w,
        "list": [w],
        "numpy": np.asarray(w),
        "shard": w.addressable_shards[0].data,
        "put": jax.device_put(w, w.devices().pop()),
        "cpu": fx.cpu(w),
        "asarray": jnp.asarray(w),
    }


@pytest.mark.parametrize("kind", ["array", "list", "numpy", "shard", "put", "cpu", "asarray"])
@pytest.mark.parametrize("way", ["train", "update", "trainstep"])
def test_an_array_that_the_user_holds_stays_valid(kind, way):
    m = fx.Dense(64, 64)
    held = _aliases(m.weight)[kind]
    wanted = np.array(np.asarray(m.weight), copy=True)
    opt = fx.setup(fx.Momentum(0.1), m)
    x = jnp.ones((2, 64))
    for _ in range(2):
        if way == "train":
            fx.train(total, m, [(x,)], opt)
        elif way == "trainstep":
            fx.trainstep(total, m, x, opt)
        else:
            fx.update(opt, m, fx.gradient(total, m, x)[0])
    np.testing.assert_array_equal(np.asarray(held[0] if kind == "list" else held), wanted)
    assert not np.allclose(np.asarray(m.weight), wanted)


def test_a_second_model_that_shares_the_weights_stays_valid():
    m = fx.Dense(3, 1)
    other = fx.Dense(3, 1)
    other.weight = m.weight
    saved = dict(vars(m))
    fx.train(total, m, [(jnp.ones((2, 3)),)], fx.setup(fx.Descent(0.1), m))
    assert float(other.weight.sum()) == float(saved["weight"].sum())


def test_a_batch_is_never_invalidated():
    m = fx.Dense(3, 3)
    x = jnp.ones((3, 3))
    m.weight = x
    opt = fx.setup(fx.Descent(0.1), m)
    fx.trainstep(total, m, x, opt)
    assert float(x.sum()) == 9


def test_the_state_of_an_optimiser_that_the_user_holds_stays_valid():
    m = fx.Dense(3, 1)
    opt = fx.setup(fx.Adam(0.1), m)
    state = opt.state
    fx.train(total, m, [(jnp.ones((2, 3)),)] * 3, opt)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(state))


# --- large containers


class Vocabulary(Weights):
    def __init__(self, n=50_000):
        super().__init__()
        self.words = {f"word{i}": i for i in range(n)}

    def __call__(self, x):
        return self.w * x * self.words["word3"]


@pytest.mark.parametrize("where", ["attribute", "closure", "argument"])
def test_a_large_vocabulary_costs_no_walk_per_call(where):
    m = Vocabulary()
    words = m.words
    calls = {
        "attribute": lambda: fx.compile(m)(ONES),
        "closure": lambda: fx.compile(lambda x: x * words["word3"])(ONES),
        "argument": lambda: fx.gradient(lambda w, d: (w * d["word3"]).sum(), ONES, words),
    }
    call = calls[where]
    call(), call()
    started = time.perf_counter()
    for _ in range(20):
        call()
    walk = time.perf_counter()
    for _ in range(20):
        tuple(map(type, words.values()))
        hash(tuple(words.items()))
    assert walk - started < time.perf_counter() - walk


def test_only_the_entries_that_are_read_count():
    words = {f"word{i}": i for i in range(1000)}
    f = fx.compile(lambda x: x * words["word3"])
    f(ONES)
    words["word4"], words["new"] = -1, 0
    np.testing.assert_allclose(f(ONES), 3 * ONES)
    assert fx.explain(f).count == 1
    words["word3"] = 7
    np.testing.assert_allclose(f(ONES), 7 * ONES)
    assert fx.explain(f).count == 2


@pytest.mark.filterwarnings("ignore::fluxion.EagerNotice")
def test_an_entry_that_becomes_an_array_takes_effect():
    words = {f"word{i}": i for i in range(1000)}
    f = fx.compile(lambda x: x * words["word3"])
    f(ONES)
    for value in (2 * ONES, 5 * ONES):
        words["word3"] = value
        np.testing.assert_allclose(f(ONES), value)


def test_a_growing_history_does_not_recompile():
    m = Weights()
    m.history = []
    opt = fx.setup(fx.Descent(0.1), m)

    def loss(m, x):
        return (m.w * x).sum()

    for _ in range(100):
        m.history.append(float(fx.trainstep(loss, m, ONES, opt)))
    assert fx.explain(loss).count <= 2 and len(m.history) == 100


def test_a_model_with_a_large_vocabulary_can_be_mapped_and_destructured():
    m = Vocabulary(1000)
    assert fx.fmap(lambda a: 2 * a, m).words == m.words
    flat, re = fx.destructure(m)
    assert type(re(flat).words) is dict and re(flat).words["word7"] == 7


# --- nesting


def loss_of(w, x):
    return ((w * x) ** 2).sum()


def test_gradient_inside_gradient():
    slope = lambda x: fx.gradient(lambda y: y**3, x)[0]
    assert fx.gradient(slope, 2.0) == (12.0,)
    inner = lambda w: fx.gradient(loss_of, w, ONES)[0].sum()
    np.testing.assert_allclose(fx.gradient(inner, ONES)[0], 2 * ONES)


def test_gradient_inside_trainstep():
    m = Weights()
    opt = fx.setup(fx.Descent(0.5), m)
    fx.trainstep(lambda m, x: (fx.gradient(loss_of, m.w, x)[0] ** 2).sum(), m, ONES, opt)
    np.testing.assert_allclose(m.w, -3 * ONES)  # 1 - 0.5 * 8


def test_gradient_inside_jit_vmap_and_scan():
    slope = lambda w: fx.gradient(loss_of, w, ONES)[0]
    np.testing.assert_allclose(jax.jit(slope)(ONES), 2 * ONES)
    np.testing.assert_allclose(jax.vmap(slope)(jnp.ones((4, 3))), 2 * jnp.ones((4, 3)))
    descended, _ = jax.lax.scan(lambda w, _: (w - 0.25 * slope(w), None), ONES, length=2)
    np.testing.assert_allclose(descended, ONES / 4)


def test_jax_transformations_inside_a_compiled_function():
    f = fx.compile(lambda w: jax.grad(loss_of)(w, ONES) + jax.vmap(lambda a: a * 2)(w))
    np.testing.assert_allclose(f(ONES), 4 * ONES)


def test_jax_grad_and_jit_of_a_model():
    m = fx.Dense(3, 1)
    f = lambda x: m(x).sum()
    np.testing.assert_allclose(jax.grad(f)(ONES), m.weight[:, 0], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(f)(ONES), f(ONES), rtol=1e-6)


def test_compiled_functions_inside_jax_transformations_and_each_other():
    f = fx.compile(lambda x: x**2)
    g = fx.compile(lambda x: f(x) + 1)
    np.testing.assert_allclose(g(2 * ONES), 5 * ONES)
    np.testing.assert_allclose(jax.jit(g)(2 * ONES), 5 * ONES)
    np.testing.assert_allclose(jax.vmap(g)(2 * ONES), 5 * ONES)
    np.testing.assert_allclose(jax.grad(lambda x: g(x).sum())(ONES), 2 * ONES)
    np.testing.assert_allclose(fx.gradient(lambda x: g(x).sum(), ONES)[0], 2 * ONES)


def test_a_whole_training_loop_inside_compile():
    m = Weights()
    opt = fx.setup(fx.Momentum(0.1), m)
    plain = Weights()
    plain_opt = fx.setup(fx.Momentum(0.1), plain)

    @fx.compile
    def two_steps(x):
        first = fx.trainstep(total, m, x, opt)
        return first, fx.trainstep(total, m, x, opt)

    for _ in range(2):
        losses = two_steps(ONES)
        wanted = [fx.trainstep(total, plain, ONES, plain_opt) for _ in range(2)]
        np.testing.assert_allclose(losses, wanted, rtol=1e-6)
    np.testing.assert_allclose(m.w, plain.w, rtol=1e-6)
    assert no_tracers(m, opt)


def test_a_write_under_jit_is_refused_and_leaves_no_tracer():
    m = Counter()
    with pytest.raises(fx.CaptureError, match="calls"):
        jax.jit(lambda x: fx.gradient(total, m, x)[0])(ONES)
    assert no_tracers(m)


def test_writes_of_an_inner_gradient_land_once():
    m = Counter()
    fx.compile(lambda x: fx.gradient(total, m, x)[1])(ONES)
    assert float(m.calls) == 1 and no_tracers(m)


# --- threads and memory


def test_two_threads_train_two_models_at_once():
    def loss(m, x, y):
        return fx.mse(m(x), y)

    def train(m):
        fx.train(loss, m, [(jnp.ones((4, 3)), jnp.ones((4, 1)))], fx.setup(fx.Adam(0.01), m), epochs=40)

    fx.seed(0)
    models = [fx.Chain(fx.Dense(3, 5, fx.tanh), fx.Dense(5, 1)) for _ in range(2)]
    alone = [fx.fmap(lambda a: a + 0, m) for m in models]
    threads = [threading.Thread(target=train, args=(m,)) for m in models]
    [t.start() for t in threads], [t.join() for t in threads]
    [train(m) for m in alone]
    for m, n in zip(models, alone, strict=True):
        np.testing.assert_allclose(m[0].weight, n[0].weight, rtol=1e-5, atol=1e-6)


def test_one_function_traced_by_many_threads_at_once():
    f = fx.compile(lambda x, n: x * n)
    wrong = []

    def work():
        for n in range(1, 5):
            if float(f(jnp.ones(()), n)) != n:
                wrong.append(n)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fx.RecompileWarning)
        threads = [threading.Thread(target=work) for _ in range(4)]
        [t.start() for t in threads], [t.join() for t in threads]
    assert wrong == []


@pytest.mark.parametrize("way", ["train", "gradient", "compile", "update", "map", "eager"])
def test_a_dropped_model_is_freed_with_its_arrays(way):
    m = fx.Chain(fx.Dense(3, 4, fx.relu), fx.BatchNorm(4), fx.Dense(4, 1))
    x = jnp.ones((2, 3))
    opt = fx.setup(fx.Adam(0.1), m)
    if way == "train":
        fx.train(total, m, [(x,)] * 3, opt)
    elif way == "update":
        fx.update(opt, m, fx.gradient(total, m, x)[0])
    elif way == "map":
        m = fx.fmap(lambda a: a * 2, m)
    elif way == "gradient":
        fx.gradient(lambda m: m(x).sum(), m), fx.gradient(lambda x: m(x).sum(), x)
    elif way == "eager":
        with fx.eager():
            fx.train(total, m, [(x,)], opt)
    else:
        fx.compile(m)(x), fx.compile(lambda x: m(x))(x)
    alive = [weakref.ref(m), weakref.ref(m[0]), weakref.ref(m[0].weight), weakref.ref(m[1].mean)]
    m = opt = None
    gc.collect()
    assert [r() is None for r in alive] == [True] * 4


def test_a_model_that_fails_is_freed_too():
    m = fx.Dense(3, 1)
    with pytest.raises(fx.SizeError):
        fx.gradient(total, m, jnp.ones((2, 5)))
    alive = weakref.ref(m)
    del m
    gc.collect()
    assert alive() is None


def test_thousands_of_fresh_lambdas_leave_nothing_behind():
    def work(n):
        for i in range(n):
            k = float(i)
            fx.gradient(lambda w: w * k, 1.0)  # noqa: B023

    work(50)
    gc.collect()
    before, arrays = len(gc.get_objects()), len(jax.live_arrays())
    work(2000)
    gc.collect()
    assert len(gc.get_objects()) - before < 300
    assert len(jax.live_arrays()) - arrays < 10

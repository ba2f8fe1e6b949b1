"""Every kind of Python value: taken apart, built anew with other arrays, written back."""

import enum
import functools
import types
from abc import ABC, abstractmethod
from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.tree import assign, flatten, rebuild

W = jnp.arange(1.0, 4.0)
Point = namedtuple("Point", "x y")
T = TypeVar("T")


class Typed(NamedTuple):
    w: Any
    name: str = "n"


class Plain:
    def __init__(self, w):
        self.w = w


class Slotted:
    __slots__ = ("__private", "empty", "w")

    def __init__(self, w):
        self.w, self.__private = w, w

    def private(self):
        return self.__private


class SlottedChild(Slotted):
    __slots__ = ("more",)

    def __init__(self, w):
        super().__init__(w)
        self.more = w


class SlotsAndFields(Slotted):
    def __init__(self, w):
        super().__init__(w)
        self.field = w


class Strict:
    """Refuses to be made without arguments, and every assignment."""

    def __new__(cls, w):
        made = super().__new__(cls)
        made.__dict__["w"] = w
        return made

    def __setattr__(self, name, value):
        raise AttributeError("read only")


class WithProperty:
    def __init__(self, w):
        self._w = w

    @property
    def w(self):
        return self._w


class Greedy:
    """Answers to every name."""

    def __init__(self, w):
        self.w = w

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return 3


@dataclass
class Data:
    w: Any
    items: list = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    w: Any


@dataclass(slots=True)
class SlottedData:
    w: Any
    k: int = 2


class Abstract(ABC):
    @abstractmethod
    def get(self): ...


class Concrete(Abstract, Generic[T]):
    def __init__(self, w):
        self.w = w

    def get(self):
        return self.w


class Items(list):
    pass


class Table(dict):
    __getattr__ = dict.__getitem__


class Named(dict):
    def __init__(self, name, **entries):
        super().__init__(**entries)
        self.name = name


@jax.tree_util.register_pytree_node_class
class Registered:
    __slots__ = ("inside",)

    def __init__(self, w):
        self.inside = w

    def tree_flatten(self):
        return (self.inside,), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


class Colour(enum.Enum):
    RED = 1


def keywords(*, w=None):
    return w


# how each value is made from an array, and how the array is read from it
KINDS = {
    "list": (lambda w: [w, 1], lambda v: v[0]),
    "tuple": (lambda w: (w, 1), lambda v: v[0]),
    "named tuple": (lambda w: Point(w, 1), lambda v: v.x),
    "typed named tuple": (lambda w: Typed(w), lambda v: v.w),
    "dict": (lambda w: {"w": w, 3: 1}, lambda v: v["w"]),
    "dict with odd keys": (lambda w: {(1, "a"): w, None: 1, Colour.RED: 2}, lambda v: v[1, "a"]),
    "ordered dict": (lambda w: OrderedDict(w=w), lambda v: v["w"]),
    "default dict": (lambda w: defaultdict(list, w=w), lambda v: v["w"]),
    "deque": (lambda w: deque([w], 5), lambda v: v[0]),
    "counter": (lambda w: Counter(w=w), lambda v: v["w"]),
    "user dict": (lambda w: UserDict(w=w), lambda v: v["w"]),
    "chain map": (lambda w: ChainMap({}, {"w": w}), lambda v: v["w"]),
    "mapping proxy": (lambda w: types.MappingProxyType({"w": w}), lambda v: v["w"]),
    "list subclass": (lambda w: Items([w]), lambda v: v[0]),
    "dict subclass": (lambda w: Table(w=w), lambda v: v.w),
    "dict subclass with fields": (lambda w: Named("n", w=w), lambda v: v["w"]),
    "object": (Plain, lambda v: v.w),
    "slots": (Slotted, lambda v: v.w),
    "private slot": (Slotted, lambda v: v.private()),
    "inherited slots": (SlottedChild, lambda v: v.w),
    "slots of a subclass": (SlottedChild, lambda v: v.more),
    "slots and fields": (SlotsAndFields, lambda v: v.field),
    "read-only object": (Strict, lambda v: v.w),
    "property": (WithProperty, lambda v: v.w),
    "object with __getattr__": (Greedy, lambda v: v.w),
    "dataclass": (Data, lambda v: v.w),
    "frozen dataclass": (Frozen, lambda v: v.w),
    "slotted dataclass": (SlottedData, lambda v: v.w),
    "abstract and generic": (Concrete, lambda v: v.get()),
    "simple namespace": (lambda w: types.SimpleNamespace(w=w), lambda v: v.w),
    "lambda": (lambda w: lambda: w, lambda v: v()),
    "default": (lambda w: lambda x=w: x, lambda v: v()),
    "keyword default": (lambda w: types.FunctionType(keywords.__code__, globals(), "f", None, None), None),
    "function attribute": (lambda w: _with_attribute(w), lambda v: v.w),
    "bound method": (lambda w: Concrete(w).get, lambda v: v()),
    "partial": (lambda w: functools.partial(lambda a, b: a, w, b=1), lambda v: v()),
    "partial keyword": (lambda w: functools.partial(keywords, w=w), lambda v: v()),
    "nested function": (lambda w: _nested(w), lambda v: v()),
    "built-in method": (lambda w: {"w": w}.get, lambda v: v("w")),
    "cached function": (lambda w: functools.cache(lambda: w), lambda v: v()),
    "registered pytree": (Registered, lambda v: v.inside),
    "deep": (lambda w: [{"a": (Plain([w]),)}], lambda v: v[0]["a"][0].w[0]),
}
del KINDS["keyword default"]


def _with_attribute(w):
    def f():
        return None

    f.w = w
    return f


def _nested(w):
    def middle():
        return lambda: w

    return lambda: middle()()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_built_anew_around_other_arrays(kind):
    make, read = KINDS[kind]
    value = make(W)
    leaves, structure = flatten(value)
    assert [leaf is W for leaf in leaves] == [True]
    assert flatten(make(2 * W))[1] == structure or kind == "lambda"
    made = rebuild(structure, [5 * W])
    assert type(made) is type(value) and made is not value
    np.testing.assert_array_equal(read(made), 5 * W)
    np.testing.assert_array_equal(read(value), W)


IMMUTABLE = {"tuple", "named tuple", "typed named tuple", "default", "bound method", "partial", "built-in method"}
IMMUTABLE |= {"cached function", "registered pytree", "mapping proxy"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in IMMUTABLE])
def test_each_mutable_kind_takes_an_array_back(kind):
    make, read = KINDS[kind]
    value = make(W)
    assign(value, [7 * W])
    np.testing.assert_array_equal(read(value), 7 * W)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in IMMUTABLE])
def test_each_mutable_kind_trains_in_place(kind):
    make, read = KINDS[kind]
    value = make(jnp.ones(3))
    opt = fx.setup(fx.Descent(0.5), value)
    fx.train(lambda v, x: (read(v) * x).sum(), value, [jnp.ones(3)] * 2, opt)
    np.testing.assert_allclose(read(value), jnp.zeros(3))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_gradients(kind):
    make, read = KINDS[kind]
    value, (g,) = fx.withgradient(lambda v: (read(v) ** 2).sum(), make(W))
    np.testing.assert_allclose(value, 14)
    (only,) = [leaf for leaf in fx.leaves(g) if hasattr(leaf, "shape")]
    np.testing.assert_allclose(only, 2 * W)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_updated_by_fmap(kind):
    make, read = KINDS[kind]
    value = make(W)
    (g,) = fx.gradient(lambda v: (read(v) ** 2).sum(), value)
    np.testing.assert_allclose(read(fx.fmap(lambda p, d: p - 0.5 * d, value, g)), 0 * W)


def test_what_does_not_hold_arrays_keeps_its_identity():
    f, c, e = len, Plain, Colour.RED
    made = fx.fmap(lambda a: a, [f, c, e, fx.relu, jnp.tanh, np.float32])
    assert all(a is b for a, b in zip(made, [f, c, e, fx.relu, jnp.tanh, np.float32], strict=True))


def test_containers_keep_their_settings():
    made = fx.fmap(lambda a: a, [deque([W], 5), defaultdict(list, w=W), Named("n", w=W), OrderedDict(b=W, a=W)])
    assert made[0].maxlen == 5
    assert made[1]["new"] == []
    assert made[2].name == "n"
    assert list(made[3]) == ["b", "a"]


@pytest.mark.parametrize("n", [3, 100])
def test_floats_in_containers_of_any_size_have_gradients(n):
    values, table = [float(i) for i in range(n)], {str(i): float(i) for i in range(n)}
    (g, h) = fx.gradient(lambda v, t: v[2] ** 2 + 3 * t["2"], values, table)
    assert g[2] == 4.0 and h["2"] == 3.0 and g[1] == 0.0


def test_an_empty_slot_stays_empty():
    assert not hasattr(fx.fmap(lambda a: a, Slotted(W)), "empty")


def test_sets_keep_their_type():
    made = fx.fmap(lambda a: a, [{1, 2}, frozenset({3}), set()])
    assert made == [{1, 2}, frozenset({3}), set()]
    assert [type(s) for s in made] == [set, frozenset, set]


def test_numpy_scalars_and_arrays_are_leaves():
    assert len(fx.leaves([np.float32(2), np.ones(2), np.arange(2), np.bool_(True)])) == 4


def test_arrays_of_strings_and_objects_are_no_leaves():
    assert (
        fx.leaves([np.array(["a"]), np.array([{}], dtype=object), np.array(["2020-01-01"], dtype="datetime64[D]")])
        == []
    )


def test_integers_booleans_and_complex_numbers():
    assert fx.leaves([1, True, 2.5, 1j]) == [2.5, 1j]


def test_a_function_brings_the_globals_it_names():
    scope = {"w": W, "other": W + 1, "__name__": "user"}
    exec("def f(x): return x * w\ndef g(x): return f(x)", scope)
    assert [leaf is W for leaf in fx.leaves(scope["g"])] == [True]


def test_a_library_function_brings_nothing():
    assert fx.leaves([jnp.tanh, np.sin, fx.relu, jax.nn.gelu, functools.reduce, jax.numpy]) == []


def test_two_functions_over_one_variable_still_share_it():
    def make():
        n = W

        def set(v):
            nonlocal n
            n = v

        return [lambda: n, set]

    get, set = fx.fmap(lambda a: a + 1, make())
    set("new")
    assert get() == "new"


def test_a_recursive_function_is_rebuilt_around_itself():
    def make(w):
        def f(n):
            return w if n == 0 else f(n - 1)

        return f

    made = fx.fmap(lambda a: 2 * a, make(W))
    np.testing.assert_array_equal(made(3), 2 * W)


def test_a_class_with_an_array_is_rebuilt_for_its_objects():
    class Scaled:
        scale = jnp.ones(3)

        def __call__(self, x):
            return x * self.scale

    made = fx.compile(Scaled())
    np.testing.assert_array_equal(made(W), W)
    Scaled.scale = 2 * W
    np.testing.assert_array_equal(made(W), 2 * W * W)


def test_two_objects_that_hold_each_other():
    a, b = Plain(W), Plain(W)
    a.other, b.other = b, a
    made = fx.fmap(lambda x: x * 2, [a, b])
    assert made[0].other is made[1] and made[1].other is made[0] and made[0].w is made[1].w


def test_a_tuple_in_a_cycle_is_built():
    box = Plain(W)
    box.pair = (box, box.w)
    made = fx.fmap(lambda x: x * 2, box)
    assert made.pair[0] is made and made.pair[1] is made.w
    assign(box, [3 * W])
    assert box.pair[1] is box.w and box.pair[0] is box


def test_exceptions_and_files_stay_as_they_are(tmp_path):
    with open(tmp_path / "x", "w") as file:
        error = ValueError("a")
        made = fx.fmap(lambda a: a, [error, file])
        assert made[0] is error and made[1] is file


def test_long_chains_do_not_exhaust_the_stack():
    value = W
    for _ in range(150):
        value = [value]
    assert len(fx.leaves(value)) == 1

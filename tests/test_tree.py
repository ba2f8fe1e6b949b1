"""flatten, rebuild, assign, fmap and what is built from them: any value as a tree of arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fluxion as fx
from fluxion.tree import assign, flatten, objects, rebuild


class Box:
    """A plain object."""

    def __init__(self, **fields):
        self.__dict__.update(fields)


def ones(*shape):
    return jnp.ones(shape)


# --- flatten and structure


def test_leaves_are_arrays_then_floats_each_array_once():
    w = ones(2)
    leaves, _ = flatten([1.5, w, {"a": w, "b": 2.5, "n": 3}])
    assert leaves[0] is w and leaves[1:] == [1.5, 2.5]
    assert fx.leaves([w, w]) == [w]


def test_leaves_of_single_values():
    assert fx.leaves(3) == [] and fx.leaves("a") == [] and fx.leaves(None) == []
    assert fx.leaves(2.5) == [2.5]
    w = ones(2)
    assert fx.leaves(w) == [w]


def test_equal_values_have_equal_structures_and_hashes():
    a, b = (flatten({"w": ones(2) * k, "n": 1, "s": "x", "f": 0.5 * k})[1] for k in (1, 2))
    assert a == b and hash(a) == hash(b) and len({a, b}) == 1


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([ones(1)], (ones(1),)),
        ([1], [2]),
        ([1], [True]),
        ([1], [1.0]),
        (["a"], ["b"]),
        ({"a": 1}, {"b": 1}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([ones(1)], [ones(1), ones(1)]),
        ([ones(1)], [1.0]),
        ({1, 2}, {1, 3}),
        ({1, 2}, frozenset({1, 2})),
        ([None], [0]),
        (fx.relu, fx.tanh),
        (fx.Dense(2, 1), fx.Dense(2, 1, fx.relu)),
        (fx.Dense(2, 1), fx.Dense(2, 1, bias=False)),
        (range(2), range(3)),
        (Box(a=1), Box(b=1)),
        (np.array(["a"]), np.array(["b"])),
        (b"a", bytearray(b"a")),
        ({str(i): i for i in range(100)}, {str(i): i + 1 for i in range(100)}),
        (list(range(100)), [float(i) for i in range(100)]),
    ],
)
def test_different_values_have_different_structures(a, b):
    assert flatten(a)[1] != flatten(b)[1]


def test_sharing_is_part_of_the_structure():
    w = ones(2)
    assert flatten([w, w])[1] != flatten([ones(2), ones(2)])[1]


def test_a_structure_tells_its_size():
    assert repr(flatten([ones(2), {"a": ones(1)}])[1]) == "Structure(2 nodes, 2 arrays)"


def test_a_structure_is_no_other_thing():
    assert flatten([1])[1] != [1]


# --- rebuild and assign


def test_rebuild_is_the_inverse_of_flatten():
    value = {"a": [ones(2), (1.5, "text", None)], "b": Box(w=ones(1), n=3)}
    leaves, structure = flatten(value)
    made = rebuild(structure, [leaf + 1 for leaf in leaves])
    assert made["a"][0].tolist() == [2, 2] and made["a"][1] == (2.5, "text", None)
    assert type(made["b"]) is Box and made["b"].w.tolist() == [2] and made["b"].n == 3
    assert value["a"][0].tolist() == [1, 1]


def test_rebuild_keeps_sharing_and_cycles():
    w = ones(2)
    value = [w, w]
    value.append(value)
    made = rebuild(*reversed(flatten(value)))
    assert made[0] is made[1] and made[2] is made and made is not value


@pytest.mark.parametrize("count", [0, 1, 3])
def test_rebuild_and_assign_refuse_another_number_of_leaves(count):
    value = [ones(2), 1.5]
    _, structure = flatten(value)
    for call in (lambda leaves: rebuild(structure, leaves), lambda leaves: assign(value, leaves)):
        with pytest.raises(ValueError, match=rf"2 leaves \(arrays and floats\), got {count}"):
            call([ones(2)] * count)


def test_assign_writes_into_the_owners():
    w = ones(2)
    value = {"a": [w, 1.5], "b": Box(w=w)}
    assign(value, [2 * w, 2.5])
    assert value["a"][0] is value["b"].w and value["a"] == [value["b"].w, 2.5]
    assert value["b"].w.tolist() == [2, 2]


def test_assign_through_a_tuple_builds_the_tuple_anew():
    value = [(ones(2), "a")]
    assign(value, [3 * ones(2)])
    assert value[0][0].tolist() == [3, 3] and value[0][1] == "a"


def test_assign_to_a_bare_tuple_is_refused_and_writes_nothing():
    box = Box(w=ones(1))
    with pytest.raises(TypeError, match="top level cannot be changed"):
        assign((box, ones(1)), [ones(1) * 2, ones(1) * 2])
    assert box.w.tolist() == [1]


def test_assign_of_a_number_in_a_tuple_is_refused_and_writes_nothing():
    box = Box(w=ones(1), pair=(1.5, 2))
    with pytest.raises(TypeError, match="tuple"):
        assign(box, [2 * ones(1), 2.5])
    assert box.w.tolist() == [1]


def test_assign_to_the_cells_of_a_function():
    w = ones(2)
    f = lambda x: x * w
    assign(f, [2 * ones(2)])
    assert w.tolist() == [2, 2]


# --- fmap


def test_fmap_maps_arrays_only_into_a_new_value():
    value = {"w": ones(2), "k": 1.5, "n": 2, "s": "a", "none": None, "set": {1}}
    made = fx.fmap(lambda a: a * 3, value)
    assert made["w"].tolist() == [3, 3] and value["w"].tolist() == [1, 1]
    assert {k: v for k, v in made.items() if k != "w"} == {k: v for k, v in value.items() if k != "w"}
    assert type(made["set"]) is set


def test_fmap_calls_once_per_shared_array():
    calls, w = [], ones(2)
    made = fx.fmap(lambda a: calls.append(1) or a + 1, [w, Box(w=w)])
    assert len(calls) == 1 and made[0] is made[1].w


def test_fmap_keeps_cycles():
    box = Box(w=ones(1))
    box.me, box.list = box, [box]
    made = fx.fmap(lambda a: a + 1, box)
    assert made.me is made and made.list[0] is made and made is not box


def test_fmap_over_a_function_gives_a_function_with_its_own_cells():
    w = ones(2)
    f = lambda x: x * w
    g = fx.fmap(lambda a: a * 5, f)
    assert g(1.0).tolist() == [5, 5] and f(1.0).tolist() == [1, 1]


def test_fmap_with_others_pairs_what_stands_in_the_same_place():
    made = fx.fmap(
        lambda a, b, c: a + b * c, [ones(2), {"k": 1.5}], [2 * ones(2), {"k": 2.0}], [3 * ones(2), {"k": 4.0}]
    )
    assert made[0].tolist() == [7, 7] and made[1]["k"] == 9.5


def test_fmap_keeps_what_has_no_gradient():
    m = fx.Dense(2, 1)
    (g,) = fx.gradient(lambda m: m.weight.sum(), m)
    g.bias = None
    made = fx.fmap(lambda p, d: p - d, m, g)
    assert made.bias is m.bias
    np.testing.assert_allclose(made.weight, m.weight - 1)


def test_fmap_of_a_tied_model_with_its_gradient_keeps_the_tie():
    layer = fx.Dense(2, 2)
    m = fx.Chain(layer, layer)
    (g,) = fx.gradient(lambda m: m(ones(1, 2)).sum(), m)
    made = fx.fmap(lambda p, d: p - 0.1 * d, m, g)
    assert made[0] is made[1] and made[0] is not layer
    np.testing.assert_allclose(made[0].weight, layer.weight - 0.1 * g.layers[0].weight)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([ones(1)], [ones(1), ones(1)]),
        ({"a": ones(1)}, {"b": ones(1)}),
        (Box(w=ones(1)), Box(v=ones(1))),
        ([ones(1)], 3),
    ],
)
def test_fmap_of_different_trees_is_refused(a, b):
    with pytest.raises(ValueError, match="same structure"):
        fx.fmap(lambda x, y: x, a, b)


# --- children, objects, trainables


def test_children_by_name_index_or_key():
    w = ones(1)
    assert fx.children([w, 2]) == {0: w, 1: 2}
    assert fx.children({"a": w}) == {"a": w}
    assert fx.children(Box(a=w, b="x")) == {"a": w, "b": "x"}
    assert fx.children(lambda x: x * w) == {"w": w}
    assert fx.children(w) == {} and fx.children(3) == {} and fx.children("a") == {}


def test_objects_come_once_outermost_first():
    inner = Box(w=ones(1))
    outer = Box(a=inner, b=[inner])
    assert [x for x in objects(outer) if type(x) is Box] == [outer, inner]


def test_trainables_are_named_as_one_writes_them():
    m = Box(layers=[fx.Dense(2, 1)], table={"k": ones(1)}, pair=(ones(1), 2), n=jnp.arange(2), scale=1.5)
    assert list(fx.trainables(m)) == ["layers[0].weight", "layers[0].bias", "table['k']", "pair[0]"]
    assert list(fx.trainables([ones(1)])) == ["[0]"]


def test_trainables_of_a_closure_are_named_by_variable():
    w = fx.Dense(2, 1)
    assert list(fx.trainables(lambda x: w(x))) == ["w.weight", "w.bias"]


def test_tied_and_integer_arrays_count_once_and_never():
    w = ones(3)
    assert list(fx.trainables({"a": w, "b": w, "n": jnp.arange(4)})) == ["['a']"]
    assert fx.params_count({"a": w, "b": w, "n": jnp.arange(4)}) == 3
    assert fx.params_count([]) == 0


# --- destructure


def test_destructure_round_trip():
    m = fx.Chain(fx.Dense(3, 4, fx.tanh), fx.BatchNorm(4), fx.Dense(4, 1))
    flat, re = fx.destructure(m)
    x = ones(2, 3)
    assert flat.shape == (fx.params_count(m),)
    np.testing.assert_allclose(re(flat)(x), m(x))
    assert type(re(flat)) is fx.Chain and re(flat) is not m
    np.testing.assert_allclose(fx.destructure(re(2 * flat))[0], 2 * flat)


def test_gradient_through_destructure():
    m = fx.Dense(3, 1)
    flat, re = fx.destructure(m)
    x = ones(2, 3)
    (g,) = fx.gradient(lambda v: re(v)(x).sum(), flat)
    (wanted,) = fx.gradient(lambda m: m(x).sum(), m)
    np.testing.assert_allclose(g, fx.destructure(wanted)[0])
    np.testing.assert_allclose(jax.grad(lambda v: re(v)(x).sum())(flat), g)


def test_destructure_keeps_ties_and_dtypes():
    w = jnp.ones(2, jnp.bfloat16)
    flat, re = fx.destructure({"a": w, "b": w, "c": ones(1), "n": jnp.arange(2)})
    made = re(flat)
    assert flat.shape == (3,) and made["a"] is made["b"]
    assert made["a"].dtype == jnp.bfloat16 and made["c"].dtype == jnp.float32


def test_destructure_refuses_a_vector_of_another_length():
    _, re = fx.destructure(fx.Dense(3, 2))
    for wrong in (ones(7), ones(8, 1), ones()):
        with pytest.raises(ValueError, match="vector of length 8"):
            re(wrong)


def test_destructure_of_nothing():
    flat, re = fx.destructure(["a", 3])
    assert flat.shape == (0,) and re(flat) == ["a", 3]


# --- freeze and thaw


def test_frozen_layers_get_no_gradient_and_no_update():
    m = fx.Chain(fx.Dense(2, 2), fx.Dense(2, 1))
    fx.freeze(m[0])
    assert list(fx.trainables(m)) == ["layers[1].weight", "layers[1].bias"]
    (g,) = fx.gradient(lambda m: m(ones(1, 2)).sum(), m)
    assert g.layers[0] is None or g.layers[0].weight is None
    before = m[0].weight
    fx.train(lambda m, x: m(x).sum(), m, [(ones(1, 2),)], fx.setup(fx.Descent(0.1), m))
    assert m[0].weight is before


def test_freeze_all_then_thaw_the_head():
    m = Box(body=fx.Dense(2, 2), head=fx.Dense(2, 1))
    fx.freeze(m)
    assert fx.trainables(m) == {}
    fx.thaw(m.head)
    assert list(fx.trainables(m)) == ["head.weight", "head.bias"]
    fx.thaw(m)
    assert len(fx.trainables(m)) == 4


def test_thaw_leaves_no_mark_and_takes_what_is_not_frozen():
    m = fx.Dense(2, 1)
    before = dict(vars(m))
    fx.thaw(m)
    fx.freeze(m)
    fx.freeze(m)
    fx.thaw(m)
    assert vars(m) == before


def test_a_closure_and_a_list_of_layers_can_be_frozen():
    w = fx.Dense(2, 1)
    f = lambda x: w(x)
    fx.freeze(f)
    assert fx.trainables(f) == {} and fx.trainables(w) == {}
    fx.thaw([w])
    assert len(fx.trainables(w)) == 2


def test_an_array_that_is_tied_to_a_frozen_layer_is_frozen():
    m = fx.Chain(fx.Dense(2, 2), fx.Dense(2, 2))
    m[1].weight = m[0].weight
    fx.freeze(m[0])
    assert list(fx.trainables(m)) == ["layers[1].bias"]


@pytest.mark.parametrize("call", [fx.freeze, fx.thaw])
@pytest.mark.parametrize("value", [[jnp.ones(2)], (), {"a": jnp.ones(1)}, 3, jnp.ones(2)])
def test_bare_arrays_cannot_be_frozen(call, value):
    with pytest.raises(TypeError, match="takes a model or a layer"):
        call(value)


def test_optax_states_are_trees():
    state = optax.adam(1e-3).init({"w": ones(2)})
    made = fx.fmap(lambda a: a + 1, state)
    assert jax.tree.structure(made) == jax.tree.structure(state)
    np.testing.assert_allclose(made[0].mu["w"], [1, 1])


def test_packages_of_other_environments_are_not_the_users_code():
    from fluxion.tree.user import is_user_file

    assert not is_user_file("/home/me/.local/lib/python3.12/site-packages/jax/numpy/__init__.py")
    assert not is_user_file("/usr/lib/python3/dist-packages/numpy/_core/multiarray.py")
    assert not is_user_file(jnp.linalg.__file__) and not is_user_file(fx.__file__)
    assert is_user_file("/home/me/project/site/model.py") and is_user_file(__file__)

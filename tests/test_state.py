"""State, and loading it back."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from states import refused, same

import fluxion as fx
from fluxion.random import Generator

# ------------------------------------------------------------------ state


def test_state_is_plain():
    model = fx.Chain(fx.Dense(2, 3, fx.relu, bias=False), fx.BatchNorm(3, active=True), fx.Dropout(0.5), lambda x: x)
    dense, norm, dropout, function = fx.state(model)["layers"]
    assert dense == {"weight": model[0].weight, "bias": None, "activation": None}
    assert norm["mean"] is model[1].mean and norm["active"] is True and norm["channels"] == 3
    assert dropout == {"p": 0.5, "axes": None, "rng": None, "active": None} and function is None
    assert fx.state(model)["names"] is None and fx.state(fx.state(model))["layers"][0]["weight"] is model[0].weight


def test_state_of_any_value():
    weight = jnp.ones(2)

    @dataclasses.dataclass
    class Mine:
        table: dict
        function: object
        parent: object = None

    mine = Mine({"a": 1, 2: (1j, "b")}, lambda x: weight * x)
    mine.parent = mine
    found = fx.state(mine)
    assert found["table"] == {"a": 1, 2: (1j, "b")} and found["parent"] is None
    assert found["function"]["weight"] is weight
    assert fx.state([1.5, list(range(100)), {1, 2}, np.float32(3)])[:3] == [1.5, list(range(100)), None]
    assert fx.state(weight) is weight and fx.state(jnp.tanh) is None and fx.state(()) == ()


def test_state_keeps_ties():
    shared = fx.Dense(2, 2)
    first, second = fx.state(fx.Chain(shared, shared))["layers"]
    assert first is second and first["weight"] is shared.weight


# ------------------------------------------------------------------ loadmodel


def test_loadmodel_copies_arrays_only():
    model = fx.Chain(fx.Dense(2, 3), fx.BatchNorm(3, momentum=0.3), fx.Dropout(0.2, rng=Generator(1)))
    other = fx.Chain(fx.Dense(2, 3, fx.relu), fx.BatchNorm(3, active=True), fx.Dropout(0.5, rng=Generator(2)))
    other(jnp.arange(8.0).reshape(4, 2))
    layers, weight = list(model), other[0].weight
    assert fx.loadmodel(model, other) is None
    assert list(model) == layers and (model[0].weight == weight).all() and model[0].weight is not weight
    assert (model[1].mean == other[1].mean).all() and (model[2].rng.key == other[2].rng.key).all()
    assert model[0].activation is fx.identity and model[1].momentum == 0.3 and model[1].active is None
    assert model[2].p == 0.2


def test_loadmodel_takes_states_and_converts_precision():
    other = fx.Dense(2, 3)
    for source in (fx.state(other), fx.f16(other), fx.state(fx.f16(other))):
        model = fx.Dense(2, 3)
        fx.loadmodel(model, source)
        assert model.weight.dtype == jnp.float32
        np.testing.assert_allclose(model.weight, other.weight, rtol=1e-3)
    half = fx.bf16(fx.Dense(2, 3))
    fx.loadmodel(half, other)
    assert half.weight.dtype == jnp.bfloat16


def test_loadmodel_of_numpy_arrays_functions_and_tuples():
    here, there = np.zeros(2), np.ones(2, np.float32)
    holder = {"pair": (here, "name"), "scalar": np.float32(1)}
    fx.loadmodel(holder, {"pair": [there, None], "scalar": np.float32(3)})
    assert type(holder["pair"]) is tuple and holder["pair"][0].dtype == np.float64 and holder["pair"][0][0] == 1
    assert type(holder["scalar"]) is np.float32 and holder["scalar"] == 3
    weight = jnp.zeros(2)
    model = lambda x: weight * x
    fx.loadmodel(model, {"weight": np.ones(2)})
    assert model(1.0).tolist() == [1, 1] and weight.tolist() == [1, 1]


def test_loadmodel_lists_everything_that_does_not_fit():
    model = fx.Chain(fx.Dense(2, 3), fx.Dense(3, 1), fx.BatchNorm(1))
    source = fx.state(fx.Chain(fx.Dense(2, 4), fx.Dense(3, 1), fx.BatchNorm(1, affine=False)))
    source["layers"][1]["extra"] = {"deep": [np.ones(2)]}
    source["layers"][1]["weight"] = np.ones((3, 1), int)
    before = fx.state(model)
    with pytest.raises(ValueError) as caught:
        fx.loadmodel(model, source)
    assert str(caught.value).splitlines() == [
        "loadmodel: the source does not fit the model; nothing was changed",
        "  layers[0].weight: float32[2, 3] in the model, float32[2, 4] in the source",
        "  layers[0].bias: float32[3] in the model, float32[4] in the source",
        "  layers[1].weight: float32[3, 1] in the model, int64[3, 1] in the source",
        "  layers[1].extra.deep[0]: nothing in the model, float64[2] in the source",
        "  layers[2].scale: float32[1] in the model, nothing in the source",
    ]
    assert same(fx.state(model), before)


def test_loadmodel_refuses():
    chain = fx.Chain(fx.Dense(2, 3), fx.relu)
    refused("layers: 2 entries in the model, 1 entries in the source", chain, fx.Chain(fx.Dense(2, 3)))
    refused("layers: 2 entries in the model, 3 entries in the source", chain, {"layers": {"a": 1, "b": 2, "c": 3}})
    refused("model: parts in the model, float32[2] in the source", chain, np.ones(2, np.float32))
    refused("weight: float32[2, 3] in the model, True in the source", fx.Dense(2, 3), {"weight": True})
    refused("p: nothing in the model, float64[1] in the source", fx.Dropout(0.5), {"p": np.ones(1)})
    refused("weight: float32[2, 3] in the model, nothing in the source", fx.Dense(2, 3), None)
    refused("and 12 more", [np.ones(i) for i in range(20)], [None] * 20)
    refused("top level", (jnp.ones(2),), (jnp.ones(2),), error=TypeError)


def test_no_bias_is_a_bias_of_zeros():
    with_bias, without = fx.Dense(2, 3), fx.Dense(2, 3, bias=False)
    fx.loadmodel(without, with_bias)
    assert without.bias is None and (without.weight == with_bias.weight).all()
    with_bias.bias = jnp.ones(3)
    refused("bias: nothing in the model, float32[3] in the source", without, with_bias)
    fx.loadmodel(with_bias, without)
    assert with_bias.bias.tolist() == [0, 0, 0]


def test_tied_arrays():
    shared, apart = fx.Dense(2, 2), fx.Chain(fx.Dense(2, 2), fx.Dense(2, 2))
    tied = fx.Chain(shared, shared)
    refused("layers[1].weight: tied to layers[0].weight in the model, but another array in the source", tied, apart)
    fx.loadmodel(apart[1], apart[0])
    fx.loadmodel(tied, apart)
    assert tied[0] is tied[1] and (shared.weight == apart[0].weight).all()
    fx.loadmodel(apart, tied)
    assert apart[0].weight is not apart[1].weight
    array = jnp.ones(2)
    holder = [array, array]
    fx.loadmodel(holder, [np.zeros(2), np.zeros(2)])
    assert holder[0] is holder[1] and holder[0].tolist() == [0, 0]


def test_filter_lines_up_different_chains():
    model = fx.Chain(fx.Dense(2, 3), fx.Dropout(0.5), fx.Dense(3, 1))
    other = fx.Chain(fx.Dense(2, 3), fx.Dense(3, 1))
    fx.loadmodel(model, other, filter=lambda part: not isinstance(part, fx.Dropout))
    assert (model[2].weight == other[1].weight).all()
    fx.loadmodel(other, model, filter=lambda part: not isinstance(part, fx.Dropout))
    head = other[1].weight
    fx.loadmodel(
        other, fx.Chain(fx.Dense(2, 3), fx.Dense(3, 7)), filter=lambda part: getattr(part, "weight", head).shape[0] != 3
    )
    assert other[1].weight is head


def test_a_loaded_model_trains_apart_from_its_source():
    online, target = fx.Dense(2, 1), fx.Dense(2, 1)
    fx.loadmodel(target, online)
    opt = fx.setup(fx.Descent(0.1), online)
    before = np.asarray(target.weight)
    fx.train(lambda m, x: m(x).sum(), online, [jnp.ones((3, 2))], opt)
    assert (target.weight == before).all() and (online.weight != before).any()
    assert len(fx.trainables((online, target))) == 4


def test_a_compiled_model_sees_what_was_loaded():
    model, x = fx.Dense(2, 2), jnp.ones((1, 2))
    compiled = fx.compile(model)
    compiled(x)
    fx.loadmodel(model, {"weight": np.zeros((2, 2)), "bias": np.ones(2)})
    assert compiled(x).tolist() == [[1, 1]]


def test_loadmodel_refuses_integers_that_do_not_fit():
    for old, new in [(np.int8, 300), (np.uint8, -1)]:
        holder = [np.ones(2, old)]
        refused(
            f"[0]: {np.dtype(old)}[2] in the model, numbers beyond that in the source", holder, [np.array([new, 2])]
        )
        assert holder[0].tolist() == [1, 1]
    fx.loadmodel(holder, [np.array([5, 2])])
    assert holder[0].tolist() == [5, 2] and holder[0].dtype == np.uint8


def test_loadmodel_of_tied_nan_and_of_random_keys():
    array, key = jnp.ones(2), jax.random.key(0)
    holder = [array, array, key, key]
    fx.loadmodel(holder, [np.full(2, np.nan), np.full(2, np.nan), jax.random.key(5), jax.random.key(5)])
    assert np.isnan(holder[0]).all() and holder[0] is holder[1] and holder[2] is holder[3]
    assert (jax.random.key_data(holder[2]) == jax.random.key_data(jax.random.key(5))).all()

"""Gradients of anything with respect to anything."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import fluxion as fx


def test_gradient_of_a_number_is_a_float_in_a_tuple():
    result = fx.gradient(lambda x: 3 * x**2 + 2 * x + 1, 2.0)
    assert result == (14.0,)
    assert type(result[0]) is float


def test_nested_second_derivative_is_a_float():
    df = lambda x: fx.gradient(lambda y: 3 * y**2 + 2 * y + 1, x)[0]
    (second,) = fx.gradient(df, 2.0)
    assert second == 6.0
    assert type(second) is float


def test_one_entry_per_argument():
    a, b = fx.gradient(lambda x, y: x * y, 2.0, 5.0)
    assert (a, b) == (5.0, 2.0)


def test_containers_keep_their_shape_and_integers_give_none():
    def f(x):
        return x["a"][0] * x["b"][1].sum() + x["c"]

    (g,) = fx.gradient(f, {"a": [2.0, 3], "b": (1, jnp.ones(2)), "c": 1.0, "d": "text", "e": True})
    assert g["a"] == [2.0, None]
    assert g["b"][0] is None
    np.testing.assert_allclose(g["b"][1], [2.0, 2.0])
    assert g["c"] == 1.0
    assert g["d"] is None
    assert g["e"] is None


def test_unused_parts_are_zero():
    (g,) = fx.gradient(lambda x: x[0] ** 2, [3.0, 4.0])
    assert g == [6.0, 0.0]


class Point(NamedTuple):
    x: float
    y: float


@dataclass
class Line:
    slope: float
    intercept: jax.Array
    name: str = "line"


class Plain:
    def __init__(self):
        self.weight = jnp.array([1.0, 2.0])
        self.scale = 3.0
        self.count = 4


class Slots:
    __slots__ = ("w",)

    def __init__(self):
        self.w = 2.0


def test_namedtuples_dataclasses_objects_and_slots():
    (g,) = fx.gradient(lambda p: p.x * p.y, Point(2.0, 3.0))
    assert g == Point(3.0, 2.0)
    (g,) = fx.gradient(lambda m: m.slope * m.intercept.sum(), Line(2.0, jnp.ones(3)))
    assert g.slope == 3.0
    np.testing.assert_allclose(g.intercept, [2.0, 2.0, 2.0])
    assert g.name is None
    (g,) = fx.gradient(lambda m: (m.weight * m.scale).sum() * m.count, Plain())
    np.testing.assert_allclose(g.weight, [12.0, 12.0])
    assert g.scale == 12.0
    assert g.count is None
    (g,) = fx.gradient(lambda m: m.w**2, Slots())
    assert g.w == 4.0


def test_functions_are_differentiated_through_cells_partials_and_methods():
    def make(a, b):
        return lambda x: (a * x + b).sum()

    (g,) = fx.gradient(lambda f: f(3.0), make(jnp.array([1.0, 2.0]), 0.5))
    np.testing.assert_allclose(g.a, [3.0, 3.0])
    assert g.b == 2.0
    (g,) = fx.gradient(lambda f: f(3.0), functools.partial(lambda a, x: a * x, 2.0))
    assert g.args if hasattr(g, "args") else True
    model = Plain()
    model_method = functools.partial(jnp.multiply, model.weight)
    (g,) = fx.gradient(lambda f: f(2.0).sum(), model_method)
    assert g is not None


def test_unknown_gradient_field_names_those_there_are():
    (g,) = fx.gradient(lambda m: m(jnp.ones(2)).sum(), fx.Dense(2, 1))
    with pytest.raises(AttributeError, match="no field 'wieght'; it has weight, bias"):
        _ = g.wieght


def test_gradient_is_a_pytree():
    (g,) = fx.gradient(lambda m: m(jnp.ones(2)).sum(), fx.Dense(2, 1))
    norms = jax.tree.map(jnp.linalg.norm, g)
    np.testing.assert_allclose(norms.bias, 1.0)
    assert len(jax.tree.leaves(g)) == 2


def test_auxiliary_outputs_come_back_with_the_value():
    (loss, extra, text), (g,) = fx.withgradient(lambda x: (x**2, {"double": 2 * x}, "note"), 3.0)
    assert float(loss) == 9.0
    assert float(extra["double"]) == 6.0
    assert text == "note"
    assert g == 6.0
    value, (g,) = fx.withgradient(lambda x: {"loss": x**3, "other": x}, 2.0)
    assert g == 12.0
    assert float(value["other"]) == 2.0


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (
            lambda x: x * jnp.ones(3),
            r"one number, got an array of shape \(3,\); reduce it with mean\(\) or sum\(\), or take fx.jacobian",
        ),
        (lambda x: (), "empty tuple or dict"),
        (lambda x: "text", "returns a number, got str"),
        (lambda x: None, "returns a number, got NoneType"),
        (lambda x: x * 1j, "complex"),
    ],
)
def test_results_that_are_no_loss_are_refused(f, message):
    with pytest.raises(TypeError, match=message):
        fx.gradient(f, 1.0)


def test_wrong_calls_are_refused():
    with pytest.raises(TypeError, match="takes a function first, got float"):
        fx.gradient(2.0, lambda x: x)
    with pytest.raises(TypeError, match="at least one argument"):
        fx.gradient(lambda x: x)
    with pytest.raises(TypeError, match="withgradient"):
        fx.withgradient(None, 1.0)


def test_frozen_layers_and_undeclared_fields_have_no_gradient():
    model = fx.Chain(fx.Dense(2, 2), fx.BatchNorm(2))
    fx.freeze(model[0])
    (g,) = fx.gradient(lambda m: m(jnp.ones((3, 2))).sum(), model)
    assert g.layers[0] is None
    assert g.layers[1].mean is None
    assert g.layers[1].eps is None
    assert g.layers[1].scale.shape == (2,)


def test_tied_layers_sum_their_gradient():
    shared = fx.Dense(2, 2, bias=False)
    model = fx.Chain(shared, shared)
    x = jnp.ones((1, 2))
    (g,) = fx.gradient(lambda m: m(x).sum(), model)
    weight = shared.weight
    expected = jax.grad(lambda w: (x @ w @ w).sum())(weight)
    np.testing.assert_allclose(g.layers[0].weight, expected, rtol=1e-6)
    assert g.layers[0] is g.layers[1]


def test_a_model_gradient_equals_torch():
    model = fx.Chain(fx.Dense(4, 5, fx.tanh), fx.Dense(5, 1))
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("f")
    (g,) = fx.gradient(lambda m: (m(x) ** 2).mean(), model)
    layers = []
    for layer in model:
        linear = torch.nn.Linear(*layer.weight.shape)
        linear.weight.data = torch.tensor(np.asarray(layer.weight).T)
        linear.bias.data = torch.tensor(np.asarray(layer.bias))
        layers.append(linear)
    (layers[1](torch.tanh(layers[0](torch.tensor(x)))) ** 2).mean().backward()
    for mine, theirs in zip(g.layers, layers, strict=True):
        np.testing.assert_allclose(mine.weight, theirs.weight.grad.numpy().T, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(mine.bias, theirs.bias.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_layers_train_inside_a_gradient_and_test_outside():
    model = fx.BatchNorm(2)
    x = jnp.array([[1.0, 2.0], [3.0, 6.0]])
    model(x)
    np.testing.assert_allclose(model.mean, 0.0)
    fx.gradient(lambda m: m(x).sum(), model)
    np.testing.assert_allclose(model.mean, [0.2, 0.4], rtol=1e-6)


def test_pullback_takes_any_cotangent():
    y, back = fx.pullback(lambda m, x: m(x), fx.Dense(2, 3, init=fx.ones), jnp.ones((1, 2)))
    assert y.shape == (1, 3)
    g, gx = back(jnp.array([[1.0, 0.0, 2.0]]))
    np.testing.assert_allclose(gx, [[3.0, 3.0]])
    np.testing.assert_allclose(g.bias, [1.0, 0.0, 2.0])


def test_pushforward_and_derivative():
    np.testing.assert_allclose(
        fx.pushforward(lambda x, y: x * y, 2.0, jnp.ones(2))(1.0, jnp.array([1.0, 0.0])), [3.0, 1.0]
    )
    assert fx.derivative(lambda x: x**3, 2.0) == 12.0
    assert fx.derivative(lambda x: fx.derivative(lambda y: y**3, x), 2.0) == 12.0
    assert fx.derivative(lambda x: jnp.array([x, x**2]), 3.0).tolist() == [1.0, 6.0]
    with pytest.raises(TypeError, match="takes a number, got an array of shape"):
        fx.derivative(lambda x: x, jnp.ones(2))
    with pytest.raises(TypeError, match="takes 1 directions"):
        fx.pushforward(lambda x: x, 1.0)(1.0, 2.0)
    with pytest.raises(TypeError, match="function first"):
        fx.pushforward(1.0)


def test_jacobian_matches_jax_and_skips_what_has_none():
    f = lambda x, n, y: jnp.stack([x.sum() * y, (x**n).sum() * y])
    x = jnp.array([1.0, 2.0, 3.0])
    jx, jn, jy = fx.jacobian(f, x, 2, 0.5)
    np.testing.assert_allclose(jx, jax.jacobian(f)(x, 2, 0.5))
    assert jn is None
    np.testing.assert_allclose(jy, [6.0, 14.0])
    (jm,) = fx.jacobian(lambda m: m(jnp.ones(2)), fx.Dense(2, 3))
    assert jm.weight.shape == (3, 2, 3)
    with pytest.raises(TypeError, match="returns one array"):
        fx.jacobian(lambda x: (x, x), x)


def test_hessian_and_its_diagonal():
    f = lambda x: (x**3).sum() + x[0] * x[1]
    x = jnp.array([1.0, 2.0])
    np.testing.assert_allclose(fx.hessian(f, x), [[6.0, 1.0], [1.0, 12.0]])
    np.testing.assert_allclose(fx.diaghessian(f, x)[0], [6.0, 12.0])
    assert fx.hessian(lambda x: x**3, 2.0) == 12.0
    assert fx.diaghessian(lambda x, n: (x**n).sum(), x, 2)[1] is None
    with pytest.raises(TypeError, match="destructure"):
        fx.hessian(lambda m: 1.0, fx.Dense(1, 1))
    flat, re = fx.destructure(fx.Dense(2, 1, fx.tanh))
    assert fx.hessian(lambda p: re(p)(jnp.ones(2)).sum(), flat).shape == (3, 3)


def test_ignore_derivatives_of_values_and_of_calls():
    assert fx.gradient(lambda x: x * fx.ignore_derivatives(x), 3.0) == (3.0,)
    assert fx.gradient(lambda x: x * fx.ignore_derivatives(lambda: x**2), 3.0) == (9.0,)
    assert fx.gradient(lambda x: x * fx.ignore_derivatives({"a": x})["a"], 3.0) == (3.0,)


def test_checkpointed_gives_the_same_gradient_and_keeps_writes():
    model = fx.Chain(fx.Dense(2, 4, fx.tanh), fx.BatchNorm(4), fx.Dropout(0.5), fx.Dense(4, 1))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 2)), jnp.float32)
    fx.seed(1)
    (plain,) = fx.gradient(lambda m: m(x).sum(), model)
    fx.seed(1)
    before = model[1].mean
    (g,) = fx.gradient(lambda m: fx.checkpointed(m, x).sum(), model)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert not np.allclose(model[1].mean, before)
    with pytest.raises(TypeError, match="takes a function first"):
        fx.checkpointed(1.0)


def test_rrule_replaces_the_gradient_and_is_differentiable_again():
    @fx.rrule
    def cube(x):
        def back(dy):
            return (3 * x**2 * dy,)

        return x**3, back

    assert fx.gradient(cube, 2.0) == (12.0,)
    assert fx.gradient(lambda x: fx.gradient(cube, x)[0], 2.0) == (12.0,)
    np.testing.assert_allclose(jax.vmap(jax.grad(cube))(jnp.array([1.0, 2.0])), [3.0, 12.0])


def test_rrule_names_what_is_wrong():
    wrong_count = fx.rrule(lambda x, y: (x * y, lambda dy: (dy,)))
    with pytest.raises(TypeError, match="tuple of 2 gradients"):
        fx.gradient(wrong_count, 1.0, 2.0)
    no_pair = fx.rrule(lambda x: x)
    with pytest.raises(TypeError, match=r"return \(y, pullback\)"):
        fx.gradient(no_pair, 1.0)
    with pytest.raises(TypeError, match="decorates a function"):
        fx.rrule(3)


@pytest.mark.parametrize("eager", [False, True])
def test_gradient_against_finite_differences_in_float64(eager):
    with jax.enable_x64(True):
        x = jnp.linspace(-1.0, 1.0, 5)
        f = lambda v: (jnp.tanh(v) * jnp.exp(v[::-1])).sum()
        if eager:
            with fx.eager():
                (g,) = fx.gradient(f, x)
        else:
            (g,) = fx.gradient(f, x)
        step = 1e-6
        numeric = [(f(x.at[i].add(step)) - f(x.at[i].add(-step))) / (2 * step) for i in range(5)]
        np.testing.assert_allclose(g, numeric, rtol=1e-7)


def test_code_can_tell_whether_it_is_differentiated():
    power = lambda x: x ** (3 if fx.inside_gradient() else 2)
    assert power(2.0) == 4 and fx.gradient(power, 2.0)[0] == 12 and not fx.inside_gradient()

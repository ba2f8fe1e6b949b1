"""Dense and its relatives, dropout and containers: what is no formula."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from harness import cases_of, numbers

import fluxion as fx
from fluxion.errors import SizeError
from fluxion.mode import gradient_mode
from fluxion.random import Generator


@pytest.mark.parametrize("case", cases_of("basic"), ids=str)
def test_case(case):
    case.check()


@pytest.mark.parametrize("case", cases_of("basic"), ids=str)
def test_random_options(case):
    case.check_random()


# ------------------------------------------------------------------ containers


def test_chain_is_a_list_of_layers():
    a, b, c = fx.Dense(3, 4), fx.Dense(4, 2), fx.softmax
    chain = fx.Chain(a, b, c)
    assert len(chain) == 3 and list(chain) == [a, b, c] and chain[-1] is c
    assert type(chain[:-1]) is fx.Chain and chain[:-1][1] is b and len(chain[3:]) == 0
    chain[1] = fx.Dense(4, 7)
    assert chain(jnp.ones(3)).shape == (7,)
    with pytest.raises(TypeError, match="Chain takes layers, which are callable, got None"):
        chain[1] = None
    with pytest.raises(TypeError, match=r"Chain takes layers, got the class GlobalMeanPool; write GlobalMeanPool\("):
        fx.Chain(fx.GlobalMeanPool)
    for position in (3, -4):
        with pytest.raises(IndexError, match=f"Chain of 3 layers has none at position {position}"):
            chain[position]
    for mask in ([True, False, True], np.array([True, False, True])):
        assert list(chain[mask]) == [a, c] and len(chain[[]]) == 0
    named = fx.Chain(enc=a, dec=b)
    assert named["enc"] is a and named[1] is b and named[1:].names == ("dec",) and named.names == ("enc", "dec")
    named["dec"] = fx.identity
    assert named(jnp.ones(3)).shape == (4,)


def test_chain_of_nothing_and_of_several_inputs():
    assert fx.Chain()("x") == "x" and fx.Chain()
    assert fx.Chain(fx.identity)(1, 2, 3) == (1, 2, 3)
    assert fx.Chain(fx.Parallel(operator.add, fx.identity, fx.identity))(1, 2) == 3


def test_activations():
    chain = fx.Chain(lambda x: x + 1, str)
    assert fx.activations(chain, 1) == (2, "2") and fx.activations(fx.Chain(), 1) == ()
    assert fx.activations(fx.Chain(a=str, b=len), 25) == ("25", 2)
    with pytest.raises(SizeError, match=r"in model.layers\[1\]"):
        fx.activations(fx.Chain(fx.identity, fx.Dense(2, 1)), jnp.ones(3))
    assert fx.activations([str, len], 25) == ("25", 2)
    with pytest.raises(TypeError, match=r"activations takes a Chain or a list of functions, got Parallel\(add, abs\)"):
        fx.activations(fx.Parallel(operator.add, abs), 1)


def test_parallel_deals_inputs_out():
    def three(*outputs):
        return outputs

    m = fx.Parallel(three, a=lambda x: x + 1, b=lambda x: x * 2, c=lambda x: -x)
    assert m(5) == (6, 10, -5) and m(1, 2, 3) == m((1, 2, 3)) == (2, 4, -3)
    assert m["b"](4) == 8 and len(m[:2]) == 2 and m[:2](1) == (2, 2) and m[:2].names == ("a", "b")
    assert fx.Parallel(three, lambda x: x + 1)(1, 2, 3) == (2, 3, 4)
    with pytest.raises(ValueError, match="Parallel with 3 layers takes one input or 3 inputs, got 2 inputs"):
        m(1, 2)
    with pytest.raises(ValueError, match="Parallel expects at least one input, got none"):
        m()


def test_size_errors_name_the_path():
    def path_of(model, shape=(1, 3)):
        with pytest.raises(SizeError) as caught:
            model(jnp.ones(shape))
        assert str(caught.value).endswith(f"\n  in {caught.value.path}")
        return caught.value.path

    bad, same = fx.Dense(4, 3), fx.identity
    assert path_of(fx.Chain(same, bad)) == "model.layers[1]"
    assert path_of(fx.Chain(same, fx.Chain(same, same, bad))) == "model.layers[1].layers[2]"
    assert path_of(fx.Chain(enc=fx.Chain(same, bad))) == 'model["enc"].layers[1]'
    assert path_of(fx.Chain(fx.SkipConnection(fx.Chain(bad), operator.add))) == "model.layers[0].layer.layers[0]"
    assert path_of(fx.SkipConnection(same, lambda y, x: bad(y))) == "model.connection"
    assert path_of(fx.Parallel(operator.add, a=same, b=bad)) == 'model["b"]'
    assert path_of(fx.Chain(fx.Parallel(lambda *ys: bad(ys[0]), same))) == "model.layers[0].connection"
    message = r"Dense\(4, 3\) expects 4 input features \(last axis\), got .* \(1, 3\)\n  in model.layers\[0\]"
    with pytest.raises(SizeError, match=message):
        jax.eval_shape(fx.Chain(bad), jnp.ones((1, 3)))


def test_a_shared_layer_stays_one():
    shared = fx.Dense(3, 3)
    chain = fx.Chain(shared, fx.relu, shared)
    chain[0].weight = jnp.zeros((3, 3))
    assert chain[2].weight.sum() == 0 and chain[:1][0] is shared


# ------------------------------------------------------------------ Dropout


def test_dropout_drops_and_keeps_the_mean():
    layer, x = fx.Dropout(0.25, active=True), jnp.ones((100, 100))
    y = layer(x)
    assert set(np.unique(y).tolist()) == {0.0, np.float32(1 / 0.75)}
    assert abs(y.mean() - 1) < 0.02 and not (layer(x) == y).all()
    assert (fx.Dropout(1, active=True)(x) == 0).all() and (fx.Dropout(0, active=True)(x) == x).all()
    assert (jax.grad(lambda x: fx.Dropout(1, active=True)(x).sum())(x) == 0).all()
    assert layer(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16 and layer(np.ones(3, int)).dtype == jnp.float32


def test_dropout_modes_and_repetition():
    x = jnp.ones((4, 8))
    assert fx.Dropout(0.5)(x) is x and (fx.Dropout(0.5, active=False)(x) == x).all()
    with gradient_mode():
        assert (fx.Dropout(0.5)(x) == 0).any() and (fx.Dropout(0.5, active=False)(x) == x).all()
    one, two = (fx.Dropout(0.5, rng=Generator(3), active=True) for _ in range(2))
    assert (one(x) == two(x)).all() and (one(x) == two(x)).all()
    fx.seed(1)
    y = fx.Dropout(0.5, active=True)(x)
    fx.seed(1)
    assert (fx.Dropout(0.5, active=True)(x) == y).all()


def test_dropout_along_axes():
    y = fx.Dropout(0.5, axes=(0, -1), active=True)(jnp.ones((4, 5, 6)))
    assert (y == y[:, :1]).all() and (y == 0).any() and (y != 0).any()


def test_dropout_has_the_gradient_of_its_mask():
    layer = fx.Dropout(0.5, rng=Generator(2), active=True)
    key = layer.rng.key

    def total(x):
        layer.rng.key = key
        return (layer(x) ** 2).sum()

    x = jnp.asarray(numbers(6, 6), jnp.float32)
    layer.rng.key = key
    masked = layer(x)
    np.testing.assert_allclose(jax.grad(total)(x), 4 * masked, rtol=1e-5)


# ------------------------------------------------------------------ more on containers


def test_containers_take_lists_of_positions_and_names():
    parts = [fx.Dense(2, 2), fx.relu, fx.tanh]
    chain = fx.Chain(*parts)
    for positions in ([0, 2], np.array([0, 2]), [0, -1]):
        assert type(chain[positions]) is fx.Chain and list(chain[positions]) == [parts[0], fx.tanh]
    named = fx.Chain(a=parts[0], b=fx.relu, c=fx.tanh)
    assert named[["c", "a"]].names == named[[2, 0]].names == ("c", "a") and named[["c", "a"]][1] is parts[0]
    assert fx.Parallel(operator.add, fx.relu, fx.tanh)[[1]].typed() == "Parallel(add, tanh)"
    assert len(chain[[]]) == 0 and chain[np.int64(1)] is fx.relu
    with pytest.raises(KeyError, match="Chain has no layer 'd'; its names are a, b, c"):
        named[["a", "d"]]


def test_pairwise_fusion_as_in_flux():
    def vcat(a, b):
        return np.concatenate([np.atleast_1d(a), np.atleast_1d(b)])

    fusion = fx.PairwiseFusion(vcat, lambda x: x + 1, lambda x: x + 2, lambda x: x**3)
    several, one = ([np.asarray(y).tolist() for y in fusion(*inputs)] for inputs in [(2, 10, 20), (7,)])
    assert several == [3, [5, 12], [125, 1728, 8000]] and one == [8, [10, 9], [1000, 729, 343]]
    assert [np.asarray(y).tolist() for y in fusion((2, 10, 20))] == several
    named = fx.PairwiseFusion(operator.add, a=fx.relu, b=fx.identity)
    assert named["a"] is fx.relu and named(1, 2) == (1, 3) and named[:1].typed() == "PairwiseFusion(add, a=relu)"


def test_maxout_makes_its_layers():
    made = fx.Maxout(lambda: fx.Dense(3, 2), 4)
    assert len(made) == 4 and len(fx.trainables(made)) == 8 and made[0] is not made[1]
    assert fx.Maxout(a=fx.relu, b=fx.identity)["b"] is fx.identity
    x = jnp.array([1.0, -2.0])
    assert fx.Maxout(lambda x: x, lambda x: -x)(x).tolist() == [1, 2]
    assert fx.Maxout(lambda x: 2 * x)(x).tolist() == [2, -4]


def test_size_errors_name_the_path_in_every_container():
    bad = fx.Dense(4, 3)
    for model, path in [
        (fx.Maxout(fx.identity, bad), "model.layers[1]"),
        (fx.PairwiseFusion(operator.add, a=fx.identity, b=bad), 'model["b"]'),
        (fx.PairwiseFusion(lambda a, b: bad(a), fx.identity, fx.identity), "model.connection"),
        (fx.SkipConnection(fx.Maxout(bad), operator.add), "model.layer.layers[0]"),
    ]:
        with pytest.raises(SizeError) as caught:
            model(jnp.ones((1, 3)))
        assert caught.value.path == path


def test_modules_finds_every_layer_once():
    shared, dense = fx.Dense(3, 3), fx.Dense(3, 3)
    chain = fx.Chain(shared, lambda x: dense(x), fx.relu, shared)
    model = {"body": chain, "head": fx.Maxout(shared)}
    assert fx.modules(model) == [chain, shared, dense, model["head"]]
    assert fx.modules(dense) == [dense] and fx.modules(fx.relu) == []
    penalty = lambda m: sum((part.weight**2).sum() for part in fx.modules(m) if isinstance(part, fx.Dense))
    (gradient,) = fx.gradient(penalty, chain)
    np.testing.assert_allclose(gradient.layers[0].weight, 2 * shared.weight, rtol=1e-6)


def test_layers_equal_their_copies():
    model = fx.Chain(a=fx.Dense(2, 3, fx.relu), b=fx.Maxout(fx.Bilinear(3, 1), fx.Scale(3)), c=fx.Embedding(2, 1))
    copy = fx.fmap(lambda array: array, model)
    assert copy is not model and copy.names == model.names and copy.typed() == model.typed()
    assert all(a is b for a, b in zip(fx.leaves(copy), fx.leaves(model), strict=True))


# ------------------------------------------------------------------ Dense, Bilinear


def test_bilinear_joins_a_skip_connection():
    joined = fx.SkipConnection(fx.Dense(4, 3), fx.Bilinear((3, 4), 2))
    assert joined(jnp.ones((5, 4))).shape == (5, 2)
    assert fx.Bilinear((3, 4), 2)((jnp.ones(3), jnp.ones(4))).shape == (2,)
    assert fx.Bilinear(3, 2).typed() == fx.Bilinear((3, 3), 2).typed() == "Bilinear(3, 2)"
    assert fx.Bilinear((3, 4), 2, bias=False).typed() == "Bilinear((3, 4), 2, bias=False)"
    whole = fx.Bilinear.from_arrays(np.ones((2, 2, 1), int))
    assert whole(np.array([1, 2])).tolist() == [9] and whole.bias is None


def test_scale_from_arrays():
    scale = fx.Scale.from_arrays(np.array([[1, 2], [3, 4]]), activation=fx.relu)
    assert scale.typed() == "Scale(2, 2, activation=relu, bias=False)" and scale.scale.dtype == jnp.float32
    assert scale(jnp.ones((2, 1))).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match=r"bias takes True, False or an array of shape \(2,\), got array\(3,\)"):
        fx.Scale.from_arrays([1.0, 2.0], np.ones(3))


# ------------------------------------------------------------------ AlphaDropout, StochasticDepth


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 0.9])
def test_alpha_dropout_is_that_of_torch(p):
    x = np.arange(1, 201, dtype=np.float32)
    mine = np.asarray(fx.AlphaDropout(p, active=True)(x))
    both = torch.nn.functional.alpha_dropout(torch.tensor(x).expand(60, -1), p, training=True).numpy()
    assert all(np.isclose(column, entry, rtol=1e-5).any() for column, entry in zip(both.T, mine, strict=True))


def test_alpha_dropout_keeps_mean_and_variance():
    x = fx.normal(100_000, rng=Generator(0))
    for p in (0.2, 0.7):
        y = fx.AlphaDropout(p, rng=Generator(1), active=True)(x)
        assert abs(y.mean()) < 0.02 and abs(y.std() - 1) < 0.02
    assert (fx.AlphaDropout(1, active=True)(x) == 0).all()
    assert (
        fx.AlphaDropout(0.5)(x) is x and fx.AlphaDropout(0.5, active=True)(x[:9].astype("float16")).dtype == "float16"
    )
    assert fx.AlphaDropout(0.5, active=False).typed() == "AlphaDropout(0.5, active=False)"


def test_stochastic_depth_drops_whole_rows_or_everything():
    x = jnp.ones((200, 3, 2))
    rows = fx.StochasticDepth(0.25, rng=Generator(0), active=True)(x)
    assert set(np.unique(rows).tolist()) == {0.0, np.float32(1 / 0.75)} and (rows == rows[:, :1, :1]).all()
    assert 0.6 < (rows[:, 0, 0] > 0).mean() < 0.9
    batch = fx.StochasticDepth(0.5, "batch", rng=Generator(0), active=True)
    drawn = [batch(x) for _ in range(20)]
    assert all((y == y[0, 0, 0]).all() for y in drawn) and {float(y[0, 0, 0]) for y in drawn} == {0.0, 2.0}
    assert (fx.StochasticDepth(1, active=True)(x) == 0).all() and fx.StochasticDepth(0.5)(x) is x
    assert fx.StochasticDepth(0.5, "batch").typed() == "StochasticDepth(0.5, 'batch')"


@pytest.mark.parametrize("make", [fx.Dropout, fx.AlphaDropout, fx.StochasticDepth])
def test_dropping_layers_follow_the_mode_and_the_seed(make):
    x = jnp.asarray(numbers(8, 8), jnp.float32)
    model = fx.Chain(make(0.5, rng=Generator(1)))
    with gradient_mode():
        assert not (model(x) == x).all()
    fx.trainmode(model)
    assert model[0].active is True and not (model(x) == x).all()
    fx.testmode(model)
    assert (model(x) == x).all() and not fx.trainables(model)
    one, two = (fx.compile(make(0.5, rng=Generator(3), active=True)) for _ in range(2))
    assert (one(x) == two(x)).all() and not (one(x) == two(x)[::-1]).all()

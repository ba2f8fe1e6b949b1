"""Rows of layers that a Chain computes together: the same values, and no fusion where it would not be safe."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import fill

import fluxion as fx
from fluxion.layers.base import watching

X = np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype("float32")


def norm(channels=8, **options):
    made = fill(fx.BatchNorm(channels, **options))
    if made.var is not None:
        made.var = jnp.abs(made.var) + 0.5
    return made


def one_by_one(chain, x):
    return fx.activations(chain, x)[-1]


def operations(chain, x=X):
    return str(jax.make_jaxpr(lambda x: chain(x))(x))


ROWS = {
    "relu": lambda: fx.Chain(fx.Conv((3, 3), 4, 8), fx.relu),
    "jax.nn.relu6": lambda: fx.Chain(fx.Conv((3, 3), 4, 8, bias=False), jax.nn.relu6),
    "norm": lambda: fx.Chain(fx.Conv((3, 3), 4, 8), norm()),
    "norm with relu": lambda: fx.Chain(fx.Conv((3, 3), 4, 8, bias=False), norm(activation=fx.relu)),
    "norm, relu": lambda: fx.Chain(fx.Conv((3, 3), 4, 8, bias=False), norm(affine=False), fx.relu),
    "depthwise": lambda: fx.Chain(fx.DepthwiseConv((3, 3), 4, 8), norm(activation=fx.relu6)),
    "tanh": lambda: fx.Chain(fx.Conv((3, 3), 4, 8), norm(activation=fx.tanh)),
}


@pytest.mark.parametrize("row", ROWS)
def test_values_stay(row):
    chain = ROWS[row]()
    fill(chain.layers[0])
    np.testing.assert_allclose(chain(X), one_by_one(chain, X), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fx.compile(chain)(X), one_by_one(chain, X), rtol=1e-4, atol=1e-5)
    text = operations(chain)
    assert text.count("finished_convolution") == 1 and "max" not in text


def test_gradients_stay():
    chain = fx.Chain(fx.Conv((3, 3), 4, 8), fx.relu, norm(activation=fx.relu), fx.Conv((1, 1), 8, 3), norm(3))
    (ours,) = fx.gradient(lambda m: jnp.sum(jnp.sin(m(X))), chain)
    (plain,) = fx.gradient(lambda m: jnp.sum(jnp.sin(one_by_one(m, X))), chain)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), fx.state(ours), fx.state(plain))


def test_a_training_norm_keeps_its_statistics():
    chain = fx.Chain(fx.Conv((3, 3), 4, 8), norm())
    before = chain[1].mean
    fx.gradient(lambda m: jnp.sum(m(X)), chain)
    assert not np.allclose(before, chain[1].mean)
    for active in (True, False):
        chain[1].active = active
        np.testing.assert_allclose(chain(X), one_by_one(chain, X), rtol=1e-4, atol=1e-5)


def branch():
    return fx.Chain(fx.Conv((3, 3), 4, 8, pad=1, bias=False), norm(activation=fx.relu), fx.Conv((1, 1), 8, 4), norm(4))


BLOCKS = {
    "skip": lambda: fx.SkipConnection(branch(), operator.add),
    "skip, relu": lambda: fx.Chain(fx.SkipConnection(branch(), jnp.add), fx.relu),
    "two branches, relu6": lambda: fx.Chain(
        fx.Parallel(operator.add, branch(), fx.Chain(fx.Conv((1, 1), 4, 4), norm(4))), fx.relu6
    ),
    "names, tanh": lambda: fx.Chain(fx.Parallel(operator.add, short=lambda x: 2 * x, long=branch()), fx.tanh),
    "nested": lambda: fx.Chain(fx.SkipConnection(fx.SkipConnection(branch(), operator.add), operator.add), fx.relu),
    "chain, relu": lambda: fx.Chain(branch(), fx.relu),
    "broadcast": lambda: fx.Parallel(operator.add, fx.GlobalMeanPool(), branch()),
    "layer": lambda: fx.SkipConnection(norm(4), operator.add),
}


def in_pieces(block, x):
    """What a block gives, with every layer called by itself."""
    with watching(lambda owner, place, part, inputs: part(*inputs)):
        return block(x)


@pytest.mark.filterwarnings("ignore::fluxion.RecompileWarning")  # every block is another model
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("block", BLOCKS)
def test_the_sum_of_a_residual_block_joins_the_last_layer_of_its_branch(block, training):
    model = BLOCKS[block]()
    fx.trainmode(model, training)
    np.testing.assert_allclose(model(X), in_pieces(model, X), rtol=1e-4, atol=1e-5)
    ours = fx.gradient(lambda m, x: jnp.sum(jnp.sin(m(x))), model, X)
    plain = fx.gradient(lambda m, x: jnp.sum(jnp.sin(in_pieces(m, x))), model, X)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    for one, other in zip(ours, plain, strict=True):
        jax.tree.map(close, fx.state(one), fx.state(other))
    assert "max" not in operations(model)


def test_a_residual_block_draws_its_random_numbers_in_order():
    block = fx.Parallel(operator.add, fx.Dropout(0.5, active=True), fx.Chain(fx.Dropout(0.5, active=True), norm(4)))
    made = [(fx.seed(0), call(block, X))[1] for call in (lambda m, x: m(x), in_pieces)]
    np.testing.assert_allclose(*made, rtol=1e-5, atol=1e-6)


def test_a_sum_that_is_another_function_stays_by_itself():
    block = fx.SkipConnection(norm(4), lambda a, b: a - b)
    np.testing.assert_allclose(block(X), in_pieces(block, X), rtol=1e-5)


def test_only_arrays_are_summed_by_a_layer():
    conv = fx.Conv((1, 1), 4, 4)
    for other in (lambda x: None, lambda x: (x, x)):
        with pytest.raises(TypeError):
            fx.Parallel(operator.add, other, conv)(X)

    class Seven:
        def __add__(self, other):
            return 7

    assert fx.Parallel(operator.add, lambda x: Seven(), conv)(X) == 7


@pytest.mark.parametrize("field", ["scale", "bias", "var"])
def test_a_norm_of_the_wrong_shape_is_refused_behind_a_convolution_too(field):
    chain = fx.Chain(fx.Conv((3, 3), 4, 8), fx.BatchNorm(8))
    setattr(chain[1], field, jnp.ones(1))
    with pytest.raises(fx.SizeError, match=rf"expects {field} of shape \(8,\)(.|\n)*in model.layers\[1\]"):
        chain(X)


def test_errors_in_a_residual_block_name_the_layer():
    wrong = fx.Chain(fx.SkipConnection(fx.Chain(fx.Conv((1, 1), 4, 4), fx.BatchNorm(5)), operator.add), fx.relu)
    with pytest.raises(fx.SizeError, match=r"in model.layers\[0\].layer.layers\[1\]"):
        wrong(X)
    with pytest.raises(TypeError, match="broadcast"):
        fx.SkipConnection(fx.Conv((1, 1), 4, 3), operator.add)(X)


class Doubled(fx.BatchNorm):
    def __call__(self, x):
        return 2 * super().__call__(x)


@pytest.mark.parametrize(
    "following",
    [
        lambda: norm(active=True),
        lambda: norm(track_stats=False),
        lambda: Doubled(8),
        lambda: fx.f16(norm()),
        lambda: lambda x: fx.relu(x),
    ],
)
def test_what_is_not_known_is_called_by_itself(following):
    chain = fx.Chain(fx.Conv((3, 3), 4, 8, bias=False), following())
    wanted = one_by_one(chain, X)
    np.testing.assert_allclose(chain(X), wanted, rtol=1e-4, atol=1e-5)


def test_errors_name_the_layer():
    with pytest.raises(fx.SizeError, match=r"BatchNorm\(7\) expects 7 channels(.|\n)*in model.layers\[1\]"):
        fx.Chain(fx.Conv((3, 3), 4, 8), fx.BatchNorm(7))(X)
    with pytest.raises(fx.SizeError, match=r"Conv\(.*\) expects 5 input channels(.|\n)*in model.layers\[0\]"):
        fx.Chain(fx.Conv((3, 3), 5, 8), fx.BatchNorm(8))(X)


def test_tables_of_sizes_still_show_every_layer():
    chain = fx.Chain(fx.Conv((3, 3), 4, 8), fx.BatchNorm(8), fx.relu)
    assert fx.outputsize(chain, (2, 6, 6, 4)) == (2, 4, 4, 8)

"""Rows of layers that a Chain computes together: the same values, and no fusion where it would not be safe."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import fill

import fluxion as fx

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

"""Embedding and EmbeddingBag: what is no formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import cases_of

import fluxion as fx
from fluxion.errors import SizeError

TOKENS = np.array([[1, 0, 2], [3, 3, 1]])


@pytest.mark.parametrize("case", cases_of("embedding"), ids=str)
def test_case(case):
    case.check()


@pytest.mark.parametrize("case", cases_of("embedding"), ids=str)
def test_random_options(case):
    case.check_random()


def test_embedding_takes_integers_one_hot_and_booleans():
    layer = fx.Embedding(4, 3)
    one_hot = fx.onehotbatch(TOKENS, range(4))
    for tokens in (TOKENS, TOKENS.tolist(), jnp.asarray(TOKENS), one_hot, np.asarray(one_hot)):
        np.testing.assert_allclose(layer(tokens), layer.weight[TOKENS], rtol=1e-6)
    assert layer(2).shape == (3,) and layer(np.zeros((0,), int)).shape == layer([]).shape == (0, 3)


def test_embedding_refuses():
    layer = fx.Embedding(4, 3)
    for tokens, wrong in [([0, 4], 4), (-1, -1), (jnp.array([7]), 7)]:
        with pytest.raises(IndexError, match=rf"Embedding\(4, 3\) expects indices from 0 to 3, got {wrong}"):
            layer(tokens)
    assert jnp.isnan(jax.jit(layer)(jnp.array([0, 4, -1]))).any(1).tolist() == [False, True, True]
    with pytest.raises(TypeError, match=r"Embedding\(4, 3\) expects integers as indices, got an array of float32"):
        layer(jnp.ones(3))
    with pytest.raises(
        SizeError, match=r"Embedding\(4, 3\) expects 4 labels \(last axis\), got an array of shape \(2, 5\)"
    ):
        layer(fx.onehotbatch([0, 1], range(5)))


def test_padding_stays_zero_through_training():
    tokens, hot = np.array([[1, 0], [2, 1]]), fx.onehotbatch([[1, 0], [2, 1]], range(3))
    plain = fx.Embedding(3, 4)
    for x in (tokens, jnp.asarray(tokens), hot, np.asarray(hot)):
        layer = fx.Embedding.from_arrays(plain.weight, padding_idx=1)
        assert (layer.weight[1] == 0).all() and (layer.weight[0] == plain.weight[0]).all()
        loss = lambda m, x=x: ((m(x) - 1.0) ** 2).sum()
        (gradient,), (unpadded,) = fx.gradient(loss, layer), fx.gradient(loss, plain)
        assert (gradient.weight[1] == 0).all()
        np.testing.assert_allclose(gradient.weight[::2], unpadded.weight[::2], rtol=1e-5)
        opt = fx.setup(fx.Adam(0.1), layer)
        for _ in range(3):
            fx.update(opt, layer, fx.gradient(loss, layer)[0])
        assert (layer.weight[1] == 0).all() and (layer(x)[0, 0] == 0).all()
    assert layer(1).tolist() == [0] * 4 and (
        fx.Embedding(3, 4, padding_idx=0).typed() == "Embedding(3, 4, padding_idx=0)"
    )
    layer.weight = jnp.ones((3, 4))
    assert layer(tokens)[..., 0].tolist() == [[0, 1], [1, 0]]


def test_bags_of_every_form_agree():
    bag = fx.EmbeddingBag(5, 3)
    whole, lists = np.array([[1, 2], [0, 0]]), [[1, 2], [0, 0]]
    wanted = bag.weight[whole].mean(1)
    hot = fx.onehotbatch(whole, range(5))
    for bags in (whole, lists, [np.array([1, 2]), jnp.array([0, 0])], hot, np.asarray(hot), list(hot)):
        np.testing.assert_allclose(bag(bags), wanted, rtol=1e-6)
    for arguments in ((whole.ravel(), [0, 2]), ((whole.ravel(), np.array([0, 2])),), (list(whole.ravel()), [0, 2])):
        np.testing.assert_allclose(bag(*arguments), wanted, rtol=1e-6)
    np.testing.assert_allclose(bag([1, 2]), wanted[0], rtol=1e-6)
    assert bag(np.zeros((2, 4, 3), int)).shape == (2, 4, 3)
    np.testing.assert_allclose(bag([[3], [1, 2], []]), [bag.weight[3], wanted[0], [0] * 3], rtol=1e-6)


def test_bags_as_in_flux():
    items, starts = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8]), [0, 2, 5]
    for reduction in (jnp.sum, jnp.mean, jnp.max, jnp.median, "max"):
        bag = fx.EmbeddingBag(9, 4, reduction)
        parts = [items[:2], items[2:5], items[5:]]
        wanted = np.stack([bag(part) for part in parts])
        np.testing.assert_allclose(bag(items, starts), wanted, rtol=1e-5)
        np.testing.assert_allclose(bag(parts), wanted, rtol=1e-5)
        rows = bag.weight[items[2:5]]
        reduce = {"max": jnp.max}.get(reduction, reduction)
        np.testing.assert_allclose(wanted[1], reduce(rows, axis=0), rtol=1e-5)
    assert fx.EmbeddingBag(9, 4, jnp.mean).typed() == "EmbeddingBag(9, 4)"
    assert fx.EmbeddingBag(9, 4, jnp.max, padding_idx=3).typed() == "EmbeddingBag(9, 4, 'max', padding_idx=3)"
    assert fx.EmbeddingBag(9, 4, jnp.median).typed() == "EmbeddingBag(9, 4, median)"


@pytest.mark.parametrize("reduction", ["mean", "sum", "max", jnp.median])
def test_empty_bags_are_zeros(reduction):
    bag = fx.EmbeddingBag(5, 3, reduction)
    for arguments in (
        ([],),
        ([[], []],),
        ([np.zeros(0, int)] * 2,),
        ([[], [1]],),
        ([1, 2], [0, 0]),
        (np.zeros((2, 0), int),),
    ):
        assert (jnp.atleast_2d(bag(*arguments))[0] == 0).all()
    total = lambda m: m([1, 2], [0, 0, 2]).sum()
    if isinstance(reduction, str):
        assert jnp.isfinite(fx.gradient(total, bag)[0].weight).all()
        padded = fx.EmbeddingBag(5, 3, reduction, padding_idx=1)
        (gradient,) = fx.gradient(lambda m: m([[1, 1], [1, 2]]).sum(), padded)
        assert jnp.isfinite(gradient.weight).all() and (gradient.weight[1] == 0).all()
        np.testing.assert_allclose(padded([[1, 1], [1, 2]]), [[0] * 3, padded.weight[2]])


def test_bags_in_compiled_code():
    bag = fx.EmbeddingBag(5, 3, "max")
    items, starts = jnp.array([0, 1, 2, 2]), jnp.array([0, 1, 1])
    np.testing.assert_allclose(jax.jit(bag)(items, starts), bag(items, starts))
    parts = [items[:1], items[1:]]
    np.testing.assert_allclose(jax.jit(bag)(parts), bag(parts))
    assert jax.jit(bag)(jnp.array([[7]])).shape == (1, 3)
    with pytest.raises(TypeError, match=r"EmbeddingBag\(5, 3, median\) takes offsets in compiled code with .* only"):
        jax.jit(fx.EmbeddingBag(5, 3, jnp.median))(items, starts)


def test_weights_of_a_ragged_sum():
    bag = fx.EmbeddingBag(5, 3, sum)
    np.testing.assert_allclose(
        bag([[1], [2, 3]], weights=[[2.0], [1.0, -1.0]]),
        [2 * bag.weight[1], bag.weight[2] - bag.weight[3]],
        rtol=1e-6,
    )

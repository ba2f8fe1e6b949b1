"""Losses, against PyTorch and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import check_layer, numbers

import fluxion as fx
from fluxion import losses

LABELS = np.array([0, 2, 1, 2])
SCORES = numbers(4, 3)
PROBABILITIES = np.asarray(torch.softmax(torch.tensor(SCORES), -1))
SOFT = np.asarray(torch.softmax(torch.tensor(numbers(4, 3, seed=1)), -1))
BINARY = numbers(4, 3, seed=2, low=0.1, high=0.9)
EPS64 = np.finfo(np.float64).eps


@pytest.fixture(autouse=True)
def _warned_before():
    losses._warned.add("probabilities")
    yield
    losses._warned.discard("probabilities")


def one_hot(labels=LABELS):
    return fx.onehotbatch(labels, range(3))


def nll(p, pred, target):
    return F.nll_loss(torch.log(pred + EPS64), torch.as_tensor(np.asarray(target)))


LOSSES = {
    "mse": (fx.mse, [SCORES, SOFT], lambda p, x, y: F.mse_loss(x, y)),
    "mae": (fx.mae, [SCORES, SOFT], lambda p, x, y: F.l1_loss(x, y)),
    "mse sum": (
        lambda x, y: fx.mse(x, y, agg=jnp.sum),
        [SCORES, SOFT],
        lambda p, x, y: F.mse_loss(x, y, reduction="sum"),
    ),
    "mae none": (
        lambda x, y: fx.mae(x, y, agg=fx.identity),
        [SCORES, SOFT],
        lambda p, x, y: F.l1_loss(x, y, reduction="none"),
    ),
    "logitcrossentropy integers": (fx.logitcrossentropy, [SCORES, LABELS], lambda p, x, y: F.cross_entropy(x, y)),
    "logitcrossentropy soft": (fx.logitcrossentropy, [SCORES, SOFT], lambda p, x, y: F.cross_entropy(x, y)),
    "logitcrossentropy images": (
        lambda x, y: fx.logitcrossentropy(x, y, axis=1),
        [numbers(2, 3, 4), np.arange(8).reshape(2, 4) % 3],
        lambda p, x, y: F.cross_entropy(x, y),
    ),
    "crossentropy integers": (fx.crossentropy, [PROBABILITIES, LABELS], nll),
    "crossentropy soft": (
        fx.crossentropy,
        [PROBABILITIES, SOFT],
        lambda p, x, y: -(y * torch.log(x + EPS64)).sum(-1).mean(),
    ),
    "crossentropy eps": (
        lambda x, y: fx.crossentropy(x, y, eps=0.1),
        [PROBABILITIES, SOFT],
        lambda p, x, y: -(y * torch.log(x + 0.1)).sum(-1).mean(),
    ),
    "binarycrossentropy": (
        lambda x, y: fx.binarycrossentropy(x, y, eps=0),
        [BINARY, SOFT],
        lambda p, x, y: -(y * x.log() + (1 - y) * (1 - x).log()).mean(),
    ),
    "logitbinarycrossentropy": (
        fx.logitbinarycrossentropy,
        [SCORES, SOFT],
        lambda p, x, y: F.binary_cross_entropy_with_logits(x, y),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name):
    function, inputs, reference = LOSSES[name]
    check_layer(lambda: function, *inputs, reference=reference, widens=True)


ALL = [
    (fx.mse, SCORES),
    (fx.mae, SCORES),
    (fx.crossentropy, PROBABILITIES),
    (fx.logitcrossentropy, SCORES),
    (fx.binarycrossentropy, BINARY),
    (fx.logitbinarycrossentropy, SCORES),
]


@pytest.mark.parametrize(("loss", "pred"), ALL)
def test_every_form_of_one_hot_labels(loss, pred):
    pred = jnp.asarray(pred, jnp.float32)
    dense = np.asarray(one_hot())
    wanted = loss(pred, dense.astype(np.float32))
    forms = [dense, dense.astype(int), one_hot(), jnp.asarray(dense)]
    if "crossentropy" in loss.__name__ and "binary" not in loss.__name__:
        forms += [LABELS, jnp.asarray(LABELS), LABELS.tolist(), LABELS.astype(np.uint8)]
    for target in forms:
        value = loss(pred, target)
        np.testing.assert_allclose(value, wanted, rtol=1e-5)
        assert value.dtype == jnp.float32
        assert jax.grad(lambda x, y=target: loss(x, y))(pred).dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(lambda x: loss(x, one_hot()))(pred), wanted, rtol=1e-5)


@pytest.mark.parametrize(("loss", "pred"), ALL)
def test_losses_refuse(loss, pred):
    name = loss.__name__
    with pytest.raises(TypeError, match=f"{name} takes a function as agg=, such as jnp.mean, .*, got 'mean'"):
        loss(pred, SOFT, agg="mean")
    message = rf"{name} expects .*\(4, 3\).*\(3, 4\)"
    with pytest.raises(ValueError, match=message):
        loss(pred, SOFT.T)


def test_shapes_are_not_broadcast():
    with pytest.raises(
        ValueError, match=r"mse expects pred and target of equal shapes, got \(4, 1\) and \(4,\); write target.reshape"
    ):
        fx.mse(SCORES[:, :1], LABELS)
    with pytest.raises(
        ValueError, match=r"mae expects .*, got \(4, 3\) and \(4,\); check the output size of the model"
    ):
        fx.mae(SCORES, LABELS)
    with pytest.raises(ValueError, match=r"or integer labels of shape \(4,\), got \(4, 1\) of type int64"):
        fx.logitcrossentropy(SCORES, LABELS[:, None])
    with pytest.raises(
        ValueError, match=r"crossentropy takes labels as integers, got float64; write target.astype\(int\)"
    ):
        fx.crossentropy(PROBABILITIES, LABELS.astype(float))
    with pytest.raises(ValueError, match=r"logitcrossentropy expects .* got \(4, 5\) of type bool"):
        fx.logitcrossentropy(SCORES, fx.onehotbatch(LABELS, range(5)))
    with pytest.raises(ValueError, match=r"crossentropy has no axis 2 in pred, an array of shape \(4, 3\)"):
        fx.crossentropy(PROBABILITIES, LABELS, axis=2)


def test_labels_out_of_range():
    with pytest.raises(ValueError, match="logitcrossentropy expects labels from 0 to 2, got 3"):
        fx.logitcrossentropy(SCORES, [0, 1, 2, 3])
    with pytest.raises(ValueError, match="crossentropy expects labels from 0 to 2, got -1"):
        fx.crossentropy(PROBABILITIES, [0, 1, 2, -1])
    assert jnp.isnan(jax.jit(fx.logitcrossentropy)(SCORES, jnp.array([0, 1, 2, 3])))


def test_a_number_as_target():
    assert fx.mse(jnp.array([1.0, 3.0]), 1) == 2
    np.testing.assert_allclose(fx.binarycrossentropy(jnp.array([0.5]), 1), np.log(2), rtol=1e-5)


def test_known_values():
    assert fx.mse(np.array([0, 1 + 1j]), np.array([0, 1j * 0 - 1]), agg=jnp.sum) == 5
    y, like, unlike = (
        np.eye(3)[:, [1, 0, 2]],
        np.full((3, 3), 0.1) + 0.7 * np.eye(3)[:, [1, 0, 2]],
        np.full((3, 3), 1 / 3),
    )
    assert fx.crossentropy(like, y) < fx.crossentropy(unlike, y)
    np.testing.assert_allclose(fx.crossentropy(unlike, y), np.log(3), rtol=1e-5)
    weighted = fx.mse([1.0, 2.0], [0.0, 0.0], agg=lambda losses: jnp.mean(jnp.array([1.0, 0.5]) * losses))
    assert weighted == 1.5


def test_logit_losses_agree_with_those_of_probabilities():
    scores = jnp.asarray(SCORES, jnp.float32)
    np.testing.assert_allclose(
        fx.crossentropy(fx.softmax(scores), LABELS), fx.logitcrossentropy(scores, LABELS), rtol=1e-4
    )
    np.testing.assert_allclose(
        fx.binarycrossentropy(fx.sigmoid(scores), SOFT), fx.logitbinarycrossentropy(scores, SOFT), rtol=1e-4
    )


def test_extremes_stay_finite():
    certain = jnp.array([[1.0, 0.0]])
    for loss, pred in [(fx.crossentropy, certain), (fx.binarycrossentropy, certain)]:
        value, gradient = jax.value_and_grad(loss)(pred, np.array([[1, 0]]))
        assert abs(value) < 1e-5 and jnp.isfinite(gradient).all()
        value, gradient = jax.value_and_grad(loss)(pred, np.array([[0, 1]]))
        assert 10 < value < 40 and jnp.isfinite(gradient).all()
    masked = jnp.array([[2.0, -jnp.inf, 1.0]])
    for target in (np.array([0]), np.array([[1.0, 0.0, 0.0]])):
        value, gradient = jax.value_and_grad(fx.logitcrossentropy)(masked, target)
        assert jnp.isfinite(value) and jnp.isfinite(gradient).all()
    huge = jnp.array([[1e4, -1e4]])
    assert (
        fx.logitcrossentropy(huge, np.array([1])) == 2e4 and fx.logitbinarycrossentropy(huge, np.array([[1, 0]])) == 0
    )
    assert jnp.isnan(fx.crossentropy(jnp.array([[jnp.nan, 1.0]]), np.array([0])))


def test_xlogy():
    x, y = jnp.array([0.0, 0.0, 0.0, 2.0, jnp.nan]), jnp.array([0.0, jnp.nan, jnp.inf, 1.0, 1.0])
    assert losses.xlogy(x, y)[:4].tolist() == [0, 0, 0, 0] and jnp.isnan(losses.xlogy(x, y)[4])
    assert jax.grad(losses.xlogy, (0, 1))(0.0, 2.0) == (jnp.log(2.0), 0)


def test_probabilities_in_a_logit_loss_warn_once():
    losses._warned.discard("probabilities")
    fx.logitcrossentropy(SCORES, LABELS)
    jax.jit(fx.logitcrossentropy)(PROBABILITIES, LABELS)
    with pytest.warns(fx.FluxionWarning, match="logitcrossentropy got predictions that look like probabilities"):
        fx.logitcrossentropy(PROBABILITIES, LABELS)
    fx.logitcrossentropy(PROBABILITIES, LABELS)

"""Losses, against PyTorch and finite differences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from harness import cases_of, numbers

import fluxion as fx
from fluxion.losses import classification as losses

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


@pytest.mark.parametrize("case", cases_of("losses"), ids=str)
def test_case(case):
    case.check()


@pytest.mark.parametrize("case", cases_of("losses"), ids=str)
def test_random_options(case):
    case.check_random()


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
    with pytest.raises(ValueError, match=r"crossentropy has no axis 2 in an array of shape \(4, 3\)"):
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


# ------------------------------------------------------------------ weights and masks


def test_numbers_of_flux():
    np.testing.assert_allclose(fx.huber_loss([0.9, 0.1, 0.1, 0.9], [1, 1, 0, 0]), 0.205, rtol=1e-5)
    np.testing.assert_allclose(fx.msle([345.0, 332.0, 789.0], [123.0, 456.0, 789.0]), 0.38813985, rtol=1e-5)
    np.testing.assert_allclose(fx.poisson_loss([0.4, 0.5, 0.6], [0.1, 0.2, 0.3]), 0.6278354, rtol=1e-5)
    np.testing.assert_allclose(fx.kldivergence([[4.0], [5.0], [6.0]], [[1], [2], [3]]), -1.7661058, rtol=1e-5)
    pred, target = [0, 1.4, 0.5, 1.2], [1.0, 0.5, 0.3, 2.4]
    np.testing.assert_allclose(fx.dice_coeff_loss(pred, target), 0.28, rtol=1e-5)
    np.testing.assert_allclose(fx.tversky_loss(pred, target), -0.0677201, rtol=1e-5)
    np.testing.assert_allclose(fx.tversky_loss(pred, target, beta=0.8), -0.0949074, rtol=1e-5)


def test_focal_losses_without_focus_are_cross_entropies():
    np.testing.assert_allclose(
        fx.focal_loss(PROBABILITIES, LABELS, gamma=0.0), fx.crossentropy(PROBABILITIES, LABELS), rtol=1e-5
    )
    np.testing.assert_allclose(
        fx.binary_focal_loss(BINARY, SOFT > 0.5, gamma=0.0), fx.binarycrossentropy(BINARY, SOFT > 0.5), rtol=1e-5
    )
    certain = jnp.array([[1.0, 0.0]])
    for gamma in (0.0, 0.5, 2.0):
        value, gradient = jax.value_and_grad(fx.focal_loss)(certain, np.array([0]), gamma=gamma)
        assert abs(value) < 1e-5 and jnp.isfinite(gradient).all()


ELEMENTWISE = [
    fx.mse,
    fx.mae,
    fx.msle,
    fx.huber_loss,
    fx.poisson_loss,
    fx.hinge_loss,
    fx.squared_hinge_loss,
    fx.siamese_contrastive_loss,
    fx.binarycrossentropy,
    fx.logitbinarycrossentropy,
    fx.binary_focal_loss,
]


@pytest.mark.parametrize("loss", [*ELEMENTWISE, fx.dice_coeff_loss, fx.tversky_loss])
def test_what_the_mask_leaves_out_may_be_anything(loss):
    pred, target, mask = jnp.array([0.5, jnp.nan, 0.25]), jnp.array([1.0, jnp.nan, 0.0]), np.array([True, False, True])
    value, gradient = jax.value_and_grad(loss)(pred, target, mask=mask)
    np.testing.assert_allclose(value, loss(pred[mask], target[mask]), rtol=1e-6)
    np.testing.assert_allclose(gradient[mask], jax.grad(loss)(pred[mask], target[mask]), rtol=1e-6)
    assert gradient[1] == 0


@pytest.mark.parametrize("loss", [fx.crossentropy, fx.logitcrossentropy, fx.focal_loss])
def test_labels_and_rows_that_do_not_count_may_be_anything(loss):
    pred = jnp.asarray(PROBABILITIES, jnp.float32).at[1].set(jnp.nan)
    labels, mask = np.array([0, 77, 1, 2]), np.array([True, False, True, True])
    value, gradient = jax.value_and_grad(loss)(pred, labels, mask=mask)
    np.testing.assert_allclose(value, loss(pred[mask], labels[mask]), rtol=1e-6)
    assert jnp.isfinite(gradient).all() and (gradient[1] == 0).all()
    np.testing.assert_allclose(loss(pred, labels, ignore_index=77), value, rtol=1e-6)


def test_nothing_counts():
    nothing = np.zeros(4, bool)
    for loss in (fx.mse, fx.mae):
        value, gradient = jax.value_and_grad(loss)(jnp.ones(4), np.zeros(4), mask=nothing)
        assert value == 0 and (gradient == 0).all()
    assert fx.logitcrossentropy(SCORES, LABELS, mask=nothing) == 0


def test_the_mean_is_weighted():
    weights = np.array([1.0, 3.0])
    assert fx.mse([1.0, 2.0], [0.0, 0.0], weights=weights) == (1 + 3 * 4) / 4
    assert fx.mse([1.0, 2.0], [0.0, 0.0], weights=weights, agg=jnp.sum) == 13
    by_row = fx.mse(SCORES, SOFT, weights=np.array([0.0, 1.0, 0.0, 1.0]))
    np.testing.assert_allclose(by_row, fx.mse(SCORES[1::2], SOFT[1::2]), rtol=1e-6)


def test_labels_and_one_hot_targets_agree_under_weights_and_smoothing():
    keywords = {"class_weights": [0.5, 1.0, 2.0], "label_smoothing": 0.2, "weights": np.array([1.0, 2.0, 0.5, 1.0])}
    for target in (np.asarray(one_hot()), one_hot()):
        np.testing.assert_allclose(
            fx.logitcrossentropy(SCORES, target, **keywords),
            fx.logitcrossentropy(SCORES, LABELS, **keywords),
            rtol=1e-6,
        )


def test_the_strength_of_smoothing_may_change_without_compiling_anew():
    loss = fx.compile(lambda pred, alpha: fx.logitcrossentropy(pred, LABELS, label_smoothing=alpha))
    for alpha in (0.0, 0.1, 0.2):
        wanted = fx.logitcrossentropy(SCORES, LABELS, label_smoothing=alpha)
        np.testing.assert_allclose(loss(jnp.asarray(SCORES), alpha), wanted, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_labels_of_a_narrow_type(dtype):
    scores, labels = jnp.asarray(numbers(2, 300)), np.array([1, 100])
    for options in ({}, {"label_smoothing": 0.1}, {"ignore_index": 256 + 100}, {"ignore_index": -100}):
        wanted = fx.logitcrossentropy(scores, labels, **options)
        for given in (labels.astype(dtype), jnp.asarray(labels, dtype)):
            assert fx.logitcrossentropy(scores, given, **options) == wanted
    logits, steps = jnp.asarray(numbers(1, 130, 3)), np.ones((1, 2))
    wanted = fx.ctc_loss(logits, steps.astype(int), lengths=[120])
    assert fx.ctc_loss(logits, steps.astype(dtype), lengths=np.array([120], dtype)) == wanted


def test_no_labels():
    assert fx.logitcrossentropy(np.ones((0, 3)), [], agg=jnp.sum) == 0
    assert fx.ctc_loss(np.zeros((1, 1, 2)), [[]]) == fx.ctc_loss(np.zeros((1, 1, 2)), np.zeros((1, 0), int))


def test_the_mean_of_numpy_is_a_mean():
    for options in ({"mask": [False, True]}, {"weights": [0.0, 2.0]}):
        assert fx.mse([1.0, 2.0], [1.0, 4.0], agg=np.mean, **options) == 4


def test_complex_losses_are_refused():
    z = np.array([0.5j, 1.0])
    assert fx.mse(z, z) == fx.mae(z, z) == fx.huber_loss(z, z) == 0
    for loss in (fx.hinge_loss, fx.binarycrossentropy, fx.crossentropy, fx.dice_coeff_loss, fx.tversky_loss):
        with pytest.raises(TypeError, match=f"{loss.__name__} takes real numbers, got complex ones"):
            loss(z, np.array([1.0, 0.0]))


def test_options_out_of_range():
    for delta in (0, -1.0):
        with pytest.raises(ValueError, match=f"huber_loss takes a delta above 0, got {delta}"):
            fx.huber_loss([1.0], [0.0], delta=delta)
    with pytest.raises(ValueError, match=r"takes a label_smoothing of at least 0 and below 1, got 1.5"):
        fx.crossentropy(PROBABILITIES, LABELS, label_smoothing=1.5)
    with pytest.raises(ValueError, match=r"siamese_contrastive_loss takes a margin of at least 0, got -1.0"):
        fx.siamese_contrastive_loss([1.0], [0], margin=-1.0)
    with pytest.raises(ValueError, match=r"pos_weight takes a number or an array of shape \(3,\), got shape \(2,\)"):
        fx.logitbinarycrossentropy(SCORES, SOFT, pos_weight=[1.0, 2.0])


# ------------------------------------------------------------------ CTC


def ctc_by_hand(logits, target, blank=0):
    """The sum over every path of labels and blanks, spelled out."""
    logs = np.asarray(torch.log_softmax(torch.tensor(logits), -1))
    total = -np.inf
    for path in itertools.product(range(logs.shape[1]), repeat=logs.shape[0]):
        merged = [label for label, _ in itertools.groupby(path)]
        if [label for label in merged if label != blank] == list(target):
            total = np.logaddexp(total, sum(logs[t, label] for t, label in enumerate(path)))
    return -total


@pytest.mark.parametrize(("target", "blank"), [([1, 2], 0), ([1, 1], 0), ([], 0), ([0], 2), ([2, 0], 1)])
def test_ctc_sums_over_every_path(target, blank):
    logits = numbers(4, 3, seed=3)
    value = fx.ctc_loss(logits, np.array(target, int), blank=blank)
    np.testing.assert_allclose(value, ctc_by_hand(logits, target, blank), rtol=1e-5)
    if blank == 2:
        assert fx.ctc_loss(logits, np.array(target), blank=-1) == value


def test_ctc_of_what_fits_in_no_way():
    logits, target = jnp.asarray(numbers(2, 3, 3), jnp.float32), np.array([[1, 1, 1], [1, 2, 1]])
    value, gradient = jax.value_and_grad(lambda x: fx.ctc_loss(x, target, agg=jnp.sum))(logits)
    assert value == jnp.inf and not jnp.isnan(gradient).any()
    each = fx.ctc_loss(logits, target, agg=fx.identity, zero_infinity=True)
    assert each[0] == 0 and jnp.isfinite(each[1])
    both = jax.grad(lambda x: fx.ctc_loss(x, target, agg=jnp.sum, zero_infinity=True))(logits)
    assert (both[0] == 0).all() and (both[1] != 0).any()


def test_ctc_of_padding_depends_on_nothing_in_it():
    logits, target = numbers(1, 6, 4), np.array([[1, 2, 3]])
    wanted = fx.ctc_loss(logits[:, :5], target[:, :2])
    spoiled = np.array(logits)
    spoiled[:, 5] = np.nan
    loss = lambda x: fx.ctc_loss(x, target, lengths=[5], target_lengths=[2])
    value, gradient = jax.value_and_grad(loss)(jnp.asarray(spoiled))
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    assert jnp.isfinite(gradient).all() and (gradient[:, 5] == 0).all()


def test_ctc_refuses_blanks_among_the_labels():
    logits = numbers(1, 6, 4)
    with pytest.raises(ValueError, match="ctc_loss takes labels other than blank=0; target_lengths= leaves out"):
        fx.ctc_loss(logits, [[1, 2, 0]])
    assert jnp.isfinite(fx.ctc_loss(logits, [[1, 2, 0]], target_lengths=[2]))
    with pytest.raises(ValueError, match=r"ctc_loss takes a blank from 0 to 3, got 1\.5"):
        fx.ctc_loss(logits, [[1]], blank=1.5)

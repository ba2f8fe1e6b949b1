"""Losses, against PyTorch where it has them and by their formulas elsewhere."""

import functools

import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from harness import Sample, case
from torch.special import xlogy

import fluxion as fx

TINY = 1e-3


def reduced(losses, reduction, weights, mask, share=None):
    """What PyTorch would make of losses with weights and a mask, by hand."""
    counts = torch.ones_like(losses) if share is None else share
    for factor in (weights, mask):
        if factor is not None:
            factor = torch.as_tensor(np.asarray(factor, np.float64))
            factor = factor.reshape(factor.shape + (1,) * (losses.ndim - factor.ndim)).expand(losses.shape)
            losses, counts = losses * factor, counts * factor
    if reduction == "sum":
        return losses.sum()
    return losses if reduction == "none" else losses.sum() / counts.sum()


def options(draw, shape):
    """Ways to reduce: the reduction by PyTorch's name, weights and mask; and the arguments that Fluxion takes."""
    reduction = draw.choose("mean", "sum", "none")
    first = shape[: draw.choose(1, len(shape))]
    weights = draw.choose(None, draw.uniform(0.5, 2.0, *first))
    mask = draw.choose(None, np.arange(np.prod(first)).reshape(first) % 3 != 1)
    agg = {"mean": jnp.mean, "sum": jnp.sum, "none": fx.identity}[reduction]
    return (reduction, weights, mask), {"agg": agg, "weights": weights, "mask": mask}


def of_numbers(name, formula, draws=None, targets=None, **fields):
    """A case of a loss whose prediction and target have one shape; `formula(pred, target)` gives every loss."""
    function = getattr(fx, name)
    bad = np.ones((4, 3)), np.ones((3, 4))

    @case(
        name,
        errors=[
            (lambda: function(*bad), ValueError, f"{name} expects pred and target of equal shapes"),
            (lambda: function(bad[0], bad[0], agg="mean"), TypeError, f"{name} takes a function as agg="),
            (lambda: function(bad[0], bad[0], weights=np.ones(3)), ValueError, f"{name} takes weights of shape (4, 3)"),
            (lambda: function(bad[0], bad[0], mask=np.ones(4)), TypeError, f"{name} takes booleans as mask="),
        ],
    )
    def draw_sample(draw):
        shape = 4, draw.size()
        pred = draws(draw, *shape) if draws else draw.normal(*shape)
        target = targets(draw, *shape) if targets else draw.normal(*shape)
        plan, keywords = options(draw, shape)
        return Sample(
            lambda: functools.partial(function, **keywords),
            pred,
            target,
            reference=lambda p, x, y: reduced(formula(x, y), *plan),
            widens=True,
            vmap=keywords["weights"] is None and keywords["mask"] is None,
            **fields,
        )


def positive(draw, *shape):
    return draw.uniform(0.5, 2.0, *shape)


def probability(draw, *shape):
    return draw.uniform(0.1, 0.9, *shape)


def signs(draw, *shape):
    return 2 * draw.integers(0, 2, *shape) - 1


def bits(draw, *shape):
    return draw.integers(0, 2, *shape)


def elementwise(function):
    return functools.partial(function, reduction="none")


EPS = np.finfo(np.float64).eps
of_numbers("mse", elementwise(F.mse_loss))
of_numbers("mae", elementwise(F.l1_loss))
of_numbers("msle", lambda x, y: (torch.log(x + EPS) - torch.log(y + EPS)) ** 2, positive, positive)
of_numbers("huber_loss", elementwise(F.huber_loss))
of_numbers(
    "poisson_loss", elementwise(functools.partial(F.poisson_nll_loss, log_input=False, eps=0)), positive, positive
)
of_numbers("hinge_loss", lambda x, y: torch.relu(1 - x * y), None, signs)
of_numbers("squared_hinge_loss", lambda x, y: torch.relu(1 - x * y) ** 2, None, signs)
of_numbers("siamese_contrastive_loss", lambda x, y: (1 - y) * x**2 + y * torch.relu(1 - x) ** 2, positive, bits)
of_numbers("binarycrossentropy", elementwise(F.binary_cross_entropy), probability, probability)
of_numbers("logitbinarycrossentropy", elementwise(F.binary_cross_entropy_with_logits), None, probability)
of_numbers(
    "binary_focal_loss",
    lambda x, y: -((1 - x) ** 2) * y * torch.log(x) - x**2 * (1 - y) * torch.log(1 - x),
    probability,
    bits,
    tolerance=1e-7,
)


@case("logitbinarycrossentropy", label="pos_weight")
def pos_weight(draw):
    weight = draw.choose(draw.uniform(0.5, 2.0, 3), 2.0)
    return Sample(
        lambda: functools.partial(fx.logitbinarycrossentropy, pos_weight=weight),
        draw.normal(4, 3),
        draw.uniform(0.1, 0.9, 4, 3),
        reference=lambda p, x, y: F.binary_cross_entropy_with_logits(x, y, pos_weight=torch.as_tensor(weight)),
        widens=True,
    )


@case("huber_loss", label="delta")
def huber(draw):
    delta = draw.choose(0.5, 1.5)
    return Sample(
        lambda: functools.partial(fx.huber_loss, delta=delta),
        draw.normal(5),
        draw.normal(5),
        reference=lambda p, x, y: F.huber_loss(x, y, delta=delta),
        widens=True,
    )


# ------------------------------------------------------------------ losses of classes


def of_classes(name, prepare, draws, bad=None, **fields):
    """A case of a loss over classes with integer labels and everything that weighs them."""
    function = getattr(fx, name)

    @case(
        name,
        errors=[
            (lambda: function(np.ones((4, 3)), [0, 1, 2, 3]), ValueError, f"{name} expects labels from 0 to 2, got 3"),
            (
                lambda: function(np.ones((4, 3)), np.ones(4)),
                ValueError,
                f"{name} takes labels as integers, got float64",
            ),
            (
                lambda: function(np.ones((4, 3)), np.ones((4, 2))),
                ValueError,
                f"{name} expects a target of shape (4, 3)",
            ),
            (lambda: function(np.ones((4, 3)), [0] * 4, axis=2), ValueError, f"{name} has no axis 2 in an array"),
            (
                lambda: function(np.ones((4, 3)), [0] * 4, class_weights=[1.0, 2.0]),
                ValueError,
                f"{name} takes 3 class_weights, one a class, got shape (2,)",
            ),
            (
                lambda: function(np.ones((4, 3)), np.ones((4, 3)), ignore_index=0),
                ValueError,
                f"{name} takes ignore_index with integer labels",
            ),
        ],
    )
    def labels(draw):
        shape = draw.choose((5,), (2, 3))
        pred, target = draws(draw, *shape[:1], 3, *shape[1:]), draw.integers(0, 3, *shape)
        class_weights = draw.choose(draw.uniform(0.5, 2.0, 3), None)
        ignored = draw.choose(1, None)
        smoothing = 0.0 if name == "focal_loss" else draw.choose(0.1, 0.0)
        plan, keywords = options(draw, shape)
        keywords |= {"class_weights": class_weights, "ignore_index": ignored, "axis": 1}
        keywords |= {"label_smoothing": smoothing} if smoothing else {}

        def reference(p, x, y):
            weights = torch.ones(3, dtype=x.dtype) if class_weights is None else torch.as_tensor(class_weights)
            chosen = torch.movedim(F.one_hot(y, 3), -1, 1).to(x.dtype)
            spread = weights.reshape(1, 3, *(1,) * (x.ndim - 2))
            smooth = (chosen * (1 - smoothing) + smoothing / 3) * spread
            losses, share = -(smooth * prepare(x)).sum(1), (chosen * spread).sum(1)
            counts = torch.ones_like(share) if ignored is None else (y != ignored).to(x.dtype)
            return reduced(losses * counts, *plan, share=share * counts)

        every = [keywords["weights"], keywords["mask"], class_weights]
        return Sample(
            lambda: functools.partial(function, **keywords),
            pred,
            target,
            reference=reference,
            widens=True,
            vmap=all(entry is None for entry in every) and len(shape) == 1,
            **fields,
        )


def rows(draw, *shape):
    """Probabilities along axis 1."""
    scores = np.exp(draw.normal(*shape))
    return scores / scores.sum(1, keepdims=True)


of_classes("logitcrossentropy", lambda x: F.log_softmax(x, 1), lambda draw, *shape: draw.normal(*shape))
of_classes("crossentropy", torch.log, rows, single=1e-3)
of_classes("focal_loss", lambda x: (1 - x) ** 2 * torch.log(x), rows, single=1e-3)


@case("logitcrossentropy", label="PyTorch")
def logits(draw):
    """PyTorch's own function, with everything that it knows."""
    weights, smoothing = draw.choose(draw.uniform(0.5, 2.0, 3), None), draw.choose(0.1, 0.0)
    ignored = draw.choose(2, -100)
    labels = np.array([0, 2, 1, 0, 2])
    keywords = {"class_weights": weights, "label_smoothing": smoothing, "ignore_index": ignored}
    return Sample(
        lambda: functools.partial(fx.logitcrossentropy, **keywords),
        draw.normal(5, 3),
        labels,
        reference=lambda p, x, y: F.cross_entropy(
            x,
            y,
            weight=None if weights is None else torch.as_tensor(weights),
            ignore_index=ignored,
            label_smoothing=smoothing,
        ),
        widens=True,
        vmap=False,
    )


@case("crossentropy", "logitcrossentropy", "kldivergence", "focal_loss", label="soft targets")
def soft(draw):
    name = draw.choose("kldivergence", "logitcrossentropy", "crossentropy", "focal_loss")
    formula = {
        "kldivergence": lambda x, y: F.kl_div(torch.log(x), y, reduction="batchmean"),
        "logitcrossentropy": F.cross_entropy,
        "crossentropy": lambda x, y: -xlogy(y, x).sum(-1).mean(),
        "focal_loss": lambda x, y: -(y * (1 - x) ** 2 * torch.log(x)).sum(-1).mean(),
    }[name]
    return Sample(
        lambda: functools.partial(getattr(fx, name)),
        rows(draw, 4, 3),
        rows(draw, 4, 3),
        reference=lambda p, x, y: formula(x, y),
        widens=True,
    )


@case(
    "label_smoothing",
    errors=[
        (lambda: fx.label_smoothing([1.0], 1.0), ValueError, "label_smoothing takes an alpha between 0 and 1, got 1.0"),
        (lambda: fx.label_smoothing([1.0], 0.5, axis=1), ValueError, "label_smoothing has no axis 1"),
    ],
)
def smoothing(draw):
    axis, alpha = draw.choose(-1, 0, None), draw.choose(0.1, 0.5)
    return Sample(
        lambda: functools.partial(fx.label_smoothing, alpha=alpha, axis=axis),
        draw.uniform(0, 1, 2, 3),
        reference=lambda p, x: x * (1 - alpha) + alpha / (2 if axis is None else x.shape[axis]),
        widens=True,
    )


# ------------------------------------------------------------------ overlaps


@case("dice_coeff_loss", errors=[(lambda: fx.dice_coeff_loss([1.0], [1.0, 0.0]), ValueError, "equal shapes")])
def dice(draw):
    smooth = draw.choose(1.0, 0.5)
    return Sample(
        lambda: functools.partial(fx.dice_coeff_loss, smooth=smooth),
        draw.uniform(0, 1, 2, 3),
        draw.uniform(0, 1, 2, 3),
        reference=lambda p, x, y: 1 - (2 * (x * y).sum() + smooth) / ((x**2).sum() + (y**2).sum() + smooth),
        widens=True,
    )


@case("tversky_loss", errors=[(lambda: fx.tversky_loss([1.0], [1.0, 0.0]), ValueError, "equal shapes")])
def tversky(draw):
    beta = draw.choose(0.7, 0.4)

    def reference(p, x, y):
        return 1 - ((x * y).sum() + 1) / ((x * y + beta * (1 - y) * x + (1 - beta) * y * (1 - x)).sum() + 1)

    return Sample(
        lambda: functools.partial(fx.tversky_loss, beta=beta),
        draw.uniform(0, 1, 2, 3),
        draw.uniform(0, 1, 2, 3),
        reference=reference,
        widens=True,
    )


@case("xlogy")
def x_log_y(draw):
    return Sample(
        lambda: fx.xlogy, draw.normal(4), draw.uniform(0.5, 2, 4), reference=lambda p, x, y: torch.special.xlogy(x, y)
    )


@case("xlogx")
def x_log_x(draw):
    return Sample(lambda: fx.xlogx, draw.uniform(0.5, 2, 4), reference=lambda p, x: torch.special.xlogy(x, x))


# ------------------------------------------------------------------ CTC


@case(
    "ctc_loss",
    errors=[
        (lambda: fx.ctc_loss(np.ones((2, 4, 3)), np.ones((3, 2), int)), ValueError, "ctc_loss expects shapes (batch"),
        (lambda: fx.ctc_loss(np.ones((1, 4, 3)), [[1, 3]]), ValueError, "ctc_loss expects labels from 0 to 2, got 3"),
        (lambda: fx.ctc_loss(np.ones((1, 4, 3)), [[1.0]]), TypeError, "ctc_loss expects integers as labels"),
        (lambda: fx.ctc_loss(np.ones((1, 4, 3)), [[1]], blank=3), ValueError, "ctc_loss takes a blank from 0 to 2"),
        (
            lambda: fx.ctc_loss(np.ones((1, 4, 3)), [[1]], lengths=[5]),
            ValueError,
            "ctc_loss expects lengths from 0 to 4, got 5",
        ),
        (
            lambda: fx.ctc_loss(np.ones((1, 4, 3)), [[1]], target_lengths=[1, 1]),
            ValueError,
            "ctc_loss takes target_lengths as 1 integers",
        ),
    ],
)
def ctc(draw):
    batch, steps, labels = 3, 6, draw.size(3)
    target = draw.integers(1, 4, batch, labels)
    lengths = draw.choose(np.array([6, 5, 6]), np.full(3, 6))
    target_lengths = draw.choose(np.full(3, labels), np.array([labels, 0, 1]))

    def reference(p, x, y):
        logs = F.log_softmax(x, -1).movedim(1, 0)
        return F.ctc_loss(logs, y, torch.tensor(lengths), torch.tensor(target_lengths), reduction="none")

    return Sample(
        lambda: functools.partial(fx.ctc_loss, lengths=lengths, target_lengths=target_lengths, agg=fx.identity),
        draw.normal(batch, steps, 4),
        target,
        reference=reference,
        widens=True,
        vmap=False,
    )

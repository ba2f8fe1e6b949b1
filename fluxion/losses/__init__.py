"""Losses: one number that says how far predictions are from targets.

Each is called as `loss(pred, target, *, agg=jnp.mean, weights=None, mask=None)`. `pred` and `target` have the same
shape, or `target` is one number; no axis is added or repeated behind your back. `agg` makes one number of the losses of
all observations: `jnp.sum`, `identity` for none, or your own. `weights` has a number, and `mask` a boolean (True
counts), for each loss or for each entry of their first axes; `jnp.mean` is then the weighted mean of what counts, and 0
where nothing does. What the mask leaves out may be anything, NaN too. Half precision is computed, and returned, in
float32.
"""

from fluxion.losses.classification import (
    binary_focal_loss,
    binarycrossentropy,
    crossentropy,
    focal_loss,
    kldivergence,
    label_smoothing,
    logitbinarycrossentropy,
    logitcrossentropy,
)
from fluxion.losses.common import xlogx, xlogy
from fluxion.losses.ctc import ctc_loss
from fluxion.losses.regression import (
    hinge_loss,
    huber_loss,
    mae,
    mse,
    msle,
    poisson_loss,
    siamese_contrastive_loss,
    squared_hinge_loss,
)
from fluxion.losses.segmentation import dice_coeff_loss, tversky_loss

__all__ = [
    "binary_focal_loss",
    "binarycrossentropy",
    "crossentropy",
    "ctc_loss",
    "dice_coeff_loss",
    "focal_loss",
    "hinge_loss",
    "huber_loss",
    "kldivergence",
    "label_smoothing",
    "logitbinarycrossentropy",
    "logitcrossentropy",
    "mae",
    "mse",
    "msle",
    "poisson_loss",
    "siamese_contrastive_loss",
    "squared_hinge_loss",
    "tversky_loss",
    "xlogx",
    "xlogy",
]

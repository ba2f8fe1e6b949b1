"""Transforms that mix each sample with the one before it in the batch, labels and all."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from fluxion.data.keys import uniforms
from fluxion.data.transforms.base import Transform
from fluxion.data.transforms.checks import number, probability
from fluxion.data.transforms.colour import per_image
from fluxion.data.transforms.fields import Fields, image_size, namespace

_POINTS = 2049  # of a table of quantiles


@dataclass(frozen=True, repr=False)
class Mixing(Transform):
    """Base of the mixtures: subclasses define `mixed`, and which fields they `can_mix`."""

    mixes: ClassVar[bool] = True
    can_mix: ClassVar[tuple[str, ...]]

    alpha: float
    classes: int | None = None
    p: float = 1.0

    def __post_init__(self) -> None:
        number(self, "alpha", 1e-2)
        probability(self, "p")
        if self.classes is not None and (not isinstance(self.classes, int) or self.classes < 1):
            raise ValueError(f"{type(self).__name__} takes as classes= the number of classes, got {self.classes!r}")

    def mixed(self, fields: Fields, share: Any, numbers: Any) -> tuple[Fields, Any]:
        """The new fields but for the labels, and how much of each sample is in its result; `share` is how much is
        wanted, `numbers` `(N, 2)` are from 0 to 1."""
        raise NotImplementedError(f"{type(self).__name__} defines no mixed(fields, share, numbers)")

    def apply(self, fields: Fields, keys: Any) -> Fields:
        for name in fields.keys() - {"image", "labels", *self.can_mix}:
            raise ValueError(f"{self!r} cannot mix {name}; it takes images, {' and '.join((*self.can_mix, 'labels'))}")
        xp, numbers = namespace(keys), uniforms(keys, 4)
        share = xp.interp(numbers[:, 0], *_quantiles(float(self.alpha))).astype(np.float32)
        share = xp.where(numbers[:, 1] < np.float32(self.p), share, 1)
        result, share = self.mixed(fields, share, numbers[:, 2:])
        if "labels" in fields:
            labels = self._probabilities(fields["labels"], xp)
            result["labels"] = blend(labels, share[:, None])
        return result

    def _probabilities(self, labels: Any, xp: Any) -> Any:
        """Labels as probabilities of the classes `(N, classes)`."""
        labels = xp.asarray(labels)
        if labels.ndim == 2:
            return labels.astype(np.float32)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{self!r} takes labels that are integers (N,) or probabilities (N, classes), "
                f"got {labels.dtype} of shape {labels.shape}"
            )
        if self.classes is None:
            raise ValueError(f"{self!r} needs the number of classes to mix integer labels: write classes=...")
        return (labels[:, None] == xp.arange(self.classes)).astype(np.float32)


def blend(values: Any, share: Any) -> Any:
    """`share` of each sample, and the rest of the one before it; of the last, for the first."""
    return values * share + namespace(values).roll(values, 1, axis=0) * (1 - share)


@functools.cache
def _quantiles(alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and the numbers that a draw from Beta(alpha, alpha) stays below with them."""
    half = 0.5 * np.linspace(0, 1, _POINTS) ** 4  # dense near 0, where small alphas have most of their draws
    points = np.concatenate([half, 1 - half[-2::-1]]).astype(np.float32)
    with jax.ensure_compile_time_eval():
        below = np.asarray(jax.scipy.special.betainc(alpha, alpha, half.astype(np.float32)))
    return np.concatenate([below, 1 - below[-2::-1]]), points


@dataclass(frozen=True, repr=False)
class MixUp(Mixing):
    """`s * sample + (1 - s) * the sample before it`, images and labels (Zhang et al. 2017), with probability `p`.

    `s` is drawn from Beta(alpha, alpha) for each sample. Labels are integers, for which `classes` says how many there
    are, one-hot, or probabilities `(N, classes)`, which they become.

    >>> mix = fx.data.transforms.MixUp(0.2, classes=3)
    >>> x, y = mix.batch((np.ones((2, 4, 4, 1)), np.array([0, 2])))
    >>> y.shape, y.sum(axis=1).tolist()
    ((2, 3), [1.0, 1.0])
    """

    can_mix = ()

    alpha: float = 0.2

    def mixed(self, fields: Fields, share: Any, numbers: Any) -> tuple[Fields, Any]:
        return {"image": blend(fields["image"], per_image(share))}, share


@dataclass(frozen=True, repr=False)
class CutMix(Mixing):
    """Pastes a rectangle of the sample before it into each sample, with probability `p` (Yun et al. 2019).

    The rectangle has the shape of the image and `1 - s` of its area, with `s` from Beta(alpha, alpha), around a random
    point, cut off at the edge. Masks go along; labels are mixed by the areas, as in `MixUp`.

    >>> fx.data.transforms.CutMix(classes=10)
    CutMix(classes=10)
    """

    can_mix = ("mask",)

    alpha: float = 1.0

    def mixed(self, fields: Fields, share: Any, numbers: Any) -> tuple[Fields, Any]:
        xp, inside, area = namespace(share), [], 1.0
        for i, size in enumerate(image_size(fields)):
            half, centre = xp.sqrt(1 - share) * (size / 2), numbers[:, i] * size
            start, stop = (xp.round(centre + side * half).clip(0, size)[:, None] for side in (-1, 1))
            places = xp.arange(size, dtype=np.float32)
            inside.append((places >= start) & (places < stop))
            area = area * (stop - start)[:, 0] / size
        pasted = inside[0][:, :, None] & inside[1][:, None, :]
        paste = lambda x: xp.where(pasted.reshape(*pasted.shape, *(1,) * (x.ndim - 3)), xp.roll(x, 1, axis=0), x)
        return {name: paste(fields[name]) for name in ("image", *self.can_mix) if name in fields}, 1 - area

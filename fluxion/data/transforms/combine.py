"""Transforms made of transforms: one after the other, one of several, one or none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from fluxion.data.keys import fold, uniforms
from fluxion.data.transforms.base import Transform
from fluxion.data.transforms.checks import hashable, probability
from fluxion.data.transforms.fields import Fields, Size, image_size, is_on_device, namespace
from fluxion.data.transforms.geometry import Geometric, Identity
from fluxion.data.transforms.warp import Sampling, times, warp
from fluxion.errors import SizeError
from fluxion.kernels.operation import Operation


def transform_of(value: Any) -> Transform:
    """A transform, or a list of them as one; TypeError for anything else."""
    if isinstance(value, Transform):
        return value
    if isinstance(value, (list, tuple)):
        return Compose(tuple(value))
    hint = f": write {value.__name__}(...)" if isinstance(value, type) and issubclass(value, Transform) else ""
    raise TypeError(f"expected a transform, or a list of them, got {value!r}{hint}")


def samplings(steps: Sequence[Any]) -> set[Sampling]:
    """The ways in which geometric steps read pixels: they can become one resampling if there is at most one."""
    return {step.sampling for step in steps if step.sampling is not None}


class Group(Geometric):
    """Base of combinations, which only move pixels where all their parts do, and all read pixels alike."""

    @property
    def parts(self) -> tuple[Any, ...]:
        raise NotImplementedError

    @property
    def is_geometric(self) -> bool:  # type: ignore[override]
        return _are_one(self.parts)

    @property
    def projective(self) -> bool:  # type: ignore[override]
        return any(part.projective for part in self.parts if part.is_geometric)

    @property
    def sampling(self) -> Sampling | None:
        return next(iter(samplings(self.parts)), None)

    @property
    def mixes(self) -> bool:  # type: ignore[override]
        return any(part.mixes for part in self.parts)

    @property
    def makes_floats(self) -> bool:  # type: ignore[override]
        return any(part.makes_floats for part in self.parts)


@dataclass(frozen=True, repr=False)
class Compose(Group):
    """One transform after the other; `a | b` is `Compose([a, b])` (DataAugmentation: `|>`, `Sequence`).

    Transforms in a row that only move pixels become one matrix per sample and one resampling, so what one of them
    moves out of the frame, the next can move back. Where their `method`, `border` and `fill` differ they are resampled
    one by one. Transform number i has the keys `fluxion.data.keys.fold(keys, i)`.

    >>> from fluxion.data.transforms import *
    >>> FlipX(0.5) | Rotate(0, 20) | [Brightness(0.2), Invert()]
    FlipX(0.5) | Rotate(0, 20) | Brightness(0.2) | Invert()
    """

    steps: tuple[Any, ...]

    def __post_init__(self) -> None:
        found = [transform_of(step) for step in self.steps]
        flat = [step for one in found for step in (one.steps if isinstance(one, Compose) else (one,))]
        object.__setattr__(self, "steps", tuple(flat) or (Identity(),))

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.steps

    def size_after(self, size: Size) -> Size:
        for step in self.steps:
            size = step.size_after(size)
        return size

    def matrix(self, keys: Any, size: Size) -> Any:
        return _product(self.steps, self._keys(keys), size)[0]

    def apply(self, fields: Fields, keys: Any) -> Fields:
        start, step_keys = 0, self._keys(keys)
        while start < len(self.steps):
            stop = start + 1
            while stop < len(self.steps) and _are_one(self.steps[start : stop + 1]):
                stop += 1
            fields = _in_one(self.steps[start:stop], step_keys[start:stop], fields)
            start = stop
        return fields

    def _keys(self, keys: Any) -> list[Any]:
        return [fold(keys, i) for i in range(len(self.steps))]

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.steps))


def _are_one(steps: Sequence[Any]) -> bool:
    """True for steps that only move pixels, and read them alike."""
    return all(step.is_geometric for step in steps) and len(samplings(steps)) <= 1


def _product(steps: Sequence[Any], keys: Sequence[Any], size: Size) -> tuple[Any, Size]:
    """The matrix of geometric steps one after the other, and the size that comes out."""
    total = Identity().matrix(keys[0], size)
    for step, step_keys in zip(steps, keys, strict=True):
        total = times(total, step.matrix(step_keys, size))
        size = step.size_after(size)
    return total, size


def _in_one(steps: Sequence[Any], keys: Sequence[Any], fields: Fields) -> Fields:
    """The fields after these steps, which are one or become one resampling."""
    if len(steps) == 1:
        return steps[0].apply(fields, keys[0])
    matrix, size = _product(steps, keys, image_size(fields))
    projective = any(step.projective for step in steps)
    return warp(fields, matrix, size, next(iter(samplings(steps)), Sampling()), projective)


class Choice(Group):
    """Base of combinations that choose one of their parts for each sample, with the probabilities `weights`."""

    @property
    def chances(self) -> tuple[float, ...]:
        """The probability of each part."""
        raise NotImplementedError

    def size_after(self, size: Size) -> Size:
        sizes = {part.size_after(size) for part in self.parts}
        if len(sizes) > 1:
            raise SizeError(
                f"{self!r} would make images of different sizes, {sorted(sizes)} of {size}: "
                f"the images of a batch share one size, so all its parts must make the same"
            )
        return sizes.pop()

    def matrix(self, keys: Any, size: Size) -> Any:
        self.size_after(size)
        return _matrix(self.parts, *self.drawn(keys), size)

    def apply(self, fields: Fields, keys: Any) -> Fields:
        self.size_after(image_size(fields))
        return super().apply(fields, keys) if self.is_geometric else self.chosen(fields, *self.drawn(keys))

    def drawn(self, keys: Any) -> tuple[Any, Any]:
        """The number of each sample's part, and the keys for it."""
        bounds = np.cumsum(self.chances)[:-1].astype(np.float32)
        choice = (uniforms(fold(keys, 0), 1) >= bounds).sum(axis=1)
        return choice, fold(keys, choice + 1)

    def chosen(self, fields: Fields, choice: Any, keys: Any) -> Fields:
        """The fields after each sample's part with its keys."""
        if self.mixes:
            return self.of_all(fields, choice, keys)
        if not is_on_device(keys):
            return self._each(fields, choice, keys)
        names = ("image", *sorted(fields.keys() - {"image"}))
        results = _chosen(*(fields[name] for name in names), choice, keys, parts=self, names=names)
        return dict(zip(names, results, strict=True))

    def _each(self, fields: Fields, choice: np.ndarray, keys: np.ndarray) -> Fields:
        """Each part's samples by themselves."""
        rows = [np.flatnonzero(choice == i) for i in range(len(self.parts))]
        results = [
            part.apply({name: value[mine] for name, value in fields.items()}, keys[mine])
            for part, mine in zip(self.parts, rows, strict=True)
            if len(mine) or not len(keys)
        ]
        order = np.argsort(np.concatenate(rows))
        return {name: np.concatenate([result[name] for result in results])[order] for name in fields}

    def of_one(self, fields: Fields, choice: Any, keys: Any) -> Fields:
        """The part of one sample, a batch of one, chosen while the program runs."""
        return jax.lax.switch(choice[0], [part.apply for part in self.parts], fields, keys)

    def of_all(self, fields: Fields, choice: Any, keys: Any) -> Fields:
        """Each part of all samples, of which its own are picked; those that move pixels share one resampling."""
        size = image_size(fields)
        result: Fields | None = None
        parts = dict(enumerate(self.parts))
        moves = {i: part for i, part in parts.items() if part.is_geometric and part.size_after(size) == size}
        if len(moves) > 1 and _are_one(list(moves.values())):
            alike = OneOf([moves.get(i, Identity()) for i in parts])
            result = warp(
                fields, _matrix(alike.parts, choice, keys, size), size, alike.sampling or Sampling(), alike.projective
            )
            parts = {i: part for i, part in parts.items() if i not in moves}
        for i, part in parts.items():
            changed = part.apply(fields, keys)
            result = changed if result is None else _picked(self, choice == i, changed, result)
        assert result is not None  # there is a part at least
        return result


def _matrix(parts: Sequence[Any], choice: Any, keys: Any, size: Size) -> Any:
    """The matrices of each sample's part."""
    total = parts[0].matrix(keys, size)
    for i, part in enumerate(parts[1:], 1):
        total = namespace(keys).where((choice == i)[:, None, None], part.matrix(keys, size), total)
    return total


def _of_all(*arrays: Any, parts: Choice, names: tuple[str, ...]) -> tuple[Any, ...]:
    """Fields with these names, choices and keys: every part of all samples."""
    *fields, choice, keys = arrays
    result = parts.of_all(dict(zip(names, fields, strict=True)), choice, keys)
    return tuple(result[name] for name in names)


def _one_by_one(machine: Any, mode: Any, *types: Any, parts: Choice, names: tuple[str, ...]) -> Any:
    """What computes the chosen parts alone: a loop over the samples, each of which is work enough for a CPU."""

    def of_one(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
        *fields, choice, key = (array[None] for array in arrays)
        result = parts.of_one(dict(zip(names, fields, strict=True)), choice, key)
        return tuple(result[name][0] for name in names)

    return lambda *arrays: jax.lax.map(of_one, arrays)


_chosen = Operation("fluxion_choice", _of_all, _one_by_one)


def _picked(choice: Choice, mine: Any, ours: Fields, others: Fields) -> Fields:
    """The samples of one part where they are its own, else the others."""
    xp, result = namespace(mine), {}
    for name, value in ours.items():
        other = others[name]
        if value.shape != other.shape:
            raise SizeError(f"the parts of {choice!r} make different {name}, of shapes {value.shape} and {other.shape}")
        result[name] = xp.where(mine.reshape(-1, *(1,) * (value.ndim - 1)), value, other)
    return result


@dataclass(frozen=True, repr=False)
class OneOf(Choice):
    """For each sample one of `transforms`, drawn with `weights`, or evenly (Augmentor: `Either`; DataAugmentation).

    All parts must make images of the same size. Where all only move pixels, they are part of the one resampling around.

    >>> from fluxion.data.transforms import *
    >>> OneOf([FlipX(), Rotate(0, 20)], weights=[1, 3])
    OneOf([FlipX(), Rotate(0, 20)], (1, 3))
    """

    transforms: Any
    weights: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.transforms, (list, tuple)):
            raise TypeError(f"OneOf takes a list of transforms, got {self.transforms!r}: write OneOf([...])")
        object.__setattr__(self, "transforms", tuple(map(transform_of, self.transforms)))
        hashable(self, "weights")
        if not self.transforms:
            raise ValueError("OneOf takes at least one transform, got none")
        weights = self.weights
        if weights is not None and not _are_weights(weights, len(self.transforms)):
            raise ValueError(
                f"OneOf takes a weight of at least 0 for each of its {len(self.parts)} parts, got {weights!r}"
            )

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.transforms

    @property
    def chances(self) -> tuple[float, ...]:
        weights = self.weights or (1,) * len(self.parts)
        return tuple(weight / sum(weights) for weight in weights)

    def __repr__(self) -> str:
        weights = "" if self.weights is None else f", {self.weights}"
        return f"{type(self).__name__}([{', '.join(map(repr, self.parts))}]{weights})"


def _are_weights(weights: Any, count: int) -> bool:
    return (
        isinstance(weights, tuple)
        and len(weights) == count
        and all(isinstance(weight, (int, float, np.number)) and 0 <= weight < math.inf for weight in weights)
        and sum(weights) > 0
    )


Either = OneOf  # its name in Augmentor


@dataclass(frozen=True, repr=False)
class Maybe(Choice):
    """`transform` with probability `p`, for each sample by itself (DataAugmentation: `Maybe`).

    >>> from fluxion.data.transforms import *
    >>> Maybe(Rotate(-10, 10) | Invert(), 0.5)
    Maybe(Rotate(-10, 10) | Invert(), 0.5)
    """

    transform: Any
    p: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "transform", transform_of(self.transform))
        probability(self, "p")

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.transform, Identity()

    @property
    def chances(self) -> tuple[float, ...]:
        return self.p, 1 - self.p

"""Small made-up data sets, to try models on; all numbers are float32, all labels int32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fluxion.data.checks import whole_number
from fluxion.data.draws import host_rng
from fluxion.data.views import shuffleobs
from fluxion.random import Generator

Pair = tuple[np.ndarray, np.ndarray]


def make_sin(
    n: int = 50, start: float = 0.0, stop: float = 2 * math.pi, *, noise: float = 0.3, rng: Generator | None = None
) -> Pair:
    """`n` points `x` at equal distances from `start` to `stop`, and `y = sin(x) + noise * normal` (MLUtils).

    >>> x, y = make_sin(5, noise=0.0)
    >>> bool((abs(y - [0, 1, 0, -1, 0]) < 1e-6).all())
    True
    """
    x = np.linspace(start, stop, whole_number("n", n, 1))
    return _noisy(x, np.sin(x), noise, rng)


def make_poly(coefficients: Sequence[float], x: Any, *, noise: float = 0.1, rng: Generator | None = None) -> Pair:
    """`x` and `y = p(x) + noise * normal` for the polynomial `p`, highest coefficient first (MLUtils).

    >>> make_poly([1, 0, -1], [0.0, 2.0], noise=0.0)[1].tolist()
    [-1.0, 3.0]
    """
    x = np.asarray(x, np.float64)
    return _noisy(x, np.polyval(coefficients, x), noise, rng)


def make_spiral(
    n: int = 97,
    a: float = 6.5,
    theta: float = 16.0,
    b: float = 104.0,
    *,
    noise: float = 0.1,
    rng: Generator | None = None,
) -> Pair:
    """Points `(2 n, 2)` on two spiral arms, and their labels: 1 for the first `n`, 0 for the others (MLUtils).

    Point `i` of the first arm is at angle `pi i / theta` and radius `a (b - i) / b`; the second arm is opposite.

    >>> x, y = make_spiral(100)
    >>> x.shape, y.shape
    ((200, 2), (200,))
    """
    index = np.arange(whole_number("n", n, 1))
    angle, radius = np.pi * index / theta, a * (b - index) / b
    arm = radius[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    labels = np.repeat(np.array([1, 0], np.int32), n)
    return _with_noise(np.concatenate([arm, -arm]), noise, rng), labels


def make_moons(n: int = 100, *, noise: float = 0.0, shuffle: bool = True, rng: Generator | None = None) -> Pair:
    """Points `(n, 2)` on two half circles that interlock, and their labels: 0 above, 1 below (MLUtils).

    The points are at random angles; with `shuffle=False` those of the upper circle come first.

    >>> x, y = make_moons(10)
    >>> x.shape, sorted(y.tolist())
    ((10, 2), [0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    """
    above = whole_number("n", n, 2) // 2
    angle = host_rng(rng).uniform(0, np.pi, n)
    labels = (np.arange(n) >= above).astype(np.int32)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x = _with_noise(np.where(labels[:, None] == 0, circle, [1.0, 0.5] - circle), noise, rng)
    return shuffleobs((x, labels), rng=rng) if shuffle else (x, labels)


def _noisy(x: np.ndarray, y: np.ndarray, noise: float, rng: Generator | None) -> Pair:
    return x.astype(np.float32), _with_noise(y, noise, rng)


def _with_noise(x: np.ndarray, noise: float, rng: Generator | None) -> np.ndarray:
    return (x + noise * host_rng(rng).normal(size=x.shape)).astype(np.float32)

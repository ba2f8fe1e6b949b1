"""Initialisers: the numbers that weights start from.

Each is called as `init(*shape, rng=None, dtype=float32, ...)` and returns an array. Called without a shape it returns
an initialiser with the given keywords, as `kaiming_normal(gain=1.0)`. `fan_in` and `fan_out` are the numbers of
inputs of one output and of outputs of one input: a shape `(in, out)` is that of Dense, `(*kernel, in, out)` that of
Conv, where both are multiplied by the size of the kernel, and `(n,)` counts as `(1, n)`.

Initialisers whose numbers are drawn one by one take `fans=(fan_in, fan_out)` to use in place of those of the shape. So
one call draws the weights of all groups of a convolution, of which each has the fans of its own.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import FluxionWarning
from fluxion.ops.windows import is_integer
from fluxion.random import Generator, generator

Parameters = ParamSpec("Parameters")
Fans = tuple[int, int] | None
_TRUNCATED_STD = 0.87962566103423978  # of a standard normal cut off at -2 and 2


def initialiser(function: Callable[Parameters, Array]) -> Callable[Parameters, Any]:
    """Checks the shape, and lets `function` be called without one to fix its keywords."""

    @functools.wraps(function)
    def init(*shape: Any, **keywords: Any) -> Any:
        if not shape:
            return functools.partial(init, **keywords)
        for size in shape:
            if not is_integer(size) or size < 0:
                name = function.__name__
                raise TypeError(f"{name} takes the sizes of the array as ints, as {name}(10, 5), got {size!r}")
        return function(*shape, **keywords)

    return init


def fans(*shape: int) -> tuple[int, int]:
    """`(fan_in, fan_out)` of a weight of this shape (Flux: `nfan`).

    >>> fans(10, 5), fans(3, 3, 8, 16), fans(7), fans()
    ((10, 5), (72, 144), (1, 7), (1, 1))
    """
    if len(shape) < 2:
        return 1, math.prod(shape)
    kernel = math.prod(shape[:-2])
    return kernel * shape[-2], kernel * shape[-1]


def _fans(shape: tuple[int, ...], given: Fans) -> tuple[int, int]:
    if given is None:
        return fans(*shape)
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise ValueError(f"fans takes a pair (fan_in, fan_out), got {given!r}")
    return given[0], given[1]


def _drawn(draw: Callable[..., Array], shape: tuple[int, ...], rng: Generator | None, dtype: Any) -> Any:
    """Draws of at least single precision. One program serves all shapes of up to the same power of two numbers, and
    what is done with the draws is done by NumPy: compiling for every shape of a model would take seconds.
    """
    _check_float(dtype)
    size = math.prod(shape)
    padded = 1 << max(size - 1, 1023).bit_length()
    flat = draw(generator(rng).next_key(), shape=(padded,), dtype=jnp.promote_types(dtype, jnp.float32))
    if isinstance(flat, jax.core.Tracer):
        return flat[:size].reshape(shape)
    return np.asarray(flat)[:size].reshape(shape)


def _check_float(dtype: Any) -> None:
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise TypeError(f"random weights are floats, such as dtype=float32, got dtype={jnp.dtype(dtype)}")


def _uniform(shape: tuple[int, ...], bound: float, rng: Generator | None, dtype: Any) -> Array:
    return jnp.asarray((2 * _drawn(jax.random.uniform, shape, rng, dtype) - 1) * bound, dtype)


def _normal(shape: tuple[int, ...], std: Any, rng: Generator | None, dtype: Any) -> Array:
    return jnp.asarray(std * _drawn(jax.random.normal, shape, rng, dtype), dtype)


def _root(fan: float) -> float:
    return math.sqrt(max(fan, 1))  # a layer without inputs has no weights to scale


@initialiser
def glorot_uniform(
    *shape: int, rng: Generator | None = None, dtype: Any = jnp.float32, gain: float = 1.0, fans: Fans = None
) -> Array:
    """Uniform on `[-b, b)` with `b = gain * sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010).

    >>> import fluxion as fx
    >>> fx.glorot_uniform(10, 5).shape
    (10, 5)
    """
    return _uniform(shape, gain * math.sqrt(6) / _root(sum(_fans(shape, fans))), rng, dtype)


@initialiser
def glorot_normal(
    *shape: int, rng: Generator | None = None, dtype: Any = jnp.float32, gain: float = 1.0, fans: Fans = None
) -> Array:
    """Normal with standard deviation `gain * sqrt(2 / (fan_in + fan_out))` (Glorot and Bengio 2010).

    >>> import fluxion as fx
    >>> fx.glorot_normal(10, 5).shape
    (10, 5)
    """
    return _normal(shape, gain * math.sqrt(2) / _root(sum(_fans(shape, fans))), rng, dtype)


@initialiser
def kaiming_uniform(
    *shape: int, rng: Generator | None = None, dtype: Any = jnp.float32, gain: float = math.sqrt(2), fans: Fans = None
) -> Array:
    """Uniform on `[-b, b)` with `b = gain * sqrt(3 / fan_in)` (He et al. 2015); the default `gain` suits `relu`.

    >>> import fluxion as fx
    >>> fx.kaiming_uniform(3, 3, 8, 16).shape
    (3, 3, 8, 16)
    """
    return _uniform(shape, gain * math.sqrt(3) / _root(_fans(shape, fans)[0]), rng, dtype)


@initialiser
def kaiming_normal(
    *shape: int, rng: Generator | None = None, dtype: Any = jnp.float32, gain: float = math.sqrt(2), fans: Fans = None
) -> Array:
    """Normal with standard deviation `gain / sqrt(fan_in)` (He et al. 2015); the default `gain` suits `relu`.

    >>> import fluxion as fx
    >>> fx.Dense(10, 5, init=fx.kaiming_normal(gain=1.0)).weight.shape
    (10, 5)
    """
    return _normal(shape, gain / _root(_fans(shape, fans)[0]), rng, dtype)


@initialiser
def lecun_normal(
    *shape: int, rng: Generator | None = None, dtype: Any = jnp.float32, gain: float = 1.0, fans: Fans = None
) -> Array:
    """Normal with standard deviation `gain / sqrt(fan_in)`, without values beyond 2 standard deviations (LeCun 1998).

    What is cut off is made up for: the values that remain have that standard deviation.

    >>> import fluxion as fx
    >>> fx.lecun_normal(10, 5).shape
    (10, 5)
    """
    std = gain / _root(_fans(shape, fans)[0]) / _TRUNCATED_STD
    return _truncated(shape, 0.0, std, -2 * std, 2 * std, rng, dtype)


@initialiser
def truncated_normal(
    *shape: int,
    rng: Generator | None = None,
    dtype: Any = jnp.float32,
    mean: float = 0.0,
    std: float = 1.0,
    lo: float = -2.0,
    hi: float = 2.0,
    fans: Fans = None,
) -> Array:
    """Normal of the given mean and standard deviation, whatever the fans, without the values outside `[lo, hi]`.

    Raises ValueError unless `lo < hi` and `std > 0`, and warns where the mean is more than 2 `std` outside.

    >>> import fluxion as fx
    >>> bool(abs(fx.truncated_normal(100, std=5.0)).max() <= 2)
    True
    """
    if not lo < hi or std <= 0:
        raise ValueError(f"truncated_normal takes lo < hi and std > 0, got lo={lo}, hi={hi}, std={std}")
    if not lo - 2 * std <= mean <= hi + 2 * std:
        warnings.warn(
            f"truncated_normal has its mean={mean} more than 2 std={std} outside [{lo}, {hi}]: "
            f"nearly all values fall on the nearer end",
            FluxionWarning,
            stacklevel=3,
        )
    return _truncated(shape, mean, std, lo, hi, rng, dtype)


def _truncated(shape: tuple[int, ...], mean: float, std: float, lo: float, hi: float, rng: Any, dtype: Any) -> Array:
    draw = functools.partial(jax.random.truncated_normal, lower=(lo - mean) / std, upper=(hi - mean) / std)
    draws = _drawn(draw, shape, rng, dtype)
    return jnp.asarray((mean + std * draws).clip(lo, hi), dtype)


@initialiser
def orthogonal(*shape: int, rng: Generator | None = None, dtype: Any = jnp.float32, gain: float = 1.0) -> Array:
    """`gain` times a random matrix with orthonormal columns, or rows where there are fewer of them (Saxe et al. 2013).

    From the QR decomposition of a normal matrix. All axes but the last count as the rows.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> q = fx.orthogonal(8, 3)
    >>> bool(abs(q.T @ q - jnp.eye(3)).max() < 1e-5)
    True
    """
    _check_float(dtype)
    rows, columns = math.prod(shape[:-1]), shape[-1]
    draws = generator(rng).normal((max(rows, columns), min(rows, columns)), jnp.promote_types(dtype, jnp.float32))
    q, r = jnp.linalg.qr(draws)
    q = q * jnp.where(jnp.diag(r) < 0, -1, 1).astype(q.dtype)[None]  # makes every such matrix equally likely
    return (gain * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)


@initialiser
def identity_init(
    *shape: int,
    rng: Generator | None = None,
    dtype: Any = jnp.float32,
    gain: float = 1.0,
    shift: int | tuple[int, ...] = 0,
) -> Array:
    """Weights with which a layer returns its input: `gain` on the diagonal of input and output channels, 0 elsewhere.

    A Conv with pad="same" has the diagonal at the centre of its kernel. `shift` moves everything along the axes,
    around the ends, by one int for all axes or one for each. One axis (a bias) gives zeros. ValueError for another
    `shift`.

    >>> import fluxion as fx
    >>> fx.identity_init(2, 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,) * len(shape)
    if len(shifts) != len(shape) or not all(map(is_integer, shifts)):
        raise ValueError(f"identity_init takes as shift an int or one for each of {len(shape)} axes, got {shift!r}")
    weight = np.zeros(shape, np.float64)
    if len(shape) > 1:
        centre = tuple((size - 1) // 2 for size in shape[:-2])
        weight[centre] = gain * np.eye(shape[-2], shape[-1])
    return jnp.asarray(np.roll(weight, shifts, tuple(range(weight.ndim))), dtype)


@initialiser
def sparse_init(
    *shape: int, sparsity: float, std: float = 0.01, rng: Generator | None = None, dtype: Any = jnp.float32
) -> Array:
    """A matrix of which each column has `ceil(sparsity * rows)` zeros, at random places (Martens 2010).

    The other numbers are normal with standard deviation `std`. In Dense, a column holds what one output sees of the
    inputs. ValueError unless `shape` is `(rows, columns)` and `sparsity` from 0.0 to 1.0.

    >>> import fluxion as fx
    >>> (fx.sparse_init(10, 3, sparsity=0.25) == 0).sum(axis=0).tolist()
    [3, 3, 3]
    """
    if len(shape) != 2 or not 0 <= sparsity <= 1:
        raise ValueError(f"sparse_init takes two sizes and a sparsity from 0.0 to 1.0, got {shape} and {sparsity!r}")
    zeroed = math.ceil(sparsity * shape[0] - 1e-9)  # 0.07 * 100 is a little more than 7
    last = jnp.broadcast_to(jnp.arange(shape[0])[:, None] >= zeroed, shape)
    kept = jax.random.permutation(generator(rng).next_key(), last, independent=True)
    return jnp.where(kept, _normal(shape, std, rng, dtype), 0)


@initialiser
def uniform(
    *shape: int,
    rng: Generator | None = None,
    dtype: Any = jnp.float32,
    low: float = 0.0,
    high: float = 1.0,
    fans: Fans = None,
) -> Array:
    """Uniform on `[low, high)`, whatever the fans (Flux: `rand32`).

    >>> import fluxion as fx
    >>> fx.uniform(10, 5, low=-0.1, high=0.1).shape
    (10, 5)
    """
    if not low < high:
        raise ValueError(f"uniform takes low < high, got low={low}, high={high}")
    return jnp.asarray(low + (high - low) * _drawn(jax.random.uniform, shape, rng, dtype), dtype)


@initialiser
def normal(
    *shape: int,
    rng: Generator | None = None,
    dtype: Any = jnp.float32,
    mean: float = 0.0,
    std: float = 1.0,
    fans: Fans = None,
) -> Array:
    """Normal of the given mean and standard deviation, whatever the fans (Flux: `randn32`).

    >>> import fluxion as fx
    >>> fx.normal(10, 5, std=0.02).shape
    (10, 5)
    """
    _check_float(dtype)
    return (mean + _normal(shape, std, rng, jnp.promote_types(dtype, jnp.float32))).astype(dtype)


@initialiser
def zeros(*shape: int, rng: Generator | None = None, dtype: Any = jnp.float32, fans: Fans = None) -> Array:
    """Zeros; `rng` and `fans` are accepted so that every initialiser is called alike.

    >>> import fluxion as fx
    >>> fx.zeros(2).tolist()
    [0.0, 0.0]
    """
    return jnp.asarray(np.zeros(shape), dtype)


@initialiser
def ones(*shape: int, rng: Generator | None = None, dtype: Any = jnp.float32, fans: Fans = None) -> Array:
    """Ones; `rng` and `fans` are accepted so that every initialiser is called alike.

    >>> import fluxion as fx
    >>> fx.ones(2).tolist()
    [1.0, 1.0]
    """
    return jnp.asarray(np.ones(shape), dtype)

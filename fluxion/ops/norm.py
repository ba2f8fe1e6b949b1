"""Normalisation: zero mean and unit variance along some axes, then a learnt scale and bias.

Half precision is computed in float32 and returned in its own type, whatever the type of scale and bias.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fluxion.errors import SizeError
from fluxion.ops.activations import identity
from fluxion.ops.arrays import as_float, at_least_float32, match_rank
from fluxion.ops.batchnorm import normalised
from fluxion.ops.fused import fused_name
from fluxion.ops.indexing import known_axis
from fluxion.ops.windows import size_of

Axes = int | tuple[int, ...] | None
Statistics = Array | None


def normalise(x: Any, axis: Axes = -1, eps: Any = 1e-5) -> Array:
    """`(x - mean) / sqrt(variance + eps)` with mean and (biased) variance along `axis`; None stands for all axes.

    Half precision is computed in float32 and returned in its own type. SizeError for an axis that `x` does not have.
    Flux: `normalise`.

    >>> import fluxion as fx
    >>> fx.normalise([1.0, 3.0], eps=0.0).tolist()
    [-1.0, 1.0]
    """
    x = as_float(x)
    for entry in axis if isinstance(axis, tuple) else () if axis is None else (axis,):
        known_axis("normalise", entry, x.shape)
    return _rescale(x, *_moments(x, axis), eps)


def layernorm(x: Any, scale: Any = None, bias: Any = None, *, axes: int = 1, eps: Any = 1e-5) -> Array:
    """`scale * (x - mean) / sqrt(var + eps) + bias` with mean and (biased) variance over the last `axes` axes.

    Ba et al. 2016. `scale` and `bias` have the shape of these axes; None leaves them out. Flux: `NNlib.layernorm`.

    >>> import fluxion as fx
    >>> fx.layernorm([[1.0, 3.0]], bias=jnp.ones(2), eps=0.0).tolist()
    [[0.0, 2.0]]
    """
    x = as_float(x)
    return _normalise_rows("layernorm", x, _last("layernorm", x, axes), scale, bias, eps, True)


def rmsnorm(x: Any, scale: Any = None, *, axes: int = 1, eps: Any = None) -> Array:
    """`scale * x / sqrt(mean(x^2) + eps)` with the mean over the last `axes` axes.

    Zhang and Sennrich 2019; as `torch.nn.functional.rms_norm`. `scale` has the shape of these axes, None leaves it
    out. `eps=None` stands for the machine epsilon of what is computed in, 1.2e-7 for float32 and half precision.

    >>> import fluxion as fx
    >>> fx.rmsnorm([[3.0, -3.0]]).tolist()
    [[1.0, -1.0]]
    """
    x = as_float(x)
    eps = jnp.finfo(at_least_float32(x).dtype).eps if eps is None else eps
    return _normalise_rows("rmsnorm", x, _last("rmsnorm", x, axes), scale, None, eps, False)


def groupnorm(x: Any, groups: int, scale: Any = None, bias: Any = None, *, eps: Any = 1e-5) -> Array:
    """`scale * (x - mean) / sqrt(var + eps) + bias` with mean and (biased) variance of each group of channels.

    Wu and He 2018. Takes `(batch, ..., channels)`; each observation has its own mean and variance for each of
    `groups` groups of neighbouring channels. `scale` and `bias` have shape `(channels,)`; None leaves them out. Flux:
    `NNlib.groupnorm`.

    >>> import fluxion as fx
    >>> fx.groupnorm([[1.0, 3.0, 10.0, 20.0]], 2).round(3).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """
    x = as_float(x)
    groups = size_of(groups, "groupnorm", "as groups an int")
    if x.ndim < 2 or x.shape[-1] % groups:
        wanted = f"groupnorm expects axes (batch, ..., channels), with channels that {groups} groups divide"
        raise SizeError(f"{wanted}, got an array of shape {x.shape}")

    def over_groups(means: Array) -> Array:
        grouped = means.reshape(*means.shape[:-1], groups, means.shape[-1] // groups)
        return jnp.broadcast_to(jnp.mean(grouped, axis=-1, keepdims=True), grouped.shape).reshape(means.shape)

    affine = _entries("groupnorm", x, scale=scale, bias=bias)
    return _rescale(x, *_moments(x, tuple(range(1, x.ndim - 1)), over_groups), eps, *affine)


def batchnorm(
    x: Any,
    mean: Statistics = None,
    var: Statistics = None,
    scale: Any = None,
    bias: Any = None,
    *,
    training: bool = False,
    momentum: Any = 0.1,
    eps: Any = 1e-5,
    activation: Callable[..., Any] = identity,
    residual: Any = None,
) -> tuple[Array, Statistics, Statistics]:
    """`(y, mean, var)`: `activation(scale * (x - mean) / sqrt(var + eps) + bias)` by channel, and running statistics.

    Ioffe and Szegedy 2015. Takes `(batch, ..., channels)`; the other arrays have shape `(channels,)`, None leaves them
    out. While training, or without running statistics, mean and (biased) variance are those of `x` over all axes but
    the last. While training, the running statistics that come back have moved towards them: `(1 - momentum) * mean +
    momentum * new`, with the unbiased variance. One value per channel has no variance and is a SizeError; `mean`
    without `var` is a TypeError. A `residual`, which broadcasts against `y`, is added before the activation. Flux:
    `NNlib.batchnorm`.

    >>> import fluxion as fx
    >>> y, mean, var = fx.batchnorm(jnp.array([[1.0], [3.0]]), jnp.zeros(1), jnp.ones(1), training=True)
    >>> print(y.round(3).ravel(), mean.round(3), var.round(3))
    [-1.  1.] [0.2] [1.1]
    """
    x = as_float(x)
    axes = tuple(range(x.ndim - 1))
    residual = None if residual is None else jnp.asarray(residual)
    finish = functools.partial(_finish_batch, eps=eps, activation=activation, residual=residual)
    return _with_statistics("batchnorm", x, axes, (mean, var), (scale, bias), training, momentum, finish)


def instancenorm(
    x: Any,
    mean: Statistics = None,
    var: Statistics = None,
    scale: Any = None,
    bias: Any = None,
    *,
    training: bool = False,
    momentum: Any = 0.1,
    eps: Any = 1e-5,
    activation: Callable[..., Any] = identity,
) -> tuple[Array, Statistics, Statistics]:
    """`batchnorm` with the statistics of each observation: `(y, mean, var)`.

    Ulyanov et al. 2016. Takes `(batch, *sizes, channels)`; mean and variance are over `sizes`. The running statistics
    move towards the means over the batch. Flux: `NNlib.instancenorm`.

    >>> import fluxion as fx
    >>> y, _, _ = fx.instancenorm(jnp.array([[[1.0], [3.0]], [[10.0], [30.0]]]))
    >>> y[..., 0].round(3).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """
    x = as_float(x)
    if x.ndim < 3:
        wanted = "instancenorm expects at least 3 axes, as (batch, height, width, channels)"
        raise SizeError(f"{wanted}, got an array of shape {x.shape}")
    axes = tuple(range(1, x.ndim - 1))
    finish = functools.partial(_finish, eps=eps, activation=activation)
    return _with_statistics("instancenorm", x, axes, (mean, var), (scale, bias), training, momentum, finish)


# ------------------------------------------------------------------ statistics along any axes


def _moments(x: Array, axis: Axes, pool: Callable[[Array], Array] = identity) -> tuple[Array, Array]:
    """Mean and biased variance along `axis`, whose size becomes 1; in float32 for half precision.

    `pool` takes means and makes them means over something more.
    """
    wide = at_least_float32(x)
    mean = pool(jnp.mean(wide, axis=axis, keepdims=True))
    centred = wide - mean  # jnp.var would go over the numbers twice more
    return mean, pool(jnp.mean(_squared(centred, centred), axis=axis, keepdims=True))


def _squared(a: Array, b: Array) -> Array:
    """The real part of `conj(a) * b`: of an array with itself the square of its absolute value."""
    return jnp.real(jnp.conj(a) * b)


def _rescale(x: Array, mean: Any, var: Any, eps: Any, scale: Any = None, bias: Any = None) -> Array:
    """`scale * (x - mean) / sqrt(var + eps) + bias` in the type of `x`; the other arrays fit the last axes of `x`."""
    factor = jax.lax.rsqrt(var + eps)
    if scale is not None:
        factor = match_rank(factor, scale) * match_rank(scale, factor)
    y = (at_least_float32(x) - match_rank(mean, x)) * match_rank(factor, x)
    return (y if bias is None else y + match_rank(bias, x)).astype(x.dtype)


def _with_statistics(
    name: str,
    x: Array,
    axes: tuple[int, ...],
    running: tuple[Statistics, Statistics],
    affine: tuple[Any, Any],
    training: bool,
    momentum: Any,
    finish: Callable[..., tuple[Array, Array, Array]],
) -> tuple[Array, Statistics, Statistics]:
    if (running[0] is None) is not (running[1] is None):
        raise TypeError(f"{name} takes both running statistics or none, got {'var' if running[0] is None else 'mean'}")
    mean, var = _entries(name, x, mean=running[0], var=running[1])
    scale, bias = _entries(name, x, scale=affine[0], bias=affine[1])
    if mean is not None and not training:
        return finish(x, axes, scale, bias, mean, var)
    count = math.prod(x.shape[axis] for axis in axes)
    if count < 2:
        raise SizeError(
            f"{name} expects more than one value per channel to take statistics of, got an array of shape {x.shape}"
        )
    y, new_mean, new_var = finish(x, axes, scale, bias)
    if mean is None or var is None:
        return y, None, None
    return y, _blend(mean, new_mean, momentum), _blend(var, new_var * (count / (count - 1)), momentum)


def _finish(
    x: Array,
    axes: Axes,
    scale: Any,
    bias: Any,
    mean: Statistics = None,
    var: Statistics = None,
    *,
    eps: Any,
    activation: Callable[..., Any],
    residual: Any = None,
) -> tuple[Array, Any, Any]:
    """`x` normalised with the statistics, None for its own along `axes`; and these."""
    if mean is None or var is None:
        mean, var = _moments(x, axes)
    y = _rescale(x, mean, var, eps, scale, bias)
    return activation(y if residual is None else y + residual), mean, var


def _finish_batch(
    x: Array,
    axes: Axes,
    scale: Any,
    bias: Any,
    mean: Statistics = None,
    var: Statistics = None,
    *,
    eps: Any,
    activation: Callable[..., Any],
    residual: Any,
) -> tuple[Array, Any, Any]:
    """The same for all axes but the last, in fewer passes over memory where a generated kernel computes it."""
    if mean is not None or not isinstance(eps, float) or not jnp.issubdtype(x.dtype, jnp.floating):
        return _finish(x, axes, scale, bias, mean, var, eps=eps, activation=activation, residual=residual)
    channels, dtype = x.shape[-1], at_least_float32(x).dtype
    scale = jnp.ones(channels, dtype) if scale is None else scale.astype(dtype)
    bias = jnp.zeros(channels, dtype) if bias is None else bias.astype(dtype)
    if residual is not None and (residual.shape, residual.dtype) != (x.shape, x.dtype):
        y, mean, var = normalised(x, scale, bias, None, eps, "identity")
        return activation(y + residual), mean, var
    name = fused_name(activation)
    y, mean, var = normalised(x, scale, bias, residual, eps, name or "identity")
    return (y if name else activation(y)), mean, var


def _entries(name: str, x: Array, **arrays: Any) -> list[Any]:
    """Arrays with one float for each channel of `x`; None stays."""
    found = [None if array is None else as_float(array) for array in arrays.values()]
    for what, array in zip(arrays, found, strict=True):
        if array is not None and array.shape != x.shape[-1:]:
            raise SizeError(f"{name} expects {what} of shape {x.shape[-1:]}, got an array of shape {array.shape}")
    return found


def _blend(old: Array, new: Array, momentum: Any) -> Array:
    """The running statistic moved towards the mean of the new ones, through which no gradient flows."""
    if new.size == 0:
        return old  # no observations, which instancenorm takes one by one
    mean = jax.lax.stop_gradient(jnp.mean(new, axis=tuple(range(new.ndim - 1))))
    return ((1 - momentum) * old + momentum * mean).astype(old.dtype)


# ------------------------------------------------------------------ statistics along the last axes


def _last(name: str, x: Array, axes: int) -> tuple[int, ...]:
    """The sizes of the last `axes` axes."""
    axes = size_of(axes, name, "as axes the number of last axes, an int")
    if axes > x.ndim:
        raise SizeError(f"{name} expects an array with at least {axes} axes, got one of shape {x.shape}")
    return x.shape[x.ndim - axes :]


def _normalise_rows(name: str, x: Array, size: tuple[int, ...], scale: Any, bias: Any, eps: Any, centre: bool) -> Array:
    for entry in (scale, bias):
        if entry is not None and jnp.shape(entry) != size:
            raise SizeError(f"{name} expects scale and bias of shape {size}, got an array of shape {jnp.shape(entry)}")
    rows = at_least_float32(x).reshape(math.prod(x.shape[: x.ndim - len(size)]), math.prod(size))
    scale = jnp.ones((1, rows.shape[1]), rows.dtype) if scale is None else at_least_float32(jnp.reshape(scale, (1, -1)))
    bias = jnp.zeros_like(scale) if bias is None else at_least_float32(jnp.reshape(bias, (1, -1)))
    return _rows(rows, scale, bias, eps, centre).reshape(x.shape).astype(x.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _rows(x: Array, scale: Array, bias: Array, eps: Any, centre: bool) -> Array:
    """`scale * (x - mean) / sqrt(var + eps) + bias` for each row of a matrix; `centre=False` leaves the mean out.

    `scale` and `bias` are matrices of one row.
    """
    centred, factor = _centred(x, eps, centre)
    return centred * factor * scale + bias


def _centred(x: Array, eps: Any, centre: bool) -> tuple[Array, Array]:
    centred = x - _mean(x) if centre else x
    return centred, jax.lax.rsqrt(_mean(_squared(centred, centred)) + eps)


@_rows.defjvp
def _rows_tangent(centre: bool, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    """The derivative with the sums over rows and columns of the reverse mode written as products with a vector.

    Measured on a CPU, that halves the time of the backward pass: the transpose of an outer product is one threaded
    product that reads its matrix once, and one matrix serves three of them.
    """
    x, scale, bias, eps = primals
    dx, dscale, dbias, deps = tangents
    centred, factor = _centred(x, eps, centre)
    dfactor = -(factor**3) * (_mean(_squared(centred, dx)) + deps / 2)
    tangent = factor * dx * scale + centred * (_outer(dfactor, scale) + _outer(factor, dscale))
    if centre:
        tangent += _outer(-factor * _mean(dx), scale)
    return centred * factor * scale + bias, tangent + _outer(jnp.ones_like(factor), dbias)


def _mean(rows: Array) -> Array:
    return jnp.mean(rows, axis=1, keepdims=True)


def _outer(column: Array, row: Array) -> Array:
    return jnp.matmul(column, row, precision=jax.lax.Precision.HIGHEST)

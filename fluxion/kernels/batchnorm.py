"""Batch normalisation while training, with what often follows: the sum with a residual, and an activation.

    y = activation(factor * (x - mean) + bias + residual),      factor = scale / sqrt(var + eps)

Mean and variance of each channel are over all rows of `x`, a matrix `(rows, channels)`; so a row is needed before it
can be normalised, and memory is read twice, which is all that there is to do:

    forward:   x -> sums for each channel,       then x -> y
    backward:  dy, x -> sums for each channel,   then dy, x -> dx

The backward computes the activation's slope from `x` again, by the very instructions of the forward, instead of reading
`y`. How a matrix is cut and summed: columns.py.

A variance from the sums of `x` and `x^2` would lose all its digits where the mean is far from zero. So each block of
rows is summed as `x - pivot` with its own first row as pivot, and the means and the sums of squared deviations D of two
sets of rows are merged (Chan et al. 1979), block after block, then task after task:

    mean = mean1 + d n2 / (n1 + n2),    D = D1 + D2 + d^2 n1 n2 / (n1 + n2),    d = mean2 - mean1
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from fluxion.kernels.columns import Channels, Rows, sum_columns, sum_tasks
from fluxion.kernels.finish import activate, sloped
from fluxion.kernels.generated import Buffer, GeneratedKernel, Kernel, Work, kernel
from fluxion.kernels.machine import Machine
from fluxion.kernels.values import Index, Number, computed


@kernel
def batchnorm_forward(
    k: Kernel,
    x: Buffer,
    scale: Buffer,
    bias: Buffer,
    *others: Buffer,
    eps: float,
    activation: str,
) -> None:
    """`x` (rows, channels), and a residual like it or none -> `y`, and for each channel mean and biased variance."""
    *residual, y, mean, var = others
    rows, dtype = Rows(*x.shape), computed(x.dtype)
    partial, factor = k.scratch(2 * rows.tasks * rows.channels, dtype), k.scratch(rows.channels, dtype)
    lanes = k.lanes(dtype)
    _moments_of_tasks(k, rows, x, partial)
    with k.parallel(1) as f:
        for channel, count in f.vectors(rows.channels, dtype=dtype):
            average, deviations = _merged_tasks(f, rows, partial, channel, count)
            spread = f.maximum(0.0, deviations / rows.rows)  # a NaN stays
            f[mean].store(average, channel, count)
            f[var].store(spread, channel, count)
            f[factor].store(f[scale].load(channel, count) / f.sqrt(spread + eps), channel, count)
    with k.parallel(rows.tasks) as f:
        for row, end, channel, vectors, count in rows.blocks(f, lanes):
            block = Channels(channel, vectors, lanes, count)
            known = [block.load(f[buffer]) for buffer in (mean, factor, bias)]
            for r in f.range(row, end):
                values = block.load(f[x], r * rows.channels)
                results = [f.fma(value - m, g, b) for value, m, g, b in zip(values, *known, strict=True)]
                for buffer in residual:
                    added = block.load(f[buffer], r * rows.channels)
                    results = [result + value for result, value in zip(results, added, strict=True)]
                block.store(f[y], [activate(f, result, activation) for result in results], r * rows.channels)


def _moments_of_tasks(k: Kernel, rows: Rows, x: Buffer, partial: Buffer) -> None:
    """A phase that puts the mean of each task's rows and their squared deviations, by channel, into `partial`."""
    dtype = partial.dtype
    with k.parallel(rows.tasks) as f:
        mine = f[partial] + f.task * (2 * rows.channels)
        for i, count in f.vectors(2 * rows.channels, dtype=dtype):
            mine.store(f.zero(dtype), i, count)
        start, _ = rows.share(f, f.task)
        for row, end, channel, vectors, count in rows.blocks(f, f.lanes(dtype)):
            block = Channels(channel, vectors, f.lanes(dtype), count)
            pivots, total = block.load(f[x], row * rows.channels), f.tile(vectors, 2, f.zero(dtype))
            for r in f.range(row, end, carry=total):
                for v, value in enumerate(block.load(f[x], r * rows.channels)):
                    shifted = value - pivots[v]
                    total[v, 0] = total[v, 0] + shifted
                    total[v, 1] = f.fma(shifted, shifted, total[v, 1])
            before, size = _counts(f, dtype, start, row, end)
            known = zip(block.load(mine), block.load(mine, rows.channels), strict=True)
            averages, deviations = [], []
            for v, moments in enumerate(known):
                shift = total[v, 0] / size
                new = pivots[v] + shift, total[v, 1] - total[v, 0] * shift
                average, deviation = _merged(moments, new, before, size)
                averages.append(average)
                deviations.append(deviation)
            block.store(mine, averages)
            block.store(mine, deviations, rows.channels)


def _counts(f: Work, dtype: str, start: Index, row: Index, end: Index) -> tuple[Number, Number]:
    """How many rows there are from `start` to `row`, and from `row` to `end`."""
    return f.convert(f.number(row - start), dtype), f.convert(f.number(end - row), dtype)


def _merged_tasks(f: Work, rows: Rows, partial: Buffer, channel: Index, count: Index | None) -> tuple[Number, Number]:
    """Mean and squared deviations of all rows, for one vector of channels."""
    dtype = partial.dtype
    total = f.tile(2, value=f.zero(dtype))
    for task in f.range(rows.tasks, carry=total):
        first, stop = rows.share(f, task)
        before, size = _counts(f, dtype, 0, first, stop)
        places = [(task * 2 + s) * rows.channels + channel for s in range(2)]
        new = tuple(f[partial].load(place, count, f.lanes(dtype)) for place in places)
        total[0], total[1] = _merged((total[0], total[1]), new, before, size)
    return total[0], total[1]


def _merged(known: tuple[Number, ...], new: tuple[Number, ...], before: Number, size: Number) -> tuple[Number, Number]:
    """Mean and squared deviations of `before` rows and `size` more."""
    (average, deviations), (new_average, new_deviations) = known, new
    share, distance = size / (before + size), new_average - average
    return average + distance * share, deviations + new_deviations + distance * distance * (before * share)


@kernel
def batchnorm_backward(
    k: Kernel,
    dy: Buffer,
    x: Buffer,
    scale: Buffer,
    bias: Buffer,
    mean: Buffer,
    var: Buffer,
    dx: Buffer,
    dscale: Buffer,
    dbias: Buffer,
    *,
    eps: float,
    activation: str,
) -> None:
    """What `dy` passes back to `x`, scale and bias: with g = slope * dy and n rows,

    dbias = sum g,   dscale = sum g (x - mean) / sd,   dx = factor * (g - dbias / n - (x - mean) * dscale / (n sd)).

    `slopes` prepares a block and returns a function of the row's start that gives pairs of g and x - mean.
    """
    rows, dtype = Rows(*x.shape), computed(x.dtype)
    partial, tables = k.scratch(2 * rows.tasks * rows.channels, dtype), k.scratch(3 * rows.channels, dtype)
    lanes = k.lanes(dtype)

    def slopes(f: Work, block: Channels) -> Callable[[Index], Iterator[tuple[Number, Number]]]:
        gradients, values = f[dy], f[x]
        means, variances, scales, biases = (block.load(f[buffer]) for buffer in (mean, var, scale, bias))
        factors = [s / f.sqrt(v + eps) for s, v in zip(scales, variances, strict=True)]

        def pairs(place: Index) -> Iterator[tuple[Number, Number]]:
            columns = zip(block.load(gradients, place), block.load(values, place), means, factors, biases, strict=True)
            for gradient, value, m, factor, b in columns:
                centred = value - m
                yield sloped(f, gradient, f.fma(centred, factor, b), activation), centred

        return pairs

    def terms(f: Work, block: Channels) -> Callable[[Index], list[Number]]:
        pairs = slopes(f, block)
        return lambda place: [value for g, centred in pairs(place) for value in (g, g * centred)]

    sum_columns(k, rows, partial, terms, 2)
    with k.parallel(1) as f:
        for channel, count in f.vectors(rows.channels, dtype=dtype):
            total = sum_tasks(f, partial, rows, 2, channel, count)
            inverse = 1.0 / f.sqrt(f[var].load(channel, count) + eps)
            f[dbias].store(total[0], channel, count)
            f[dscale].store(total[1] * inverse, channel, count)
            factor, share = f[scale].load(channel, count) * inverse, total[1] * inverse * inverse
            for s, value in enumerate((factor, total[0] / rows.rows, share / rows.rows)):
                f[tables].store(value, s * rows.channels + channel, count)
    with k.parallel(rows.tasks) as f:
        for row, end, channel, vectors, count in rows.blocks(f, lanes):
            block = Channels(channel, vectors, lanes, count)
            known = [block.load(f[tables], s * rows.channels) for s in range(3)]
            pairs = slopes(f, block)
            for r in f.range(row, end):
                results = [
                    factor * (g - average - centred * share)
                    for (g, centred), factor, average, share in zip(pairs(r * rows.channels), *known, strict=True)
                ]
                block.store(f[dx], results, r * rows.channels)


def forward_call(machine: Machine, x: Any, **settings: Any) -> Callable[..., Any] | None:
    """What computes the forward of this type of `x` here; None where XLA is to."""
    return _of_rows(batchnorm_forward, machine, x, settings)


def backward_call(machine: Machine, x: Any, **settings: Any) -> Callable[..., Any] | None:
    """What computes the backward of this type of `x` here; None where XLA is to."""
    return _of_rows(batchnorm_backward, machine, x, settings)


def _of_rows(made: GeneratedKernel, machine: Machine, x: Any, settings: dict[str, Any]) -> Callable[..., Any] | None:
    """A kernel for arrays like `x`, which it sees as matrices, with one result like `x` and two for its channels."""
    dtype = np.dtype(x.dtype).name
    if dtype not in ("float32", "float64", "bfloat16"):
        return None
    rows = math.prod(x.shape[:-1]), x.shape[-1]
    channels = jax.ShapeDtypeStruct(rows[1:], computed(dtype))
    outputs = [jax.ShapeDtypeStruct(rows, dtype), channels, channels]

    def compute(*arrays: Any) -> Any:
        matrices = [array.reshape(rows) if array.ndim > 1 else array for array in arrays]
        first, *others = made(*matrices, outputs=outputs, machine=machine, **settings)
        return first.reshape(x.shape), *others

    return compute

"""Windows as rows of a matrix, and back."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fluxion.errors import SizeError
from fluxion.ops.arrays import as_float, at_least_float32
from fluxion.ops.windows import Windows, check_axes, fitting_windows, window_sizes, windows_over


def unfold(x: Any, kernel: tuple[int, ...], *, stride: Any = 1, pad: Any = 0, dilation: Any = 1) -> Array:
    """Every window of `x` of shape `(batch, *sizes, channels)` as a row: `(batch, windows, prod(kernel) * channels)`.

    A row holds the positions of the window in order, the last axis fastest, and of each position all channels, so
    that `unfold(x, kernel) @ w.reshape(-1, out)` is `conv(x, w)` with its positions in one axis. Positions outside
    `x` are zeros. `stride`, `pad` and `dilation` are those of `conv`. (PyTorch's rows have the channels outermost.)

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.unfold(jnp.arange(4).reshape(1, 4, 1), (2,)).tolist()
    [[[0, 1], [1, 2], [2, 3]]]
    """
    x, kernel = jnp.asarray(x), window_sizes(kernel, "kernel")
    check_axes("unfold", x, len(kernel))
    return _rows(x, fitting_windows("unfold", x, kernel, stride, pad, dilation))


def fold(
    y: Any,
    output_size: tuple[int, ...],
    kernel: tuple[int, ...],
    *,
    stride: Any = 1,
    pad: Any = 0,
    dilation: Any = 1,
) -> Array:
    """Adds the windows in the rows of `y` where `unfold` took them from: `(batch, *output_size, channels)`.

    `fold` is the transpose of `unfold` with the same arguments, as a linear map, for an input whose spatial axes have
    the sizes `output_size`. To undo `unfold`, divide by how often each position was taken, which is
    `fold(unfold(ones))`.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.fold(jnp.ones((1, 3, 2)), (4,), (2,)).ravel().tolist()
    [1.0, 2.0, 2.0, 1.0]
    """
    y, kernel = as_float(y), window_sizes(kernel, "kernel")
    sizes = check_output_size(output_size, kernel)
    windows = windows_over(sizes, kernel, stride, pad, dilation)
    count, positions = math.prod(windows.counts(sizes)), math.prod(kernel)
    if y.ndim != 3 or y.shape[1] != count or y.shape[2] % positions:
        wanted = f"(batch, {count}, {positions} * channels)"
        raise SizeError(f"fold expects an array of shape {wanted}, got an array of shape {y.shape}")
    wide = at_least_float32(y)
    image = jax.ShapeDtypeStruct((y.shape[0], *sizes, y.shape[2] // positions), wide.dtype)
    (total,) = jax.linear_transpose(lambda x: _rows(x, windows), image)(wide)
    return total.astype(y.dtype)


def check_output_size(output_size: Any, kernel: tuple[int, ...]) -> tuple[int, ...]:
    """`output_size` as a tuple with one size for each axis of the kernel."""
    sizes = window_sizes(output_size, "output_size")
    if len(sizes) != len(kernel):
        raise ValueError(f"output_size takes one size for each axis of the kernel {kernel}, got {output_size!r}")
    return sizes


def _rows(x: Array, windows: Windows) -> Array:
    """Windows as rows. One axis after the other, so that a kernel of 16 x 16 takes 32 slices and not 256."""
    batch, *sizes, channels = x.shape
    counts = windows.counts(tuple(sizes))
    x = jnp.pad(x, ((0, 0), *windows.pads, (0, 0)))
    axes = zip(counts, windows.kernel, windows.strides, windows.dilations, strict=True)
    for number, (count, size, stride, dilation) in enumerate(axes):
        axis = 1 + 2 * number  # each axis before this one has become two: its windows and the positions in them
        reach = (count - 1) * stride + 1
        starts = [position * dilation for position in range(size)]
        slices = [jax.lax.slice_in_dim(x, start, start + reach, stride, axis) for start in starts]
        x = jnp.stack(slices, axis + 1)
    spatial = len(sizes)
    order = (0, *range(1, 2 * spatial, 2), *range(2, 2 * spatial + 1, 2), 2 * spatial + 1)
    return x.transpose(order).reshape(batch, math.prod(counts), math.prod(windows.kernel) * channels)

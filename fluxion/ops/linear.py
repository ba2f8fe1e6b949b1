"""Products of many matrices at once: matrices are the last two axes, every axis before them counts the batch."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import Array

from fluxion.errors import SizeError
from fluxion.kernels.matmul import multiply


def product(x: Any, weight: Any) -> Any:
    """`x @ weight` with all leading axes of `x` as one, in which form kernels know it and XLA transposes it best."""
    if x.ndim < 2:
        return x @ weight
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    single = isinstance(x, Array) and rows.dtype == weight.dtype == jnp.float32
    result = multiply(rows, weight) if single else rows @ weight
    return result.reshape(*x.shape[:-1], weight.shape[-1])


def batched_mul(a: Any, b: Any) -> Array:
    """`a[n] @ b[n]` for each `n`: `(..., i, j)` times `(..., j, k)` is `(..., i, k)`.

    Batch axes agree, or have size 1 on one side, which is repeated; a single matrix `(i, j)` on either side is used for
    every `n`. Same as the operator `a @ b`, which also takes vectors. `SizeError` where sizes do not fit. Flux:
    `batched_mul`, with the batch last.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.batched_mul(jnp.ones((8, 2, 3)), jnp.ones((8, 3, 4))).shape
    (8, 2, 4)
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    _check(
        "batched_mul", a, b, a.ndim >= 2 and b.ndim >= 2 and a.shape[-1] == b.shape[-2], "(..., i, j) and (..., j, k)"
    )
    _check("batched_mul", a, b, _broadcasts(a.shape[:-2], b.shape[:-2]), "equal batch axes, or of size 1")
    return a @ b


def batched_vec(a: Any, b: Any) -> Array:
    """`a[n] @ b[n]` for each `n`: matrices `(..., i, j)` times vectors `(..., j)` is `(..., i)`.

    Batch axes agree; a single vector `(j,)` is used for every `n`. `SizeError` where sizes do not fit. Flux:
    `batched_vec`, with the batch last.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> fx.batched_vec(jnp.ones((8, 2, 3)), jnp.ones((8, 3))).shape
    (8, 2)
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    _check("batched_vec", a, b, a.ndim >= 2 and b.ndim >= 1 and a.shape[-1] == b.shape[-1], "(..., i, j) and (..., j)")
    _check("batched_vec", a, b, b.ndim == 1 or a.shape[:-2] == b.shape[:-1], "equal batch axes, or one vector")
    return a @ b if b.ndim == 1 else (a @ b[..., None])[..., 0]


def batched_transpose(a: Any) -> Array:
    """Each matrix transposed: `(..., i, j)` becomes `(..., j, i)`. `SizeError` for less than two axes.

    XLA folds it into the product that uses it, so it costs nothing there.

    >>> import fluxion as fx
    >>> fx.batched_transpose([[[1, 2], [3, 4]]]).tolist()
    [[[1, 3], [2, 4]]]
    """
    a = jnp.asarray(a)
    if a.ndim < 2:
        raise SizeError(f"batched_transpose expects at least 2 axes (..., i, j), got an array of shape {a.shape}")
    return jnp.swapaxes(a, -1, -2)


def batched_adjoint(a: Any) -> Array:
    """Each matrix transposed and conjugated: `(..., i, j)` becomes `(..., j, i)`.

    >>> import fluxion as fx
    >>> fx.batched_adjoint([[1j, 2]]).tolist()
    [[-1j], [(2-0j)]]
    """
    return jnp.conj(batched_transpose(a))


def _check(name: str, a: Array, b: Array, fits: bool, wanted: str) -> None:
    if not fits:
        raise SizeError(f"{name} expects {wanted}, got arrays of shapes {a.shape} and {b.shape}")


def _broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """True for shapes that agree up to axes of size 1, or of which one is empty."""
    return not a or not b or (len(a) == len(b) and all(m == n or 1 in (m, n) for m, n in zip(a, b, strict=True)))

"""Linear functions that come with their transpose.

JAX finds the transpose of a linear function by itself, but that of a look-up with repeated indices is a scatter, which
runs one entry after the other on a CPU. Where the indices are known beforehand the transpose is a look-up, too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_linear = Primitive("linear_with_transpose")


def linear(function: Callable[..., Array], transpose: Callable[..., Array], x: Array, *options: Any) -> Array:
    """`function(x, *options)`, of which the derivative's transpose is `transpose(dy, *options)`.

    Both are linear in their first argument and see no axes but the last ones: those that `vmap` adds come first. They
    are defined at the top level of a module and `options` are hashable, so that programs are found again. `linear`
    can be differentiated any number of times, in any mode.

    >>> import jax, jax.numpy as jnp
    >>> double, half = lambda x: 2 * x, lambda dy: 2 * dy
    >>> jax.grad(lambda x: linear(double, half, x))(1.0).item()
    2.0
    """
    return _linear.bind(jnp.asarray(x), function=function, transpose=transpose, options=options)


def branching(x: Any) -> Array:
    """`x` itself, for a value that several parts of a model use, where a gradient of all of them comes together.

    XLA computes such a gradient anew for every use of it on a CPU, with all that led to it, unless a product uses it
    as it is. In a row of residual blocks with dropout that work grows with the square of their number. A conditional is
    computed once, so the gradient is put through one, both of whose branches return it.
    """
    return linear(_identity, _once, x)


def _identity(x: Array) -> Array:
    return x


def _once(dy: Array) -> Array:
    return jax.lax.platform_dependent(dy, cpu=_conditional, default=_identity)


def _conditional(dy: Array) -> Array:
    if dy.size == 0:
        return dy
    return jax.lax.cond(jnp.isnan(dy.ravel()[0]), lambda dy: jnp.where(jnp.isnan(dy), jnp.nan, dy), _identity, dy)


def _apply(x: Array, *, function: Callable[..., Array], transpose: Any, options: tuple[Any, ...]) -> Array:
    return function(x, *options)


def _abstract(x: Any, **parameters: Any) -> Any:
    output = jax.eval_shape(functools.partial(_apply, **parameters), x)
    return x.update(shape=output.shape, dtype=output.dtype, weak_type=False)


def _transposed(dy: Any, x: Any, *, function: Any, transpose: Any, options: Any) -> list[Any]:
    if type(dy) is ad.Zero:
        return [ad.Zero(x.aval)]
    return [_linear.bind(dy, function=transpose, transpose=function, options=options)]


def _batched(operands: Any, axes: Any, **parameters: Any) -> tuple[Array, int]:
    return _linear.bind(jnp.moveaxis(operands[0], axes[0], 0), **parameters), 0


_linear.def_impl(jax.jit(_apply, static_argnames=("function", "transpose", "options")))
_linear.def_abstract_eval(_abstract)
ad.deflinear2(_linear, _transposed)
batching.primitive_batchers[_linear] = _batched
mlir.register_lowering(_linear, mlir.lower_fun(_apply, multiple_results=False))

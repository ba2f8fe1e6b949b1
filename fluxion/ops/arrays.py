"""What every function on arrays needs: floats from integers, ranks that agree, and whether values are known yet."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fluxion.kernels.epilogue import match_rank as match_rank  # the kernels' operations need it too


def as_float(x: Any) -> Array:
    """`x` as an array that has derivatives: integers and booleans become the default float, floats stay as they are."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(x.dtype, float))


def at_least_float32(x: Array) -> Array:
    """`x` in a precision that sums do not spoil: half precision becomes float32, the rest stays as it is."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def is_concrete(*values: Any) -> bool:
    """True where the numbers are known now, false while JAX traces."""
    return not any(isinstance(value, jax.core.Tracer) for value in values)

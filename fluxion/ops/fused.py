"""Activation functions that a kernel applies before it stores its sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from fluxion.ops.activations import identity, relu, relu6

NAMES = (("identity", identity), ("relu", relu), ("relu", jax.nn.relu), ("relu6", relu6), ("relu6", jax.nn.relu6))


def fused_name(activation: Callable[..., Any]) -> str | None:
    """The word that kernels have for this activation function, or None where they know none."""
    return next((name for name, function in NAMES if function is activation), None)

"""What a kernel does with its sums before it stores them: work that would otherwise be a pass over memory each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import jax.numpy as jnp
from jax import Array

ACTIVATIONS = ("identity", "relu", "relu6")


@dataclass(frozen=True)
class Epilogue:
    """`activation(sum * scale + bias + residual)`, of which each part may be missing.

    `scale` and `bias` hold one number for each output channel, `residual` has the shape of the result. A kernel gets
    those that are there as operands, in this order, behind its own.
    """

    scale: bool = False
    bias: bool = False
    residual: bool = False
    activation: str = "identity"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"an epilogue has one of the activations {ACTIVATIONS}, got {self.activation!r}")

    @property
    def operands(self) -> tuple[str, ...]:
        """The names of the operands that it takes."""
        return tuple(part.name for part in fields(self) if getattr(self, part.name) is True)

    def plain(self, sums: Array, extras: Sequence[Array]) -> Array:
        """What is stored, by operations of XLA."""
        given = dict(zip(self.operands, extras, strict=True))
        sums = sums * match_rank(given["scale"], sums) if "scale" in given else sums
        for name in ("bias", "residual"):
            sums = sums + match_rank(given[name], sums) if name in given else sums
        return {"identity": lambda x: x, "relu": lambda x: jnp.maximum(x, 0), "relu6": lambda x: jnp.clip(x, 0, 6)}[
            self.activation
        ](sums)


def match_rank(value: Array, x: Array) -> Array:
    """`value` with leading axes of size 1, so that it has as many axes as `x` and broadcasts against its last ones."""
    return jnp.expand_dims(value, tuple(range(x.ndim - jnp.ndim(value))))


def plain_sloped(gradient: Array, y: Array, activation: str = "relu") -> Array:
    """The gradient in front of an activation, from that behind it and the activation's result, or argument, `y`.

    And of a change in front of it the change behind it.
    """
    if activation == "identity":
        return gradient
    return jnp.where(y > 0 if activation == "relu" else (y > 0) & (y < 6), gradient, 0)

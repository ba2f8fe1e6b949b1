"""What a kernel does with its sums before it stores them: work that would otherwise be a pass over memory each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import Array

if TYPE_CHECKING:  # they bring LLVM
    from fluxion.kernels.generated import Buffer, Work
    from fluxion.kernels.values import Index, Number

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
        sums = sums * over_channels(given["scale"], sums) if "scale" in given else sums
        for name in ("bias", "residual"):
            sums = sums + over_channels(given[name], sums) if name in given else sums
        return {"identity": lambda x: x, "relu": lambda x: jnp.maximum(x, 0), "relu6": lambda x: jnp.clip(x, 0, 6)}[
            self.activation
        ](sums)

    def slopes(self, y: Array) -> Array | None:
        """Where the activation that gave `y` passes a derivative on; None: everywhere."""
        return {"identity": lambda: None, "relu": lambda: y > 0, "relu6": lambda: (y > 0) & (y < 6)}[self.activation]()

    def store(self, f: Work, extras: Sequence[Buffer], result: Buffer) -> Callable[..., None]:
        """A function `(sums, place, channel, count)` that finishes a vector of sums and stores it.

        `place` is where the first lane goes, counted in numbers from the start of the result; `channel` is the output
        channel of the first lane; of the lanes only the first `count` are there (None: all).
        """
        pointers = {name: f[buffer] for name, buffer in zip(self.operands, extras, strict=True)}

        def finish(sums: Number, place: Index, channel: Index, count: Index | None = None) -> None:
            lanes = sums.lanes
            if "scale" in pointers and "bias" in pointers:
                scale = pointers["scale"].load(channel, count, lanes)
                sums = f.fma(sums, scale, pointers["bias"].load(channel, count, lanes))
            elif "scale" in pointers:
                sums = sums * pointers["scale"].load(channel, count, lanes)
            elif "bias" in pointers:
                sums = sums + pointers["bias"].load(channel, count, lanes)
            if "residual" in pointers:
                sums = sums + pointers["residual"].load(place, count, lanes)
            f[result].store(activate(f, sums, self.activation), place, count)

        return finish


def over_channels(values: Array, y: Array) -> Array:
    """`values` with as many axes as `y`, against whose last ones it broadcasts."""
    return jnp.expand_dims(values, tuple(range(y.ndim - values.ndim)))


def activate(f: Any, x: Number, activation: str) -> Number:
    """An activation function of a vector. NaN stays NaN."""
    if activation == "identity":
        return x
    positive = f.select(x < 0.0, 0.0, x)
    return positive if activation == "relu" else f.select(positive > 6.0, 6.0, positive)

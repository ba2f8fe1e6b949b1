"""What a kernel does with its sums before it stores them: work that would otherwise be a pass over memory each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import Array

if TYPE_CHECKING:  # they bring LLVM
    from fluxion.kernels.generated import Buffer, Work
    from fluxion.kernels.values import Index, Number, Pointer

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

    def store(self, f: Work, extras: Sequence[Buffer], result: Buffer) -> Finish:
        """What finishes vectors of sums and stores them: call it with `(sums, place, channel, count)`."""
        pointers = {name: f[buffer] for name, buffer in zip(self.operands, extras, strict=True)}
        return Finish(f, self, pointers, f[result])


class Finish:
    """Finishes vectors of sums and stores them: as a whole, or in two halves between which lanes may be exchanged.

    In all of them `place` is where the first lane goes, counted in numbers from the start of the result; `channel` is
    the output channel of the first lane; of the lanes only the first `count` are there (None: all).
    """

    def __init__(self, f: Work, epilogue: Epilogue, pointers: dict[str, Pointer], result: Pointer) -> None:
        self._f, self._epilogue, self._pointers, self._result = f, epilogue, pointers, result

    def __call__(self, sums: Number, place: Index, channel: Index, count: Index | None = None) -> None:
        """Finishes and stores a vector of sums."""
        self.write(self.shifted(sums, channel, count), place, count)

    def shifted(self, sums: Number, channel: Index, count: Index | None = None, cell: int = 1) -> Number:
        """The first half: what depends on channels only, each of which has `cell` lanes."""
        from fluxion.kernels.cells import stretched  # it brings LLVM

        given = {
            name: stretched(self._f, pointer.load(channel, count, (sums.lanes or 1) // cell), cell)
            for name, pointer in self._pointers.items()
            if name != "residual"
        }
        if "scale" in given:
            sums = self._f.fma(sums, given["scale"], given["bias"]) if "bias" in given else sums * given["scale"]
        elif "bias" in given:
            sums = sums + given["bias"]
        return sums if "residual" in self._pointers else activate(self._f, sums, self._epilogue.activation)

    def write(self, numbers: Number, place: Index, count: Index | None = None) -> None:
        """The second half: what depends on places."""
        if "residual" in self._pointers:
            numbers = numbers + self._pointers["residual"].load(place, count, numbers.lanes)
            numbers = activate(self._f, numbers, self._epilogue.activation)
        self._result.store(numbers, place, count)


def over_channels(values: Array, y: Array) -> Array:
    """`values` with as many axes as `y`, against whose last ones it broadcasts."""
    return jnp.expand_dims(values, tuple(range(y.ndim - values.ndim)))


def activate(f: Any, x: Number, activation: str) -> Number:
    """An activation function of a vector. NaN stays NaN."""
    if activation == "identity":
        return x
    positive = f.select(x < 0.0, 0.0, x)
    return positive if activation == "relu" else f.select(positive > 6.0, 6.0, positive)


def sloped(f: Any, gradient: Number, y: Number, activation: str = "relu") -> Number:
    """The gradient in front of an activation, from that behind it and the activation's result, or argument, `y`."""
    if activation == "identity":
        return gradient
    passes = y > 0.0 if activation == "relu" else (y > 0.0) & (y < 6.0)
    return f.select(passes, gradient, 0.0)


def plain_sloped(gradient: Array, y: Array, activation: str = "relu") -> Array:
    """The same by operations of XLA; of a change in front of the activation, the change behind it."""
    if activation == "identity":
        return gradient
    return jnp.where(y > 0 if activation == "relu" else (y > 0) & (y < 6), gradient, 0)

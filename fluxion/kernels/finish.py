"""An epilogue in generated code: what is done with vectors of sums before they are stored."""

from __future__ import annotations

from collections.abc import Sequence

from fluxion.kernels.builder import Function
from fluxion.kernels.cells import stretched
from fluxion.kernels.epilogue import Epilogue
from fluxion.kernels.generated import Buffer, Work
from fluxion.kernels.values import Index, Number


class Finish:
    """Finishes vectors of sums and stores them: as a whole, or in two halves between which lanes may be exchanged.

    In all of them `place` is where the first lane goes, counted in numbers from the start of the result; `channel` is
    the output channel of the first lane; of the lanes only the first `count` are there (None: all).
    """

    def __init__(self, f: Work, epilogue: Epilogue, extras: Sequence[Buffer], result: Buffer) -> None:
        """`extras` are the operands of the epilogue."""
        self._f, self._epilogue = f, epilogue
        self._pointers = {name: f[buffer] for name, buffer in zip(epilogue.operands, extras, strict=True)}
        self._result = f[result]

    def __call__(self, sums: Number, place: Index, channel: Index, count: Index | None = None) -> None:
        """Finishes and stores a vector of sums."""
        self.write(self.shifted(sums, channel, count), place, count)

    def shifted(self, sums: Number, channel: Index, count: Index | None = None, cell: int = 1) -> Number:
        """The first half: what depends on channels only, each of which has `cell` lanes."""
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


def activate(f: Function, x: Number, activation: str) -> Number:
    """An activation function of a vector. NaN stays NaN."""
    if activation == "identity":
        return x
    positive = f.select(x < 0.0, 0.0, x)
    return positive if activation == "relu" else f.select(positive > 6.0, 6.0, positive)


def sloped(f: Function, gradient: Number, y: Number, activation: str = "relu") -> Number:
    """The gradient in front of an activation, from that behind it and the activation's result, or argument, `y`."""
    if activation == "identity":
        return gradient
    passes = y > 0.0 if activation == "relu" else (y > 0.0) & (y < 6.0)
    return f.select(passes, gradient, 0.0)

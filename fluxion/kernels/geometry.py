"""The numbers that describe a convolution, without its arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

Shape = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


class Direction(StrEnum):
    """Which of the three arrays of a convolution is computed from the other two.

    A convolution ties an input `x`, a weight `w` and an output `y` together: a sum over the entries `x * w * y`. It is
    linear in each of them, so that leaving one out gives the three operations, each the transpose of the others.
    """

    FORWARD = "forward"
    INPUT_GRADIENT = "input gradient"
    WEIGHT_GRADIENT = "weight gradient"

    @property
    def operands(self) -> tuple[str, str]:
        """Names of the two arrays that are given."""
        return _OPERANDS[self]

    @property
    def result(self) -> str:
        """Name of the array that is computed."""
        return next(name for name in "xwy" if name not in self.operands)

    @classmethod
    def of(cls, result: str) -> Direction:
        """The direction that computes the array of this name.

        >>> Direction.of("w")
        <Direction.WEIGHT_GRADIENT: 'weight gradient'>
        """
        return next(direction for direction in cls if direction.result == result)


_OPERANDS = {
    Direction.FORWARD: ("x", "w"),
    Direction.INPUT_GRADIENT: ("y", "w"),
    Direction.WEIGHT_GRADIENT: ("x", "y"),
}


@dataclass(frozen=True)
class Convolution:
    """A convolution in numbers; one entry per spatial axis where it is a tuple.

    `x` has shape `(batch, *sizes, inputs)`, `w` `(*kernel, inputs // groups, outputs)` and `y` `(batch, *out_sizes,
    outputs)`. On one axis, output `i` reads input `i * stride + k * dilation - low` through tap `k`, and zero where
    that lies outside. A negative pad leaves out input at that end. Group `g` joins channels `g * inputs // groups ...`
    of `x` to channels `g * outputs // groups ...` of `y`.

    >>> geometry = Convolution(2, (28, 28), 3, (5, 5), 8, stride=(2, 2), pads=((2, 2), (2, 2)), dilation=(1, 1))
    >>> geometry.y_shape, geometry.flops
    ((2, 14, 14, 8), 470400)
    """

    batch: int
    sizes: Shape
    inputs: int
    kernel: Shape
    outputs: int
    stride: Shape
    pads: Pads
    dilation: Shape
    groups: int = 1

    @property
    def spans(self) -> Shape:
        """How many positions the kernel reaches over, its holes included."""
        return tuple((taps - 1) * step + 1 for taps, step in zip(self.kernel, self.dilation, strict=True))

    @property
    def out_sizes(self) -> Shape:
        axes = zip(self.sizes, self.spans, self.stride, self.pads, strict=True)
        room = ((size + sum(pair) - span, step) for size, span, step, pair in axes)
        return tuple(left // step + 1 if left >= 0 else 0 for left, step in room)

    @property
    def x_shape(self) -> Shape:
        return (self.batch, *self.sizes, self.inputs)

    @property
    def w_shape(self) -> Shape:
        return (*self.kernel, self.group_inputs, self.outputs)

    @property
    def y_shape(self) -> Shape:
        return (self.batch, *self.out_sizes, self.outputs)

    @property
    def group_inputs(self) -> int:
        """Input channels that each output channel reads."""
        return self.inputs // self.groups

    @property
    def group_outputs(self) -> int:
        """Output channels that read each input channel."""
        return self.outputs // self.groups

    @property
    def flops(self) -> int:
        """Multiplications and additions of a direct sum, those with padding included; the same in every direction."""
        return 2 * math.prod(self.y_shape) * math.prod(self.kernel) * self.group_inputs

    def shape(self, name: str) -> Shape:
        """Shape of the array "x", "w" or "y"."""
        return {"x": self.x_shape, "w": self.w_shape, "y": self.y_shape}[name]

    def operand_shapes(self, direction: Direction) -> tuple[Shape, Shape]:
        left, right = direction.operands
        return self.shape(left), self.shape(right)

    def result_shape(self, direction: Direction) -> Shape:
        return self.shape(direction.result)

    def trimmed(self) -> Convolution:
        """The same convolution, written with no more padding at the high ends than its last window reaches into.

        Of all the ways to write a convolution this is the one that kernels are built and chosen for. What the windows
        do not reach is left out by a negative pad only where it is a whole stride or more.

        >>> Convolution(1, (8,), 1, (3,), 1, stride=(2,), pads=((1, 1),), dilation=(1,)).trimmed().pads
        ((1, 0),)
        """
        axes = zip(self.sizes, self.spans, self.stride, self.pads, self.out_sizes, strict=True)
        return replace(self, pads=tuple(_trimmed(*axis) for axis in axes))

    def __str__(self) -> str:
        shapes = (self.x_shape, self.w_shape, self.y_shape)
        x, w, y = ("x".join(map(str, shape)) for shape in shapes)
        windows = f"stride {self.stride}, pads {self.pads}, dilation {self.dilation}, groups {self.groups}"
        return f"x {x}, w {w}, y {y}, {windows}"


def _trimmed(size: int, span: int, stride: int, pair: tuple[int, int], count: int) -> tuple[int, int]:
    if not count:
        return pair
    low, _ = pair
    reached = (count - 1) * stride + span - low - size
    return low, max(reached, min(0, reached + stride - 1))

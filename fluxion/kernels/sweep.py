"""How a direct convolution sees its arrays: forward and input gradient are one problem.

Destination positions fall into *phases*, and within a phase `t` counts them:

    destination  phase + step * t   =   sum over taps j of   source  scale * t + start + spacing * j

The forward direction has one phase, whose `scale` is the stride. The input gradient has `step` = stride phases, each of
which meets only the taps that really touch it. With stride 2 and 3 taps w0 w1 w2:

    forward              y0 = x0 w0 + x1 w1 + x2 w2      y1 = x2 w0 + x3 w1 + x4 w2     ...
    gradient, phase 0    x0 = y0 w0      x2 = y0 w2 + y1 w0      x4 = y1 w2 + y2 w0     ...
    gradient, phase 1    x1 = y0 w1      x3 = y1 w1              ...
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from fluxion.kernels.geometry import Convolution, Direction

AXES = 3  # problems with fewer spatial axes get axes of one position in front


@dataclass(frozen=True)
class Axis:
    """One spatial axis; `counts`, `starts` and `taps` (in the order in which they are read) hold one entry a phase."""

    source: int
    step: int
    scale: int
    spacing: int
    counts: tuple[int, ...]
    starts: tuple[int, ...]
    taps: tuple[tuple[int, ...], ...]

    @classmethod
    def forward(cls, source: int, count: int, kernel: int, stride: int, low: int, dilation: int) -> Axis:
        """An axis of a convolution from `source` to `count` positions."""
        return cls(source, 1, stride, dilation, (count,), (-low,), (tuple(range(kernel)),))

    @classmethod
    def gradient(cls, count: int, source: int, kernel: int, stride: int, low: int, dilation: int) -> Axis:
        """The same axis of the convolution's input gradient, which goes from `source` to `count` positions."""
        phases = range(min(stride, count))
        taps = [[j for j in reversed(range(kernel)) if (p + low - j * dilation) % stride == 0] for p in phases]
        starts = [(p + low - met[0] * dilation) // stride if met else 0 for p, met in zip(phases, taps, strict=True)]
        counts = (len(range(phase, count, stride)) for phase in phases)
        spacing = dilation // math.gcd(dilation, stride)
        return cls(source, stride, 1, spacing, tuple(counts), tuple(starts), tuple(map(tuple, taps)))

    @property
    def size(self) -> int:
        """How many positions the destination has."""
        return sum(self.counts)

    @property
    def order(self) -> tuple[int, ...]:
        """All taps that are read, those of the first phase first."""
        return tuple(itertools.chain(*self.taps))

    @property
    def firsts(self) -> tuple[int, ...]:
        """Where the taps of each phase start in `order`."""
        return tuple(sum(map(len, self.taps[:phase])) for phase in range(len(self.taps)))

    @functools.cached_property
    def margins(self) -> tuple[int, int]:
        """What is read around `scale * t` in some phase: the first position, and the one behind the last."""
        met = [(start, start + self.spacing * (len(taps) - 1) + 1) for start, taps in self._phases() if taps]
        return min((low for low, _ in met), default=0), max((high for _, high in met), default=0)

    @property
    def inside(self) -> bool:
        """True where no tap ever reads outside of the source."""
        low, high = self.margins
        return low >= 0 and self.scale * (max(self.counts) - 1) + high <= self.source

    def extent(self, count: int, *, clipped: bool) -> int:
        """How many positions so many values of `t` in a row read; unless `clipped`, those of the padding count too."""
        low, high = self.margins
        reached = self.scale * (count - 1) + high - low
        return max(min(reached, self.source), 0) if clipped else reached

    @functools.cached_property
    def meetings(self) -> int:
        """How many pairs of a destination position and a tap meet a position of the source."""
        total = 0
        for (start, taps), count in zip(self._phases(), self.counts, strict=True):
            for place in range(start, start + self.spacing * len(taps), self.spacing):
                first, stop = -(place // self.scale), -((place - self.source) // self.scale)
                total += len(range(max(first, 0), min(stop, count)))
        return total

    def _phases(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        return zip(self.starts, self.taps, strict=True)


@dataclass(frozen=True)
class Sweep:
    """A direct sum: which source positions meet which taps, and the channels of each group that are summed and made."""

    batch: int
    axes: tuple[Axis, ...]
    kernel: tuple[int, ...]
    groups: int
    depth: int
    width: int

    @classmethod
    def of(cls, geometry: Convolution, direction: Direction) -> Sweep:
        """The sum that computes a convolution, or its input gradient."""
        g, missing = geometry, AXES - len(geometry.sizes)
        make = Axis.forward if direction is Direction.FORWARD else Axis.gradient
        lows = (low for low, _ in g.pads)
        numbers = zip(g.sizes, g.out_sizes, g.kernel, g.stride, lows, g.dilation, strict=True)
        axes = (*[make(1, 1, 1, 1, 0, 1)] * missing, *(make(*axis) for axis in numbers))
        channels = g.group_inputs, g.group_outputs
        depth, width = channels if direction is Direction.FORWARD else channels[::-1]
        return cls(g.batch, axes, (1,) * missing + g.kernel, g.groups, depth, width)

    @property
    def taps(self) -> tuple[int, ...]:
        """Numbers of the taps that are read, in the order of the axes' own orders."""
        _, rows, columns = self.kernel
        z, y, x = (axis.order for axis in self.axes)
        return tuple((a * rows + b) * columns + c for a in z for b in y for c in x)

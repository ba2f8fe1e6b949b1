"""Whole sequences through an LSTM or GRU, and back: all steps in one call.

A step needs all of the state before it, but only of its own row of the batch. So a task takes some rows through all
steps, and never waits for another one:

    task 0    rows 0-7     h0 -> h1 -> h2 -> ...      a step, for each vector of columns of the state:
    task 1    rows 8-15    h0 -> h1 -> h2 -> ...          sums of all gates = h @ weight      a register tile or two
    ...                                                   state = cell(x + bias + sums)       row by row

The recurrent weight is packed once, in the order in which the tiles read it, and comes from the second cache in every
step. Backwards a step is `carry = slopes(dh + carry) @ transposed weight`, cut in the same way:

    task 0    rows 0-7     carry <- carry <- carry ...    for each row: slopes of all gates, then all columns of carry

Arrays are laid out as in `fluxion.ops.recurrent`, which has the formulas: time first, gates side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fluxion.kernels.generated import Buffer, Kernel, Work, kernel
from fluxion.kernels.machine import Machine
from fluxion.kernels.mathematics import sigmoid, tanh
from fluxion.kernels.panels import pack_rows, pack_transposed
from fluxion.kernels.tile import multiply_add, tile_rows
from fluxion.kernels.values import Index, Number, Pointer

APART = 16  # numbers between rows: those of a power of two would compete for the same lines of the first cache
MOST_ROWS = 8
MOST_VECTORS = 3

Step = Callable[["_Vector", Sequence[Number], Sequence[Number]], Sequence[Number]]
StepBack = Callable[["_Vector", Sequence[Number]], tuple[Sequence[Number], Sequence[Number]]]


@dataclass(frozen=True)
class _Shape:
    """The numbers that describe a sequence, and how it is cut: `rows` of the batch form a task."""

    steps: int
    batch: int
    size: int
    gates: int
    lanes: int
    rows: int
    vectors: int  # of a row of a tile

    @classmethod
    def of(cls, machine: Machine, hiddens: Buffer, gates: int) -> _Shape:
        """From the states after all steps. Tasks are even in number, so that two cores have as much to do each."""
        steps, batch, size = hiddens.shape
        vectors = gates if gates <= MOST_VECTORS else -(-gates // 2)
        pairs = -(-batch // (2 * min(tile_rows(machine, vectors), MOST_ROWS)))
        return cls(steps, batch, size, gates, machine.lanes(), -(-batch // (2 * pairs)), vectors)

    @property
    def tasks(self) -> int:
        return -(-self.batch // self.rows)

    @property
    def blocks(self) -> int:
        """Vectors that hold a state, the last one perhaps not full."""
        return -(-self.size // self.lanes)

    @property
    def depth_back(self) -> int:
        """Rows of the transposed weight, and room for those of a whole vector."""
        return -(-self.gates * self.size // self.lanes) * self.lanes

    @property
    def stride(self) -> int:
        """How far apart rows of a state lie in a task's own memory, which has room for a block of tiles too many."""
        return (self.blocks + self.vectors) * self.lanes + APART

    def columns(self, f: Work) -> Iterator[tuple[Index, Index | None]]:
        """A loop over the vectors of a state: the first column, and how many columns there are if not all."""
        for column in f.range(0, self.size, self.lanes):
            yield column, None if self.size % self.lanes == 0 else self.size - column


@dataclass(frozen=True)
class _Vector:
    """One vector of a row of the batch at one time, in arrays that hold some blocks of `size` columns side by side."""

    f: Work
    shape: _Shape
    time: Index
    row: Index
    column: Index
    count: Index | None

    def load(self, array: Buffer, block: int = 0, blocks: int = 1) -> Number:
        """The numbers of a block of an array `(steps, batch, blocks * size)`."""
        return self.f[array].load(self._place(block, blocks), self.count)

    def store(self, array: Buffer, value: Number, block: int = 0, blocks: int = 1) -> None:
        """Writes them."""
        self.f[array].store(value, self._place(block, blocks), self.count)

    def bias(self, array: Buffer, block: int) -> Number:
        """The numbers of a block of a bias."""
        return self.f[array].load(block * self.shape.size + self.column, self.count)

    def before(self, start: Buffer, states: Buffer) -> Number:
        """The state before this time."""
        at_start = self.f.number(self.time) <= 0
        first = self.f[start] + self.row * self.shape.size
        later = self.f[states] + ((self.f.number(self.time) - 1) * self.shape.batch + self.row) * self.shape.size
        return self.f.select(at_start, first, later).load(self.column, self.count)

    def _place(self, block: int, blocks: int) -> Index:
        line = self.time * self.shape.batch + self.row
        return (line * blocks + block) * self.shape.size + self.column


# ---------------------------------------------------------------- kernels


@kernel
def lstm(k: Kernel, x: Buffer, bias: Buffer, hidden: Buffer, cell: Buffer, weight: Buffer, *results: Buffer) -> None:
    """The states after every step, hidden and cell; with a third result, the gates of every step too."""
    hiddens, cells, *details = results

    def step(at: _Vector, sums: Sequence[Number], states: Sequence[Number]) -> Sequence[Number]:
        before = [at.load(x, gate, 4) + at.bias(bias, gate) + total for gate, total in enumerate(sums)]
        gates = [sigmoid(at.f, before[0]), sigmoid(at.f, before[1]), tanh(at.f, before[2]), sigmoid(at.f, before[3])]
        new_cell = gates[1] * states[1] + gates[0] * gates[2]
        new_hidden = gates[3] * tanh(at.f, new_cell)
        at.store(hiddens, new_hidden)
        at.store(cells, new_cell)
        for array in details:
            for number, gate in enumerate(gates):
                at.store(array, gate, number, 4)
        return new_hidden, new_cell

    _forward(k, _Shape.of(k.machine, hiddens, 4), weight, (hidden, cell), step)


@kernel
def gru(
    k: Kernel, x: Buffer, bias: Buffer, hidden: Buffer, weight: Buffer, recurrent_bias: Buffer, *results: Buffer
) -> None:
    """The states after every step; with more results, gates r and z, candidate, and what r was multiplied by."""
    hiddens, *details = results

    def step(at: _Vector, sums: Sequence[Number], states: Sequence[Number]) -> Sequence[Number]:
        inputs = [at.load(x, gate, 3) + at.bias(bias, gate) for gate in range(3)]
        products = [total + at.bias(recurrent_bias, gate) for gate, total in enumerate(sums)]
        r, z = (sigmoid(at.f, inputs[gate] + products[gate]) for gate in range(2))
        candidate = tanh(at.f, inputs[2] + r * products[2])
        new = candidate + z * (states[0] - candidate)
        at.store(hiddens, new)
        if details:
            gates, candidates, inner = details
            at.store(gates, r, 0, 2)
            at.store(gates, z, 1, 2)
            at.store(candidates, candidate)
            at.store(inner, products[2])
        return (new,)

    _forward(k, _Shape.of(k.machine, hiddens, 3), weight, (hidden,), step)


@kernel
def lstm_back(
    k: Kernel,
    dhiddens: Buffer,
    dcells: Buffer,
    cell: Buffer,
    weight: Buffer,
    cells: Buffer,
    gates: Buffer,
    da: Buffer,
    dhidden: Buffer,
    dcell: Buffer,
) -> None:
    """What cotangents of all states pass on to the sums before the gates, and to the states at the start."""

    def step(at: _Vector, carries: Sequence[Number]) -> tuple[Sequence[Number], Sequence[Number]]:
        i, f, g, o = (at.load(gates, gate, 4) for gate in range(4))
        squashed = tanh(at.f, at.load(cells))
        of_hidden = at.load(dhiddens) + carries[0]
        of_cell = at.load(dcells) + carries[1] + of_hidden * o * (1.0 - squashed * squashed)
        slopes = (
            of_cell * g * i * (1.0 - i),
            of_cell * at.before(cell, cells) * f * (1.0 - f),
            of_cell * i * (1.0 - g * g),
            of_hidden * squashed * o * (1.0 - o),
        )
        for gate, slope in enumerate(slopes):
            at.store(da, slope, gate, 4)
        return (at.f.zero(), of_cell * f), slopes

    _backward(k, _Shape.of(k.machine, dhiddens, 4), weight, (dhidden, dcell), step)


@kernel
def gru_back(
    k: Kernel,
    dhiddens: Buffer,
    hidden: Buffer,
    weight: Buffer,
    hiddens: Buffer,
    gates: Buffer,
    candidate: Buffer,
    inner: Buffer,
    dx: Buffer,
    dproduct: Buffer,
    dhidden: Buffer,
) -> None:
    """What cotangents of all states pass on to input and `h @ weight` of every step, and to the state at the start."""

    def step(at: _Vector, carries: Sequence[Number]) -> tuple[Sequence[Number], Sequence[Number]]:
        r, z = (at.load(gates, gate, 2) for gate in range(2))
        n = at.load(candidate)
        total = at.load(dhiddens) + carries[0]
        of_n = total * (1.0 - z) * (1.0 - n * n)
        of_r = of_n * at.load(inner) * r * (1.0 - r)
        of_z = total * (at.before(hidden, hiddens) - n) * z * (1.0 - z)
        slopes = (of_r, of_z, of_n * r)
        for array, last in ((dx, of_n), (dproduct, of_n * r)):
            for gate, slope in enumerate((of_r, of_z, last)):
                at.store(array, slope, gate, 3)
        return (total * z,), slopes

    _backward(k, _Shape.of(k.machine, dhiddens, 3), weight, (dhidden,), step)


# ---------------------------------------------------------------- the two loops over time


def _forward(k: Kernel, shape: _Shape, weight: Buffer, starts: Sequence[Buffer], step: Step) -> None:
    """`step` gets the products with the old hidden state, and the old states; it gives the new ones, hidden first."""
    packed = _pack(k, shape, weight)
    room = shape.rows * shape.stride
    sums = k.private(shape.rows * shape.gates * shape.lanes)
    states = [k.private(room) for _ in starts]
    new_hidden = k.private(room)  # other columns still need the old one
    with k.parallel(shape.tasks) as f:
        for row, column, count, place in _places(f, shape):
            for start, state in zip(starts, states, strict=True):
                f[state].store(f[start].load(row * shape.size + column, count), place)
        for time in f.range(shape.steps):
            for column, count in shape.columns(f):
                _multiply(f, shape, f[states[0]], f[packed] + column * (shape.size * shape.gates), f[sums])
                for r in f.range(shape.rows):
                    place = r * shape.stride + column
                    totals = [f[sums].load((r * shape.gates + gate) * shape.lanes) for gate in range(shape.gates)]
                    here = _Vector(f, shape, time, _row(f, shape, r), column, count)
                    new = step(here, totals, [f[state].load(place) for state in states])
                    for state, value in zip((new_hidden, *states[1:]), new, strict=True):
                        f[state].store(value, place)
            for _, _, _, place in _places(f, shape):
                f[states[0]].store(f[new_hidden].load(place), place)


def _backward(k: Kernel, shape: _Shape, weight: Buffer, results: Sequence[Buffer], step: StepBack) -> None:
    """`step` gets what the later steps pass on to each state. It gives what it passes on itself, but for the product of
    the slopes with the transposed weight, which belongs to the hidden state, `results[0]`; and these slopes."""
    packed = _pack_back(k, shape, weight)
    apart = shape.gates * shape.size + APART
    carries = [k.private(shape.rows * shape.stride) for _ in results]
    slopes = k.private(shape.rows * apart)
    with k.parallel(shape.tasks) as f:
        for _, _, _, place in _places(f, shape):
            for carry in carries:
                f[carry].store(f.zero(), place)
        for past in f.range(shape.steps):
            for r in f.range(shape.rows):
                for column, count in shape.columns(f):
                    place = r * shape.stride + column
                    here = _Vector(f, shape, shape.steps - 1 - past, _row(f, shape, r), column, count)
                    rest, found = step(here, [f[carry].load(place) for carry in carries])
                    for carry, value in zip(carries, rest, strict=True):
                        f[carry].store(value, place)
                    for gate, slope in enumerate(found):
                        f[slopes].store(slope, r * apart + gate * shape.size + column, count)
            _multiply_back(f, shape, f[slopes], apart, f[packed], f[carries[0]])
        for row, column, count, place in _places(f, shape):
            for carry, result in zip(carries, results, strict=True):
                f[result].store(f[carry].load(place), row * shape.size + column, count)


def _row(f: Work, shape: _Shape, r: Index) -> Index:
    """The task's row number r of the batch. Where there are too few, it does the last one once more."""
    return f.minimum(f.task * shape.rows + r, shape.batch - 1)


def _places(f: Work, shape: _Shape) -> Iterator[tuple[Index, Index, Index | None, Index]]:
    """A loop over the task's states, vector by vector: row, column, count of lanes, and the place in its own memory."""
    for r in f.range(shape.rows):
        for column, count in shape.columns(f):
            yield _row(f, shape, r), column, count, r * shape.stride + column


def _pack(k: Kernel, shape: _Shape, weight: Buffer) -> Buffer:
    """The weight as `packed[vector of columns][row][gate]`."""
    width = shape.gates * shape.lanes
    packed = k.scratch(shape.blocks * shape.size * width)
    with k.parallel(shape.blocks) as f:
        column = f.task * shape.lanes
        count = None if shape.size % shape.lanes == 0 else shape.size - column
        for gate in range(shape.gates):
            source = f[weight] + (gate * shape.size + column)
            target = f[packed] + (f.task * shape.size * width + gate * shape.lanes)
            pack_rows(f, source, shape.gates * shape.size, shape.size, count, target, width)
    return packed


def _pack_back(k: Kernel, shape: _Shape, weight: Buffer) -> Buffer:
    """The transposed weight as `packed[block of columns][row]`."""
    width, depth = shape.vectors * shape.lanes, shape.gates * shape.size
    packed = k.scratch(-(-shape.size // width) * width * shape.depth_back)
    with k.parallel(-(-shape.size // width)) as f:
        column = f.task * width
        source, target = f[weight] + column * depth, f[packed] + column * shape.depth_back
        pack_transposed(f, source, depth, depth, shape.size - column, target, width, shape.vectors)
    return packed


def _multiply(f: Work, shape: _Shape, hidden: Pointer, packed: Pointer, sums: Pointer) -> None:
    """The products of one vector of columns: `sums[row][gate]`, in as many tiles as the registers need."""
    width = shape.gates * shape.lanes
    for first in range(0, shape.gates, shape.vectors):
        total = f.tile(shape.rows, min(shape.vectors, shape.gates - first))
        right = packed + first * shape.lanes
        multiply_add(f, total, hidden, shape.stride, right, shape.size, b_step=width)
        for number, value in enumerate(total.values):
            row, gate = divmod(number, total.columns)
            sums.store(value, row * width + (first + gate) * shape.lanes)


def _multiply_back(f: Work, shape: _Shape, slopes: Pointer, stride: int, packed: Pointer, carry: Pointer) -> None:
    """Adds the products with the transposed weight to `carry`."""
    width, depth = shape.vectors * shape.lanes, shape.gates * shape.size
    for column in f.range(0, shape.size, width):
        total = f.tile(shape.rows, shape.vectors)
        multiply_add(f, total, slopes, stride, packed + column * shape.depth_back, depth, b_step=width)
        for number, value in enumerate(total.values):
            row, vector = divmod(number, total.columns)
            place = column + (row * shape.stride + vector * shape.lanes)
            carry.store(carry.load(place) + value, place)

"""What the two kernels of attention share: how a problem is cut into blocks, and how blocks are moved and multiplied.

Everything about a query lies in one lane of a vector, from its scores to its result:

              queries                     queries                      queries
              q0 q1 .. q31                q0 q1 .. q31                 q0 q1 .. q31
      size   |  turned    |     keys    |   scores   |      outputs   |  result   |
             |            |   ->        |            |  ->            |           |
                                        |            |

So the largest score of each query, the sum of its weights, and what a mask forbids are found without ever combining the
lanes of a vector, and any number of keys, any size of a head and any number of outputs are mere numbers of rows. The
price is that queries are turned when they are read and results when they are written, a fiftieth of the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from fluxion.kernels.attention import QUERY_VECTORS, Problem
from fluxion.kernels.builder import Function, Tile
from fluxion.kernels.generated import Buffer, Kernel, Work
from fluxion.kernels.machine import Machine
from fluxion.kernels.tile import multiply_add, tile_rows
from fluxion.kernels.values import Index, Number, Pointer

COLUMNS = QUERY_VECTORS  # of a tile
LOWEST = -3.4028234663852886e38  # of all float32; where -inf is subtracted, infinity would give NaN
TASKS = 32  # pieces of work that a problem is cut into, if it can be: enough for the cores of a large machine


def kernel_extras(problem: Problem, extras: Sequence[Array], machine: Machine) -> list[Array]:
    """Mask and bias as the kernels take them: keys before queries, these padded to whole blocks, the mask in bytes."""
    padding = -problem.queries % (COLUMNS * machine.lanes())
    turned = []
    for extra in extras:
        numbers = jnp.swapaxes(extra.astype(jnp.int8) if extra.dtype == bool else extra, -2, -1)
        missing = padding if numbers.shape[-1] > 1 else 0
        turned.append(jnp.pad(numbers, [(0, 0)] * 3 + [(0, missing)]))
    return turned


class Blocks:
    """The cuts of a problem on a machine.

    A block of queries is `queries` lanes. A block of keys is at most `keys` rows, as many as fit into half of the
    second cache when each takes `floats_per_feature` numbers for each of its features and `floats_per_key` others; a
    tile has `rows` of them. Packed rows are `width` long.
    """

    def __init__(self, problem: Problem, machine: Machine, floats_per_feature: int, floats_per_key: int) -> None:
        self.problem, self.lanes = problem, machine.lanes()
        self.queries = COLUMNS * self.lanes
        self.query_blocks = -(-problem.queries // self.queries)
        self.width = _rounded(max(problem.size, problem.outputs), self.queries)
        self.most_rows = tile_rows(machine, COLUMNS)
        bytes_per_key = 4 * (floats_per_feature * self.width + floats_per_key)
        most_keys = max(machine.l2 // 2 // bytes_per_key, 2 * self.most_rows)
        self.key_blocks = -(-problem.keys // most_keys)
        keys = -(-problem.keys // self.key_blocks)
        self.rows = even_rows(keys, self.most_rows)
        self.keys = _rounded(keys, self.rows)

    def key_starts(self, f: Function, start: Index = 0, step: int = 1) -> Iterator[tuple[Index, Index]]:
        """Start and length of the blocks of keys `start`, `start + step`, ..."""
        for number in f.range(start, self.key_blocks, step):
            first = number * self.keys
            yield first, f.minimum(self.problem.keys - first, self.keys)

    def first_query_block(self, first_key: Index) -> Index:
        """The first block of queries that may attend to this key."""
        return first_key // self.queries if self.problem.causal else 0

    def visible(self, f: Function, first_query: Index, first_key: Index, count: Index) -> tuple[Index, Index]:
        """How many of `count` keys from the first on a block of queries may attend to; and with whole tiles of rows."""
        if self.problem.causal:
            count = f.minimum(first_query + self.queries - first_key, count)
        return count, (count + (self.rows - 1)) // self.rows * self.rows


def routine(k: Kernel, blocks: Blocks, step: Callable[..., None], *arguments: str) -> Function:
    """One of the steps below as a function, for `f.call`: its code is there once, however often it is called."""
    with k.routine(step.__name__, *arguments) as f:
        step(f, blocks, *f.arguments)
    return f


def pack_rows(f: Function, blocks: Blocks, source: Pointer, stride: Index, size: Index, count: Index,
              target: Pointer, factor: Number | float = 1.0) -> None:  # fmt: skip
    """Copies rows one behind the other, with zeros behind the end of each; the last one fills up the last tile."""
    whole = (count + (blocks.rows - 1)) // blocks.rows * blocks.rows
    for row in f.range(whole):
        read = source + f.minimum(row, count - 1) * stride
        for column in f.range(0, blocks.width, blocks.lanes):
            target.store(read.load(column, size - column) * factor, row * blocks.width + column)


def fill(f: Function, target: Pointer, size: int, value: float = 0.0) -> None:
    """Sets numbers that are a whole number of vectors."""
    vector = f.constant(value, "float32", f.lanes())
    for place in f.range(0, size, f.lanes()):
        target.store(vector, place)


def turn_in(f: Function, blocks: Blocks, source: Pointer, stride: Index, size: Index, count: Index,
            target: Pointer, factor: Number | float = 1.0) -> None:  # fmt: skip
    """Writes a block of queries to the target, one row for each feature; lanes past `count` repeat the last query."""
    lanes = blocks.lanes
    for first in f.range(0, blocks.queries, lanes):
        places = [source + f.minimum(first + lane, count - 1) * stride for lane in range(lanes)]
        for column in f.range(0, size, lanes):
            rows = [place.load(column, f.minimum(size - column, lanes)) for place in places]
            for number, row in enumerate(f.transpose(rows)):
                target.store(row * factor, (column + number) * blocks.queries + first)


def turn_out(f: Function, blocks: Blocks, source: Pointer, size: int, target: Pointer, stride: int, count: Index,
             bin: Pointer, factor: float = 1.0, add: bool = False) -> None:  # fmt: skip
    """Turns back a block of queries; those past `count` go to a bin as large as one row. `add` keeps what was there."""
    lanes = blocks.lanes
    for first in f.range(0, blocks.queries, lanes):
        there = [f.number(count) > first + lane for lane in range(lanes)]
        places = [f.select(is_there, target + (first + lane) * stride, bin) for lane, is_there in enumerate(there)]
        for column in f.range(0, size, lanes):
            rows = [source.load((column + number) * blocks.queries + first) * factor for number in range(lanes)]
            rest = None if size % lanes == 0 else f.minimum(size - column, lanes)
            for place, row in zip(places, f.transpose(rows), strict=True):
                place.store(place.load(column, rest) + row if add else row, column, rest)


def _rounded(number: int, step: int) -> int:
    return -(-number // step) * step


# ------------------------------------------------------------------ products of blocks


def keys_times(f: Function, blocks: Blocks, packed: Pointer, rows: Index, turned: Pointer, depth: Index,
               target: Pointer) -> None:  # fmt: skip
    """Scores: packed rows times a block that is turned. `rows` is a whole number of tiles."""
    for row in f.range(0, rows, blocks.rows):
        total = f.tile(blocks.rows, COLUMNS)
        multiply_add(f, total, packed + row * blocks.width, blocks.width, turned, depth, b_step=blocks.queries)
        store(total, target + row * blocks.queries, blocks.queries)


def sum_of_rows(f: Function, blocks: Blocks, packed: Pointer, size: int, weights: Pointer, count: Index,
                target: Pointer, factors: Sequence[Number] | None = None) -> None:  # fmt: skip
    """The sum of `count` packed rows, each times a row of weights: one row of the target for each feature.

    With `factors`, one vector for each column, it is added to what was there times the factors.
    """
    tall = even_rows(size, blocks.most_rows)
    for row in f.range(0, size, tall):
        total = f.tile(tall, COLUMNS)
        multiply_add(f, total, packed + row, 1, weights, count, a_step=blocks.width, b_step=blocks.queries)
        place = target + row * blocks.queries
        if factors is not None:
            for r, v, offset in places(total, blocks.queries):
                total[r, v] = f.fma(place.load(offset), factors[v], total[r, v])
        store(total, place, blocks.queries)


def even_rows(count: int, most: int) -> int:
    """Rows of the tiles that so many rows are cut into: nearly equal ones, so that little is done for nothing."""
    return -(-count // -(-count // most))


def add_queries_times(f: Function, blocks: Blocks, weights: Pointer, rows: Index, packed: Pointer, count: Index,
                      target: Pointer) -> None:  # fmt: skip
    """Adds to each row of the target the sum over `count` queries of its weight for the query times its packed row."""
    for column in f.range(0, blocks.width, blocks.queries):
        for row in f.range(0, rows, blocks.rows):
            place = target + (row * blocks.width + column)
            total = f.tile(blocks.rows, COLUMNS)
            for r, v, offset in places(total, blocks.width):
                total[r, v] = place.load(offset)
            lines = weights + row * blocks.queries
            multiply_add(f, total, lines, blocks.queries, packed + column, count, b_step=blocks.width)
            store(total, place, blocks.width)


def places(total: Tile, row_length: int) -> Iterator[tuple[int, int, int]]:
    """Row, column and place of each vector of a tile."""
    lanes = total[0].lanes or 1
    return ((r, v, r * row_length + v * lanes) for r in range(total.rows) for v in range(total.columns))


def store(total: Tile, target: Pointer, row_length: int) -> None:
    """Writes a tile to rows of this length."""
    for r, v, place in places(total, row_length):
        target.store(total[r, v], place)


# ------------------------------------------------------------------ what is added to scores


@dataclass(frozen=True)
class Restriction:
    """What bias, mask and causality make of the scores of one block of queries."""

    f: Work
    problem: Problem
    lanes: int
    bias: Pointer | None
    mask: Pointer | None
    steps: dict[str, list[int]]  # of bias and mask: from key to key, and from query to query
    first_query: Index

    @staticmethod
    def of(f: Work, problem: Problem, lanes: int, extras: Sequence[Buffer], batch: Any, head: Any, query: Any) -> Any:
        """That of the block which starts at `query`, of one head of one entry of the batch."""
        found: dict[str, Any] = {"mask": None, "bias": None}
        steps: dict[str, list[int]] = {}
        for name, extra in zip(problem.extras, extras, strict=True):
            along = _steps(extra.shape)
            found[name] = f[extra] + (batch * along[0] + head * along[1] + query * along[3])
            steps[name] = along[2:]
        return Restriction(f, problem, lanes, found["bias"], found["mask"], steps, query)

    @property
    def is_none(self) -> bool:
        """True where scores stay as they are."""
        return self.bias is None and self.mask is None and not self.problem.causal

    def of_scores(self, score: Number, key: Index, column: int) -> Number:
        """The scores of one key with one vector of the block's queries, -inf where attention is forbidden."""
        f = self.f
        if self.bias is not None:
            score = score + self._extra("bias", self.bias, key, column)
            score = f.select(score > -LOWEST, -LOWEST, score)  # +inf becomes finite: such keys share all attention
        if self.mask is not None:
            score = f.select(self._extra("mask", self.mask, key, column) > 0, score, -float("inf"))
        if self.problem.causal:
            position = f.convert(f.number(self.first_query + column * self.lanes - key), "int32")
            score = f.select(f.lane_numbers(self.lanes) + position >= 0, score, -float("inf"))
        return score

    def of_changes(self, score: Number, change: Number) -> Number:
        """The gradient of scores before they are restricted: a bias of infinity leaves nothing of it."""
        if self.bias is None:
            return change
        return self.f.select(score < -LOWEST, change, 0.0)

    def _extra(self, name: str, extra: Pointer, key: Index, column: int) -> Number:
        per_key, per_query = self.steps[name]
        place = extra + (key * per_key + column * self.lanes * per_query)
        return place.load(lanes=self.lanes) if per_query else place.splat(lanes=self.lanes)


def _steps(shape: Sequence[int]) -> list[int]:
    """How far apart neighbours lie on each axis: 0 where there is one entry for all."""
    steps, size = [], 1
    for length in reversed(shape):
        steps.append(size if length > 1 else 0)
        size *= length
    return steps[::-1]

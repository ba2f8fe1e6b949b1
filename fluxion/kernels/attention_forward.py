"""Attention, forward, block by block (Dao et al. 2022): scores never reach memory.

One task computes some blocks of queries of one head. It goes through the keys once; each block of keys and values is
copied to where they lie close to each other, and then serves all blocks of queries of the task:

    for each block of keys:
        for each block of queries:
            scores  = keys * queries                         -inf where attention is forbidden
            top     = the largest so far, of each query
            weights = exp(scores - top)
            total   = total * exp(old top - top) + sum of weights
            result  = result * exp(old top - top) + values * weights
    out = result / total

`top` and `total` are stored too: with them the gradient finds the weights again from the scores alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from fluxion.kernels.attention import Problem
from fluxion.kernels.attention_blocks import (
    COLUMNS,
    LOWEST,
    TASKS,
    Blocks,
    Restriction,
    even_rows,
    fill,
    kernel_extras,
    keys_times,
    pack_rows,
    sum_of_rows,
    turn_in,
    turn_out,
)
from fluxion.kernels.builder import Tile
from fluxion.kernels.generated import Buffer, Kernel, Work, kernel
from fluxion.kernels.machine import Machine
from fluxion.kernels.mathematics import exp
from fluxion.kernels.values import Index, Number, Pointer

MOST_QUERY_BLOCKS = 8  # of one task: for more the keys would no longer be in the cache


@dataclass(frozen=True)
class _Memory:
    """What a worker holds: packed keys and values, the scores of one block, and the state of each block of queries."""

    keys: Buffer
    values: Buffer
    scores: Buffer
    turned: Buffer
    result: Buffer
    top: Buffer
    total: Buffer
    bin: Buffer

    @staticmethod
    def of(k: Kernel, blocks: Blocks, count: int) -> _Memory:
        problem, wide = blocks.problem, blocks.queries
        tall = even_rows(problem.outputs, blocks.most_rows)
        turned, result = (-(-size // step) * step * wide for size, step in
                          ((problem.size, blocks.lanes), (problem.outputs + blocks.lanes, tall)))  # fmt: skip
        packed = blocks.keys * blocks.width + blocks.rows
        sizes = (packed, packed, blocks.keys * wide, count * turned, count * result, count * wide, count * wide)
        return _Memory(*(k.private(size) for size in (*sizes, blocks.width)))


def forward(q: Array, key: Array, value: Array, *extras: Array, problem: Problem, machine: Machine) -> Sequence[Array]:
    """`out`, and of each query the largest score and the sum of the weights; operands as `Problem` says."""
    shapes = (problem.out_shape, problem.sums_shape, problem.sums_shape)
    outputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    arrays = (q, key, value, *kernel_extras(problem, extras, machine))
    return attend(*arrays, outputs=outputs, machine=machine, problem=problem)


@kernel
def attend(k: Kernel, q: Buffer, key: Buffer, value: Buffer, *rest: Buffer, problem: Problem) -> None:
    """`out`, and the `top` and `total` of each query, of the shapes that the problem says."""
    *extras, out, top, total = rest
    blocks = Blocks(problem, k.machine, floats_per_feature=2, floats_per_key=COLUMNS * k.lanes())
    count = _blocks_of_a_task(blocks)
    chunks = -(-blocks.query_blocks // count)
    memory = _Memory.of(k, blocks, count)
    with k.parallel(problem.batch * problem.heads * chunks) as f:
        batch, head = f.task // (chunks * problem.heads), f.task // chunks % problem.heads
        first = f.task % chunks * count
        place = _Place(f, blocks, memory, extras, batch, head, first, f.minimum(first + count, blocks.query_blocks))
        place.start(f[q])
        for first_key, keys in blocks.key_starts(f):
            place.pack(f[key], f[value], first_key, keys)
            for block in f.range(f.maximum(blocks.first_query_block(first_key), first), place.stop):
                place.attend(block, first_key, keys)
        place.finish(f[out], f[top], f[total])


def _blocks_of_a_task(blocks: Blocks) -> int:
    """How many blocks of queries a task has: the same for all, but for what is left to the last."""
    problem = blocks.problem
    wanted = max(blocks.query_blocks * problem.batch * problem.heads // TASKS, 1)
    tasks = -(-blocks.query_blocks // min(wanted, MOST_QUERY_BLOCKS))
    return -(-blocks.query_blocks // tasks)


@dataclass(frozen=True)
class _Place:
    """The work of one task: blocks `first` to `stop` of the queries of one head."""

    f: Work
    blocks: Blocks
    memory: _Memory
    extras: Sequence[Buffer]
    batch: Index
    head: Index
    first: Index
    stop: Index

    def start(self, q: Pointer) -> None:
        """Turns the queries, scaled, and sets up the state."""
        f, blocks, problem = self.f, self.blocks, self.blocks.problem
        stride = problem.heads * problem.size
        for block in f.range(self.first, self.stop):
            query = block * blocks.queries
            source = q + ((self.batch * problem.queries + query) * stride + self.head * problem.size)
            turned = self._state(self.memory.turned, block)
            turn_in(f, blocks, source, stride, problem.size, problem.queries - query, turned, problem.scale)
        fill(f, f[self.memory.top], self.memory.top.size, LOWEST)
        fill(f, f[self.memory.total], self.memory.total.size)
        fill(f, f[self.memory.result], self.memory.result.size)

    def pack(self, key: Pointer, value: Pointer, first: Index, count: Index) -> None:
        """Copies a block of keys and values."""
        problem = self.blocks.problem
        row = self.batch * problem.keys + first
        shared = self.head // problem.group
        memory = self.memory
        for source, size, target in ((key, problem.size, memory.keys), (value, problem.outputs, memory.values)):
            stride = problem.key_heads * size
            place = source + (row * stride + shared * size)
            pack_rows(self.f, self.blocks, place, stride, size, count, self.f[target])

    def attend(self, block: Index, first_key: Index, keys: Index) -> None:
        """Takes one block of keys into the state of one block of queries."""
        f, blocks, problem = self.f, self.blocks, self.blocks.problem
        query, scores = block * blocks.queries, f[self.memory.scores]
        count, rows = blocks.visible(f, query, first_key, keys)
        turned = self._state(self.memory.turned, block)
        keys_times(f, blocks, f[self.memory.keys], rows, turned, problem.size, scores)
        restriction = Restriction.of(f, problem, blocks.lanes, self.extras, self.batch, self.head, query)
        top, total = self._state(self.memory.top, block), self._state(self.memory.total, block)
        old = [top.load(v * blocks.lanes) for v in range(COLUMNS)]
        new = self._tops(Tile(old), restriction, first_key, count)
        sums = self._weights(new, count)
        factors = [exp(f, before - now) for before, now in zip(old, new, strict=True)]
        for v in range(COLUMNS):
            top.store(new[v], v * blocks.lanes)
            total.store(f.fma(total.load(v * blocks.lanes), factors[v], sums[v]), v * blocks.lanes)
        result = self._state(self.memory.result, block)
        sum_of_rows(f, blocks, f[self.memory.values], problem.outputs, scores, count, result, factors)

    def _tops(self, top: Tile, restriction: Restriction, first_key: Index, count: Index) -> list[Number]:
        """The largest score of each query, of those before and those of this block, which are restricted on the way."""
        f, blocks = self.f, self.blocks
        for row in f.range(count, carry=top):
            for v in range(COLUMNS):
                place = f[self.memory.scores] + (row * blocks.queries + v * blocks.lanes)
                score = place.load()
                if not restriction.is_none:
                    score = restriction.of_scores(score, first_key + row, v)
                    place.store(score)
                top[v] = f.maximum(score, top[v])
        return list(top.values)

    def _weights(self, top: list[Number], count: Index) -> list[Number]:
        """Puts weights in the place of scores, and gives their sums."""
        f, blocks = self.f, self.blocks
        sums = f.tile(1, COLUMNS)
        for row in f.range(count, carry=sums):
            for v in range(COLUMNS):
                place = f[self.memory.scores] + (row * blocks.queries + v * blocks.lanes)
                weight = exp(f, place.load() - top[v])
                place.store(weight)
                sums[v] = sums[v] + weight
        return list(sums.values)

    def finish(self, out: Pointer, top: Pointer, total: Pointer) -> None:
        """Divides the results by the sums, and writes them."""
        f, blocks, problem = self.f, self.blocks, self.blocks.problem
        stride = problem.heads * problem.outputs
        for block in f.range(self.first, self.stop):
            query = block * blocks.queries
            count = problem.queries - query
            row = (self.batch * problem.heads + self.head) * problem.queries + query
            sums, tops = self._state(self.memory.total, block), self._state(self.memory.top, block)
            inverses = []
            for v in range(COLUMNS):
                first = v * blocks.lanes
                divisor = f.select(sums.load(first) > 0.0, sums.load(first), 1.0)
                total.store(divisor, row + first, count - first)
                top.store(tops.load(first), row + first, count - first)
                inverses.append(1.0 / divisor)
            result = self._state(self.memory.result, block)
            for feature in f.range(problem.outputs):
                for v in range(COLUMNS):
                    place = result + (feature * blocks.queries + v * blocks.lanes)
                    place.store(place.load() * inverses[v])
            target = out + ((self.batch * problem.queries + query) * stride + self.head * problem.outputs)
            turn_out(f, blocks, result, problem.outputs, target, stride, count, f[self.memory.bin])

    def _state(self, buffer: Buffer, block: Index) -> Pointer:
        """The part of a buffer that belongs to a block of queries."""
        count = self.memory.top.size // self.blocks.queries
        return self.f[buffer] + (block - self.first) * (buffer.size // count)

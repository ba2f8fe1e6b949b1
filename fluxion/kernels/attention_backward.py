"""The gradient of attention, block by block (Dao et al. 2022): weights are computed again instead of kept.

With `p` the weights and `dout` what comes back,

    dv = p' dout         dp = dout v'         ds = p * (dp - delta),   delta = sum of dout * out for each query
    dk = scale ds' q     dq = scale ds k

One task has one head of the keys and every so many of its blocks; it goes through all queries of all heads that share
those keys. Sums over queries are rows of `dk` and `dv` in its own memory, sums over keys are added up in `dq`:

    for each block of keys:
        for each block of queries:                                       turned:  one query in each lane
            p  = exp(scale keys * queries - top) / total                 keys x queries
            ds = p * (values * dout - delta)                             keys x queries
            dv += p * dout,   dk += ds * queries                         keys x features
            dq += keys * ds                                              features x queries, turned back

Where heads are few, the blocks of a head are dealt out to several tasks: each then has a `dq` of its own, and a second
phase adds these up. How many there are depends on the shapes alone, and so does the order of every sum.
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
    TASKS,
    Blocks,
    Restriction,
    add_queries_times,
    even_rows,
    fill,
    kernel_extras,
    keys_times,
    pack_rows,
    routine,
    sum_of_rows,
    turn_in,
    turn_out,
)
from fluxion.kernels.builder import Function
from fluxion.kernels.generated import Buffer, Kernel, Work, kernel
from fluxion.kernels.machine import Machine
from fluxion.kernels.mathematics import exp
from fluxion.kernels.values import Index, Pointer


@dataclass(frozen=True)
class _Memory:
    """What a worker holds: a block of keys and values and their gradients, and what belongs to a block of queries."""

    keys: Buffer
    values: Buffer
    dkeys: Buffer
    dvalues: Buffer
    weights: Buffer
    dscores: Buffer
    q_rows: Buffer
    dout_rows: Buffer
    q_turned: Buffer
    dout_turned: Buffer
    out_turned: Buffer
    dq_turned: Buffer
    delta: Buffer
    bin: Buffer

    @staticmethod
    def of(k: Kernel, blocks: Blocks) -> _Memory:
        wide, tall = blocks.queries, even_rows(blocks.problem.size, blocks.most_rows)
        packed, scores = blocks.keys * blocks.width + blocks.rows, blocks.keys * wide
        rows, turned = (wide + blocks.rows) * blocks.width, blocks.width * wide
        result = (blocks.width + tall) * wide
        sizes = (packed,) * 4 + (scores,) * 2 + (rows,) * 2 + (turned,) * 3 + (result, wide, blocks.width)
        return _Memory(*(k.private(size) for size in sizes))


def backward(*operands: Array, problem: Problem, machine: Machine) -> Sequence[Array]:
    """`dq`, `dk` and `dv` from `q, k, v`, mask and bias, what `forward` gave, and `dout`."""
    extras = kernel_extras(problem, operands[3:-4], machine)
    outputs = [
        jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (problem.q_shape, problem.k_shape, problem.v_shape)
    ]
    arrays = (*operands[:3], *operands[-4:], *extras)
    return attend_backward(*arrays, outputs=outputs, machine=machine, problem=problem)


@kernel
def attend_backward(k: Kernel, *buffers: Buffer, problem: Problem) -> None:
    """`dq`, `dk` and `dv`, from `q, k, v, out, top, total, dout` and what restricts the scores."""
    (*operands, dq, dk, dv) = buffers
    blocks = Blocks(problem, k.machine, floats_per_feature=4, floats_per_key=2 * COLUMNS * k.lanes())
    memory, steps = _Memory.of(k, blocks), _Steps.of(k, blocks)
    heads = problem.batch * problem.key_heads
    splits = min(-(-TASKS // heads), blocks.key_blocks)
    parts = k.scratch(splits * dq.size) if splits > 1 else dq
    with k.parallel(heads * splits) as f:
        head, split = f.task // splits, f.task % splits
        place = _Place(f, blocks, steps, memory, operands, head // problem.key_heads, head % problem.key_heads)
        dq_part = f[parts] + split * dq.size
        if blocks.key_blocks > 1:
            place.clear(dq_part)
        for first_key, count in blocks.key_starts(f, split, splits):
            place.pack_keys(first_key, count)
            for number in f.range(problem.group):
                query_head = place.key_head * problem.group + number
                for block in f.range(blocks.first_query_block(first_key), blocks.query_blocks):
                    place.take_in(query_head, block * blocks.queries, first_key, count, dq_part)
            place.write(f[memory.dkeys], f[dk], problem.size, first_key, count)
            place.write(f[memory.dvalues], f[dv], problem.outputs, first_key, count)
    if splits > 1:
        _add_parts(k, parts, dq, splits)


def _add_parts(k: Kernel, parts: Buffer, total: Buffer, count: int) -> None:
    """A phase that adds up `count` arrays which lie one behind the other."""
    step = -(-total.size // (TASKS * k.lanes())) * k.lanes()
    with k.parallel(-(-total.size // step)) as f:
        start = f.task * step
        for place, lanes in f.vectors(start, f.minimum(start + step, total.size)):
            value = f[parts].load(place, lanes)
            for part in range(1, count):
                value = value + f[parts].load(part * total.size + place, lanes)
            f[total].store(value, place, lanes)


@dataclass(frozen=True)
class _Steps:
    """Those that are taken several times."""

    pack_rows: Function
    turn_in: Function
    keys_times: Function
    add_queries_times: Function

    @staticmethod
    def of(k: Kernel, blocks: Blocks) -> _Steps:
        move = ("float32*", "int64", "int64", "int64", "float32*", "float32")
        multiply = ("float32*", "int64", "float32*", "int64", "float32*")
        return _Steps(
            routine(k, blocks, pack_rows, *move),
            routine(k, blocks, turn_in, *move),
            routine(k, blocks, keys_times, *multiply),
            routine(k, blocks, add_queries_times, *multiply),
        )


@dataclass(frozen=True)
class _Place:
    """The work of one task: one head of the keys."""

    f: Work
    blocks: Blocks
    steps: _Steps
    memory: _Memory
    operands: Sequence[Buffer]
    batch: Index
    key_head: Index

    def clear(self, dq: Pointer) -> None:
        """Sets the gradient of all its queries to zero."""
        f, problem = self.f, self.blocks.problem
        for query in f.range(problem.queries):
            row = self._query_row(self.key_head * problem.group, query, problem.size)
            for place, lanes in f.vectors(problem.group * problem.size):
                dq.store(f.zero(), row + place, lanes)

    def pack_keys(self, first: Index, count: Index) -> None:
        """Copies a block of keys and values, and sets their gradients to zero."""
        f, memory, problem = self.f, self.memory, self.blocks.problem
        for number, size, target in ((1, problem.size, memory.keys), (2, problem.outputs, memory.values)):
            stride = problem.key_heads * size
            source = f[self.operands[number]] + self._key_row(first, size)
            f.call(self.steps.pack_rows, source, stride, size, count, f[target], f.constant(1.0, "float32"))
        for gradient in (memory.dkeys, memory.dvalues):
            fill(f, f[gradient], self.blocks.keys * self.blocks.width)

    def write(self, gradient: Pointer, target: Pointer, size: int, first: Index, count: Index) -> None:
        """Copies the gradient of a block of keys or values to where it belongs."""
        target = target + self._key_row(first, size)
        for row in self.f.range(count):
            for place, lanes in self.f.vectors(size):
                value = gradient.load(row * self.blocks.width + place)
                target.store(value, row * (self.blocks.problem.key_heads * size) + place, lanes)

    def take_in(self, head: Index, query: Index, first_key: Index, keys: Index, dq: Pointer) -> None:
        """Adds what one block of queries and one block of keys have to do with each other to all three gradients."""
        f, blocks, steps, memory, problem = self.f, self.blocks, self.steps, self.memory, self.blocks.problem
        queries = f.minimum(problem.queries - query, blocks.queries)
        count, rows = blocks.visible(f, query, first_key, keys)
        self._load_queries(head, query, queries)
        f.call(steps.keys_times, f[memory.keys], rows, f[memory.q_turned], problem.size, f[memory.weights])
        f.call(steps.keys_times, f[memory.values], rows, f[memory.dout_turned], problem.outputs, f[memory.dscores])
        self._differentiate(head, query, queries, first_key, f.minimum(rows, keys))
        f.call(steps.add_queries_times, f[memory.weights], rows, f[memory.dout_rows], queries, f[memory.dvalues])
        f.call(steps.add_queries_times, f[memory.dscores], rows, f[memory.q_rows], queries, f[memory.dkeys])
        sum_of_rows(f, blocks, f[memory.keys], problem.size, f[memory.dscores], count, f[memory.dq_turned])
        target = dq + self._query_row(head, query, problem.size)
        several = blocks.key_blocks > 1
        stride = problem.heads * problem.size
        turned = f[memory.dq_turned]
        turn_out(f, blocks, turned, problem.size, target, stride, queries, f[memory.bin], problem.scale, add=several)

    def _load_queries(self, head: Index, query: Index, count: Index) -> None:
        """Queries, scaled, and what comes back for them, as rows and turned; and `delta`."""
        f, blocks, memory, problem = self.f, self.blocks, self.memory, self.blocks.problem
        for number, size, scale, rows, turned in (
            (0, problem.size, problem.scale, memory.q_rows, memory.q_turned),
            (6, problem.outputs, 1.0, memory.dout_rows, memory.dout_turned),
            (3, problem.outputs, 1.0, None, memory.out_turned),
        ):
            source, stride = f[self.operands[number]] + self._query_row(head, query, size), problem.heads * size
            factor = f.constant(scale, "float32")
            f.call(self.steps.turn_in, source, stride, size, count, f[turned], factor)
            if rows is not None:
                f.call(self.steps.pack_rows, source, stride, size, count, f[rows], factor)
        delta = f.tile(1, COLUMNS)
        for feature in f.range(problem.outputs, carry=delta):
            for v in range(COLUMNS):
                place = feature * blocks.queries + v * blocks.lanes
                delta[v] = f.fma(f[memory.dout_turned].load(place), f[memory.out_turned].load(place), delta[v])
        for v in range(COLUMNS):
            f[memory.delta].store(delta[v], v * blocks.lanes)

    def _differentiate(self, head: Index, query: Index, queries: Index, first_key: Index, rows: Index) -> None:
        """Puts weights in the place of scores, and the gradient of the scores in that of the weights' gradient."""
        f, blocks, memory, problem = self.f, self.blocks, self.memory, self.blocks.problem
        _, _, _, _, tops, totals, _, *extras = self.operands
        restriction = Restriction.of(f, problem, blocks.lanes, extras, self.batch, head, query)
        start = (self.batch * problem.heads + head) * problem.queries + query
        columns = range(COLUMNS)
        top = [f[tops].load(start + v * blocks.lanes, queries - v * blocks.lanes) for v in columns]
        share = [1.0 / f[totals].load(start + v * blocks.lanes, queries - v * blocks.lanes) for v in columns]
        delta = [f[memory.delta].load(v * blocks.lanes) for v in columns]
        for row in f.range(rows):
            for v in columns:
                place = row * blocks.queries + v * blocks.lanes
                score = restriction.of_scores(f[memory.weights].load(place), first_key + row, v)
                weight = exp(f, score - top[v]) * share[v]
                change = weight * (f[memory.dscores].load(place) - delta[v])
                f[memory.weights].store(weight, place)
                f[memory.dscores].store(restriction.of_changes(score, change), place)

    def _query_row(self, head: Index, query: Index, size: int) -> Index:
        problem = self.blocks.problem
        return ((self.batch * problem.queries + query) * problem.heads + head) * size

    def _key_row(self, key: Index, size: int) -> Index:
        problem = self.blocks.problem
        return ((self.batch * problem.keys + key) * problem.key_heads + self.key_head) * size

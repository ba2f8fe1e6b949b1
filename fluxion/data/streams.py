"""Batches of streams: iterables without a length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from fluxion.data.errors import note
from fluxion.data.plan import Piece, Plan

Numbered = tuple[int, Any]


def is_stream(data: Any) -> bool:
    """Whether `data` can only be iterated; those of PyTorch may have a length, and an `[i]` that only raises."""
    indexed = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    named = any(base.__name__ == "IterableDataset" for base in type(data).__mro__)
    return hasattr(data, "__iter__") and (named or not indexed)


def numbered(stream: Iterable[Any]) -> Iterator[Numbered]:
    """The observations of a stream and their numbers, which an error of the stream names."""
    count = 0
    try:
        for observation in stream:
            count += 1
            yield count - 1, observation
    except Exception as error:
        note(error, f"while reading the stream, after {count} observations")
        raise


def shuffled_stream(observations: Iterator[Numbered], buffer: int, draws: np.random.Generator) -> Iterator[Numbered]:
    """The observations in random order: each new one takes the place of a random one of the `buffer` last ones.

    >>> found = list(shuffled_stream(enumerate("abcdef"), 3, np.random.default_rng(0)))
    >>> sorted(found) == list(enumerate("abcdef"))
    True
    """
    held: list[Numbered] = []
    for observation in observations:
        if len(held) < buffer:
            held.append(observation)
            continue
        place = int(draws.integers(buffer))
        held[place], observation = observation, held[place]
        yield observation
    for place in draws.permutation(len(held)).tolist():
        yield held[place]


def stream_pieces(observations: Iterator[Numbered], plan: Plan, start: int) -> Iterator[Piece]:
    """The parts of this process in the batches of a stream; those before number `start` are read and dropped."""
    held: list[Numbered] = []
    number = 0
    for observation in observations:
        held.append(observation)
        if len(held) == plan.batch_size:
            if number >= start:
                yield _piece(number, held, plan)
            held, number = [], number + 1
    plan.check_last(len(held))
    if held and plan.partial != "drop" and number >= start:
        yield _piece(number, held, plan)


def _piece(number: int, held: list[Numbered], plan: Plan) -> Piece:
    rows, valid = plan.rows(len(held))
    places = np.arange(len(held))[rows]
    chosen = [held[place] for place in places.tolist()]
    return Piece(number, np.array([index for index, _ in chosen], int), valid, [value for _, value in chosen])

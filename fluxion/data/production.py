"""How the batches of one epoch are made: by the thread that asks for them, or ahead of it by others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fluxion.data.keys import sample_keys
from fluxion.data.place import Placement
from fluxion.data.plan import Piece
from fluxion.data.reading import Reader, Skipped
from fluxion.data.threads import GRACE, OrderedThreads, end

Made = tuple[int, Any]


class Maker:
    """Makes the batches of one epoch, each of a piece of the plan; those that cannot be read go to `skipped`."""

    def __init__(
        self,
        reader: Reader,
        transform: Any,
        place: Placement,
        seed_and_epoch: tuple[int, int],
        skipped: dict[int, str],
        sharded: bool,
    ) -> None:
        self.reader, self.transform, self.place = reader, transform, place
        self.seed_and_epoch, self.skipped, self.sharded = seed_and_epoch, skipped, sharded

    def make(self, piece: Piece) -> Made:
        """The number of a batch and the batch; None in its place if none of its observations could be read."""
        if piece.observations is not None:
            return self.of_observations(piece, piece.observations)
        if not self.reader.batched:
            return self.of_observations(piece, self.reader.singly(piece.places))
        try:
            batch = self.reader.many(piece.index)
        except Exception:
            observations = self.reader.singly(piece.places)  # an error of a single one says which it is
            if not any(isinstance(observation, Skipped) for observation in observations):
                raise
            return self.of_observations(piece, observations)
        return self.finish(piece, batch)

    def of_observations(self, piece: Piece, observations: list[Any]) -> Made:
        read = np.array([not isinstance(observation, Skipped) for observation in observations])
        if not read.all():
            self.skipped |= {lost.index: str(lost.error) for lost in observations if isinstance(lost, Skipped)}
            if not read.any():
                if self.sharded:  # the other processes have a batch, and wait for this one's
                    raise observations[0].error
                return piece.number, None
            padded = piece.valid is not None
            rows = np.where(read, np.arange(len(read)), read.argmax()) if padded else np.flatnonzero(read)
            piece = Piece(piece.number, piece.places[rows], piece.valid & read if padded else None)
            observations = [observations[row] for row in rows.tolist()]
        return self.finish(piece, self.reader.assemble(observations))

    def finish(self, piece: Piece, batch: Any) -> Made:
        """Brings a batch to its place and transforms it there."""
        batch = self.place(batch)
        if hasattr(self.transform, "batch"):
            keys = sample_keys(*self.seed_and_epoch, piece.places)
            batch = self.transform.batch(batch, self.place(keys))
        elif self.transform is not None:
            batch = self.transform(batch)
        return piece.number, batch if piece.valid is None else _with_valid(batch, self.place(piece.valid))


def _with_valid(batch: Any, valid: Any) -> Any:
    if isinstance(batch, dict):
        if "valid" in batch:
            raise ValueError('partial="pad" adds a field "valid" to each batch, which has one already; rename it')
        return {**batch, "valid": valid}
    return (*batch, valid) if isinstance(batch, tuple) else (batch, valid)


class Production:
    """The batches that `maker` makes of `pieces`, in order; `close` ends the threads that make them.

    Without `workers`, the thread that asks makes `prefetch` batches ahead, of which the device may not be done with
    the first. With them, whole batches are made by several threads where one call reads a batch or a stream gives
    it; else they read chunks of observations, and one more thread makes batches of these.
    """

    def __init__(self, maker: Maker, pieces: Iterator[Piece], workers: int, prefetch: int) -> None:
        self.stages: list[OrderedThreads] = []
        self.made: Iterable[Made]
        if not workers:
            self.made = _ahead((maker.make(piece) for piece in pieces), prefetch)
        elif maker.reader.batched or maker.reader.streamed:
            self.made = self._threads(maker.make, pieces, workers, prefetch + workers)
        else:
            read = lambda chunk: (chunk[0], maker.reader.singly(chunk[1]))
            chunks = self._threads(read, _chunks(pieces, workers), workers, 4 * workers)
            make = lambda gathered: maker.of_observations(*gathered)
            self.made = self._threads(make, _gathered(chunks), 1, max(prefetch, 1))

    def _threads(self, function: Callable[[Any], Any], items: Iterable[Any], workers: int, ahead: int) -> Iterable[Any]:
        self.stages.append(OrderedThreads(function, items, workers, ahead))
        return self.stages[-1]

    def close(self, wait: bool) -> None:
        end(self.stages[::-1], GRACE if wait else 0.0)  # the threads of a stage start those of the one before it


def _ahead(made: Iterator[Made], count: int) -> Iterator[Made]:
    """The batches, each given when `count` more have been made; an error comes after the batches before it."""
    held: deque[Made] = deque()
    try:
        for batch in made:
            held.append(batch)
            if len(held) > count:
                yield held.popleft()
    except Exception:
        yield from held
        raise
    yield from held


def _chunks(pieces: Iterable[Piece], workers: int) -> Iterator[tuple[Piece, np.ndarray]]:
    """Places for one call of a thread each: two or more a thread in a batch, and no more than 16 places."""
    for piece in pieces:
        places = piece.places
        size = min(-(-len(places) // (2 * workers)), 16)
        yield from ((piece, places[start : start + size]) for start in range(0, len(places), size))


def _gathered(chunks: Iterable[tuple[Piece, list[Any]]]) -> Iterator[tuple[Piece, list[Any]]]:
    """Each piece with all its observations, which come in chunks."""
    observations: list[Any] = []
    for piece, chunk in chunks:
        observations += chunk
        if len(observations) == len(piece.places):
            yield piece, observations
            observations = []

"""Batches of any data, in order or shuffled, read ahead and brought to the device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fluxion.data.checks import whole_number
from fluxion.data.draws import host_rng
from fluxion.data.observations import is_array, is_in_memory, numobs, over_parts
from fluxion.data.place import Placement, check_fits, device_dtype, is_number
from fluxion.data.plan import Piece, Plan
from fluxion.data.production import Maker, Production
from fluxion.data.reading import Reader
from fluxion.data.streams import is_stream, numbered, shuffled_stream, stream_pieces
from fluxion.errors import SkippedWarning
from fluxion.kernels.machine import worker_count
from fluxion.onehot import OneHotArray
from fluxion.random import Generator, generator


class DataLoader:
    """Iterates over `data` in batches of `batch_size` observations (Flux: MLUtils `DataLoader`).

    data        an array (one observation per entry of the first axis), a table, a tuple or a dict of them, anything
                with a length and `[i]`, or a stream: an iterable without a length
    batch_size  observations in a batch, of all shards together
    shuffle     a new order each epoch; a stream is shuffled within a buffer of `buffer` observations
    partial     a last batch that is not full is given ("keep"), left out ("drop"), or filled up with repetitions
                ("pad"); then each batch has one field more, `valid`, false for repetitions: `(x, y, valid)`
    collate     makes a batch of a list of single observations, as `fx.data.pad_sequences` does of arrays of unequal
                length; `list` leaves them as they are
    transform   changes each batch: a function of it, or one of `fx.data.transforms`, which are compiled where the
                batches are and draw for each observation from a key made of seed, epoch and index
    seed        for orders and keys; without it, a number drawn from `rng`, or the default generator, at first use
    workers     threads that read; by default none for what is in memory, else as many as there are cores. Their `[i]`
                run at the same time. A stream is read by one thread
    prefetch    batches made ahead
    device      where the batches go: None for JAX's default device, a device, a sharding, or "host" for NumPy arrays
    shard       `(i, n)`: this is process `i` of `n`, which gets its part of each batch
    on_error    "raise", or "skip": observations that raise `CorruptFileError` are left out, collected in
                `loader.skipped` and reported by a `SkippedWarning` at the end of the epoch; not of streams

    A batch has the structure of the data. Arrays and tables are indexed once per batch; observations of other data are
    read one by one and stacked: arrays and numbers become arrays, tuples and dicts are stacked field by field, strings
    stay a list. `len` is the number of batches. The order of an epoch depends on seed and epoch alone. `state()` tells
    where the loader is, and after `restore(state)` it goes on there. Iterations that run at the same time do not
    disturb each other. An error in reading names index and file of the observation.

    Raises ValueError for parts of unequal length, no observations, or a batch size below 1, and TypeError for data
    that cannot be indexed or options of another type.

    >>> loader = DataLoader((np.arange(10).reshape(5, 2), np.arange(5)), batch_size=2)
    >>> len(loader)
    3
    >>> [y.tolist() for x, y in loader]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        data: Any,
        batch_size: int = 128,
        *,
        shuffle: bool = False,
        partial: str = "keep",
        collate: Callable[[list[Any]], Any] | None = None,
        transform: Any = None,
        seed: int | None = None,
        rng: Generator | None = None,
        workers: int | None = None,
        prefetch: int = 2,
        device: Any = None,
        shard: tuple[int, int] = (0, 1),
        buffer: int = 1024,
        on_error: str = "raise",
    ) -> None:
        self.plan = Plan(batch_size, partial, shard)
        self.place = Placement(device)
        if not isinstance(shuffle, (bool, np.bool_)):
            raise TypeError(f"shuffle= takes True or False, got {shuffle!r}")
        self.shuffle = bool(shuffle)
        self.prefetch = whole_number("prefetch", prefetch, least=0)
        self.buffer = whole_number("buffer", buffer, least=1)
        for name, function in (("collate", collate), ("transform", transform)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} takes a function, got {function!r}")
        self.transform = transform
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error= takes "raise" or "skip", got {on_error!r}')
        if on_error == "skip" and self.plan.shards > 1 and partial != "pad":
            raise ValueError('on_error="skip" takes partial="pad" with shards, whose batches would differ in size')
        self._seed = None if seed is None else whole_number("seed", seed, least=0)
        if rng is not None and seed is not None:
            raise TypeError("a DataLoader takes seed= or rng=, not both")
        self.rng = None if rng is None else generator(rng)
        stream = is_stream(data)
        if stream and on_error == "skip":
            raise ValueError('on_error="skip" needs data with a length and [i]: a stream ends where it raises an error')
        self.data = data if stream else over_parts(self._on_host, data)
        self.count = None if stream else numobs(self.data)
        if self.count is not None:
            self.plan.check(self.count)
        self.reader = Reader(self.data, collate, on_error == "skip", self.place.on_host)
        self.workers = self._default_workers() if workers is None else whole_number("workers", workers, least=0)
        self.skipped: dict[int, str] = {}
        self._next = self._position = (0, 0)  # epoch and batch
        self._begun = False

    @property
    def batch_size(self) -> int:
        return self.plan.batch_size

    @property
    def seed(self) -> int:
        """The seed of the orders and of the keys of `transform`."""
        if self._seed is None:
            self._seed = int(host_rng(self.rng).integers(2**63))
        return self._seed

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError("a DataLoader of a stream has no length")
        return self.plan.length(self.count)

    def __iter__(self) -> Iterator[Any]:
        # all is settled here, not at the first batch, so that it depends only on when the iteration was asked for
        (epoch, start), self._next = self._next, (self._next[0] + 1, 0)
        seed = self.seed if self.shuffle or self.transform is not None else 0
        sharded = self.plan.shards > 1
        maker = Maker(self.reader, self.transform, self.place.here(), (seed, epoch), self.skipped, sharded)
        return self._epoch(epoch, Production(maker, self._pieces(epoch, start), self.workers, self.prefetch))

    def state(self) -> dict[str, Any]:
        """Where the loader is, after the batch that it gave last: numbers and strings, for JSON or `fx.save`.

        >>> loader = DataLoader(np.arange(6), batch_size=2, shuffle=True, seed=0)
        >>> batches = iter(loader)
        >>> first = next(batches)
        >>> again = DataLoader(np.arange(6), batch_size=2, shuffle=True)
        >>> again.restore(loader.state())
        >>> [batch.tolist() for batch in again] == [batch.tolist() for batch in batches]
        True
        """
        epoch, batch = self._position
        return {"seed": self.seed, "epoch": epoch, "batch": batch, **self._kind()}

    def restore(self, state: dict[str, Any]) -> None:
        """Lets the next iteration go on where a loader was when its `state()` was this.

        Raises ValueError where that loader had other batches: data of another length, another batch size or options.
        The number of shards may be another.
        """
        kind = self._kind()
        missing = {"seed", "epoch", "batch", *kind} - set(state)
        if missing:
            raise ValueError(f"a state of a DataLoader has {sorted(missing)} as well, got {state!r}")
        other = [f"{name}={state[name]!r}, not {value!r}" for name, value in kind.items() if state[name] != value]
        if other:
            raise ValueError(f"the state is that of a loader of other batches: {', '.join(other)}")
        self._seed = int(state["seed"])
        self._next = self._position = (int(state["epoch"]), int(state["batch"]))

    def _kind(self) -> dict[str, Any]:
        """What decides on the batches besides seed and epoch."""
        kind = {
            "count": self.count,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "partial": self.plan.partial,
        }
        return kind | {"buffer": self.buffer} if self.count is None and self.shuffle else kind

    def _pieces(self, epoch: int, start: int) -> Iterator[Piece]:
        draws = np.random.default_rng([self.seed, epoch]) if self.shuffle else None
        if self.count is not None:
            return self.plan.pieces(self.count, draws.permutation(self.count) if draws else None, start)
        begun, self._begun = self._begun, True
        if begun and iter(self.data) is self.data:
            raise ValueError(
                "the stream is an iterator, which is used up after one epoch; pass an object whose __iter__ starts anew"
            )
        observations = numbered(self.data)
        return stream_pieces(
            shuffled_stream(observations, self.buffer, draws) if draws else observations, self.plan, start
        )

    def _epoch(self, epoch: int, production: Production) -> Iterator[Any]:
        known = len(self.skipped)
        wait = True
        try:
            for number, batch in production.made:
                self._position = (epoch, number + 1)
                if batch is not None:
                    yield batch
            self._position = (epoch + 1, 0)
        except KeyboardInterrupt:
            wait = False  # a thread may be in the middle of a long read
            raise
        finally:
            production.close(wait)
        if len(self.skipped) > known:
            index, message = list(self.skipped.items())[known]
            warnings.warn(
                f"{len(self.skipped) - known} of {self.count} observations could not be read and were left out, "
                f"the first of them observation {index}: {message}; loader.skipped has them all",
                SkippedWarning,
                stacklevel=2,
            )

    def _default_workers(self) -> int:
        if self.reader.streamed:
            return 1
        return 0 if is_in_memory(self.data) else worker_count()

    def _on_host(self, part: Any) -> Any:
        """Arrays as NumPy arrays, whose integers the device can hold."""
        if isinstance(part, OneHotArray):
            return OneHotArray(np.asarray(part.indices), part.count)
        if not is_array(part):
            return part
        if np.ma.is_masked(part):
            raise ValueError(
                "a masked array has missing values, which a batch would not show; fill them in: array.filled(0)"
            )
        array = np.asarray(part)
        if array.shape != tuple(part.shape):  # NumPy wraps what it does not know in an array of one object
            raise TypeError(
                f"NumPy makes no array of a {type(part).__name__} of shape {tuple(part.shape)}; "
                f"give an array, such as toarray() of a sparse one"
            )
        if not self.place.on_host and is_number(array.dtype) and device_dtype(array.dtype) != array.dtype:
            check_fits(array, device_dtype(array.dtype))
        return array

    def __repr__(self) -> str:
        size = "a stream" if self.count is None else f"{type(self.data).__name__} of {self.count:_} observations"
        defaults = {"partial": "keep", "device": None, "shard": (0, 1), "prefetch": 2}
        values = {
            "partial": self.plan.partial,
            "device": self.place.device,
            "shard": self.plan.of,
            "prefetch": self.prefetch,
        }
        options = f", batch_size={self.batch_size}" + (", shuffle=True" if self.shuffle else "")
        options += "".join(f", {name}={values[name]!r}" for name in defaults if values[name] != defaults[name])
        return f"DataLoader({size}{options})"

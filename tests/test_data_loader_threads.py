"""Loaders: what happens to errors in reading, and to threads."""

import dataclasses
import gc
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loading import Files, Squares, order, threads

import fluxion as fx
from fluxion.data import CorruptFileError, DataLoader, joinobs, mapobs, obsview
from fluxion.data.threads import OrderedThreads


@pytest.fixture(autouse=True)
def _no_thread_outlives_its_loader():
    yield
    assert not threads()


# ---- errors


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_names_observation_and_file(workers):
    data = (obsview(joinobs(Squares(3), mapobs(lambda v: v, Files(10, damaged={4}))), [1, 7, 0]), np.arange(3))
    with pytest.raises(CorruptFileError, match=r"^4\.jpg: it is empty") as caught:
        list(DataLoader(data, 2, workers=workers))
    assert caught.value.__notes__ == ["while reading observation 1, 4.jpg"]


@pytest.mark.parametrize("prefetch", [0, 2, 9])
@pytest.mark.parametrize("workers", [0, 3])
def test_the_batches_before_an_error_come_first(workers, prefetch):
    class Failing(Squares):
        def __getitem__(self, i):
            return super().__getitem__(i if i != 5 else 100)

    batches = iter(DataLoader(Failing(9), 2, workers=workers, prefetch=prefetch))
    assert [next(batches)[1].tolist() for _ in range(2)] == [[0, 1], [4, 9]]
    with pytest.raises(IndexError, match="100") as caught:
        next(batches)
    assert caught.value.__notes__ == ["while reading observation 5"]
    assert next(batches, None) is None


@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_read_is_skipped_and_reported(workers):
    damaged = {0, 1, 6}
    loader = DataLoader(Files(8, damaged), 2, on_error="skip", workers=workers)
    with pytest.warns(fx.SkippedWarning, match=r"3 of 8 observations .* observation 0: 0.jpg: it is empty") as caught:
        assert [y.tolist() for _, y in loader] == [[2, 3], [4, 5], [7]]
    assert caught[0].filename == __file__
    assert loader.skipped == {i: f"{i}.jpg: it is empty" for i in damaged}
    padded = DataLoader(Files(8, damaged), 2, on_error="skip", workers=workers, partial="pad")
    with pytest.warns(fx.SkippedWarning):
        assert [(y.tolist(), valid.tolist()) for _, y, valid in padded][-1] == ([7, 7], [False, True])


def test_shards_that_skip_have_as_many_batches_of_one_size():
    loaders = [DataLoader(Files(8, {0, 5}), 4, on_error="skip", partial="pad", shard=(i, 2)) for i in range(2)]
    with pytest.warns(fx.SkippedWarning):
        found = [[(y.tolist(), valid.tolist()) for _, y, valid in loader] for loader in loaders]
    assert found[0] == [([1, 1], [False, True]), ([4, 4], [True, False])]
    assert found[1] == [([2, 3], [True, True]), ([6, 7], [True, True])]
    with pytest.raises(CorruptFileError, match=r"4\.jpg"):
        list(DataLoader(Files(8, {4, 5}), 4, on_error="skip", partial="pad", shard=(0, 2)))
    with pytest.raises(ValueError, match='on_error="skip" takes partial="pad" with shards'):
        DataLoader(Files(8), 4, on_error="skip", shard=(0, 2))


def test_threads_are_for_what_is_not_in_memory():
    batches = lambda data: mapobs(lambda batch: batch, data, batched=True)
    for data, workers in (
        (np.arange(4), False),
        ((np.arange(4), list("abcd")), False),
        (Files(4), True),
        (obsview(Files(4), [1, 2]), True),
        (mapobs(str, np.arange(4)), True),
        (batches(np.arange(4)), False),
        (batches(Files(4)), True),
    ):
        assert bool(DataLoader(data, 2).workers) == workers
    assert not DataLoader(np.arange(4), 2, collate=list).workers


def test_only_damaged_files_are_skipped():
    with pytest.raises(ZeroDivisionError) as caught:
        list(DataLoader(mapobs(lambda i: 1 // i, range(3)), 1, on_error="skip"))
    assert caught.value.__notes__ == ["while reading observation 0"]


def test_errors_of_making_a_batch_come_through_threads():
    with pytest.raises(ValueError, match=r"observations 0 and 1 of a batch have different shapes, \(0,\) and \(1,\)"):
        list(DataLoader(mapobs(np.zeros, range(3)), 3, workers=2))
    with pytest.raises(RuntimeError, match="no such batch"):
        list(DataLoader(np.arange(3), transform=lambda batch: _raise(RuntimeError("no such batch")), workers=1))


def _raise(error):
    raise error


@pytest.mark.parametrize("workers", [0, 2])
def test_an_end_of_iteration_in_reading_is_an_error_and_no_end(workers):
    failing = mapobs(lambda i: _raise(StopIteration("none left")) if i == 5 else i, range(8))
    with pytest.raises(RuntimeError, match="raised StopIteration") as caught:
        list(DataLoader(failing, 2, workers=workers))
    assert caught.value.__cause__.__notes__ == ["while reading observation 5"]
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        list(DataLoader(range(8), 2, transform=lambda batch: _raise(StopIteration), workers=workers))


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int


class Noted(Exception):
    __notes__ = ()


@pytest.mark.parametrize("error", [FrozenError(3), Noted("no list")])
def test_errors_that_refuse_notes_come_through_with_them(error):
    with pytest.raises(type(error)) as caught:
        list(DataLoader(mapobs(lambda i: _raise(error), range(3)), workers=0))
    assert caught.value is error and error.__notes__ == ["while reading observation 0"]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_reads_whole_batches_names_and_skips_observations_too(workers):
    def data(count=8):
        return mapobs(lambda batch: batch, Files(count, damaged={5}), batched=True)

    with pytest.raises(CorruptFileError, match=r"^5\.jpg") as caught:
        list(DataLoader(data(), 3, shuffle=True, workers=workers))
    assert caught.value.__notes__ == ["while reading observation 5, 5.jpg"]
    with pytest.warns(fx.SkippedWarning, match="1 of 8 observations"):
        assert order(y for _, y in DataLoader(data(), 3, on_error="skip", workers=workers)) == [0, 1, 2, 3, 4, 6, 7]
    with pytest.raises(ValueError, match="three at once") as caught:
        list(
            DataLoader(
                mapobs(lambda v: v if len(v) < 3 else _raise(ValueError("three at once")), range(8), batched=True), 3
            )
        )
    assert not hasattr(caught.value, "__notes__")


def test_nothing_is_said_where_nothing_is_skipped():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(DataLoader(Files(4), 2, on_error="skip"))) == 2


# ---- threads


def test_threads_read_at_the_same_time_and_not_too_far_ahead():
    read = []

    class Watched(Files):
        def one(self, i):
            read.append(i)
            return super().one(i)

    loader = DataLoader(Watched(400, seconds=0.001), 10, workers=4, prefetch=2)
    batches = iter(loader)
    assert not read and not threads()
    next(batches)
    assert len(threads()) == 5
    time.sleep(0.3)
    assert 10 < len(read) <= 120
    del batches
    assert not threads()


def test_threads_end_with_the_loop():
    for _ in DataLoader(Files(50, seconds=0.001), 2, workers=3):
        break
    assert not threads()
    with pytest.raises(KeyError):
        for _ in DataLoader(Files(50, seconds=0.001), 2, workers=3):
            raise KeyError
    assert not threads()


def test_an_iteration_that_is_collected_by_one_of_its_threads():
    dropped = threading.Event()

    class Collecting(Files):
        def one(self, i):
            if i == 8:
                assert dropped.wait(10)
                gc.collect()
            return super().one(i)

    holder = [iter(DataLoader(Collecting(1000, seconds=0.001), 2, workers=3))]
    holder.append(holder)
    next(holder[0])
    del holder
    dropped.set()
    while threads():  # an error there would be one of this test
        time.sleep(0.01)


def test_all_threads_together_have_the_time_of_one_to_end(monkeypatch):
    deadlines = []
    monkeypatch.setattr(OrderedThreads, "join", lambda self, deadline: deadlines.append(deadline))
    next(iter(DataLoader(Files(50), 2, workers=3)))
    assert len(deadlines) == 2 and len(set(deadlines)) == 1
    while threads():
        time.sleep(0.01)


def test_an_error_holds_nothing_back():
    class Failing(Files):
        def one(self, i):
            raise KeyError(i)

    data = Failing(5)
    gone = weakref.ref(data)
    with pytest.raises(KeyError):
        list(DataLoader(data, 2, workers=2))
    gc.disable()
    try:
        del data
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("workers", [0, 2])
def test_settings_of_jax_hold_in_the_threads(workers):
    device = jax.devices()[0]
    loader = DataLoader(mapobs(np.float64, range(4)), 2, workers=workers, transform=lambda x: (x, jnp.zeros(1)))
    with jax.enable_x64(True), jax.default_device(device):
        x, made = next(iter(loader))
    assert x.dtype == made.dtype == np.float64 and made.devices() == {device}


def test_no_thread_outlives_python():
    program = """
        import atexit, threading
        atexit.register(lambda: print([t.name for t in threading.enumerate() if t.name == "fluxion-data"]))
        import fluxion as fx
        batches = iter(fx.DataLoader(fx.data.mapobs(lambda i: i, range(10**9)), 2, workers=2))
        next(batches)
    """
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert output.returncode == 0 and output.stdout == "[]\n", output.stderr


def test_ctrl_c_stops_at_once():
    program = """
        import os, time
        import fluxion as fx
        class Slow(fx.data.Observations):
            made_by = "Slow"
            def __len__(self): return 10
            def one(self, i):
                os.write(1, b"reading\\n")  # in one piece, for two threads do it
                time.sleep(60)
        try:
            next(iter(fx.DataLoader(Slow(), 2, workers=2)))
        except KeyboardInterrupt:
            print("stopped", flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "reading\n"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert "stopped" in output and process.returncode == 0, errors

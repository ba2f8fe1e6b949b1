"""Batches: their order, their place, shards, streams, and going on after a break."""

import json
import os
import pathlib
import socket
import subprocess
import sys
from collections import Counter, namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loading import Counting, Files, Squares, order, threads

import fluxion as fx
from fluxion.data import DataLoader, mapobs
from fluxion.data.buffers import aligned_empty
from fluxion.random import Generator, default_generator

Pair = namedtuple("Pair", "x y")


@pytest.fixture(autouse=True)
def _no_thread_outlives_its_loader():
    yield
    assert not threads()


# ---- batches


def test_arrays_give_arrays_of_the_same_type_on_the_device():
    x = np.arange(20, dtype=np.float16).reshape(10, 2)
    batches = list(DataLoader(x, batch_size=4))
    assert [b.shape for b in batches] == [(4, 2), (4, 2), (2, 2)]
    assert all(isinstance(b, jax.Array) and b.dtype == np.float16 and not b.committed for b in batches)
    np.testing.assert_array_equal(np.concatenate(batches), x)


def test_structures_keep_their_structure():
    data = {"pair": Pair(np.arange(6), np.arange(6) * 2), "more": (np.zeros((6, 3)), list("abcdef"))}
    batch = next(iter(DataLoader(data, batch_size=4)))
    assert isinstance(batch["pair"], Pair)
    np.testing.assert_array_equal(batch["pair"].y, [0, 2, 4, 6])
    assert batch["more"][0].shape == (4, 3)
    assert batch["more"][1] == list("abcd")


def test_parts_of_a_shuffled_batch_belong_together():
    for x, y, text in DataLoader((np.arange(50), jnp.arange(50), [str(i) for i in range(50)]), 7, shuffle=True):
        np.testing.assert_array_equal(x, y)
        assert [str(i) for i in x] == text


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_stay_as_they_are_when_the_data_changes(shuffle):
    x = np.ones((64, 16), np.float32)
    batches = list(DataLoader(x, 16, shuffle=shuffle))
    x[:] = 7
    assert all((batch == 1).all() for batch in batches)


@pytest.mark.parametrize("as_what", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_batches_stay_as_they_are_when_functions_use_their_memory_again(as_what):
    memory = aligned_empty((4, 64), np.float32)

    def fill(batch):
        memory[:] = batch[0]
        return as_what(memory)

    numbers = np.arange(8)
    for loader in (DataLoader(mapobs(fill, numbers, batched=True), 4), DataLoader(numbers, 4, collate=fill)):
        assert [np.unique(batch).tolist() for batch in list(loader)] == [[0], [4]]


def test_batches_on_the_host_are_numpy_arrays_and_views_where_in_order():
    x = np.zeros((8, 3), np.float64)
    batches = list(DataLoader((x, jnp.arange(8)), batch_size=3, device="host"))
    assert all(np.shares_memory(batch, x) and batch.dtype == np.float64 for batch, _ in batches)
    assert all(type(y) is np.ndarray for _, y in batches)


def test_what_functions_make_is_numpy_on_the_host_too():
    made = mapobs(lambda x: {"x": jnp.sin(x)}, np.ones(4), batched=True)
    assert type(next(iter(DataLoader(made, 2, device="host")))["x"]) is np.ndarray


def test_batches_go_where_they_are_told_to():
    device = jax.devices()[0]
    x = next(iter(DataLoader(np.arange(4), 4, device=device)))
    assert x.devices() == {device} and x.committed
    sharding = jax.sharding.NamedSharding(jax.make_mesh((1,), ("data",)), jax.sharding.PartitionSpec("data"))
    assert next(iter(DataLoader(np.arange(4), 4, device=sharding))).sharding == sharding
    with jax.default_device(device):
        assert next(iter(DataLoader(np.arange(4), 4, workers=1))).devices() == {device}


def test_what_a_device_cannot_hold_stays_on_the_host():
    data = (
        np.array(["a", "b"]),
        np.array(["2020-01-01", "2020-01-02"], "datetime64[D]"),
        [None, None],
        np.array([1, 2]),
    )
    text, date, nothing, number = next(iter(DataLoader(data, 2)))
    assert type(text) is np.ndarray and type(date) is np.ndarray and nothing == [None, None]
    assert isinstance(number, jax.Array)


def test_wide_numbers_become_those_of_the_device():
    x, y = next(iter(DataLoader((np.arange(4.0), np.arange(4)), 4, shuffle=True)))
    assert x.dtype == jnp.float32 and y.dtype == jnp.int32
    with jax.enable_x64(True):
        x, y = next(iter(DataLoader((np.arange(4.0), np.arange(4)), 4, shuffle=True)))
        assert x.dtype == jnp.float64 and y.dtype == jnp.int64
    large = np.array([1, 2**40])
    with pytest.raises(ValueError, match="integers from 1 to 1099511627776 of int64 do not fit into int32"):
        DataLoader(large)
    with pytest.raises(ValueError, match='number them from 0 on, give device="host"'):
        list(DataLoader([1, 2**40], 2))
    assert order(DataLoader(large, device="host")) == [1, 2**40]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("dtype", [">f4", ">i4", ">f8", ">u2"])
def test_numbers_in_the_byte_order_of_another_machine(dtype, shuffle):
    x = np.arange(200.0).reshape(4, 50).astype(dtype)
    assert sorted(order(DataLoader(x, 3, shuffle=shuffle))) == x.tolist()
    assert order(DataLoader(mapobs(lambda row: row, x), 3)) == x.tolist()


def test_one_hot_labels_stay_one_hot():
    labels = fx.onehotbatch(jnp.arange(10) % 3, range(3))
    for batch in DataLoader(labels, batch_size=4, shuffle=True):
        assert type(batch) is type(labels) and isinstance(batch.indices, jax.Array)
        assert batch.shape[1] == 3


def test_items_of_other_containers_are_stacked():
    batches = list(DataLoader(Squares(5), batch_size=2))
    assert [x.shape for x, _ in batches] == [(2, 2), (2, 2), (1, 2)]
    np.testing.assert_array_equal(batches[1][1], [4, 9])
    shuffled = list(DataLoader(Squares(5), batch_size=2, shuffle=True))
    assert sorted(np.concatenate([y for _, y in shuffled]).tolist()) == [0, 1, 4, 9, 16]


def test_lists_of_numbers_and_ranges():
    x, y = next(iter(DataLoader(([[0.0, 1.0], [2.0, 3.0]], range(2)))))
    assert x.dtype == np.float32
    assert x.tolist() == [[0, 1], [2, 3]]
    assert y.tolist() == [0, 1]


@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 70),
    shuffle=st.booleans(),
    partial=st.sampled_from(["keep", "drop", "pad"]),
    workers=st.integers(0, 2),
    lazy=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_observation_comes_once(count, batch_size, shuffle, partial, workers, lazy):
    if partial == "drop" and batch_size > count:
        return
    data = mapobs(lambda i: i, np.arange(count)) if lazy else np.arange(count)
    loader = DataLoader(data, batch_size, shuffle=shuffle, partial=partial, workers=workers)
    batches = list(loader)
    assert len(batches) == len(loader)
    if partial == "pad":
        assert all(len(batch) == len(valid) == batch_size for batch, valid in batches)
        batches = [batch[valid] for batch, valid in batches]
    assert all(len(batch) == batch_size for batch in batches[: len(batches) if partial == "drop" else -1])
    seen = np.concatenate(batches)
    assert len(set(seen.tolist())) == len(seen) == (count - count % batch_size if partial == "drop" else count)


def test_a_padded_batch_says_what_is_valid():
    batches = list(DataLoader((np.arange(5), list("abcde")), 3, partial="pad"))
    assert [len(batch) for batch in batches] == [3, 3]
    x, text, valid = batches[1]
    assert valid.tolist() == [True, True, False] and x.tolist() == [3, 4, 3] and text == ["d", "e", "d"]
    batch = next(iter(DataLoader({"x": np.arange(2)}, 4, partial="pad")))
    assert batch["valid"].tolist() == [True, True, False, False]
    with pytest.raises(ValueError, match='adds a field "valid" to each batch, which has one already'):
        list(DataLoader({"valid": np.arange(2)}, 4, partial="pad"))


# ---- order


def test_the_order_depends_on_seed_and_epoch_alone():
    def orders(workers, seed=3, data=None):
        loader = DataLoader(np.arange(100) if data is None else data, 10, shuffle=True, seed=seed, workers=workers)
        return [order(loader), order(loader)]

    first, second = orders(0)
    assert first != second and sorted(first) == sorted(second) == list(range(100))
    assert orders(1) == orders(3) == orders(0, data=mapobs(lambda i: i, np.arange(100))) == [first, second]
    assert orders(5, data=mapobs(lambda i: i, np.arange(100))) == [first, second]
    assert orders(0, seed=4) != [first, second]


def test_without_a_seed_the_default_generator_gives_one_at_first_use():
    def orders():
        loader = DataLoader(np.arange(100), batch_size=10, shuffle=True)
        return [order(loader), order(loader)]

    fx.seed(3)
    first = orders()
    fx.seed(3)
    assert orders() == first
    fx.seed(4)
    assert orders() != first
    with default_generator(Generator(3)):
        assert orders() == first


def test_a_loader_in_order_draws_nothing():
    fx.seed(0)
    before = fx.random.generator().uniform()
    fx.seed(0)
    list(DataLoader(np.arange(4)))
    assert fx.random.generator().uniform() == before


def test_a_generator_of_its_own():
    def orders():
        loader = DataLoader(np.arange(100), 10, shuffle=True, rng=Generator(1))
        return [order(loader), order(loader)]

    assert orders() == orders()


def test_iterations_at_the_same_time_do_not_disturb_each_other():
    def loader(workers):
        return DataLoader(np.arange(40), batch_size=8, shuffle=True, seed=0, workers=workers)

    alone = loader(0)
    alone = [order(alone), order(alone)]
    for workers in (0, 2):
        both = loader(workers)
        pairs = list(zip(both, both, strict=True))
        together = [np.concatenate([pair[k] for pair in pairs]).tolist() for k in (0, 1)]
        assert together == alone and together[0] != together[1]


def test_the_order_is_every_permutation():
    loader = DataLoader(np.arange(3), batch_size=3, shuffle=True, device="host")
    counts = Counter(tuple(order(loader)) for _ in range(600))
    assert len(counts) == 6
    assert min(counts.values()) > 60


# ---- going on after a break


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("data", [np.arange(23), Files(23), Counting(23)], ids=["array", "files", "stream"])
def test_a_restored_loader_goes_on_in_the_middle(data, shuffle):
    def loader(**options):
        return DataLoader(data, 4, shuffle=shuffle, buffer=8, **options)

    def values(batches):
        return [jax.tree.map(np.ndarray.tolist, jax.tree.map(np.asarray, batch)) for batch in batches]

    one = loader(seed=5)
    first = iter(one)
    for _ in range(6):
        next(first)
    assert next(first, None) is None
    second = iter(one)
    next(second), next(second)
    state = json.loads(json.dumps(one.state()))
    assert state["epoch"] == 1 and state["batch"] == 2
    rest = values(second)
    again = loader()
    again.restore(state)
    assert again.state() == state
    assert values(again) == rest and len(rest) == 4
    assert values(again) == values(one) and again.state()["epoch"] == 3


def test_a_state_of_other_batches_is_refused():
    state = DataLoader(np.arange(10), 2, shuffle=True, seed=1).state()
    assert state == {
        "seed": 1,
        "epoch": 0,
        "batch": 0,
        "count": 10,
        "batch_size": 2,
        "shuffle": True,
        "partial": "keep",
    }
    with pytest.raises(ValueError, match=r"loader of other batches: count=10, not 12, batch_size=2, not 3$"):
        DataLoader(np.arange(12), 3, shuffle=True).restore(state)
    with pytest.raises(ValueError, match=r"a state of a DataLoader has \['epoch', 'seed'\] as well"):
        DataLoader(np.arange(10), 2, shuffle=True).restore({**DataLoader(np.arange(10), 2)._kind(), "batch": 1})
    DataLoader(np.arange(10), 2, shuffle=True, shard=(1, 2), workers=2).restore(state)


# ---- shards


@given(
    count=st.integers(8, 60),
    shards=st.integers(1, 4),
    share=st.integers(1, 4),
    partial=st.sampled_from(["keep", "drop", "pad"]),
)
@settings(max_examples=40, deadline=None)
def test_shards_together_are_the_whole(count, shards, share, partial):
    size = shards * share
    if (partial == "drop" and count < size) or (partial == "keep" and 0 < count % size < shards):
        return

    def loaders(n):
        return [
            DataLoader(np.arange(count), size, shuffle=True, seed=2, partial=partial, shard=(i, n)) for i in range(n)
        ]

    (whole,) = loaders(1)
    parts = loaders(shards)
    assert {len(part) for part in parts} == {len(whole)}
    for batch, *pieces in zip(whole, *parts, strict=True):
        if partial == "pad":
            assert {len(piece[0]) for piece in pieces} == {share}
            np.testing.assert_array_equal(np.concatenate([piece[1] for piece in pieces]), batch[1])
            batch, pieces = batch[0], [piece[0] for piece in pieces]
        np.testing.assert_array_equal(np.concatenate(pieces), batch)


@pytest.mark.parametrize("shard", [0, 1])
def test_a_stream_whose_last_batch_leaves_a_shard_empty_says_so_to_all_of_them(shard):
    batches = iter(DataLoader(Counting(9), 4, shard=(shard, 2)))
    next(batches), next(batches)
    with pytest.raises(ValueError, match="the last batch has 1 observations for 2 shards"):
        next(batches)
    assert len(list(DataLoader(Counting(9), 4, shard=(shard, 2), partial="drop"))) == 2


def test_shards_of_a_stream():
    parts = [list(DataLoader(Counting(11), 4, shuffle=True, seed=0, buffer=3, shard=(i, 2))) for i in range(2)]
    assert [len(batch) for batch in parts[0]] == [2, 2, 1] and [len(batch) for batch in parts[1]] == [2, 2, 2]
    assert sorted(np.concatenate(parts[0] + parts[1]).tolist()) == list(range(11))


# ---- streams


@pytest.mark.parametrize("workers", [0, None])
def test_streams_are_cut_into_batches(workers):
    loader = DataLoader(((i, str(i)) for i in range(5)), 2, workers=workers)
    assert [(x.tolist(), text) for x, text in loader] == [([0, 1], ["0", "1"]), ([2, 3], ["2", "3"]), ([4], ["4"])]
    with pytest.raises(ValueError, match="the stream is an iterator, which is used up after one epoch"):
        iter(loader)
    with pytest.raises(TypeError, match="a DataLoader of a stream has no length"):
        len(loader)
    assert repr(loader) == "DataLoader(a stream, batch_size=2)"
    assert order(DataLoader(Counting(5), 2, partial="drop")) == [0, 1, 2, 3]
    assert list(DataLoader(Counting(0), 2)) == []


def test_an_iterator_can_be_used_once_whatever_the_epoch():
    first = DataLoader(iter(range(6)), 2)
    list(first)
    again = DataLoader(iter(range(6)), 2)
    again.restore(first.state())
    assert first.state()["epoch"] == 1 and order(again) == list(range(6))
    used = DataLoader(iter(range(6)), 2)
    next(iter(used))
    used.restore({**used.state(), "epoch": 0})
    with pytest.raises(ValueError, match="the stream is an iterator, which is used up"):
        iter(used)


def test_a_shuffle_buffer_mixes_near_observations():
    loader = DataLoader(Counting(1000), 10, shuffle=True, buffer=50, seed=0)
    first, second = order(loader), order(loader)
    assert first != second and sorted(first) == sorted(second) == list(range(1000))
    assert max(i - place for place, i in enumerate(first)) <= 50  # none comes before it was read
    assert np.abs(np.diff(first)).mean() > 20


def test_an_error_of_a_stream_says_how_far_it_was():
    def stream():
        yield from range(3)
        raise OSError("the line is dead")

    with pytest.raises(OSError, match="the line is dead") as caught:
        list(DataLoader(stream(), 2))
    assert caught.value.__notes__ == ["while reading the stream, after 3 observations"]


# ---- transforms


class Keyed:
    """What the loader takes for a transform: `batch` gets keys."""

    def __call__(self):
        raise AssertionError("transforms get keys")

    def batch(self, batch, keys):
        return batch, keys


@pytest.mark.parametrize("device", [None, "host"])
def test_the_key_of_an_observation_depends_on_seed_epoch_and_index_alone(device):
    def keys(epochs=2, data=None, **options):
        data = np.arange(20) if data is None else data
        loader = DataLoader(data, transform=Keyed(), device=device, seed=options.pop("seed", 0), **options)
        return [{int(i): tuple(key.tolist()) for x, k in loader for i, key in zip(x, k, strict=True)} for _ in "ab"]

    first, second = expected = keys(batch_size=20)
    assert len(set(first.values()) | set(second.values())) == 40
    assert keys(batch_size=7, shuffle=True) == keys(batch_size=3, workers=2, shuffle=True) == expected
    assert keys(batch_size=7, shuffle=True, data=mapobs(lambda i: i, np.arange(20)), workers=3) == expected
    assert keys(batch_size=7, data=Counting(20), shuffle=True, buffer=4) == expected
    assert keys(batch_size=20, seed=1) != expected


def test_a_function_transforms_whole_batches():
    loader = DataLoader((np.arange(6), np.arange(6)), 4, transform=lambda batch: (batch[0] * 2, batch[1]))
    assert [x.tolist() for x, _ in loader] == [[0, 2, 4, 6], [8, 10]]


# ---- options


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((np.zeros(3), np.zeros(4)), ValueError, r"data\[0\] has 3, data\[1\] has 4"),
        ({"x": np.zeros(3), "y": (np.zeros(2),)}, ValueError, r"data\['x'\] has 3, data\['y'\]\[0\] has 2"),
        (np.zeros((0, 3)), ValueError, "holds no observations"),
        ([], ValueError, "holds no observations"),
        ((), ValueError, "data is an empty tuple"),
        ({}, ValueError, "data is an empty dict"),
        (np.ma.masked_equal([1, 2, 3], 2), ValueError, r"a masked array has missing values, .* array.filled\(0\)"),
        (scipy.sparse.csr_matrix(np.eye(3)), TypeError, r"no array of a csr_matrix of shape \(3, 3\); .* toarray\(\)"),
        (np.zeros(()), TypeError, r"data is a single number \(an array of shape \(\)\)"),
        (3, TypeError, "data needs a length and .i. to take observations from, got int"),
        ((np.zeros(3), {1, 2, 3}), TypeError, r"data\[1\] needs a length and .i. to take observations from, got set"),
    ],
)
def test_data_that_cannot_be_loaded(data, error, message):
    with pytest.raises(error, match=message):
        DataLoader(data)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"batch_size": -1}, ValueError, "batch_size must be at least 1, got -1"),
        ({"batch_size": 2.0}, TypeError, "batch_size is a whole number, got 2.0 of type float"),
        ({"batch_size": True}, TypeError, "batch_size is a whole number, got True of type bool"),
        ({"rng": 3}, TypeError, "rng= takes a fluxion.random.Generator, got int"),
        ({"rng": Generator(0), "seed": 0}, TypeError, "takes seed= or rng=, not both"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"batch_size": 11, "partial": "drop"}, ValueError, "with 10 observations and batch_size=11 leaves no batch"),
        ({"partial": False}, ValueError, 'partial= takes "keep", "drop" or "pad" .* got False'),
        ({"workers": -1}, ValueError, "workers must be at least 0, got -1"),
        ({"prefetch": -1}, ValueError, "prefetch must be at least 0, got -1"),
        ({"buffer": 0}, ValueError, "buffer must be at least 1, got 0"),
        ({"device": "gpu"}, TypeError, "device= takes None for the default one, .* got 'gpu'"),
        ({"shard": 2}, TypeError, r"shard= takes \(number of this process, number of processes\), got 2"),
        ({"shard": (2, 2)}, ValueError, "the number of this shard must be from 0 to 1, got 2"),
        ({"shard": (0, 3)}, ValueError, "batch_size=128 is the size of the batches of all 3 shards together"),
        ({"shard": (0, 4), "batch_size": 8}, ValueError, "the last batch has 2 observations for 4 shards"),
        ({"shuffle": "no"}, TypeError, "shuffle= takes True or False, got 'no'"),
        ({"on_error": "ignore"}, ValueError, 'on_error= takes "raise" or "skip", got \'ignore\''),
        ({"collate": 3}, TypeError, "collate takes a function, got 3"),
        ({"transform": "flip"}, TypeError, "transform takes a function, got 'flip'"),
    ],
)
def test_options_that_make_no_sense(options, error, message):
    with pytest.raises(error, match=message):
        DataLoader(np.zeros(10), **options)


def test_a_stream_cannot_skip():
    with pytest.raises(ValueError, match=r'on_error="skip" needs data with a length and \[i\]'):
        DataLoader(Counting(3), on_error="skip")


def test_repr():
    loader = DataLoader((np.zeros(2000), np.zeros(2000)), batch_size=32, shuffle=True, partial="drop", device="host")
    assert repr(loader) == (
        "DataLoader(tuple of 2_000 observations, batch_size=32, shuffle=True, partial='drop', device='host')"
    )


def test_two_processes_with_two_devices_each_get_what_one_would():
    script = pathlib.Path(__file__).parent / "programs" / "sharded_loader.py"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    changes = {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(script.parents[2]), os.environ.get("PYTHONPATH", "")]),
    }
    commands = [[sys.executable, str(script), port, number] for number in "01"]
    running = [
        subprocess.Popen(command, env=os.environ | changes, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    for number, process in enumerate(running):
        output, errors = process.communicate(timeout=120)
        assert output == f"done {number}\n", errors

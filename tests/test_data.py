"""Batches, splits and the digits."""

from collections import Counter, namedtuple

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import fluxion as fx
from fluxion.data import DataLoader, collate, digits, getobs, numobs, splitobs
from fluxion.random import Generator, default_generator

Pair = namedtuple("Pair", "x y")


class Squares:
    """Only a length and [i], as users write data sets."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        assert type(i) is int
        if not 0 <= i < self.count:
            raise IndexError(i)
        return np.full(2, i, np.float32), i * i


def order(loader):
    return np.concatenate(list(loader)).tolist()


# ---- batches


def test_arrays_give_arrays_of_the_same_type():
    x = np.arange(20, dtype=np.float16).reshape(10, 2)
    batches = list(DataLoader(x, batch_size=4))
    assert [b.shape for b in batches] == [(4, 2), (4, 2), (2, 2)]
    assert all(type(b) is np.ndarray and b.dtype == np.float16 for b in batches)
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


def test_jax_arrays_become_numpy_arrays_once():
    loader = DataLoader((jnp.ones((4, 2)), jnp.arange(4)), batch_size=2, shuffle=True)
    assert all(isinstance(part, np.ndarray) for part in loader.data)
    assert all(isinstance(part, np.ndarray) for batch in loader for part in batch)


def test_an_array_is_indexed_once_per_batch():
    class Counting(np.ndarray):
        count = 0

        def __getitem__(self, index):
            Counting.count += 1
            return super().__getitem__(index)

    loader = DataLoader(np.zeros(1), batch_size=10, shuffle=True)
    loader.data, loader.count = np.arange(100).view(Counting), 100
    list(loader)
    assert Counting.count == 10


def test_batches_in_order_are_views():
    x = np.zeros((8, 3))
    assert all(np.shares_memory(batch, x) for batch in DataLoader(x, batch_size=3))


def test_one_hot_labels_stay_one_hot():
    labels = fx.onehotbatch(jnp.arange(10) % 3, range(3))
    for batch in DataLoader(labels, batch_size=4, shuffle=True):
        assert type(batch) is type(labels)
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


@given(count=st.integers(1, 60), batch_size=st.integers(1, 70), shuffle=st.booleans(), partial=st.booleans())
@settings(max_examples=50, deadline=None)
def test_every_observation_comes_once(count, batch_size, shuffle, partial):
    if not partial and batch_size > count:
        return
    loader = DataLoader(np.arange(count), batch_size, shuffle=shuffle, partial=partial)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert all(len(batch) == batch_size for batch in batches[: None if not partial else -1])
    seen = np.concatenate(batches)
    assert len(set(seen.tolist())) == len(seen) == (count if partial else count - count % batch_size)


# ---- order


def test_a_new_order_each_epoch_and_the_same_after_seed():
    loader = DataLoader(np.arange(100), batch_size=10, shuffle=True)
    fx.seed(3)
    first, second = order(loader), order(loader)
    assert first != second
    fx.seed(3)
    assert [order(loader), order(loader)] == [first, second]
    fx.seed(4)
    assert order(loader) != first


def test_a_generator_of_its_own():
    def orders():
        loader = DataLoader(np.arange(100), 10, shuffle=True, rng=Generator(1))
        return [order(loader), order(loader)]

    assert orders() == orders()
    fx.seed(0)
    before = fx.random.generator().uniform()
    fx.seed(0)
    orders()
    assert fx.random.generator().uniform() == before


def test_the_default_generator_is_looked_up_when_iterating():
    loader = DataLoader(np.arange(100), 10, shuffle=True)
    with default_generator(Generator(5)):
        first = order(loader)
    with default_generator(Generator(5)):
        assert order(loader) == first


def test_iterations_at_the_same_time_do_not_disturb_each_other():
    loader = DataLoader(np.arange(40), batch_size=8, shuffle=True)
    fx.seed(0)
    alone = [order(loader), order(loader)]
    fx.seed(0)
    one, two = iter(loader), iter(loader)
    pairs = list(zip(one, two, strict=True))
    together = [np.concatenate([pair[k] for pair in pairs]).tolist() for k in (0, 1)]
    assert together == alone
    assert together[0] != together[1]


def test_the_order_is_every_permutation():
    loader = DataLoader(np.arange(3), batch_size=3, shuffle=True)
    counts = Counter(tuple(order(loader)) for _ in range(600))
    assert len(counts) == 6
    assert min(counts.values()) > 60


# ---- errors


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((np.zeros(3), np.zeros(4)), ValueError, r"data\[0\] has 3, data\[1\] has 4"),
        ({"x": np.zeros(3), "y": (np.zeros(2),)}, ValueError, r"data\['x'\] has 3, data\['y'\]\[0\] has 2"),
        (np.zeros((0, 3)), ValueError, "holds no observations"),
        ([], ValueError, "holds no observations"),
        ((), ValueError, "data is an empty tuple"),
        ({}, ValueError, "data is an empty dict"),
        (np.zeros(()), TypeError, r"data is a single number \(an array of shape \(\)\)"),
        (3, TypeError, "data needs a length and .i. to take observations from, got int"),
        ((i for i in range(3)), TypeError, "got generator; an iterator can be turned into a list"),
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
        ({"batch_size": 11, "partial": False}, ValueError, "with 10 observations and batch_size=11 leaves no batch"),
    ],
)
def test_options_that_make_no_sense(options, error, message):
    with pytest.raises(error, match=message):
        DataLoader(np.zeros(10), **options)


def test_items_that_make_no_batch():
    with pytest.raises(ValueError, match=r"observations 0 and 1 of a batch have different shapes, \(2,\) and \(3,\)"):
        next(iter(DataLoader([np.zeros(2), np.zeros(3)])))
    with pytest.raises(ValueError, match="observations 0 and 1 of a batch have different fields"):
        collate([{"a": 1}, {"b": 1}])
    with pytest.raises(ValueError, match="observations 0 and 1 of a batch have different fields"):
        collate([(1, 2), (1, 2, 3)])
    with pytest.raises(ValueError, match="not one array of numbers"):
        collate([[1, [2, 3]], [1, 2]])
    with pytest.raises(ValueError, match="no observations"):
        collate([])


def test_repr():
    loader = DataLoader((np.zeros(2000), np.zeros(2000)), batch_size=32, shuffle=True, partial=False)
    assert repr(loader) == "DataLoader(tuple of 2_000 observations, batch_size=32, shuffle=True, partial=False)"


# ---- observations, splits


def test_numobs_and_getobs():
    data = (np.arange(4), {"text": list("abcd"), "item": Squares(4)})
    assert numobs(data) == 4
    number, rest = getobs(data, 2)
    assert number == 2
    assert rest["text"] == "c"
    np.testing.assert_array_equal(rest["item"][0], [2, 2])
    number, rest = getobs(data, np.array([3, 0]))
    assert number.tolist() == [3, 0]
    assert rest["text"] == ["d", "a"]
    assert rest["item"][0].tolist() == [[3, 3], [0, 0]]
    with pytest.raises(TypeError, match="got NoneType"):
        numobs(None)


def test_collate_keeps_types():
    assert collate([1.5, 2.5]).dtype == np.float32
    assert collate([np.float64(1.5)]).dtype == np.float64
    assert collate([True, False]).dtype == bool
    assert collate([1, 2]).dtype.kind == "i"
    assert collate([None, None]) == [None, None]


@pytest.mark.parametrize(
    ("at", "sizes"),
    [(0.8, [8, 2]), (3, [3, 7]), ((0.5, 0.3), [5, 3, 2]), ((0.5, 2), [5, 2, 3]), (1.0, [10, 0]), (0, [0, 10])],
)
def test_sizes_of_parts(at, sizes):
    parts = splitobs((np.arange(10), list(range(10))), at)
    assert [len(x) for x, _ in parts] == sizes
    assert [i for x, _ in parts for i in x.tolist()] == list(range(10))
    assert [i for _, y in parts for i in y] == list(range(10))


def test_splitting_keeps_structure_and_views():
    x = np.arange(10)
    train, test = splitobs({"x": Pair(x, Squares(10))}, 0.7)
    assert np.shares_memory(train["x"].x, x)
    assert test["x"].y[0][1] == 49
    assert list(DataLoader(test["x"].y, 2, shuffle=True))


def test_shuffled_split():
    fx.seed(0)
    x = np.arange(100)
    train, test = splitobs((x, x), 0.8, shuffle=True)
    np.testing.assert_array_equal(train[0], train[1])
    assert sorted([*train[0], *test[0]]) == list(range(100))
    assert train[0].tolist() != list(range(80))
    fx.seed(0)
    np.testing.assert_array_equal(splitobs(x, 0.8, shuffle=True)[0], train[0])


@pytest.mark.parametrize(
    ("at", "error", "message"),
    [
        (1.2, ValueError, r"a fraction in at= lies between 0.0 and 1.0, got 1.2; a count is an int"),
        (-0.1, ValueError, "got -0.1"),
        (11, ValueError, "lies between 0 and the 10 observations there are, got 11"),
        ((0.6, 0.6), ValueError, r"at=\(0.6, 0.6\) asks for 12 observations, but there are only 10"),
        (True, TypeError, "fractions .floats. and numbers of observations .ints., got True"),
        ("half", TypeError, "got 'half'"),
    ],
)
def test_splits_that_make_no_sense(at, error, message):
    with pytest.raises(error, match=message):
        splitobs(np.zeros(10), at)


# ---- digits


def test_digits_have_the_documented_form():
    (x_train, y_train), (x_test, y_test) = digits()
    assert x_train.shape == (1437, 8, 8, 1)
    assert x_test.shape == (360, 8, 8, 1)
    assert x_train.dtype == x_test.dtype == np.float32
    assert y_train.dtype == y_test.dtype == np.int32
    assert x_train.min() == 0
    assert x_train.max() == 1
    assert np.bincount(y_test).min() >= 35
    assert np.bincount(y_test).max() <= 37


def test_digits_are_those_of_scikit_learn():
    (x_train, y_train), (x_test, y_test) = digits()
    ours = {(x.tobytes(), int(y)) for x, y in zip([*x_train, *x_test], [*y_train, *y_test], strict=True)}
    source = load_digits()
    images = (source.images[..., None] / 16).astype(np.float32)
    assert ours == {(x.tobytes(), int(y)) for x, y in zip(images, source.target, strict=True)}
    assert len(ours) == 1797


def test_digits_of_each_call_are_new_arrays():
    (first, _), _ = digits()
    first[:] = 0
    (second, _), _ = digits()
    assert second.any()


def test_a_batch_does_not_depend_on_which_item_comes_first():
    assert collate([1, "a"]) == [1, "a"] and collate(["a", 1]) == ["a", 1] and collate([1, None]) == [1, None]
    assert collate([1, 2.5]).dtype == collate([2.5, 1]).dtype == np.float32
    assert collate([["a", "b"], ["c", "d"]]) == [["a", "b"], ["c", "d"]]
    assert collate([np.array(["a"]), np.array(["b"])]).tolist() == [["a"], ["b"]]
    swapped = collate([{"a": 1, "b": 2}, {"b": 4, "a": 3}])
    assert swapped["a"].tolist() == [1, 3] and swapped["b"].tolist() == [2, 4]
    assert collate(i for i in range(3)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("count", "at", "sizes"),
    [
        (3, (0.5, 0.5), [2, 1, 0]),
        (6, (0.25,) * 4, [2, 1, 1, 2, 0]),
        (10, (1 / 3,) * 3, [3, 4, 3, 0]),
        (5, (0.5, 2), [2, 2, 1]),
        (0, (0.5,), [0, 0]),
    ],
)
def test_fractions_add_up(count, at, sizes):
    assert [len(part) for part in splitobs(np.arange(count), at)] == sizes

"""Observations, splits and the digits."""

from collections import namedtuple

import numpy as np
import pytest
from loading import Squares
from sklearn.datasets import load_digits

import fluxion as fx
from fluxion.data import DataLoader, collate, digits, getobs, numobs, splitobs

Pair = namedtuple("Pair", "x y")


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

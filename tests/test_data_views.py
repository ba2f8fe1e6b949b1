"""Views of data, data made of other data, folds, and classes in balance."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import TimeSeriesSplit

import fluxion as fx
from fluxion import data
from fluxion.data import DataLoader, ObsView, getobs, numobs, obsview
from fluxion.random import Generator

DATA = (np.arange(6), {"name": list("abcdef"), "more": jnp.arange(12.0).reshape(6, 2)})


def names(part):
    return part[1]["name"][:]


# ---- views


def test_parts_keep_the_structure():
    for indices, wanted in [([4, 1], "eb"), (slice(1, 3), "bc"), (np.arange(6) > 3, "ef"), ([], ""), (-1, "f")]:
        number, rest = obsview(DATA, indices)
        assert type(number) is np.ndarray and isinstance(rest["more"], jax.Array)
        assert isinstance(rest["name"], ObsView)
        assert "".join(rest["name"]) == wanted and len(number) == len(rest["more"]) == numobs(rest) == len(wanted)
    assert np.shares_memory(obsview(DATA, slice(2, 4))[0], DATA[0])


def test_views_of_views_refer_to_the_data():
    one = ObsView(list("abcdef"), [5, 3, 1])
    two = ObsView(one, slice(1, None))
    assert two.data == list("abcdef") and two.indices.tolist() == [3, 1] and list(two) == ["d", "b"]
    assert obsview(one, [0]).indices.tolist() == [5]
    whole = ObsView(DATA, [2, 0])
    assert whole[0][0] == 2 and whole[0][1]["name"] == "c" and names(whole[::-1]) == ["a", "c"]
    assert not np.shares_memory(whole[:][0], DATA[0])
    assert [x.tolist() for x, _ in DataLoader(whole, batch_size=1)] == [[2], [0]]
    assert repr(one) == "ObsView of 3 out of 6 observations of a list"


@pytest.mark.parametrize("view", [ObsView, obsview, getobs])
@pytest.mark.parametrize("whole", [np.arange(3), jnp.arange(3), [0, 1, 2], fx.onehotbatch(jnp.arange(3), range(3))])
def test_indices_out_of_range(view, whole):
    for index in ([0, 3], [-4], 3):
        with pytest.raises(IndexError):
            view(whole, index)


def test_indices_that_are_none():
    with pytest.raises(IndexError, match=r"ObsView expects indices from 0 to 1, got 5 in an array of shape \(1,\)"):
        ObsView([1, 2], [5])
    with pytest.raises(TypeError, match="an integer, a slice, integers or 2 booleans as its index, got an array of sh"):
        ObsView([1, 2], [0.5])
    for whole in ([1, 2], np.arange(2)):
        for index in ([True, False, True], True, None, ..., "a", 0.5, [[0]]):
            with pytest.raises(TypeError, match="an integer, a slice, integers or 2 booleans as its index"):
                getobs(whole, index)
        assert getobs(whole, (1, 0)).tolist() == getobs(whole, [1, 0]).tolist()
    with pytest.raises(ValueError, match="same number of observations"):
        obsview((np.zeros(3), np.zeros(2)), slice(2))


def test_getobs_of_everything():
    assert getobs(ObsView(list("abc"), [2, 1])) == ["c", "b"]
    assert getobs(["a", "b", "c"], [True, False, True]) == ["a", "c"]
    assert getobs(["a", "b"], -1) == "b"


def test_eachobs_and_unbatch():
    single = list(data.eachobs(DATA))
    assert [x for x, _ in single] == list(range(6)) and single[2][1]["name"] == "c"
    again = data.batch(data.unbatch(DATA))
    np.testing.assert_array_equal(again[1]["more"], DATA[1]["more"])
    assert again[1]["name"] == DATA[1]["name"]
    with pytest.raises(ValueError, match="same number of observations"):
        data.eachobs((np.zeros(2), np.zeros(3)))


def test_one_hot_observations_make_a_one_hot_batch():
    labels = fx.onehotbatch([0, 2, 1], range(3))
    batch = data.batch(data.unbatch(labels))
    assert isinstance(batch, fx.OneHotArray) and batch.indices.tolist() == [0, 2, 1]
    with pytest.raises(ValueError, match="different fields"):
        data.batch([fx.onehot(0, range(3)), fx.onehot(0, range(2))])


# ---- data made of data


def test_mapobs_is_lazy():
    calls = []

    def double(x):
        calls.append(x)
        return 2 * x

    mapped = data.mapobs(double, np.arange(5))
    assert len(mapped) == 5 and not calls
    assert mapped[3] == 6 and calls == [3]
    assert mapped[1:3].tolist() == [2, 4] and list(mapped) == [0, 2, 4, 6, 8]
    assert [batch.tolist() for batch in DataLoader(mapped, batch_size=3)] == [[0, 2, 4], [6, 8]]
    assert repr(mapped) == "mapobs of double over 5 observations of a ndarray"


def test_mapobs_of_batches():
    sizes = []

    def negate(x):
        sizes.append(len(x))
        return -x

    mapped = data.mapobs(negate, np.arange(5), batched=True)
    assert mapped[2] == -2 and sizes == [1]
    assert mapped[[0, 4]].tolist() == [0, -4] and sizes == [1, 2]
    assert [len(batch) for batch in DataLoader(mapped, batch_size=4)] == [4, 1]


def test_filter_group_and_join():
    kept = data.filterobs(lambda observation: observation[1]["name"] in "ace", DATA)
    assert kept[0].tolist() == [0, 2, 4]
    groups = data.groupobs(lambda observation: int(observation[0]) % 3, DATA)
    assert list(groups) == [0, 1, 2] and names(groups[1]) == ["b", "e"]
    joined = data.joinobs(groups[0], groups[2])
    assert len(joined) == 4 and [int(x) for x, _ in joined] == [0, 3, 2, 5]
    assert names(joined[[3, 0]]) == ["f", "a"]
    assert list(data.joinobs([], [1], [], [2, 3])) == [1, 2, 3]
    assert repr(joined) == "joinobs of 4 observations of 2 data sets"
    with pytest.raises(ValueError, match="at least one data set"):
        data.joinobs()
    with pytest.raises(TypeError, match="mapobs takes a function of an observation first, got 3"):
        data.mapobs(3, DATA)
    assert list(data.groupobs(lambda x: x % 2, jnp.arange(3))) == [0, 1]
    with pytest.raises(IndexError, match="joinobs expects indices from 0 to 3, got 4"):
        joined[4]


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 10))
@settings(max_examples=40, deadline=None)
def test_windows(count, size, stride):
    if size > count:
        with pytest.raises(ValueError, match=f"size must be from 1 to {count}, got {size}"):
            data.slidingwindow(np.arange(count), size, stride)
        return
    windows = data.slidingwindow(np.arange(count), size, stride)
    wanted = [list(range(start, start + size)) for start in range(0, count - size + 1, stride)]
    assert [window.tolist() for window in windows] == wanted and len(windows) == len(wanted)


def test_windows_of_structures():
    windows = data.slidingwindow((np.arange(5), list("abcde")), size=2, stride=2)
    assert windows[1][1] == ["c", "d"] and windows[:][0].tolist() == [[0, 1], [2, 3]]
    assert repr(windows) == "slidingwindow of 2 windows of 2 observations of a tuple"
    x = np.arange(9)
    assert np.shares_memory(data.slidingwindow(x, 3)[2], x)
    with pytest.raises(ValueError, match="stride must be at least 1, got 0"):
        data.slidingwindow(x, 3, 0)
    with pytest.raises(ValueError, match="the number of observations must be at least 1, got 0"):
        data.slidingwindow([], 1)


def test_random_order_and_random_observations():
    x, rest = data.shuffleobs(DATA, rng=Generator(1))
    assert sorted(x.tolist()) == list(range(6)) and x.tolist() != list(range(6))
    assert "".join(rest["name"]) == "".join("abcdef"[i] for i in x)
    assert data.shuffleobs(DATA, rng=Generator(1))[0].tolist() == x.tolist()
    number, rest = data.randobs(DATA)
    assert rest["name"] == "abcdef"[number]
    batch = data.randobs(np.arange(3), 1000)
    assert set(batch.tolist()) == {0, 1, 2} and data.randobs(np.arange(3), 1).shape == (1,)
    with pytest.raises(ValueError, match="the number of observations must be at least 1, got 0"):
        data.randobs([])
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        data.randobs([1], 0)


# ---- stratified splits and folds

CLASSES = st.lists(st.sampled_from("abc"), min_size=4, max_size=60)


@given(CLASSES, st.floats(0, 1), st.floats(0, 1), st.booleans())
@settings(max_examples=60, deadline=None)
def test_stratified_parts_keep_the_ratio(labels, one, two, shuffle):
    at = (one / 2, two / 2)
    plain = data.splitobs(np.arange(len(labels)), at)
    parts = data.splitobs(np.arange(len(labels)), at, stratified=labels, shuffle=shuffle)
    assert sorted(i for part in parts for i in part.tolist()) == list(range(len(labels)))
    assert [len(part) for part in parts] == [len(part) for part in plain]
    for label, count in Counter(labels).items():
        found = [sum(labels[i] == label for i in part) for part in parts]
        assert abs(found[0] - count * len(parts[0]) / len(labels)) < 1
        assert abs(found[1] - count * len(parts[1]) / len(labels)) < 2
    if not shuffle:
        assert all((np.diff(part) > 0).all() for part in parts)


def test_stratified_labels_of_every_kind():
    for labels in (np.repeat([3, 7], 4), jnp.repeat(jnp.array([3, 7]), 4), fx.onehotbatch([0] * 4 + [1] * 4, range(2))):
        train, test = data.splitobs(np.arange(8), 0.5, stratified=labels)
        assert train.tolist() == [0, 1, 4, 5] and test.tolist() == [2, 3, 6, 7]
    with pytest.raises(ValueError, match="stratified takes one label for each of the 8 observations, got 7"):
        data.splitobs(np.arange(8), 0.5, stratified="aabbccd")
    with pytest.raises(ValueError, match=r"one value for each observation, got an array of shape \(8, 2\)"):
        data.kfolds(np.arange(8), 2, stratified=np.zeros((8, 2)))


@given(st.integers(2, 60), st.integers(2, 10), st.booleans())
@settings(max_examples=40, deadline=None)
def test_folds_validate_each_observation_once(count, k, shuffle):
    if k > count:
        with pytest.raises(ValueError, match=f"k must be from 2 to {count}, got {k}"):
            data.kfolds(np.arange(count), k)
        return
    folds = list(data.kfolds(np.arange(count), k, shuffle=shuffle))
    assert len(folds) == k
    assert sorted(i for _, validation in folds for i in validation.tolist()) == list(range(count))
    for train, validation in folds:
        assert sorted([*train.tolist(), *validation.tolist()]) == list(range(count))
        assert len(validation) in (count // k, count // k + 1)


@given(CLASSES, st.integers(2, 4), st.booleans())
@settings(max_examples=40, deadline=None)
def test_stratified_folds_share_each_class(labels, k, shuffle):
    folds = list(data.kfolds(np.arange(len(labels)), k, stratified=labels, shuffle=shuffle))
    assert sorted(i for _, validation in folds for i in validation.tolist()) == list(range(len(labels)))
    assert max(len(v) for _, v in folds) - min(len(v) for _, v in folds) <= 1
    for label in set(labels):
        found = [sum(labels[i] == label for i in validation) for _, validation in folds]
        assert max(found) - min(found) <= 1


def test_folds_of_structures():
    folds = list(data.kfolds(DATA, 3))
    assert [names(validation) for _, validation in folds] == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert [names(train) for train, _ in folds][1] == ["a", "b", "e", "f"]
    shuffled = [v.tolist() for _, v in data.kfolds(np.arange(20), 4, shuffle=True, rng=Generator(1))]
    assert shuffled == [v.tolist() for _, v in data.kfolds(np.arange(20), 4, shuffle=True, rng=Generator(1))]
    assert shuffled != [v.tolist() for _, v in data.kfolds(np.arange(20), 4)]


def test_leaving_out():
    assert [v.tolist() for _, v in data.leavepout(np.arange(4))] == [[0], [1], [2], [3]]
    assert [len(v) for _, v in data.leavepout(np.arange(11), 3)] == [4, 4, 3]
    with pytest.raises(ValueError, match="p must be from 1 to 5, got 6"):
        data.leavepout(np.arange(10), 6)
    with pytest.raises(TypeError, match=r"p is a whole number, got 0.5 of type float"):
        data.leavepout(np.arange(10), 0.5)
    for folds, least in [(data.kfolds, 2), (data.leavepout, 2), (data.timeseries_kfolds, 3)]:
        with pytest.raises(ValueError, match=f"the number of observations must be at least {least}, got 1"):
            folds([1])


@pytest.mark.parametrize(
    ("count", "k", "gap", "most"), [(10, 3, 0, None), (23, 4, 2, 5), (12, 2, 3, None), (7, 5, 0, 1)]
)
def test_folds_in_time_are_those_of_scikit_learn(count, k, gap, most):
    ours = data.timeseries_kfolds(np.arange(count), k, gap=gap, max_train_size=most)
    theirs = TimeSeriesSplit(k, gap=gap, max_train_size=most).split(np.arange(count))
    for (train, validation), (train_index, test_index) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(train, train_index)
        np.testing.assert_array_equal(validation, test_index)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 1}, "k must be from 2 to 9, got 1"),
        ({"k": 10}, "k must be from 2 to 9, got 10"),
        ({"k": 4, "gap": 2}, "gap must be from 0 to 1, got 2"),
        ({"max_train_size": 0}, "max_train_size must be at least 1, got 0"),
    ],
)
def test_folds_in_time_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        data.timeseries_kfolds(np.arange(10), **options)


# ---- classes in balance


@given(CLASSES, st.floats(0, 1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_oversampling(labels, fraction, shuffle):
    index, balanced = data.oversample(np.arange(len(labels)), labels, fraction=fraction, shuffle=shuffle)
    before, after, each = Counter(labels), Counter(balanced), Counter(index.tolist())
    least = round(fraction * max(before.values()))
    assert after == {label: max(count, least) for label, count in before.items()}
    assert [labels[i] for i in index] == list(balanced)
    for label in before:
        repeats = [each[i] for i in range(len(labels)) if labels[i] == label]
        assert max(repeats) - min(repeats) <= 1 and min(repeats) >= 1
    if not shuffle:
        assert index[: len(labels)].tolist() == list(range(len(labels)))


@given(CLASSES, st.booleans())
@settings(max_examples=40, deadline=None)
def test_undersampling(labels, shuffle):
    index, balanced = data.undersample(np.arange(len(labels)), labels, shuffle=shuffle)
    assert set(Counter(balanced).values()) == {min(Counter(labels).values())}
    assert len(set(index.tolist())) == len(index) and [labels[i] for i in index] == list(balanced)
    assert shuffle or (np.diff(index) > 0).all()


def test_the_last_field_holds_the_classes():
    _, extra, y = data.oversample((np.arange(4), {"name": list("abcd")}, np.array([0, 0, 0, 1])))
    assert Counter(y.tolist()) == {0: 3, 1: 3} and sum(name == "d" for name in extra["name"]) == 3
    one, two = (data.undersample(np.arange(9), [0] * 8 + [1], rng=Generator(2))[0].tolist() for _ in range(2))
    assert one == two
    with pytest.raises(TypeError, match=r"oversample needs classes, or a tuple whose last field .* got ndarray"):
        data.oversample(np.arange(3))
    with pytest.raises(ValueError, match="same number of observations"):
        data.undersample(np.arange(3), [0, 1])
    with pytest.raises(ValueError, match="undersample needs observations, but the data holds none"):
        data.undersample([], [])
    with pytest.raises(ValueError, match=r"a fraction from 0.0 to 1.0, got 2"):
        data.oversample(np.arange(3), [0, 1, 1], fraction=2)


def test_groups_of_labels():
    labels = [("a", 1), None, ("a", 1)]
    assert data.group_counts(labels) == {("a", 1): 2, None: 1}
    assert data.group_counts(jnp.array([3, 1, 3])) == {3: 2, 1: 1}
    assert {k: v.tolist() for k, v in data.group_indices(np.array(["x", "y", "x"])).items()} == {"x": [0, 2], "y": [1]}
    assert data.group_counts(fx.onehotbatch("aba", "ab")) == {0: 2, 1: 1}
    assert data.group_indices([]) == {}
    (places,) = data.group_indices(np.array([np.nan, np.nan])).values()
    assert places.tolist() == [0, 1]
    assert data.group_counts([jnp.array(1), np.int8(1), 1.0]) == {1: 3}
    with pytest.raises(TypeError, match="stratified takes one label for each of the 6 observations, got True"):
        data.splitobs(DATA, stratified=True)


def test_a_loader_with_its_own_collate():
    loader = DataLoader((np.arange(3), list("abc")), batch_size=2, collate=list)
    assert list(loader) == [[(0, "a"), (1, "b")], [(2, "c")]]
    joined = DataLoader(list("abcd"), batch_size=3, shuffle=True, collate="".join, rng=Generator(0))
    assert sorted("".join(joined)) == list("abcd") and [len(text) for text in joined] == [3, 1]

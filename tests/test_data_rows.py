"""Tables and data sets of other libraries as data: observations are rows, and a batch is taken at once."""

from datetime import datetime

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import fluxion as fx
from fluxion.data import DataLoader, ObsView, getobs, kfolds, numobs, obsview, shuffleobs, splitobs

COLUMNS = {"x": [float(i) for i in range(10)], "n": list(range(10)), "name": list("abcdefghij")}


def hugging_face():
    return pytest.importorskip("datasets").Dataset.from_dict(COLUMNS)


MAKERS = {
    "pandas": lambda: pd.DataFrame(COLUMNS, index=range(30, 20, -1)),  # labels that are no positions
    "polars": lambda: pl.DataFrame(COLUMNS),
    "pyarrow": lambda: pa.table(COLUMNS),
    "datasets": hugging_face,
}
tables = pytest.mark.parametrize("table", [pytest.param(maker, id=name) for name, maker in MAKERS.items()])


def check(batch, numbers):
    """A batch of the rows with these numbers."""
    assert list(batch) == ["x", "n", "name"]
    assert isinstance(batch["x"], np.ndarray) and isinstance(batch["n"], np.ndarray)
    assert batch["n"].tolist() == batch["x"].tolist() == list(numbers)
    assert batch["name"] == [COLUMNS["name"][i] for i in numbers]


@tables
def test_rows_of_tables(table):
    table = table()
    assert numobs(table) == 10
    assert getobs(table, 3) == getobs(table, -7) == getobs(table, np.int64(3)) == {"x": 3.0, "n": 3, "name": "d"}
    check(getobs(table, slice(2, 8, 2)), [2, 4, 6])
    check(getobs(table, np.array([7, 0, -1])), [7, 0, 9])
    check(getobs(table, jnp.array([1, 1])), [1, 1])
    check(getobs(table, np.arange(10) % 5 == 0), [0, 5])
    check(getobs(table), range(10))
    assert getobs(table, [])["name"] == [] and len(getobs(table, [])["n"]) == 0
    for index in (10, -11, [0, 10]):
        with pytest.raises(IndexError, match="getobs expects indices from 0 to 9"):
            getobs(table, index)
    with pytest.raises(TypeError, match="takes an integer, a slice"):
        getobs(table, "x")


@tables
def test_parts_of_tables(table):
    table = table()
    train, test = splitobs(table, 0.7)
    assert isinstance(train, ObsView) and train.data is table
    check(test[:], [7, 8, 9])
    check(obsview(table, [2, 1])[:], [2, 1])
    assert sorted(shuffleobs(table)[:]["n"].tolist()) == list(range(10))
    assert [fold[:]["n"].tolist() for _, fold in kfolds(table, 5)] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert list(fx.data.filterobs(lambda row: row["n"] > 8, table)) == [getobs(table, 9)]
    assert fx.data.mapobs(lambda row: row["name"] + "!", table)[:2] == ["a!", "b!"]


@tables
def test_loaders_of_tables(table):
    batches = list(DataLoader(table(), batch_size=4, shuffle=True, device="host"))
    order = np.concatenate([batch["n"] for batch in batches])
    assert sorted(order) == list(range(10)) and order.tolist() != sorted(order) and len(batches) == 3
    for batch in batches:
        check(batch, batch["n"].tolist())
    check(next(iter(DataLoader({"part": table(), "y": np.arange(10)}, batch_size=2, device="host")))["part"], [0, 1])


def test_a_batch_is_taken_at_once():
    class Counting(pd.DataFrame):
        calls = 0

        @property
        def iloc(self):
            Counting.calls += 1
            return super().iloc

    assert len(list(DataLoader(Counting(COLUMNS), batch_size=5, shuffle=True))) == 2 and Counting.calls == 2


@pytest.mark.parametrize("make", [lambda v: pd.Series(v, index=range(9, -1, -1)), pl.Series], ids=["pandas", "polars"])
def test_series_are_arrays_by_position(make):
    series = make(COLUMNS["n"])
    assert numobs(series) == 10 and getobs(series, 2) == 2 and getobs(series, -1) == 9
    assert list(getobs(series, slice(1, 3))) == [1, 2] and list(getobs(series, [4, 0])) == [4, 0]
    train, test = splitobs((series, np.arange(10)), 0.8)
    assert type(train[0]) is type(series) and list(test[0]) == [8, 9]
    for batch, same in DataLoader((series, np.arange(10)), batch_size=4, shuffle=True):
        assert isinstance(batch, jax.Array) and batch.tolist() == same.tolist()
    assert list(make(list("abcdefghij"))) == [name for batch in DataLoader(make(COLUMNS["name"]), 3) for name in batch]


def test_columns_of_many_kinds():
    frame = pl.DataFrame({"when": [datetime(2020, 1, 1), None], "list": [[1, 2], [3, 4]], "yes": [True, False]})
    for table in (frame, frame.to_pandas(), frame.to_arrow()):
        batch = getobs(table, [1, 0])
        assert batch["when"].dtype.kind == "M" and batch["yes"].tolist() == [False, True]
        assert batch["list"].tolist() == [[3, 4], [1, 2]]
    nested = pytest.importorskip("datasets").Dataset.from_dict({"a": [{"b": 1, "c": "x"}, {"b": 2, "c": "y"}]})
    assert getobs(nested, 1) == {"a": {"b": 2, "c": "y"}} and getobs(nested, [1, 0])["a"]["b"].tolist() == [2, 1]


@pytest.mark.parametrize(
    "make",
    [
        lambda v: pd.DataFrame({"n": pd.array(v, dtype="Int64")}),
        lambda v: pl.DataFrame({"n": v}),
        lambda v: pa.table({"n": v}),
    ],
    ids=["pandas", "polars", "pyarrow"],
)
def test_a_column_has_one_dtype_in_all_batches(make):
    first, second = DataLoader(make([1, None, 3, 4]), batch_size=2, device="host")
    assert first["n"].dtype == second["n"].dtype == np.float64 and np.isnan(first["n"]).tolist() == [False, True]
    assert getobs(make([1, 2]), slice(0, 1))["n"].dtype == np.int64


def test_frames_that_cannot_be_rows():
    with pytest.raises(ValueError, match=r"need different names, got \['a', 'a'\]"):
        getobs(pd.DataFrame([[1, 2]], columns=["a", "a"]), 0)
    with pytest.raises(TypeError, match="needs a length"):
        numobs(pl.LazyFrame(COLUMNS))
    with pytest.raises(ValueError, match="has 10, data\\[1\\] has 9"):
        numobs((pd.DataFrame(COLUMNS), np.arange(9)))


class Pairs(torch.utils.data.Dataset):
    """A data set of PyTorch, item by item."""

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return torch.full((2,), float(i)), i


class PairsAtOnce(Pairs):
    calls = 0

    def __getitems__(self, indices):
        PairsAtOnce.calls += 1
        assert all(type(i) is int for i in indices)
        return [self[i] for i in indices]


def as_pairs(source):
    return [(x.tolist(), int(y)) for x, y in source]


@pytest.mark.parametrize("kind", [Pairs, PairsAtOnce, lambda: torch.utils.data.Subset(Pairs(), range(10))])
def test_data_sets_of_torch(kind):
    data = kind()
    x, y = getobs(data, [3, -1])
    assert isinstance(x, np.ndarray) and x.tolist() == [[3, 3], [9, 9]] and y.tolist() == [3, 9]
    assert getobs(data, slice(0, 4, 3))[1].tolist() == [0, 3] and getobs(data, 2)[1] == 2
    train, test = splitobs(data, 0.7)
    assert test[:][1].tolist() == [7, 8, 9] and len(train) == 7
    assert sorted(shuffleobs(data)[:][1].tolist()) == list(range(10))
    assert [fold[:][1].tolist() for _, fold in kfolds(data, 2)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    before = PairsAtOnce.calls
    batches = list(DataLoader(data, batch_size=4, shuffle=True, workers=0))
    assert PairsAtOnce.calls - before == (3 if isinstance(data, PairsAtOnce) else 0)
    assert sorted(np.concatenate([y for _, y in batches])) == list(range(10))
    assert all((x == y[:, None]).all() for x, y in batches)


def test_a_data_set_that_gives_several_items_as_one_batch_is_read_item_by_item():
    class Whole(Pairs):
        def __getitems__(self, indices):
            return {"x": torch.zeros(len(indices)), "y": indices, "z": indices}

    for workers in (0, 2):
        batches = list(DataLoader(Whole(), batch_size=4, workers=workers))
        assert [y.tolist() for _, y in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("count", [None, 5])
def test_streams_of_torch_may_have_a_length(count):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(5))

    if count:
        Stream.__len__ = lambda self: count
    assert [x.tolist() for x in DataLoader(Stream(), 2)] == [[0, 1], [2, 3], [4]]


def test_tensors_that_data_sets_of_others_give():
    table = pytest.importorskip("datasets").Dataset.from_dict({"x": [[1.0], [2.0]]}).with_format("torch")
    for data in (table, fx.data.mapobs(lambda i: {"x": torch.from_numpy(i)}, np.ones((2, 1)), batched=True)):
        (batch,) = DataLoader(data, 2)
        assert isinstance(batch["x"], jax.Array) and batch["x"].shape == (2, 1)


def test_tensors_of_torch():
    data = (torch.arange(20.0).reshape(10, 2), torch.arange(10))
    assert getobs(data, [2, 1])[1].tolist() == [2, 1]
    for x, y in DataLoader(data, batch_size=3, shuffle=True):
        assert isinstance(x, jax.Array) and (x[:, 0] == 2 * y).all()


def test_sources_of_grain():
    grain = pytest.importorskip("grain")
    data = grain.MapDataset.source([np.full(2, i) for i in range(10)]).map(lambda x: (x * 2, int(x[0])))
    assert numobs(data) == 10 and getobs(data, -1)[1] == 9
    assert getobs(data, slice(2, 4))[0].tolist() == [[4, 4], [6, 6]]
    assert getobs(data, np.array([5, 0]))[1].tolist() == [5, 0]
    with pytest.raises(IndexError):  # Grain itself starts again at the beginning
        getobs(data, 10)
    assert splitobs(data, 0.5)[1][:][1].tolist() == [5, 6, 7, 8, 9]
    assert sorted(shuffleobs(data)[:][1].tolist()) == list(range(10))
    assert [fold[:][1].tolist() for _, fold in kfolds(data, 2)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert sorted(np.concatenate([y for _, y in DataLoader(data, batch_size=4, shuffle=True)])) == list(range(10))
    source = grain.sources.RangeDataSource(0, 10, 1)
    assert sorted(np.concatenate(list(DataLoader(source, batch_size=4, shuffle=True)))) == list(range(10))

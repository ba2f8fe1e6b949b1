"""Columns of every kind as features and as targets."""

import datetime

import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest

from fluxion.data import table

# ---- features


def test_missing_numbers():
    data = table({"x": [1.0, None, 3.0, float("nan")], "y": [1, 2, 3, 4]}, indicate_missing=True, scale=None)
    assert data.feature_names == ["x", "y", "x is missing"]
    assert data[:].tolist() == [[1, 1, 0], [2, 2, 1], [3, 3, 0], [2, 4, 1]]
    assert data.encode({"x": [None], "y": [None]})[:].tolist() == [[2, 2.5, 1]]
    same_names = table({"missing 0": [1.0, 2.0], "0": [None, 1.0]}, indicate_missing=True, scale=None)
    assert same_names[:].tolist() == [[1, 1, 1], [2, 1, 0]]
    assert table({"x": [1.0, None, 2.0, 9.0]}, missing="median", scale=None)[1].tolist() == [2]


def test_missing_and_unknown_categories():
    data = table({"town": ["Ulm", None, "Bonn", "Ulm"]}, categorical_as="codes")
    assert data.codes[:, 0].tolist() == [2, 3, 1, 2]
    assert data.encoder.categories == {"town": ("Bonn", "Ulm", None)} and data.encoder.cardinalities == {"town": 4}
    assert data.encode({"town": ["Paris", None, "Ulm"]}).codes[:, 0].tolist() == [0, 3, 2]
    complete = table({"town": ["Ulm", "Bonn"]}, categorical_as="codes")
    assert complete.encode({"town": ["", None, "Bonn"]}).codes[:, 0].tolist() == [0, 0, 1]
    onehot = table({"town": ["Ulm", "Bonn"]}).encode({"town": ["Paris", "Ulm"]})
    assert onehot[:].tolist() == [[0, 0], [0, 1]]


def test_constant_columns():
    columns = {"a": [0.1] * 7, "b": [1e9] * 7, "c": ["x"] * 7, "d": [5.0, None] + [5.0] * 5}
    for scale in ("standard", "minmax"):
        found = table(columns, scale=scale)[:]
        np.testing.assert_allclose(found, np.tile([0, 0, 0, 1], (7, 1)), atol=1e-7)
    assert table({"a": [3.0]})[:].tolist() == [[0]]


@pytest.mark.parametrize("gap", [None, float("nan"), np.nan])
def test_columns_without_any_value(gap):
    data = table({"a": [gap, gap], "b": [1, 3]}, indicate_missing=True)
    assert data[:].tolist() == [[0, -1, 1], [0, 1, 1]]
    assert data.encode({"a": [7.0], "b": [2]})[:].tolist() == [[7, 0, 0]]
    text = table(pl.DataFrame({"a": [None, None]}, schema={"a": pl.String}))
    assert text.feature_names == ["a is missing"] and text.encode({"a": ["x"]})[:].tolist() == [[0]]
    trained = table({"a": ["x", "y"], "b": [True, False], "c": [1.0, 2.0], "k": [3, 4]}, categorical=["k"])
    assert trained.encode({name: [gap] for name in "abck"})[:].tolist() == [[0] * 7]


def test_columns_named_numeric_or_categorical():
    data = table(
        {"zip": [89073, 53111, None], "rooms": ["2", " 3.5", None], "flag": [True, False, True]},
        categorical=["zip"],
        numeric=["rooms", "flag"],
        scale=None,
    )
    assert data.encoder.categories == {"zip": (53111, 89073, None)}
    assert data[:].tolist() == [[2, 1, 0, 1, 0], [3.5, 0, 1, 0, 0], [2.75, 1, 0, 0, 1]]
    assert data.encode({"zip": [53111.0, 1.5], "rooms": [1, 2], "flag": [0, 1]}).codes[:, 0].tolist() == [1, 0]
    with pytest.raises(ValueError, match="the column 'rooms' should hold numbers, but row 1 holds 'two'"):
        data.encode({"zip": [1, 2], "rooms": ["1", "two"], "flag": [True, True]})
    with pytest.raises(ValueError, match="the column 'zip' should hold categories of kind number, it holds String"):
        data.encode({"zip": ["x"], "rooms": [1], "flag": [True]})
    with pytest.raises(
        ValueError, match=r"the column 'x' holds fractions, which are no categories; name it in numeric="
    ):
        table({"x": [0.5]}, categorical=["x"])


def test_times_are_days_if_asked_for():
    day = datetime.datetime(1970, 1, 3, 12)
    columns = {"a": [day.date()], "b": [day], "c": [datetime.timedelta(hours=36)], "d": [day.time()]}
    assert table(columns, numeric=list("abcd"), scale=None)[0].tolist() == [2, 2.5, 1.5, 0.5]
    nanoseconds = pd.DataFrame({"a": pd.to_datetime(["1970-01-02 06:00", None]).astype("datetime64[ns]")})
    assert table(nanoseconds, numeric=["a"], scale=None)[:].tolist() == [[1.25], [1.25]]
    with pytest.raises(
        ValueError, match=r"the column 'b' holds times \(Datetime.*numeric= to count them in days.*drop=\['b"
    ):
        table(columns, numeric=["a"])
    with pytest.raises(ValueError, match="the column 'a' holds values of Date, which are no categories"):
        table(columns, numeric=list("bcd"), categorical=["a"])


def test_infinite_numbers():
    with pytest.raises(ValueError, match="the column 'x' is infinite in row 1; replace infinite numbers"):
        table({"x": [float("nan"), float("inf")]})
    with pytest.raises(ValueError, match="the column 'x' is infinite in row 0"):
        table({"x": [1.0]}).encode({"x": [-float("inf")]})


def test_many_categories():
    names = {"name": [f"n{i:04}" for i in range(1001)] + ["n0007"] * 3 + ["n0005"] * 2}
    text = r"'name' has 1001 different values, too many .* drop=\['name'\].*max_categories.*numeric=\['name'\] finds"
    with pytest.raises(ValueError, match=text):
        table(names)
    assert table(names, categorical_as="codes").encoder.cardinalities == {"name": 1002}
    few = table(names, max_categories=3)
    assert few.feature_names == ["name=n0000", "name=n0005", "name=n0007"] and few[1].tolist() == [0, 0, 0]


# ---- targets


def test_classes():
    data = table({"x": [1, 2, 3], "kind": ["rose", "iris", "rose"]}, target="kind")
    assert data.class_names == ("iris", "rose") and data.target.tolist() == [1, 0, 1] and data.target.dtype == np.int32
    assert data.encoder.decode(np.array([0, 1])) == data.encoder.decode(jnp.array([0, 1])) == ["iris", "rose"]
    assert table({"x": [1, 2], "y": [True, False]}, target="y").class_names == (False, True)
    digits = table({"x": [1, 2, 3], "y": [10, 2, 2]}, target="y", categorical=["y"])
    assert digits.class_names == (2, 10) and digits.target.tolist() == [1, 0, 0]
    with pytest.raises(
        ValueError, match="the target 'kind' is 'tulip' in row 1, which was no class in training; the cl"
    ):
        data.encode({"x": [1, 2], "kind": ["rose", "tulip"]})
    for numbers in ([2], [-1], [0.5], 1, [[0]]):
        with pytest.raises(ValueError, match="decode takes a whole number from 0 to 1 for each row"):
            data.encoder.decode(numbers)
    with pytest.raises(ValueError, match="there are no classes to decode"):
        table({"x": [1], "y": [2]}, target="y").encoder.decode([0])


def test_targets_of_numbers():
    data = table({"x": [1, 2], "a": ["5", "6"], "b": [0.5, 1]}, target=["a", "b"], numeric=["a"])
    assert data.target.tolist() == [[5, 0.5], [6, 1]] and data.target.dtype == np.float32 and data.class_names is None
    assert data.feature_names == ["x"] and repr(data) == "Table of 2 rows: 1 features, target: a, b"
    assert table({"x": [1, 2], "y": [1, 3]}, target="y", numeric=["y"]).target.tolist() == [[1], [3]]
    with pytest.raises(ValueError, match="several targets are numbers, but 'c' holds classes"):
        table({"x": [1], "b": [1], "c": ["u"]}, target=["b", "c"])
    with pytest.raises(ValueError, match=r"of the targets 'a', 'b' the table has only 'b'; give all or none"):
        data.encode({"x": [1], "b": [2]})


@pytest.mark.parametrize("values", [[None, 1.0, float("nan")], [None, "u", None], [None, True, None]])
def test_targets_that_are_missing(values):
    with pytest.raises(
        ValueError, match="the target 'y' is missing in 2 rows, the first is row 0; leave these rows out"
    ):
        table({"x": [1, 2, 3], "y": values}, target="y")

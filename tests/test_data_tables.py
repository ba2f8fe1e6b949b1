"""Tables: what they become, against scikit-learn; what is learnt from which rows; encoders; options."""

import json

import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler

import fluxion as fx
from fluxion.data import DataLoader, Table, TableEncoder, csv_dataset, getobs, kfolds, splitobs, table

ROWS = 300


def houses(rows=ROWS, seed=0):
    """Numbers with gaps, large and small ones, text with gaps, booleans; the price hangs on them."""
    rng = np.random.default_rng(seed)
    area = rng.normal(90, 30, rows)
    year = rng.integers(1900, 2020, rows)
    frame = pd.DataFrame(
        {
            "area": np.where(rng.random(rows) < 0.1, np.nan, area),
            "year": year,
            "id": 1e9 + rng.random(rows),
            "town": rng.choice(["Ulm", "Köln", "東京", "São Paulo"], rows),
            "heating": rng.choice(["gas", "oil", None], rows),
            "garden": rng.random(rows) < 0.5,
            "price": 1000 * area + 10 * year,
        }
    )
    return frame


NUMBERS, CATEGORIES = ["area", "year", "id"], ["town", "heating", "garden"]


def arrays(part):
    return [part.numeric, part.codes, part.target]


def same(one, other):
    for left, right in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_array_equal(left, right)


# ---- values, against scikit-learn


@pytest.mark.parametrize("missing", ["mean", "median"])
@pytest.mark.parametrize("scale", ["standard", "minmax", None])
def test_numbers_are_those_of_sklearn(scale, missing):
    frame = houses()
    scaler = {"standard": StandardScaler(), "minmax": MinMaxScaler(), None: "passthrough"}[scale]
    wanted = make_pipeline(SimpleImputer(strategy=missing), scaler).fit_transform(frame[NUMBERS].astype(float))
    found = table(frame[[*NUMBERS, "price"]], target="price", scale=scale, missing=missing)
    features, target = found[:]
    assert features.dtype == np.float32 and features.shape == (ROWS, 3) and found.feature_names == NUMBERS
    np.testing.assert_allclose(features, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(target, frame[["price"]].to_numpy(np.float32))
    if scale == "standard":
        np.testing.assert_allclose(features.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(features.std(0), 1, atol=1e-5)


def test_onehot_features_are_those_of_sklearn():
    frame, test = houses(), houses(50, seed=1)
    test.loc[:4, "town"] = "Paris"
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    onehot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    transform = ColumnTransformer([("n", numbers, NUMBERS), ("c", onehot, CATEGORIES)])
    plain = [part.astype({name: object for name in CATEGORIES}) for part in (frame, test)]
    wanted = transform.fit_transform(plain[0])
    found = table(frame, target="price")
    np.testing.assert_allclose(found[:][0], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.encode(test)[:][0], transform.transform(plain[1]), rtol=1e-5, atol=1e-5)
    assert found.feature_names == [
        *("area", "year", "id", "town=Köln", "town=São Paulo", "town=Ulm", "town=東京"),
        *("heating=gas", "heating=oil", "heating is missing", "garden=False", "garden=True"),
    ]


def test_codes_are_those_of_sklearn():
    frame = houses()
    (numeric, codes), target = table(frame, target="price", categorical_as="codes")[:]
    ordinal = OrdinalEncoder(encoded_missing_value=2).fit_transform(frame[CATEGORIES].astype(object))
    np.testing.assert_array_equal(codes, ordinal + 1)
    assert codes.dtype == np.int32 and numeric.shape == (ROWS, 3) and target.shape == (ROWS, 1)


def test_sums_lose_no_digits():
    numbers = 1e9 + np.arange(1000) / 1000
    features = table({"x": numbers})[:]
    np.testing.assert_allclose(features[:, 0], StandardScaler().fit_transform(numbers[:, None])[:, 0], atol=1e-5)


# ---- observations and batches


@pytest.mark.parametrize("how", ["onehot", "codes"])
def test_batches_are_the_rows(how):
    data = table(houses(), target="price", categorical_as=how)
    whole, single = data[:], data[7]
    flat = lambda part: np.hstack([np.atleast_2d(x) for x in (part[0] if how == "codes" else (part[0],))])
    order = np.array([5, 3, 3, -1])
    np.testing.assert_array_equal(flat(getobs(data, order)), flat(whole)[order])
    np.testing.assert_array_equal(flat(single), flat(whole)[7:8])
    np.testing.assert_array_equal(single[1], whole[1][7])
    assert single[1].shape == (1,) and len(data) == ROWS == len(list(data))
    rows = [flat(batch) for batch in DataLoader(data, batch_size=64, shuffle=True)]
    assert [len(part) for part in rows] == [64, 64, 64, 64, 44]
    np.testing.assert_array_equal(np.sort(np.vstack(rows), 0), np.sort(flat(whole), 0))
    _, last = splitobs(data, 0.5)
    np.testing.assert_array_equal(flat(last[:]), flat(whole)[150:])
    assert sum(len(valid) for _, valid in kfolds(data, 3)) == ROWS
    with pytest.raises(IndexError, match="table expects indices from 0 to 299, got 300"):
        data[300]


def test_without_a_target_observations_are_features():
    data = table({"x": [1.0, 3.0], "town": ["Ulm", "Bonn"]})
    assert data.target is None and data[:].tolist() == [[-1, 0, 1], [1, 1, 0]] and data[0].tolist() == [-1, 0, 1]
    assert repr(data) == "Table of 2 rows: 3 features, target: none"
    numeric, codes = table({"x": [1.0, 3.0], "town": ["Ulm", "Bonn"]}, categorical_as="codes")[0]
    assert numeric.tolist() == [-1] and codes.tolist() == [2]


def test_a_model_learns_from_a_table():
    train, valid = table(houses(1000), target="price", drop=["id"], validation_split=0.2, subset="both", seed=0)
    x, y = train[:]
    centre, spread = y.mean(), y.std()
    model = fx.Dense(x.shape[1], 1)
    loss = lambda model, x, y: fx.mse(model(x), (y - centre) / spread)
    fx.train(loss, model, DataLoader(train, 100, shuffle=True), fx.setup(fx.Adam(0.03), model), epochs=30)
    assert float(loss(model, *valid[:])) < 0.25  # gaps in the area leave some


# ---- kinds of tables


def test_all_kinds_of_tables_give_the_same(tmp_path):
    frame = houses()
    polars = pl.from_pandas(frame)
    polars.write_parquet(tmp_path / "houses.parquet")
    polars.write_csv(tmp_path / "houses.csv")
    polars.write_csv(tmp_path / "houses.tsv", separator="\t")
    wanted = table(frame, target="price", drop=["id"])
    columns = {name: polars[name].to_list() for name in polars.columns}
    kinds = [polars, polars.lazy(), polars.to_arrow(), columns, frame.set_index("year", drop=False)]
    kinds += [tmp_path / "houses.parquet", str(tmp_path / "houses.csv"), tmp_path / "houses.tsv"]
    kinds += [polars.with_columns(pl.col("town").cast(pl.Categorical), pl.col("heating").cast(pl.Enum(["oil", "gas"])))]
    kinds += [frame.astype({"town": "category", "heating": object})]
    for kind in kinds:
        found = table(kind, target="price", drop=["id"])
        same(found, wanted)
        assert found.encoder.categories == wanted.encoder.categories
        same(wanted.encode(kind), wanted)


def test_rows_begin_where_a_device_takes_them_without_a_copy():
    data = table({"a": ["x", "y", "z"] * 50, "b": range(150)})
    assert all(data[start:].ctypes.data % 64 == 0 for start in range(100))


def test_dicts_of_arrays():
    data = table({"a": np.arange(3), "b": jnp.arange(3.0), "c": pd.Series([1, 2, 3]), "d": pa.array([1, 2, 3])})
    np.testing.assert_allclose(data[:], np.tile(np.array([[-1], [0], [1]]) * 1.5**0.5, 4), rtol=1e-6)


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (3, TypeError, r"a table is the path of a .csv, .tsv or .parquet file, a table of Polars.*got int"),
        ({"a": [1, "x"]}, TypeError, "the column 'a' does not hold values of one kind"),
        (pd.DataFrame({"a": [1, "x"]}), TypeError, "the column 'a' does not hold values of one kind"),
        ({"a": 30}, TypeError, r"a column has a value for each row, as in {'a': \[30\]}, got 30"),
        ({"a": "Ulm"}, TypeError, r"a column has a value for each row, as in {'a': \['Ulm'\]}, got 'Ulm'"),
        ({"a": [1, 2], "b": [1]}, ValueError, r"the columns of a table are of one length, got {'a': 2, 'b': 1}"),
        ({1: [1]}, TypeError, "columns have names, got 1 of type int"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ValueError, "the table has 2 columns named 'a'"),
        ({"a": []}, ValueError, "the table has no rows to learn from"),
        ({}, ValueError, "the table has no rows"),
        (
            {"a": [[1, 2]]},
            ValueError,
            r"the column 'a' holds values of List\(Int64\), which are neither numbers nor cat",
        ),
        ({"a": np.ones((2, 2))}, ValueError, "the column 'a' holds values of Array"),
        ("nowhere.csv", FileNotFoundError, "there is no file nowhere.csv"),
        (__file__, ValueError, r"ends neither in .csv or .tsv .* nor in .parquet; fx.data.csv_dataset"),
    ],
)
def test_what_is_no_table(data, error, text):
    with pytest.raises(error, match=text):
        table(data)


def test_polars_is_needed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(ImportError, match=r"tables need Polars: pip install 'fluxion-ml\[tabular\]'"):
        table({"a": [1]})


# ---- what is learnt from which rows


def test_only_training_rows_teach():
    frame = houses()
    split = {"target": "price", "validation_split": 0.3, "subset": "both", "seed": 3}
    train, valid = table(frame, **split)
    assert len(train) == 210 and len(valid) == 90
    rows = np.flatnonzero(np.isin(frame["id"].to_numpy(np.float64), _ids(frame, valid)))
    assert len(rows) == 90
    changed = frame.copy()
    changed.loc[rows, "area"] = 1e6
    changed.loc[rows, "year"] = 0
    changed.loc[rows, "town"] = "Paris"
    other_train, other_valid = table(changed, **split)
    assert other_train.encoder == train.encoder == valid.encoder
    same(other_train, train)
    assert (other_valid.codes[:, 0] == 0).all() and not np.array_equal(other_valid.numeric, valid.numeric)
    alone = table(frame.drop(index=rows), target="price")
    assert alone.encoder == train.encoder
    same(alone, train)


def _ids(frame, part):
    """The ids of the rows of a part, found by their prices, which differ."""
    return frame["id"].to_numpy()[np.isin(frame["price"].to_numpy(np.float32), part.target[:, 0])]


def test_parts_of_a_split():
    split = {"target": "price", "validation_split": 0.2}
    train, valid = table(houses(), subset="both", seed=1, **split)
    same(table(houses(), subset="training", seed=1, **split), train)
    same(table(houses(), subset="validation", seed=1, **split), valid)
    assert not np.array_equal(table(houses(), subset="training", seed=2, **split).target, train.target)
    fx.seed(5)
    one = table(houses(), subset="both", **split)
    fx.seed(5)
    same(table(houses(), subset="both", **split)[0], one[0])
    together = np.concatenate([train.target, valid.target])
    np.testing.assert_array_equal(np.sort(together, 0), np.sort(houses()[["price"]].to_numpy(np.float32), 0))


def test_classes_are_those_of_all_rows():
    columns = {"x": range(20), "y": [f"class {i:02}" for i in range(20)]}
    train, valid = table(columns, target="y", validation_split=0.5, subset="both", seed=0)
    assert train.class_names == valid.class_names and len(train.class_names) == 20
    assert sorted([*train.target, *valid.target]) == list(range(20))


def test_encode_checks_the_columns():
    train = table(houses(), target="price", drop=["id"])
    test = houses(20, seed=2)
    assert train.encode(test.drop(columns=["price"])).target is None
    same(train.encode(test), train.encode(test[test.columns[::-1]].drop(columns=["id"])))
    assert len(train.encode(test[:0])) == 0 and train.encode(test[:0])[:][0].shape == (0, 11)
    with pytest.raises(ValueError, match="the table lacks columns that were there in training: 'area', 'town'"):
        train.encode(test.drop(columns=["town", "area"]))
    with pytest.raises(ValueError, match="the table has columns that were not there in training: 'pool'; drop them"):
        train.encode(test.assign(pool=1))
    with pytest.raises(ValueError, match="the column 'area' should hold numbers, but row 0 holds 'big'"):
        train.encode(test.assign(area="big"))
    with pytest.raises(ValueError, match="the column 'town' should hold categories of kind text, it holds Int64"):
        train.encode(test.assign(town=1))
    with pytest.raises(ValueError, match=r"the column 'year' should hold numbers, but it holds values of List"):
        train.encode(pl.from_pandas(test).with_columns(pl.lit([1]).alias("year")))


# ---- the encoder


def test_encoders_go_through_json():
    frame = houses()
    for options in [{"categorical_as": "codes"}, {"indicate_missing": True, "drop": ["id"]}, {"target": "garden"}]:
        train = table(frame, **({"target": "price"} | options))
        text = train.encoder.to_json()
        again = TableEncoder.from_json(text)
        assert again == train.encoder and hash(again) == hash(train.encoder) and "東京" in text
        same(again.encode(frame), train)
    for broken in ("", "[]", "{}", text.replace("shift", "offset"), json.dumps({"target_classes": None})):
        with pytest.raises(ValueError, match="this is not the text of TableEncoder"):
            TableEncoder.from_json(broken)


def test_printing():
    columns = {"x": [1.0, None, 3.0], "town": ["Ulm", None, "Bonn"], "kind": ["a", "b", "a"]}
    assert repr(table(columns, target="kind", indicate_missing=True).encoder) == (
        "TableEncoder(\n"
        "  x: (x - 2) / 0.816497, 2 where missing, and whether it is missing\n"
        "  town: 3 categories: 'Bonn', 'Ulm', None\n"
        "  target kind: 2 classes: 'a', 'b'\n"
        ")  # 5 features"
    )


def test_codes_feed_embeddings():
    data = table(houses(), target="price", categorical_as="codes")
    sizes = list(data.encoder.cardinalities.values())
    assert sizes == [5, 4, 3] and [*data.encoder.cardinalities] == CATEGORIES
    embeddings = [fx.Embedding(size, 2) for size in sizes]
    (numeric, codes), _ = data[:8]
    joined = jnp.concatenate([numeric, *(layer(codes[:, i]) for i, layer in enumerate(embeddings))], -1)
    assert joined.shape == (8, 9) and isinstance(data, Table)


# ---- options


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"target": "prise"}, ValueError, "target= names the column 'prise', which .* did you mean 'price'?"),
        (
            {"target": "zzz"},
            ValueError,
            "does not have; it has 'area', 'year', 'id', 'town', 'heating', 'garden', 'price'",
        ),
        ({"numeric": ["aera"]}, ValueError, "numeric= names the column 'aera'.* did you mean 'area'"),
        ({"categorical": ["Town"]}, ValueError, "categorical= names the column 'Town'.* 'town'"),
        ({"drop": ["yeer"]}, ValueError, "drop= names the column 'yeer'.* 'year'"),
        ({"target": "price", "drop": ["price"]}, ValueError, "target= names the column 'price', which the table"),
        ({"drop": "price"}, TypeError, "drop= takes a list of names of columns, got 'price'"),
        ({"target": [1]}, TypeError, "target= takes a list of names"),
        ({"numeric": ["area"], "categorical": ["area"]}, ValueError, "numeric= and categorical= both name 'area'"),
        ({"categorical_as": "one"}, ValueError, "table takes 'onehot', 'codes' as categorical_as, got 'one'"),
        ({"scale": "robust"}, ValueError, "table takes 'standard', 'minmax', None as scale, got 'robust'"),
        ({"missing": "zero"}, ValueError, "table takes 'mean', 'median' as missing, got 'zero'"),
        ({"max_categories": 0}, ValueError, "max_categories must be at least 1"),
        ({"validation_split": 0.2}, ValueError, "validation_split= and subset= go together, got 0.2 and None"),
        ({"subset": "both"}, ValueError, "validation_split= and subset= go together, got None and 'both'"),
        (
            {"subset": "test", "validation_split": 0.2},
            ValueError,
            "table takes 'training', 'validation', 'both' as subset",
        ),
        ({"subset": "both", "validation_split": 2}, ValueError, "validation_split is a fraction between 0 and 1, as"),
        ({"subset": "both", "validation_split": 1e-9}, ValueError, "of 300 rows leaves a part without rows"),
        ({"subset": "training", "validation_split": 0.2}, ValueError, "subset='training' needs seed="),
        ({"target": ["price", *NUMBERS], "drop": CATEGORIES}, ValueError, "no column is left for the features"),
    ],
)
def test_options_that_do_not_fit(options, error, text):
    with pytest.raises(error, match=text):
        table(houses(), **options)


def test_unknown_options(tmp_path):
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(TypeError, match="unexpected keyword argument 'shuffle'"):
        csv_dataset(tmp_path / "a.csv", shuffle=True)

"""The named data sets: what their records say, and the data that is made up in their form."""

import functools
import inspect

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from webserver import web

from fluxion.data import (
    CIFAR10,
    CIFAR100,
    EMNIST,
    IMDB,
    KMNIST,
    MNIST,
    SVHN,
    BostonHousing,
    Cora,
    FashionMNIST,
    Iris,
    Omniglot,
    TinyShakespeare,
    Titanic,
    Wine,
)
from fluxion.data.named.download import RemoteFile

__all__ = ["web"]

DOWNLOADED = [
    *(MNIST, FashionMNIST, KMNIST, EMNIST, CIFAR10, CIFAR100, SVHN, Omniglot),
    *(BostonHousing, Titanic, TinyShakespeare, IMDB, Cora),
]
IMAGES = DOWNLOADED[:8]


# ---- Records


def records(kind):
    """All files of a data set."""
    data = kind()
    found = [value for _, value in inspect.getmembers(kind) if isinstance(value, RemoteFile)]
    files = getattr(kind, "files", ())
    found += files.values() if isinstance(files, dict) else files
    by_part = callable(getattr(kind, "file", None))
    return found + [data.file(part) for part in data.parts] if by_part else found


@pytest.mark.parametrize("kind", DOWNLOADED)
def test_every_file_has_a_checksum_and_addresses(kind):
    files = records(kind)
    assert files
    for file in files:
        assert len(set(file.urls)) >= 2 and all(url.startswith(("http://", "https://")) for url in file.urls)
        assert "/" not in file.name
        checksum = kind.combined_sha256 if kind is Cora else file.sha256
        assert len(checksum) == 64 and set(checksum) <= set("0123456789abcdef")


def test_checksums_combine_to_those_of_mldatasets():
    """MLDatasets publishes the checksums of all files of a set by exclusive or: ours, found elsewhere, agree."""
    wanted = {
        MNIST: "0bb1d5775d852fc5bb32c76ca15a7eb4e9a3b1514a2493f7edfcf49b639d7975",
        FashionMNIST: "c916b6e00d3083643332b70f3c5c3543d3941334b802e252976893969ee6af67",
        SVHN: "2fa3b0b79baf39de36ed7579e6947760e6241f4c52b6b406cabc44d654c13a50",
    }
    for kind, checksum in wanted.items():
        sums = [int(file.sha256, 16) for file in records(kind)]
        assert f"{functools.reduce(int.__xor__, sums):064x}" == checksum


# ---- Made-up data


def nearest_mean(x, y, x_test, y_test):
    """The accuracy of a model that takes the class whose mean image is nearest."""
    means = np.stack([x[y == label].mean(0).ravel() for label in range(y.max() + 1)])
    scores = x_test.reshape(len(x_test), -1) @ means.T - (means**2).sum(1) / 2
    return (scores.argmax(1) == y_test).mean()


@pytest.mark.parametrize("kind", IMAGES)
def test_made_up_images_can_be_learnt(kind, web):
    data = kind(synthetic=True, root="/nowhere")
    (x, y), (x_test, y_test) = data
    assert x.shape == (2000, *data.image_shape) and x_test.shape == (400, *data.image_shape)
    assert x.dtype == np.float32 and y.dtype == np.int32 and x.min() >= 0 and x.max() <= 1
    first = set(map(bytes, x))
    assert len(first) == 2000 and first.isdisjoint(map(bytes, x_test))
    np.testing.assert_array_equal(kind(synthetic=True).train[0], x)
    raw = kind(synthetic=10, dtype=np.uint8).test
    assert raw[0].dtype == np.uint8 and len(raw[0]) == 2
    if kind is not Omniglot:
        assert set(y) == set(range(len(data.class_names)))
        assert nearest_mean(x, y, x_test, y_test) > 0.9
    assert not web.requests


def test_made_up_omniglot_has_other_characters_to_test_on():
    data = Omniglot(synthetic=200)
    assert data.train[1].max() == 39 and data.test[1].min() == 964 and len(data.small1[1]) == 40
    x, y = data.train
    assert nearest_mean(x, y, x, y) == 1


def test_made_up_tables_can_be_learnt():
    (x, y), (x_test, y_test) = BostonHousing(synthetic=True)
    weights = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y, rcond=None)[0]
    assert np.abs(np.c_[x_test, np.ones(len(x_test))] @ weights - y_test).mean() < 1
    (columns, y), (other, _) = Titanic(synthetic=True)
    assert columns.keys() == other.keys() == set(Titanic.feature_names) and len(y) == 1048
    assert all(len(column) == 1048 for column in columns.values())
    assert y[columns["sex"] == "female"].mean() > y[columns["sex"] == "male"].mean() + 0.3
    for name, kind in Titanic.types.items():
        assert columns[name].dtype == {int: np.int32, float: np.float32, str: object}[kind]
    assert np.isnan(columns["age"]).any() and None in columns["cabin"] and None in columns["boat"]
    assert set(columns["name"]).isdisjoint(other["name"])


def test_made_up_texts_can_be_learnt():
    (x, y), (x_test, y_test) = IMDB(synthetic=True)
    words = CountVectorizer().fit(x)
    model = LogisticRegression(max_iter=200).fit(words.transform(x), y)
    assert model.score(words.transform(x_test), y_test) > 0.95 and set(x).isdisjoint(x_test)
    data = TinyShakespeare(synthetic=5000)
    assert len(data.train) == 5000 and len(data.test) == 1000 and data.train[:1000] != data.test
    assert data.encode(data.train).max() < 65


@pytest.mark.parametrize("count", [2708, 700, 30, 7, 1])
def test_made_up_graphs_have_the_form_of_cora(count):
    cora = Cora(synthetic=count)
    masks = np.stack([cora.train_mask, cora.val_mask, cora.test_mask])
    assert masks.shape == (3, count) and masks.sum(0).max() <= 1
    assert cora.features.shape == (count, 1433) and cora.labels.shape == (count,)
    assert cora.edges.size == 0 or cora.edges.max() < count
    start, end = cora.edges
    codes = start * count + end
    assert (start != end).all() and len(set(codes)) == len(codes) and set(codes) == set(end * count + start)
    if count == 2708:
        assert masks.sum(1).tolist() == [140, 500, 1000] and cora.edges.shape == (2, 10556)
        assert np.bincount(cora.labels[cora.train_mask]).tolist() == [20] * 7
        assert (cora.labels[start] == cora.labels[end]).mean() > 0.7
        model = LogisticRegression().fit(cora.features[cora.train_mask], cora.labels[cora.train_mask])
        assert model.score(cora.features[cora.test_mask], cora.labels[cora.test_mask]) > 0.8


# ---- All of them


@pytest.mark.parametrize("kind", [*DOWNLOADED, Iris, Wine])
def test_every_data_set_says_what_it_is(kind):
    data = kind()
    assert all(isinstance(text, str) and text for text in (data.title, data.citation, data.licence, data.source))
    text = repr(data)
    assert text.startswith(f"{kind.__name__}: {data.title}\n")
    assert all(part in text for part in (data.citation, data.licence, data.source))
    assert max(map(len, text.splitlines())) < 250
    assert kind.__doc__.splitlines()[0].endswith((".", "x 28 points.", "classes.")) and "Source: " in kind.__doc__


@pytest.mark.parametrize("kind", DOWNLOADED)
@pytest.mark.parametrize(
    "synthetic, error, message",
    [
        (0, ValueError, "must be at least 1, got 0"),
        ("yes", TypeError, "synthetic is a whole number, got 'yes'"),
    ],
)
def test_made_up_data_of_no_size(kind, synthetic, error, message):
    with pytest.raises(error, match=message):
        kind(synthetic=synthetic)


@pytest.mark.parametrize("kind", IMAGES)
def test_types_that_are_none_of_images(kind):
    with pytest.raises(TypeError, match=r"dtype is a type of floats, such as np.float32, got int64"):
        kind(dtype=np.int64)

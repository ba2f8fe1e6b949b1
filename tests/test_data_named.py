"""The named data sets: from a file in the form of each one, downloaded, to its arrays; bundled; and made up."""

import gzip
import itertools
import pickle
import struct

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io
from PIL import Image
from sklearn.datasets import load_iris, load_wine
from webserver import publish, tar, web, written, zipped

import fluxion as fx
from fluxion.data import (
    CIFAR10,
    CIFAR100,
    EMNIST,
    IMDB,
    KMNIST,
    MNIST,
    SVHN,
    BostonHousing,
    DataLoader,
    FashionMNIST,
    Iris,
    Omniglot,
    TinyShakespeare,
    Titanic,
    Wine,
    digits,
)
from fluxion.data.errors import CorruptFileError

__all__ = ["publish", "web"]

RNG = np.random.default_rng(0)


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


# ---- Images


def images(count, shape):
    return RNG.integers(0, 256, (count, *shape)).astype(np.uint8)


def assert_images(data, x, y, part="train"):
    """That a part has these bytes, as floats and as they are, and these labels."""
    found, labels = getattr(data, part)
    assert found.dtype == np.float32 and labels.dtype == np.int32
    np.testing.assert_array_equal(found, (x / 255).astype(np.float32))
    np.testing.assert_array_equal(labels, y)


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST, KMNIST])
def test_idx_files_become_images(kind, publish, web, tmp_path):
    x, y, x_test, y_test = images(5, (28, 28)), np.uint8([0, 9, 3, 2, 1]), images(2, (28, 28)), np.uint8([7, 8])
    arrays = {"train-images-idx3": x, "train-labels-idx1": y, "t10k-images-idx3": x_test, "t10k-labels-idx1": y_test}
    publish(kind, {f"{name}-ubyte.gz": gzip.compress(idx(array)) for name, array in arrays.items()})
    data = kind(tmp_path, progress=False)
    assert not web.requests
    assert_images(data, x[..., None], y)
    assert len(web.requests) == 2, "only the part that is asked for is downloaded"
    assert_images(data, x_test[..., None], y_test, "test")
    assert data.train is data.train
    (again, _), (raw, _) = kind(tmp_path, dtype=np.uint8, download=False)
    np.testing.assert_array_equal(again, x[..., None])
    assert raw.dtype == np.uint8 and len(web.requests) == 4
    for dtype, error in ((np.float64, 1e-16), (np.float16, 3e-4), (jnp.bfloat16, 2e-3)):
        found = kind(tmp_path, dtype=dtype).train[0]
        assert found.dtype == dtype
        np.testing.assert_allclose(found.astype(np.float64), x[..., None] / 255, atol=error)


@pytest.mark.parametrize("split", ["balanced", "byclass", "bymerge", "digits", "letters", "mnist"])
def test_emnist_stands_upright(split, publish, tmp_path):
    x, y = images(4, (28, 28)), np.uint8([1, 2, 3, 9])
    entries = {}
    for part in ("train", "test"):
        lying = np.ascontiguousarray(x.transpose(0, 2, 1))
        entries[f"gzip/emnist-{split}-{part}-images-idx3-ubyte.gz"] = gzip.compress(idx(lying))
        entries[f"gzip/emnist-{split}-{part}-labels-idx1-ubyte.gz"] = gzip.compress(idx(y))
        entries[f"gzip/emnist-{split}-mapping.txt"] = b"0 48"
    publish(EMNIST, {"gzip.zip": zipped(entries)})
    data = EMNIST(split, tmp_path, progress=False)
    for part in ("train", "test"):
        assert_images(data, x[..., None], y - (split == "letters"), part)
    count = {"byclass": 62, "balanced": 47, "bymerge": 47, "letters": 26}.get(split, 10)
    assert len(data.class_names) == len(set(data.class_names)) == count
    with pytest.raises(ValueError, match=r"EMNIST takes 'balanced', 'byclass', .* as split, got 'small'"):
        EMNIST("small")


def cifar_files(kind, pickled):
    """The archive of a few images, in either format, with the images and the labels it has."""
    fine = kind is CIFAR100
    parts = ["train", "test"] if fine else [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    folder = {True: "cifar-100-", False: "cifar-10-batches-"}[fine] + {True: ("python"), False: "binary"}[pickled]
    folder = folder.replace("batches-python", "batches-py").replace("batches-binary", "batches-bin")
    x = {part: images(2, (3072,)) for part in parts}
    y = {part: RNG.integers(0, 10, (2, 2 if fine else 1)).astype(np.uint8) for part in parts}
    entries = {f"{folder}/readme.txt": b"hello"}
    for part in reversed(parts):  # in any order
        labels = y[part].T.tolist()
        keys = ["coarse_labels", "fine_labels"] if fine else ["labels"]
        batch = {"data": x[part]} | dict(zip(keys, labels, strict=True))
        records = np.concatenate([y[part], x[part]], axis=1).tobytes()
        entries[f"{folder}/{part}{'' if pickled else '.bin'}"] = pickle.dumps(batch, 2) if pickled else records
    test = parts.pop()
    shaped = {part: x[part].reshape(2, 3, 32, 32).transpose(0, 2, 3, 1) for part in x}
    train = [np.concatenate([array[part] for part in parts]) for array in (shaped, y)]
    return tar(entries), {"train": train, "test": [shaped[test], y[test]]}


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("kind", [CIFAR10, CIFAR100])
def test_cifar_of_both_formats(kind, pickled, publish, web, tmp_path):
    archive, wanted = cifar_files(kind, pickled)
    name = f"cifar-{10 if kind is CIFAR10 else 100}-{'python' if pickled else 'binary'}.tar.gz"
    publish(kind, {name: archive})
    if pickled:  # the file of the other format is used only where it is
        (tmp_path / kind.__name__).mkdir()
        (tmp_path / kind.__name__ / name).write_bytes(archive)
    for part, (x, y) in wanted.items():
        assert_images(kind(tmp_path, progress=False), x, y[:, -1], part)
        if kind is CIFAR100:
            assert_images(kind(tmp_path, labels="coarse"), x, y[:, 0], part)
            both = getattr(kind(tmp_path, labels="both"), part)[1]
            assert {name: label.tolist() for name, label in both.items()} == {
                "fine": y[:, 1].tolist(),
                "coarse": y[:, 0].tolist(),
            }
    assert len(web.requests) == (not pickled)


def test_cifar_100_has_two_kinds_of_classes():
    assert len(CIFAR100().class_names) == 100 and len(CIFAR100(labels="coarse").class_names) == 20
    assert list(CIFAR100().class_names) == sorted(CIFAR100().class_names)
    assert list(CIFAR100.coarse_names) == sorted(CIFAR100.coarse_names)
    with pytest.raises(ValueError, match="CIFAR100 takes 'fine', 'coarse', 'both' as labels, got 'all'"):
        CIFAR100(labels="all")


def test_a_pickle_that_could_run_something_is_refused(publish, tmp_path):
    class Harmful:
        def __reduce__(self):
            return exec, ("raise AssertionError('it was run')",)

    harm = pickle.dumps({"data": Harmful(), "labels": [1]}, 2)
    archive = tar({"cifar-10-batches-py/test_batch": harm})
    publish(CIFAR10, {"cifar-10-python.tar.gz": archive})
    (tmp_path / "CIFAR10").mkdir()
    (tmp_path / "CIFAR10" / "cifar-10-python.tar.gz").write_bytes(archive)
    with pytest.raises(CorruptFileError, match=r"test_batch: the pickle names '(builtins|__builtin__).exec'"):
        _ = CIFAR10(tmp_path).test


def test_svhn_calls_ten_zero(publish, tmp_path):
    x, y = images(3, (32, 32, 3)), np.uint8([[10], [1], [9]])
    mat = {"X": x.transpose(1, 2, 3, 0), "y": y}
    data = written(lambda file: scipy.io.savemat(file, mat, do_compression=True))
    publish(SVHN, {f"{part}_32x32.mat": data for part in ("train", "test", "extra")})
    for part in ("train", "test", "extra"):
        assert_images(SVHN(tmp_path, progress=False), x, [0, 1, 9], part)
    for change, message in (
        ({"y": np.array([[np.nan], [1], [2]])}, "labels from nan to nan for 10 classes"),
        ({"y": np.uint8([[1]])}, r"labels of shape \(1,\) for 3 observations"),
        ({"X": np.uint8([[1]])}, r"images of shape \(1, 1\)"),
        ({"X": x.astype(float).transpose(1, 2, 3, 0)}, r"images of float64\(3, 32, 32, 3\) instead of uint8"),
    ):
        publish(SVHN, {"test_32x32.mat": written(lambda file, change=change: scipy.io.savemat(file, mat | change))})
        (tmp_path / "SVHN" / "test_32x32.mat").unlink()
        with pytest.raises(CorruptFileError, match=message):
            _ = SVHN(tmp_path, progress=False).test


def test_omniglot_drawings_know_their_characters(publish, tmp_path):
    drawings = {
        "Balinese/character02/0108_02": 0,
        "Balinese/character01/0108_01": 0,
        "Tifinagh/character55/0964_20": 0,
    }
    ink = {name: RNG.random((105, 105)) < 0.9 for name in drawings}

    def archive(folder, names):
        entries = {f"{folder}/{name}.png": written(lambda file, name=name: png(file, ink[name])) for name in names}
        return zipped({f"{folder}/": b"", "__MACOSX/x": b"", **entries})

    def png(file, paper):
        Image.fromarray(paper).save(file, "png")

    publish(
        Omniglot,
        {
            "images_background.zip": archive("images_background", drawings),
            "images_background_small1.zip": archive("images_background_small1", list(drawings)[:1]),
            "images_background_small2.zip": archive("images_background_small2", list(drawings)[2:]),
        },
    )
    data = Omniglot(tmp_path, progress=False)
    x, y = data.train
    assert x.shape == (3, 105, 105, 1) and set(np.unique(x)) == {0, 1}
    assert [data.class_names[label] for label in y] == [
        *("Balinese/character01", "Balinese/character02", "Tifinagh/character55")
    ]
    assert y[-1] == 963
    np.testing.assert_array_equal(x[0, ..., 0], ink["Balinese/character01/0108_01"])
    assert data.small1[1].tolist() == [y[1]] and data.small2[1].tolist() == [963]


def test_omniglot_has_the_characters_of_the_paper():
    names = Omniglot.class_names
    assert len(names) == len(set(names)) == 1623 and Omniglot.background == 964
    assert len({name.split("/")[0] for name in names}) == 50


@pytest.mark.parametrize(
    "x, y, message",
    [
        (
            images(2, (28, 27)),
            np.uint8([1, 2]),
            r"images of uint8\(2, 28, 27, 1\) instead of uint8\('N', 28, 28, 1\)",
        ),
        (images(2, (28, 28)), np.uint8([1, 2, 3]), r"labels of shape \(3,\) for 2 observations"),
        (images(2, (28, 28)), np.uint8([1, 10]), "labels from 1 to 10 for 10 classes"),
    ],
)
def test_files_of_another_form_are_refused(x, y, message, publish, tmp_path):
    publish(
        MNIST,
        {
            "train-images-idx3-ubyte.gz": gzip.compress(idx(x)),
            "train-labels-idx1-ubyte.gz": gzip.compress(idx(y)),
        },
    )
    with pytest.raises(CorruptFileError, match=message):
        _ = MNIST(tmp_path, progress=False).train


# ---- Tables


@pytest.mark.parametrize("kind, load, sizes", [(Iris, load_iris, (120, 30)), (Wine, load_wine, (144, 34))])
def test_bundled_tables_are_those_of_scikit_learn(kind, load, sizes):
    data, source = kind(dtype=np.float64), load()
    (x, y), (x_test, y_test) = data
    assert (len(y), len(y_test)) == sizes == data.sizes and y.dtype == np.int32
    assert x.shape[1] == len(data.feature_names)
    ours = sorted((*row, label) for row, label in zip([*x, *x_test], [*y, *y_test], strict=True))
    assert ours == sorted((*row, label) for row, label in zip(source.data, source.target, strict=True))
    place = np.array([i % 5 == 4 for n in np.bincount(source.target) for i in range(n)])
    np.testing.assert_array_equal(x_test, source.data[place])
    np.testing.assert_array_equal(kind().train[0], x.astype(np.float32))
    kind().train[0][:] = 0
    assert kind().train[0].any(), "arrays belong to one object alone"
    with pytest.raises(TypeError, match=r"dtype is a type of floats, such as np.float32, got int32"):
        kind(dtype=np.int32)


def test_digits_are_a_named_data_set():
    data = digits(dtype=np.uint8)
    assert data.train[0].dtype == np.uint8 and data.train[0].max() == 16
    assert len(data.class_names) == 10 and "come with Fluxion" in repr(data) and data.licence == "CC BY 4.0"
    x, y = digits().train
    assert len(DataLoader((x, y), batch_size=100)) == 15


def test_a_data_set_of_two_parts_is_none_to_draw_batches_from():
    data = digits()
    for use in (len, fx.data.numobs, lambda data: DataLoader(data, batch_size=10)):
        with pytest.raises(
            TypeError, match=r"Digits has two parts, each with a length of its own: take its train or its test"
        ):
            use(data)
    assert data and list(data)[1] is data[1] is data.test and len(DataLoader(data.test, batch_size=10)) == 36


def test_boston_is_that_of_keras(publish, tmp_path):
    x, y = RNG.normal(size=(12, 13)), RNG.uniform(5, 50, 12)
    publish(BostonHousing, {"boston_housing.npz": written(lambda file: np.savez(file, x=x, y=y))})
    (x_train, y_train), (x_test, y_test) = BostonHousing(tmp_path, dtype=np.float64, progress=False)
    np.testing.assert_array_equal(x_test, x[[4, 9]])
    np.testing.assert_array_equal(y_test, y[[4, 9]])
    np.testing.assert_array_equal(np.delete(x, [4, 9], 0), x_train)
    assert len(y_train) == 10 and BostonHousing(tmp_path).train[1].dtype == np.float32
    for i, arrays in enumerate(({"x": x[:, :5], "y": y}, {"x": np.array(1), "y": y}, {"x": x, "y": y[1:]}, {"x": x})):
        publish(BostonHousing, {"boston_housing.npz": written(lambda file, arrays=arrays: np.savez(file, **arrays))})
        with pytest.raises(CorruptFileError, match=r"no arrays x \(N, 13\) and y \(N,\)"):
            _ = BostonHousing(tmp_path / str(i), progress=False).train


TITANIC = """pclass,survived,name,sex,age,sibsp,parch,"ticket","fare","cabin","embarked","boat","body","home.dest"
1,1,"Allen, Miss. Elisabeth Walton","female",29,0,0,"24160",211.3375,"B5","S","2",?,"St Louis, MO"
1,0,"Allison, Miss. Helen ""Loraine\""","female",0.92,1,2,"113781",151.55,"C22 C26","S",?,135,?
"""


def test_titanic_has_columns_with_missing_values(publish, tmp_path):
    publish(Titanic, {"titanic.csv": TITANIC.encode()})
    data = Titanic(tmp_path, progress=False)
    x, y = data.train
    assert tuple(x) == data.feature_names and "survived" not in x and y.tolist() == [1, 0] and y.dtype == np.int32
    assert x["name"].tolist() == ["Allen, Miss. Elisabeth Walton", 'Allison, Miss. Helen "Loraine"']
    assert x["boat"].tolist() == ["2", None] and x["home.dest"].tolist() == ["St Louis, MO", None]
    np.testing.assert_array_equal(x["body"], np.float32([np.nan, 135]))
    np.testing.assert_array_equal(x["age"], np.float32([29, 0.92]))
    assert x["pclass"].dtype == np.int32 and x["fare"].dtype == np.float32 and x["sex"].dtype == object
    assert data.test[1].shape == (0,)
    publish(Titanic, {"titanic.csv": TITANIC.replace("1,1,", "1,2,").encode()})
    with pytest.raises(CorruptFileError, match="labels from 0 to 2 for 2 classes"):
        _ = Titanic(tmp_path / "other", progress=False).train


# ---- Text


def test_tiny_shakespeare_is_split_at_nine_tenths(publish, tmp_path):
    text = "First Citizen:\nBefore we proceed any further, hear me speak.\n\n" * 10
    publish(TinyShakespeare, {"input.txt": text.encode()})
    data = TinyShakespeare(tmp_path, progress=False)
    train, test = data
    assert train + test == text and len(train) == len(text) * 9 // 10
    assert len(data.vocabulary) == 65 and list(data.vocabulary) == sorted(data.vocabulary)
    assert data.decode(data.encode(text)) == text and data.decode([]) == ""
    assert data.encode("\n z").tolist() == [0, 1, 64]
    with pytest.raises(ValueError, match="the vocabulary of 65 characters has no '#', 'é'"):
        data.encode("é#a")
    with pytest.raises(IndexError, match="places from -1 to 3 of 65 characters"):
        data.decode([3, -1])
    with pytest.raises(TypeError, match=r"decode takes integers \(N,\), got float64\(1,\)"):
        data.decode([0.5])
    publish(TinyShakespeare, {"input.txt": "é".encode()})
    with pytest.raises(CorruptFileError, match="the text is not ASCII"):
        _ = TinyShakespeare(tmp_path / "other", progress=False).train


def test_imdb_has_texts_and_labels(publish, tmp_path):
    entries = {"aclImdb/train/unsup/3_0.txt": b"no label", "aclImdb/train/urls_pos.txt": b"", "aclImdb/imdb.vocab": b""}
    for part, kind, i in itertools.product(("train", "test"), ("pos", "neg"), (1, 0)):
        entries[f"aclImdb/{part}/{kind}/{i}_7.txt"] = f"{part} {kind} {i} é".encode()
    publish(IMDB, {"aclImdb_v1.tar.gz": tar(entries)})
    data = IMDB(tmp_path, progress=False)
    for part in ("train", "test"):
        x, y = getattr(data, part)
        assert x == [f"{part} {kind} {i} é" for kind in ("neg", "pos") for i in (0, 1)]
        assert y.tolist() == [0, 0, 1, 1] and y.dtype == np.int32
    publish(IMDB, {"aclImdb_v1.tar.gz": tar({"aclImdb/train/pos/1_2.txt": b"\xff"})})
    with pytest.raises(CorruptFileError, match=r"aclImdb/train/pos/1_2.txt is no text"):
        _ = IMDB(tmp_path / "other", progress=False).train
    with pytest.raises(CorruptFileError, match="no reviews in aclImdb/test/neg and aclImdb/test/pos"):
        _ = IMDB(tmp_path / "other", progress=False).test

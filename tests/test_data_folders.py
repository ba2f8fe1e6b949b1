"""Files in folders: which are found, in which order, their classes and their parts. Texts stand for all kinds."""

import os
import pathlib
import pickle

import numpy as np
import pytest

import fluxion as fx
from fluxion.data import FileDataset, text_dataset_from_directory
from fluxion.data.errors import CorruptFileError
from fluxion.data.folders.listing import files_below, subfolders
from fluxion.data.folders.parts import drawn


def tree(folder, *names):
    """Files below a folder, each with its own name in it; a name that ends in / is a folder."""
    for name in names:
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
    return folder


def names(dataset, folder):
    """The files as they were given to `tree`."""
    return [pathlib.Path(file).relative_to(folder).as_posix() for file in dataset.files]


@pytest.fixture
def pets(tmp_path):
    return tree(tmp_path, *(f"{kind}/{number}.txt" for kind in ("cat", "dog") for number in range(10)))


def test_files_in_order(tmp_path):
    tree(
        tmp_path,
        "b/z.txt",
        "b/a/c/3.txt",
        "b/a/1.txt",
        "b/a-b/2.txt",
        "b/B.TXT",
        "a b/ü ñ.txt",
        "a b/ .txt",
        "empty/",
        "top.txt",
    )
    tree(tmp_path, "b/.hidden.txt", ".git/1.txt", "__MACOSX/b/1.txt", "b/.a/1.txt", "b/other.md")
    dataset = text_dataset_from_directory(tmp_path)
    assert dataset.class_names == ["a b", "b", "empty"]
    order = ["a b/ .txt", "a b/ü ñ.txt", "b/B.TXT", "b/z.txt", "b/a/1.txt", "b/a-b/2.txt", "b/a/c/3.txt"]
    assert names(dataset, tmp_path) == order  # as Keras 3 lists them
    assert dataset.labels.tolist() == [0, 0, 1, 1, 1, 1, 1] and dataset.labels.dtype == np.int32
    assert [dataset[i] for i in range(7)] == [(name, label) for name, label in zip(order, dataset.labels, strict=True)]
    assert dataset.source(4) == str(tmp_path / "b/a/1.txt") and repr(dataset) == "FileDataset of 7 files of 3 classes"
    assert text_dataset_from_directory(tmp_path, extensions=(".md",), label_mode=None)[0] == "b/other.md"


def test_unlabelled_files_are_all_files(tmp_path):
    tree(tmp_path, "b/1.txt", "2.txt", "b/c/3.txt")
    for options in ({"labels": None}, {"label_mode": None}):
        dataset = text_dataset_from_directory(str(tmp_path), **options)
        assert names(dataset, tmp_path) == ["2.txt", "b/1.txt", "b/c/3.txt"]
        assert dataset.labels is None and dataset.class_names == [] and dataset[1:] == ["b/1.txt", "b/c/3.txt"]
        assert repr(dataset) == "FileDataset of 3 files"


def test_label_modes(pets):
    options = {"int": np.int32(1), "onehot": [0, 1], "categorical": [0, 1], "binary": [1]}
    for mode, label in options.items():
        text, found = text_dataset_from_directory(pets, label_mode=mode)[10]
        assert text == "dog/0.txt" and np.array_equal(found, label) and np.shape(found) == np.shape(label)
        assert found.dtype == (np.int32 if mode == "int" else np.float32)
    dataset = text_dataset_from_directory(pets, label_mode="onehot")
    dataset[10][1][:] = 7
    assert dataset[10][1].tolist() == [0, 1]  # a copy, so that writing to it changes no other label
    texts, labels = dataset[[0, 10]]
    assert texts == ["cat/0.txt", "dog/0.txt"] and labels.tolist() == [[1, 0], [0, 1]]


def test_labels_from_names(tmp_path):
    tree(tmp_path, "cat.0.txt", "dog.0.txt", "more/cat.1.txt")
    dataset = text_dataset_from_directory(tmp_path, labels=r"(cat|dog)\.")
    assert dataset.class_names == ["cat", "dog"] and dataset.labels.tolist() == [0, 1, 0]
    assert dataset.labels.tolist() == text_dataset_from_directory(tmp_path, labels=r"(cat|dog)\..*").labels.tolist()
    turned = text_dataset_from_directory(tmp_path, labels=r"(cat|dog)\.", class_names=["dog", "cat"])
    assert turned.class_names == ["dog", "cat"] and turned.labels.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match=r"the name of 1 of 3 files gives no class .* such as '.*dog\.0\.txt'"):
        text_dataset_from_directory(tmp_path, labels="(cat)")
    with pytest.raises(ValueError, match=r'labels="inferred" or a regular expression with one group.*got \'infered\''):
        text_dataset_from_directory(tmp_path, labels="infered")
    with pytest.raises(ValueError, match=r"labels='\(' is no regular expression"):
        text_dataset_from_directory(tmp_path, labels="(")


def test_labels_from_a_function(pets):
    dataset = text_dataset_from_directory(pets, labels=lambda path: "odd" if int(path.stem) % 2 else "even")
    assert dataset.class_names == ["even", "odd"] and dataset.labels.tolist() == [0, 1] * 10
    numbered = text_dataset_from_directory(pets, labels=lambda path: np.int64(int(path.stem) % 3))
    assert numbered.class_names == ["0", "1", "2"] and numbered.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0] * 2
    with pytest.raises(ValueError, match=r"all names of classes or all numbers of classes from 0 on, got 0\.5 for"):
        text_dataset_from_directory(pets, labels=lambda path: 0.5)


def test_labels_from_a_list(pets):
    for labels in ([0, 2] * 10, np.array([0, 2] * 10), ("a", "c") * 10):
        dataset = text_dataset_from_directory(pets, labels=labels)
        expected = ["a", "c"] if isinstance(labels[0], str) else ["0", "1", "2"]
        assert dataset.class_names == expected and dataset.labels.max() == len(expected) - 1
    named = text_dataset_from_directory(pets, labels=[0, 1] * 10, class_names=["zero", "one", "two"])
    assert named.class_names == ["zero", "one", "two"]
    with pytest.raises(
        ValueError, match=r"one label for each file: there are 20 files in .*, the first '.*0.txt', and 3"
    ):
        text_dataset_from_directory(pets, labels=[0, 1, 2])
    with pytest.raises(ValueError, match="there is a label 2, but only 2 classes"):
        text_dataset_from_directory(pets, labels=[0, 2] * 10, class_names=["zero", "one"])
    with pytest.raises(ValueError, match=r"numbers of classes, but there is a label 5000000; make names of them"):
        text_dataset_from_directory(pets, labels=[0, 5_000_000] * 10)
    with pytest.raises(ValueError, match="found one class only, '0'"):
        text_dataset_from_directory(pets, labels=[0] * 20)
    for labels in ([0, "a"] * 10, ["a", 0] * 10, [-1, 0] * 10, [True, False] * 10):
        with pytest.raises(ValueError, match="labels are all names of classes or all numbers of classes from 0 on"):
            text_dataset_from_directory(pets, labels=labels)
    with pytest.raises(TypeError, match="a function of a path, one label for each file, or None, got 3"):
        text_dataset_from_directory(pets, labels=3)


def test_class_names_choose_and_order(pets):
    tree(pets, "emu/1.txt")
    dataset = text_dataset_from_directory(pets, class_names=["emu", "cat"])
    assert names(dataset, pets)[0] == "cat/0.txt" and len(dataset) == 11
    assert dataset.labels.tolist() == [1] * 10 + [0] and dataset.class_names == ["emu", "cat"]
    assert len(text_dataset_from_directory(pets, class_names=["emu"])) == 1
    with pytest.raises(ValueError, match="class_names has 'bat', which is no class; there are 'cat', 'dog', 'emu'"):
        text_dataset_from_directory(pets, class_names=["cat", "bat"])
    with pytest.raises(ValueError, match="class_names has a name twice"):
        text_dataset_from_directory(pets, class_names=["cat", "cat"])
    for wrong in ("cat", [], [1]):
        with pytest.raises(TypeError, match="a list of names as class_names"):
            text_dataset_from_directory(pets, class_names=wrong)


def test_classes_without_files(tmp_path):
    tree(tmp_path, "a/1.txt", "b/", "c/")
    assert text_dataset_from_directory(tmp_path, label_mode="onehot")[0][1].tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match=r"found no file of \.txt in '.*b', '.*c' or below; there is no file at all"):
        text_dataset_from_directory(tmp_path, class_names=["b", "c"])


def test_what_cannot_be_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree(tmp_path, "one/cat/1.txt", "files/1.txt", "kinds/a/1.md", "kinds/b/1.md", "kinds/b/2", "empty/")
    with pytest.raises(FileNotFoundError, match=r"text_dataset_from_directory: there is no folder 'tow' \(looked in"):
        text_dataset_from_directory("tow")
    with pytest.raises(NotADirectoryError, match=r"takes a folder, but '.*1\.txt' is a file"):
        text_dataset_from_directory(tmp_path / "files/1.txt")
    with pytest.raises(ValueError, match="found one class only, 'cat': classes are the folders"):
        text_dataset_from_directory("one")
    with pytest.raises(ValueError, match=r"has files but no folders.*labels=r\"\(cat\|dog\)"):
        text_dataset_from_directory("files")
    with pytest.raises(
        ValueError, match=r"no file of \.txt in 'kinds' or below; there are 2 of \.md, 1 of no extension"
    ):
        text_dataset_from_directory("kinds")
    with pytest.raises(ValueError, match="there is no file at all"):
        text_dataset_from_directory("empty", label_mode=None)
    with pytest.raises(ValueError, match='label_mode="binary" needs two classes, got 3'):
        text_dataset_from_directory(
            tmp_path, label_mode="binary", extensions=(".txt", ".md"), class_names=["kinds", "one", "files"]
        )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"label_mode": "one-hot"}, ValueError, "takes 'int', 'onehot', 'categorical', 'binary', None as label_mode"),
        (
            {"subset": "train"},
            ValueError,
            "takes 'training', 'validation', 'test', 'both', None as subset, got 'train'",
        ),
        ({"validation_split": 0.2}, ValueError, 'validation_split=0.2 needs subset="training", "validation" or "both"'),
        ({"validation_split": 0.2, "subset": "test"}, ValueError, "got subset='test'"),
        (
            {"validation_split": 1.5, "subset": "both"},
            ValueError,
            "validation_split is a fraction between 0 and 1, .*, got 1.5",
        ),
        (
            {"validation_split": 1, "subset": "both"},
            ValueError,
            "validation_split is a fraction between 0 and 1, .*, got 1",
        ),
        (
            {"validation_split": "a", "subset": "both"},
            TypeError,
            "validation_split is a fraction between 0 and 1, .*, got 'a'",
        ),
        ({"validation_split": 0.01, "subset": "both"}, ValueError, "of 20 files leaves a part without files"),
        ({"seed": None}, TypeError, "seed is a whole number, got None"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"extensions": ".txt"}, ValueError, r'takes extensions such as \(".jpg", ".png"\), got \'.txt\''),
        ({"extensions": ("txt",)}, ValueError, "takes extensions such as"),
        ({"max_length": 0}, ValueError, "max_length must be at least 1, got 0"),
        ({"encoding": "utf-9"}, ValueError, "Python knows no encoding 'utf-9'"),
    ],
)
def test_options_that_do_not_exist(pets, options, error, message):
    with pytest.raises(error, match=message):
        text_dataset_from_directory(pets, **options)


def test_drawn_parts_are_disjoint_and_the_same_again(pets):
    for seed in (0, 1):
        both = text_dataset_from_directory(pets, validation_split=0.25, subset="both", seed=seed)
        apart = [
            text_dataset_from_directory(pets, validation_split=0.25, subset=part, seed=seed)
            for part in ("training", "validation")
        ]
        assert [x.files for x in both] == [x.files for x in apart]
        assert [len(x) for x in both] == [15, 5]
        assert sorted(both[0].files + both[1].files) == sorted(text_dataset_from_directory(pets).files)
        for part in both:
            assert part.class_names == ["cat", "dog"]
            assert [text == f"{part.class_names[label]}/{text[4:]}" for text, label in part] == [True] * len(part)
            assert part.files == sorted(part.files)
    other = text_dataset_from_directory(pets, validation_split=0.25, subset="validation", seed=0)
    assert other.files != both[1].files
    default = text_dataset_from_directory(pets, validation_split=0.25, subset="validation")
    assert default.files == other.files


def test_drawn_parts_are_random():
    part = drawn("f", 10_000, 0.3, 5)
    assert len(part["validation"]) == 3000 and len(np.union1d(part["validation"], part["training"])) == 10_000
    assert abs((part["validation"] < 5000).mean() - 0.5) < 0.03
    assert drawn("f", 10, 0.5, 0)["validation"].tolist() == [0, 1, 4, 5, 7]  # the same on every machine


def test_parts_in_folders(tmp_path):
    tree(tmp_path, "train/cat/1.txt", "train/dog/1.txt", "Valid/dog/2.txt", "test/3.txt")
    train, validation = text_dataset_from_directory(tmp_path, subset="both")
    assert names(train, tmp_path) == ["train/cat/1.txt", "train/dog/1.txt"]
    assert names(validation, tmp_path) == ["Valid/dog/2.txt"]
    assert train.class_names == validation.class_names == ["cat", "dog"] and validation.labels.tolist() == [1]
    assert text_dataset_from_directory(tmp_path, subset="validation").labels.tolist() == [1]
    assert text_dataset_from_directory(tmp_path / "train").class_names == ["cat", "dog"]
    assert names(text_dataset_from_directory(tmp_path, subset="test", label_mode=None), tmp_path) == ["test/3.txt"]
    only_cats = text_dataset_from_directory(tmp_path, subset="training", class_names=["cat"])
    assert names(only_cats, tmp_path) == ["train/cat/1.txt"]
    with pytest.raises(ValueError, match=r"test' has files but no folders"):
        text_dataset_from_directory(tmp_path, subset="test")
    for options in ({}, {"validation_split": 0.2, "subset": "both"}):
        with pytest.raises(
            ValueError, match=r"are parts \('Valid', 'test', 'train'\), not classes; .*subset=\"training\""
        ):
            text_dataset_from_directory(tmp_path, **options)
    with pytest.raises(ValueError, match="a list of labels is for the files of one folder"):
        text_dataset_from_directory(tmp_path, subset="both", labels=[0, 1])
    tree(tmp_path, "Valid/emu/1.txt")
    with pytest.raises(ValueError, match=r"has classes that '.*train' lacks: 'emu'"):
        text_dataset_from_directory(tmp_path, subset="both")
    tree(tmp_path, "val/emu/1.txt")
    with pytest.raises(ValueError, match=r"two folders for the validation part, 'Valid' and 'val'"):
        text_dataset_from_directory(tmp_path, subset="both")


def test_parts_in_folders_that_are_not_there(pets):
    message = "subset='test' without validation_split reads a folder test or testing in .*, but it has none"
    with pytest.raises(ValueError, match=message):
        text_dataset_from_directory(pets, subset="test")
    tree(pets, "train/a/1.txt")
    with pytest.raises(ValueError, match=r"but it has 'train'; validation_split=0\.2 draws"):
        text_dataset_from_directory(pets, subset="both")


def test_links(tmp_path):
    tree(tmp_path, "data/a/1.txt", "data/b/1.txt", "elsewhere/c/2.txt")
    (tmp_path / "data/a/file.txt").symlink_to(tmp_path / "elsewhere/c/2.txt")
    (tmp_path / "data/a/broken.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "data/c").symlink_to(tmp_path / "elsewhere/c")
    (tmp_path / "data/a/loop").symlink_to(tmp_path / "data")
    (tmp_path / "data/a/self").symlink_to(tmp_path / "data/a")
    without = text_dataset_from_directory(tmp_path / "data")
    assert names(without, tmp_path / "data") == ["a/1.txt", "a/file.txt", "b/1.txt"]
    followed = text_dataset_from_directory(tmp_path / "data", follow_links=True)
    assert names(followed, tmp_path / "data") == ["a/1.txt", "a/file.txt", "b/1.txt", "c/2.txt"]
    assert followed.class_names == ["a", "b", "c"] and followed.labels.tolist() == [0, 0, 1, 2]
    tree(tmp_path, "links/")
    (tmp_path / "links/c").symlink_to(tmp_path / "elsewhere/c")
    with pytest.raises(ValueError, match="links to folders are followed with follow_links=True"):
        text_dataset_from_directory(tmp_path / "links")


def test_texts(tmp_path):
    for name, content in (("a/1.txt", "grün\r\n".encode()), ("b/1.txt", "grün".encode("latin-1"))):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(content)
    dataset = text_dataset_from_directory(tmp_path, max_length=100)
    assert dataset[0][0] == "grün\r\n"
    assert text_dataset_from_directory(tmp_path, max_length=3)[0][0] == "grü"
    with pytest.raises(CorruptFileError, match=r"b.1\.txt: it is no text in utf-8: .*; encoding= names another"):
        dataset[1]
    assert text_dataset_from_directory(tmp_path, encoding="latin-1")[1][0] == "grün"
    (tmp_path / "a/1.txt").unlink()
    with pytest.raises(FileNotFoundError):
        dataset[0]


def test_batches_of_files(pets):
    loader = fx.DataLoader(text_dataset_from_directory(pets), batch_size=8, shuffle=True)
    batches = list(loader)
    assert [len(text) for text, _ in batches] == [8, 8, 4]
    assert all(y.dtype == np.int32 and [int(t.startswith("dog")) for t in x] == y.tolist() for x, y in batches)
    train, test = fx.data.splitobs(text_dataset_from_directory(pets), 0.5)
    assert len(train) == 10 and test[0][0] == "dog/0.txt"


def test_file_dataset(tmp_path):
    files = [tmp_path / f"{number}.npy" for number in (2, 0, 1)]
    for number, file in enumerate(files):
        np.save(file, np.full(3, number))
    dataset = FileDataset(np.load, files)
    assert len(dataset) == 3 and dataset.files == [str(file) for file in files] and dataset.labels is None
    assert dataset[:].tolist() == [[0] * 3, [1] * 3, [2] * 3] and dataset[-1].tolist() == [2] * 3
    assert [x[0] for x in FileDataset(np.load, tmp_path)] == [1, 2, 0]  # sorted by name
    assert FileDataset(os.path.basename, (str(file) for file in files))[[0, 1]] == ["2.npy", "0.npy"]
    labelled = FileDataset(np.load, files, labels=[0.5, 1.5, 2.5])
    assert labelled[1][1] == 1.5 and labelled[:][1].dtype == np.float32
    text = text_dataset_from_directory(tree(tmp_path / "t", "a/1.txt", "b/2.txt"), label_mode="onehot")
    assert pickle.loads(pickle.dumps(text))[1][1].tolist() == [0, 1]
    again = pickle.loads(pickle.dumps(labelled))
    assert again[0][0].tolist() == [0] * 3 and again.files == labelled.files
    with pytest.raises(IndexError, match="FileDataset expects indices from 0 to 2, got 3"):
        dataset[3]


def test_file_datasets_that_are_none(tmp_path):
    with pytest.raises(TypeError, match="takes a function of a path and then the files, got 'folder' for the function"):
        FileDataset("folder", np.load)
    with pytest.raises(FileNotFoundError, match="FileDataset: there is no folder 'nowhere'"):
        FileDataset(np.load, "nowhere")
    with pytest.raises(ValueError, match=r"FileDataset found no file in '.*' or below; there is no file at all"):
        FileDataset(np.load, tmp_path)
    with pytest.raises(ValueError, match="FileDataset needs at least one file, got none"):
        FileDataset(np.load, [])
    with pytest.raises(ValueError, match="there are 1 files and 2 labels"):
        FileDataset(np.load, ["a"], labels=[0, 1])


def test_listing(tmp_path):
    tree(tmp_path, "b.txt", "a/c.txt", "a/b.TXT", "a/.x/1.txt")
    assert files_below(str(tmp_path)) == [str(tmp_path / name) for name in ("b.txt", "a/b.TXT", "a/c.txt")]
    assert files_below(str(tmp_path), extensions=(".md",)) == [] and subfolders(str(tmp_path)) == ["a"]

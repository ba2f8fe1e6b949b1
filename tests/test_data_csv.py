"""CSV files as tables: what they may look like, and what is wrong with damaged ones."""

import gzip

import numpy as np
import polars as pl
import pytest

from fluxion.data import csv_dataset, table
from fluxion.data.errors import CorruptFileError
from fluxion.data.tables import reading


@pytest.fixture
def write(tmp_path):
    def write(text, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def columns(path, **options):
    """The features by name, unscaled."""
    data = csv_dataset(path, scale=None, **options)
    return dict(zip(data.feature_names, data[:].T.tolist(), strict=True))


def test_quotes_and_unicode(write):
    path = write('\ufeffgröße,ort\r\n"1,5"\r\n', "broken.csv")
    with pytest.raises(
        CorruptFileError, match=r"broken.csv: line 2 has 1 values, the first line has 2; is the file com"
    ):
        csv_dataset(path)
    path = write('\ufeff"größe, in m",ort\r\n1.5,"Ulm, ""alt"""\r\n2,"東\n京"\r\n')
    assert columns(path) == {"größe, in m": [1.5, 2], 'ort=Ulm, "alt"': [1, 0], "ort=東\n京": [0, 1]}


def test_separators_missing_values_and_columns(write):
    path = write("a;b;c;d\n1;x;7;?\n-;y;8;2\n3;?;9;1\n")
    options = {"separator": ";", "null_values": ["?", "-"], "columns": ["d", "a", "b"]}
    assert columns(path, **options) == {
        **{"a": [1, 2, 3], "d": [1.5, 2, 1]},
        **{"b=x": [1, 0, 0], "b=y": [0, 1, 0], "b is missing": [0, 0, 1]},
    }
    train = csv_dataset(write("a;b;c;d\n1;x;7;5\n-;y;8;2\n"), target="d", scale=None, **options)
    test = write("b;c;a;d\ny;0;?;4\n", "test.csv")
    assert train.encode(test)[:][0].tolist() == [[1, 0, 1]] and train.encode(test).target.tolist() == [[4]]
    assert train.encode(write("a;b\n1;x\n", "no_target.csv"))[:].tolist() == [[1, 1, 0]]
    with pytest.raises(ValueError, match=r"columns= names the column 'e'.* it has 'a', 'b', 'c', 'd'"):
        csv_dataset(path, separator=";", columns=["e"])
    with pytest.raises(ValueError, match="separator= is one ASCII character"):
        csv_dataset(path, separator="::")
    with pytest.raises(ValueError, match="separator= is one ASCII character"):
        csv_dataset(path, separator="")
    with pytest.raises(TypeError, match="null_values= are strings"):
        csv_dataset(path, null_values=[-1])
    with pytest.raises(ValueError, match=r"no column of .* is left to be read"):
        csv_dataset(path, columns=[])


def test_usual_words_for_missing_values(write):
    path = write("a,b\n1,x\nNA,NA\nNaN,\nnull,x\n,N/A\n")
    assert columns(path) == {"a": [1] * 5, "b=x": [1, 0, 0, 1, 0], "b is missing": [0, 1, 1, 0, 1]}


def test_packed_files(write):
    text = b"a,b\n1,\n2,x\n"
    assert columns(write(gzip.compress(text), "data.csv.gz")) == columns(write(text))
    with pytest.raises(CorruptFileError, match=r"bad.csv.gz: "):
        csv_dataset(write(gzip.compress(text)[:-9], "bad.csv.gz"))


def test_types_are_those_of_all_rows(write, monkeypatch):
    monkeypatch.setattr(reading, "SAMPLE", 3)
    monkeypatch.setattr(reading, "FIRST", 2)
    path = write("whole,late,mixed,text\n1,,1,u\n2,,2,u\n3,,3,v\n4.5,6,x,w\n")
    assert columns(path) == {
        **{"whole": [1, 2, 3, 4.5], "late": [6, 6, 6, 6]},
        **{"mixed=1": [1, 0, 0, 0], "mixed=2": [0, 1, 0, 0], "mixed=3": [0, 0, 1, 0], "mixed=x": [0, 0, 0, 1]},
        **{"text=u": [1, 1, 0, 0], "text=v": [0, 0, 1, 0], "text=w": [0, 0, 0, 1]},
    }
    empty = write("a,b\n1,\n2,\n3,\n4,\n")
    assert columns(empty)["a"] == [1, 2, 3, 4]


def test_files_to_encode_hold_what_training_files_held(write):
    train = csv_dataset(write("zip,size,yes\na1,1,true\n007,2,false\n"), scale=None)
    test = train.encode(write("zip,size,yes\n007,3.5,\n007,,true\n", "test.csv"))
    assert test.feature_names == ["size", "zip=007", "zip=a1", "yes=False", "yes=True"]
    assert test[:].tolist() == [[3.5, 1, 0, 0, 0], [1.5, 1, 0, 0, 1]]
    with pytest.raises(ValueError, match="the column 'size' should hold numbers, but row 1 holds 'big'"):
        train.encode(write("zip,size,yes\n007,1,true\n007,big,true\n", "test.csv"))


def test_dates(write):
    path = write("day,time,x\n2020-01-01,2020-01-01 12:00:00,1\n1970-01-03,1970-01-02 06:00:00,2\n")
    with pytest.raises(ValueError, match=r"the column 'day' holds times \(Date\); name it in numeric="):
        csv_dataset(path)
    assert columns(path, numeric=["day", "time"], drop=["x"]) == {"day": [18262, 2], "time": [18262.5, 1.25]}
    assert columns(write("a,b\n2020-01-01,1\n" + "x,1\n" * 200), numeric=["b"])["a=x"][-1] == 1


def test_blank_lines_are_left_out(write):
    assert columns(write("a,b\n1,2\n\n3,4\n\n")) == {"a": [1, 3], "b": [2, 4]}
    assert columns(write('a,b\n1,"2"\r\n\r\n3,\r\n')) == {"a": [1, 3], "b": [2, 2]}
    assert columns(write("a\n1\n\n3\n")) == {"a": [1, 2, 3]}  # a missing value


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 values, the first line has 2; put quotes around values that hold a separ"),
        ("a,b\n1,2\n3\n5,6\n", r"line 3 has 1 values, the first line has 2; is the file complete\?"),
        ('a,b\n"1",2\n3\n5,6\n', "line 3 has 1 values"),
        ("a,b,c\n1,2,3\n4,5", "line 3 has 2 values, the first line has 3"),
        ("", "the file is empty; its first line should name the columns"),
        ("\n\n", "the file is empty"),
        ("a,b,a\n1,2,3\n", "2 columns are named 'a' in the first line; rename them"),
        (
            b"a,b\nx,caf\xe9\n",
            r"line 2 is not UTF-8 text \(byte 0xe9 in line 2\)|line 2 is not UTF-8 text \(byte 0xe9\)",
        ),
        (bytes(range(256)) * 10, "line 2 is not UTF-8|line 1 is not UTF-8|columns are named"),
        ("a,b\n1,2\n".encode("utf-16"), "line 1 is not UTF-8 text"),
        ('a,b\n1,"x\n3,4\n', "this is no CSV file that Polars reads|line 2"),
        ('a,"b"c,d\n1,2,3\n', "the quotes in its first line make no sense at 'bc'"),
        (b"PAR1 and nothing else", "this is no Parquet file that Polars reads"),
    ],
)
def test_damaged_files(write, content, text):
    path = write(content, "data.parquet" if content[:4] == b"PAR1" else "data.csv")
    with pytest.raises(CorruptFileError, match=text) as caught:
        table(path)
    assert caught.value.path == str(path) and str(path) in str(caught.value)


def test_files_that_polars_panics_at(write, monkeypatch):
    def panic(*args, **options):
        raise pl.exceptions.PanicException("assertion failed")

    monkeypatch.setattr(pl, "read_csv", panic)
    monkeypatch.setattr(pl, "read_parquet", panic)
    with pytest.raises(CorruptFileError, match="this is no CSV file that Polars reads: assertion failed"):
        table(write("a,b\n1,2\n"))
    with pytest.raises(CorruptFileError, match="this is no Parquet file that Polars reads: assertion failed"):
        table(write("PAR1", "data.parquet"))


def test_the_separator_is_that_of_the_name(write):
    assert columns(write("a\tb\n1\t2\n", "data.tsv")) == columns(write("a,b\n1,2\n", "data.txt"))
    assert columns(write("a,b\n1,2\n", "data.tsv"), separator=",") == {"a": [1], "b": [2]}
    with pytest.raises(ValueError, match=r"target= names the column 'b'.* it has 'a;b' alone; .* separator="):
        csv_dataset(write("a;b\n1;2\n"), target="b")


def test_a_column_without_a_name(write):
    path = write(",a\n0,5\n1,6\n")  # as pandas writes the index of a frame
    assert columns(path) == {"": [0, 1], "a": [5, 6]}
    assert columns(path, drop=[""]) == {"a": [5, 6]}
    assert table({"": [0, 1], "a": [5, 6]}, scale=None)[:].tolist() == [[0, 5], [1, 6]]


def test_files_without_rows(write):
    with pytest.raises(ValueError, match="the table has no rows to learn from"):
        csv_dataset(write("a,b\n"))
    train = csv_dataset(write("a,b\n1,x\n"))
    assert len(train.encode(write("a,b\n", "empty.csv"))) == 0


def test_long_files_are_read_whole(write):
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"x": rng.normal(size=30_000), "name": rng.choice(["u", "v", "w"], 30_000)})
    frame = frame.with_columns(pl.when(pl.int_range(30_000) % 7 == 0).then(None).otherwise("x").alias("x"))
    path = write("")
    frame.write_csv(path)
    data, wanted = csv_dataset(path), table(frame)
    np.testing.assert_allclose(data[:], wanted[:], rtol=1e-6)

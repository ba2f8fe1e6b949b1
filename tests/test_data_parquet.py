"""The reader of Parquet files, against files that pyarrow writes."""

import datetime
import itertools
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fluxion.data import read_parquet
from fluxion.data.errors import CorruptFileError
from fluxion.data.formats.cursor import Cursor
from fluxion.data.formats.parquet.snappy import unsnappy
from fluxion.data.formats.parquet.values import hybrid

RNG = np.random.default_rng(0)
ROWS = 1000


def table():
    """Columns of every type that is read, with and without missing values."""
    missing = RNG.random(ROWS) < 0.2
    numbers = {
        name: pa.array(RNG.integers(0, 100, ROWS).astype(name))
        for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
    }
    texts = [f"wörd {i}" * (i % 4) for i in RNG.integers(0, 50, ROWS)]
    raw = [RNG.integers(0, 256, size).astype(np.uint8).tobytes() for size in RNG.integers(0, 300, ROWS)]
    structs = [
        None if i % 11 == 0 else {"bytes": raw[i] if i % 7 else None, "path": None if i % 5 else f"{i}.png"}
        for i in range(ROWS)
    ]
    return pa.table(
        {
            **numbers,
            "gaps": pa.array(np.arange(ROWS), mask=missing),
            "float gaps": pa.array(RNG.normal(size=ROWS).astype(np.float32), mask=missing),
            "yes": RNG.random(ROWS) < 0.5,
            "yes gaps": pa.array(RNG.random(ROWS) < 0.5, mask=missing),
            "text": texts,
            "text gaps": pa.array(texts, mask=missing),
            "nothing": pa.array([None] * ROWS, pa.string()),
            "constant": [1] * ROWS,
            "bytes": raw,
            "fixed": pa.array([b"%04d" % i for i in range(ROWS)], pa.binary(4)),
            "image": structs,
            "deep": [{"a": {"b": {"c": i if i % 3 else None}}} for i in range(ROWS)],
        }
    )


def assert_same(read, wanted):
    """That a column, or the dict of a struct's fields, has the values of Python in `wanted`."""
    if isinstance(read, dict):
        for name, column in read.items():
            assert_same(column, [None if value is None else value[name] for value in wanted])
    elif read.dtype == object:
        assert read.tolist() == wanted
    else:
        np.testing.assert_array_equal(read, np.array([np.nan if value is None else value for value in wanted]))


@pytest.mark.parametrize(
    "compression, version, dictionary",
    [*itertools.product(["none", "snappy", "gzip"], ["1.0", "2.0"], [True, False])],
)
def test_everything_that_pyarrow_writes(tmp_path, compression, version, dictionary):
    file, wanted = tmp_path / "x.parquet", table()
    pq.write_table(
        wanted,
        file,
        compression=compression,
        data_page_version=version,
        use_dictionary=dictionary,
        row_group_size=400,
        data_page_size=2000,
    )
    read = read_parquet(file)
    assert list(read) == wanted.column_names
    for name in wanted.column_names:
        assert_same(read[name], wanted[name].to_pylist())
    for name in ("int8", "uint16", "uint64", "float32"):
        assert read[name].dtype == np.dtype(name)
    assert read["gaps"].dtype == np.float64 and read["float gaps"].dtype == np.float32 and read["yes"].dtype == bool
    assert list(read_parquet(file, ["text", "int8"])) == ["text", "int8"]


def test_files_without_rows_and_of_required_columns(tmp_path):
    schema = pa.schema([pa.field("a", pa.int32(), nullable=False), pa.field("b", pa.string())])
    pq.write_table(pa.table({"a": [], "b": []}, schema=schema), tmp_path / "none.parquet")
    read = read_parquet(tmp_path / "none.parquet")
    assert read["a"].shape == read["b"].shape == (0,) and read["a"].dtype == np.int32
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", "y"]}, schema=schema), tmp_path / "two.parquet")
    assert read_parquet(tmp_path / "two.parquet")["a"].tolist() == [1, 2]


def test_dates_are_the_integers_of_the_file(tmp_path):
    pq.write_table(pa.table({"day": [datetime.date(1970, 1, 3)]}), tmp_path / "x.parquet")
    assert read_parquet(tmp_path / "x.parquet")["day"].tolist() == [2]


@pytest.mark.parametrize(
    "column, options, message",
    [
        ([[1, 2], [3]], {}, "column x.list.element holds lists, which are not read; columns= can leave it out"),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), {}, "holds lists"),
        (pa.array([1], pa.decimal128(9, 2)), {}, "column x holds decimal numbers"),
        ([1, 2], {"compression": "zstd"}, "compressed by Zstandard; write it with Snappy, gzip or no compression"),
        ([1, 2], {"compression": "brotli"}, "compressed by Brotli"),
        (
            [1, 2],
            {"use_dictionary": False, "column_encoding": "DELTA_BINARY_PACKED"},
            "column x is written as DELTA_BINARY_PACKED; only plain and dictionaries are read",
        ),
    ],
)
def test_what_is_not_read_is_named(tmp_path, column, options, message):
    count = len(column)
    pq.write_table(pa.table({"x": column, "y": [7] * count}), tmp_path / "x.parquet", **options)
    with pytest.raises(CorruptFileError, match=message):
        read_parquet(tmp_path / "x.parquet")
    if not options:
        assert read_parquet(tmp_path / "x.parquet", ["y"])["y"].tolist() == [7] * count


def test_a_missing_column_is_a_key_error(tmp_path):
    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "x.parquet")
    with pytest.raises(KeyError, match="has no column c, d; it has a, b"):
        read_parquet(tmp_path / "x.parquet", ["a", "c", "d"])


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "no Parquet file: it does not start and end with PAR1"),
        (b"PAR1" + bytes(20), "no Parquet file"),
        (b"PAR1" + struct.pack("<I", 99) + b"PAR1", "its description of 99 bytes is longer than the file"),
        (b"PAR1" + bytes(9) + struct.pack("<I", 1) + b"PAR1", "its description is damaged"),
        (b"PAR1" + b"\x1c" * 99 + struct.pack("<I", 99) + b"PAR1", "structs within structs without an end"),
        (b"PAR1" + b"\x15" + b"\xff" * 20 + struct.pack("<I", 21) + b"PAR1", "an integer of more than 64 bits"),
        (b"PAR1" + b"\x19\xfc\xff\xff\x03" + struct.pack("<I", 5) + b"PAR1", "a list of 65535 items in 0 bytes"),
        (b"PAR1" + b"\x1d\x00" + struct.pack("<I", 2) + b"PAR1", "a field of the unknown kind 13"),
    ],
)
def test_damaged_files(tmp_path, data, message):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(CorruptFileError, match=message):
        read_parquet(tmp_path / "x")


def test_rows_that_the_file_cannot_hold(tmp_path, monkeypatch):
    monkeypatch.setattr("fluxion.data.formats.parquet.reader._CELLS", 0)
    monkeypatch.setattr("fluxion.data.formats.parquet.reader.DEFLATE", 1)
    pq.write_table(pa.table({"a": pa.array([None] * 3_000_000, pa.int64())}), tmp_path / "x.parquet")
    with pytest.raises(CorruptFileError, match=r"3000000 rows are more than .* bytes can hold"):
        read_parquet(tmp_path / "x.parquet")


# ---- Parts


@pytest.mark.parametrize("data", [b"", b"a", b"abcd" * 500, bytes(70_000), RNG.bytes(70_000), b"ab" * 99 + b"c" * 99])
def test_snappy_as_pyarrow_writes_it(data):
    assert unsnappy(pa.compress(data, "snappy", asbytes=True), len(data), "f") == data


@pytest.mark.parametrize(
    "data, size, message",
    [
        (b"\x05\x00a", 4, "is not of 4 bytes"),
        (b"\x05\x00a", 5, "has 1 of 5 bytes"),
        (b"\x05\x08ab", 5, "the bytes of Snappy of 3 bytes does not fit"),
        (b"\x05\x00a\x01\x05", 5, "Snappy copies from 5 bytes back of 1"),
        (b"\x05\x00a\x01\x00", 5, "Snappy copies from 0 bytes back of 1"),
        (b"\x02\x00a\x01\x01", 2, "is of more than 2 bytes"),
        (b"\x05\xfc\xff\xff\xff\xff", 5, "does not fit"),
    ],
)
def test_damaged_snappy(data, size, message):
    with pytest.raises(CorruptFileError, match=message):
        unsnappy(data, size, "f")


def test_runs_and_packed_integers():
    """The example of the description of the format: 0 to 7 in three bits each."""
    packed = bytes([0b10001000, 0b11000110, 0b11111010])
    assert hybrid(Cursor(b"\x03" + packed, "f"), 3, 8).tolist() == list(range(8))
    assert hybrid(Cursor(b"\x0a\x02" + b"\x03" + packed, "f"), 3, 10).tolist() == [2] * 5 + list(range(5))
    assert hybrid(Cursor(b"", "f"), 3, 0).tolist() == []
    assert hybrid(Cursor(b"\x0a", "f"), 0, 5).tolist() == [0] * 5
    for data, width in ((b"\x00", 3), (b"\x03\x00", 3), (b"", 3), (b"\x02\x01", 33)):
        with pytest.raises(CorruptFileError, match=r"a run of no|does not fit|integers of 33 bits"):
            hybrid(Cursor(data, "f"), width, 5)

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
from fluxion.data.formats.parquet.pages import Chunk
from fluxion.data.formats.parquet.schema import Column
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


# ---- Pages


def compact(fields):
    """A struct of numbers below 64, booleans and structs by Thrift's compact protocol."""
    data, last = b"", 0
    for number, value in fields.items():
        kind, body = (12, compact(value)) if isinstance(value, dict) else (5, bytes([2 * value]))
        if isinstance(value, bool):
            kind, body = 1 if value else 2, b""
        data, last = data + bytes([(number - last) << 4 | kind]) + body, number
    return data + b"\x00"


def read_pages(data, rows=2, levels=0, kind=1):
    column = Column(("x",), kind, 0, levels, False, None, None)
    return Chunk(Cursor(data, "f"), column, 0).read(rows)


def page(kind, body, about, place):
    return compact({1: kind, 2: len(body), 3: len(body), place: about}) + body


TWO = struct.pack("<2i", 5, 7)
DICTIONARY = page(2, TWO, {1: 2, 2: 0}, 7)


def test_pages_written_by_hand():
    ((values, there),) = read_pages(page(0, TWO, {1: 2, 2: 0, 3: 3, 4: 3}, 5))
    assert values.tolist() == [5, 7] and there.all()
    ((values, there),) = read_pages(DICTIONARY + page(0, b"\x01\x04\x01", {1: 2, 2: 8, 3: 3, 4: 3}, 5))
    assert values.tolist() == [7, 7]
    levels = struct.pack("<I", 2) + b"\x03\x02"  # eight bits: only the second row has a value
    ((values, there),) = read_pages(page(0, levels + TWO[4:], {1: 2, 2: 0, 3: 3, 4: 3}, 5), levels=1)
    assert values.tolist() == [7] and there.tolist() == [False, True]
    index = page(1, b"1", {}, 6)
    two = page(3, b"\x03\x02" + TWO[:4], {1: 2, 2: 1, 3: 2, 4: 0, 5: 2, 6: 0, 7: False}, 8)
    ((values, there),) = read_pages(index + two, levels=1)
    assert values.tolist() == [5] and there.tolist() == [False, True]


@pytest.mark.parametrize(
    "data, options, message",
    [
        (page(0, TWO, {1: 3, 2: 0, 3: 3}, 5), {}, "a page of 3 rows where 2 are left"),
        (page(0, TWO, {1: 0, 2: 0, 3: 3}, 5), {}, "a page of 0 rows where 2 are left"),
        (compact({1: 0, 2: 8, 5: {1: 2}}), {}, "field 3 of a page is None, no count"),
        (compact({1: 0, 2: 0, 3: 0}), {}, "a page without its header"),
        (page(0, TWO[:6], {1: 2, 2: 0, 3: 3}, 5), {}, "2 values of 8 bytes does not fit into the 6 bytes"),
        (
            page(0, TWO, {1: 2, 2: 0, 3: 4}, 5),
            {"levels": 1},
            "which values of column x are missing is written in an old",
        ),
        (page(0, b"\x01\x04\x02", {1: 2, 2: 8, 3: 3}, 5), {}, "column x is written as encoding 8"),
        (DICTIONARY + page(0, b"\x02\x04\x02", {1: 2, 2: 8}, 5), {}, "an index of 2 into a dictionary of 2"),
        (page(0, TWO, {1: 2}, 5), {}, "column x is written as no encoding"),
        (page(3, TWO, {1: 2, 4: 0, 5: 9}, 8), {}, "a page with levels of lists, or longer than the page"),
        (page(3, TWO, {1: 2, 4: 0, 5: 0, 6: 1}, 8), {}, "a page with levels of lists, or longer than the page"),
        (page(0, TWO, {1: 2, 2: 0}, 5), {"kind": 3}, "values of the type 3 are not read"),
    ],
)
def test_damaged_pages(data, options, message):
    with pytest.raises(CorruptFileError, match=message):
        read_pages(data, **options)


def test_columns_of_one_name(tmp_path):
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), tmp_path / "x.parquet")
    with pytest.raises(CorruptFileError, match="two of its columns have one name"):
        read_parquet(tmp_path / "x.parquet")


def test_text_that_is_none(tmp_path):
    text = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    pq.write_table(pa.table({"a": text}), tmp_path / "x.parquet")
    with pytest.raises(CorruptFileError, match="column a is no text"):
        read_parquet(tmp_path / "x.parquet")

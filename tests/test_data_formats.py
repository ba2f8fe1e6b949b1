"""Readers of IDX, MAT, CIFAR, PNG, NPZ, CSV, plain pickles and archives, against the programs that write such files."""

import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from PIL import Image

from fluxion.data import read_idx, read_mat
from fluxion.data.errors import CorruptFileError
from fluxion.data.formats.archives import members
from fluxion.data.formats.cursor import Cursor, DeflatedCursor, inflated
from fluxion.data.formats.delimited import csv_columns
from fluxion.data.formats.npz import npz_arrays
from fluxion.data.formats.png import grey_png

RNG = np.random.default_rng(0)
IDX_CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx_bytes(array):
    """The bytes of an IDX file, written as the page of MNIST describes it."""
    code = IDX_CODES[array.dtype.str[1:]]
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def saved(tmp_path):
    def save(data, name="file"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return save


# ---- IDX


@pytest.mark.parametrize("dtype", IDX_CODES)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (0, 28, 28), (3, 0)])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_idx_of_every_type(saved, dtype, shape, compress):
    array = (RNG.normal(size=shape) * 50).astype(np.int8).astype(dtype)
    read = read_idx(saved(compress(idx_bytes(array))))
    assert read.dtype == array.dtype and read.dtype.isnative
    np.testing.assert_array_equal(read, array)
    read[...] = 0  # the caller's own


def test_idx_in_several_members_of_gzip(saved):
    data = idx_bytes(np.arange(1000, dtype=np.int32))
    np.testing.assert_array_equal(read_idx(saved(gzip.compress(data[:70]) + gzip.compress(data[70:]))), np.arange(1000))


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "the first four bytes of an IDX file of 4 bytes does not fit into the 0 bytes that are left"),
        (b"\x89PNG\r\n\x1a\n", "no IDX file: it starts with 89504e47, not with 0000, type, axes"),
        (
            struct.pack(">HBBI", 0, 8, 1, 10) + bytes(9),
            r"shape \(10,\) of 10 bytes does not fit into the 9 bytes",
        ),
        (struct.pack(">HBBI", 0, 8, 1, 10) + bytes(11), "1 bytes follow the end of the array"),
        (struct.pack(">HBB4I", 0, 14, 4, *4 * [2**32 - 1]), "impossible shape"),
        (struct.pack(">HBB4I", 0, 14, 4, 0, *3 * [2**32 - 1]), "impossible shape"),
        (struct.pack(">HBB40I", 0, 8, 40, *40 * [1]) + b"1", "impossible shape"),
        (gzip.compress(struct.pack(">HBBI", 0, 8, 1, 2**31) + bytes(9)), "more than .* compressed bytes can hold"),
        (gzip.compress(struct.pack(">HBBI", 0, 8, 1, 10) + bytes(9)), "the compressed data ends after 9"),
        (gzip.compress(struct.pack(">HBBI", 0, 8, 1, 8) + bytes(9)), "compressed data follows the end of the array"),
        (
            gzip.compress(struct.pack(">HBBI", 0, 8, 1, 9) + bytes(9))[:-4],
            "data of the array has no end",
        ),
        (b"\x1f\x8b" + bytes(30), "its compressed data is damaged"),
    ],
)
def test_damaged_idx(saved, data, message):
    path = saved(data)
    with pytest.raises(CorruptFileError, match=message) as caught:
        read_idx(path)
    assert caught.value.path == str(path)


def test_a_missing_file_is_no_damaged_one(tmp_path):
    for read in (read_idx, read_mat):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")


# ---- MAT


@pytest.mark.parametrize("compress", [False, True])
def test_mat_as_scipy_reads_it(tmp_path, compress):
    arrays = {f"a{dtype}": (RNG.normal(size=(3, 4, 2)) * 9).astype(dtype) for dtype in ("f8", "f4", "i1", "u1", "i2")}
    arrays |= {f"b{dtype}": RNG.integers(0, 99, (2, 5)).astype(dtype) for dtype in ("u2", "i4", "u4", "i8", "u8")}
    arrays |= {"z": np.array([[1 + 2j, 3 - 1j]]), "zero": np.zeros((0, 3)), "one": np.float32([[2.5]])}
    arrays |= {"yes": np.array([[True, False]])}
    file = tmp_path / "x.mat"
    scipy.io.savemat(file, arrays, do_compression=compress)
    read, wanted = read_mat(file), scipy.io.loadmat(file, mat_dtype=False)
    assert read.keys() == arrays.keys()
    for name, array in read.items():
        np.testing.assert_array_equal(array, wanted[name])
        assert array.dtype == arrays[name].dtype
    assert read_mat(file, names=["one"]).keys() == {"one"}
    with pytest.raises(KeyError, match="has no array two; those asked for that it has: one"):
        read_mat(file, ["one", "two"])


def test_mat_of_what_is_not_read(tmp_path):
    file = tmp_path / "x.mat"
    scipy.io.savemat(file, {"cell": np.array([[1], "a"], object), "s": {"a": 1}, "text": "hello", "n": np.ones((1, 2))})
    assert read_mat(file, ["n"])["n"].tolist() == [[1, 1]]
    for name, kind in (("cell", "a cell array"), ("s", "a struct"), ("text", "text")):
        with pytest.raises(CorruptFileError, match=f"variable '{name}' is {kind}, which is not read; names= can leave"):
            read_mat(file, [name])
    scipy.io.savemat(file, {"m": scipy.sparse.eye(3)})
    with pytest.raises(CorruptFileError, match="a sparse matrix"):
        read_mat(file)


def mat_file(body, version=b"\x00\x01", mark=b"IM", text=b"MATLAB 5.0 MAT-file"):
    return text.ljust(124) + version + mark + body


def element(kind, data, order="<"):
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind=9, shape=(1, 3), name=b"n", data=b"123", stored=2, order="<"):
    parts = [element(6, struct.pack(f"{order}II", kind, 0), order)]
    parts += [element(5, struct.pack(f"{order}{len(shape)}i", *shape), order), element(1, name, order)]
    parts += [element(stored, data, order)]
    return element(14, b"".join(parts), order)


def test_mat_of_the_other_byte_order(saved):
    body = matrix(12, (2, 1), b"n", struct.pack(">2h", 300, -2), 3, ">")
    data = mat_file(body, b"\x01\x00", b"MI")
    read = read_mat(saved(data))["n"]
    assert read.dtype == np.int32 and read.dtype.isnative and read.tolist() == [[300], [-2]]


@pytest.mark.parametrize(
    "data, message",
    [
        (b"hello", "the header of a MAT-file of 124 bytes does not fit into the 5 bytes"),
        (mat_file(b"", mark=b"XX"), "no MAT-file of version 5"),
        (mat_file(b"", version=b"\x00\x02", text=b"MATLAB 7.3 MAT-file"), "an HDF5 file .*save it with -v7"),
        (mat_file(b"", version=b"\x00\x09"), "its version of MAT-files is unknown"),
        (mat_file(matrix(shape=(1, 4))), r"variable 'n' of shape \(1, 4\) has 3 numbers"),
        (mat_file(matrix(shape=(-1, -3))), "impossible shape"),
        (mat_file(matrix(shape=(0, *3 * [2**31 - 1]))), "impossible shape"),
        (mat_file(matrix(stored=99)), "variable 'n' is 3 bytes of type 99"),
        (mat_file(matrix(stored=9)), "variable 'n' is 3 bytes of type 9"),
        (mat_file(element(9, bytes(8))), "a variable is of type 9, not a matrix"),
        (mat_file(matrix())[:-8], "does not fit"),
        (mat_file(element(15, zlib.compress(matrix())[:-6])), "damaged|ends|no end"),
        (mat_file(element(15, zlib.compress(struct.pack("<IIII", 14, 2**31, 6, 2**31)))), "compressed bytes can hold"),
        (mat_file(element(14, element(6, bytes(8)) + element(5, bytes(8)) + element(9, bytes(8)))), "no proper flags"),
        (mat_file(element(14, struct.pack("<II", 6 | 8 << 16, 0))), "stands in a tag of 4"),
    ],
)
def test_damaged_mat(saved, data, message):
    with pytest.raises(CorruptFileError, match=message):
        read_mat(saved(data))


# ---- PNG


@pytest.mark.parametrize("mode, depth", [("L", 255), ("1", 1)])
@pytest.mark.parametrize("shape", [(105, 105), (1, 1), (3, 17), (8, 8)])
def test_png_as_pillow_reads_it(mode, depth, shape):
    smooth = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) * 3 % 256  # which Pillow writes as differences
    for levels in (RNG.integers(0, 256, shape), smooth):
        image = Image.fromarray(levels.astype(np.uint8)).convert(mode)
        file = io.BytesIO()
        image.save(file, "png")
        np.testing.assert_array_equal(grey_png(file.getvalue(), "f"), np.asarray(image.convert("L")))


def png_bytes(lines, width, height, depth=8, colour=0, interlace=0):
    def chunk(kind, body):
        return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("way", range(5))
def test_png_of_each_filter(way):
    lines = RNG.integers(0, 256, (6, 7)).astype(np.uint8)
    lines[:, 0] = way
    data = png_bytes(lines.tobytes(), 6, 6)
    np.testing.assert_array_equal(grey_png(data, "f"), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_png_of_few_bits(depth):
    data = png_bytes(bytes([0, 0b10110001, 0b11100100]), 16 // depth, 1, depth)
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    np.testing.assert_array_equal(grey_png(data, "f"), wanted)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"GIF89a..", "no PNG image"),
        (png_bytes(bytes(14), 6, 2, colour=2), "an image of 6 x 2 points, colour type 2, 8 bits: not read here"),
        (png_bytes(bytes(14), 6, 2, interlace=1), "not read here"),
        (png_bytes(bytes(13), 6, 2), "the compressed data ends after 13"),
        (png_bytes(b"\x09" + bytes(13), 6, 2), "line 1 has the unknown filter 9"),
        (png_bytes(bytes(14), 2**31, 2**31), "more than .* compressed bytes can hold"),
        (png_bytes(bytes(14), 6, 2).replace(b"IDAT", b"IDAU"), "the checksum of chunk b'IDAU' is wrong"),
        (png_bytes(bytes(14), 6, 2)[:-12], "a chunk of 8 bytes does not fit"),
    ],
)
def test_damaged_png(data, message):
    with pytest.raises(CorruptFileError, match=message):
        grey_png(data, "f")


# ---- NPZ


def test_npz_as_numpy_writes_it(tmp_path):
    arrays = {"x": RNG.normal(size=(4, 3)), "f": np.asfortranarray(RNG.normal(size=(2, 3))), "s": np.array(5)}
    arrays |= {"b": np.array([True, False]), "big": np.arange(3, dtype=">i2"), "none": np.zeros((0, 2))}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **arrays)
        read = npz_arrays(tmp_path / "x.npz")
        assert read.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"hello world", "no array of NumPy"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "the header of 65535 bytes does not fit"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,), }", "does not fit"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "a type other than plain numbers"),
        ("{'descr': '<f3', 'fortran_order': False, 'shape': (0,), }", "NumPy has no type <f3"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (__import__('os'),), }", "a type other than plain"),
    ],
)
def test_damaged_npz(tmp_path, content, message):
    if isinstance(content, str):
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(content)) + content.encode()
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(CorruptFileError, match=message):
        npz_arrays(tmp_path / "x.npz")


# ---- CSV


def test_csv_columns(saved):
    path = saved(b'name,age,legs\n"Tom, ""the cat""",2.5,4\n?,?,3\n')
    columns = csv_columns(path, {"age": float, "legs": int, "name": str}, missing="?")
    assert list(columns) == ["age", "legs", "name"]
    np.testing.assert_array_equal(columns["age"], [2.5, np.nan])
    assert columns["legs"].tolist() == [4, 3] and columns["legs"].dtype == np.int32
    assert columns["name"].tolist() == ['Tom, "the cat"', None]
    assert csv_columns(saved(b"a,b\n"), {"a": float})["a"].shape == (0,)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "the table has no column a"),
        (b"b,c\n1,2\n", "the table has no column a"),
        (b"a,b\n1\n", "row 2 has 1 values for 2 columns"),
        (b"a,b\n1,2\nx,3\n", "a in row 3 is 'x', no whole number"),
        (b"a,b\n1,2\n99999999999,3\n", "a in row 3 is '99999999999', no whole number"),
        (b"a,b\n1,y\n", "b in row 2 is 'y', no number"),
        (b"\xff\xfe", "no table as text"),
    ],
)
def test_damaged_csv(saved, data, message):
    with pytest.raises(CorruptFileError, match=message):
        csv_columns(saved(data), {"a": int, "b": float})


# ---- Archives


def tar_bytes(entries, mode="w:gz"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zip_bytes(entries, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("pack", [tar_bytes, zip_bytes])
def test_members_are_read_and_never_extracted(saved, pack, tmp_path, monkeypatch):
    entries = {"a/one": b"1", "a/two": b"22" * 999, "../../up": b"3", "/etc/top": b"4"}
    path = saved(pack(entries))
    before = sorted(tmp_path.rglob("*"))
    assert dict(members(path)) == entries
    assert dict(members(path, within="a/")) == {"a/one": b"1", "a/two": b"22" * 999}
    assert dict(members(path, names=["a/two"])) == {"a/two": b"22" * 999}
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(CorruptFileError, match="the archive lacks a/four, a/three"):
        list(members(path, names=["a/one", "a/three", "a/four"]))


def test_members_that_are_no_files_are_left_out(saved):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, kind in (("folder", tarfile.DIRTYPE), ("device", tarfile.CHRTYPE), ("fifo", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            archive.addfile(info)
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    assert list(members(saved(file.getvalue()))) == []


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "the archive is damaged"),
        (b"PK" + bytes(50), "the archive is damaged"),
        (zip_bytes({"a": b"hello" * 99})[:60], "the archive is damaged"),
        (zip_bytes({"a": b"hello" * 99}, zipfile.ZIP_LZMA), "compressed by method 14, not by deflate"),
        (tar_bytes({"a": os.urandom(9000)})[:5000], "the archive is damaged"),
        (tar_bytes({"a": b"1"}, "w"), "the archive is damaged"),
        (zip_bytes({"a": bytes(50)}).replace(struct.pack("<I", 50), struct.pack("<I", 2**31)), "can hold|damaged"),
    ],
)
def test_damaged_archives(saved, data, message):
    with pytest.raises(CorruptFileError, match=message):
        list(members(saved(data)))


# ---- Cursor


def test_a_bomb_is_stopped_before_it_is_decompressed():
    bomb = zlib.compress(bytes(50_000_000))
    with pytest.raises(CorruptFileError, match="compressed data follows the end of a page"):
        inflated(bomb, 1000, "f", "a page")
    cursor = DeflatedCursor(bomb, "f")
    with pytest.raises(CorruptFileError, match="is more than"):
        cursor.take(10**9, "a page")


def test_cursors_tell_what_did_not_fit():
    cursor = Cursor(b"abcd", "f")
    assert bytes(cursor.take(3, "three")) == b"abc" and cursor.left == 1
    with pytest.raises(CorruptFileError, match="f: two of 2 bytes does not fit into the 1 bytes that are left"):
        cursor.take(2, "two")
    with pytest.raises(CorruptFileError, match="-1 bytes"):
        cursor.take(-1, "less")

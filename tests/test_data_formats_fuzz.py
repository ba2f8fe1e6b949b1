"""Damaged files of every format: CorruptFileError, or arrays, but no other exception, and no undue memory."""

import contextlib
import gzip
import io
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fluxion.data import read_idx, read_mat, read_parquet
from fluxion.data.errors import CorruptFileError
from fluxion.data.formats.archives import members
from fluxion.data.formats.cifar import binary_batch, pickled_batch
from fluxion.data.formats.delimited import csv_columns
from fluxion.data.formats.npz import npz_arrays
from fluxion.data.formats.parquet.snappy import unsnappy
from fluxion.data.formats.pickles import plain_pickle
from fluxion.data.formats.png import grey_png

MEMORY = 1 << 26  # none of the small files below may need more, whatever their headers tell


def written(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def zipped(file):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/one", b"1" * 50)
        archive.writestr("a/two", b"2" * 50)


def tarred(file):
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo("a/one")
        info.size = 50
        archive.addfile(info, io.BytesIO(b"1" * 50))


PARQUET = pa.table({"n": [1, None, 3], "s": ["a", "bb", "a"], "i": [{"bytes": b"1", "path": "p"}] * 3})
BATCH = {"data": np.arange(2 * 3072).reshape(2, 3072).astype(np.uint8), "labels": [1, 2]}
SPARSE = scipy.sparse.csr_matrix(np.eye(3))
IDX = struct.pack(">HBB2I", 0, 12, 2, 2, 3) + bytes(24)
MAT = {"X": np.arange(6).reshape(2, 3), "z": np.array([[1j]]), "c": "text"}


def parquet(compression, version):
    return written(lambda file: pq.write_table(PARQUET, file, compression=compression, data_page_version=version))


def arrays_of_mat(path):
    """The arrays there are of those in `MAT`, whose text is not read."""
    with contextlib.suppress(KeyError):
        read_mat(path, ["X", "z"])


def both(read):
    """A reader of bytes as a reader of a file."""
    return lambda path: read(path.read_bytes(), path)


FILES = {
    "idx": (IDX, read_idx),
    "idx.gz": (gzip.compress(IDX), read_idx),
    "mat": (written(lambda file: scipy.io.savemat(file, MAT)), arrays_of_mat),
    "mat compressed": (written(lambda file: scipy.io.savemat(file, MAT, do_compression=True)), arrays_of_mat),
    "pickle 0": (pickle.dumps({"a": [1, "b", b"c", np.ones(2)], "s": SPARSE}, 0), both(plain_pickle)),
    "pickle 2": (pickle.dumps({"a": [1, "b", b"c", np.ones(2)]}, 2), both(plain_pickle)),
    "pickle 5": (pickle.dumps({"a": [1, "b", (b"c", 2.5), {}]}, 5), both(plain_pickle)),
    "cifar pickle": (pickle.dumps(BATCH, 2), both(lambda data, path: pickled_batch(data, path, ["labels"]))),
    "cifar binary": (bytes(2 * 3073), both(lambda data, path: binary_batch(data, path, 1))),
    "png": (
        written(lambda file: Image.fromarray(np.eye(9, dtype=np.uint8) * 255).convert("1").save(file, "png")),
        both(grey_png),
    ),
    "npz": (written(lambda file: np.savez_compressed(file, x=np.ones((2, 3)))), npz_arrays),
    "csv": (b'a,b\n1,"x ""y"""\n2.5,?\n', lambda path: csv_columns(path, {"a": float, "b": str}, "?")),
    "zip": (written(zipped), lambda path: list(members(path))),
    "tar.gz": (written(tarred), lambda path: list(members(path))),
    "snappy": (
        pa.compress(b"abcd" * 50, "snappy", asbytes=True),
        both(lambda data, path: unsnappy(data, 200, path)),
    ),
    **{
        f"parquet {compression} {version}": (parquet(compression, version), read_parquet)
        for compression, version in (("none", "1.0"), ("snappy", "2.0"), ("gzip", "1.0"))
    },
}


# in how many places a file may end unnoticed: between variables, and behind the last member of a tar archive
UNNOTICED = {"mat": 3, "mat compressed": 3, "tar.gz": 60}


def refused_or_read(read, path, data):
    """True where the damaged file is refused; any other exception is a failure, and so is much memory."""
    path.write_bytes(data)
    tracemalloc.start()
    try:
        read(path)
        return False
    except CorruptFileError:
        return True
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY, f"{peak} bytes of memory"


@pytest.mark.parametrize("kind", FILES)
def test_whole_files_are_read(kind, tmp_path):
    data, read = FILES[kind]
    assert not refused_or_read(read, tmp_path / "file", data)


@pytest.mark.parametrize("kind", sorted(set(FILES) - {"csv"}))
def test_files_cut_off_at_any_byte(kind, tmp_path):
    data, read = FILES[kind]
    ends = range(len(data)) if len(data) < 1000 else sorted({*range(200), *range(0, len(data), 41)})
    refused = [refused_or_read(read, tmp_path / "file", data[:end]) for end in ends]
    if kind != "cifar binary":  # whose records are of one size, and of any number
        assert refused.count(False) <= UNNOTICED.get(kind, 0)


def damaged(data, changes):
    data = bytearray(data)
    for place, change in changes:
        place = int(place * len(data))
        if change is None:
            del data[place : place + 3]
        elif isinstance(change, bytes):
            data[place : place + len(change)] = change
        else:
            data[place] ^= change
    return bytes(data)


HUGE = [b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\xff" * 8, b"\x00\x00\x00\x80", b"\xff\xff\xff\xff\x0f", bytes(4)]
CHANGE = st.tuples(
    st.floats(0, 1, exclude_max=True), st.integers(1, 255) | st.sampled_from(HUGE) | st.binary(max_size=9) | st.none()
)


@pytest.mark.parametrize("kind", FILES)
def test_files_with_changed_bytes(kind, tmp_path):
    data, read = FILES[kind]

    @settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(CHANGE, min_size=1, max_size=4))
    def survives(changes):
        refused_or_read(read, tmp_path / "file", damaged(data, changes))

    survives()


@pytest.mark.parametrize("kind", ["mat compressed", "idx.gz"])
def test_changed_bytes_within_compressed_files(kind, tmp_path):
    plain = {"mat compressed": FILES["mat"][0], "idx.gz": IDX}[kind]
    read = FILES[kind][1]

    @settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(CHANGE, min_size=1, max_size=4))
    def survives(changes):
        if kind == "idx.gz":
            data = gzip.compress(damaged(plain, changes), 1)
        else:
            body = zlib.compress(damaged(plain[128:], changes), 1)
            data = plain[:128] + struct.pack("<II", 15, len(body)) + body
        refused_or_read(read, tmp_path / "file", data)

    survives()


@pytest.mark.parametrize("kind", FILES)
def test_files_of_any_bytes(kind, tmp_path):
    read = FILES[kind][1]
    start = FILES[kind][0][:4]

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=300), st.booleans())
    def survives(data, proper_start):
        refused_or_read(read, tmp_path / "file", start + data + start if proper_start else data)

    survives()

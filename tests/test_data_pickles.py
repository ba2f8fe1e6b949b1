"""Pickles of plain data, as Python writes them, and those that would run something; the batches of CIFAR."""

import os
import pickle
import struct
import subprocess
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import scipy.sparse

from fluxion.data.errors import CorruptFileError
from fluxion.data.formats.cifar import binary_batch, pickled_batch
from fluxion.data.formats.pickles import plain_pickle

RNG = np.random.default_rng(0)


class Harmful:
    """What runs a program when a pickle of it is loaded as usual."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_plain_data(protocol):
    data = {
        "text": "wörd\n'",
        "bytes": b"\x00\xff",
        "numbers": [0, 1, 255, 256, 65536, -1, 2**31, -(2**40), 2**100, 1.5, float("inf")],
        "constants": (None, True, False),
        "nested": {"a": [{}, [], (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]},
        5: list(range(3000)),
        "default": defaultdict(list, {1: [2]}),
    }
    data["again"] = data["numbers"]
    read = plain_pickle(pickle.dumps(data, protocol), "file")
    assert read == data
    assert read["again"] is read["numbers"]


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("dtype", ["u1", "<i4", ">f8", "?", "c16"])
def test_pickles_of_arrays(protocol, dtype):
    array = RNG.integers(0, 2, (3, 4)).astype(dtype)
    read = plain_pickle(pickle.dumps([array, array.T, array[:1]], protocol), "file")
    for found, wanted in zip(read, [array, array.T, array[:1]], strict=True):
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype.newbyteorder("=")


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_numbers_of_numpy(protocol):
    data = {"a": [np.int64(5), np.float32(2.5)], "b": np.uint8(7)}
    assert plain_pickle(pickle.dumps(data, protocol), "file") == {"a": [5, 2.5], "b": 7}


def test_pickles_of_python_2():
    """The instructions that Python 2 writes for its strings, which are bytes, by both of its protocols."""
    text = b"(dp0\nS'key'\np1\n(lp2\nI7\naI01\naL8L\nasS\"a'\\x00\\n\"\np3\nF2.5\nsV\\u20ac\np4\ng3\ns."
    assert plain_pickle(text, "f") == {"key": [7, True, 8], "a'\x00\n": 2.5, "€": b"a'\x00\n"}
    binary = b"\x80\x02}q\x01(U\x03keyq\x02]q\x03(K\x01M\x01\x02J\xff\xff\xff\xffeT\x04\x00\x00\x00data(h\x02tu."
    assert plain_pickle(binary, "f") == {"key": [1, 513, -1], "data": (b"key",)}


def test_sparse_matrices_are_records_of_their_fields():
    matrix = scipy.sparse.csr_matrix(np.eye(3))
    for protocol in range(5):
        fields = plain_pickle(pickle.dumps(matrix, protocol), "f").fields
        assert fields["_shape"] == (3, 3) and fields["indices"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "value",
    [
        Harmful(os.system, "echo harm"),
        Harmful(eval, "1"),
        Harmful(exec, "1"),
        Harmful(subprocess.check_output, ["true"]),
        Harmful(getattr, "", "join"),
        Harmful(__import__, "os"),
        np.array([Harmful(os.system, "echo harm")], object),
        np.ones(2).view(np.recarray),
        OrderedDict(a=1),
        {1, 2},
        Harmful(open, "x", "w"),
        Harmful(dict, [(1, 2)]),
    ],
)
@pytest.mark.parametrize("protocol", range(6))
def test_pickles_that_could_run_something_are_refused(value, protocol, monkeypatch):
    monkeypatch.setattr(pickle, "loads", None)
    with pytest.raises(CorruptFileError, match=r"names that could run|does not need|no plain numbers"):
        plain_pickle(pickle.dumps({"data": value}, protocol), "file")


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "an instruction of 1 bytes does not fit"),
        (b".", "no pickle of plain data"),
        (b"cos\nsystem\n(S'ls'\ntR.", "the pickle names 'os.system'; names that could run are not read"),
        (b"cbuiltins\neval\n.", "'builtins.eval'"),
        (b"cnumpy\nndarray\n)R.", "calls what cannot be called"),
        (b"K\x01)R.", "calls what cannot be called"),
        (b"cscipy.sparse.csr\ncsr_matrix\n)R.", "calls what cannot be called"),
        (b"cnumpy\nndarray\n)\x81.", "makes an object of what is no type"),
        (b"cscipy.sparse.csr\ncsr_matrix\nK\x01\x85\x81.", "makes an object of what is no type"),
        (b"Pthing\n.", "uses the instruction b'P'"),
        (b"(" * 100 + b"t" * 101 + b".", "closes what it did not open"),
        (b"}(](K\x01s.", "takes more values than it has|no dict"),
        (b"])K\x01s.", "sets items of what is no dict"),
        (b"})K\x01s.", "has a key of type tuple"),
        (b"}K\x01a.", "appends to what is no list"),
        (b"K\x01}b.", "gives a state to what has none"),
        (b"S'a\n.", "a string of the pickle has no quotes"),
        (b"S'" + b"a" * 9, "a line of the pickle has no end"),
        (b"h\x05.", "no pickle of plain data"),
        (b"\x8b\xff\xff\xff\x7f.", "a string of 2147483647 bytes does not fit"),
        (b"T\xff\xff\xff\xff.", "a string of -1 bytes does not fit"),
        (b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.", "an array of type 'O8', which holds no plain numbers"),
        (b"c_codecs\nencode\n(VA\nVrot13\ntR.", "encodes bytes as 'rot13'"),
        (
            b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01(J\xff\xff\xff\x7ftcnumpy\ndtype\n(S'u1'\ntRI00\nS'ab'\ntb.",
            r"an array of shape \(2147483647,\) does not have 2 bytes",
        ),
    ],
)
def test_damaged_pickles(data, message):
    with pytest.raises(CorruptFileError, match=message):
        plain_pickle(data, "file")


# ---- CIFAR


def test_cifar_records_and_pickles_agree():
    pixels, labels = RNG.integers(0, 256, (4, 3072)).astype(np.uint8), [3, 1, 4, 1]
    records = np.concatenate([np.array(labels, np.uint8)[:, None], pixels], axis=1).tobytes()
    images, found = binary_batch(records, "f", 1)
    np.testing.assert_array_equal(images, pixels.reshape(4, 3, 32, 32).transpose(0, 2, 3, 1))
    assert found.tolist() == [[3], [1], [4], [1]]
    for protocol in range(5):
        batch = pickle.dumps({"data": pixels, "labels": labels}, protocol)
        pickled, again = pickled_batch(batch, "f", ["labels"])
        np.testing.assert_array_equal(pickled, images)
        np.testing.assert_array_equal(again, found)
    as_python_2 = batch_of_python_2(pixels, labels)
    np.testing.assert_array_equal(pickled_batch(as_python_2, "f", ["labels"])[0], images)


def batch_of_python_2(pixels, labels):
    """A batch as in the archive of CIFAR, which Python 2 wrote by its second protocol."""
    shape = b"M" + struct.pack("<H", len(pixels)) + b"M" + struct.pack("<H", 3072) + b"\x86"
    dtype = b"cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87Rq\x06(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    raw = b"T" + struct.pack("<i", pixels.size) + pixels.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04"
    array += b"(K\x01" + shape + dtype + b"\x89" + raw + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}q\x01(U\x0bbatch_labelU\x05batchU\x06labels" + listed + b"U\x04data" + array + b"u."


@pytest.mark.parametrize(
    "batch, message",
    [
        ([], "no dict with the bytes of images, 3072 for each, under 'data'"),
        ({"data": np.array(1, np.uint8)}, "no dict with the bytes"),
        ({"data": np.zeros((2, 3072))}, "no dict with the bytes"),
        ({"data": np.zeros((2, 3072), np.uint8)}, "no list of labels under 'labels'"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1, 256]}, "no list of labels under 'labels'"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, "1 labels under 'labels' for 2 images"),
    ],
)
def test_damaged_cifar(batch, message):
    with pytest.raises(CorruptFileError, match=message):
        pickled_batch(pickle.dumps(batch), "f", ["labels"])
    with pytest.raises(CorruptFileError, match="3072 bytes are no records of 3073"):
        binary_batch(bytes(3072), "f", 1)

"""Cora: from the files of Planetoid, downloaded, to its arrays."""

import functools
import hashlib
import pickle

import numpy as np
import pytest
import scipy.sparse
from webserver import publish, web

from fluxion.data import Cora
from fluxion.data.errors import CorruptFileError

__all__ = ["publish", "web"]

RNG = np.random.default_rng(0)


def planetoid(protocol):
    """The files of a graph of 12 papers of which the first 4 are to train on and 3, in another order, to test on."""
    features = (RNG.random((12, 1433)) < 0.05).astype(np.float32)
    labels = RNG.integers(0, 7, 12)
    order = [11, 9, 10]
    onehot = np.eye(7, dtype=np.int32)[labels]
    graph = {i: [(i + 1) % 12, (i + 1) % 12, i] for i in range(12)}
    matrices = {"x": features[:4], "allx": features[:9], "tx": features[order]}
    pickles = {name: csr_pickle(scipy.sparse.csr_matrix(matrix), protocol) for name, matrix in matrices.items()}
    arrays = {"y": onehot[:4], "ally": onehot[:9], "ty": onehot[order], "graph": graph}
    pickles |= {name: pickle.dumps(value, protocol) for name, value in arrays.items()}
    pickles["test.index"] = "".join(f"{i}\n" for i in order).encode()
    return {f"ind.cora.{name}": data for name, data in pickles.items()}, features, labels


def csr_pickle(matrix, protocol):
    """A pickle of `matrix` with the names that SciPy had when the files were made."""
    data = pickle.dumps(matrix, protocol)
    return data.replace(b"scipy.sparse._csr\n", b"scipy.sparse.csr\n") if protocol < 4 else data


def combined(files):
    sums = [int(hashlib.sha256(data).hexdigest(), 16) for data in files.values()]
    return f"{functools.reduce(int.__xor__, sums):064x}"


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_cora_is_that_of_planetoid(protocol, publish, tmp_path, monkeypatch):
    files, features, labels = planetoid(protocol)
    publish(Cora, files)
    monkeypatch.setattr(Cora, "combined_sha256", combined(files))
    cora = Cora(tmp_path, progress=False)
    np.testing.assert_array_equal(cora.features, features)
    np.testing.assert_array_equal(cora.labels, labels)
    assert cora.labels.dtype == cora.edges.dtype == np.int32 and cora.features.dtype == np.float32
    wanted = sorted({(i, (i + 1) % 12) for i in range(12)} | {((i + 1) % 12, i) for i in range(12)})
    assert cora.edges.T.tolist() == [list(pair) for pair in wanted]
    assert np.flatnonzero(cora.train_mask).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(cora.val_mask).tolist() == [4, 5, 6, 7, 8]
    assert np.flatnonzero(cora.test_mask).tolist() == [9, 10, 11]
    assert cora.graph is cora.graph
    monkeypatch.setattr(Cora, "combined_sha256", "0" * 64)
    with pytest.raises(CorruptFileError, match=r"the SHA-256 of its 8 files, combined by exclusive or, is"):
        _ = Cora(tmp_path, progress=False).graph


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("graph", [1], "no dict of lists of neighbours"),
        ("graph", {0: [12]}, "neighbours that are none of 12 nodes"),
        ("graph", {0: ["a"]}, "neighbours that are none of 12 nodes"),
        ("ally", np.array(1.0), "no one-hot matrix of 7 columns"),
        ("ally", np.ones((9, 3)), "no one-hot matrix of 7 columns"),
        ("tx", [1], "no sparse matrix in compressed rows"),
        ("tx", scipy.sparse.csr_matrix((3, 5)), r"a sparse matrix of shape \(3, 5\) instead of \(3, 1433\)"),
        ("tx", scipy.sparse.csr_matrix((4, 1433)), "the files of Planetoid do not belong together"),
        ("test.index", b"9 10 10", "the files of Planetoid do not belong together"),
        ("test.index", b"9 10 x", "no list of numbers"),
    ],
)
def test_damaged_cora(name, value, message, publish, tmp_path, monkeypatch):
    files, _, _ = planetoid(1)
    files[f"ind.cora.{name}"] = value if isinstance(value, bytes) else pickle.dumps(value, 1)
    publish(Cora, files)
    monkeypatch.setattr(Cora, "combined_sha256", combined(files))
    with pytest.raises(CorruptFileError, match=message):
        _ = Cora(tmp_path, progress=False).graph


def test_a_sparse_matrix_whose_places_make_no_sense(publish, tmp_path, monkeypatch):
    files, _, _ = planetoid(1)
    matrix = scipy.sparse.csr_matrix(np.eye(3, 1433))
    matrix.indices[0] = 5000
    files["ind.cora.tx"] = pickle.dumps(matrix, 1)
    publish(Cora, files)
    monkeypatch.setattr(Cora, "combined_sha256", combined(files))
    with pytest.raises(CorruptFileError, match="a sparse matrix whose places make no sense"):
        _ = Cora(tmp_path, progress=False).graph

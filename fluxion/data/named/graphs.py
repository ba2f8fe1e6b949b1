"""The data sets that are graphs: Cora."""

from __future__ import annotations

import functools
import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from fluxion.data.errors import CorruptFileError
from fluxion.data.formats.cursor import contents
from fluxion.data.formats.pickles import Record, plain_pickle
from fluxion.data.named.base import NamedData
from fluxion.data.named.download import mirrored

_HOSTS = (
    "https://raw.githubusercontent.com/kimiyoung/planetoid/master/data/",
    "https://github.com/kimiyoung/planetoid/raw/master/data/",
    "https://gitee.com/jiajiewu/planetoid/raw/master/data/",
)
# y is here for the checksum: its labels are the first ones of ally
_NAMES = ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")
_VALIDATION = 500


class Graph(NamedTuple):
    """The arrays of a graph, as `Cora` describes them."""

    features: np.ndarray
    labels: np.ndarray
    edges: np.ndarray
    train_mask: np.ndarray
    val_mask: np.ndarray
    test_mask: np.ndarray


class Cora(NamedData):
    """Cora: 2,708 papers on machine learning in seven classes, by their words and by which of them cite each other.

    features    float32 `(2708, 1433)`, 1 for the words of a dictionary that a paper has, otherwise 0
    labels      int32 `(2708,)`, the class
    edges       int32 `(2, 10556)`, from where to where; both ways for each citation, none twice, none to itself
    train_mask  bool `(2708,)`, 20 papers of each class, 140; `val_mask` 500, `test_mask` 1,000, as in Planetoid

    `root`, `download`, `progress` and the errors are those of `MNIST`. `synthetic=True` makes a graph of the same size,
    in which papers of a class share words and cite each other more often; `synthetic=n` one of n papers.

    Of the eight files no SHA-256 is published one by one, only, by MLDatasets, all of theirs combined by exclusive or,
    which is checked here. They are pickles: they are read without running anything in them.

    Source: Z. Yang, W. W. Cohen, R. Salakhutdinov 2016, "Revisiting semi-supervised learning with graph embeddings"
    (Planetoid), arXiv:1603.08861; no licence is stated (MLDatasets: `Cora`).

    >>> cora = fx.data.Cora(synthetic=True)
    >>> cora.features.shape, cora.edges.shape, cora.train_mask.sum()
    ((2708, 1433), (2, 10556), np.int64(140))
    """

    title = "papers on machine learning that cite each other"
    source = "https://github.com/kimiyoung/planetoid"
    licence = "not stated"
    citation = (
        "Z. Yang, W. W. Cohen, R. Salakhutdinov 2016, Revisiting semi-supervised learning with graph embeddings, "
        "arXiv:1603.08861"
    )
    # the order of Planetoid's labels
    class_names = (
        *("Theory", "Reinforcement_Learning", "Genetic_Algorithms", "Neural_Networks"),
        *("Probabilistic_Methods", "Case_Based", "Rule_Learning"),
    )
    synthetic_size = 2708
    files = tuple(mirrored(f"ind.cora.{name}", None, None, *_HOSTS) for name in _NAMES)
    combined_sha256: ClassVar[str] = "81de017067dc045ebdb8ffd5c0e69a209973ffdb1fe2d5b434e94d3614f3f5c7"

    @cached_property
    def graph(self) -> Graph:
        """All arrays together; they are read when one is first asked for, and kept."""
        return self.read() if self.made is None else self.make(self.made)

    @property
    def features(self) -> np.ndarray:
        """The words of the papers."""
        return self.graph.features

    @property
    def labels(self) -> np.ndarray:
        """The classes of the papers."""
        return self.graph.labels

    @property
    def edges(self) -> np.ndarray:
        """The citations."""
        return self.graph.edges

    @property
    def train_mask(self) -> np.ndarray:
        """Which papers to train on."""
        return self.graph.train_mask

    @property
    def val_mask(self) -> np.ndarray:
        """Which papers to choose by."""
        return self.graph.val_mask

    @property
    def test_mask(self) -> np.ndarray:
        """Which papers to test on."""
        return self.graph.test_mask

    def read(self) -> Graph:
        """The graph out of the files of Planetoid."""
        paths = dict(zip(_NAMES, self.paths(*self.files), strict=True))
        self.check(list(paths.values()))
        order = _numbers(paths["test.index"])
        x, allx, tx = (_dense(paths[name]) for name in ("x", "allx", "tx"))
        ally, ty = (_classes(paths[name]) for name in ("ally", "ty"))
        first, count = len(allx), len(allx) + len(tx)
        if len(ally) != first or len(ty) != len(tx) or sorted(order) != list(range(first, count)):
            raise CorruptFileError(paths["allx"], "the files of Planetoid do not belong together")
        place = np.concatenate([np.arange(first), np.argsort(order) + first])
        features = np.concatenate([allx, tx])[place]
        labels = np.concatenate([ally, ty])[place]
        masks = _masks(count, len(x), min(_VALIDATION, first - len(x)), len(tx))
        return Graph(features, labels, _edges(paths["graph"], count), *masks)

    def check(self, paths: list[Path]) -> None:
        """Raises where the files' SHA-256, combined by exclusive or, is not the published one."""
        sums = [int.from_bytes(hashlib.sha256(contents(path)).digest()) for path in paths]
        found = f"{functools.reduce(int.__xor__, sums):064x}"
        if found != self.combined_sha256:
            raise CorruptFileError(
                paths[0].parent,
                f"the SHA-256 of its {len(paths)} files, combined by exclusive or, is {found} instead of "
                f"{self.combined_sha256}; delete them and they are downloaded again",
            )

    def make(self, count: int) -> Graph:
        """A made-up graph, whose papers mostly have words of their class and cite within it."""
        rng, classes, words = self.rng("graph"), len(self.class_names), 1433
        labels = np.arange(count, dtype=np.int32) % classes
        own = np.arange(words) % classes == labels[:, None]
        features = (rng.random((count, words)) < np.where(own, 0.06, 0.006)).astype(np.float32)
        wanted = round(count * 5278 / 2708)  # citations, each of them two edges
        one, other, any_paper = rng.integers(0, count, (3, 8 * wanted))
        alike = np.where(rng.random(8 * wanted) < 0.8, other - labels[other] + labels[one], any_paper)
        codes = np.unique((one * count + alike)[(one < alike) & (alike < count)])
        chosen = rng.permutation(codes)[:wanted]
        train, test = min(20 * classes, count // 3), min(1000, 3 * count // 8)
        masks = _masks(count, train, min(_VALIDATION, count - train - test), test)
        return Graph(features, labels, _both_ways(chosen // count, chosen % count, count), *masks)

    def facts(self) -> list[tuple[str, str]]:
        count = self.made or 2708
        return [("graph", f"{count:,} papers: features ({count}, 1433) float32, labels, edges (2, E), masks")]


def _masks(count: int, train: int, validation: int, test: int) -> list[np.ndarray]:
    """The first papers to train on, the next to choose by, the last to test on."""
    place = np.arange(count)
    return [place < train, (place >= train) & (place < train + validation), place >= count - test]


def _both_ways(one: np.ndarray, other: np.ndarray, count: int) -> np.ndarray:
    """The edges `(2, E)` from each of `one` to `other` and back, in order, none twice, none to itself."""
    codes = np.unique(np.concatenate([one * count + other, other * count + one])[np.tile(one != other, 2)])
    return np.stack([codes // count, codes % count]).astype(np.int32)


def _edges(path: Path, count: int) -> np.ndarray:
    """The edges of a pickled dict of the neighbours of each node."""
    graph = plain_pickle(contents(path), path)
    if not isinstance(graph, dict) or not all(isinstance(ends, list) for ends in graph.values()):
        raise CorruptFileError(path, "no dict of lists of neighbours")
    pairs = [(start, end) for start, ends in graph.items() for end in ends]
    if not all(type(node) is int and 0 <= node < count for pair in pairs for node in pair):
        raise CorruptFileError(path, f"neighbours that are none of {count} nodes")
    one, other = np.array(pairs, np.int64).reshape(-1, 2).T
    return _both_ways(one, other, count)


def _dense(path: Path) -> np.ndarray:
    """The matrix of a pickled sparse matrix of SciPy, in compressed rows."""
    pickled = plain_pickle(contents(path), path)
    fields = pickled.fields if isinstance(pickled, Record) else {}
    parts: list[Any] = [fields.get(name) for name in ("data", "indices", "indptr")]
    data, indices, starts = parts
    shape = fields.get("_shape")
    kinds = [part.dtype.kind if isinstance(part, np.ndarray) and part.ndim == 1 else "" for part in parts]
    if not all(kinds) or kinds[1] + kinds[2] not in ("ii", "uu") or kinds[0] not in "biuf":
        raise CorruptFileError(path, "no sparse matrix in compressed rows")
    if not isinstance(shape, tuple) or shape != (len(starts) - 1, 1433):
        raise CorruptFileError(path, f"a sparse matrix of shape {shape} instead of ({len(starts) - 1}, 1433)")
    counts = np.diff(starts)
    fits = starts[0] == 0 and starts[-1] == len(data) == len(indices) and (counts >= 0).all()
    if not fits or (len(indices) and not 0 <= indices.min() <= indices.max() < shape[1]):
        raise CorruptFileError(path, "a sparse matrix whose places make no sense")
    dense = np.zeros(shape, np.float32)
    dense[np.repeat(np.arange(shape[0]), counts), indices] = data
    return dense


def _classes(path: Path) -> np.ndarray:
    """The classes of a pickled one-hot matrix."""
    onehot = plain_pickle(contents(path), path)
    if not isinstance(onehot, np.ndarray) or onehot.shape[1:] != (7,) or onehot.dtype.kind not in "biuf":
        raise CorruptFileError(path, "no one-hot matrix of 7 columns")
    return onehot.argmax(axis=1).astype(np.int32)


def _numbers(path: Path) -> list[int]:
    try:
        return [int(line) for line in str(contents(path), "ascii").split()]
    except ValueError as error:
        raise CorruptFileError(path, f"no list of numbers ({error})") from None

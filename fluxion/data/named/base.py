"""What the named data sets have in common."""

from __future__ import annotations

import os
import textwrap
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from fluxion.data.checks import whole_number
from fluxion.data.errors import CorruptFileError
from fluxion.data.named.download import RemoteFile
from fluxion.data.named.places import data_root, locate

_WIDTH = 100


class NamedData:
    """A data set with a name, whose files are looked for, or made up, when its data is first asked for.

    class_names  what the labels 0, 1, ... stand for
    citation     whom to cite
    licence      under which terms it may be used
    source       where it comes from
    """

    title: ClassVar[str]
    citation: ClassVar[str]
    licence: ClassVar[str]
    source: ClassVar[str]
    synthetic_size: ClassVar[int] = 2000
    class_names: tuple[str, ...] = ()

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        download: bool = True,
        synthetic: bool | int = False,
        progress: bool = True,
    ) -> None:
        self.root = data_root(root)
        self.download = download
        self.progress = progress
        self.made: int | None = None
        if synthetic is not False:
            self.made = self.synthetic_size if synthetic is True else whole_number("synthetic", synthetic, 1)

    @property
    def name(self) -> str:
        """The name of the data set, which is also that of its folder."""
        return type(self).__name__

    def paths(self, *files: RemoteFile) -> list[Path]:
        """The paths of files of the data set, downloaded where they are not there."""
        return locate(self.name, files, self.root, self.download, self.progress)

    def rng(self, purpose: str) -> np.random.Generator:
        """Random numbers for made-up data: others for each data set and purpose, the same in each run."""
        return np.random.default_rng([zlib.crc32(self.name.encode()), zlib.crc32(purpose.encode())])

    def facts(self) -> list[tuple[str, str]]:
        """What there is to say of the data itself, as printed."""
        raise NotImplementedError

    def where(self) -> str:
        """Where the data comes from on this machine, as printed."""
        if self.made is not None:
            return "made up: synthetic"
        return "no folder: give root=" if self.root is None else str(self.root / self.name)

    def __repr__(self) -> str:
        facts = [*self.facts(), *_classes(self.class_names), ("files", self.where())]
        facts += [("source", self.source), ("licence", self.licence), ("cite", self.citation)]
        return "\n".join([f"{self.name}: {self.title}", *(f"  {label:<8} {text}" for label, text in facts)])


class SplitData(NamedData):
    """A named data set in two parts, `train` and `test`; `(x, y), (x_test, y_test) = it` unpacks them.

    A part is read when it is first asked for, and kept. Its arrays are the caller's to change: they belong to this
    object alone.
    """

    @cached_property
    def train(self) -> Any:
        """The part to train on."""
        return self.part("train")

    @cached_property
    def test(self) -> Any:
        """The part to test on."""
        return self.part("test")

    def part(self, part: str) -> Any:
        """Reads or makes a part."""
        raise NotImplementedError

    def made_size(self, part: str) -> int:
        """How many observations of made-up data a part has: a fifth of those in `train`."""
        assert self.made is not None
        return self.made if part == "train" else max(self.made // 5, 1)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.train, self.test))

    def __getitem__(self, place: int) -> Any:
        return (self.train, self.test)[place]

    def __len__(self) -> int:  # else a loader would take it for a stream of two observations
        raise TypeError(f"{self.name} has two parts, each with a length of its own: take its train or its test")

    def __bool__(self) -> bool:
        return True


def _classes(names: tuple[str, ...]) -> list[tuple[str, str]]:
    text = f"{len(names)}: {', '.join(names)}"
    return [("classes", textwrap.shorten(text, _WIDTH, placeholder=" ..."))] if names else []


def float_type(dtype: Any) -> np.dtype:
    """`dtype`, if it is one of floats."""
    found = np.dtype(dtype)
    if not jnp.issubdtype(found, jnp.floating):
        raise TypeError(f"dtype is a type of floats, such as np.float32, got {found}")
    return found


def every_fifth(groups: np.ndarray, part: str) -> np.ndarray:
    """Which observations are in a part: of each group the fifth, tenth, ... are in `test`, the others in `train`."""
    place = np.zeros(len(groups), int)
    for group in np.unique(groups):
        members = groups == group
        place[members] = np.arange(members.sum())
    test = place % 5 == 4
    return test if part == "test" else ~test


def class_labels(data: NamedData, labels: np.ndarray, count: int, path: Path) -> np.ndarray:
    """`labels` as int32, if there are `count` of them and each is that of a class."""
    if labels.shape != (count,):
        raise CorruptFileError(path, f"labels of shape {labels.shape} for {count} observations")
    if count and not 0 <= labels.min() <= labels.max() < len(data.class_names):
        least, most = labels.min(), labels.max()
        raise CorruptFileError(path, f"labels from {least} to {most} for {len(data.class_names)} classes")
    return labels.astype(np.int32)

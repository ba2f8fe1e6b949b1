"""Observations that come from files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from fluxion.data.folders.listing import existing, files_below, without_files
from fluxion.data.observations import Observations

PathLike = str | os.PathLike[str]


class FileDataset(Observations):
    """What `read` makes of each of some files, when it is asked for (MLDatasets: `FileDataset`).

    read    a function of a path (a string); loader threads may call it at the same time
    files   their paths, in the order of the observations; or a folder, for all files in it and below it, sorted, but
            for hidden ones and links to folders
    labels  one for each file, or None

    Observation `i` is `read(files[i])`, with labels `(read(files[i]), labels[i])`. Attributes: `read`, `files` (a list
    of strings), `labels`, and `class_names`, which is empty unless a function such as `image_dataset_from_directory`
    found classes. `source(i)` is the file of observation `i`.

    Raises TypeError where `read` is no function, FileNotFoundError for a folder that does not exist, ValueError for
    no files or labels that are not as many.

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("b", "a"):
    ...     np.save(folder / f"{name}.npy", np.full(2, ord(name)))
    >>> dataset = FileDataset(np.load, folder)
    >>> len(dataset), dataset[0].tolist(), dataset[:].shape
    (2, [97, 97], (2, 2))
    """

    made_by: ClassVar[str] = "FileDataset"

    def __init__(self, read: Callable[[str], Any], files: PathLike | Iterable[PathLike], labels: Any = None) -> None:
        if not callable(read):
            raise TypeError(f"FileDataset takes a function of a path and then the files, got {read!r} for the function")
        if isinstance(files, (str, os.PathLike)):
            folder = existing("FileDataset", files)
            found = files_below(folder)
            if not found:
                raise without_files("FileDataset", [folder], None)
        else:
            found = [os.fspath(file) for file in files]
            if not found:
                raise ValueError("FileDataset needs at least one file, got none")
        if labels is not None and len(labels) != len(found):
            raise ValueError(
                f"FileDataset needs one label for each file: there are {len(found)} files and {len(labels)} labels"
            )
        self.read = read
        self.files = found
        self.labels = labels
        self.class_names: Sequence[str] = []

    def __len__(self) -> int:
        return len(self.files)

    def one(self, i: int) -> Any:
        observation = self.read(self.files[i])
        return observation if self.labels is None else (observation, self.labels[i])

    def source(self, i: int) -> str:
        """The file of observation `i`."""
        return self.files[i]

    def __repr__(self) -> str:
        classes = f" of {len(self.class_names)} classes" if self.class_names else ""
        return f"FileDataset of {len(self)} files{classes}"


class ClassifiedFiles(FileDataset):
    """Files with numbers of classes as labels; an observation has what `encode` makes of the number."""

    def __init__(
        self,
        read: Callable[[str], Any],
        files: list[str],
        labels: np.ndarray,
        class_names: Sequence[str],
        encode: Callable[[int], Any],
    ) -> None:
        super().__init__(read, files, labels)
        self.class_names = class_names
        self.encode = encode

    def one(self, i: int) -> Any:
        return self.read(self.files[i]), self.encode(self.labels[i])


def contents(source: PathLike | bytes) -> tuple[str, bytes]:
    """What errors call a file, and the bytes in it; `source` is its path or the bytes themselves."""
    if isinstance(source, bytes):
        return f"{len(source)} bytes in memory", source
    with open(source, "rb") as file:
        return os.fspath(source), file.read()

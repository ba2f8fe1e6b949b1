"""Data sets of files with classes: what images, texts and sounds have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fluxion.data.checks import listed, one_of
from fluxion.data.folders.files import ClassifiedFiles, FileDataset
from fluxion.data.folders.labels import (
    Labelled,
    Search,
    encoder,
    labelled,
    names_of_classes,
    numbers,
)
from fluxion.data.folders.listing import checked_extensions, existing, subfolders, without_files
from fluxion.data.folders.parts import drawn, folder_of, part_folders, refuse_parts_as_classes, wanted_parts

MODES = ("int", "onehot", "categorical", "binary", None)  # "categorical" is what Keras calls "onehot"
Files = FileDataset | tuple[FileDataset, FileDataset]


@dataclass
class Options:
    """What the functions for images, texts and sounds take alike; `function` is the name of the one that was called."""

    function: str
    labels: Any
    label_mode: str | None
    class_names: Sequence[str] | None
    validation_split: float | None
    subset: str | None
    seed: int
    follow_links: bool
    extensions: Sequence[str]


@dataclass
class Part:
    """Files and the numbers of their classes, None where there are no labels."""

    files: list[str]
    classes: np.ndarray | None
    class_names: list[str]

    def take(self, indices: np.ndarray) -> Part:
        """The part of it at `indices`."""
        files = [self.files[i] for i in indices.tolist()]
        return Part(files, None if self.classes is None else self.classes[indices], self.class_names)


def dataset(path: str | os.PathLike[str], read: Callable[[str], Any], options: Options) -> Files:
    """The observations that `read` makes of the files below `path`, or two parts of them for subset="both"."""
    function, split = options.function, options.validation_split
    wanted = wanted_parts(function, options.subset, split, options.seed)
    mode = one_of(function, "label_mode", options.label_mode, MODES)
    extensions = checked_extensions(function, options.extensions)
    search = Search(function, None if mode is None else options.labels, extensions, options.follow_links)
    folder = existing(function, path)
    if wanted and split is None:
        parts = _in_folders(search, folder, wanted, options.class_names)
    else:
        if search.inferred:
            refuse_parts_as_classes(function, folder, subfolders(folder, search.follow_links))
        whole = _in_folder(search, folder, options.class_names)
        indices = {} if split is None else drawn(function, len(whole.files), split, options.seed)
        parts = [whole.take(indices[part]) for part in wanted] or [whole]
    made = [_dataset_of(part, read, function, mode) for part in parts]
    return made[0] if len(made) == 1 else (made[0], made[1])


def _in_folder(search: Search, folder: str, chosen: Sequence[str] | None) -> Part:
    if search.labels is None:
        return Part(search.files(folder), None, [])
    found = labelled(search, folder)
    return _of_classes(search, found, names_of_classes(search.function, found, chosen), folder)


def _in_folders(search: Search, folder: str, wanted: Sequence[str], chosen: Sequence[str] | None) -> list[Part]:
    """Parts that have folders of their own; the classes of all are those of the training part, if there is one."""
    there = part_folders(search.function, folder, search.follow_links)
    folders = {part: folder_of(search.function, folder, there, part) for part in wanted}
    if search.labels is None:
        return [Part(search.files(place), None, []) for place in folders.values()]
    if not isinstance(search.labels, str) and not callable(search.labels):
        raise ValueError(
            f"{search.function}: a list of labels is for the files of one folder; name {folders[wanted[0]]!r} as the "
            f"folder and leave subset out"
        )
    first = there.get("training", folders[wanted[0]])
    found = {place: labelled(search, place) for place in dict.fromkeys((first, *folders.values()))}
    names = names_of_classes(search.function, found[first], chosen)
    for place, part in found.items():
        strange = sorted(set(part.classes) - set(found[first].classes))
        if strange:
            raise ValueError(
                f"{search.function}: {place!r} has classes that {first!r} lacks: {listed(strange)}; "
                f"class_names= chooses the classes to read"
            )
    return [_of_classes(search, found[place], names, place) for place in folders.values()]


def _of_classes(search: Search, found: Labelled, names: list[str], folder: str) -> Part:
    files, classes = numbers(search.function, found, names)
    if not files:
        raise without_files(search.function, [os.path.join(folder, name) for name in names], search.extensions)
    return Part(files, classes, names)


def _dataset_of(part: Part, read: Callable[[str], Any], function: str, mode: str | None) -> FileDataset:
    if part.classes is None or mode is None:
        return FileDataset(read, part.files)
    return ClassifiedFiles(read, part.files, part.classes, part.class_names, encoder(function, mode, part.class_names))

"""Classes of files: from their folders, from their names, by a function or from a list."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fluxion.data.checks import listed
from fluxion.data.folders.listing import files_below, subfolders, without_files

MOST_CLASSES = 1_000_000
Label = str | int


@dataclass
class Search:
    """Which files are looked for, and how they get their labels; `function` is the caller's name for errors."""

    function: str
    labels: Any
    extensions: tuple[str, ...]
    follow_links: bool

    @property
    def inferred(self) -> bool:
        """Whether the folders are the classes."""
        return isinstance(self.labels, str) and self.labels == "inferred"

    def files(self, folder: str) -> list[str]:
        """All files below `folder`, in order; an error if there are none."""
        files = files_below(folder, self.follow_links, self.extensions)
        if not files:
            raise without_files(self.function, [folder], self.extensions)
        return files


@dataclass
class Labelled:
    """Files, a class name or number for each, and names of all classes, of which some may have no file."""

    files: list[str]
    labels: list[Label]
    classes: list[str]

    @property
    def numbered(self) -> bool:
        """Whether the labels are numbers of classes."""
        return bool(self.labels) and not isinstance(self.labels[0], str)


def labelled(search: Search, folder: str) -> Labelled:
    """The files below a folder with the labels that `search` gives them."""
    if search.inferred:
        return _from_folders(search, folder)
    files = search.files(folder)
    if isinstance(search.labels, str):
        labels = _from_names(search, files)
    elif callable(search.labels):
        labels = [search.labels(Path(file)) for file in files]
    else:
        labels = _from_list(search, files, folder)
    return Labelled(files, _checked(search.function, files, labels), sorted({x for x in labels if isinstance(x, str)}))


def encoder(function: str, label_mode: str, class_names: Sequence[str]) -> Callable[[int], Any]:
    """The function from the number of a class to what an observation has as its label."""
    count = len(class_names)
    if label_mode == "binary" and count != 2:
        raise ValueError(
            f'{function}: label_mode="binary" needs two classes, got {count} ({listed(class_names)}); '
            f'label_mode="onehot" and "int" take any number'
        )
    if label_mode in ("int", "binary"):
        return np.int32 if label_mode == "int" else _as_float
    return partial(_as_row, count=count)


def _as_float(number: int) -> np.ndarray:
    return np.full(1, number, np.float32)


def _as_row(number: int, count: int) -> np.ndarray:
    row = np.zeros(count, np.float32)
    row[number] = 1
    return row


def numbers(function: str, found: Labelled, class_names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The files that are of these classes, and the number of the class of each."""
    if found.numbered:
        most = max(found.labels)
        if int(most) >= len(class_names):
            raise ValueError(f"{function}: there is a label {most}, but only {len(class_names)} classes")
        return found.files, np.array(found.labels, np.int32)
    place: dict[Label, int] = {name: number for number, name in enumerate(class_names)}
    kept = [(file, place[label]) for file, label in zip(found.files, found.labels, strict=True) if label in place]
    return [file for file, _ in kept], np.array([number for _, number in kept], np.int32)


def names_of_classes(function: str, found: Labelled, chosen: Sequence[str] | None) -> list[str]:
    """The classes in the order of their numbers: those found, sorted, or those that the caller chose."""
    if chosen is not None:
        return _chosen(function, found, chosen)
    names = _numerals(function, int(max(found.labels)) + 1) if found.numbered else found.classes
    if len(names) == 1:
        raise ValueError(
            f"{function} found one class only, {names[0]!r}: classes are the folders in the folder that is named, or "
            f"what labels= says; label_mode=None leaves labels out, class_names={names!r} says that one class is meant"
        )
    return names


def _numerals(function: str, count: int) -> list[str]:
    if count > MOST_CLASSES:
        raise ValueError(
            f"{function}: labels that are integers are numbers of classes, but there is a label {count - 1}; "
            f"make names of them, as in labels=lambda path: str(...)"
        )
    return [str(number) for number in range(count)]


def _from_folders(search: Search, folder: str) -> Labelled:
    classes = subfolders(folder, search.follow_links)
    files = files_below(folder, search.follow_links, search.extensions)
    if not classes and files:
        raise ValueError(
            f"{search.function}: {folder!r} has files but no folders, which would be the classes; say what the labels "
            f'are, as in labels=r"(cat|dog)\\..*" for names like cat.0.jpg, or leave them out by label_mode=None'
        )
    of_class: dict[str, list[str]] = {name: [] for name in classes}
    for file in files:
        name, inside, _ = file.removeprefix(os.path.join(folder, "")).partition(os.sep)
        if inside:
            of_class[name].append(file)
    if not any(of_class.values()):
        raise without_files(search.function, [folder], search.extensions)
    pairs = [(file, name) for name in classes for file in of_class[name]]
    return Labelled([file for file, _ in pairs], [name for _, name in pairs], classes)


def _from_names(search: Search, files: list[str]) -> list[Label]:
    try:
        pattern = re.compile(search.labels)
    except re.error as error:
        raise ValueError(f"{search.function}: labels={search.labels!r} is no regular expression: {error}") from None
    if pattern.groups != 1:
        raise ValueError(
            f'{search.function} takes labels="inferred" or a regular expression with one group, which is the class, '
            f"got {search.labels!r} with {pattern.groups} groups"
        )
    matches = [pattern.match(os.path.basename(file)) for file in files]
    others = [file for file, match in zip(files, matches, strict=True) if match is None or match.group(1) is None]
    if others:
        raise ValueError(
            f"{search.function}: the name of {len(others)} of {len(files)} files gives no class by "
            f"labels={search.labels!r}, such as {listed(others)}"
        )
    return [match.group(1) for match in matches if match]


def _from_list(search: Search, files: list[str], folder: str) -> list[Label]:
    try:
        labels = np.asarray(search.labels).tolist() if hasattr(search.labels, "shape") else list(search.labels)
    except TypeError:
        raise TypeError(
            f'{search.function} takes labels="inferred", a regular expression, a function of a path, one label for '
            f"each file, or None, got {search.labels!r}"
        ) from None
    if len(labels) != len(files):
        raise ValueError(
            f"{search.function} needs one label for each file: there are {len(files)} files in {folder!r}, "
            f"the first {os.path.relpath(files[0], folder)!r}, and {len(labels)} labels"
        )
    return labels


def _checked(function: str, files: list[str], labels: Sequence[Any]) -> list[Label]:
    """The labels, if they are all names or all numbers from 0 on."""
    names = isinstance(labels[0], str)
    for file, label in zip(files, labels, strict=True):
        number = isinstance(label, (int, np.integer)) and not isinstance(label, bool) and label >= 0
        if not (isinstance(label, str) if names else number):
            raise ValueError(
                f"{function}: labels are all names of classes or all numbers of classes from 0 on, got {label!r} for "
                f"{file!r}; FileDataset takes labels of any other kind"
            )
    return list(labels)


def _chosen(function: str, found: Labelled, chosen: Sequence[str]) -> list[str]:
    names = [chosen] if isinstance(chosen, str) else list(chosen)
    if not names or isinstance(chosen, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{function} takes a list of names as class_names, got {chosen!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"{function}: class_names has a name twice: {names!r}")
    missing = [] if found.numbered else sorted(set(names) - set(found.classes))
    if missing:
        raise ValueError(
            f"{function}: class_names has {listed(missing)}, which is no class; there are {listed(found.classes)}"
        )
    return names

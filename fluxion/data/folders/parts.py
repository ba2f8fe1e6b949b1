"""Training, validation and test parts of files: folders of their own, or a share that is drawn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from fluxion.data.checks import fraction, listed, one_of, whole_number
from fluxion.data.folders.listing import subfolders
from fluxion.data.keys import sample_keys, uniforms

FOLDERS = {
    "training": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
SPLIT_NAMES = {name for names in FOLDERS.values() for name in names}


def wanted_parts(function: str, subset: str | None, validation_split: float | None, seed: int) -> tuple[str, ...]:
    """The names of the parts that are asked for, none for everything; an error for options that do not fit."""
    whole_number("seed", seed, least=0)
    one_of(function, "subset", subset, (*FOLDERS, "both", None))
    if validation_split is not None:
        fraction("validation_split", validation_split)
        if subset in (None, "test"):
            raise ValueError(
                f'{function}: validation_split={validation_split} needs subset="training", "validation" or "both", '
                f"got subset={subset!r}"
            )
    if subset is None:
        return ()
    return ("training", "validation") if subset == "both" else (subset,)


def part_folders(function: str, folder: str, follow_links: bool) -> dict[str, str]:
    """The folders in `folder` that hold parts, such as `train` and `val`, by the name of the part."""
    found: dict[str, str] = {}
    for name in subfolders(folder, follow_links):
        for part, names in FOLDERS.items():
            if name.lower() not in names:
                continue
            if part in found:
                raise ValueError(
                    f"{function}: {folder!r} has two folders for the {part} part, {os.path.basename(found[part])!r} "
                    f"and {name!r}; name the folder to read itself"
                )
            found[part] = os.path.join(folder, name)
    return found


def folder_of(function: str, folder: str, found: dict[str, str], part: str) -> str:
    """The folder of a part; an error if there is none."""
    if part not in found:
        there = f"it has {listed([os.path.basename(path) for path in found.values()])}" if found else "it has none"
        raise ValueError(
            f"{function}: subset={part!r} without validation_split reads a folder {' or '.join(FOLDERS[part])} in "
            f"{folder!r}, but {there}; validation_split=0.2 draws a validation part from all files"
        )
    return found[part]


def refuse_parts_as_classes(function: str, folder: str, classes: Sequence[str]) -> None:
    """Raises a ValueError if all folders are named as parts are: they would be taken for classes."""
    if classes and all(name.lower() in SPLIT_NAMES for name in classes):
        raise ValueError(
            f"{function}: the folders in {folder!r} are parts ({listed(classes)}), not classes; read one by "
            f'{os.path.join(folder, classes[0])!r} as the folder, or by subset="training", "validation", "test" '
            f'or "both" without validation_split'
        )


def drawn(function: str, count: int, validation_split: float, seed: int) -> dict[str, np.ndarray]:
    """The indices, in order, of a validation part drawn at random and of the rest; the same for the same seed."""
    held = int(validation_split * count)
    if not 0 < held < count:
        raise ValueError(
            f"{function}: validation_split={validation_split} of {count} files leaves a part without files"
        )
    draws: Any = uniforms(sample_keys(seed, 0, np.arange(count)), 1)[:, 0]
    order = np.argsort(draws, kind="stable")
    return {"training": np.sort(order[held:]), "validation": np.sort(order[:held])}

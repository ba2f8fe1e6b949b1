"""Files and folders below a folder, always in the same order.

Names that begin with a dot are hidden and left out, as are the `__MACOSX` folders that macOS puts into archives. A link
to a file is a file. A link to a folder is left out, or with `follow_links` a folder, unless it leads back to a folder
that it lies in.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence

HIDDEN = (".", "__MACOSX")
Place = tuple[int, int]


def existing(function: str, path: str | os.PathLike[str]) -> str:
    """`path` as a string, with `~` replaced; an error if it is not a folder that exists."""
    folder = os.path.expanduser(os.fspath(path))
    if not os.path.exists(folder):
        raise FileNotFoundError(f"{function}: there is no folder {folder!r} (looked in {os.getcwd()!r})")
    if not os.path.isdir(folder):
        raise NotADirectoryError(f"{function} takes a folder, but {folder!r} is a file")
    return folder


def subfolders(folder: str, follow_links: bool = False) -> list[str]:
    """The names of the folders in a folder, sorted."""
    return _entries(folder, follow_links)[1]


def files_below(folder: str, follow_links: bool = False, extensions: Sequence[str] | None = None) -> list[str]:
    """The files in and below a folder, sorted by the folder that they are in and then by name, as Keras sorts them.

    `extensions` are the ends of names, in lower case, that are wanted; None for all.
    """
    ends = None if extensions is None else tuple(extensions)
    files = [os.path.join(place, name) for place, names in sorted(_walk(folder, follow_links, ())) for name in names]
    return [file for file in files if ends is None or file.lower().endswith(ends)]


def checked_extensions(function: str, extensions: Sequence[str]) -> tuple[str, ...]:
    """`extensions` in lower case; an error unless they are like ".jpg"."""
    ends = () if isinstance(extensions, str) else tuple(extensions)
    if not ends or not all(isinstance(end, str) and end.startswith(".") and len(end) > 1 for end in ends):
        raise ValueError(f'{function} takes extensions such as (".jpg", ".png"), got {extensions!r}')
    return tuple(end.lower() for end in ends)


def without_files(function: str, folders: Sequence[str], extensions: Sequence[str] | None) -> ValueError:
    """The error for folders without a file of these extensions, which tells what there is instead."""
    kinds = Counter(os.path.splitext(file)[1].lower() for folder in folders for file in files_below(folder))
    there = ", ".join(f"{count} of {end or 'no extension'}" for end, count in kinds.most_common(3))
    wanted = "" if extensions is None else f" of {', '.join(extensions)}"
    where = ", ".join(map(repr, folders))
    fix = f"there are {there}: name what is to be read in extensions=" if there else "there is no file at all"
    return ValueError(f"{function} found no file{wanted} in {where} or below; {fix}{_links_hint(folders)}")


def _links_hint(folders: Sequence[str]) -> str:
    linked = any(len(subfolders(folder, True)) > len(subfolders(folder)) for folder in folders)
    return "; links to folders are followed with follow_links=True" if linked else ""


def _walk(folder: str, follow_links: bool, above: tuple[Place, ...]) -> Iterator[tuple[str, list[str]]]:
    """Each folder with the names of the files in it."""
    here = os.stat(folder)
    place = (here.st_dev, here.st_ino)
    if place in above:
        return
    files, folders = _entries(folder, follow_links)
    yield folder, files
    for name in folders:
        yield from _walk(os.path.join(folder, name), follow_links, (*above, place))


def _entries(folder: str, follow_links: bool) -> tuple[list[str], list[str]]:
    """The names of the files and of the folders in a folder, sorted."""
    with os.scandir(folder) as entries:
        seen = [entry for entry in entries if not entry.name.startswith(HIDDEN)]
    files = sorted(entry.name for entry in seen if entry.is_file())
    return files, sorted(entry.name for entry in seen if entry.is_dir(follow_symlinks=follow_links))

"""Where the files of the named data sets are on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fluxion._cache import cache_folder
from fluxion.data.errors import CorruptFileError
from fluxion.data.named.download import DownloadError, RemoteFile, fetch

_VARIABLE = "FLUXION_DATA"


def data_root(root: str | os.PathLike[str] | None) -> Path | None:
    """The folder of all data sets: `root`, or that in `FLUXION_DATA`, or one in the user's cache folder.

    None where there is no such cache, with `FLUXION_CACHE=0`.
    """
    chosen = root if root is not None else os.environ.get(_VARIABLE) or cache_folder("data")
    return None if chosen is None else Path(chosen).expanduser()


def locate(name: str, files: Sequence[RemoteFile], root: Path | None, download: bool, progress: bool) -> list[Path]:
    """The paths of the files of the data set `name`, downloaded where they are not there, and checked."""
    folder = None if root is None else root / name
    paths = []
    for file in files:
        path = None if folder is None else folder / file.name
        if path is None or not path.exists():
            paths.append(_downloaded(name, file, files, folder, download, progress))
            continue
        problem = file.problem(path)
        if problem:
            raise CorruptFileError(path, f"{problem}; delete it and it is downloaded again")
        paths.append(path)
    return paths


def _downloaded(
    name: str, file: RemoteFile, files: Sequence[RemoteFile], folder: Path | None, download: bool, progress: bool
) -> Path:
    if folder is None:
        raise _missing(name, files, folder, "there is no folder for them, as FLUXION_CACHE=0 turns the caches off")
    if not download:
        raise _missing(name, files, folder, "download=False")
    try:
        fetch(file, folder / file.name, progress)
    except DownloadError as error:
        raise _missing(name, files, folder, f"the download failed: {error}") from None
    except OSError as error:
        raise _missing(name, files, folder, f"the folder cannot be written to: {error}") from None
    return folder / file.name


def _missing(name: str, files: Sequence[RemoteFile], folder: Path | None, reason: str) -> FileNotFoundError:
    lacking = [file for file in files if folder is None or not (folder / file.name).exists()]
    lines = [f"{name} lacks files, and {reason}."]
    lines += [f"Put into {folder or f'{name}/ in a folder that you give as root='}:"]
    for file in lacking:
        lines += [f"  {file.described()}", *(f"    from {url}" for url in file.urls)]
    lines += [
        f"A folder in which {name}/ holds them can be given as root= or in the environment variable {_VARIABLE}; "
        f"{name}(synthetic=True) makes data of the same form without any file."
    ]
    return FileNotFoundError("\n".join(lines))

"""Members of zip and tar archives, read one by one and never written to paths of the archive's choosing."""

from __future__ import annotations

import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from typing import IO

from fluxion.data.errors import CorruptFileError
from fluxion.data.formats.cursor import DEFLATE, LARGEST, AnyPath

# what zipfile and tarfile raise for archives that are cut off or make no sense
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, LookupError)
_ODD_NUMBERS = (OverflowError, struct.error)


def members(path: AnyPath, within: str = "", names: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the files in a zip archive or a tar archive compressed by gzip, in the archive's order.

    Only those whose names start with `within` are read, and of `names`, where given, only these; CorruptFileError
    says which of them are missing. All of them together may have 1,032 times the bytes of the archive, and 4 GiB.
    """
    found = set()
    try:
        with open(path, "rb") as archive:
            for name, content in _members(archive, path, within, names):
                found.add(name)
                yield name, content
    except (CorruptFileError, FileNotFoundError):
        raise
    except (*_DAMAGE, *_ODD_NUMBERS) as error:
        raise CorruptFileError(path, f"the archive is damaged ({type(error).__name__}: {error})") from None
    missing = sorted(set(names or ()) - found)
    if missing:
        raise CorruptFileError(path, f"the archive lacks {', '.join(missing)}")


def _members(
    archive: IO[bytes], path: AnyPath, within: str, names: Collection[str] | None
) -> Iterator[tuple[str, bytes]]:
    total = os.fstat(archive.fileno()).st_size
    left = min(LARGEST, DEFLATE * total)
    for name, size, file in _files(archive):
        if not name.startswith(within) or (names is not None and name not in names):
            continue
        if not 0 <= size <= left:
            raise CorruptFileError(path, f"{name} of {size} bytes is more than {total} bytes can hold")
        left -= size
        content = file.read(size)
        if len(content) != size or file.read(1):
            raise CorruptFileError(path, f"{name} does not have the {size} bytes that its header tells")
        yield name, content


def _files(archive: IO[bytes]) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size and opened file of each member."""
    zipped = archive.read(2) == b"PK"
    archive.seek(0)
    if not zipped:
        with tarfile.open(fileobj=archive, mode="r:gz") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None:
                    yield member.name, member.size, content
        return
    with zipfile.ZipFile(archive) as whole:
        for info in whole.infolist():
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{info.filename} is compressed by method {info.compress_type}, not by deflate")
            if not info.is_dir():
                with whole.open(info) as file:
                    yield info.filename, info.file_size, file

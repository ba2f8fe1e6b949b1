"""Downloads: from several mirrors, resumed where they broke off, checked, and moved into place whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROUNDS = 3
_PAUSE = 1.0  # seconds before the second round, doubled before each further one
_TIMEOUT = 30.0
_BLOCK = 1 << 18
_LARGEST = 1 << 32
_TRY_AGAIN = (408, 416, 425, 429)  # the answers from 400 to 499 that another try may change


@dataclass(frozen=True)
class RemoteFile:
    """A file that a data set is published as: its name here, where it can be had, and what it is known by.

    Without a `sha256` nobody is known to have published one; then the reader of the file checks what is in it.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str | None = None
    size: int | None = None

    def described(self) -> str:
        """The name with all that the file is known by."""
        known = [f"SHA-256 {self.sha256}"] if self.sha256 else ["no SHA-256 published"]
        known += [f"{self.size:,} bytes"] if self.size is not None else []
        return f"{self.name} ({', '.join(known)})"

    def problem(self, path: Path) -> str | None:
        """What shows that the file at `path` is another one; None where nothing does."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"it has {size:,} bytes instead of {self.size:,}"
        if self.sha256 is None:
            return None
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        return None if found == self.sha256 else f"its SHA-256 is {found} instead of {self.sha256}"


def mirrored(name: str, sha256: str | None, size: int | None, *hosts: str) -> RemoteFile:
    """The file of this name at each of `hosts`, which end in a slash."""
    return RemoteFile(name, tuple(host + name for host in hosts), sha256, size)


class DownloadError(OSError):
    """No mirror gave the file."""


class _HopelessError(Exception):
    """Asking this mirror again would not help."""


def fetch(file: RemoteFile, target: Path, progress: bool) -> None:
    """Downloads a file to `target`; what came before a break stays in `target` with `.part` and is not asked for again.

    Each mirror is tried in up to three rounds, with pauses between these. DownloadError tells what every one answered.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    urls, reasons = list(file.urls), {}
    with _alone(target.parent):
        if target.exists():  # another process was faster
            return
        part.touch()  # a folder that cannot be written to is no fault of the mirrors
        for attempt in range(_ROUNDS):
            if attempt:
                time.sleep(_PAUSE * 2 ** (attempt - 1))
            for url in tuple(urls):
                try:
                    _transfer(url, part, file, progress)
                    part.replace(target)
                    return
                except _HopelessError as error:
                    urls.remove(url)
                    reasons[url] = str(error)
                except OSError as error:
                    reasons[url] = str(error) or type(error).__name__
        if part.exists() and not part.stat().st_size:
            part.unlink()
    raise DownloadError("; ".join(f"{url}: {reason}" for url, reason in reasons.items()))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One download at a time into a folder, among all processes and threads.

    Where the system locks no folders (Windows, some network drives) two downloads of one file may spoil each other's
    `.part`; their checksum finds that out, and they begin again.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _transfer(url: str, part: Path, file: RemoteFile, progress: bool) -> None:
    """Brings `part` to the whole of the file and checks it; a wrong one is deleted."""
    start = part.stat().st_size if part.exists() else 0
    if start != file.size or not start:
        start = _ask(url, part, start, file, progress)
    problem = file.problem(part)
    if problem:
        part.unlink()
        # what was resumed may be of another version of the file, and what has no known size may lack its end; only one
        # that came in one piece is what the mirror has
        raise OSError(problem) if start or file.size is None else _HopelessError(problem)


def _ask(url: str, part: Path, start: int, file: RemoteFile, progress: bool) -> int:
    """Appends to `part` what follows its first `start` bytes; returns from where on the mirror sent the file."""
    import http.client  # urllib takes long to import, and most runs find their files
    import urllib.error
    import urllib.request

    headers = {"User-Agent": "fluxion"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT) as answer:
            resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            start = start if resumed else 0
            _save(answer, part, start, file, progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing follows those bytes: they are not the beginning of the file
            part.unlink(missing_ok=True)
        if 400 <= error.code < 500 and error.code not in _TRY_AGAIN:
            raise _HopelessError(f"HTTP {error.code} {error.reason}") from None
        raise OSError(f"HTTP {error.code} {error.reason}") from None
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from None
    return start


def _save(answer: Any, part: Path, start: int, file: RemoteFile, progress: bool) -> None:
    """Writes the answer behind the first `start` bytes of `part`."""
    from tqdm.auto import tqdm

    length = answer.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else file.size
    if file.size is not None and total != file.size:
        raise _HopelessError(f"it has {total:,} bytes instead of {file.size:,}")
    found = start
    bar = tqdm(total=total, initial=start, desc=file.name, unit="B", unit_scale=True, disable=not progress)
    with bar, part.open("ab" if start else "wb") as output:
        while block := answer.read(_BLOCK):
            output.write(block)
            bar.update(len(block))
            found += len(block)
            if found > (_LARGEST if total is None else total):
                raise _HopelessError(f"it sends more than {found:,} bytes")
    if total is not None and found < total:
        raise OSError(f"the connection broke off after {found:,} of {total:,} bytes")

"""Errors of data that cannot be read."""

from __future__ import annotations

import contextlib
import os


class CorruptFileError(ValueError):
    """A file that is damaged or not of the kind its reader takes; `path` is the file.

    A `DataLoader` with `on_error="skip"` leaves such observations out. Data sets of yours may raise it as well.

    >>> raise CorruptFileError("cat.jpg", "the image ends after 12 of 300 lines")
    Traceback (most recent call last):
    fluxion.data.errors.CorruptFileError: cat.jpg: the image ends after 12 of 300 lines
    """

    def __init__(self, path: str | os.PathLike[str], what: str) -> None:
        super().__init__(f"{os.fspath(path)}: {what}")
        self.path = os.fspath(path)
        self.what = what

    def __reduce__(self) -> tuple[type[CorruptFileError], tuple[str, str]]:
        return type(self), (self.path, self.what)  # an exception is pickled with the arguments of its own constructor


def note(error: Exception, text: str) -> None:
    """Adds `text` to the notes of an error, of one whose class forbids new attributes too.

    >>> error = KeyError("x")
    >>> note(error, "while reading observation 3")
    >>> error.__notes__
    ['while reading observation 3']
    """
    with contextlib.suppress(AttributeError):  # its notes are no list: they stay as they are
        vars(error).setdefault("__notes__", []).append(text)

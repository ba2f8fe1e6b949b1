"""Texts in folders."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from functools import partial
from typing import Any

from fluxion.data.checks import whole_number
from fluxion.data.errors import CorruptFileError
from fluxion.data.folders.classified import Files, Options, dataset
from fluxion.data.folders.files import PathLike, contents


def text_dataset_from_directory(
    path: PathLike,
    *,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    max_length: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    seed: int = 0,
    follow_links: bool = False,
    encoding: str = "utf-8",
    extensions: Sequence[str] = (".txt",),
) -> Files:
    """The texts below a folder with their classes, read when they are asked for (Keras: the same name).

    Observation `i` is `(text, label)`, or the text alone without labels: a string with all that is in the file, of
    which `max_length` characters are kept. The other options and the errors are those of
    `image_dataset_from_directory`; a file that is not in `encoding` raises `CorruptFileError` when it is read.

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name, text in (("neg", "dull"), ("pos", "a delight")):
    ...     (folder / name).mkdir()
    ...     _ = (folder / name / "1.txt").write_text(text)
    >>> text_dataset_from_directory(folder, label_mode="binary")[1]
    ('a delight', array([1.], dtype=float32))
    """
    function = "text_dataset_from_directory"
    if max_length is not None:
        whole_number("max_length", max_length, least=1)
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise ValueError(f"{function}: Python knows no encoding {encoding!r}; the usual one is 'utf-8'") from None
    read = partial(_text, encoding=encoding, max_length=max_length)
    options = Options(
        function, labels, label_mode, class_names, validation_split, subset, seed, follow_links, extensions
    )
    return dataset(path, read, options)


def _text(path: str, encoding: str, max_length: int | None) -> str:
    try:
        return contents(path)[1].decode(encoding)[:max_length]
    except UnicodeError as error:
        raise CorruptFileError(path, f"it is no text in {encoding}: {error}; encoding= names another") from error

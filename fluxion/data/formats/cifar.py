"""The files of CIFAR: records of bytes, or pickles of Python."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fluxion.data.formats.cursor import AnyPath, Cursor
from fluxion.data.formats.pickles import plain_pickle

Batch = tuple[np.ndarray, np.ndarray]
_PIXELS = 3 * 32 * 32


def binary_batch(data: bytes, path: AnyPath, labels: int) -> Batch:
    """Images `(N, 32, 32, 3)` and labels `(N, labels)`, as bytes, of records of labels, red, green and blue."""
    cursor = Cursor(data, path)
    size = labels + _PIXELS
    if len(data) % size or not data:
        raise cursor.wrong(f"{len(data)} bytes are no records of {size}")
    records = cursor.array(np.uint8, (len(data) // size, size), "the records")
    return _channels_last(records[:, labels:]), records[:, :labels]


def pickled_batch(data: bytes, path: AnyPath, keys: Sequence[str]) -> Batch:
    """The same of a pickle of a dict with the images under `data` and the labels as lists under `keys`."""
    cursor = Cursor(data, path)
    batch = plain_pickle(data, path)
    images = batch.get("data") if isinstance(batch, dict) else None
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (_PIXELS,):
        raise cursor.wrong(f"no dict with the bytes of images, {_PIXELS} for each, under 'data'")
    lists = [batch.get(key) for key in keys]
    for key, values in zip(keys, lists, strict=True):
        if not isinstance(values, list) or not all(type(n) is int and 0 <= n < 256 for n in values):
            raise cursor.wrong(f"no list of labels under {key!r}")
        if len(values) != len(images):
            raise cursor.wrong(f"{len(values)} labels under {key!r} for {len(images)} images")
    return _channels_last(images), np.array(lists, np.uint8).T


def _channels_last(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))

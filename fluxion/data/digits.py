"""The handwritten digits that come with Fluxion."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

_TRAIN = 1437

Part = tuple[np.ndarray, np.ndarray]


def digits() -> tuple[Part, Part]:
    """1,797 handwritten digits of 8 x 8 pixels as `((x_train, y_train), (x_test, y_test))`; nothing is downloaded.

    x  float32 of shape (N, 8, 8, 1), from 0 (paper) to 1 (ink)
    y  int32 of shape (N,), the digit

    The split is fixed, 1,437 to 360 images, with each digit in both parts in proportion. Every call gives new arrays.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    doi 10.24432/C50P49, licence CC BY 4.0.

    >>> (x_train, y_train), (x_test, y_test) = digits()
    >>> x_train.shape, y_test.shape
    ((1437, 8, 8, 1), (360,))
    """
    with files("fluxion.data").joinpath("files/digits.npz").open("rb") as file, np.load(file) as stored:
        x = stored["images"][..., None].astype(np.float32) / np.float32(16)
        y = stored["labels"].astype(np.int32)
    return (x[:_TRAIN], y[:_TRAIN]), (x[_TRAIN:], y[_TRAIN:])

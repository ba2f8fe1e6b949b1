"""The handwritten digits that come with Fluxion."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np

from fluxion.data.named.images import ImageData, Images


class Digits(ImageData):
    """The data set that `digits` gives."""

    title = "handwritten digits"
    source = "https://doi.org/10.24432/C50P49"
    licence = "CC BY 4.0"
    citation = (
        "E. Alpaydin, C. Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, "
        "doi 10.24432/C50P49"
    )
    class_names = tuple("0123456789")
    image_shape = (8, 8, 1)
    sizes = (1437, 360)
    white = 16

    def read(self, part: str) -> Images:
        with files("fluxion.data").joinpath("files/digits.npz").open("rb") as file, np.load(file) as stored:
            images, labels = stored["images"][..., None], stored["labels"].astype(np.int32)
        first = self.sizes[0]
        return (images[:first], labels[:first]) if part == "train" else (images[first:], labels[first:])

    def where(self) -> str:
        return "come with Fluxion"


def digits(*, dtype: Any = np.float32) -> Digits:
    """1,797 handwritten digits of 8 x 8 pixels as `(x_train, y_train), (x_test, y_test)`; nothing is downloaded.

    x  `(N, 8, 8, 1)`, from 0 (paper) to 1 (ink) in a `dtype` of floats; with `dtype=np.uint8` 0 to 16, as in the file
    y  int32 of shape (N,), the digit

    The split is fixed, 1,437 to 360 images, with each digit in both parts in proportion. Every call gives new arrays.
    `train` and `test` are the parts, as in `MNIST`.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    doi 10.24432/C50P49, licence CC BY 4.0.

    >>> (x_train, y_train), (x_test, y_test) = digits()
    >>> x_train.shape, y_test.shape
    ((1437, 8, 8, 1), (360,))
    """
    return Digits(dtype=dtype)

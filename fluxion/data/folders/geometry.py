"""How an image of any size becomes one of the wanted size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fluxion.data.checks import one_of, whole_number
from fluxion.data.folders.storage import colour_pixels
from fluxion.kernels.resample import resample

FILTERS = {"bilinear": "BILINEAR", "nearest": "NEAREST", "bicubic": "BICUBIC", "area": "BOX", "lanczos": "LANCZOS"}
RESIZES = ("stretch", "crop", "pad")
DECODED = 2.0  # times the wanted size, at least, for a scaled decode: that moves a pixel by 1 of 255 on average
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Geometry:
    """The wanted (height, width), or None; how to get there, and the name of Pillow's filter.

    Sizes of Pillow are (width, height). `sideways` says that the image lies on its side, as it is stored.
    """

    size: tuple[int, int] | None
    resize: str
    filter: str

    @classmethod
    def checked(cls, function: str, size: Any, resize: Any, interpolation: Any) -> Geometry:
        """The geometry of these options; an error if they do not exist."""
        one_of(function, "resize", resize, RESIZES)
        one_of(function, "interpolation", interpolation, tuple(FILTERS))
        if size is not None:
            if not isinstance(size, (tuple, list)) or len(size) != 2:
                raise TypeError(f"{function} takes (height, width) or None as the size of an image, got {size!r}")
            size = (whole_number("height", size[0], least=1), whole_number("width", size[1], least=1))
        return cls(size, resize, FILTERS[interpolation])

    def least_decoded(self, stored: tuple[int, int], sideways: bool) -> tuple[int, int] | None:
        """The least size at which a file may be decoded."""
        if self.size is None:
            return None
        wanted = self._wanted(sideways)
        if self.resize != "stretch":
            scale = self._scale(stored, wanted)
            wanted = (stored[0] * scale, stored[1] * scale)
        return max(1, round(wanted[0] * DECODED)), max(1, round(wanted[1] * DECODED))

    def resized(self, image: Any, whole: Box, sideways: bool) -> np.ndarray:
        """An image of Pillow, of which the box `whole` has pixels, with the wanted size but for padding."""
        if self.size is None:
            return np.asarray(image)
        wanted, (_, _, width, height) = self._wanted(sideways), whole
        scale = self._scale((width, height), wanted)
        box, size = whole, (round(wanted[0]), round(wanted[1]))
        if self.resize == "crop":
            left, top = max(0.0, (width - wanted[0] / scale) / 2), max(0.0, (height - wanted[1] / scale) / 2)
            box = (left, top, width - left, height - top)
        elif self.resize == "pad":
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
        return self._resampled(image, size, box)

    def _resampled(self, image: Any, size: tuple[int, int], box: Box) -> np.ndarray:
        """The part of an image in a box, in another size."""
        stored = colour_pixels(image)
        pixels = None if stored is None else resample(stored[0], image.size, size, self.filter, box)
        if pixels is not None:
            return pixels
        from PIL.Image import Resampling

        return np.asarray(image.resize(size, Resampling[self.filter], box))

    def padded(self, pixels: np.ndarray) -> np.ndarray:
        """`(height, width, ...)` with zeros around it, as many on one side as on the other."""
        if self.size is None or pixels.shape[:2] == self.size:
            return pixels
        top, left = ((wanted - there) // 2 for wanted, there in zip(self.size, pixels.shape, strict=False))
        whole = np.zeros((*self.size, *pixels.shape[2:]), pixels.dtype)
        whole[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        return whole

    def _wanted(self, sideways: bool) -> tuple[float, float]:
        """The wanted size as the file stores it."""
        height, width = self.size or (0, 0)
        return (height, width) if sideways else (width, height)

    def _scale(self, size: tuple[float, float], wanted: tuple[float, float]) -> float:
        """The larger scale fills the wanted size, the smaller one fits into it."""
        scales = wanted[0] / size[0], wanted[1] / size[1]
        return max(scales) if self.resize == "crop" else min(scales)

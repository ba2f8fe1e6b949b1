"""Images as arrays: whatever Pillow reads, in the wanted colours, size and type."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fluxion.data.checks import one_of
from fluxion.data.errors import CorruptFileError
from fluxion.data.folders.files import PathLike, contents
from fluxion.data.folders.geometry import Geometry
from fluxion.data.folders.orientation import orientation, without_metadata

COLORS = {"rgb": "RGB", "rgba": "RGBA", "grayscale": "L", "greyscale": "L"}
DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
DEEPEST = 65535
ELSEWHERE = "FileDataset takes a function of yours that reads it"
JPEG = b"\xff\xd8"
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x.swapaxes(0, 1)[::-1],
}
SIDEWAYS = (5, 6, 7, 8)


def read_image(
    source: PathLike | bytes,
    color_mode: str = "rgb",
    size: tuple[int, int] | None = None,
    *,
    resize: str = "stretch",
    interpolation: str = "bilinear",
    dtype: Any = np.float32,
) -> np.ndarray:
    """The image in a file as an array `(height, width, channels)`, upright as its EXIF data tell; needs Pillow.

    source         the path of the file, or the bytes in it
    color_mode     "rgb", "rgba" or "grayscale": 3, 4 or 1 channels. Transparency is left out but in "rgba"
    size           (height, width); None keeps the size that the image has
    resize         "stretch" to the size; "crop" keeps the aspect ratio and the middle; "pad" keeps it and puts zeros at
                   two sides
    interpolation  "bilinear", "nearest", "bicubic", "area" or "lanczos": Pillow's filters, which all but the nearest
                   average over all pixels that a pixel of the result covers (TensorFlow and OpenCV leave some out)
    dtype          float32 from 0 to 1, or uint8 from 0 to 255

    Grey images of 16 bits keep them in float32. Of an animation it is the first frame. Large JPEG files are decoded at
    a half, a quarter or an eighth of their size where that is at least twice the wanted one.

    Raises CorruptFileError, a ValueError that names the file, for what is damaged, no image, or larger than Pillow
    allows (`PIL.Image.MAX_IMAGE_PIXELS`); ValueError for options that do not exist, ImportError without Pillow.

    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (40, 30), "red").save(file, "PNG")
    >>> image = read_image(file.getvalue(), size=(15, 20))
    >>> image.shape, image[0, 0].tolist()
    ((15, 20, 3), [1.0, 0.0, 0.0])
    """
    return image_reader("read_image", color_mode, size, resize, interpolation, dtype)(source)


def image_reader(function: str, color_mode: Any, size: Any, resize: Any, interpolation: Any, dtype: Any) -> ImageReader:
    """`read_image` with these options, checked; `function` is the caller's name for errors."""
    pillow(function)
    mode = COLORS[one_of(function, "color_mode", color_mode, tuple(COLORS))]
    wanted = [kind for kind in map(np.dtype, (np.float32, np.uint8)) if dtype is not None and kind == dtype]
    if not wanted:
        raise ValueError(f"{function} takes np.float32 (from 0 to 1) or np.uint8 (0 to 255) as dtype, got {dtype!r}")
    return ImageReader(mode, Geometry.checked(function, size, resize, interpolation), wanted[0])


@dataclass(frozen=True)
class ImageReader:
    """Reads images; `mode` is Pillow's name of the colours."""

    mode: str
    geometry: Geometry
    dtype: np.dtype

    def __call__(self, source: PathLike | bytes) -> np.ndarray:
        name, content = contents(source)
        with corrupt_files(name, content):
            pixels = upright(content, self.geometry, self.mode, self._in_mode)
            pixels = self.geometry.padded(self._channels(pixels))
        if pixels.dtype == self.dtype:
            return pixels.copy()  # Pillow's own is read-only
        if self.dtype == np.uint8:
            return np.rint(pixels * np.float32(255)).astype(np.uint8)
        return np.divide(pixels, np.float32(255), dtype=np.float32, order="C")

    def _in_mode(self, image: Any) -> Any:
        """The image in the wanted mode; grey ones of 16 bits as floats, since Pillow would clip them to 8 bits."""
        if image.mode in DEEP_MODES:
            least, most = image.getextrema()
            if least < 0 or most > DEEPEST:
                raise ValueError(f"its pixels are from {least} to {most}, more than 16 bits; {ELSEWHERE}")
            return image.convert("F")
        if image.mode == "F":
            raise ValueError(f"its pixels are floats; {ELSEWHERE}")
        if image.mode != self.mode and "transparency" in image.info:
            image = image.convert("RGBA")
        return image if image.mode == self.mode else image.convert(self.mode)

    def _channels(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 as they are, what was 16 bits from 0 to 1; always with an axis of channels."""
        if pixels.ndim == 3:
            return pixels
        pixels = pixels[..., None]
        if pixels.dtype == np.uint8:
            return pixels
        grey = np.clip(pixels / np.float32(DEEPEST), 0, 1)
        opaque = [np.ones_like(grey)] if self.mode == "RGBA" else []
        return np.concatenate([grey] * min(len(self.mode), 3) + opaque, axis=-1)


def upright(content: bytes, geometry: Geometry, mode: str, converted: Callable[[Any], Any]) -> np.ndarray:
    """The pixels of an image that `converted` has put into another mode, resized and turned upright.

    `mode` is the one that a JPEG file, which can be decoded to another, is wanted in.
    """
    jpeg, exif = without_metadata(content) if content.startswith(JPEG) else (content, b"")
    with opened(jpeg) as image:
        wanted = geometry.least_decoded(image.size, sideways=orientation(exif) in SIDEWAYS)
        _, box = image.draft(mode, wanted) or (None, None)
        image.load()
        turn = orientation(exif or image.info.get("exif", b""))
        whole = box or (0, 0, *image.size)
        pixels = geometry.resized(converted(image), whole, sideways=turn in SIDEWAYS)
    return TURNS[turn](pixels)


def opened(content: bytes) -> Any:
    """The image in `content`, not yet decoded.

    Does what `PIL.Image.open` does, but that it does not warn of images larger than half of what Pillow allows:
    warnings can be silenced in all threads at once only.
    """
    image_module = pillow("read_image")
    for name in image_module.ID:
        factory, accept = image_module.OPEN[name]
        accepted = accept is None or accept(content[:16])
        if not accepted or isinstance(accepted, str):  # a string says what of Pillow is not installed
            continue
        try:
            image = factory(io.BytesIO(content), "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # not of that format, as plugins say it
            continue
        width, height = image.size
        most = image_module.MAX_IMAGE_PIXELS
        if most is not None and width * height > 2 * most:
            raise ValueError(
                f"it has {width} x {height} pixels, more than twice PIL.Image.MAX_IMAGE_PIXELS = {most}; "
                f"raise that number if the file is to be trusted"
            )
        return image
    raise ValueError(f"it is no image that Pillow knows; it begins with {content[:8]!r}")


@contextmanager
def corrupt_files(name: str, content: bytes) -> Iterator[None]:
    """Whatever goes wrong in the block is an error of the file `name`."""
    if not content:
        raise CorruptFileError(name, "the file is empty")
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises whatever its parsers run into, from SyntaxError to ZeroDivisionError
        raise CorruptFileError(name, f"cannot be read as an image: {error}") from error


@functools.cache
def pillow(function: str) -> Any:
    """`PIL.Image` that knows the usual kinds of files, and those that the user has registered."""
    try:
        from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401
    except ImportError:
        raise ImportError(f"{function} needs Pillow: pip install 'fluxion-ml[vision]'") from None
    Image.preinit()
    return Image

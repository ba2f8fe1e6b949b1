"""Images with masks: one class for each pixel."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fluxion.data.checks import listed, whole_number
from fluxion.data.errors import CorruptFileError
from fluxion.data.folders.classified import Files
from fluxion.data.folders.decode import DEEP_MODES, DEEPEST, ImageReader, corrupt_files, image_reader, upright
from fluxion.data.folders.files import FileDataset, PathLike, contents
from fluxion.data.folders.geometry import Geometry
from fluxion.data.folders.images import EXTENSIONS
from fluxion.data.folders.labels import Search
from fluxion.data.folders.listing import checked_extensions, existing
from fluxion.data.folders.parts import drawn, folder_of, part_folders, wanted_parts

FUNCTION = "mask_dataset_from_directory"
INDEXED = ("P", "L", "1", *DEEP_MODES)
Pairs = list[tuple[str, str]]


def mask_dataset_from_directory(
    images: PathLike,
    masks: PathLike,
    image_size: tuple[int, int] | None = (256, 256),
    *,
    mask_values: Mapping[int, int] | None = None,
    color_mode: str = "rgb",
    resize: str = "stretch",
    interpolation: str = "bilinear",
    validation_split: float | None = None,
    subset: str | None = None,
    seed: int = 0,
    follow_links: bool = False,
    extensions: Sequence[str] = EXTENSIONS,
    dtype: Any = np.float32,
) -> Files:
    """The images below one folder with their masks below another, read when they are asked for.

    Observation `i` is `(image, mask)`: the image as from `image_dataset_from_directory`, the mask int32
    `(height, width)`. A mask has one class for each pixel: its grey value, or in an image with a palette the number of
    the colour. An image and its mask have the same path below their folders but for the extension, as `a/1.jpg` and
    `a/1.png`. Masks are brought to the size as images are, but by the nearest pixel; "pad" fills up with class 0.

    mask_values  the class for each value that is not one itself: `{255: 1}` for masks of 0 and 255

    The other options are those of `image_dataset_from_directory`; the folders of parts are looked for below `images`
    and below `masks`.

    Raises ValueError for images without a mask and masks without an image, and otherwise as
    `image_dataset_from_directory` does. Reading a mask of several channels, or with `image_size=None` one that is not
    as large as its image, raises `CorruptFileError`.

    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name, mode, value, extension in (("images", "RGB", (9, 9, 9), "jpg"), ("masks", "L", 255, "png")):
    ...     (folder / name).mkdir()
    ...     Image.new(mode, (40, 30), value).save(folder / name / f"1.{extension}")
    >>> dataset = mask_dataset_from_directory(folder / "images", folder / "masks", (24, 32), mask_values={255: 1})
    >>> image, mask = dataset[0]
    >>> image.shape, mask.shape, int(mask.max())
    ((24, 32, 3), (24, 32), 1)
    """
    parts = wanted_parts(FUNCTION, subset, validation_split, seed)
    reader = image_reader(FUNCTION, color_mode, image_size, resize, interpolation, dtype)
    mask_reader = _MaskReader(Geometry.checked(FUNCTION, image_size, resize, "nearest"), _table(mask_values))
    search = Search(FUNCTION, None, checked_extensions(FUNCTION, extensions), follow_links)
    folders = existing(FUNCTION, images), existing(FUNCTION, masks)
    if parts and validation_split is None:
        there = [part_folders(FUNCTION, folder, follow_links) for folder in folders]
        pairs = []
        for part in parts:
            image_folder, mask_folder = (folder_of(FUNCTION, *x, part) for x in zip(folders, there, strict=True))
            pairs.append(_pairs(search, image_folder, mask_folder))
    else:
        whole = _pairs(search, *folders)
        indices = {} if validation_split is None else drawn(FUNCTION, len(whole), validation_split, seed)
        pairs = [[whole[i] for i in indices[part].tolist()] for part in parts] or [whole]
    made = [MaskedFiles(reader, mask_reader, pair) for pair in pairs]
    return made[0] if len(made) == 1 else (made[0], made[1])


class MaskedFiles(FileDataset):
    """Images with masks; `files` are the images, `masks` the files of the masks."""

    def __init__(self, read: ImageReader, read_mask: _MaskReader, pairs: Pairs) -> None:
        super().__init__(read, [image for image, _ in pairs])
        self.read_mask = read_mask
        self.masks = [mask for _, mask in pairs]

    def one(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        image, mask = self.read(self.files[i]), self.read_mask(self.masks[i])
        if image.shape[:2] != mask.shape:
            raise CorruptFileError(
                self.masks[i],
                f"the mask has {mask.shape[0]} x {mask.shape[1]} pixels, its image {self.files[i]!r} "
                f"{image.shape[0]} x {image.shape[1]}; image_size= brings both to one size",
            )
        return image, mask


@dataclass(frozen=True)
class _MaskReader:
    geometry: Geometry
    classes: np.ndarray | None

    def __call__(self, path: str) -> np.ndarray:
        name, content = contents(path)
        with corrupt_files(name, content):
            mask = self.geometry.padded(upright(content, self.geometry, "L", _indexed)).astype(np.int32)
            return mask if self.classes is None else self.classes[mask]


def _indexed(image: Any) -> Any:
    if image.mode not in INDEXED:
        raise ValueError(f"a mask has one whole number for each pixel, this one has {', '.join(image.getbands())}")
    return image


def _table(mask_values: Mapping[int, int] | None) -> np.ndarray | None:
    """The class of each value that a mask may have, those that are not named being classes themselves."""
    if mask_values is None:
        return None
    if not isinstance(mask_values, Mapping):
        raise TypeError(f"{FUNCTION} takes a dict such as {{255: 1}} as mask_values, got {mask_values!r}")
    table = np.arange(DEEPEST + 1, dtype=np.int32)
    for value, number in mask_values.items():
        table[whole_number("a value in mask_values", value, least=0, most=DEEPEST)] = whole_number(
            "a class in mask_values", number, least=0, most=DEEPEST
        )
    return table


def _pairs(search: Search, images: str, masks: str) -> Pairs:
    """Images and masks with the same path below their folders but for the extension."""
    image_of, mask_of = _by_stem(search, images), _by_stem(search, masks)
    lone = [name for name in image_of if name not in mask_of], [name for name in mask_of if name not in image_of]
    if any(lone):
        raise ValueError(
            f"{FUNCTION}: {len(lone[0])} images in {images!r} have no mask in {masks!r} ({listed(lone[0])}), "
            f"{len(lone[1])} masks have no image ({listed(lone[1])}); they go together by their names without extension"
        )
    return [(file, mask_of[name]) for name, file in image_of.items()]


def _by_stem(search: Search, folder: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in search.files(folder):
        stem = os.path.splitext(os.path.relpath(file, folder))[0]
        if stem in found:
            raise ValueError(f"{FUNCTION}: {found[stem]!r} and {file!r} have the same name but for the extension")
        found[stem] = file
    return found

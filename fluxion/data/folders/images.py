"""Images in folders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fluxion.data.folders.classified import Files, Options, dataset
from fluxion.data.folders.decode import image_reader
from fluxion.data.folders.files import PathLike

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def image_dataset_from_directory(
    path: PathLike,
    image_size: tuple[int, int] | None = (256, 256),
    *,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
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
    """The images below a folder with their classes, read when they are asked for (Keras: the same name).

    Observation `i` is `(image, label)`, or the image alone without labels. Images are `(height, width, channels)` of
    float32 from 0 to 1. The data set is neither batched nor shuffled: a `DataLoader` does both. It is a `FileDataset`
    with `files`, `labels` (numbers of classes) and `class_names`.

    image_size        (height, width); None keeps the size of each
    labels            "inferred": the folders in `path` are the classes, also those without files, and files in folders
                      below them count as well; a regular expression with one group, matched from the start of a file's
                      name, as `r"(cat|dog)\\."` for `cat.0.jpg`; a function of a `pathlib.Path`; a list or an array
                      with a label for each file in sorted order; None. Labels are names or numbers of classes
    label_mode        "int": int32; "onehot" (or Keras's "categorical"): float32 `(classes,)`; "binary": float32 `(1,)`,
                      0 or 1; None leaves labels out
    class_names       the classes in the order of their numbers; files of others are left out. Without it all, sorted
    color_mode, resize, interpolation, dtype: as in `read_image`
    validation_split  the fraction of the files that a validation part draws at random
    subset            "training", "validation" or "both", a pair; the parts are disjoint and the same for the same
                      `seed` and files. Without `validation_split` they, and "test", are folders in `path`, called
                      train or training; val, valid or validation; test or testing. All have the classes of training
    follow_links      whether links to folders are followed
    extensions        the ends of the names of files that count

    Files are sorted by the folder that they are in and then by name, as in Keras. Hidden ones do not count.

    Raises FileNotFoundError for a folder that does not exist; ValueError where there are no files, one class only,
    labels that do not fit, or parts that would be taken for classes; ImportError without Pillow. Reading a damaged file
    raises `CorruptFileError`.

    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("cat", "dog"):
    ...     (folder / name).mkdir()
    ...     for number in range(5):
    ...         Image.new("RGB", (40, 30)).save(folder / name / f"{number}.png")
    >>> dataset = image_dataset_from_directory(folder, (24, 32))
    >>> image, label = dataset[9]
    >>> dataset.class_names, image.shape, label
    (['cat', 'dog'], (24, 32, 3), np.int32(1))
    >>> train, validation = image_dataset_from_directory(folder, validation_split=0.2, subset="both")
    >>> train, validation
    (FileDataset of 8 files of 2 classes, FileDataset of 2 files of 2 classes)
    """
    function = "image_dataset_from_directory"
    read = image_reader(function, color_mode, image_size, resize, interpolation, dtype)
    options = Options(
        function, labels, label_mode, class_names, validation_split, subset, seed, follow_links, extensions
    )
    return dataset(path, read, options)

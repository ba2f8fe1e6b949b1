"""What the data sets of images have in common, and those in the format of MNIST."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fluxion.data.checks import one_of
from fluxion.data.errors import CorruptFileError
from fluxion.data.formats.archives import members
from fluxion.data.formats.idx import idx_array, read_idx
from fluxion.data.named.base import SplitData, class_labels, float_type
from fluxion.data.named.download import RemoteFile, mirrored

Images = tuple[np.ndarray, np.ndarray]


class ImageData(SplitData):
    """Images `(N, H, W, C)` from 0 to 1 and labels `(N,)` as int32; with `dtype=np.uint8` the bytes of the files."""

    image_shape: ClassVar[tuple[int, int, int]]
    parts: ClassVar[tuple[str, ...]] = ("train", "test")
    sizes: tuple[int, ...]  # of the parts
    white: ClassVar[int] = 255

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        dtype: Any = np.float32,
        download: bool = True,
        synthetic: bool | int = False,
        progress: bool = True,
    ) -> None:
        super().__init__(root, download=download, synthetic=synthetic, progress=progress)
        self.dtype = np.dtype(dtype) if np.dtype(dtype) == np.uint8 else float_type(dtype)

    def part(self, part: str) -> tuple[np.ndarray, Any]:
        images, labels = self.read(part) if self.made is None else self.make(part)
        return self.scaled(images), labels

    def read(self, part: str) -> tuple[np.ndarray, Any]:
        """The bytes of the images and the labels of a part, out of the files."""
        raise NotImplementedError

    def scaled(self, images: np.ndarray) -> np.ndarray:
        """Bytes as they are, or as floats of which `white` is 1."""
        if self.dtype == np.uint8:
            return images
        wide = np.float64 if self.dtype == np.float64 else np.float32
        return np.divide(images, self.white, dtype=wide).astype(self.dtype, copy=False)

    def checked(self, images: np.ndarray, labels: np.ndarray, path: Path) -> Images:
        """`images` and `labels`, if they are of this data set's form."""
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
            wanted = f"uint8{('N', *self.image_shape)}"
            raise CorruptFileError(path, f"images of {images.dtype}{images.shape} instead of {wanted}")
        return images, class_labels(self, labels, len(images), path)

    def make(self, part: str) -> tuple[np.ndarray, Any]:
        """Made-up images: the coarse pattern of each class, moved by up to two points, under noise."""
        height, width, channels = self.image_shape
        classes = len(self.class_names)
        coarse = self.rng("patterns").uniform(0.1, 0.9, (classes, 7, 7, channels))
        patterns = coarse[:, np.arange(height) * 7 // height][:, :, np.arange(width) * 7 // width]
        rng = self.rng(part)
        labels = rng.permutation(np.arange(self.made_size(part)) % classes)
        images = np.empty((len(labels), *self.image_shape), np.uint8)
        for i, label in enumerate(labels):
            moved = np.roll(patterns[label], rng.integers(-2, 3, 2), axis=(0, 1))
            noisy = moved + rng.normal(0, 0.1, self.image_shape).astype(np.float32)
            images[i] = (noisy.clip(0, 1) * self.white).round()
        return images, labels.astype(np.int32)

    def facts(self) -> list[tuple[str, str]]:
        sizes = self.sizes if self.made is None else [self.made_size(part) for part in self.parts]
        form = f"images {self.image_shape} of {self.dtype}, labels int32"
        return [(part, f"{size:,} {form}") for part, size in zip(self.parts, sizes, strict=True)]


def idx_files(table: str, *hosts: str) -> dict[str, RemoteFile]:
    """The four files of a data set in the format of MNIST, by name; each line of `table` is SHA-256, bytes, name."""
    rows = [line.split() for line in table.split("\n") if line.strip()]
    return {name: mirrored(name, sha256, int(size), *hosts) for sha256, size, name in rows}


class IdxImages(ImageData):
    """Images of 28 x 28 points in the files of MNIST."""

    image_shape = (28, 28, 1)
    sizes = (60000, 10000)
    files: ClassVar[dict[str, RemoteFile]]

    def read(self, part: str) -> Images:
        stem = "train" if part == "train" else "t10k"
        wanted = [self.files[f"{stem}-images-idx3-ubyte.gz"], self.files[f"{stem}-labels-idx1-ubyte.gz"]]
        images, labels = self.paths(*wanted)
        return self.checked(read_idx(images)[..., None], read_idx(labels), images)


class MNIST(IdxImages):
    """MNIST: 60,000 handwritten digits to train on and 10,000 to test on, 28 x 28 points, from 0 (paper) to 1 (ink).

    `root` is the folder in which `MNIST/` has the files; without it the folder in the environment variable
    `FLUXION_DATA`, or else the user's cache folder. What is missing is downloaded from one of several mirrors, unless
    `download=False`, and its SHA-256 is checked; `progress=False` hides the progress bar. Nothing is read before
    `train` or `test` is asked for.

    x  `(N, 28, 28, 1)`, from 0 to 1 in a `dtype` of floats; with `dtype=np.uint8` the bytes of the files
    y  int32 `(N,)`, the digit

    `synthetic=True` makes 2,000 images to train on and 400 to test on instead, of the same form and easy to tell
    apart, `synthetic=n` makes n and n // 5: no file is needed, and each run makes the same ones. All data sets of
    images take these arguments, and have `class_names`, `citation`, `licence` and `source`.

    Raises FileNotFoundError, which tells what to put where, if a file is missing and cannot be downloaded, and
    CorruptFileError for a file whose SHA-256 is another.

    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner 1998, "Gradient-based learning applied to document recognition";
    licence CC BY-SA 3.0 (MLDatasets: `MNIST`).

    >>> mnist = fx.data.MNIST(synthetic=100)
    >>> (x_train, y_train), (x_test, y_test) = mnist
    >>> x_train.shape, x_train.dtype, y_test.shape
    ((100, 28, 28, 1), dtype('float32'), (20,))
    >>> print(mnist)
    MNIST: handwritten digits
      train    100 images (28, 28, 1) of float32, labels int32
      test     20 images (28, 28, 1) of float32, labels int32
      classes  10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
      files    made up: synthetic
      source   http://yann.lecun.com/exdb/mnist/
      licence  CC BY-SA 3.0
      cite     Y. LeCun, L. Bottou, ... document recognition, Proceedings of the IEEE 86(11)
    """

    title = "handwritten digits"
    source = "http://yann.lecun.com/exdb/mnist/"
    licence = "CC BY-SA 3.0"
    citation = (
        "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner 1998, Gradient-based learning applied to document recognition, "
        "Proceedings of the IEEE 86(11)"
    )
    class_names = tuple("0123456789")
    files = idx_files(
        """
        440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609 9912422 train-images-idx3-ubyte.gz
        3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c 28881 train-labels-idx1-ubyte.gz
        8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6 1648877 t10k-images-idx3-ubyte.gz
        f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6 4542 t10k-labels-idx1-ubyte.gz
        """,
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    )


class FashionMNIST(IdxImages):
    """Fashion-MNIST: 60,000 photographs of clothes to train on and 10,000 to test on, 28 x 28 points, 10 classes.

    Arguments, arrays and errors are those of `MNIST`.

    Source: H. Xiao, K. Rasul, R. Vollgraf 2017, arXiv:1708.07747; licence MIT (MLDatasets: `FashionMNIST`).

    >>> fx.data.FashionMNIST().class_names[:3]
    ('T-shirt/top', 'Trouser', 'Pullover')
    """

    title = "photographs of clothes"
    source = "https://github.com/zalandoresearch/fashion-mnist"
    licence = "MIT"
    citation = "H. Xiao, K. Rasul, R. Vollgraf 2017, Fashion-MNIST: a novel image dataset, arXiv:1708.07747"
    class_names = (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )
    files = idx_files(
        """
        3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84 26421880 train-images-idx3-ubyte.gz
        a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845 29515 train-labels-idx1-ubyte.gz
        346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073 4422102 t10k-images-idx3-ubyte.gz
        67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5 5148 t10k-labels-idx1-ubyte.gz
        """,
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    )


class KMNIST(IdxImages):
    """Kuzushiji-MNIST: 60,000 Japanese characters of old books to train on and 10,000 to test on, 28 x 28 points.

    Arguments, arrays and errors are those of `MNIST`; `class_names` are the ten hiragana in Latin letters.

    Source: T. Clanuwat et al. 2018, "Deep learning for classical Japanese literature", arXiv:1812.01718; licence
    CC BY-SA 4.0 (torchvision: `KMNIST`).

    >>> x, y = fx.data.KMNIST(synthetic=20, dtype=np.uint8).test
    >>> x.shape, x.dtype
    ((4, 28, 28, 1), dtype('uint8'))
    """

    title = "Japanese characters of old books"
    source = "http://codh.rois.ac.jp/kmnist/"
    licence = "CC BY-SA 4.0"
    citation = (
        "T. Clanuwat, M. Bober-Irizar, A. Kitamoto, A. Lamb, K. Yamamoto, D. Ha 2018, Deep learning for classical "
        "Japanese literature, arXiv:1812.01718"
    )
    class_names = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    files = idx_files(
        """
        51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4 18165135 train-images-idx3-ubyte.gz
        e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17 29497 train-labels-idx1-ubyte.gz
        edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5 3041136 t10k-images-idx3-ubyte.gz
        20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c 5120 t10k-labels-idx1-ubyte.gz
        """,
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    )


_DIGITS = tuple("0123456789")
_CAPITALS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_SMALL = tuple("abcdefghijklmnopqrstuvwxyz")
_DISTINCT = tuple("abdefghnqrt")  # the small letters that do not look like their capitals
_SPLITS: dict[str, tuple[tuple[str, ...], int, int]] = {
    "balanced": ((*_DIGITS, *_CAPITALS, *_DISTINCT), 112800, 18800),
    "byclass": ((*_DIGITS, *_CAPITALS, *_SMALL), 697932, 116323),
    "bymerge": ((*_DIGITS, *_CAPITALS, *_DISTINCT), 697932, 116323),
    "digits": (_DIGITS, 240000, 40000),
    "letters": (_CAPITALS, 124800, 20800),
    "mnist": (_DIGITS, 60000, 10000),
}


class EMNIST(ImageData):
    """EMNIST: up to 814,255 handwritten digits and letters, 28 x 28 points, from 0 (paper) to 1 (ink).

    split       classes                                                 to train on, to test on
    "balanced"  47: digits, capitals, and small letters unlike these     112,800      18,800
    "byclass"   62: digits, capitals, small letters                      697,932     116,323
    "bymerge"   47: as "balanced", in their natural numbers              697,932     116,323
    "digits"    10                                                       240,000      40,000
    "letters"   26: capitals and small letters together                  124,800      20,800
    "mnist"     10: the digits of MNIST, made anew                        60,000      10,000

    All splits are in one file of 562 MB. The images stand upright as those of MNIST, not on their side as in the file,
    and the labels of "letters" begin at 0. The other arguments, arrays and errors are those of `MNIST`. Raises
    ValueError for a split of another name.

    Source: G. Cohen, S. Afshar, J. Tapson, A. van Schaik 2017, arXiv:1702.05373; NIST states no licence
    (MLDatasets: `EMNIST`).

    >>> len(fx.data.EMNIST("letters").class_names)
    26
    """

    title = "handwritten digits and letters"
    source = "https://www.nist.gov/itl/products-and-services/emnist-dataset"
    licence = "not stated"
    citation = (
        "G. Cohen, S. Afshar, J. Tapson, A. van Schaik 2017, EMNIST: an extension of MNIST to handwritten letters, "
        "arXiv:1702.05373"
    )
    image_shape = (28, 28, 1)
    file = RemoteFile(
        "gzip.zip",
        (
            "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
            "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip",
        ),
        "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
        561753746,
    )

    def __init__(
        self,
        split: str = "balanced",
        root: str | os.PathLike[str] | None = None,
        *,
        dtype: Any = np.float32,
        download: bool = True,
        synthetic: bool | int = False,
        progress: bool = True,
    ) -> None:
        one_of("EMNIST", "split", split, tuple(_SPLITS))
        super().__init__(root, dtype=dtype, download=download, synthetic=synthetic, progress=progress)
        self.split = split
        self.class_names, *sizes = _SPLITS[split]
        self.sizes = tuple(sizes)

    def read(self, part: str) -> Images:
        (path,) = self.paths(self.file)
        stem = f"gzip/emnist-{self.split}-{part}"
        names = [f"{stem}-images-idx3-ubyte.gz", f"{stem}-labels-idx1-ubyte.gz"]
        arrays = idx_members(path, names)
        images, labels = arrays[names[0]], arrays[names[1]]
        if images.ndim != 3:
            raise CorruptFileError(path, f"images of shape {images.shape}")
        upright = np.ascontiguousarray(images.transpose(0, 2, 1)[..., None])
        return self.checked(upright, labels - np.uint8(self.split == "letters"), path)


def idx_members(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The arrays of the IDX files of these names in an archive."""
    return {name: idx_array(content, f"{path}:{name}") for name, content in members(path, names=tuple(names))}

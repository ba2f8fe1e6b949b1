"""The data sets of small colour photographs: CIFAR and SVHN."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fluxion.data.checks import one_of
from fluxion.data.errors import CorruptFileError
from fluxion.data.formats.archives import members
from fluxion.data.formats.cifar import Batch, binary_batch, pickled_batch
from fluxion.data.formats.mat import read_mat
from fluxion.data.named.base import class_labels
from fluxion.data.named.download import RemoteFile, mirrored
from fluxion.data.named.images import ImageData, Images

_TORONTO = ("https://www.cs.toronto.edu/~kriz/", "http://www.cs.toronto.edu/~kriz/")


class _Cifar(ImageData):
    """Photographs in one archive: of the files for C, or, where only that is there, of those for Python."""

    image_shape = (32, 32, 3)
    sizes = (50000, 10000)
    source = "https://www.cs.toronto.edu/~kriz/cifar.html"
    licence = "not stated"
    citation = "A. Krizhevsky 2009, Learning multiple layers of features from tiny images, technical report"
    binary: ClassVar[RemoteFile]
    pickled: ClassVar[RemoteFile]
    keys: ClassVar[tuple[str, ...]]  # of the labels in the pickles, in the order of the binary records

    def batches(self, part: str, archive: RemoteFile) -> list[str]:
        """The members of an archive that make a part."""
        raise NotImplementedError

    def raw(self, part: str) -> tuple[Path, np.ndarray, np.ndarray]:
        """The archive, the images and all labels `(N, labels)` of a part."""
        folder = None if self.root is None else self.root / self.name
        there = [file for file in (self.binary, self.pickled) if folder and (folder / file.name).exists()]
        archive = there[0] if there else self.binary
        (path,) = self.paths(archive)
        names = self.batches(part, archive)
        found: dict[str, Batch] = {}
        for name, content in members(path, names=names):
            where = f"{path}:{name}"
            if archive is self.binary:
                found[name] = binary_batch(content, where, len(self.keys))
            else:
                found[name] = pickled_batch(content, where, self.keys)
        images, labels = zip(*(found[name] for name in names), strict=True)
        return path, np.concatenate(images), np.concatenate(labels)


class CIFAR10(_Cifar):
    """CIFAR-10: 50,000 colour photographs of 32 x 32 points to train on and 10,000 to test on, 10 classes.

    Arguments, arrays and errors are those of `MNIST`; the images are `(N, 32, 32, 3)`, red, green and blue. The file
    is `cifar-10-binary.tar.gz` or, where only that is in the folder, `cifar-10-python.tar.gz`, whose pickles are read
    without running anything in them.

    Source: A. Krizhevsky 2009, "Learning multiple layers of features from tiny images"; no licence is stated
    (MLDatasets: `CIFAR10`).

    >>> x, y = fx.data.CIFAR10(synthetic=50).train
    >>> x.shape, y.dtype
    ((50, 32, 32, 3), dtype('int32'))
    """

    title = "colour photographs"
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    binary = mirrored(
        "cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        170052171,
        *_TORONTO,
    )
    pickled = mirrored(
        "cifar-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        None,
        *_TORONTO,
    )
    keys = ("labels",)

    def batches(self, part: str, archive: RemoteFile) -> list[str]:
        stems = [f"data_batch_{i}" for i in range(1, 6)] if part == "train" else ["test_batch"]
        return [
            f"cifar-10-batches-bin/{stem}.bin" if archive is self.binary else f"cifar-10-batches-py/{stem}"
            for stem in stems
        ]

    def read(self, part: str) -> Images:
        path, images, labels = self.raw(part)
        return self.checked(images, labels[:, 0], path)


_FINE = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle "
    "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant "
    "flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man "
    "maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck "
    "pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk "
    "skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger "
    "tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)
_COARSE = (
    "aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices "
    "household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes "
    "large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees "
    "vehicles_1 vehicles_2"
)


class CIFAR100(_Cifar):
    """CIFAR-100: 50,000 colour photographs of 32 x 32 points to train on and 10,000 to test on, 100 classes in 20.

    labels="fine"    y is int32 `(N,)`, one of 100 classes
    labels="coarse"  y is int32 `(N,)`, one of the 20 groups of classes
    labels="both"    y is a dict of both; `class_names` are the fine ones, `coarse_names` the others

    The other arguments, arrays and errors are those of `CIFAR10`. Raises ValueError for other `labels`.

    Source: A. Krizhevsky 2009, "Learning multiple layers of features from tiny images"; no licence is stated
    (MLDatasets: `CIFAR100`).

    >>> x, y = fx.data.CIFAR100(labels="both", synthetic=200).train
    >>> {name: int(label.max()) for name, label in y.items()}
    {'fine': 99, 'coarse': 19}
    """

    title = "colour photographs"
    coarse_names = tuple(_COARSE.split())
    binary = mirrored(
        "cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        168513733,
        *_TORONTO,
    )
    pickled = mirrored(
        "cifar-100-python.tar.gz",
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        None,
        *_TORONTO,
    )
    keys = ("coarse_labels", "fine_labels")

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        labels: str = "fine",
        dtype: Any = np.float32,
        download: bool = True,
        synthetic: bool | int = False,
        progress: bool = True,
    ) -> None:
        one_of("CIFAR100", "labels", labels, ("fine", "coarse", "both"))
        super().__init__(root, dtype=dtype, download=download, synthetic=synthetic, progress=progress)
        self.labels = labels
        self.class_names = self.coarse_names if labels == "coarse" else tuple(_FINE.split())

    def batches(self, part: str, archive: RemoteFile) -> list[str]:
        return [f"cifar-100-binary/{part}.bin" if archive is self.binary else f"cifar-100-python/{part}"]

    def read(self, part: str) -> tuple[np.ndarray, Any]:
        path, images, labels = self.raw(part)
        if self.labels != "both":
            return self.checked(images, labels[:, int(self.labels == "fine")], path)
        images, fine = self.checked(images, labels[:, 1], path)
        coarse = labels[:, 0].astype(np.int32)
        if coarse.max(initial=0) >= len(self.coarse_names):
            raise CorruptFileError(path, f"coarse labels up to {coarse.max()}")
        return images, {"fine": fine, "coarse": coarse}

    def make(self, part: str) -> tuple[np.ndarray, Any]:
        """As for every data set of images; five neighbouring classes are a group, unlike those of the real one."""
        images, labels = super().make(part)
        return images, {"fine": labels, "coarse": labels // np.int32(5)} if self.labels == "both" else labels


class SVHN(ImageData):
    """SVHN: 73,257 house numbers of 32 x 32 points in colour to train on and 26,032 to test on, cropped to one digit.

    `extra` has 531,131 more, easier ones, in a file of 1.3 GB that is downloaded only when it is asked for. The label
    is the digit, also 0, for which the files have 10. Arguments, arrays and errors are those of `MNIST`.

    Source: Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, A. Y. Ng 2011, "Reading digits in natural images with
    unsupervised feature learning"; for non-commercial use only (MLDatasets: `SVHN2`).

    >>> x, y = fx.data.SVHN(synthetic=50).extra
    >>> x.shape
    (10, 32, 32, 3)
    """

    title = "house numbers in colour"
    source = "http://ufldl.stanford.edu/housenumbers"
    licence = "non-commercial use only"
    citation = (
        "Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, A. Y. Ng 2011, Reading digits in natural images with "
        "unsupervised feature learning, NIPS Workshop on Deep Learning and Unsupervised Feature Learning"
    )
    class_names = tuple("0123456789")
    image_shape = (32, 32, 3)
    parts = ("train", "test", "extra")
    sizes = (73257, 26032, 531131)
    sums: ClassVar[dict[str, tuple[str, int]]] = {
        "train": ("435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8", 182040794),
        "test": ("cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b", 64275384),
        "extra": ("a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3", 1329278602),
    }

    @cached_property
    def extra(self) -> Any:
        """More to train on."""
        return self.part("extra")

    def file(self, part: str) -> RemoteFile:
        """The file of a part."""
        hosts = ("http://ufldl.stanford.edu/housenumbers/", "https://ufldl.stanford.edu/housenumbers/")
        return mirrored(f"{part}_32x32.mat", *self.sums[part], *hosts)

    def read(self, part: str) -> Images:
        (path,) = self.paths(self.file(part))
        try:
            arrays = read_mat(path, ["X", "y"])
        except KeyError as error:
            raise CorruptFileError(path, str(error)) from None
        images, labels = arrays["X"], arrays["y"].reshape(-1)
        if images.ndim != 4:
            raise CorruptFileError(path, f"images of shape {images.shape}")
        labels = class_labels(self, np.where(labels == 10, 0, labels), images.shape[-1], path)
        return self.checked(np.ascontiguousarray(np.moveaxis(images, -1, 0)), labels, path)

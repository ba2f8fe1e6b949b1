"""Omniglot: characters of many alphabets, twenty drawings of each."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from fluxion.data.errors import CorruptFileError
from fluxion.data.formats.archives import members
from fluxion.data.formats.png import grey_png
from fluxion.data.named.download import RemoteFile, mirrored
from fluxion.data.named.images import ImageData, Images

_BACKGROUND = """
    Alphabet_of_the_Magi 20, Anglo-Saxon_Futhorc 29, Arcadian 26, Armenian 41, Asomtavruli_(Georgian) 40, Balinese 24,
    Bengali 46, Blackfoot_(Canadian_Aboriginal_Syllabics) 14, Braille 26, Burmese_(Myanmar) 34, Cyrillic 33,
    Early_Aramaic 22, Futurama 26, Grantha 43, Greek 24, Gujarati 48, Hebrew 22,
    Inuktitut_(Canadian_Aboriginal_Syllabics) 16, Japanese_(hiragana) 52, Japanese_(katakana) 47, Korean 40, Latin 26,
    Malay_(Jawi_-_Arabic) 40, Mkhedruli_(Georgian) 41, N_Ko 33, Ojibwe_(Canadian_Aboriginal_Syllabics) 14, Sanskrit 42,
    Syriac_(Estrangelo) 23, Tagalog 17, Tifinagh 55
"""
_EVALUATION = """
    Angelic 20, Atemayar_Qelisayer 26, Atlantean 26, Aurek-Besh 26, Avesta 26, Ge_ez 26, Glagolitic 45, Gurmukhi 45,
    Kannada 41, Keble 26, Malayalam 47, Manipuri 40, Mongolian 30, Old_Church_Slavonic_(Cyrillic) 45, Oriya 46,
    Sylheti 28, Syriac_(Serto) 23, Tengwar 25, Tibetan 42, ULOG 26
"""


def _characters(table: str) -> tuple[str, ...]:
    """The names of characters, as in the archives, of a list of alphabets and the number of their characters."""
    alphabets = [entry.split() for entry in table.split(",")]
    return tuple(f"{name}/character{i:02d}" for name, count in alphabets for i in range(1, int(count) + 1))


class Omniglot(ImageData):
    """Omniglot: 1,623 characters of 50 alphabets, each drawn by 20 people, 105 x 105 points, 0 (ink) or 1 (paper).

    train   19,280 drawings of the 964 characters of 30 alphabets, labels 0 to 963
    test    13,180 drawings of the 659 characters of 20 other alphabets, labels 964 to 1622
    small1   2,720 of `train`, five alphabets; small2, 3,120 of it, five others

    As the parts have no character in common, `test` is for what learns from a few examples. `class_names` are
    alphabet and character. Arguments, arrays and errors are those of `MNIST`.

    Source: B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum 2015, "Human-level concept learning through probabilistic
    program induction"; licence MIT (MLDatasets: `Omniglot`).

    >>> omniglot = fx.data.Omniglot()
    >>> len(omniglot.class_names), omniglot.class_names[964]
    (1623, 'Angelic/character01')
    """

    title = "characters of many alphabets"
    source = "https://github.com/brendenlake/omniglot"
    licence = "MIT"
    citation = (
        "B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum 2015, Human-level concept learning through probabilistic "
        "program induction, Science 350(6266)"
    )
    class_names = (*_characters(_BACKGROUND), *_characters(_EVALUATION))
    background = len(_characters(_BACKGROUND))
    image_shape = (105, 105, 1)
    parts = ("train", "test", "small1", "small2")
    sizes = (19280, 13180, 2720, 3120)
    sums: ClassVar[dict[str, tuple[str, str, int]]] = {
        "train": ("background", "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640", 9464212),
        "test": ("evaluation", "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee", 6462886),
        "small1": ("background_small1", "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4", 1319022),
        "small2": ("background_small2", "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f", 1580917),
    }

    @cached_property
    def small1(self) -> Any:
        """Five of the alphabets of `train`."""
        return self.part("small1")

    @cached_property
    def small2(self) -> Any:
        """Five others of the alphabets of `train`."""
        return self.part("small2")

    def file(self, part: str) -> RemoteFile:
        """The file of a part."""
        stem, sha256, size = self.sums[part]
        hosts = (
            "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
            "https://github.com/brendenlake/omniglot/raw/master/python/",
        )
        return mirrored(f"images_{stem}.zip", sha256, size, *hosts)

    def read(self, part: str) -> Images:
        (path,) = self.paths(self.file(part))
        numbers = {name: number for number, name in enumerate(self.class_names)}
        images, labels = [], []
        for name, content in sorted(members(path, within="images_")):
            parts = re.fullmatch(r"[^/]+/([^/]+/[^/]+)/[^/]+\.png", name)
            if parts is None or parts[1] not in numbers:
                raise CorruptFileError(path, f"{name} is no drawing of a known character")
            images.append(grey_png(content, f"{path}:{name}"))
            labels.append(numbers[parts[1]])
            if images[-1].shape != self.image_shape[:2]:
                raise CorruptFileError(path, f"{name} has the shape {images[-1].shape}")
        stacked = np.reshape(images, (len(images), *self.image_shape)).astype(np.uint8)
        return self.checked(stacked, np.array(labels, np.int64), path)

    def make(self, part: str) -> Images:
        """Made-up drawings of the first characters of the part, with at least five of each."""
        first = self.background if part == "test" else 0
        count = self.made_size(part)
        classes = min(max(count // 5, 1), len(self.class_names) - self.background)
        rng = self.rng(part)
        patterns = self.rng("test" if first else "train").integers(0, 2, (classes, 15, 15), np.uint8)
        labels = rng.permutation(np.arange(count) % classes)
        flipped = rng.random((count, 105, 105)) < 0.05
        images = np.repeat(np.repeat(patterns[labels], 7, 1), 7, 2) ^ flipped
        return (images[..., None] * np.uint8(255)), (labels + first).astype(np.int32)

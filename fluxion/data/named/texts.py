"""The data sets of text: plays and film reviews."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import numpy as np

from fluxion.data.errors import CorruptFileError
from fluxion.data.formats.archives import members
from fluxion.data.formats.cursor import contents
from fluxion.data.named.base import SplitData
from fluxion.data.named.download import RemoteFile

_PLAY = "the king queen my lord shall speak of love and war to thee not what is noble blood good night"
_REVIEW = "the film story with an actor and its music was a scene of that plot in this long evening"
_VOCABULARY = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class TinyShakespeare(SplitData):
    """1,115,394 characters of Shakespeare's plays in one text, for models of language that read characters.

    train       the first 1,003,854 characters, nine tenths of the text
    test        the last 111,540
    vocabulary  the 65 characters there are, in order; `encode` and `decode` go from text to their numbers and back

    `root`, `download`, `progress` and the errors are those of `MNIST`. `synthetic=True` makes 100,000 characters of
    lines in the form of a play to train on and 20,000 to test on, `synthetic=n` makes n and n // 5.

    Source: A. Karpathy 2015, "The unreasonable effectiveness of recurrent neural networks", char-rnn; the plays are in
    the public domain.

    >>> plays = fx.data.TinyShakespeare(synthetic=200)
    >>> numbers = plays.encode(plays.train)
    >>> numbers.dtype, numbers.shape, plays.decode(numbers) == plays.train
    (dtype('int32'), (200,), True)
    """

    title = "Shakespeare's plays, character by character"
    source = "https://github.com/karpathy/char-rnn/tree/master/data/tinyshakespeare"
    licence = "public domain"
    citation = "A. Karpathy 2015, char-rnn, https://github.com/karpathy/char-rnn"
    synthetic_size = 100_000
    vocabulary = tuple(_VOCABULARY)
    file = RemoteFile(
        "input.txt",
        (
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            "https://github.com/karpathy/char-rnn/raw/master/data/tinyshakespeare/input.txt",
            "https://storage.googleapis.com/download.tensorflow.org/data/shakespeare.txt",
        ),
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        1115394,
    )

    def encode(self, text: str) -> np.ndarray:
        """The place of each character of `text` in `vocabulary`, as int32; ValueError for one that is not in it."""
        numbers = {character: number for number, character in enumerate(self.vocabulary)}
        unknown = sorted(set(text) - numbers.keys())
        if unknown:
            raise ValueError(f"the vocabulary of {len(numbers)} characters has no {', '.join(map(repr, unknown))}")
        return np.array([numbers[character] for character in text], np.int32)

    def decode(self, numbers: Any) -> str:
        """The text of an array `(N,)` of places in `vocabulary`; IndexError for one beyond it."""
        places = np.asarray(numbers)
        if places.ndim != 1 or (places.size and not np.issubdtype(places.dtype, np.integer)):
            raise TypeError(f"decode takes integers (N,), got {places.dtype}{places.shape}")
        if places.size and not 0 <= places.min() <= places.max() < len(self.vocabulary):
            raise IndexError(f"places from {places.min()} to {places.max()} of {len(self.vocabulary)} characters")
        return "".join(self.vocabulary[place] for place in places.tolist())

    def part(self, part: str) -> str:
        if self.made is not None:
            return self.make(part)
        (path,) = self.paths(self.file)
        try:
            text = str(contents(path), "ascii")
        except UnicodeDecodeError as error:
            raise CorruptFileError(path, f"the text is not ASCII ({error})") from None
        first = len(text) * 9 // 10
        return text[:first] if part == "train" else text[first:]

    def make(self, part: str) -> str:
        """Lines of a few words each, said by three people in turn."""
        rng, count, words = self.rng(part), self.made_size(part), _PLAY.split()
        lines: list[str] = []
        size = 0
        while size < count:
            name = ("ROMEO", "JULIET", "NURSE")[len(lines) % 3]
            said = " ".join(words[place] for place in rng.integers(0, len(words), rng.integers(4, 9)))
            lines.append(f"{name}:\n{said.capitalize()}{'.!?'[rng.integers(3)]}\n\n")
            size += len(lines[-1])
        return "".join(lines)[:count]

    def facts(self) -> list[tuple[str, str]]:
        sizes = (1_003_854, 111_540) if self.made is None else (self.made, self.made_size("test"))
        facts = [(part, f"{size:,} characters") for part, size in zip(("train", "test"), sizes, strict=True)]
        return [*facts, ("letters", f"{len(self.vocabulary)}: vocabulary, encode, decode")]


class IMDB(SplitData):
    """25,000 film reviews to train on and 25,000 to test on, half of each positive.

    x  a list of N texts, as people wrote them, with `<br />` for new lines
    y  int32 `(N,)`, 0 negative or 1 positive

    Negative reviews come first, so shuffle them. The archive of 84 MB is read member by member, which takes a while.
    `root`, `download`, `synthetic`, `progress` and the errors are those of `MNIST`.

    Source: A. L. Maas, R. E. Daly, P. T. Pham, D. Huang, A. Y. Ng, C. Potts 2011, "Learning word vectors for sentiment
    analysis"; no licence is stated.

    >>> x, y = fx.data.IMDB(synthetic=10).train
    >>> len(x), y.tolist()
    (10, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    """

    title = "film reviews, negative or positive"
    source = "http://ai.stanford.edu/~amaas/data/sentiment/"
    licence = "not stated"
    citation = (
        "A. L. Maas, R. E. Daly, P. T. Pham, D. Huang, A. Y. Ng, C. Potts 2011, Learning word vectors for sentiment "
        "analysis, ACL"
    )
    class_names = ("negative", "positive")
    file = RemoteFile(
        "aclImdb_v1.tar.gz",
        (
            "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
            "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
            "http://d2l-data.s3-accelerate.amazonaws.com/aclImdb_v1.tar.gz",
        ),
        "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
        84125825,
    )
    words: ClassVar[tuple[str, str]] = (
        "dull boring awful wasted predictable tedious",
        "great moving brilliant funny touching superb",
    )

    def part(self, part: str) -> tuple[list[str], np.ndarray]:
        if self.made is not None:
            return self.make(part)
        (path,) = self.paths(self.file)
        reviews: tuple[dict[str, str], dict[str, str]] = ({}, {})
        for name, content in members(path, within=f"aclImdb/{part}/"):
            kind = re.fullmatch(r"aclImdb/\w+/(neg|pos)/\w+\.txt", name)
            if kind is None:
                continue  # reviews without a label, and bags of words
            try:
                reviews[kind[1] == "pos"][name] = str(content, "utf-8")
            except UnicodeDecodeError as error:
                raise CorruptFileError(path, f"{name} is no text ({error})") from None
        if not all(reviews):
            raise CorruptFileError(path, f"no reviews in aclImdb/{part}/neg and aclImdb/{part}/pos")
        texts = [kind[name] for kind in reviews for name in sorted(kind)]
        return texts, np.repeat(np.arange(2, dtype=np.int32), [len(kind) for kind in reviews])

    def make(self, part: str) -> tuple[list[str], np.ndarray]:
        """Made-up reviews: words that say nothing, and among them two that tell what the review is."""
        rng, count = self.rng(part), self.made_size(part)
        labels = np.arange(count, dtype=np.int32) * 2 // count
        common = _REVIEW.split()
        texts = []
        for label in labels:
            said = [common[place] for place in rng.integers(0, len(common), rng.integers(12, 40))]
            for place in rng.integers(0, len(said), 2):
                said.insert(place, str(rng.choice(self.words[label].split())))
            texts.append(" ".join(said).capitalize() + ".")
        return texts, labels

    def facts(self) -> list[tuple[str, str]]:
        sizes = (25000, 25000) if self.made is None else (self.made, self.made_size("test"))
        return [(part, f"{size:,} texts, labels int32") for part, size in zip(("train", "test"), sizes, strict=True)]

"""Sounds in folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np

from fluxion.data.checks import one_of, whole_number
from fluxion.data.errors import CorruptFileError
from fluxion.data.folders.classified import Files, Options, dataset
from fluxion.data.folders.files import PathLike
from fluxion.data.folders.wav import read_wav

MOST_TIMES = 64  # between two sampling rates; more is a damaged file, and would take memory without end


def audio_dataset_from_directory(
    path: PathLike,
    *,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    sampling_rate: int | None = None,
    output_sequence_length: int | None = None,
    mono: bool = False,
    validation_split: float | None = None,
    subset: str | None = None,
    seed: int = 0,
    follow_links: bool = False,
    extensions: Sequence[str] = (".wav",),
) -> Files:
    """The sounds below a folder with their classes, read when they are asked for (Keras: the same name).

    Observation `i` is `(sound, label)`, or the sound alone without labels: float32 `(T, channels)` as `read_wav` gives
    it. Sounds of different lengths make a batch by `DataLoader(..., collate=...)`, or by `output_sequence_length`.

    sampling_rate           in Hz: files of another rate are resampled (`scipy.signal.resample_poly`: a low-pass filter
                            and no aliasing); None leaves them as they are
    output_sequence_length  cuts sounds to this length, or fills them up with zeros at the end; None leaves them
    mono                    averages over the channels, which leaves one

    The other options and the errors are those of `image_dataset_from_directory`; reading a damaged file raises
    `CorruptFileError`.

    >>> import pathlib, tempfile
    >>> from scipy.io import wavfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("yes", "no"):
    ...     (folder / name).mkdir()
    ...     wavfile.write(folder / name / "1.wav", 16000, np.zeros((16000, 2), np.int16))
    >>> dataset = audio_dataset_from_directory(folder, sampling_rate=8000, output_sequence_length=10000)
    >>> sound, label = dataset[0]
    >>> sound.shape, dataset.class_names
    ((10000, 2), ['no', 'yes'])
    """
    function = "audio_dataset_from_directory"
    for name, value in (("sampling_rate", sampling_rate), ("output_sequence_length", output_sequence_length)):
        if value is not None:
            whole_number(name, value, least=1)
    one_of(function, "mono", mono, (False, True))
    options = Options(
        function, labels, label_mode, class_names, validation_split, subset, seed, follow_links, extensions
    )
    return dataset(path, _SoundReader(sampling_rate, output_sequence_length, mono), options)


@dataclass(frozen=True)
class _SoundReader:
    """Reads sounds of one rate and length; None leaves what a file has."""

    rate: int | None
    length: int | None
    mono: bool

    def __call__(self, path: str) -> np.ndarray:
        sound, rate = read_wav(path)
        if self.mono:
            sound = sound.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
        if self.rate is not None and rate != self.rate:
            sound = _resampled(path, sound, rate, self.rate)
        if self.length is None:
            return sound
        return np.pad(sound[: self.length], ((0, max(0, self.length - len(sound))), (0, 0)))


def _resampled(path: str, sound: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    from scipy.signal import resample_poly

    if not wanted / MOST_TIMES <= rate <= wanted * MOST_TIMES:
        raise CorruptFileError(path, f"its sampling rate of {rate} Hz is too far from the wanted {wanted} Hz")
    if not len(sound):
        return sound
    common = gcd(rate, wanted)
    return resample_poly(sound, wanted // common, rate // common).astype(np.float32)

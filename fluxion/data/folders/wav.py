"""Sounds in WAV files."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from fluxion.data.errors import CorruptFileError
from fluxion.data.folders.files import PathLike, contents

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
UNKNOWN_LENGTH = 0xFFFFFFFF  # written by programs that cannot go back in their output


def read_wav(source: PathLike | bytes) -> tuple[np.ndarray, int]:
    """The sound in a WAV file and its sampling rate in Hz; `source` is the file's path or the bytes in it.

    The sound is float32 `(T, channels)`: integers of 8, 16, 24 or 32 bits divided by 128, 2^15, 2^23 or 2^31, hence
    from -1 to 1; floats of 32 or 64 bits as they are.

    Raises CorruptFileError, a ValueError that names the file, for what is damaged, cut off, or in another encoding.
    Format: Microsoft, Multimedia Programming Interface and Data Specifications 1.0, and `WAVEFORMATEXTENSIBLE`.

    >>> header = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 40, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)
    >>> sound, rate = read_wav(header + struct.pack("<4sI2h", b"data", 4, 16384, -32768))
    >>> sound.tolist(), rate
    ([[0.5], [-1.0]], 8000)
    """
    name, content = contents(source)
    try:
        form, data = _chunks(memoryview(content))
        return _samples(form, data), form.rate
    except ValueError as error:
        raise CorruptFileError(name, f"cannot be read as WAV: {error}") from error


@dataclass
class _Format:
    """How samples are stored: PCM or FLOAT, in so many bits."""

    kind: int
    channels: int
    rate: int
    block: int
    bits: int


def _chunks(content: memoryview) -> tuple[_Format, memoryview]:
    """The format and the samples."""
    if bytes(content[:4]) != b"RIFF" or bytes(content[8:12]) != b"WAVE":
        raise ValueError(f"it begins with {bytes(content[:12])!r}, not with RIFF and WAVE")
    form, place = None, 12
    while place + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        chunk = content[place + 8 : place + 8 + size]
        if name == b"fmt ":
            form = _format(chunk)
        elif name == b"data":
            if form is None:
                raise ValueError("its samples come before their format")
            if len(chunk) < size != UNKNOWN_LENGTH:
                raise ValueError(f"it ends after {len(chunk)} of {size} bytes of samples")
            return form, chunk
        place += 8 + size + size % 2
    raise ValueError("it has no samples")


def _format(chunk: memoryview) -> _Format:
    if len(chunk) < 16:
        raise ValueError(f"its format has {len(chunk)} bytes, not 16")
    kind, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", chunk)
    if kind == EXTENSIBLE and len(chunk) >= 26:
        (kind,) = struct.unpack_from("<H", chunk, 24)  # the first two bytes of the format's GUID
    if (kind, bits) not in {(PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32), (FLOAT, 64)}:
        raise ValueError(f"its samples have {bits} bits of format {kind}; PCM is 1, floats are 3")
    if not rate or not channels or block * 8 != channels * bits:
        raise ValueError(f"its format says {rate} Hz, {channels} channels of {bits} bits in {block} bytes")
    return _Format(kind, channels, rate, block, bits)


def _samples(form: _Format, data: memoryview) -> np.ndarray:
    """`(T, channels)`, each moment's channels beside each other in the file."""
    if len(data) % form.block:
        raise ValueError(f"it has {len(data)} bytes of samples, no multiple of the {form.block} that one moment takes")
    if form.kind == FLOAT:
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is infinite, and refused below
            samples: np.ndarray = np.frombuffer(data, f"<f{form.bits // 8}").astype(np.float32)
        if not np.isfinite(samples).all():
            raise ValueError("it has samples that are infinite or not a number")
    elif form.bits == 8:
        samples = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    else:
        integers = _three_bytes(data) if form.bits == 24 else np.frombuffer(data, f"<i{form.bits // 8}")
        samples = integers.astype(np.float32) / -np.float32(np.iinfo(integers.dtype).min)
    return samples.reshape(-1, form.channels)


def _three_bytes(data: memoryview) -> np.ndarray:
    """Integers of 24 bits as int32, 2^8 times as large."""
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return wide.view("<i4")[:, 0]

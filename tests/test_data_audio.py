"""Sounds in WAV files, against `scipy.io.wavfile`, and folders of them."""

import io
import struct

import numpy as np
import pytest
from scipy.io import wavfile

import fluxion as fx
from fluxion.data import audio_dataset_from_directory, read_wav
from fluxion.data.errors import CorruptFileError

GUID = b"\0\0\0\0\x10\0\x80\0\0\xaa\x00\x38\x9b\x71"


def wav(data, kind=1, channels=1, rate=8000, bits=16, extensible=False, extra=b"", size=None):
    """The bytes of a WAV file with these bytes of samples."""
    block = channels * bits // 8
    per_second = min(rate * block, 2**32 - 1)
    tail = struct.pack("<HHIH14s", 22, bits, 0, kind, GUID) if extensible else b""
    form = struct.pack("<HHIIHH", 0xFFFE if extensible else kind, channels, rate, per_second, block, bits) + tail
    size = len(data) if size is None else size
    chunks = struct.pack("<4sI", b"fmt ", len(form)) + form + extra + struct.pack("<4sI", b"data", size) + data
    return struct.pack("<4sI4s", b"RIFF", 4 + len(chunks), b"WAVE") + chunks


def tone(count, rate, frequency=440.0):
    """A sine of half the full volume."""
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(count) / rate)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
def test_files_of_scipy(dtype, channels, tmp_path):
    rng = np.random.default_rng(0)
    whole = np.dtype(dtype).kind in "iu"
    limits = np.iinfo(dtype) if whole else None
    shape = (101, channels)
    samples = rng.integers(limits.min, limits.max, shape, dtype, True) if whole else rng.uniform(-1, 1, shape)
    wavfile.write(tmp_path / "1.wav", 22050, samples.astype(dtype))
    expected = samples.astype(float)
    if whole:
        expected = (expected - (128 if dtype == "uint8" else 0)) / (128 if dtype == "uint8" else -float(limits.min))
    sound, rate = read_wav(tmp_path / "1.wav")
    assert rate == 22050 and sound.dtype == np.float32 and sound.shape == shape
    np.testing.assert_allclose(sound, expected, atol=1e-7)
    assert np.array_equal(sound, read_wav((tmp_path / "1.wav").read_bytes())[0])


def test_24_bits():
    values = np.array([0, 1, -1, 2**23 - 1, -(2**23), 123456, -654321])
    data = b"".join(int(value).to_bytes(3, "little", signed=True) for value in values)
    for extensible in (False, True):
        source = wav(data, bits=24, extensible=extensible)
        sound, _ = read_wav(source)
        assert np.array_equal(sound[:, 0], (values / 2**23).astype(np.float32))
        assert np.array_equal(wavfile.read(io.BytesIO(source))[1] / 2**31, sound[:, 0])


def test_chunks_around_the_samples():
    data = struct.pack("<4h", 1, 2, 3, 4)
    odd = struct.pack("<4sI", b"LIST", 3) + b"abc\0"
    for source in (
        wav(data, extra=odd),
        wav(data) + odd,
        wav(data, size=0xFFFFFFFF),
        wav(data, extensible=True, extra=odd * 3),
    ):
        assert read_wav(source)[0].tolist() == [[n / 2**15] for n in (1, 2, 3, 4)]
    assert read_wav(wav(b"", channels=2))[0].shape == (0, 2)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "it begins with b'', not with RIFF and WAVE"),
        (b"OggS" * 10, "it begins with b'OggSOggSOggS', not with RIFF and WAVE"),
        (wav(b"")[:30], "its format has 10 bytes, not 16"),
        (wav(b"")[:36], "it has no samples"),
        (wav(b"\0\0", size=4_000_000_000), "it ends after 2 of 4000000000 bytes of samples"),
        (wav(b"\0\0\0"), "it has 3 bytes of samples, no multiple of the 2 that one moment takes"),
        (wav(b"", kind=6, bits=8), "its samples have 8 bits of format 6; PCM is 1, floats are 3"),
        (wav(b"", bits=12), "its samples have 12 bits of format 1"),
        (wav(b"", channels=0), "its format says 8000 Hz, 0 channels of 16 bits in 0 bytes"),
        (wav(b"", rate=0), "its format says 0 Hz, 1 channels"),
        (wav(struct.pack("<d", 1e300), 3, bits=64), "it has samples that are infinite or not a number"),
        (wav(struct.pack("<f", np.nan), 3, bits=32), "it has samples that are infinite or not a number"),
        (wav(struct.pack("<Q", 0x7FF0000000000001), 3, bits=64), "it has samples that are infinite or not a number"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "its samples come before their format"),
    ],
)
def test_damaged_files(source, message, tmp_path):
    (tmp_path / "1.wav").write_bytes(source)
    with pytest.raises(CorruptFileError, match=f"1.wav: cannot be read as WAV: {message}"):
        read_wav(tmp_path / "1.wav")
    with pytest.raises(CorruptFileError, match=f"{len(source)} bytes in memory: cannot be read as WAV"):
        read_wav(source)
    with pytest.raises(FileNotFoundError):
        read_wav(tmp_path / "2.wav")


@pytest.mark.parametrize(("kind", "bits"), [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)])
def test_bytes_cut_off_or_changed(kind, bits, tmp_path):
    rng = np.random.default_rng(bits)
    samples = rng.uniform(-1, 1, 20).astype(f"<f{bits // 8}").tobytes() if kind == 3 else rng.bytes(bits // 8 * 20)
    good = wav(samples, kind, 2, bits=bits, extensible=bits == 24)
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "1.wav").write_bytes(good)
    dataset = audio_dataset_from_directory(tmp_path, labels=None, sampling_rate=4000, output_sequence_length=8)
    read = 0
    for trial in range(300):
        bad = bytearray(good[: rng.integers(len(good))] if trial % 3 == 0 else good)
        for place in rng.integers(len(bad), size=rng.integers(3)) if bad else ():
            bad[place % 60 % len(bad)] = rng.integers(256)
        (folder / "1.wav").write_bytes(bad)
        try:
            sound = dataset[0]
        except CorruptFileError:
            continue
        assert sound.dtype == np.float32 and sound.shape[0] == 8
        read += 1
    assert 0 < read < 300


@pytest.fixture
def words(tmp_path):
    for number, name in enumerate(("no", "yes")):
        (tmp_path / name).mkdir()
        for rate in (8000, 16000):
            samples = (tone(rate // 2, rate) * 2**15).astype(np.int16)
            stereo = np.stack([samples, np.zeros_like(samples)], axis=1) if number else samples
            wavfile.write(tmp_path / name / f"{rate}.wav", rate, stereo)
    return tmp_path


def test_sounds_in_folders(words):
    dataset = audio_dataset_from_directory(words)
    assert dataset.class_names == ["no", "yes"] and dataset.labels.tolist() == [0, 0, 1, 1]
    assert [sound.shape for sound, _ in dataset] == [(8000, 1), (4000, 1), (8000, 2), (4000, 2)]
    for i in range(4):
        assert np.array_equal(dataset[i][0], read_wav(dataset.source(i))[0])
    even = audio_dataset_from_directory(words, sampling_rate=8000, output_sequence_length=5000, mono=True)
    sounds, labels = even[:]
    assert sounds.shape == (4, 5000, 1) and sounds.dtype == np.float32 and labels.tolist() == [0, 0, 1, 1]
    assert not sounds[:, 4000:].any()
    short = audio_dataset_from_directory(words, output_sequence_length=10)
    assert np.array_equal(short[2][0], dataset[2][0][:10])
    ragged = fx.DataLoader(
        audio_dataset_from_directory(words, labels=None, mono=True), 4, collate=fx.data.pad_sequences
    )
    padded, lengths = next(iter(ragged))
    assert padded.shape == (4, 8000, 1) and lengths.tolist() == [8000, 4000, 8000, 4000]


def test_resampled_tones_stay_tones(words):
    for wanted in (8000, 11025, 16000, 22050):
        for sound in audio_dataset_from_directory(words, labels=None, sampling_rate=wanted, mono=True):
            expected = tone(len(sound), wanted) * (1 if sound.max() > 0.4 else 0.5)
            assert len(sound) in (wanted // 2, wanted // 2 + 1)
            inner = slice(100, -100)  # at the ends the filter meets silence
            np.testing.assert_allclose(sound[inner, 0], expected[inner], atol=2e-3)


def test_averages_over_channels(words):
    both, one = (audio_dataset_from_directory(words, labels=None, mono=mono)[2] for mono in (False, True))
    np.testing.assert_allclose(one[:, 0], both.mean(axis=1), atol=1e-7)
    assert one.dtype == np.float32


def test_rates_that_are_damaged(tmp_path):
    for rate in (1, 4_000_000_000):
        (tmp_path / "1.wav").write_bytes(wav(b"\0\0", rate=rate))
        dataset = audio_dataset_from_directory(tmp_path, labels=None, sampling_rate=16000)
        with pytest.raises(
            CorruptFileError, match=f"its sampling rate of {rate} Hz is too far from the wanted 16000 Hz"
        ):
            dataset[0]
    (tmp_path / "1.wav").write_bytes(wav(b""))
    silent = audio_dataset_from_directory(tmp_path, labels=None, sampling_rate=16000, output_sequence_length=3)[0]
    assert silent.tolist() == [[0], [0], [0]]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sampling_rate": 0}, ValueError, "sampling_rate must be at least 1, got 0"),
        ({"sampling_rate": 16e3}, TypeError, "sampling_rate is a whole number, got 16000.0"),
        ({"output_sequence_length": -1}, ValueError, "output_sequence_length must be at least 1, got -1"),
        ({"mono": "yes"}, ValueError, "audio_dataset_from_directory takes False, True as mono, got 'yes'"),
        ({"label_mode": "one"}, ValueError, "audio_dataset_from_directory takes 'int', 'onehot'"),
        ({"extensions": (".mp3",)}, ValueError, r"found no file of .mp3 in .*; there are 4 of .wav"),
    ],
)
def test_options_that_do_not_exist(words, options, error, message):
    with pytest.raises(error, match=message):
        audio_dataset_from_directory(words, **options)

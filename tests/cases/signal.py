"""Windows, short-time Fourier transforms, spectrograms, mel filters and decibels: against PyTorch, SciPy, formulas."""

import numpy as np
import scipy.signal
import torch
from harness import Sample, case

import fluxion as fx


def real_pairs(y):
    """A complex array as its real and imaginary parts, which the checks compare."""
    return y.real, y.imag


def options_of(draw, n_fft):
    """Options of `stft`, as ours and as PyTorch's."""
    hop = draw.choose(None, 1, n_fft // 2 + 1)
    centre, normalised = draw.choose(True, False), draw.choose(False, True)
    ours = {"hop": hop, "centre": centre, "normalised": normalised}
    return ours, {"hop_length": hop, "center": centre, "normalized": normalised, "return_complex": True}


def theirs_of(window, n_fft, **options):
    """PyTorch's options with a window, or with ones and no warning about them."""
    window = torch.ones(n_fft, dtype=torch.float64) if window is None else window
    return {"n_fft": n_fft, "window": window, "win_length": len(window), **options}


def periodic_window(name, scipy_name):
    @case(
        name,
        errors=[
            (lambda: getattr(fx, name)(0), ValueError, f"{name} takes an int of at least 1, got 0"),
            (lambda: getattr(fx, name)(2.0), ValueError, f"{name} takes an int of at least 1, got 2.0"),
        ],
    )
    def sample(draw):
        n, periodic = draw.size(9), draw.choose(True, False)
        return Sample(
            lambda: lambda: getattr(fx, name)(n, periodic=periodic),
            expected=lambda p: scipy.signal.get_window(scipy_name, n, fftbins=periodic),
            gradients=False,
        )


periodic_window("hann_window", "hann")
periodic_window("hamming_window", "hamming")


@case(
    "stft",
    errors=[
        (lambda: fx.stft(1.0, 4), fx.SizeError, "stft expects signals (..., time), got a single number"),
        (lambda: fx.stft(np.ones(4), 8), fx.SizeError, "stft expects more than 4 samples to mirror"),
        (lambda: fx.stft(np.ones(4), 8, centre=False), fx.SizeError, "stft expects at least n_fft=8 samples"),
        (lambda: fx.stft(np.ones(9), 8, window=np.ones(9)), fx.SizeError, "a window of 1 to n_fft=8 numbers"),
        (lambda: fx.stft(np.ones(9), 8, window=np.ones((2, 4))), fx.SizeError, "got an array of shape (2, 4)"),
        (lambda: fx.stft(np.ones(9), 0), ValueError, "n_fft takes an int of at least 1, got 0"),
        (lambda: fx.stft(np.ones(9), 8.0), ValueError, "n_fft takes an int of at least 1, got 8.0"),
        (lambda: fx.stft(np.ones(9), 8, hop=0), ValueError, "hop takes an int of at least 1, got 0"),
        (lambda: fx.stft(np.ones(9), 8, window="hann"), TypeError, "real numbers, such as fluxion.hann_window(8), got"),
        (lambda: fx.stft(np.ones(9), 8, window=1j * np.ones(8)), TypeError, "got an array of complex128"),
    ],
)
def stft(draw):
    n_fft = draw.choose(8, 5, 4)
    ours, theirs = options_of(draw, n_fft)
    return Sample(
        lambda: lambda x, w: real_pairs(fx.stft(x, n_fft, window=w, **ours)),
        draw.normal(2, n_fft + draw.size(9)),
        draw.uniform(0.5, 1, draw.choose(n_fft, n_fft - 1, 2)),
        reference=lambda p, x, w: real_pairs(torch.stft(x, **theirs_of(w, n_fft, **theirs)).mT),
        widens=True,
    )


@case("stft", label="complex")
def stft_complex(draw):
    n_fft = draw.choose(6, 5)
    ours, theirs = options_of(draw, n_fft)
    return Sample(
        lambda: lambda re, im: real_pairs(fx.stft(re + 1j * im, n_fft, **ours)),
        draw.normal(9),
        draw.normal(9),
        reference=lambda p, re, im: real_pairs(
            torch.stft(torch.complex(re, im), **theirs_of(None, n_fft, **theirs), onesided=False).mT
        ),
        widens=True,
    )


@case(
    "istft",
    errors=[
        (lambda: fx.istft(np.ones((3, 4)), 8), fx.SizeError, "istft expects an array of shape (..., frames, 5) for n_"),
        (lambda: fx.istft(np.ones(5), 8), fx.SizeError, "got one of shape (5,)"),
        (lambda: fx.istft(np.ones((3, 5)), 8, return_complex=True), fx.SizeError, "(..., frames, 8)"),
        (
            lambda: fx.istft(np.ones((3, 5)), 8, length=9),
            ValueError,
            "the 8 samples that frames cover, got 9",
        ),
        (lambda: fx.istft(np.ones((3, 5)), 8, hop=9, centre=False), ValueError, "2 of 26 samples are in no frame"),
        (
            lambda: fx.istft(np.ones((3, 5)), 8, window=fx.hann_window(8), centre=False),
            ValueError,
            "1 of 12 samples are in no frame or only where the window is 0",
        ),
    ],
)
def istft(draw):
    n_fft, frames = draw.choose(8, 5, 4), draw.size(4, 2)
    hop, normalised = draw.choose(None, 1, 2), draw.choose(False, True)
    centre, length = draw.choose(True, False), draw.choose(None, 3)
    ours = {"hop": hop, "centre": centre, "normalised": normalised, "length": length}
    theirs = {"hop_length": hop, "center": centre, "normalized": normalised, "length": length}
    shape = 2, frames, n_fft // 2 + 1
    return Sample(
        lambda: lambda re, im, w: fx.istft(re + 1j * im, n_fft, window=w, **ours),
        draw.normal(*shape),
        draw.normal(*shape),
        draw.uniform(0.5, 1, n_fft),
        reference=lambda p, re, im, w: torch.istft(torch.complex(re, im).mT, **theirs_of(w, n_fft, **theirs)),
        widens=True,
    )


@case(
    "spectrogram",
    errors=[
        (lambda: fx.spectrogram(np.ones(9), 8, power=0), ValueError, "power takes a number above 0, or None"),
        (lambda: fx.spectrogram(np.ones(4), 8), fx.SizeError, "samples to mirror"),
        (lambda: fx.spectrogram(np.ones(9), 8, pad=-1), ValueError, "pad_zeros takes as pad an int of at least 0"),
    ],
)
def spectrogram(draw):
    n_fft, pad, power = draw.choose(8, 5), draw.choose(0, 2), draw.choose(2.0, 1.0, 0.7, 4.0)
    given, by_norm = draw.choose(True, False), draw.choose(False, True)
    ours, theirs = options_of(draw, n_fft)

    def reference(p, x, w):
        w = w if given else torch.hann_window(n_fft, dtype=torch.float64)
        y = torch.stft(torch.nn.functional.pad(x, (pad, pad)), **theirs_of(w, n_fft, **theirs)).mT
        return (y.abs() / (w.norm() if by_norm else 1)) ** power

    options = {"pad": pad, "power": power, "window_normalised": by_norm, **ours}
    return Sample(
        lambda: lambda x, w: fx.spectrogram(x, n_fft, window=w if given else None, **options),
        draw.normal(2, 12),
        draw.uniform(0.5, 1, n_fft),
        reference=reference,
        widens=True,
        single=2e-3,  # gradients of small powers are large where the transform is small
    )


def mel_filters(n_freqs, n_mels, sample_rate, fmin, fmax):
    """Triangles over `n_mels + 2` points that are even in mel, by interpolation."""
    highest = sample_rate / 2 if fmax is None else fmax
    low, high = (2595 * np.log10(1 + f / 700) for f in (fmin, highest))
    points = 700 * (10 ** (np.linspace(low, high, n_mels + 2) / 2595) - 1)
    frequencies = np.linspace(0, sample_rate / 2, n_freqs)
    triangles = [np.interp(frequencies, points[j : j + 3], [0, 1, 0], 0, 0) for j in range(n_mels)]
    return np.stack(triangles, axis=1)


MEL_OPTIONS = ((129, 5, 8000, 0.0, None), (129, 3, 8000, 300.0, 2000.0), (1025, 20, 44101, 20.0, 20000.0))


@case(
    "melscale_filterbanks",
    errors=[
        (lambda: fx.melscale_filterbanks(0, 3, 8000), ValueError, "n_freqs takes an int of at least 1, got 0"),
        (lambda: fx.melscale_filterbanks(9, 1.5, 8000), ValueError, "n_mels takes an int of at least 1, got 1.5"),
        (lambda: fx.melscale_filterbanks(9, 3, 8000, fmin=4000), ValueError, "fmin takes a frequency from 0 to below"),
        (lambda: fx.melscale_filterbanks(9, 3, 8000, fmin=-1), ValueError, "got -1"),
        (lambda: fx.melscale_filterbanks(9, 3, 0), ValueError, "sample_rate takes a number above 0, got 0"),
        (lambda: fx.melscale_filterbanks(9, 3, "8000"), ValueError, "sample_rate takes a number above 0, got '8000'"),
    ],
)
def melscale_filterbanks(draw):
    *sizes, fmin, fmax = options = draw.choose(*MEL_OPTIONS)
    return Sample(
        lambda: lambda: fx.melscale_filterbanks(*sizes, fmin=fmin, fmax=fmax),
        expected=lambda p: mel_filters(*options),
        gradients=False,
    )


@case(
    "mel_spectrogram",
    errors=[
        (
            lambda: fx.mel_spectrogram(np.ones(300), 8000, 256, n_mels=3, power=None),
            ValueError,
            "above 0, got None",
        ),
        (
            lambda: fx.mel_spectrogram(np.ones(300), 8000, 256, n_mels=0),
            ValueError,
            "n_mels takes an int of at least 1",
        ),
        (lambda: fx.mel_spectrogram(1j * np.ones(300), 8000, 256), TypeError, "real signals, got complex64"),
        (lambda: fx.mel_spectrogram(1.0, 8000, 256), fx.SizeError, "mel_spectrogram expects signals (..., time)"),
    ],
)
def mel_spectrogram(draw):
    n_mels, power = draw.choose(3, 2), draw.choose(2.0, 1.0)
    n_fft, fmin, fmax = 32, 100, draw.choose(None, 3000)

    def reference(p, x):
        window = torch.hann_window(n_fft, dtype=torch.float64)
        y = torch.stft(x, **theirs_of(window, n_fft, return_complex=True)).mT
        return y.abs() ** power @ torch.tensor(mel_filters(n_fft // 2 + 1, n_mels, 8000, fmin, fmax))

    return Sample(
        lambda: lambda x: fx.mel_spectrogram(x, 8000, n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, power=power),
        draw.normal(2, 40),
        reference=reference,
        widens=True,
        halves=("float16",),
    )


@case(
    "power_to_db",
    errors=[
        (lambda: fx.power_to_db([1.0], amin=0.0), ValueError, "amin takes a number above 0, got 0.0"),
        (
            lambda: fx.power_to_db([1j]),
            TypeError,
            "power_to_db takes real numbers, such as abs(stft(x)) ** 2, got comp",
        ),
        (lambda: fx.power_to_db([1.0], top_db=-1), ValueError, "top_db takes a number of at least 0, or None, got -1"),
    ],
)
def power_to_db(draw):
    ref, amin, top_db = draw.choose(1.0, 3.0, 1e-12), draw.choose(1e-10, 0.5), draw.choose(80.0, 3.0, None)

    def reference(p, s):
        decibels = 10 * torch.log10(s.clamp(min=amin)) - 10 * np.log10(max(ref, amin))
        return decibels if top_db is None else torch.maximum(decibels, decibels.max() - top_db)

    return Sample(
        lambda: lambda s: fx.power_to_db(s, ref=ref, amin=amin, top_db=top_db),
        draw.distinct(3, 4) + 1.01,
        reference=reference,
    )


@case("db_to_power")
def db_to_power(draw):
    ref = draw.choose(1.0, 3.0)
    return Sample(
        lambda: lambda s: fx.db_to_power(s, ref=ref),
        5 * draw.normal(3, 4),
        reference=lambda p, s: ref * 10 ** (s / 10),
    )

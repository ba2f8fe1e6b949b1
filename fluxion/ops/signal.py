"""Signals and their short-time Fourier transforms: windows, spectrograms, mel filters and decibels.

A signal is `(..., time)`, its transform `(..., frames, frequencies)`.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import FluxionWarning, SizeError
from fluxion.ops.arrays import as_float, at_least_float32, is_concrete, match_rank
from fluxion.ops.pad import pad_reflect, pad_zeros
from fluxion.ops.transposed import linear
from fluxion.ops.windows import is_integer, size_of

VANISHING = 1e-11  # sums of squared windows up to which PyTorch, too, refuses to divide


def hann_window(n: int, *, periodic: bool = True) -> Array:
    """`1/2 - 1/2 cos(2 pi k / n)` for `k = 0, ..., n - 1`; with `periodic=False` divided by `n - 1`, symmetric.

    Flux and PyTorch: `hann_window`.

    >>> import fluxion as fx
    >>> fx.hann_window(4).tolist()
    [0.0, 0.5, 1.0, 0.5]
    """
    return _cosine_window("hann_window", n, periodic, 0.5, 0.5)


def hamming_window(n: int, *, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46) -> Array:
    """`alpha - beta cos(2 pi k / n)` for `k = 0, ..., n - 1`; with `periodic=False` divided by `n - 1`, symmetric.

    Flux and PyTorch: `hamming_window`.

    >>> import fluxion as fx
    >>> fx.hamming_window(2, alpha=0.75, beta=0.25).tolist()
    [0.5, 1.0]
    """
    return _cosine_window("hamming_window", n, periodic, alpha, beta)


def stft(
    x: Any,
    n_fft: int,
    *,
    hop: int | None = None,
    window: Any = None,
    centre: bool = True,
    normalised: bool = False,
) -> Array:
    """Short-time Fourier transform of signals `(..., time)`, as `(..., frames, frequencies)`, complex.

    `y[m, w] = sum over k of window[k] * x[m * hop + k] * exp(-2 pi i w k / n_fft)`, where `k` runs over `n_fft`
    samples. `window` is an array of up to `n_fft` numbers, put in the middle of as many zeros as are missing, or None
    for ones. `hop` is `n_fft // 4` by default. `centre` mirrors the signal at both ends, by `n_fft // 2`, so that frame
    `m` is centred at sample `m * hop`. `normalised` divides by `sqrt(n_fft)`. Real signals have the `n_fft // 2 + 1`
    frequencies that are not mirrored, complex ones all `n_fft`. Half precision is computed in float32.

    SizeError for a signal or a window that is too short or too long, ValueError for other sizes, TypeError for a window
    that holds no real numbers. PyTorch: `stft`, with frequencies before frames; Flux: `stft`, with time first.

    >>> import fluxion as fx
    >>> fx.stft(fx.ones(16), 16).shape
    (5, 9)
    """
    x = at_least_float32(_signal("stft", x))
    n_fft, hop, window = _frame_options("stft", n_fft, hop, window, x.dtype)
    if centre:
        if x.shape[-1] <= n_fft // 2:
            raise SizeError(f"stft expects more than {n_fft // 2} samples to mirror, got an array of shape {x.shape}")
        x = pad_reflect(x, n_fft // 2, axes=-1)
    if x.shape[-1] < n_fft:
        raise SizeError(f"stft expects at least n_fft={n_fft} samples, got an array of shape {x.shape}")
    frames = _windowed(linear(_cut, _overlap, x, n_fft, hop, x.shape[-1]), window)
    y = jnp.fft.fft(frames) if jnp.iscomplexobj(x) else jnp.fft.rfft(frames)
    return y / math.sqrt(n_fft) if normalised else y


def istft(
    y: Any,
    n_fft: int,
    *,
    hop: int | None = None,
    window: Any = None,
    centre: bool = True,
    normalised: bool = False,
    length: int | None = None,
    return_complex: bool = False,
) -> Array:
    """The signals `(..., time)` whose `stft` comes nearest to `y` of shape `(..., frames, frequencies)`.

    The least squares solution of Griffin and Lim 1984: frames times the window, added where they overlap, over the sum
    of the squared windows. The options are those that `stft` was given; `length` is the number of samples wanted, by
    default as many as the frames are sure to cover. `return_complex` is for the transform of a complex signal.

    SizeError for another number of frequencies; ValueError where the frames do not reach `length`, or where the windows
    vanish at some sample (of windows whose values are not known while JAX traces: such samples are 0). PyTorch:
    `istft`; Flux's `istft` reads each sample from one frame only.

    >>> import fluxion as fx
    >>> fx.istft(fx.stft(fx.ones(20), 8), 8).shape
    (20,)
    """
    y = jnp.asarray(y)
    y = y.astype(jnp.promote_types(y.dtype, jnp.complex64))
    real = jnp.finfo(y.dtype).dtype
    n_fft, hop, window = _frame_options("istft", n_fft, hop, window, real)
    frequencies = n_fft if return_complex else n_fft // 2 + 1
    if y.ndim < 2 or y.shape[-1] != frequencies or y.shape[-2] == 0:
        wanted = f"(..., frames, {frequencies}) for n_fft={n_fft}"
        raise SizeError(f"istft expects an array of shape {wanted}, got one of shape {y.shape}")
    start, stop = _kept(y.shape[-2], n_fft, hop, centre, length)
    frames = jnp.fft.ifft(y) if return_complex else jnp.fft.irfft(y, n=n_fft)
    total = (y.shape[-2] - 1) * hop + n_fft
    signal = linear(_overlap, _cut, _windowed(frames, window), n_fft, hop, total)[..., start:stop]
    signal = _divided(signal, _squares(window, y.shape[-2], hop)[start:stop])
    return signal * math.sqrt(n_fft) if normalised else signal


def spectrogram(
    x: Any,
    n_fft: int,
    *,
    pad: int = 0,
    hop: int | None = None,
    window: Any = None,
    centre: bool = True,
    power: float | None = 2.0,
    normalised: bool = False,
    window_normalised: bool = False,
) -> Array:
    """`abs(stft(x)) ** power` of signals `(..., time)`, as `(..., frames, frequencies)`, in float32 or wider.

    `power` is 2 for power, 1 for magnitude, and None for the complex transform itself. `pad` puts that many zeros at
    both ends first. `window` is `hann_window(n_fft)` by default; `window_normalised` divides the transform by the
    window's norm. The other options, and the errors, are those of `stft`. Where the transform is 0 the derivative
    counts as 0. Flux: `spectrogram`.

    >>> import fluxion as fx
    >>> fx.spectrogram(fx.ones(8, 16000), 512).shape
    (8, 126, 257)
    """
    if power is not None and not _positive(power):
        raise ValueError(f"power takes a number above 0, or None for the complex transform, got {power!r}")
    window = hann_window(n_fft) if window is None else window
    x = pad_zeros(_signal("spectrogram", x), pad, axes=-1)
    y = stft(x, n_fft, hop=hop, window=window, centre=centre, normalised=normalised)
    if window_normalised:
        y = y / jnp.linalg.norm(jnp.asarray(window, y.real.dtype))
    return y if power is None else _absolute_power(y, power)


def melscale_filterbanks(
    n_freqs: int, n_mels: int, sample_rate: float, *, fmin: float = 0.0, fmax: float | None = None
) -> Array:
    """Triangular filters that are evenly spaced on the mel scale, a matrix `(n_freqs, n_mels)`.

    Frequency `f` in hertz is `2595 log10(1 + f / 700)` mel (the scale of HTK). Filter `j` rises from 0 to 1 between
    points `j` and `j + 1` of `n_mels + 2` points from `fmin` to `fmax`, which is `sample_rate / 2` by default, and
    falls back to 0 at point `j + 2`. Row `i` belongs to frequency `i * sample_rate / 2 / (n_freqs - 1)`. Warns of
    filters that fall between all frequencies. Flux: `melscale_filterbanks`; torchaudio: `melscale_fbanks`.

    >>> import fluxion as fx
    >>> fx.melscale_filterbanks(257, 40, 16000).shape
    (257, 40)
    """
    for name, count in (("n_freqs", n_freqs), ("n_mels", n_mels)):
        size_of(count, name, "an int")
    if not _positive(sample_rate):
        raise ValueError(f"sample_rate takes a number above 0, got {sample_rate!r}")
    highest = sample_rate / 2 if fmax is None else fmax
    if not 0 <= fmin < highest:
        raise ValueError(f"fmin takes a frequency from 0 to below fmax={highest!r}, got {fmin!r}")
    mels = np.linspace(_to_mel(fmin), _to_mel(highest), n_mels + 2)
    points = 700 * (10 ** (mels / 2595) - 1)
    above, steps = np.linspace(0, sample_rate / 2, n_freqs)[:, None] - points, np.diff(points)
    banks = np.maximum(np.minimum(above[:, :-2] / steps[:-1], -above[:, 2:] / steps[1:]), 0)
    empty = int((banks.max(axis=0) == 0).sum())
    if empty:
        message = f"{empty} of {n_mels} mel filters fall between all {n_freqs} frequencies"
        warnings.warn(f"{message}; take fewer n_mels or more n_freqs", FluxionWarning, stacklevel=2)
    return jnp.asarray(banks, jnp.result_type(float))


def mel_spectrogram(
    x: Any,
    sample_rate: float,
    n_fft: int,
    *,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
    **options: Any,
) -> Array:
    """`spectrogram(x, n_fft, ...) @ melscale_filterbanks(...)`: `(..., time)` becomes `(..., frames, n_mels)`.

    `options` are those of `spectrogram`. TypeError for complex signals, whose spectrum has two sides. torchaudio:
    `MelSpectrogram`, whose hop is `n_fft // 2`.

    >>> import fluxion as fx
    >>> fx.mel_spectrogram(fx.ones(8, 16000), 16000, 512, n_mels=40).shape
    (8, 126, 40)
    """
    x = _signal("mel_spectrogram", x)
    if jnp.iscomplexobj(x):
        raise TypeError(f"mel_spectrogram takes real signals, got {x.dtype}")
    power = spectrogram(x, n_fft, **options)
    if jnp.iscomplexobj(power):
        raise ValueError("mel_spectrogram takes a power above 0, got None")
    banks = melscale_filterbanks(power.shape[-1], n_mels, sample_rate, fmin=fmin, fmax=fmax)
    return jnp.matmul(power, banks.astype(power.dtype), precision="highest")


def power_to_db(s: Any, *, ref: float = 1.0, amin: float = 1e-10, top_db: float | None = 80.0) -> Array:
    """Power in decibels: `10 log10(max(s, amin)) - 10 log10(max(ref, amin))`, and not below its maximum - `top_db`.

    `top_db=None` leaves that out. ValueError for an `amin` or `top_db` that makes no sense, TypeError for complex
    numbers. NNlib: `power_to_db`.

    >>> import fluxion as fx
    >>> fx.power_to_db([1.0, 100.0, 0.0]).tolist()
    [0.0, 20.0, -60.0]
    """
    if not _positive(amin):
        raise ValueError(f"amin takes a number above 0, got {amin!r}")
    if top_db is not None and is_concrete(top_db) and not top_db >= 0:
        raise ValueError(f"top_db takes a number of at least 0, or None, got {top_db!r}")
    s = as_float(s)
    if jnp.iscomplexobj(s):
        raise TypeError(f"power_to_db takes real numbers, such as abs(stft(x)) ** 2, got {s.dtype}")
    power, scale = jnp.maximum(at_least_float32(s), amin), jnp.log10(jnp.maximum(ref, amin))
    decibels = 10 * (jnp.log10(power) - scale)
    if top_db is not None:  # the largest of `power`, not of `decibels`, which compiled code may round in two ways
        decibels = jnp.maximum(decibels, 10 * (jnp.log10(power.max(initial=amin)) - scale) - top_db)
    return decibels.astype(s.dtype)


def db_to_power(db: Any, *, ref: float = 1.0) -> Array:
    """Decibels as power: `ref * 10 ** (db / 10)`, the inverse of `power_to_db` where that cuts nothing off.

    >>> import fluxion as fx
    >>> fx.db_to_power([0.0, 20.0]).tolist()
    [1.0, 100.0]
    """
    db = as_float(db)
    return (ref * 10 ** (at_least_float32(db) / 10)).astype(db.dtype)


# ------------------------------------------------------------------ frames


def _signal(name: str, x: Any) -> Array:
    x = as_float(x)
    if x.ndim == 0:
        raise SizeError(f"{name} expects signals (..., time), got a single number")
    return x


def _cut(x: Array, n_fft: int, hop: int, length: int) -> Array:
    """Frames of `n_fft` samples, one every `hop`: `(..., length)` becomes `(..., frames, n_fft)`."""
    starts = jnp.arange((length - n_fft) // hop + 1) * hop
    return jnp.take(x, starts[:, None] + jnp.arange(n_fft)[None, :], axis=-1, mode="clip")


def _overlap(frames: Array, n_fft: int, hop: int, length: int) -> Array:
    """The transpose of `_cut`: each sample is the sum over the frames that hold it."""
    count = frames.shape[-2]
    flat = frames.reshape(*frames.shape[:-2], count * n_fft)
    sample = jnp.arange(length)
    total = jnp.zeros((*frames.shape[:-2], length), frames.dtype)
    for back in range(-(-n_fft // hop)):
        frame = sample // hop - back
        place = sample - frame * hop
        held = (frame >= 0) & (frame < count) & (place < n_fft)
        taken = jnp.take(flat, frame * n_fft + place, axis=-1, mode="clip")
        total = total + jnp.where(held.reshape(*(1,) * (frames.ndim - 2), length), taken, jnp.zeros((), frames.dtype))
    return total


def _frame_options(name: str, n_fft: Any, hop: Any, window: Any, dtype: Any) -> tuple[int, int, Any]:
    """The sizes as ints, and the window as `n_fft` numbers, an array of NumPy where they are known."""
    hop = max(n_fft // 4, 1) if hop is None and is_integer(n_fft) else hop
    n_fft, hop = size_of(n_fft, "n_fft", "an int"), size_of(hop, "hop", "an int")
    known: Any = np if is_concrete(window) else jnp
    window = np.ones(n_fft) if window is None else known.asarray(window)
    if not jnp.issubdtype(window.dtype, jnp.number) or jnp.iscomplexobj(window):
        wanted = f"real numbers, such as fluxion.hann_window({n_fft})"
        raise TypeError(f"{name} takes as window {wanted}, got an array of {window.dtype}")
    if window.ndim != 1 or not 1 <= window.shape[0] <= n_fft:
        raise SizeError(f"{name} expects a window of 1 to n_fft={n_fft} numbers, got an array of shape {window.shape}")
    missing = n_fft - window.shape[0]
    window = known.pad(window, (missing // 2, missing - missing // 2))
    return n_fft, hop, window.astype(jnp.finfo(dtype).dtype)


def _kept(frames: int, n_fft: int, hop: int, centre: bool, length: Any) -> tuple[int, int]:
    """The first sample of the signal among those that the frames cover, and the one after its last."""
    total = (frames - 1) * hop + n_fft
    start = n_fft // 2 if centre else 0
    if length is None:
        return start, total - start
    if not is_integer(length) or not 1 <= length <= total - start:
        raise ValueError(f"length takes an int from 1 to the {total - start} samples that frames cover, got {length!r}")
    return start, start + length


def _windowed(frames: Array, window: Any) -> Array:
    return frames * match_rank(jnp.asarray(window), frames)


def _squares(window: Any, frames: int, hop: int) -> Any:
    """The squares of the windows of all frames, added where they overlap; an array of NumPy where they are known."""
    n_fft = window.shape[0]
    with jax.ensure_compile_time_eval() if is_concrete(window) else contextlib.nullcontext():
        squares = jnp.broadcast_to(jnp.asarray(window) ** 2, (frames, n_fft))
        total = _overlap(squares, n_fft, hop, (frames - 1) * hop + n_fft)
    return np.asarray(total) if is_concrete(total) else total


def _divided(signal: Array, weight: Any) -> Array:
    """`signal / weight`, and 0 where the weight vanishes; an error where it is known to."""
    reached = weight > VANISHING
    if is_concrete(weight) and not np.all(reached):
        missed = f"{int(np.sum(~reached))} of {weight.size} samples are in no frame or only where the window is 0"
        raise ValueError(f"istft needs windows that cover every sample; {missed}: take centre=True or a smaller hop")
    reached, weight = match_rank(reached, signal), match_rank(jnp.where(reached, weight, 1), signal)
    return jnp.where(reached, signal / weight, jnp.zeros((), signal.dtype))


# ------------------------------------------------------------------ formulas


def _cosine_window(name: str, n: Any, periodic: bool, alpha: float, beta: float) -> Array:
    if size_of(n, name, "an int") == 1:
        return jnp.ones(1)
    return alpha - beta * jnp.cos(2 * math.pi * jnp.arange(n) / (n if periodic else n - 1))


def _positive(number: Any) -> bool:
    """False for what is known to be no number above 0."""
    return not is_concrete(number) or (np.asarray(number).dtype.kind in "iuf" and bool(number > 0))


def _absolute_power(y: Array, power: float) -> Array:
    squares = y.real**2 + y.imag**2
    if is_concrete(power) and power == 2:  # has a second derivative at 0, too
        return squares
    some = squares > 0
    return jnp.where(some, jnp.where(some, squares, 1) ** (power / 2), 0)


def _to_mel(frequency: float) -> float:
    return 2595 * math.log10(1 + frequency / 700)

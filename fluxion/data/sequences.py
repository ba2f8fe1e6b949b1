"""Batches of sequences of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fluxion.data.arrays import as_array, rpad_constant, stack, unstack


def pad_sequences(sequences: Sequence[Any], value: Any = 0) -> tuple[Any, np.ndarray]:
    """One array of shape `(N, T, ...)` of `N` sequences of at most `T` entries, and their lengths.

    Sequences are arrays of shape `(length, ...)`; the shorter ones are filled up with `value` at the end. Empty ones
    have the type of the others. Layers for sequences take the lengths as `lengths=`. Raises ValueError for none, shapes
    that differ beyond the first axis, or a `value` that an array of integers cannot hold.

    >>> batch, lengths = pad_sequences([[1, 2, 3], [4]])
    >>> batch.tolist(), lengths.tolist()
    ([[1, 2, 3], [4, 0, 0]], [3, 1])
    """
    arrays = [as_array(sequence) for sequence in sequences]
    if not arrays:
        raise ValueError("pad_sequences needs at least one sequence, got none")
    for i, array in enumerate(arrays):
        if array.ndim == 0 or array.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(
                f"sequences have shapes (length, ...) that agree from the second axis on; "
                f"sequence 0 has shape {tuple(arrays[0].shape)}, sequence {i} has {tuple(array.shape)}"
            )
    lengths = np.array([len(array) for array in arrays], np.int32)
    some = next((array for array in arrays if len(array)), arrays[0])
    arrays = [array if len(array) else array.astype(some.dtype) for array in arrays]
    return stack([rpad_constant(array, int(lengths.max()), value, axis=0) for array in arrays]), lengths


def batch_sequence(sequences: Sequence[Any], pad: Any = 0) -> Any:
    """The array of `pad_sequences`, without the lengths (MLUtils: `batch_sequence`).

    >>> batch_sequence([[1, 2], [3]], pad=-1).tolist()
    [[1, 2], [3, -1]]
    """
    return pad_sequences(sequences, pad)[0]


def batchseq(sequences: Sequence[Any], pad: Any = 0) -> list[Any]:
    """A list of batches, one for each time step, of sequences filled up with `pad` (MLUtils: `batchseq`).

    >>> [step.tolist() for step in batchseq([[1, 2, 3], [4, 5]])]
    [[1, 4], [2, 5], [3, 0]]
    """
    return unstack(batch_sequence(sequences, pad), axis=1)

"""Cutting, stacking, scaling and sorting arrays of `fx.data`: against PyTorch."""

import torch
import torch.nn.functional as F
from harness import Sample, case

from fluxion import data


@case(
    "data.chunk",
    errors=[
        (lambda: data.chunk([1, 2]), TypeError, "chunk takes the number n of parts, their size= or a partition="),
        (lambda: data.chunk([1, 2], 2, size=1), TypeError, "chunk takes n or size= or partition=, not several"),
        (lambda: data.chunk([1, 2], 0), ValueError, "n must be at least 1, got 0"),
        (lambda: data.chunk([1, 2], size=0), ValueError, "size must be at least 1, got 0"),
        (lambda: data.chunk([1, 2], size=[1, 2]), ValueError, "add up to the 2 entries along axis 0, got [1, 2]"),
        (lambda: data.chunk([1, 2], partition=[1, 0]), ValueError, "from 0 on and in ascending order"),
        (lambda: data.chunk([1, 2], partition=[-1, 0]), ValueError, "from 0 on and in ascending order"),
        (lambda: data.chunk([1, 2], partition=[0]), ValueError, "one integer for each of 2 entries, got shape (1,)"),
        (lambda: data.chunk([1, 2], 1, partition=[0, 1]), ValueError, "n must be at least 2, got 1"),
    ],
)
def chunk(draw):
    axis, n, length = draw.choose(1, 0, -1), draw.size(3), draw.size(6)
    shape = [2, 3, 2]
    shape[axis] = length
    return Sample(
        lambda: lambda x: data.chunk(x, n, axis=axis),
        draw.normal(*shape),
        reference=lambda p, x: list(torch.chunk(x, n, dim=axis)),
    )


@case("data.chunk", label="by size")
def chunk_by_size(draw):
    size = draw.choose([1, 3], 3, [2, 0, 2], 1)
    return Sample(
        lambda: lambda x: data.chunk(x, size=size, axis=-1),
        draw.normal(2, 4),
        reference=lambda p, x: list(torch.split(x, size, dim=-1)),
    )


@case("data.chunk", label="by partition")
def chunk_by_partition(draw):
    partition, n, sizes = draw.choose(([0, 1, 1], None, [1, 2]), ([0, 0, 2], 4, [2, 0, 1, 0]))
    return Sample(
        lambda: lambda x: data.chunk(x, n, partition=partition),
        draw.normal(3, 2),
        reference=lambda p, x: list(torch.split(x, sizes)),
    )


@case("data.stack", errors=[(lambda: data.stack([[1], [1, 2]]), ValueError, "same shape")])
def stack(draw):
    axis = draw.choose(1, 0, -1)
    return Sample(
        lambda: lambda x, y: data.stack([x, y], axis),
        draw.normal(2, 3),
        draw.normal(2, 3),
        reference=lambda p, x, y: torch.stack([x, y], dim=axis),
    )


@case("data.unstack")
def unstack(draw):
    axis = draw.choose(1, 0, -1)
    return Sample(
        lambda: lambda x: data.unstack(x, axis),
        draw.normal(2, 3, 2),
        reference=lambda p, x: list(torch.unbind(x, dim=axis)),
    )


@case("data.unsqueeze", errors=[(lambda: data.unsqueeze([1, 2], axis=3), ValueError, "out of bounds")])
def unsqueeze(draw):
    axis = draw.choose(1, 0, -1)
    return Sample(
        lambda: lambda x: data.unsqueeze(x, axis),
        draw.normal(2, 3),
        reference=lambda p, x: torch.unsqueeze(x, axis),
    )


@case(
    "data.rpad_constant",
    errors=[
        (lambda: data.rpad_constant([1, 2], [3, 4]), ValueError, "one size, or one for each of 1 axes, got n=[3, 4")
    ],
)
def rpad_constant(draw):
    n, axis, widths = draw.choose((4, 1, (0, 1)), (3, None, (0, 0, 0, 1)), ((3, 5), (0, 1), (0, 2, 0, 1)))
    return Sample(
        lambda: lambda x: data.rpad_constant(x, n, 0.5, axis),
        draw.normal(2, 3),
        reference=lambda p, x: F.pad(x, widths, value=0.5),
    )


@case("data.normalise")
def normalise(draw):
    axis, eps = draw.choose(0, -1, (0, 1)), draw.choose(1e-5, 0.1)
    return Sample(
        lambda: lambda x: data.normalise(x, axis, eps),
        draw.normal(4, 3, 2),
        reference=lambda p, x: (x - x.mean(axis, True)) / (x.std(axis, correction=0, keepdim=True) + eps),
    )


@case("data.rescale")
def rescale(draw):
    axis, eps = draw.choose(0, -1, (0, 1)), draw.choose(1e-5, 0.1)
    return Sample(
        lambda: lambda x: data.rescale(x, axis, eps),
        draw.distinct(4, 3, 2),
        reference=lambda p, x: (x - x.amin(axis, True)) / (x.amax(axis, True) - x.amin(axis, True) + eps),
    )


@case(
    "data.topk",
    errors=[
        (lambda: data.topk([1, 2], 3), ValueError, "k must be from 1 to 2, got 3"),
        (lambda: data.topk([1, 2], 0), ValueError, "k must be from 1 to 2, got 0"),
    ],
)
def topk(draw):
    axis, largest, k = draw.choose(1, 0, -1), draw.choose(True, False), draw.choose(2, 1, 3)
    return Sample(
        lambda: lambda x: data.topk(x, k, axis, largest)[0],
        draw.distinct(3, 4, 3),
        reference=lambda p, x: torch.topk(x, k, dim=axis, largest=largest).values,
    )


@case(
    "data.batched_searchsorted",
    errors=[
        (
            lambda: data.batched_searchsorted([1], [2], "first"),
            ValueError,
            'side="left" or side="right", got \'first\'',
        ),
        (lambda: data.batched_searchsorted([[1]], [2]), ValueError, "got batches of shape (1,) and ()"),
    ],
)
def batched_searchsorted(draw):
    side = draw.choose("left", "right")
    ordered, x = draw.integers(0, 5, 2, 4).astype(float), draw.integers(-1, 6, 2, 3).astype(float)
    ordered.sort(-1)
    return Sample(
        lambda: lambda ordered, x: data.batched_searchsorted(ordered, x, side),
        ordered,
        x,
        reference=lambda p, ordered, x: torch.searchsorted(ordered, x, side=side),
        gradients=False,
        vmap=False,  # which reverses the sorted entries
    )


@case("data.pad_sequences", "data.batch_sequence")
def pad_sequences(draw):
    lengths = [draw.size(3) for _ in range(3)]
    return Sample(
        lambda: lambda *xs: data.pad_sequences(xs)[0],
        *(draw.normal(length, 2) for length in lengths),
        reference=lambda p, *xs: torch.nn.utils.rnn.pad_sequence(xs, batch_first=True),
    )

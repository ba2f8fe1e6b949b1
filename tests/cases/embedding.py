"""Embedding and EmbeddingBag: against PyTorch."""

import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from harness import Sample, case

import fluxion as fx

REDUCTIONS = {"mean": torch.mean, "sum": torch.sum, "max": torch.amax}


@case(
    "Embedding",
    errors=[
        (lambda: fx.Embedding(0, 5), ValueError, "Embedding takes sizes that are ints of at least 1, got 0"),
        (
            lambda: fx.Embedding(10, 5, padding_idx=10),
            ValueError,
            "Embedding takes as padding_idx an int from 0 to 9, got 10",
        ),
        (
            lambda: fx.Embedding.from_arrays(np.ones(3)),
            ValueError,
            "Embedding takes a weight of shape (vocabulary, size), got an array of shape (3,)",
        ),
        (lambda: fx.Embedding(4, 3)([0, 4]), IndexError, "Embedding(4, 3) expects indices from 0 to 3, got 4"),
        (lambda: fx.Embedding(4, 3)(-1), IndexError, "Embedding(4, 3) expects indices from 0 to 3, got -1"),
        (
            lambda: fx.Embedding(4, 3)([1.0]),
            TypeError,
            "Embedding(4, 3) expects integers as indices, got an array of float32; write .astype(int)",
        ),
        (
            lambda: fx.Embedding(4, 3)(fx.onehotbatch([0, 1], range(5))),
            fx.SizeError,
            "Embedding(4, 3) expects 4 labels (last axis), got an array of shape (2, 5)",
        ),
    ],
)
def embedding(draw):
    vocabulary, size = draw.size(5, 2), draw.size()
    padding = draw.choose(None, 1)
    tokens = draw.integers(0, vocabulary, *draw.choose((2, 3), (4,), ()))
    return Sample(
        lambda: fx.Embedding(vocabulary, size, padding_idx=padding),
        tokens,
        reference=lambda p, x: F.embedding(x, p["weight"], padding_idx=padding),
    )


@case("Embedding", label="one-hot")
def embedding_of_labels(draw):
    padding, dense = draw.choose(0, None), draw.choose(True, False)
    tokens = draw.integers(0, 4, 2, 3)
    hot = fx.onehotbatch(tokens, range(4))
    hot = np.asarray(hot) if dense else hot
    layer = fx.Embedding(4, 3, padding_idx=padding)
    return Sample(
        lambda: lambda w: fx.Embedding.from_arrays(w, padding_idx=padding)(hot),
        np.asarray(layer.weight, float),
        reference=lambda p, w: F.embedding(torch.tensor(tokens), w, padding_idx=padding),
    )


BAD_OFFSETS = "EmbeddingBag(4, 3) expects integers as offsets that start with 0, do not decrease, and are at most 3"


@case(
    "EmbeddingBag",
    errors=[
        (
            lambda: fx.EmbeddingBag(4, 3, "median"),
            ValueError,
            'EmbeddingBag takes the reduction "mean", "sum", "max" or a function, got \'median\'',
        ),
        (
            lambda: fx.EmbeddingBag(4, 3, jnp.median, padding_idx=0),
            ValueError,
            'EmbeddingBag takes a padding_idx with the reductions "mean", "sum" and "max" only',
        ),
        (
            lambda: fx.EmbeddingBag(4, 3)(1),
            fx.SizeError,
            "EmbeddingBag(4, 3) expects bags of indices, got a single one; Embedding takes those",
        ),
        (lambda: fx.EmbeddingBag(4, 3)([[1, 4]]), IndexError, "EmbeddingBag(4, 3) expects indices from 0 to 3, got 4"),
        (
            lambda: fx.EmbeddingBag(4, 3)([1, 2], weights=[1.0, 2.0]),
            ValueError,
            'EmbeddingBag(4, 3) has no use for weights; they go with the reduction "sum"',
        ),
        (
            lambda: fx.EmbeddingBag(4, 3, "sum")([1, 2], weights=[1.0]),
            fx.SizeError,
            "EmbeddingBag(4, 3, 'sum') expects a weight for each index, of shape (2,), got an array of shape (1,)",
        ),
        (lambda: fx.EmbeddingBag(4, 3)([1, 2, 3], [1, 2]), ValueError, f"{BAD_OFFSETS}, the number of indices"),
        (lambda: fx.EmbeddingBag(4, 3)([1, 2, 3], [0, 2, 1]), ValueError, BAD_OFFSETS),
        (lambda: fx.EmbeddingBag(4, 3)([1, 2, 3], [0, 4]), ValueError, BAD_OFFSETS),
        (lambda: fx.EmbeddingBag(4, 3)([1, 2, 3], []), ValueError, BAD_OFFSETS),
        (lambda: fx.EmbeddingBag(4, 3, ["sum"]), ValueError, "EmbeddingBag takes the reduction"),
        (
            lambda: fx.EmbeddingBag(4, 3, "sum")([[1], [2, 3]], weights=[[1.0, 2.0], [3.0]]),
            fx.SizeError,
            "EmbeddingBag(4, 3, 'sum') expects a list of weights for bags of [1, 2] indices, got [2, 1]",
        ),
        (
            lambda: fx.EmbeddingBag(4, 3)([1, 2, 3], np.array([0.0])),
            TypeError,
            "EmbeddingBag(4, 3) expects integers as offsets, got an array of float64; write .astype(int)",
        ),
        (
            lambda: fx.EmbeddingBag(4, 3)([[1, 2, 3]], [0]),
            fx.SizeError,
            "EmbeddingBag(4, 3) expects integers as offsets, one for each bag, and all indices along one axis, got",
        ),
    ],
)
def embedding_bag(draw):
    mode, padding = draw.choose(*REDUCTIONS), draw.choose(2, None)
    tokens = draw.integers(0, 5, 3, draw.size())
    return Sample(
        lambda: fx.EmbeddingBag(5, 2, mode, padding_idx=padding),
        tokens,
        reference=lambda p, x: F.embedding_bag(x, p["weight"], mode=mode, padding_idx=padding),
    )


@case("EmbeddingBag", label="offsets")
def embedding_bag_with_offsets(draw):
    mode, padding = draw.choose("max", "mean", "sum"), draw.choose(None, 2)
    tokens, starts = draw.integers(0, 5, 6), np.array(draw.choose([0, 1, 1, 4], [0], [0, 6]))
    return Sample(
        lambda: fx.EmbeddingBag(5, 2, mode, padding_idx=padding),
        tokens,
        starts,
        reference=lambda p, x, o: F.embedding_bag(x, p["weight"], o, mode=mode, padding_idx=padding),
    )


@case("EmbeddingBag", label="weights")
def embedding_bag_with_weights(draw):
    tokens, starts = draw.integers(0, 5, 6), np.array([0, 1, 1, 4])
    return Sample(
        lambda: lambda table, w: fx.EmbeddingBag.from_arrays(table, "sum")(tokens, starts, weights=w),
        draw.normal(5, 2),
        draw.normal(6),
        reference=lambda p, table, w: F.embedding_bag(
            torch.tensor(tokens), table, torch.tensor(starts), mode="sum", per_sample_weights=w
        ),
    )

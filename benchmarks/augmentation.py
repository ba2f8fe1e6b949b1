"""Flip, rotation, crop and colour jitter of a batch of images, beside torchvision's transforms (v2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import attempt, peer
from benchmarks.table import Table, of_contenders, ratio
from benchmarks.timing import Contender, race
from fluxion.data.transforms import ColorJitter, FlipX, RandomCrop, Rotate

COUNT, SIZE, CROP = 128, 256, 224
LEAST = 3.0  # times as fast as torchvision


def ours(x: np.ndarray) -> list[Contender]:
    """The pipeline compiled, and by NumPy."""
    augment = FlipX(0.5) | Rotate(-20, 20) | RandomCrop(CROP) | ColorJitter(0.4, 0.4, 0.4, 0.1)
    device = jnp.asarray(x)
    return [
        Contender("Fluxion, compiled", lambda: jax.block_until_ready(augment(device))),
        Contender("Fluxion, NumPy", lambda: augment(x)),
    ]


def theirs(torch: Any, v2: Any, x: np.ndarray) -> list[Contender]:
    """The same with numbers of its own for each image, as in a Dataset, and with one set of numbers for the batch."""
    augment = v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomRotation(20, interpolation=v2.InterpolationMode.BILINEAR),
            v2.RandomCrop(CROP),
            v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
        ]
    )
    batch = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()
    runs: dict[str, Callable[[], Any]] = {
        "torchvision, each image": lambda: torch.stack([augment(image) for image in batch]),
        "torchvision, whole batch": lambda: augment(batch),
    }
    return [Contender(name, run) for name, run in runs.items()]


def vision(torch: Any) -> Any:
    """torchvision.transforms.v2, which is Python: the operators in C++ that it does without may be missing."""
    with mock.patch.object(torch.library, "register_fake", lambda *_, **__: lambda function: function):
        from torchvision.transforms import v2

    return v2


def run() -> Table:
    """Times all ways in turns."""
    x = np.random.default_rng(0).random((COUNT, SIZE, SIZE, 3), dtype=np.float32)
    mine, torch = ours(x), peer("torch")
    v2 = attempt("torchvision", lambda: vision(torch)) if torch else None
    others = theirs(torch, v2, x) if v2 else []
    race([*mine, *others], rounds=20, seconds=120, warm=2)
    title = (
        f"Augmentation: {COUNT} images of {SIZE} x {SIZE} x 3 flipped, turned, cut to {CROP} x {CROP}, colours changed"
    )
    table = of_contenders(title, [*mine, *others], mine[0])
    table.targets += [ratio(other, mine[0], LEAST, at_least=True) for other in others]
    return table

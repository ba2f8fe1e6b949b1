"""Transforms of batches that are split over two devices, by axes of a mesh that types tell of and by others."""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import numpy as np

import fluxion as fx
from fluxion.data.transforms import ColorJitter, Equalise, FlipX, MixUp, OneOf, Rotate

draws = np.random.default_rng(0)
data = draws.random((8, 12, 10, 3), np.float32), np.arange(8) % 3
for kind in (jax.sharding.AxisType.Explicit, jax.sharding.AxisType.Auto):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    for transform in (
        FlipX(0.5) | Rotate(-20, 20) | ColorJitter(0.2, 0.2),
        OneOf([Rotate(5), Equalise()]),
        MixUp(0.2, classes=3),
    ):
        loaders = [fx.DataLoader(data, 4, seed=0, transform=transform, device=device) for device in (split, None)]
        for batch, whole in zip(*loaders, strict=True):
            for array, expected in zip(batch, whole, strict=True):
                assert array.sharding.is_equivalent_to(split, array.ndim), transform
                np.testing.assert_allclose(array, expected, atol=1e-5)
    print(kind.name)

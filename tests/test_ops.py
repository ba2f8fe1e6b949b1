"""Functions on arrays, against PyTorch and finite differences."""

import jax.numpy as jnp
import pytest
import torch.nn.functional as F
from harness import check_layer, numbers

import fluxion as fx


def test_normalise():
    check_layer(lambda: fx.normalise, numbers(3, 5), reference=lambda p, x: F.layer_norm(x, (5,)))
    check_layer(
        lambda: lambda x: fx.normalise(x, axis=(0, 2), eps=1e-3),
        numbers(3, 2, 4),
        reference=lambda p, x: F.batch_norm(x, None, None, training=True, eps=1e-3),
    )


def test_flatten_runs_over_channels_fastest():
    x = jnp.arange(12).reshape(2, 3, 2)
    assert fx.flatten(x).tolist() == [list(range(6)), list(range(6, 12))]
    assert fx.flatten(jnp.ones(3)).shape == (3, 1) and fx.flatten(jnp.ones((0, 2, 2))).shape == (0, 4)
    with pytest.raises(ValueError, match="flatten keeps the batch axis and needs an array that has one"):
        fx.flatten(1.0)

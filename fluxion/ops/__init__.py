"""Functions on arrays."""

from fluxion.ops.activations import (
    gelu,
    identity,
    leakyrelu,
    logsoftmax,
    relu,
    sigmoid,
    softmax,
    softplus,
    swish,
    tanh,
)
from fluxion.ops.conv import conv
from fluxion.ops.norm import normalise
from fluxion.ops.pool import adaptive_mean_pool, global_max_pool, global_mean_pool, max_pool, mean_pool
from fluxion.ops.shape import flatten

__all__ = [
    "adaptive_mean_pool",
    "conv",
    "flatten",
    "gelu",
    "global_max_pool",
    "global_mean_pool",
    "identity",
    "leakyrelu",
    "logsoftmax",
    "max_pool",
    "mean_pool",
    "normalise",
    "relu",
    "sigmoid",
    "softmax",
    "softplus",
    "swish",
    "tanh",
]

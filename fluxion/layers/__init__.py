"""Objects that hold arrays and call functions on them."""

from fluxion.layers.base import Layer
from fluxion.layers.basic import Dense, Dropout, Embedding, Scale
from fluxion.layers.containers import Chain, Parallel, SkipConnection, activations
from fluxion.layers.conv import Conv
from fluxion.layers.modes import testmode, trainmode
from fluxion.layers.norm import BatchNorm, LayerNorm
from fluxion.layers.pool import AdaptiveMeanPool, GlobalMaxPool, GlobalMeanPool, MaxPool, MeanPool

__all__ = [
    "AdaptiveMeanPool",
    "BatchNorm",
    "Chain",
    "Conv",
    "Dense",
    "Dropout",
    "Embedding",
    "GlobalMaxPool",
    "GlobalMeanPool",
    "Layer",
    "LayerNorm",
    "MaxPool",
    "MeanPool",
    "Parallel",
    "Scale",
    "SkipConnection",
    "activations",
    "testmode",
    "trainmode",
]

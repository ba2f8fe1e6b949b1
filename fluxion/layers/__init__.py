"""Objects that hold arrays and call functions on them."""

from fluxion.layers.attention import KVCache, MultiHeadAttention
from fluxion.layers.base import Layer
from fluxion.layers.basic import Bilinear, Dense, Scale
from fluxion.layers.cells import GRUCell, GRUv3Cell, LSTMCell, RNNCell, initialstates
from fluxion.layers.containers import Chain, Maxout, PairwiseFusion, Parallel, SkipConnection, activations, modules
from fluxion.layers.conv import Conv, ConvTranspose, CrossCor, DepthwiseConv
from fluxion.layers.dropout import AlphaDropout, Dropout, StochasticDepth
from fluxion.layers.embedding import Embedding, EmbeddingBag
from fluxion.layers.fold import Fold, Unfold
from fluxion.layers.modes import testmode, trainmode
from fluxion.layers.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm, hasaffine
from fluxion.layers.pool import (
    AdaptiveMaxPool,
    AdaptiveMeanPool,
    GlobalMaxPool,
    GlobalMeanPool,
    LPPool,
    MaxPool,
    MeanPool,
)
from fluxion.layers.recurrent import GRU, LSTM, RNN, Bidirectional, GRUv3, Recurrence
from fluxion.layers.resize import PixelShuffle, Upsample
from fluxion.layers.transformer import (
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)
from fluxion.layers.weightnorm import WeightNorm, remove_weight_norms

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveMaxPool",
    "AdaptiveMeanPool",
    "AlphaDropout",
    "BatchNorm",
    "Bidirectional",
    "Bilinear",
    "Chain",
    "Conv",
    "ConvTranspose",
    "CrossCor",
    "Dense",
    "DepthwiseConv",
    "Dropout",
    "Embedding",
    "EmbeddingBag",
    "Fold",
    "GRUCell",
    "GRUv3",
    "GRUv3Cell",
    "GlobalMaxPool",
    "GlobalMeanPool",
    "GroupNorm",
    "InstanceNorm",
    "KVCache",
    "LPPool",
    "LSTMCell",
    "Layer",
    "LayerNorm",
    "MaxPool",
    "Maxout",
    "MeanPool",
    "MultiHeadAttention",
    "PairwiseFusion",
    "Parallel",
    "PixelShuffle",
    "RMSNorm",
    "RNNCell",
    "Recurrence",
    "Scale",
    "SkipConnection",
    "StochasticDepth",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "Unfold",
    "Upsample",
    "WeightNorm",
    "activations",
    "hasaffine",
    "initialstates",
    "modules",
    "remove_weight_norms",
    "testmode",
    "trainmode",
]

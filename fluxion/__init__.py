"""Fluxion: any Python callable is a model, and it trains as one compiled program."""

from fluxion import data, random, tree
from fluxion._cache import enable_disk_cache
from fluxion.compile import compile, eager, explain
from fluxion.data import DataLoader
from fluxion.derivatives import (
    checkpointed,
    derivative,
    diaghessian,
    hessian,
    ignore_derivatives,
    jacobian,
    pullback,
    pushforward,
    rrule,
)
from fluxion.device import bf16, cpu, device, f16, f32, f64, gpu
from fluxion.errors import (
    CaptureError,
    EagerNotice,
    FluxionWarning,
    NonFiniteLossError,
    RecompileWarning,
    SizeError,
)
from fluxion.gradient import gradient, withgradient
from fluxion.init import (
    glorot_normal,
    glorot_uniform,
    identity_init,
    kaiming_normal,
    kaiming_uniform,
    lecun_normal,
    normal,
    ones,
    orthogonal,
    truncated_normal,
    zeros,
)
from fluxion.layers import (
    AdaptiveMeanPool,
    BatchNorm,
    Chain,
    Conv,
    Dense,
    Dropout,
    Embedding,
    GlobalMaxPool,
    GlobalMeanPool,
    Layer,
    LayerNorm,
    MaxPool,
    MeanPool,
    Parallel,
    Scale,
    SkipConnection,
    activations,
    testmode,
    trainmode,
)
from fluxion.losses import (
    binarycrossentropy,
    crossentropy,
    logitbinarycrossentropy,
    logitcrossentropy,
    mae,
    mse,
)
from fluxion.onehot import OneHotArray, onecold, onehot, onehotbatch
from fluxion.ops import (
    adaptive_mean_pool,
    conv,
    flatten,
    gelu,
    global_max_pool,
    global_mean_pool,
    identity,
    leakyrelu,
    logsoftmax,
    max_pool,
    mean_pool,
    normalise,
    relu,
    sigmoid,
    softmax,
    softplus,
    swish,
    tanh,
)
from fluxion.optimise import (
    Adam,
    AdamW,
    ClipGrad,
    ClipNorm,
    Descent,
    Momentum,
    Nesterov,
    OptimiserChain,
    RMSProp,
    WeightDecay,
    adjust,
    setup,
    update,
)
from fluxion.outputsize import outputsize
from fluxion.random import seed
from fluxion.show import show
from fluxion.train import train, trainstep, trainstep_withgradient
from fluxion.tree import (
    children,
    destructure,
    fmap,
    freeze,
    leaves,
    params_count,
    thaw,
    trainables,
)

__version__ = "0.1.0"
__all__ = [name for name in dir() if not name.startswith("_") and name not in ("annotations", "enable_disk_cache")]

enable_disk_cache()

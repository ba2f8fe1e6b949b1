"""Normalisation layers and functions, and weight normalisation: against PyTorch."""

import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from harness import Sample, case, fill

import fluxion as fx


def first(x):
    """Channels, which are last in Fluxion, as the second axis."""
    return x.movedim(-1, 1)


def last(x):
    return x.movedim(1, -1)


def image(draw, channels, batch=2, least=0):
    """An array (batch, ..., channels) with `least` to 2 axes in the middle."""
    between = [3, draw.size(3, least=2)][: draw.choose(*range(2, least - 1, -1))]
    return draw.normal(batch, *between, channels)


def torch_batch_norm(p, x, training, eps):
    running = [p[name].clone() if name in p else None for name in ("mean", "var")]
    return last(F.batch_norm(first(x), *running, p.get("scale"), p.get("bias"), training or "mean" not in p, 0.1, eps))


def torch_instance_norm(p, x, training, eps):
    running = [p[name].clone() if name in p else None for name in ("mean", "var")]
    own = training or "mean" not in p
    return last(F.instance_norm(first(x), *running, p.get("scale"), p.get("bias"), own, 0.1, eps))


CHANNEL_ERRORS = [
    ((2, 4, 5), "expects 3 channels (last axis), got an array of shape (2, 4, 5)"),
    ((1, 1, 3), "expects more than one value per channel to take statistics of, got an array of shape (1, 1, 3)"),
]


def channel_errors(name):
    make = getattr(fx, name)
    refused = [
        (lambda shape=shape: make(3, active=True)(np.ones(shape)), fx.SizeError, f"{name}(3, active=True) {text}")
        for shape, text in CHANNEL_ERRORS
    ]
    return [
        *refused,
        (lambda: make(3.0), ValueError, f"{name} takes sizes that are ints of at least 1, got 3.0"),
        (lambda: make(3, "relu"), TypeError, f"{name} takes a function as its activation"),
        (lambda: make(3, active="on"), ValueError, f"{name} takes active=True, False, None or \"auto\", got 'on'"),
        (lambda: make(3, eps=None), ValueError, f"{name} takes as eps a number of at least 0, got None"),
        (lambda: make(3, momentum=None), ValueError, f"{name} takes as momentum a number from 0 to 1, got None"),
        (lambda: make(3, momentum=1.1), ValueError, "got 1.1"),
    ]


@case("BatchNorm", errors=channel_errors("BatchNorm"))
def batch_norm(draw):
    affine, track, eps = draw.choose(True, False), draw.choose(True, False), draw.choose(1e-5, 0.1)
    training, channels = draw.choose(False, True), draw.size(3)
    return Sample(
        lambda: fill(fx.BatchNorm(channels, fx.tanh, affine=affine, track_stats=track, eps=eps)),
        image(draw, channels, batch=3),
        reference=lambda p, x: torch.tanh(torch_batch_norm(p, x, training, eps)),
        training=training,
    )


@case("BatchNorm", "batchnorm", label="while training")
def batch_norm_training(draw):
    return Sample(
        lambda: fill(fx.BatchNorm(2)),
        draw.normal(5, 2),
        reference=lambda p, x: torch_batch_norm(p, x, True, 1e-5),
        training=True,
    )


@case(
    "InstanceNorm",
    "instancenorm",
    errors=[
        *channel_errors("InstanceNorm"),
        (
            lambda: fx.InstanceNorm(3)(np.ones((2, 3))),
            fx.SizeError,
            "InstanceNorm(3) expects at least 3 axes, as (batch, height, width, channels), got an array of shape (2, 3",
        ),
    ],
)
def instance_norm(draw):
    affine, track, eps = draw.choose(True, False), draw.choose(False, True), draw.choose(1e-5, 0.1)
    training, channels = draw.choose(False, True), draw.size(3)
    return Sample(
        lambda: fill(fx.InstanceNorm(channels, fx.tanh, affine=affine, track_stats=track, eps=eps)),
        image(draw, channels, least=1),
        reference=lambda p, x: torch.tanh(torch_instance_norm(p, x, training, eps)),
        training=training,
    )


@case(
    "GroupNorm",
    "groupnorm",
    errors=[
        (lambda: fx.GroupNorm(10, 3), ValueError, "GroupNorm has 10 channels; groups=3 must divide them"),
        (lambda: fx.GroupNorm(10, 0), ValueError, "GroupNorm takes sizes that are ints of at least 1, got 0"),
        (lambda: fx.GroupNorm(10, 2, eps=-1.0), ValueError, "GroupNorm takes as eps a number of at least 0, got -1.0"),
        (
            lambda: fx.groupnorm(np.ones((2, 4)), 2.0),
            ValueError,
            "groupnorm takes as groups an int of at least 1, got 2",
        ),
        (
            lambda: fx.groupnorm(np.ones((2, 4)), 2, np.ones(1)),
            fx.SizeError,
            "groupnorm expects scale of shape (4,), got an array of shape (1,)",
        ),
        (
            lambda: fx.GroupNorm(4, 2)(np.ones((2, 3))),
            fx.SizeError,
            "GroupNorm(4, 2) expects 4 channels (last axis), got an array of shape (2, 3)",
        ),
        (
            lambda: fx.GroupNorm(4, 2)(np.ones(4)),
            fx.SizeError,
            "GroupNorm(4, 2) expects axes (batch, ..., channels), with channels that 2 groups divide, "
            "got an array of shape (4,)",
        ),
    ],
)
def group_norm(draw):
    groups = draw.choose(2, 1, 3)
    channels, affine, eps = groups * draw.size(3), draw.choose(True, False), draw.choose(1e-5, 0.1)
    return Sample(
        lambda: fill(fx.GroupNorm(channels, groups, fx.tanh, affine=affine, eps=eps)),
        image(draw, channels, least=1),
        reference=lambda p, x: torch.tanh(last(F.group_norm(first(x), groups, p.get("scale"), p.get("bias"), eps))),
    )


@case(
    "LayerNorm",
    "layernorm",
    errors=[
        (
            fx.LayerNorm,
            ValueError,
            "LayerNorm takes the sizes of the last axes of its input, as LayerNorm(10), got none",
        ),
        (lambda: fx.LayerNorm(2.0), ValueError, "LayerNorm takes sizes that are ints of at least 1, got 2.0"),
        (
            lambda: fx.LayerNorm(8)(np.ones((2, 3))),
            fx.SizeError,
            "LayerNorm(8) expects last axes of sizes (8,), got an array of shape (2, 3)",
        ),
        (
            lambda: fx.layernorm(np.ones((2, 3)), np.ones(2)),
            fx.SizeError,
            "layernorm expects scale and bias of shape (3,), got an array of shape (2,)",
        ),
        (
            lambda: fx.layernorm(np.ones(3), axes=2),
            fx.SizeError,
            "layernorm expects an array with at least 2 axes, got one of shape (3,)",
        ),
    ],
)
def layer_norm(draw):
    size = draw.choose((5,), (2, 3), (2, 1, 2))
    affine, eps = draw.choose(True, False), draw.choose(1e-5, 0.1)
    return Sample(
        lambda: fill(fx.LayerNorm(*size, activation=fx.tanh, affine=affine, eps=eps)),
        draw.normal(*draw.choose((3,), (), (2, 2)), *size),
        reference=lambda p, x: torch.tanh(F.layer_norm(x, size, p.get("scale"), p.get("bias"), eps)),
    )


@case(
    "RMSNorm",
    "rmsnorm",
    errors=[
        (fx.RMSNorm, ValueError, "RMSNorm takes the sizes of the last axes of its input, as RMSNorm(10), got none"),
        (
            lambda: fx.RMSNorm(8)(np.ones((2, 3))),
            fx.SizeError,
            "RMSNorm(8) expects last axes of sizes (8,), got an array of shape (2, 3)",
        ),
    ],
)
def rms_norm(draw):
    size = draw.choose((5,), (2, 3), (2, 1, 2))
    affine, eps = draw.choose(True, False), draw.choose(1e-3, 0.1)
    return Sample(
        lambda: fill(fx.RMSNorm(*size, affine=affine, eps=eps)),
        draw.normal(*draw.choose((3,), (), (2, 2)), *size),
        reference=lambda p, x: F.rms_norm(x, size, p.get("scale"), eps),
    )


@case("normalise")
def normalise(draw):
    axis, eps = draw.choose(-1, 1, (0, 2), None), draw.choose(1e-5, 0.1)

    def reference(p, x):
        axes = tuple(range(x.ndim)) if axis is None else axis
        mean, var = x.mean(axes, keepdim=True), x.var(axes, keepdim=True, correction=0)
        return (x - mean) / torch.sqrt(var + eps)

    return Sample(lambda: lambda x: fx.normalise(x, axis, eps), draw.normal(2, 3, 4), reference=reference)


def torch_weight_norm(p, axes):
    v = p["layer.weight"]
    return p["g"] * v / torch.linalg.vector_norm(v, dim=axes, keepdim=True)


@case(
    "WeightNorm",
    errors=[
        (
            lambda: fx.WeightNorm(fx.Dense(2, 3), "scale"),
            ValueError,
            "Dense(2, 3) has no array in a field 'scale'; it has weight, bias",
        ),
        (lambda: fx.WeightNorm(fx.relu), ValueError, "relu has no array in a field 'weight'; it has none"),
        (
            lambda: fx.WeightNorm(fx.Dense(2, 3), "bias"),
            ValueError,
            "bias of Dense(2, 3) is all zero, which has no direction: g * v / ||v|| would be NaN",
        ),
        (
            lambda: fx.WeightNorm(fx.Dense(2, 3), axes=2),
            ValueError,
            "WeightNorm takes axes of its weight, which has 2, got axes=2",
        ),
        (lambda: fx.WeightNorm(fx.Dense(2, 3), axes=()), ValueError, "which has 2, got axes=()"),
        (lambda: fx.WeightNorm(fx.Dense(2, 3), axes="0"), ValueError, "which has 2, got axes='0'"),
        (
            lambda: fx.Chain(fx.WeightNorm(fx.Dense(2, 3)))(np.ones(3)),
            fx.SizeError,
            "Dense(2, 3) expects 2 input features (last axis), got an array of shape (3,)\n  in model.layers[0].layer",
        ),
    ],
)
def weight_norm(draw):
    axes, inputs = draw.choose(None, 0, 1, (0, 1)), draw.size(3)
    return Sample(
        lambda: fill(fx.WeightNorm(fx.Dense(inputs, 2, fx.tanh), axes=axes)),
        draw.normal(3, inputs),
        reference=lambda p, x: torch.tanh(x @ torch_weight_norm(p, 0 if axes is None else axes) + p["layer.bias"]),
    )


@case("WeightNorm", label="of a Conv")
def weight_norm_of_conv(draw):
    def reference(p, x):
        weight = torch_weight_norm(p, (0, 1))
        return last(F.conv1d(first(x), weight.permute(2, 1, 0)))

    return Sample(
        lambda: fill(fx.WeightNorm(fx.Conv((2,), 2, 3, bias=False))), draw.normal(1, 4, 2), reference=reference
    )


@case("remove_weight_norms")
def removed_weight_norms(draw):
    def make():
        layer = fill(fx.WeightNorm(fx.Dense(2, 3)))
        return fx.remove_weight_norms(fx.Chain(layer, fx.tanh))

    return Sample(
        make,
        draw.normal(3, 2),
        reference=lambda p, x: torch.tanh(x @ p["layers.0.weight"] + p["layers.0.bias"]),
    )


@case(
    "hasaffine",
    errors=[
        (
            lambda: fx.hasaffine(fx.Dense(2, 1)),
            TypeError,
            "hasaffine takes a normalisation layer such as BatchNorm, got Dense(2, 1)",
        )
    ],
)
def has_affine(draw):
    affine = draw.choose(True, False)
    make = draw.choose(fx.BatchNorm, fx.LayerNorm, fx.RMSNorm, fx.InstanceNorm)
    return Sample(
        lambda: lambda: jnp.asarray(fx.hasaffine(make(2, affine=affine))),
        expected=lambda p: np.asarray(affine),
        gradients=False,
    )

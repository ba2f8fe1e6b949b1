"""Dense and its relatives, dropout and containers: against PyTorch and formulas."""

import operator

import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from harness import Sample, case, fill

import fluxion as fx

ACTIVATIONS = {fx.identity: lambda x: x, fx.tanh: torch.tanh, fx.swish: F.silu}


def affine(p, x, path=""):
    y = x @ p[f"{path}weight"]
    return y + p[f"{path}bias"] if f"{path}bias" in p else y


def leading(draw):
    """The axes before the features: none, a batch, or more."""
    return draw.choose((draw.size(),), (), (2, draw.size()))


@case(
    "Dense",
    errors=[
        (lambda: fx.Dense(10.5, 5), ValueError, "Dense takes sizes that are ints of at least 1, got 10.5"),
        (lambda: fx.Dense(10, 0), ValueError, "Dense takes sizes that are ints of at least 1, got 0"),
        (lambda: fx.Dense(10, None), ValueError, "Dense takes sizes that are ints of at least 1, got None"),
        (lambda: fx.Dense(10, 5, "relu"), TypeError, "Dense takes a function as its activation, such as fluxion.relu"),
        (lambda: fx.Dense(10, 5, bias=np.ones(4)), ValueError, "bias takes True, False or an array of shape (5,)"),
        (
            lambda: fx.Dense(2, 5, init=lambda *shape: np.ones(3)),
            ValueError,
            "made an array of shape (3,), wanted (2, 5)",
        ),
        (
            lambda: fx.Dense.from_arrays(np.ones(3)),
            ValueError,
            "Dense takes a weight of shape (inputs, outputs), got an array of shape (3,)",
        ),
        (lambda: fx.Dense(1, 1)((1, 2)), TypeError, "Dense(1, 1) expects one array, got a tuple of 2"),
        (
            lambda: fx.Dense(10, 5)(np.ones((32, 12))),
            fx.SizeError,
            "Dense(10, 5) expects 10 input features (last axis), got an array of shape (32, 12)",
        ),
        (lambda: fx.Dense(10, 5)(1.0), fx.SizeError, "Dense(10, 5) expects 10 input features (last axis)"),
    ],
)
def dense(draw):
    inputs, outputs = draw.size(), draw.size()
    activation = draw.choose(*ACTIVATIONS)
    bias = draw.choose(True, False)
    return Sample(
        lambda: fill(fx.Dense(inputs, outputs, activation, bias=bias)),
        draw.normal(*leading(draw), inputs),
        reference=lambda p, x: ACTIVATIONS[activation](affine(p, x)),
    )


@case("Dense", label="one-hot")
def dense_of_labels(draw):
    count = draw.size()
    labels = draw.integers(0, count, 3)
    return Sample(
        lambda: lambda w: fx.Dense.from_arrays(w)(fx.onehotbatch(labels, range(count))),
        draw.normal(count, 2),
        reference=lambda p, w: w[labels],
    )


@case(
    "Scale",
    errors=[
        (fx.Scale, ValueError, "Scale takes the sizes of the last axes of its input, as Scale(10), got none"),
        (lambda: fx.Scale(1.0), ValueError, "Scale takes sizes that are ints of at least 1, got 1.0"),
        (
            lambda: fx.Scale(3, 4)(np.ones((2, 4))),
            fx.SizeError,
            "Scale(3, 4) expects last axes of sizes (3, 4), got an array of shape (2, 4)",
        ),
        (
            lambda: fx.Scale(3)(np.ones(4)),
            fx.SizeError,
            "Scale(3) expects last axes of sizes (3,), got an array of shape (4,)",
        ),
    ],
)
def scale(draw):
    size = draw.choose((4,), (2, 3))
    activation, bias = draw.choose(*ACTIVATIONS), draw.choose(True, False)
    shape = (*leading(draw), *size[:-1], draw.choose(size[-1], 1))
    return Sample(
        lambda: fill(fx.Scale(*size, activation=activation, bias=bias)),
        draw.normal(*shape),
        reference=lambda p, x: ACTIVATIONS[activation](x * p["scale"] + (p["bias"] if bias else 0)),
    )


@case(
    "Bilinear",
    errors=[
        (lambda: fx.Bilinear((2, 3, 4), 5), ValueError, "Bilinear takes the sizes of two inputs, as Bilinear((10, 7)"),
        (lambda: fx.Bilinear((2, 0), 5), ValueError, "Bilinear takes sizes that are ints of at least 1, got 0"),
        (
            lambda: fx.Bilinear.from_arrays(np.ones((2, 3))),
            ValueError,
            "Bilinear takes a weight of shape (in1, in2, out), got an array of shape (2, 3)",
        ),
        (
            lambda: fx.Bilinear((2, 3), 5)(np.ones(2), np.ones(4)),
            fx.SizeError,
            "Bilinear((2, 3), 5) expects 3 features of its second input (last axis), got an array of shape (4,)",
        ),
        (
            lambda: fx.Bilinear((2, 3), 5)(np.ones((4, 2))),
            fx.SizeError,
            "Bilinear((2, 3), 5) expects 3 features of its second input (last axis), got an array of shape (4, 2)",
        ),
        (
            lambda: fx.Bilinear(2, 5)(np.ones((4, 2)), np.ones((3, 2))),
            fx.SizeError,
            "Bilinear(2, 5) expects inputs that agree in all axes but the last, got arrays of shapes (4, 2) and (3, 2)",
        ),
        (lambda: fx.Bilinear(2, 5)((1, 2, 3)), TypeError, "Bilinear takes one or two inputs, got a tuple of 3"),
    ],
)
def bilinear(draw):
    first, second, outputs = draw.size(), draw.size(), draw.size()
    activation, bias, before = draw.choose(*ACTIVATIONS), draw.choose(True, False), leading(draw)

    def reference(p, x, y):
        z = F.bilinear(x, y, p["weight"].permute(2, 0, 1), p["bias"] if bias else None)
        return ACTIVATIONS[activation](z)

    return Sample(
        lambda: fill(fx.Bilinear((first, second), outputs, activation, bias=bias)),
        draw.normal(*before, first),
        draw.normal(*before, second),
        reference=reference,
    )


@case("Bilinear", label="of one input")
def bilinear_of_one(draw):
    size = draw.size()
    return Sample(
        lambda: fill(fx.Bilinear(size, 2)),
        draw.normal(3, size),
        reference=lambda p, x: F.bilinear(x, x, p["weight"].permute(2, 0, 1), p["bias"]),
    )


@case(
    "Dropout",
    errors=[
        (lambda: fx.Dropout(1.5), ValueError, "Dropout expects a probability 0 <= p <= 1, got 1.5"),
        (lambda: fx.Dropout("a"), ValueError, "Dropout expects a probability 0 <= p <= 1, got 'a'"),
        (lambda: fx.Dropout(0.5, active=1), ValueError, 'Dropout takes active=True, False, None or "auto", got 1'),
        (lambda: fx.Dropout(0.5, rng=1), TypeError, "rng= takes a fluxion.random.Generator"),
        (
            lambda: fx.Dropout(0.5, axes=2, active=True)(np.ones((2, 3))),
            fx.SizeError,
            "Dropout(0.5, axes=(2,), active=True) expects an array that has these axes, got one of shape (2, 3)",
        ),
    ],
)
def dropout(draw):
    axes = draw.choose((0, -1), None)
    return Sample(lambda: fx.Dropout(0.5, axes=axes), draw.normal(3, 4), reference=lambda p, x: x * 1)


@case(
    "AlphaDropout",
    errors=[(lambda: fx.AlphaDropout(-0.1), ValueError, "AlphaDropout expects a probability 0 <= p <= 1, got -0.1")],
)
def alpha_dropout(draw):
    return Sample(lambda: fx.AlphaDropout(0.5), draw.normal(3, 4), reference=lambda p, x: x * 1)


@case(
    "StochasticDepth",
    errors=[
        (lambda: fx.StochasticDepth(2), ValueError, "StochasticDepth expects a probability 0 <= p <= 1, got 2"),
        (
            lambda: fx.StochasticDepth(0.5, "column"),
            ValueError,
            'StochasticDepth takes the mode "row" or "batch", got \'column\'',
        ),
        (
            lambda: fx.StochasticDepth(0.5, active=True)(1.0),
            fx.SizeError,
            "StochasticDepth(0.5, active=True) expects an array of observations, got a single number",
        ),
    ],
)
def stochastic_depth(draw):
    mode = draw.choose("batch", "row")
    return Sample(lambda: fx.StochasticDepth(0.5, mode), draw.normal(3, 4), reference=lambda p, x: x * 1)


@case(
    "Chain",
    errors=[
        (lambda: fx.Chain(1), TypeError, "Chain takes layers, which are callable, got 1"),
        (lambda: fx.Chain([fx.relu]), TypeError, "Chain takes layers, which are callable, got [relu]; write *layers"),
        (lambda: fx.Chain(fx.relu, b=fx.relu), TypeError, "Chain takes its layers by position or by name, got both"),
        (lambda: fx.Chain()(), TypeError, "Chain expects at least one input, got none"),
        (lambda: fx.Chain(fx.relu)["a"], KeyError, "Chain has no layer 'a'; its layers have no names"),
        (lambda: fx.Chain(a=fx.relu, b=fx.tanh)["c"], KeyError, "Chain has no layer 'c'; its names are a, b"),
    ],
)
def chain(draw):
    size, named = draw.size(), draw.choose(True, False)
    layers = lambda: [fx.Dense(4, size, fx.tanh), fx.Dense(size, 2), fx.softmax]
    return Sample(
        lambda: fx.Chain(**dict(zip("abc", layers(), strict=True))) if named else fx.Chain(*layers()),
        draw.normal(*leading(draw), 4),
        reference=lambda p, x: torch.softmax(affine(p, torch.tanh(affine(p, x, "layers.0.")), "layers.1."), -1),
    )


@case(
    "Maxout",
    errors=[
        (fx.Maxout, ValueError, "Maxout expects at least one layer, got none"),
        (lambda: fx.Maxout(fx.relu, 0), ValueError, "Maxout takes sizes that are ints of at least 1, got 0"),
        (lambda: fx.Maxout(fx.relu, 2.5), TypeError, "Maxout takes layers, which are callable, got 2.5"),
        (
            lambda: fx.Maxout(fx.Dense(2, 3), fx.Dense(2, 4))(np.ones(2)),
            fx.SizeError,
            "Maxout expects layers that give equal shapes, got (3,) and (4,)",
        ),
    ],
)
def maxout(draw):
    count, size = draw.size(), draw.size()
    return Sample(
        lambda: fill(fx.Maxout(lambda: fx.Dense(size, 2), count)),
        draw.normal(3, size),
        reference=lambda p, x: torch.stack([affine(p, x, f"layers.{i}.") for i in range(count)]).amax(0),
    )


@case(
    "SkipConnection",
    errors=[
        (
            lambda: fx.SkipConnection(fx.relu, 1),
            TypeError,
            "SkipConnection takes a layer and a function of two arguments, got 1",
        ),
    ],
)
def skip_connection(draw):
    size = draw.size()
    return Sample(
        lambda: fx.SkipConnection(fx.Dense(size, size), operator.sub),
        draw.normal(2, size),
        reference=lambda p, x: affine(p, x, "layer.") - x,
    )


@case(
    "Parallel",
    errors=[
        (
            lambda: fx.Parallel(1, fx.relu),
            TypeError,
            "Parallel takes first the function that joins the outputs, got 1",
        ),
        (lambda: fx.Parallel(jnp.add), ValueError, "Parallel expects at least one layer, got none"),
        (lambda: fx.Parallel(jnp.add, fx.relu, fx.relu)(), ValueError, "Parallel expects at least one input, got none"),
        (lambda: fx.Parallel(jnp.add, fx.relu)(), ValueError, "Parallel expects at least one input, got none"),
        (
            lambda: fx.Parallel(max, fx.relu, fx.relu, fx.relu)(1, 2),
            ValueError,
            "Parallel with 3 layers takes one input or 3 inputs, got 2 inputs",
        ),
    ],
)
def parallel(draw):
    first, second = draw.size(), draw.size()
    return Sample(
        lambda: fx.Parallel(operator.mul, fx.Dense(first, 2, bias=False), fx.Dense(second, 2, bias=False)),
        draw.normal(2, first),
        draw.normal(2, second),
        reference=lambda p, x, y: affine(p, x, "layers.0.") * affine(p, y, "layers.1."),
    )


@case(
    "PairwiseFusion",
    errors=[
        (
            lambda: fx.PairwiseFusion(1, fx.relu),
            TypeError,
            "PairwiseFusion takes first the function that joins the outputs, got 1",
        ),
        (lambda: fx.PairwiseFusion(jnp.add), ValueError, "PairwiseFusion expects at least one layer, got none"),
        (
            lambda: fx.PairwiseFusion(max, fx.relu, fx.relu, fx.relu)(1, 2),
            ValueError,
            "PairwiseFusion with 3 layers takes one input or 3 inputs, got 2 inputs",
        ),
    ],
)
def pairwise_fusion(draw):
    size, named = draw.size(), draw.choose(False, True)
    layers = lambda: [fx.Dense(size, 2, fx.tanh), fx.Dense(2, 3), fx.Dense(3, 2)]

    def reference(p, x, y, z):
        first = torch.tanh(affine(p, x, "layers.0."))
        second = affine(p, first * y, "layers.1.")
        return first, second, affine(p, second * z, "layers.2.")

    def make():
        names = dict(zip("abc", layers(), strict=True))
        return fx.PairwiseFusion(operator.mul, **names) if named else fx.PairwiseFusion(operator.mul, *layers())

    return Sample(make, draw.normal(2, size), draw.normal(2, 2), draw.normal(2, 3), reference=reference)

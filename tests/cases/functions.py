"""Activations, softmax, gathering and scattering, batched products: against PyTorch."""

import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from harness import Sample, case

import fluxion as fx

POINTWISE = {
    "identity": lambda x: x * 1,
    "relu": torch.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": lambda x: torch.clamp(x / 6 + 0.5, 0, 1),  # F.hardsigmoid has its 1 / 6 in float32
    "logsigmoid": F.logsigmoid,
    "tanh": torch.tanh,
    "hardtanh": F.hardtanh,
    "tanhshrink": F.tanhshrink,
    "selu": F.selu,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_sigmoid": lambda x: x * torch.sigmoid(np.sqrt(8 / np.pi) * (x + 0.044715 * x**3)),
    "gelu_erf": F.gelu,
    "swish": F.silu,
    "hardswish": F.hardswish,
    "mish": F.mish,
    "lisht": lambda x: x * torch.tanh(x),
    "softsign": F.softsign,
    "softplus": F.softplus,
    "logcosh": lambda x: torch.log(torch.cosh(x)),
}
WITH_OPTION = {
    "leakyrelu": (0.01, F.leaky_relu),
    "elu": (1.0, F.elu),
    "celu": (1.0, lambda x, alpha: alpha * F.elu(x / alpha)),  # F.celu has its alpha in float32
    "trelu": (1.0, lambda x, theta: F.threshold(x, theta, 0)),
    "softshrink": (0.5, F.softshrink),
}
ALIASES = {"gelu": ["gelu_tanh"], "swish": ["silu"], "trelu": ["thresholdrelu"]}


def pointwise(name, reference):
    @case(name, *ALIASES.get(name, ()))
    def sample(draw):
        return Sample(lambda: getattr(fx, name), 3 * draw.normal(3, 4), reference=lambda p, x: reference(x))


def pointwise_with_option(name, default, reference):
    @case(name, *ALIASES.get(name, ()))
    def sample(draw):
        option = draw.choose(default, 0.3, 0.7)
        return Sample(
            lambda: lambda x: getattr(fx, name)(x, option),
            3 * draw.normal(3, 4),
            reference=lambda p, x: reference(x, option),
        )


for _name, _reference in POINTWISE.items():
    pointwise(_name, _reference)
for _name, (_default, _reference) in WITH_OPTION.items():
    pointwise_with_option(_name, _default, _reference)


@case("rrelu")
def rrelu(draw):
    low, high = draw.choose((1 / 8, 1 / 3), (0.1, 0.2))
    return Sample(
        lambda: lambda x: fx.rrelu(x, low, high, active=False),
        draw.normal(3, 4),
        reference=lambda p, x: F.rrelu(x, low, high),
    )


def along(draw, x):
    """One axis of `x`, two of them, or all."""
    return draw.choose(-1, 0, (0, 2), None)


def all_axes(axis):
    return (0, 1, 2) if axis is None else axis


@case("softmax")
def softmax(draw):
    x = draw.normal(2, draw.size(4), 3)
    axis = along(draw, x)

    def reference(p, x):
        weights = torch.exp(x)
        return weights / weights.sum(all_axes(axis), keepdim=True)

    return Sample(lambda: lambda x: fx.softmax(x, axis), x, reference=reference)


@case("logsoftmax")
def logsoftmax(draw):
    x = draw.normal(2, draw.size(4), 3)
    axis = along(draw, x)
    return Sample(
        lambda: lambda x: fx.logsoftmax(x, axis),
        x,
        reference=lambda p, x: x - torch.logsumexp(x, all_axes(axis), keepdim=True),
    )


@case("logsumexp")
def logsumexp(draw):
    x = draw.normal(2, draw.size(4), 3)
    axis, keepdims = along(draw, x), draw.choose(False, True)
    return Sample(
        lambda: lambda x: fx.logsumexp(x, axis, keepdims=keepdims),
        x,
        reference=lambda p, x: torch.logsumexp(x, all_axes(axis), keepdim=keepdims),
    )


@case(
    "glu",
    errors=[
        (lambda: fx.glu(jnp.ones((2, 3))), fx.SizeError, "glu expects an even size along axis -1, got an array of"),
        (lambda: fx.glu(jnp.ones(2), axis=1), fx.SizeError, "glu has no axis 1 in an array of shape (2,)"),
    ],
)
def glu(draw):
    axis = draw.choose(-1, 0)
    shape = (2 * draw.size(2), 2 * draw.size(2))
    return Sample(lambda: lambda x: fx.glu(x, axis), draw.normal(*shape), reference=lambda p, x: F.glu(x, axis))


@case(
    "dropout",
    errors=[
        (lambda: fx.dropout(1.0, 1.5), ValueError, "dropout expects a probability 0 <= p <= 1, got 1.5"),
        (lambda: fx.dropout(1.0, -0.1), ValueError, "got -0.1"),
        (lambda: fx.dropout(1.0, float("nan")), ValueError, "got nan"),
        (lambda: fx.dropout(1.0, True), ValueError, "got True"),
        (lambda: fx.dropout(1.0, "half"), ValueError, "got 'half'"),
        (lambda: fx.dropout(1.0, [0.5, 0.5]), ValueError, "got [0.5, 0.5]"),
        (lambda: fx.dropout(jnp.ones(3), 0.5, axes=1), fx.SizeError, "dropout expects an array that has these axes"),
        (lambda: fx.dropout(jnp.ones(3), 0.5, rng=3), TypeError, "rng= takes a fluxion.random.Generator, got int"),
    ],
)
def dropout(draw):
    p, axes = draw.choose(0.5, 0.0, 1.0, 0.25), draw.choose(None, 0, (0, -1))
    shape = (3, 4, 2)
    sizes = {None: shape, 0: (3, 1, 1), (0, -1): (3, 1, 2)}[axes]
    return Sample(
        lambda: lambda x: fx.dropout(x, p, axes=axes, rng=fx.random.Generator(3)),
        draw.normal(*shape),
        reference=lambda p_, x: x * mask(1 - p, sizes),
    )


def mask(keep, sizes):
    kept = np.array(fx.random.Generator(3).bernoulli(keep, sizes), float)
    return torch.tensor(kept / (keep or 1))


MISFITS = [
    (lambda: fx.batched_mul(np.ones((2, 3, 4)), np.ones((3, 4, 5))), "expects equal batch axes, or of size 1, got"),
    (lambda: fx.batched_mul(np.ones((2, 3, 4)), np.ones((2, 5, 4))), "expects (..., i, j) and (..., j, k), got arrays"),
    (lambda: fx.batched_mul(np.ones((2, 3, 4)), np.ones(4)), "got arrays of shapes (2, 3, 4) and (4,)"),
    (lambda: fx.batched_mul(np.ones((2, 2, 3, 4)), np.ones((2, 4, 1))), "expects equal batch axes"),
    (lambda: fx.batched_vec(np.ones((2, 3, 4)), np.ones((2, 3))), "batched_vec expects (..., i, j) and (..., j), got"),
    (lambda: fx.batched_vec(np.ones((2, 3, 4)), np.ones((3, 4))), "expects equal batch axes, or one vector, got"),
    (lambda: fx.batched_transpose(np.ones(3)), "batched_transpose expects at least 2 axes (..., i, j), got an array"),
]


@case("batched_mul", errors=[(call, fx.SizeError, text) for call, text in MISFITS])
def batched_mul(draw):
    left, right = draw.choose(((3,), (3,)), ((3,), (1,)), ((), (3,)), ((3,), ()), ((2, 3), (2, 3)), ((2, 1), (2, 3)))
    i, j, k = draw.size(3), draw.size(3), draw.size(3)
    return Sample(
        lambda: fx.batched_mul,
        draw.normal(*left, i, j),
        draw.normal(*right, j, k),
        reference=lambda p, a, b: torch.matmul(a, b),
    )


@case("batched_vec")
def batched_vec(draw):
    batch, shared = draw.choose((3,), (2, 3), ()), draw.choose(False, True)
    i, j = draw.size(3), draw.size(3)
    return Sample(
        lambda: fx.batched_vec,
        draw.normal(*batch, i, j),
        draw.normal(*(() if shared else batch), j),
        reference=lambda p, a, b: (a * b[..., None, :]).sum(-1),
    )


@case("batched_transpose", "batched_adjoint")
def batched_transpose(draw):
    function = draw.choose(fx.batched_transpose, fx.batched_adjoint)
    return Sample(lambda: function, draw.normal(2, draw.size(3), 3), reference=lambda p, a: a.transpose(-1, -2))


@case(
    "gather",
    errors=[
        (lambda: fx.gather(np.ones(3), [0, 3]), IndexError, "gather expects indices from 0 to 2, got 3 in an array of"),
        (lambda: fx.gather(np.ones(3), -1), IndexError, "gather expects indices from 0 to 2, got -1"),
        (lambda: fx.gather(np.ones((3, 2)), ([0], [2])), IndexError, "gather expects indices from 0 to 1, got 2"),
        (
            lambda: fx.gather(np.ones(3), [0.5]),
            TypeError,
            "gather expects integers as indices, got an array of float64",
        ),
        (lambda: fx.gather(np.ones(3), [True]), TypeError, "gather expects integers as indices, got an array of bool"),
        (lambda: fx.gather(np.ones((3, 3)), ([0], [1, 2])), fx.SizeError, "index arrays of equal shapes, got (1,) and"),
        (lambda: fx.gather(np.ones(3), ()), fx.SizeError, "index arrays of equal shapes, got none"),
        (lambda: fx.gather(np.ones(3), ([0], [0])), fx.SizeError, "gather has no 2 axes to pick along from axis 0"),
        (lambda: fx.gather(np.ones(3), 0, axis=1), fx.SizeError, "gather has no axis 1 in an array of shape (3,)"),
    ],
)
def gather(draw):
    src, axis = draw.normal(3, 4, 2), draw.choose(0, 1, -1)
    idx = draw.integers(0, src.shape[axis], *draw.choose((2, 3), (5,), ()))

    def reference(p, src, idx):
        picked = torch.index_select(src, axis, idx.reshape(-1))
        axis_from_0 = axis % 3
        return picked.reshape(*src.shape[:axis_from_0], *idx.shape, *src.shape[axis_from_0 + 1 :])

    return Sample(lambda: lambda src, idx: fx.gather(src, idx, axis), src, idx, reference=reference)


@case("gather", label="by tuples")
def gather_by_tuples(draw):
    idx = draw.integers(0, 3, 5), draw.integers(0, 4, 5)
    return Sample(lambda: fx.gather, draw.normal(3, 4, 2), idx, reference=lambda p, src, idx: src[idx])


SCATTER_ERRORS = [
    (lambda: fx.scatter("or", np.ones(2), [0, 1]), ValueError, "scatter takes one of 'add', 'sub', 'mul', 'div'"),
    (lambda: fx.scatter(np.fmax, np.ones(2), [0, 1]), ValueError, "as its operation, got <ufunc 'fmax'>"),
    (lambda: fx.scatter("add", np.ones(2), [0, 3], size=3), IndexError, "scatter expects indices from 0 to 2, got 3"),
    (lambda: fx.scatter("add", np.ones(2), [0, -1]), IndexError, "scatter expects indices from 0 to 0, got -1"),
    (lambda: fx.scatter("add", np.ones(2), [0.0, 1.0]), TypeError, "scatter expects integers as indices"),
    (lambda: fx.scatter("add", np.ones((2, 3)), [0, 1, 1]), fx.SizeError, "each index of shape (3,), got shape (2, 3)"),
    (lambda: fx.scatter("add", np.ones(2), [0, 1], into=np.ones((2, 2))), fx.SizeError, "got shape (2, 2)"),
    (lambda: fx.scatter("add", np.ones(2), [0, 1], into=np.ones(2), init=1), ValueError, "into= or size= and init="),
    (
        lambda: fx.scatter("add", np.ones(1), ([0], [1]), size=3),
        ValueError,
        "scatter takes as size= an int of at least 0 for each of 2",
    ),
    (lambda: fx.scatter("add", np.ones(1), [0], size=-2), ValueError, "scatter takes as size= an int of at least 0"),
    (lambda: fx.scatter("add", np.ones(1), [0], init=[0]), ValueError, "scatter takes a number as init=, got [0]"),
    (
        lambda: fx.compile(lambda idx: fx.scatter("add", jnp.ones(2), idx))(jnp.array([0, 1])),
        ValueError,
        "scatter needs size= in compiled code, where the largest index is not known",
    ),
]
TORCH_REDUCTIONS = {"add": "sum", "sub": "sum", "mul": "prod", "div": "prod", "max": "amax", "min": "amin"}


def torch_scatter(op, into, src, idx):
    """`into` combined with `src` along the first axis; `src` is negated or inverted where PyTorch has no such name."""
    src = {"sub": lambda: -src, "div": lambda: 1 / src}.get(op, lambda: src)()
    if op == "mean":
        counts = torch.bincount(idx, minlength=len(into)).clamp(min=1)
        return into + torch.zeros_like(into).index_add(0, idx, src) / counts.reshape(-1, *[1] * (src.ndim - 1))
    return into.scatter_reduce(0, idx.reshape(-1, *[1] * (src.ndim - 1)).expand_as(src), src, TORCH_REDUCTIONS[op])


def scatter(op, errors=()):
    @case("scatter", label=op, errors=errors)
    def sample(draw):
        count, length, rest = draw.size(4), draw.size(6), draw.choose((2,), ())
        values = 2 + draw.distinct(length + count, *rest)  # no ties, whose gradient PyTorch shares among them
        return Sample(
            lambda: lambda src, into, idx: fx.scatter(op, src, idx, into=into),
            values[:length],
            values[length:],
            draw.integers(0, count, length),
            reference=lambda p, src, into, idx: torch_scatter(op, into, src, idx),
        )


for _op in (*TORCH_REDUCTIONS, "mean"):
    scatter(_op, SCATTER_ERRORS if _op == "add" else ())

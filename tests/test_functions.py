"""Activations, softmax, gathering and scattering, batched products, and checks of compiled code."""

import operator
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from cases.functions import POINTWISE as POINTWISE_NAMES
from cases.functions import WITH_OPTION
from harness import cases_of

import fluxion as fx
from fluxion.ops.indexing import check_indices

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("case", cases_of("functions"), ids=str)
def test_case(case):
    case.check()


@pytest.mark.parametrize("case", cases_of("functions"), ids=str)
def test_random_options(case):
    case.check_random()


POINTWISE = [getattr(fx, name) for name in (*POINTWISE_NAMES, *WITH_OPTION, "rrelu") if name != "identity"]
LIMITS = {  # at -inf and +inf
    "leakyrelu": (-INF, INF),
    "rrelu": (-INF, INF),
    "relu6": (0, 6),
    "sigmoid": (0, 1),
    "hardsigmoid": (0, 1),
    "logsigmoid": (-INF, 0),
    "tanh": (-1, 1),
    "hardtanh": (-1, 1),
    "tanhshrink": (-INF, INF),
    "softshrink": (-INF, INF),
    "elu": (-1, INF),
    "celu": (-1, INF),
    "selu": (-1.0507009873554805 * 1.6732632423543772, INF),
    "softsign": (-1, 1),
    "lisht": (INF, INF),
    "logcosh": (INF, INF),
}


@pytest.mark.parametrize("function", POINTWISE)
def test_activation_of_special_values(function):
    assert jnp.isnan(function(NAN)) and jnp.isnan(function(jnp.array([1.0, NAN]))[1])
    assert function(np.arange(-2, 3)).dtype == function(3).dtype == function(True).dtype == jnp.float32
    np.testing.assert_allclose(function([-INF, INF]), LIMITS.get(function.__name__, (0, INF)))
    assert function(jnp.zeros((2, 0))).shape == (2, 0)
    for x in (0.0, -INF, INF, 1e30, -1e30):
        assert jnp.isfinite(jax.grad(function)(x)) and jnp.isfinite(jax.grad(jax.grad(function))(x))
    for x in (jnp.float16(6e4), jnp.float16(-6e4), jnp.float16(-40)):
        assert jnp.isfinite(function(x)) and jnp.isfinite(jax.grad(function)(x)), "x^2 overflows"


def test_activations_at_kinks_are_those_of_pytorch():
    for function, theirs, kinks in [
        (fx.relu, torch.relu, [0.0]),
        (fx.relu6, F.relu6, [0.0, 6.0]),
        (fx.hardtanh, F.hardtanh, [-1.0, 1.0]),
        (fx.hardsigmoid, F.hardsigmoid, [-3.0, 3.0]),
        (fx.leakyrelu, F.leaky_relu, [0.0]),
        (fx.elu, F.elu, [0.0]),
        (fx.selu, F.selu, [0.0]),
        (fx.trelu, lambda x: F.threshold(x, 1, 0), [1.0]),
        (fx.softshrink, F.softshrink, [-0.5, 0.5]),
    ]:
        x = torch.tensor(kinks, requires_grad=True)
        theirs(x).sum().backward()
        np.testing.assert_allclose(jax.vmap(jax.grad(function))(jnp.array(kinks)), x.grad, rtol=1e-6)


def test_activation_derivatives_at_zero_and_far_out():
    assert jax.grad(jax.grad(fx.softplus))(0.0) == 0.25
    assert jax.grad(jax.grad(fx.logcosh))(0.0) == 1 and jax.grad(fx.logcosh)(0.0) == 0
    assert fx.softplus(1000.0) == 1000 and fx.softplus(-1000.0) == 0
    assert float(fx.gelu(1.0)) == pytest.approx(0.8411919906, abs=1e-6)
    assert fx.sigmoid(0.0) == 0.5 and jax.grad(fx.sigmoid)(-200.0) == 0


@pytest.mark.parametrize("function", [fx.sigmoid, fx.tanh, fx.softplus, fx.logsigmoid])
def test_activation_of_complex_numbers(function):
    x = np.array([0.5 + 1j, -2 - 0.3j])
    theirs = {"sigmoid": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh, "softplus": lambda x: np.log(1 + np.exp(x))}
    wanted = theirs.get(function.__name__, lambda x: -np.log(1 + np.exp(-x)))(x)
    np.testing.assert_allclose(function(x), wanted, rtol=1e-5)
    slope = jax.grad(function, holomorphic=True)(jnp.asarray(x[0], jnp.complex64))
    step = 1e-3
    np.testing.assert_allclose(slope, (function(x[0] + step) - function(x[0] - step)) / (2 * step), rtol=1e-3)


def test_activations_take_traced_options():
    for function in (fx.leakyrelu, fx.elu, fx.celu, fx.trelu, fx.softshrink):
        x = jnp.array([-2.0, 3.0])
        np.testing.assert_allclose(jax.jit(function)(x, 0.3), function(x, 0.3), rtol=1e-6)
        assert jnp.isfinite(jax.grad(lambda a, f=function, x=x: f(x, a).sum())(0.3))
        assert function(x.astype(jnp.float16), 0.3).dtype == jnp.float16


def test_rrelu_draws_while_training():
    x = -jnp.ones(1000)
    assert (fx.rrelu(x) == -(1 / 8 + 1 / 3) / 2).all()
    (slopes,) = fx.gradient(lambda x: fx.rrelu(x, rng=fx.random.Generator(0)).sum(), x)
    assert 1 / 8 <= slopes.min() < 0.13 and 0.33 < slopes.max() < 1 / 3 and abs(slopes.mean() - 11 / 48) < 0.01
    assert (fx.rrelu(x, active=True, rng=fx.random.Generator(0)) == -slopes).all()
    assert (fx.rrelu(-x, active=True) == 1).all()
    assert fx.rrelu(x.astype(jnp.bfloat16), active=True).dtype == jnp.bfloat16


def test_softmax_of_infinities():
    for row, wanted in [
        ([INF, 0, 1], [1, 0, 0]),
        ([INF, INF, 1], [0.5, 0.5, 0]),
        ([-INF, 0, 0], [0, 0.5, 0.5]),
        ([-INF, -INF], [NAN, NAN]),
        ([NAN, 1], [NAN, NAN]),
        ([1000, 1000], [0.5, 0.5]),
    ]:
        np.testing.assert_allclose(fx.softmax(row), wanted)
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(fx.logsoftmax(row), np.log(wanted), atol=1e-6)
    for row in ([INF, 0.0], [-INF, 0.0], [INF, -INF]):
        for function in (fx.softmax, fx.logsoftmax):
            slopes = jax.grad(lambda x, f=function: jnp.where(jnp.isfinite(f(x)), f(x), 0).sum())(jnp.array(row))
            assert jnp.isfinite(slopes).all()


def test_softmax_types_and_axes():
    assert fx.softmax(np.array([1, 2])).dtype == fx.logsumexp([1, 2]).dtype == jnp.float32
    np.testing.assert_allclose(fx.softmax(jnp.ones((2, 4)), axis=(0, 1)), np.full((2, 4), 1 / 8))
    many = jnp.zeros(2**17, jnp.float16)
    assert fx.softmax(many)[0] == 2.0**-17, "a sum in float16 would overflow"
    assert fx.logsumexp(many).dtype == jnp.float16 and fx.logsumexp(many) == jnp.float16(17 * np.log(2))
    assert fx.softmax(1.0, axis=None) == 1
    for function in (fx.softmax, fx.logsoftmax, fx.logsumexp, fx.glu):
        for x, axis in ((1.0, -1), (np.ones(2), 1.5), (np.ones(2), "a")):
            message = f"{function.__name__} has no axis {axis!r} in an array of shape {np.shape(x)}"
            with pytest.raises(fx.SizeError, match=re.escape(message)):
                function(x, axis)


def test_logsumexp_of_infinities():
    rows = jnp.array([[-INF, -INF], [INF, 0], [INF, INF], [-INF, 3], [INF, -INF], [1000, 1000], [NAN, INF]])
    wanted = scipy.special.logsumexp(np.asarray(rows, float), axis=1)
    np.testing.assert_allclose(fx.logsumexp(rows, 1), wanted, rtol=1e-6)
    slopes = jax.grad(lambda x: fx.logsumexp(x, 1)[:6].sum())(rows)[:6]
    np.testing.assert_allclose(slopes, [[0, 0], [1, 0], [0.5, 0.5], [0, 1], [1, 0], [0.5, 0.5]])
    assert jnp.isfinite(jax.hessian(lambda x: fx.logsumexp(x, 1)[:6].sum())(rows[:6])).all()
    assert fx.logsumexp(jnp.zeros((2, 0)), 1).tolist() == [-INF, -INF] and fx.logsumexp(2.0) == 2


def test_dropout_drops_with_its_probability():
    fx.seed(0)
    y = fx.dropout(jnp.ones(10_000), 0.3)
    assert abs((y == 0).mean() - 0.3) < 0.02 and jnp.unique(y).size == 2 and abs(y.mean() - 1) < 0.03
    assert (fx.dropout(jnp.array([INF, NAN, 1]), 1) == 0).all() and fx.dropout([1, 2], 0).tolist() == [1, 2]
    assert fx.dropout(jnp.array([2 + 2j] * 50), 0.5).dtype == jnp.complex64
    channels = fx.dropout(jnp.ones((4, 5, 6)), 0.5, axes=(0, -1))
    assert (channels == channels[:, :1]).all() and 0 < (channels == 0).mean() < 1


@pytest.mark.parametrize("axes", [1.0, "a", True, (0, 1.0)])
def test_axes_of_dropout_are_ints(axes):
    assert fx.dropout(jnp.ones((2, 3)), 0.5, axes=np.int64(0)).shape == (2, 3)
    for call in (lambda: fx.dropout(jnp.ones((2, 3)), 0.5, axes=axes), lambda: fx.Dropout(0.5, axes=axes)):
        with pytest.raises(ValueError, match="ropout takes as axes= an int, a tuple of ints or None, got"):
            call()


def test_dropout_with_a_traced_probability():
    dropped = fx.compile(lambda x, p: fx.dropout(x, p, rng=fx.random.Generator(1)))
    for p in (0.5, 0.25, 0.0, 1.0):
        assert (dropped(jnp.ones(20), p) == fx.dropout(jnp.ones(20), p, rng=fx.random.Generator(1))).all()
    assert jax.jit(lambda x, p: fx.dropout(x, p))(jnp.ones(3), 1.0).tolist() == [0, 0, 0]


def test_options_of_another_type_leave_half_precision_as_it_is():
    option = np.float32(0.5)
    for function in (fx.leakyrelu, fx.elu, fx.celu, fx.trelu, fx.softshrink):
        assert function(jnp.ones(2, jnp.float16), option).dtype == jnp.float16


def test_activations_refuse_options_without_a_meaning():
    with pytest.raises(ValueError, match=r"softshrink takes a threshold of at least 0, got -1\.0"):
        fx.softshrink(np.ones(2), -1.0)
    with pytest.raises(ValueError, match=r"rrelu takes a low that is at most high, got low=0\.5 and high=0\.25"):
        fx.rrelu(np.ones(2), 0.5, 0.25)


def test_batched_mul_of_other_types():
    a = np.arange(12).reshape(2, 2, 3)
    assert fx.batched_mul(a, fx.batched_transpose(a)).dtype == jnp.int32
    z = a * (1 + 2j)
    np.testing.assert_allclose(fx.batched_adjoint(z), np.conj(np.swapaxes(z, 1, 2)))
    np.testing.assert_allclose(fx.batched_mul(z, fx.batched_adjoint(z)), z @ np.conj(np.swapaxes(z, 1, 2)))


def test_gather_in_compiled_code():
    picked = jax.jit(fx.gather)(jnp.arange(3.0), jnp.array([0, 3, -1]))
    assert picked[0] == 0 and jnp.isnan(picked[1:]).all()
    assert jax.jit(fx.gather)(jnp.arange(3), jnp.array([2, -1])).tolist() == [2, np.iinfo(np.int32).min]
    assert fx.gather(jnp.arange(3), []).shape == (0,) and fx.gather(jnp.ones((3, 2)), np.int64(1)).shape == (2,)
    gradient = jax.grad(lambda src: fx.gather(src, [1, 1, 0]).sum())(jnp.ones(3))
    assert gradient.tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("op", "wanted"),
    [
        ("add", [3, 0, 9]),
        ("sub", [-3, 0, -9]),
        ("mul", [2, 1, 20]),
        ("div", [1 / 2, 1, 1 / 20]),
        ("max", [2, -INF, 5]),
        ("min", [1, INF, 4]),
        ("mean", [1.5, 0, 4.5]),
        (operator.add, [3, 0, 9]),
        (operator.truediv, [1 / 2, 1, 1 / 20]),
        (max, [2, -INF, 5]),
        (jnp.maximum, [2, -INF, 5]),
        (jnp.mean, [1.5, 0, 4.5]),
    ],
)
def test_scatter_starts_from_what_changes_nothing(op, wanted):
    np.testing.assert_allclose(fx.scatter(op, [1.0, 2.0, 4.0, 5.0], [0, 0, 2, 2]), wanted, rtol=1e-6)


def test_scatter_of_integers_and_empty_arrays():
    src, idx = np.array([3, 5, 7], np.uint8), [0, 2, 2]
    assert fx.scatter("min", src, idx).tolist() == [3, 255, 5] and fx.scatter("max", src, idx).tolist() == [3, 0, 7]
    assert fx.scatter("mul", src, idx).dtype == fx.scatter("min", src, idx).dtype == jnp.uint8
    assert fx.scatter("min", np.array([-128, 5], np.int8), [1, 1]).tolist() == [127, -128]
    assert fx.scatter("mean", src, idx).tolist() == [3, 0, 6] and fx.scatter("div", src, idx).dtype == jnp.float32
    for op in ("add", "mul", "max", "mean"):
        assert fx.scatter(op, jnp.zeros((0, 2)), [], size=3, init=4.0).tolist() == [[4, 4]] * 3
        assert fx.scatter(op, [], []).shape == (0,)


def test_scatter_of_booleans_and_of_rows_of_nothing():
    assert fx.scatter("add", [True, True], [0, 0]).tolist() == [2]
    assert fx.scatter("max", fx.onehotbatch([0, 1], range(2)), [0, 0], init=0).tolist() == [[1, 1]]
    for op in ("add", "mul", "max"):
        assert fx.scatter(op, jnp.ones((2, 0)), [0, 1]).shape == (2, 0)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_indices_of_a_narrow_type_reach_further_than_it(dtype):
    idx = np.array([1, 100], dtype)
    for given in (idx, jnp.asarray(idx)):
        assert jax.jit(lambda i: fx.gather(jnp.arange(300.0), i))(given).tolist() == [1, 100]
        sums = jax.jit(lambda i: fx.scatter("add", jnp.ones(2), (i, i), size=(300, 300)))(given)
        assert sums[1, 1] == sums[100, 100] == 1 and sums.sum() == 2
    layer = fx.Embedding(400, 2, padding_idx=256 + 100)
    assert (layer(jnp.asarray(idx))[1] == layer.weight[100]).all()


def test_scatter_starts_from_init_and_into():
    assert fx.scatter("max", [1.0, -3.0], [0, 2], init=-1).tolist() == [1, -1, -1]
    assert fx.scatter("add", [1, 2], [0, 0], size=2, init=0.5).tolist() == [3.5, 0.5]
    assert fx.scatter("sub", [1.0, 2.0], [0, 0], into=[10.0, 20.0]).tolist() == [7, 20]
    pairs = fx.scatter("add", [1.0, 2.0, 4.0], ([0, 1, 1], [1, 0, 0]), size=(2, 3))
    assert pairs.tolist() == [[0, 1, 0], [6, 0, 0]]
    assert fx.scatter("add", jnp.ones((2, 2, 3)), [[0, 1], [1, 1]]).tolist() == [[1] * 3, [3] * 3]
    half = fx.scatter("add", jnp.ones(5000, jnp.float16), np.zeros(5000, int))
    assert half.dtype == jnp.float16 and half[0] == 5000, "a sum in float16 would stop at 2048"


def test_scatter_gives_ties_the_gradient():
    for op in ("max", "min"):
        into, src = jax.grad(lambda t, s, op=op: fx.scatter(op, s, [0, 0, 0], into=t).sum(), (0, 1))(
            jnp.array([2.0, 1.0]), jnp.array([2.0, 2.0, 2.0])
        )
        assert into.tolist() == [1, 1] and src.tolist() == [1, 1, 1]


def test_scatter_of_zeros_has_derivatives():
    product = lambda s: fx.scatter("mul", s, [0, 0, 1, 0, 2])[0]
    s = jnp.array([0.0, 3.0, 7.0, 5.0, 0.0])
    slope, curvature = jax.jit(lambda s: (jax.grad(product)(s), jax.hessian(product)(s)))(s)
    assert slope.tolist() == [15, 0, 0, 0, 0]
    assert curvature[0].tolist() == [0, 5, 0, 3, 0] and curvature[1].tolist() == [5, 0, 0, 0, 0]


def test_scatter_in_compiled_code_leaves_out_what_is_out_of_range():
    for op in ("add", "mul", "max", "mean"):
        scattered = jax.jit(lambda s, i, op=op: fx.scatter(op, s, i, size=2, init=1.0))
        assert scattered(jnp.array([5.0, 6.0, 7.0]), jnp.array([-1, 2, 5])).tolist() == [1, 1]
    pairs = jax.jit(lambda i, j: fx.scatter("add", jnp.ones(2), (i, j), size=(2, 2)))
    assert pairs(jnp.array([0, 0]), jnp.array([2, -1])).tolist() == [[0, 0], [0, 0]]


BAD = jnp.array([0, 5])
MESSAGE = r"^gather expects indices from 0 to 2, got 5 in an array of shape \(2,\)$"


class Table:
    """Rows picked by index: what a look-up layer does."""

    def __init__(self):
        self.weight = jnp.ones((3, 2))

    def __call__(self, idx):
        return fx.gather(self.weight, idx)


def test_debug_checks_indices_in_compiled_code():
    table = Table()
    compiled, jitted = fx.compile(lambda idx: table(idx)), jax.jit(table.__call__)
    for function in (compiled, jitted, jax.vmap(compiled), jax.jit(jax.vmap(jitted))):
        bad = BAD if function in (compiled, jitted) else BAD[:, None]
        assert jnp.isnan(function(bad)[1]).all()
        with pytest.raises(IndexError, match="gather expects indices from 0 to 2, got 5"), fx.debug(index=True):
            function(bad)
        assert jnp.isnan(function(bad)[1]).all()
    with fx.debug(index=True):
        assert (compiled(BAD % 3) == 1).all() and (jitted(BAD % 3) == 1).all()


def test_debug_for_the_whole_process(capfd):
    table = Table()
    loss = lambda m, idx: m(idx).sum()
    fx.debug(index=True)
    try:
        for call in (
            lambda: fx.gradient(loss, table, BAD),
            lambda: fx.withgradient(loss, table, BAD),
            lambda: fx.compile(lambda idx: jax.lax.map(table, idx[:, None]))(BAD),
        ):
            with pytest.raises(IndexError, match="got 5 in an array of shape"):
                call()
        with fx.eager(), pytest.raises(IndexError, match=MESSAGE):
            fx.gradient(loss, table, BAD)
        with fx.debug(index=False):
            assert jnp.isnan(fx.gradient(loss, table, BAD)[0].weight).sum() == 0
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"IndexError: gather expects indices from 0 to 2, got 5"):
            jax.jit(table.__call__)(BAD)
    finally:
        fx.debug(index=False)
    assert jnp.isnan(fx.compile(table)(BAD)[1]).all()
    assert capfd.readouterr().err == "", "the error is raised, not printed as well"


def test_debug_leaves_model_and_optimiser_as_they_were():
    table = Table()
    opt = fx.setup(fx.Momentum(0.1), table)
    with pytest.raises(IndexError, match=MESSAGE), fx.debug(index=True):
        fx.train(lambda m, idx: m(idx).sum(), table, [BAD % 3, BAD], opt)
    np.testing.assert_allclose(table.weight, [[0.9, 0.9], [1, 1], [0.9, 0.9]])
    fx.train(lambda m, idx: m(idx).sum(), table, [BAD % 3], opt)
    np.testing.assert_allclose(table.weight[0], 0.9 - 0.19, rtol=1e-6)


def test_debug_of_scatter_and_own_errors():
    with pytest.raises(IndexError, match="scatter expects indices from 0 to 2, got -1"), fx.debug(index=True):
        fx.compile(lambda idx: fx.scatter("add", jnp.ones(2), idx, size=3))(jnp.array([0, -1]))

    class Layer(fx.Layer):
        def __call__(self, x):
            check_indices("", x, 4, ValueError, self, what="labels")
            return x

    for checked in (Layer(), fx.compile(Layer())):
        with pytest.raises(ValueError, match=r"Layer\(\) expects labels from 0 to 3, got 5"), fx.debug(index=True):
            checked(BAD)


def test_debug_finds_the_first_nan():
    root = fx.compile(lambda x: jnp.sqrt(x) + 1)
    assert jnp.isnan(root(jnp.array(-1.0)))
    with (
        pytest.raises(FloatingPointError, match=r"invalid value \(nan\) encountered in (sqrt|add)"),
        fx.debug(nan=True),
    ):
        root(jnp.array(-1.0))
    assert jnp.isnan(root(jnp.array(-1.0)))
    with pytest.raises(TypeError, match="debug takes index=True, False or None, got 1"):
        fx.debug(index=1)
    with fx.debug():
        assert jnp.isnan(root(jnp.array(-1.0)))

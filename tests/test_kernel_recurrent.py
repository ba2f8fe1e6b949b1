"""Sequences through LSTM and GRU in one call: against XLA's loop in float64, and in every mode of differentiation."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.kernels import objects, recurrent
from fluxion.kernels.machine import AVX2, NEON, host
from fluxion.ops.recurrent import gru_scan, lstm_scan

pytestmark = pytest.mark.skipif(host() is None, reason="no kernels can be generated for this processor")

NARROW = dataclasses.replace(AVX2, workers=2)
MACHINES = [host(), NARROW] if host() and host().triple == AVX2.triple else [host()]
GATES = {"lstm": 4, "gru": 3}
SCANS = {"lstm": lstm_scan, "gru": gru_scan}
SHAPES = [(3, 1, 5), (1, 2, 16), (4, 5, 33), (2, 19, 50)]


def operands(kind, steps, batch, size, seed=0):
    """Random arrays in the order in which the scan takes them."""
    gates = GATES[kind] * size
    rng = np.random.default_rng(seed)
    states = [(batch, size)] * (2 if kind == "lstm" else 1)
    rest = [(size, gates)] + ([] if kind == "lstm" else [(gates,)])
    shapes = [(steps, batch, gates), (gates,), *states, *rest]
    return [(0.5 * rng.standard_normal(shape)).astype("float32") for shape in shapes]


def exactly(function, *arrays):
    """The function of XLA's operations, in float64."""
    with jax.enable_x64(True), fx.kernels.use("xla"):
        return function(*jax.tree.map(lambda array: jnp.asarray(array, "float64"), arrays))


def close(got, wanted, scale=1.0):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert one.dtype == "float32" and other.dtype == "float64"
        np.testing.assert_allclose(one, other, rtol=2e-5 * scale, atol=5e-6 * scale)


def runs_a_kernel(function, *arrays):
    return "fluxion_" in jax.jit(function).lower(*arrays).as_text()


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_states_agree_with_float64(kind, shape):
    arrays = operands(kind, *shape)
    assert runs_a_kernel(SCANS[kind], *arrays)
    close(SCANS[kind](*arrays), exactly(SCANS[kind], *arrays))


def weighted(kind, *arrays):
    """A number that depends on every state."""
    states = jax.tree.leaves(SCANS[kind](*arrays))
    return sum(jnp.sum(jnp.sin(state + number)) for number, state in enumerate(states))


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_agree_with_float64(kind, shape):
    arrays = operands(kind, *shape)
    gradient = jax.grad(partial(weighted, kind), tuple(range(len(arrays))))
    assert f"fluxion_{kind}_back" in jax.jit(gradient).lower(*arrays).as_text()
    close(jax.jit(gradient)(*arrays), exactly(gradient, *arrays), scale=5)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("position", [0, 2, -1])
def test_a_gradient_of_one_operand(kind, position):
    """The others' changes are known to be zero then."""
    arrays = operands(kind, 3, 4, 7)
    gradient = jax.grad(partial(weighted, kind), position % len(arrays))
    close(gradient(*arrays), exactly(gradient, *arrays), scale=5)


@pytest.mark.parametrize("kind", GATES)
def test_forward_mode(kind):
    arrays, changes = operands(kind, 3, 4, 7), operands(kind, 3, 4, 7, seed=1)
    push = lambda arrays, changes: jax.jvp(partial(weighted, kind), tuple(arrays), tuple(changes))[1]
    close(push(arrays, changes), exactly(push, arrays, changes), scale=20)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("inner", [jax.jacfwd, jax.jacrev])
def test_second_derivatives_in_every_order_of_modes(kind, outer, inner):
    x, bias, *rest = operands(kind, 2, 2, 3)
    second = lambda x, bias: outer(inner(lambda bias: weighted(kind, x, bias, *rest)))(bias)
    rest = [jnp.asarray(array) for array in rest]
    got = second(x, bias)
    with jax.enable_x64(True), fx.kernels.use("xla"):
        rest = [array.astype("float64") for array in rest]
        close(got, second(x.astype("float64"), bias.astype("float64")), scale=20)


@pytest.mark.parametrize("kind", GATES)
def test_a_gradient_under_vmap(kind):
    arrays = [
        np.stack([one, other]) for one, other in zip(operands(kind, 3, 4, 5), operands(kind, 3, 4, 5, 1), strict=True)
    ]
    gradient = jax.vmap(jax.grad(partial(weighted, kind), (0, len(arrays) - 1)))
    close(gradient(*arrays), exactly(gradient, *arrays), scale=5)


@pytest.mark.parametrize("kind", GATES)
def test_a_mapped_axis_that_the_weight_does_not_have(kind):
    x, *rest = operands(kind, 3, 4, 5)
    xs = np.stack([x, 2 * x])
    several = jax.vmap(lambda x: SCANS[kind](x, *rest))
    got = jax.tree.leaves(several(xs))
    for index in range(2):
        for one, other in zip(got, jax.tree.leaves(SCANS[kind](xs[index], *rest)), strict=True):
            np.testing.assert_allclose(one[index], other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [(), (4,)])
@pytest.mark.parametrize("kind", GATES)
def test_a_mapped_axis_becomes_part_of_the_batch(kind, batch):
    x, bias, *others = map(jnp.asarray, operands(kind, 3, 4, 5))
    count = 2 if kind == "lstm" else 1
    states, rest = others[:count], others[count:]
    if not batch:
        x, states = x[:, 0], [state[0] for state in states]
    total = lambda x: sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(SCANS[kind](x, bias, *states, *rest)))
    gradient = jax.grad(total)
    xs = jnp.stack([x, 2 * x, -x], axis=1)
    several = jax.jit(jax.vmap(gradient, in_axes=1))
    text = several.lower(xs).as_text()
    assert f"fluxion_{kind}_" in text and f"fluxion_{kind}_back" in text and "stablehlo.while" not in text
    for index, got in enumerate(several(xs)):
        np.testing.assert_allclose(got, gradient(xs[:, index]), rtol=1e-5, atol=1e-6)


def arguments_of(name, steps=4, batch=21, size=35):
    """Types of the operands and results of a kernel."""

    def array(*shape):
        return jax.ShapeDtypeStruct(shape, "float32")

    states, state = array(steps, batch, size), array(batch, size)
    if name == "lstm":
        return [array(steps, batch, 4 * size), array(4 * size), state, state, array(size, 4 * size)], [states, states]
    if name == "gru":
        bias = array(3 * size)
        return [array(steps, batch, 3 * size), bias, state, array(size, 3 * size), bias], [states]
    if name == "lstm_back":
        gates = array(steps, batch, 4 * size)
        return [states, states, state, array(size, 4 * size), states, gates], [gates, state, state]
    wide = array(steps, batch, 3 * size)
    gates = array(steps, batch, 2 * size)
    return [states, state, array(size, 3 * size), states, gates, states, states], [wide, wide, state]


KERNELS = ["lstm", "gru", "lstm_back", "gru_back"]


@pytest.mark.parametrize("name", KERNELS)
def test_machines_and_workers(name):
    """The same numbers with narrow vectors, and the same bits with any number of workers."""
    types, results = arguments_of(name)
    rng = np.random.default_rng(0)
    arrays = [(0.5 * rng.standard_normal(one.shape)).astype("float32") for one in types]
    run = partial(getattr(recurrent, name), *arrays, outputs=results)
    alone, both = (run(machine=dataclasses.replace(host(), workers=workers)) for workers in (1, 2))
    for one, other in zip(alone, both, strict=True):
        np.testing.assert_array_equal(one, other)
    for machine in MACHINES[1:]:
        for one, other in zip(alone, run(machine=machine), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_compile_for_neon(name):
    text = getattr(recurrent, name).text(*arguments_of(name), NEON)
    assert len(objects.compile_object(text, NEON)) > 1000


@pytest.mark.parametrize("kind", GATES)
def test_other_types_and_single_sequences_run_on_xla(kind):
    arrays = operands(kind, 3, 4, 5)
    assert not runs_a_kernel(SCANS[kind], *(jnp.asarray(array, "bfloat16") for array in arrays))
    with fx.kernels.use("xla"):
        assert not runs_a_kernel(SCANS[kind], *arrays)
    single = [array[:, 0] if array.ndim == 3 else array[0] if len(array) == 4 else array for array in arrays]
    got = jax.tree.leaves(SCANS[kind](*single))
    for one, other in zip(got, jax.tree.leaves(SCANS[kind](*arrays)), strict=True):
        np.testing.assert_allclose(one, other[:, 0], rtol=1e-5, atol=1e-6)


def test_a_program_for_another_device_has_no_kernel():
    arrays = operands("lstm", 3, 4, 5)
    exported = jax.export.export(jax.jit(lstm_scan), platforms=["cuda", "cpu"])(*arrays)
    assert "fluxion_" not in exported.mlir_module()
    for one, other in zip(exported.call(*arrays), lstm_scan(*arrays), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_layer_with_lengths_and_dropout_trains_as_on_xla(kind):
    rng = np.random.default_rng(0)
    x, lengths = rng.standard_normal((4, 6, 3)).astype("float32"), jnp.asarray([6, 1, 3, 5])

    def gradients():
        fx.seed(0)
        layer = getattr(fx, kind)(3, 5, layers=2, dropout=0.5, bidirectional=True)
        return fx.withgradient(lambda m: jnp.sum(m(x, lengths=lengths) ** 2), layer)

    ours = jax.tree.leaves(gradients())
    with fx.kernels.use("xla"):
        theirs = jax.tree.leaves(gradients())
    assert len(ours) == len(theirs) > 1
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)

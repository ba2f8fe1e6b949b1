"""Matrix products against float64, 1x1 convolutions as products, and the functions that kernels compute of vectors."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.kernels import mathematics, matmul, objects, product_plan, xla
from fluxion.kernels.epilogue import Epilogue
from fluxion.kernels.generated import kernel
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.machine import AVX2, NEON, host
from fluxion.kernels.product import candidates, product
from fluxion.kernels.product_plan import Form, Places, Plan, Product, make_plan
from fluxion.ops.linear import product as linear_product

pytestmark = pytest.mark.skipif(host() is None, reason="no kernels can be generated for this processor")

NARROW = dataclasses.replace(AVX2, workers=2)
MACHINES = [None, NARROW] if host() and host().triple == AVX2.triple else [None]
FORMS = list(Form)


def factors(form, rows, depth, columns, dtype="float32", seed=0):
    """Random factors, and their product in float64."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((depth, rows) if form == "tn" else (rows, depth))
    b = rng.standard_normal((columns, depth) if form == "nt" else (depth, columns))
    a, b = jnp.asarray(a, dtype), jnp.asarray(b, dtype)
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return a, b, (x.T if form == "tn" else x) @ (y.T if form == "nt" else y)


def multiply(a, b, problem, *extras, dtype="float32", **parameters):
    result = jax.ShapeDtypeStruct((problem.rows, problem.columns), dtype)
    return product(a, b, *extras, outputs=result, problem=problem, **parameters)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(FORMS),
    st.integers(1, 70),
    st.one_of(st.integers(1, 80), st.integers(500, 1100)),
    st.integers(1, 90),
    st.sampled_from(MACHINES),
    st.sampled_from(["float32", "float32", "float64", "bfloat16"]),
)
def test_products_agree_with_float64(form, rows, depth, columns, machine, dtype):
    with jax.enable_x64(dtype == "float64"):
        a, b, wanted = factors(form, rows, depth, columns, dtype)
        got = multiply(a, b, Product(form, rows, depth, columns), dtype=dtype, machine=machine)
        assert got.dtype == dtype
        bound = {"float32": 3e-6, "float64": 1e-14, "bfloat16": 4e-2}[dtype] * math.sqrt(depth)
        np.testing.assert_allclose(np.asarray(got, np.float64), wanted, rtol=0, atol=bound)


PIECES = Plan(rows=3, vectors=1, group_rows=9, group_columns=32, block_depth=32, part_depth=64)


@pytest.mark.parametrize("form", FORMS)
def test_every_cut_gives_the_product(form):
    """Several groups of rows and columns, blocks and parts of the depth, all with an incomplete last one."""
    a, b, wanted = factors(form, 22, 150, 75)
    problem = Product(form, 22, 150, 75)
    assert PIECES.counts(problem) == (3, 3, 3)
    whole = dataclasses.replace(PIECES, part_depth=160)
    for plan in (PIECES, whole):
        np.testing.assert_allclose(multiply(a, b, problem, plan=plan), wanted, atol=5e-5)


@pytest.mark.parametrize("form", FORMS)
def test_an_epilogue_follows_the_last_block(form):
    rows, depth, columns = 22, 150, 75
    a, b, sums = factors(form, rows, depth, columns)
    rng = np.random.default_rng(1)
    scale, bias = rng.standard_normal((2, columns)).astype("float32")
    residual = rng.standard_normal((rows, columns)).astype("float32")
    epilogue = Epilogue(scale=True, bias=True, residual=True, activation="relu")
    wanted = np.maximum(sums * scale + bias + residual, 0)
    for plan in (None, PIECES, dataclasses.replace(PIECES, part_depth=160)):
        got = multiply(a, b, Product(form, rows, depth, columns), scale, bias, residual, epilogue=epilogue, plan=plan)
        np.testing.assert_allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_the_number_of_workers_changes_no_bit(form):
    a, b, _ = factors(form, 130, 700, 140)
    results = [
        multiply(a, b, Product(form, 130, 700, 140), machine=dataclasses.replace(host(), workers=workers))
        for workers in (1, 2)
    ]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("form", FORMS)
def test_errors_are_no_larger_than_those_of_torch(form):
    a, b, wanted = factors(form, 64, 3000, 96)
    x, y = torch.from_numpy(np.array(a)), torch.from_numpy(np.array(b))
    theirs = (x.T if form == "tn" else x) @ (y.T if form == "nt" else y)
    ours = multiply(a, b, Product(form, 64, 3000, 96))
    assert rms(np.asarray(ours) - wanted) <= 1.5 * rms(theirs.numpy() - wanted)


def rms(array):
    return math.sqrt(np.mean(np.square(array, dtype=np.float64)))


@pytest.mark.parametrize("form", FORMS)
def test_products_compile_for_neon(form):
    shape = jax.ShapeDtypeStruct((37, 37), "float32")
    text = product.text([shape] * 2, [shape], NEON, problem=Product(form, 37, 37, 37))
    assert len(objects.compile_object(text, NEON)) > 1000


@pytest.mark.parametrize("machine", [host(), NARROW, NEON])
def test_plans_fit_the_registers_and_the_cache(machine):
    for form in FORMS:
        for shape in [(25088, 64, 256), (64, 25088, 256), (392, 2048, 512), (64, 4096, 4096), (7, 3, 5), (1, 4096, 1)]:
            problem = Product(form, *shape)
            plan = make_plan(problem, machine, "float32")
            assert plan.rows * plan.vectors + plan.vectors + 1 <= machine.registers
            assert plan.block_depth * plan.group_columns * 4 <= machine.l2
            assert plan.group_rows % plan.rows == 0 and plan.part_depth % plan.block_depth == 0
            assert math.prod(plan.counts(problem)) <= 2 * product_plan.TASKS or shape[1] * shape[2] > 1 << 22


# ---------------------------------------------------------------- 1x1 convolutions


@st.composite
def geometries(draw):
    rank = draw(st.integers(0, 3))
    axes = [(draw(st.integers(1, 6)), draw(st.integers(1, 3)), draw(st.integers(0, 1))) for _ in range(rank)]
    axes = [(size, stride, min(start, size - 1)) for size, stride, start in axes]
    inputs, outputs = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    whole = Convolution(
        batch=draw(st.integers(1, 3)),
        sizes=tuple(size for size, _, _ in axes),
        inputs=inputs,
        kernel=(1,) * rank,
        outputs=outputs,
        stride=tuple(stride for _, stride, _ in axes),
        pads=tuple((-start, 0) for _, _, start in axes),
        dilation=(1,) * rank,
    )
    return whole.trimmed()


@settings(max_examples=12, deadline=None)
@given(geometries(), st.sampled_from(list(Direction)), st.booleans(), st.sampled_from([host(), NARROW]))
def test_convolutions_of_one_tap_are_products(geometry, direction, masked, machine):
    (candidate,) = candidates(geometry, direction, "float32", machine if machine.triple == host().triple else host())
    rng = np.random.default_rng(0)
    operands = {name: rng.standard_normal(geometry.shape(name)).astype("float32") for name in direction.operands}
    y = rng.standard_normal(geometry.y_shape).astype("float32")
    counted = dict(operands)
    if masked and direction is not Direction.FORWARD:
        counted["y"] = np.where(y > 0, operands["y"], 0)
        got = candidate.run(*operands.values(), mask=y)
    else:
        got = candidate.run(*operands.values())
    with jax.enable_x64(True):
        exact = [jnp.asarray(array, "float64") for array in counted.values()]
        wanted = xla.convolve(*exact, direction=direction, geometry=geometry)
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_a_forward_candidate_takes_an_epilogue():
    geometry = Convolution(2, (5,), 3, (1,), 7, stride=(2,), pads=((0, 0),), dilation=(1,))
    (candidate,) = candidates(geometry, Direction.FORWARD, "float32", host())
    x, w = np.ones(geometry.x_shape, "float32"), np.ones(geometry.w_shape, "float32")
    bias = np.linspace(-5, 1, 7, dtype="float32")
    got = candidate.run(x, w, bias, epilogue=Epilogue(bias=True, activation="relu"))
    np.testing.assert_allclose(got, np.broadcast_to(np.maximum(3 + bias, 0), geometry.y_shape), rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [{"kernel": (3,), "sizes": (9,)}, {"pads": ((1, 0),)}, {"pads": ((0, 1),)}, {"groups": 2}],
    ids=["three taps", "low pad", "high pad", "groups"],
)
def test_other_convolutions_are_no_products(changes):
    geometry = Convolution(2, (5,), 4, (1,), 6, stride=(1,), pads=((0, 0),), dilation=(1,))
    assert candidates(geometry, Direction.FORWARD, "float32", host())
    assert not candidates(dataclasses.replace(geometry, **changes), Direction.FORWARD, "float32", host())


def test_places_count_through_the_images():
    places = Places((5, 4), (2, 2), (3, 2), (1, 0))
    wanted = [image * 20 + y * 4 + x for image in range(2) for y in (1, 4) for x in (0, 2)]
    assert [places.of(row) for row in range(8)] == wanted


# ---------------------------------------------------------------- functions of vectors


@kernel
def apply(k, x, y, *, name):
    with k.parallel(tasks=1) as f:
        for i, count in f.vectors(x.size):
            f[y].store(getattr(mathematics, name)(f, f[x].load(i, count)), i, count)


REFERENCES = {"exp": np.exp, "tanh": np.tanh, "sigmoid": scipy.special.expit}
LARGEST, SMALLEST = np.finfo("float32").max, np.finfo("float32").tiny
ENDS = [0.0, -0.0, math.inf, -math.inf, math.nan, 88.722, 88.73, -87.3, -104.5, 1e-30, -1e30, LARGEST, SMALLEST]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("name", "units"), [("exp", 2), ("tanh", 4), ("sigmoid", 4)])
def test_functions_of_vectors_are_accurate(name, units, machine):
    rng = np.random.default_rng(0)
    small = np.exp(rng.uniform(-60, 0, 5000)) * rng.choice([-1, 1], 5000)
    x = np.concatenate([np.linspace(-110, 100, 60001), small, ENDS]).astype("float32")
    got = np.asarray(apply(x, outputs=jax.ShapeDtypeStruct(x.shape, "float32"), machine=machine, name=name))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        exact = REFERENCES[name](x.astype("float64"))
        wanted = exact.astype("float32")
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(wanted))
    normal = np.isfinite(wanted) & (np.abs(wanted) >= SMALLEST)
    assert np.max(np.abs(got[normal] - exact[normal]) / np.spacing(np.abs(wanted[normal]))) <= units
    tiny = np.abs(wanted) < SMALLEST
    if name != "tanh":  # whose tiny results are its tiny arguments
        assert np.all(np.abs(got[tiny]) <= SMALLEST)
    np.testing.assert_array_equal(np.signbit(got[x == 0]), np.signbit(wanted[x == 0]))


# ---------------------------------------------------------------- products in programs


def squares(x, w):
    """A number that depends on a product in a way that no derivative makes constant."""
    return jnp.sum(jnp.sin(linear_product(x, w)) ** 2)


def single(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), "float32")


def exactly(function, *arrays):
    """The function of XLA's operations, in float64."""
    with jax.enable_x64(True), fx.kernels.use("xla"):
        return function(*(jnp.asarray(array, "float64") for array in arrays))


def close(got, wanted, bound=2e-4):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=bound, atol=bound)


@pytest.fixture
def deterministic(monkeypatch):
    """Kernels for products of any size, without timing."""
    monkeypatch.setattr(matmul, "SMALL", 0)
    with fx.kernels.use(deterministic=True):
        yield


@pytest.mark.usefixtures("deterministic")
def test_dense_products_and_their_gradients_run_on_kernels():
    w = single(64, 96, seed=1)
    program = jax.jit(jax.value_and_grad(squares, (0, 1))).lower(single(32, 64), w).as_text()
    assert program.count("fluxion_product") >= 3 and "dot_general" not in program
    for x in (single(32, 64), single(2, 16, 64)):
        close(linear_product(x, w), exactly(linear_product, x, w))
        close(jax.grad(squares, (0, 1))(x, w), exactly(jax.grad(squares, (0, 1)), x, w))


@pytest.mark.usefixtures("deterministic")
def test_only_what_is_asked_for_is_multiplied():
    x, w = single(32, 64), single(64, 96, seed=1)
    program = jax.jit(jax.grad(squares, 1)).lower(x, w).as_text()
    assert program.count("stablehlo.custom_call @fluxion_product") == 2


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("inner", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("positions", [(0, 0), (0, 1), (1, 1)])
def test_second_derivatives_of_a_product(outer, inner, positions):
    x, w = single(3, 4), single(4, 2, seed=1)
    second = outer(inner(squares, positions[0]), positions[1])
    close(second(x, w), exactly(second, x, w), 1e-3)


def test_a_product_under_vmap():
    xs, ws = single(5, 8, 6), single(5, 6, 7, seed=1)
    close(jax.vmap(linear_product)(xs, ws), exactly(jnp.matmul, xs, ws))
    close(jax.vmap(jax.grad(squares), (0, None))(xs, ws[0]), exactly(jax.vmap(jax.grad(squares), (0, None)), xs, ws[0]))


def test_other_products_run_on_xla():
    x, w = single(32, 64), single(64, 96, seed=1)
    lowered = lambda x, w: jax.jit(linear_product).lower(x, w).as_text()
    with fx.kernels.use("xla"):
        assert "fluxion_product" not in lowered(x, w)
    assert "fluxion_product" not in lowered(single(1, 1024), single(1024, 4096))
    assert "fluxion_product" not in lowered(x.astype("bfloat16"), w.astype("bfloat16"))
    assert linear_product(x[:0], w).shape == (0, 96) and linear_product(x[0], w).shape == (96,)
    exported = jax.export.export(jax.jit(linear_product), platforms=["cuda", "cpu"])(x, w)
    assert "fluxion_product" not in exported.mlir_module()
    close(exported.call(x, w), exactly(linear_product, x, w))

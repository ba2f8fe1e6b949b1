"""The builder: each construct of generated code against what it means in Python."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxion.kernels import ir, objects
from fluxion.kernels.epilogue import Epilogue
from fluxion.kernels.finish import Finish, activate
from fluxion.kernels.generated import kernel
from fluxion.kernels.machine import AVX2, NEON, host
from fluxion.kernels.tile import multiply_add, tile_rows

MACHINES = [host(), replace(AVX2, workers=2)]
if host() is None or host().name == "neon":
    MACHINES = [host()]


def like(array):
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def floats(*shape, dtype=np.float32):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


@pytest.fixture(params=MACHINES, ids=lambda machine: machine.name)
def machine(request):
    return request.param


@kernel
def counted(k, limits, out, *, start, stop, step, unroll):
    """out[0] counts the rounds, out[1] sums the counters; the bounds are constants or come from memory."""
    with k.parallel(1) as f:
        bounds = [f[limits][0] if start is None else start, f[limits][1] if stop is None else stop]
        totals = f.tile(2, value=f.constant(0, "int64"))
        for i in f.range(*bounds, step, unroll=unroll, carry=totals):
            totals[0] = totals[0] + 1
            totals[1] = totals[1] + i
        f[out][0] = f.convert(totals[0], "int32")
        f[out][1] = f.convert(totals[1], "int32")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    start=st.integers(-3, 9),
    stop=st.integers(-3, 30),
    step=st.integers(1, 4),
    unroll=st.integers(1, 5),
    known=st.tuples(st.booleans(), st.booleans()),
)
def test_a_loop_runs_as_often_as_pythons(start, stop, step, unroll, known):
    with jax.enable_x64(True):
        made = counted(
            np.array([start, stop], np.int64),
            outputs=jax.ShapeDtypeStruct((2,), "int32"),
            start=start if known[0] else None,
            stop=stop if known[1] else None,
            step=step,
            unroll=unroll,
        )
    rounds = range(start, stop, step)
    assert made.tolist() == [len(rounds), sum(rounds)]


@kernel
def nested(k, x, out):
    """Column sums, then their running maximum: a loop in a loop, and two tiles carried at once."""
    rows, columns = x.shape
    with k.parallel(1) as f:
        largest = f.tile(1, value=f.constant(-1e9, "float32"))
        last = f.tile(1, value=f.constant(0, "float32"))
        for column in f.range(columns, carry=(largest, last)):
            total = f.tile(1, value=f.constant(0, "float32"))
            for row in f.range(rows, carry=total):
                total[0] = total[0] + f[x][row * columns + column]
            with f.when(total[0] > 1.0):
                f[out][column] = total[0]
            with f.when(~(total[0] > 1.0)):
                f[out][column] = 0.0
            largest[0] = f.maximum(largest[0], total[0])
            last[0] = total[0]
        f[out][columns] = largest[0]
        f[out][columns + 1] = last[0]


def test_loops_nest_and_branches_branch(machine):
    x = floats(5, 7)
    sums = x.sum(0)
    wanted = [*np.where(sums > 1, sums, 0), sums.max(), sums[-1]]
    made = nested(x, outputs=jax.ShapeDtypeStruct((9,), "float32"), machine=machine)
    np.testing.assert_allclose(made, wanted, rtol=1e-5)


@kernel
def scaled(k, x, y, *, tasks):
    with k.parallel(tasks) as f:
        share = -(-x.size // tasks)
        start = f.task * share
        for i, count in f.vectors(start, f.minimum(start + share, x.size), dtype=x.dtype):
            f[y].store(f[x].load(i, count) * 3.0, i, count)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(("size", "tasks"), [(1, 1), (5, 2), (16, 1), (53, 4), (1000, 37)])
def test_vectors_and_their_masked_rest(machine, dtype, size, tasks):
    with jax.enable_x64(True):
        x = jnp.asarray(floats(size), dtype)
        made = scaled(x, outputs=like(x), tasks=tasks, machine=machine)
        assert made.dtype == x.dtype
        np.testing.assert_array_equal(np.asarray(made, "float64"), np.asarray(x * 3, "float64"))


def test_bfloat16_is_rounded_to_nearest_even():
    bits = np.random.default_rng(0).integers(0, 2**32, 5000, dtype=np.uint32)
    x = jnp.asarray(bits.view(np.float32))

    @kernel
    def rounded(k, x, y):
        with k.parallel(1) as f:
            for i, count in f.vectors(x.size):
                f[y].store(f[x].load(i, count), i, count)

    made = rounded(x, outputs=jax.ShapeDtypeStruct(x.shape, "bfloat16"))
    np.testing.assert_array_equal(np.asarray(made, "float32"), np.asarray(x.astype("bfloat16"), "float32"))


@kernel
def mathematics(k, x, y, *, of):
    functions = {
        "sqrt": lambda f, v: f.sqrt(f.absolute(v)),
        "floor": lambda f, v: f.floor(v * 3.0),
        "round": lambda f, v: f.round(v * 3.0),
        "copysign": lambda f, v: f.copysign(f.constant(2.0, "float32", v.lanes), v),
        "maximum": lambda f, v: f.maximum(v, 0.25),
        "minimum": lambda f, v: f.minimum(0.25, v),
        "divide": lambda f, v: 1.0 / v,
        "difference": lambda f, v: 1.0 - v,
        "negative": lambda f, v: -v,
        "select": lambda f, v: f.select((v > -0.5) & (v < 0.5), 7.0, v),
        "relu": lambda f, v: activate(f, v, "relu"),
        "relu6": lambda f, v: activate(f, v * 10.0, "relu6"),
        "bits": lambda f, v: f.bits(f.bits(v, "int32") & 0x7FFFFFFF, "float32"),
        "int": lambda f, v: f.convert(f.convert(v * 10.0, "int32"), "float32"),
        "sum": lambda f, v: f.splat(f.sum_lanes(v), v.lanes),
        "max": lambda f, v: f.splat(f.max_lanes(v), v.lanes),
    }
    with k.parallel(1) as f:
        f[y].store(functions[of](f, f[x].load()))


FORMULAS = {
    "sqrt": lambda x: np.sqrt(np.abs(x)),
    "floor": lambda x: np.floor(x * np.float32(3)),
    "round": lambda x: np.rint(x * np.float32(3)),
    "copysign": lambda x: np.copysign(2, x),
    "maximum": lambda x: np.maximum(x, 0.25),
    "minimum": lambda x: np.minimum(x, 0.25),
    "divide": lambda x: 1 / x,
    "difference": lambda x: 1 - x,
    "negative": lambda x: -x,
    "select": lambda x: np.where(np.abs(x) < 0.5, 7, x),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x * np.float32(10), 0, 6),
    "bits": np.abs,
    "int": lambda x: np.trunc(x * np.float32(10)),
    "sum": lambda x: np.full_like(x, x.sum()),
    "max": lambda x: np.full_like(x, x.max()),
}


@pytest.mark.parametrize("of", FORMULAS)
def test_functions_of_vectors(machine, of):
    x = floats(machine.lanes())
    made = mathematics(x, outputs=like(x), of=of, machine=machine)
    np.testing.assert_allclose(made, FORMULAS[of](x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_activations_keep_nan(activation):
    x = np.full(host().lanes(), np.nan, np.float32)
    assert np.isnan(mathematics(x, outputs=like(x), of=activation)).all()


@kernel
def filled(k, y, *, numbers):
    with k.parallel(1) as f:
        for place, number in enumerate(numbers):
            f[y].store(f.constant(number, y.dtype, 1), place)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_constants_keep_their_bits(dtype):
    numbers = (0, 1, -1, 2**31 - 1, -(2**31))
    if dtype != "int32":
        numbers = (0.0, -0.0, 1.0, 0.1, -1e-45, 3.4e38, float("inf"), float("-inf"), 2.0**-149)
    wanted = np.array(numbers, dtype)
    with jax.enable_x64(True):
        made = filled(outputs=like(wanted), numbers=numbers)
    assert np.asarray(made).tobytes() == wanted.tobytes()


@kernel
def indices(k, given, out):
    with k.parallel(1) as f:
        n = f.convert(f[given][0], "int64")
        values = [n // 3, n % 3, n * 0, n * 1 + 0, (n << 2) - n, n >> 1, 10 - n, 100 // n, n & 6, n | 9, n ^ 5]
        for place, value in enumerate(values):
            f[out][place] = f.convert(f.number(value), "int32")


def test_arithmetic_of_indices():
    made = indices(np.array([7], np.int32), outputs=jax.ShapeDtypeStruct((11,), "int32"))
    assert made.tolist() == [2, 1, 0, 7, 21, 3, 3, 14, 6, 15, 2]


@kernel
def transposed(k, x, y):
    lanes = k.lanes()
    with k.parallel(1) as f:
        for row, vector in enumerate(f.transpose([f[x].load(row * lanes) for row in range(lanes)])):
            f[y].store(vector, row * lanes)


def test_transpose_in_registers(machine):
    x = floats(machine.lanes(), machine.lanes())
    np.testing.assert_array_equal(transposed(x, outputs=like(x), machine=machine), x.T)


@kernel
def looked_up(k, x, y):
    table, lanes = k.table([3, 0, 2, 1]), k.lanes()
    with k.routine("copy_vector", "float32*", "float32*", "int64") as r:
        source, target, offset = r.arguments
        target.store(source.load(offset * lanes))
    with k.parallel(4) as f:
        f.call(r, f[x], f[y] + f.task * lanes, f[table][f.task])


def test_tables_and_routines(machine):
    x = floats(4, machine.lanes())
    np.testing.assert_array_equal(looked_up(x, outputs=like(x), machine=machine), x[[3, 0, 2, 1]])


@kernel
def product(k, a, b, c):
    """A whole matrix product around the register tile: rows are clamped, the last columns masked."""
    (m, depth), n, lanes = a.shape, b.shape[1], k.lanes()
    columns = min(2, -(-n // lanes))
    rows, wide = min(tile_rows(k.machine, columns), m), columns * lanes
    blocks = -(-n // wide)
    packed = k.scratch(blocks * depth * wide)
    with k.parallel(blocks) as f:
        for i in f.range(depth):
            for v in range(columns):
                column = f.task * wide + v * lanes
                vector = f[b].load(i * n + f.minimum(column, n), f.minimum(n - column, lanes))
                f[packed].store(vector, (f.task * depth + i) * wide + v * lanes)
    with k.parallel(-(-m // rows)) as f:
        row = f.minimum(f.task * rows, m - rows)
        for block in f.range(blocks):
            total = f.tile(rows, columns)
            multiply_add(f, total, f[a] + row * depth, depth, f[packed] + block * depth * wide, depth, b_step=wide)
            for r in range(rows):
                for v in range(columns):
                    column = block * wide + v * lanes
                    f[c].store(total[r, v], (row + r) * n + f.minimum(column, n), n - column)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 5), (30, 64, 33), (29, 40, 50)])
def test_the_register_tile(machine, shape):
    m, n, depth = shape
    a, b = floats(m, depth), floats(depth, n)
    made = product(a, b, outputs=jax.ShapeDtypeStruct((m, n), "float32"), machine=machine)
    np.testing.assert_allclose(made, a.astype("float64") @ b, atol=1e-5)


def test_code_for_neon_compiles():
    shapes = [jax.ShapeDtypeStruct((30, 30), "float32")] * 3
    code = objects.compile_object(product.text(shapes[:2], shapes[2:], NEON), NEON)
    assert code[:4] == b"\x7fELF" and code[18] == 183  # the number of AArch64 in an ELF header


@pytest.mark.parametrize("extras", [(), ("bias",), ("scale", "bias"), ("scale",), ("bias", "residual")])
def test_an_epilogue_scales_shifts_adds_and_activates(machine, extras):
    @kernel
    def finished(k, x, *rest):
        *parts, y = rest
        rows, columns = x.shape
        with k.parallel(rows) as f:
            store = Finish(f, Epilogue(**dict.fromkeys(extras, True), activation="relu"), parts, y)
            for i, count in f.vectors(columns):
                store(f[x].load(f.task * columns + i, count), f.task * columns + i, i, count)

    x, scale, bias, residual = floats(4, 37), floats(37) + 2, floats(37) * 2, floats(4, 37) * 3
    known = {"scale": scale, "bias": bias, "residual": residual}
    given = [known[name] for name in extras]
    wanted = x * (scale if "scale" in extras else 1) + sum(known[name] for name in extras if name != "scale")
    made = finished(x, *given, outputs=like(x), machine=machine)
    np.testing.assert_allclose(made, np.maximum(wanted, 0), atol=1e-6)


def test_an_unknown_activation_of_an_epilogue_is_an_error():
    with pytest.raises(ValueError, match=r"one of the activations \('identity', 'relu', 'relu6'\), got 'gelu'"):
        Epilogue(activation="gelu")


# -------------------------------------------------------------------- mistakes while code is written


def build(body):
    x = jnp.ones(4)

    @kernel
    def mistaken(k, x, y):
        with k.parallel(1) as f:
            body(f, f[x], f[y])

    return mistaken(x, outputs=x)


def test_a_branch_of_python_on_a_generated_number_is_an_error():
    def body(f, x, y):
        if x[0] > 1.0:
            y[0] = 1.0

    with pytest.raises(TypeError, match=r"no value while the code is generated: use f.when or f.select"):
        build(body)


def test_equality_in_python_is_an_error():
    with pytest.raises(TypeError, match=r"write a.equals\(b\)"):
        build(lambda f, x, y: x[0] == 1.0)
    with pytest.raises(TypeError, match=r"write a.equals\(b\)"):
        build(lambda f, x, y: x[0] != x[1])


@kernel
def numbered(k, x, y, *, value):
    kind = {bool: 2.0, int: 3.0}.get(type(value), 4.0)
    with k.parallel(1) as f:
        f[y][0] = f.constant(math.copysign(kind, value), "float32")


def test_parameters_that_are_equal_but_not_the_same_have_kernels_of_their_own():
    x = jnp.ones(1)
    made = [numbered(x, outputs=x, value=value).item() for value in (1, True, 1.0, 0.0, -0.0)]
    assert made == [3.0, 2.0, 4.0, 4.0, -4.0]


def test_phases_and_types_that_make_no_sense():
    def of(tasks):
        @kernel
        def mistaken(k, x, y):
            for count in tasks:
                with k.parallel(count):
                    pass

        return lambda: mistaken(jnp.ones(4), outputs=jnp.ones(4))

    for tasks in ([0], [1.5]):
        with pytest.raises(ValueError, match=r"k.parallel takes the number of tasks, an int of at least 1, got"):
            of(tasks)()
    with pytest.raises(RuntimeError, match="a kernel needs a phase that writes its results"):
        of([])()

    @kernel
    def nested(k, x, y):
        with k.parallel(1), k.parallel(1):
            pass

    with pytest.raises(RuntimeError, match="end one phase before the next"):
        nested(jnp.ones(4), outputs=jnp.ones(4))
    with pytest.raises(TypeError, match=r"kernels take arrays of bool, int8, .* got one of float16"):
        numbered(jnp.ones(1, "float16"), outputs=jnp.ones(1), value=1)
    with pytest.raises(TypeError, match="numbers of type float32 have no //"):
        build(lambda f, x, y: x[0] // 2.0)


def test_a_choice_between_floats_of_python_has_no_type():
    with pytest.raises(TypeError, match=r"f.select cannot tell the type of 1.0 and 2.0"):
        build(lambda f, x, y: f.select(f.task < 3, 1.0, 2.0))


def test_lanes_choose_between_scalars():
    def body(f, x, y):
        y.store(f.select(x.load(lanes=4) < x[2], x[0], 7.0), count=4)

    assert build(body).tolist() == [7.0] * 4


def test_leaving_a_loop_early_is_an_error():
    def body(f, x, y):
        for _ in f.range(3):
            break

    with pytest.raises(RuntimeError, match="left by break or return: leave it by its end"):
        build(body)


def test_a_change_that_no_loop_carries_is_an_error():
    def body(f, x, y):
        total = f.tile(1, value=f.constant(0, "float32"))
        for i in f.range(3):
            total[0] = total[0] + x[i]

    with pytest.raises(RuntimeError, match=r"does not carry it: name it in f.range\(..., carry=tile\)"):
        build(body)


def sum_that_is_not_carried(f, x, y, count):
    total = f.constant(0, "float32")
    for i in f.range(count):
        total = total + x[i]
    y[0] = total


def pointer_that_a_loop_moves(f, x, y, count):
    place = x
    for i in f.range(2):
        for j in f.range(count):
            place = x + (i + j)
        y[0] = place[0]


@pytest.mark.parametrize("body", [sum_that_is_not_carried, pointer_that_a_loop_moves])
@pytest.mark.parametrize("known", [True, False])
def test_a_number_of_a_loop_that_is_used_behind_it_is_an_error(body, known):
    with pytest.raises(RuntimeError, match=r"used behind it: keep it in a tile, and name that in f.range\(..., carry="):
        build(lambda f, x, y: body(f, x, y, 3 if known else f.convert(x[0], "int64")))


@pytest.mark.parametrize("inner", [2, None])
def test_a_tile_hands_numbers_on_from_loop_to_loop(inner):
    @kernel
    def handed(k, x, y):
        with k.parallel(1) as f:
            count = f.convert(f[x][0], "int64") if inner is None else inner
            outside = f.tile(1, value=f.constant(0, "float32"))
            for i in f.range(3, carry=outside):
                inside = f.tile(1, value=outside[0])
                for _ in f.range(count, carry=inside):
                    inside[0] = inside[0] + f[x][i]
                outside[0] = inside[0] * 2.0
            f[y][0] = outside[0] + f[x][0]

    x = jnp.asarray([2.0, 3.0, 5.0])
    assert handed(x, outputs=jax.ShapeDtypeStruct((1,), "float32")).tolist() == [((4 * 2 + 6) * 2 + 10) * 2 + 2]


def test_memory_takes_numbers_of_its_own_type():
    def body(f, x, y):
        y[0] = f.constant(1, "int32")

    with pytest.raises(TypeError, match="memory of type float32 takes a number of type float32, got int32"):
        build(body)


def test_a_buffer_is_read_through_its_pointer():
    @kernel
    def mistaken(k, x, y):
        with k.parallel(1):
            y[0] = x[0]

    with pytest.raises(TypeError, match=r"write f\[buffer\]\[index\]"):
        mistaken(jnp.ones(4), outputs=jnp.ones(4))


def test_numbers_of_two_types_do_not_mix():
    with pytest.raises(TypeError, match="a number of type float32 meets one of type int64: convert one of them"):
        build(lambda f, x, y: x[0] + f.number(1))


def test_a_scalar_is_no_vector():
    with pytest.raises(TypeError, match=r"takes a vector; write pointer\[offset\] = number"):
        build(lambda f, x, y: y.store(x[0]))


def test_constants_fold():
    module = ir.Module()
    from fluxion.kernels.builder import Function

    f = Function(module, NEON, "f", ("int64",))
    n = f.arguments[0]
    assert n + 0 is n and n * 1 is n and n // 1 is n and n * 0 == 0 and n % 1 == 0
    f.finish()
    assert len(f.ir.place.lines) == 0

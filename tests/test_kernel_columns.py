"""Sums over the rows of a matrix, which are the gradient of a bias."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxion.kernels import objects
from fluxion.kernels.columns import column_sums, column_sums_call
from fluxion.kernels.machine import AVX2, NEON, host

MACHINES = {machine.name: machine for machine in (host(), replace(AVX2, workers=2))}


def draw(rows, channels, dtype):
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, rows, channels)), dtype)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    rows=st.sampled_from([1, 2, 31, 33, 2100]),
    channels=st.sampled_from([1, 3, 16, 17, 64, 130]),
    dtype=st.sampled_from(["float32", "float64", "bfloat16"]),
    masked=st.booleans(),
    machine=st.sampled_from(sorted(MACHINES)),
)
def test_sums(rows, channels, dtype, masked, machine):
    with jax.enable_x64(True):
        x, mask = draw(rows, channels, dtype)
        (made,) = column_sums_call(MACHINES[machine], x, *[mask] * masked)(x, *[mask] * masked)
        x, mask, sums = (np.asarray(a, "float64") for a in (x, mask, made))
    counted = np.where(mask > 0, x, 0) if masked else x
    assert made.dtype == dtype and made.shape == (channels,)
    error = {"float32": 1e-6, "float64": 1e-15, "bfloat16": 4e-3}[dtype]
    assert np.all(np.abs(sums - counted.sum(0)) <= error * np.maximum(np.abs(counted).sum(0), 1))


def test_axes_in_front_are_rows():
    x = draw(6, 4, "float32")[0]
    (sums,) = column_sums_call(host(), x.reshape(2, 3, 4))(x.reshape(2, 3, 4))
    np.testing.assert_allclose(sums, x.sum(0), rtol=1e-6)


def test_the_number_of_workers_changes_no_bit():
    x, mask = draw(5000, 24, "float32")
    one, two = (column_sums_call(replace(host(), workers=workers), x, mask)(x, mask)[0] for workers in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("dtype", ["float16", "int32"])
def test_other_types_are_left_to_xla(dtype):
    assert column_sums_call(host(), jax.ShapeDtypeStruct((4, 4), dtype)) is None


def test_code_for_neon_compiles():
    matrix, channels = jax.ShapeDtypeStruct((50, 20), "float32"), jax.ShapeDtypeStruct((20,), "float32")
    assert objects.compile_object(column_sums.text([matrix, matrix], [channels], NEON), NEON)[:4] == b"\x7fELF"

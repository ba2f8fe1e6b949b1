"""Rows collected at random places, against NumPy."""

import numpy as np
import pytest

from fluxion.kernels import machine, objects, rows
from fluxion.kernels.availability import usable_machine


@pytest.mark.parametrize("shape", [(4000, 64, 17), (9000, 1024), (3_000, 7, 151), (40_000, 65)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.float16, np.int64])
def test_rows_are_those_of_numpy(shape, dtype, monkeypatch):
    monkeypatch.setattr(rows, "LEAST_ARRAY", 0)
    monkeypatch.setattr(rows, "LEAST_ROW", 64)
    draws = np.random.default_rng(0)
    array = draws.integers(0, 100, shape).astype(dtype)
    for count in (0, 1, 2, 129):
        index = draws.integers(0, shape[0], count)
        guarded = np.full((count + 2, *shape[1:]), 77, dtype)
        rows.RowTaker(array)(index, guarded[1:-1])
        np.testing.assert_array_equal(guarded[1:-1], array[index])
        assert (guarded[0] == 77).all() and (guarded[-1] == 77).all()


@pytest.mark.parametrize(
    "array",
    [np.zeros((70_000, 40), np.float32).T, np.arange(8 << 20, dtype=np.float32).reshape(1 << 13, -1)[::2]],
    ids=["transposed", "every second"],
)
def test_arrays_that_are_not_contiguous_are_left_to_numpy(array, monkeypatch):
    monkeypatch.setattr(rows, "routine", lambda *_: pytest.fail("the routine takes contiguous arrays"))
    index = np.array([3, 1, 2])
    out = np.empty((3, *array.shape[1:]), array.dtype)
    rows.RowTaker(array)(index, out)
    np.testing.assert_array_equal(out, array[index])


def test_one_row_whose_stride_is_longer_than_the_row(monkeypatch):
    monkeypatch.setattr(rows, "LEAST_ARRAY", 0)
    array = np.arange(2048, dtype=np.float32).reshape(2, -1)[::2]
    assert array.flags.c_contiguous and array.strides[0] == 2 * array.nbytes
    out = np.full((3, *array.shape[1:]), 77, np.float32)
    rows.RowTaker(array)(np.array([0]), out[:1])
    np.testing.assert_array_equal(out[:1], array)
    assert (out[1:] == 77).all()


def test_the_routine_is_used_where_it_pays():
    if usable_machine() is None:
        pytest.skip("no kernels on this machine")
    assert rows.routine("take_rows", rows.ARGUMENTS, rows.routine_text) is not None


@pytest.mark.parametrize("kind", [machine.AVX512, machine.AVX2, machine.NEON], ids=lambda kind: kind.name)
def test_code_for_every_machine(kind):
    assert objects.compile_object(rows.routine_text(kind), kind)

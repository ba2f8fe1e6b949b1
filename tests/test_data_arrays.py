"""Cutting, stacking, scaling and searching arrays, sequences of unequal length, made-up data sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import cases_of
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion import data
from fluxion.random import Generator


@pytest.mark.parametrize("case", cases_of("arrays"), ids=str)
def test_case(case):
    case.check()


@pytest.mark.parametrize("case", cases_of("arrays"), ids=str)
def test_random_options(case):
    case.check_random()


ON_ARRAYS = {
    "chunk": lambda x: data.chunk(x, 2),
    "stack": lambda x: data.stack([x, x]),
    "unstack": data.unstack,
    "unsqueeze": lambda x: data.unsqueeze(x, 0),
    "rpad_constant": lambda x: data.rpad_constant(x, 5),
    "normalise": data.normalise,
    "rescale": data.rescale,
    "topk": lambda x: data.topk(x, 2),
    "batched_searchsorted": lambda x: data.batched_searchsorted(x, x),
    "pad_sequences": lambda x: data.pad_sequences([x, x[:1]])[0],
    "batchseq": lambda x: data.batchseq([x, x[:1]]),
}


@pytest.mark.parametrize("name", ON_ARRAYS)
def test_arrays_stay_what_they_are(name):
    x = np.array([[1.0, 2.0, 4.0], [3.0, 5.0, 7.0]], np.float32)
    on_host, on_device = ON_ARRAYS[name](x), ON_ARRAYS[name](jnp.asarray(x))
    compiled = jax.jit(ON_ARRAYS[name])(x)
    assert all(type(part) is np.ndarray for part in jax.tree.leaves(on_host))
    assert all(isinstance(part, jax.Array) for part in jax.tree.leaves(on_device))
    for host, device, inside in zip(*map(jax.tree.leaves, (on_host, on_device, compiled)), strict=True):
        np.testing.assert_allclose(host, device, rtol=1e-6)
        np.testing.assert_allclose(host, inside, rtol=1e-5, atol=1e-6)
        assert host.dtype.kind == device.dtype.kind


def test_types():
    assert data.stack([[1.0], [2.0]]).dtype == data.normalise([1, 2]).dtype == np.float32
    assert data.rescale(np.ones(3, np.float64)).dtype == np.float64
    assert data.rescale(np.ones(3, np.float16)).dtype == np.float16
    assert data.topk(np.array([3, 1], np.int8), 1)[0].dtype == np.int8
    large = np.linspace(0, 60000, 200, dtype=np.float16)
    assert data.normalise(large).std() == pytest.approx(1, abs=0.01)
    labels = [fx.onehot(1, range(3)), fx.onehot(2, range(3))]
    assert isinstance(data.stack(labels), fx.OneHotArray)


def test_chunk_gives_views_and_fewer_parts_than_asked_for():
    x = np.arange(10)
    assert all(np.shares_memory(part, x) for part in data.chunk(x, 3))
    assert [part.tolist() for part in data.chunk(np.arange(4), 3)] == [[0, 1], [2, 3]]
    assert [part.tolist() for part in data.chunk(range(3), 5)] == [[0], [1], [2]]
    assert [len(part) for part in data.chunk(np.zeros((0, 2)), 3)] == [0]
    assert [part.shape for part in data.chunk(np.zeros((4, 6)), size=np.array([2, 4]), axis=1)] == [(4, 2), (4, 4)]


def test_chunk_and_unstack_inside_a_gradient():
    def loss(x):
        gate, value = data.chunk(x, 2, axis=-1)
        return (fx.sigmoid(gate) * value).sum() + data.unstack(x)[0].sum()

    (gradient,) = fx.gradient(loss, jnp.zeros((2, 4)))
    assert gradient.tolist() == [[1, 1, 1.5, 1.5], [0, 0, 0.5, 0.5]]


def test_constant_columns_have_finite_gradients():
    x = jnp.array([[1.0, 2.0], [1.0, 3.0]])
    assert data.normalise(x)[:, 0].tolist() == data.rescale(x)[:, 0].tolist() == [0, 0]
    for scale in (data.normalise, data.rescale):
        (gradient,) = fx.gradient(lambda x, scale=scale: (scale(x) ** 2).sum(), x)
        assert jnp.isfinite(gradient).all()


def test_the_two_normalisations_differ_in_their_eps():
    x = np.array([0.0, 2.0])
    assert data.normalise(x, eps=1.0)[1] == 0.5
    assert fx.normalise(x, eps=1.0)[1] == pytest.approx(1 / np.sqrt(2))


def test_topk_of_equal_entries_and_nan():
    values, indices = data.topk(np.array([1.0, 2.0, 2.0, np.nan, 1.0]), 5)
    assert indices.tolist() == [3, 1, 2, 0, 4] and np.isnan(values[0])
    assert data.topk(np.array([2, 1, 1]), 3, largest=False)[1].tolist() == [1, 2, 0]
    values, indices = data.topk(np.array([[1, 5], [4, 2]]), 1, axis=0)
    assert values.tolist() == [[4, 5]] and indices.tolist() == [[1, 0]]
    assert data.topk(jnp.array([0, 255], jnp.uint8), 1)[0].tolist() == [255]
    (gradient,) = fx.gradient(lambda x: data.topk(x, 2)[0].sum(), jnp.array([3.0, 1.0, 2.0]))
    assert gradient.tolist() == [1, 0, 1]


def test_searching_gives_the_first_and_the_last():
    ordered, x = np.array([[1, 2, 2, 5]]), np.array([[0, 2, 6]])
    assert data.batched_searchsorted(ordered, x).tolist() == [[0, 1, 4]]
    assert (data.batched_searchsorted(ordered, x, side="right") - 1).tolist() == [[-1, 2, 3]]
    assert data.batched_searchsorted(ordered.T, x.T, axis=0).tolist() == [[0], [1], [4]]
    assert data.batched_searchsorted(np.zeros((0, 4)), np.zeros((0, 2))).shape == (0, 2)


# ---- sequences


@given(st.lists(st.lists(st.integers(-9, 9), min_size=0, max_size=5), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_padded_sequences_hold_the_sequences(sequences):
    batch, lengths = data.pad_sequences([np.array(sequence, int) for sequence in sequences], value=99)
    assert batch.shape == (len(sequences), max(map(len, sequences)))
    assert lengths.dtype == np.int32 and lengths.tolist() == [len(sequence) for sequence in sequences]
    for row, sequence in zip(batch, sequences, strict=True):
        assert row[: len(sequence)].tolist() == sequence and (row[len(sequence) :] == 99).all()


def test_sequences_of_vectors_one_hot_free():
    sequences = [np.ones((2, 3)), np.ones((4, 3))]
    assert data.pad_sequences(sequences)[0].shape == (2, 4, 3)
    assert [step.shape for step in data.batchseq(sequences)] == [(2, 3)] * 4
    np.testing.assert_array_equal(data.batch_sequence(sequences, 7)[0, 2:], 7)
    for wrong, message in [
        ([], "at least one sequence"),
        ([np.ones((2, 3)), np.ones((2, 4))], r"sequence 0 has shape \(2, 3\), sequence 1 has \(2, 4\)"),
        ([1, 2], r"sequence 0 has shape \(\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.pad_sequences(wrong)


def test_a_loader_pads_each_batch():
    words = ["to", "be", "or", "not"]
    sequences = [np.array([ord(letter) for letter in word]) for word in words]
    loader = data.DataLoader(sequences, batch_size=2, collate=data.pad_sequences)
    assert [(batch.shape, lengths.tolist()) for batch, lengths in loader] == [((2, 2), [2, 2]), ((2, 3), [2, 3])]


def test_padded_sequences_go_into_recurrent_layers():
    batch, lengths = data.pad_sequences([np.ones((3, 2), np.float32), np.ones((1, 2), np.float32)])
    y = fx.LSTM(2, 4)(batch, lengths=lengths)
    assert y.shape == (2, 3, 4) and not y[1, 1:].any()


# ---- made-up data


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (data.make_sin, [(50,), (50,)]),
        (lambda **options: data.make_poly([1, 2, 3], np.linspace(-1, 1, 20), **options), [(20,), (20,)]),
        (data.make_spiral, [(194, 2), (194,)]),
        (data.make_moons, [(100, 2), (100,)]),
    ],
)
def test_made_up_data_repeats(make, shapes):
    one, two, other = (make(noise=0.2, rng=Generator(seed)) for seed in (1, 1, 2))
    assert [part.shape for part in one] == shapes and one[0].dtype == np.float32
    assert one[1].dtype == (np.int32 if one[0].ndim == 2 else np.float32)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
    assert (one[0] != other[0]).any() or (one[1] != other[1]).any()
    exact, noisy = make(noise=0.0, rng=Generator(1)), one
    varied = 0 if one[0].ndim == 2 else 1
    if make is not data.make_moons:
        assert 0.1 < (noisy[varied] - exact[varied]).std() < 0.3


def test_what_made_up_data_looks_like():
    x, y = data.make_sin(7, 1.0, 4.0, noise=0.0)
    np.testing.assert_allclose(y, np.sin(x), rtol=1e-5, atol=1e-6)
    assert x[0] == 1 and x[-1] == 4
    x, y = data.make_spiral(noise=0.0)
    assert y.tolist() == [1] * 97 + [0] * 97
    np.testing.assert_array_equal(x[:97], -x[97:])
    np.testing.assert_allclose(x[0], [0, 6.5])
    np.testing.assert_allclose(x[8], [6.5 * 96 / 104, 0], atol=1e-6)
    x, y = data.make_moons(7, shuffle=False)
    assert y.tolist() == [0, 0, 0, 1, 1, 1, 1]
    np.testing.assert_allclose(np.hypot(*x[:3].T), 1, rtol=1e-6)
    np.testing.assert_allclose(np.hypot(*(x[3:] - [1, 0.5]).T), 1, rtol=1e-6)
    assert (x[:3, 1] >= 0).all() and (x[3:, 1] <= 0.5).all()
    with pytest.raises(ValueError, match="n must be at least 2, got 1"):
        data.make_moons(1)


# ---- what does not fit


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: data.rpad_constant([1], 3, 0.5),
            ValueError,
            "cannot put 0.5 into an array of int64; convert the array",
        ),
        (
            lambda: data.rpad_constant(np.array([1], np.uint8), 3, 300),
            ValueError,
            "cannot put 300 into an array of uint8",
        ),
        (lambda: data.pad_sequences([["a"], ["b", "c"]]), ValueError, "cannot put 0 into an array of <U1"),
        (lambda: data.rpad_constant([1], 3, [1, 2]), ValueError, r"one number as its value, got one of shape \(2,\)"),
        (lambda: data.rpad_constant([1], (3, 3), axis=(0, 0)), ValueError, r"takes axes that differ, .* got \(0, 0\)"),
        (
            lambda: data.chunk([1, 2], 2, axis=1),
            ValueError,
            "chunk takes axes that differ, of an array with 1 axes, got 1",
        ),
        (lambda: data.topk([1, 2], 1, axis=1), ValueError, "topk takes axes that differ"),
        (lambda: data.normalise(np.zeros((0, 2))), ValueError, r"normalise needs observations, got .* \(0, 2\)"),
        (lambda: data.rescale(np.zeros((0, 2))), ValueError, "rescale needs observations"),
        (lambda: data.normalise([1j, 2.0]), TypeError, "normalise takes real numbers, got an array of complex128"),
    ],
)
def test_what_does_not_fit(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_an_empty_sequence_has_the_type_of_the_others():
    batch, lengths = data.pad_sequences([[], [1, 2]])
    assert batch.dtype == np.int64 and batch.tolist() == [[0, 0], [1, 2]] and lengths.tolist() == [0, 2]
    assert data.pad_sequences([[], []])[0].shape == (2, 0)
    assert data.pad_sequences([["a"], ["b", "c"]], "")[0].tolist() == [["a", ""], ["b", "c"]]
    assert [part.tolist() for part in data.chunk([], partition=[], n=2)] == [[], []]

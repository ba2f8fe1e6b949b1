"""One-hot arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx


def dense(y):
    return np.asarray(y).astype(int).tolist()


def test_onehot():
    assert dense(fx.onehot("b", ["a", "b", "c"])) == [0, 1, 0]
    assert dense(fx.onehot("z", "abc", "c")) == [0, 0, 1] and fx.onehot(3, range(10)).shape == (10,)
    assert dense(fx.onehot(jnp.array(1), range(3))) == dense(fx.onehot(np.int8(1), range(3))) == [0, 1, 0]
    assert dense(jax.jit(lambda x: jnp.asarray(fx.onehot(x, range(3))))(1)) == [0, 1, 0]


BATCHES = [
    ([1, 0, 2], range(3), [1, 0, 2]),
    ([10, 30], [30, 20, 10], [2, 0]),
    (np.array([[10, 30], [20, 20]]), [30, 20, 10], [[2, 0], [1, 1]]),
    ([[0, 1], [2, 2]], range(3), [[0, 1], [2, 2]]),
    (np.array([1.5, 0.5]), [0.5, 1.5], [1, 0]),
    ("abca", "abc", [0, 1, 2, 0]),
    (["x", "yy"], ["yy", "x"], [1, 0]),
    (np.array(["x", "yy"]), ["yy", "x"], [1, 0]),
    (np.array(["x", None], object), [None, "x"], [1, 0]),
    ([(1, 2), (3, 4)], [(3, 4), (1, 2)], [1, 0]),
    ((c for c in "ba"), ("a", "b"), [1, 0]),
    ([True, False], [False, True], [1, 0]),
    (np.array([300], np.int64), range(256, 512), [44]),
    ([jnp.array(2), jnp.array(0)], range(3), [2, 0]),
]


@pytest.mark.parametrize(("values", "labels", "wanted"), BATCHES)
def test_onehotbatch(values, labels, wanted):
    y = fx.onehotbatch(values, labels)
    assert y.indices.tolist() == wanted and y.indices.dtype == np.int32
    assert y.shape == (*np.shape(wanted), len(list(labels))) and y.dtype == bool
    assert fx.onecold(y).tolist() == wanted
    assert isinstance(y.indices, np.ndarray)


def test_onehotbatch_of_jax_arrays_and_while_tracing():
    x = jnp.array([[3, 5], [5, 7]])
    y = fx.onehotbatch(x, [3, 5, 7])
    assert isinstance(y.indices, jax.Array) and y.indices.tolist() == [[0, 1], [1, 2]]
    traced = jax.jit(lambda x: jnp.asarray(fx.onehotbatch(x, [3, 5])))(x)
    assert dense(traced) == [[[1, 0], [0, 1]], [[0, 1], [0, 0]]]
    assert dense(jax.jit(lambda x: jnp.asarray(fx.onehotbatch(x, [3, 5], 3)))(x))[1] == [[0, 1], [1, 0]]


def test_default_label():
    assert fx.onehotbatch([1, 9, 2], [1, 2, 0], 0).indices.tolist() == [0, 2, 1]
    assert fx.onehotbatch("axb", "abc", "c").indices.tolist() == [0, 2, 1]
    assert fx.onehotbatch(["a", "b"], ["a", None], None).indices.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fx.onehot("d", ["a", "b", "c"]), ValueError, r"Value 'd' is not in labels \['a', 'b', 'c'\]"),
        (lambda: fx.onehotbatch(np.array([1, 7]), range(3)), ValueError, r"Value 7 is not in labels \[0, 1, 2\]"),
        (lambda: fx.onehotbatch([99], range(20)), ValueError, r"labels \[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...\]"),
        (
            lambda: fx.onehot("a", ["a", "b", "a"]),
            ValueError,
            r"Label 'a' occurs more than once in labels \['a', 'b', 'a'\]",
        ),
        (lambda: fx.onehot("a", "ab", "z"), ValueError, r"Default value 'z' is not in labels \['a', 'b'\]"),
        (lambda: fx.onehot("a", "ab", "a", "b"), TypeError, "one default label at most, got 2"),
        (lambda: fx.onehot("a", ""), ValueError, "labels are empty"),
        (
            lambda: fx.onecold(np.ones((2, 4)), "abc"),
            ValueError,
            r"onecold got 3 labels for 4 entries along the last axis of an array of shape \(2, 4\); these must agree",
        ),
        (lambda: fx.onecold(np.array([1.0, np.nan])), ValueError, "onecold got NaN among the scores"),
        (lambda: fx.onecold(3.0), ValueError, r"onecold needs an array with labels along its last axis, .* shape \(\)"),
        (lambda: fx.OneHotArray([0.5], 2), TypeError, "OneHotArray takes integer indices, got float"),
        (
            lambda: fx.onehotbatch([0], range(2)) @ np.ones((3, 1)),
            ValueError,
            r"one-hot of shape \(1, 2\) @ array of shape \(3, 1\): wanted 2 rows",
        ),
    ],
)
def test_onehot_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_onecold():
    scores = np.array([[0.1, 0.7, 0.2], [0.4, 0.4, 0.2]])
    assert fx.onecold(scores).tolist() == [1, 0] and fx.onecold(scores, "abc").tolist() == ["b", "a"]
    assert fx.onecold(scores[0], "abc") == "b" and isinstance(fx.onecold(scores[0], [5, 6, 7]), int)
    assert fx.onecold([0.1, 0.9], ["no", "yes"]) == "yes"
    assert fx.onecold(fx.onehotbatch("cab", "abc"), "abc").tolist() == ["c", "a", "b"]
    assert fx.onecold(scores, [(0, 1), (2, 3), (4, 5)]).tolist() == [(2, 3), (0, 1)]
    assert fx.onecold(scores, [1, "two", None]).tolist() == ["two", 1]
    assert fx.onecold(jnp.ones((2, 3, 4))).shape == (2, 3)
    assert jax.jit(lambda s: fx.onecold(s, [10, 20, 30]))(scores).tolist() == [20, 10]


def test_array_behaviour():
    y = fx.onehotbatch([[0, 1, 2], [2, 1, 0]], range(3))
    assert y.shape == (2, 3, 3) and y.ndim == 3 and y.size == 18 and len(y) == 2
    assert isinstance(y[0], fx.OneHotArray) and y[0].shape == (3, 3) and y[1, 2].indices == 0
    assert y[:, 1:].shape == (2, 2, 3) and y[np.array([1, 1])].shape == (2, 3, 3) and y[None].shape == (1, 2, 3, 3)
    assert y[0, 1, 1] and not y[0, 1, 2] and y[..., 0].tolist() == [[True, False, False], [False, False, True]]
    assert [row.indices.tolist() for row in y] == [[0, 1, 2], [2, 1, 0]]
    assert np.asarray(y).dtype == bool and np.asarray(y, np.float32).sum() == 6
    assert jnp.asarray(y).sum() == 6 and (jnp.ones(3) * y).sum() == 6
    assert (y == np.asarray(y)).all() and not (y != y).any() and (y == y).shape == y.shape
    assert "2, 3" in repr(y)


def test_product_is_a_look_up():
    w = np.arange(6.0).reshape(3, 2).astype(np.float32)
    for make in (np.asarray, jnp.asarray):
        y = fx.OneHotArray(make([[2, 0], [1, 1]]), 3)
        np.testing.assert_array_equal(y @ w, np.asarray(y, np.float32) @ w)
        assert (y[0, 0] @ w).tolist() == [4, 5]
    gradient = jax.grad(lambda w: (fx.onehotbatch([1, 1, 2], range(3)) @ w).sum())(w)
    assert gradient.tolist() == [[0, 0], [2, 2], [1, 1]]
    assert (fx.OneHotArray(np.array([3]), 3) @ w).tolist() == [[0, 0]]


def test_inside_jit_and_grad():
    w = jnp.asarray(np.arange(6.0).reshape(3, 2), jnp.float32)

    def loss(w, indices):
        return fx.logitcrossentropy(fx.OneHotArray(indices, 3) @ w, fx.OneHotArray(indices % 2, 2))

    indices = jnp.array([0, 1, 2])
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(w, indices), jax.grad(loss)(w, indices), rtol=1e-5)
    assert jax.vmap(lambda i: fx.OneHotArray(i, 3) @ w)(indices).shape == (3, 2)


def test_nan_can_be_a_label():
    assert fx.onehotbatch(np.array([1.0, np.nan]), [np.nan, 1.0]).indices.tolist() == [1, 0]
    assert fx.onehotbatch(np.array([1.0, np.nan]), [0.0, 1.0], 0.0).indices.tolist() == [1, 0]
    with pytest.raises(ValueError, match="Value nan is not in labels"):
        fx.onehotbatch(np.array([np.nan]), [0.0, 1.0])


def test_joining_keeps_the_type():
    one, two = fx.onehotbatch([0, 2], range(3)), fx.onehotbatch(jnp.array([1, 1]), range(3))
    joined = np.concatenate([one, one, one])
    assert isinstance(joined, fx.OneHotArray) and joined.indices.tolist() == [0, 2] * 3
    assert isinstance(np.concatenate([one, two]).indices, jax.Array)
    stacked = np.stack([one, two], axis=1)
    assert isinstance(stacked, fx.OneHotArray) and stacked.indices.tolist() == [[0, 1], [2, 1]]
    assert np.stack([one, one], axis=-2).indices.tolist() == [[0, 0], [2, 2]]
    for mixed in (
        np.concatenate([one, one], axis=1),
        np.concatenate([one, one], axis=None),
        np.stack([one, one], axis=-1),
        np.concatenate([one, np.ones((1, 3))]),
        np.stack([one[0], np.zeros(3)]),
        np.stack([[0, 0, 1], one[0]]),
        np.concatenate([one[0], one[1]]),
    ):
        assert type(mixed) is np.ndarray
    assert jnp.concatenate([one, two]).shape == (4, 3)
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        np.concatenate([one, one], axis=2)
    for join in (np.concatenate, np.stack):
        with pytest.raises(ValueError, match=r"as many labels can be joined, got arrays of \[3, 2\] labels"):
            join([one, fx.onehotbatch([0, 1], range(2))])


def test_operators_see_booleans():
    y, yj = fx.onehotbatch([0, 2], range(3)), fx.onehotbatch(jnp.array([0, 2]), range(3))
    full = np.asarray(y)
    for one in (y, yj):
        kind = np.ndarray if one is y else jax.Array
        assert isinstance(one * 2.0, kind) and isinstance(~one, kind) and isinstance(one == 1, kind)
        np.testing.assert_array_equal(one * 2.0, full * 2.0)
        np.testing.assert_array_equal(1 - one, 1 - full)
        np.testing.assert_array_equal(one & full, full)
        np.testing.assert_allclose(np.exp(one), np.exp(full * 1.0), rtol=1e-3)
        np.testing.assert_array_equal(np.add.reduce(one, axis=0), full.sum(0))
        assert np.sum(one) == 2 and np.mean(one, axis=1).shape == (2,) and np.argmax(one, axis=1).tolist() == [0, 2]
        assert not np.any(one == None) and np.all(one != None)  # noqa: E711
        assert (np.ones((2, 3)) == one).sum() == (one == np.ones((2, 3))).sum() == 2
        assert (np.ones(3) * one).shape == (jnp.ones((2, 3)) * one).shape == (2, 3)
        assert np.array_equal(one, full) and np.where(one, 1, 0).sum() == 2
    (gradient,) = fx.gradient(lambda w: (yj * w).sum() + (w * yj).sum(), jnp.ones((2, 3)))
    assert gradient.tolist() == [[2, 0, 0], [0, 0, 2]]
    with pytest.raises(TypeError, match="unhashable"):
        hash(y)


def test_products_on_either_side():
    y = fx.onehotbatch([0, 2, 2], range(3))
    full, a = np.asarray(y, np.float32), np.arange(6.0, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(a @ y, a @ full)
    np.testing.assert_array_equal(jnp.asarray(a) @ y, a @ full)
    np.testing.assert_array_equal(a @ y[1], a[:, 2])
    np.testing.assert_array_equal(y @ a[0], a[0, [0, 2, 2]])
    np.testing.assert_array_equal(y @ y, full @ full)
    np.testing.assert_array_equal(np.matmul(y, a.T), full @ a.T)


def test_no_gradients_flow_into_labels():
    def loss(x, w):
        return (fx.onehotbatch(x, [0.0, 1.0]) @ w).sum() + fx.onecold(w[None])[0] * 1.0

    of_x, of_w = fx.gradient(loss, jnp.array([0.0, 1.0, 1.0]), jnp.array([1.0, 5.0]))
    assert of_x is None or not np.any(of_x)
    assert of_w.tolist() == [1, 2]


def test_indices_out_of_range_are_errors_not_the_nearest():
    for make in (np.array, jnp.array):
        y = fx.OneHotArray(make([0, 2, 1]), 3)
        for position in (3, -4, [0, 3], (0, 3), [True, False]):
            with pytest.raises(IndexError):
                y[position]
        assert y[[2, 0]].indices.tolist() == y[range(2, -1, -2)].indices.tolist() == [1, 0]
        assert y[[True, False, True]].indices.tolist() == [0, 1]
        np.testing.assert_array_equal(y[np.asarray(y)], [True] * 3)
    assert jax.jit(lambda i: y[i].dense())(1).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: fx.onehotbatch([1], {1, 2}),
            TypeError,
            r"labels come in order, as in a list or a range, got \{1, 2\}",
        ),
        (lambda: fx.onehotbatch({1}, [1, 2]), TypeError, "values come in order"),
        (lambda: fx.onehotbatch([1], 3), TypeError, "labels come in order, as in a list or a range, got 3"),
        (lambda: fx.onecold([[1, 2]], {"a", "b"}), TypeError, "labels come in order"),
        (lambda: fx.OneHotArray([1], 3.0), ValueError, "takes the number of labels, an int of at least 0, got 3.0"),
        (lambda: fx.OneHotArray([1], -1), ValueError, "got -1"),
        (
            lambda: fx.onecold(fx.OneHotArray([1, 3], 3), "abc"),
            IndexError,
            "onecold expects indices from 0 to 2, got 3",
        ),
        (lambda: fx.onecold(fx.OneHotArray([-1], 3)), IndexError, "got -1"),
    ],
)
def test_what_is_no_label_is_an_error(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_labels_of_every_kind():
    assert fx.onehotbatch([3, 1], jnp.array([1, 2, 3])).indices.tolist() == [2, 0]
    assert fx.onehotbatch([float("nan"), "a"], ["a", np.nan]).indices.tolist() == [1, 0]
    traced = jax.jit(lambda x: fx.onehotbatch(x, [1.0, float("nan")]).dense())(jnp.array([jnp.nan, 1.0]))
    assert traced.tolist() == [[False, True], [True, False]]
    assert fx.OneHotArray([], 3).shape == (0, 3) and fx.onecold(np.zeros((0, 3))).shape == (0,)
    assert fx.onecold([[1, 2]], (label for label in "ab")).tolist() == ["b"]

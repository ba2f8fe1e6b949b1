"""Attention and its layer: the catalog's cases, Flux's numbers, masks, caches, the fused kernel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import cases_of, numbers

import fluxion as fx
from fluxion.mode import gradient_mode
from fluxion.ops import attention as ops

CASES = [case for case in cases_of("attention") if "Transformer" not in str(case)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    case.check()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_random_options(case):
    case.check_random(3)


def tokens(*shape, seed=0):
    return jnp.asarray(numbers(*shape, seed=seed), jnp.float32)


# ------------------------------------------------------------------ the function


def test_numbers_of_flux():
    x = np.arange(1, 13).reshape(1, 3, 4) / 12
    y, weights = fx.dot_product_attention(x, x, x, nheads=2, return_weights=True)
    np.testing.assert_allclose(y[0, 0], [0.429754, 0.513087, 0.613791, 0.697125], rtol=1e-5)
    np.testing.assert_allclose(weights[0, 0, 0], [0.313896, 0.332948, 0.353157], rtol=1e-5)


def test_infinite_bias_acts_as_in_flux():
    x = tokens(2, 3, 4)
    bias = jnp.where(fx.make_causal_mask(3), 0.0, -jnp.inf)
    masked = fx.dot_product_attention(x, x, x, causal=True)
    np.testing.assert_allclose(fx.dot_product_attention(x, x, x, bias), masked, rtol=1e-6)
    shared = fx.dot_product_attention_scores(x[:, :, None], x[:, :, None], jnp.array([[jnp.inf, 0.0, jnp.inf]]))
    np.testing.assert_array_equal(shared, np.broadcast_to([0.5, 0.0, 0.5], shared.shape))
    gradient = jax.grad(lambda x: (fx.dot_product_attention(x, x, x, jnp.array([[jnp.inf, 0, jnp.inf]])) ** 2).sum())(x)
    assert jnp.isfinite(gradient).all()


def test_a_causal_query_sees_nothing_later():
    x = tokens(2, 5, 4)
    weights = fx.dot_product_attention(x, x, x, causal=True, nheads=2, return_weights=True)[1]
    assert (weights == jnp.where(fx.make_causal_mask(x)[None, None], weights, 0)).all()
    changed = fx.dot_product_attention(x, x.at[:, 3:].add(1.0), x.at[:, 3:].add(1.0), causal=True)
    np.testing.assert_array_equal(changed[:, :3], fx.dot_product_attention(x, x, x, causal=True)[:, :3])


@pytest.mark.parametrize("kind", ["mask", "bias"])
def test_a_query_that_may_attend_to_nothing_gives_zeros_and_no_nan(kind):
    q, k, v = (tokens(1, 3, 2, seed=seed) for seed in range(3))
    mask = jnp.array([[True, False, True], [False, False, False], [True, True, True]])
    option = {"mask": mask} if kind == "mask" else {"bias": jnp.where(mask, 0.0, -jnp.inf)}

    def loss(q, k, v, option, rows=slice(None)):
        return (fx.dot_product_attention(q, k, v, **option)[:, rows] ** 2).sum()

    y, weights = fx.dot_product_attention(q, k, v, **option, return_weights=True)
    assert (y[:, 1] == 0).all() and (weights[:, :, 1] == 0).all()
    gradients = jax.jit(jax.grad(loss, (0, 1, 2)))(q, k, v, option)
    without = {name: jnp.where(jnp.array([[1], [0], [1]], bool), value, True if kind == "mask" else 0.0)
               for name, value in option.items()}  # fmt: skip
    wanted = jax.grad(loss, (0, 1, 2))(q, k, v, without, np.array([0, 2]))
    for got, want in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    assert all(
        jnp.isfinite(part).all() for part in jax.tree.leaves(jax.jit(jax.hessian(loss, (0, 1, 2)))(q, k, v, option))
    )


def test_nothing_to_attend_to():
    y = fx.dot_product_attention(jnp.ones((1, 3, 2)), jnp.ones((1, 0, 2)), jnp.ones((1, 0, 4)))
    np.testing.assert_array_equal(y, np.zeros((1, 3, 4)))


def test_half_precision_scores_do_not_overflow():
    x = jnp.full((1, 2, 64), 100.0, jnp.float16)
    y = fx.dot_product_attention(x, x, x)
    assert y.dtype == jnp.float16
    np.testing.assert_array_equal(y, x)


def test_dropout_acts_on_the_weights():
    x = tokens(1, 3, 4)
    y, weights = fx.dot_product_attention(x, x, x, nheads=2, dropout=lambda w: w * 0, return_weights=True)
    assert not y.any() and not weights.any()


def test_integers_become_floats():
    x = np.ones((2, 2), int)
    assert fx.dot_product_attention(x, x, x).dtype == jnp.float32


def test_fused_kernel_gets_what_it_needs(monkeypatch):
    fused = jax.nn.dot_product_attention
    calls = []

    def stand_in(q, k, v, implementation, **options):
        calls.append((q.shape, k.shape, implementation))
        return fused(q, k, v, implementation="xla", **options)

    q, kv = tokens(2, 5, 32).astype(jnp.bfloat16), tokens(2, 5, 16, seed=1).astype(jnp.bfloat16)
    options = {"nheads": 4, "kv_heads": 2, "causal": True}
    wanted = fx.dot_product_attention(q, kv, kv, **options)
    monkeypatch.setattr(jax.nn, "dot_product_attention", stand_in)
    monkeypatch.setattr(ops, "_has_cudnn", lambda: True)
    got = fx.dot_product_attention(q, kv, kv, **options)
    assert calls == [((2, 5, 4, 8), (2, 5, 2, 8), "cudnn")]
    np.testing.assert_allclose(got.astype(jnp.float32), wanted.astype(jnp.float32), rtol=2e-2, atol=2e-2)
    x = tokens(2, 5, 32)
    fx.dot_product_attention(x, x, x, nheads=4)
    fx.dot_product_attention(q, kv, kv, nheads=4, kv_heads=2, mask=fx.make_causal_mask(5))
    fx.dot_product_attention(q, kv, kv, nheads=4, kv_heads=2, return_weights=True)
    assert len(calls) == 1


# ------------------------------------------------------------------ positions


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_products_depend_on_the_distance_only(interleaved):
    q, k = tokens(1, 8), tokens(1, 8, seed=1)

    def product(i, j):
        turn = functools.partial(fx.rotary, interleaved=interleaved)
        return turn(q, jnp.array([i]))[0] @ turn(k, jnp.array([j]))[0]

    np.testing.assert_allclose(product(3, 1), product(12, 10), rtol=1e-5)
    assert abs(product(3, 1) - product(3, 2)) > 1e-3
    np.testing.assert_allclose(product(5, 5), q[0] @ k[0], rtol=1e-5)


def test_rotary_turns_each_head_alike():
    x = tokens(2, 5, 4)
    both = fx.rotary(jnp.concatenate([x, x], -1), nheads=2)
    np.testing.assert_array_equal(both[..., :4], fx.rotary(x))
    np.testing.assert_array_equal(both[..., 4:], fx.rotary(x))


# ------------------------------------------------------------------ the layer


def test_call_forms():
    attention = fx.MultiHeadAttention(4, nheads=2)
    q, kv = tokens(2, 3, 4), tokens(2, 5, 4, seed=1)
    np.testing.assert_array_equal(attention(q), attention(q, q, q))
    np.testing.assert_array_equal(attention(q, kv), attention(q, kv, kv))
    y, weights = attention(q, kv, return_weights=True)
    assert y.shape == (2, 3, 4) and weights.shape == (2, 2, 3, 5)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    assert attention(q[0]).shape == (3, 4)


@pytest.mark.parametrize(
    "text",
    [
        "MultiHeadAttention(8, nheads=8)",
        "MultiHeadAttention((4, 8, 4), nheads=2)",
        "MultiHeadAttention((4, (8, 6), 4), nheads=2, bias=True)",
        "MultiHeadAttention(((4, 5, 6), (8, 6), 4), nheads=2, kv_heads=1, dropout=0.5)",
        "MultiHeadAttention(8, nheads=2, rotary=rotary)",
    ],
)
def test_printing_takes_the_shortest_form(text):
    layer = eval(text, vars(fx))
    assert layer.typed() == text
    (_, k, v), (qk, values), outputs = layer.dims
    shared = layer.kv_heads / layer.nheads
    assert layer.k_proj.weight.shape == (k, qk * shared)
    assert layer.v_proj.weight.shape == (v, values * shared)
    assert layer.out_proj.weight.shape == (values, outputs)


def test_dropout_only_while_training():
    attention = fx.MultiHeadAttention(4, nheads=2, dropout=0.5)
    x = tokens(2, 3, 4)
    tested = attention(x, return_weights=True)[1]
    assert (tested > 0).all()
    with gradient_mode():
        fx.seed(1)
        once = attention(x, return_weights=True)[1]
        fx.seed(1)
        again = attention(x, return_weights=True)[1]
    np.testing.assert_array_equal(once, again)
    kept = once > 0
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(once[kept], 2 * tested[kept], rtol=1e-6)
    fx.testmode(attention)
    with gradient_mode():
        np.testing.assert_array_equal(attention(x, return_weights=True)[1], tested)


def test_padding_does_not_matter():
    attention = fx.MultiHeadAttention(4, nheads=2, bias=True)
    x = tokens(2, 5, 4)
    padded = attention(x, lengths=[5, 3])
    np.testing.assert_allclose(padded[1, :3], attention(x[1, :3]), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="expects lengths from 0 to 5, got 6"):
        attention(x, lengths=[6, 1])


def test_learns_to_look_up():
    """Each query asks for the value of the key that equals it."""
    attention = fx.MultiHeadAttention(((8, 8, 4), 16, 4), nheads=2, dropout=0.01)
    keys = jnp.broadcast_to(jnp.eye(8), (16, 8, 8))
    values, asked = tokens(16, 8, 4), np.random.default_rng(0).integers(0, 8, (16, 3))
    wanted = jnp.take_along_axis(values, asked[..., None], 1)
    opt = fx.setup(fx.Adam(0.02), attention)
    batch = (jnp.eye(8)[asked], keys, values, wanted)
    losses = [
        float(fx.trainstep(lambda m, q, k, v, y: fx.mse(m(q, k, v), y), attention, batch, opt)) for _ in range(150)
    ]
    assert losses[-1] < losses[0] / 10


# ------------------------------------------------------------------ the cache


@pytest.mark.parametrize(
    "options", [{}, {"rotary": fx.rotary}, {"kv_heads": 2, "rotary": fx.rotary, "bias": True}], ids=" ".join
)
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (3, 2)], ids=str)
def test_step_by_step_equals_all_at_once(options, sizes):
    attention = fx.MultiHeadAttention(16, nheads=4, **options)
    x = tokens(2, 5, 16)
    cache = attention.cache(2, 7)
    parts = [attention(part, cache=cache) for part in jnp.split(x, np.cumsum(sizes)[:-1], 1)]
    np.testing.assert_allclose(jnp.concatenate(parts, 1), attention(x, causal=True), rtol=1e-5, atol=1e-6)
    assert repr(cache) == "KVCache(length 5 of 7)"


def test_one_program_serves_all_steps(monkeypatch):
    traced = []
    append = fx.KVCache.append
    monkeypatch.setattr(fx.KVCache, "append", lambda self, *args: traced.append(1) or append(self, *args))
    attention = fx.MultiHeadAttention(8, nheads=2, rotary=fx.rotary)
    step = fx.compile(lambda model, x, cache: model(x, cache=cache))
    x, cache = tokens(1, 6, 8), attention.cache(1, 6)
    parts = [step(attention, x[:, i : i + 1], cache) for i in range(6)]
    assert len(traced) <= 2
    np.testing.assert_allclose(jnp.concatenate(parts, 1), attention(x, causal=True), rtol=1e-5, atol=1e-6)
    assert jnp.isnan(step(attention, x[:, :1], cache)).all()


def test_a_full_cache_is_an_error():
    attention = fx.MultiHeadAttention(8, nheads=2)
    cache = attention.cache(1, 4)
    attention(tokens(1, 3, 8), cache=cache)
    with pytest.raises(fx.SizeError, match=r"KVCache\(length 3 of 4\) has no room for 2 more"):
        attention(tokens(1, 2, 8), cache=cache)
    with pytest.raises(
        fx.SizeError, match=r"KVCache holds keys of shape \(1, 4, 8\), got new ones of shape \(2, 1, 8\)"
    ):
        attention(tokens(2, 1, 8), cache=cache)


@pytest.mark.parametrize(
    ("options", "error"), [({"mask": np.ones((7, 7), bool)}, fx.SizeError), ({"lengths": [9, 9]}, ValueError)], ids=str
)
def test_a_refused_call_leaves_the_cache_as_it_was(options, error):
    attention = fx.MultiHeadAttention(8, nheads=2)
    cache = attention.cache(2, 4)
    with pytest.raises(error):
        attention(tokens(2, 2, 8), cache=cache, **options)
    assert repr(cache) == "KVCache(length 0 of 4)"


@pytest.mark.parametrize("lengths", [3, [3], [3, 2, 1], [[3], [2]]], ids=str)
def test_lengths_are_one_for_each_observation(lengths):
    with pytest.raises(
        fx.SizeError, match=r"MultiHeadAttention\(8, nheads=2\) expects lengths= of integers of shape \(2,"
    ):
        fx.MultiHeadAttention(8, nheads=2)(tokens(2, 3, 8), lengths=lengths)


def test_cache_has_the_type_of_the_model():
    attention = fx.bf16(fx.MultiHeadAttention(8, nheads=2))
    cache = attention.cache(1, 4)
    assert attention(tokens(1, 1, 8), cache=cache).dtype == cache.keys.dtype == cache.values.dtype == jnp.bfloat16

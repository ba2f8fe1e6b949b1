"""Transformers: the catalog's cases, printing, modes, decoding step by step, and that they learn."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from harness import cases_of, numbers

import fluxion as fx
from fluxion.mode import gradient_mode

CASES = [case for case in cases_of("attention") if "Transformer" in str(case)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    case.check()


@pytest.mark.parametrize("case", [case for case in CASES if str(case) != "TransformerDecoder"], ids=str)
def test_random_options(case):
    case.check_random(2)


def tokens(*shape, seed=0):
    return jnp.asarray(numbers(*shape, seed=seed), jnp.float32)


@pytest.mark.parametrize(
    "text",
    [
        "TransformerEncoderLayer(8)",
        "TransformerEncoderLayer(8, nheads=2, hidden=5, activation=gelu, norm_first=True, dropout=0.2)",
        "TransformerDecoderLayer(8, nheads=2, kv_heads=1, bias=False, rotary=rotary, dropout=0.0)",
        "TransformerEncoder(8, 2, nheads=2)",
        "TransformerDecoder(8, 1, nheads=2, norm_first=True)",
    ],
)
def test_printing(text):
    assert eval(text, vars(fx)).typed() == text


def test_bias_and_hidden():
    layer = fx.TransformerEncoderLayer(8, nheads=2, bias=False)
    assert layer.attention.q_proj.bias is None and layer.feedforward[0].bias is None
    assert layer.feedforward[0].weight.shape == (8, 32)


def test_any_norm():
    layer = fx.TransformerEncoderLayer(8, nheads=2, norm=functools.partial(fx.LayerNorm, affine=False))
    np.testing.assert_allclose(layer(tokens(2, 3, 8)).mean(-1), 0, atol=1e-6)


def test_a_part_may_be_replaced():
    layer = fx.TransformerEncoderLayer(8, nheads=2, norm_first=True)
    layer.feedforward = fx.Dense(8, 8)
    layer.attention = lambda x, **options: x * 0
    x = tokens(2, 3, 8)
    np.testing.assert_allclose(layer(x), x + layer.feedforward(layer.feedforward_norm(x)), rtol=1e-6)
    assert "TransformerEncoderLayer(8" in repr(layer)


def test_dropout_only_while_training():
    layer = fx.TransformerEncoderLayer(8, nheads=2, dropout=0.5)
    x = tokens(2, 3, 8)
    np.testing.assert_array_equal(layer(x), layer(x))
    with gradient_mode():
        assert (layer(x) != layer(x)).any()


def test_errors_name_the_place():
    model = fx.TransformerDecoder(8, 2, nheads=2)
    with pytest.raises(fx.SizeError, match=r"in model\.layers\[0\]\.memory_attention\.k_proj"):
        model(tokens(2, 3, 8), tokens(2, 3, 4))


def test_decoder_is_causal_by_default():
    layer = fx.TransformerDecoderLayer(4, nheads=2)
    x, memory = tokens(2, 4, 4), tokens(2, 3, 4, seed=1)
    y, changed = layer(x, memory), layer(x.at[:, 2:].multiply(-1.0), memory)
    np.testing.assert_array_equal(changed[:, :2], y[:, :2])
    assert (abs(layer(x, memory, causal=False)[:, :2] - y[:, :2]) > 1e-3).any()


def test_a_stack_takes_one_cache_for_each_block():
    model = fx.TransformerEncoder(4, 2, nheads=2)
    caches = model.cache(2, 4)
    for wrong in (caches[:1], caches[0]):
        with pytest.raises(ValueError, match=r"TransformerEncoder\(4, 2, nheads=2\) takes a list of 2 caches"):
            model(tokens(2, 1, 4), cache=wrong)
    assert repr(caches[0]) == "KVCache(length 0 of 4)"


def test_padding_does_not_matter():
    model = fx.TransformerEncoder(4, 2, nheads=2)
    x, lengths = tokens(2, 5, 4), [5, 3]
    changed = model(x.at[1, 3:].multiply(-1.0), lengths=lengths)
    np.testing.assert_array_equal(changed[1, :3], model(x, lengths=lengths)[1, :3])


@pytest.mark.parametrize("first", [False, True])
def test_step_by_step_equals_all_at_once(first):
    encoder = fx.TransformerEncoder(8, 2, nheads=2, norm_first=first, rotary=fx.rotary)
    decoder = fx.TransformerDecoder(8, 2, nheads=2, norm_first=first)
    x, memory = tokens(2, 4, 8), tokens(2, 3, 8, seed=1)
    for model, inputs, options in ((encoder, (), {"causal": True}), (decoder, (memory,), {})):
        caches = model.cache(2, 4)
        parts = [model(x[:, i : i + 1], *inputs, cache=caches) for i in range(4)]
        np.testing.assert_allclose(jnp.concatenate(parts, 1), model(x, *inputs, **options), rtol=1e-4, atol=1e-5)


def test_a_language_model_learns_to_count():
    """The next symbol is the last one plus one, modulo five; then it goes on by itself from its cache."""
    model = [
        fx.Embedding(5, 16),
        fx.TransformerEncoder(16, 1, nheads=2, rotary=fx.rotary, dropout=0.0),
        fx.Dense(16, 5),
    ]

    def predict(model, x, **options):
        embed, body, head = model
        return head(body(embed(x), **options))

    def loss(model, x):
        return fx.logitcrossentropy(predict(model, x[:, :-1], causal=True), x[:, 1:])

    x = (np.arange(5)[:, None] + np.arange(9)) % 5
    opt = fx.setup(fx.Adam(0.01), model)
    losses = [float(fx.trainstep(loss, model, (x,), opt)) for _ in range(100)]
    assert losses[-1] < 0.05 < losses[0]
    caches, found = model[1].cache(1, 6), [2]
    for _ in range(5):
        found.append(int(predict(model, np.array([found[-1:]]), cache=caches)[0, -1].argmax()))
    assert found == [2, 3, 4, 0, 1, 2]

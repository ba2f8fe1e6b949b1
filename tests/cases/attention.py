"""Attention, positions and transformers: against PyTorch's modules, with the weights copied."""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from harness import Sample, case, fill

import fluxion as fx

MASKS = ("mask", "none", "causal", "bias", "mask and causal")


class Called:
    """A layer that is called with fixed keyword arguments."""

    def __init__(self, layer, **options):
        self.layer = layer
        self.options = options

    def __call__(self, *inputs):
        return self.layer(*inputs, **self.options)


def mask_of(draw, *shape):
    """Random booleans that let every query attend to at least one key."""
    mask = draw.booleans(*shape)
    mask[..., 0] = True
    return mask


def mask_options(draw, shape):
    """Keyword arguments of attention whose weights have this shape."""
    kind = draw.choose(*MASKS)
    options = {"causal": True} if "causal" in kind else {}
    if "mask" in kind:
        small = tuple(draw.choose(size, 1) for size in shape[:-2]) + shape[-2:]
        options["mask"] = mask_of(draw, *small)
    if kind == "bias":
        options["bias"] = draw.normal(*shape[-3:])
    return options


def additive(shape, mask=None, causal=False, bias=None):
    """What PyTorch's `attn_mask` adds to the scores."""
    total = torch.zeros(shape, dtype=torch.float64)
    for allowed in (mask, np.tri(*shape[-2:], dtype=bool) if causal else None):
        if allowed is not None:
            total = total.masked_fill(~torch.tensor(np.asarray(allowed)), -torch.inf)
    return total if bias is None else total + torch.as_tensor(bias)


def split(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


def attend(q, k, v, bias, nheads, kv_heads):
    """PyTorch's attention of arrays `(..., length, features)`, and its weights by the formula."""
    q, k, v = split(q, nheads), split(k, kv_heads), split(v, kv_heads)
    y = F.scaled_dot_product_attention(q, k, v, bias, enable_gqa=True)
    scores = q @ k.repeat_interleave(nheads // kv_heads, -3).transpose(-1, -2) / np.sqrt(q.shape[-1])
    return y.transpose(-3, -2).flatten(-2), torch.softmax(scores + bias, -1)


X = np.ones((2, 3, 4))


def attention(*arrays, **options):
    return lambda: fx.dot_product_attention(*arrays, **options)


@case(
    "dot_product_attention",
    errors=[
        (attention(X, X, X, nheads=3), fx.SizeError, "has 3 heads, which must divide the features of q"),
        (attention(X, X, X, nheads=0), ValueError, "takes an int of at least 1 as nheads, got 0"),
        (attention(X, X, X, nheads=2, kv_heads=4), ValueError, "nheads=2, which must be a multiple of kv_heads=4"),
        (attention(X[0, 0], X, X), fx.SizeError, "expects arrays (..., length, features)"),
        (attention(X, X[:1], X[:1]), fx.SizeError, "expects the same leading axes of q, k and v"),
        (attention(X, X, X[:, :2]), fx.SizeError, "expects as many keys as values"),
        (attention(X, X[..., :2], X), fx.SizeError, "expects as many features per head in q as in k"),
        (attention(X, X, X, mask=np.ones((3, 3))), TypeError, "attention takes booleans as its mask"),
        (attention(X, X, X, np.ones((3, 3), bool)), TypeError, "got booleans; pass them as mask="),
        (attention(X, X, X, mask=np.ones((3, 2), bool), causal=True), fx.SizeError, "expects a mask that broadcasts"),
        (
            attention(X, X, X, mask=np.ones((2, 3, 3), bool)),
            fx.SizeError,
            "expects a mask that broadcasts to its weights (..., heads, q_len, kv_len) = (2, 1, 3, 3)",
        ),
    ],
)
def dot_product_attention(draw):
    kv_heads = draw.size(2)
    nheads = kv_heads * draw.choose(2, 1)
    leading = draw.choose((2,), (), (2, 1))
    q_len, kv_len, size, value_size = draw.size(), draw.size(), draw.size(2), draw.size(2)
    options = mask_options(draw, (*leading, nheads, q_len, kv_len))
    heads = {"nheads": nheads, "kv_heads": kv_heads}
    bias = additive((*leading, nheads, q_len, kv_len), **options)
    return Sample(
        lambda: functools.partial(fx.dot_product_attention, **heads, **options, return_weights=True),
        draw.normal(*leading, q_len, nheads * size),
        draw.normal(*leading, kv_len, kv_heads * size),
        draw.normal(*leading, kv_len, kv_heads * value_size),
        reference=lambda p, q, k, v: attend(q, k, v, bias, nheads, kv_heads),
    )


@case(
    "dot_product_attention_scores",
    errors=[(lambda: fx.dot_product_attention_scores(X, X[:, :, :2]), fx.SizeError, "expects q (..., q_len, heads,")],
)
def dot_product_attention_scores(draw):
    scale = draw.choose(None, 0.7)
    factor = 1 / np.sqrt(2) if scale is None else scale
    return Sample(
        lambda: functools.partial(fx.dot_product_attention_scores, scale=scale),
        draw.normal(2, 3, 2, 2),
        draw.normal(2, 4, 2, 2),
        draw.normal(2, 3, 4),
        reference=lambda p, q, k, b: torch.softmax(torch.einsum("nqhd,nkhd->nhqk", q, k) * factor + b, -1),
    )


@case(
    "make_causal_mask",
    errors=[(lambda: fx.make_causal_mask(np.ones(3)), fx.SizeError, "takes a length or an array (..., length,")],
)
def make_causal_mask(draw):
    length = draw.size()
    x = draw.normal(2, length, 3)
    return Sample(lambda: fx.make_causal_mask, x, expected=lambda p, x: np.tri(length) > 0, gradients=False, vmap=False)


@case(
    "make_padding_mask",
    errors=[
        (lambda: fx.make_padding_mask([1, 4], 3), ValueError, "expects lengths from 0 to 3, got 4"),
        (lambda: fx.make_padding_mask([1.0], 3), TypeError, "takes integers as lengths, got an array of float32"),
    ],
)
def make_padding_mask(draw):
    return Sample(
        lambda: lambda lengths: fx.make_padding_mask(lengths, 4),
        draw.integers(0, 5, 3),
        expected=lambda p, lengths: (np.arange(4) < lengths[:, None])[:, None, None],
        gradients=False,
    )


@case(
    "rotary",
    errors=[
        (lambda: fx.rotary(np.ones((2, 6)), nheads=2), fx.SizeError, "an even number of features in each of 2 heads"),
        (lambda: fx.rotary(np.ones((2, 4)), nheads=0), ValueError, "rotary takes an int of at least 1 as nheads"),
        (lambda: fx.rotary(np.ones((2, 4)), np.arange(3)), fx.SizeError, "expects positions that broadcast to (2,)"),
    ],
)
def rotary(draw):
    nheads, half, interleaved = draw.size(2), draw.size(3), draw.choose(False, True)
    positions = draw.choose(None, np.array([3, 0, 7, 1]), np.array([[0.5, 2, 1, 0], [1, 2, 3, 4]]))
    base = draw.choose(10000.0, 100.0)

    def turn(p, x):
        frequencies = base ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.as_tensor(np.arange(4) if positions is None else positions)[..., None, None] * frequencies
        pairs = x.unflatten(-1, (nheads, half, 2) if interleaved else (nheads, 2, half))
        a, b = (pairs[..., 0], pairs[..., 1]) if interleaved else (pairs[..., 0, :], pairs[..., 1, :])
        turned = torch.complex(a, b) * torch.polar(torch.ones_like(angles), angles)
        return torch.stack([turned.real, turned.imag], -1 if interleaved else -2).flatten(-3)

    options = {"nheads": nheads, "base": base, "interleaved": interleaved}
    return Sample(
        lambda: lambda x: fx.rotary(x, positions, **options), draw.normal(2, 4, nheads * half * 2), reference=turn
    )


@case(
    "positional_encoding",
    errors=[(lambda: fx.positional_encoding(-1, 4), ValueError, "ints of at least 0, got -1, 4")],
)
def positional_encoding(draw):
    length, size = draw.size(4, 0), draw.size(5)

    def expected(p):
        return np.array(
            [
                [(np.cos if i % 2 else np.sin)(place * 10000.0 ** (-(i - i % 2) / size)) for i in range(size)]
                for place in range(length)
            ]
        ).reshape(length, size)

    return Sample(lambda: lambda: fx.positional_encoding(length, size), expected=expected, gradients=False, vmap=False)


# ------------------------------------------------------------------ layers


def projections(p, prefix=""):
    """PyTorch's names for the arrays of a MultiHeadAttention whose sizes are all the same."""
    in_weight = torch.cat([p[f"{prefix}{name}_proj.weight"].T for name in "qkv"])
    arrays = {"in_proj_weight": in_weight, "out_proj.weight": p[f"{prefix}out_proj.weight"].T}
    if f"{prefix}q_proj.bias" in p:
        arrays["in_proj_bias"] = torch.cat([p[f"{prefix}{name}_proj.bias"] for name in "qkv"])
        arrays["out_proj.bias"] = p[f"{prefix}out_proj.bias"]
    return arrays


def heads_of_batch(bias, size):
    """A bias `(batch, heads, q, k)` as PyTorch's module takes it."""
    return bias.expand(size, -1, -1, -1).flatten(0, 1)


@case(
    "MultiHeadAttention",
    errors=[
        (lambda: fx.MultiHeadAttention((4, 10, 4)), ValueError, "has inner size qk=10; nheads=8 must divide it"),
        (lambda: fx.MultiHeadAttention((4, 8)), ValueError, "takes one size or (inputs, inner, outputs), got (4, 8)"),
        (lambda: fx.MultiHeadAttention(8, kv_heads=3), ValueError, "nheads=8, which must be a multiple of kv_heads=3"),
        (lambda: fx.MultiHeadAttention(8, rotary=True), TypeError, "rotary takes a function such as fluxion.rotary"),
        (lambda: fx.MultiHeadAttention(8)(X), fx.SizeError, "in model.q_proj"),
        (
            lambda: fx.MultiHeadAttention(4, nheads=4)(X, mask=np.ones((2, 3, 3), bool)),
            fx.SizeError,
            "MultiHeadAttention(4, nheads=4) expects a mask that broadcasts to its weights",
        ),
    ],
)
def multi_head_attention(draw):
    nheads, bias = draw.choose(2, 1), draw.choose(False, True)
    q_len, kv_len, size = draw.size(), draw.size(), 4
    shape = (2, nheads, q_len, kv_len)
    options = mask_options(draw, shape)
    module = torch.nn.MultiheadAttention(size, nheads, bias=bias, batch_first=True).double()
    added = heads_of_batch(additive(shape, **options), 2)

    def reference(p, q, k, v):
        arrays = projections(p, "layer.")
        call = {"attn_mask": added, "average_attn_weights": False}
        return torch.func.functional_call(module, arrays, (q, k, v), call)

    return Sample(
        lambda: Called(fill(fx.MultiHeadAttention(size, nheads=nheads, bias=bias)), **options, return_weights=True),
        draw.normal(2, q_len, size),
        draw.normal(2, kv_len, size),
        draw.normal(2, kv_len, size),
        reference=reference,
        differences=False,
    )


@case("MultiHeadAttention", label="of all sizes")
def multi_head_attention_of_all_sizes(draw):
    kv_heads, group = draw.choose(2, 1), draw.choose(2, 1)
    nheads = kv_heads * group
    dims = ((3, 2, 5), (nheads * 2, nheads * 1), 3)
    lengths = draw.integers(1, 4, 2)
    causal = draw.choose(True, False)
    mask = np.arange(3) < lengths[:, None, None, None]
    bias = additive((2, nheads, 4, 3), mask, causal)

    def reference(p, q, k, v):
        q, k, v = (x @ p[f"layer.{name}_proj.weight"] for name, x in (("q", q), ("k", k), ("v", v)))
        return attend(q, k, v, bias, nheads, kv_heads)[0] @ p["layer.out_proj.weight"]

    return Sample(
        lambda: Called(fx.MultiHeadAttention(dims, nheads=nheads, kv_heads=kv_heads), lengths=lengths, causal=causal),
        draw.normal(2, 4, 3),
        draw.normal(2, 3, 2),
        draw.normal(2, 3, 5),
        reference=reference,
    )


def torch_layer(p, prefix, decoder=False):
    """PyTorch's names for the arrays of a transformer's layer."""
    parts = {"attention": ("self_attn", "norm1"), "feedforward": ("", "norm3" if decoder else "norm2")}
    if decoder:
        parts["memory_attention"] = ("multihead_attn", "norm2")
    arrays = {}
    for part, (attention, norm) in parts.items():
        arrays |= {f"{norm}.weight": p[f"{prefix}{part}_norm.scale"], f"{norm}.bias": p[f"{prefix}{part}_norm.bias"]}
        if attention:
            found = projections(p, f"{prefix}{part}.")
            arrays |= {f"{attention}.{name}": array for name, array in found.items()}
    for ours, theirs in (("feedforward.layers.0", "linear1"), ("feedforward.layers.2", "linear2")):
        arrays |= {f"{theirs}.weight": p[f"{prefix}{ours}.weight"].T, f"{theirs}.bias": p[f"{prefix}{ours}.bias"]}
    return arrays


def padding(lengths, length):
    return torch.tensor(np.arange(length) >= lengths[:, None])


@case(
    "TransformerEncoderLayer",
    errors=[
        (lambda: fx.TransformerEncoderLayer(6), ValueError, "has inner size qk=6; nheads=8 must divide it"),
        (lambda: fx.TransformerEncoderLayer(8)(X), fx.SizeError, "TransformerEncoderLayer(8) expects 8 features"),
        (lambda: fx.TransformerEncoderLayer(4, nheads=2, dropout=2), ValueError, "0 <= p <= 1"),
    ],
)
def encoder_layer(draw):
    first, causal, smooth = draw.choose(True, False), draw.choose(False, True), draw.choose(True, False)
    nheads, size, lengths = draw.choose(2, 1), 4, draw.integers(1, 4, 2)
    activation, theirs = (fx.gelu_erf, F.gelu) if smooth else (fx.relu, F.relu)
    make = functools.partial(torch.nn.TransformerEncoderLayer, batch_first=True, dropout=0)
    module = make(size, nheads, 3, activation=theirs, norm_first=first).double()
    mask = torch.tensor(~np.tri(3, dtype=bool)) if causal else None
    options = {"nheads": nheads, "hidden": 3, "activation": activation, "norm_first": first}

    def reference(p, x):
        arrays = torch_layer(p, "layer.")
        return torch.func.functional_call(
            module, arrays, (x,), {"src_mask": mask, "src_key_padding_mask": padding(lengths, 3)}
        )

    return Sample(
        lambda: Called(fill(fx.TransformerEncoderLayer(size, **options)), lengths=lengths, causal=causal),
        draw.normal(2, 3, size),
        reference=reference,
        differences=smooth,
    )


@case("TransformerDecoderLayer")
def decoder_layer(draw):
    first, causal = draw.choose(False, True), draw.choose(True, False)
    size, lengths, memory_lengths = 4, draw.integers(1, 4, 2), draw.integers(1, 3, 2)
    module = torch.nn.TransformerDecoderLayer(size, 2, 3, norm_first=first, batch_first=True, dropout=0).double()
    call = {
        "tgt_mask": torch.tensor(~np.tri(3, dtype=bool)) if causal else None,
        "tgt_key_padding_mask": padding(lengths, 3),
        "memory_key_padding_mask": padding(memory_lengths, 2),
    }
    options = {"lengths": lengths, "memory_lengths": memory_lengths, "causal": causal}
    return Sample(
        lambda: Called(fill(fx.TransformerDecoderLayer(size, nheads=2, hidden=3, norm_first=first)), **options),
        draw.normal(2, 3, size),
        draw.normal(2, 2, size),
        reference=lambda p, x, m: torch.func.functional_call(module, torch_layer(p, "layer.", True), (x, m), call),
        differences=False,
    )


def torch_stack(p, first, decoder):
    arrays = {
        f"layers.{i}.{name}": array for i in range(2) for name, array in torch_layer(p, f"layers.{i}.", decoder).items()
    }
    return arrays | ({"norm.weight": p["norm.scale"], "norm.bias": p["norm.bias"]} if first else {})


@case("TransformerEncoder", errors=[(lambda: fx.TransformerEncoder(4, 0), ValueError, "at least 1")])
def encoder(draw):
    first = draw.choose(True, False)
    layer = torch.nn.TransformerEncoderLayer(4, 2, 16, norm_first=first, batch_first=True, dropout=0)
    norm = torch.nn.LayerNorm(4) if first else None
    module = torch.nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False).double()
    return Sample(
        lambda: fill(fx.TransformerEncoder(4, 2, nheads=2, norm_first=first)),
        draw.normal(2, 3, 4),
        reference=lambda p, x: torch.func.functional_call(module, torch_stack(p, first, False), (x,)),
        differences=False,
        vmap=False,
        halves=(),
    )


@case("TransformerDecoder")
def decoder(draw):
    first = draw.choose(True, False)
    layer = torch.nn.TransformerDecoderLayer(4, 2, 16, norm_first=first, batch_first=True, dropout=0)
    module = torch.nn.TransformerDecoder(layer, 2, torch.nn.LayerNorm(4) if first else None).double()
    return Sample(
        lambda: Called(fill(fx.TransformerDecoder(4, 2, nheads=2, norm_first=first)), causal=False),
        draw.normal(2, 3, 4),
        draw.normal(2, 2, 4),
        reference=lambda p, x, m: torch.func.functional_call(
            module, torch_stack({name.removeprefix("layer."): array for name, array in p.items()}, first, True), (x, m)
        ),
        differences=False,
        vmap=False,
        halves=(),
    )

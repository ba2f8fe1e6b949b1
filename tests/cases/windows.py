"""Convolution, pooling and folding, in 1, 2 and 3 spatial axes."""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from harness import Sample, case, fill

import fluxion as fx

ACTIVATIONS = {fx.tanh: torch.tanh, fx.identity: lambda x: x}


def first(x):
    return x.movedim(-1, 1)


def last(x):
    return x.movedim(1, -1)


def ranked(name, spatial):
    return getattr(F, f"{name}{spatial}d")


def torch_weight(w):
    """Ours has the channels last: (*kernel, a, b). PyTorch's begins with them: (b, a, *kernel)."""
    return w.movedim((-1, -2), (0, 1)).contiguous()


def spans_of(kernel, dilation):
    return tuple((size - 1) * dilation + 1 for size in kernel)


def draw_pad(draw, spatial, most=2):
    """A pad in one of the ways to write it."""
    flat = tuple(draw.size(most, 0) for _ in range(2 * spatial))
    pairs = tuple(zip(flat[::2], flat[1::2], strict=True))
    return draw.choose(1, 0, flat[:spatial], flat, pairs, "same")


def pairs_of(pad, sizes, spans, stride):
    """(low, high) for each axis, of whatever `draw_pad` drew."""
    strides = np.broadcast_to(stride, len(sizes))
    if pad == "same":
        axes = zip(sizes, spans, strides.tolist(), strict=True)
        totals = [max((-(-size // step) - 1) * step + span - size, 0) for size, span, step in axes]
        return [(total // 2, total - total // 2) for total in totals]
    sides = np.ravel(pad)
    if len(sides) < 2 * len(sizes):
        sides = np.repeat(np.broadcast_to(sides, len(sizes)), 2)
    return sides.reshape(-1, 2).tolist()


def padded(x, pairs, value=0.0):
    """Channels-first `x` with its spatial axes padded; negative pads crop."""
    return F.pad(x, [side for pair in reversed(pairs) for side in pair], value=value)


def draw_image(draw, numbers, spans, channels):
    sizes = tuple(span + draw.size(3, 0) for span in spans)
    return numbers(draw.size(2), *sizes, channels)


# ------------------------------------------------------------------ convolution


def conv_case(spatial):
    def draw_conv(draw):
        groups = draw.choose(2, 1, 3)
        inputs, outputs = groups * draw.size(2), groups * draw.size(2)
        kernel = tuple(draw.size(3) for _ in range(spatial))
        stride, dilation = draw.choose(2, 1, 3), draw.choose(1, 2)
        pad, bias, activation = draw_pad(draw, spatial), draw.choose(True, False), draw.choose(*ACTIVATIONS)
        options = {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups, "bias": bias}

        def reference(p, x):
            spans = spans_of(kernel, dilation)
            x = padded(first(x), pairs_of(pad, x.shape[1:-1], spans, stride))
            w = torch_weight(p["weight"])
            y = ranked("conv", spatial)(x, w, p.get("bias"), stride=stride, dilation=dilation, groups=groups)
            return last(ACTIVATIONS[activation](y))

        return Sample(
            lambda: fill(fx.Conv(kernel, inputs, outputs, activation, **options)),
            draw_image(draw, draw.normal, spans_of(kernel, dilation), inputs),
            reference=reference,
        )

    return draw_conv


def conv_transpose_case(spatial):
    def draw_conv_transpose(draw):
        groups = draw.choose(2, 1, 3)
        inputs, outputs = groups * draw.size(2), groups * draw.size(2)
        kernel = tuple(draw.size(3) for _ in range(spatial))
        stride, dilation = draw.choose(2, 1, 3), draw.choose(1, 2)
        pad = tuple(draw.size(1, 0) for _ in range(spatial))
        outpad = draw.choose(*range(stride))
        bias, activation = draw.choose(True, False), draw.choose(*ACTIVATIONS)
        options = {"stride": stride, "pad": pad, "outpad": outpad, "dilation": dilation, "groups": groups, "bias": bias}

        def reference(p, x):
            w = torch_weight(p["weight"])
            windows = {"stride": stride, "padding": pad, "output_padding": outpad, "dilation": dilation}
            y = ranked("conv_transpose", spatial)(first(x), w, p.get("bias"), groups=groups, **windows)
            return last(ACTIVATIONS[activation](y))

        return Sample(
            lambda: fill(fx.ConvTranspose(kernel, inputs, outputs, activation, **options)),
            draw.normal(draw.size(2), *(draw.size(4, 3) for _ in range(spatial)), inputs),
            reference=reference,
        )

    return draw_conv_transpose


for rank in (1, 2, 3):
    case("Conv", "CrossCor", "conv", label=f"over {rank}")(conv_case(rank))
    case("ConvTranspose", "conv_transpose", label=f"over {rank}")(conv_transpose_case(rank))


@case("DepthwiseConv", "depthwiseconv")
def depthwise_conv(draw):
    spatial, inputs, multiplier = draw.choose(2, 1, 3), draw.size(3), draw.size(2)
    kernel = tuple(draw.size(3) for _ in range(spatial))
    stride, dilation = draw.choose(1, 2), draw.choose(1, 2)
    pad, bias = draw_pad(draw, spatial), draw.choose(True, False)

    def reference(p, x):
        x = padded(first(x), pairs_of(pad, x.shape[1:-1], spans_of(kernel, dilation), stride))
        w = torch_weight(p["weight"]).flatten(0, 1)[:, None]
        y = ranked("conv", spatial)(x, w, p.get("bias"), stride=stride, dilation=dilation, groups=inputs)
        return last(torch.tanh(y))

    options = {"stride": stride, "pad": pad, "dilation": dilation, "bias": bias}
    return Sample(
        lambda: fill(fx.DepthwiseConv(kernel, inputs, inputs * multiplier, fx.tanh, **options)),
        draw_image(draw, draw.normal, spans_of(kernel, dilation), inputs),
        reference=reference,
    )


@case("conv", label="flipped")
def conv_flipped(draw):
    spatial = draw.choose(2, 1, 3)
    kernel, inputs = tuple(draw.size(3) for _ in range(spatial)), draw.size(2)

    def reference(p, x, w):
        w = torch_weight(w.flip(*range(spatial)))
        return last(ranked("conv", spatial)(first(x), w))

    return Sample(
        lambda: functools.partial(fx.conv, flipped=True),
        draw_image(draw, draw.normal, kernel, inputs),
        draw.normal(*kernel, inputs, draw.size(2)),
        reference=reference,
    )


# ------------------------------------------------------------------ pooling


def draw_pool(draw):
    """Window, options and sizes of a pool; the pad is smaller than the window, as some of them need."""
    spatial = draw.choose(2, 1, 3)
    window = tuple(draw.size(3, 2) for _ in range(spatial))
    options = {"stride": draw.choose(2, None, 1, 3), "pad": draw_pad(draw, spatial, most=1)}
    return window, options


def pool_pairs(x, window, stride, pad):
    """Pads of channels-first `x`."""
    return pairs_of(pad, x.shape[2:], window, window if stride is None else stride)


@case("MaxPool", "max_pool")
def max_pool(draw):
    window, options = draw_pool(draw)

    def reference(p, x):
        x = padded(first(x), pool_pairs(first(x), window, **options), -math.inf)
        return last(ranked("max_pool", len(window))(x, window, options["stride"]))

    make = functools.partial(fx.MaxPool, window, **options)
    return Sample(make, draw_image(draw, draw.distinct, window, draw.size(2)), reference=reference)


@case("MeanPool", "mean_pool")
def mean_pool(draw):
    window, options = draw_pool(draw)
    count_include_pad = draw.choose(False, True)

    def reference(p, x):
        pairs = pool_pairs(first(x), window, **options)
        pool = functools.partial(ranked("avg_pool", len(window)), kernel_size=window, stride=options["stride"])
        total, share = pool(padded(first(x), pairs)), pool(padded(torch.ones_like(first(x)), pairs))
        return last(total if count_include_pad else total / share)

    make = functools.partial(fx.MeanPool, window, **options, count_include_pad=count_include_pad)
    return Sample(make, draw_image(draw, draw.normal, window, draw.size(2)), reference=reference)


@case("LPPool", "lp_pool")
def lp_pool(draw):
    window, options = draw_pool(draw)
    p = draw.choose(3, 1, 2, 1.5, 0.5)

    def reference(_, x):
        x = padded(first(x), pool_pairs(first(x), window, **options))
        pool = ranked("avg_pool", len(window))(x**p, window, options["stride"])
        return last((pool * math.prod(window)) ** (1 / p))

    numbers = functools.partial(draw.uniform, 0.3, 1.5)
    make = functools.partial(fx.LPPool, p, window, **options)
    return Sample(make, draw_image(draw, numbers, window, draw.size(2)), reference=reference)


@case("AdaptiveMaxPool", "adaptive_max_pool")
def adaptive_max_pool(draw):
    out = tuple(draw.size(4, 2) for _ in range(draw.choose(2, 1, 3)))

    def reference(p, x):
        return last(ranked("adaptive_max_pool", len(out))(first(x), out))

    x = draw.distinct(2, *(draw.size(5) for _ in out), 2)
    return Sample(lambda: fx.AdaptiveMaxPool(out), x, reference=reference)


@case("AdaptiveMeanPool", "adaptive_mean_pool")
def adaptive_mean_pool(draw):
    out = tuple(draw.size(4, 2) for _ in range(draw.choose(2, 1, 3)))

    def reference(p, x):
        return last(ranked("adaptive_avg_pool", len(out))(first(x), out))

    x = draw.normal(2, *(draw.size(5) for _ in out), 2)
    return Sample(lambda: fx.AdaptiveMeanPool(out), x, reference=reference)


@case("GlobalMaxPool", "global_max_pool")
def global_max_pool(draw):
    x = draw.distinct(2, *(draw.size(3) for _ in range(draw.choose(2, 1, 3))), 2)
    axes = tuple(range(1, x.ndim - 1))
    return Sample(fx.GlobalMaxPool, x, reference=lambda p, x: x.amax(axes, keepdim=True))


@case("GlobalMeanPool", "global_mean_pool")
def global_mean_pool(draw):
    x = draw.normal(2, *(draw.size(3) for _ in range(draw.choose(2, 1, 3))), 2)
    axes = tuple(range(1, x.ndim - 1))
    return Sample(fx.GlobalMeanPool, x, reference=lambda p, x: x.mean(axes, keepdim=True))


# ------------------------------------------------------------------ folding


def rows(x, kernel, stride, pad, dilation):
    """The windows of channels-last `x` as rows, by PyTorch's view of them."""
    spans, spatial = spans_of(kernel, dilation), len(kernel)
    x = padded(first(x), pairs_of(pad, x.shape[1:-1], spans, stride))
    for axis, span in enumerate(spans):
        x = x.unfold(2 + axis, span, stride)[..., ::dilation]
    x = x.movedim(1, -1)  # (batch, *counts, *kernel, channels)
    return x.flatten(1 + spatial).flatten(1, spatial)


def draw_windows(draw):
    kernel = tuple(draw.size(3) for _ in range(draw.choose(2, 1, 3)))
    stride, dilation = draw.choose(1, 2), draw.choose(2, 1)
    return kernel, {"stride": stride, "pad": draw_pad(draw, len(kernel)), "dilation": dilation}


@case("Unfold", "unfold")
def unfold(draw):
    kernel, options = draw_windows(draw)
    x = draw_image(draw, draw.normal, spans_of(kernel, options["dilation"]), draw.size(2))
    make = functools.partial(fx.Unfold, kernel, **options)
    return Sample(make, x, reference=lambda p, x: rows(x, kernel, **options))


@case("Fold", "fold")
def fold(draw):
    kernel, options = draw_windows(draw)
    batch, *sizes, channels = draw_image(draw, draw.normal, spans_of(kernel, options["dilation"]), draw.size(2)).shape
    _, count, length = rows(torch.ones(batch, *sizes, channels), kernel, **options).shape

    def reference(p, y):
        x = torch.zeros(batch, *sizes, channels, dtype=y.dtype, requires_grad=True)
        return torch.autograd.grad(rows(x, kernel, **options), x, y, create_graph=True)[0]

    make = functools.partial(fx.Fold, tuple(sizes), kernel, **options)
    return Sample(make, draw.normal(batch, count, length), reference=reference)

"""Padding, upsampling, pixel shuffling, sampling on a grid and rotation: against PyTorch, and NumPy's padding."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from harness import Sample, case

import fluxion as fx


def channels_first(function):
    """A function of PyTorch's on arrays with the channels last."""
    return lambda x, *rest, **options: function(x.movedim(-1, 1), *rest, **options).movedim(1, -1)


def image(draw, spatial, most=4, least=1):
    return draw.normal(2, *(draw.size(most, least) for _ in range(spatial)), 2)


def ones(*shape):
    return np.ones(shape, np.float32)


# ------------------------------------------------------------------ padding


def drawn_pads(draw, count, most):
    """Pads in one of the four ways to write them, and as pairs."""
    low, high = ([draw.size(most, 0) for _ in range(count)] for _ in range(2))
    pairs = tuple(zip(low, high, strict=True))
    return draw.choose(
        (pairs, pairs),
        (low[0], ((low[0], low[0]),) * count),
        (tuple(low) if count > 1 else low[0], tuple((n, n) for n in low)),
        (tuple(n for pair in pairs for n in pair), pairs),
    )


def padding(name, mode, reference=None):
    @case(
        name,
        errors=[
            (lambda: getattr(fx, name)(ones(1, 2, 1), -1), ValueError, f"{name} takes as pad an int of at least 0"),
            (lambda: getattr(fx, name)(ones(1, 2, 1), "same"), ValueError, "for the axes (1,) here, got 'same'"),
            (lambda: getattr(fx, name)(ones(1, 2, 1), (1, 1, 1)), ValueError, "got (1, 1, 1)"),
            (lambda: getattr(fx, name)(ones(2, 2), 1), fx.SizeError, f"{name} expects axes between batch and channels"),
            (
                lambda: getattr(fx, name)(ones(2, 2), 1, axes=(0, -2)),
                ValueError,
                "axes that differ, of an array with 2",
            ),
            (lambda: getattr(fx, name)(ones(2, 2), 1, axes=2), ValueError, "an array with 2 axes, got 2"),
            (lambda: getattr(fx, name)(ones(2, 2), 1, axes=1.0), ValueError, "an array with 2 axes, got 1.0"),
        ],
    )
    def sample(draw):
        spatial = draw.choose(2, 1, 3)
        x = image(draw, spatial, 4, 3)
        pad, pairs = drawn_pads(draw, spatial, 2)
        flat = [n for pair in reversed(pairs) for n in pair]
        return Sample(
            lambda: lambda x: getattr(fx, name)(x, pad),
            x,
            reference=reference and (lambda p, x: channels_first(F.pad)(x, flat, mode=reference)),
            expected=lambda p, x: np.pad(x, ((0, 0), *pairs, (0, 0)), mode=mode),
        )


for _name, _mode, _reference in (
    ("pad_zeros", "constant", "constant"),
    ("pad_reflect", "reflect", "reflect"),
    ("pad_repeat", "edge", "replicate"),
    ("pad_circular", "wrap", "circular"),
    ("pad_symmetric", "symmetric", None),
):
    padding(_name, _mode, _reference)


@case(
    "pad_constant",
    errors=[
        (lambda: fx.pad_constant(ones(1, 2, 1), 1, [1, 2]), ValueError, "pad_constant takes one number as its value"),
        (lambda: fx.pad_constant(ones(1, 2, 1), 1.5), ValueError, "pad_constant takes as pad an int of at least 0"),
    ],
)
def pad_constant(draw):
    axes, pairs = draw.choose(((0, -1), ((1, 2), (0, 0), (3, 1))), (1, ((0, 0), (1, 2), (0, 0))))
    pad = tuple(pair for pair in pairs if any(pair))
    return Sample(
        lambda: lambda x, value: fx.pad_constant(x, pad, value, axes=axes),
        draw.normal(2, 3, 1),
        draw.normal(),
        expected=lambda p, x, value: np.pad(x, pairs, constant_values=value),
    )


# ------------------------------------------------------------------ upsampling

TARGETS = ({"scale": 2}, {"scale": 1.7}, {"scale": 0.6}, "sizes", "scales")


def target(draw, spatial):
    """A scale or sizes, as ours and as PyTorch's arguments."""
    chosen = draw.choose(*TARGETS)
    if chosen == "sizes":
        chosen = {"size": tuple(draw.size(7) for _ in range(spatial))}
    elif chosen == "scales":
        chosen = {"scale": tuple(draw.choose(0.5, 1, 1.5, 2.25) for _ in range(spatial))}
    return chosen, {"scale_factor" if name == "scale" else name: value for name, value in chosen.items()}


def upsampling(name, mode, *ranks):
    @case(
        name,
        errors=[
            (lambda: getattr(fx, name)(ones(2, 3), 2), fx.SizeError, f"{name} expects "),
            (lambda: getattr(fx, name)(ones(1, *(2,) * ranks[0], 1)), ValueError, f"{name} takes either scale or size"),
            (lambda: getattr(fx, name)(ones(1, *(2,) * ranks[0], 1), 2, size=4), ValueError, "got scale=2 and size=4"),
            (lambda: getattr(fx, name)(ones(1, *(2,) * ranks[0], 1), 0), ValueError, "takes as scale a number above 0"),
            (lambda: getattr(fx, name)(ones(1, *(2,) * ranks[0], 1), "2"), ValueError, "number above 0"),
            (lambda: getattr(fx, name)(ones(1, *(2,) * ranks[0], 1), (2,) * 4), ValueError, "one for each of "),
            (lambda: getattr(fx, name)(ones(1, *(2,) * ranks[0], 1), size=0), ValueError, "size takes an int or a"),
            (lambda: getattr(fx, name)(ones(1, *(2,) * ranks[0], 1), size=(1,) * 4), ValueError, "1 to 3 axes"),
            (lambda: getattr(fx, name)(ones(1, *(2,) * ranks[0], 1), 0.3), fx.SizeError, "scale=0.3 leaves at least 1"),
            (lambda: getattr(fx, name)(ones(1, *(0,) * ranks[0], 1), 2), fx.SizeError, "axes that are not empty"),
        ],
    )
    def sample(draw):
        spatial = draw.choose(*ranks)
        ours, theirs = target(draw, spatial)
        corners = {} if mode == "nearest" else {"align_corners": draw.choose(False, True)}
        torch_mode = {"linear": ("linear", "bilinear", "trilinear")[spatial - 1], "cubic": "bicubic"}.get(mode, mode)
        return Sample(
            lambda: lambda x: getattr(fx, name)(x, **ours, **corners),
            image(draw, spatial, 5, 2),
            reference=lambda p, x: channels_first(F.interpolate)(x, **theirs, mode=torch_mode, **corners),
        )


upsampling("upsample_nearest", "nearest", 2, 1, 3)
upsampling("upsample_linear", "linear", 2, 1, 3)
upsampling("upsample_bilinear", "linear", 2)
upsampling("upsample_trilinear", "linear", 3)
upsampling("upsample_bicubic", "cubic", 2)


@case(
    "Upsample",
    errors=[
        (lambda: fx.Upsample(2, "area"), ValueError, "Upsample takes as mode one of 'nearest', 'linear', 'bilinear'"),
        (lambda: fx.Upsample(), ValueError, "Upsample takes either scale or size, got scale=None and size=None"),
        (lambda: fx.Upsample(2, size=2), ValueError, "Upsample takes either scale or size"),
        (lambda: fx.Upsample(-2), ValueError, "Upsample takes as scale a number above 0"),
        (lambda: fx.Upsample(math.inf), ValueError, "got inf"),
        (lambda: fx.Upsample(size=(2, 0)), ValueError, "size takes an int or a tuple of 2 ints, each at least 1"),
        (lambda: fx.Upsample(2, align_corners=True), ValueError, 'for the modes that interpolate, not for "nearest"'),
        (lambda: fx.Upsample(2, "bilinear")(ones(1, 2, 1)), fx.SizeError, "Upsample(2, 'bilinear') expects 4 axes"),
        (lambda: fx.Upsample(2)(ones(1, 2)), fx.SizeError, "Upsample(2) expects 3 to 5 axes"),
        (lambda: fx.Upsample((2, 2))(ones(1, 2, 1)), ValueError, "scale takes a number or one for each of 1 spatial"),
    ],
)
def upsample(draw):
    mode, spatial = draw.choose(("bilinear", 2), ("nearest", 1), ("linear", 1), ("bicubic", 2), ("trilinear", 3))
    ours, theirs = target(draw, spatial)
    corners = {} if mode == "nearest" else {"align_corners": draw.choose(True, False)}
    return Sample(
        lambda: fx.Upsample(mode=mode, **ours, **corners),
        image(draw, spatial, 4, 2),
        reference=lambda p, x: channels_first(F.interpolate)(x, **theirs, mode=mode, **corners),
    )


# ------------------------------------------------------------------ pixel shuffling


def shuffled(x, r):
    """PyTorch's, which knows images only, applied to lines and volumes by its definition."""
    if x.ndim == 4:
        return channels_first(F.pixel_shuffle)(x, r)
    spatial, channels = x.ndim - 2, x.shape[-1] // r ** (x.ndim - 2)
    letters = "abc"[:spatial], "ijk"[:spatial]
    blocks = x.reshape(*x.shape[:-1], channels, *(r,) * spatial)
    order = "n" + "".join(a + i for a, i in zip(*letters, strict=True)) + "z"
    mixed = torch.einsum(f"n{letters[0]}z{letters[1]}->{order}", blocks)
    return mixed.reshape(x.shape[0], *(r * n for n in x.shape[1:-1]), channels)


@case(
    "pixel_shuffle",
    errors=[
        (
            lambda: fx.pixel_shuffle(ones(1, 2, 2, 6), 2),
            fx.SizeError,
            "a multiple of 2**2 channels (last axis)",
        ),
        (lambda: fx.pixel_shuffle(ones(1, 2), 2), fx.SizeError, "pixel_shuffle expects 3 to 5 axes"),
        (lambda: fx.pixel_shuffle(ones(1, 2, 2, 4), 0), ValueError, "pixel_shuffle takes as r an int of at least 1"),
        (lambda: fx.pixel_shuffle(ones(1, 2, 2, 4), (2, 2)), ValueError, "got (2, 2)"),
    ],
)
def pixel_shuffle(draw):
    spatial, r = draw.choose(2, 1, 3), draw.choose(2, 3, 1)
    sizes = [draw.size(3) for _ in range(spatial)]
    return Sample(
        lambda: lambda x: fx.pixel_shuffle(x, r),
        draw.normal(2, *sizes, r**spatial * draw.size(2)),
        reference=lambda p, x: shuffled(x, r),
    )


@case(
    "pixel_unshuffle",
    errors=[
        (lambda: fx.pixel_unshuffle(ones(1, 2, 3, 1), 2), fx.SizeError, "expects sizes that are multiples of 2"),
        (lambda: fx.pixel_unshuffle(ones(1, 2, 2, 1), 1.0), ValueError, "pixel_unshuffle takes as r an int"),
    ],
)
def pixel_unshuffle(draw):
    r = draw.choose(2, 3, 1)
    return Sample(
        lambda: lambda x: fx.pixel_unshuffle(x, r),
        draw.normal(2, r * draw.size(2), r * draw.size(2), draw.size(2)),
        reference=lambda p, x: channels_first(F.pixel_unshuffle)(x, r),
    )


@case(
    "PixelShuffle",
    errors=[
        (lambda: fx.PixelShuffle(0), ValueError, "PixelShuffle takes sizes that are ints of at least 1, got 0"),
        (lambda: fx.PixelShuffle(2)(ones(1, 2, 2, 3)), fx.SizeError, "PixelShuffle(2) expects a multiple of 2**2"),
    ],
)
def pixel_shuffle_layer(draw):
    spatial, r = draw.choose(2, 1), draw.choose(2, 3)
    return Sample(
        lambda: fx.PixelShuffle(r),
        draw.normal(2, *(2, 3)[:spatial], 2 * r**spatial),
        reference=lambda p, x: shuffled(x, r),
    )


# ------------------------------------------------------------------ sampling and rotation


@case(
    "grid_sample",
    errors=[
        (lambda: fx.grid_sample(ones(1, 2, 2), ones(1, 2, 2)), fx.SizeError, "grid_sample expects 4 or 5 axes"),
        (
            lambda: fx.grid_sample(ones(1, 4, 4, 3), ones(2, 4, 4, 2)),
            fx.SizeError,
            "expects a grid (1, size, size, 2) for an array of shape (1, 4, 4, 3), got one of shape (2, 4, 4, 2)",
        ),
        (lambda: fx.grid_sample(ones(1, 4, 4, 3), ones(1, 4, 4, 3)), fx.SizeError, "got one of shape (1, 4, 4, 3)"),
        (lambda: fx.grid_sample(ones(1, 4, 4, 3), ones(1, 4, 2)), fx.SizeError, "expects a grid"),
        (lambda: fx.grid_sample(ones(1, 1, 1, 1), ones(1, 1, 1, 2), mode="cubic"), ValueError, "got 'cubic'"),
        (
            lambda: fx.grid_sample(ones(1, 0, 4, 3), ones(1, 4, 4, 2)),
            fx.SizeError,
            "with sizes of at least 1, got an ar",
        ),
        (
            lambda: fx.grid_sample(ones(1, 1, 1, 1), 1j * ones(1, 1, 1, 2)),
            TypeError,
            "as grid real numbers, got complex",
        ),
        (
            lambda: fx.grid_sample(ones(1, 1, 1, 1), ones(1, 1, 1, 2), padding_mode="same"),
            ValueError,
            "padding_mode takes one of 'zeros', 'border', 'reflection', got 'same'",
        ),
    ],
)
def grid_sample(draw):
    spatial = draw.choose(2, 3)
    options = {
        "mode": draw.choose("bilinear", "nearest"),
        "padding_mode": draw.choose("zeros", "border", "reflection"),
        "align_corners": draw.choose(False, True),
    }
    grid = draw.uniform(-1.5, 1.5, 2, *(draw.size(3) for _ in range(spatial)), spatial)
    return Sample(
        lambda: lambda x, grid: fx.grid_sample(x, grid, **options),
        image(draw, spatial),
        grid,
        reference=lambda p, x, grid: channels_first(F.grid_sample)(x, grid, **options),
        halves=(),  # a position rounded to half precision is another position
    )


@case(
    "affine_grid",
    errors=[
        (
            lambda: fx.affine_grid(ones(1, 2, 2), (2, 2)),
            fx.SizeError,
            "expects theta of shape (batch, n, n + 1) and n",
        ),
        (lambda: fx.affine_grid(ones(1, 2, 3), (2, 2, 2)), fx.SizeError, "got shape (1, 2, 3) and sizes (2, 2, 2)"),
        (lambda: fx.affine_grid(ones(1, 1, 2), (2,)), fx.SizeError, "n = 2 or 3"),
        (lambda: fx.affine_grid(ones(1, 2, 3), 2), ValueError, "size takes a tuple with one size for each"),
    ],
)
def affine_grid(draw):
    spatial = draw.choose(2, 3)
    size, corners = tuple(draw.size(4, 2) for _ in range(spatial)), draw.choose(False, True)
    return Sample(
        lambda: lambda theta: fx.affine_grid(theta, size, align_corners=corners),
        draw.normal(2, spatial, spatial + 1),
        reference=lambda p, theta: F.affine_grid(theta, (2, 1, *size), align_corners=corners),
    )


def rotated(x, angle, method, centre):
    """Rotation by PyTorch's `grid_sample`, at positions in pixels that are scaled to its -1 to 1."""
    rows, columns = (torch.arange(n, dtype=torch.float64) - c for n, c in zip(x.shape[1:3], centre, strict=True))
    rows, columns = torch.meshgrid(rows, columns, indexing="ij")
    sine, cosine = angle.sin().reshape(-1, 1, 1), angle.cos().reshape(-1, 1, 1)
    places = sine * rows + cosine * columns + centre[1], cosine * rows - sine * columns + centre[0]
    grid = torch.stack([2 * p / (n - 1) - 1 for p, n in zip(places, (x.shape[2], x.shape[1]), strict=True)], dim=-1)
    return channels_first(F.grid_sample)(x, grid.expand(len(x), -1, -1, -1), mode=method, align_corners=True)


@case(
    "imrotate",
    errors=[
        (lambda: fx.imrotate(ones(2, 2), 1), fx.SizeError, "imrotate expects 4 axes (batch, height, width, channels)"),
        (lambda: fx.imrotate(ones(2, 2, 2, 1), ones(3)), fx.SizeError, "one angle, or one for each of 2 images"),
        (lambda: fx.imrotate(ones(2, 2, 2, 1), 1, method="cubic"), ValueError, "method takes one of 'bilinear', 'near"),
        (lambda: fx.imrotate(ones(2, 2, 2, 1), 1, centre=(1,)), ValueError, "as centre a pair (row, column), got (1,)"),
        (lambda: fx.imrotate(ones(2, 2, 2, 1), 1, centre=1), ValueError, "as centre a pair (row, column), got 1"),
        (lambda: fx.imrotate(ones(2, 2, 2, 1), 1j), TypeError, "imrotate takes as angle real numbers, got complex64"),
    ],
)
def imrotate(draw):
    method, sizes = draw.choose("bilinear", "nearest"), (draw.size(5, 2), draw.size(5, 2))
    centre = draw.choose(None, (1, 0.5))
    middle = tuple(n // 2 for n in sizes) if centre is None else centre
    return Sample(
        lambda: lambda x, angle: fx.imrotate(x, angle, method=method, centre=centre),
        draw.normal(2, *sizes, 2),
        draw.uniform(-7, 7, *draw.choose((2,), ())),
        reference=lambda p, x, angle: rotated(x, angle, method, middle),
        halves=(),  # an angle rounded to half precision is another angle
        tolerance=1e-8,
    )

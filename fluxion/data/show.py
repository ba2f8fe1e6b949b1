"""A batch of images as a picture."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fluxion.data.transforms import fields as fields_of
from fluxion.errors import SizeError
from fluxion.onehot import OneHotArray

_MASK_SHARE = 0.4  # how much of a mask covers the image


def show_batch(
    data: Any,
    columns: int = 8,
    class_names: Any = None,
    path: str | os.PathLike[str] | None = None,
    names: tuple[str | None, ...] | None = None,
) -> Any:
    """Draws the first batch of a loader, or a batch, as a grid of images; returns matplotlib's Figure.

    A batch is images `(N, H, W, C)`, of uint8 or of floats from 0 to 1, or a tuple or dict of fields as transforms take
    them; `names` are those of a tuple, as `Transform.on` takes them. Labels stand above the images, by `class_names`
    where given; one-hot labels and probabilities count as their largest. Masks are laid over, boxes and keypoints
    drawn. `path` is a file to save the picture to. Needs matplotlib (ImportError without it).

    >>> figure = fx.data.show_batch((np.zeros((3, 8, 8, 3)), np.array([0, 1, 1])), class_names=["cat", "dog"])
    >>> [axes.get_title() for axes in figure.axes]
    ['cat', 'dog', 'dog']
    """
    figure_class = _matplotlib_figure()
    if isinstance(columns, bool) or not isinstance(columns, int) or columns < 1:
        raise ValueError(f"show_batch takes a whole number of columns of at least 1, got {columns!r}")
    batch = data if isinstance(data, (tuple, dict)) or fields_of.is_array(data) else next(iter(data))
    names = fields_of.checked_names(names) if names else None
    fields = {name: _on_host(value) for name, (_, value) in fields_of.named(batch, names, "show_batch").items()}
    images = fields["image"]
    if np.ndim(images) != 4 or images.shape[-1] not in (1, 3, 4) or not len(images):
        raise SizeError(
            f"show_batch takes images (N, H, W, C) of 1, 3 or 4 channels, got an array of {np.shape(images)}"
        )
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = figure_class(figsize=(1.5 * columns, 1.7 * rows), layout="tight")
    for i in range(len(images)):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.set_axis_off()
        _draw(axes, {name: value[i] for name, value in fields.items()}, class_names)
    if path is not None:
        figure.savefig(path)
    return figure


def _matplotlib_figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("show_batch needs matplotlib: pip install 'fluxion-ml[plot]'") from None
    return Figure


def _on_host(value: Any) -> Any:
    if isinstance(value, OneHotArray):
        return np.asarray(value.indices)
    return np.asarray(value) if fields_of.is_array(value) else value


def _draw(axes: Any, fields: dict[str, Any], class_names: Any) -> None:
    """One image with all that belongs to it."""
    image, (height, width) = fields["image"], fields["image"].shape[:2]
    extent = (0, width, height, 0)  # pixel (i, j) covers [j, j + 1) x [i, i + 1)
    colours = image if image.dtype == np.uint8 else np.clip(image.astype(np.float32), 0, 1)
    axes.imshow(colours, extent=extent, cmap="gray", vmin=0, vmax=255 if image.dtype == np.uint8 else 1)
    if "mask" in fields:
        mask = fields["mask"] if fields["mask"].ndim == 2 else fields["mask"].max(axis=-1)
        seen = np.ma.masked_equal(mask % 20, 0)
        axes.imshow(seen, extent=extent, cmap="tab20", vmin=0, vmax=19, alpha=_MASK_SHARE, interpolation="nearest")
    for left, top, right, bottom in fields.get("boxes", ()):
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color="red", linewidth=1)
    if len(points := fields.get("keypoints", ())):
        axes.plot(*np.transpose(points), ".", color="yellow", markersize=3)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    if "labels" in fields:
        axes.set_title(_name(fields["labels"], class_names), fontsize=8)


def _name(label: Any, class_names: Any) -> str:
    """The name of a label: a class's, or the label itself."""
    if isinstance(label, str):
        return label
    number = int(np.argmax(label)) if np.ndim(label) == 1 else label
    if class_names is None:
        return str(number)
    if not 0 <= int(number) < len(class_names):
        raise ValueError(f"class_names has {len(class_names)} names, got the label {number}")
    return str(class_names[int(number)])

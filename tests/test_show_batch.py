"""The picture of a batch."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.data import show_batch

X = np.random.default_rng(0).random((5, 6, 7, 3))


def test_a_loader_gives_a_grid_with_names(tmp_path):
    loader = fx.DataLoader((X, np.arange(5) % 2), batch_size=4)
    figure = show_batch(loader, columns=3, class_names=["cat", "dog"], path=tmp_path / "batch.png")
    assert [axes.get_title() for axes in figure.axes] == ["cat", "dog", "cat", "dog"]
    assert (tmp_path / "batch.png").read_bytes().startswith(b"\x89PNG")
    grid = figure.axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == (2, 3)
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), X[1], atol=1e-6)
    assert figure.axes[0].images[0].get_extent() == [0, 7, 6, 0]


def test_masks_boxes_and_points_are_drawn():
    mask = np.zeros((5, 6, 7), int)
    mask[:, 2:4, 1:3] = 1
    boxes, points = np.float32([[[1, 2, 3, 4]]] * 5), np.float32([[[2, 3], [0, 0]]] * 5)
    figure = show_batch({"image": jnp.asarray(X), "mask": mask, "boxes": boxes, "keypoints": points})
    axes = figure.axes[0]
    assert (~axes.images[1].get_array().mask).sum() == 4
    box, dots = axes.lines
    assert box.get_xydata().tolist() == [[1, 2], [3, 2], [3, 4], [1, 4], [1, 2]]
    assert dots.get_xydata().tolist() == [[2, 3], [0, 0]]
    assert axes.get_xlim() == (0, 7) and axes.get_ylim() == (6, 0)


def test_labels_of_every_kind():
    titles = lambda label: [axes.get_title() for axes in show_batch((X, label)).axes][:2]
    assert titles(list("abcde")) == ["a", "b"]
    assert titles(np.float32([[0.2, 0.8], [1, 0], [1, 0], [1, 0], [1, 0]])) == ["1", "0"]
    assert titles(fx.onehotbatch([1, 0, 1, 0, 1], [0, 1])) == ["1", "0"]
    assert [axes.get_title() for axes in show_batch((np.arange(5), X), names=("label", "image")).axes][:2] == ["0", "1"]
    assert show_batch((X[..., :1] * 255).astype(np.uint8)).axes[0].get_title() == ""


def test_errors_say_what_is_wrong(monkeypatch):
    with pytest.raises(
        fx.SizeError, match=r"show_batch takes images \(N, H, W, C\) of 1, 3 or 4 channels, got .*\(5, 6, 7\)"
    ):
        show_batch(X[..., 0])
    with pytest.raises(ValueError, match=r"show_batch takes a whole number of columns of at least 1, got 0"):
        show_batch(X, columns=0)
    with pytest.raises(ValueError, match=r"class_names has 1 names, got the label 3"):
        show_batch((X, np.full(5, 3)), class_names=["one"])
    with pytest.raises(ValueError, match=r"show_batch finds no images"):
        show_batch({"x": X})
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"show_batch needs matplotlib: pip install 'fluxion-ml\[plot\]'"):
        show_batch(X)

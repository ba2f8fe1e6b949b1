"""Images in another size by generated code, against Pillow."""

import numpy as np
import pytest
from PIL import Image

from fluxion.data.folders.storage import colour_pixels
from fluxion.kernels import machine, objects
from fluxion.kernels.availability import usable_machine
from fluxion.kernels.resample import FILTERS, resample, routine_text, weights

pytestmark = pytest.mark.skipif(usable_machine() is None, reason="no kernels on this machine")


def noise(width, height):
    """The hardest image: no pixel is like its neighbours."""
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def both(pixels, size, filter, box=None):
    """Our result, and Pillow's."""
    height, width = pixels.shape[:2]
    stored = np.full((height, width, 4), 99, np.uint8)  # the fourth byte is nobody's
    stored[..., :3] = pixels
    box = box or (0, 0, width, height)
    ours = resample(stored.ctypes.data, (width, height), size, filter, box)
    return ours, np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling[filter], box))


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("size", [(224, 224), (16, 200), (97, 301)])
@pytest.mark.parametrize("stored", [(500, 375), (64, 48), (33, 41), (301, 5), (601, 97)])
def test_images_are_those_of_pillow(stored, size, filter):
    for box in (None, (1.3, 0.5, stored[0] - 2.7, stored[1] - 0.25)):
        ours, expected = both(noise(*stored), size, filter, box)
        if ours is None:
            assert FILTERS[filter][0] * 2 * max(1, stored[0] / size[0], stored[1] / size[1]) + 4 > min(stored)
        else:
            np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("stored", [(375, 500), (300, 900), (64, 48)])
def test_either_order_of_the_passes_gives_nearly_the_same(stored):
    """Pillow 13 goes along the columns first where that is less work, and rounds to 8 bits after them."""
    ours, expected = both(noise(*stored), (300, 30), "BILINEAR")
    assert np.abs(ours.astype(int) - expected).max() <= 1


def test_images_that_are_left_to_pillow():
    assert both(noise(40, 40), (15, 40), "BILINEAR")[0] is None  # less than a block in a row
    assert both(noise(40, 3), (40, 40), "BILINEAR")[0] is None
    assert both(noise(3, 40), (40, 40), "BILINEAR")[0] is None
    assert both(noise(40, 40), (20, 20), "HAMMING")[0] is None
    assert both(noise(40, 40), (20, 20), "NEAREST")[0] is None


def test_extremes_do_not_wrap_around():
    edges = np.zeros((40, 40, 3), np.uint8)
    edges[:, ::3] = edges[::7] = 255
    for filter in FILTERS:
        ours, expected = both(edges, (77, 66), filter)
        np.testing.assert_array_equal(ours, expected)
    assert (both(np.full((40, 40, 3), 255, np.uint8), (77, 66), "LANCZOS")[0] == 255).all()


def test_weights_add_up_to_one():
    for count, size in ((500, 224), (100, 300)):
        first, share = weights(count, 0, count, size, "BICUBIC", 1)
        assert np.abs(share.sum(axis=1) / 2**22 - 1).max() < 1e-5
        assert first.min() == 0 and (first + share.shape[1]).max() == count


def test_pixels_of_pillow_are_read_in_place():
    pixels = noise(120, 80)
    image = Image.fromarray(pixels)
    place, kept = colour_pixels(image)
    ours = resample(place, image.size, (60, 40), "BILINEAR", (0, 0, 120, 80))
    np.testing.assert_array_equal(ours, np.asarray(image.resize((60, 40), Image.Resampling.BILINEAR)))
    assert kept[0] is image
    for mode in ("L", "RGBA", "F"):
        assert colour_pixels(image.convert(mode)) is None
    assert colour_pixels(Image.new("RGB", (3000, 2000))) is None  # in several pieces


@pytest.mark.parametrize("kind", [machine.AVX512, machine.AVX2, machine.NEON], ids=lambda kind: kind.name)
def test_code_for_every_machine(kind):
    assert objects.compile_object(routine_text(kind), kind)

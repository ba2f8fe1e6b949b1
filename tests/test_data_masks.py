"""Images with masks in two folders."""

import numpy as np
import pytest
from PIL import Image

import fluxion as fx
from fluxion.data import mask_dataset_from_directory
from fluxion.data.errors import CorruptFileError

CLASSES = np.arange(35).reshape(5, 7) % 4


def save(path, values, mode=None):
    """An image of these values, in folders that are made where they are missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8))
    if mode == "P":
        image.putpalette(bytes(range(255, 255 - 12, -1)))
    image.save(path)


@pytest.fixture
def scenes(tmp_path):
    for number in range(6):
        name = f"{'a' if number % 2 else 'b'}/{number}"
        save(tmp_path / f"images/{name}.jpg", np.full((5, 7, 3), 40 * number))
        save(tmp_path / f"masks/{name}.png", np.roll(CLASSES, number), "P" if number % 2 else None)
    return tmp_path


def test_pairs(scenes):
    dataset = mask_dataset_from_directory(scenes / "images", scenes / "masks", None)
    assert len(dataset) == 6 and repr(dataset) == "FileDataset of 6 files"
    for i, number in enumerate([1, 3, 5, 0, 2, 4]):
        image, mask = dataset[i]
        assert abs(image.mean() - 40 * number / 255) < 0.01 and image.shape == (5, 7, 3)
        assert mask.dtype == np.int32 and np.array_equal(mask, np.roll(CLASSES, number))  # palette or not
        assert dataset.source(i) == str(scenes / f"images/{'a' if number % 2 else 'b'}/{number}.jpg")
        assert dataset.masks[i].endswith(f"{number}.png")
    images, masks = dataset[:]
    assert images.shape == (6, 5, 7, 3) and masks.shape == (6, 5, 7)
    assert [x.shape for x, _ in fx.DataLoader(dataset, batch_size=4)] == [(4, 5, 7, 3), (2, 5, 7, 3)]


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_images_and_masks_stay_together(tmp_path, resize):
    inside = np.zeros((60, 90), bool)
    inside[10:40, 20:50] = True
    save(tmp_path / "x/1.png", inside[..., None] * np.full(3, 255))
    save(tmp_path / "y/1.png", inside * 255)
    for size in ((30, 30), (64, 100), (100, 40)):
        options = {"mask_values": {255: 1}, "resize": resize, "interpolation": "nearest"}
        image, mask = mask_dataset_from_directory(tmp_path / "x", tmp_path / "y", size, **options)[0]
        assert mask.shape == size and set(np.unique(mask)) == {0, 1}
        assert np.array_equal(image[..., 0], mask)


def test_kinds_of_masks(tmp_path):
    inside = np.arange(12).reshape(3, 4) % 3 == 0
    images = {
        "bits": Image.fromarray(inside),
        "deep": Image.fromarray(inside.astype(np.uint16) * 300),
        "grey": Image.fromarray(inside.astype(np.uint8) * 7),
    }
    for name, image in images.items():
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "1.png")
        save(tmp_path / "images" / "1.png", np.zeros((3, 4, 3)))
        options = {"image_size": (3, 4), "mask_values": {300: 1, 7: 1}}
        mask = mask_dataset_from_directory(tmp_path / "images", tmp_path / name, **options)[0][1]
        assert mask.dtype == np.int32 and np.array_equal(mask, inside), name
        plain = mask_dataset_from_directory(tmp_path / "images", tmp_path / name, None)[0][1]
        assert plain.max() == {"bits": 1, "deep": 300, "grey": 7}[name]


def test_parts(scenes):
    drawn = mask_dataset_from_directory(
        scenes / "images", scenes / "masks", None, validation_split=0.4, subset="both", seed=1
    )
    assert [len(part) for part in drawn] == [4, 2] and not set(drawn[0].files) & set(drawn[1].files)
    again = mask_dataset_from_directory(
        scenes / "images", scenes / "masks", None, validation_split=0.4, subset="validation", seed=1
    )
    assert again.files == drawn[1].files and again.masks == drawn[1].masks
    for part, name in (("train", "1"), ("val", "2")):
        save(scenes / "split/images" / part / f"{name}.png", np.zeros((5, 7, 3)))
        save(scenes / "split/masks" / part / f"{name}.png", CLASSES)
    folders = scenes / "split/images", scenes / "split/masks"
    train, validation = mask_dataset_from_directory(*folders, subset="both")
    assert train.files[0].endswith("1.png") and validation.masks[0].endswith("2.png")
    with pytest.raises(ValueError, match=r"subset='test' .* reads a folder test or testing in '.*images'"):
        mask_dataset_from_directory(*folders, subset="test")


def test_images_and_masks_that_do_not_match(scenes):
    save(scenes / "images/a/lonely.jpg", np.zeros((5, 7, 3)))
    save(scenes / "masks/b/spare.png", CLASSES)
    message = r"1 images in '.*images' have no mask in '.*masks' \('a.lonely'\), 1 masks have no image \('b.spare'\)"
    with pytest.raises(ValueError, match=message):
        mask_dataset_from_directory(scenes / "images", scenes / "masks")
    save(scenes / "images/a/1.png", np.zeros((5, 7, 3)))
    with pytest.raises(ValueError, match=r"1\.jpg' and '.*1\.png' have the same name but for the extension"):
        mask_dataset_from_directory(scenes / "images", scenes / "masks")


def test_masks_that_are_none(tmp_path):
    save(tmp_path / "images/1.png", np.zeros((5, 7, 3)))
    folders = tmp_path / "images", tmp_path / "masks"
    save(tmp_path / "masks/1.png", np.zeros((5, 7, 3)))
    with pytest.raises(
        CorruptFileError, match=r"masks.1\.png: .*one whole number for each pixel, this one has R, G, B"
    ):
        mask_dataset_from_directory(*folders)[0]
    save(tmp_path / "masks/1.png", np.zeros((6, 7)))
    with pytest.raises(CorruptFileError, match=r"the mask has 6 x 7 pixels, its image .* 5 x 7; image_size= brings"):
        mask_dataset_from_directory(*folders, None)[0]
    assert mask_dataset_from_directory(*folders, (4, 4))[0][1].shape == (4, 4)
    (tmp_path / "masks/1.png").write_bytes(b"")
    with pytest.raises(CorruptFileError, match=r"masks.1\.png: the file is empty"):
        mask_dataset_from_directory(*folders)[0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mask_values": 255}, TypeError, r"takes a dict such as \{255: 1\} as mask_values, got 255"),
        ({"mask_values": {-1: 0}}, ValueError, "a value in mask_values must be from 0 to 65535, got -1"),
        ({"mask_values": {255: 0.5}}, TypeError, "a class in mask_values is a whole number, got 0.5"),
        ({"resize": "fit"}, ValueError, "mask_dataset_from_directory takes 'stretch', 'crop', 'pad' as resize"),
        ({"validation_split": 0.1, "subset": "both"}, ValueError, "of 6 files leaves a part without files"),
        ({"extensions": (".bmp",)}, ValueError, r"found no file of .bmp in .*; there are 6 of .jpg"),
    ],
)
def test_options_that_do_not_exist(scenes, options, error, message):
    with pytest.raises(error, match=message):
        mask_dataset_from_directory(scenes / "images", scenes / "masks", **options)
    with pytest.raises(FileNotFoundError, match=r"mask_dataset_from_directory: there is no folder '.*nowhere'"):
        mask_dataset_from_directory(scenes / "images", scenes / "nowhere")

"""Images of every kind as arrays, against Pillow's own functions, and folders of them."""

import io
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageOps, ImageSequence

import fluxion as fx
from fluxion.data import image_dataset_from_directory, read_image
from fluxion.data.errors import CorruptFileError
from fluxion.data.folders.decode import TURNS
from fluxion.data.folders.orientation import orientation, without_metadata

FILTERS = {"nearest": 0, "bilinear": 2, "bicubic": 3, "area": 4, "lanczos": 1}


def photo(width, height, seed=0):
    """A smooth image with some noise, as photographs are."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((width, height), 3)
    noise = rng.integers(-6, 7, (height, width, 3))
    return Image.fromarray((np.asarray(coarse, int) + noise).clip(0, 255).astype(np.uint8))


def stored(image, kind="PNG", **options):
    """The bytes of the image's file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def rgb(source):
    """What `Image.open` gives, from 0 to 1."""
    return np.asarray(Image.open(io.BytesIO(source)).convert("RGB"), np.float32) / 255


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF"])
def test_formats(kind, tmp_path):
    source = stored(photo(50, 40), kind)
    (tmp_path / "image").write_bytes(source)
    for where in (source, tmp_path / "image", str(tmp_path / "image")):
        image = read_image(where)
        assert image.shape == (40, 50, 3) and image.dtype == np.float32
        assert np.array_equal(image, rgb(source))
    raw = read_image(source, dtype=np.uint8)
    assert raw.dtype == np.uint8 and raw.flags.writeable and np.array_equal(raw, (rgb(source) * 255).round())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
@pytest.mark.parametrize("color_mode", ["rgb", "rgba", "grayscale", "greyscale"])
def test_modes(mode, color_mode):
    kind = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    image = photo(30, 20)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.linear_gradient("L").resize((30, 20)))
    image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    source = stored(image, kind)
    expected = Image.open(io.BytesIO(source))
    if mode == "I;16":
        expected = Image.fromarray((np.asarray(expected) // 257).astype(np.uint8))
    expected = expected.convert({"rgb": "RGB", "rgba": "RGBA"}.get(color_mode, "L"))
    expected = np.asarray(expected, np.float32).reshape(20, 30, -1) / 255
    got = read_image(source, color_mode)
    assert got.shape == expected.shape
    # the brightness of a JPEG file is taken as it is stored, not made again from colours that were clipped
    np.testing.assert_allclose(got, expected, atol=4 / 255 if kind == "JPEG" and len(color_mode) > 4 else 1e-6)


def test_grey_of_16_bits_keeps_them():
    values = np.arange(600, dtype=np.uint16).reshape(20, 30) * 109
    for source in (stored(Image.fromarray(values)), stored(Image.fromarray(values), "TIFF")):
        np.testing.assert_allclose(read_image(source, "grayscale")[..., 0], values / 65535, atol=1e-7)
        assert np.array_equal(read_image(source)[..., 1], read_image(source, "grayscale")[..., 0])
        assert read_image(source, "rgba")[..., 3].min() == 1
        raw = read_image(source, dtype=np.uint8)
        assert raw.dtype == np.uint8 and np.abs(raw[..., 0] - values / 257).max() <= 0.5
    half = Image.fromarray(values.astype(np.float32)).resize((15, 10), 3)
    got = read_image(stored(Image.fromarray(values)), "grayscale", (10, 15), interpolation="bicubic")[..., 0]
    np.testing.assert_allclose(got, np.asarray(half).clip(0, 65535) / 65535, atol=1e-6)


def test_pixels_that_are_deeper():
    deep = stored(Image.fromarray(np.full((4, 4), 70000, np.int32)), "TIFF")
    with pytest.raises(CorruptFileError, match="its pixels are from 70000 to 70000, more than 16 bits; FileDataset"):
        read_image(deep)
    with pytest.raises(CorruptFileError, match="its pixels are floats; FileDataset takes a function of yours"):
        read_image(stored(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))


def test_transparency():
    image = photo(8, 8).quantize(16)
    source = stored(image, transparency=bytes(range(0, 160, 10)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = read_image(source, "rgba")
        plain = read_image(source)
    assert np.array_equal(got, np.asarray(Image.open(io.BytesIO(source)).convert("RGBA"), np.float32) / 255)
    assert np.array_equal(plain, got[..., :3])
    grey = read_image(stored(photo(8, 8).convert("L"), transparency=40), "rgba")
    assert set(np.unique(grey[..., 3])) <= {0, 1} and read_image(source, "grayscale").shape == (8, 8, 1)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (6, 5), color) for color in ("red", "blue")]
    for kind in ("GIF", "PNG", "WEBP"):
        source = stored(frames[0], kind, save_all=True, append_images=frames[1:])
        assert len(list(ImageSequence.Iterator(Image.open(io.BytesIO(source))))) == 2
        np.testing.assert_allclose(read_image(source)[2, 2], [1, 0, 0], atol=0.02)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation(kind, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    source = stored(photo(48, 32), kind, exif=exif.tobytes())
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(source)))
    expected = np.asarray(upright, np.float32) / 255
    got = read_image(source)
    assert np.array_equal(got, expected) and got.flags.c_contiguous
    for resize in ("stretch", "crop", "pad"):
        got = read_image(source, size=(20, 16), resize=resize)
        same = read_image(stored(upright), size=(20, 16), resize=resize)
        assert got.shape == (20, 16, 3) and np.abs(got - same).max() < 3 / 255, resize


def test_turns_are_all_there_are():
    x = np.arange(6).reshape(2, 3)
    turned = {TURNS[number](x).tobytes() for number in range(1, 9)}
    assert sorted(TURNS) == list(range(1, 9)) and len(turned) == 8
    assert TURNS[6](x).tolist() == np.rot90(x, -1).tolist() and TURNS[8](x).tolist() == np.rot90(x).tolist()


def test_exif_data_that_say_nothing():
    good = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x08\0\0\0"
    assert orientation(good) == 8
    for end in range(len(good) - 2):
        assert orientation(good[:end]) == 1
    for damaged in (
        b"",
        b"Exif\0\0",
        good.replace(b"\x08\0\0\0\x01", b"\xff\xff\xff\xff\x01"),
        good[:-4] + b"\x09\0\0\0",
    ):
        assert orientation(damaged) == 1


def test_jpeg_without_metadata():
    exif = Image.Exif()
    exif[0x0112] = 3
    plain = photo(20, 20)
    source = stored(plain, "JPEG", exif=exif.tobytes(), comment=b"a comment", icc_profile=b"a profile")
    short, found = without_metadata(source)
    assert found.startswith(b"Exif") and b"a comment" not in short and b"a profile" not in short
    assert np.array_equal(rgb(short), rgb(source)) and without_metadata(short) == (short, b"")
    assert without_metadata(b"\xff\xd8") == (b"\xff\xd8", b"") and without_metadata(source[:8])[1] == b""


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("size", [(24, 32), (60, 20), (90, 130)])
def test_resizing_is_that_of_pillow(size, interpolation):
    image = photo(70, 50)
    for resize in ("stretch", "crop", "pad"):
        got = read_image(stored(image), size=size, resize=resize, interpolation=interpolation, dtype=np.uint8)
        filter = Image.Resampling(FILTERS[interpolation])
        if resize == "stretch":
            expected = image.resize(size[::-1], filter)
        elif resize == "crop":
            expected = ImageOps.fit(image, size[::-1], filter)
        else:
            expected = ImageOps.contain(image, size[::-1], filter)
            rest = np.subtract(size, expected.size[::-1])
            sides = [(there // 2, there - there // 2) for there in rest.tolist()]
            expected = np.pad(np.asarray(expected), (*sides, (0, 0)))
        assert np.array_equal(got, np.asarray(expected)), resize
    deeper = read_image(stored(image), size=size, interpolation=interpolation)
    assert np.array_equal((deeper * 255).round(), np.asarray(image.resize(size[::-1], filter)))


def test_without_generated_code(monkeypatch):
    sources = [stored(photo(90, 60), kind) for kind in ("PNG", "JPEG")]
    fast = [read_image(source, size=(33, 55)) for source in sources]
    monkeypatch.setattr("fluxion.data.folders.geometry.resample", lambda *_: None)
    for source, image in zip(sources, fast, strict=True):
        assert np.array_equal(read_image(source, size=(33, 55)), image)


def test_large_jpegs_are_decoded_smaller():
    image = photo(1201, 903)
    source = stored(image, "JPEG", quality=90)
    full = Image.open(io.BytesIO(source))
    for resize, expected in (("stretch", full.resize((120, 90), 2)), ("crop", ImageOps.fit(full, (120, 90), 2))):
        got = read_image(source, size=(90, 120), resize=resize, dtype=np.uint8).astype(int)
        difference = np.abs(got - np.asarray(expected))
        assert 0 < difference.mean() < 1 and difference.max() <= 8, resize
    assert read_image(source, size=(3, 3), resize="pad").shape == (3, 3, 3)
    assert read_image(source, size=None).shape == (903, 1201, 3)
    exact = read_image(source, size=(600, 800), dtype=np.uint8)  # less than twice the size: decoded in full
    assert np.array_equal(exact, np.asarray(full.resize((800, 600), 2)))


def test_sizes_that_are_extreme():
    thin = stored(Image.new("RGB", (400, 1), "white"))
    for resize in ("stretch", "crop", "pad"):
        assert read_image(thin, size=(7, 5), resize=resize).shape == (7, 5, 3)
    assert read_image(thin, size=(7, 5), resize="pad").sum(axis=(1, 2)).tolist() == [0, 0, 0, 15, 0, 0, 0]
    assert read_image(stored(Image.new("L", (1, 1))), size=(1, 1)).shape == (1, 1, 3)


def test_damaged_files(tmp_path):
    good = stored(photo(40, 30), "JPEG")
    cases = {
        "empty.jpg": (b"", "the file is empty"),
        "short.jpg": (good[: -len(good) // 10], "cannot be read as an image: image file is truncated"),
        "header.png": (stored(photo(9, 9))[:20], "cannot be read as an image"),
        "text.png": (b"hello there", r"it is no image that Pillow knows; it begins with b'hello th'"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorruptFileError, match=f"{name}: .*{message}|{name}: {message}") as caught:
            read_image(tmp_path / name)
        assert caught.value.path == str(tmp_path / name)
    with pytest.raises(CorruptFileError, match="5 bytes in memory: cannot be read as an image"):
        read_image(b"hello")
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "nowhere.png")
    dataset = image_dataset_from_directory(tmp_path, labels=None)
    assert dataset.source(0).endswith("empty.jpg")
    with pytest.raises(CorruptFileError, match=r"empty\.jpg"):
        dataset[0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_bytes_cut_off_or_changed(kind):
    rng = np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif.tobytes()} if kind in ("JPEG", "PNG", "WEBP") else {}
    good = stored(photo(24, 20), kind, **options)
    read = 0
    for trial in range(300):
        bad = bytearray(good[: rng.integers(len(good))] if trial % 3 == 0 else good)
        for place in rng.integers(len(bad), size=rng.integers(4)) if bad else ():
            bad[place if trial % 2 else place % 60 % len(bad)] = rng.integers(256)  # half of them in the header
        try:
            image = read_image(bytes(bad), size=(8, 8))
        except CorruptFileError:
            continue
        assert image.shape == (8, 8, 3) and 0 <= image.min() <= image.max() <= 1
        read += 1
    assert 0 < read < 300


def test_images_of_too_many_pixels(monkeypatch):
    source = stored(Image.new("L", (50, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1100)  # Pillow warns from there on, and refuses twice as many
    assert read_image(source).shape == (40, 50, 3)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(source))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    with pytest.raises(CorruptFileError, match=r"50 x 40 pixels, more than twice PIL\.Image\.MAX_IMAGE_PIXELS = 900"):
        read_image(source)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(source).shape == (40, 50, 3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"color_mode": "bgr"}, ValueError, "takes 'rgb', 'rgba', 'grayscale', 'greyscale' as color_mode, got 'bgr'"),
        ({"resize": "fit"}, ValueError, "takes 'stretch', 'crop', 'pad' as resize, got 'fit'"),
        (
            {"interpolation": "cubic"},
            ValueError,
            "takes 'bilinear', 'nearest', 'bicubic', 'area', 'lanczos' as interpolation",
        ),
        ({"dtype": np.float64}, ValueError, r"takes np.float32 \(from 0 to 1\) or np.uint8 \(0 to 255\) as dtype"),
        ({"size": 224}, TypeError, r"takes \(height, width\) or None as the size of an image, got 224"),
        ({"size": (0, 5)}, ValueError, "height must be at least 1, got 0"),
        ({"size": (5, 2.0)}, TypeError, "width is a whole number, got 2.0"),
    ],
)
def test_options_that_do_not_exist(options, error, message, tmp_path):
    with pytest.raises(error, match=f"read_image {message}|^{message}"):
        read_image(stored(photo(4, 4)), **options)
    options = {{"size": "image_size"}.get(name, name): value for name, value in options.items()}
    with pytest.raises(error, match=f"image_dataset_from_directory {message}|^{message}"):
        image_dataset_from_directory(tmp_path, **options)


@pytest.fixture
def pets(tmp_path):
    for number in range(12):
        folder = tmp_path / ("cat" if number % 2 else "dog")
        folder.mkdir(exist_ok=True)
        photo(60 + number, 40, number).save(folder / f"{number}.{'jpg' if number % 3 else 'PNG'}")
    return tmp_path


def test_images_in_folders(pets):
    dataset = image_dataset_from_directory(pets)
    assert dataset.class_names == ["cat", "dog"] and len(dataset) == 12
    image, label = dataset[0]
    assert image.shape == (256, 256, 3) and label == 0 and label.dtype == np.int32
    assert np.array_equal(image, read_image(dataset.source(0), size=(256, 256)))
    images, labels = dataset[[0, 11]]
    assert images.shape == (2, 256, 256, 3) and labels.tolist() == [0, 1]
    own = image_dataset_from_directory(pets, None, labels=None, color_mode="grayscale", dtype="uint8")
    assert {own[i].shape for i in range(12)} == {(40, 60 + number, 1) for number in range(12)}
    train, validation = image_dataset_from_directory(pets, (8, 8), validation_split=0.25, subset="both", seed=3)
    assert (len(train), len(validation)) == (9, 3) and not set(train.files) & set(validation.files)


def test_batches_of_images(pets):
    dataset = image_dataset_from_directory(pets, (16, 24), label_mode="onehot")
    batches = list(fx.DataLoader(dataset, batch_size=5))
    assert [x.shape for x, _ in batches] == [(5, 16, 24, 3), (5, 16, 24, 3), (2, 16, 24, 3)]
    assert np.concatenate([y for _, y in batches]).argmax(1).tolist() == dataset.labels.tolist()


def test_threads_read_the_same(pets):
    dataset = image_dataset_from_directory(pets, (30, 20), resize="crop")
    alone = [dataset[i][0] for i in range(12)]
    with ThreadPoolExecutor(4) as pool:
        for i, (image, _) in zip(list(range(12)) * 10, pool.map(dataset.one, list(range(12)) * 10), strict=True):
            assert np.array_equal(image, alone[i])


def test_without_pillow(pets):
    code = f"""
import sys
sys.modules["PIL"] = None
import fluxion as fx
for call in (fx.data.read_image, fx.data.image_dataset_from_directory):
    try:
        call({str(pets)!r})
    except ImportError as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert lines[0] == "read_image needs Pillow: pip install 'fluxion-ml[vision]'"
    assert lines[1].startswith("image_dataset_from_directory needs Pillow")

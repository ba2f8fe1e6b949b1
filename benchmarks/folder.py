"""One pass over a folder of 2,000 JPEG files of 500 x 375 pixels, as batches of 32 images of 224 x 224.

Every contender ends with float32 arrays from 0 to 1 and the classes, and reads with two threads or processes. PyTorch's
processes are started once, before the first pass, so that no pass is charged for them. Rates of single threads are
those of reading alone, without batches.
"""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

import fluxion as fx
from benchmarks.peers import attempt, peer
from benchmarks.table import Table, ratio
from benchmarks.timing import Contender, race
from fluxion.data.transforms import ToFloat

FILES, PHOTOS, CLASSES = 2000, 50, 10
WIDTH, HEIGHT, SIZE = 500, 375, (224, 224)
BATCH, WORKERS = 32, 2
DETAIL = {4: 0.5, 16: 0.25, 64: 0.15, 256: 0.1}  # how strong noise of so many pixels a side is


class PillowFiles:
    """A data set for PyTorch as its tutorials write it; at the top of a module, for other processes to find."""

    def __init__(self, files: list[str], labels: list[int]) -> None:
        self.files, self.labels = files, labels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        from PIL import Image

        with Image.open(self.files[i]) as image:
            small = image.convert("RGB").resize(SIZE[::-1], Image.Resampling.BILINEAR)
        return np.asarray(small, np.float32) / 255, self.labels[i]


def photo(rng: np.random.Generator) -> Any:
    """An image with coarse and fine structure, about as large a file as a photograph is."""
    from PIL import Image

    layers = np.zeros((HEIGHT, WIDTH, 3))
    for side, strength in DETAIL.items():
        noise = Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8))
        layers += strength * np.asarray(noise.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), float)
    return Image.fromarray(layers.astype(np.uint8))


@contextmanager
def folder() -> Iterator[str]:
    """A temporary folder of classes with copies of a few photographs."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        for number in range(PHOTOS):
            first = pathlib.Path(place) / f"class{number % CLASSES}" / f"{number}.jpg"
            first.parent.mkdir(exist_ok=True)
            photo(rng).save(first, quality=90)
            for copy in range(1, FILES // PHOTOS):
                first.with_name(f"{number}_{copy}.jpg").write_bytes(first.read_bytes())
        yield place


def whole_pass(batches: Any) -> Callable[[], None]:
    """Iterates over all batches; the pixels of each are there when it is given."""

    def run() -> None:
        count = 0
        for images, _ in batches:
            assert tuple(images.shape[1:]) == (*SIZE, 3)
            count += len(images)
        assert count == FILES

    return run


def ours(place: str) -> list[Contender]:
    """`fluxion.DataLoader` with threads that read bytes, which the device makes floats, or floats."""
    floats = fx.data.image_dataset_from_directory(place, SIZE)
    as_bytes = fx.data.image_dataset_from_directory(place, SIZE, dtype=np.uint8)
    loaders = {
        "Fluxion, bytes to the device": fx.DataLoader(as_bytes, BATCH, workers=WORKERS, transform=ToFloat()),
        "Fluxion, floats to the device": fx.DataLoader(floats, BATCH, workers=WORKERS),
    }
    return [Contender(name, whole_pass(loader), FILES) for name, loader in loaders.items()]


def torches(torch: Any, data: Any) -> Contender:
    """PyTorch's `DataLoader` with processes."""
    files = PillowFiles(data.files, data.labels.tolist())
    loader = torch.utils.data.DataLoader(
        files, batch_size=BATCH, num_workers=WORKERS, persistent_workers=True, multiprocessing_context="spawn"
    )
    return Contender("PyTorch DataLoader, 2 processes", whole_pass(loader), FILES)


def kerases(keras: Any, place: str) -> Contender:
    """Keras's function of the same name, with its `tf.data` pipeline; its values are brought to 0 to 1."""
    batches = keras.utils.image_dataset_from_directory(
        place, image_size=SIZE, batch_size=BATCH, shuffle=False, verbose=False
    )
    scaled = batches.map(lambda x, y: (x / 255, y), num_parallel_calls=WORKERS).prefetch(2)
    return Contender("Keras, tf.data", whole_pass(scaled), FILES)


def reading(data: Any, pool: ThreadPoolExecutor, threads: int) -> Contender:
    """Single observations by some threads."""

    def run() -> None:
        for _ in pool.map(data.one, range(FILES), chunksize=1):
            pass

    return Contender(f"reading alone, {threads} thread{'s' * (threads > 1)}", run, FILES)


def run() -> Table:
    """Times all in one run, and shows images a second."""
    table = Table("A folder of 2,000 JPEG files 500 x 375 to 224 x 224", ["", "images/s", "best round"])
    with ExitStack() as stack:
        place = stack.enter_context(folder())
        data = fx.data.image_dataset_from_directory(place, SIZE)
        pools = {count: stack.enter_context(ThreadPoolExecutor(count)) for count in (1, 2)}
        mine = ours(place)
        alone = [reading(data, pool, count) for count, pool in pools.items()]
        others = []
        if torch := peer("torch"):
            others.append(torches(torch, data))
        if peer("tensorflow") and (keras := peer("keras")):
            others.append(attempt("keras", lambda: kerases(keras, place)))
        others = [other for other in others if other]
        race([*mine, *alone, *others], rounds=5, warm=1)
    table.rows = [[c.name, f"{1 / c.median:.0f}", f"{1 / c.least:.0f}"] for c in (*mine, *alone, *others)]
    table.targets = [ratio(other, one, 1.0, at_least=True) for other in others for one in mine]
    table.targets.append(ratio(*alone, 1.7, at_least=True))
    return table

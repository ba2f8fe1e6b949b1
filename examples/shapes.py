"""A folder of pictures, from files on disk to a trained network.

    python examples/shapes.py

Draws circles, squares and triangles of random places, sizes, angles and colours into one folder for each, as you would
have cats and dogs; reads them back, a part for validation; changes the others anew in each epoch; trains; and looks at
what was changed and how. Needs Pillow: pip install 'fluxion-ml[vision]'.
"""

import math
import random
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import fluxion as fx
from fluxion.data.transforms import ColorJitter, FlipX, GaussianNoise, Rotate, Zoom

PICTURES = 400  # of each shape
SIZE = 48
EPOCHS = 12
OUTPUT = Path("demo-output")


def corners(shape, x, y, radius, angle):
    count = {"circle": 60, "square": 4, "triangle": 3}[shape]
    turns = [angle + 2 * math.pi * k / count for k in range(count)]
    return [(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns]


def draw_pictures(folder):
    """Files such as `circle/0012.jpg`, of several sizes, as pictures from outside are."""
    draws = random.Random(0)
    colour = lambda low, high: tuple(draws.randint(low, high) for _ in range(3))
    for shape in ("circle", "square", "triangle"):
        (folder / shape).mkdir(parents=True)
        for number in range(PICTURES):
            width, height = draws.randint(60, 120), draws.randint(60, 120)
            picture = Image.new("RGB", (width, height), colour(0, 120))
            radius = draws.uniform(0.25, 0.4) * min(width, height)
            x, y = draws.uniform(radius, width - radius), draws.uniform(radius, height - radius)
            points = corners(shape, x, y, radius, draws.uniform(0, 2 * math.pi))
            ImageDraw.Draw(picture).polygon(points, fill=colour(130, 255))
            picture.save(folder / shape / f"{number:04}.jpg", quality=90)


def network():
    return fx.Chain(
        fx.Conv((3, 3), 3, 16, bias=False, pad=1),
        fx.BatchNorm(16, fx.relu),
        fx.MaxPool((2, 2)),
        fx.Conv((3, 3), 16, 32, bias=False, pad=1),
        fx.BatchNorm(32, fx.relu),
        fx.MaxPool((2, 2)),
        fx.Conv((3, 3), 32, 64, bias=False, pad=1),
        fx.BatchNorm(64, fx.relu),
        fx.MaxPool((2, 2)),
        fx.Conv((3, 3), 64, 64, bias=False, pad=1),
        fx.BatchNorm(64, fx.relu),
        fx.GlobalMaxPool(),
        fx.flatten,
        fx.Dense(64, 3),
    )


def main():
    fx.seed(0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "shapes"
        draw_pictures(folder)
        train, validation = fx.data.image_dataset_from_directory(
            folder, (SIZE, SIZE), resize="pad", validation_split=0.2, subset="both"
        )
        print(train, "and", validation, "in classes", *train.class_names)

        augment = FlipX(0.5) | Rotate(-30, 30) | Zoom(0.9, 1.2) | ColorJitter(0.3, 0.3, 0.3, 0.1) | GaussianNoise(0.03)
        loader = fx.DataLoader(train, batch_size=64, shuffle=True, transform=augment)
        model = network()
        loss = lambda m, x, y: fx.logitcrossentropy(m(x), y)
        opt = fx.setup(fx.Adam(fx.schedules.OneCycle(EPOCHS * len(loader), 0.01)), model)
        start = time.perf_counter()
        fx.train(loss, model, loader, opt, epochs=EPOCHS)
        seconds = time.perf_counter() - start

        right = np.concatenate([fx.onecold(model(x)) == y for x, y in fx.DataLoader(validation, batch_size=64)])
        print(f"{right.mean():.1%} of {len(right)} pictures right after {EPOCHS} epochs in {seconds:.1f} s")
        try:
            OUTPUT.mkdir(exist_ok=True)
            fx.data.show_batch(loader, class_names=train.class_names, path=OUTPUT / "shapes.png")
            print(f"What the network saw: {(OUTPUT / 'shapes.png').resolve()}")
        except ImportError as error:
            print(error)
    assert right.mean() >= 0.95, f"expected at least 95 % of the validation pictures right, got {right.mean():.1%}"


if __name__ == "__main__":
    main()

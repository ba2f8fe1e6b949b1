"""Handwritten digits: trains a small convolutional network and looks at what it misreads.

    python examples/digits.py

The network of the MNIST tutorial: strided convolutions until one pixel is left, a mean over pixels, one Dense layer.
"""

import time
from pathlib import Path

import numpy as np
import optax

import fluxion as fx
from fluxion import Chain, Conv, Dense, GlobalMeanPool, flatten, relu
from fluxion.data import DataLoader, digits

EPOCHS = 60
BATCH_SIZE = 32
NOISE = 0.2
OUTPUT = Path("demo-output")
rng = fx.random.Generator(0)


def network():
    return Chain(
        Conv((5, 5), 1, 8, relu, stride=2, pad=2),  # 8 x 8 -> 4 x 4
        Conv((3, 3), 8, 16, relu, stride=2, pad=1),  # 4 x 4 -> 2 x 2
        Conv((3, 3), 16, 32, relu, stride=2, pad=1),  # 2 x 2 -> 1 x 1
        Conv((3, 3), 32, 32, relu, stride=2, pad=1),  # 1 x 1 -> 1 x 1
        GlobalMeanPool(),
        flatten,
        Dense(32, 10),
    )


def loss(model, x, y):
    # noise on the ink keeps a network of 15,000 weights from learning 1,437 images by heart
    return fx.logitcrossentropy(model(x + NOISE * rng.normal(x.shape)), y)


def confusion_of_worst(guesses, labels, shown=3):
    """One line for each of the digits that are misread most often."""
    table = np.zeros((10, 10), int)
    np.add.at(table, (labels, guesses), 1)
    wrong = table.sum(axis=1) - table.diagonal()
    for digit in np.argsort(-wrong, kind="stable")[:shown]:
        if wrong[digit]:
            others = [f"{n} x as {k}" for k, n in enumerate(table[digit]) if n and k != digit]
            print(f"  {digit}: {wrong[digit]} of {table[digit].sum()} misread, {', '.join(others)}")


def draw(losses, x, guesses, labels):
    """Pictures of the loss curve and of misread digits; returns the path, None without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(10, 4), layout="constrained")
    curve, pictures = figure.subfigures(1, 2)
    axes = curve.subplots()
    axes.semilogy(losses)
    axes.set(xlabel="epoch", ylabel="loss on training images", title="Loss")
    misread = np.flatnonzero(guesses != labels)[:12]
    pictures.suptitle("Misread digits: guess (truth)")
    for axes, i in zip(pictures.subplots(3, 4).flat, [*misread, *[None] * 12], strict=False):
        axes.axis("off")
        if i is not None:
            axes.imshow(x[i, :, :, 0], cmap="gray_r")
            axes.set_title(f"{guesses[i]} ({labels[i]})")
    OUTPUT.mkdir(exist_ok=True)
    path = OUTPUT / "digits.png"
    figure.savefig(path, dpi=120)
    return path


def main():
    fx.seed(0)
    (x_train, y_train), (x_test, y_test) = digits()
    model = network()
    print(model)

    loader = DataLoader((x_train, y_train), batch_size=BATCH_SIZE, shuffle=True)
    learning_rate = optax.cosine_decay_schedule(5e-3, EPOCHS * len(loader))
    opt = fx.setup(fx.Adam(learning_rate), model)
    losses = []
    start = time.perf_counter()
    fx.train(loss, model, loader, opt, epochs=EPOCHS, callback=lambda info: losses.append(info.loss))
    seconds = time.perf_counter() - start

    guesses = np.asarray(fx.onecold(model(x_test)))
    accuracy = float(np.mean(guesses == y_test))
    print(f"\n{accuracy:.1%} of {len(y_test)} test digits read right after {EPOCHS} epochs in {seconds:.1f} s")
    print("The worst digits:")
    confusion_of_worst(guesses, y_test)
    picture = draw(np.reshape(losses, (EPOCHS, -1)).mean(axis=1), x_test, guesses, y_test)
    print(f"Picture: {picture.resolve()}" if picture else "No picture: pip install 'fluxion-ml[plot]' for that")
    assert accuracy >= 0.97, f"expected at least 97 % test accuracy, got {accuracy:.1%}"


if __name__ == "__main__":
    main()

"""MNIST: trains a small convolutional network on digits that are turned and shifted anew in each epoch.

    python examples/mnist.py               # downloads 11 MiB once
    python examples/mnist.py --synthetic   # patterns of the same shapes, made here; needs no network

docs/mnist.md explains it step by step.
"""

import sys
import time

import numpy as np

import fluxion as fx
from fluxion import Chain, Conv, Dense, GlobalMeanPool, flatten, relu
from fluxion.data.transforms import Rotate, Translate

EPOCHS = 6


def network():
    return Chain(
        Conv((5, 5), 1, 8, relu, stride=2, pad=2),
        Conv((3, 3), 8, 16, relu, stride=2, pad=1),
        Conv((3, 3), 16, 32, relu, stride=2, pad=1),
        Conv((3, 3), 32, 32, relu, stride=2, pad=1),
        GlobalMeanPool(),
        flatten,
        Dense(32, 10),
    )


def accuracy(model, part):
    right = [fx.onecold(model(x)) == y for x, y in fx.DataLoader(part, batch_size=512)]
    return float(np.mean(np.concatenate(right)))


def main(synthetic):
    fx.seed(0)
    mnist = fx.data.MNIST(synthetic=synthetic)
    print(mnist)
    train, validation = fx.data.splitobs(mnist.train, 0.9, shuffle=True)
    augment = Rotate(-10, 10) | Translate((-0.07, 0.07), (-0.07, 0.07))
    loader = fx.DataLoader(train, batch_size=128, shuffle=True, transform=augment)
    model = network()
    loss = lambda m, x, y: fx.logitcrossentropy(m(x), y)
    opt = fx.setup(fx.Adam(3e-3), model)
    for epoch in range(EPOCHS):
        start = time.perf_counter()
        fx.train(loss, model, loader, opt)
        seconds = time.perf_counter() - start
        print(f"epoch {epoch}: {seconds:.1f} s, {accuracy(model, validation):.1%} of the validation digits right")
    reached = accuracy(model, mnist.test)
    print(f"{reached:.1%} of the test digits right")
    assert reached >= 0.95, f"expected at least 95 % test accuracy, got {reached:.1%}"


if __name__ == "__main__":
    main("--synthetic" in sys.argv[1:])

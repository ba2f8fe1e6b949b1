"""VGG16 on data of the shape of CIFAR-10, to time one training step.

    python examples/vgg16.py [batch size]

K. Simonyan and A. Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2015, configuration D
with batch normalisation. The images are random numbers: this shows the speed and that the loss falls, nothing else.
"""

import math
import sys
import time

import numpy as np

import fluxion as fx
from fluxion import BatchNorm, Chain, Conv, Dense, Dropout, MaxPool, flatten, relu

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
STEPS = 5


def vgg16(classes=10):
    layers = []
    channels = 3
    for block in BLOCKS:
        for width in block:
            layers += [Conv((3, 3), channels, width, pad=1, bias=False), BatchNorm(width, relu)]
            channels = width
        layers.append(MaxPool((2, 2)))
    head = [flatten, Dense(512, 4096, relu), Dropout(0.5), Dense(4096, 4096, relu), Dropout(0.5), Dense(4096, classes)]
    return Chain(*layers, *head)


def main(batch_size):
    fx.seed(0)
    model = vgg16()
    print(fx.outputsize(model, (batch_size, 32, 32, 3)))
    print(f"{fx.params_count(model):_} parameters")
    rng = np.random.default_rng(0)
    x = rng.random((batch_size, 32, 32, 3), np.float32)
    y = rng.integers(0, 10, batch_size).astype(np.int32)
    opt = fx.setup(fx.Momentum(1e-3), model)
    loss = lambda m, x, y: fx.logitcrossentropy(m(x), y)

    start = time.perf_counter()
    first = last = float(fx.trainstep(loss, model, (x, y), opt))
    print(f"first step, compilation included: {time.perf_counter() - start:.1f} s, loss {first:.3f}")
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        last = float(fx.trainstep(loss, model, (x, y), opt))
        seconds.append(time.perf_counter() - start)
    step = float(np.median(seconds))
    print(f"one step: {step:.3f} s, {batch_size / step:.0f} images per second, loss {last:.3f}")
    assert math.isfinite(last)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 32)

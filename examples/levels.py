"""Three ways to train, from one call to an update rule of your own; they end with the same weights.

python examples/levels.py
"""

import numpy as np

import fluxion as fx
from fluxion import Chain, Dense, relu
from fluxion.data import DataLoader, digits

RATE = 0.1


def loss(model, x, y):
    return fx.logitcrossentropy(model(x.reshape(len(x), -1)), y)


def start():
    """The same model and the same order of batches every time."""
    fx.seed(1)
    (x, y), _ = digits()
    return Chain(Dense(64, 32, relu), Dense(32, 10)), DataLoader((x, y), batch_size=64, shuffle=True)


def one_call():
    model, loader = start()
    opt = fx.setup(fx.Descent(RATE), model)
    fx.train(loss, model, loader, opt, epochs=3)
    return model


def your_loop():
    model, loader = start()
    opt = fx.setup(fx.Descent(RATE), model)
    for _ in range(3):
        for x, y in loader:
            _, (g,) = fx.withgradient(lambda m, x=x, y=y: loss(m, x, y), model)
            fx.update(opt, model, g)
    return model


def your_update_rule():
    model, loader = start()
    for _ in range(3):
        for x, y in loader:
            (g,) = fx.gradient(lambda m, x=x, y=y: loss(m, x, y), model)
            model = fx.fmap(lambda p, d: p - RATE * d, model, g)
    return model


if __name__ == "__main__":
    first, second, third = one_call(), your_loop(), your_update_rule()
    _, (x_test, y_test) = digits()
    for name, model in (("one call", first), ("your loop", second), ("your update rule", third)):
        print(f"{name:<17} loss on the test digits {float(loss(model, x_test, y_test)):.6f}")
        for path, array in fx.trainables(model).items():
            np.testing.assert_allclose(array, fx.trainables(first)[path], rtol=1e-4, atol=1e-5, err_msg=path)
    print("all weights agree")

"""A model without a class: a function that closes over its weights learns 2x - x^3.

python examples/closure.py
"""

import jax.numpy as jnp
import numpy as np

import fluxion as fx


def polynomial(degree):
    """A function with a weight per power of x; the weights are an array that the function closes over."""
    weights = jnp.zeros(degree + 1)
    return lambda x: sum(weights[k] * x**k for k in range(degree + 1))


def network(width):
    """A network of one hidden layer, written as a function."""
    inner = fx.Dense(1, width, fx.tanh)
    outer = fx.Dense(width, 1)

    def model(x):
        return outer(inner(x[:, None]))[:, 0]

    return model


def learn(model, rule, epochs):
    x = np.linspace(-2, 2, 101, dtype=np.float32)
    y = 2 * x - x**3
    opt = fx.setup(rule, model)
    fx.train(lambda m, x, y: fx.mse(m(x), y), model, [(x, y)], opt, epochs=epochs)
    return float(np.max(np.abs(model(x) - y)))


if __name__ == "__main__":
    fx.seed(0)
    cubic = polynomial(3)
    error = learn(cubic, fx.Adam(0.05), epochs=1000)
    print(f"polynomial: largest error on [-2, 2] {error:.4f}, f(1) = {float(cubic(1.0)):.3f}")
    assert error < 0.05

    net = network(32)
    error = learn(net, fx.Adam(0.02), epochs=4000)
    print(f"network:    largest error on [-2, 2] {error:.4f}")
    assert error < 0.4

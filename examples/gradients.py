"""Gradients of plain functions, of functions of models, and gradients of gradients.

python examples/gradients.py
"""

import jax.numpy as jnp
import numpy as np

import fluxion as fx
from fluxion import Chain, Dense, tanh


def numbers():
    def f(x):
        return 3 * x**2 + 2 * x + 1

    def df(x):
        return fx.gradient(f, x)[0]

    def d2f(x):
        return fx.gradient(df, x)[0]

    print(f"f(2) = {f(2.0)}, f'(2) = {df(2.0)}, f''(2) = {d2f(2.0)}")
    assert (df(2.0), d2f(2.0)) == (14.0, 6.0)


def arrays():
    x = jnp.array([2.0, 1.0])
    y = jnp.array([2.0, 0.0])
    gx, gy = fx.gradient(lambda x, y: jnp.sum((x - y) ** 2), x, y)
    print(f"the gradient of sum((x - y)^2) in x is {gx}, in y it is {gy}")
    np.testing.assert_allclose(gx, 2 * (x - y))
    np.testing.assert_allclose(gy, -2 * (x - y))


def structures():
    parameters = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3), "name": "affine"}
    x = jnp.array([1.0, 2.0])
    (g,) = fx.gradient(lambda p: jnp.sum(x @ p["w"] + p["b"]), parameters)
    print(f"a dict gives a dict: {g}")
    np.testing.assert_allclose(g["w"], [[1, 1, 1], [2, 2, 2]])
    assert g["name"] is None


def curvature_of_a_model():
    """The second derivative of a network in its input, inside a loss whose gradient in the weights is taken."""
    fx.seed(0)
    model = Chain(Dense(1, 8, tanh), Dense(8, 1))
    points = jnp.linspace(-1.0, 1.0, 16)

    def curvature(m, x):
        slope = lambda x: fx.gradient(lambda x: m(x[None, None])[0, 0], x)[0]
        return fx.gradient(slope, x)[0]

    def loss(m):
        return sum(curvature(m, x) ** 2 for x in points) / len(points)

    before, (g,) = fx.withgradient(loss, model)
    opt = fx.setup(fx.Descent(0.05), model)
    fx.update(opt, model, g)
    after = loss(model)
    print(f"mean squared curvature of the model: {before:.4f}, after one step against it: {after:.4f}")
    assert after < before


if __name__ == "__main__":
    numbers()
    arrays()
    structures()
    curvature_of_a_model()

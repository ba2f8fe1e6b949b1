"""The networks of the benchmark `convnets` are the same in both libraries: loss, gradients, statistics and outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import fluxion as fx
from benchmarks.nets import ours, theirs
from benchmarks.nets.tasks import MASK, SQUARES, Attention, cross_entropy, torch_batch
from benchmarks.nets.weights import copy_weights

CASES = {
    "mnist": ({}, (3, 28, 28, 1), cross_entropy(10)),
    "vgg": ({"hidden": 32, "dropout": 0.0}, (2, 32, 32, 3), cross_entropy(10)),
    "resnet18": ({"width": 8}, (2, 32, 32, 3), cross_entropy(10)),
    "resnet50": ({"width": 8}, (2, 64, 64, 3), cross_entropy(1000)),
    "mobilenet": ({"dropout": 0.0}, (2, 64, 64, 3), cross_entropy(1000)),
    "unet": ({"widths": (4, 8, 16)}, (2, 32, 32, 3), MASK),
    "lstm": ({"size": 5}, (2, 4, 5), SQUARES),
}


@pytest.mark.parametrize("name", CASES)
def test_same_loss_gradients_statistics_and_outputs(name):
    options, shape, loss = CASES[name]
    torch.manual_seed(0)
    x, y = batch(shape, loss)
    module = getattr(theirs, name)(**options).double()
    with jax.enable_x64(True):
        model, expected = (fx.f64(getattr(ours, name)(**options)) for _ in range(2))
        copy_weights(model, module)
        value, (gradient, *_) = fx.withgradient(loss.ours, model, jnp.asarray(x), jnp.asarray(y))
        outputs = np.asarray(fx.compile(model)(x))
        inputs, targets = (torch_batch(torch, array, channels_last=False) for array in (x, y))
        wanted = getattr(torch.nn.functional, loss.theirs)(module(inputs), targets)
        wanted.backward()
        copy_weights(expected, module, lambda parameter: parameter.grad)
        assert_close(value, wanted.detach())
        assert_all_close(fx.trainables(gradient), fx.trainables(expected))
        assert_all_close(statistics(model), statistics(expected))
        assert_close(outputs, in_our_layout(module.eval()(inputs)))


def test_same_gradients_of_attention():
    task = Attention("small", batch=2, heads=3, length=5, features=4, at_least=1.0)
    for got, wanted in zip(task.ours()(), task.theirs(torch, False, False)(), strict=True):
        np.testing.assert_allclose(got.reshape(2, 5, 3, 4), wanted.numpy().swapaxes(1, 2), rtol=1e-4, atol=1e-8)


def batch(shape, loss):
    """Inputs and targets in float64, labels as integers."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=shape), loss.targets(rng, shape)
    return x, y.astype(np.float64) if y.dtype == np.float32 else y


def in_our_layout(tensor):
    """An array with channels last."""
    array = tensor.detach().numpy()
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array


def statistics(model):
    """The running statistics of all layers that have some."""
    layers = [layer for layer in fx.modules(model) if isinstance(layer, fx.BatchNorm)]
    return {f"{name} {i}": getattr(layer, name) for i, layer in enumerate(layers) for name in ("mean", "var")}


def assert_all_close(got, wanted):
    assert got.keys() == wanted.keys()
    for name in got:
        assert_close(got[name], wanted[name])


def assert_close(got, wanted):
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.dtype == wanted.dtype == np.float64
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= 1e-9 * max(np.abs(wanted).max(), 1e-3)

"""What is timed: training steps, inference, and attention forward and backward, each as a callable of each library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

import fluxion as fx
from benchmarks.nets import ours

RATE, MOMENTUM = 1e-3, 0.9
Run = Callable[[], Any]


class Task(Protocol):
    """One row of the table. A call of what `ours` or `theirs` returns does `steps` steps and waits for the last."""

    title: str
    at_least: float
    steps: int
    images: bool  # whether PyTorch's layout of images makes a difference
    trains: bool

    def ours(self) -> Run:
        """In Fluxion."""

    def theirs(self, torch: Any, channels_last: bool, compiled: bool) -> Run:
        """In PyTorch."""


@dataclass(frozen=True)
class Loss:
    """A loss in both libraries, and targets drawn for a batch of inputs."""

    ours: Callable[..., Any]
    theirs: str
    targets: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def cross_entropy(classes: int) -> Loss:
    """Of one label for each image."""
    return Loss(
        lambda model, x, y: fx.logitcrossentropy(model(x), y),
        "cross_entropy",
        lambda rng, shape: rng.integers(0, classes, shape[0]),
    )


MASK = Loss(
    lambda model, x, y: fx.logitbinarycrossentropy(model(x), y),
    "binary_cross_entropy_with_logits",
    lambda rng, shape: (rng.random((*shape[:-1], 1)) < 0.5).astype(np.float32),
)
SQUARES = Loss(
    lambda model, x, y: fx.mse(model(x), y),
    "mse_loss",
    lambda rng, shape: rng.normal(size=shape).astype(np.float32),
)


@dataclass(frozen=True)
class Training:
    """Forward, gradient and SGD with momentum for a batch of inputs `shape`, channels last."""

    title: str
    network: str
    shape: tuple[int, ...]
    loss: Loss
    at_least: float
    steps: int = 1
    trains: bool = True

    @property
    def images(self) -> bool:
        """Where the shape is (batch, height, width, channels)."""
        return len(self.shape) == 4

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Random inputs and targets."""
        rng = np.random.default_rng(0)
        return rng.normal(size=self.shape).astype(np.float32), self.loss.targets(rng, self.shape)

    def ours(self) -> Run:
        """`fluxion.trainstep`, as it comes."""
        model = getattr(ours, self.network)()
        opt, batch = fx.setup(fx.Momentum(RATE, MOMENTUM), model), tuple(map(jnp.asarray, self.batch()))

        def run() -> None:
            for _ in range(self.steps):
                value = fx.trainstep(self.loss.ours, model, batch, opt)
            jax.block_until_ready(value)

        return run

    def theirs(self, torch: Any, channels_last: bool, compiled: bool) -> Run:
        """The usual lines; with `compiled`, model and loss go through `torch.compile`."""
        module = torch_module(torch, self.network, channels_last)
        criterion = getattr(torch.nn.functional, self.loss.theirs)
        optimizer = torch.optim.SGD(module.parameters(), lr=RATE, momentum=MOMENTUM)
        x, y = (torch_batch(torch, array, channels_last) for array in self.batch())

        def loss() -> Any:
            return criterion(module(x), y)

        loss = torch.compile(loss, dynamic=False) if compiled else loss

        def run() -> None:
            for _ in range(self.steps):
                loss().backward()
                optimizer.step()
                optimizer.zero_grad()

        return run


@dataclass(frozen=True)
class Inference:
    """The outputs of a network for a batch of images, with the running statistics of its batch norms."""

    title: str
    network: str
    shape: tuple[int, ...]
    at_least: float
    steps: int = 1
    images: bool = True
    trains: bool = False

    def images_of(self) -> np.ndarray:
        """Random images."""
        return np.random.default_rng(0).normal(size=self.shape).astype(np.float32)

    def ours(self) -> Run:
        """`fluxion.compile`."""
        model, x = fx.compile(getattr(ours, self.network)()), jnp.asarray(self.images_of())

        def run() -> None:
            for _ in range(self.steps):
                y = model(x)
            jax.block_until_ready(y)

        return run

    def theirs(self, torch: Any, channels_last: bool, compiled: bool) -> Run:
        """Evaluation mode, without a graph."""
        module = torch_module(torch, self.network, channels_last).eval()
        x = torch_batch(torch, self.images_of(), channels_last)
        module = torch.compile(module, dynamic=False) if compiled else module

        def run() -> None:
            with torch.inference_mode():
                for _ in range(self.steps):
                    module(x)

        return run


@dataclass(frozen=True)
class Attention:
    """The gradient of the mean square of attention's outputs, with respect to queries, keys and values."""

    title: str
    batch: int
    heads: int
    length: int
    features: int
    at_least: float
    steps: int = 3
    images: bool = False
    trains: bool = True

    def arrays(self) -> np.ndarray:
        """Queries, keys and values `(3, batch, length, heads, features)`."""
        shape = (3, self.batch, self.length, self.heads, self.features)
        return np.random.default_rng(0).normal(size=shape).astype(np.float32)

    def ours(self) -> Run:
        """Heads lie side by side in the last axis."""
        queries, keys, values = (jnp.asarray(a.reshape(*a.shape[:2], -1)) for a in self.arrays())

        def loss(q: Any, k: Any, v: Any) -> Any:
            return (fx.dot_product_attention(q, k, v, nheads=self.heads) ** 2).mean()

        def run() -> Any:
            for _ in range(self.steps):
                gradients = fx.gradient(loss, queries, keys, values)
            return jax.block_until_ready(gradients)

        return run

    def theirs(self, torch: Any, channels_last: bool, compiled: bool) -> Run:
        """Heads come before positions."""
        arrays = [torch.from_numpy(a.swapaxes(1, 2).copy()).requires_grad_() for a in self.arrays()]

        def loss(q: Any, k: Any, v: Any) -> Any:
            return (torch.nn.functional.scaled_dot_product_attention(q, k, v) ** 2).mean()

        loss = torch.compile(loss, dynamic=False) if compiled else loss

        def run() -> Any:
            for _ in range(self.steps):
                gradients = torch.autograd.grad(loss(*arrays), arrays)
            return gradients

        return run


def torch_module(torch: Any, network: str, channels_last: bool) -> Any:
    """A network of `theirs` in one of PyTorch's two layouts of images."""
    from benchmarks.nets import theirs

    module = getattr(theirs, network)()
    return module.to(memory_format=torch.channels_last) if channels_last else module


def torch_batch(torch: Any, array: np.ndarray, channels_last: bool) -> Any:
    """An array of ours for PyTorch; of images, channels come second, in either layout."""
    if array.ndim != 4:
        return torch.from_numpy(array)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous(memory_format=layout)


LARGE = (224, 224, 3)
TASKS: dict[str, Task] = {
    "mnist": Training("MNIST conv net, batch 128", "mnist", (128, 28, 28, 1), cross_entropy(10), 3.0, steps=10),
    "vgg16": Training("VGG16/CIFAR10, batch 64", "vgg", (64, 32, 32, 3), cross_entropy(10), 1.7),
    "resnet18": Training("ResNet-18/CIFAR, batch 64", "resnet18", (64, 32, 32, 3), cross_entropy(10), 1.4),
    "resnet50": Training("ResNet-50 at 224, batch 8", "resnet50", (8, *LARGE), cross_entropy(1000), 1.2),
    "mobilenet": Training("MobileNetV2 at 224, batch 8", "mobilenet", (8, *LARGE), cross_entropy(1000), 1.1),
    "unet": Training("UNet at 128, batch 8", "unet", (8, 128, 128, 3), MASK, 1.2),
    "lstm": Training("LSTM 256, 50 steps, batch 32", "lstm", (32, 50, 256), SQUARES, 1.0, steps=3),
    "attention": Attention("attention 8 x 8 heads x 256 x 64", 8, 8, 256, 64, 1.0),
    "resnet50-1": Inference("ResNet-50, inference, batch 1", "resnet50", (1, *LARGE), 1.0, steps=3),
    "resnet50-32": Inference("ResNet-50, inference, batch 32", "resnet50", (32, *LARGE), 1.0),
    "mobilenet-1": Inference("MobileNetV2, inference, batch 1", "mobilenet", (1, *LARGE), 1.0, steps=3),
    "mobilenet-32": Inference("MobileNetV2, inference, batch 32", "mobilenet", (32, *LARGE), 1.0),
}

"""The networks in PyTorch. Images are `(batch, channels, height, width)`; layers are in the order of `ours`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from benchmarks.nets.ours import MOBILENET, UNET, VGG16


def mnist() -> nn.Module:
    """Four convolutions with stride 2."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def vgg(plan: Sequence[Any] = VGG16, hidden: int = 4096, dropout: float = 0.5) -> nn.Module:
    """VGG16 for CIFAR10."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in plan:
        if outputs == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(inputs, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden, 10),
    )


class Residual(nn.Module):
    """`relu(branch(x) + shortcut(x))`."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.branch(x)
        y += self.shortcut(x)
        return self.relu(y)


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """What brings the input of a block to the shape of its output."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))


def basic(inputs: int, width: int, stride: int) -> nn.Module:
    """A residual block of two 3x3 convolutions."""
    branch = nn.Sequential(
        nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
    )
    return Residual(branch, projection(inputs, width, stride))


def bottleneck(inputs: int, width: int, stride: int) -> nn.Module:
    """A residual block that computes its 3x3 convolution on a quarter of the channels."""
    branch = nn.Sequential(
        nn.Conv2d(inputs, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, 4 * width, 1, bias=False),
        nn.BatchNorm2d(4 * width),
    )
    return Residual(branch, projection(inputs, 4 * width, stride))


def stages(block: Callable[..., nn.Module], expansion: int, width: int, counts: Sequence[int]) -> list[nn.Module]:
    """Blocks of which each stage doubles the width and, but for the first, halves the image."""
    layers, inputs = [], width
    for stage, count in enumerate(counts):
        for number in range(count):
            stride = 2 if stage > 0 and number == 0 else 1
            layers.append(block(inputs, width << stage, stride))
            inputs = expansion * (width << stage)
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def resnet18(width: int = 64) -> nn.Module:
    """ResNet-18 for CIFAR10."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        *stages(basic, 1, width, (2, 2, 2, 2)),
        nn.Linear(8 * width, 10),
    )


def resnet50(width: int = 64, counts: Sequence[int] = (3, 4, 6, 3)) -> nn.Module:
    """ResNet-50, as in torchvision."""
    return nn.Sequential(
        nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        *stages(bottleneck, 4, width, counts),
        nn.Linear(32 * width, 1000),
    )


class Skip(nn.Module):
    """`branch(x) + x`."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.branch(x) + x


def inverted(inputs: int, outputs: int, stride: int, expansion: int) -> nn.Module:
    """A block that expands its channels, convolves each by itself and joins them again."""
    hidden = expansion * inputs
    expand = [nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)]
    branch = nn.Sequential(
        *(expand if expansion > 1 else []),
        nn.Conv2d(hidden, hidden, 3, stride=stride, padding=1, groups=hidden, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU6(inplace=True),
        nn.Conv2d(hidden, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
    )
    return Skip(branch) if stride == 1 and inputs == outputs else branch


def mobilenet(plan: Sequence[tuple[int, int, int, int]] = MOBILENET, dropout: float = 0.2) -> nn.Module:
    """MobileNetV2, as in torchvision."""
    blocks, inputs = [], 32
    for expansion, outputs, count, stride in plan:
        for number in range(count):
            blocks.append(inverted(inputs, outputs, stride if number == 0 else 1, expansion))
            inputs = outputs
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU6(inplace=True),
        *blocks,
        nn.Conv2d(inputs, 1280, 1, bias=False),
        nn.BatchNorm2d(1280),
        nn.ReLU6(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(1280, 1000),
    )


def double(inputs: int, outputs: int) -> nn.Module:
    """Two 3x3 convolutions."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
    )


class Level(nn.Module):
    """What a UNet does at one resolution: convolve, join what the coarser resolutions make of it, convolve again."""

    def __init__(self, inputs: int, width: int, *deeper: int) -> None:
        super().__init__()
        self.before = double(inputs, width)
        self.coarser = nn.Sequential(
            nn.MaxPool2d(2), level(width, *deeper), nn.ConvTranspose2d(deeper[0], width, 2, stride=2)
        )
        self.after = double(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        same = self.before(x)
        return self.after(torch.cat([same, self.coarser(same)], 1))


def level(inputs: int, width: int, *deeper: int) -> nn.Module:
    """The levels of a UNet from one resolution on."""
    return Level(inputs, width, *deeper) if deeper else double(inputs, width)


def unet(widths: Sequence[int] = UNET) -> nn.Module:
    """UNet with padding, for the mask of one class."""
    return nn.Sequential(level(3, *widths), nn.Conv2d(widths[0], 1, 1))


class Outputs(nn.Module):
    """The outputs of a recurrent layer without its state."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


def lstm(size: int = 256) -> nn.Module:
    """One layer."""
    return Outputs(nn.LSTM(size, size, batch_first=True))

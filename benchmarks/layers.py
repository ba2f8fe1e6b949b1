"""Single convolutions in GFLOP/s beside PyTorch: every kernel that knows a layer, and what its cost model expects.

`python -m benchmarks.layers --net vgg --direction forward --layer 64x64`. A layer is written as batch, size, channels,
kernel and stride. The operations counted are those of a direct sum, whatever a kernel does. The kernel that the cost
models would choose has a star.
"""

from __future__ import annotations

import argparse
import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fluxion as fx
from benchmarks.peers import attempt, peer
from benchmarks.table import grid
from benchmarks.timing import Contender, race
from fluxion.kernels.availability import usable_machine
from fluxion.kernels.convolution import convolution, input_gradient, weight_gradient
from fluxion.kernels.geometry import Convolution, Direction

FAMILIES = ("direct", "direct_weight", "product", "depthwise", "winograd", "winograd_weight")
OPERATIONS = {
    Direction.FORWARD: convolution,
    Direction.INPUT_GRADIENT: input_gradient,
    Direction.WEIGHT_GRADIENT: weight_gradient,
}
NCHW, LAST, XLA = "PyTorch", "channels last", "XLA"
HEADER = ["layer", "direction", NCHW, LAST, XLA, "kernel / PyTorch", "kernels: GFLOP/s (expected)"]


def layer(
    batch: int, size: int, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> Convolution:
    """A square convolution, padded so that with stride 1 and an odd kernel the size stays."""
    pad = (kernel - 1) // 2
    return Convolution(
        batch, (size,) * 2, inputs, (kernel,) * 2, outputs, (stride,) * 2, ((pad, pad),) * 2, (1, 1), groups
    )


def depthwise(batch: int, size: int, channels: int, stride: int = 1) -> Convolution:
    """Each channel by itself."""
    return layer(batch, size, channels, channels, stride=stride, groups=channels)


NETS = {
    "mnist": [
        layer(128, 28, 1, 8, 5, 2),
        layer(128, 14, 8, 16, 3, 2),
        layer(128, 7, 16, 32, 3, 2),
        layer(128, 4, 32, 32, 3, 2),
    ],
    "vgg": [
        layer(64, 32, 3, 64),
        layer(64, 32, 64, 64),
        layer(64, 16, 64, 128),
        layer(64, 16, 128, 128),
        layer(64, 8, 128, 256),
        layer(64, 8, 256, 256),
        layer(64, 4, 256, 512),
        layer(64, 4, 512, 512),
        layer(64, 2, 512, 512),
    ],
    "resnet18": [
        layer(64, 32, 64, 64),
        layer(64, 32, 64, 128, 3, 2),
        layer(64, 32, 64, 128, 1, 2),
        layer(64, 16, 128, 128),
        layer(64, 16, 128, 256, 3, 2),
        layer(64, 16, 128, 256, 1, 2),
        layer(64, 8, 256, 256),
        layer(64, 8, 256, 512, 3, 2),
        layer(64, 8, 256, 512, 1, 2),
        layer(64, 4, 512, 512),
    ],
    "resnet50": [
        layer(8, 224, 3, 64, 7, 2),
        layer(8, 56, 64, 64, 1),
        layer(8, 56, 64, 64),
        layer(8, 56, 64, 256, 1),
        layer(8, 56, 256, 128, 1),
        layer(8, 56, 128, 128, 3, 2),
        layer(8, 56, 256, 512, 1, 2),
        layer(8, 28, 128, 128),
        layer(8, 14, 256, 256),
        layer(8, 14, 256, 1024, 1),
        layer(8, 7, 512, 512),
        layer(8, 7, 512, 2048, 1),
        layer(8, 7, 2048, 512, 1),
    ],
    "mobilenet": [
        layer(8, 224, 3, 32, 3, 2),
        depthwise(8, 112, 32),
        layer(8, 112, 32, 16, 1),
        layer(8, 112, 16, 96, 1),
        depthwise(8, 112, 96, 2),
        depthwise(8, 56, 144),
        depthwise(8, 56, 144, 2),
        layer(8, 56, 144, 24, 1),
        depthwise(8, 28, 192),
        depthwise(8, 28, 192, 2),
        depthwise(8, 14, 384),
        depthwise(8, 14, 576),
        depthwise(8, 14, 576, 2),
        depthwise(8, 7, 960),
        layer(8, 7, 160, 960, 1),
        layer(8, 7, 320, 1280, 1),
    ],
    "unet": [
        layer(8, 128, 3, 32),
        layer(8, 128, 32, 32),
        layer(8, 64, 32, 64),
        layer(8, 64, 64, 64),
        layer(8, 32, 128, 128),
        layer(8, 16, 256, 256),
        layer(8, 32, 128, 256, 2, 2),
        layer(8, 64, 64, 128, 2, 2),
        layer(8, 128, 32, 64, 2, 2),
        layer(8, 64, 128, 64),
        layer(8, 128, 64, 32),
        layer(8, 128, 32, 1, 1),
    ],
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__)
    parser.add_argument("--net", choices=NETS, action="append", help="all where it is left out; may be repeated")
    parser.add_argument("--direction", choices=[d.replace(" ", "-") for d in Direction], help="all three by default")
    parser.add_argument("--layer", default="", help="only layers whose text has this in it")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender, of which the best counts")
    parser.add_argument("--xla", action="store_true", help="XLA's own convolution as well, which may be very slow")
    parser.add_argument("--markdown", action="store_true", help="a table as Markdown at the end")
    options = parser.parse_args()
    directions = [d for d in Direction if options.direction in (None, d.replace(" ", "-"))]
    for net in options.net or NETS:
        found = [geometry for geometry in NETS[net] if options.layer in name_of(geometry)]
        rows = [row(g, d, options.rounds, options.xla) for g in found for d in directions if is_needed(g, d)]
        print(f"\n{net}\n\n{grid(HEADER, rows, options.markdown)}", flush=True)


def is_needed(geometry: Convolution, direction: Direction) -> bool:
    """False for the gradient of a network's own input."""
    return direction is not Direction.INPUT_GRADIENT or geometry.inputs > 3


def name_of(geometry: Convolution) -> str:
    """Batch, size, channels, kernel, stride."""
    channels = f"{geometry.inputs}->{geometry.outputs}" if geometry.groups == 1 else f"{geometry.inputs} depthwise"
    size = "x".join(map(str, (geometry.batch, *geometry.sizes)))
    return f"{size} {channels} k{geometry.kernel[0]} s{geometry.stride[0]}"


def row(geometry: Convolution, direction: Direction, rounds: int, with_xla: bool) -> list[str]:
    """Times one direction of one layer."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=geometry.shape(name)).astype(np.float32) for name in "xwy"}
    kernels, expected = kernels_of(geometry, direction, arrays)
    peers = peers_of(geometry, direction, arrays, with_xla)
    race([*peers, *kernels], rounds=rounds, warm=1)
    speeds = {c.name: geometry.flops / c.least / 1e9 for c in (*peers, *kernels)}
    cells = [f"{speeds[name]:.0f}" if name in speeds else "" for name in (NCHW, LAST, XLA)]
    ranked = sorted((kernel.name for kernel in kernels), key=speeds.__getitem__, reverse=True)
    chosen = max(expected, key=expected.__getitem__, default=None)
    texts = [f"{name}{'*' * (name == chosen)} {speeds[name]:.0f} ({expected[name]:.0f})" for name in ranked]
    compared = f"{speeds[ranked[0]] / max(speeds[NCHW], speeds[LAST]):.2f}" if ranked and NCHW in speeds else ""
    return [name_of(geometry), direction, *cells, compared, ", ".join(texts)]


def kernels_of(
    geometry: Convolution, direction: Direction, arrays: dict[str, np.ndarray]
) -> tuple[list[Contender], dict[str, float]]:
    """A contender for each candidate, and the GFLOP/s that the cost models expect of it."""
    operands = [jnp.asarray(arrays[name]) for name in direction.operands]
    candidates = candidates_of(geometry.trimmed(), direction)
    contenders = [Contender(c.name, waiting(jax.jit(c.run), operands)) for c in candidates]
    return contenders, {c.name: geometry.flops / c.seconds / 1e9 for c in candidates}


def candidates_of(geometry: Convolution, direction: Direction) -> list[Any]:
    """What the families of kernels offer; none where this machine runs no kernels."""
    machine = usable_machine()
    if machine is None:
        return []
    families = [attempt(name, functools.partial(family, name)) for name in FAMILIES]
    return [found for offers in families if offers for found in offers(geometry, direction, "float32", machine)]


def family(name: str) -> Any:
    """The function of a family of kernels that names its candidates for a layer."""
    return importlib.import_module(f"fluxion.kernels.{name}").candidates


def waiting(function: Callable[..., Any], operands: Sequence[Any]) -> Callable[[], Any]:
    """Calls a function and waits for its result."""
    return lambda: jax.block_until_ready(function(*operands))


def peers_of(
    geometry: Convolution, direction: Direction, arrays: dict[str, np.ndarray], with_xla: bool
) -> list[Contender]:
    """PyTorch in both layouts where it is installed, and XLA where it is wanted."""
    found = []
    if torch := peer("torch"):
        layouts = {NCHW: torch.contiguous_format, LAST: torch.channels_last}
        found += [Contender(name, of_torch(torch, geometry, direction, arrays, f)) for name, f in layouts.items()]
    if with_xla:
        with fx.kernels.use("xla"):
            operands = [jnp.asarray(arrays[name]) for name in direction.operands]
            operation = jax.jit(OPERATIONS[direction], static_argnums=2)
            compiled = operation.lower(*operands, geometry).compile()
        found.append(Contender(XLA, waiting(compiled, operands)))
    return found


def of_torch(
    torch: Any, geometry: Convolution, direction: Direction, arrays: dict[str, np.ndarray], layout: Any
) -> Callable[[], Any]:
    """One direction in PyTorch, without a graph."""

    def tensor(name: str, *axes: int) -> Any:
        return torch.from_numpy(arrays[name]).permute(axes).contiguous(memory_format=layout)

    x, w, y = tensor("x", 0, 3, 1, 2), tensor("w", 3, 2, 0, 1), tensor("y", 0, 3, 1, 2)
    pads = [low for low, _ in geometry.pads]
    windows = list(geometry.stride), pads, list(geometry.dilation)
    if direction is Direction.FORWARD:
        return lambda: torch.ops.aten.convolution(x, w, None, *windows, False, [0, 0], geometry.groups)
    wanted = [direction is Direction.INPUT_GRADIENT, direction is Direction.WEIGHT_GRADIENT, False]
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(y, x, w, None, *windows, False, [0, 0], geometry.groups, wanted)


if __name__ == "__main__":
    main()

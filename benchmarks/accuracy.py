"""Two hundred training steps in float32 beside the same steps in float64: how far the losses are apart.

All curves of a network start from the same weights and see the same batches: images of ten coarse patterns under noise.
The reference is float64 with XLA's own convolutions. Rounding errors grow while a network trains, in every library, so
that what counts is whether ours are as near to the reference as PyTorch's. How far one curve wanders is mostly chance:
distances are means over some seeds, of weights and batches.

PyTorch draws the masks of dropout from a generator of its own, so its curve with dropout shows other masks and no
rounding. Fluxion's masks depend on the seed alone, not on the precision and not on the kernels; the row with another
seed tells how much more other masks change than rounding does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fluxion as fx
from benchmarks.nets import ours
from benchmarks.peers import peer
from benchmarks.table import Table, Target

STEPS, SEEDS, BATCH, SHAPE, CLASSES = 200, 3, 16, (32, 32, 3), 10
MOMENTUM = 0.9
FACTOR = 1.5  # of PyTorch's distance; that of two runs which differ by rounding alone varies as much
PLAN = tuple(width if width == "M" else width // 4 for width in ours.VGG16)
HEADER = ["mean distance to the losses in float64", "all steps", "first 20", "last 20", "last loss in float64"]
Batches = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Case:
    """A network, of which `options` go to `ours` and `theirs` alike."""

    title: str
    network: str
    options: dict[str, Any]
    rate: float

    @property
    def drops(self) -> bool:
        """Whether random masks take part."""
        return self.options.get("dropout", 0.0) > 0


CASES = (
    Case("VGG16, a quarter of the width", "vgg", {"plan": PLAN, "hidden": 256, "dropout": 0.0}, 0.001),
    Case("VGG16 with dropout 0.5", "vgg", {"plan": PLAN, "hidden": 256, "dropout": 0.5}, 0.003),
    Case("ResNet-18, a quarter of the width", "resnet18", {"width": 16}, 0.003),
)


def run() -> Table:
    """Trains every network in every way."""
    table = Table(f"Losses of {STEPS} training steps, float32 against float64", HEADER)
    if torch := peer("torch"):
        for case in CASES:
            add_case(table, torch, case)
    return table


def add_case(table: Table, torch: Any, case: Case) -> None:
    """The rows of a network, and a target where PyTorch can be compared."""
    runs = [curves_of(torch, case, seed) for seed in range(SEEDS)]
    exact = np.stack([run.pop("float64") for run in runs])
    distances = {name: np.abs(np.stack([run[name] for run in runs]) - exact) for name in runs[0]}
    table.rows += [row(f"{case.title}: {name}", distance, exact) for name, distance in distances.items()]
    if "PyTorch" in distances:
        ratio = float(distances["Fluxion"].mean() / distances["PyTorch"].mean())
        table.targets.append(Target(f"distance, Fluxion / PyTorch: {case.title}", ratio, FACTOR))


def curves_of(torch: Any, case: Case, seed: int) -> dict[str, np.ndarray]:
    """The losses of all that train a network from one seed, "float64" among them."""
    module, data = initialised(torch, case, seed), batches(seed)
    curves = fluxion_curves(case, module, data)
    return curves if case.drops else curves | {"PyTorch": torch_curve(torch, module, data, case.rate)}


def row(name: str, distance: np.ndarray, exact: np.ndarray) -> list[str]:
    """Mean distances of one curve."""
    means = (part.mean() for part in (distance, distance[:, :20], distance[:, -20:]))
    return [name, *(f"{mean:.1e}" for mean in means), f"{exact[:, -20:].mean():.3g}"]


def batches(seed: int) -> Batches:
    """Images of ten coarse patterns under noise, of unit variance, and their numbers."""
    rng = np.random.default_rng(seed)
    patterns = rng.normal(size=(CLASSES, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    labels = rng.integers(0, CLASSES, (STEPS, BATCH))
    return [((0.3 * patterns[y] + 0.95 * rng.normal(size=(BATCH, *SHAPE))).astype(np.float32), y) for y in labels]


def initialised(torch: Any, case: Case, seed: int) -> Any:
    """PyTorch's network with weights of which a network without normalisation learns (He et al. 2015)."""
    from benchmarks.nets import theirs

    torch.manual_seed(seed)
    module = getattr(theirs, case.network)(**case.options)
    for layer in module.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                torch.nn.init.zeros_(layer.bias)
    return module


def fluxion_curves(case: Case, module: Any, data: Batches) -> dict[str, np.ndarray]:
    """The losses in float64, with our kernels, with XLA's, and with other masks where there are any."""

    def losses(kernels: str, double: bool = False, seed: int = 0) -> np.ndarray:
        with fx.kernels.use(kernels), jax.enable_x64(double):
            return fluxion_curve(case, module, data, fx.f64 if double else fx.f32, seed)

    curves = {"float64": losses("xla", double=True), "Fluxion": losses("auto"), "Fluxion, XLA's kernels": losses("xla")}
    return curves | ({"Fluxion, other masks": losses("xla", seed=1)} if case.drops else {})


def fluxion_curve(case: Case, module: Any, data: Batches, convert: Callable[[Any], Any], seed: int) -> np.ndarray:
    """The loss before each step."""
    from benchmarks.nets.weights import copy_weights

    fx.seed(seed)
    model = convert(getattr(ours, case.network)(**case.options))
    copy_weights(model, module)
    model = convert(model)
    opt = fx.setup(fx.Momentum(case.rate, MOMENTUM), model)
    losses = [fx.trainstep(cross_entropy, model, (convert(jnp.asarray(x)), y), opt) for x, y in data]
    return np.array([float(loss) for loss in losses])


def cross_entropy(model: Any, x: Any, y: Any) -> Any:
    """The loss of Fluxion's networks."""
    return fx.logitcrossentropy(model(x), y)


def torch_curve(torch: Any, module: Any, data: Batches, rate: float) -> np.ndarray:
    """The same of PyTorch, which changes the weights of `module`."""
    optimizer = torch.optim.SGD(module.parameters(), lr=rate, momentum=MOMENTUM)
    losses = []
    for x, y in data:
        loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(x).permute(0, 3, 1, 2)), torch.from_numpy(y))
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return np.array(losses)

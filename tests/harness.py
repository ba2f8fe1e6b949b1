"""The catalog of cases: what each layer, loss and function is checked against, and how its options are drawn.

A case names what it covers and draws samples: a layer (or a function), its inputs, and what PyTorch or a formula makes
of them. `checks` holds the checks themselves.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import checks
import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from checks import numbers, pure, read, slots  # noqa: F401
from hypothesis import strategies

EXAMPLES = 4


class Draw(Protocol):
    """What a case draws its options, sizes and numbers from."""

    def choose(self, *options: Any) -> Any: ...
    def size(self, most: int = 4, least: int = 1) -> int: ...
    def seed(self) -> int: ...


class _Numbers:
    """Arrays of numbers, from a seed that the subclass draws."""

    def seed(self) -> int:
        raise NotImplementedError

    def normal(self, *shape: int) -> np.ndarray:
        return numbers(*shape, seed=self.seed())

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        return numbers(*shape, seed=self.seed(), low=low, high=high)

    def distinct(self, *shape: int) -> np.ndarray:
        """Numbers from -1 to 1 of which no two are close, for functions that compare them."""
        count = int(np.prod(shape))
        return np.random.default_rng(self.seed()).permutation(np.linspace(-1, 1, count + 1)[:-1]).reshape(shape)

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        """Integers from `low` up to, without, `high`."""
        return np.random.default_rng(self.seed()).integers(low, high, shape)

    def booleans(self, *shape: int) -> np.ndarray:
        return np.random.default_rng(self.seed()).random(shape) < 0.5


class First(_Numbers):
    """Always the first option and a middling size: the one sample that gets every check."""

    def __init__(self) -> None:
        self._seed = 0

    def choose(self, *options: Any) -> Any:
        return options[0]

    def size(self, most: int = 4, least: int = 1) -> int:
        return max(least, min(3, most))

    def seed(self) -> int:
        self._seed += 1
        return self._seed


class Drawn(_Numbers):
    """Options, sizes and seeds drawn by Hypothesis."""

    def __init__(self, data: Any) -> None:
        self.data, self._arrays = data, 0

    def choose(self, *options: Any) -> Any:
        return options[self.data.draw(strategies.integers(0, len(options) - 1))]

    def size(self, most: int = 4, least: int = 1) -> int:
        return self.data.draw(strategies.integers(least, most))

    def seed(self) -> int:
        self._arrays += 1  # arrays differ from each other even where Hypothesis draws one seed twice
        return 1000 * self.data.draw(strategies.integers(0, 2**16)) + self._arrays


@dataclass
class Sample:
    """A layer or function with inputs, and what it must equal.

    make         makes the layer, or returns the function
    inputs       float arrays get gradients; anything else is a constant; tuples and dicts of them are fine
    reference    the same in PyTorch: `reference(parameters, *inputs)`, parameters by path as "layers.0.weight"
    expected     the same in NumPy, where PyTorch has no counterpart
    training     whether it is checked as inside a gradient
    differences  first and second derivatives are compared with finite differences
    halves       the half-precision types to check; `widens` where the result is float32 then
    gradients    False for what has no gradient
    printed      whether the layer, read as typed, makes an equal layer
    tolerance    relative to the largest entry, in float64; `single` in float32
    """

    make: Callable[[], Any]
    inputs: tuple[Any, ...]
    reference: Callable[..., Any] | None = None
    expected: Callable[..., Any] | None = None
    training: bool = False
    differences: bool = True
    vmap: bool = True
    halves: tuple[str, ...] = ("float16", "bfloat16")
    widens: bool = False
    gradients: bool = True
    printed: bool = True
    tolerance: float = 1e-9
    single: float = 2e-4

    def __init__(self, make: Callable[[], Any], *inputs: Any, **options: Any) -> None:
        self.make, self.inputs = make, inputs
        for name, value in options.items():
            if name not in self.__dataclass_fields__:
                raise TypeError(f"a sample has no field {name!r}; it has {', '.join(self.__dataclass_fields__)}")
            setattr(self, name, value)


@dataclass
class Case:
    """What covers some public names: samples, and calls that must fail with a clear error."""

    names: tuple[str, ...]
    draw: Callable[[Any], Sample]
    errors: list[tuple[Callable[[], Any], type[Exception], str]] = field(default_factory=list)
    label: str = ""

    def __str__(self) -> str:
        return f"{self.names[0]} {self.label}".strip()

    def check(self) -> None:
        """Everything, on one sample; then the errors."""
        checks.check_sample(self.draw(First()))
        for call, exception, text in self.errors:
            with pytest.raises(exception) as caught:
                call()
            assert text in str(caught.value), f"wanted {text!r} in the error, got {str(caught.value)!r}"

    def check_random(self, examples: int = EXAMPLES) -> None:
        """Values and gradients, on samples drawn by Hypothesis."""
        self.for_samples(checks.check_agreement, examples)

    def for_samples(self, do: Callable[[Sample], None], examples: int) -> None:
        @hypothesis.seed(zlib.crc32(str(self).encode()))
        @hypothesis.settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(strategies.data())
        def run(data: Any) -> None:
            do(self.draw(Drawn(data)))

        run()


CATALOG: dict[str, list[Case]] = {}


def case(*names: str, label: str = "", errors: Any = ()) -> Callable[[Callable[[Any], Sample]], Case]:
    """Enters a function that draws samples into the catalog, under the file that it is in."""

    def enter(draw: Callable[[Any], Sample]) -> Case:
        area = draw.__module__.rsplit(".", 1)[-1]
        made = Case(names, draw, list(errors), label)
        if str(made) in map(str, CATALOG.setdefault(area, [])):
            raise ValueError(f"there are two cases {str(made)!r}; give one of them label=")
        CATALOG[area].append(made)
        return made

    return enter


def cases_of(area: str) -> list[Case]:
    """The cases of one file of `cases`."""
    importlib.import_module(f"cases.{area}")
    return CATALOG[area]


def fill(layer: Any) -> Any:
    """The layer with random numbers in place of its zeros and ones, which would hide mistakes."""
    for seed, (path, (part, name)) in enumerate(slots(layer, trainable=False).items()):
        value = part[name] if isinstance(part, (list, dict)) else getattr(part, name)
        low = 0.5 if path.rsplit(".", 1)[-1] == "var" else -1.0
        made = jnp.asarray(numbers(*value.shape, seed=seed, low=low, high=1.5), value.dtype)
        if isinstance(part, (list, dict)):
            part[name] = made
        else:
            setattr(part, name, made)
    return layer


def check_layer(
    make: Callable[[], Any], *inputs: Any, dtypes: tuple[str, ...] = ("float16", "bfloat16"), **options: Any
):
    """All checks of one sample, for tests that are no case of the catalog."""
    checks.check_sample(Sample(make, *inputs, halves=dtypes, **options))

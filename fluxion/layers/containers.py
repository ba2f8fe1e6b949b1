"""Layers made of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fluxion.errors import SizeError
from fluxion.layers.base import Layer, inside, typed


class Container(Layer):
    """A row of layers, each with a name or none: what Chain and Parallel share."""

    layers: list[Any]
    names: tuple[str, ...] | None

    def _store(self, layers: tuple[Any, ...], named: dict[str, Any]) -> None:
        kind = type(self).__name__
        if layers and named:
            raise TypeError(f"{kind} takes its layers by position or by name, got both")
        self.layers = list(named.values()) if named else list(layers)
        self.names = tuple(named) if named else None
        for layer in self.layers:
            self._check(layer)

    def _check(self, layer: Any) -> Any:
        if not callable(layer):
            hint = "; write *layers" if isinstance(layer, (list, tuple)) else ""
            raise TypeError(f"{type(self).__name__} takes layers, which are callable, got {typed(layer)}{hint}")
        return layer

    def _position(self, key: Any) -> int:
        if not isinstance(key, str):
            return key
        if self.names is None or key not in self.names:
            have = f"its names are {', '.join(self.names)}" if self.names else "its layers have no names"
            raise KeyError(f"{type(self).__name__} has no layer {key!r}; {have}")
        return self.names.index(key)

    def _place(self, index: int) -> str:
        return f".layers[{index}]" if self.names is None else f'["{self.names[index]}"]'

    def _rebuild(self, *layers: Any, **named: Any) -> Any:
        return type(self)(*layers, **named)

    def __getitem__(self, key: int | str | slice) -> Any:
        """A layer by position or name; a slice gives a container that shares its layers."""
        if not isinstance(key, slice):
            return self.layers[self._position(key)]
        if self.names is None:
            return self._rebuild(*self.layers[key])
        return self._rebuild(**dict(zip(self.names[key], self.layers[key], strict=True)))

    def __setitem__(self, key: int | str, layer: Any) -> None:
        self.layers[self._position(key)] = self._check(layer)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers)

    def __bool__(self) -> bool:
        return True

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return ([*self.layers], {}) if self.names is None else ([], dict(zip(self.names, self.layers, strict=True)))


class Chain(Container):
    """Layers, or any functions, called one after the other: `Chain(f, g)(x) == g(f(x))`.

    Layers have positions, or names as `Chain(encoder=f, decoder=g)`. `chain[1]`, `chain["encoder"]`, `chain[:-1]`,
    `chain[1] = layer`, `len` and iteration work as on a list; a slice shares its layers. Several inputs reach the first
    layer as one tuple. A Chain of nothing returns its input.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> model = fx.Chain(fx.Dense(10, 5, fx.relu), fx.Dense(5, 2), fx.softmax)
    >>> model(jnp.ones((32, 10))).shape
    (32, 2)
    >>> len(model[:-1])
    2
    """

    def __init__(self, *layers: Any, **named: Any) -> None:
        self._store(layers, named)

    def __call__(self, *inputs: Any) -> Any:
        if not inputs:
            raise TypeError("Chain expects at least one input, got none")
        x = inputs[0] if len(inputs) == 1 else inputs
        index = 0
        try:
            for index, layer in enumerate(self.layers):  # noqa: B007
                x = layer(x)
        except SizeError as error:
            inside(error, self._place(index))
            raise
        return x


def activations(chain: Any, x: Any) -> tuple[Any, ...]:
    """The outputs of all layers of a chain, one after the other.

    >>> import fluxion as fx
    >>> fx.activations(fx.Chain(lambda x: x + 1, lambda x: x * 2), 3)
    (4, 8)
    """
    outputs = []
    for index, layer in enumerate(chain):
        try:
            x = layer(x)
        except SizeError as error:
            inside(error, chain._place(index))
            raise
        outputs.append(x)
    return tuple(outputs)


class SkipConnection(Layer):
    """`connection(layer(x), x)`: what a residual block does, with any function of two arguments as the connection.

    >>> import fluxion as fx
    >>> import operator
    >>> fx.SkipConnection(lambda x: 2 * x, operator.sub)(5)
    5
    """

    def __init__(self, layer: Callable[..., Any], connection: Callable[..., Any]) -> None:
        for value in (layer, connection):
            if not callable(value):
                raise TypeError(f"SkipConnection takes a layer and a function of two arguments, got {typed(value)}")
        self.layer = layer
        self.connection = connection

    def __call__(self, x: Any) -> Any:
        place = ".layer"
        try:
            y = self.layer(x)
            place = ".connection"
            return self.connection(y, x)
        except SizeError as error:
            inside(error, place)
            raise

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.layer, self.connection], {}


class Parallel(Container):
    """Layers side by side: `connection(f(x), g(x))`, or `connection(f(x), g(y))` for several inputs.

    One input goes to every layer, as many inputs as layers go to one each, and a single layer is called on each of
    several inputs. A tuple counts as several inputs. `connection` gets all outputs as separate arguments. Layers have
    positions and names as in Chain.

    >>> import fluxion as fx
    >>> import operator
    >>> both = fx.Parallel(operator.add, lambda x: x + 1, lambda x: 10 * x)
    >>> both(2), both(2, 3)
    (23, 33)
    """

    def __init__(self, connection: Callable[..., Any], /, *layers: Any, **named: Any) -> None:
        if not callable(connection):
            raise TypeError(f"Parallel takes first the function that joins the outputs, got {typed(connection)}")
        if not layers and not named:
            raise ValueError("Parallel expects at least one layer, got none")
        self.connection = connection
        self._store(layers, named)

    def _rebuild(self, *layers: Any, **named: Any) -> Any:
        return type(self)(self.connection, *layers, **named)

    def __call__(self, *inputs: Any) -> Any:
        if len(inputs) == 1 and isinstance(inputs[0], tuple):
            inputs = inputs[0]
        place = ""
        try:
            outputs = []
            for index, x in self._pairs(inputs):
                place = self._place(index)
                outputs.append(self.layers[index](x))
            place = ".connection"
            return self.connection(*outputs)
        except SizeError as error:
            inside(error, place)
            raise

    def _pairs(self, inputs: tuple[Any, ...]) -> list[tuple[int, Any]]:
        """Which layer gets which input."""
        count = len(self.layers)
        if not inputs:
            raise ValueError("Parallel expects at least one input, got none")
        if count == 1:
            return [(0, x) for x in inputs]
        if len(inputs) not in (1, count):
            many = f"Parallel with {count} layers takes one input or {count} inputs"
            raise ValueError(f"{many}, got {len(inputs)} inputs")
        return list(enumerate(inputs * count if len(inputs) == 1 else inputs))

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, named = super().arguments()
        return [self.connection, *positional], named

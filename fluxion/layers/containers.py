"""Layers made of layers."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import SizeError
from fluxion.layers.base import Layer, call_part, size_of, typed
from fluxion.layers.fusion import LONGEST, LastPass, finds_last_pass, fused, last_pass, sum_pass
from fluxion.ops.activations import identity
from fluxion.ops.windows import is_integer


class Container(Layer):
    """A row of layers, each with a name or none: what Chain, Maxout, Parallel and PairwiseFusion share."""

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
        kind = type(self).__name__
        if isinstance(layer, type) and issubclass(layer, Layer):
            raise TypeError(f"{kind} takes layers, got the class {layer.__name__}; write {layer.__name__}(...)")
        if not callable(layer):
            hint = "; write *layers" if isinstance(layer, (list, tuple)) else ""
            raise TypeError(f"{kind} takes layers, which are callable, got {typed(layer)}{hint}")
        return layer

    def _position(self, key: Any) -> Any:
        count = len(self.layers)
        if is_integer(key) and not -count <= key < count:
            raise IndexError(f"{type(self).__name__} of {count} layers has none at position {key}")
        if not isinstance(key, str):
            return key
        if self.names is None or key not in self.names:
            have = f"its names are {', '.join(self.names)}" if self.names else "its layers have no names"
            raise KeyError(f"{type(self).__name__} has no layer {key!r}; {have}")
        return self.names.index(key)

    def _place(self, index: int) -> str:
        return f".layers[{index}]" if self.names is None else f'["{self.names[index]}"]'

    def _call(self, index: int, x: Any) -> Any:
        return call_part(self, self._place(index), self.layers[index], x)

    def _rebuild(self, *layers: Any, **named: Any) -> Any:
        return type(self)(*layers, **named)

    def __getitem__(self, key: Any) -> Any:
        """A layer by position or name; a slice, or a list of positions, names or booleans, gives a container."""
        if not isinstance(key, (slice, list, np.ndarray)):
            return self.layers[self._position(key)]
        entries = key if isinstance(key, slice) else [self._position(entry) for entry in key]
        positions = np.arange(len(self.layers))[entries]
        if self.names is None:
            return self._rebuild(*(self.layers[position] for position in positions))
        return self._rebuild(**{self.names[position]: self.layers[position] for position in positions})

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
    `chain[[0, 2]]`, `chain[1] = layer`, `len` and iteration work as on an array; a part shares its layers. Several
    inputs reach the first layer as one tuple. A Chain of nothing returns its input.

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
        for place, part in self._parts():
            x = call_part(self, place, part, x)
        return x

    def _parts(self) -> Iterator[tuple[str, Callable[..., Any]]]:
        """The layers, some of which are computed together, and the place of the first layer of each."""
        index = 0
        while index < len(self.layers):
            part, count = fused(self.layers[index : index + LONGEST])
            yield self._place(index), part
            index += count


@finds_last_pass(Chain)
def _last_pass_of_chain(chain: Chain) -> LastPass | None:
    parts = list(chain._parts())
    place, last = parts.pop() if parts else ("", None)
    if not isinstance(last, LastPass):
        return None

    def finished(x: Any, *finish: Any) -> Any:
        for earlier, part in parts:
            x = call_part(chain, earlier, part, x)
        return call_part(chain, place, lambda x: last.finished(x, *finish), x)

    return LastPass(last.activation, finished)


def activations(chain: Any, x: Any) -> tuple[Any, ...]:
    """The outputs of all layers of a chain, or of functions in a list, one after the other. Flux: `activations`.

    >>> import fluxion as fx
    >>> fx.activations(fx.Chain(lambda x: x + 1, lambda x: x * 2), 3)
    (4, 8)
    """
    if not isinstance(chain, Chain):
        if not isinstance(chain, (list, tuple)):
            raise TypeError(f"activations takes a Chain or a list of functions, got {typed(chain)}")
        chain = Chain(*chain)
    outputs = []
    for index in range(len(chain)):
        x = chain._call(index, x)
        outputs.append(x)
    return tuple(outputs)


class Maxout(Container):
    """The largest of what several layers give for the same input, entry by entry: `max(f(x), g(x), ...)`.

    Goodfellow et al. 2013. `Maxout(make, n)` holds the `n` layers that `n` calls of `make()` give. Layers have
    positions and names as in Chain. The gradient of equal entries is shared, between each two layers in turn.
    `SizeError` where the layers give different shapes.

    >>> import fluxion as fx
    >>> fx.Maxout(lambda x: x, lambda x: -x)(fx.ones(2)).tolist()
    [1.0, 1.0]
    >>> len(fx.Maxout(lambda: fx.Dense(10, 5, fx.tanh), 4))
    4
    """

    def __init__(self, *layers: Any, **named: Any) -> None:
        if len(layers) == 2 and is_integer(layers[1]) and callable(layers[0]):
            make, count = layers
            layers = tuple(make() for _ in range(size_of(count, "Maxout")))
        if not layers and not named:
            raise ValueError("Maxout expects at least one layer, got none")
        self._store(layers, named)

    def __call__(self, x: Any) -> Array:
        outputs = [jnp.asarray(self._call(index, x)) for index in range(len(self.layers))]
        shapes = list(dict.fromkeys(output.shape for output in outputs))
        if len(shapes) > 1:
            text = " and ".join(map(str, shapes))
            raise SizeError(f"{type(self).__name__} expects layers that give equal shapes, got {text}", self)
        return functools.reduce(jnp.maximum, outputs)


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
        if together := last_pass(self):
            return together(x)
        return call_part(self, ".connection", self.connection, call_part(self, ".layer", self.layer, x), x)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.layer, self.connection], {}


@finds_last_pass(SkipConnection)
def _last_pass_of_skip(skip: SkipConnection) -> LastPass | None:
    layer = sum_pass(skip.layer, skip.connection)
    if layer is None:
        return None

    def finished(x: Any, activation: Callable[..., Any], residual: Any) -> Any:
        total = x if residual is None else x + residual
        return call_part(skip, ".layer", lambda x: layer.finished(x, activation, total), x)

    return LastPass(identity, finished)


class Joined(Container):
    """A row of layers and the function that joins their outputs: what Parallel and PairwiseFusion share."""

    def __init__(self, connection: Callable[..., Any], /, *layers: Any, **named: Any) -> None:
        kind = type(self).__name__
        if not callable(connection):
            raise TypeError(f"{kind} takes first the function that joins the outputs, got {typed(connection)}")
        if not layers and not named:
            raise ValueError(f"{kind} expects at least one layer, got none")
        self.connection = connection
        self._store(layers, named)

    def _rebuild(self, *layers: Any, **named: Any) -> Any:
        return type(self)(self.connection, *layers, **named)

    def _join(self, *outputs: Any) -> Any:
        return call_part(self, ".connection", self.connection, *outputs)

    def _one_each(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """As many inputs as layers; a tuple counts as several inputs, and one input goes to every layer."""
        count, kind = len(self.layers), type(self).__name__
        if len(inputs) == 1 and isinstance(inputs[0], tuple):
            inputs = inputs[0]
        if not inputs:
            raise ValueError(f"{kind} expects at least one input, got none")
        if len(inputs) not in (1, count):
            many = f"{kind} with {count} layers takes one input or {count} inputs"
            raise ValueError(f"{many}, got {len(inputs)} inputs")
        return inputs * count if len(inputs) == 1 else inputs

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, named = super().arguments()
        return [self.connection, *positional], named


class Parallel(Joined):
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

    def __call__(self, *inputs: Any) -> Any:
        if len(inputs) == 1 and isinstance(inputs[0], tuple):
            inputs = inputs[0]
        if len(inputs) == 1 and (together := last_pass(self)):
            return together(inputs[0])
        if len(self.layers) == 1 and inputs:
            return self._join(*(self._call(0, x) for x in inputs))
        return self._join(*(self._call(index, x) for index, x in enumerate(self._one_each(inputs))))


@finds_last_pass(Parallel)
def _last_pass_of_parallel(both: Parallel) -> LastPass | None:
    second = sum_pass(both.layers[1], both.connection, second=True) if len(both.layers) == 2 else None
    if second is None:
        return None

    def finished(x: Any, activation: Callable[..., Any], residual: Any) -> Any:
        first = both._call(0, x)
        total = first if residual is None else first + residual
        return call_part(both, both._place(1), lambda x: second.finished(x, activation, total), x)

    return LastPass(identity, finished)


class PairwiseFusion(Joined):
    """Layers that each get the output before them, joined with an input of their own; returns all outputs as a tuple.

    `y1 = f1(x1)`, and from there on `yi = fi(connection(y(i-1), xi))`. Takes as many inputs as layers, as arguments
    or as one tuple, or a single input that is every `xi`. Layers have positions and names as in Chain.

    >>> import fluxion as fx
    >>> import operator
    >>> sums = fx.PairwiseFusion(operator.add, lambda x: x + 1, lambda x: 10 * x)
    >>> sums(2, 3), sums(2)
    ((3, 60), (3, 50))
    """

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        outputs: list[Any] = []
        for index, x in enumerate(self._one_each(inputs)):
            outputs.append(self._call(index, self._join(outputs[-1], x) if outputs else x))
        return tuple(outputs)


def modules(model: Any) -> list[Any]:
    """Every object in `model` that can be called: itself, its layers, theirs and so on, each once, depth first.

    Functions are left out, but not the layers that a function reads from outside. Flux: `modules`.

    >>> import fluxion as fx
    >>> model = fx.Chain(fx.Dense(3, 2, fx.relu), fx.SkipConnection(fx.Dense(2, 2), lambda y, x: x + y))
    >>> [type(part).__name__ for part in modules(model)]
    ['Chain', 'Dense', 'SkipConnection', 'Dense']
    """
    from fluxion.tree import objects

    return [part for part in objects(model) if callable(part) and not isinstance(part, types.FunctionType)]

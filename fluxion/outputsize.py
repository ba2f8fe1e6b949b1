"""The shapes that a model gives, without computing anything, and the sizes that layers take from them."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.layers.base import typed, watching
from fluxion.layers.containers import Chain
from fluxion.layers.lazy import can_draw, sizing
from fluxion.random import Generator, default_generator, generator

_LONGEST = 60
Row = tuple[str, str, str]
Model = TypeVar("Model")


class Sizes(tuple[Any, ...]):
    """The shape of an output as a tuple; printed, a table of the shape after every layer.

    An output of several arrays is a tuple of their shapes. `rows` holds the table as `(path, layer, shape)`.
    """

    rows: tuple[Row, ...]

    def __new__(cls, shape: tuple[Any, ...], rows: list[Row]) -> Sizes:
        sizes = super().__new__(cls, shape)
        sizes.rows = tuple(rows)
        return sizes

    def __getnewargs__(self) -> tuple[tuple[Any, ...], list[Row]]:
        """What a copy or a pickle is made from."""
        return tuple(self), list(self.rows)

    def __str__(self) -> str:
        widths = [max(len(row[column]) for row in self.rows) for column in (0, 1)]
        return "\n".join(f"{path:<{widths[0]}}  {layer:<{widths[1]}}  {shape}" for path, layer, shape in self.rows)


def outputsize(model: Any, *input_shapes: Any, dtype: Any = jnp.float32) -> Sizes:
    """The shape of `model`'s output for inputs of the given shapes, without computing anything (Flux: `outputsize`).

    input_shapes  one shape per input, batch first; a tuple of shapes is a tuple of arrays; an array, or anything with
                  a shape and a dtype, counts with its own type
    dtype         the type of the inputs given as shapes: `int` for an Embedding

    The result equals the output's shape; printed, it is a table of the shapes after every layer of a Chain, a
    Parallel or another container, and of those in it. The model runs as in a test, on a copy without values, and is
    left as it was; layers that do not know their sizes yet get them in the copy. A layer that refuses its input
    raises its SizeError with its path; TypeError for shapes that are none.

    >>> import fluxion as fx
    >>> model = fx.Chain(fx.Dense(10, 5, fx.relu), fx.BatchNorm(5), fx.Dense(5, 2))
    >>> outputsize(model, (32, 10))
    (32, 2)
    >>> print(outputsize(model, (32, 10)))
    input            (32, 10)
    model.layers[0]  Dense(10, 5, relu)  (32, 5)
    model.layers[1]  BatchNorm(5)        (32, 5)
    model.layers[2]  Dense(5, 2)         (32, 2)
    """
    from fluxion.tree import fmap

    inputs = _specifications("outputsize", model, input_shapes, dtype)
    table = _Table(inputs)
    with sizing(Generator(0)):
        outputs = table.fill(fmap(lambda array: array, model))
    shapes = tuple(tuple(output.shape) for output in outputs)
    return Sizes(shapes[0] if len(shapes) == 1 else shapes, table.rows)


def autosize(model: Model, *input_shapes: Any, dtype: Any = jnp.float32) -> Model:
    """Gives every layer of `model` that was made with None for a size that size, and returns `model`.

    Takes shapes as `outputsize` does, and finds all sizes without computing anything. Layers are sized in place, in
    the order in which they are called, and draw their weights in that order: the same as from the numbers. If a layer
    refuses its input, its SizeError is raised and `model` is left as it was. `ValueError` inside compiled code and
    gradients. Flux: `@autosize`.

    Without it a layer gets its sizes when it is first called, but for compiled code, gradients, `setup` and training
    that is too late.

    >>> import fluxion as fx
    >>> model = fx.Chain(fx.Conv((3, 3), None, 8, stride=2), fx.BatchNorm(None), fx.flatten, fx.Dense(None, 10))
    >>> fx.autosize(model, (1, 28, 28, 1))[3].typed()
    'Dense(1352, 10)'
    """
    inputs = _specifications("autosize", model, input_shapes, dtype)
    if not can_draw():
        raise ValueError("autosize draws weights, which it cannot inside compiled code or a gradient; call it before")
    with sizing(generator()) as run:
        _Table(inputs).fill(run.copy(model))
    return model


class _Table:
    """Runs a model without values and notes the shape that each part of its containers gives."""

    def __init__(self, inputs: list[Any]) -> None:
        self.inputs = inputs
        self.rows: list[Row] = [("input", "", ", ".join(str(_shapes(x)) for x in inputs))]
        self.running: list[tuple[str, Any]] = [("", None)]

    def fill(self, model: Any) -> list[Any]:
        """The outputs, as a list of arrays without values."""

        def run(*inputs: Any) -> list[Any]:
            with default_generator(Generator(0)), watching(self.call):
                return _arrays(self.call(None, "model", model, inputs))

        return jax.eval_shape(run, *self.inputs)

    def call(self, owner: Any, place: str, part: Any, inputs: tuple[Any, ...]) -> Any:
        """Calls a part, with a row for it unless it is a Chain, which has a row for each layer."""
        path, running = self.running[-1]
        if owner is not running:  # a container that a user's own layer called: its path is not known
            return part(*inputs)
        self.running.append((path + place, part))
        output = part(*inputs)
        self.running.pop()
        if not isinstance(part, Chain) or not part.layers:
            self.rows.append((path + place, _brief(part), str(_shapes(output))))
        return output


def _specifications(name: str, model: Any, shapes: tuple[Any, ...], dtype: Any) -> list[Any]:
    if not callable(model):
        raise TypeError(f"{name} takes a model, which is callable, got {typed(model)}")
    if not shapes:
        raise TypeError(f"{name} needs the shape of the input, batch first, as in {name}(model, (32, 10))")
    return [_specification(name, shape, dtype) for shape in shapes]


def _specification(name: str, shape: Any, dtype: Any) -> Any:
    if hasattr(shape, "shape") and hasattr(shape, "dtype"):
        return jax.ShapeDtypeStruct(shape.shape, shape.dtype)
    if isinstance(shape, (tuple, list)):
        sizes = [isinstance(size, (int, np.integer)) and not isinstance(size, bool) and size >= 0 for size in shape]
        if all(sizes):
            return jax.ShapeDtypeStruct(tuple(shape), dtype)
        if all(isinstance(part, (tuple, list)) or hasattr(part, "shape") for part in shape):
            return tuple(_specification(name, part, dtype) for part in shape)
    raise TypeError(f"{name} takes shapes, batch first, as in {name}(model, (32, 10)), got {shape!r}")


def _arrays(output: Any) -> list[Any]:
    from fluxion.tree import leaves

    return [jnp.asarray(leaf) for leaf in leaves(output)]


def _shapes(output: Any) -> Any:
    """The shape of an array, the shapes of the arrays of anything else."""
    if hasattr(output, "shape"):
        return tuple(output.shape)
    if isinstance(output, tuple):
        return tuple(_shapes(part) for part in output)
    shapes = tuple(tuple(array.shape) for array in _arrays(output))
    return shapes[0] if len(shapes) == 1 else shapes


def _brief(layer: Any) -> str:
    text = typed(layer)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."

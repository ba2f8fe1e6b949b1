"""The shapes that a model gives, without computing anything."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import SizeError
from fluxion.layers.base import inside, typed
from fluxion.layers.containers import Chain
from fluxion.random import Generator, default_generator

_LONGEST = 60
Row = tuple[str, str, str]


class Sizes(tuple[Any, ...]):
    """The shape of an output as a tuple; printed, a table of the shape after every layer.

    An output of several arrays is a tuple of their shapes. `rows` holds the table as `(path, layer, shape)`.
    """

    rows: tuple[Row, ...]

    def __new__(cls, shape: tuple[Any, ...], rows: list[Row]) -> Sizes:
        sizes = super().__new__(cls, shape)
        sizes.rows = tuple(rows)
        return sizes

    def __str__(self) -> str:
        widths = [max(len(row[column]) for row in self.rows) for column in (0, 1)]
        return "\n".join(f"{path:<{widths[0]}}  {layer:<{widths[1]}}  {shape}" for path, layer, shape in self.rows)


def outputsize(model: Any, *input_shapes: Any, dtype: Any = jnp.float32) -> Sizes:
    """The shape of `model`'s output for inputs of the given shapes, without computing anything (Flux: `outputsize`).

    input_shapes  one shape per input, batch first; a tuple of shapes is a tuple of arrays; an array, or anything with
                  a shape and a dtype, counts with its own type
    dtype         the type of the inputs given as shapes: `int` for an Embedding

    The result equals the output's shape; printed, it is a table of the shapes after every layer of a Chain, also of
    Chains in it. The model runs as in a test, on a copy without values, and is left as it was. A layer that refuses
    its input raises its SizeError with its path; TypeError for shapes that are none.

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

    if not callable(model):
        raise TypeError(f"outputsize takes a model, which is callable, got {typed(model)}")
    if not input_shapes:
        raise TypeError("outputsize needs the shape of the input, batch first, as in outputsize(model, (32, 10))")
    inputs = [_specification(shape, dtype) for shape in input_shapes]
    copy = fmap(lambda array: array, model)
    rows: list[Row] = [("input", "", ", ".join(str(_shapes(x)) for x in inputs))]

    def run(*xs: Any) -> list[Any]:
        with default_generator(Generator(0)):
            return _arrays(_through(copy, xs, "model", rows))

    shapes = tuple(tuple(output.shape) for output in jax.eval_shape(run, *inputs))
    return Sizes(shapes[0] if len(shapes) == 1 else shapes, rows)


def _through(layer: Any, inputs: tuple[Any, ...], path: str, rows: list[Row]) -> Any:
    """Calls a layer and notes the shape of what it gives, or does so for every layer of a Chain."""
    if not isinstance(layer, Chain) or not layer.layers:
        output = layer(*inputs)
        rows.append((path, _brief(layer), str(_shapes(output))))
        return output
    x: Any = inputs[0] if len(inputs) == 1 else inputs
    for index, part in enumerate(layer.layers):
        place = layer._place(index)
        try:
            x = _through(part, (x,), path + place, rows)
        except SizeError as error:
            inside(error, place)
            raise
    return x


def _specification(shape: Any, dtype: Any) -> Any:
    if hasattr(shape, "shape") and hasattr(shape, "dtype"):
        return jax.ShapeDtypeStruct(shape.shape, shape.dtype)
    if isinstance(shape, (tuple, list)):
        sizes = [isinstance(size, (int, np.integer)) and not isinstance(size, bool) and size >= 0 for size in shape]
        if all(sizes):
            return jax.ShapeDtypeStruct(tuple(shape), dtype)
        if all(isinstance(part, (tuple, list)) or hasattr(part, "shape") for part in shape):
            return tuple(_specification(part, dtype) for part in shape)
    raise TypeError(f"outputsize takes shapes, batch first, as in outputsize(model, (32, 10)), got {shape!r}")


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

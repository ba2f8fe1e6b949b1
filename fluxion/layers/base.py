"""What the layers share: how they read when typed, and how they refuse an input of the wrong size.

A layer is any callable object. `Layer` only adds the printed form; `__trainable__` names the fields that training
changes, where an object has fields of numbers that training must leave alone.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.errors import SizeError
from fluxion.layers.lazy import accept_unsized, last_axes
from fluxion.onehot import OneHotArray
from fluxion.ops.activations import identity
from fluxion.ops.arrays import as_float, is_concrete, match_rank
from fluxion.ops.linear import product
from fluxion.ops.windows import size_of as size_of


class Layer:
    """Optional base of layers: `print(layer)` reads as the layer was typed, and sizes may come from the first input.

    A subclass says in `arguments` how it is typed. It names in `__trainable__` the fields that training changes, in
    `__float32__` those that half precision leaves alone, and in `__unsized__` the arguments of its constructor that
    may be None: the constructor then waits for the first input, or for `autosize`, and gets the sizes that
    `sizes_from` finds there. A layer without sizes as such an argument gets them from the same input.

    >>> import fluxion as fx
    >>> class Halves(fx.Layer):
    ...     __unsized__ = ("inputs",)
    ...
    ...     def __init__(self, inputs):
    ...         self.dense = fx.Dense(inputs, inputs // 2)
    ...
    ...     def __call__(self, x):
    ...         return self.dense(x)
    >>> Halves(None)(fx.ones(32, 10)).shape
    (32, 5)
    """

    __unsized__: tuple[str, ...] = ()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if cls.__unsized__ and "__init__" in vars(cls):
            accept_unsized(cls)

    def sizes_from(self, sizes: Any, *inputs: Any) -> Any:
        """An argument that `__unsized__` names, for these inputs; `sizes` is what was given, None where unknown.

        One size is that of the last axis of the first input, a tuple of sizes are those of its last axes.
        """
        first = inputs[0]
        return last_axes(sizes, shape_of(first[0] if isinstance(first, tuple) else first))

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments that make such a layer; what is as by default is left out."""
        return [], {}

    def typed(self) -> str:
        """The layer on one line, as it was typed.

        >>> import fluxion as fx
        >>> fx.Dense(10, 5, fx.relu, bias=False).typed()
        'Dense(10, 5, relu, bias=False)'
        """
        positional, keywords = self.arguments()
        parts = [typed(value) for value in positional]
        parts += [f"{name}={typed(value)}" for name, value in keywords.items()]
        return f"{type(self).__name__}({', '.join(parts)})"

    def __repr__(self) -> str:
        from fluxion.show import show_text

        return show_text(self)


def typed(value: Any) -> str:
    """Any value as one types it: a layer with its arguments, a function by its name.

    >>> typed(jnp.tanh), typed("same"), typed((3, 3))
    ('tanh', "'same'", '(3, 3)')
    """
    if isinstance(value, Layer):
        return value.typed()
    if isinstance(value, (tuple, list)):
        inside = ", ".join(typed(entry) for entry in value) + ("," if len(value) == 1 and type(value) is tuple else "")
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    if isinstance(value, functools.partial):
        keywords = [f"{name}={typed(entry)}" for name, entry in value.keywords.items()]
        return f"partial({', '.join([typed(value.func), *map(typed, value.args), *keywords])})"
    if not is_concrete(value):
        return "..."
    if isinstance(value, (np.ndarray, Array)):
        return f"array{tuple(value.shape)}" if value.ndim else repr(value.item())
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    return f"{type(value).__name__}(...)" if hasattr(value, "__dict__") else repr(value)


def changed(**fields: tuple[Any, Any]) -> dict[str, Any]:
    """The values of `(value, default)` pairs that differ from their default."""
    return {name: value for name, (value, default) in fields.items() if is_concrete(value) and value != default}


def activation_argument(activation: Any) -> list[Any]:
    return [] if activation is identity else [activation]


def function_of(activation: Any, name: str) -> Callable[..., Any]:
    if not callable(activation):
        raise TypeError(f"{name} takes a function as its activation, such as fluxion.relu, got {activation!r}")
    return activation


def active_of(active: Any, name: str) -> bool | None:
    """The tri-state `active` field: True trains, False tests, None (or "auto") trains inside a gradient."""
    if isinstance(active, str) and active == "auto":
        return None
    if active is not None and not isinstance(active, bool):
        raise ValueError(f'{name} takes active=True, False, None or "auto", got {active!r}')
    return active


def draw(init: Callable[..., Any], shape: tuple[int, ...], rng: Any) -> Array:
    """The array that an initialiser makes, with its shape checked."""
    if not callable(init):
        raise TypeError(f"init takes a function of sizes, such as fluxion.glorot_uniform, got {typed(init)}")
    weight = as_float(init(*shape) if rng is None else init(*shape, rng=rng))
    if weight.shape != shape:
        raise ValueError(f"{typed(init)} made an array of shape {weight.shape}, wanted {shape}")
    return weight


def make_bias(bias: Any, weight: Array, shape: tuple[int, ...] | None = None) -> Array | None:
    """True: zeros like the weight. False or None: no bias. An array: itself, with its shape checked."""
    shape = weight.shape[-1:] if shape is None else shape
    if bias is None or bias is False:
        return None
    if bias is True:
        return jnp.zeros(shape, weight.dtype)
    if shape_of(bias) != shape:
        raise ValueError(f"bias takes True, False or an array of shape {shape}, got {typed(bias)}")
    return jnp.asarray(bias, weight.dtype)


def shape_of(x: Any) -> tuple[int, ...]:
    """The shape of anything that is or becomes an array."""
    return tuple(x.shape) if hasattr(x, "shape") else np.shape(x)


def input_array(layer: Any, x: Any) -> Array:
    """`x` as an array. A tuple is refused: JAX would stack its entries along a new axis."""
    if isinstance(x, tuple):
        raise TypeError(f"{typed(layer)} expects one array, got a tuple of {len(x)}; Parallel takes several inputs")
    return jnp.asarray(x)


def features(layer: Any, x: Any, size: int, what: str) -> Any:
    """`x` as an array whose last axis has `size` entries; a one-hot array stays one."""
    x = x if isinstance(x, OneHotArray) else input_array(layer, x)
    if x.ndim == 0 or x.shape[-1] != size:
        raise SizeError(f"{typed(layer)} expects {size} {what} (last axis), got an array of shape {x.shape}", layer)
    return x


def match_half(x: Any, weight: Array) -> Any:
    """`x` in the type of a half-precision weight, so that a float32 input does not turn the layer to float32."""
    half = jnp.issubdtype(weight.dtype, jnp.floating) and jnp.finfo(weight.dtype).bits <= 16
    return x if isinstance(x, OneHotArray) or not half else as_float(x).astype(weight.dtype)


def multiply(x: Any, weight: Array) -> Array:
    """`x @ weight`, in the type of a half-precision weight; of a one-hot array, rows of the weight."""
    return x @ weight if isinstance(x, OneHotArray) else product(match_half(x, weight), weight)


def add_bias(y: Array, bias: Array | None) -> Array:
    return y if bias is None else y + match_rank(bias, y)


def call_op(layer: Any, op: Callable[..., Array], x: Any, *arguments: Any, **keywords: Any) -> Array:
    """`op(x, ...)`, whose size errors then name the layer as typed instead of the function."""
    try:
        return op(input_array(layer, x), *arguments, **keywords)
    except SizeError as error:
        raise SizeError(typed(layer) + error.message.removeprefix(op.__name__), layer) from None


def inside(error: SizeError, place: str) -> SizeError:
    """Notes where in its container the layer that refused its input stands, as `.layers[2]`."""
    error.path = f"model{place}{error.path.removeprefix('model')}"
    return error


class _Calls(threading.local):
    watcher: Callable[..., Any] | None = None


_calls = _Calls()


def call_part(owner: Any, place: str, part: Callable[..., Any], *inputs: Any) -> Any:
    """`part(*inputs)` for a layer that is made of parts; a SizeError then tells the place, as `.layers[2]`."""
    try:
        return part(*inputs) if _calls.watcher is None else _calls.watcher(owner, place, part, inputs)
    except SizeError as error:
        inside(error, place)
        raise


def is_watched() -> bool:
    """True while `watching` looks at every call of a part, so that each part has to be called by itself."""
    return _calls.watcher is not None


@contextlib.contextmanager
def watching(watcher: Callable[..., Any]) -> Iterator[None]:
    """Within the block `watcher(owner, place, part, inputs)` takes the place of every call of a part."""
    outer, _calls.watcher = _calls.watcher, watcher
    try:
        yield
    finally:
        _calls.watcher = outer

"""One check for every layer, loss and function: `check_layer(make, *inputs, reference=...)`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import torch

from fluxion.mode import gradient_mode
from fluxion.random import Generator

HALF_TOLERANCE = {"float16": 2e-2, "bfloat16": 1e-1}


def numbers(*shape: int, seed: int = 0, low: float | None = None, high: float = 1.0) -> np.ndarray:
    """Normal numbers, or uniform ones from `low` to `high`, far enough from each other for finite differences."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) if low is None else rng.uniform(low, high, shape)


def slots(layer: Any, trainable: bool = True) -> dict[str, tuple[Any, Any]]:
    """Where the float arrays of a layer are: path -> (owner, name); only what training changes, or all of them."""
    found: dict[str, tuple[Any, Any]] = {}

    def walk(part: Any, path: str) -> None:
        if isinstance(part, (list, dict)):
            entries = enumerate(part) if isinstance(part, list) else part.items()
        elif isinstance(part, Generator) or not hasattr(part, "__dict__") or isinstance(part, type):
            return
        else:
            names = getattr(part, "__trainable__", None)
            entries = ((n, v) for n, v in vars(part).items() if not trainable or names is None or n in names)
        for name, value in entries:
            inner = f"{path}.{name}" if path else str(name)
            if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.floating):
                found[inner] = (part, name)
            elif not callable(value) or hasattr(value, "__dict__"):
                walk(value, inner)

    if not callable(layer) or not hasattr(layer, "__code__"):
        walk(layer, "")
    return found


def read(where: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    return {path: part[name] if isinstance(part, (list, dict)) else getattr(part, name)
            for path, (part, name) in where.items()}  # fmt: skip


def write(where: dict[str, tuple[Any, Any]], values: dict[str, Any]) -> None:
    for path, value in values.items():
        part, name = where[path]
        if isinstance(part, (list, dict)):
            part[name] = value
        else:
            setattr(part, name, value)


@contextlib.contextmanager
def holding(layer: Any, values: dict[str, Any]) -> Iterator[None]:
    """The layer holds other arrays within the block; whatever it wrote is undone after it."""
    everything = slots(layer, trainable=False)
    before = read(everything)
    write(everything, values)
    try:
        yield
    finally:
        write(everything, before)


def pure(layer: Any, training: bool) -> Callable[..., Any]:
    """The layer as a function of its arrays and its inputs."""

    def run(values: dict[str, Any], *inputs: Any) -> Any:
        with holding(layer, values), gradient_mode(training):
            return layer(*inputs)

    return run


def check_layer(
    make: Callable[[], Any],
    *inputs: Any,
    reference: Callable[..., Any] | None = None,
    training: bool = False,
    vmap: bool = True,
    differences: bool = True,
    dtypes: tuple[str, ...] = ("float16", "bfloat16"),
    widens: bool = False,
) -> None:
    """Checks a layer, loss or function.

    Against `reference(parameters, *inputs)` in PyTorch: values and gradients, in float64. Against finite differences:
    first and second derivatives. Then: float32 in gives float32 out, the jitted layer equals the eager one, half
    precision stays (or becomes float32, where the layer `widens`), and `jax.vmap` over the inputs equals a loop.
    """
    layer = make()
    with jax.numpy_rank_promotion("raise"):
        function = _function(layer, inputs, training)
        compiled = jax.jit(function)
        wide = _check_float32(layer, inputs, function, compiled)
        if reference is not None:
            _check_reference(layer, inputs, reference, training)
        if differences:
            _check_differences(layer, inputs, training)
        for dtype in dtypes:
            half = compiled(_arrays(layer, dtype), _floats(inputs, dtype))
            assert half.dtype == ("float32" if widens else dtype)
            tolerance = HALF_TOLERANCE[dtype]
            np.testing.assert_allclose(np.asarray(half, np.float32), wide, rtol=tolerance, atol=tolerance)
        if vmap and not training:
            _check_vmap(layer, inputs, function, compiled)


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """float64, compiled without most of the optimisations: it is the formulas that are checked there."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        with jax.enable_x64(True):
            yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def _arrays(layer: Any, dtype: Any) -> dict[str, Any]:
    return {path: value.astype(dtype) for path, value in read(slots(layer, trainable=False)).items()}


def _floats(inputs: tuple[Any, ...], dtype: Any) -> list[Any]:
    return [jnp.asarray(x, dtype) for x in inputs if is_float(x)]


def _function(layer: Any, inputs: tuple[Any, ...], training: bool) -> Callable[..., Any]:
    """The layer as a function of its arrays and its float inputs; integers and one-hot arrays are constants."""
    run = pure(layer, training)

    def function(values: dict[str, Any], floats: Any) -> Any:
        rest = iter(floats)
        return run(values, *[next(rest) if is_float(x) else x for x in inputs])

    return function


def _check_float32(layer: Any, inputs: tuple[Any, ...], function: Any, compiled: Any) -> Any:
    values, floats = _arrays(layer, "float32"), _floats(inputs, "float32")
    eager = function(values, floats)
    assert eager.dtype == jnp.float32
    np.testing.assert_allclose(compiled(values, floats), eager, rtol=1e-5, atol=1e-6)
    return eager


def _closed(layer: Any, inputs: tuple[Any, ...], training: bool) -> tuple[Callable[..., Any], Any, Any]:
    """The layer in float64 as a function of what has a gradient: its trainable arrays and its float inputs."""
    function, everything = _function(layer, inputs, training), _arrays(layer, "float64")
    trained = {path: everything[path] for path in slots(layer)}
    return (lambda p, f: function({**everything, **p}, f)), trained, _floats(inputs, "float64")


def _check_reference(layer: Any, inputs: tuple[Any, ...], reference: Callable[..., Any], training: bool) -> None:
    with double_precision():
        function, trained, floats = _closed(layer, inputs, training)
        weights = numbers(*jax.eval_shape(function, trained, floats).shape, seed=7)

        @jax.jit
        def both(trained: Any, floats: Any) -> Any:
            value, pull = jax.vjp(function, trained, floats)
            return value, pull(jnp.asarray(weights))

        value, got = both(trained, floats)
    everything = {path: torch.tensor(np.asarray(v, np.float64)) for path, v in read(slots(layer, False)).items()}
    parameters = {path: everything[path].requires_grad_() for path in trained}
    tensors = [torch.tensor(np.asarray(x), requires_grad=is_float(x)) for x in inputs]
    wanted = reference(everything, *tensors)
    np.testing.assert_allclose(value, wanted.detach().numpy(), rtol=1e-7, atol=1e-9)
    leaves = [*parameters.values(), *(tensor for tensor in tensors if tensor.requires_grad)]
    gradients = torch.autograd.grad(wanted, leaves, torch.tensor(weights), materialize_grads=True)
    for mine, theirs in zip([*(got[0][path] for path in parameters), *got[1]], gradients, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-6, atol=1e-8)


def _check_differences(layer: Any, inputs: tuple[Any, ...], training: bool) -> None:
    """First and second derivatives along one random direction, in every mode, in a single compiled program."""
    with double_precision():
        function, *point = _closed(layer, inputs, training)
        flat, rebuild = jax.flatten_util.ravel_pytree(point)
        direction = jnp.asarray(numbers(flat.size, seed=5))

        def scalar(at: Any) -> Any:
            value = function(*rebuild(at))
            return jnp.vdot(jnp.asarray(numbers(*value.shape, seed=6)), value)

        def slope(at: Any) -> Any:
            return jax.grad(scalar)(at) @ direction

        @jax.jit
        def derivatives(at: Any) -> Any:
            forward = jax.jvp(scalar, (at,), (direction,))
            curvature = jax.jvp(slope, (at,), (direction,))[1], jax.grad(slope)(at) @ direction
            return *forward, slope(at), *curvature

        step = 1e-5
        (value, forward, reverse, mixed, twice) = derivatives(flat)
        ahead, behind = (derivatives(flat + sign * step * direction) for sign in (1, -1))
        np.testing.assert_allclose(forward, reverse, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(twice, mixed, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(reverse, (ahead[0] - behind[0]) / (2 * step), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(mixed, (ahead[2] - behind[2]) / (2 * step), rtol=1e-5, atol=1e-5)
        assert jnp.isfinite(value)


def _check_vmap(layer: Any, inputs: tuple[Any, ...], function: Any, compiled: Any) -> None:
    values, pairs = _arrays(layer, "float32"), [jnp.stack([x, x[::-1]]) for x in _floats(inputs, "float32")]
    if pairs:
        mapped = jax.jit(jax.vmap(function, in_axes=(None, 0)))(values, pairs)
        for index in range(2):
            one = compiled(values, [pair[index] for pair in pairs])
            np.testing.assert_allclose(mapped[index], one, rtol=1e-5, atol=1e-6)

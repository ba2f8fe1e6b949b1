"""Where arrays live and in which precision: `gpu`, `cpu`, `device`, and `f16`, `bf16`, `f32`, `f64`."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import FluxionWarning

_INSTALL = (
    "install JAX for your GPU: pip install -U 'jax[cuda13]' (NVIDIA driver 580 or newer) "
    "or pip install -U 'jax[cuda12]' (older drivers)"
)
_warned = False


def gpu(x: Any, required: bool = False) -> Any:
    """`x` with its arrays on the first GPU: an array, a batch, a model, any tree of arrays (Flux: `gpu`).

    The result is a new tree of the same types; tied arrays stay tied. Without a GPU, `x` itself comes back after one
    FluxionWarning that says what to install; with `required=True` that is a RuntimeError.

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     batch = gpu((np.zeros(3), "label"))
    >>> batch[1]
    'label'
    """
    target = _first("gpu")
    if target is not None:
        return _moved(x, target)
    if required:
        raise RuntimeError(f"gpu(x, required=True): JAX finds no GPU on this machine; {_INSTALL}")
    global _warned
    if not _warned:
        _warned = True
        # the caller's line, which is where the GPU was asked for
        warnings.warn(f"gpu(x): JAX finds no GPU, so everything stays on the CPU; {_INSTALL}", FluxionWarning, 2)
    return x


def cpu(x: Any) -> Any:
    """`x` with its arrays in the memory of the CPU: an array, a model, any tree of arrays (Flux: `cpu`).

    NumPy arrays, which are there already, stay NumPy arrays.

    >>> device(cpu({"w": jnp.ones(3)})).platform
    'cpu'
    """
    return _moved(x, jax.devices("cpu")[0])


def device(x: Any) -> jax.Device | None:
    """The device on which the arrays of `x` live, None where it holds none (Flux: `get_device`).

    NumPy arrays live on the CPU. Raises ValueError where arrays live on different devices.

    >>> device([jnp.ones(2), np.ones(2)]).platform
    'cpu'
    """
    from fluxion.tree import leaves

    found = {place: None for leaf in leaves(x) for place in _devices(leaf)}
    if len(found) > 1:
        names = ", ".join(str(place) for place in found)
        raise ValueError(f"the arrays live on {len(found)} devices ({names}); cpu(x) or gpu(x) brings them together")
    return next(iter(found), None)


def f16(x: Any) -> Any:
    """`x` with its floating arrays as float16 (Flux: `f16`).

    Integers and booleans stay as they are; an array that has the type already stays the same array. Complex arrays,
    and what a layer keeps in float32 (running statistics, named by its `__float32__`), stay too.

    >>> f16({"w": jnp.ones(2), "steps": jnp.arange(2)})["w"].dtype
    dtype('float16')
    """
    return _converted("f16", x, jnp.float16)


def bf16(x: Any) -> Any:
    """`x` with its floating arrays as bfloat16, rounded to nearest; otherwise as `f16` (Flux: `bf16`).

    >>> bf16(jnp.ones(2)).dtype
    dtype(bfloat16)
    """
    return _converted("bf16", x, jnp.bfloat16)


def f32(x: Any) -> Any:
    """`x` with its floating arrays as float32, complex ones as complex64 (Flux: `f32`).

    Integers and booleans stay as they are; an array that has the type already stays the same array.

    >>> f32(np.ones(2)).dtype
    dtype('float32')
    """
    return _converted("f32", x, jnp.float32)


def f64(x: Any) -> Any:
    """`x` with its floating arrays as float64, complex ones as complex128 (Flux: `f64`).

    Integers and booleans stay as they are; an array that has the type already stays the same array. Raises
    RuntimeError where JAX is not set up for 64 bits, which it is not unless told so.

    >>> with jax.enable_x64(True):
    ...     f64(jnp.ones(2, "float32")).dtype
    dtype('float64')
    """
    if not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise RuntimeError(
            "f64(x) needs JAX with 64 bits, which are off by default: write jax.config.update('jax_enable_x64', True) "
            "at the start of the program, or set the environment variable JAX_ENABLE_X64=1"
        )
    return _converted("f64", x, jnp.float64)


def _first(platform: str) -> jax.Device | None:
    try:
        return jax.devices(platform)[0]
    except RuntimeError:
        return None


def _moved(x: Any, target: jax.Device) -> Any:
    from fluxion.tree import fmap

    def move(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray) and target.platform == "cpu":
            return leaf
        if not isinstance(leaf, (np.ndarray, jax.Array)):
            return leaf
        return leaf if _devices(leaf) == {target} else jax.device_put(leaf, target)

    return fmap(move, x)


def _devices(leaf: Any) -> set[jax.Device]:
    if isinstance(leaf, jax.Array):
        return set() if isinstance(leaf, jax.core.Tracer) else set(leaf.devices())
    return {jax.devices("cpu")[0]} if isinstance(leaf, np.ndarray) else set()


def _converted(name: str, x: Any, dtype: Any) -> Any:
    from fluxion.layers.lazy import check_sized
    from fluxion.tree import fmap

    check_sized(x, name)
    kept = _kept_in_float32(x) if jnp.finfo(dtype).bits == 16 else set()
    wide = {"float32": jnp.complex64, "float64": jnp.complex128}.get(jnp.dtype(dtype).name)

    def convert(leaf: Any) -> Any:
        if not isinstance(leaf, (np.ndarray, jax.Array)) or id(leaf) in kept:
            return leaf
        target = dtype if jnp.issubdtype(leaf.dtype, jnp.floating) else wide
        if target is None or not jnp.issubdtype(leaf.dtype, jnp.inexact) or leaf.dtype == target:
            return leaf
        return leaf.astype(target)

    return fmap(convert, x)


def _kept_in_float32(x: Any) -> set[int]:
    """The identities of the arrays that layers list in `__float32__`: 16 bits are too few for running statistics."""
    from fluxion.tree import objects

    return {id(getattr(o, name, None)) for o in objects(x) for name in getattr(type(o), "__float32__", ())}

"""Where batches are: on a device, sharded over several, or as NumPy arrays on the host."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion._jax import to_device
from fluxion.data.observations import is_array, over_parts
from fluxion.onehot import OneHotArray


class Placement:
    """Brings batches to `device`: None is JAX's default device, "host" leaves NumPy arrays.

    Arrays of strings or objects, and whatever is no array, stay as they are. A sharding over several processes makes
    one array of what each of them gives. `committed` arrays stay on their device when they meet others in JAX.
    """

    def __init__(self, device: Any, committed: bool = True) -> None:
        if not (device is None or device == "host" or isinstance(device, (jax.Device, jax.sharding.Sharding))):
            raise TypeError(
                f'device= takes None for the default one, a device or a sharding of JAX, or "host", got {device!r}'
            )
        self.device = device
        self.committed = committed

    @property
    def on_host(self) -> bool:
        return isinstance(self.device, str)

    def here(self) -> Placement:
        """The same, with the default device of this thread by its name: other threads have another default."""
        if self.device is not None:
            return self
        return Placement(_default_device(), committed=False)

    def __call__(self, batch: Any) -> Any:
        return over_parts(self._part, batch)

    def _part(self, part: Any) -> Any:
        if not isinstance(part, np.ndarray):
            if isinstance(part, OneHotArray):
                return OneHotArray(self._array(np.asarray(part.indices)), part.count)
            if not is_array(part):
                return part
            part = np.asarray(part)
        return self._array(part) if is_number(part.dtype) else part

    def _array(self, array: np.ndarray) -> np.ndarray | jax.Array:
        if self.on_host:
            return array
        dtype = device_dtype(array.dtype)
        if dtype != array.dtype:
            check_fits(array, dtype)
            array = array.astype(dtype)
        if isinstance(self.device, jax.Device):
            return to_device(array, self.device, self.committed)
        if self.device.is_fully_addressable:
            return jax.device_put(array, self.device)
        return jax.make_array_from_process_local_data(self.device, array)


@functools.lru_cache(maxsize=64)
def is_number(dtype: Any) -> bool:
    """Whether an array of this dtype holds numbers or booleans, which a device has as well."""
    return bool(jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_))


@functools.lru_cache(maxsize=128)
def _canonical(dtype: np.dtype, wide: bool) -> np.dtype:
    return jax.dtypes.canonicalize_dtype(dtype).newbyteorder("=")


def device_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of such numbers in JAX: 32 bits for 64, unless `jax_enable_x64` is set, in the byte order of here."""
    return _canonical(dtype, jax.config.jax_enable_x64)  # type: ignore[attr-defined]


def check_fits(array: np.ndarray, dtype: np.dtype) -> None:
    """ValueError for integers that 32 bits cannot hold; JAX would wrap them round without a word."""
    if array.dtype.kind not in "iu" or not array.size:
        return
    low, high = array.min(), array.max()
    limits = np.iinfo(dtype)
    if low < limits.min or high > limits.max:
        raise ValueError(
            f"integers from {low} to {high} of {array.dtype} do not fit into {dtype}, in which they go to the device; "
            f'number them from 0 on, give device="host", or set jax.config.update("jax_enable_x64", True)'
        )


def _default_device() -> jax.Device:
    chosen = jax.config.jax_default_device  # type: ignore[attr-defined]
    return chosen if isinstance(chosen, jax.Device) else jax.local_devices(backend=chosen)[0]

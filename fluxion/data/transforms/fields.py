"""The fields of a batch that transforms know: their names, checks, types and keys."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.data.keys import threefry
from fluxion.data.observations import is_array, like_tuple
from fluxion.errors import SizeError
from fluxion.onehot import OneHotArray
from fluxion.random import Generator, generator

Fields: TypeAlias = "dict[str, Any]"
Size: TypeAlias = "tuple[int, int]"

NAMES = ("image", "mask", "boxes", "keypoints", "labels")
_SHAPES = {"mask": "(N, H, W) or (N, H, W, C)", "boxes": "(N, M, 4)", "keypoints": "(N, M, 2)"}
_SCALES = {"uint8": 255.0, "uint16": 65535.0}  # the white of integer images


def is_on_device(x: Any) -> bool:
    """True for arrays of JAX."""
    return isinstance(x, jax.Array)


def namespace(*arrays: Any) -> Any:
    """`jax.numpy` where one of the arrays is of JAX, else `numpy`."""
    return jnp if any(map(is_on_device, arrays)) else np


def exact_einsum(places: str, *arrays: Any) -> Any:
    """Einstein's sum, without the fewer digits that some devices would take for it."""
    if namespace(*arrays) is np:
        return np.einsum(places, *arrays, optimize=True)
    return jnp.einsum(places, *arrays, precision="highest")


def repeated(count: int, step: Callable[[Any, Any], Any], start: Any) -> Any:
    """`start` after `step(i, value)` for each i below `count`: on the device a loop, compiled once."""
    if any(map(is_on_device, jax.tree.leaves(start))):
        return jax.lax.fori_loop(0, count, step, start)
    return functools.reduce(lambda value, i: step(i, value), range(count), start)


def array(x: Any) -> Any:
    """`x` as an array."""
    return x if is_array(x) else np.asarray(x)


def image_size(fields: Fields) -> Size:
    """Height and width of the images."""
    return fields["image"].shape[1:3]


def is_single(images: Any, name: str) -> bool:
    """True for one image, False for a batch; SizeError for what is neither."""
    rank = np.ndim(images)
    if rank not in (3, 4):
        hint = "; a grey image has one channel: image[..., None]" if rank == 2 else ""
        raise SizeError(
            f"{name} takes images (N, H, W, C) or (H, W, C), got an array of shape {np.shape(images)}{hint}"
        )
    return rank == 3


def checked(given: Mapping[str, Any], name: str) -> Fields:
    """The fields as arrays, checked against each other."""
    fields = {field: _dense(value) if field == "labels" else array(value) for field, value in given.items()}
    image = fields["image"]
    if image.ndim != 4:
        raise SizeError(f"{name} takes a batch of images (N, H, W, C), got an array of shape {image.shape}")
    if image.dtype.name not in _SCALES and not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(f"{name} takes images of floats, uint8 or uint16, got {image.dtype}")
    for field in fields.keys() & _SHAPES.keys():
        _check_field(name, field, fields[field], image)
    for field in fields.keys() & {"boxes", "keypoints"}:
        fields[field] = fields[field].astype(np.float32)
    return fields


def _dense(labels: Any) -> Any:
    """Labels as they are, one-hot ones as an ordinary array."""
    if not isinstance(labels, OneHotArray):
        return array(labels)
    numbers = namespace(labels.indices).arange(labels.count)
    return (labels.indices[..., None] == numbers).astype(np.float32)


def _check_field(name: str, field: str, value: Any, image: Any) -> None:
    fits = {
        "mask": value.ndim in (3, 4) and value.shape[1:3] == image.shape[1:3],
        "boxes": value.ndim == 3 and value.shape[-1] == 4,
        "keypoints": value.ndim == 3 and value.shape[-1] == 2,
    }[field]
    if not fits or len(value) != len(image):
        raise SizeError(
            f"{name} takes {field} of shape {_SHAPES[field]} beside images {image.shape}, got shape {value.shape}"
        )
    if field == "mask" and value.dtype.kind not in "iub":
        raise TypeError(f"{name} takes a mask of integers, the classes of the pixels, got {value.dtype}")


def keys_of(image: Any, keys: Any, rng: Generator | None) -> Any:
    """The keys of the samples: those given, checked, or new ones from a generator."""
    count = len(image)
    if keys is None:
        drawn: Any = jax.random.key_data(generator(rng).next_key()).reshape(-1)[:2]
        drawn = drawn if isinstance(drawn, jax.core.Tracer) or is_on_device(image) else np.asarray(drawn)
        xp = namespace(drawn)
        return xp.stack(threefry(drawn[None], (xp.arange(count, dtype=np.uint32), xp.zeros(count, np.uint32))), axis=-1)
    keys = array(keys)
    if keys.shape != (count, 2) or keys.dtype != np.uint32:
        raise SizeError(f"keys are uint32 of shape ({count}, 2), one pair a sample, got {keys.dtype} of {keys.shape}")
    return keys


def as_floats(image: Any) -> Any:
    """Images as float32, those of integers from 0 to 1."""
    scale = _SCALES.get(image.dtype.name)
    floats = image.astype(np.float32)
    return floats if scale is None else floats / np.float32(scale)


def as_type(image: Any, dtype: Any) -> Any:
    """Images of floats as this type again: integers are clipped and rounded."""
    scale = _SCALES.get(np.dtype(dtype).name)
    if scale is None:
        return image.astype(dtype)
    return namespace(image).round(image.clip(0, 1) * np.float32(scale)).astype(dtype)


def checked_names(names: Sequence[str | None]) -> tuple[str | None, ...]:
    """The names of the fields of a tuple, "label" as "labels"."""
    known = tuple("labels" if name == "label" else name for name in names)
    used = [name for name in known if name is not None]
    if "image" not in used or len(set(used)) < len(used) or not set(used) <= set(NAMES):
        raise ValueError(
            f"on(...) names the fields of a batch, one of them 'image': each of {NAMES}, or None; got {names}"
        )
    return known


def named(batch: Any, names: Sequence[str | None] | None, who: str) -> dict[str, tuple[Any, Any]]:
    """Of each field of a batch that transforms know: its key in the batch, None if it is the batch, and its value."""
    if isinstance(batch, Mapping):
        found = {"labels" if key == "label" else key: (key, value) for key, value in batch.items()}
    elif isinstance(batch, tuple):
        names = names or (("image", "labels") if len(batch) == 2 else ("image",) + (None,) * (len(batch) - 1))
        if len(names) != len(batch):
            raise ValueError(f"{who}.on{tuple(names)} names {len(names)} fields, got a batch of {len(batch)}")
        found = {name: place for name, place in zip(names, enumerate(batch), strict=True) if name is not None}
    else:
        found = {"image": (None, batch)}
    if "image" not in found:
        raise ValueError(
            f"{who} finds no images in a batch with the fields {sorted(map(str, found))}: name one 'image'"
        )
    return {name: place for name, place in found.items() if name in NAMES}


def renamed(batch: Any, places: Mapping[str, tuple[Any, Any]], results: Mapping[str, Any]) -> Any:
    """The batch with the results in their places."""
    changed = {key: results[name] for name, (key, _) in places.items()}
    if isinstance(batch, Mapping):
        return {**batch, **changed}
    if isinstance(batch, tuple):
        return like_tuple(batch, [changed.get(i, value) for i, value in enumerate(batch)])
    return changed[None]

"""What all transforms share: how they are called, compiled, combined by `|` and printed."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import numpy as np

from fluxion.data.transforms import fields as fields_of
from fluxion.data.transforms.checks import scaled
from fluxion.data.transforms.fields import Fields, Size, is_on_device
from fluxion.kernels.convolution import is_explicit
from fluxion.random import Generator

if TYPE_CHECKING:
    from fluxion.data.transforms.combine import Compose

HOST_BLOCK = 4  # images that the host transforms at a time: what it computes on the way stays in the cache


@dataclass(frozen=True, repr=False)
class Transform:
    """Base of the transforms of images and of what belongs to them.

    `t(images, mask, boxes, keypoints, labels, keys=..., rng=...)` transforms a batch `(N, H, W, C)` or one image
    `(H, W, C)`, and returns it, or a tuple with those of the others that were given. Each sample is transformed by the
    numbers that its key gives (`keys`: uint32, `(N, 2)`, or `(2,)` for one image), whatever the batch around it;
    without keys they are drawn from `rng`, or the default generator. NumPy arrays are transformed by NumPy, JAX arrays
    by a program compiled for their shapes; the same keys give the same results, but for rounding.

    images     floats, colours from 0 to 1; or uint8 or uint16, which are computed as such floats and rounded in the end
    mask       integers `(N, H, W)` or `(N, H, W, C)`
    boxes      `(N, M, 4)`: left, top, right, bottom in pixels; pixel (i, j) covers `[j, j + 1) x [i, i + 1)`
    keypoints  `(N, M, 2)`: x, y in pixels
    labels     of any kind; only those that mix images change them

    A transform of your own is a frozen dataclass that defines `apply(fields, keys)`: `fields` is a dict of the arrays
    of a batch by name ("image" as float32, "mask", "boxes", "keypoints", "labels"), and a new one is returned. Written
    with the functions of `namespace(keys)` it runs by NumPy and JAX.

    >>> import dataclasses
    >>> @dataclasses.dataclass(frozen=True, repr=False)
    ... class Halve(fx.data.transforms.Transform):
    ...     def apply(self, fields, keys):
    ...         return {**fields, "image": fields["image"] / 2}
    >>> (Halve() | fx.data.transforms.FlipX())(np.float32([[[1], [0]]])).ravel().tolist()
    [0.0, 0.5]
    """

    __trainable__ = ()

    mixes: ClassVar[bool] = False  # whether a sample's result depends on the other samples, and labels change
    makes_floats: ClassVar[bool] = False  # whether integer images become floats
    is_geometric: ClassVar[bool] = False  # whether it only moves pixels: see Geometric
    colour_settings: ClassVar[tuple[str, ...]] = ()  # the settings that are colours, of which 1 is white

    def apply(self, fields: Fields, keys: Any) -> Fields:
        """The transformed fields of a batch with keys `(N, 2)`."""
        raise NotImplementedError(f"{type(self).__name__} defines no apply(fields, keys)")

    def size_after(self, size: Size) -> Size:
        """Height and width of the images that come of images of this height and width."""
        return size

    def __call__(
        self,
        images: Any,
        mask: Any = None,
        boxes: Any = None,
        keypoints: Any = None,
        labels: Any = None,
        keys: Any = None,
        rng: Generator | None = None,
    ) -> Any:
        given = dict(zip(fields_of.NAMES, (images, mask, boxes, keypoints, labels), strict=True))
        given = {name: value for name, value in given.items() if value is not None}
        single = fields_of.is_single(images, type(self).__name__)
        if single:
            given = {name: fields_of.array(value)[None] for name, value in given.items()}
            keys = None if keys is None else fields_of.array(keys)[None]
        result = self._run(given, keys, rng)
        values = [result[name][0] if single else result[name] for name in given]
        return values[0] if len(values) == 1 else tuple(values)

    def batch(self, batch: Any, keys: Any = None, rng: Generator | None = None) -> Any:
        """The batch of a loader with its images, and what belongs to them, transformed.

        An array is images; of a pair the second field is labels, of other tuples the first field is images, unless
        `on` names the fields; of a dict the fields "image", "mask", "boxes", "keypoints" and "label" count. What else
        there is stays as it is.

        >>> flip = fx.data.transforms.FlipX()
        >>> x, name = flip.batch((np.arange(4.0).reshape(2, 1, 2, 1), ["a", "b"]))
        >>> x.ravel().tolist(), name
        ([1.0, 0.0, 3.0, 2.0], ['a', 'b'])
        """
        named = fields_of.named(batch, getattr(self, "_names", None), type(self).__name__)
        return fields_of.renamed(
            batch, named, self._run({name: value for name, (_, value) in named.items()}, keys, rng)
        )

    def on(self, *names: str | None) -> Any:
        """The same transform for batches that are tuples of these fields: "image", "mask", "boxes", "keypoints",
        "label", or None for one that stays as it is.

        >>> flip = fx.data.transforms.FlipX().on("image", "mask", None)
        >>> image, mask, name = flip.batch((np.zeros((1, 1, 2, 1)), np.array([[[0, 7]]]), ["a"]))
        >>> mask.tolist()
        [[[7, 0]]]
        """
        named = copy.copy(self)
        object.__setattr__(named, "_names", fields_of.checked_names(names))
        return named

    def _run(self, given: dict[str, Any], keys: Any, rng: Generator | None) -> dict[str, Any]:
        used = {name: value for name, value in given.items() if name != "labels" or self.mixes}
        checked = fields_of.checked(used, type(self).__name__)
        if checked["image"].dtype.kind == "u":
            scaled(self)
        keys = fields_of.keys_of(checked["image"], keys, rng)
        if is_on_device(keys) or any(map(is_on_device, checked.values())):
            return given | _compiled(self, checked, keys)
        return given | self._on_host(checked, keys)

    def _on_host(self, fields: Fields, keys: np.ndarray) -> Fields:
        step = len(keys) if self.mixes else HOST_BLOCK
        blocks = [slice(i, i + step) for i in range(0, len(keys), step)] or [slice(0)]
        with np.errstate(invalid="ignore"):  # images may hold NaN and infinity, which stay what they are
            parts = [_transformed(self, {n: v[block] for n, v in fields.items()}, keys[block]) for block in blocks]
        return parts[0] if len(parts) == 1 else {n: np.concatenate([part[n] for part in parts]) for n in parts[0]}

    def __or__(self, other: Any) -> Compose:
        from fluxion.data.transforms.combine import Compose

        return Compose((self, other))

    def __ror__(self, other: Any) -> Compose:
        from fluxion.data.transforms.combine import Compose

        return Compose((other, self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(_arguments(self))})"


def _transformed(transform: Transform, fields: Fields, keys: Any) -> Fields:
    """The fields, with images computed as floats and returned as what they were."""
    image = fields["image"]
    result = transform.apply(fields | {"image": fields_of.as_floats(image)}, keys)
    kind = np.float32 if transform.makes_floats and image.dtype.kind == "u" else image.dtype
    return result | {"image": fields_of.as_type(result["image"], kind)}


@partial(jax.jit, static_argnums=0)
def _compiled(transform: Transform, fields: Fields, keys: Any) -> Fields:
    """The same as one program; XLA splits it where the type of the images says how they are split over a mesh."""
    if not is_explicit(fields["image"]):
        return _transformed(transform, fields, keys)
    split = jax.typeof(fields["image"]).sharding
    batches = jax.sharding.NamedSharding(split.mesh, jax.sharding.PartitionSpec(split.spec[0]))
    return jax.sharding.auto_axes(partial(_transformed, transform), out_sharding=batches)(fields, keys)


def _arguments(transform: Transform) -> list[str]:
    """The arguments as they would be typed: by position up to the first that is left out, then by name."""
    written, by_name = [], False
    for field in sorted(dataclasses.fields(transform), key=lambda field: bool(field.kw_only)):
        value = getattr(transform, field.name)
        if field.default is not dataclasses.MISSING and value == field.default:
            by_name = True
        elif by_name or field.kw_only:
            written.append(f"{field.name}={value!r}")
        else:
            written.append(repr(value))
    return written

"""Convolution and its two gradients as three bilinear primitives of JAX, each the transpose of the others.

    y  = convolution(x, w)        y[i]  = sum over k of  x[i s + k d - l] * w[k]
    dx = input_gradient(dy, w)    dx[j] = sum over all i, k with  i s + k d - l = j  of  dy[i] * w[k]
    dw = weight_gradient(x, dy)   dw[k] = sum over i of  x[i s + k d - l] * dy[i]

(on one axis, with stride `s`, dilation `d` and low pad `l`; channels, groups and the batch are left out). All three
come from one sum, `sum over i, k of x[i s + k d - l] * w[k] * y[i]`: leaving out one of its arrays gives the operation
that computes it. So the derivative of any of them is made of the same three, and so is the derivative of that, in
forward mode, reverse mode and any nesting of them.

On a CPU a generated kernel takes an operation over where `choice` knows one. Everywhere else it is XLA's own operation:
on other devices, in a program that XLA splits over several devices, and in one that is exported for other machines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.interpreters.xla import apply_primitive
from jax.sharding import AxisType

from fluxion.kernels import xla
from fluxion.kernels.availability import usable_machine
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.modes import Mode, current_mode

__all__ = ["Convolution", "Direction", "convolution", "input_gradient", "weight_gradient"]


def convolution(x: Array, w: Array, geometry: Convolution) -> Array:
    """`y`, from `x` and `w` of the shapes that `geometry` says and of one floating or complex type.

    Anything else is a TypeError.

    >>> import jax.numpy as jnp
    >>> geometry = Convolution(1, (4,), 1, (2,), 1, stride=(2,), pads=((0, 0),), dilation=(1,))
    >>> convolution(jnp.arange(4.0).reshape(1, 4, 1), jnp.ones((2, 1, 1)), geometry).ravel().tolist()
    [1.0, 5.0]
    """
    return _bind(Direction.FORWARD, x, w, geometry)


def input_gradient(dy: Array, w: Array, geometry: Convolution) -> Array:
    """`dx`, the transpose of `convolution` in `x`: what `dy` passes back to the input. See `convolution`."""
    return _bind(Direction.INPUT_GRADIENT, dy, w, geometry)


def weight_gradient(x: Array, dy: Array, geometry: Convolution) -> Array:
    """`dw`, the transpose of `convolution` in `w`: what `dy` passes back to the weight. See `convolution`."""
    return _bind(Direction.WEIGHT_GRADIENT, x, dy, geometry)


def _bind(direction: Direction, left: Array, right: Array, geometry: Convolution) -> Array:
    precision = jax.default_matmul_precision.value
    if is_explicit(left) or is_explicit(right):  # JAX knows how types with a sharding go through a convolution
        return xla.convolve(left, right, direction=direction, geometry=geometry, precision=precision)
    primitive = _PRIMITIVES[direction]
    return primitive.bind(*vary_alike(left, right), geometry=geometry, mode=current_mode(), precision=precision)


def is_explicit(array: Array) -> bool:
    """True where the type of `array` says how it is split over a mesh."""
    return AxisType.Explicit in jax.typeof(array).sharding.mesh.axis_types


def vary_alike(*arrays: Array) -> list[Array]:
    """The arrays, each made to vary over every axis of `jax.shard_map` that any of them varies over."""
    varying = [jax.typeof(array).manual_axis_type.varying for array in arrays]
    axes = frozenset().union(*varying)
    return [
        jax.lax.pcast(array, tuple(sorted(axes - own)), to="varying")
        for array, own in zip(arrays, varying, strict=True)
    ]


def _result_type(
    direction: Direction, left: ShapedArray, right: ShapedArray, *, geometry: Convolution, mode: Mode, precision: Any
) -> ShapedArray:
    """The type of the result; operands that do not suit the geometry, or each other, are a TypeError."""
    for name, shape, array in zip(direction.operands, geometry.operand_shapes(direction), (left, right), strict=True):
        if array.shape != shape:
            raise TypeError(f"{direction} of a convolution expects {name} of shape {shape}, got {array.shape}")
    if left.dtype != right.dtype or not jnp.issubdtype(left.dtype, jnp.inexact):
        raise TypeError(
            f"{direction} of a convolution expects two arrays of one floating or complex type, got {left.dtype} and "
            f"{right.dtype}; convert with astype"
        )
    return left.update(shape=geometry.result_shape(direction), weak_type=False)


def _transpose(direction: Direction, position: int) -> Callable[..., Array]:
    """The rule that finds the cotangent of the operand at this position: the operation which computes that array."""
    wanted = Direction.of(direction.operands[position])

    def rule(cotangent: Array, *operands: Any, **parameters: Any) -> Array:
        known = dict(zip(direction.operands, operands, strict=True)) | {direction.result: cotangent}
        return _PRIMITIVES[wanted].bind(*(known[name] for name in wanted.operands), **parameters)

    return rule


@dataclass(frozen=True)
class _Fold:
    """How an axis that `jax.vmap` maps over becomes part of a convolution.

    `grows` are the fields of the geometry that it multiplies; `places` says for each array that has the axis which of
    its own axes takes it in, and whether it goes inside each group of channels there or outside them all.
    """

    grows: tuple[str, ...]
    places: dict[str, tuple[int, bool]]


_FOLDS = {  # by the arrays that have the axis: any two of the three share a dimension, and groups are common to all
    frozenset("xy"): _Fold(("batch",), {"x": (0, False), "y": (0, False)}),
    frozenset("wy"): _Fold(("outputs",), {"w": (-1, True), "y": (-1, True)}),
    frozenset("xw"): _Fold(("inputs",), {"x": (-1, True), "w": (-2, False)}),
    frozenset("xwy"): _Fold(("inputs", "outputs", "groups"), dict.fromkeys("xwy", (-1, False))),
}


def _batch(
    direction: Direction,
    operands: Sequence[Array],
    mapped: Sequence[int | None],
    *,
    geometry: Convolution,
    **parameters: Any,
) -> tuple[Array, int]:
    """The operation over a mapped axis, as one convolution that is larger."""
    axes = {name: axis for name, axis in zip(direction.operands, mapped, strict=True) if axis is not None}
    given = dict(zip(direction.operands, operands, strict=True))
    count = next(given[name].shape[axis] for name, axis in axes.items())
    if count == 0:
        return jnp.zeros((0, *geometry.result_shape(direction)), operands[0].dtype), 0
    fold = _FOLDS[frozenset(axes) | {direction.result}]
    for name, axis in axes.items():
        given[name] = _join(jnp.moveaxis(given[name], axis, 0), *_place(fold, name, geometry))
    larger = replace(geometry, **{field: getattr(geometry, field) * count for field in fold.grows})
    result = _PRIMITIVES[direction].bind(*given.values(), geometry=larger, **parameters)
    return _split(result, count, *_place(fold, direction.result, geometry)), 0


def _place(fold: _Fold, name: str, geometry: Convolution) -> tuple[int, int]:
    """The axis that takes the mapped one in, and how many blocks it has around it."""
    axis, inside = fold.places[name]
    return axis % len(geometry.shape(name)), geometry.groups if inside else 1


def _join(array: Array, axis: int, blocks: int) -> Array:
    """Merges the first axis into every block of one of the others: `(n, ..., b * m)` becomes `(..., b * n * m)`."""
    count, *shape = array.shape
    blocked = array.reshape(count, *shape[:axis], blocks, shape[axis] // blocks, *shape[axis + 1 :])
    return jnp.moveaxis(blocked, 0, axis + 1).reshape(*shape[:axis], count * shape[axis], *shape[axis + 1 :])


def _split(array: Array, count: int, axis: int, blocks: int) -> Array:
    """Undoes `_join`: `(..., b * n * m)` to `(n, ..., b * m)`."""
    shape = array.shape
    size = shape[axis] // count
    blocked = array.reshape(*shape[:axis], blocks, count, size // blocks, *shape[axis + 1 :])
    return jnp.moveaxis(blocked, axis + 1, 0).reshape(count, *shape[:axis], size, *shape[axis + 1 :])


def _lower(
    direction: Direction,
    context: mlir.LoweringRuleContext,
    *operands: Any,
    geometry: Convolution,
    mode: Mode,
    precision: str | None,
) -> Any:
    """The code of the operation: that of a kernel if the choice of kernels names one, else XLA's own operation."""
    plain = partial(xla.convolve, direction=direction, geometry=geometry, precision=precision)
    compute = _chosen_kernel(context, direction, geometry, mode) or plain
    return mlir.lower_fun(compute, multiple_results=False)(context, *operands)


def _chosen_kernel(
    context: mlir.LoweringRuleContext, direction: Direction, geometry: Convolution, mode: Mode
) -> Callable[..., Array] | None:
    """The generated kernel that takes the operation over, or None where XLA's own operation is to be used."""
    types = [*context.avals_in, *context.avals_out]
    if not is_for_this_cpu(context.module_context) or any(0 in array.shape for array in types):
        return None
    machine = usable_machine()
    if machine is None:
        return None
    from fluxion.kernels import choice  # here because it brings LLVM, which programs without convolutions spare

    return choice.convolution(geometry.trimmed(), direction, types[0].dtype, mode, machine)


def is_for_this_cpu(module: mlir.ModuleContext) -> bool:
    """True for a program that runs here, on one CPU device or, under `jax.shard_map`, on each of several by itself.

    XLA cannot split a kernel over devices: it would gather all the operands on each of them.
    """
    if module.lowering_parameters.for_export or tuple(module.platforms) != ("cpu",):
        return False
    axes = module.axis_context
    if isinstance(axes, mlir.SPMDAxisContext):
        return axes.manual_axes | set(axes.mesh.manual_axes) == set(axes.mesh.axis_names)
    return axes.num_devices == 1


def _define(direction: Direction) -> Primitive:
    primitive = Primitive(_NAMES[direction])
    primitive.def_impl(partial(apply_primitive, primitive))
    primitive.def_abstract_eval(partial(_result_type, direction))
    ad.defbilinear(primitive, _transpose(direction, 0), _transpose(direction, 1))
    batching.primitive_batchers[primitive] = partial(_batch, direction)
    mlir.register_lowering(primitive, partial(_lower, direction))
    return primitive


_NAMES = {
    Direction.FORWARD: "convolution",
    Direction.INPUT_GRADIENT: "convolution_input_gradient",
    Direction.WEIGHT_GRADIENT: "convolution_weight_gradient",
}
_PRIMITIVES = {direction: _define(direction) for direction in Direction}

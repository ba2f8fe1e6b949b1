"""Operations of JAX that a generated kernel computes on this machine's CPU, and plain operations of XLA elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.interpreters.xla import apply_primitive

from fluxion.kernels.availability import usable_machine
from fluxion.kernels.convolution import is_explicit, is_for_this_cpu, vary_alike
from fluxion.kernels.machine import Machine
from fluxion.kernels.modes import current_mode

Kernel = Callable[..., Callable[..., Sequence[Array]] | None]


class Operation:
    """A function `(*arrays, **settings) -> tuple of arrays` that is one primitive of JAX.

    `plain(*arrays, **settings)` computes it by operations of JAX; shapes and `vmap` come from it, and derivatives too,
    unless `differentiable` is given: the same function for operands that `plain` takes for constants.
    `kernel(machine, mode, *types, **settings)` returns what computes it here, or None where `plain` is as fast; without
    it `plain` computes it everywhere. For an operation that is linear in some of its first operands,
    `transpose(cotangents, *arrays, **settings)` gets None for those of them that are unknown, and returns what belongs
    to each of the first operands, of which only that of the unknown ones is used; with it reverse mode runs on a kernel
    as well. `folds` has for each operand, and for each result, the axis that a mapped axis of `vmap` can become part
    of; None for an operand that then has to be the same for all. It covers the results that some settings leave out.
    """

    def __init__(
        self,
        name: str,
        plain: Callable[..., Sequence[Array]],
        kernel: Kernel | None = None,
        transpose: Callable[..., Sequence[Any]] | None = None,
        differentiable: Callable[..., Sequence[Array]] | None = None,
        folds: tuple[Sequence[int | None], Sequence[int]] = ((), ()),
    ) -> None:
        self._plain, self._kernel, self._transpose, self._folds = plain, kernel, transpose, folds
        self._differentiable = differentiable or plain
        self._primitive = primitive = Primitive(name)
        primitive.multiple_results = True
        primitive.def_impl(partial(apply_primitive, primitive))
        primitive.def_abstract_eval(self._types)
        ad.primitive_jvps[primitive] = self._tangents
        if transpose is not None:
            ad.primitive_transposes[primitive] = self._cotangents
        batching.primitive_batchers[primitive] = self._batch
        mlir.register_lowering(primitive, self._lower)

    def __call__(self, *arrays: Array, **settings: Any) -> tuple[Array, ...]:
        if any(is_explicit(array) for array in arrays):
            return tuple(self._plain(*arrays, **settings))
        return tuple(self._primitive.bind(*vary_alike(*arrays), mode=current_mode(), **settings))

    def _computed(self, *arrays: Array, mode: Any = None, **settings: Any) -> tuple[Array, ...]:
        return tuple(self._plain(*arrays, **settings))

    def _types(self, *types: Any, **settings: Any) -> list[Any]:
        results = jax.eval_shape(partial(self._computed, **settings), *types)
        return [types[0].update(shape=r.shape, dtype=r.dtype, weak_type=False) for r in results]

    def _tangents(self, arrays: Sequence[Array], tangents: Sequence[Any], *, mode: Any, **settings: Any) -> Any:
        tangents = [ad.instantiate_zeros(tangent) for tangent in tangents]
        function = lambda *arrays: tuple(self._differentiable(*arrays, **settings))
        return jax.jvp(function, tuple(arrays), tuple(tangents))

    def _cotangents(self, cotangents: Sequence[Any], *arrays: Any, mode: Any, **settings: Any) -> list[Any]:
        assert self._transpose is not None
        given = [None if ad.is_undefined_primal(array) else array for array in arrays]
        found = self._transpose([ad.instantiate_zeros(ct) for ct in cotangents], *given, **settings)
        return [found[place] if array is None else None for place, array in enumerate(given)]

    def _batch(self, arrays: Sequence[Array], axes: Sequence[Any], **settings: Any) -> tuple[Any, Any]:
        operands = [(*each, self._fold_at(place)) for place, each in enumerate(zip(arrays, axes, strict=True))]
        count = next(array.shape[axis] for array, axis, _ in operands if axis is not None)
        if count and all(axis is None or place is not None for _, axis, place in operands):
            results = self._primitive.bind(*(_fold(*operand, count) for operand in operands), **settings)
            places = self._folds[1][: len(results)]
            return [_unfold(array, place, count) for array, place in zip(results, places, strict=True)], places
        results = jax.vmap(partial(self._computed, **settings), tuple(axes))(*arrays)
        return results, (0,) * len(results)

    def _fold_at(self, operand: int) -> int | None:
        return self._folds[0][operand] if self._folds[0] else None

    def _lower(self, context: mlir.LoweringRuleContext, *operands: Any, mode: Any, **settings: Any) -> Any:
        kernel, machine = None, self._machine(context, mode)
        if machine is not None and self._kernel is not None:
            kernel = self._kernel(machine, mode, *context.avals_in, **settings)
        compute = kernel or partial(self._computed, **settings)
        return mlir.lower_fun(compute, multiple_results=True)(context, *operands)

    def _machine(self, context: mlir.LoweringRuleContext, mode: Any) -> Machine | None:
        """The machine to generate code for, or None where the plain operation is to run."""
        empty = any(0 in array.shape for array in (*context.avals_in, *context.avals_out))
        if mode.kernels == "xla" or empty or not is_for_this_cpu(context.module_context):
            return None
        return usable_machine()


def _fold(array: Array, axis: int | None, place: int | None, count: int) -> Array:
    """The array for all `count` entries of a mapped axis, which is merged into the axis at `place`."""
    if place is None:
        return array
    apart = jnp.moveaxis(array, axis, place) if axis is not None else jnp.expand_dims(array, place)
    shape = (*apart.shape[:place], count, *apart.shape[place + 1 :])
    merged = (*shape[:place], count * shape[place + 1], *shape[place + 2 :])
    return jnp.broadcast_to(apart, shape).reshape(merged)


def _unfold(array: Array, place: int, count: int) -> Array:
    """The array with the mapped axis by itself again, at `place`."""
    return array.reshape(*array.shape[:place], count, array.shape[place] // count, *array.shape[place + 1 :])

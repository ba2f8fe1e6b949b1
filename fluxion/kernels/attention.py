"""Attention as an operation of JAX whose derivatives are blockwise too: `softmax(scale * q k' + bias) v`.

Three primitives belong together. With weights `p`, and `delta` the sum of `p * dp` over the keys,

    out      = p v                                                     attention
    dout     = (p * (ds - sum of p * ds)) v + p dv,                    tangent, linear in (dq, dk, dv)
               ds = scale (dq k' + q dk')
    dv = p' dout,  dk = scale ds' q,  dq = scale ds k,                 gradient, linear in dout
               ds = p * (dout v' - delta)

The last two are each the transpose of the other, so `jax.linearize`, `jax.vjp` and all nestings of them find what they
need. Besides its operands, the gradient gets what attention gave: `out`, and for each query the largest score and the
sum of the weights, with which it finds the weights again. As these follow from the operands, derivatives of tangent and
gradient with respect to them are left out; derivatives with respect to the operands are those of the plain formula.

On a CPU generated kernels compute attention and gradient. Everywhere else, and for tangents, it is the plain formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.interpreters.xla import apply_primitive

from fluxion.kernels import attention_plain as plain
from fluxion.kernels.availability import usable_machine
from fluxion.kernels.convolution import is_explicit, is_for_this_cpu, vary_alike
from fluxion.kernels.machine import Machine
from fluxion.kernels.modes import current_mode

QUERY_VECTORS = 2  # in a block of queries
LARGEST = float(jnp.finfo(jnp.float32).max)


@dataclass(frozen=True)
class Problem:
    """Attention in numbers: `softmax(scale * q k' + bias) v` for each of `heads` heads, in float32.

    `q` has shape `(batch, queries, heads, size)`, `k` `(batch, keys, key_heads, size)`, `v` `(batch, keys, key_heads,
    outputs)`. Head `h` of the queries meets head `h // group` of the keys. `masked` and `biased` say which further
    operands there are, in this order: booleans and numbers that broadcast to `(batch, heads, queries, keys)`.
    """

    batch: int
    queries: int
    keys: int
    heads: int
    key_heads: int
    size: int
    outputs: int
    scale: float
    causal: bool = False
    masked: bool = False
    biased: bool = False

    @property
    def group(self) -> int:
        """How many heads of the queries share one head of the keys."""
        return self.heads // self.key_heads

    @property
    def q_shape(self) -> tuple[int, ...]:
        return (self.batch, self.queries, self.heads, self.size)

    @property
    def k_shape(self) -> tuple[int, ...]:
        return (self.batch, self.keys, self.key_heads, self.size)

    @property
    def v_shape(self) -> tuple[int, ...]:
        return (self.batch, self.keys, self.key_heads, self.outputs)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.batch, self.queries, self.heads, self.outputs)

    @property
    def sums_shape(self) -> tuple[int, ...]:
        """Shape of the numbers that there is one of for each query."""
        return (self.batch, self.heads, self.queries)

    @property
    def extras(self) -> tuple[str, ...]:
        """Names of the further operands."""
        return ("mask",) * self.masked + ("bias",) * self.biased


def is_taken(q: Array, k: Array, v: Array) -> bool:
    """Whether `attention` takes these operands, leading axes aside, and is faster than the plain formula.

    The kernels compute for blocks of queries, however few there are; the plain formula takes several times as long for
    each, so that blocks had better be filled to a quarter.
    """
    machine = usable_machine() if jax.default_backend() == "cpu" and current_mode().kernels != "xla" else None
    return machine is not None and q.shape[-3] * 4 >= QUERY_VECTORS * machine.lanes() and all(map(_suits, (q, k, v)))


def _suits(array: Array) -> bool:
    known = all(isinstance(size, int) and size > 0 for size in array.shape)  # an exported program may have others
    return known and array.dtype == jnp.float32 and not is_explicit(array)


def attention(
    q: Array, k: Array, v: Array, *, mask: Array | None, bias: Array | None, causal: bool, scale: float
) -> Array:
    """`(batch, queries, heads, outputs)` from operands of the shapes that `Problem` says, for which `is_taken` holds.

    >>> import jax.numpy as jnp
    >>> x = jnp.ones((1, 2, 1, 3))
    >>> attention(x, x, x, mask=None, bias=None, causal=True, scale=1.0).tolist()
    [[[[1.0, 1.0, 1.0]], [[1.0, 1.0, 1.0]]]]
    """
    batch, queries, heads, size = q.shape
    sizes = (batch, queries, k.shape[1], heads, k.shape[2], size, v.shape[3])
    problem = Problem(*sizes, float(scale), causal, mask is not None, bias is not None)
    extras = [extra for extra in (mask, bias) if extra is not None]
    return _attention.bind(*vary_alike(q, k, v, *extras), problem=problem)[0]


# ------------------------------------------------------------------ the plain formulas


def _plain_with_sums(q: Array, k: Array, v: Array, *extras: Array, problem: Problem) -> tuple[Array, ...]:
    """`out`, and the largest score and the sum of weights of each query, as the kernels write them."""
    given = dict(zip(problem.extras, extras, strict=True))
    scores = plain.restricted_scores(q, k, given.get("bias"), given.get("mask"), problem.causal, problem.scale)
    top = plain.largest(scores)
    shares, total = plain.shares_of(scores, top, problem.biased)
    return plain.average(shares, v, total), jnp.clip(top[..., 0], -LARGEST, LARGEST), total[..., 0]


def _plain(problem: Problem, extras: Sequence[Array]) -> Callable[..., Array]:
    """`out` as a function of `q, k, v`."""
    return lambda q, k, v: _plain_with_sums(q, k, v, *extras, problem=problem)[0]


def _plain_tangent(*operands: Array, problem: Problem) -> tuple[Array]:
    known = _known(problem)
    return (jax.jvp(_plain(problem, operands[3 : known - 3]), operands[:3], operands[known:])[1],)


def _plain_gradient(*operands: Array, problem: Problem) -> tuple[Array, ...]:
    known = _known(problem)
    return jax.vjp(_plain(problem, operands[3 : known - 3]), *operands[:3])[1](operands[known])


def _known(problem: Problem) -> int:
    """How many operands of a tangent or gradient come before those in which it is linear: the last three of them are
    what attention gave.
    """
    return 6 + problem.masked + problem.biased


# ------------------------------------------------------------------ rules of differentiation


def _differentiate(primals: Sequence[Any], tangents: Sequence[Any], *, problem: Problem) -> tuple[Any, Any]:
    """The rule of attention; where a bias is differentiated, too, it is that of the plain formula."""
    if problem.biased and _is_there(tangents[-1]):
        outs, (dout, *_) = _push(partial(_plain_with_sums, problem=problem), primals, tangents)
    else:
        outs = _attention.bind(*primals, problem=problem)
        (dout,) = _tangent.bind(*primals, *outs, *map(_instantiated, tangents[:3]), problem=problem)
    return outs, [dout, *map(_zero, outs[1:])]


def _differentiate_linear(
    linear: Callable[..., Any],
    formula: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    problem: Problem,
) -> tuple[Any, Any]:
    """The rule of tangent and gradient: themselves in what they are linear in, their formula's rule in the rest."""
    known = _known(problem)
    outs = linear(*primals, problem=problem)
    changes = list(map(_zero, outs))
    if any(map(_is_there, tangents[known:])):
        changes = linear(*primals[:known], *map(_instantiated, tangents[known:]), problem=problem)
    operands = tangents[: known - 3]
    if any(map(_is_there, operands)):
        more = _push(partial(formula, problem=problem), primals, operands)[1]
        changes = [ad.add_tangents(a, b) for a, b in zip(changes, more, strict=True)]
    return outs, changes


def _push(formula: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """What a formula gives, and its change along those tangents of its first operands that are there."""
    places = [place for place, tangent in enumerate(tangents) if _is_there(tangent)]

    def moved(*values: Any) -> Any:
        replaced = dict(zip(places, values, strict=True))
        return formula(*(replaced.get(place, primal) for place, primal in enumerate(primals)))

    return jax.jvp(moved, tuple(primals[place] for place in places), tuple(tangents[place] for place in places))


def _transpose_tangent(cotangents: Sequence[Any], *operands: Any, problem: Problem) -> list[Any]:
    known = _known(problem)
    gradients = _gradient.bind(*operands[:known], *map(_instantiated, cotangents), problem=problem)
    wanted = map(ad.is_undefined_primal, operands[known:])
    return [None] * known + [gradient if want else None for gradient, want in zip(gradients, wanted, strict=True)]


def _transpose_gradient(cotangents: Sequence[Any], *operands: Any, problem: Problem) -> list[Any]:
    known = _known(problem)
    return [None] * known + _tangent.bind(*operands[:known], *map(_instantiated, cotangents), problem=problem)


def _is_there(tangent: Any) -> bool:
    return type(tangent) is not ad.Zero and tangent.dtype != jax.dtypes.float0


def _zero(primal: Any) -> ad.Zero:
    return ad.Zero(jax.typeof(primal).to_tangent_aval())


def _instantiated(tangent: Any) -> Any:
    """A tangent as an array, where it is zero, too."""
    return ad.instantiate_zeros(tangent)


# ------------------------------------------------------------------ types, mapped axes, code


def _attention_type(q: Any, k: Any, v: Any, *extras: Any, problem: Problem) -> list[Any]:
    return [q.update(shape=shape) for shape in (problem.out_shape, problem.sums_shape, problem.sums_shape)]


def _tangent_type(q: Any, *operands: Any, problem: Problem) -> list[Any]:
    return [q.update(shape=problem.out_shape)]


def _gradient_type(q: Any, *operands: Any, problem: Problem) -> list[Any]:
    return [q.update(shape=shape) for shape in (problem.q_shape, problem.k_shape, problem.v_shape)]


def _batch(
    primitive: Primitive, operands: Sequence[Array], axes: Sequence[int | None], *, problem: Problem
) -> tuple[list[Array], list[int]]:
    """A mapped axis becomes part of the batch."""
    count = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    folded = [_fold(x, axis, count, problem.batch) for x, axis in zip(operands, axes, strict=True)]
    results = primitive.bind(*folded, problem=replace(problem, batch=count * problem.batch))
    return [x.reshape(count, problem.batch, *x.shape[1:]) for x in results], [0] * len(results)


def _fold(x: Array, axis: int | None, count: int, batch: int) -> Array:
    """An operand for all entries of a mapped axis; what is the same for all of them and the batch stays as it is."""
    if axis is None and x.shape[0] == 1 != batch:
        return x
    mapped = x[None] if axis is None else jnp.moveaxis(x, axis, 0)
    return jnp.broadcast_to(mapped, (count, batch, *mapped.shape[2:])).reshape(count * batch, *mapped.shape[2:])


def _lower(
    kernel: Callable[..., Any] | None, formula: Callable[..., Any], context: Any, *operands: Any, problem: Problem
) -> Any:
    """The code of an operation: that of its kernel where there is one and it can be used, else the plain formula."""
    sizes = [size for array in (*context.avals_in, *context.avals_out) for size in array.shape]
    machine = usable_machine() if kernel and all(sizes) and is_for_this_cpu(context.module_context) else None
    compute = partial(kernel, machine=machine) if kernel and machine else formula
    return mlir.lower_fun(partial(compute, problem=problem), multiple_results=True)(context, *operands)


def _forward_kernel(*operands: Array, problem: Problem, machine: Machine) -> Sequence[Array]:
    from fluxion.kernels.attention_forward import forward  # here because it brings LLVM

    return forward(*operands, problem=problem, machine=machine)


def _backward_kernel(*operands: Array, problem: Problem, machine: Machine) -> Sequence[Array]:
    from fluxion.kernels.attention_backward import backward

    return backward(*operands, problem=problem, machine=machine)


def _define(
    name: str, formula: Callable[..., Any], types: Callable[..., Any], kernel: Callable[..., Any] | None
) -> Primitive:
    primitive = Primitive(name)
    primitive.multiple_results = True
    primitive.def_impl(partial(apply_primitive, primitive))
    primitive.def_abstract_eval(types)
    batching.primitive_batchers[primitive] = partial(_batch, primitive)
    mlir.register_lowering(primitive, partial(_lower, kernel, formula))
    return primitive


_attention = _define("attention", _plain_with_sums, _attention_type, _forward_kernel)
_tangent = _define("attention_tangent", _plain_tangent, _tangent_type, None)
_gradient = _define("attention_gradient", _plain_gradient, _gradient_type, _backward_kernel)
ad.primitive_jvps[_attention] = _differentiate
ad.primitive_jvps[_tangent] = partial(_differentiate_linear, _tangent.bind, _plain_tangent)
ad.primitive_jvps[_gradient] = partial(_differentiate_linear, _gradient.bind, _plain_gradient)
ad.primitive_transposes[_tangent] = _transpose_tangent
ad.primitive_transposes[_gradient] = _transpose_gradient

"""Products of two matrices that run on a generated kernel where XLA's own is slower, in every mode of differentiation.

Of the three forms of a product each is made of the same sum, `a[m, k] b[k, n] c[m, n]`, so that the derivative of any
of them, and of that, are products of the three forms again:

    form                      da        db
    nn   c = a b              c b^T     a^T c
    nt   c = a b^T            c b       c^T a
    tn   c = a^T b            b c^T     a c
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from fluxion.kernels.candidate import Candidate, expected_seconds
from fluxion.kernels.machine import Machine
from fluxion.kernels.modes import Mode
from fluxion.kernels.operation import Operation

_LEFT = {"nn": ("nt", "cb"), "nt": ("nn", "cb"), "tn": ("nt", "bc")}
_RIGHT = {"nn": ("tn", "ac"), "nt": ("tn", "ca"), "tn": ("nn", "ac")}
SMALL = 4 << 20  # multiplications up to which both take the same time, and compiling a kernel would be in vain
XLA_START, XLA_EFFICIENCY = 30e-6, 0.65  # seconds before a product of XLA is under way, and its share of the peak


def multiply(a: Array, b: Array) -> Array:
    """The product of two matrices `(m, k)` and `(k, n)` of float32."""
    return _multiply("nn", a, b)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _multiply(form: str, a: Array, b: Array) -> Array:
    (c,) = _product(a, b, form=form)
    return c


def _tangent(form: str, primals: Any, tangents: Any) -> tuple[Array, Array]:
    (a, b), (da, db) = primals, tangents
    c = _multiply(form, a, b)
    pairs = [pair for pair in ((da, b), (a, db)) if not any(type(factor) is SymbolicZero for factor in pair)]
    parts = [_multiply(form, *pair) for pair in pairs]
    return c, sum(parts[1:], parts[0]) if parts else jnp.zeros_like(c)


_multiply.defjvp(_tangent, symbolic_zeros=True)


def _plain(a: Array, b: Array, *, form: str) -> tuple[Array]:
    """XLA's own product, which reads a transposed factor as it lies in memory."""
    left, right = 0 if form == "tn" else 1, 1 if form == "nt" else 0
    return (jax.lax.dot_general(a, b, (((left,), (right,)), ((), ()))),)


def _transpose(cotangents: Sequence[Array], a: Array | None, b: Array | None, *, form: str) -> list[Any]:
    known = {"a": a, "b": b, "c": cotangents[0]}
    found, order = _LEFT[form] if a is None else _RIGHT[form]
    cotangent = _multiply(found, *(known[name] for name in order))
    return [cotangent, None] if a is None else [None, cotangent]


def _kernel(machine: Machine, mode: Mode, a: Any, b: Any, *, form: str) -> Callable[..., Any] | None:
    """What the choice of kernels takes for the faster one: the generated kernel, or None."""
    if a.dtype != jnp.float32 or a.ndim != 2:
        return None
    from fluxion.kernels import choice, product  # here because they bring LLVM, and all that writes code
    from fluxion.kernels.product_plan import Form, Product

    rows, depth = a.shape[::-1] if form == "tn" else a.shape
    problem = Product(Form(form), rows, depth, b.shape[0] if form == "nt" else b.shape[1])
    if problem.flops < 2 * SMALL:
        return None
    ours = product.candidate(problem, (rows, problem.columns), "float32", machine)
    seconds = XLA_START + expected_seconds(machine, problem.flops, XLA_EFFICIENCY, problem.bytes(4), machine.workers)
    theirs = Candidate("xla", lambda a, b: _plain(a, b, form=form)[0], seconds)
    chosen = choice.choose(f"product float32: {problem}", [ours, theirs], (a, b), machine, mode)
    return (lambda a, b: (ours.run(a, b),)) if chosen is ours else None


_product = Operation("matrix_product", _plain, _kernel, _transpose)

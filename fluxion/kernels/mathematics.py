"""Exponential functions of float32 vectors, for kernels.

All come from one expansion. With `n` the integer nearest to `x / log 2`, and `r` what is left:

    x = n log 2 + r,   |r| <= log(2) / 2                  e^x = 2^n e^r = 2^n (1 + r P(r))

       -0.35     0     0.35
    -----|-------+-------|-----  r          P interpolates (e^r - 1) / r at the Chebyshev points of this interval

`2^n` costs nothing: `n` is put where a float32 has its exponent. The results are within 2 units of the last place (exp)
and 4 (tanh, sigmoid); NaN stays NaN. What is smaller than the smallest normal number may become 0.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from fluxion.kernels.builder import Function
from fluxion.kernels.values import Number

_DEGREE = 5
_MANTISSA, _BIAS = 23, 127  # bits behind the point of a float32, and what it adds to its exponent
_ROUNDING = 1.5 * 2**_MANTISSA  # numbers of this size have no bits behind the point: to add it is to round
_ROUNDING_BITS = int(np.float32(_ROUNDING).view(np.int32))
_LOG2_HIGH = float(np.float32(math.log(2)))
_LOG2_LOW = math.log(2) - _LOG2_HIGH


def exp(f: Function, x: Number) -> Number:
    """`e^x`: 0 at -inf, inf at inf and wherever it is too large for a float32."""
    x = f.maximum(-104.0, f.minimum(89.0, x))  # in this order NaN passes
    power, change = _expand(f, x)
    # 2^n may be too large or too small for a float32 where the result is not: it is multiplied in two halves.
    shifted = power + 2 * (_BIAS + 1)
    half = shifted >> 1
    return (change + 1.0) * _exponent(f, half - 1) * _exponent(f, shifted - half - 1)


def tanh(f: Function, x: Number) -> Number:
    """`-t / (t + 2)` with the sign of `x`, where `t = e^(-2 |x|) - 1`: exact to the last places near 0 too."""
    power, change = _expand(f, f.maximum(-30.0, f.absolute(x) * -2.0))
    scale = _exponent(f, power + _BIAS)
    t = f.fma(scale, change, scale - 1.0)
    return f.copysign(t / (t + 2.0), x)


def sigmoid(f: Function, x: Number) -> Number:
    """`1 / (1 + e^-x)`."""
    return 1.0 / (exp(f, -x) + 1.0)


def _expand(f: Function, x: Number) -> tuple[Number, Number]:
    """`n`, as int32, and `e^r - 1`."""
    rounded = f.fma(x, x.like(1 / math.log(2)), x.like(_ROUNDING))
    n = rounded - _ROUNDING
    r = f.fma(n, x.like(-_LOG2_HIGH), x)
    r = f.fma(n, x.like(-_LOG2_LOW), r)
    *rest, total = (x.like(coefficient) for coefficient in _coefficients())
    for coefficient in reversed(rest):
        total = f.fma(total, r, coefficient)
    return f.bits(rounded, "int32") - _ROUNDING_BITS, total * r


def _exponent(f: Function, biased: Number) -> Number:
    """The power of two whose float32 has this number where the exponent is."""
    return f.bits(biased << _MANTISSA, "float32")


@cache
def _coefficients() -> list[float]:
    """P's coefficients, from the constant one on."""
    chebyshev = np.polynomial.Chebyshev.interpolate(
        lambda r: np.expm1(r) / r, _DEGREE, domain=(-math.log(2) / 2, math.log(2) / 2)
    )
    return [float(number) for number in chebyshev.convert(kind=np.polynomial.Polynomial).coef]

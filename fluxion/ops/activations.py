"""Activation functions, on arrays of any shape.

Float types stay, integers become floats, NaN stays NaN. Where `x` is infinite they give their limit. Where a derivative
jumps it is the one from the left at 0 (`relu` has 0 there), and 0 at the ends of what is clamped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fluxion.mode import is_training
from fluxion.ops.arrays import as_float, is_concrete
from fluxion.random import Generator, generator


def identity(x: Any) -> Any:
    """Returns `x` itself, whatever it is.

    >>> import fluxion as fx
    >>> fx.identity("anything")
    'anything'
    """
    return x


def relu(x: Any) -> Array:
    """Rectified linear unit: `max(x, 0)`. Its derivative at 0 is 0.

    >>> import fluxion as fx
    >>> fx.relu([-1.0, 2.0]).tolist()
    [0.0, 2.0]
    """
    return jax.nn.relu(as_float(x))


def relu6(x: Any) -> Array:
    """`min(max(x, 0), 6)` (Krizhevsky 2010).

    >>> import fluxion as fx
    >>> fx.relu6([-1.0, 2.0, 7.0]).tolist()
    [0.0, 2.0, 6.0]
    """
    return _clamp(as_float(x), 0, 6)


def leakyrelu(x: Any, slope: Any = 0.01) -> Array:
    """`x` where `x > 0`, `slope * x` elsewhere (Maas et al. 2013).

    >>> import fluxion as fx
    >>> fx.leakyrelu([-1.0, 2.0], 0.5).tolist()
    [-0.5, 2.0]
    """
    x = as_float(x)
    return jnp.where(x > 0, x, slope * x).astype(x.dtype)


def rrelu(
    x: Any, low: Any = 1 / 8, high: Any = 1 / 3, *, active: bool | None = None, rng: Generator | None = None
) -> Array:
    """`leakyrelu` with a slope drawn for each entry, uniformly from `low` to `high` (Xu et al. 2015).

    While testing the slope is the mean, `(low + high) / 2`, as in PyTorch; Flux draws always. `active` fixes the mode:
    True draws, False does not, None draws inside a gradient.

    >>> import fluxion as fx
    >>> fx.rrelu([-1.0, 2.0], 0.25, 0.75).tolist()
    [-0.5, 2.0]
    """
    x = as_float(x)
    if is_concrete(low, high) and np.any(np.greater(low, high)):
        raise ValueError(f"rrelu takes a low that is at most high, got low={low!r} and high={high!r}")
    if not is_training(active):
        return leakyrelu(x, (low + high) / 2)
    return leakyrelu(x, generator(rng).uniform(x.shape, low, high).astype(x.dtype))


def trelu(x: Any, theta: Any = 1.0) -> Array:
    """Thresholded: `x` where `x > theta`, 0 elsewhere (Konda et al. 2014). Also called `thresholdrelu`.

    >>> import fluxion as fx
    >>> fx.trelu([0.5, 2.0]).tolist()
    [0.0, 2.0]
    """
    x = as_float(x)
    return jnp.where(x <= theta, jnp.zeros_like(x), x)


def elu(x: Any, alpha: Any = 1.0) -> Array:
    """Exponential linear unit: `x` where `x > 0`, `alpha * (exp(x) - 1)` elsewhere (Clevert et al. 2015).

    >>> import fluxion as fx
    >>> fx.elu([-1000.0, 2.0], 0.5).tolist()
    [-0.5, 2.0]
    """
    x = as_float(x)
    return jax.nn.elu(x, alpha).astype(x.dtype)


def celu(x: Any, alpha: Any = 1.0) -> Array:
    """`x` where `x > 0`, `alpha * (exp(x / alpha) - 1)` elsewhere: a smooth `elu` for every `alpha` (Barron 2017).

    >>> import fluxion as fx
    >>> fx.celu([-1000.0, 2.0], 0.5).tolist()
    [-0.5, 2.0]
    """
    x = as_float(x)
    return jnp.where(x > 0, x, alpha * jnp.expm1(jnp.where(x > 0, 0, x) / alpha)).astype(x.dtype)


def selu(x: Any) -> Array:
    """`1.0507 * elu(x, 1.67326)`, which keeps mean 0 and variance 1 (Klambauer et al. 2017).

    >>> import fluxion as fx
    >>> round(float(fx.selu(1.0)), 4)
    1.0507
    """
    return jax.nn.selu(as_float(x))


def sigmoid(x: Any) -> Array:
    """Logistic function: `1 / (1 + exp(-x))`. Takes complex numbers too.

    >>> import fluxion as fx
    >>> float(fx.sigmoid(0))
    0.5
    """
    return jax.nn.sigmoid(as_float(x))


def hardsigmoid(x: Any) -> Array:
    """`min(max(x / 6 + 1 / 2, 0), 1)`: straight lines near `sigmoid` (Courbariaux et al. 2015).

    >>> import fluxion as fx
    >>> fx.hardsigmoid([-3.0, 0.0, 4.0]).tolist()
    [0.0, 0.5, 1.0]
    """
    return _clamp(as_float(x) / 6 + 0.5, 0, 1)


def logsigmoid(x: Any) -> Array:
    """`log(sigmoid(x))`, computed without taking the logarithm of a tiny number.

    >>> import fluxion as fx
    >>> fx.logsigmoid([-1000.0, 1000.0]).tolist()
    [-1000.0, -0.0]
    """
    return -softplus(-as_float(x))


def tanh(x: Any) -> Array:
    """Hyperbolic tangent. Takes complex numbers too.

    >>> import fluxion as fx
    >>> float(fx.tanh(0))
    0.0
    """
    return jnp.tanh(as_float(x))


def hardtanh(x: Any) -> Array:
    """`min(max(x, -1), 1)` (Collobert 2004).

    >>> import fluxion as fx
    >>> fx.hardtanh([-2.0, 0.5, 2.0]).tolist()
    [-1.0, 0.5, 1.0]
    """
    return _clamp(as_float(x), -1, 1)


def tanhshrink(x: Any) -> Array:
    """`x - tanh(x)`.

    >>> import fluxion as fx
    >>> round(float(fx.tanhshrink(1.0)), 4)
    0.2384
    """
    x = as_float(x)
    return x - jnp.tanh(x)


def softshrink(x: Any, threshold: Any = 0.5) -> Array:
    """`x` moved towards 0 by `threshold`, and 0 where it would change sign.

    >>> import fluxion as fx
    >>> fx.softshrink([-2.0, 0.25, 2.0]).tolist()
    [-1.5, 0.0, 1.5]
    """
    x = as_float(x)
    if is_concrete(threshold) and np.any(np.less(threshold, 0)):
        raise ValueError(f"softshrink takes a threshold of at least 0, got {threshold!r}")
    return jnp.where(jnp.abs(x) <= threshold, jnp.zeros_like(x), x - jnp.sign(x) * threshold).astype(x.dtype)


def softsign(x: Any) -> Array:
    """`x / (1 + abs(x))`.

    >>> import fluxion as fx
    >>> fx.softsign([-1.0, 3.0]).tolist()
    [-0.5, 0.75]
    """
    return _with_limits(lambda x: x / (1 + jnp.abs(x)), as_float(x), jnp.sign)


def softplus(x: Any) -> Array:
    """`log(1 + exp(x))`, computed so that no large `x` overflows. Takes complex numbers too.

    >>> import fluxion as fx
    >>> round(float(fx.softplus(0)), 4)
    0.6931
    """
    return jax.nn.softplus(as_float(x))


def logcosh(x: Any) -> Array:
    """`log(cosh(x))`, computed so that no large `x` overflows: `x^2 / 2` near 0, `abs(x) - log(2)` far out.

    >>> import fluxion as fx
    >>> round(float(fx.logcosh(1000.0)), 2)
    999.31
    """
    x = as_float(x)
    size = jnp.where(x < 0, -x, x)  # unlike abs it leaves the second derivative at 0 as it is
    return size + softplus(-2 * size) - math.log(2)


def gelu(x: Any) -> Array:
    """Gaussian error linear unit in its tanh form: `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.

    Hendrycks and Gimpel 2016; the form that Flux means by `gelu`. PyTorch's default is the form with erf, `gelu_erf`,
    which differs by up to 0.0005. Also called `gelu_tanh`, and `gelu_sigmoid` after the equal form
    `x * sigmoid(sqrt(8 / pi) * (x + 0.044715 x^3))`.

    >>> import fluxion as fx
    >>> round(float(fx.gelu(1.0)), 4)
    0.8412
    """
    return _with_limits(jax.nn.gelu, as_float(x), jax.nn.relu, beyond=10)


def gelu_erf(x: Any) -> Array:
    """Gaussian error linear unit: `x / 2 * (1 + erf(x / sqrt(2)))`, which is `x` times the normal distribution at `x`.

    Hendrycks and Gimpel 2016; PyTorch's default. `gelu` is the approximation by tanh.

    >>> import fluxion as fx
    >>> round(float(fx.gelu_erf(1.0)), 4)
    0.8413
    """
    return _with_limits(lambda x: jax.nn.gelu(x, approximate=False), as_float(x), jax.nn.relu)


def swish(x: Any) -> Array:
    """`x * sigmoid(x)` (Ramachandran et al. 2017). Also called `silu`.

    >>> import fluxion as fx
    >>> round(float(fx.swish(1.0)), 4)
    0.7311
    """
    return _with_limits(jax.nn.silu, as_float(x), jax.nn.relu)


def hardswish(x: Any) -> Array:
    """`x * hardsigmoid(x)`: straight lines and a parabola near `swish` (Howard et al. 2019).

    >>> import fluxion as fx
    >>> fx.hardswish([-3.0, 0.0, 4.0]).tolist()
    [0.0, 0.0, 4.0]
    """
    return _with_limits(lambda x: x * (x / 6 + 0.5), as_float(x), jax.nn.relu, beyond=3)


def mish(x: Any) -> Array:
    """`x * tanh(softplus(x))` (Misra 2019).

    >>> import fluxion as fx
    >>> round(float(fx.mish(1.0)), 4)
    0.8651
    """
    return _with_limits(jax.nn.mish, as_float(x), jax.nn.relu, beyond=1000)


def lisht(x: Any) -> Array:
    """`x * tanh(x)` (Roy et al. 2019).

    >>> import fluxion as fx
    >>> round(float(fx.lisht(-1.0)), 4)
    0.7616
    """
    return _with_limits(lambda x: x * jnp.tanh(x), as_float(x), jnp.abs, beyond=100)


def _clamp(x: Array, low: float, high: float) -> Array:
    """`min(max(x, low), high)`, with derivative 0 at both ends."""
    return jnp.where(x <= low, low, jnp.where(x >= high, high, x)).astype(x.dtype)


def _with_limits(
    function: Callable[[Array], Array], x: Array, limit: Callable[[Array], Array], beyond: float = math.inf
) -> Array:
    """`function(x)` where `abs(x) < beyond`; elsewhere `limit(x)`, which is no different there.

    So there is no `inf * 0`, neither from infinite `x` nor where a derivative of `function` overflows in float16.
    """
    within = jnp.abs(x) < beyond
    return jnp.where(within, function(jnp.where(within, x, 0)), limit(x))


thresholdrelu = trelu
silu = swish
gelu_tanh = gelu_sigmoid = gelu

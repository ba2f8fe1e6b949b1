"""Runs kernels of every family with forbidden pages around all their buffers, and compares what they compute.

A read or write outside of a buffer ends this process; what was not written is NaN.
"""

from dataclasses import replace

import guarded
import jax.numpy as jnp
import numpy as np

from fluxion.kernels import xla
from fluxion.kernels.batchnorm import backward_call, forward_call
from fluxion.kernels.choice import families
from fluxion.kernels.columns import column_sums_call
from fluxion.kernels.epilogue import Epilogue
from fluxion.kernels.generated import GeneratedKernel
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.machine import AVX2, host
from fluxion.kernels.modes import Mode

RNG = np.random.default_rng(0)


def call_guarded(self, operands, results, machine, parameters):
    return guarded.run(self, [np.asarray(o) for o in operands], results, replace(machine, workers=1), **parameters)


def geometry(batch, sizes, inputs, kernel, outputs, stride=1, pad=0, dilation=1, groups=1):
    axes = len(sizes)
    each = lambda value: value if isinstance(value, tuple) else (value,) * axes
    pads = tuple(pair if isinstance(pair, tuple) else (pair, pair) for pair in each(pad))
    made = Convolution(batch, sizes, inputs, each(kernel), outputs, each(stride), pads, each(dilation), groups)
    return made.trimmed()


GEOMETRIES = [
    geometry(2, (9, 7), 3, 3, 5, pad=1),
    geometry(1, (8, 8), 17, 3, 33, pad=1),
    geometry(3, (5, 6), 16, 3, 16, pad=((2, 1), (0, 1))),
    geometry(2, (7, 7), 20, 1, 37),
    geometry(2, (7, 5), 19, 1, 21, stride=2),
    geometry(2, (11, 9), 5, (5, 3), 18, stride=(2, 3), pad=2, dilation=(1, 2)),
    geometry(13, (2, 2), 18, 3, 35, pad=1),
    geometry(2, (8, 9), 12, 3, 24, pad=1, groups=12),
    geometry(2, (8, 9), 17, 3, 17, stride=2, pad=1, groups=17),
    geometry(2, (6, 6), 12, 3, 8, pad=1, groups=4),
    geometry(2, (13,), 7, 4, 9, stride=3, pad=2),
    geometry(1, (4, 5, 3), 6, 2, 10, pad=1),
]


def check_convolutions(machine, dtype, shapes):
    tolerance = {"float32": 2e-5, "float64": 1e-12, "bfloat16": 2e-2}[dtype]
    for shape in shapes:
        for direction in Direction:
            arrays = [jnp.asarray(RNG.normal(size=s), dtype) for s in shape.operand_shapes(direction)]
            exact = xla.convolve(*(a.astype("float32") for a in arrays), direction=direction, geometry=shape)
            bias = jnp.asarray(RNG.normal(size=shape.outputs), dtype)
            for candidate in (c for f in families(Mode()) for c in f.candidates(shape, direction, dtype, machine)):
                made = [(candidate.run(*arrays), exact)]
                if direction is Direction.FORWARD:
                    finished = candidate.run(*arrays, bias, epilogue=Epilogue(bias=True, activation="relu"))
                    made.append((finished, jnp.maximum(exact + bias.astype("float32"), 0)))
                else:
                    mask = jnp.asarray(RNG.normal(size=shape.y_shape), dtype)
                    gradient = direction.operands.index("y")
                    masked = [jnp.where(mask > 0, a, 0) if i == gradient else a for i, a in enumerate(arrays)]
                    wanted = xla.convolve(*(a.astype("float32") for a in masked), direction=direction, geometry=shape)
                    made.append((candidate.run(*arrays, mask=mask), wanted))
                for result, wanted in made:
                    error = np.abs(np.asarray(result, "float64") - np.asarray(wanted, "float64")).max()
                    assert error <= tolerance * max(float(jnp.abs(wanted).max()), 1), (
                        shape,
                        direction,
                        candidate.name,
                        error,
                    )


def check_batchnorm(machine):
    x, dy = (jnp.asarray(a, "float32") for a in RNG.normal(size=(2, 70, 19)))
    scale, bias = jnp.ones(19), jnp.zeros(19)
    y, mean, var = forward_call(machine, x, eps=1e-5, activation="relu")(x, scale, bias)
    assert np.abs(np.asarray(y) - np.maximum((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), 0)).max() < 1e-5
    made = backward_call(machine, x, eps=1e-5, activation="relu")(dy, x, scale, bias, mean, var)
    made += forward_call(machine, x, eps=1e-5, activation="relu")(x, scale, bias, dy)
    assert all(np.isfinite(a).all() for a in made)
    (sums,) = column_sums_call(machine, x, dy)(x, dy)
    np.testing.assert_allclose(sums, jnp.where(dy > 0, x, 0).sum(0), rtol=1e-4, atol=1e-4)


def main():
    GeneratedKernel._call = call_guarded
    narrow = replace(AVX2, workers=1)
    for machine, dtype, step in ((host(), "float32", 1), (narrow, "float32", 2), (host(), "bfloat16", 3)):
        check_convolutions(machine, dtype, GEOMETRIES[::step])
        check_batchnorm(machine)
    print("all kernels stayed within their buffers")


if __name__ == "__main__":
    main()

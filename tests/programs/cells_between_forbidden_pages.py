"""Runs direct convolutions whose vectors hold several images, with forbidden pages around all their buffers.

A read or write outside of a buffer ends this process; what was not written is NaN.
"""

from dataclasses import replace

import guarded
import jax
import numpy as np

from fluxion.kernels import xla
from fluxion.kernels.direct import direct, planner_of
from fluxion.kernels.epilogue import Epilogue
from fluxion.kernels.geometry import Convolution, Direction
from fluxion.kernels.machine import AVX2, host

RNG = np.random.default_rng(0)
GEOMETRIES = [
    Convolution(5, (7, 6), 1, (5, 5), 8, (2, 2), ((2, 2), (2, 2)), (1, 1)),
    Convolution(19, (4, 5), 8, (3, 3), 3, (2, 2), ((1, 1), (1, 1)), (1, 1)),
    Convolution(33, (3,), 5, (3,), 1, (1,), ((1, 1),), (1,)),
    Convolution(17, (5,), 6, (2,), 4, (1,), ((0, 1),), (2,), 2),
]


def check(geometry, direction, machine, plan, dtype):
    shapes = geometry.operand_shapes(direction)
    a, w, mask = (RNG.normal(size=shape).astype(dtype) for shape in (*shapes, shapes[0]))
    extras = [RNG.normal(size=geometry.outputs).astype(dtype)] if direction is Direction.FORWARD else []
    result = jax.ShapeDtypeStruct(geometry.result_shape(direction), dtype)
    options = {"geometry": geometry, "direction": direction, "epilogue": Epilogue(bias=bool(extras)), "plan": plan}
    (got,) = guarded.run(direct, [a, w, mask, *extras], [result], machine, masked=True, **options)
    a, w, *extras = (array.astype("float32") for array in (np.where(mask > 0, a, 0), w, *extras))
    wanted = xla.convolve(a, w, direction=direction, geometry=geometry) + sum(extras)
    tolerance = 1e-4 if dtype == "float32" else 1e-2
    np.testing.assert_allclose(got.astype("float32"), wanted, tolerance, tolerance, err_msg=str(plan))


def check_all(machine, dtype):
    for geometry in GEOMETRIES:
        for direction in (Direction.FORWARD, Direction.INPUT_GRADIENT):
            planner = planner_of(geometry, direction, dtype, machine, masked=True)
            plans = [plan for plan in planner.tiles() if plan.cell > 1]
            first, last = ({plan.cell: plan for plan in order}.values() for order in (plans[::-1], plans))
            for plan in {*first, *last}:
                check(geometry, direction, machine, planner.cut(plan, 2), dtype)


def main():
    check_all(replace(host(), workers=1), "float32")
    check_all(replace(host(), workers=1), "bfloat16")
    if host().name != "neon":
        check_all(replace(AVX2, workers=1), "float32")
    print("all kernels stayed within their buffers")


if __name__ == "__main__":
    main()

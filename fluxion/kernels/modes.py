"""Which kernels a program may use: a setting that is part of every compiled program."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax

KERNELS = ("auto", "direct", "xla")


@dataclass(frozen=True)
class Mode:
    """What the choice of a kernel obeys.

    `kernels` is "auto" for the fastest, "xla" for XLA's own operations, "direct" for the direct kernels. `precise`
    keeps to kernels whose error is no larger than that of a direct sum. `deterministic` decides by the cost model
    alone, without timing.
    """

    kernels: str = "auto"
    precise: bool = False
    deterministic: bool = False


_mode = jax.make_user_context(Mode())  # part of what every program of JAX depends on, those of `jax.jit` too


def current_mode() -> Mode:
    """The mode in force where it is called.

    >>> current_mode()
    Mode(kernels='auto', precise=False, deterministic=False)
    """
    return _mode.value


class use:
    """Says which kernels programs use on a CPU, for the whole process; after `with`, what was before holds again.

    `kernels` is "auto" (the fastest, the default), "direct" (direct sums only), or "xla" (XLA's own operations only, as
    with the environment variable FLUXION_KERNELS=0). `precise=True` keeps to kernels whose rounding error is no larger
    than that of a direct sum, which leaves out Winograd's 4 x 4 tiles. `deterministic=True` decides by the cost model
    alone: without it, kernels that are expected to be about as fast as each other are timed when they first meet a
    shape, and the winner is kept on disk. None leaves a setting as it is. Switching compiles anew.
    Blocks of several threads share the setting: let them not overlap.

    ValueError for other values.

    >>> import fluxion as fx
    >>> import jax.numpy as jnp
    >>> x, w = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 4))
    >>> with fx.kernels.use("xla"):
    ...     fx.conv(x, w).shape
    (1, 6, 6, 4)
    """

    def __init__(
        self, kernels: str | None = None, *, precise: bool | None = None, deterministic: bool | None = None
    ) -> None:
        if kernels not in (None, *KERNELS):
            raise ValueError(f"fx.kernels.use takes one of {KERNELS}, got {kernels!r}")
        for name, wanted in (("precise", precise), ("deterministic", deterministic)):
            if wanted is not None and not isinstance(wanted, bool):
                raise ValueError(f"fx.kernels.use takes {name}=True, False or None, got {wanted!r}")
        self._before = _mode.get_global()
        wishes = {"kernels": kernels, "precise": precise, "deterministic": deterministic}
        changes: dict[str, Any] = {name: wish for name, wish in wishes.items() if wish is not None}
        self._wanted = replace(self._before, **changes)
        _mode.set_global(self._wanted)

    def __enter__(self) -> use:
        _mode.set_global(self._wanted)
        return self

    def __exit__(self, *_: object) -> None:
        _mode.set_global(self._before)


def precise() -> use:
    """Keeps to kernels with no more rounding error than a direct sum: `fx.kernels.use(precise=True)`.

    That leaves out Winograd's tiles of 4 x 4, where one infinity or NaN in the input can make all results of a tile
    NaN, also those whose windows do not meet it. With the tiles of 2 x 2, which stay, only results that meet it are not
    finite, but NaN where a direct sum is infinite; `fx.kernels.use("direct")` gives what a direct sum gives.

    >>> import fluxion as fx
    >>> with fx.precise():
    ...     fx.conv([[[1.0]]], [[[2.0]]]).tolist()
    [[[2.0]]]
    """
    return use(precise=True)

"""Training and testing mode of a whole model."""

from __future__ import annotations

from typing import Any


def trainmode(model: Any, mode: Any = True) -> None:
    """Makes every layer of `model` that has a mode (Dropout, BatchNorm ...) train, also outside a gradient.

    `trainmode(model, False)` is `testmode(model)`; `trainmode(model, "auto")` returns to the rule that layers train
    inside a gradient and test outside. Changes the field `active` of the layers and returns None. Flux: `trainmode!`.

    >>> import fluxion as fx
    >>> model = fx.Chain(fx.Dropout(0.5))
    >>> fx.trainmode(model)
    >>> model[0].active
    True
    """
    _set_active(model, _mode("trainmode", mode))


def testmode(model: Any, mode: Any = True) -> None:
    """Makes every layer of `model` that has a mode (Dropout, BatchNorm ...) test, also inside a gradient.

    `testmode(model, False)` is `trainmode(model)`; `testmode(model, "auto")` returns to the rule that layers train
    inside a gradient and test outside. Changes the field `active` of the layers and returns None. Flux: `testmode!`.

    >>> import fluxion as fx
    >>> model = fx.Chain(fx.Dropout(0.5))
    >>> fx.testmode(model)
    >>> model[0].active
    False
    """
    chosen = _mode("testmode", mode)
    _set_active(model, None if chosen is None else not chosen)


testmode.__test__ = False  # type: ignore[attr-defined]  # its name makes pytest take it for a test


def _mode(name: str, mode: Any) -> bool | None:
    if isinstance(mode, bool) or mode is None:
        return mode
    if isinstance(mode, str):
        if mode == "auto":
            return None
        raise ValueError(f'{name} accepts only the string "auto", got {mode!r}')
    raise TypeError(f'{name} takes True, False, None or "auto" as its second argument, got {mode!r}')


def _set_active(model: Any, active: bool | None) -> None:
    from fluxion.tree import objects

    for part in objects(model):
        state = getattr(part, "active", "none")
        if not isinstance(part, type) and (state is None or isinstance(state, bool)):
            part.active = active

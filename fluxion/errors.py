"""Exceptions and warnings that Fluxion raises on its own account."""

from __future__ import annotations

from typing import Any


class FluxionWarning(UserWarning):
    """Base of the warnings that Fluxion gives."""


class EagerNotice(FluxionWarning):
    """A function cannot be compiled and runs operation by operation instead."""


class RecompileWarning(FluxionWarning):
    """A function is compiled again and again because a Python value changes."""


class SizeError(ValueError):
    """An array of the wrong shape reached a layer.

    `layer` is the layer that refused it; `path` is where that layer stands in the model, once known.
    """

    def __init__(self, message: str, layer: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.layer = layer
        self.path = ""

    def __str__(self) -> str:
        return f"{self.message}\n  in {self.path}" if self.path else self.message


class CaptureError(RuntimeError):
    """A write made while a function was traced cannot become an output of the compiled program."""


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; model and optimiser are as before the batch."""

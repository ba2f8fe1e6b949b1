"""Exceptions and warnings that Fluxion raises on its own account."""

from __future__ import annotations

from typing import Any


class FluxionWarning(UserWarning):
    """Base of the warnings that Fluxion gives."""


class EagerNotice(FluxionWarning):
    """A function cannot be compiled and runs operation by operation instead; given once, with file and line.

    >>> import fluxion as fx, warnings
    >>> warnings.simplefilter("error", fx.EagerNotice)  # makes it an error
    """


class RecompileWarning(FluxionWarning):
    """A function is compiled again and again because a Python value changes. `explain(f)` names the value.

    >>> import fluxion as fx, warnings
    >>> warnings.simplefilter("error", fx.RecompileWarning)  # makes it an error, which shows the place
    """


class SkippedWarning(FluxionWarning):
    """A `DataLoader` with `on_error="skip"` left out observations that could not be read.

    >>> import fluxion as fx, warnings
    >>> warnings.simplefilter("error", fx.SkippedWarning)  # makes it an error, at the end of the epoch
    """


class SizeError(ValueError):
    """An array of the wrong shape reached a layer.

    `layer` is the layer that refused it; `path` is where that layer stands in the model, once known.

    >>> import fluxion as fx
    >>> fx.Chain(fx.relu, fx.Dense(3, 2))([[1.0, 2.0]])
    Traceback (most recent call last):
    fluxion.errors.SizeError: Dense(3, 2) expects 3 input features (last axis), got an array of shape (1, 2)
      in model.layers[1]
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
    """The loss became NaN or infinite; model and optimiser are as before the batch.

    >>> import fluxion as fx
    >>> model = fx.Dense(1, 1)
    >>> fx.train(lambda m, x: fx.mse(m(x), 0.0), model, [[[float("inf")]]], fx.setup(fx.Descent(), model))
    Traceback (most recent call last):
    fluxion.errors.NonFiniteLossError: ...
    """

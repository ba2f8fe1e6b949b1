"""The catalog: what every layer, loss and function must equal, one file per area."""

import importlib
import pkgutil


def load() -> None:
    """Imports every file of cases, which puts them into the catalog of `harness`."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"cases.{module.name}")

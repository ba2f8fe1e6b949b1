"""The caches on disk, on by default, with which the second run of a program starts at once."""

from __future__ import annotations

import os
import pathlib

import jax


def cache_folder(name: str) -> pathlib.Path | None:
    """Where the cache of this name lies in the user's cache folder, or None with `FLUXION_CACHE=0`."""
    if os.environ.get("FLUXION_CACHE") == "0":
        return None
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "fluxion" / name


def enable_disk_cache() -> None:
    """Turns JAX's compilation cache on, unless the user chose a folder for it."""
    folder = cache_folder("xla")
    if folder and not getattr(jax.config, "jax_compilation_cache_dir", None):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

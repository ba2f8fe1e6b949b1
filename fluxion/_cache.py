"""JAX's compilation cache on disk, on by default: the second run of a program starts at once."""

from __future__ import annotations

import os
import pathlib

import jax


def enable_disk_cache() -> None:
    """Turns the cache on, in the user's cache folder, unless the user chose a folder or `FLUXION_CACHE=0` turns it
    off.
    """
    chosen = getattr(jax.config, "jax_compilation_cache_dir", None) or os.environ.get("FLUXION_CACHE") == "0"
    if chosen:
        return
    home = os.environ.get("XDG_CACHE_HOME") or str(pathlib.Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", os.path.join(home, "fluxion", "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

"""The caches on disk, on by default, with which the second run of a program starts at once."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile

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
        _write_entries_whole(str(folder))


def _write_entries_whole(folder: str) -> None:
    """Makes JAX move the entries of its cache in `folder` into place once they are complete.

    By itself it writes an entry where others look for it: another thread or process reads half of it, and half of it
    is all that is ever there after an interrupted run.
    """
    try:
        from jax._src.lru_cache import LRUCache
    except ImportError:  # a JAX that has another cache
        return
    in_place = LRUCache.put

    def put(cache: LRUCache, key: str, value: bytes) -> None:
        entry = pathlib.Path(folder, f"{key}-cache")
        if cache.eviction_enabled or str(cache.path) != folder:  # under a lock of JAX's, or in a folder of the user's
            in_place(cache, key, value)
        elif not entry.exists():
            write_atomically(entry, value)

    LRUCache.put = put  # type: ignore[method-assign, assignment]


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Writes a file that others see whole or not at all; a folder that cannot be written to is no error."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=".unfinished-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(unfinished, path)
        except BaseException:
            pathlib.Path(unfinished).unlink(missing_ok=True)
            raise

"""The cache of compiled programs on disk: entries that are there whole or not at all."""

import os
import subprocess
import sys
import threading

import pytest
from jax._src.lru_cache import LRUCache

from fluxion import _cache


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of JAX's in a folder of Fluxion's."""
    monkeypatch.setattr(LRUCache, "put", LRUCache.put)
    _cache._write_entries_whole(str(tmp_path))
    return LRUCache(str(tmp_path), max_size=-1)


def test_an_entry_is_found_again_and_not_replaced(cache):
    assert cache.get("name") is None
    cache.put("name", b"first")
    cache.put("name", b"second")
    assert cache.get("name") == b"first"


def test_an_interrupted_run_leaves_no_half_of_an_entry(cache, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.put("name", b"whole")
    assert list(cache.path.iterdir()) == []
    cache.put("name", b"whole")
    assert cache.get("name") == b"whole"


def test_threads_never_read_half_of_an_entry(cache):
    value = os.urandom(1 << 20)
    start = threading.Barrier(4)
    found = []

    def work():
        for entry in range(30):
            start.wait()
            found.append(cache.get(str(entry)))
            cache.put(str(entry), value)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert len(found) == 120 and set(found) <= {None, value}


def test_a_folder_of_the_users_is_left_to_jax(cache, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(_cache, "write_atomically", lambda *_: pytest.fail("written by Fluxion"))
    other = LRUCache(str(tmp_path_factory.mktemp("other")), max_size=-1)
    other.put("name", b"whole")
    assert other.get("name") == b"whole"


def test_a_folder_that_cannot_be_written_to_is_no_error(cache):
    cache.path.rmdir()
    cache.path.write_text("a file where the folder should be")
    cache.put("name", b"whole")
    assert cache.path.is_file()


PROGRAM = """
import os
moved, replace = [], os.replace
os.replace = lambda old, new: (moved.append(os.fspath(new)), replace(old, new))
import fluxion as fx, jax.numpy as jnp
fx.compile(lambda x: x * 3)(jnp.ones(3))
entries = [entry.path for entry in os.scandir(os.environ["XDG_CACHE_HOME"] + "/fluxion/xla")]
print(len(entries) > 0 and set(entries) <= set(moved))
"""


def test_every_entry_of_a_program_is_moved_into_place(tmp_path):
    unset = ("FLUXION_CACHE", "JAX_COMPILATION_CACHE_DIR")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    environment = {**kept, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("True\n", "")

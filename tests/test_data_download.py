"""Downloads of data sets, from a server on this machine that misbehaves."""

import contextlib
import dataclasses
import pathlib
import threading

import numpy as np
import pytest
from webserver import web

from fluxion.data import MNIST
from fluxion.data.errors import CorruptFileError
from fluxion.data.named import download
from fluxion.data.named.download import DownloadError, RemoteFile, fetch
from fluxion.data.named.places import data_root, locate

__all__ = ["web"]

DATA = np.random.default_rng(0).bytes(100_000)


@pytest.fixture
def remote(web):
    url, sha256, size = web.publish("a.bin", DATA)
    return RemoteFile("a.bin", (url,), sha256, size)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_once(web, remote, tmp_path):
    for _ in range(2):
        (path,) = locate("Set", [remote], tmp_path, True, False)
        assert path == tmp_path / "Set" / "a.bin" and path.read_bytes() == DATA
    assert web.requests == [("a.bin", None)] and names(path.parent) == ["a.bin"]


def test_the_progress_bar_can_be_seen_and_hidden(remote, tmp_path, capfd):
    fetch(remote, tmp_path / "one", False)
    assert capfd.readouterr() == ("", "")
    fetch(remote, tmp_path / "two", True)
    assert "a.bin: 100%" in capfd.readouterr().err


def test_a_download_that_breaks_off_goes_on_where_it_was(web, remote, tmp_path):
    web.plan["a.bin"] = ["break", "break"]
    fetch(remote, tmp_path / "a.bin", False)
    assert (tmp_path / "a.bin").read_bytes() == DATA and names(tmp_path) == ["a.bin"]
    assert web.requests == [("a.bin", None), ("a.bin", "bytes=50000-"), ("a.bin", "bytes=75000-")]


@pytest.mark.parametrize("plan", [["break", "whole"], [500, 503], ["endless"], ["break", "break"], [429, 408]])
@pytest.mark.parametrize("known", [True, False])
def test_what_another_try_mends(web, remote, tmp_path, plan, known):
    remote = remote if known else dataclasses.replace(remote, size=None)
    web.plan["a.bin"] = list(plan)
    fetch(remote, tmp_path / "a.bin", False)
    assert (tmp_path / "a.bin").read_bytes() == DATA and names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("start", [b"", DATA[:1], DATA[:-1], DATA, DATA + b"more", b"x" * 50_000, b"x" * 100_000])
@pytest.mark.parametrize("known", [True, False])
def test_any_part_of_an_earlier_download(remote, tmp_path, start, known):
    remote = remote if known else dataclasses.replace(remote, size=None)
    (tmp_path / "a.bin.part").write_bytes(start)
    fetch(remote, tmp_path / "a.bin", False)
    assert (tmp_path / "a.bin").read_bytes() == DATA and names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("plan", [[404], [403], ["wrong"], ["short"], [500] * 3])
def test_the_next_mirror_is_asked(web, remote, tmp_path, plan):
    url, _, _ = web.publish("mirror/a.bin", DATA)
    web.plan["a.bin"] = list(plan)
    fetch(dataclasses.replace(remote, urls=(*remote.urls, url)), tmp_path / "a.bin", False)
    assert (tmp_path / "a.bin").read_bytes() == DATA and web.requests[-1][0] == "mirror/a.bin"
    assert len(web.requests) == 2


@pytest.mark.parametrize(
    "plan, requests, message",
    [
        ([404], 1, "HTTP 404 Not Found"),
        ([500] * 9, 3, "HTTP 500 Internal Server Error"),
        (["wrong"], 1, "its SHA-256 is [0-9a-f]{64} instead of [0-9a-f]{64}"),
        (["short"], 1, "it has 99,999 bytes instead of 100,000"),
        (["break"] * 9, 3, "the connection broke off after 87,500 of 100,000 bytes"),
    ],
)
def test_a_download_that_fails_tells_why(web, remote, tmp_path, plan, requests, message):
    web.plan["a.bin"] = list(plan)
    with pytest.raises(DownloadError, match=f"http://127.0.0.1:[0-9]+/a.bin: {message}"):
        fetch(remote, tmp_path / "a.bin", False)
    assert len(web.requests) == requests
    assert set(names(tmp_path)) <= {"a.bin.part"} and (plan[0] == "break") == bool(names(tmp_path))


def test_the_pauses_grow(web, remote, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(download, "_PAUSE", 1.0)
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    web.plan["a.bin"] = [500] * 9
    with pytest.raises(DownloadError):
        fetch(remote, tmp_path / "a.bin", False)
    assert pauses == [1.0, 2.0]


def test_nobody_listens(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    with pytest.raises(DownloadError, match=r"http://127.0.0.1:1/a: .*refused"):
        fetch(RemoteFile("a", ("http://127.0.0.1:1/a",)), tmp_path / "a", False)


def test_files_without_a_published_checksum(web, remote, tmp_path):
    unknown = dataclasses.replace(remote, sha256=None, size=None)
    fetch(unknown, tmp_path / "a", False)
    assert (tmp_path / "a").read_bytes() == DATA
    assert unknown.described() == "a.bin (no SHA-256 published)" and unknown.problem(tmp_path / "a") is None
    sized = dataclasses.replace(unknown, size=7)
    assert sized.problem(tmp_path / "a") == "it has 100,000 bytes instead of 7"


def test_a_mirror_that_sends_without_an_end(web, remote, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_LARGEST", 1000)
    monkeypatch.setattr(download, "_BLOCK", 500)
    web.plan["a.bin"] = ["endless"]
    with pytest.raises(DownloadError, match="it sends more than 1,500 bytes"):
        fetch(dataclasses.replace(remote, size=None), tmp_path / "a.bin", False)


def test_many_threads_download_a_file_once(web, remote, tmp_path):
    paths, errors = [], []

    def run():
        try:
            paths.extend(locate("Set", [remote], tmp_path, True, False))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(paths) == 6 and all(path.read_bytes() == DATA for path in paths)
    assert len(web.requests) == 1 and names(tmp_path / "Set") == ["a.bin"]


def test_without_locks_two_downloads_still_end_well(web, remote, tmp_path, monkeypatch):
    """As on Windows: here the second one comes while the first is asking, and is done before it."""
    monkeypatch.setattr(download, "_alone", lambda folder: contextlib.nullcontext())
    web.plan["a.bin"] = [lambda: fetch(remote, tmp_path / "a.bin", False)]
    fetch(remote, tmp_path / "a.bin", False)
    assert (tmp_path / "a.bin").read_bytes() == DATA and names(tmp_path) == ["a.bin"]


def test_an_interrupted_download_leaves_its_part(web, remote, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_BLOCK", 1000)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tqdm.auto.tqdm.update", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(remote, tmp_path / "a.bin", False)
    assert names(tmp_path) == ["a.bin.part"]
    fetch(remote, tmp_path / "a.bin", False)
    assert names(tmp_path) == ["a.bin"] and web.requests == [("a.bin", None), ("a.bin", "bytes=1000-")]


def test_a_wrong_file_that_is_there_is_not_read(remote, tmp_path):
    (tmp_path / "Set").mkdir()
    (tmp_path / "Set" / "a.bin").write_bytes(b"x" * len(DATA))
    with pytest.raises(CorruptFileError, match=r"its SHA-256 is .*; delete it and it is downloaded again"):
        locate("Set", [remote], tmp_path, True, False)


# ---- What an error tells


def test_missing_files_are_one_error_that_tells_what_to_put_where(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        _ = MNIST(tmp_path, download=False).train
    text = str(caught.value)
    assert text.startswith(f"MNIST lacks files, and download=False.\nPut into {tmp_path}/MNIST:\n")
    assert (
        "  train-images-idx3-ubyte.gz (SHA-256 440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609, "
        "9,912,422 bytes)\n    from https://storage.googleapis.com/cvdf-datasets/mnist/train-images-idx3-ubyte.gz\n"
    ) in text
    assert "  train-labels-idx1-ubyte.gz (SHA-256 3552534a" in text and "t10k" not in text
    assert "as root= or in the environment variable FLUXION_DATA; MNIST(synthetic=True) makes data" in text
    assert not (tmp_path / "MNIST").exists()


def test_a_failed_download_is_the_same_error(remote, tmp_path, web):
    web.plan["a.bin"] = [404]
    with pytest.raises(FileNotFoundError, match=r"the download failed: http\S+ HTTP 404 Not Found"):
        locate("Set", [remote], tmp_path, True, False)


def test_a_folder_that_cannot_be_made(remote, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"the folder cannot be written to: .*Not a directory"):
        locate("Set", [remote], tmp_path / "file", True, False)


def test_a_read_only_folder_is_no_fault_of_the_mirrors(web, remote, tmp_path, monkeypatch):
    def forbidden(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "touch", forbidden)
    with pytest.raises(FileNotFoundError, match=r"the folder cannot be written to: .*Permission denied"):
        locate("Set", [remote], tmp_path, True, False)
    assert not web.requests


# ---- Where files are


def test_the_folder_is_the_argument_or_the_variable_or_the_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("FLUXION_DATA", raising=False)
    monkeypatch.delenv("FLUXION_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_root(None) == tmp_path / "cache" / "fluxion" / "data"
    monkeypatch.setenv("FLUXION_DATA", str(tmp_path / "variable"))
    assert data_root(None) == tmp_path / "variable"
    assert data_root(tmp_path) == data_root(str(tmp_path)) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root("~/data") == tmp_path / "data"


def test_without_a_cache_a_folder_must_be_given(monkeypatch):
    monkeypatch.delenv("FLUXION_DATA", raising=False)
    monkeypatch.setenv("FLUXION_CACHE", "0")
    mnist = MNIST()
    assert "files    no folder: give root=" in repr(mnist)
    with pytest.raises(FileNotFoundError, match="as FLUXION_CACHE=0 turns the caches off") as caught:
        _ = mnist.test
    assert "Put into MNIST/ in a folder that you give as root=:" in str(caught.value)

"""A server on this machine that sends files, and does so badly when it is told to; archives for it to send."""

import hashlib
import inspect
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fluxion.data.named.download import RemoteFile


class WebServer:
    """`files` by path; `plan[path]` is how the next requests for it go wrong, one after the other:

    an integer below 600 is a status, "break" sends half of what is asked for, "whole" ignores ranges, "wrong" changes a
    byte, "endless" sends no length and breaks off, "short" announces less, a callable is called before the answer.
    """

    def __init__(self):
        self.files, self.plan, self.requests = {}, {}, []
        handler = type("Handler", (_Handler,), {"web": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_port}/{path}"

    def publish(self, path, data):
        """Puts a file there and returns its address, SHA-256 and size."""
        self.files[path] = data
        return self.url(path), hashlib.sha256(data).hexdigest(), len(data)


class _Handler(BaseHTTPRequestHandler):
    web: WebServer

    def do_GET(self):
        path, asked = self.path.strip("/"), self.headers.get("Range")
        self.web.requests.append((path, asked))
        plan = self.web.plan.get(path, [])
        how = plan.pop(0) if plan else None
        if callable(how):
            how()
        if path not in self.web.files or isinstance(how, int):
            self.send_error(how or 404)
            return
        data = self.web.files[path]
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and how != "whole" else 0
        if start >= len(data) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        body = data[start:]
        if how != "endless":
            self.send_header("Content-Length", str(len(body) - 1 if how == "short" else len(body)))
        self.end_headers()
        if how == "wrong":
            body = bytes([body[0] ^ 1]) + body[1:]
        self.wfile.write(body[: len(body) // 2] if how in ("break", "endless") else body)
        self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def web(monkeypatch):
    """A server that runs during the test, without pauses between the rounds of a download."""
    monkeypatch.setattr("fluxion.data.named.download._PAUSE", 0.0)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = WebServer()
    server.thread.start()
    yield server
    server.server.shutdown()
    server.thread.join()
    server.server.server_close()


def written(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def tar(entries):
    def write(file):
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, content in entries.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))

    return written(write)


def zipped(entries):
    def write(file):
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, content)

    return written(write)


@pytest.fixture
def publish(web, monkeypatch):
    """Lets a data set's files be those given, by name, on the server of the test."""

    def publish(kind, files):
        def record(file):
            return RemoteFile(file.name, *published(file.name))

        def published(name):
            if name not in files:
                return (web.url(f"{kind.__name__}/{name}"),), None, None
            url, sha256, size = web.publish(f"{kind.__name__}/{name}", files[name])
            return (url,), sha256, size

        for name, value in inspect.getmembers(kind):
            if isinstance(value, RemoteFile):
                monkeypatch.setattr(kind, name, record(value))
            elif isinstance(value, dict) and name == "files":
                monkeypatch.setattr(kind, name, {key: record(file) for key, file in value.items()})
            elif isinstance(value, tuple) and name == "files":
                monkeypatch.setattr(kind, name, tuple(record(file) for file in value))
            elif name == "file" and callable(value):
                monkeypatch.setattr(kind, name, lambda self, part, value=value: record(value(self, part)))

    return publish

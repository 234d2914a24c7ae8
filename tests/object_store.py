"""S3 on this machine: a store, and a server in front of it that can be slow, dead, or the end of whoever asks."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from atlas.store.buckets import Bucket

KEYS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "hidden-word",
    "AWS_DEFAULT_REGION": "us-east-1",
    # What a machine of the lab may have set, and would be asked first.
    "AWS_EC2_METADATA_DISABLED": "true",
}
_numbers = count()


@cache
def endpoint() -> str:
    """Where the store of this process listens, which lives as long as the process."""
    server = pytest.importorskip("moto.server", reason="no moto: `pip install 'moto[server]'`")
    store = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    host, port = store.get_host_and_port()
    return f"http://{host}:{port}"


def environment(url: str) -> dict[str, str]:
    """What tells obstore, s3fs and children of the store at a URL."""
    return KEYS | {"AWS_ENDPOINT_URL": url}


def new_bucket() -> str:
    """The address of a bucket that holds nothing."""
    name = f"bucket-{next(_numbers)}"
    connection = HTTPConnection(urlsplit(endpoint()).netloc)
    connection.request("PUT", f"/{name}", headers=_signed())
    assert connection.getresponse().status == 200
    return f"s3://{name}"


def _signed() -> dict[str, str]:
    """The store checks no signature, and takes its region from one."""
    scope = "nobody/20260101/us-east-1/s3/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}


@contextmanager
def copied(folder: Path, cache: Path) -> Iterator[str]:
    """The address of a segmented atlas that was copied file by file, versions last; the environment reaches it."""
    pytest.importorskip("obstore", reason="obstore isn't installed (extra cloud)")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (environment(endpoint()) | {"POLYTOPE_CACHE": str(cache)}).items():
            patch.setenv(name, value)
        address = f"{new_bucket()}/{folder.name}"
        bucket = Bucket(address)
        for part in ("segments", "catalog", "versions"):
            for file in sorted(file for file in (folder / part).rglob("[!.]*") if file.is_file()):
                assert bucket.create(file.relative_to(folder).as_posix(), file.read_bytes())
        yield address


Rule = Callable[[str, str], str]
"""From a request's method and path to what happens: "pass", "stall" (no answer comes), "cut" (an answer ends in its
middle), "lose" (it is done, and no answer comes) or "refuse" (no rights)."""


@contextmanager
def in_front(rule: Rule) -> Iterator[str]:
    """The URL of a server that hands requests on to the store as a rule says."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            what = rule(self.command, self.path)
            if what == "stall":
                ended.wait()
                self.close_connection = True
                return
            if what == "refuse":
                self._send(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
                return
            connection = HTTPConnection(urlsplit(endpoint()).netloc)
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            content, held = response.read(), dict(response.getheaders())
            connection.close()
            if what == "lose":
                self.close_connection = True
                return
            self._send(response.status, held, content, cut=what == "cut")

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815, as the base class calls them

        def _send(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
            self.send_response(status)
            length = headers.get("Content-Length") if self.command == "HEAD" else str(len(content))
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if self.command != "HEAD":  # what followed it would be taken for the next answer of this connection
                self.wfile.write(content[: len(content) // 2] if cut else content)
            self.close_connection = cut

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()


def killing(pid: Callable[[], int | None], method: str, part: str) -> Rule:
    """Kills a process at its first request of a kind, which is not answered."""

    def rule(asked: str, path: str) -> str:
        process = pid()
        if process is None or asked != method or part not in path:
            return "pass"
        os.kill(process, signal.SIGKILL)
        return "stall"

    return rule

"""Servers of atlases for tests: in a thread of this process, on a port of this machine, ended with the test."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from app.http.listening import HEAD_SECONDS, configured
from app.http.server import create_app
from app.serving.limits import Limits
from app.serving.served import Served

PATIENCE = 120.0
"""Seconds until an answer counts as lost, on a machine that does much else."""


@contextmanager
def serving(
    *paths: Path,
    limits: Limits | None = None,
    port: int = 0,
    head_seconds: float = HEAD_SECONDS,
    **options: Any,
) -> Iterator[str]:
    """The address of a server of some atlases; ``options`` as of `create_app`."""
    limits = limits or Limits()
    with ExitStack() as opened:
        served = [opened.enter_context(Served(path, path.stem, limits)) for path in paths]
        listening = opened.enter_context(socket.create_server(("127.0.0.1", port)))  # who asks early waits here
        app = create_app(served, limits, **options)
        server = configured(app, limits, host="127.0.0.1", port=0, head_seconds=head_seconds)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class Answered(NamedTuple):
    """What came back."""

    status: int
    media_type: str
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def detail(self) -> str:
        """The sentence of a problem."""
        assert self.media_type == "application/problem+json", self
        return str(self.json["detail"])


def ask(
    address: str, body: dict[str, Any] | bytes | None = None, method: str | None = None, **headers: str
) -> Answered:
    """Ask a server: a GET without a body, else a POST; ``headers`` with underscores in place of hyphens."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urlopen(Request(address, data, named, method=method), timeout=PATIENCE) as answer:
            return Answered(answer.status, answer.headers.get_content_type(), answer.read())
    except HTTPError as error:
        with error:
            return Answered(error.code, error.headers.get_content_type(), error.read())

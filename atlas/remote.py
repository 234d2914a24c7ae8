"""An atlas that a server holds: `query` asks it as one on disk, and the answers are the same.

>>> import atlas, query
>>> a = atlas.connect("http://127.0.0.1:8765", token="…")
>>> query.nearest(a, example=17, site="blocks.2.mlp", k=5)
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, RemoteDisconnected
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pandas as pd

from . import wire
from .errors import ServerFailed, ServerUnreachable, UsageError

TIMEOUT = 600.0
"""Seconds that an answer is waited for; the server has limits of its own, which are less."""


def connect(url: str, *, token: str | None = None, timeout: float = TIMEOUT) -> RemoteAtlas:
    """An atlas that `polytope serve` holds, to be asked like one on disk.

    Args:
        url: the server's address, ``http://127.0.0.1:8765``, where it serves one atlas; of several the one that is
            meant, ``http://127.0.0.1:8765/v1/demo``.
        token: one of the server's, where it wants one.
        timeout: seconds that an answer is waited for.

    Returns:
        The atlas: an argument for every function of `query` that reads.

    Raises:
        UsageError: for what is no such address, and where the server has several atlases.
        UnknownName: the server has no atlas of that name.
        ServerUnreachable: nothing answers there.
        AccessDenied: the token is missing or wrong.
    """
    parts = urlsplit(url)
    root, _, name = parts.path.rstrip("/").partition("/v1/")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or "/" in name:
        raise UsageError(f"{url!r} is no address of a server; expected http://HOST:PORT or http://HOST:PORT/v1/ATLAS")
    root = root.removesuffix("/v1")
    remote = RemoteAtlas(f"{parts.scheme}://{parts.netloc}{root}", unquote(name), token=token, timeout=timeout)
    served = remote.atlases()
    if not name and len(served) != 1:
        raise UsageError(f"{url} serves {', '.join(served)}; name one: {url.rstrip('/')}/v1/{quote(served[0])}")
    return RemoteAtlas(remote.server, remote.name if name else served[0], token=token, timeout=timeout)


class RemoteAtlas:
    """An atlas that a server holds, under the name that it has there; `connect` makes one. Threads may share it."""

    def __init__(self, server: str, name: str, *, token: str | None = None, timeout: float = TIMEOUT) -> None:
        if token is not None and not (token.isascii() and token.isprintable()):
            raise UsageError("the token has letters that no header holds; take one out of the server's --token-file")
        self.server = server
        self.name = name
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._timeout = timeout
        self._mine = threading.local()

    def __enter__(self) -> RemoteAtlas:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RemoteAtlas({str(self.address)!r})"

    @property
    def address(self) -> str:
        """Where its questions are."""
        return f"{self.server}/v1/{quote(self.name, safe='')}"

    @property
    def path(self) -> Path:
        """What tells it from other atlases: its address without the scheme, which is no folder here."""
        return Path(self.address.partition("//")[2])

    def close(self) -> None:
        """Close the connection of this thread. Asked again, it opens another."""
        if (connection := self._mine.__dict__.pop("connection", None)) is not None:
            connection.close()

    def atlases(self) -> list[str]:
        """Names of the atlases that the server holds."""
        try:
            return list(json.loads(self._answer("GET", f"{urlsplit(self.server).path}/v1", None)[1])["atlases"])
        except (ValueError, KeyError, TypeError):
            raise ServerUnreachable(
                f"what answers at {self.server} is no server of atlases; `polytope serve ATLAS` starts one"
            ) from None

    def ask(self, question: str, arguments: Mapping[str, Any]) -> Any:
        """The answer of a question of `query`, by its name; ``arguments`` are what JSON has.

        Raises what the question raises, and `ServiceError` for what is the server's.
        """
        path = f"{urlsplit(self.server).path}/v1/{quote(self.name, safe='')}/{question}"
        form, data = self._answer("POST", path, json.dumps(arguments, allow_nan=True).encode())
        try:
            return wire.read_frame(data) if form == wire.FRAME else wire.read_answer(data)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ServerFailed(
                f"{self.address} sent an answer that can't be read ({error}); is it of this version?"
            ) from error

    def sql(
        self,
        query: str,
        parameters: Sequence[Any] | dict[str, Any] | None = None,
        *,
        row_limit: int | None = None,
        timeout: float | None = None,
    ) -> pd.DataFrame:
        """Run one query of a user, as `Atlas.sql` does: in the sandbox, within the limits of the server."""
        body = {"query": query, "parameters": parameters, "limit": row_limit, "timeout": timeout}
        frame: pd.DataFrame = self.ask("sql", body)
        return frame

    def _answer(self, method: str, path: str, body: bytes | None) -> tuple[str, bytes]:
        """The media type and the bytes of an answer; raises the error of a problem."""
        headers = self._headers | {"Accept": f"{wire.FRAME}, {wire.ANSWER}", "Content-Type": "application/json"}
        try:
            response = self._response(method, path, body, headers)
            form, data = response.headers.get_content_type(), response.read()
        except (OSError, HTTPException) as error:
            self.close()
            raise ServerUnreachable(f"nothing answers at {self.server} ({error}); is the server running?") from None
        if response.status == 200:
            return form, data
        raise wire.error_of(response.status, form, data, self.address)

    def _response(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> HTTPResponse:
        """A connection that was open already may have been closed meanwhile: then another is opened, once."""
        kept: HTTPConnection | None = getattr(self._mine, "connection", None)
        connection = kept or self._opened()
        try:
            connection.request(method, path, body, headers)
            return connection.getresponse()
        except (RemoteDisconnected, ConnectionError):
            if kept is None:
                raise
        self.close()
        connection = self._opened()
        connection.request(method, path, body, headers)
        return connection.getresponse()

    def _opened(self) -> HTTPConnection:
        parts = urlsplit(self.server)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._mine.connection = connection = kind(str(parts.hostname), parts.port, timeout=self._timeout)
        return connection

"""Listening on one address until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from atlas import wire
from atlas.errors import BadRequest

from ..serving.limits import WAITING, Limits
from . import problems

ENDING = 5
"""Seconds in which answers that are under way may be finished."""

HEAD_SECONDS = 10.0
"""From when a connection was opened, or its last answer was sent, until the head of a request is there whole."""

_CONNECTION = "connection"


class Punctual(H11Protocol):
    """A connection that is closed where the head of a request does not come in time: uvicorn itself would wait."""

    def __init__(self, *, app_state: dict[str, Any], head_seconds: float, **options: Any) -> None:
        super().__init__(app_state=app_state | {_CONNECTION: self}, **options)
        self._seconds = head_seconds
        self._due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self.expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self.expect_none()
        super().connection_lost(exc)

    def expect(self) -> None:
        """The head of a request is to come."""
        if not self.transport.is_closing():
            self._due = self.loop.call_later(self._seconds, self._refuse)

    def expect_none(self) -> None:
        """It is there."""
        if self._due is not None:
            self._due.cancel()

    def _refuse(self) -> None:
        error = f"the head of the request took longer than {self._seconds:g} s to come; send it at once"
        content = problems.body(BadRequest, error, 408)
        head = f"HTTP/1.1 408 Request Timeout\r\ncontent-type: {wire.PROBLEM}\r\ncontent-length: {len(content)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + content)
        self.transport.close()


def configured(
    app: ASGIApp, limits: Limits, *, host: str, port: int, head_seconds: float = HEAD_SECONDS
) -> uvicorn.Server:
    """The server of an application, ready to run."""
    protocol: Callable[..., asyncio.Protocol] = partial(Punctual, head_seconds=head_seconds)
    return uvicorn.Server(
        uvicorn.Config(
            partial(_heard, app),
            interface="asgi3",
            http=protocol,  # type: ignore[arg-type]  # it is called with what a class would be
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody in between is believed
            ws="none",
            limit_concurrency=4 * limits.requests * (1 + WAITING),
            timeout_graceful_shutdown=ENDING,
        )
    )


async def _heard(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Ask the application; its connection expects no head meanwhile."""
    connection = scope.get("state", {}).pop(_CONNECTION, None)
    if connection is None:
        return await app(scope, receive, send)
    connection.expect_none()
    try:
        await app(scope, receive, send)
    finally:
        connection.expect()


def listen(app: ASGIApp, limits: Limits, *, host: str, port: int) -> None:
    """Answer until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        configured(app, limits, host=host, port=port).run()

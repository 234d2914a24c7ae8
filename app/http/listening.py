"""Listening on one address until Ctrl-C or SIGTERM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from ..serving.limits import WAITING, Limits
from ..serving.served import Served
from .gate import is_loopback
from .server import create_app

ENDING = 5
"""Seconds in which answers that are under way may be finished."""


def configured(app: ASGIApp, limits: Limits, *, host: str, port: int) -> uvicorn.Server:
    """The server of an application, ready to run."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
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


def listen(
    served: Sequence[Served],
    limits: Limits,
    *,
    host: str,
    port: int,
    tokens: Sequence[str] = (),
    origins: Sequence[str] = (),
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Answer until Ctrl-C; ``ready`` is called when all is set up."""
    app = create_app(served, limits, tokens=tokens, origins=origins, loopback=is_loopback(host))
    server = configured(app, limits, host=host, port=port)
    ready()
    with suppress(KeyboardInterrupt):
        server.run()

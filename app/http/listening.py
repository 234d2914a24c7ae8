"""Listening on one address until Ctrl-C or SIGTERM."""

from __future__ import annotations

from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from ..serving.limits import WAITING, Limits

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


def listen(app: ASGIApp, limits: Limits, *, host: str, port: int) -> None:
    """Answer until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        configured(app, limits, host=host, port=port).run()

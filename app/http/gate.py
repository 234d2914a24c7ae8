"""What every request passes first: its host, its token, the size of its body and the time that this takes to come."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atlas import wire
from atlas.errors import AccessDenied, BadRequest, PolytopeError, UsageError
from atlas.store.disk import no_file

from . import problems

OPEN = "/health"
"""What needs no token: it says nothing of an atlas."""

PAGE = "/docs"
"""Where a browser asks for a password: a token is one, under any name. It bears it for what the page asks as well."""

BODY_BYTES = 16_000_000
"""Of a request: an image of a camera in base64."""

BODY_SECONDS = 10.0
"""Until a body is there whole."""

SHORTEST_TOKEN = 16
"""Characters: what is shorter can be guessed."""

Watch = Callable[[Scope, int, float], None]
"""Told of every answer: the request, the status and the seconds."""


def read_tokens(file: Path) -> tuple[str, ...]:
    """The tokens in a file, one a line; lines that begin with # and empty ones are none.

    Raises `UsageError` for a file that can't be read, has none, or has one that is too short.
    """
    if (what := no_file(file)) is not None:
        raise UsageError(f"--token-file is {file}, which {what}")
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UsageError(f"--token-file is {file}, which can't be read ({error})") from None
    tokens = tuple(line for line in lines if line and not line.startswith("#"))
    if not tokens or any(len(token) < SHORTEST_TOKEN or not token.isascii() for token in tokens):
        raise UsageError(
            f"--token-file {file} needs a token a line, of at least {SHORTEST_TOKEN} letters and digits; "
            '`python -c "import secrets; print(secrets.token_urlsafe())"` makes one'
        )
    return tokens


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Gate:
    """Lets through what may pass, with its body read; everything else is answered here."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Sequence[str],
        loopback: bool,
        watch: Watch = lambda scope, status, seconds: None,
        body_bytes: int = BODY_BYTES,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._app = app
        self._digests = [_digest(token.encode()) for token in tokens]
        self._loopback = loopback
        self._watch = watch
        self._body_bytes = body_bytes
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # a websocket is closed
        begun, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            headers = dict(scope["headers"])
            try:
                self._check_host(headers)
                if scope["path"] != OPEN:
                    self._check_token(headers)
                body = await self._body(headers, receive)
            except _Refused as refused:
                await respond(watched, refused.error, refused.status, asks_password=scope["path"] == PAGE)
                return
            await self._app(scope, _once(body, receive), watched)
        finally:
            self._watch(scope, status, time.perf_counter() - begun)

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        """A page elsewhere whose name is made to point here (DNS rebinding) is turned away."""
        host = headers.get(b"host", b"").decode("latin-1")
        name = host[: host.rindex("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
        if self._loopback and not is_loopback(name):
            raise _Refused(AccessDenied(f"the request is for host {host[:100]!r}; ask for localhost"), 403)

    def _check_token(self, headers: dict[bytes, bytes]) -> None:
        if not self._digests:
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        scheme, given = scheme.lower(), given.strip()
        if scheme == b"basic" and headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
            given = b""  # a browser sends its password along with what pages elsewhere ask
        digest = _digest(_password(given) if scheme == b"basic" else given)
        # Every token is compared, each in a time that does not tell how much of it was right.
        right = [hmac.compare_digest(digest, known) for known in self._digests]
        if scheme not in (b"bearer", b"basic") or not any(right):
            what = "wrong" if given else "missing"
            raise _Refused(
                AccessDenied(f"the token is {what}; send one of the server's as `Authorization: Bearer TOKEN`"), 401
            )

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        too_large = _Refused(
            BadRequest(f"the body is larger than the {self._body_bytes / 1e6:g} MB that this server reads"), 413
        )
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 18 or int(length) > self._body_bytes:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Refused(BadRequest("the connection was closed before the body was there"), 400)
                    part = message.get("body", b"")
                    size += len(part)
                    if size > self._body_bytes:
                        raise too_large
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise _Refused(
                BadRequest(f"the body took longer than {self._body_seconds:g} s to come; send it at once"), 408
            ) from None


class _Refused(Exception):
    """A request that is answered at the gate."""

    def __init__(self, error: PolytopeError, status: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.status = status


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _password(given: bytes) -> bytes:
    """Of a name and a password, as browsers send them; nothing where it is none."""
    try:
        return base64.b64decode(given, validate=True).partition(b":")[2]
    except ValueError:
        return b""


def _once(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, and then what else comes."""
    given = False

    async def read() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return read


async def respond(send: Send, error: PolytopeError, status: int, *, asks_password: bool) -> None:
    """Answer a request with a problem, and end the connection: of its body more may be on the way."""
    content = problems.body(type(error), str(error), status)
    headers = [
        (b"content-type", wire.PROBLEM.encode()),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="polytope"' if asks_password else b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})

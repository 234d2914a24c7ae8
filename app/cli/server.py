"""`polytope serve` and `polytope mcp`: atlases for other programs, and for assistants."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from atlas.errors import UsageError

from .options import AtlasPath
from .serve import check_free
from .tables import say

commands = typer.Typer()

PORT = 8765
MCP_PORT = 8766

_limit = "Limits"

Host = Annotated[str, typer.Option(help="Address to listen on; one that others reach needs --token-file.")]
TokenFile = Annotated[
    Path | None, typer.Option(help="A file of tokens, one a line, one of which every request must bear.")
]


@commands.command(rich_help_panel="Look")
def serve(
    atlases: Annotated[list[Path], typer.Argument(metavar="ATLAS...", help="Folders of atlases.")],
    port: Annotated[int, typer.Option(help="Port to listen on.")] = PORT,
    host: Host = "127.0.0.1",
    token_file: TokenFile = None,
    cors: Annotated[
        list[str] | None, typer.Option(help="A page elsewhere whose scripts may ask, as https://example.org.")
    ] = None,
    max_rows: Annotated[int, typer.Option(min=1, help="Rows of an answer.", rich_help_panel=_limit)] = 100_000,
    max_seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds for an answer.", rich_help_panel=_limit)
    ] = 60.0,
    max_mb: Annotated[int, typer.Option(min=1, help="Megabytes of an answer.", rich_help_panel=_limit)] = 64,
    at_once: Annotated[
        int, typer.Option(min=1, max=256, help="Requests that are answered at a time.", rich_help_panel=_limit)
    ] = 8,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Nothing is written, which is how it always serves.")
    ] = True,
) -> None:
    """Answer other programs over HTTP: every question that reads, with the arguments of the Python function."""
    try:
        from ..http.gate import is_loopback
        from ..http.listening import listen
        from ..http.server import create_app
    except ModuleNotFoundError as missing:
        raise UsageError(f"{missing.name} is not installed; `pip install 'polytope-atlas[serve]'`") from None
    from ..serving.limits import Limits
    from ..serving.served import Served

    tokens = _tokens(host, token_file)
    names = [path.resolve().stem for path in atlases]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"two atlases are called {twice.pop()}; their folders need different names")
    check_free(host, port, "the server")
    limits = Limits(max_rows, max_seconds, max_mb, at_once)
    with ExitStack() as opened:
        served = [opened.enter_context(Served(path, name, limits)) for path, name in zip(atlases, names, strict=True)]
        app = create_app(served, limits, tokens=tokens, origins=cors or (), loopback=is_loopback(host))
        for name in names:
            say(f"serving {name} at http://{host}:{port}/v1/{name}")
        say(f"the questions are at http://{host}:{port}/docs")
        listen(app, limits, host=host, port=port)


@commands.command(rich_help_panel="Look")
def mcp(
    atlas: AtlasPath,
    http: Annotated[bool, typer.Option("--http", help="Listen on a port, instead of standard input.")] = False,
    port: Annotated[int, typer.Option(help="Port to listen on, with --http.")] = MCP_PORT,
    host: Host = "127.0.0.1",
    token_file: TokenFile = None,
) -> None:
    """Answer an assistant by the Model Context Protocol: a dozen tools, over standard input and output or HTTP."""
    try:
        from ..mcp.server import LIMITS, create_server
    except ModuleNotFoundError as missing:
        raise UsageError(f"{missing.name} is not installed; `pip install 'polytope-atlas[mcp]'`") from None
    from ..serving.served import Served

    with Served(atlas, atlas.resolve().stem, LIMITS) as served:
        server = create_server(served)
        if not http:
            server.run("stdio")
            return
        from ..http.gate import Gate, is_loopback
        from ..http.listening import listen

        tokens = _tokens(host, token_file)
        check_free(host, port, "the server")
        # An application of the SDK has no dependencies of ours in front of it: the gate stands there.
        app = Gate(server.streamable_http_app(host=host), tokens=tokens, loopback=is_loopback(host))
        say(f"serving {served.name} at http://{host}:{port}/mcp")
        listen(app, LIMITS, host=host, port=port)


def _tokens(host: str, file: Path | None) -> tuple[str, ...]:
    from ..http.gate import is_loopback, read_tokens

    if file is None and not is_loopback(host):
        raise UsageError(f"--host {host} can be reached by others; name the tokens that they need with --token-file")
    return () if file is None else read_tokens(file)

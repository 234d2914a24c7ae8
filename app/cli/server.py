"""`polytope serve`: atlases for other programs, over HTTP."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from atlas.errors import UsageError

from .serve import check_free
from .tables import say

commands = typer.Typer()

PORT = 8765

_limit = "Limits"


@commands.command(rich_help_panel="Look")
def serve(
    atlases: Annotated[list[Path], typer.Argument(metavar="ATLAS...", help="Folders of atlases.")],
    port: Annotated[int, typer.Option(help="Port to listen on.")] = PORT,
    host: Annotated[str, typer.Option(help="Address to listen on; one that others reach needs --token-file.")] = (
        "127.0.0.1"
    ),
    token_file: Annotated[
        Path | None, typer.Option(help="A file of tokens, one a line, one of which every request must bear.")
    ] = None,
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
        from ..http.gate import is_loopback, read_tokens
        from ..http.listening import listen
    except ModuleNotFoundError as missing:
        raise UsageError(f"{missing.name} is not installed; `pip install 'polytope-atlas[serve]'`") from None
    from ..serving.limits import Limits
    from ..serving.served import Served

    if token_file is None and not is_loopback(host):
        raise UsageError(f"--host {host} can be reached by others; name the tokens that they need with --token-file")
    tokens = () if token_file is None else read_tokens(token_file)
    names = [path.resolve().stem for path in atlases]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"two atlases are called {twice.pop()}; their folders need different names")
    check_free(host, port, "the server")
    limits = Limits(max_rows, max_seconds, max_mb, at_once)
    with ExitStack() as opened:
        served = [opened.enter_context(Served(path, name, limits)) for path, name in zip(atlases, names, strict=True)]

        def ready() -> None:
            for name in names:
                say(f"serving {name} at http://{host}:{port}/v1/{name}")
            say(f"the questions are at http://{host}:{port}/docs")

        listen(served, limits, host=host, port=port, tokens=tokens, origins=cors or (), ready=ready)

"""Starting the explorer: Streamlit in a process of its own, bound to one address, asking nothing of the internet."""

from __future__ import annotations

import ipaddress
import json
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

import atlas as store
from atlas.errors import AtlasLocked, UsageError

from ..child_process import end, start
from ..shown_atlas import ShownAtlas
from .options import AtlasPath

commands = typer.Typer()

TERMINATED = 143
"""Exit status of a command ended by SIGTERM, as shells have it (128 + SIGTERM)."""

MESSAGE_MEGABYTES = 200
"""Of one message to or from a page, a map of 100,000 points among them."""

UPLOAD_MEGABYTES = 10
"""An image of a camera; what is pasted as text is far smaller."""


@commands.command(rich_help_panel="Look")
def app(
    atlas: AtlasPath,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8501,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
    read_only: Annotated[bool, typer.Option("--read-only", help="Without names and notes to write.")] = False,
) -> None:
    """Open the explorer in the browser."""
    raise typer.Exit(serve(atlas, port=port, host=host, open_browser=browser, read_only=read_only))


def serve(
    atlas: Path,
    *,
    port: int = 8501,
    host: str = "127.0.0.1",
    open_browser: bool = True,
    read_only: bool = False,
) -> int:
    """Show an atlas in the browser until Ctrl-C; returns the server's exit code, 0 after Ctrl-C, 143 after SIGTERM.

    Raises `NotAnAtlas`, `SchemaVersionError` or `DamagedAtlas` at once. A locked atlas is no obstacle: the page says
    who holds it, and opens by itself once it is free. Raises `UsageError` for an address or port that can't be had.
    Who can reach ``host`` can read the whole atlas: nothing but the default is safe on a machine that others reach.
    They can name clusters and write notes as well, and nothing else; ``read_only`` turns that off.
    """
    with suppress(AtlasLocked):
        store.open(atlas).close()
    check_free(host, port, "the explorer")
    told = arguments(atlas, port=port, host=host, open_browser=open_browser, read_only=read_only)
    with _sigterm_raises():
        try:
            process = start("streamlit", *told)
            typer.echo(f"The explorer: http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl+C ends it)")
            try:
                return process.wait()
            finally:
                end(process)
        except KeyboardInterrupt:
            return 0
        except _Terminated:
            return TERMINATED


HEADINGS = ("2.25rem", "1.5rem", "1.15rem", "1rem", "1rem", "1rem")
"""Sizes of headings by their level: those inside a page are of the second, and smaller than Streamlit's."""


def arguments(atlas: Path, *, port: int, host: str, open_browser: bool, read_only: bool = False) -> list[str]:
    """The arguments of `streamlit` that serve an atlas."""
    options = {
        "server.address": host,
        "server.port": str(port),
        "server.headless": "false" if open_browser else "true",
        "server.showEmailPrompt": "false",
        "server.maxUploadSize": str(UPLOAD_MEGABYTES),
        # As Streamlit has them, whatever a config.toml says: requests from other sites are turned away, no folder
        # beside the script is served, and no message is larger than a page needs.
        "server.enableXsrfProtection": "true",
        "server.enableCORS": "true",
        "server.enableStaticServing": "false",
        "server.maxMessageSize": str(MESSAGE_MEGABYTES),
        # Off: it walks every loaded module at each run, torch's among them, to rerun when the code is edited.
        "server.fileWatcherType": "none",
        "runner.magicEnabled": "false",
        # Off: a full collection after each run, 0.3 s of a processor once torch is loaded, twice a second while a
        # page waits for a job. Python's own collector runs as everywhere.
        "runner.postScriptGC": "false",
        "browser.gatherUsageStats": "false",
        # Off: a page that opens what is stored sets widgets that have a default.
        "global.disableWidgetStateDuplicationWarning": "true",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": "false",
        "client.toolbarMode": "minimal",
        # Streamlit's greeting, and with it what it advertises to whoever writes pages, on the first page as well.
        "logger.hideWelcomeMessage": "true",
        # Of both themes, so that the browser's own preference chooses between them.
        "theme.light.primaryColor": "#0072b2",
        "theme.dark.primaryColor": "#56b4e9",
        "theme.baseFontSize": "15",
        "theme.metricValueFontSize": "1.5rem",
        "theme.headingFontSizes": json.dumps(HEADINGS),
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    # A page elsewhere whose name is made to point here (DNS rebinding) is turned away.
    hosts = [part for name in _names(host) for part in ("--server.allowedHosts", name)]
    script = Path(__file__).parents[1] / "explorer" / "entry.py"
    return ["run", str(script), *flags, *hosts, "--", *ShownAtlas(atlas, read_only).words()]


def _names(host: str) -> list[str]:
    """What a browser may call us by: loopback has two names; for other addresses any name may be right."""
    return ["localhost", "127.0.0.1", "[::1]"] if _is_loopback(host) else []


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_free(host: str, port: int, who: str) -> None:
    """Raise `UsageError` where ``who`` can't listen there."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError, UnicodeError) as error:
        raise UsageError(
            f"{who} can't listen on {host}, port {port} ({error}); choose another with --port or --host"
        ) from None


class _Terminated(BaseException):
    """SIGTERM came, which Python would otherwise die of without ending its child."""


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    def terminated(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

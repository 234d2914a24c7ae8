"""The `polytope` command. Its words are those of the Python functions that it calls."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from atlas.errors import PolytopeError, RunInterrupted

from ..plain_text import lines_with_signs
from . import (
    boundaries,
    clusters,
    compare,
    contents,
    density,
    derived,
    experiment,
    ingest,
    nearest,
    report,
    serve,
    tour,
)

INTERRUPTED = 130
"""Exit status of a command stopped by Ctrl-C, as shells have it (128 + SIGINT)."""

cli = typer.Typer(
    name="polytope",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"polytope-atlas {version('polytope-atlas')}")
        raise typer.Exit
    return wanted


@cli.callback()
def polytope(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """An atlas of the polytopes that a network cuts its activation space into."""


for module in (
    ingest,
    derived,
    nearest,
    clusters,
    density,
    boundaries,
    compare,
    experiment,
    report,
    contents,
    serve,
    tour,
):
    cli.add_typer(module.commands)


def main() -> None:
    """Run the command; an error that the user can cause is one message and exit status 1."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        cli(standalone_mode=True)
    except RunInterrupted as stopped:
        _say(str(stopped))
        sys.exit(INTERRUPTED)
    except PolytopeError as error:
        _say(f"{error}")
        sys.exit(1)
    except KeyboardInterrupt:
        _say("stopped")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(message: str) -> None:
    Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), lines_with_signs(message)))


if __name__ == "__main__":
    main()

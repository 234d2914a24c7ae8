"""The `polytope` command. Its words are those of the Python functions that it calls."""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console
from rich.text import Text

from atlas.errors import PolytopeError, RunInterrupted

from . import ask, build, experiment, layout, name, report, tour

INTERRUPTED = 130
"""Exit status of a command stopped by Ctrl-C, as shells have it (128 + SIGINT)."""

cli = typer.Typer(
    name="polytope",
    help="An atlas of the polytopes that a network cuts its activation space into.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for module in (build, layout, ask, name, experiment, report, tour):
    module.register(cli)


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
    Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), message))


if __name__ == "__main__":
    main()

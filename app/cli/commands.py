"""All commands, and how each ends. Their words are those of the Python functions that they call."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from importlib.metadata import version
from tempfile import NamedTemporaryFile
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
    server,
    sharing,
    sites,
    tour,
    versions,
)
from .statuses import INTERRUPTED, UNFORESEEN

LONGEST_ERROR = 300
"""Characters of an error that nobody foresaw; the report has it whole."""

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
    sites,
    derived,
    nearest,
    clusters,
    density,
    boundaries,
    compare,
    experiment,
    report,
    contents,
    sharing,
    versions,
    serve,
    server,
    tour,
):
    cli.add_typer(module.commands)


def run(commands: typer.Typer = cli) -> None:
    """Run the one of the commands that was given; however it ends, that is one message and an exit status."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # What torch will do otherwise one day is no word for whoever asks about polytopes.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
    warnings.showwarning = lambda message, *where, **others: _say(str(message), "note")
    try:
        status = commands(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except typer.TyperException as error:  # typer would print what was typed as it is
        if message := error.format_message().rstrip(". "):  # of a command without words the help was printed
            _say(f"{message}; --help says what can be given")
        sys.exit(error.exit_code)
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
    except Exception as error:
        if _was_interrupted(error):
            _say("stopped")
            sys.exit(INTERRUPTED)
        _say(_unforeseen(error))
        sys.exit(UNFORESEEN)


def _was_interrupted(error: BaseException) -> bool:
    """Whether Ctrl-C is behind an error: modules that it stops while they load say that they can't be imported."""
    behind = error.__cause__ or error.__context__
    return behind is not None and (isinstance(behind, KeyboardInterrupt) or _was_interrupted(behind))


def _unforeseen(error: Exception) -> str:
    """What to tell of an error of ours, whose full report is written to a file."""
    what = f"{type(error).__name__}: {error}".strip().splitlines()[0][:LONGEST_ERROR]
    number = version("polytope-atlas")
    report = [f"polytope-atlas {number}, Python {sys.version}, {sys.platform}", " ".join(sys.argv), ""]
    try:
        with NamedTemporaryFile("w", prefix="polytope-", suffix=".txt", delete=False, errors="replace") as file:
            file.write("\n".join([*report, *traceback.format_exception(error)]))
            where = f"the full report is in {file.name}"
    except OSError as full:
        where = f"no report of it could be written ({full})"
    return f"polytope-atlas {number} failed in a way that nobody foresaw ({what}); {where}"


def _say(message: str, what: str = "error") -> None:
    colour = "bold red" if what == "error" else "yellow"
    Console(stderr=True, soft_wrap=True).print(Text.assemble((f"{what}: ", colour), lines_with_signs(message)))

"""Options that several commands take, and how a function becomes a command that takes them.

A dataclass among the parameters of a function is a group: its fields become options one by one. A question is a
function of an open atlas that returns rows; as a command it takes ATLAS, --format and --output besides. SQL of the
user that it asks runs in a process of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import pandas as pd
import typer

import atlas as store
from atlas.errors import UsageError
from atlas.store.atlas import Atlas

from .. import sandbox
from .tables import Format, emit, note

if TYPE_CHECKING:
    from ingest.run.ray_engine import RayEngine

AtlasPath = Annotated[Path, typer.Argument(metavar="ATLAS", help="Folder of the atlas, or s3://…")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
SearchDevice = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where codes are compared.")]
Weights = Annotated[str | None, typer.Option(help="Where the weights are now, if not where the atlas recorded.")]
NetworkName = Annotated[str | None, typer.Option(help="Name of a network in the atlas, where a site is in several.")]
SiteName = Annotated[str | None, typer.Option(help="A site: blocks.5.mlp, inception4c, inception4c:full.")]
SpanName = Annotated[str | None, typer.Option(help="A span: 'AFTER->TO', or 'AFTER->' to the output.")]
ClusteringId = Annotated[
    int | None, typer.Option(help="Id of a clustering. Default: the newest of the site or span.")
]
Space = Annotated[Literal["codes", "activations"], typer.Option(help="Of codes, or of activations.")]
Seed = Annotated[int, typer.Option(help="Of everything drawn at random.")]

OUTPUT = "Output"
"""Panel of a command's help."""


@dataclass(frozen=True)
class Target:
    """Whose codes are meant."""

    site: SiteName = None
    span: SpanName = None
    network: NetworkName = None


@dataclass(frozen=True)
class Clustered:
    """Which clustering is meant."""

    site: SiteName = None
    span: SpanName = None
    network: NetworkName = None
    clustering: ClusteringId = None
    space: Space = "codes"


_processes = partial(typer.Option, rich_help_panel="Processes")


@dataclass(frozen=True)
class Processes:
    """Who does the work: this process, or Ray's."""

    ray: Annotated[
        str | None,
        _processes(
            metavar="local|auto|HOST:PORT",
            help="Work in several processes: local starts them on this machine, auto finds the Ray cluster here.",
        ),
    ] = None
    workers: Annotated[int | None, _processes(help="--ray: processes. Default: as many as there is room for.")] = None
    gpus_per_worker: Annotated[
        float | None,
        _processes(help="--ray: GPUs of each, or a share of one (0.5). Default: 1 where there are any."),
    ] = None

    def engine(self) -> RayEngine | None:
        """None for this process."""
        if self.ray is not None:
            from ingest.run.ray_engine import RayEngine

            return RayEngine(self.ray, workers=self.workers, gpus_per_worker=self.gpus_per_worker)
        given = [name for name in ("workers", "gpus_per_worker") if getattr(self, name) is not None]
        if given:
            raise UsageError(f"--{given[0].replace('_', '-')} is for --ray local, or another address of Ray")
        return None


@dataclass(frozen=True)
class Output:
    """Where rows go."""

    style: Annotated[Format, typer.Option("--format", help="How rows are written.", rich_help_panel=OUTPUT)] = (
        Format.TABLE
    )
    output: Annotated[Path | None, typer.Option(help="Write rows to this file.", rich_help_panel=OUTPUT)] = None
    safe_csv: Annotated[
        bool,
        typer.Option(
            "--safe-csv",
            help="CSV: an apostrophe before texts that a spreadsheet would run as formulas.",
            rich_help_panel=OUTPUT,
        ),
    ] = False

    def write(self, rows: pd.DataFrame, title: str = "", table: pd.DataFrame | None = None) -> None:
        """Write rows; ``table`` stands for them on a terminal."""
        shown = rows if table is None or self.style is not Format.TABLE else table
        emit(shown, self.style, self.output, title, self.safe_csv)


@dataclass(frozen=True)
class Answer:
    """Rows, with what stands over and under them, and for them, on a terminal."""

    rows: pd.DataFrame
    title: str = ""
    remarks: Sequence[str] = ()
    table: pd.DataFrame | None = None


def question(ask: Callable[..., Answer]) -> Callable[..., None]:
    """A command that opens an atlas, asks it and writes the rows; ``ask`` takes the atlas first."""

    def command(atlas: Path, output: Output, **given: Any) -> None:
        with store.open(atlas) as a:
            a.elsewhere = partial(sandbox.ask, atlas, bounds=sandbox.command_line())
            answer = ask(a, **given)
        output.write(answer.rows, answer.title, answer.table)
        note(answer.remarks)

    signature = inspect.signature(ask, eval_str=True)
    [first, *others] = signature.parameters.values()
    if first.annotation is not Atlas:
        raise TypeError(f"{ask.__name__} asks no atlas: its first parameter is {first}")
    parameters = [keyword("atlas", AtlasPath), *others, keyword("output", Output)]
    return grouped(signed(command, ask, parameters))


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """A function whose groups, dataclasses, are options one by one."""
    groups: dict[str, type[Any]] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if is_dataclass(parameter.annotation) and isinstance(parameter.annotation, type):
            groups[name] = parameter.annotation
            parameters += _options(parameter.annotation)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    def command(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        function(**given)

    return signed(command, function, parameters)


def _options(group: type[Any]) -> list[inspect.Parameter]:
    types = get_type_hints(group, include_extras=True)
    return [keyword(field.name, types[field.name], field.default) for field in fields(group)]


def keyword(name: str, annotation: Any, default: Any = MISSING) -> inspect.Parameter:
    """A parameter that is given by its name, and must be given where it has no default."""
    default = inspect.Parameter.empty if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def signed(
    command: Callable[..., None], function: Callable[..., Any], parameters: Sequence[inspect.Parameter]
) -> Callable[..., None]:
    """The command under the name and with the help of a function, as typer reads them."""
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command

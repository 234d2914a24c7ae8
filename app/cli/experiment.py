"""`polytope experiment NAME`: one command for each experiment, its options those of the Python function.

A command's module loads when it is asked for, so that the others stay quick.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import numpy as np
import pandas as pd
import typer
import typer.main
from typer.core import TyperGroup

import atlas as store
from atlas.errors import AtlasLocked, UsageError
from query.experiments.archive import as_json, load, recall, save, stored
from query.experiments.options import Option
from query.experiments.record import Experiment
from query.experiments.registry import EXPERIMENTS, find
from query.experiments.result import MAIN, Result

from ..plain_text import counted, escaped_json
from .options import OUTPUT, AtlasPath, Output, grouped, keyword, signed
from .tables import Format, note

SHOWN_ROWS = 40
"""Rows of a table on a terminal; CSV, JSON and Parquet have them all."""

_output = partial(typer.Option, rich_help_panel=OUTPUT)
_network = partial(typer.Option, rich_help_panel="Network")


class LazyGroup(TyperGroup):
    """Makes the command of an experiment when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return ["list", *EXPERIMENTS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in EXPERIMENTS:
            return _command(find(cmd_name))
        return super().get_command(ctx, cmd_name)


@dataclass(frozen=True)
class Table:
    """Which rows are written."""

    table: Annotated[str, _output(help="Which of the tables to print.")] = MAIN


@dataclass(frozen=True)
class Kept:
    """What else becomes of a result."""

    figure: Annotated[
        Path | None, _output(help="Write the figure to this .html, which needs no connection (slice: also .png).")
    ] = None
    store: Annotated[bool, _output("--store/--no-store", help="Keep the result in the atlas.")] = True
    fresh: Annotated[bool, _output("--fresh", help="Compute again what is stored.")] = False
    as_json: Annotated[bool, _output("--json", help="Print parameters, all tables and notes as JSON.")] = False


@dataclass(frozen=True)
class Arrays:
    """Of an experiment that has arrays."""

    arrays: Annotated[
        Path | None,
        _output(help="Write the map whole to this .npz: A, b, the example's activation x, names of the outputs."),
    ] = None


@dataclass(frozen=True)
class Live:
    """Of an experiment that runs the network."""

    weights: Annotated[str | None, _network(help="Where the weights are now, if not where the atlas recorded.")] = (
        None
    )
    device: Annotated[str, _network(help="auto, cpu, cuda or mps.")] = "auto"


@dataclass(frozen=True)
class Controls:
    """Of one that has untrained networks beside it."""

    controls: Annotated[
        bool,
        _network("--controls/--no-controls", help="Both untrained networks beside it: random:0 and random-raw:0."),
    ] = False


group = typer.Typer(cls=LazyGroup, no_args_is_help=True, rich_markup_mode="rich")
commands = typer.Typer()
commands.add_typer(
    group,
    name="experiment",
    rich_help_panel="Ask",
    help="Repeat an experiment of the post, with statistics; the result is stored, with its figure.",
)


@group.command("list")
@grouped
def list_experiments(
    atlas: Annotated[Path | None, typer.Argument(metavar="[ATLAS]", help="Also list what it has stored.")] = None,
    *,
    output: Output,
) -> None:
    """What experiments there are, and which results an atlas holds; of an atlas, rows are those of its results."""
    if atlas is None or output.style is Format.TABLE:
        every = [find(name) for name in EXPERIMENTS]
        table = pd.DataFrame(
            {
                "experiment": list(EXPERIMENTS),
                "section": [experiment.section for experiment in every],
                "needs": ["the network" if experiment.live else "the atlas" for experiment in every],
                "what comes out": list(EXPERIMENTS.values()),
            }
        )
        output.write(table.astype({"section": "Int64"}), "section: of docs/SCIENCE.md")
    if atlas is not None:
        with store.open(atlas) as a:
            held, address = stored(a), a.address
        held["parameters"] = [json.dumps(value, ensure_ascii=False) for value in held["parameters"]]
        held["current"] = [f"no: {why}" if why else "yes" for why in held["outdated"]]
        output.write(held.drop(columns=["options", "outdated"]), f"stored in {address}")


@dataclass(frozen=True)
class Asked:
    """An experiment as a command asks for it: what is handed to it, and what becomes of the result."""

    experiment: Experiment
    options: dict[str, Any]
    table: Table
    output: Output
    kept: Kept
    arrays: Arrays = field(default_factory=Arrays)
    live: Live = field(default_factory=Live)
    controls: Controls = field(default_factory=Controls)

    def perform(self, path: Path) -> None:
        """Answer from the atlas, or compute, store and show."""
        file = self.arrays.arrays
        if file is not None and file.suffix != ".npz":
            raise UsageError(f"--arrays is {file}; arrays are written as NumPy does: name a file ending in .npz")
        with store.open(path) as a:
            handed = self._handed(a)
            result, known = self._result(a, handed)
            if file is not None and self.experiment.arrays is not None:
                np.savez(file, allow_pickle=False, **self.experiment.arrays(a, handed["reader"], result))
        if known is None and self.kept.store:
            try:
                from ingest.derived.job import patiently

                from .progress import TerminalProgress

                with patiently(path, TerminalProgress(), writable=True) as a:
                    known = save(a, result)
            except AtlasLocked:  # what was measured is shown all the same
                self._show(result, None)
                raise
        self._show(result, known)

    def _handed(self, a: store.Atlas) -> dict[str, Any]:
        """The networks that the experiment runs."""
        if not self.experiment.live:
            return {}
        from .networks import reload, untrained  # loads what ingesting takes

        about = self.experiment.network(a, self.options)
        reader = reload(a, a.catalog.network(about), self.live.weights, self.live.device)
        controls = {"controls": untrained(a, reader, self.live.device)} if self.controls.controls else {}
        return {"reader": reader, **controls}

    def _result(self, a: store.Atlas, handed: dict[str, Any]) -> tuple[Result, int | None]:
        """The result, and the number under which it is stored already."""
        about = self.experiment.network(a, self.options)
        if not self.kept.fresh:
            known = recall(a, self.experiment, about, self.options, handed.get("controls"))
            if known is not None:
                return load(a, known), known
        from .progress import TerminalProgress  # loads what ingesting takes, which a stored answer can do without

        with TerminalProgress().step(self.experiment.name, unit="steps") as step:
            return self.experiment.run(a, **handed, **self.options, progress=step.update), None

    def _show(self, result: Result, number: int | None) -> None:
        name, chosen = self.experiment.name, self.table.table
        if chosen not in result.tables:
            raise UsageError(f"--table is {chosen!r}; {name} has {', '.join(result.tables)}")
        if self.kept.figure is not None:
            write_figure(result, self.kept.figure)
        if self.kept.as_json:
            typer.echo(escaped_json(as_json(result, number)))
            return
        rows = result.tables[chosen]
        title = f"{name} of {result.network or 'several networks'}: {chosen}"
        self.output.write(rows, title, table=rows.head(SHOWN_ROWS))
        note(_remarks(result, chosen, number, self.output.style))


def _remarks(result: Result, chosen: str, number: int | None, style: Format) -> list[str]:
    remarks = list(result.notes)
    n_rows = len(result.tables[chosen])
    if style is Format.TABLE and n_rows > SHOWN_ROWS:
        remarks.append(f"the first {SHOWN_ROWS} of {n_rows} rows; --format csv has them all")
    others = [f"{name} ({counted(len(rows), 'row')})" for name, rows in result.tables.items() if name != chosen]
    if others:
        remarks.append(f"further tables, for --table: {', '.join(others)}")
    if number is not None:
        remarks.append(f"stored as experiment {number}")
    return remarks


def write_figure(result: Result, file: Path) -> None:
    """One HTML file that needs no connection, or a PNG of a slice; `UsageError` for any other ending."""
    if file.suffix == ".png":
        picture = find(result.kind).picture
        if picture is None:
            raise UsageError(
                f"experiment {result.kind} draws no PNG; write its figure as HTML, to a file ending in .html"
            )
        file.write_bytes(picture(result))
        return
    if file.suffix not in (".html", ".htm"):
        raise UsageError(f"--figure is {file}; figures are written as HTML, so name a file that ends in .html")
    result.figure().write_html(file, include_plotlyjs=True, full_html=True)


# --- a command from an experiment's options -----------------------------------------------------------------------


def _command(experiment: Experiment) -> Any:
    """The command of an experiment: its options, and what to do with the result."""
    read = {option.name: _reading(option) for option in experiment.fields.values()}

    def command(atlas: Path, **given: Any) -> None:
        options = {name: value(given.pop(name)) for name, (_, value) in read.items()}
        Asked(experiment, options, **given).perform(atlas)

    parameters = [keyword("atlas", AtlasPath)]
    for option in experiment.fields.values():
        default = MISSING if option.required else _written(option.default)
        parameters.append(
            keyword(option.name, Annotated[read[option.name][0], typer.Option(help=option.help)], default)
        )
    groups: dict[str, type[Any]] = {"live": Live} if experiment.live else {}
    groups |= {"controls": Controls} if experiment.live and experiment.controls else {}
    groups |= {"table": Table, "output": Output, "kept": Kept}
    groups |= {"arrays": Arrays} if experiment.arrays is not None else {}
    parameters += [keyword(name, kind) for name, kind in groups.items()]
    single = typer.Typer(add_completion=False, rich_markup_mode="rich")
    command.__doc__ = EXPERIMENTS[experiment.name]
    single.command(experiment.name)(grouped(signed(command, command, parameters)))
    return typer.main.get_command(single)


Reading = Callable[[Any], Any]


def _reading(option: Option) -> tuple[Any, Reading]:
    """The type that typer sees, and how what was typed becomes what the experiment takes: lists go by commas."""
    annotation = option.type
    given = [kind for kind in _members(annotation) if kind is not type(None)]
    optional = len(given) < len(_members(annotation))
    items = next((kind for kind in given if _is_list(kind)), None)
    if items is None:
        return annotation, lambda value: value
    item = next((kind for kind in get_args(items) if kind is not Ellipsis), str)
    return (str | None if optional else str), lambda value: _split(option.name, value, item)


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _is_list(kind: Any) -> bool:
    return get_origin(kind) in (Sequence, list, tuple)


def _split(name: str, text: str | None, item: Callable[[str], Any]) -> Any:
    if text is None:
        return None
    try:
        return [item(part.strip()) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"--{name.replace('_', '-')} is {text!r}; write values with commas between them") from None


def _written(default: Any) -> Any:
    """A default as it would be typed."""
    return ",".join(map(str, default)) if isinstance(default, list | tuple) else default

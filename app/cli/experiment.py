"""`polytope experiment NAME`: one command for each experiment, its options those of the Python function.

A command's module loads when it is asked for, so that the others stay quick.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

from ..plain_text import counted
from .options import AtlasPath
from .tables import Format, emit, note, show

SHOWN_ROWS = 40
"""Rows of a table on a terminal; CSV, JSON and Parquet have them all."""

OUTPUT, NETWORK = "Output", "Network"
"""Panels of a command's help."""


class LazyGroup(TyperGroup):
    """Makes the command of an experiment when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return ["list", *EXPERIMENTS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in EXPERIMENTS:
            return _command(find(cmd_name))
        return super().get_command(ctx, cmd_name)


@dataclass(frozen=True)
class Output:
    """What to do with a result."""

    table: str
    style: Format
    output: Path | None
    figure: Path | None
    store: bool
    fresh: bool
    as_json: bool
    arrays: Path | None = None


group = typer.Typer(cls=LazyGroup, no_args_is_help=True, rich_markup_mode="rich")
commands = typer.Typer()
commands.add_typer(
    group,
    name="experiment",
    rich_help_panel="Ask",
    help="Repeat an experiment of the post, with statistics; the result is stored, with its figure.",
)


@group.command("list")
def list_experiments(
    atlas: Annotated[Path | None, typer.Argument(metavar="[ATLAS]", help="Also list what it has stored.")] = None,
    style: Annotated[Format, typer.Option("--format", help="How rows are written.")] = Format.TABLE,
    output: Annotated[Path | None, typer.Option(help="Write rows to this file.")] = None,
) -> None:
    """What experiments there are, and which results an atlas holds; of an atlas, rows are those of its results."""
    if atlas is None or style is Format.TABLE:
        every = [find(name) for name in EXPERIMENTS]
        table = pd.DataFrame(
            {
                "experiment": list(EXPERIMENTS),
                "section": [experiment.section for experiment in every],
                "needs": ["the network" if experiment.live else "the atlas" for experiment in every],
                "what comes out": list(EXPERIMENTS.values()),
            }
        )
        emit(table.astype({"section": "Int64"}), style, output, "section: of docs/SCIENCE.md")
    if atlas is not None:
        with store.open(atlas) as a:
            held = stored(a)
        held["parameters"] = [json.dumps(value, ensure_ascii=False) for value in held["parameters"]]
        held["current"] = [f"no: {why}" if why else "yes" for why in held["outdated"]]
        emit(held.drop(columns=["options", "outdated"]), style, output, f"stored in {atlas}")


def perform(
    path: Path,
    experiment: Experiment,
    options: dict[str, Any],
    output: Output,
    *,
    weights: str | None = None,
    device: str = "auto",
    controls: bool = False,
) -> Result:
    """Answer from the atlas, or compute, store and show."""
    handed: dict[str, Any] = {}
    if output.arrays is not None and output.arrays.suffix != ".npz":
        raise UsageError(f"--arrays is {output.arrays}; arrays are written as NumPy does: name a file ending in .npz")
    with store.open(path) as a:
        about = experiment.network(a, options)
        if experiment.live:
            from .networks import reload, untrained  # loads what ingesting takes

            handed["reader"] = reload(a, a.catalog.network(about), weights, device)
            if controls:
                handed["controls"] = untrained(a, handed["reader"], device)
        known = None if output.fresh else recall(a, experiment, about, options, handed.get("controls"))
        if known is not None:
            result = load(a, known)
        else:
            from .progress import TerminalProgress  # loads what ingesting takes, which a stored answer can do without

            with TerminalProgress().step(experiment.name, unit="steps") as step:
                result = experiment.run(a, **handed, **options, progress=step.update)
        if output.arrays is not None and experiment.arrays is not None:
            np.savez(output.arrays, allow_pickle=False, **experiment.arrays(a, handed["reader"], result))
    if known is None and output.store:
        try:
            with store.open(path, writable=True) as a:
                known = save(a, result)
        except AtlasLocked:  # what was measured is shown all the same
            _show(experiment, result, None, output)
            raise
    _show(experiment, result, known, output)
    return result


def _show(experiment: Experiment, result: Result, number: int | None, output: Output) -> None:
    if output.table not in result.tables:
        raise UsageError(f"--table is {output.table!r}; {experiment.name} has {', '.join(result.tables)}")
    if output.figure is not None:
        write_figure(result, output.figure)
    if output.as_json:
        typer.echo(as_json(result, number))
        return
    chosen = result.tables[output.table]
    remarks = list(result.notes)
    if output.style is Format.TABLE and output.output is None:
        show(chosen.head(SHOWN_ROWS), f"{experiment.name} of {result.network or 'several networks'}: {output.table}")
        if len(chosen) > SHOWN_ROWS:
            remarks.append(f"the first {SHOWN_ROWS} of {len(chosen)} rows; --format csv has them all")
    else:
        emit(chosen, output.style, output.output)
    others = [
        f"{name} ({counted(len(table), 'row')})" for name, table in result.tables.items() if name != output.table
    ]
    if others:
        remarks.append(f"further tables, for --table: {', '.join(others)}")
    if number is not None:
        remarks.append(f"stored as experiment {number}")
    note(remarks)


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


def _keyword(name: str, kind: Any, default: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


_OUTPUT = [
    _keyword("table", str, MAIN, typer.Option(help="Which of the tables to print.", rich_help_panel=OUTPUT)),
    _keyword(
        "style", Format, Format.TABLE, typer.Option("--format", help="How rows are written.", rich_help_panel=OUTPUT)
    ),
    _keyword("output", Path | None, None, typer.Option(help="Write rows to this file.", rich_help_panel=OUTPUT)),
    _keyword(
        "figure",
        Path | None,
        None,
        typer.Option(
            help="Write the figure to this .html, which needs no connection (slice: also .png).",
            rich_help_panel=OUTPUT,
        ),
    ),
    _keyword(
        "store",
        bool,
        True,
        typer.Option("--store/--no-store", help="Keep the result in the atlas.", rich_help_panel=OUTPUT),
    ),
    _keyword(
        "fresh", bool, False, typer.Option("--fresh", help="Compute again what is stored.", rich_help_panel=OUTPUT)
    ),
    _keyword(
        "as_json",
        bool,
        False,
        typer.Option("--json", help="Print parameters, all tables and notes as JSON.", rich_help_panel=OUTPUT),
    ),
]

_LIVE = [
    _keyword(
        "weights",
        str | None,
        None,
        typer.Option(help="Where the weights are now, if not where the atlas recorded.", rich_help_panel=NETWORK),
    ),
    _keyword("device", str, "auto", typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel=NETWORK)),
]

_ARRAYS = _keyword(
    "arrays",
    Path | None,
    None,
    typer.Option(
        help="Write the map whole to this .npz: A, b, the example's activation x, names of the outputs.",
        rich_help_panel=OUTPUT,
    ),
)

_CONTROLS = _keyword(
    "controls",
    bool,
    False,
    typer.Option(
        "--controls/--no-controls",
        help="Both untrained networks beside it: random:0 and random-raw:0.",
        rich_help_panel=NETWORK,
    ),
)


def _command(experiment: Experiment) -> Any:
    """The command of an experiment: its options, and what to do with the result."""
    read = {option.name: _reading(option) for option in experiment.fields.values()}
    outputs = [*_OUTPUT, *([] if experiment.arrays is None else [_ARRAYS])]
    parameters = [inspect.Parameter("atlas", inspect.Parameter.KEYWORD_ONLY, annotation=AtlasPath)]
    for option in experiment.fields.values():
        default = inspect.Parameter.empty if option.required else _written(option.default)
        parameters.append(_keyword(option.name, read[option.name][0], default, typer.Option(help=option.help)))
    if experiment.live:
        parameters += [*_LIVE, *([_CONTROLS] if experiment.controls else [])]

    def command(**given: Any) -> None:
        path = given.pop("atlas")
        output = Output(**{option.name: given.pop(option.name) for option in outputs})
        options = {name: value(given.pop(name)) for name, (_, value) in read.items()}
        perform(path, experiment, options, output, **given)

    parameters += outputs
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = EXPERIMENTS[experiment.name]
    single = typer.Typer(add_completion=False, rich_markup_mode="rich")
    single.command(experiment.name)(command)
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

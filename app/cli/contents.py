"""What an atlas holds: by SQL, table by table, checked, or exported."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import typer

import atlas as store
import query
from atlas.errors import UsageError
from atlas.store.atlas import Atlas
from query.examples.search import LIMIT
from query.store.queries import schema as schema_of

from ..plain_text import counted
from .options import Answer, AtlasPath, ClusteringId, NetworkName, Output, Target, grouped, question
from .subjects import typed
from .tables import Format, note, say, show

commands = typer.Typer()

HIDDEN = {"weights_digest", "reading", "algorithm", "started_at"}
"""Columns of `polytope info` that a terminal has no room for."""


# A query may begin with a comment, which looks like an option.
@commands.command(rich_help_panel="Ask", context_settings={"ignore_unknown_options": True})
@question
def sql(
    a: Atlas,
    statement: Annotated[
        str | None, typer.Argument(metavar="QUERY", help="One query; - reads it from stdin.")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print what every column means.")] = False,
    limit: Annotated[int, typer.Option(help="Rows at most.")] = 1000,
    timeout: Annotated[float, typer.Option(help="Seconds at most.")] = 30.0,
) -> Answer:
    """Run SQL, read-only. Macros: hamming(a, b), is_on(code, gate), polytope_density(code, code, act, act)."""
    if (statement is None) == (not schema):
        raise UsageError("give a query, or --schema to see the tables; one of the two")
    if schema:
        return Answer(schema_of(a))
    rows = query.sql(a, str(typed(statement)), limit=limit, timeout=timeout)
    more = rows.attrs.get("truncated")
    return Answer(rows, remarks=[f"the first {limit:,} rows; there are more (--limit)"] if more else ())


@commands.command(rich_help_panel="Ask")
@question
def find(
    a: Atlas,
    words: Annotated[str, typer.Argument(metavar="WORDS", help="A token, a word of a text, a label or a key.")],
    network: NetworkName = None,
    exact: Annotated[bool, typer.Option("--exact", help="Only the very token: 'self' and ' self' are two.")] = False,
    limit: Annotated[int, typer.Option(help="Examples of each way of matching.")] = LIMIT,
) -> Answer:
    """The stored examples that bear these words: as token, in their text, as label, prediction or key."""
    rows = query.find(a, words, network=network, exact=exact, limit=limit)
    about = rows.attrs
    found = [f"{n:,} by {way}" for way, n in about["counts"].items() if n]
    borne = [f"{token!r} {n:,}" for token, n in about["tokens"].items()]
    remarks = [f"tokens: {', '.join(borne)}"] if borne else []
    return Answer(rows, f"{words!r} in {about['network']}: {', '.join(found) or 'nothing'}", remarks)


@commands.command(rich_help_panel="Look")
@grouped
def info(
    atlas: AtlasPath,
    table: Annotated[
        str | None, typer.Option(help="One of the tables, whole: networks, sites, datasets, runs, …")
    ] = None,
    *,
    output: Output,
) -> None:
    """What an atlas holds: networks, sites, datasets, runs, clusterings, indexes."""
    with store.open(atlas) as a:
        tables = query.info(a)
    if table is not None:
        if table not in tables:
            raise UsageError(f"--table is {table!r}; the tables are {', '.join(tables)}")
        output.write(tables[table], table)
        return
    if output.style is not Format.TABLE or output.output is not None:
        raise UsageError(f"info is several tables; say which with --table: {', '.join(tables)}")
    for name, rows in tables.items():
        if len(rows):
            _show_part(name, rows)


def _show_part(name: str, rows: pd.DataFrame) -> None:
    shown = rows[rows["n_codes"] > 0] if name == "sites" and "n_codes" in rows else rows
    show(shown.drop(columns=[column for column in HIDDEN if column in rows]), title=name)
    if len(shown) < len(rows):
        note(
            [f"{counted(len(rows) - len(shown), 'more site was', 'more sites were')} not ingested (--sites, --full)"]
        )


@commands.command(rich_help_panel="Look")
@grouped
def verify(atlas: AtlasPath, output: Output) -> None:
    """Check codes, references, digests and indexes; exit status 1 if anything is wrong."""
    with store.open(atlas) as a:
        checks = query.verify(a)
    failed = checks[~checks["ok"]]
    if output.style is Format.TABLE and output.output is None and not len(failed):
        typer.echo(f"all {len(checks)} checks passed")
    else:
        output.write(checks, f"{len(failed)} of {len(checks)} checks failed", table=failed)
    if len(failed):
        raise typer.Exit(1)


@commands.command(rich_help_panel="Look")
@grouped
def export(
    atlas: AtlasPath,
    embedding_atlas: Annotated[
        Path,
        typer.Option(
            metavar="OUT.parquet",
            help="Write a stored map for Embedding Atlas: places, texts or images, labels, clusters, neighbours.",
        ),
    ],
    target: Target,
    space: Annotated[
        Literal["codes", "activations"] | None, typer.Option(help="Which maps to look among. Default: codes first.")
    ] = None,
    layout: Annotated[int | None, typer.Option(help="Id of a map. Default: the newest of the site or span.")] = None,
    clustering: ClusteringId = None,
) -> None:
    """Write a stored map to a file that another tool opens, and print the command that does."""
    from query.layout.embedding_atlas import export_embedding_atlas

    from .progress import TerminalProgress

    with store.open(atlas) as a, TerminalProgress().step("export", total=1, unit="examples") as step:
        written = export_embedding_atlas(
            a,
            embedding_atlas,
            **vars(target),
            layout=layout,
            space=space,
            clustering=clustering,
            progress=step.update,
        )
    clustered = f", clustering {written.clustering}" if written.clustering is not None else ""
    say(f"wrote {written.n_examples:,} examples of layout {written.layout}{clustered}; open them with")
    say(f"  {shlex.join(written.command)}")

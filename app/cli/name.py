"""The command that names a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import atlas as store
import query
from atlas.errors import UsageError
from query.clustering.names import borne_name

from .ask import Clustering, Space
from .build import AtlasPath, NetworkName, SiteName, SpanName
from .tables import Format, emit


def register(cli: typer.Typer) -> None:
    cli.command(rich_help_panel="Ask")(name)
    cli.command(rich_help_panel="Ask")(names)


def name(
    atlas: AtlasPath,
    cluster: Annotated[int, typer.Argument(help="Number of the cluster.")],
    words: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The name. Default: keep the one it bears.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="A note. Default: keep the one it bears.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take name and note away.")] = False,
    site: SiteName = None,
    span: SpanName = None,
    network: NetworkName = None,
    clustering: Clustering = None,
    space: Space = "codes",
) -> None:
    """Name a cluster, or write a note about it; both outlive the clustering."""
    given = words is not None or note is not None
    if given == remove:
        raise UsageError("give a NAME or --note, or --remove to take both away")
    with store.open(atlas) as a:
        borne = borne_name(
            a, clustering=clustering, cluster=cluster, site=site, span=span, network=network, space=space
        )
    if not remove:
        words = borne.name if words is None else words
        note = borne.note if note is None else note
    with store.open(atlas, writable=True) as a:
        found = query.name_cluster(a, words, clustering=borne.clustering, cluster=cluster, note=note)
    _say(atlas, cluster, found.clustering, found.name, found.note)


def _say(atlas: Path, cluster: int, clustering: int, name: str | None, note: str | None) -> None:
    of = f"cluster {cluster} of clustering {clustering}"
    if name is None and note is None:
        typer.echo(f"{of} bears no name")
        return
    typer.echo(f"{of} is called {name!r}" if name is not None else f"{of} has a note and no name")


def names(
    atlas: AtlasPath,
    style: Annotated[Format, typer.Option("--format", help="How rows are written.")] = Format.TABLE,
    output: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
) -> None:
    """The names and notes of clusters, by the example that each belongs to."""
    with store.open(atlas) as a:
        found = query.cluster_names(a)
    emit(found, style, output)

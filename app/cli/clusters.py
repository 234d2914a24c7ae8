"""Commands about clusterings: their list, the clusters and members of one, and what people write: names, tags."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import pandas as pd
import typer

import atlas as store
import query
from atlas.errors import UsageError
from atlas.store.atlas import Atlas
from query.clustering.names import borne_name

from .called import called, with_names
from .options import Answer, AtlasPath, Clustered, Device, Target, Weights, grouped, question
from .subjects import Subject, reader
from .tables import remarks, say

commands = typer.Typer()


@commands.command(rich_help_panel="Ask")
@question
def clusterings(a: Atlas) -> Answer:
    """The clusterings of an atlas, with their parameters."""
    rows = query.clusterings(a)
    return Answer(rows, table=rows.drop(columns="algorithm"))


@commands.command(rich_help_panel="Ask")
@question
def clusters(
    a: Atlas,
    clustered: Clustered,
    samples: Annotated[int, typer.Option(help="Members shown of each.")] = 3,
) -> Answer:
    """The clusters of a clustering: size, purity, persistence, medoid, samples."""
    return described(a, clustered, samples)


def described(a: Atlas, clustered: Clustered, samples: int = 3) -> Answer:
    """The clusters of a clustering, under a line that says what they were made with."""
    rows = query.clusters(a, **vars(clustered), samples=samples)
    made = query.clusterings(a).set_index("clustering_id").loc[rows.attrs["clustering"]]
    table = rows.drop(columns=["medoid_context"], errors="ignore")
    table = table.dropna(axis="columns", how="all") if len(table) else table
    table["samples"] = [" │ ".join(row) for row in rows["samples"]]
    title = (
        f"clustering {made.name}: {made.space} of {made.target} ({made.network}), {made.metric}, "
        f"{made.n_clusters} clusters of {made.n_examples} examples, {made.n_noise} noise"
    )
    if not len(rows):
        title += f"; no cluster: all {made.n_examples} examples are noise"
    if made.n_placed:
        title += f", {made.n_placed} of them placed in the clusters of {int(made['sample'])} drawn at random"
        table = table.rename(columns={"n_placed": "placed"})
    else:
        table = table.drop(columns="n_placed")
    if not made.exact:
        title += "; approximate"
    return Answer(rows, title, remarks(rows), table)


@commands.command(rich_help_panel="Ask")
@question
def members(
    a: Atlas,
    cluster: Annotated[int, typer.Argument(help="Number of the cluster; -1 is noise.")],
    clustered: Clustered,
    limit: Annotated[int, typer.Option(help="At most this many.")] = 20,
) -> Answer:
    """The members of a cluster, the surest first."""
    rows = query.members(a, cluster=cluster, **vars(clustered), limit=limit)
    shown = rows if rows["placed"].any() else rows.drop(columns="placed")
    title = f"{called(a, rows.attrs['clustering'], cluster)} of clustering {rows.attrs['clustering']}"
    return Answer(rows, title, remarks(rows), shown)


@commands.command(rich_help_panel="Ask")
@question
def membership(
    a: Atlas, subject: Subject, clustered: Clustered, weights: Weights = None, device: Device = "auto"
) -> Answer:
    """Which cluster an example belongs to, or a new text, image or code, and how strongly."""
    target = Target(clustered.site, clustered.span, clustered.network)
    network = reader(a, subject, target, weights, device, clustered.clustering)
    belongs = query.membership(a, **subject.given(), **vars(clustered), reader=network)
    rows = pd.DataFrame([asdict(belongs)])
    return Answer(rows, table=with_names(a, rows, belongs.clustering).drop(columns="name"))


@commands.command(rich_help_panel="Ask")
@grouped
def name(
    atlas: AtlasPath,
    cluster: Annotated[int, typer.Argument(help="Number of the cluster.")],
    words: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The name. Default: keep the one it bears.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="A note. Default: keep the one it bears.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take name and note away.")] = False,
    *,
    clustered: Clustered,
) -> None:
    """Name a cluster, or write a note about it; both outlive the clustering."""
    if (words is not None or note is not None) == remove:
        raise UsageError("give a NAME or --note, or --remove to take both away")
    with store.open(atlas) as a:
        borne = borne_name(a, cluster=cluster, **vars(clustered))
        if not remove:
            words = borne.name if words is None else words
            note = borne.note if note is None else note
        given = query.name_cluster(a, words, clustering=borne.clustering, cluster=cluster, note=note, seen=borne)
    subject = f"cluster {cluster} of clustering {given.clustering}"
    if given.name is not None:
        say(f"{subject} is called {given.name!r}")
    else:
        say(f"{subject} has a note and no name" if given.note is not None else f"{subject} bears no name")


@commands.command(rich_help_panel="Ask")
@question
def names(a: Atlas) -> Answer:
    """The names and notes of clusters, by the example that each belongs to."""
    return Answer(query.cluster_names(a))


@commands.command(rich_help_panel="Ask")
@grouped
def tag(
    atlas: AtlasPath,
    words: Annotated[str, typer.Argument(metavar="TAG", help="The tag: a short line.")],
    examples: Annotated[list[int], typer.Argument(help="Ids of examples.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take the tag off.")] = False,
) -> None:
    """Put a tag on examples."""
    with store.open(atlas) as a:
        n = query.tag_examples(a, words, examples=examples, remove=remove)
    say(f"{n:,} {'example bears' if n == 1 else 'examples bear'} the tag {words!r}")


@commands.command(rich_help_panel="Ask")
@question
def tags(a: Atlas) -> Answer:
    """The tags that examples bear."""
    return Answer(query.tags(a))


@commands.command(rich_help_panel="Ask")
@question
def views(a: Atlas) -> Answer:
    """The views of the explorer that people saved, as addresses."""
    return Answer(query.saved_views(a))

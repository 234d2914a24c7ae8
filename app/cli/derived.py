"""Commands that compute something from an atlas and store it there: clusters, indexes, neighbours, layouts."""

from __future__ import annotations

import shlex
from typing import Annotated, Literal

import typer

import atlas as store
import query
from atlas.errors import UsageError

from .clusters import described
from .options import AtlasPath, Clustered, Output, Processes, SearchDevice, Seed, Target, grouped
from .tables import note, say

commands = typer.Typer()

MOST_MEMORY = 2.0**20
"""GiB: more than any machine has."""


@commands.command(rich_help_panel="Build")
@grouped
def cluster(
    atlas: AtlasPath,
    target: Target,
    space: Annotated[Literal["codes", "activations"], typer.Option(help="What to cluster.")] = "codes",
    metric: Annotated[
        Literal["hamming", "euclidean", "jaccard"] | None,
        typer.Option(help="Default: hamming for codes, euclidean for activations. jaccard: for sparse codes."),
    ] = None,
    min_cluster_size: Annotated[int, typer.Option(help="Least members of a cluster.")] = 5,
    min_samples: Annotated[int | None, typer.Option(help="Default: as --min-cluster-size.")] = None,
    selection: Annotated[Literal["eom", "leaf"], typer.Option(help="How clusters are chosen.")] = "eom",
    ties: Annotated[
        Literal["hdbscan", "stable", "ids"] | None,
        typer.Option(
            help="Edges of equal length merge as hdbscan sorts them here (default), alike on every machine, or by "
            "the ids at both ends (--parts)."
        ),
    ] = None,
    approximate: Annotated[
        int | None,
        typer.Option(
            metavar="NEIGHBORS",
            help="For millions: from so many nearest neighbours of each instead of all distances. Stored as such.",
        ),
    ] = None,
    parts: Annotated[
        bool,
        typer.Option(
            "--parts",
            help="Exact, of codes: a part of them with a part at a time. What is stopped goes on, --memory bounds "
            "each process, and --ray has it done by several.",
        ),
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(help="Cluster so many examples, drawn at random (--seed). Stored as such."),
    ] = None,
    place: Annotated[
        bool,
        typer.Option("--place", help="With --sample: place every other example in the clusters of the sample."),
    ] = False,
    seed: Seed = 0,
    memory: Annotated[
        float, typer.Option(help="GiB for distances. With less, they are computed again; the result is the same.")
    ] = 4.0,
    max_points: Annotated[
        int | None,
        typer.Option(
            help="Exact only: refuse more examples than this; time grows with the square. Default: 200,000, with "
            "--parts 5,000,000."
        ),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where distances are computed.")] = "auto",
    *,
    processes: Processes,
) -> None:
    """Cluster codes or activations with HDBSCAN, exactly unless told otherwise, and store the result."""
    if not 0 < memory < MOST_MEMORY:
        raise UsageError(f"--memory is {memory:g}; expected a number of GiB above 0, below {MOST_MEMORY:g}")
    from ingest.derived.clusters import cluster as run_clustering

    from .progress import TerminalProgress

    number = run_clustering(
        atlas,
        **vars(target),
        space=space,
        metric=metric,
        min_cluster_size=min_cluster_size,
        min_samples=min_samples,
        selection=selection,
        ties=ties,
        neighbors=approximate,
        parts=parts,
        engine=processes.engine(),
        sample=sample,
        place=place,
        seed=seed,
        memory_budget=int(memory * (1 << 30)),
        max_points=max_points,
        device=device,
        progress=TerminalProgress(),
    )
    with store.open(atlas) as a:
        answer = described(a, Clustered(clustering=number))
    Output().write(answer.rows, answer.title, answer.table)


@commands.command(rich_help_panel="Build")
@grouped
def index(
    atlas: AtlasPath,
    target: Target,
    kind: Annotated[
        Literal["flat", "ivf"] | None,
        typer.Option(
            help="flat: exact, alone. ivf: approximate, faster on large atlases, beside the exact one. "
            "Default: as it is."
        ),
    ] = None,
    recall: Annotated[
        float, typer.Option(help="Share of 10 found by an approximate index to be as near as the 10 nearest.")
    ] = 0.99,
    force: Annotated[bool, typer.Option("--force", help="Also those that are up to date.")] = False,
    *,
    processes: Processes,
) -> None:
    """Build the Hamming indexes that are missing or out of date; all, or that of one site or span."""
    from ingest.derived.indexes import build_indexes

    from .progress import TerminalProgress

    if target.site is not None and target.span is not None:
        raise UsageError("name a site or a span, not both")
    only = target.site or target.span
    built = build_indexes(
        atlas,
        network=target.network,
        targets=[only] if only else None,
        kind=kind,
        recall=recall,
        force=force,
        engine=processes.engine(),
        progress=TerminalProgress(),
    )
    flat = [each.target for each in built if each.recall is None]
    if flat:
        say(f"built {len(flat)} indexes: {', '.join(flat)}")
    for each in built:
        if each.recall is not None:
            chosen = ", ".join(f"{name} {value}" for name, value in (each.parameters or {}).items())
            say(
                f"built {each.kind} of {each.target}: recall@10 {each.recall:.4f}, ties as hits "
                f"({each.recall_in_order:.4f} of the very ten, by distance and id), measured on {each.sample} codes "
                f"({chosen})"
            )
            if each.recall < recall:
                note([f"no search effort reached recall {recall:g}; `polytope nearest --exact` finds all"])
    if not built:
        typer.echo("all indexes are up to date")


@commands.command(rich_help_panel="Build")
@grouped
def neighbors(
    atlas: AtlasPath,
    every: Annotated[
        bool,
        typer.Option("--all", help="Find the nearest neighbours of every example of a site or span, and store them."),
    ] = False,
    *,
    target: Target,
    k: Annotated[int, typer.Option("-k", "--k", help="How many of each.")] = 10,
    device: SearchDevice = "auto",
    output: Output,
) -> None:
    """Store the nearest neighbours of every example in the table neighbors; without --all, list what is stored."""
    from ingest.derived.neighbors import store_neighbors

    from .progress import TerminalProgress

    if not every:
        if target.site is not None or target.span is not None:
            raise UsageError(
                "add --all to find the neighbours of every example; without it the stored ones are listed"
            )
        with store.open(atlas) as a:
            output.write(query.neighborhoods(a), "stored in table neighbors")
        return
    n_examples = store_neighbors(atlas, **vars(target), k=k, device=device, progress=TerminalProgress())
    typer.echo(f"stored {k} neighbours of each of {n_examples:,} examples in table neighbors")


@commands.command(rich_help_panel="Build")
@grouped
def layout(
    atlas: AtlasPath,
    target: Target,
    space: Annotated[Literal["codes", "activations"], typer.Option(help="What to lay out.")] = "codes",
    metric: Annotated[
        Literal["hamming", "euclidean", "jaccard"] | None,
        typer.Option(help="Default: hamming for codes, euclidean for activations. jaccard: for sparse codes."),
    ] = None,
    neighbors: Annotated[int, typer.Option(help="Others that each example is to stay near.")] = 15,
    min_dist: Annotated[float, typer.Option(help="How close examples may lie, 0 to 1.")] = 0.1,
    seed: Seed = 0,
    device: SearchDevice = "auto",
    *,
    output: Output,
) -> None:
    """Lay examples out in the plane with UMAP and store the map; without a site or span, list what is stored."""
    from ingest.derived.layouts import layout as lay_out

    from .progress import TerminalProgress

    if target.site is None and target.span is None:
        with store.open(atlas) as a:
            output.write(query.layouts(a), "stored maps")
        note(["name a --site or --span to make one"])
        return
    number = lay_out(
        atlas,
        **vars(target),
        space=space,
        metric=metric,
        neighbors=neighbors,
        min_dist=min_dist,
        seed=seed,
        device=device,
        progress=TerminalProgress(),
    )
    with store.open(atlas) as a:
        stored = query.layouts(a)
    output.write(stored[stored["layout_id"] == number], f"layout {number}")
    note([f"look:  polytope app {shlex.quote(a.address)}, page Atlas"])

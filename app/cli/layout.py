"""Commands that make maps of an atlas and take them elsewhere: layout, export."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

import atlas as store
import query
from atlas.errors import UsageError

from .ask import Clustering
from .build import AtlasPath, NetworkName, SiteName, SpanName
from .tables import note, show

Where = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where neighbours are looked for.")]


def register(cli: typer.Typer) -> None:
    cli.command(rich_help_panel="Build")(layout)
    cli.command(rich_help_panel="Look")(export)


def layout(
    atlas: AtlasPath,
    site: SiteName = None,
    span: SpanName = None,
    network: NetworkName = None,
    space: Annotated[Literal["codes", "activations"], typer.Option(help="What to lay out.")] = "codes",
    neighbors: Annotated[int, typer.Option(help="Others that each example is to stay near.")] = 15,
    min_dist: Annotated[float, typer.Option(help="How close examples may lie, 0 to 1.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of everything drawn at random.")] = 0,
    device: Where = "auto",
) -> None:
    """Lay examples out in the plane with UMAP and store the map; without a site or span, list what is stored."""
    from ingest.derived.layouts import layout as lay_out

    from .progress import TerminalProgress

    if site is None and span is None:
        with store.open(atlas) as a:
            show(query.layouts(a), title="stored maps")
        note(["name a --site or --span to make one"])
        return
    number = lay_out(
        atlas,
        site=site,
        span=span,
        network=network,
        space=space,
        neighbors=neighbors,
        min_dist=min_dist,
        seed=seed,
        device=device,
        progress=TerminalProgress(),
    )
    with store.open(atlas) as a:
        held = query.layouts(a)
    show(held[held["layout_id"] == number], title=f"layout {number}")
    typer.echo(f"look:  polytope app {shlex.quote(str(atlas))}, page Map")


def export(
    atlas: AtlasPath,
    embedding_atlas: Annotated[
        Path | None,
        typer.Option(
            "--embedding-atlas",
            metavar="OUT.parquet",
            help="Write a stored map for Embedding Atlas: places, texts or images, labels, clusters, neighbours.",
        ),
    ] = None,
    site: SiteName = None,
    span: SpanName = None,
    network: NetworkName = None,
    space: Annotated[
        Literal["codes", "activations"] | None, typer.Option(help="Which maps to look among. Default: codes first.")
    ] = None,
    layout: Annotated[int | None, typer.Option(help="Id of a map. Default: the newest of the site or span.")] = None,
    clustering: Clustering = None,
) -> None:
    """Write a stored map to a file that another tool opens, and print the command that does."""
    from query.layout.embedding_atlas import export_embedding_atlas

    from .progress import TerminalProgress

    if embedding_atlas is None:
        raise UsageError("say where to: --embedding-atlas OUT.parquet")
    with store.open(atlas) as a, TerminalProgress().step("export", total=1, unit="examples") as step:
        written = export_embedding_atlas(
            a,
            embedding_atlas,
            layout=layout,
            site=site,
            span=span,
            network=network,
            space=space,
            clustering=clustering,
            progress=step.update,
        )
    clustered = f", clustering {written.clustering}" if written.clustering is not None else ""
    typer.echo(f"wrote {written.n_examples:,} examples of layout {written.layout}{clustered}; open them with")
    typer.echo(f"  {shlex.join(written.command)}")

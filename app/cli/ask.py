"""Commands that ask an atlas: nearest, clusters, members, membership, density, sql, info, verify, app."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import pandas as pd
import typer

import atlas as store
import query
from atlas.errors import UsageError
from atlas.network import Network
from atlas.store.atlas import Atlas

from ..plain_text import counted
from .build import AtlasPath, Device, NetworkName, SiteName, SpanName
from .tables import Format, emit, note, readable_density, show

Example = Annotated[int | None, typer.Option(help="Id of a stored example.")]
TextOption = Annotated[str | None, typer.Option(help="A text, read by the network that made the atlas; - is stdin.")]
Token = Annotated[
    int | None, typer.Option(help="Which token of the text, from 0; -1 is the last. Default: the last.")
]
ImageFile = Annotated[Path | None, typer.Option(help="An image file, read by the network that made the atlas.")]
Code = Annotated[str | None, typer.Option(help="A code: a 0 or 1 for every gate.")]
Clustering = Annotated[int | None, typer.Option(help="Id of a clustering. Default: the newest of the site or span.")]
Space = Annotated[Literal["codes", "activations"], typer.Option(help="Which clusterings to look among.")]
Weights = Annotated[str | None, typer.Option(help="Where the weights are now, if not where the atlas recorded.")]
SearchDevice = Annotated[
    str, typer.Option(help="Where codes are compared, and a text or image is read: auto, cpu, cuda or mps.")
]
Style = Annotated[Format, typer.Option("--format", help="How rows are written.")]
Output = Annotated[Path | None, typer.Option(help="Write to this file.")]

AMONG = "Among which examples"
"""Panel of `polytope nearest --help`."""


def register(cli: typer.Typer) -> None:
    ask: tuple[Callable[..., None], ...] = (
        nearest,
        clusterings,
        clusters,
        members,
        membership,
        density,
        class_density,
        sql,
    )
    look: tuple[Callable[..., None], ...] = (info, verify, app)
    for panel, commands in (("Ask", ask), ("Look", look)):
        for command in commands:
            cli.command(rich_help_panel=panel)(command)


def nearest(
    atlas: AtlasPath,
    example: Example = None,
    text: TextOption = None,
    token: Token = None,
    image: ImageFile = None,
    code: Code = None,
    site: SiteName = None,
    span: SpanName = None,
    network: NetworkName = None,
    k: Annotated[int | None, typer.Option("-k", "--k", help="How many. Default: 10.")] = None,
    radius: Annotated[int | None, typer.Option(help="All within this many gates, itself included.")] = None,
    label: Annotated[str | None, typer.Option(help="Only examples of this label.", rich_help_panel=AMONG)] = None,
    cluster: Annotated[
        int | None, typer.Option(help="Only those in this cluster; -1 is noise.", rich_help_panel=AMONG)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Only those whose input this dataset holds.", rich_help_panel=AMONG)
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            help="Only those of which this holds: SQL on the columns of table examples, as "
            "\"loss < 1 and token = ' the'\".",
            rich_help_panel=AMONG,
        ),
    ] = None,
    clustering: Clustering = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare all codes, though there be an approximate index.")
    ] = False,
    weights: Weights = None,
    device: SearchDevice = "auto",
    style: Style = Format.TABLE,
    output: Output = None,
) -> None:
    """The stored examples whose codes are nearest, in gates that differ."""
    live = text is not None or image is not None
    with store.open(atlas) as a:
        found = query.nearest(
            a,
            example=example,
            text=_stdin(text),
            token=token,
            image=image,
            code=code,
            site=site,
            span=span,
            network=network,
            k=k,
            radius=radius,
            label=label,
            cluster=cluster,
            dataset=dataset,
            where=where,
            clustering=clustering,
            exact=exact,
            device="auto" if device == "mps" else cast(Any, device),
            reader=_reader(a, live, site, span, network, weights, device),
        )
    title = (
        f"nearest to {found.attrs['subject']} at {found.attrs['target']} of {found.attrs['network']}, "
        f"{found.attrs['n_gates']} gates"
    )
    emit(found, style, output, title)
    note(_remarks(found))


def clusterings(atlas: AtlasPath, style: Style = Format.TABLE, output: Output = None) -> None:
    """The clusterings of an atlas, with their parameters."""
    with store.open(atlas) as a:
        found = query.clusterings(a)
    emit(found.drop(columns="algorithm") if style is Format.TABLE else found, style, output)


def clusters(
    atlas: AtlasPath,
    site: SiteName = None,
    span: SpanName = None,
    network: NetworkName = None,
    clustering: Clustering = None,
    space: Space = "codes",
    samples: Annotated[int, typer.Option(help="Members shown of each.")] = 3,
    style: Style = Format.TABLE,
    output: Output = None,
) -> None:
    """The clusters of a clustering: size, purity, persistence, medoid, samples."""
    show_clusters(atlas, clustering, site, span, network, space, samples, style, output)


def members(
    atlas: AtlasPath,
    cluster: Annotated[int, typer.Argument(help="Number of the cluster; -1 is noise.")],
    site: SiteName = None,
    span: SpanName = None,
    network: NetworkName = None,
    clustering: Clustering = None,
    space: Space = "codes",
    limit: Annotated[int, typer.Option(help="At most this many.")] = 20,
    style: Style = Format.TABLE,
    output: Output = None,
) -> None:
    """The members of a cluster, the surest first."""
    with store.open(atlas) as a:
        found = query.members(
            a, clustering=clustering, cluster=cluster, site=site, span=span, network=network, space=space, limit=limit
        )
    emit(found, style, output)


def membership(
    atlas: AtlasPath,
    example: Example = None,
    text: TextOption = None,
    token: Token = None,
    image: ImageFile = None,
    code: Code = None,
    site: SiteName = None,
    span: SpanName = None,
    network: NetworkName = None,
    clustering: Clustering = None,
    space: Space = "codes",
    weights: Weights = None,
    device: Device = "auto",
    style: Style = Format.TABLE,
    output: Output = None,
) -> None:
    """Which cluster an example belongs to, or a new text, image or code, and how strongly."""
    live = text is not None or image is not None
    with store.open(atlas) as a:
        found = query.membership(
            a,
            example=example,
            text=_stdin(text),
            token=token,
            image=image,
            code=code,
            site=site,
            span=span,
            network=network,
            clustering=clustering,
            space=space,
            reader=_reader(a, live, site, span, network, weights, device, clustering),
        )
    emit(_one_row(found), style, output)


def density(
    atlas: AtlasPath,
    x: Annotated[int, typer.Argument(help="Id of an example.")],
    y: Annotated[int, typer.Argument(help="Id of another.")],
    site: SiteName = None,
    span: SpanName = None,
    network: NetworkName = None,
    style: Style = Format.TABLE,
    output: Output = None,
) -> None:
    """Polytope density of a pair: gates that differ per unit of distance."""
    with store.open(atlas) as a:
        emit(_one_row(query.density(a, x, y, site=site, span=span, network=network)), style, output)


def class_density(
    atlas: AtlasPath,
    network: NetworkName = None,
    spans: Annotated[
        str | None, typer.Option(help="Spans, by commas. Default: from every site to the output.")
    ] = None,
    pairs: Annotated[int, typer.Option(help="Pairs of the same and of different labels, each.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the pairs and the resampling.")] = 0,
    style: Style = Format.TABLE,
    output: Output = None,
) -> None:
    """Density of pairs of the same label against pairs of different labels, with confidence intervals."""
    with store.open(atlas) as a:
        wanted = None if spans is None else [span.strip() for span in spans.split(",")]
        found = query.class_density(a, network=network, spans=wanted, pairs=pairs, seed=seed)
    if style is Format.TABLE:
        show(readable_density(found), title="boundaries per unit of distance, mean [interval]")
    else:
        emit(found, style, output)
    note(_remarks(found))


def sql(
    atlas: AtlasPath,
    statement: Annotated[
        str | None, typer.Argument(metavar="QUERY", help="One query; - reads it from stdin.")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print what every column means.")] = False,
    limit: Annotated[int, typer.Option(help="Rows at most.")] = 1000,
    timeout: Annotated[float, typer.Option(help="Seconds at most.")] = 30.0,
    style: Style = Format.TABLE,
    output: Output = None,
) -> None:
    """Run SQL, read-only. Macros: hamming(a, b), is_on(code, gate), polytope_density(code, code, act, act)."""
    if (statement is None) == (not schema):
        raise UsageError("give a query, or --schema to see the tables; one of the two")
    with store.open(atlas) as a:
        if schema:
            emit(a.sql("from documentation"), style, output)
            return
        found = query.sql(a, str(_stdin(statement)), limit=limit, timeout=timeout)
    emit(found, style, output)
    if found.attrs.get("truncated"):
        note([f"the first {limit:,} rows; there are more (--limit)"])


def info(atlas: AtlasPath, style: Style = Format.TABLE, output: Output = None) -> None:
    """What an atlas holds: networks, sites, datasets, runs, clusterings, indexes."""
    with store.open(atlas) as a:
        tables = query.info(a)
    if style is not Format.TABLE:
        raise UsageError(
            "info is several tables; for one as CSV, JSON or Parquet use sql: --format with "
            "'from sites', 'from networks', …"
        )
    for name, table in tables.items():
        if len(table):
            hidden = {"weights_digest", "reading", "algorithm", "started_at"}
            unread = name == "sites" and "n_codes" in table
            shown = table[table["n_codes"] > 0] if unread else table
            show(shown.drop(columns=[column for column in hidden if column in table]), title=name)
            if len(shown) < len(table):
                left = counted(len(table) - len(shown), "more site was", "more sites were")
                note([f"{left} not ingested (--sites, --full)"])


def verify(atlas: AtlasPath, style: Style = Format.TABLE, output: Output = None) -> None:
    """Check codes, references, digests and indexes; exit status 1 if anything is wrong."""
    with store.open(atlas) as a:
        checks = query.verify(a)
    failed = checks[~checks["ok"]]
    if style is not Format.TABLE:
        emit(checks, style, output)
    elif len(failed):
        show(failed, title=f"{len(failed)} of {len(checks)} checks failed")
    else:
        typer.echo(f"all {len(checks)} checks passed")
    if len(failed):
        raise typer.Exit(1)


def app(
    atlas: AtlasPath,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8501,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
    read_only: Annotated[bool, typer.Option("--read-only", help="Without names and notes to write.")] = False,
) -> None:
    """Open the explorer in the browser."""
    from .serve import serve

    raise typer.Exit(serve(atlas, port=port, host=host, open_browser=browser, read_only=read_only))


def show_clusters(
    path: Path,
    clustering: int | None = None,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    space: str = "codes",
    samples: int = 3,
    style: Format = Format.TABLE,
    output: Path | None = None,
) -> None:
    """Print the clusters of a clustering, and what they were made with."""
    with store.open(path) as a:
        found = query.clusters(
            a, clustering=clustering, site=site, span=span, network=network, space=space, samples=samples
        )
        made = query.clusterings(a).set_index("clustering_id").loc[found.attrs["clustering"]]
    if style is Format.TABLE:
        found = found.drop(columns=["medoid_context"], errors="ignore").dropna(axis="columns", how="all")
        found["samples"] = [" │ ".join(row) for row in found["samples"]]
    title = (
        f"clustering {made.name}: {made.space} of {made.target} ({made.network}), {made.metric}, "
        f"{made.n_clusters} clusters of {made.n_examples} examples, {made.n_noise} noise"
    )
    if not made.exact:
        title += f"; approximate, of {made.neighbors} neighbours each, {made.proven:.1%} of the tree proven"
    emit(found, style, output, title)


def _reader(
    a: Atlas,
    needed: bool,
    site: str | None,
    span: str | None,
    network: str | None,
    weights: str | None,
    device: str,
    clustering: int | None = None,
) -> Network | None:
    """The network that made the atlas, for what has to be read live; its weights are checked."""
    if not needed:
        return None
    from ingest.networks import reload_network

    if clustering is not None and site is None and span is None:
        name = a.value(
            "select networks.name from clusterings join networks using (network_id) where clustering_id = $1",
            [clustering],
        )
        return reload_network(a.catalog.network(name or network), weights=weights, device=device)
    target = a.catalog.target(site=site, span=span, network=network)
    return reload_network(target.network, weights=weights, device=device)


def _remarks(frame: pd.DataFrame) -> list[str]:
    remarks = [frame.attrs.get(name) for name in ("search_note", "exact_note", "density_note", "note")]
    return [str(remark) for remark in remarks if remark]


def _one_row(answer: Any) -> pd.DataFrame:
    fields = asdict(answer) if is_dataclass(answer) and not isinstance(answer, type) else dict(answer)
    return pd.DataFrame([fields])


def _stdin(text: str | None) -> str | None:
    return sys.stdin.read() if text == "-" else text

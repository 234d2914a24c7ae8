"""Commands that write an atlas: ingest, cluster, index, neighbors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atlas.errors import UsageError
from ingest.networks.registry import SOURCES

if TYPE_CHECKING:
    from PIL.Image import Image

    from ingest.datasets.base import Dataset
    from ingest.run.plan import Choices
    from ingest.run.run import Outcome

AtlasPath = Annotated[Path, typer.Argument(metavar="ATLAS", help="Folder of the atlas.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
NetworkName = Annotated[str | None, typer.Option(help="Name of a network in the atlas, where a site is in several.")]
SiteName = Annotated[str | None, typer.Option(help="A site: blocks.5.mlp, inception4c, inception4c:full.")]
SpanName = Annotated[str | None, typer.Option(help="A span: 'AFTER->TO', or 'AFTER->' to the output.")]

MOST_MEMORY = 2.0**20  # GiB: more than any machine has

NETWORK, DATA, READ, RUN = "Network", "Data", "What is read", "Run"
"""Panels of `polytope ingest --help`."""


def register(cli: typer.Typer) -> None:
    cli.command(rich_help_panel="Build")(ingest)
    cli.command(rich_help_panel="Build")(cluster)
    cli.command(rich_help_panel="Build")(index)
    cli.command(rich_help_panel="Build")(neighbors)


def ingest(
    atlas: Annotated[
        Path, typer.Argument(metavar="ATLAS", help="Folder of the atlas; made if need be, else added to.")
    ],
    network: Annotated[
        str,
        typer.Option(
            help=f"{SOURCES}.",
            rich_help_panel=NETWORK,
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="A folder of texts or images (subfolder = label), JSON lines, Parquet, a Hugging Face dataset, "
            "builtin:python, builtin:digits.",
            rich_help_panel=DATA,
        ),
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            help="A state dict (.pt, .pth, .safetensors), or an untrained control: random:SEED, random-raw:SEED.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the atlas calls it.", rich_help_panel=NETWORK)] = None,
    prepend_bos: Annotated[
        bool | None,
        typer.Option(
            "--prepend-bos/--no-prepend-bos",
            help="Text: begin every sequence with a BOS token. Default: as TransformerLens.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="Text: tokens of a sequence. Default: the context, at most 1024.", rich_help_panel=NETWORK),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Images: pixels a side. Default: 224.", rich_help_panel=NETWORK)
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Images: means, R,G,B. Default: ImageNet's.", rich_help_panel=NETWORK)
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="Images: deviations, R,G,B. Default: ImageNet's.", rich_help_panel=NETWORK)
    ] = None,
    transform_input: Annotated[
        bool | None,
        typer.Option(
            "--transform-input/--no-transform-input",
            help="Images: TF-slim's input scale. Default: for torchvision's weights only.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Images: class names, one a line.", rich_help_panel=NETWORK)
    ] = None,
    calibrate: Annotated[
        int | None,
        typer.Option(
            help="Images: how many of the inputs calibrate a random:SEED control. Default: all.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel=NETWORK)] = "auto",
    data_name: Annotated[str | None, typer.Option(help="What the atlas calls it.", rich_help_panel=DATA)] = None,
    text_column: Annotated[str, typer.Option(help="Column of the text.", rich_help_panel=DATA)] = "text",
    label_column: Annotated[
        str | None,
        typer.Option(help="Column of the label. Default: label, where there is one.", rich_help_panel=DATA),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of a Hugging Face dataset.", rich_help_panel=DATA)] = "train",
    limit: Annotated[
        int | None, typer.Option(help="This many inputs, drawn at random with --seed.", rich_help_panel=DATA)
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave unusable inputs out and list them.", rich_help_panel=DATA)
    ] = False,
    sites: Annotated[
        str | None, typer.Option(help="Sites, separated by commas. Default: all.", rich_help_panel=READ)
    ] = None,
    full: Annotated[
        str | None,
        typer.Option(help="Image sites to read at all positions as well, by commas, or all.", rich_help_panel=READ),
    ] = None,
    spans: Annotated[
        str | None, typer.Option(help="Spans to index, by commas: 'AFTER->TO,AFTER->'.", rich_help_panel=READ)
    ] = None,
    store_activations: Annotated[
        bool, typer.Option("--store-activations/--no-store-activations", rich_help_panel=READ)
    ] = True,
    per_sequence: Annotated[int, typer.Option(help="Text: tokens read of a sequence.", rich_help_panel=READ)] = 6,
    skip_first: Annotated[
        int, typer.Option(help="Text: tokens at the start of a sequence never read.", rich_help_panel=READ)
    ] = 100,
    at: Annotated[
        str, typer.Option(help="Images: relative ROW,COLUMN of the position code.", rich_help_panel=READ)
    ] = "0.5,0.5",
    batch_size: Annotated[
        int | None, typer.Option(help="Sequences or images a forward pass. Default: 8 or 32.", rich_help_panel=RUN)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything drawn at random.", rich_help_panel=RUN)] = 0,
    run: Annotated[
        str | None, typer.Option(help="Name of the run. Default: network and data.", rich_help_panel=RUN)
    ] = None,
    worker: Annotated[
        str | None,
        typer.Option(help="I/N: write every N-th shard and publish nothing; any machine may.", rich_help_panel=RUN),
    ] = None,
    discard: Annotated[
        bool, typer.Option("--discard", help="Drop what an unfinished run has done.", rich_help_panel=RUN)
    ] = False,
    cluster: Annotated[
        bool, typer.Option("--cluster/--no-cluster", help="Cluster the codes of every site.", rich_help_panel=RUN)
    ] = True,
) -> None:
    """Run a network over data and add activations, codes, clusters and indexes to an atlas.

    Give the same command again after a kill, Ctrl-C or a full disk: it goes on at the first missing shard.
    """
    from ingest.datasets.sources import open_dataset
    from ingest.networks import load_network, network_kind
    from ingest.networks.loading import resolve_device
    from ingest.run.plan import Choices
    from ingest.run.run import ingest as run_ingestion
    from ingest.run.sampling import ImageSampling, TokenSampling

    from .progress import TerminalProgress

    row, column = _numbers("--at", at, 2)
    choices = Choices(
        sites=_names(sites),
        full=_names(full) or (),
        spans=_names(spans) or (),
        store_activations=store_activations,
        limit=limit,
        batch_size=batch_size,
        seed=seed,
        tokens=TokenSampling(per_sequence, skip_first),
        view=ImageSampling(row, column),
        skip_bad=skip_bad,
    )
    dataset = open_dataset(
        data,
        kind=network_kind(network),
        text_column=text_column,
        label_column=label_column,
        split=split,
        name=data_name,
    )
    loaded = load_network(
        network,
        weights=weights,
        name=name,
        device=device,
        prepend_bos=prepend_bos,
        max_length=max_length,
        image_size=image_size,
        mean=_rgb("--mean", mean),
        std=_rgb("--std", std),
        transform_input=transform_input,
        classes=classes,
        calibration=_calibration(weights, network, dataset, choices, calibrate),
    )
    outcome = run_ingestion(
        atlas,
        loaded,
        dataset,
        choices,
        run=run,
        device=str(resolve_device(device)),
        worker=_share(worker),
        cluster=cluster,
        discard=discard,
        progress=TerminalProgress(),
    )
    _report(atlas, outcome)


def cluster(
    atlas: AtlasPath,
    site: SiteName = None,
    span: SpanName = None,
    network: NetworkName = None,
    space: Annotated[Literal["codes", "activations"], typer.Option(help="What to cluster.")] = "codes",
    metric: Annotated[
        Literal["hamming", "euclidean"] | None,
        typer.Option(help="Default: hamming for codes, euclidean for activations."),
    ] = None,
    min_cluster_size: Annotated[int, typer.Option(help="Least members of a cluster.")] = 5,
    min_samples: Annotated[int | None, typer.Option(help="Default: as --min-cluster-size.")] = None,
    selection: Annotated[Literal["eom", "leaf"], typer.Option(help="How clusters are chosen.")] = "eom",
    ties: Annotated[
        Literal["hdbscan", "stable"],
        typer.Option(help="Edges of equal length merge as hdbscan sorts them here, or alike on every machine."),
    ] = "hdbscan",
    approximate: Annotated[
        int | None,
        typer.Option(
            metavar="NEIGHBORS",
            help="For millions: from so many nearest neighbours of each instead of all distances. Stored as such.",
        ),
    ] = None,
    memory: Annotated[
        float, typer.Option(help="GiB for distances. With less, they are computed again; the result is the same.")
    ] = 4.0,
    max_points: Annotated[
        int, typer.Option(help="Exact only: refuse more examples than this; time grows with the square.")
    ] = 200_000,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where distances are computed.")] = "auto",
) -> None:
    """Cluster codes or activations with HDBSCAN, exactly unless told otherwise, and store the result."""
    if not 0 < memory < MOST_MEMORY:
        raise UsageError(f"--memory is {memory:g}; expected a number of GiB above 0, below {MOST_MEMORY:g}")
    from ingest.derived.clusters import cluster as run_clustering

    from .ask import show_clusters
    from .progress import TerminalProgress

    number = run_clustering(
        atlas,
        site=site,
        span=span,
        network=network,
        space=space,
        metric=metric,
        min_cluster_size=min_cluster_size,
        min_samples=min_samples,
        selection=selection,
        ties=ties,
        neighbors=approximate,
        memory_budget=int(memory * (1 << 30)),
        max_points=max_points,
        device=device,
        progress=TerminalProgress(),
    )
    show_clusters(atlas, clustering=number)


def index(
    atlas: AtlasPath,
    site: SiteName = None,
    span: SpanName = None,
    network: NetworkName = None,
    kind: Annotated[
        Literal["flat", "ivf"] | None,
        typer.Option(
            help="flat: exact, alone. ivf: approximate, faster on large atlases, beside the exact one. "
            "Default: as it is."
        ),
    ] = None,
    recall: Annotated[
        float, typer.Option(help="Share of the true 10 nearest that an approximate index is to find.")
    ] = 0.99,
    force: Annotated[bool, typer.Option("--force", help="Also those that are up to date.")] = False,
) -> None:
    """Build the Hamming indexes that are missing or out of date; all, or that of one site or span."""
    from ingest.derived.indexes import build_indexes

    from .progress import TerminalProgress
    from .tables import note

    if site is not None and span is not None:
        raise UsageError("name a site or a span, not both")
    only = site or span
    built = build_indexes(
        atlas,
        network=network,
        targets=[only] if only else None,
        kind=kind,
        recall=recall,
        force=force,
        progress=TerminalProgress(),
    )
    flat = [each.target for each in built if each.recall is None]
    if flat:
        typer.echo(f"built {len(flat)} indexes: {', '.join(flat)}")
    for each in built:
        if each.recall is not None:
            chosen = ", ".join(f"{name} {value}" for name, value in (each.parameters or {}).items())
            typer.echo(
                f"built {each.kind} of {each.target}: recall@10 {each.recall:.4f}, measured on {each.sample} codes "
                f"({chosen})"
            )
            if each.recall < recall:
                note([f"no search effort reached recall {recall:g}; `polytope nearest --exact` finds all"])
    if not built:
        typer.echo("all indexes are up to date")


def neighbors(
    atlas: AtlasPath,
    every: Annotated[
        bool, typer.Option("--all", help="Find the neighbours of every example and store them.")
    ] = False,
    site: SiteName = None,
    span: SpanName = None,
    network: NetworkName = None,
    k: Annotated[int, typer.Option("-k", "--k", help="How many of each.")] = 10,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to search.")] = "auto",
) -> None:
    """Store the nearest neighbours of every example in the table neighbors; without --all, list what is stored."""
    import atlas as store
    import query
    from ingest.derived.neighbors import store_neighbors

    from .progress import TerminalProgress
    from .tables import show

    if not every:
        if site is not None or span is not None:
            raise UsageError(
                "add --all to find the neighbours of every example; without it the stored ones are listed"
            )
        with store.open(atlas) as a:
            show(query.neighborhoods(a), title="stored in table neighbors")
        return
    found = store_neighbors(
        atlas, site=site, span=span, network=network, k=k, device=device, progress=TerminalProgress()
    )
    typer.echo(f"stored {k} neighbours of each of {found:,} examples in table neighbors")


def _report(path: Path, outcome: Outcome) -> None:
    from ..plain_text import counted
    from .tables import note

    if not outcome.published:
        typer.echo("this worker's shards are complete; give the command without --worker to publish the run")
        return
    done = "is in the atlas already" if outcome.already_there else "is in the atlas"
    typer.echo(f"run {outcome.run} {done}: {counted(outcome.n_examples, 'example')}")
    note(outcome.notes)
    if outcome.bad:
        typer.echo(f"{counted(len(outcome.bad), 'input was', 'inputs were')} left out:")
        for key, reason in outcome.bad:
            typer.echo(f"  {key} {reason}")
    typer.echo(f"look:  polytope info {path}   polytope app {path}")


def _calibration(
    weights: str | None, network: str, dataset: Dataset, choices: Choices, limit: int | None
) -> Callable[[], Iterator[Image]] | None:
    """The images that a ``random:SEED`` control is calibrated on; None for any other network."""
    from ingest.networks.registry import adapter_of
    from ingest.run.run import calibration_images

    if not adapter_of(network).calibrated or not (weights or "").startswith("random:"):
        if limit is not None:
            raise UsageError("--calibrate is for an image network with --weights random:SEED")
        return None
    return lambda: calibration_images(dataset, choices, limit)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(option: str, text: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise UsageError(f"{option} is {text!r}; write {count} numbers with commas between them")
    return numbers


def _rgb(option: str, text: str | None) -> tuple[float, ...] | None:
    return None if text is None else _numbers(option, text, 3)


def _share(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        share, of = (int(part) for part in text.split("/"))
    except ValueError:
        raise UsageError(f"--worker is {text!r}; write I/N, the first worker of four is 0/4") from None
    return share, of

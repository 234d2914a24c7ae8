"""`polytope ingest`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from atlas.errors import UsageError
from atlas.store.buckets import address_in
from ingest.networks.registry import SOURCES

from ..plain_text import counted, numbers
from .options import Processes, grouped
from .tables import note, say

if TYPE_CHECKING:
    from atlas.network import Network
    from ingest.datasets.base import Dataset
    from ingest.run.plan import Choices
    from ingest.run.run import Outcome

commands = typer.Typer()

_network = partial(typer.Option, rich_help_panel="Network")
_data = partial(typer.Option, rich_help_panel="Data")
_read = partial(typer.Option, rich_help_panel="What is read")
_run = partial(typer.Option, rich_help_panel="Run")


@dataclass(frozen=True)
class NetworkOptions:
    """The network, and how it reads its inputs."""

    network: Annotated[str | None, _network(help=f"{SOURCES}.")] = None
    weights: Annotated[
        str | None,
        _network(
            help="A state dict (.pt, .pth, .safetensors), or an untrained control: random:SEED, random-raw:SEED."
        ),
    ] = None
    checkpoint_glob: Annotated[
        str | None,
        _network(
            help="In place of --weights a series, 'run/step-*.safetensors': each a network of its own, called by its "
            "file (after --name and a dash)."
        ),
    ] = None
    name: Annotated[str | None, _network(help="What the atlas calls it.")] = None
    of: Annotated[str | None, _network(help="sae:PATH: the network whose activations it reads.")] = None
    of_weights: Annotated[str | None, _network(help="sae:PATH: weights of that network.")] = None
    site: Annotated[str | None, _network("--of-site", help="sae:PATH: the site of that network.")] = None
    prepend_bos: Annotated[
        bool | None,
        _network(
            "--prepend-bos/--no-prepend-bos",
            help="Text: begin every sequence with a BOS token. Default: as TransformerLens.",
        ),
    ] = None
    max_length: Annotated[
        int | None,
        _network(help="Text: tokens of a sequence. Default: the context, at most 1024."),
    ] = None
    image_size: Annotated[int | None, _network(help="Images: pixels a side. Default: 224.")] = None
    mean: Annotated[str | None, _network(help="Images: means, R,G,B or one. Default: ImageNet's.")] = None
    std: Annotated[str | None, _network(help="Images: deviations, R,G,B or one. Default: ImageNet's.")] = None
    transform_input: Annotated[
        bool | None,
        _network(
            "--transform-input/--no-transform-input",
            help="Images: TF-slim's input scale. Default: for torchvision's weights only.",
        ),
    ] = None
    classes: Annotated[Path | None, _network(help="Images: class names, one a line.")] = None
    calibrate: Annotated[
        int | None,
        _network(help="How many of the inputs calibrate the batch norms of a random:SEED control. Default: all."),
    ] = None
    inputs: Annotated[
        Literal["image", "vector"] | None,
        _network(help="Modules: what they read. Default: images where the first layer is a convolution."),
    ] = None
    shape: Annotated[
        str | None, _network(help="Modules: of one vector, as '3,28,28'. Default: as wide as the first linear layer.")
    ] = None
    outputs: Annotated[
        int | None, _network(help="Modules of a library: how many outputs. Default: as the weights have.")
    ] = None
    sites_at: Annotated[
        str | None, _network(help="Modules to read sites at, by commas: 'layer1,layer2'. Default: all blocks.")
    ] = None
    device: Annotated[str, _network(help="auto, cpu, cuda or mps.")] = "auto"

    def given(self) -> dict[str, Any]:
        """As `load_network` takes it, by keyword."""
        others = ("network", "calibrate", "checkpoint_glob")
        kept = {name: value for name, value in vars(self).items() if name not in others}
        return kept | {
            "mean": _numbers("--mean", self.mean),
            "std": _numbers("--std", self.std),
            "shape": None if self.shape is None else [int(size) for size in numbers("--shape", self.shape)],
            "sites_at": _names(self.sites_at),
        }


@dataclass(frozen=True)
class DataOptions:
    """What is read."""

    data: Annotated[
        str | None,
        _data(
            help="A folder of texts or images (subfolder = label), JSON lines, Parquet, CSV or .npy (vectors), a "
            "Hugging Face dataset, builtin:python, builtin:digits, builtin:two-moons, builtin:digits-vectors."
        ),
    ] = None
    codes: Annotated[
        Path | None,
        _data(
            help="In place of --network and --data: codes that something else computed, Parquet or .npz. Columns "
            "key, label, text or image, and a site each of lists of booleans or packed bytes."
        ),
    ] = None
    activations: Annotated[
        Path | None, _data(help="Beside --codes: a file like it, with a column of lists of numbers for every site.")
    ] = None
    gates: Annotated[str | None, _data(help="Gates of packed --codes, 'SITE=N,…'. Default: 8 a byte.")] = None
    data_name: Annotated[str | None, _data(help="What the atlas calls it.")] = None
    text_column: Annotated[str, _data(help="Column of the text.")] = "text"
    vector_columns: Annotated[
        str | None,
        _data(help="Column of lists of numbers, or columns of numbers, by commas. Default: all but the label."),
    ] = None
    label_column: Annotated[
        str | None,
        _data(help="Column of the label. Default: label, where there is one."),
    ] = None
    split: Annotated[str, _data(help="Split of a Hugging Face dataset.")] = "train"
    limit: Annotated[int | None, _data(help="This many inputs, drawn at random with --seed.")] = None
    max_input_mb: Annotated[
        float | None, _data(help="Megabytes of an input; a larger one can't be used. Default: 3 of a text, 64 else.")
    ] = None
    max_megapixels: Annotated[float, _data(help="Of an image; larger ones can't be used.")] = 89.0
    max_label: Annotated[int, _data(help="Characters of a label; an input with a longer one can't be used.")] = 1000
    skip_bad: Annotated[bool, _data("--skip-bad", help="Leave unusable inputs out and list them.")] = False


@dataclass(frozen=True)
class ReadOptions:
    """Where, and what of it is kept."""

    sites: Annotated[str | None, _read(help="Sites, separated by commas. Default: all.")] = None
    full: Annotated[
        str | None,
        _read(help="Image sites to read at all positions as well, by commas, or all."),
    ] = None
    spans: Annotated[str | None, _read(help="Spans to index, by commas: 'AFTER->TO,AFTER->'.")] = None
    store_activations: Annotated[
        bool | None,
        _read("--store-activations/--no-store-activations", help="Default: of up to 1,000,000 examples."),
    ] = None
    bfloat16: Annotated[
        bool, _read("--bfloat16", help="Round activations to bfloat16: half the bytes until they are published.")
    ] = False
    per_sequence: Annotated[int, _read(help="Text: tokens read of a sequence.")] = 6
    skip_first: Annotated[int, _read(help="Text: tokens at the start of a sequence never read.")] = 100
    at: Annotated[str, _read(help="Images: relative ROW,COLUMN of the position code.")] = "0.5,0.5"


@dataclass(frozen=True)
class RunOptions:
    """How it is run."""

    batch_size: Annotated[
        int | None, _run(help="Sequences, images or vectors a forward pass. Default: 8, 32 or 256.")
    ] = None
    seed: Annotated[int, _run(help="Of everything drawn at random.")] = 0
    run: Annotated[str | None, _run(help="Name of the run. Default: network and data.")] = None
    discard: Annotated[bool, _run("--discard", help="Drop what an unfinished run has done.")] = False
    wait: Annotated[float, _run(help="Seconds to wait at most while others have the atlas open.")] = 60.0
    segmented: Annotated[
        bool,
        _run(
            "--segmented",
            help="A new atlas: codes in files that never change, in versions, for many readers and many examples.",
        ),
    ] = False
    cluster: Annotated[bool, _run("--cluster/--no-cluster", help="Cluster the codes of every site.")] = True


@commands.command(rich_help_panel="Build")
@grouped
def ingest(
    atlas: Annotated[Path, typer.Argument(metavar="ATLAS", help="Folder or s3://…; made if need be, else added to.")],
    loading: NetworkOptions,
    source: DataOptions,
    reading: ReadOptions,
    running: RunOptions,
    processes: Processes,
) -> None:
    """Run a network over data and add activations, codes, clusters and indexes to an atlas; or add given codes.

    Give the same command again after a kill, Ctrl-C or a full disk: it goes on at the first missing shard.
    """
    from ingest.run.plan import Choices
    from ingest.run.run import ingest as run_ingestion
    from ingest.run.sampling import ImageSampling, TokenSampling

    from .progress import TerminalProgress

    choices = Choices(
        sites=_names(reading.sites),
        full=_names(reading.full) or (),
        spans=_names(reading.spans) or (),
        store_activations=reading.store_activations,
        bfloat16=reading.bfloat16,
        limit=source.limit,
        batch_size=running.batch_size,
        seed=running.seed,
        tokens=TokenSampling(reading.per_sequence, reading.skip_first),
        view=ImageSampling(*numbers("--at", reading.at, 2)),
        skip_bad=source.skip_bad,
    )
    engine = processes.engine()
    if engine is not None:
        loading = _for_planning(loading)
    sources = _networks(loading, source, choices) if source.codes is None else [_recorded(loading, source, choices)]
    for network, dataset in sources:
        outcome = run_ingestion(
            atlas,
            network,
            dataset,
            choices,
            run=f"{running.run}-{network.info.name}" if running.run and loading.checkpoint_glob else running.run,
            engine=engine,
            cluster=running.cluster,
            discard=running.discard,
            segmented=running.segmented,
            wait=running.wait,
            progress=TerminalProgress(),
        )
        _report(atlas, outcome)


def _networks(loading: NetworkOptions, source: DataOptions, choices: Choices) -> Iterator[tuple[Network, Dataset]]:
    """The network, or one after the other those of a series, and the data."""
    from ingest.datasets.sources import open_dataset
    from ingest.networks import load_network, network_kind

    if loading.network is None or source.data is None:
        raise UsageError("name a --network and its --data, or --codes that something else computed")
    if source.activations is not None or source.gates is not None:
        raise UsageError("--activations and --gates are for --codes that something else computed")
    dataset = open_dataset(
        source.data,
        kind=loading.inputs or network_kind(loading.of or loading.network),
        text_column=source.text_column,
        label_column=source.label_column,
        split=source.split,
        name=source.data_name,
        vector_columns=_names(source.vector_columns),
        max_input_mb=source.max_input_mb,
        max_megapixels=source.max_megapixels,
        max_label=source.max_label,
    )
    inputs = _calibration(loading.network, loading, dataset, choices)
    for name, weights in _series(loading):
        chosen = loading.given() | {"name": name, "weights": weights}
        yield load_network(loading.network, **chosen, calibration=inputs), dataset


def _recorded(loading: NetworkOptions, source: DataOptions, choices: Choices) -> tuple[Network, Dataset]:
    """What stands for the network of codes that something else computed, and its data."""
    from ingest.datasets.coded import open_codes

    of_networks = vars(loading) | {"data": source.data, "vector_columns": source.vector_columns}
    foreign = [name for name, value in of_networks.items() if value is not None and name not in ("name", "device")]
    if foreign:
        raise UsageError(f"--codes runs no network on data; leave out --{', --'.join(foreign).replace('_', '-')}")
    return open_codes(
        source.codes or "",
        activations=source.activations,
        sites=choices.sites,
        gates=_gates(source.gates),
        text_column=source.text_column,
        label_column=source.label_column,
        name=loading.name,
        data_name=source.data_name,
    )


def _gates(text: str | None) -> dict[str, int]:
    found = {}
    for pair in _names(text) or ():
        site, _, number = pair.rpartition("=")
        if not site or not number.isdecimal():
            raise UsageError(f"--gates is {text!r}; write SITE=N, by commas")
        found[site] = int(number)
    return found


def _series(loading: NetworkOptions) -> list[tuple[str | None, str | None]]:
    """Names and weights of the networks that are meant: one, or those of a series."""
    if loading.checkpoint_glob is None:
        return [(loading.name, loading.weights)]
    if loading.weights is not None:
        raise UsageError("--weights and --checkpoint-glob both name weights; give one of the two")
    from ingest.networks.checkpoints import find_checkpoints

    return [(name, str(path)) for name, path in find_checkpoints(loading.checkpoint_glob, loading.name)]


def _report(path: Path, outcome: Outcome) -> None:
    done = "is in the atlas already" if outcome.already_there else "is in the atlas"
    stored = f", {outcome.n_new:,} of them new" if outcome.n_new != outcome.n_examples else ""
    say(f"run {outcome.run} {done}: {counted(outcome.n_examples, 'example')}{stored}")
    note(outcome.notes)
    if outcome.bad:
        typer.echo(f"{counted(len(outcome.bad), 'input was', 'inputs were')} left out:")
        for key, reason in outcome.bad:
            say(f"  {key} {reason}")
    place = address_in(path) or path
    say(f"look:  polytope info {place}   polytope app {place}")


def _calibration(
    network: str, loading: NetworkOptions, dataset: Dataset, choices: Choices
) -> Callable[[], Iterator[Any]] | None:
    """The inputs that a ``random:SEED`` control is calibrated on; None for any other network."""
    from ingest.networks.registry import adapter_of
    from ingest.run.run import calibration_inputs

    if not adapter_of(network).calibrated or not (loading.weights or "").startswith("random:"):
        if loading.calibrate is not None:
            raise UsageError("--calibrate is for a network with batch norm and --weights random:SEED")
        return None
    return lambda: calibration_inputs(dataset, choices, loading.calibrate)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    return None if text is None else numbers(option, text)


def _for_planning(loading: NetworkOptions) -> NetworkOptions:
    """Workers have the GPUs; here the network only plans."""
    if loading.device not in ("auto", "cpu"):
        raise UsageError(f"--device {loading.device} is for one process; with --ray say --gpus-per-worker")
    return replace(loading, device="cpu")

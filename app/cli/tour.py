"""`polytope demo` and `polytope tour`: what can be asked of an atlas, of the shipped networks or of yours."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.text import Text

import atlas as store
import query
from atlas.errors import PolytopeError
from atlas.kinds import INPUT_KINDS
from atlas.network import whole_scope
from atlas.store.atlas import Atlas
from atlas.store.buckets import address_in
from atlas.store.catalog import NetworkRecord, SiteRecord

from ..plain_text import lines_with_signs, with_signs
from .called import called, with_names
from .options import AtlasPath
from .tables import readable_density, show, terminal

if TYPE_CHECKING:
    from .progress import TerminalProgress

commands = typer.Typer()

TEXTS = 30
"""Held-out texts of the demo: some 3,500 tokens read, enough for clusters and little to wait for."""

FULL = ("inception4d", "inception4e", "inception5a", "inception5b")
"""Blocks of the digit network read at all positions: density needs whole activations."""

MAPPED = ("blocks.3.mlp", "inception5b")
"""The last position site of each network."""

PLANE = "input->"
"""All gates of the network of points: its codes name the polytopes of the plane that it reads."""

PASSAGE = "import asyncio\n\nasync def main():\n    await asyncio.sleep(1)\n    print("
"""A text that is in no dataset, read live. Any other would do."""

GATE = 42
"""The gate that the SQL asks for; any other would do."""

QUALITY = """
select
    networks.name as network, datasets.name as dataset, count(*) as examples, round(avg(loss), 3) as loss_nats,
    round(100 * avg((prediction = label)::int) filter (token is null), 1) as accuracy_percent
from examples join networks using (network_id) join runs using (run_id) join datasets using (dataset_id)
group by all order by network
""".strip()

Answer = Callable[[], pd.DataFrame]


@dataclass(frozen=True)
class Stop:
    """One question of the tour: in words, as a command, and how to answer it."""

    question: str
    command: str
    answer: Answer


@commands.command(rich_help_panel="Look")
def demo(
    atlas: Annotated[Path, typer.Argument(metavar="ATLAS", help="Where to build it.")] = Path("demo.atlas"),
) -> None:
    """Build an atlas of three small trained networks from data on this machine, and show what it answers.

    Needs no connection. Given again, it only repeats the tour.
    """
    started = time.monotonic()
    build(atlas)
    tour(atlas)
    terminal().print(f"built and asked in {time.monotonic() - started:.0f} s")


@commands.command(rich_help_panel="Look")
def tour(atlas: AtlasPath) -> None:
    """Show what an atlas answers: quality, nearest, clusters, density, SQL, each with the command that asks it."""
    console = terminal()
    with store.open(atlas) as a:
        for stop in _stops(a):
            console.print(Text(f"\n{with_signs(stop.question)}", style="bold"))
            _command(console, stop.command, "$ ", "cyan")
            try:
                show(stop.answer(), console=console)
            except PolytopeError as error:  # an atlas without full codes, say: the sentence is the answer
                console.print(Text(f"  {lines_with_signs(str(error))}\n", style="yellow"), soft_wrap=True)
    address = address_in(atlas)
    page = (atlas if address is None else Path(atlas.name)).with_suffix(".html")
    console.print("Look around in the browser:")
    _command(console, f"app {shlex.quote(address or str(atlas))}")
    console.print(
        "Put the post to the test, claim by claim on one page, in some minutes (with --quick in one or two):"
    )
    _command(console, f"report {shlex.quote(address or str(atlas))} -o {shlex.quote(str(page))}")
    place = f"{page.resolve().as_uri()} {'is there' if page.exists() else 'will be the page'}"
    console.print(Text(f"  {place}", style="cyan"), soft_wrap=True)


def _command(console: Console, words: str, before: str = "  ", style: str = "bold cyan") -> None:
    console.print(Text(f"{before}{_program()} {lines_with_signs(words)}", style=style), soft_wrap=True)


def build(path: Path) -> None:
    """Ingest the held-out data of the shipped networks, cluster codes of a span and activations besides, lay out the
    site of each network that the explorer shows first, and slice the plane that one of them reads."""
    from ingest.datasets.sources import open_dataset
    from ingest.derived.clusters import cluster
    from ingest.derived.layouts import layout
    from ingest.networks import load_network
    from ingest.run.plan import Choices
    from ingest.run.run import ingest

    from .progress import TerminalProgress

    progress = TerminalProgress()
    # One held-out module is shorter than the tokens that are skipped.
    texts = Choices(limit=TEXTS, spans=("blocks.0.mlp->",), skip_bad=True)
    network = load_network("demo:gpt2", device="cpu")
    ingest(path, network, open_dataset("builtin:python-heldout", kind="text"), texts, progress=progress)
    digits = Choices(full=FULL, spans=("inception4d->:full",))
    network = load_network("demo:inceptionv1", device="cpu")
    ingest(path, network, open_dataset("builtin:digits-heldout", kind="image"), digits, progress=progress)
    network = load_network("demo:two-moons", device="cpu")
    moons = Choices(spans=(PLANE,))
    ingest(path, network, open_dataset("builtin:two-moons-heldout", kind="vector"), moons, progress=progress)
    cluster(path, span="blocks.0.mlp->", progress=progress)
    cluster(path, site="blocks.2.mlp", space="activations", progress=progress)
    for site in MAPPED:
        layout(path, site=site, progress=progress)
    _slice_plane(path, network, progress)


def _slice_plane(path: Path, network: store.Network, progress: TerminalProgress) -> None:
    """Store the slice of the whole input plane, unless it is."""
    from ingest.derived.job import patiently
    from query.experiments.archive import recall, save
    from query.experiments.registry import find, run

    with store.open(path) as a:
        if recall(a, find("slice"), network.info.name, {"span": PLANE}) is not None:
            return
        with progress.step("slice of the inputs", unit="rows") as step:
            result = run(a, "slice", reader=network, span=PLANE, progress=step.update)
    with patiently(path, progress, writable=True) as a:
        save(a, result)


def _stops(a: Atlas) -> Iterator[Stop]:
    path = shlex.quote(a.address)
    yield Stop("How well do the networks do on this data?", f"sql {path} {_shell(QUALITY)}", lambda: a.sql(QUALITY))
    for network in a.catalog.networks:
        sites = [site for site in a.catalog.sites_of(network) if site.scope == "position" and site.n_codes]
        if sites:
            # Two thirds of the way up: late enough to mean something, early enough not to be the answer already.
            yield from _stops_of(a, path, network, sites[2 * len(sites) // 3])


def _stops_of(a: Atlas, path: str, network: NetworkRecord, site: SiteRecord) -> Iterator[Stop]:
    example = _typical_example(a, network)
    options = f"--site {site.name} --network {network.name}"
    kind = INPUT_KINDS[network.kind]
    yield Stop(
        f"{network.name}: which {kind.example}s lie in the polytopes nearest to that of example {example}?",
        f"nearest {path} --example {example} {options} -k 5",
        lambda: _nearest(a, example=example, k=5, site=site.name, network=network.name),
    )
    if kind.in_sequence:
        yield Stop(
            f"{network.name}: and to that of the last token of a text typed just now?",
            f"nearest {path} --text {_shell(PASSAGE)} {options} -k 3",
            lambda: _nearest(a, text=PASSAGE, k=3, reader=_reader(network), site=site.name, network=network.name),
        )
    if kind.in_space:
        yield Stop(
            f"{network.name}: how far from example {example} are the nearest boundaries of its polytope, exactly?",
            f"boundaries {path} --example {example} --span '{PLANE}' --network {network.name} -k 3",
            lambda: query.boundaries(a, example=example, span=PLANE, reader=_reader(network), k=3).table,
        )
    yield Stop(
        f"{network.name}: which cluster of codes does example {example} belong to?",
        f"membership {path} --example {example} {options}",
        lambda: _cluster_of(a, example, site=site.name, network=network.name),
    )
    yield Stop(
        f"{network.name}: do boundaries separate labels? Boundaries per unit of distance, mean [95 % interval]",
        f"class-density {path} --network {network.name}",
        lambda: readable_density(query.class_density(a, network=network.name)),
    )
    x, y = _same_label(a, network)
    span = _density_span(a, network)
    yield Stop(
        f"{network.name}: how densely do boundaries lie between examples {x} and {y}?",
        f"density {path} {x} {y} --span '{span}' --network {network.name}",
        lambda: _pair(a, x, y, span, network.name),
    )
    gate = min(GATE, site.n_gates - 1)
    statement = (
        "select label, count(*) as examples, count(distinct code_hash) as polytopes from spline_codes "
        f"where network = '{network.name}' and site = '{site.name}' and is_on(code, {gate}) "
        "group by all order by examples desc limit 10"
    )
    yield Stop(
        f"{network.name}: where is gate {gate} of {site.name} on, and in how many polytopes?",
        f"sql {path} {_shell(statement)}",
        lambda: a.sql(statement),
    )


def _typical_example(a: Atlas, network: NetworkRecord) -> int:
    """The first example of the commonest word, or the first input that is classified as its label says."""
    return int(
        a.value(
            "select min(example_id) from examples where network_id = $1 and length(trim(token)) > 3 "
            "group by token order by count(*) desc, token limit 1",
            [network.network_id],
        )
        or a.value(
            "select coalesce(min(example_id) filter (prediction = label), min(example_id)) from examples "
            "where network_id = $1",
            [network.network_id],
        )
    )


def _same_label(a: Atlas, network: NetworkRecord) -> tuple[int, int]:
    """The first and the last example of the commonest label."""
    x, y = a.rows(
        "select min(example_id), max(example_id) from examples where network_id = $1 "
        "group by label order by count(*) desc, label limit 1",
        [network.network_id],
    )[0]
    return int(x), int(y)


def _density_span(a: Atlas, network: NetworkRecord) -> str:
    """From the first site whose density can be measured to the output."""
    sites = a.catalog.sites_of(network)
    scope = whole_scope(sites)
    sites = tuple(site for site in sites if site.scope == scope)
    stored = next((site for site in sites[:-1] if site.n_activations), sites[0])
    return f"{stored.name.removesuffix(':full')}->{':full' if scope == 'full' else ''}"


def _reader(network: NetworkRecord) -> store.Network:
    from ingest.networks import reload_network

    return reload_network(network)


def _nearest(a: Atlas, **asked: Any) -> pd.DataFrame:
    rows = query.nearest(a, **asked)
    return with_names(a, rows, rows.attrs["clustering"])


def _cluster_of(a: Atlas, example: int, site: str, network: str) -> pd.DataFrame:
    found = query.membership(a, example=example, site=site, network=network)
    clusters = query.clusters(a, clustering=found.clustering).set_index("label")
    row: dict[str, Any] = {"example": example, "clustering": found.clustering}
    row["cluster"] = called(a, found.clustering, found.cluster)
    row["strength"] = found.probability
    if found.cluster >= 0:
        for column in ("size", "purity", "top_label", "persistence", "medoid"):
            row[column] = clusters.at[found.cluster, column]
    return pd.DataFrame([row])


def _pair(a: Atlas, x: int, y: int, span: str, network: str) -> pd.DataFrame:
    found = query.density(a, x, y, span=span, network=network)
    return pd.DataFrame([found])[["target", "x", "y", "hamming", "distance", "density", "n_gates"]]


def _shell(text: str) -> str:
    """``text`` as an argument of a shell command, in the quotes that read best."""
    return f'"{text}"' if "'" in text and not set(text) & set('"$`\\!') else shlex.quote(text)


def _program() -> str:
    """How this command can be typed again: by name where the shell finds it, else by its path."""
    called = Path(sys.argv[0])
    found = shutil.which(called.name)
    if found is not None and Path(found).resolve() == called.resolve():
        return called.name
    return shlex.quote(str(called)) if called.name == "polytope" else "polytope"

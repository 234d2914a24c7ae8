"""`polytope demo`: an atlas of the two shipped networks, and a tour of what can be asked of it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.text import Text

import atlas as store
import query
from atlas.store import Atlas

from .render import readable_density, show, terminal

TEXTS = 40
"""Held-out texts of the demo: some 4,000 tokens read, enough for clusters and little to wait for."""

FULL = ("inception4d", "inception4e", "inception5a", "inception5b")
"""Blocks of the digit network read at all positions: density needs whole activations."""

PASSAGE = "import asyncio\n\nasync def main():\n    await asyncio.sleep(1)\n    print("
"""A text that is in no dataset, read live. Any other would do."""


def register(cli: typer.Typer) -> None:
    cli.command(rich_help_panel="Look")(demo)


def demo(
    atlas: Annotated[Path, typer.Argument(metavar="ATLAS", help="Where to build it.")] = Path("demo.atlas"),
) -> None:
    """Build an atlas of two small trained networks from data on this machine, and show what it answers.

    Needs no connection. Given again, it only repeats the tour.
    """
    started = time.monotonic()
    build(atlas)
    console = terminal()
    with store.open(atlas) as a:
        for title, command, answer in _stops(a):
            console.print()
            console.print(Text(title, style="bold"))
            console.print(Text(f"$ {command}", style="cyan"), soft_wrap=True)
            answer(console)
    console.print()
    console.print(
        f"{atlas} was built and asked in {time.monotonic() - started:.0f} s. Look around in the browser with:"
    )
    console.print(Text(f"  polytope app {shlex.quote(str(atlas))}", style="bold cyan"), soft_wrap=True)


def build(path: Path) -> None:
    """Ingest the held-out data of both shipped networks, and cluster codes of a span and activations besides."""
    from ingest.cluster import cluster
    from ingest.datasets import open_dataset
    from ingest.networks import load_network
    from ingest.pipeline import ingest
    from ingest.plan import Choices

    from .progress import TerminalProgress

    progress = TerminalProgress()
    digits = Choices(full=FULL, spans=("inception4d->:full",))
    ingest(path, load_network("demo:inceptionv1", device="cpu"), open_dataset("builtin:digits-heldout", kind="image"),
           digits, progress=progress)  # fmt: skip
    # One held-out module is shorter than the tokens that are skipped.
    texts = Choices(limit=TEXTS, spans=("blocks.0.mlp->",), skip_bad=True)
    ingest(path, load_network("demo:gpt2", device="cpu"), open_dataset("builtin:python-heldout", kind="text"),
           texts, progress=progress)  # fmt: skip
    cluster(path, span="blocks.0.mlp->", progress=progress)
    cluster(path, site="blocks.2.mlp", space="activations", progress=progress)


def _stops(a: Atlas) -> list[tuple[str, str, Callable[[Console], None]]]:
    """What the tour shows: a title, the command that gives the same, and the answer."""
    path = shlex.quote(str(a.path))
    # A keyword with many like it makes a first example that reads well.
    token = a.value("select min(example_id) from examples where token = ' return'") or a.value(
        "select min(example_id) from examples where token is not null"
    )
    digit = a.value("select min(example_id) from examples where label = '8' and prediction = '8'")
    pair = a.rows("select min(example_id), max(example_id) from examples where label = '8'")[0]
    shared = (
        "select label, count(*) as examples, count(distinct code_hash) as polytopes from spline_codes "
        "where site = 'blocks.2.mlp' and is_on(code, 42) group by all order by label"
    )
    return [
        (
            "What is in it, measured on data that the networks never saw",
            f"polytope sql {path} {_shell(_QUALITY)}",
            _table(lambda: a.sql(_QUALITY)),
        ),
        (
            f"Which tokens lie in the polytopes nearest to that of example {token}?",
            f"polytope nearest {path} --example {token} --site blocks.2.mlp -k 5",
            _table(lambda: query.nearest(a, example=token, site="blocks.2.mlp", k=5)),
        ),
        (
            "And to that of the last token of a text typed just now?",
            f"polytope nearest {path} --text {_shell(PASSAGE)} --site blocks.2.mlp -k 3",
            _table(lambda: query.nearest(a, text=PASSAGE, site="blocks.2.mlp", k=3, reader=_reader(a, "demo-gpt2"))),
        ),
        (
            "Which cluster of codes does a handwritten 8 belong to?",
            f"polytope membership {path} --example {digit} --site inception4e",
            _table(lambda: _cluster_of(a, digit, "inception4e")),
        ),
        (
            "Do polytope boundaries separate classes? Boundaries per unit of distance, mean [95 % interval]",
            f"polytope class-density {path} --network demo-inceptionv1",
            _table(lambda: readable_density(query.class_density(a, network="demo-inceptionv1"))),
        ),
        (
            "How densely do boundaries lie between two of the eights?",
            f"polytope density {path} {pair[0]} {pair[1]} --span 'inception4d->:full'",
            _table(lambda: _pair(a, *pair)),
        ),
        (
            "SQL over spline codes: where is gate 42 on?",
            f"polytope sql {path} {_shell(shared)}",
            _table(lambda: a.sql(shared)),
        ),
    ]


_QUALITY = """
select
    networks.name as network, datasets.name as dataset, count(*) as examples,
    round(avg(loss), 3) as loss_nats,
    round(100 * avg((prediction = label)::int) filter (networks.kind = 'image'), 1) as accuracy_percent
from examples join networks using (network_id) join runs using (run_id) join datasets using (dataset_id)
group by all order by network desc
""".strip()


def _table(answer: Callable[[], pd.DataFrame]) -> Callable[[Console], None]:
    return lambda console: show(answer(), console=console)


def _reader(a: Atlas, network: str) -> store.Network:
    from ingest.networks import reload_network

    return reload_network(a.catalog.network(network), device="cpu")


def _pair(a: Atlas, x: int, y: int) -> pd.DataFrame:
    found = query.density(a, x, y, span="inception4d->:full")
    return pd.DataFrame([found])[["target", "x", "y", "hamming", "distance", "density", "n_gates"]]


def _shell(text: str) -> str:
    """``text`` as an argument of a shell command, in the quotes that read best."""
    return f'"{text}"' if "'" in text and not set(text) & set('"$`\\!') else shlex.quote(text)


def _cluster_of(a: Atlas, example: int, site: str) -> pd.DataFrame:
    found = query.membership(a, example=example, site=site)
    clusters = query.clusters(a, found.clustering).set_index("label")
    row: dict[str, Any] = {
        "example": example,
        "clustering": found.clustering,
        "cluster": found.cluster,
        "strength": found.probability,
    }
    if found.cluster >= 0:
        for column in ("size", "purity", "top_label", "persistence", "medoid"):
            row[column] = clusters.at[found.cluster, column]
    return pd.DataFrame([row])

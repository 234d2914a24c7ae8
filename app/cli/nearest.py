"""`polytope nearest`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import typer

import query
from atlas.store.atlas import Atlas
from query.neighbors.nearness import SAMPLE

from .called import with_names
from .options import Answer, ClusteringId, Processes, Seed, Target, Weights, question
from .subjects import Subject, reader
from .tables import remarks

commands = typer.Typer()

_among = partial(typer.Option, rich_help_panel="Among which examples")


@dataclass(frozen=True)
class Among:
    """Which examples are looked at."""

    label: Annotated[str | None, _among(help="Only examples of this label, the first that the input was given.")] = (
        None
    )
    cluster: Annotated[int | None, _among(help="Only those in this cluster; -1 is noise.")] = None
    dataset: Annotated[str | None, _among(help="Only those whose input this dataset holds.")] = None
    where: Annotated[
        str | None,
        _among(
            help="Only those of which this holds: SQL on the columns of table examples, as "
            "\"loss < 1 and token = ' the'\"."
        ),
    ] = None


@commands.command(rich_help_panel="Ask")
@question
def nearest(
    a: Atlas,
    subject: Subject,
    target: Target,
    k: Annotated[int | None, typer.Option("-k", "--k", help="How many. Default: 10.")] = None,
    radius: Annotated[int | None, typer.Option(help="All within this many gates, itself included.")] = None,
    metric: Annotated[
        Literal["hamming", "jaccard"],
        typer.Option(help="Gates that differ; or their share of those on in either, for sparse codes."),
    ] = "hamming",
    *,
    among: Among,
    clustering: ClusteringId = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare all codes, though there be an approximate index.")
    ] = False,
    weights: Weights = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where codes are compared, and an input is read.")
    ] = "auto",
    processes: Processes,
) -> Answer:
    """The stored examples whose codes are nearest, in gates that differ."""
    with _searched_by(a, processes):
        rows = query.nearest(
            a,
            **subject.given(),
            **vars(target),
            **vars(among),
            k=k,
            radius=radius,
            metric=metric,
            clustering=clustering,
            exact=exact,
            device="auto" if device == "mps" else device,
            reader=reader(a, subject, target, weights, device),
        )
    about = rows.attrs
    title = f"nearest to {about['subject']} at {about['target']} of {about['network']}, {about['n_gates']} gates"
    return Answer(rows, title, remarks(rows), with_names(a, rows, about["clustering"]))


def _searched_by(a: Atlas, processes: Processes) -> AbstractContextManager[None]:
    """This process, or those of Ray."""
    engine = processes.engine()
    if engine is None:
        return nullcontext()
    from ingest.run.ray_search import searching

    return searching(a, engine)


@commands.command(rich_help_panel="Ask")
@question
def nearness(
    a: Atlas,
    distances: Annotated[list[int], typer.Argument(metavar="GATES...", help="Distances in gates.")],
    target: Target,
    sample: Annotated[
        int, typer.Option(help="Examples that are drawn where no nearest neighbours are stored.")
    ] = SAMPLE,
    seed: Seed = 0,
) -> Answer:
    """How near distances are, against those of stored examples to their nearest other."""
    rows = query.nearness(a, distances=distances, **vars(target), sample=sample, seed=seed)
    about = rows.attrs
    of = "all" if about["stored"] else f"a sample of {about['n']:,} of"
    return Answer(rows, f"nearest neighbours of {of} {about['of']:,} examples, median {about['median']:g} gates")

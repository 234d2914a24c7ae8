"""`polytope density` of a pair, and `polytope class-density` of labels."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import pandas as pd
import typer

import query
from atlas.store.atlas import Atlas

from .options import Answer, NetworkName, Target, question
from .tables import readable_density, remarks

commands = typer.Typer()


@commands.command(rich_help_panel="Ask")
@question
def density(
    a: Atlas,
    x: Annotated[int, typer.Argument(help="Id of an example.")],
    y: Annotated[int, typer.Argument(help="Id of another.")],
    target: Target,
) -> Answer:
    """Polytope density of a pair: gates that differ per unit of distance."""
    return Answer(pd.DataFrame([asdict(query.density(a, x, y, **vars(target)))]))


@commands.command(rich_help_panel="Ask")
@question
def class_density(
    a: Atlas,
    network: NetworkName = None,
    spans: Annotated[
        str | None, typer.Option(help="Spans, by commas. Default: from every site to the output.")
    ] = None,
    pairs: Annotated[int, typer.Option(help="Pairs of the same and of different labels, each.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the pairs and the resampling.")] = 0,
) -> Answer:
    """Density of pairs of the same label against pairs of different labels, with confidence intervals."""
    wanted = None if spans is None else [span.strip() for span in spans.split(",")]
    rows = query.class_density(a, network=network, spans=wanted, pairs=pairs, seed=seed)
    return Answer(rows, "boundaries per unit of distance, mean [interval]", remarks(rows), readable_density(rows))

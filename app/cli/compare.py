"""`polytope compare`: networks of the same sites over the same inputs."""

from __future__ import annotations

from typing import Annotated, Literal

import pandas as pd
import typer

import atlas as store
import query
from atlas.errors import UsageError

from ..plain_text import counted
from .called import fates_with_names
from .options import AtlasPath, Output, Seed, grouped
from .tables import Format, note, say, show

commands = typer.Typer()

Table = Literal["steps", "examples", "clusters", "density"]


@commands.command(rich_help_panel="Ask")
@grouped
def compare(
    atlas: AtlasPath,
    networks: Annotated[
        str | None, typer.Option(help="Names, by commas, in order. Default: all of the atlas, as ingested.")
    ] = None,
    sites: Annotated[str | None, typer.Option(help="Sites, by commas. Default: all that all have.")] = None,
    k: Annotated[int, typer.Option("-k", "--k", help="Examples of each step, those that move most.")] = 10,
    permutations: Annotated[int, typer.Option(help="Of the test of a cluster's overlap.")] = 199,
    seed: Seed = 0,
    table: Annotated[Table | None, typer.Option(help="One of the tables, whole.")] = None,
    *,
    output: Output,
) -> None:
    """Gates that flip from each network to the next, the examples that move most, what becomes of clusters."""
    from .progress import TerminalProgress

    if table is None and (output.style is not Format.TABLE or output.output is not None):
        raise UsageError("compare is several tables; say which with --table: steps, examples, clusters, density")
    with store.open(atlas) as a, TerminalProgress().step("compare", unit="sites") as step:
        found = query.compare(
            a,
            networks=_names(networks),
            sites=_names(sites),
            k=k,
            permutations=permutations,
            seed=seed,
            progress=step.update,
        )
        fates = fates_with_names(a, found.clusters) if len(found.clusters) else found.clusters
    if table is not None:
        output.write(getattr(found, table), table)
    else:
        say(
            f"{', '.join(found.networks)}: {counted(found.n_examples, 'example')} of "
            f"{counted(found.n_inputs, 'input')} that all of them read"
        )
        shown: dict[str, pd.DataFrame] = {
            "gates that flip, mean [interval], and fates of clusters": found.steps,
            "examples that move most": found.examples.drop(columns=[f"flips:{name}" for name in found.sites]),
            "what becomes of clusters": fates,
            "stored densities, between classes over within": found.density,
        }
        for title, rows in shown.items():
            if len(rows):
                show(rows, title)
    note(found.notes)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]

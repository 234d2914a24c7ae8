"""`polytope boundaries`, `exits`, `neighbor-polytopes` and `region`: the polytope itself, by the live network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import atlas as store
import query
from atlas.store.atlas import Atlas
from query.polytope.boundaries import SKETCH
from query.sites import asked_network

from ..plain_text import numbers
from .options import Answer, AtlasPath, Device, NetworkName, Seed, Weights, grouped, question
from .subjects import typed
from .tables import note, say

commands = typer.Typer()

LiveSpan = Annotated[str, typer.Option("--span", help="'AFTER->TO': the space of AFTER, cut by the gates up to TO.")]
Nearest = Annotated[int, typer.Option("-k", "--k", help="How many.")]
Sketch = Annotated[
    int | None,
    typer.Option(
        help="Random directions that find the nearest; 0: one a unit, which misses none. Distances stay exact. "
        "Default: 0 where that takes seconds, else 256."
    ),
]


@dataclass(frozen=True)
class Inside:
    """Whose polytope is meant."""

    example: Annotated[int | None, typer.Option(help="Id of a stored example.")] = None
    text: Annotated[str | None, typer.Option(help="A text, read by the network that made the atlas; - is stdin.")] = (
        None
    )
    token: Annotated[
        int | None, typer.Option(help="Which token of the text, from 0; -1 is the last. Default: the last.")
    ] = None
    image: Annotated[Path | None, typer.Option(help="An image file, read by the network that made the atlas.")] = None
    vector: Annotated[
        str | None, typer.Option(help="Numbers with commas between them, read by the network that made the atlas.")
    ] = None


@dataclass(frozen=True)
class Network:
    """The network, loaded again."""

    network: NetworkName = None
    weights: Weights = None
    device: Device = "auto"

    def ask(self, a: Atlas, name: str, span: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Ask a function that runs the network, with a bar."""
        from .networks import reload  # loads what ingesting takes
        from .progress import TerminalProgress

        reader = reload(a, asked_network(a, self.network, span), self.weights, self.device)
        with TerminalProgress().step(name, unit="steps") as step:
            return function(a, *args, reader=reader, span=span, progress=step.update, **options)


def _inside(inside: Inside) -> dict[str, Any]:
    vector = None if inside.vector is None else numbers("--vector", inside.vector)
    return vars(inside) | {"text": typed(inside.text), "vector": vector}


@commands.command(rich_help_panel="Ask")
@question
def boundaries(
    a: Atlas,
    inside: Inside,
    span: LiveSpan,
    k: Nearest = 10,
    proper: Annotated[
        bool, typer.Option("--proper/--all", help="Leave out boundaries that x lies on, at distance 0.")
    ] = True,
    orthant: Annotated[bool, typer.Option("--orthant", help="Units that are 0 can only grow on the way.")] = False,
    sketch: Sketch = None,
    seed: Seed = 0,
    *,
    network: Network,
) -> Answer:
    """The nearest boundaries of a polytope, exactly: how far, which gate, whether a facet, and the check across."""
    options = {"k": k, "proper": proper, "orthant": orthant, "sketch": sketch, "seed": seed}
    found = network.ask(a, "boundaries", span, query.boundaries, **_inside(inside), **options)
    title = (
        f"polytope of {found.subject} at {found.span} of {found.network}: inradius {found.inradius:.4g}, "
        f"{found.relative:.2g} of ‖x‖ = {found.norm:.4g}"
    )
    remarks = [f"{found.n_gates:,} gates and {found.n_pairs:,} pairs of pooled inputs; {found.method}", found.remark]
    if found.missed:
        remarks.append(f"that a nearer boundary was missed has a probability of {found.missed:.0e} at most")
    if found.of_neighbor is not None:
        remarks.append(
            f"the nearest stored example, {found.neighbor}, is {found.to_neighbor:.4g} away: the inradius is "
            f"{found.of_neighbor:.2g} of that"
        )
    return Answer(found.table, title, remarks)


@commands.command(rich_help_panel="Build")
@grouped
def store_boundaries(
    atlas: AtlasPath,
    span: LiveSpan,
    k: Nearest = 10,
    examples: Annotated[int | None, typer.Option(help="How many, drawn at random. Default: all.")] = None,
    sketch: Annotated[
        int, typer.Option(help="Random directions that find the nearest; 0: one a unit, which misses none.")
    ] = SKETCH,
    seed: Seed = 0,
    *,
    network: Network,
) -> None:
    """Store the nearest boundaries of many examples in the table boundaries; stopped, it goes on where it was."""
    from .networks import reload
    from .progress import TerminalProgress

    with store.open(atlas) as a:
        reader = reload(a, asked_network(a, network.network, span), network.weights, network.device)
    options: dict[str, Any] = {"k": k, "examples": examples, "sketch": sketch, "seed": seed}
    with TerminalProgress().step("boundaries", unit="steps") as step:
        stored = query.store_boundaries(atlas, reader=reader, span=span, progress=step.update, **options)
    say(
        f"stored the nearest boundaries of {stored.new:,} examples at {stored.span} of {stored.network}: "
        f"{stored.examples:,} have them now, in table boundaries"
    )
    if stored.missed:
        note([f"that a nearer boundary was missed has a probability of {stored.missed:.0e} at most"])


@commands.command(rich_help_panel="Ask")
@question
def exits(
    a: Atlas,
    inside: Inside,
    span: LiveSpan,
    directions: Annotated[int, typer.Option(help="Rays that are drawn.")] = 1000,
    towards: Annotated[
        str,
        typer.Option(
            help="uniform, same, other, example:ID, medoid:CLUSTERING:CLUSTER, random:SEED, unit:NUMBER or a stored "
            "direction such as pca:0."
        ),
    ] = "uniform",
    rays: Annotated[bool, typer.Option("--rays", help="A row a ray instead of shares.")] = False,
    orthant: Annotated[bool, typer.Option("--orthant", help="Uniform directions along which zeros grow.")] = False,
    seed: Seed = 0,
    *,
    network: Network,
) -> Answer:
    """Where rays leave a polytope: how far, through which facets, and what share of the sphere each takes up."""
    options = {"directions": directions, "towards": towards, "orthant": orthant, "seed": seed}
    found = network.ask(a, "exits", span, query.exits, **_inside(inside), **options)
    title = f"rays {found.towards} from {found.subject} at {found.span} of {found.network}: median {found.median:.4g}"
    return Answer(found.table if rays else found.shares, title, [found.remark])


@commands.command(rich_help_panel="Ask")
@question
def neighbor_polytopes(
    a: Atlas,
    inside: Inside,
    span: LiveSpan,
    k: Nearest = 10,
    sketch: Sketch = None,
    seed: Seed = 0,
    *,
    network: Network,
) -> Answer:
    """What lies across the nearest boundaries: how the affine map changes, the prediction, who lives there."""
    options = {"k": k, "sketch": sketch, "seed": seed}
    found = network.ask(a, "neighbor polytopes", span, query.neighbor_polytopes, **_inside(inside), **options)
    title = f"across the boundaries of {found.subject} ({found.prediction}) at {found.span} of {found.network}"
    living = found.table["examples"]
    remarks = [found.remark]
    if living.isna().all():
        remarks.append("codes of the span are not stored, so nobody knows who lives there")
    elif not living.map(bool).any():
        remarks.append("no stored example lives there")
    return Answer(found.table, title, remarks)


@commands.command(rich_help_panel="Ask")
@question
def region(
    a: Atlas,
    x: Annotated[int, typer.Argument(help="Id of an example.")],
    y: Annotated[int, typer.Argument(help="Id of another.")],
    span: LiveSpan,
    *,
    network: Network,
) -> Answer:
    """Whether two examples lie in one polytope; if not, the exact boundaries on the straight way between them."""
    found = network.ask(a, "region", span, query.region, x, y)
    said = "one polytope" if found.same else f"{len(found.table):,} boundaries apart, {found.hamming:,} at the least"
    title = f"examples {found.x} and {found.y} at {found.span} of {found.network}: {said}"
    return Answer(found.table, title, [found.remark])

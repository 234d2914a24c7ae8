"""`polytope report`: every claim of the post, measured on what an atlas holds, as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from atlas.errors import UsageError

from .options import AtlasPath, Device, NetworkName
from .statuses import UNFORESEEN

commands = typer.Typer()


class ReportCommand(TyperCommand):
    """Looks up the keys of the claims when its help is asked for: that loads all experiments."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from query.experiments.registry import claims

        [only] = [option for option in self.params if isinstance(option, TyperOption) and option.name == "only"]
        only.help = f"Claims by key, by commas: {', '.join(claim.key for _, claim in claims())}. Default: all."
        super().format_help(ctx, formatter)


@commands.command(cls=ReportCommand, rich_help_panel="Ask")
def report(
    atlas: AtlasPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    network: NetworkName = None,
    only: Annotated[str | None, typer.Option(help="Claims by key, by commas. Default: all.")] = None,
    live: Annotated[
        bool, typer.Option("--live/--no-live", help="Also what takes the network itself: paths, slices, maps.")
    ] = True,
    controls: Annotated[
        bool, typer.Option("--controls/--no-controls", help="Add untrained networks to the atlas where they lack.")
    ] = True,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first look: fewer examples and steps, so wider intervals.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is stored.")] = False,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
) -> None:
    """Go through the claims of the post: figure, numbers, verdict, trained beside untrained; one HTML page.

    Every measurement is stored in the atlas as soon as it is done: given again, the command goes on where it stopped.
    What fails costs its own section: the page says so, and the exit status is 70.
    """
    if output.suffix not in (".html", ".htm"):
        raise UsageError(f"--output is {output}; the report is a page, so name a file that ends in .html")
    from .report_run import write_report  # loads Plotly and the experiments, which no other command needs

    names = None if only is None else [name.strip() for name in only.split(",") if name.strip()]
    blocks = write_report(
        atlas,
        output,
        network=network,
        only=names,
        live=live,
        controls=controls,
        quick=quick,
        fresh=fresh,
        device=device,
        as_json=as_json,
    )
    if any(block.failure for block in blocks):
        raise typer.Exit(UNFORESEEN)

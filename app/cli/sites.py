"""`polytope sites`: what would be read of a network, before anything is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import typer

from atlas.errors import UsageError
from atlas.kinds import INPUT_KINDS
from atlas.network import FULL_SUFFIX, Network, Site, whole_scope

from .ingest import NetworkOptions
from .options import Output, grouped
from .tables import note

commands = typer.Typer()

UNTRAINED = "random-raw:0"
"""What a library's network is listed with: its sites are those of any weights, which need not be fetched."""


@commands.command(rich_help_panel="Build")
@grouped
def sites(loading: NetworkOptions, output: Output) -> None:
    """What would be read of a network: sites, gates and bits, which are exact or why not, and where it runs on."""
    from ingest.networks import load_network
    from ingest.networks.registry import SAE, is_built

    if loading.network is None:
        raise UsageError("name the network whose sites to list, with --network")
    weights = loading.weights
    if weights is None and not is_built(loading.network) and not loading.network.startswith(SAE):
        weights = UNTRAINED
    if weights is not None and weights.startswith("random:"):
        weights = weights.replace("random:", "random-raw:")  # what calibrates them changes no site
    network = load_network(loading.network, **replace(loading, weights=weights).given())
    rows = pd.DataFrame([_row(network, site) for site in network.sites if site.scope == "position"])
    output.write(rows, f"{loading.network} reads {network.info.kind}s")
    if whole_scope(network.sites) == "full":
        note([f"bits_full: of {FULL_SUFFIX}, a code of all places; exact and runs_on are said of that"])


def _row(network: Network, site: Site) -> dict[str, Any]:
    whole = next(
        (other for other in network.sites if other.name == site.name + FULL_SUFFIX),
        site,
    )
    full = {} if whole is site else {"bits_full": whole.n_gates}
    return {
        "site": site.name,
        "units": site.n_units,
        "bits": site.n_gates,
        **full,
        "nonlinearity": site.nonlinearity,
        "exact": whole.exact,
        "broken_by": whole.broken_by,
        "runs_on": _runs_on(network, whole),
        "gates": ", ".join(dict.fromkeys(gates.module for gates in site.layout)) or site.name,
    }


def _runs_on(network: Network, site: Site) -> str:
    """Whether the network can be run onward from a site, or why not."""
    from atlas.tails import TailedNetwork
    from ingest.networks.module import ModuleNetwork

    if isinstance(network, ModuleNetwork):
        return network.cut(site)
    if not isinstance(network, TailedNetwork):
        return "no"
    return "yes, the sequence held" if INPUT_KINDS[network.info.kind].in_sequence else "yes"

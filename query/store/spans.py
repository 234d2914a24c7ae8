"""The spans that a question is about unless others are named."""

from __future__ import annotations

from atlas import Atlas, Span
from atlas.errors import NotStored
from atlas.network import FULL_SUFFIX, Scope, whole_scope
from atlas.store.catalog import NetworkRecord


def spans_to_output(atlas: Atlas, network: NetworkRecord, scope: Scope, *, distances: bool = False) -> list[str]:
    """``l->`` for every site l of the scope after which every site has codes, from input to output; with
    ``distances``, of those l alone whose activations are stored."""
    sites = [site for site in atlas.catalog.sites_of(network) if site.scope == scope]
    found = []
    for site in sites:
        later = [other for other in sites if other.ordinal > site.ordinal]
        if later and all(other.n_codes for other in later) and (site.n_activations or not distances):
            found.append(str(Span(site.name.removesuffix(FULL_SUFFIX), None, scope)))
    return found


def spans_with_density(atlas: Atlas, network: NetworkRecord) -> list[str]:
    """The spans to the output over which density can be measured, those of full codes where the network has such.

    Raises `NotStored` where there are none.
    """
    scope = whole_scope(atlas.catalog.sites_of(network))
    found = spans_to_output(atlas, network, scope, distances=True)
    if not found:
        option = "--full and --store-activations" if scope == "full" else "--store-activations"
        kind = "full sites" if scope == "full" else "sites"
        raise NotStored(
            f"no site of network {network.name} has stored activations with codes at all later {kind}; ingest all "
            f"{kind} with {option}"
        )
    return found

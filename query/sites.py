"""Which network and which sites a question is about, by name or by default."""

from __future__ import annotations

from collections.abc import Sequence

from atlas import Atlas, Span
from atlas.errors import NotStored, UnknownName, UsageError
from atlas.kinds import INPUT_KINDS
from atlas.network import FULL_SUFFIX, INPUT
from atlas.store.catalog import NetworkRecord, SiteRecord


def asked_network(atlas: Atlas, network: str | None, place: str | None) -> NetworkRecord:
    """The network of that name, else the one that alone has the site or span ``place``, else the only one."""
    if network is None and place is not None and len(atlas.catalog.networks) > 1:
        network = network_with(atlas, place)
    return atlas.catalog.network(network)


def network_with(atlas: Atlas, place: str) -> str:
    """The only network that has a site or span of that name, whether its codes are stored or not."""
    name = Span.parse(place).after if "->" in place or "→" in place else place
    holders = [site.network for site in atlas.catalog.sites if site.name in (name, f"{name}{FULL_SUFFIX}")]
    if name == INPUT:
        holders = [network.name for network in atlas.catalog.networks if INPUT_KINDS[network.kind].in_space]
    holders = list(dict.fromkeys(holders))
    if len(holders) == 1:
        return holders[0]
    if holders:
        raise UnknownName(f"site {name!r} is in several networks ({', '.join(holders)}); name one with --network")
    held = [f"{n.name} has {', '.join(s.name for s in atlas.catalog.sites_of(n))}" for n in atlas.catalog.networks]
    raise UnknownName(f"no site {name!r} in {atlas.address}; {'; '.join(held)}")


def asked_sites(
    atlas: Atlas, network: NetworkRecord, sites: Sequence[str] | None, *, activations: bool = False
) -> list[SiteRecord]:
    """The sites of those names, or all position sites that have codes, in order from input to output.

    Raises `UnknownName`, and `NotStored` where codes, or activations if they are needed, were not ingested.
    """
    if isinstance(sites, str):
        raise UsageError(f"sites is {sites!r}; expected a list of names")
    if sites is not None:
        if not sites:
            raise UsageError("sites is empty; name at least one, or leave it out for all")
        chosen = [atlas.catalog.target(site=name, network=network.name).sites[0] for name in sites]
        missing = [site.name for site in chosen if activations and not site.n_activations]
    else:
        chosen = [site for site in atlas.catalog.sites_of(network) if site.scope == "position" and site.n_codes]
        missing = [] if any(site.n_activations for site in chosen) else [site.name for site in chosen]
        if activations and not missing:
            chosen = [site for site in chosen if site.n_activations]
    if activations and missing:
        raise NotStored(
            f"no activations are stored at {', '.join(missing)} of network {network.name}; ingest with "
            "--store-activations"
        )
    if not chosen:
        raise NotStored(f"no position site of network {network.name} has codes; ingest with --sites")
    return sorted(dict.fromkeys(chosen), key=lambda site: (site.scope, site.ordinal))


def asked_site(atlas: Atlas, network: NetworkRecord, site: str | None) -> SiteRecord:
    """The site of that name, which stores activations; by default the position site two thirds of the way up of those
    that do: late enough to mean something, early enough not to be the answer already.

    Raises `UnknownName`, `NotStored`.
    """
    chosen = asked_sites(atlas, network, None if site is None else [site], activations=True)
    return chosen[2 * len(chosen) // 3] if site is None else chosen[0]

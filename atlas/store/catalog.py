"""What an atlas holds, by name: networks, sites, spans, and the target of a question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import NotStored, UnknownName, UsageError
from ..kinds import INPUT_KINDS
from ..network import INPUT, GateRange, NetworkInfo, Scope, Site, Span, whole_scope
from .statements import Statements


@dataclass(frozen=True)
class NetworkRecord(NetworkInfo):
    """A network as the atlas recorded it."""

    network_id: int = 0


@dataclass(frozen=True)
class SiteRecord(Site):
    """A site as the atlas recorded it, with what is stored there."""

    site_id: int = 0
    network: str = ""
    n_codes: int = 0
    codes_digest: str | None = None
    n_activations: int = 0
    activations_digest: str | None = None


@dataclass(frozen=True)
class Target:
    """What a question is about: the codes of one site, or of a span.

    ``before`` is the site whose activation space the codes cut into polytopes: the one that a span starts after, or
    the one before a single site. None before the first site (there the space is that of the inputs). ``whole`` is the
    scope of the network's whole activations.
    """

    network: NetworkRecord
    name: str
    sites: tuple[SiteRecord, ...]
    before: SiteRecord | None
    whole: Scope

    @property
    def parts(self) -> tuple[int, ...]:
        """Gates of each site, in order."""
        return tuple(site.n_gates for site in self.sites)

    @property
    def n_gates(self) -> int:
        return sum(self.parts)

    @property
    def exact(self) -> bool:
        """True where equal codes (and pooling switches) mean the same affine map of the activations before."""
        return all(site.exact for site in self.sites) and not (self.before and self.before.bypassed_by)

    @property
    def digest(self) -> str:
        """Changes whenever a code of one of the sites does."""
        if len(self.sites) == 1:
            return str(self.sites[0].codes_digest)
        return hashlib.sha256("\n".join(str(site.codes_digest) for site in self.sites).encode()).hexdigest()


class Catalog:
    """A snapshot of the atlas's small tables; `Atlas.catalog` says of when."""

    def __init__(self, atlas: Statements) -> None:
        self.address = atlas.address
        self.networks = [
            NetworkRecord(**{**row, "reading": json.loads(row["reading"])})
            for row in atlas.records(
                "select network_id, name, architecture, kind, source, weights, weights_digest, reading "
                "from networks order by network_id"
            )
        ]
        self.sites = [
            SiteRecord(**{**row, "unit_shape": tuple(row["unit_shape"]), "layout": _layout(row["layout"])})
            for row in atlas.records(
                "select sites.name, ordinal, n_units, n_gates, nonlinearity, exact, broken_by, bypassed_by, scope, "
                "unit_shape, layout, site_id, networks.name as network, n_codes, codes_digest, n_activations, "
                "activations_digest "
                "from sites join networks using (network_id) order by network_id, scope desc, ordinal"
            )
        ]
        self.spans: list[tuple[str, str]] = [
            (network, name)
            for network, name in atlas.rows(
                "select networks.name, spans.name from spans join networks using (network_id) order by span_id"
            )
        ]

    def network(self, name: str | None = None) -> NetworkRecord:
        """The network of that name; without a name, the only one."""
        names = ", ".join(network.name for network in self.networks)
        if not self.networks:
            raise UnknownName(f"{self.address} holds no network yet; `polytope ingest` adds one")
        if name is None:
            if len(self.networks) > 1:
                raise UnknownName(f"{self.address} holds several networks ({names}); name one with --network")
            return self.networks[0]
        for network in self.networks:
            if network.name == name:
                return network
        raise UnknownName(f"no network {name!r} in {self.address}; it holds {names}")

    def sites_of(self, network: NetworkRecord) -> tuple[SiteRecord, ...]:
        return tuple(site for site in self.sites if site.network == network.name)

    def target(self, *, site: str | None = None, span: str | None = None, network: str | None = None) -> Target:
        """What ``site`` or ``span`` (one of the two) means, in the named network or the only one that has it."""
        if (site is None) == (span is None):
            given = "both" if site is not None else "neither"
            raise UsageError(f"name a site or a span, one of the two (got {given}); `polytope info` lists sites")
        if site is not None and ("->" in site or "→" in site):
            site, span = None, site
        wanted = Span.parse(span) if span is not None else None
        name = site if wanted is None else wanted.after
        record = self.network(network) if network is not None else self._network_with(str(name), wanted)
        sites = self.sites_of(record)
        whole = whole_scope(sites)
        if wanted is not None:
            inside = wanted.resolve(sites)
            before = _find(sites, lambda other: other.scope == wanted.scope and _block(other) == wanted.after)
            return self._with_codes(
                Target(record, str(wanted), tuple(found for found in sites if found in inside), before, whole)
            )
        only = _find(sites, lambda other: other.name == site)
        if only is None:
            raise UnknownName(f"no site {site!r} in network {record.name}; it has {', '.join(s.name for s in sites)}")
        before = _find(sites, lambda other: other.scope == only.scope and other.ordinal == only.ordinal - 1)
        return self._with_codes(Target(record, only.name, (only,), before, whole))

    def _with_codes(self, target: Target) -> Target:
        missing = [site.name for site in target.sites if site.n_codes == 0]
        if missing:
            option = "--full" if target.sites[0].scope == "full" else "--sites"
            raise NotStored(
                f"{target.name} of network {target.network.name} needs the codes of {', '.join(missing)}, which were "
                f"not ingested; ingest them with {option}"
            )
        return target

    def _network_with(self, name: str, span: Span | None) -> NetworkRecord:
        scope = span.scope if span else None
        holders = [
            network
            for network in self.networks
            if any(
                site.name == name or (scope is not None and site.scope == scope and _block(site) == name)
                for site in self.sites_of(network)
            )
            or (name == INPUT and INPUT_KINDS[network.kind].in_space)
        ]
        if len(holders) == 1:
            return holders[0]
        if holders:
            raise UnknownName(
                f"site {name!r} is in several networks ({', '.join(n.name for n in holders)}); "
                "name one with --network"
            )
        held = [
            f"{network.name} has {', '.join(s.name for s in self.sites_of(network))}" for network in self.networks
        ]
        raise UnknownName(f"no site {name!r} in {self.address}; {'; '.join(held) or 'it holds no network yet'}")


def _block(site: Site) -> str:
    return site.name.removesuffix(":full")


def _find(sites: tuple[SiteRecord, ...], wanted: Callable[[SiteRecord], bool]) -> SiteRecord | None:
    return next((site for site in sites if wanted(site)), None)


def _layout(text: str) -> tuple[GateRange, ...]:
    return tuple(
        GateRange(entry["module"], entry["start"], entry["count"], tuple(entry["grid"]) if entry["grid"] else None)
        for entry in json.loads(text)
    )

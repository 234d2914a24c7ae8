"""What an experiment is about: sites, spans, examples and their labels, with one check of every parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from atlas import Atlas, Span
from atlas.errors import NotStored, UnknownName, UsageError
from atlas.network import FULL_SUFFIX
from atlas.store.catalog import NetworkRecord, SiteRecord

LABELLINGS = ("label", "token")
"""What a group of examples may be pure in: the label of the input (class or source), or the token itself."""


@dataclass(frozen=True)
class Labels:
    """Labels of some examples: ``numbers[i]`` indexes ``names``, −1 where example i has none."""

    ids: Int64[np.ndarray, " examples"]
    numbers: Int64[np.ndarray, " examples"]
    names: tuple[str, ...]
    inputs: Int64[np.ndarray, " examples"]

    @property
    def n_unlabelled(self) -> int:
        return int((self.numbers < 0).sum())


class Notes:
    """What is to be said under a figure; the same remark about several sites is made once."""

    def __init__(self, *always: str) -> None:
        self._places: dict[str, list[str]] = {note: [] for note in always}

    def add(self, note: str, place: str = "") -> None:
        places = self._places.setdefault(note, [])
        if place and place not in places:
            places.append(place)

    def lines(self) -> tuple[str, ...]:
        return tuple(f"{_several(places)}: {note}" if places else note for note, places in self._places.items())


def _several(places: list[str]) -> str:
    return ", ".join(places) if len(places) <= 4 else f"{places[0]} … {places[-1]} ({len(places)} sites)"


def asked_network(atlas: Atlas, network: str | None, place: str | None) -> NetworkRecord:
    """The network of that name, else the one that alone has the site or span ``place``, else the only one."""
    if network is None and place is not None and len(atlas.catalog.networks) > 1:
        network = network_with(atlas, place)
    return atlas.catalog.network(network)


def network_with(atlas: Atlas, place: str) -> str:
    """The only network that has a site or span of that name, whether its codes are stored or not."""
    name = Span.parse(place).after if "->" in place or "→" in place else place
    holders = [site.network for site in atlas.catalog.sites if site.name in (name, f"{name}{FULL_SUFFIX}")]
    holders = list(dict.fromkeys(holders))
    if len(holders) == 1:
        return holders[0]
    if holders:
        raise UnknownName(f"site {name!r} is in several networks ({', '.join(holders)}); name one with --network")
    held = [f"{n.name} has {', '.join(s.name for s in atlas.catalog.sites_of(n))}" for n in atlas.catalog.networks]
    raise UnknownName(f"no site {name!r} in {atlas.path}; {'; '.join(held)}")


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
        found = [atlas.catalog.target(site=name, network=network.name).sites[0] for name in sites]
        missing = [site.name for site in found if activations and not site.n_activations]
    else:
        found = [site for site in atlas.catalog.sites_of(network) if site.scope == "position" and site.n_codes]
        missing = [] if any(site.n_activations for site in found) else [site.name for site in found]
        if activations and not missing:
            found = [site for site in found if site.n_activations]
    if activations and missing:
        raise NotStored(
            f"no activations are stored at {', '.join(missing)} of network {network.name}; ingest with "
            "--store-activations"
        )
    if not found:
        raise NotStored(f"no position site of network {network.name} has codes; ingest with --sites")
    return sorted(dict.fromkeys(found), key=lambda site: (site.scope, site.ordinal))


def asked_site(atlas: Atlas, network: NetworkRecord, site: str | None) -> SiteRecord:
    """The site of that name, which stores activations; by default the position site two thirds of the way up of those
    that do: late enough to mean something, early enough not to be the answer already.

    Raises `UnknownName`, `NotStored`.
    """
    found = asked_sites(atlas, network, None if site is None else [site], activations=True)
    return found[2 * len(found) // 3] if site is None else found[0]


def stored_direction(
    atlas: Atlas, network: NetworkRecord, site: str, method: str, component: int
) -> tuple[int, Float64[np.ndarray, " units"]] | None:
    """The newest stored direction of that name at a site: the id of the experiment that found it, and the vector."""
    rows = atlas.rows(
        """
        select experiment_id, vector from directions join sites using (site_id)
        where sites.network_id = $1 and sites.name = $2 and method = $3 and component = $4
        order by experiment_id desc limit 1
        """,
        [network.network_id, site, method, component],
    )
    return (int(rows[0][0]), np.array(rows[0][1], dtype=np.float64)) if rows else None


def drawn(ids: Int64[np.ndarray, " examples"], most: int, seed: int) -> Int64[np.ndarray, " drawn"]:
    """At most ``most`` of the ids, drawn at random without replacement, in order."""
    if len(ids) <= most:
        return ids
    return np.sort(np.random.default_rng([seed, 101]).choice(ids, size=most, replace=False))


def labels_of(atlas: Atlas, ids: Int64[np.ndarray, " examples"], by: str = "label") -> Labels:
    """Labels of examples, or their tokens; `UsageError` where ``by`` is neither, or none of them has one."""
    if by not in LABELLINGS:
        raise UsageError(f"by is {by!r}; expected {' or '.join(LABELLINGS)}")
    frame = atlas.frame(
        """
        select example_id, label, token, input_id from examples
        where example_id in (select unnest($1::uinteger[])) order by example_id
        """,
        [ids.tolist()],
    ).set_index("example_id")
    values = frame.loc[ids, by]
    names = tuple(sorted(values.dropna().unique().tolist()))
    if not names:
        raise UsageError(f"none of the {len(ids)} examples has a {by}, so no group of them is pure or impure")
    numbers = pd.Categorical(values, categories=list(names)).codes.astype(np.int64)
    return Labels(ids, numbers, names, frame.loc[ids, "input_id"].to_numpy(np.int64))


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """The value as an int; `UsageError` unless it is a whole number of at least ``least`` and at most ``most``."""
    fits = isinstance(value, Integral) and not isinstance(value, bool)
    if not fits or int(value) < least or (most is not None and int(value) > most):
        bound = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise UsageError(f"{name} is {value!r}; expected a whole number {bound}")
    return int(value)


HIGHEST_SEED = 2**32 - 1
"""scikit-learn takes seeds of 32 bits."""


def checked_seed(seed: Any) -> int:
    """The seed as an int; `UsageError` unless it is a whole number that all generators take."""
    return whole("seed", seed, 0, HIGHEST_SEED)


def increasing(name: str, values: Sequence[float], *, least: int = 1, zero: bool = False) -> list[float]:
    """The values as floats; `UsageError` unless there are ``least`` of them, finite, increasing, all above 0 or, with
    ``zero``, none below."""
    if isinstance(values, str) or not all(isinstance(v, Real) and not isinstance(v, bool) for v in values):
        raise UsageError(f"{name} are {values!r}; expected a list of numbers")
    found = [float(value) for value in values]
    fits = len(found) >= max(least, 1) and bool(np.isfinite(found).all())
    fits = fits and all(low < high for low, high in pairwise(found)) and (found[0] > 0 or (zero and found[0] == 0))
    if not fits:
        raise UsageError(
            f"{name} are {found}; expected at least {least}, finite and increasing, "
            f"{'none below 0' if zero else 'all above 0'}"
        )
    return found


def checked_tolerance(tolerance: Any) -> float:
    """By how much more crossings may grow when steps are halved; `UsageError` unless from 0 to below 1."""
    if not isinstance(tolerance, Real) or isinstance(tolerance, bool) or not 0 <= float(tolerance) < 1:
        raise UsageError(f"tolerance is {tolerance!r}; expected a share from 0 to below 1, such as 0.01")
    return float(tolerance)


def share(name: str, value: Any) -> float:
    """The value as a float; `UsageError` unless it lies strictly between 0 and 1."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) < 1:
        raise UsageError(f"{name} is {value!r}; expected a share between 0 and 1")
    return float(value)

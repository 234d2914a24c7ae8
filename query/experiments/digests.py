"""What a stored result rests on, as a digest: another one means that the result is not current any more."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from atlas import Atlas, Span
from atlas.network import FULL_SUFFIX
from atlas.store.catalog import NetworkRecord

from ..polytope.directions import stored_direction
from .controls import controls_of
from .registry import EXPERIMENTS, find

MADE = ("random", "unit")
"""Directions of a slice that are made on the spot; any other method names stored ones."""


def data_digest(atlas: Atlas, kind: str, network: str | None, parameters: Mapping[str, Any]) -> str:
    """SHA-256 over what a result rests on: weights, codes, activations and labels of its networks.

    Its networks are ``network`` and those that the parameter ``beside`` names, or, where ``network`` is None, all
    that the atlas holds. Where the numbers of this kind depend on clusterings, those count too; where they follow
    directions that another experiment found, the vectors; and where untrained controls of the atlas stand beside,
    which of them there are.
    """
    beside = set(parameters.get("beside") or ())
    records = [r for r in atlas.catalog.networks if network is None or r.name == network or r.name in beside]
    experiment = find(kind) if kind in EXPERIMENTS else None
    digest = hashlib.sha256()
    for record in records:
        lines: list[Any] = [record.name, record.weights_digest]
        if experiment is not None and experiment.beside and record.name == network:
            lines += sorted(other.name for other in controls_of(atlas, record))
        lines += [(s.name, s.codes_digest, s.activations_digest) for s in atlas.catalog.sites_of(record)]
        lines += _labels(atlas, record)
        if experiment is None or experiment.clusterings:
            lines += atlas.rows(
                "select clustering_id, target, space, data_digest from clusterings "
                "where network_id = $1 order by all",
                [record.network_id],
            )
        if record.name == network:
            lines += _vectors(atlas, record, parameters)
        digest.update("\n".join(map(repr, lines)).encode())
    return digest.hexdigest()


def _labels(atlas: Atlas, network: NetworkRecord) -> list[Any]:
    return atlas.rows(
        "select label, count(*), sum(example_id) from examples where network_id = $1 group by label order by all",
        [network.network_id],
    )


def _vectors(atlas: Atlas, network: NetworkRecord, parameters: Mapping[str, Any]) -> list[Any]:
    """Of each stored direction that a result follows, its place and a digest of what it is now (None: it is gone).

    A projection names site, method and component; a slice METHOD:COMPONENT, at the site that its span starts after.
    """
    used: list[tuple[str, str, int]] = []
    if all(parameters.get(name) is not None for name in ("site", "method", "component")):
        used.append((parameters["site"], parameters["method"], int(parameters["component"])))
    for name in parameters.get("directions") or ():
        method, _, number = name.partition(":")
        if method not in MADE:
            span = Span.parse(parameters["span"])
            used.append((span.after + (FULL_SUFFIX if span.scope == "full" else ""), method, int(number)))
    found = [(place, stored_direction(atlas, network, *place)) for place in used]
    return [
        (*place, None if held is None else hashlib.sha256(held[1].tobytes()).hexdigest()) for place, held in found
    ]

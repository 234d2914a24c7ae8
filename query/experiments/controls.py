"""Which networks of an atlas are untrained controls, and of which (docs/SCIENCE.md, section 4)."""

from __future__ import annotations

from atlas import Atlas
from atlas.store.catalog import NetworkRecord

CONTROLS = {"random": "untrained, calibrated", "random-raw": "untrained, raw"}
"""What `networks.weights` begins with, and what a figure calls it (docs/SCIENCE.md, section 4)."""

TRAINED, UNTRAINED = "as given", "untrained"


def kind_of(network: NetworkRecord) -> str:
    """Whether a network is an untrained control, and which, by what its weights are called.

    Only image networks have batch norm to calibrate: of a text network both controls are the same.
    """
    kind = CONTROLS.get(network.weights.partition(":")[0], TRAINED)
    return kind if kind == TRAINED or network.kind == "image" else UNTRAINED


def controls_of(atlas: Atlas, network: NetworkRecord) -> list[NetworkRecord]:
    """The untrained networks of the atlas that have the architecture and the reading of a trained one."""
    if kind_of(network) != TRAINED:
        return []
    return [
        other
        for other in atlas.catalog.networks
        if other.name != network.name
        and kind_of(other) != TRAINED
        and other.architecture == network.architecture
        and [(s.name, s.n_gates) for s in atlas.catalog.sites_of(other)]
        == [(s.name, s.n_gates) for s in atlas.catalog.sites_of(network)]
    ]

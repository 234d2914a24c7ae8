"""Which networks of an atlas are untrained controls, and of which (docs/SCIENCE.md, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from atlas import Atlas
from atlas.kinds import INPUT_KINDS
from atlas.store.catalog import NetworkRecord


@dataclass(frozen=True)
class Control:
    """``weights``: what ``--weights`` says. ``words``: what a figure calls it."""

    weights: str
    words: str


CONTROLS = {
    "random": Control("random:0", "untrained, calibrated"),
    "random-raw": Control("random-raw:0", "untrained, raw"),
}
"""The untrained networks of docs/SCIENCE.md, section 4, by the name that experiments know them under, with which
`networks.weights` begins."""

TRAINED, UNTRAINED = "as given", "untrained"


def kind_of(network: NetworkRecord) -> str:
    """Whether a network is an untrained control, and which, by what its weights are called.

    Language models have no batch norm to calibrate: both controls of one are the same.
    """
    control = CONTROLS.get(network.weights.partition(":")[0])
    if control is None:
        return TRAINED
    return UNTRAINED if INPUT_KINDS[network.kind].in_sequence else control.words


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

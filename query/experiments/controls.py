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
    return [other for other in _untrained(atlas, network) if _gates(atlas, other) == _gates(atlas, network)]


def unfit_controls(atlas: Atlas, network: NetworkRecord) -> list[str]:
    """Why untrained networks of a trained one's architecture are no controls of it, a sentence each: they are read in
    another way, or have other gates."""
    told = []
    for other in _untrained(atlas, network):
        there, mine = _gates(atlas, other), _gates(atlas, network)
        if there == mine:
            continue
        names = sorted(name for name in {*other.reading, *network.reading} - NOT_OF_GATES)
        read = [
            f"{name} {other.reading.get(name)}, not {network.reading.get(name)}"
            for name in names
            if other.reading.get(name) != network.reading.get(name)
        ]
        sites = sorted(name for name in {*there, *mine} if there.get(name) != mine.get(name))
        told.append(
            f"{other.name} is untrained and does not fit: "
            + (f"it is read with {', '.join(read)}" if read else f"its gates of {sites[0]} are others")
        )
    return told


NOT_OF_GATES = {"classes"}
"""What `NetworkInfo.reading` holds that changes no gate."""


def _untrained(atlas: Atlas, network: NetworkRecord) -> list[NetworkRecord]:
    """The untrained networks of a trained one's architecture."""
    if kind_of(network) != TRAINED:
        return []
    return [
        other
        for other in atlas.catalog.networks
        if other.name != network.name and kind_of(other) != TRAINED and other.architecture == network.architecture
    ]


def _gates(atlas: Atlas, network: NetworkRecord) -> dict[str, int]:
    return {site.name: site.n_gates for site in atlas.catalog.sites_of(network)}

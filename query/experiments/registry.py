"""The experiments there are: a name, which is that of its module, and what comes out, in a sentence.

A module is loaded when its experiment is asked for, and not before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from atlas import Atlas
from atlas.errors import UnknownName

from .claims import Claim
from .record import Experiment
from .result import Result

if TYPE_CHECKING:
    import plotly.graph_objects as go

EXPERIMENTS = {
    "monosemanticity": (
        "How alike the labels are within clusters of codes, against activations, neurons, directions and chance."
    ),
    "neuron": "What activates a unit, over its whole range, and how many clusters and labels that is.",
    "directions": "Whether NMF and PCA directions are each about one cluster.",
    "projection": (
        "Whether the values along one direction or neuron fall into intervals that are each about one label."
    ),
    "density": "Whether boundaries lie more densely between classes than within, trained and untrained side by side.",
    "interpolate": "Boundaries crossed on the way from one example to another, of the same or of another label.",
    "scale": "Boundaries crossed, and the class, as an activation is scaled; beside noise and untrained networks.",
    "slice": "A plane through an activation space: the polytopes and classes it meets, boundaries as lines.",
    "affine": "The affine map of an example's polytope, and whether examples far apart in gates have other maps.",
    "soft": "How blurred the gates of a smooth network are: expected Hamming distances, and the share undecided.",
    "flow": "Which pairs and which clusters converge or diverge from one site to a later one.",
    "dictionary": (
        "A sparse basis of codes, overcomplete if asked: the gates and examples of its atoms, and their purity."
    ),
    "intervene": "What the network says when a cluster's most distinctive gates are set, against random gates.",
    "adversarial": "Boundaries that FGSM and PGD perturbations cross, against random directions of the same norm.",
    "layernorm": "Whether scaling before LayerNorm flips gates, and whether scaling the MLP hidden vector does.",
    "polytopes": "How far examples are from the next polytope, which sites bound them, and where rays leave.",
    "occupancy": "How many distinct codes the examples have, by site and span.",
    "rarity": "Whether neighbours bear the same label more often by Hamming, weighted by rarity, or by Jaccard.",
}
"""In the order of docs/SCIENCE.md."""


def find(name: str) -> Experiment:
    """The experiment of that name; `UnknownName` otherwise."""
    if name not in EXPERIMENTS:
        raise UnknownName(f"no experiment {name!r}; there are {', '.join(EXPERIMENTS)}")
    experiment: Experiment = import_module(f"{__package__}.{name}").EXPERIMENT
    return experiment


def run(atlas: Atlas, name: str, **options: Any) -> Result:
    """Run an experiment by name; see `Experiment.run`."""
    return find(name).run(atlas, **options)


def draw(result: Result) -> go.Figure:
    """The figure of a result, by the experiment that made it."""
    return find(result.kind).figure(result)


def claims() -> list[tuple[Experiment, Claim]]:
    """Every claim with the experiment that decides it, in the post's order. Loads all experiments."""
    every = [(experiment, claim) for experiment in map(find, EXPERIMENTS) for claim in experiment.claims]
    return sorted(every, key=lambda pair: pair[1].order)

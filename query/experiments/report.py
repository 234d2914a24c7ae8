"""The post, claim by claim: which experiment measures each, with which options, and what decides.

`polytope report` runs them. Sections stand in the post's order. One that cannot be measured on a network (no full
codes, no activations, one label) says why; one whose experiment the registry does not hold is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from atlas import Atlas
from atlas.errors import NotStored
from atlas.network import FULL_SUFFIX
from atlas.store.catalog import NetworkRecord, SiteRecord

from ..clustering.clusterings import clustering_of, clusterings
from ..clustering.clusters import clusters
from . import verdicts, verdicts_discussion, verdicts_paths
from .controls import TRAINED, controls_of, kind_of
from .registry import EXPERIMENTS
from .result import Result
from .verdicts import Judge, Verdict

Options = Callable[[Atlas, NetworkRecord, Mapping[str, Result]], dict[str, Any]]
"""Options of an experiment on a network, given the results of the sections before it, by key."""

SCALED, SLICED = 0.6, 0.85
"""How far up the network the scaled and the sliced space lie: inception4c and inception5a of InceptionV1's twelve."""


QUICK: dict[str, dict[str, Any]] = {
    "slice": {"size": 32},
    "monosemanticity": {"units": 30, "components": 8, "trials": 5, "resamples": 200},
    "neuron": {"resamples": 200},
    "directions": {"components": 8, "resamples": 200},
    "density": {"pairs": 300, "resamples": 200},
    "scale": {"examples": 3, "alphas": [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0], "tolerance": 0.2},
    "flow": {"resamples": 200},
    "dictionary": {"gates": 256, "resamples": 200},
    "adversarial": {"examples": 3, "epsilons": [0.3], "steps": 2, "n_random": 1, "tolerance": 0.2},
    "interpolate": {"pairs": 3, "steps": 5, "tolerance": 0.2},
    "affine": {"examples": 5},
    "soft": {"examples": 20},
    "layernorm": {"examples": 3, "alphas": [0.5, 2.0]},
    "intervene": {"examples": 3, "n_random": 2},
}
"""What a quick report asks of each experiment: less of everything, so wider intervals."""


@dataclass(frozen=True)
class Section:
    """``claim``: what the post says, in one sentence. ``rule``: what decides; empty where nothing is claimed.
    ``shown``: the numbers of a section without a judge, as `Verdict.numbers`.

    ``untrained``: measured on each untrained network of the atlas as well. Of the others, density shows the controls
    beside the trained network itself, and scale those that are handed in; the rest are of the trained network alone.
    """

    key: str
    part: str
    claim: str
    experiment: str
    options: Options
    judge: Judge | None = None
    rule: str = ""
    untrained: bool = False
    shown: Callable[[Result], pd.DataFrame] | None = None


@dataclass(frozen=True, eq=False)
class Block:
    """What came out of a section on one network: a result, or the reason why there is none."""

    section: Section
    network: NetworkRecord
    result: Result | None
    reason: str = ""
    experiment_id: int | None = None

    @property
    def verdict(self) -> Verdict | None:
        return None if self.result is None or self.section.judge is None else self.section.judge(self.result)

    @property
    def numbers(self) -> pd.DataFrame | None:
        """What is printed below the figure: what, value, low, high, n; None where there is no result."""
        if self.result is None or self.section.shown is None:
            return None if self.verdict is None else self.verdict.numbers
        return self.section.shown(self.result)

    @property
    def kind(self) -> str:
        """Whether the network is untrained, and how (docs/SCIENCE.md section 4)."""
        return kind_of(self.network)


def trained_networks(atlas: Atlas, name: str | None = None) -> list[NetworkRecord]:
    """The networks that a report is about: the one named, or all that are no untrained controls."""
    if name is not None:
        return [atlas.catalog.network(name)]
    found = [network for network in atlas.catalog.networks if kind_of(network) == TRAINED]
    return found or [atlas.catalog.network(None)]


def networks_of(atlas: Atlas, section: Section, network: NetworkRecord) -> list[NetworkRecord]:
    """The network, and its untrained controls where the section measures them too."""
    return [network, *(controls_of(atlas, network) if section.untrained else [])]


def sections() -> list[Section]:
    """All sections whose experiment there is, in the post's order."""
    return [section for section in SECTIONS if section.experiment in EXPERIMENTS]


def cluster_table(atlas: Atlas, network: NetworkRecord, most: int = 12) -> tuple[str, pd.DataFrame]:
    """The largest clusters of codes, for a person to read: of the newest clustering of a span, else of a site.

    Raises `NotStored` where the network's codes were never clustered.
    """
    frame = clusterings(atlas)
    frame = frame[(frame["network"] == network.name) & (frame["space"] == "codes")]
    frame = frame.assign(span=frame["target"].str.contains("->")).sort_values(["span", "clustering_id"])
    if frame.empty:
        raise NotStored(f"no codes of network {network.name} are clustered; `polytope cluster` does it")
    chosen = frame.iloc[-1]
    table = clusters(atlas, int(chosen["clustering_id"]), samples=4).sort_values("size", ascending=False)
    shown = table.head(most)[["label", "size", "purity", "top_label", "samples"]]
    return f"clustering {chosen['clustering_id']}: codes of {chosen['target']}", shown


# --- what is asked of each network -------------------------------------------------------------------------------


def _named(_: Atlas, network: NetworkRecord, __: Mapping[str, Result]) -> dict[str, Any]:
    return {"network": network.name}


def _neuron_before(atlas: Atlas, network: NetworkRecord, before: Mapping[str, Result]) -> dict[str, Any]:
    """The site and unit of the section on neurons."""
    if "neuron" not in before:
        raise NotStored("no neuron was measured, so none is projected on")
    found = before["neuron"].parameters
    return {"network": network.name, "site": found["site"], "unit": found["unit"]}


def _site(atlas: Atlas, network: NetworkRecord, height: float) -> SiteRecord:
    """A site that far up, with another after it; full where a tensor goes in as a whole."""
    scope = "full" if network.kind == "image" else "position"
    sites = [site for site in atlas.catalog.sites_of(network) if site.scope == scope]
    if len(sites) < 2:
        raise NotStored(
            f"network {network.name} has {len(sites)} {scope} sites; a space and a site after it are needed"
        )
    return sites[min(int(height * len(sites)), len(sites) - 2)]


def _span(site: SiteRecord) -> str:
    suffix = FULL_SUFFIX if site.scope == "full" else ""
    return f"{site.name.removesuffix(FULL_SUFFIX)}->{suffix}"


def _scaled(atlas: Atlas, network: NetworkRecord, _: Mapping[str, Result]) -> dict[str, Any]:
    return {
        "span": _span(_site(atlas, network, SCALED)),
        "examples": 6,
        "tolerance": 0.05,
        "alphas": np.round(np.arange(0, 2.51, 0.1), 2).tolist(),
    }


def _interpolated(atlas: Atlas, network: NetworkRecord, _: Mapping[str, Result]) -> dict[str, Any]:
    return {"span": _span(_site(atlas, network, SCALED)), "pairs": 12, "steps": 20, "tolerance": 0.05}


def _mapped(atlas: Atlas, network: NetworkRecord, _: Mapping[str, Result]) -> dict[str, Any]:
    return {"site": _site(atlas, network, SLICED).name, "examples": 16}


def _sliced(atlas: Atlas, network: NetworkRecord, _: Mapping[str, Result]) -> dict[str, Any]:
    """Two examples of one label and one of another, or any three of different inputs."""
    frame = atlas.frame(
        "select min(example_id) as example_id, label from examples where network_id = $1 group by input_id, label "
        "order by example_id",
        [network.network_id],
    )
    if len(frame) < 3:
        raise NotStored(f"network {network.name} has {len(frame)} inputs; a plane needs three examples")
    a = frame.iloc[0]
    same, other = frame[1:][frame["label"][1:] == a["label"]], frame[1:][frame["label"][1:] != a["label"]]
    b, c = (same.iloc[0], other.iloc[0]) if len(same) and len(other) else (frame.iloc[1], frame.iloc[2])
    return {
        "span": _span(_site(atlas, network, SLICED)),
        "a": int(a["example_id"]),
        "b": int(b["example_id"]),
        "c": int(c["example_id"]),
        "size": 128,
    }


def _later(atlas: Atlas, network: NetworkRecord, height: float) -> str:
    """Name of a site of position codes, that high and not the first: before the first no gate can be set."""
    sites = [s for s in atlas.catalog.sites_of(network) if s.scope == "position" and s.n_codes and s.ordinal > 0]
    if not sites:
        raise NotStored(f"network {network.name} has no site with codes after its first")
    return sites[min(int(height * len(sites)), len(sites) - 1)].name


def _attacked(atlas: Atlas, network: NetworkRecord, _: Mapping[str, Result]) -> dict[str, Any]:
    return {
        "span": _span(_site(atlas, network, SCALED)),
        "examples": 8,
        "epsilons": [0.1, 0.3],
        "steps": 5,
        "n_random": 2,
        "tolerance": 0.05,
    }


def _softened(_: Atlas, __: NetworkRecord, ___: Mapping[str, Result]) -> dict[str, Any]:
    return {"examples": 60}


def _normed(_: Atlas, __: NetworkRecord, ___: Mapping[str, Result]) -> dict[str, Any]:
    return {"examples": 10, "alphas": [0.2, 0.5, 2.0, 5.0]}


def _intervened(atlas: Atlas, network: NetworkRecord, _: Mapping[str, Result]) -> dict[str, Any]:
    """The largest cluster of codes at a late site, of at most half of the examples: the rest must be elsewhere."""
    site = _later(atlas, network, SLICED)
    clustering = clustering_of(atlas, atlas.catalog.target(site=site, network=network.name), None, "codes")
    table = clusters(atlas, clustering.clustering_id, samples=0)
    table = table[(table["label"] >= 0) & (2 * table["size"] <= table["size"].sum())]
    if table.empty:
        raise NotStored(f"{clustering.name} has no cluster of at most half of the examples, whose gates could be set")
    largest = int(table.sort_values(["size", "label"], ascending=[False, True])["label"].iloc[0])
    return {"site": site, "cluster": largest, "clustering": clustering.clustering_id, "examples": 10, "n_random": 6}


# --- numbers where nothing is claimed ---------------------------------------------------------------------------


def _of_slice(result: Result) -> pd.DataFrame:
    [summary] = result.tables["summary"].to_dict("records")
    points = summary["points"]
    counts = (
        ("polytopes", "distinct polytopes among the points of the grid", points),
        ("codes", "distinct codes among them", points),
        ("gates_crossed", "gates on at some of the points and off at others", summary["gates"]),
        ("exact_lines", "share of the length of the lines drawn that is exact", summary["lines"]),
    )
    rows = [(words, summary[name], n) for name, words, n in counts if name in summary]
    rows += [
        (f"share of the points where {row['class']} is predicted", row["share"], points)
        for row in result.table.to_dict("records")
    ]
    return _counted(rows)


def _of_occupancy(result: Result) -> pd.DataFrame:
    measured = (
        ("distinct", "distinct codes"),
        ("saturation", "distinct codes over examples"),
        ("largest", "examples in the fullest polytope"),
    )
    return _counted(
        [
            (f"{row['target']}: {words}", row[name], row["examples"])
            for row in result.table.to_dict("records")
            for name, words in measured
        ]
    )


def _counted(rows: list[tuple[str, float, int]]) -> pd.DataFrame:
    """Counts of what was looked at, all of it, and so without an interval."""
    frame = pd.DataFrame(rows, columns=["what", "value", "n"]).astype({"value": float})
    return frame.assign(low=np.nan, high=np.nan)[["what", "value", "low", "high", "n"]]


P1, P2, P3 = (
    "Prediction 1: polysemantic directions overlap with multiple monosemantic polytope regions",
    "Prediction 2: polytope boundaries reflect semantic boundaries",
    "Prediction 3: polytopes define when feature-directions are on- and off-distribution",
)

SECTIONS = (
    Section(
        "slice",
        "Introduction",
        "The activation space of a layer is cut into polytopes by the gates of all layers after it.",
        "slice",
        _sliced,
        shown=_of_slice,
    ),
    Section(
        "clusters",
        P1,
        "The majority of clusters of spline codes are monosemantic.",
        "monosemanticity",
        _named,
        verdicts.clusters_are_monosemantic,
        verdicts.CLUSTERS_RULE,
        untrained=True,
    ),
    Section(
        "activations",
        P1,
        "The majority of clusters of activations are monosemantic.",
        "monosemanticity",
        _named,
        verdicts.activation_clusters_are_monosemantic,
        verdicts.CLUSTERS_RULE,
        untrained=True,
    ),
    Section(
        "tops",
        P1,
        "Such regions are more monosemantic than what activates a neuron.",
        "monosemanticity",
        _named,
        verdicts.clusters_beat_neurons,
        verdicts.NEURONS_RULE,
        untrained=True,
    ),
    Section(
        "neuron",
        P1,
        "Neurons are polysemantic: what activates one most belongs to several clusters.",
        "neuron",
        _named,
        verdicts.neurons_are_polysemantic,
        verdicts.POLYSEMANTIC_RULE,
    ),
    Section(
        "projection",
        P1,
        "The meanings of a polysemantic direction are monosemantic regions along it.",
        "projection",
        _neuron_before,
        verdicts.one_neuron_meets_regions,
        verdicts.REGIONS_RULE,
    ),
    Section(
        "directions",
        P1,
        "Directions found by NMF are largely monosemantic.",
        "directions",
        _named,
        verdicts.nmf_is_monosemantic,
        verdicts.NMF_RULE,
    ),
    Section(
        "density",
        P2,
        "Networks place more boundaries between inputs of different classes than of the same class; "
        "untrained networks do not.",
        "density",
        _named,
        verdicts.boundaries_separate_classes,
        verdicts.DENSITY_RULE,
    ),
    Section(
        "depth",
        P2,
        "The difference gets more robust in higher layers.",
        "density",
        _named,
        verdicts.difference_grows_with_depth,
        verdicts.DEPTH_RULE,
    ),
    Section(
        "peak",
        P3,
        "Boundaries lie densest between the origin and the activation, and less densely at either.",
        "scale",
        _scaled,
        verdicts_paths.peak_inside,
        verdicts_paths.PEAK_RULE,
    ),
    Section(
        "change",
        P3,
        "The predicted class changes where boundaries are dense.",
        "scale",
        _scaled,
        verdicts_paths.class_changes_where_dense,
        verdicts_paths.CHANGE_RULE,
    ),
    Section(
        "flow",
        "Discussion",
        "Representations converge and diverge between layers, more than if layers were independent.",
        "flow",
        _named,
        verdicts_discussion.representations_flow,
        verdicts_discussion.FLOW_RULE,
    ),
    Section(
        "dictionary",
        "Discussion",
        "A sparse basis of codes decomposes them better than one cluster each.",
        "dictionary",
        _named,
        verdicts_discussion.basis_beats_clusters,
        verdicts_discussion.BASIS_RULE,
    ),
    Section(
        "adversarial",
        "Discussion",
        "Adversarial perturbations cross many polytope boundaries.",
        "adversarial",
        _attacked,
        verdicts_discussion.attacks_cross_more,
        verdicts_discussion.CROSSING_RULE,
    ),
    Section(
        "path",
        "Appendix A: interpolating",
        "On the way between images of different classes boundaries are denser.",
        "interpolate",
        _interpolated,
        verdicts_paths.paths_between_classes_are_denser,
        verdicts_paths.PATH_RULE,
    ),
    Section(
        "untrained",
        "Appendix B: scaling",
        "The peak between origin and activation is absent in untrained networks.",
        "scale",
        _scaled,
        verdicts_paths.no_peak_untrained,
        verdicts_paths.UNTRAINED_PEAK_RULE,
    ),
    Section(
        "noise",
        "Appendix B: scaling",
        "The peak is there for directions of Gaussian noise too.",
        "scale",
        _scaled,
        verdicts_paths.peak_for_noise,
        verdicts_paths.GAUSSIAN_RULE,
    ),
    Section(
        "maps",
        "Appendix C: splines",
        "Hamming distance corresponds to the distance of the affine transformations.",
        "affine",
        _mapped,
        verdicts_paths.gates_follow_maps,
        verdicts_paths.MAP_RULE,
    ),
    Section(
        "soft",
        "Appendix C: splines",
        "Smooth activations blur the boundaries of polytopes; ReLU's are sharp.",
        "soft",
        _softened,
        verdicts_discussion.smooth_gates_blur,
        verdicts_discussion.BLUR_RULE,
    ),
    Section(
        "norm",
        "Comments",
        "LayerNorm makes polytopes indifferent to the scale of what it reads.",
        "layernorm",
        _normed,
        verdicts_discussion.norm_removes_scale,
        verdicts_discussion.NORM_RULE,
    ),
    Section(
        "gates",
        "Comments",
        "Setting a few gates as a cluster has them moves the output towards the cluster's.",
        "intervene",
        _intervened,
        verdicts_discussion.gates_carry_meaning,
        verdicts_discussion.GATES_RULE,
    ),
    Section(
        "occupancy",
        "Beside the post",
        "How many polytopes the examples are spread over; the post makes no claim.",
        "occupancy",
        _named,
        shown=_of_occupancy,
    ),
)
"""In the order of the post. Appendix E, examples of clusters, is `cluster_table`."""

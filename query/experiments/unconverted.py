"""Experiments that are still a function with keyword options and a docstring, as records. Goes with the last of them.

To convert one, move its options, tables and claims into its module as `density` has them, and take it out of
`UNCONVERTED` and, if it makes any, out of `CLAIMS`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, make_dataclass
from functools import cache
from importlib import import_module
from typing import Any, get_type_hints

import numpy as np
import pandas as pd

from atlas import Atlas
from atlas.errors import NotStored
from atlas.store.catalog import NetworkRecord

from ..clustering.clusterings import clustering_of
from ..clustering.clusters import clusters
from . import verdicts_discussion, verdicts_paths
from .claims import SCALED, SLICED, Before, Claim, Part, counts, site_at, span_at
from .options import CommonOptions
from .record import Experiment
from .result import Result


@dataclass(frozen=True)
class Old:
    """``module`` of this package holds a function called like the experiment, and one called ``draw_<name>``."""

    module: str
    section: int
    live: bool = False
    clusterings: bool = False
    quick: Mapping[str, Any] = field(default_factory=dict)


UNCONVERTED = {
    "interpolate": Old("paths", 5, live=True, quick={"pairs": 3, "steps": 5, "tolerance": 0.2}),
    "scale": Old(
        "scaling",
        5,
        live=True,
        quick={"examples": 3, "alphas": [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0], "tolerance": 0.2},
    ),
    "slice": Old("slices", 6, live=True, quick={"size": 32}),
    "affine": Old("affine", 7, live=True, quick={"examples": 5}),
    "soft": Old("soft", 8, live=True, quick={"examples": 20}),
    "intervene": Old("intervene", 11, live=True, clusterings=True, quick={"examples": 3, "n_random": 2}),
    "adversarial": Old(
        "adversarial",
        12,
        live=True,
        quick={"examples": 3, "epsilons": [0.3], "steps": 2, "n_random": 1, "tolerance": 0.2},
    ),
    "layernorm": Old("layernorm", 13, live=True, quick={"examples": 3, "alphas": [0.5, 2.0]}),
}


@cache
def adapted(name: str) -> Experiment:
    """The record of an experiment that has none yet."""
    old = UNCONVERTED[name]
    module = import_module(f"{__package__}.{old.module}")
    function = getattr(module, name)
    parameters = inspect.signature(function).parameters
    chosen = [n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY and n not in ("controls", "progress")]

    def measure(atlas: Atlas, options: Any, *, progress: Any, reader: Any = None, controls: Any = None) -> Result:
        given = {n: value for n, value in asdict(options).items() if n in chosen}
        given |= {"controls": controls} if controls else {}
        result: Result = function(atlas, *([reader] if old.live else []), **given, progress=progress)
        return result

    return Experiment(
        name=name,
        version=1,
        section=old.section,
        options=_options(name, function, chosen),
        tables={},
        measure=measure,
        figure=getattr(module, f"draw_{name}"),
        picture=getattr(module, f"png_{name}", None),
        arrays=getattr(module, f"arrays_{name}", None),
        live=old.live,
        controls="controls" in parameters,
        clusterings=old.clusterings,
        quick=old.quick,
        claims=CLAIMS.get(name, ()),
    )


def _options(name: str, function: Any, chosen: list[str]) -> type[CommonOptions]:
    parameters, types = inspect.signature(function).parameters, get_type_hints(function, include_extras=True)
    fields: list[Any] = []
    for n in chosen:
        default = parameters[n].default
        value = field() if default is inspect.Parameter.empty else field(default=default)
        fields.append((n, types[n], value))
    helps = {n: _help(function, n) for n in chosen if n not in COMMON}
    kind = make_dataclass(
        f"{name.capitalize()}Options",
        fields,
        bases=(CommonOptions,),
        namespace={"HELPS": helps | {n: COMMON[n] for n in chosen if n in COMMON}},
        frozen=True,
        kw_only=True,
    )
    return kind


COMMON = {
    "network": "Name of a network in the atlas, where there are several.",
    "seed": "Of everything that is drawn at random.",
    "resamples": "Resamples of an interval, and permutations of a test.",
    "confidence": "Confidence of the intervals.",
}


def _help(function: Any, name: str) -> str:
    """What the function's docstring says of a parameter: the sentence after ``name``: up to the next one."""
    text = inspect.getdoc(function) or ""
    match = re.search(rf"``{name}``:\s*(.+?)(?=\s*``\w+``:|\n\s*\n|\Z)", text, re.DOTALL)
    match = match or re.search(rf"^\s*{name}:\s*(.+?)(?=\n\s*\w+:|\n\s*\n|\Z)", text, re.DOTALL | re.MULTILINE)
    words = " ".join(match.group(1).split()).replace("``", "") if match else name.replace("_", " ")
    return words[0].upper() + words[1:]


# --- what is asked of each network -------------------------------------------------------------------------------


def _scaled(atlas: Atlas, network: NetworkRecord, _: Before) -> dict[str, Any]:
    alphas = np.round(np.arange(0, 2.51, 0.1), 2).tolist()
    return {"span": span_at(atlas, network, SCALED), "examples": 6, "tolerance": 0.05, "alphas": alphas}


def _interpolated(atlas: Atlas, network: NetworkRecord, _: Before) -> dict[str, Any]:
    return {"span": span_at(atlas, network, SCALED), "pairs": 12, "steps": 20, "tolerance": 0.05}


def _mapped(atlas: Atlas, network: NetworkRecord, _: Before) -> dict[str, Any]:
    return {"site": site_at(atlas, network, SLICED).name, "examples": 16}


def _sliced(atlas: Atlas, network: NetworkRecord, _: Before) -> dict[str, Any]:
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
        "span": span_at(atlas, network, SLICED),
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


def _attacked(atlas: Atlas, network: NetworkRecord, _: Before) -> dict[str, Any]:
    return {
        "span": span_at(atlas, network, SCALED),
        "examples": 8,
        "epsilons": [0.1, 0.3],
        "steps": 5,
        "n_random": 2,
        "tolerance": 0.05,
    }


def _softened(_: Atlas, __: NetworkRecord, ___: Before) -> dict[str, Any]:
    return {"examples": 60}


def _normed(_: Atlas, __: NetworkRecord, ___: Before) -> dict[str, Any]:
    return {"examples": 10, "alphas": [0.2, 0.5, 2.0, 5.0]}


def _intervened(atlas: Atlas, network: NetworkRecord, _: Before) -> dict[str, Any]:
    """The largest cluster of codes at a late site, of at most half of the examples: the rest must be elsewhere."""
    site = _later(atlas, network, SLICED)
    clustering = clustering_of(atlas, atlas.catalog.target(site=site, network=network.name), None, "codes")
    table = clusters(atlas, clustering=clustering.clustering_id, samples=0)
    table = table[(table["label"] >= 0) & (2 * table["size"] <= table["size"].sum())]
    if table.empty:
        raise NotStored(f"{clustering.name} has no cluster of at most half of the examples, whose gates could be set")
    largest = int(table.sort_values(["size", "label"], ascending=[False, True])["label"].iloc[0])
    return {"site": site, "cluster": largest, "clustering": clustering.clustering_id, "examples": 10, "n_random": 6}


# --- numbers where nothing is claimed ---------------------------------------------------------------------------


def _of_slice(result: Result) -> pd.DataFrame:
    [summary] = result.tables["summary"].to_dict("records")
    points = summary["points"]
    counted = (
        ("polytopes", "distinct polytopes among the points of the grid", points),
        ("codes", "distinct codes among them", points),
        ("gates_crossed", "gates on at some of the points and off at others", summary["gates"]),
        ("exact_lines", "share of the length of the lines drawn that is exact", summary["lines"]),
    )
    rows = [(words, summary[name], n) for name, words, n in counted if name in summary]
    rows += [
        (f"share of the points where {row['class']} is predicted", row["share"], points)
        for row in result.table.to_dict("records")
    ]
    return counts(rows)


CLAIMS: dict[str, tuple[Claim, ...]] = {
    "slice": (
        Claim(
            "slice",
            Part.INTRODUCTION,
            1,
            "The activation space of a layer is cut into polytopes by the gates of all layers after it.",
            asking=_sliced,
            shown=_of_slice,
        ),
    ),
    "scale": (
        Claim(
            "peak",
            Part.PREDICTION_3,
            1,
            "Boundaries lie densest between the origin and the activation, and less densely at either.",
            asking=_scaled,
            judge=verdicts_paths.peak_inside,
            rule=verdicts_paths.PEAK_RULE,
        ),
        Claim(
            "change",
            Part.PREDICTION_3,
            2,
            "The predicted class changes where boundaries are dense.",
            asking=_scaled,
            judge=verdicts_paths.class_changes_where_dense,
            rule=verdicts_paths.CHANGE_RULE,
        ),
        Claim(
            "untrained",
            Part.SCALING,
            1,
            "The peak between origin and activation is absent in untrained networks.",
            asking=_scaled,
            judge=verdicts_paths.no_peak_untrained,
            rule=verdicts_paths.UNTRAINED_PEAK_RULE,
        ),
        Claim(
            "noise",
            Part.SCALING,
            2,
            "The peak is there for directions of Gaussian noise too.",
            asking=_scaled,
            judge=verdicts_paths.peak_for_noise,
            rule=verdicts_paths.GAUSSIAN_RULE,
        ),
    ),
    "adversarial": (
        Claim(
            "adversarial",
            Part.DISCUSSION,
            3,
            "Adversarial perturbations cross many polytope boundaries.",
            asking=_attacked,
            judge=verdicts_discussion.attacks_cross_more,
            rule=verdicts_discussion.CROSSING_RULE,
        ),
    ),
    "interpolate": (
        Claim(
            "path",
            Part.INTERPOLATING,
            1,
            "On the way between images of different classes boundaries are denser.",
            asking=_interpolated,
            judge=verdicts_paths.paths_between_classes_are_denser,
            rule=verdicts_paths.PATH_RULE,
        ),
    ),
    "affine": (
        Claim(
            "maps",
            Part.SPLINES,
            1,
            "Hamming distance corresponds to the distance of the affine transformations.",
            asking=_mapped,
            judge=verdicts_paths.gates_follow_maps,
            rule=verdicts_paths.MAP_RULE,
        ),
    ),
    "soft": (
        Claim(
            "soft",
            Part.SPLINES,
            2,
            "Smooth activations blur the boundaries of polytopes; ReLU's are sharp.",
            asking=_softened,
            judge=verdicts_discussion.smooth_gates_blur,
            rule=verdicts_discussion.BLUR_RULE,
        ),
    ),
    "layernorm": (
        Claim(
            "norm",
            Part.COMMENTS,
            1,
            "LayerNorm makes polytopes indifferent to the scale of what it reads.",
            asking=_normed,
            judge=verdicts_discussion.norm_removes_scale,
            rule=verdicts_discussion.NORM_RULE,
        ),
    ),
    "intervene": (
        Claim(
            "gates",
            Part.COMMENTS,
            2,
            "Setting a few gates as a cluster has them moves the output towards the cluster's.",
            asking=_intervened,
            judge=verdicts_discussion.gates_carry_meaning,
            rule=verdicts_discussion.GATES_RULE,
        ),
    ),
}

"""Whether a claim of the post holds, decided by a stated rule from an experiment's tables alone.

Three verdicts: supported, not supported, and undecided, where intervals are too wide or what is measured disagrees
with itself. The rule decides, not the wish: every judge states its rule beside its code, and the report prints it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..statistics import mean_interval, share_interval
from .result import Result

Word = Literal["supported", "not supported", "undecided"]
Row = dict[Any, Any]

UNTRAINED_BAND = 0.02
"""How far from 1 the ratio of densities may lie in an untrained network that shows no effect."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """``because``: the numbers that decided, in a sentence. ``numbers``, a row each: what, value, low, high, n."""

    word: Word
    because: str
    numbers: pd.DataFrame


Judge = Callable[[Result], Verdict]


def number(what: str, row: Row, name: str, n: Any) -> Row:
    """A row of ``numbers``: a column of a table with the ends of its interval."""
    return {"what": what, "value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"], "n": n}


def majority(votes: Sequence[int]) -> Word:
    """More than half for and none against: supported. More than half against: not supported. Else undecided."""
    if sum(vote > 0 for vote in votes) * 2 > len(votes) and not any(vote < 0 for vote in votes):
        return "supported"
    return "not supported" if sum(vote < 0 for vote in votes) * 2 > len(votes) else "undecided"


def vote_of(low: float, high: float, bound: float) -> int:
    """1 where an interval lies above the bound, −1 below, 0 where it holds the bound or is unknown."""
    return int(low > bound) - int(high < bound)


def word_for(vote: int) -> Word:
    return "supported" if vote > 0 else "not supported" if vote < 0 else "undecided"


# --- Prediction 1 ------------------------------------------------------------------------------------------------

CLUSTERS_RULE = (
    "A site is for it where the 95 % interval of the mean lift of its code clusters (purity over that of random "
    "groups of the same size) lies above 1, against it where it lies below. Supported: more than half of the "
    "sites for, none against. Not supported: more than half against."
)


def clusters_are_monosemantic(result: Result) -> Verdict:
    """`CLUSTERS_RULE`, on `monosemanticity`."""
    rows = _methods(result, "code clusters")
    votes = [vote_of(row["lift_low"], row["lift_high"], 1.0) for row in rows]
    numbers = [
        number(f"{row['site']}: {label} of code clusters", row, name, row["groups"])
        for row in rows for name, label in (("purity", "purity"), ("lift", "lift"), ("intruder", "intruder found"))
    ]  # fmt: skip
    because = f"the lift lies above 1 at {sum(v > 0 for v in votes)} of {len(votes)} sites, below at " \
              f"{sum(v < 0 for v in votes)}"  # fmt: skip
    return Verdict(majority(votes) if votes else "undecided", because, pd.DataFrame(numbers))


NEURONS_RULE = (
    "A site is for it where the interval of the mean lift of code clusters lies above that of the neurons' tops, "
    "against it where it lies below. Supported: more than half of the sites for, none against. Not supported: "
    "more than half against."
)


def clusters_beat_neurons(result: Result) -> Verdict:
    """`NEURONS_RULE`, on `monosemanticity`."""
    clusters = {row["site"]: row for row in _methods(result, "code clusters")}
    neurons = {row["site"]: row for row in _methods(result, "neurons")}
    sites = [site for site in clusters if site in neurons]
    votes = [
        int(clusters[site]["lift_low"] > neurons[site]["lift_high"])
        - int(clusters[site]["lift_high"] < neurons[site]["lift_low"])
        for site in sites
    ]
    numbers = [
        number(f"{site}: lift of {words}", rows[site], "lift", rows[site]["groups"])
        for site in sites for words, rows in (("code clusters", clusters), ("neurons' tops", neurons))
    ]  # fmt: skip
    because = f"clusters are clearly purer at {sum(v > 0 for v in votes)} of {len(votes)} sites, neurons at " \
              f"{sum(v < 0 for v in votes)}"  # fmt: skip
    return Verdict(majority(votes) if votes else "undecided", because, pd.DataFrame(numbers))


POLYSEMANTIC_RULE = (
    "A unit is polysemantic where the clustered examples among its top belong to two clusters or more. Supported:"
    " the interval (Wilson's) of the share of polysemantic units lies above one half. Not supported: below."
)


def neurons_are_polysemantic(result: Result) -> Verdict:
    """`POLYSEMANTIC_RULE`, on `neuron`: of units with at least two clustered examples in their top."""
    ranking = result.tables["ranking"]
    known = ranking[ranking["top"] - ranking["noise"] >= 2]
    share = share_interval(int((known["clusters"] >= 2).sum()), len(known))
    summary = {row["of"]: row for row in result.tables["summary"].to_dict("records")}
    numbers = [
        {"what": "share of units whose top meets 2 clusters or more", "value": share.value, "low": share.low,
         "high": share.high, "n": share.n},
        number("entropy of a unit's top over clusters, bits", summary["units"], "cluster_entropy", len(ranking)),
        number("the same of random examples", summary["random sets"], "cluster_entropy", summary["random sets"]["n"]),
    ]  # fmt: skip
    return Verdict(word_for(vote_of(share.low, share.high, 0.5)), f"{share.value:.0%} of {share.n} units",
                   pd.DataFrame(numbers))  # fmt: skip


REGIONS_RULE = (
    "An interval of the neuron's activations is about a label where the Wilson interval of its purity lies above "
    "one half. Supported: two intervals or more are, of different labels. Not supported: fewer than two have a "
    "purity above one half. Else undecided."
)


def one_neuron_meets_regions(result: Result) -> Verdict:
    """`REGIONS_RULE`, on `projection`."""
    rows = result.table.to_dict("records")
    sure = {row["top_label"] for row in rows if row["purity_low"] > 0.5}
    likely = [row for row in rows if row["purity"] > 0.5]
    word: Word = "supported" if len(sure) > 1 else "not supported" if len(likely) < 2 else "undecided"
    numbers = [
        number(f"[{row['low']:.3g}, {row['high']:.3g}], {row['top_label']}: purity", row, "purity", row["labelled"])
        for row in rows
    ]
    because = f"{len(rows)} intervals, {len(likely)} of purity above one half; surely about {len(sure)} labels"
    return Verdict(word, because, pd.DataFrame(numbers, columns=["what", "value", "low", "high", "n"]))


NMF_RULE = (
    "A direction is monosemantic where one cluster holds more than half of its k examples of highest cosine. "
    "Supported: the interval (Wilson's) of the share of monosemantic NMF directions lies above one half. Not "
    "supported: below."
)


def nmf_is_monosemantic(result: Result) -> Verdict:
    """`NMF_RULE`, on `directions`."""
    rows = {row["method"]: row for row in result.table.to_dict("records")}
    numbers = [
        number(f"{method}: {words}", row, name, row["directions"])
        for method, row in rows.items()
        for name, words in (
            ("monosemantic", "share of monosemantic directions"),
            ("top_share", "mean share of a top"),
        )
    ]
    nmf = rows["nmf"]
    return Verdict(word_for(vote_of(nmf["monosemantic_low"], nmf["monosemantic_high"], 0.5)),
                   f"{nmf['monosemantic']:.0%} of {nmf['directions']} directions", pd.DataFrame(numbers))  # fmt: skip


# --- Prediction 2 ------------------------------------------------------------------------------------------------

DENSITY_RULE = (
    "Supported: the interval of the ratio (between over within classes) lies above 1 at every span, and in the "
    f"untrained controls the ratio lies within {UNTRAINED_BAND:.0%} of 1, or its interval holds 1, at every span. "
    "Not supported: the interval lies below 1, or holds 1, at more than half of the spans, or a control's ratio "
    "is as large as the trained network's at more than half. Without a control in the atlas the trained network "
    "alone decides."
)


def boundaries_separate_classes(result: Result) -> Verdict:
    """`DENSITY_RULE`, on `density`."""
    table = result.table
    given = {row["span"]: row for row in table[table["network"] == result.network].to_dict("records")}
    controls = table[table["weights"].str.startswith("untrained")].to_dict("records")
    above = [row["ratio_low"] > 1 for row in given.values()]
    quiet = [_no_effect(row) for row in controls]
    louder = [row["ratio"] >= given[row["span"]]["ratio"] for row in controls]
    numbers = [
        number(f"{row['span']}, {row['weights']}: ratio", row, "ratio", f"{row['n_intra']} + {row['n_inter']} pairs")
        for row in [*given.values(), *controls]
    ]
    if all(above) and all(quiet):
        word: Word = "supported"
    elif sum(above) * 2 < len(above) or (louder and sum(louder) * 2 > len(louder)):
        word = "not supported"
    else:
        word = "undecided"
    beside = (f"; untrained: no difference at {sum(quiet)} of {len(quiet)}" if controls
              else "; no untrained control is in the atlas")  # fmt: skip
    return Verdict(
        word, f"the ratio lies above 1 at {sum(above)} of {len(above)} spans{beside}", pd.DataFrame(numbers)
    )


def _no_effect(row: Row) -> bool:
    return abs(row["ratio"] - 1) <= UNTRAINED_BAND or row["ratio_low"] <= 1 <= row["ratio_high"]


DEPTH_RULE = (
    "Of the trained network's ratio per span: supported where the interval at the last span lies above that at "
    "the first and the rank correlation with depth is positive; not supported where the interval at the last lies"
    " below that at the first; else undecided."
)


def difference_grows_with_depth(result: Result) -> Verdict:
    """`DEPTH_RULE`, on `density`."""
    table = result.table
    rows = table[table["network"] == result.network].to_dict("records")
    first, last = rows[0], rows[-1]
    ratios = pd.Series([row["ratio"] for row in rows])
    correlation = float(ratios.rank().corr(pd.Series(range(len(ratios)), dtype=float))) if len(rows) > 1 else np.nan
    if len(rows) > 1 and last["ratio_low"] > first["ratio_high"] and correlation > 0:
        word: Word = "supported"
    elif len(rows) > 1 and last["ratio_high"] < first["ratio_low"]:
        word = "not supported"
    else:
        word = "undecided"
    numbers = [
        number(f"{row['span']}: ratio", row, "ratio", f"{row['n_intra']} + {row['n_inter']} pairs") for row in rows
    ]
    numbers.append({"what": "rank correlation of ratio and depth", "value": correlation, "low": np.nan,
                    "high": np.nan, "n": len(rows)})  # fmt: skip
    because = f"{first['ratio']:.3g} at {first['span']}, {last['ratio']:.3g} at {last['span']}"
    return Verdict(word, because, pd.DataFrame(numbers))


# --- Prediction 3 and the appendices -----------------------------------------------------------------------------

PEAK_RULE = (
    "There is a peak inside where the interval of the densest α (of the mean profile) lies below 1 and that of "
    "the peak's height (density there over density just below α = 1) lies above 1. Supported: the trained network"
    " has one. Not supported: the interval of the height holds 1, or that of the densest α lies above 1. Else "
    "undecided."
)


def peak_inside(result: Result) -> Verdict:
    """`PEAK_RULE`, on `scale`."""
    rows = _kinds(result)
    row = rows["activation"]
    return Verdict(_peak_word(row), _peak_words(row), _peak_numbers(rows))


UNTRAINED_PEAK_RULE = (
    "A network has a peak inside as above. Supported: the trained network has one and no untrained control has. "
    "Not supported: an untrained control has one too. Undecided: the trained network has none, or there is no "
    "control."
)


def no_peak_untrained(result: Result) -> Verdict:
    """`UNTRAINED_PEAK_RULE`, on `scale`."""
    rows = _kinds(result)
    controls = {kind: row for kind, row in rows.items() if kind.startswith("random")}
    peaks = [kind for kind, row in controls.items() if _has_peak(row)]
    if not controls or not _has_peak(rows["activation"]):
        word: Word = "undecided"
    else:
        word = "not supported" if peaks else "supported"
    because = "; ".join(f"{kind}: {_peak_words(row)}" for kind, row in controls.items()) or "no control was run"
    return Verdict(word, because, _peak_numbers(rows))


LEAST_CHANGES = 5
"""Examples whose class changes on a side, for that side to count: an interval of fewer means nothing."""

CHANGE_RULE = (
    "For every example whose class changes on the way from α = 1, down or up: the mean density at the α of the "
    "change, over the mean density over all α. A side counts where the class of at least "
    f"{LEAST_CHANGES} examples changes there. Supported: the interval of the mean of this ratio lies above 1 on "
    "every side that counts. Not supported: below 1 on every such side. Else undecided."
)


def class_changes_where_dense(result: Result) -> Verdict:
    """`CHANGE_RULE`, on `scale`: the nearest change below α = 1 and the nearest above."""
    table, examples = result.table, result.tables["examples"]
    profile = table[table["kind"] == "activation"]
    own = examples[examples["kind"] == "activation"]
    low, high, share = (profile[name].to_numpy(np.float64) for name in ("alpha_low", "alpha_high", "share"))
    rows: list[Row] = []
    votes: dict[str, int] = {}
    for words, column in (("below", "changes_below"), ("above", "changes_above")):
        changing = own[own[column].notna()]
        alphas = changing[column].to_numpy(np.float64)
        place = np.clip(np.searchsorted(high, alphas), 0, len(high) - 1)
        found = mean_interval(share[place] / np.average(share, weights=high - low), np.random.default_rng(0),
                              units=changing["input"].to_numpy(np.int64))  # fmt: skip
        votes[words] = vote_of(found.low, found.high, 1.0) if found.n >= LEAST_CHANGES else 0
        rows.append({"what": f"density where the class changes {words} α = 1, over the mean", "value": found.value,
                     "low": found.low, "high": found.high, "n": found.n})  # fmt: skip
    both = [votes[words] for words, row in zip(("below", "above"), rows, strict=True) if row["n"] >= LEAST_CHANGES]
    word = word_for(both[0]) if both and len(set(both)) == 1 else "undecided"
    because = "; ".join(f"{row['what']}: {row['value']:.3g} (n = {row['n']})" for row in rows if row["n"])
    return Verdict(word, because or "no class changed", pd.DataFrame(rows))


GAUSSIAN_RULE = "As for the peak of the activations: the Gaussian directions of the trained network decide."


def peak_for_noise(result: Result) -> Verdict:
    """`GAUSSIAN_RULE`, on `scale`."""
    rows = _kinds(result)
    row = rows["gaussian"]
    return Verdict(_peak_word(row), _peak_words(row), _peak_numbers(rows))


PATH_RULE = (
    "Supported: the interval of the ratio of mean densities, different over same class, along straight lines lies"
    " above 1. Not supported: it lies below. Else undecided."
)


def paths_between_classes_are_denser(result: Result) -> Verdict:
    """`PATH_RULE`, on `interpolate`."""
    rows = {row["kind"]: row for row in result.tables["summary"].to_dict("records")}
    ratio = rows["different"]
    numbers = [number(f"density along paths, {kind} class", row, "density", row["n"]) for kind, row in rows.items()]
    numbers.append(number("ratio, different over same", ratio, "ratio", ratio["n"]))
    return Verdict(word_for(vote_of(ratio["ratio_low"], ratio["ratio_high"], 1.0)), f"ratio {ratio['ratio']:.3g}",
                   pd.DataFrame(numbers))  # fmt: skip


MAP_RULE = (
    "Supported: the interval of the rank correlation between Hamming distance and Frobenius distance of the "
    "affine maps lies above 0. Not supported: it lies below 0. Else undecided."
)


def gates_follow_maps(result: Result) -> Verdict:
    """`MAP_RULE`, on `affine`."""
    rows = result.tables["summary"].to_dict("records")
    main = next(row for row in rows if row["of"] == "hamming" and row["with"] == "frobenius")
    numbers = [number(f"rank correlation of {row['of']} and {row['with']}", row, "rho", row["n"]) for row in rows]
    return Verdict(word_for(vote_of(main["rho_low"], main["rho_high"], 0.0)), f"rank correlation {main['rho']:.3g}",
                   pd.DataFrame(numbers))  # fmt: skip


# --- rows of tables ----------------------------------------------------------------------------------------------


def _methods(result: Result, method: str) -> list[Row]:
    return result.table[result.table["method"] == method].to_dict("records")


def _kinds(result: Result) -> dict[str, Row]:
    return {row["kind"]: row for row in result.tables["summary"].to_dict("records")}


def _has_peak(row: Row) -> bool:
    return bool(row["peak_high"] < 1 and row["peak_height_low"] > 1)


def _peak_word(row: Row) -> Word:
    if _has_peak(row):
        return "supported"
    none = np.isnan(row["peak"]) or row["peak_height_low"] <= 1 <= row["peak_height_high"] or row["peak_low"] > 1
    return "not supported" if none else "undecided"


def _peak_words(row: Row) -> str:
    if np.isnan(row["peak"]):
        return "no boundary is crossed"
    return f"densest at α = {row['peak']:.3g}, {row['peak_height']:.3g} times the density just below α = 1"


def _peak_numbers(rows: dict[str, Row]) -> pd.DataFrame:
    return pd.DataFrame([
        number(f"{kind}: {words}", row, name, row["n"])
        for kind, row in rows.items()
        for name, words in (("peak", "densest α"), ("peak_height", "density there over that just below α = 1"))
    ])  # fmt: skip

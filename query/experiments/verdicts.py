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

from ..statistics import Interval, share_interval
from .groups import share_monosemantic
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


def _share(what: str, found: Interval) -> Row:
    return {"what": what, "value": found.value, "low": found.low, "high": found.high, "n": found.n}


def _numbers(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["what", "value", "low", "high", "n"])  # of no rows too


def majority(votes: Sequence[int]) -> Word:
    """More than half for and none against: supported. More than half against: not supported. Else undecided."""
    if sum(vote > 0 for vote in votes) * 2 > len(votes) and not any(vote < 0 for vote in votes):
        return "supported"
    return "not supported" if sum(vote < 0 for vote in votes) * 2 > len(votes) else "undecided"


def _ballot(votes: Sequence[int], sites: int) -> Word:
    """`BALLOT`: the majority of the votes, where at least half of the sites cast one."""
    return majority(votes) if 2 * len(votes) >= sites else "undecided"


def vote_of(low: float, high: float, bound: float) -> int:
    """1 where an interval lies above the bound, −1 below, 0 where it holds the bound or is unknown."""
    return int(low > bound) - int(high < bound)


def word_for(vote: int) -> Word:
    return "supported" if vote > 0 else "not supported" if vote < 0 else "undecided"


# --- Prediction 1 ------------------------------------------------------------------------------------------------

LEAST_GROUPS = 10
"""Groups below which a site does not vote: intervals of the mean of fewer are far too narrow."""

BALLOT = (
    "Supported: at least half of the sites vote, more than half of those that do for, none against. Not supported: "
    "more than half against, of at least half of the sites. Else undecided."
)

CLUSTERS_RULE = (
    "A cluster is monosemantic where its purity exceeds one half; clusters of a single input are left out. A site "
    f"votes where at least {LEAST_GROUPS} clusters remain: for, where the interval (Wilson's) of the share of "
    "monosemantic clusters lies above one half and that of the mean lift (purity over that of random groups of the "
    f"same size) above 1; against, where either lies below. {BALLOT}"
)


def clusters_are_monosemantic(result: Result) -> Verdict:
    """`CLUSTERS_RULE`, on `monosemanticity`: of clusters of codes."""
    return _monosemantic(result, "code clusters")


def activation_clusters_are_monosemantic(result: Result) -> Verdict:
    """`CLUSTERS_RULE`, on `monosemanticity`: of clusters of activations."""
    return _monosemantic(result, "activation clusters")


def _monosemantic(result: Result, method: str) -> Verdict:
    groups = result.tables["groups"]
    votes, numbers = [], []
    rows = _methods(result, method)
    for row in rows:
        share, by_chance = (
            share_monosemantic(groups[(groups["site"] == row["site"]) & (groups["method"] == of)])
            for of in (method, "random groups")
        )
        if share.n >= LEAST_GROUPS:
            each = (vote_of(share.low, share.high, 0.5), vote_of(row["lift_low"], row["lift_high"], 1.0))
            votes.append(min(each))
        voice = "" if share.n >= LEAST_GROUPS else " (too few to vote)"
        numbers += [
            _share(f"{row['site']}: monosemantic {method}, share{voice}", share),
            _share(f"{row['site']}: the same of random groups of their sizes", by_chance),
            *(
                number(f"{row['site']}: {label} of {method}", row, name, row["groups"])
                for name, label in (("purity", "mean purity"), ("lift", "mean lift"), ("intruder", "intruder found"))
            ),
        ]
    because = (
        f"{sum(v > 0 for v in votes)} of {len(votes)} voting sites for, {sum(v < 0 for v in votes)} against; "
        f"{len(rows) - len(votes)} have fewer than {LEAST_GROUPS} clusters and do not vote"
    )
    return Verdict(_ballot(votes, len(rows)), because, _numbers(numbers))


NEURONS_RULE = (
    f"A site votes where it has at least {LEAST_GROUPS} code clusters and as many tops of neurons: for, where the "
    "interval of the mean lift of code clusters lies above that of the neurons' tops; against, where it lies below. "
    f"{BALLOT}"
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
        if min(clusters[site]["groups"], neurons[site]["groups"]) >= LEAST_GROUPS
    ]
    numbers = [
        number(f"{site}: mean lift of {words}", rows[site], "lift", rows[site]["groups"])
        for site in sites
        for words, rows in (("code clusters", clusters), ("neurons' tops", neurons))
    ]
    because = (
        f"clusters are clearly purer at {sum(v > 0 for v in votes)} of {len(votes)} voting sites, neurons at "
        f"{sum(v < 0 for v in votes)}; {len(clusters) - len(votes)} do not vote"
    )
    return Verdict(_ballot(votes, len(clusters)), because, _numbers(numbers))


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
        {
            "what": "share of units whose top meets 2 clusters or more",
            "value": share.value,
            "low": share.low,
            "high": share.high,
            "n": share.n,
        },
        number("entropy of a unit's top over clusters, bits", summary["units"], "cluster_entropy", len(ranking)),
        number("the same of random examples", summary["random sets"], "cluster_entropy", summary["random sets"]["n"]),
    ]
    return Verdict(
        word_for(vote_of(share.low, share.high, 0.5)), f"{share.value:.0%} of {share.n} units", pd.DataFrame(numbers)
    )


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
    return Verdict(
        word_for(vote_of(nmf["monosemantic_low"], nmf["monosemantic_high"], 0.5)),
        f"{nmf['monosemantic']:.0%} of {nmf['directions']} directions",
        pd.DataFrame(numbers),
    )


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
    beside = (
        f"; untrained: no difference at {sum(quiet)} of {len(quiet)}"
        if controls
        else "; no untrained control is in the atlas"
    )
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
    # Of all spans that there are, which share gates: no sample, and so no interval.
    numbers.append(
        {
            "what": "rank correlation of ratio and depth, of these spans",
            "value": correlation,
            "low": np.nan,
            "high": np.nan,
            "n": len(rows),
        }
    )
    because = f"{first['ratio']:.3g} at {first['span']}, {last['ratio']:.3g} at {last['span']}"
    return Verdict(word, because, pd.DataFrame(numbers))


# --- rows of tables ----------------------------------------------------------------------------------------------


def _methods(result: Result, method: str) -> list[Row]:
    return result.table[result.table["method"] == method].to_dict("records")

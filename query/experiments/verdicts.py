"""Whether a claim of the post holds, decided by a stated rule from an experiment's tables alone.

Three verdicts: supported, not supported, and undecided, where intervals are too wide or what is measured disagrees
with itself. The rule decides, not the wish: every judge states its rule beside its code, and the report prints it.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ..statistics import Interval, share_interval
from .claims import NUMBERS, Row, Verdict, Word, majority, number, vote_of, word_for
from .groups import share_monosemantic
from .result import Result


def _share(what: str, found: Interval) -> Row:
    return {"what": what, "value": found.value, "low": found.low, "high": found.high, "n": found.n}


def _numbers(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=NUMBERS)  # of no rows too


def _ballot(votes: Sequence[int], sites: int) -> Word:
    """`BALLOT`: the majority of the votes, where at least half of the sites cast one."""
    return majority(votes) if 2 * len(votes) >= sites else "undecided"


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


# --- rows of tables ----------------------------------------------------------------------------------------------


def _methods(result: Result, method: str) -> list[Row]:
    return result.table[result.table["method"] == method].to_dict("records")

"""Whether claims of the post's discussion, its appendix on splines and its comments hold, by stated rules.

As in `verdicts`: every judge states its rule beside its code and decides from an experiment's tables alone.
"""

from __future__ import annotations

import pandas as pd

from .claims import Verdict, Word, majority, number, vote_of, word_for
from .result import Result

CROSSING_RULE = (
    "An attack and a norm are for it where the interval of the ratio of crossings, attack over random direction, "
    "lies above 1, against it where it lies below. Supported: more than half are for, none against. Not supported: "
    "more than half against."
)


def attacks_cross_more(result: Result) -> Verdict:
    """`CROSSING_RULE`, on `adversarial`."""
    rows = [row for row in result.table.to_dict("records") if row["kind"] != "random"]
    votes = [vote_of(row["ratio_low"], row["ratio_high"], 1.0) for row in rows]
    numbers = [
        number(f"{row['kind'].upper()}, {row['epsilon']:g} of the norm: {words}", row, name, row["n"])
        for row in rows
        for name, words in (("ratio", "crossings, over random"), ("changed", "share of predictions changed"))
    ]
    because = (
        f"attacks cross more than random directions at {sum(v > 0 for v in votes)} of {len(votes)} kinds and "
        f"norms, fewer at {sum(v < 0 for v in votes)}"
    )
    return Verdict(majority(votes), because, pd.DataFrame(numbers))


# --- appendix C and the comments ---------------------------------------------------------------------------------

BLURRED = 0.1
"""Share of undecided gates from which on a site's polytopes are blurred."""

BLUR_RULE = (
    "Of a site with smooth gates: for it where the interval of the share of undecided gates lies above "
    f"{BLURRED:.0%}, against it where it lies below. Of a site with ReLU: for it where soft and hard distance are "
    "equal in every pair and no gate is undecided, else against it. Supported: more than half of the sites for, none "
    "against. Not supported: more than half against."
)


def smooth_gates_blur(result: Result) -> Verdict:
    """`BLUR_RULE`, on `soft`."""
    pairs = result.tables["pairs"]
    unequal = set(pairs.loc[pairs["expected"] != pairs["hard"], "site"])
    rows = result.table.to_dict("records")
    votes = []
    for row in rows:
        if row["nonlinearity"].startswith("relu"):
            votes.append(-1 if row["site"] in unequal or row["undecided"] > 0 else 1)
        else:
            votes.append(vote_of(row["undecided_low"], row["undecided_high"], BLURRED))
    numbers = [
        number(f"{row['site']}, {row['nonlinearity']}: {words}", row, name, row["n"])
        for row in rows
        for name, words in (("undecided", "share of undecided gates"), ("ratio", "soft distance over hard"))
    ]
    least, most = (f(row["undecided"] for row in rows) for f in (min, max))
    because = (
        f"{least:.0%} to {most:.0%} of the gates of a site are undecided; {sum(v > 0 for v in votes)} of "
        f"{len(votes)} sites are for it, {sum(v < 0 for v in votes)} against"
    )
    return Verdict(majority(votes), because, pd.DataFrame(numbers))


SCALE_FREE = 0.01
"""Share of gates below which scaling flips next to nothing."""

NORM_RULE = (
    f"Supported: scaling before the norm flips less than {SCALE_FREE:.0%} of the gates (its interval lies below), "
    "and scaling the MLP hidden vector flips more (its interval lies above). Not supported: the interval of the "
    "first lies above. Else undecided."
)


def norm_removes_scale(result: Result) -> Verdict:
    """`NORM_RULE`, on `layernorm`."""
    rows = {row["scaled"]: row for row in result.tables["summary"].to_dict("records")}
    votes = {scaled: vote_of(row["share_low"], row["share_high"], SCALE_FREE) for scaled, row in rows.items()}
    before, hidden = votes.get("before the norm", 0), votes.get("MLP hidden vector", 0)
    word: Word = "not supported" if before > 0 else "supported" if before < 0 < hidden else "undecided"
    numbers = [number(f"{scaled}: share of gates flipped", row, "share", row["n"]) for scaled, row in rows.items()]
    because = "; ".join(f"scaled {scaled}: {row['share']:.2g} of the gates flip" for scaled, row in rows.items())
    return Verdict(word, because, pd.DataFrame(numbers))


GATES_RULE = (
    "Supported: the interval of the difference in gain (how much nearer the output comes to the cluster's mean "
    "output), distinctive gates less random ones, lies above 0. Not supported: below. Else undecided."
)


def gates_carry_meaning(result: Result) -> Verdict:
    """`GATES_RULE`, on `intervene`."""
    rows = {row["measure"]: row for row in result.table.to_dict("records")}
    gain = rows["gain"]
    shown = (
        ("gain", "nearer to the cluster's output, nats"),
        ("kl", "change of the output, nats"),
        ("changed", "share of predictions changed"),
        ("moved", "change of preactivations"),
    )
    numbers = [
        number(f"{words}: {column}", rows[name], column, gain["n"])
        for name, words in shown
        for column in ("distinctive", "random", "difference")
    ]
    because = f"{gain['distinctive']:.3g} nats nearer by distinctive gates, {gain['random']:.3g} by random ones"
    return Verdict(
        word_for(vote_of(gain["difference_low"], gain["difference_high"], 0.0)), because, pd.DataFrame(numbers)
    )

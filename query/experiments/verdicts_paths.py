"""Whether claims about paths through polytopes hold (Prediction 3, appendices A to C), by stated rules.

As in `verdicts`: every judge states its rule beside its code and decides from an experiment's tables alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..statistics import mean_interval
from .claims import Row, Verdict, Word, number, vote_of, word_for
from .result import Result

PEAK_RULE = (
    "There is a peak inside where density rises from the origin and falls again before α = 1: the interval of the "
    "densest α (of the mean profile) lies above the first step and below 1, and that of the peak's height (density "
    "there over density just below α = 1) lies above 1. Supported: the trained network has one. Not supported: the "
    "interval of the height holds 1, that of the densest α lies above 1, or it is the first step alone, from which "
    "density only falls. Else undecided."
)


def peak_inside(result: Result) -> Verdict:
    """`PEAK_RULE`, on `scale`."""
    rows = _kinds(result)
    row = rows["activation"]
    return Verdict(_peak_word(row, _first_step(result)), _peak_words(row), _peak_numbers(rows))


UNTRAINED_PEAK_RULE = (
    "A network has a peak inside as above. Supported: the trained network has one and no untrained control has. "
    "Not supported: an untrained control has one too. Undecided: the trained network has none, or there is no "
    "control."
)


def no_peak_untrained(result: Result) -> Verdict:
    """`UNTRAINED_PEAK_RULE`, on `scale`."""
    rows = _kinds(result)
    controls = {kind: row for kind, row in rows.items() if kind.startswith("random")}
    first = _first_step(result)
    peaks = [kind for kind, row in controls.items() if _has_peak(row, first)]
    if not controls or not _has_peak(rows["activation"], first):
        word: Word = "undecided"
    else:
        word = "not supported" if peaks else "supported"
    because = "; ".join(f"{kind}: {_peak_words(row)}" for kind, row in controls.items()) or "no control was run"
    return Verdict(word, because, _peak_numbers(rows))


LEAST_CHANGES = 5
"""Examples whose class changes on a side, for that side to count: an interval of fewer means nothing."""

CHANGE_RULE = (
    "For every example whose class changes on the way from α = 1, down or up: the mean density in the step in which "
    "it changes, over the mean density over all α. A side counts where the class of at least "
    f"{LEAST_CHANGES} examples changes there. Supported: the interval of the mean of this ratio lies above 1 on "
    "every side that counts. Not supported: below 1 on every such side. Else undecided."
)


def class_changes_where_dense(result: Result) -> Verdict:
    """`CHANGE_RULE`, on `scale`: the nearest change below α = 1 and the nearest above.

    Classes are known at the ends of steps. What is predicted at the end a, and no more at the next end towards α = 1,
    changes between the two: in the step that begins at a where a < 1, in the one that ends at a where a > 1.
    """
    table, examples = result.table, result.tables["examples"]
    profile = table[table["kind"] == "activation"]
    own = examples[examples["kind"] == "activation"]
    low, high, share = (profile[name].to_numpy(np.float64) for name in ("alpha_low", "alpha_high", "share"))
    rows: list[Row] = []
    votes: dict[str, int] = {}
    for words, column in (("below", "changes_below"), ("above", "changes_above")):
        changing = own[own[column].notna()]
        alphas = changing[column].to_numpy(np.float64)
        if words == "below":
            place = np.searchsorted(low, alphas, side="right") - 1
        else:
            place = np.searchsorted(high, alphas, side="left")
        place = np.clip(place, 0, len(high) - 1)
        found = mean_interval(
            share[place] / np.average(share, weights=high - low),
            np.random.default_rng(0),
            units=changing["input"].to_numpy(np.int64),
        )
        votes[words] = vote_of(found.low, found.high, 1.0) if found.n >= LEAST_CHANGES else 0
        rows.append(
            {
                "what": f"density where the class changes {words} α = 1, over the mean",
                "value": found.value,
                "low": found.low,
                "high": found.high,
                "n": found.n,
            }
        )
    both = [votes[words] for words, row in zip(("below", "above"), rows, strict=True) if row["n"] >= LEAST_CHANGES]
    word = word_for(both[0]) if both and len(set(both)) == 1 else "undecided"
    because = "; ".join(f"{row['what']}: {row['value']:.3g} (n = {row['n']})" for row in rows if row["n"])
    return Verdict(word, because or "no class changed", pd.DataFrame(rows))


GAUSSIAN_RULE = "As for the peak of the activations: the Gaussian directions of the trained network decide."


def peak_for_noise(result: Result) -> Verdict:
    """`GAUSSIAN_RULE`, on `scale`."""
    rows = _kinds(result)
    row = rows["gaussian"]
    return Verdict(_peak_word(row, _first_step(result)), _peak_words(row), _peak_numbers(rows))


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
    return Verdict(
        word_for(vote_of(ratio["ratio_low"], ratio["ratio_high"], 1.0)),
        f"ratio {ratio['ratio']:.3g}",
        pd.DataFrame(numbers),
    )


MAP_RULE = (
    "Supported: the interval of the rank correlation between Hamming distance and Frobenius distance of the "
    "affine maps lies above 0. Not supported: it lies below 0. Else undecided."
)


def gates_follow_maps(result: Result) -> Verdict:
    """`MAP_RULE`, on `affine`."""
    rows = result.tables["summary"].to_dict("records")
    main = next(row for row in rows if row["of"] == "hamming" and row["with"] == "frobenius")
    numbers = [number(f"rank correlation of {row['of']} and {row['with']}", row, "rho", row["n"]) for row in rows]
    return Verdict(
        word_for(vote_of(main["rho_low"], main["rho_high"], 0.0)),
        f"rank correlation {main['rho']:.3g}",
        pd.DataFrame(numbers),
    )


# --- rows of tables ----------------------------------------------------------------------------------------------


def _kinds(result: Result) -> dict[str, Row]:
    return {row["kind"]: row for row in result.tables["summary"].to_dict("records")}


def _first_step(result: Result) -> float:
    """The end of the first step of the profile: a densest α below it has no lower density before it."""
    return float(result.table["alpha_high"].min())


def _has_peak(row: Row, first: float) -> bool:
    return bool(row["peak_low"] > first and row["peak_high"] < 1 and row["peak_height_low"] > 1)


def _peak_word(row: Row, first: float) -> Word:
    if _has_peak(row, first):
        return "supported"
    flat = row["peak_height_low"] <= 1 <= row["peak_height_high"]
    none = np.isnan(row["peak"]) or flat or row["peak_low"] > 1 or row["peak_high"] < first
    return "not supported" if none else "undecided"


def _peak_words(row: Row) -> str:
    if np.isnan(row["peak"]):
        return "no boundary is crossed"
    return f"densest at α = {row['peak']:.3g}, {row['peak_height']:.3g} times the density just below α = 1"


def _peak_numbers(rows: dict[str, Row]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            number(f"{kind}: {words}", row, name, row["n"])
            for kind, row in rows.items()
            for name, words in (("peak", "densest α"), ("peak_height", "density there over that just below α = 1"))
        ]
    )

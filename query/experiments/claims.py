"""A claim of the post: its place there, how it is asked of a network, and the rule that decides whether it holds.

Three verdicts: supported, not supported, and undecided, where intervals are too wide or what is measured disagrees
with itself. The rule decides, not the wish: every judge stands beside its rule, and the report prints the rule.

No verdict may be easier with less data. An interval lies on one side of a bound or decides nothing, and that there is
no effect takes an interval that holds none that counts, within a stated margin: that it holds zero, all wide ones do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import numpy as np
import pandas as pd

from atlas import Atlas
from atlas.errors import NotStored
from atlas.network import FULL_SUFFIX, whole_scope
from atlas.store.catalog import NetworkRecord, SiteRecord

from .result import Result

Word = Literal["supported", "not supported", "undecided"]
Row = dict[Any, Any]


class Part(StrEnum):
    """The parts of the post that make claims, in its order."""

    INTRODUCTION = "Introduction"
    PREDICTION_1 = "Prediction 1: polysemantic directions overlap with multiple monosemantic polytope regions"
    PREDICTION_2 = "Prediction 2: polytope boundaries reflect semantic boundaries"
    PREDICTION_3 = "Prediction 3: polytopes define when feature-directions are on- and off-distribution"
    DISCUSSION = "Discussion"
    INTERPOLATING = "Appendix A: interpolating"
    SCALING = "Appendix B: scaling"
    SPLINES = "Appendix C: splines"
    COMMENTS = "Comments"
    BESIDE = "Beside the post"


@dataclass(frozen=True, eq=False)
class Verdict:
    """``because``: the numbers that decided, in a sentence. ``numbers``, a row each: what, value, low, high, n."""

    word: Word
    because: str
    numbers: pd.DataFrame


Judge = Callable[[Result], Verdict]

Before = Callable[[str], Result | None]
"""The result of another claim on the same network, by its key; None where there is none."""

Asking = Callable[[Atlas, NetworkRecord, Before], dict[str, Any]]
"""Options to ask an experiment with, on a network. Raises `PolytopeError` where it can't be asked, and why."""


def of_network(_: Atlas, network: NetworkRecord, __: Before) -> dict[str, Any]:
    """Everything by default."""
    return {"network": network.name}


@dataclass(frozen=True)
class Claim:
    """What the post says, and how an experiment decides it.

    key: what ``polytope report --only`` knows it by.
    part, place: where it stands: the part of the post, and its place among the claims of that part.
    sentence: the claim.
    asking: the options that it is measured with.
    judge, rule: what decides, and the same in words; None and empty where nothing is claimed.
    shown: the numbers of a claim without a judge, as `Verdict.numbers`.
    untrained: measured on each untrained network of the atlas as well. Of the others, density shows the controls
        beside the trained network itself, and scale those that are handed in; the rest are of the trained one alone.
    """

    key: str
    part: Part
    place: int
    sentence: str
    asking: Asking = of_network
    judge: Judge | None = None
    rule: str = ""
    shown: Callable[[Result], pd.DataFrame] | None = None
    untrained: bool = False

    @property
    def order(self) -> tuple[int, int]:
        """Sorts claims as the post has them."""
        return list(Part).index(self.part), self.place


# --- deciding ----------------------------------------------------------------------------------------------------


def vote_of(low: float, high: float, bound: float) -> int:
    """1 where an interval lies above the bound, −1 below, 0 where it holds the bound or is unknown."""
    return int(low > bound) - int(high < bound)


def word_for(vote: int) -> Word:
    return "supported" if vote > 0 else "not supported" if vote < 0 else "undecided"


def everywhere(votes: Sequence[int]) -> Word:
    """All for: supported. More than half against: not supported. Else undecided.

    That none is against would not do: with less data, votes against are lost first.
    """
    if votes and all(vote > 0 for vote in votes):
        return "supported"
    return "not supported" if sum(vote < 0 for vote in votes) * 2 > len(votes) else "undecided"


# --- numbers beside a verdict ------------------------------------------------------------------------------------

NUMBERS = ["what", "value", "low", "high", "n"]


def number(what: str, row: Row, name: str, n: Any) -> Row:
    """A row of ``numbers``: a column of a table with the ends of its interval."""
    return {"what": what, "value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"], "n": n}


def counts(rows: Sequence[tuple[str, float, int]]) -> pd.DataFrame:
    """Numbers of what was looked at, all of it, and so without an interval: what, value, n."""
    frame = pd.DataFrame(rows, columns=["what", "value", "n"]).astype({"value": float})
    return frame.assign(low=np.nan, high=np.nan)[NUMBERS]


# --- where in a network ------------------------------------------------------------------------------------------

SCALED, SLICED = 0.6, 0.85
"""How far up the network the scaled and the sliced space lie: inception4c and inception5a of InceptionV1's twelve."""


def site_at(atlas: Atlas, network: NetworkRecord, height: float) -> SiteRecord:
    """A site that far up, with another after it; full where a tensor goes in as a whole."""
    sites = atlas.catalog.sites_of(network)
    scope = whole_scope(sites)
    sites = tuple(site for site in sites if site.scope == scope)
    if len(sites) < 2:
        raise NotStored(
            f"network {network.name} has {len(sites)} {scope} sites; a space and a site after it are needed"
        )
    return sites[min(int(height * len(sites)), len(sites) - 2)]


def span_at(atlas: Atlas, network: NetworkRecord, height: float) -> str:
    """The span from that far up to the output."""
    site = site_at(atlas, network, height)
    suffix = FULL_SUFFIX if site.scope == "full" else ""
    return f"{site.name.removesuffix(FULL_SUFFIX)}->{suffix}"

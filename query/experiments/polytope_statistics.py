"""What is said of points whose polytopes were measured: means, shares, comparisons, with intervals (SCIENCE 14)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..statistics import Interval, auc_interval, mean_interval, share_interval, spearman_interval
from .options import IntervalOptions

EXAMPLES, GAUSSIAN = "activation", "gaussian"


@dataclass(frozen=True, eq=False)
class Measured:
    """A row of the table of examples; of its boundaries and of its rays that leave, the shares by site."""

    row: dict[str, Any]
    boundaries: dict[str, float]
    exits: dict[str, float]


@dataclass(frozen=True)
class Intervals:
    """The interval that was asked for, and the generator that resamples."""

    options: IntervalOptions
    rng: np.random.Generator

    def _asked(self, rows: pd.DataFrame) -> dict[str, Any]:
        return {
            "units": rows["input"].to_numpy(np.int64),
            "resamples": self.options.resamples,
            "confidence": self.options.confidence,
        }

    def mean(self, rows: pd.DataFrame, name: str) -> Interval:
        return mean_interval(rows[name].to_numpy(np.float64), self.rng, **self._asked(rows))

    def share(self, rows: pd.DataFrame, holds: pd.Series) -> Interval:
        n_inputs = rows["input"].nunique()
        return share_interval(int(holds.sum()), len(rows), independent=n_inputs, confidence=self.options.confidence)

    def auc(self, rows: pd.DataFrame, name: str, positive: pd.Series) -> Interval:
        values = rows[name].to_numpy(np.float64)
        return auc_interval(values, positive.to_numpy(bool), self.rng, **self._asked(rows))

    def spearman(self, rows: pd.DataFrame, x: str, y: str) -> Interval:
        values = rows[x].to_numpy(np.float64), rows[y].to_numpy(np.float64)
        return spearman_interval(*values, self.rng, **self._asked(rows))


def by_kind(examples: pd.DataFrame, draw: Intervals) -> pd.DataFrame:
    """A row a kind of points: means of inradius, inradius over norm, exit, share of rays that stay inside."""
    rows = []
    for kind, each in examples.groupby("kind", sort=False):
        row: dict[str, Any] = {"kind": kind}
        for name in ("inradius", "relative", "exit", "inside"):
            row |= draw.mean(each, name).columns(name)
        rows.append(row | {"n": len(each), "inputs": each["input"].nunique()})
    return pd.DataFrame(rows)


def by_site(examples: pd.DataFrame, found: Sequence[Measured], names: Sequence[str], draw: Intervals) -> pd.DataFrame:
    """A row a kind of points and a site: how often its boundaries are nearest, and rays leave through it."""
    rows = []
    for kind, each in examples.groupby("kind", sort=False):
        mine = [found[place] for place in each.index]
        for site in names:
            left = each.assign(left=[m.exits.get(site, 0.0) if m.exits else np.nan for m in mine])
            rows.append(
                {
                    "kind": kind,
                    "site": site,
                    "boundaries": float(np.mean([m.boundaries[site] for m in mine])),
                    **draw.share(each, each["nearest"] == site).columns("nearest"),
                    **draw.mean(left, "left").columns("exits"),
                    "n": len(each),
                }
            )
    return pd.DataFrame(rows)


def compared(examples: pd.DataFrame, sites: pd.DataFrame, draw: Intervals) -> pd.DataFrame:
    """A row a comparison that a claim is judged by; ``sites`` as `by_site` has them."""
    rows: list[dict[str, Any]] = []

    def add(what: str, kind: str, each: pd.DataFrame, found: Interval, chance: float) -> None:
        about = {"chance": chance, "n": len(each), "inputs": each["input"].nunique()}
        rows.append({"what": what, "kind": kind, **found.columns("value"), **about})

    own, beside = (examples[examples["kind"] == kind].set_index("example") for kind in (EXAMPLES, GAUSSIAN))
    add("farther", EXAMPLES, own, draw.share(own, own["inradius"] > beside["inradius"]), 0.5)
    judged = own[own["wrong"].notna() & own["inradius"].notna()]
    for what, name in (("misclassified", "inradius"), ("relative", "relative")):
        # That a right one lies farther is that a wrong one lies nearer.
        add(what, EXAMPLES, judged, draw.auc(judged, name, judged["wrong"] == 0), 0.5)
    known = own[own["loss"].notna() & own["inradius"].notna()]
    add("loss", EXAMPLES, known, draw.spearman(known, "inradius", "loss"), 0.0)
    names = list(dict.fromkeys(sites["site"]))
    deeper = names[len(names) - len(names) // 2 :]
    for kind, each in examples.groupby("kind", sort=False):
        if kind != GAUSSIAN:
            add("sooner", str(kind), each, draw.mean(each, "sooner"), 0.5)
        if deeper:
            mine = sites[(sites["kind"] == kind) & sites["site"].isin(deeper)]
            add("deeper", str(kind), each, draw.share(each, each["nearest"].isin(deeper)), mine["boundaries"].sum())
    return pd.DataFrame(rows)


def by_label(examples: pd.DataFrame, draw: Intervals, columns: list[str]) -> pd.DataFrame:
    """A row a label of the examples. ``columns``: also where no example has a label."""
    rows = []
    for label, each in examples[examples["kind"] == EXAMPLES].groupby("label"):
        row: dict[str, Any] = {"label": label}
        for name in ("inradius", "relative", "exit"):
            row |= draw.mean(each, name).columns(name)
        rows.append(row | {"n": len(each)})
    return pd.DataFrame(rows, columns=columns)

"""Boundaries that a straight path crosses, step by step, and what must be said beside such numbers (SCIENCE 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64, Int64

from atlas.network import Site
from atlas.tails import PiecewiseLinearTail, Tail

from ..polytope.crossings import Told, exact_crossings, sampled_crossings
from .schema import Column

MOST_POINTS = 8192
"""Points on a path after which sampling gives up: a path then has steps of 0.01 %."""

HOW_COLUMNS = (
    Column("method", str, "exact or sampled"),
    Column("points", int, "points sampled; 0 where exact"),
    Column("growth", float, "by which the last halving of steps raised the count, as a share; 0 where exact"),
    Column("converged", bool, "whether halving ended because the count no longer grew"),
)
"""How the crossings of a path were counted."""


@dataclass(frozen=True)
class Profile:
    """Crossings in each step of a path, and how they were found."""

    per_step: Int64[np.ndarray, " steps"]
    how: dict[str, Any]


def profile_of(
    tail: Tail,
    start: Float32[np.ndarray, " units"],
    end: Float32[np.ndarray, " units"],
    sites: Sequence[Site],
    edges: Float64[np.ndarray, " edges"],
    *,
    exact: bool,
    tolerance: float,
    told: Told = lambda share: None,
) -> Profile:
    """Crossings between ``edges`` of the segment from ``start`` to ``end``; ``tail`` precise where exact."""
    if exact and isinstance(tail, PiecewiseLinearTail):
        found = exact_crossings(tail, start, end, sites, told=told)
        how = {
            "method": "exact",
            "points": 0,
            "growth": 0.0,
            "converged": True,
            "switches": float(len(found.switches)),
        }
        return Profile(found.per_step(edges), how)
    sampled = sampled_crossings(
        tail, start, end, sites, edges, tolerance=tolerance, most_points=MOST_POINTS, told=told
    )
    return Profile(
        sampled.per_step,
        {
            "method": "sampled",
            "points": sampled.points,
            "growth": sampled.growth,
            "converged": sampled.converged,
            "switches": np.nan,
        },
    )


def path_notes(tail: Tail, measured: pd.DataFrame, dropped: int, tolerance: float) -> list[str]:
    """What must be said beside the numbers of paths."""
    notes = [tail.remark]
    sampled = measured[measured["method"] == "sampled"]
    if len(sampled):
        grew = sampled["growth"].max()
        notes.append(
            f"{len(sampled)} of {len(measured)} paths are sampled: crossings are counted between points, halving the "
            f"steps until the total grows by at most {tolerance:.2%}; the last halving added {grew:.2%} "
            f"at most, with up to {sampled['points'].max():,} points. A unit that flips twice between two points is "
            "missed, so sampled counts are lower bounds"
        )
    missed = int((~sampled["converged"].astype(bool)).sum())
    if missed:
        notes.append(f"{missed} paths still grew by more at {MOST_POINTS:,} points: their counts are too low")
    if len(sampled) < len(measured):
        notes.append("exact paths: every crossing is located, in double precision")
    if dropped:
        notes.append(f"{dropped} pairs whose activations are equal were dropped: they have no density")
    return notes

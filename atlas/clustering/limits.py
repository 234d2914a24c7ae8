"""What may be asked of a clustering, and how much of the machine it takes. Light to import."""

from __future__ import annotations

from typing import Any

from ..checks import is_whole
from ..errors import TooManyPoints, UsageError
from .hierarchy import Selection, Ties

MAX_POINTS = 200_000  # time is n² distances
MAX_BY_PARTS = 5_000_000  # the same, for several machines; stored hierarchies take some 500 bytes a point beside it
MEMORY_BUDGET = 4 << 30  # bytes for distances; half of a small laptop's memory
BLOCK_BYTES = 1 << 26  # of distances worked on at once; smaller blocks than 2**24 are slower, larger not faster

ROWS_AHEAD = 32
"""Rows of distances computed at once when they are not stored: with more, too many are computed in vain."""

_LARGEST = (1 << 32) - 1  # what an atlas stores as a number of points


def least_row_bytes(distance_bytes: int) -> int:
    """What a point takes of the least budget, beside copies of it: a number in each row of a block, of the rows that
    wait, and of what computing a block of Euclidean distances takes beside it."""
    return 4 * ROWS_AHEAD * distance_bytes


def check_request(
    n: int,
    *,
    units: int | None = None,
    min_cluster_size: int = 5,
    min_samples: int | None = None,
    selection: Selection = "eom",
    ties: Ties = "hdbscan",
    max_points: int = MAX_POINTS,
    memory_budget: int = MEMORY_BUDGET,
    neighbors: int | None = None,
) -> int:
    """Raise what `cluster_codes`, or with ``units`` `cluster_activations`, would raise for n points before they are
    looked at; returns the ``min_samples`` that are used."""
    _check_whole("min_cluster_size", min_cluster_size, 2)
    samples = min_cluster_size if min_samples is None else min_samples
    _check_whole("min_samples", samples, 1)
    if selection not in ("eom", "leaf"):
        raise UsageError(f'clusters are selected by "eom" or "leaf", got "{selection}"')
    if ties not in ("hdbscan", "stable", "ids"):
        raise UsageError(f'ties are ordered as in "hdbscan", "stable" or by "ids", got "{ties}"')
    if ties == "ids" and (units is not None or neighbors is not None):
        raise UsageError("ties are ordered by ids only where codes are clustered exactly: leave --ties out")
    if n < 2:
        raise UsageError(f"a clustering needs at least two points, got {n}")
    if units == 0:
        raise UsageError(f"activations need at least one unit, got an array of shape ({n}, 0)")
    samples = min(samples, n - 1)
    if neighbors is None:
        _check_number(n, max_points)
        check_copies(n, 4 * (units or 0), 2, memory_budget, certain=False)
        return samples
    _check_whole("neighbors (--approximate)", neighbors, 1)
    if neighbors < samples:
        raise UsageError(
            f"core distances are to neighbour {samples} (min_samples): ask for at least as many, got {neighbors}"
        )
    if neighbors >= n:
        raise UsageError(
            f"neighbors (--approximate) is {neighbors}; each of {n} points has {n - 1} others. Ask for fewer, or "
            "leave it out to cluster exactly"
        )
    return samples


def check_metric(metric: str, neighbors: int | None = None, device: str = "auto") -> None:
    """Raise `UsageError` unless this is a `Metric`, and one that works from neighbours, or on a device, if asked."""
    if metric not in ("hamming", "euclidean", "jaccard"):
        raise UsageError(f'the metric is "hamming", "euclidean" or "jaccard", got "{metric}"')
    if metric == "jaccard" and neighbors is not None:
        raise UsageError("by jaccard codes are clustered exactly alone: leave out neighbors (--approximate)")
    if metric == "jaccard" and device == "cuda":
        raise UsageError("device is cuda, but jaccard distances are computed on the processor; use auto or cpu")


def check_copies(n: int, point_bytes: int, distance_bytes: int, budget: int, *, certain: bool = True) -> None:
    """Raise `TooManyPoints` where copies of n points and the rows of distances that are held at once don't fit.

    ``certain``: not where equal points, of which one is kept, may make n less.
    """
    if point_bytes * n > budget or (certain and (point_bytes + least_row_bytes(distance_bytes)) * n > budget):
        fit = budget // (point_bytes + least_row_bytes(distance_bytes))
        raise TooManyPoints(
            f"copies of {n} points take {point_bytes * n:,} bytes, and rows of distances come on top; the budget is "
            f"{budget:,} bytes, in which {fit} would fit. Cluster so many examples, cluster from some neighbors of "
            "each (--approximate 15), or raise memory_budget (--memory)"
        )


def _check_number(n: int, max_points: int) -> None:
    if n > max_points:
        raise TooManyPoints(
            f"{n} points take {n}² comparisons; the limit is {max_points} points. Cluster a sample and place the "
            "others (--sample 50000 --place), cluster from some neighbors of each (--approximate 15), or raise "
            "max_points (--max-points) and be patient: time grows with the square. Codes can be clustered by parts "
            "(--parts, --ray), which goes on where it was stopped"
        )


def _check_whole(name: str, value: Any, least: int) -> None:
    if not is_whole(value):
        raise UsageError(f"{name} is {value!r}; expected a whole number of at least {least}")
    if int(value) < least:
        raise UsageError(f"{name} must be at least {least}, got {value}")
    if int(value) > _LARGEST:
        raise UsageError(f"{name} must be at most {_LARGEST:,}, got {value:,}")

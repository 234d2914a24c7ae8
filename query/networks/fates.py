"""What becomes of the clusters of one network in another, by the examples that both hold (SCIENCE 16)."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

PIECE = 0.25
"""Share of a cluster that a piece of it holds at least where it splits."""

UNCERTAIN = 0.05
"""A permutation p above which a cluster's overlap is no larger than chance gives."""

BORN, DIES, MERGES, SPLITS, STAYS, UNDECIDED = "born", "dies", "merges", "splits", "stays", "undecided"


class Fate(NamedTuple):
    """What becomes of a cluster: ``into`` are clusters of the other network, of one that is *born* itself.

    ``overlap``: the largest n / (members of either) with a cluster of the other network; ``expected`` and ``p``: its
    mean, and how often it is as large, where the other network's clusters mean nothing. NaN for one that is born.
    """

    cluster: int | None
    fate: str
    into: tuple[int, ...]
    size: int
    n_into: int
    overlap: float
    expected: float
    p: float


Labels = Int64[np.ndarray, " examples"]


def fates(
    before: Labels, after: Labels, inputs: Int64[np.ndarray, " examples"], permutations: int, rng: np.random.Generator
) -> list[Fate]:
    """The fate of every cluster of ``before``, then the clusters of ``after`` that are born; −1 is noise."""
    n_before, n_after = int(before.max(initial=-1)) + 1, int(after.max(initial=-1)) + 1
    both = _shared(before, after, n_before, n_after)
    overlap = _overlaps(both)
    expected, p = _by_chance(before, after, inputs, overlap, permutations, rng)
    sizes, members, counts = both[1:].sum(axis=1), both[:, 1:].sum(axis=0), both[1:, 1:]
    into = [_into(row, int(size)) for row, size in zip(counts, sizes, strict=True)]
    heirs = Counter(others[0] for others in into if len(others) == 1)
    found = []
    for cluster in np.flatnonzero(sizes).tolist():  # 0: it has none of the examples that both hold
        others = into[cluster]
        fate = SPLITS if len(others) > 1 else DIES if not others else MERGES if heirs[others[0]] > 1 else STAYS
        if others and p[cluster] > UNCERTAIN:
            fate = UNDECIDED
        chance = float(overlap[cluster]), float(expected[cluster]), float(p[cluster])
        found.append(Fate(cluster, fate, others, int(sizes[cluster]), int(counts[cluster, [*others]].sum()), *chance))
    inherited = {other for others in into for other in others}
    return found + [
        Fate(None, BORN, (other,), int(members[other]), int(members[other]), np.nan, np.nan, np.nan)
        for other in np.flatnonzero(members).tolist()
        if other not in inherited
    ]


def _into(counts: Int64[np.ndarray, " after"], size: int) -> tuple[int, ...]:
    """The cluster that more than half of the members lie in, or else those pieces that together hold so many."""
    heir = np.flatnonzero(2 * counts > size)
    pieces = heir if len(heir) else np.flatnonzero(counts >= max(1, PIECE * size))
    return tuple(pieces.tolist()) if 2 * counts[pieces].sum() > size else ()


def _shared(before: Labels, after: Labels, n_before: int, n_after: int) -> Int64[np.ndarray, "rows columns"]:
    """How many examples each two clusters share; row and column 0 are noise."""
    width = n_after + 1
    counts = np.bincount((before + 1) * width + after + 1, minlength=(n_before + 1) * width)
    return counts.reshape(n_before + 1, width)


def _overlaps(both: Int64[np.ndarray, "rows columns"]) -> Float64[np.ndarray, " clusters"]:
    """Of each cluster before the largest n / (members of either) with a cluster after."""
    either = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
    largest: Float64[np.ndarray, " clusters"] = (both / np.maximum(either, 1))[1:, 1:].max(axis=1, initial=0.0)
    return largest


def _by_chance(
    before: Labels,
    after: Labels,
    inputs: Int64[np.ndarray, " examples"],
    overlap: Float64[np.ndarray, " clusters"],
    permutations: int,
    rng: np.random.Generator,
) -> tuple[Float64[np.ndarray, " clusters"], Float64[np.ndarray, " clusters"]]:
    """Mean of `_overlaps`, and (1 + times it is as large) / (1 + permutations), where ``after`` is dealt out anew.

    Examples of one input depend on each other, so what an input's examples bear is dealt out together, among the
    inputs of as many examples.
    """
    blocks = _blocks(inputs)
    total, reached = np.zeros(len(overlap)), np.zeros(len(overlap))
    n_before, n_after = len(overlap), int(after.max(initial=-1)) + 1
    dealt = after.copy()
    for _ in range(permutations):
        for block in blocks:
            dealt[block] = after[rng.permutation(block)]
        drawn = _overlaps(_shared(before, dealt, n_before, n_after))
        total += drawn
        reached += drawn >= overlap
    return total / permutations, (1 + reached) / (1 + permutations)


def _blocks(inputs: Int64[np.ndarray, " examples"]) -> list[Int64[np.ndarray, "inputs per"]]:
    """Places of the examples of each input, a row an input; an array for each number of examples an input has."""
    order = np.argsort(inputs, kind="stable")
    _, starts, counts = np.unique(inputs[order], return_index=True, return_counts=True)
    return [order[starts[counts == per][:, None] + np.arange(per)] for per in np.unique(counts)]

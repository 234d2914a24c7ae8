"""How alike the members of a group are: purity, entropy, lift over chance, and the intruder test (SCIENCE 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64, Int64

from atlas import Atlas, SplineCodes, hamming
from atlas.store.catalog import SiteRecord

from ..clustering.labels import Members
from ..examples.labels import Labels
from ..statistics import CONFIDENCE, Interval, share_interval

RANDOM_GROUPS = 500
"""Random groups of each size: their mean purity is then known to a hundredth or so of itself."""

MONOSEMANTIC = 0.5
"""A group is about one label where more than this share of its labelled members bear it."""

NEAREST_NORMS = 10
"""The outsider of an intruder test is one of this many whose activation norms are nearest to a member's."""

CODES_AT_ONCE = 1 << 27  # bytes of codes that an intruder test holds
TRIALS_AT_ONCE = 1024


@dataclass
class Chance:
    """Purity and entropy to expect of a group of a given size drawn at random from all labelled examples."""

    labels: Labels
    rng: np.random.Generator
    known: dict[int, float] = field(default_factory=dict)

    def purity(self, size: int) -> float:
        """Mean over `RANDOM_GROUPS` draws without replacement (counts are multivariate hypergeometric)."""
        if size not in self.known:
            counts = np.bincount(self.labels.numbers[self.labels.numbers >= 0], minlength=len(self.labels.names))
            drawn = self.rng.multivariate_hypergeometric(counts, size, size=RANDOM_GROUPS, method="marginals")
            self.known[size] = float(drawn.max(axis=1).mean() / size)
        return self.known[size]


def measure_groups(groups: Sequence[Members], labels: Labels, chance: Chance) -> pd.DataFrame:
    """A row a group: size, labelled, inputs, purity, entropy, lift, top_label.

    Of the members that have a label: purity = share of the commonest; entropy = −Σ p log p / log(number of labels);
    lift = purity / mean purity of random groups of as many labelled examples. All NaN where fewer than two members
    have a label. ``inputs``: distinct inputs, since tokens of one text share a label.
    """
    rows = []
    for members in groups:
        numbers = labels.numbers[members]
        counts = np.bincount(numbers[numbers >= 0], minlength=len(labels.names))
        labelled = int(counts.sum())
        known = labelled >= 2
        rows.append(
            {
                "size": len(members),
                "labelled": labelled,
                "inputs": len(np.unique(labels.inputs[members])),
                "purity": float(counts.max() / labelled) if known else np.nan,
                "entropy": normalised_entropy(counts) if known else np.nan,
                "lift": float(counts.max() / labelled / chance.purity(labelled)) if known else np.nan,
                "top_label": labels.names[int(counts.argmax())] if labelled else None,
            }
        )
    columns = ["size", "labelled", "inputs", "purity", "entropy", "lift", "top_label"]
    return pd.DataFrame(rows, columns=columns)


def share_monosemantic(groups: pd.DataFrame, confidence: float = CONFIDENCE) -> Interval:
    """Of the rows of `measure`, the share that is about one label, with Wilson's interval.

    A group of a single input is not judged: tokens of one text share its label, so that it is pure by construction.
    """
    judged = groups[(groups["inputs"] >= 2) & groups["purity"].notna()]
    return share_interval(int((judged["purity"] > MONOSEMANTIC).sum()), len(judged), confidence=confidence)


def normalised_entropy(counts: Int64[np.ndarray, " labels"]) -> float:
    """−Σ p log p / log(number of labels): 0 where one label has all, 1 where all are as common; NaN for one label."""
    if len(counts) < 2 or counts.sum() == 0:
        return np.nan
    shares = counts[counts > 0] / counts.sum()
    return abs(float((shares * np.log(shares)).sum() / np.log(len(counts))))


def random_groups(sizes: Sequence[int], n: int, rng: np.random.Generator) -> list[Members]:
    """A group of each of the sizes, drawn from ``n`` examples without replacement within a group."""
    return [np.sort(rng.choice(n, size=size, replace=False)) for size in sizes]


def top_groups(scores: Float[np.ndarray, "examples columns"], k: int) -> list[Members]:
    """For each column the ``k`` examples of the highest scores above 0, highest first; of equals the first."""
    tops = [(column, np.argsort(-column, kind="stable")[:k]) for column in scores.T]
    return [top[column[top] > 0] for column, top in tops]


class Codes:
    """Codes of a site that an intruder test compares. Group members are places in ``ids``; ``norms[i]`` is ‖aᵢ‖₂.

    All are held where they fit `CODES_AT_ONCE`; else those of a batch of trials are read when it comes.
    """

    def __init__(
        self,
        atlas: Atlas,
        site: SiteRecord,
        ids: Int64[np.ndarray, " examples"],
        norms: Float64[np.ndarray, " examples"],
    ) -> None:
        self.atlas, self.site, self.ids, self.norms = atlas, site, ids, norms
        self.by_norm = np.argsort(norms, kind="stable")
        small = len(ids) * site.n_bytes <= CODES_AT_ONCE
        self.held = atlas.codes([site], ids)[1] if small else None

    def __getitem__(self, places: Int64[np.ndarray, " some"]) -> SplineCodes:
        return self.held[places] if self.held is not None else self.atlas.codes([self.site], self.ids[places])[1]


def intruder(
    codes: Codes, groups: Sequence[Members], members: int, trials: int, rng: np.random.Generator
) -> Float64[np.ndarray, " groups"]:
    """For each group, how often an outsider stands out among ``members`` of its members; chance is 1/(members + 1).

    A trial draws that many members, and an outsider whose activation norm is among the nearest to that of a member
    drawn at random. The outsider stands out when its mean Hamming distance to the rest is the largest; m equal
    largest count 1/m. NaN for a group of fewer members, or one that holds all examples.
    """
    scores = np.full(len(groups), np.nan)
    possible = [g for g, group in enumerate(groups) if members <= len(group) < len(codes.ids)]
    drawn = [_trials(codes, groups[g], members, trials, rng) for g in possible]
    if drawn:
        scores[possible] = _stands_out(codes, np.concatenate(drawn)).reshape(len(possible), trials).mean(axis=1)
    return scores


def _trials(
    codes: Codes, group: Members, members: int, trials: int, rng: np.random.Generator
) -> Int64[np.ndarray, "trials shown"]:
    """Places of the members and, in the last column, of the outsider."""
    outside = np.ones(len(codes.ids), bool)
    outside[group] = False
    others = codes.by_norm[outside[codes.by_norm]]
    window = min(NEAREST_NORMS, len(others))
    like = codes.norms[rng.choice(group, size=trials)]
    middle = np.searchsorted(codes.norms[others], like) - window // 2
    place = np.clip(middle, 0, len(others) - window) + rng.integers(window, size=trials)
    chosen = rng.permuted(np.broadcast_to(group, (trials, len(group))), axis=1)[:, :members]
    return np.column_stack([chosen, others[place]])


def _stands_out(codes: Codes, trials: Int64[np.ndarray, "trials shown"]) -> Float64[np.ndarray, " trials"]:
    """1 where the last of a row has the largest mean distance to the rest, 1/m where it shares that with m − 1."""
    shown = trials.shape[1]
    # Half for the distinct codes of a batch, half for the copies that a comparison makes.
    step = max(1, min(TRIALS_AT_ONCE, CODES_AT_ONCE // (2 * shown * codes.site.n_bytes)))
    scores = np.empty(len(trials))
    for start in range(0, len(trials), step):
        batch = trials[start : start + step]
        used, place = np.unique(batch, return_inverse=True)
        held, place = codes[used], place.reshape(batch.shape)
        distance = np.zeros(batch.shape, np.int64)
        for i, j in combinations(range(shown), 2):
            apart = hamming(held[place[:, i]], held[place[:, j]])
            distance[:, i] += apart
            distance[:, j] += apart
        largest = distance == distance.max(axis=1, keepdims=True)
        scores[start : start + step] = largest[:, -1] / largest.sum(axis=1)
    return scores

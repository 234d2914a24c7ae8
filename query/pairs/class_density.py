"""Polytope density within and between classes (SCIENCE 4; post: Prediction 2, "polytope boundaries reflect semantic
boundaries"): are there more boundaries, per unit of distance, between examples of different classes?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from atlas import Atlas, hamming
from atlas.checks import whole
from atlas.errors import UsageError
from atlas.store.catalog import SiteRecord, Target

from ..examples.labels import label_note
from ..progress import Progress, part, tell
from ..statistics import (
    Interval,
    Statistic,
    auc,
    bootstraps,
    check_interval,
    cohens_d,
    disjoint_pairs,
    permutation_p,
    ratio,
    weighted_mean,
)
from ..store.spans import spans_with_density
from .density import BLOCK_BYTES, euclidean, space_before

TILE_BYTES = 1 << 28
"""Codes and activations held at once: 256 MB. A pair needs both of its examples, so two tiles of half of it."""

NOTE = (
    "pairs drawn at random without replacement, never two examples of the same input (tokens of a text share "
    "context); intervals: percentiles of a bootstrap over inputs, since pairs share them; p: two-sided permutation "
    "of the same/different flags, difference of means, of n_permuted of the pairs, no two of which share an input: "
    "flags of pairs that do can't be exchanged"
)

LONE = "labels with examples of one input alone, which can be in pairs of different labels only"
"""What `class_density` counts as n_lone; to be said where there are any."""


@dataclass(frozen=True)
class _Examples:
    """Labelled examples that have all that a span needs."""

    ids: Int64[np.ndarray, " examples"]
    labels: Int64[np.ndarray, " examples"]  # numbers in place of names
    inputs: Int64[np.ndarray, " examples"]
    n_unlabelled: int

    @property
    def n_lone(self) -> int:
        """Labels whose examples are all of one input."""
        return lone_labels(self.labels, self.inputs)


@dataclass(frozen=True)
class _Pairs:
    """``first`` and ``second`` index examples; ``same`` is True where the two bear one label."""

    first: Int64[np.ndarray, " pairs"]
    second: Int64[np.ndarray, " pairs"]
    same: Bool[np.ndarray, " pairs"]

    def __getitem__(self, chosen: Bool[np.ndarray, " pairs"]) -> _Pairs:
        return _Pairs(self.first[chosen], self.second[chosen], self.same[chosen])


def class_density(
    atlas: Atlas,
    *,
    network: str | None = None,
    spans: Sequence[str] | None = None,
    pairs: int = 2000,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Density of pairs of one label against pairs of different labels, a row a span (SCIENCE 4; post: Prediction 2).

    Pairs of each kind are drawn at random without replacement, or all there are if fewer. Two examples of the same
    input are never paired: tokens of one text share their context. Examples without a label are left out and counted.
    The same seed gives the same table.

    Args:
        atlas: an open atlas.
        network: where there are several.
        spans: by default ``l->`` for each site l with stored activations after which every site has codes; of an
            image network the full sites.
        pairs: how many of each kind.
        seed: of the draws.
        resamples: of the bootstrap, and permutations of the test.
        confidence: of the intervals, between 0 and 1.
        progress: is told (steps done, steps in all).

    Returns:
        A row a span: span, n_gates, n_examples (labelled, to draw from), n_unlabelled, n_lone (labels with examples
        of a single input, which only pairs of different labels can hold), n_intra and n_inter (pairs measured),
        dropped (pairs at distance 0, where density is undefined), intra_mean, inter_mean and their ratio inter/intra,
        each with _low and _high, the bounds of its bootstrap interval (NaN where resampling gives no pair); cohens_d
        ((inter − intra) / pooled standard deviation); auc = P(inter > intra) + ½ P(equal); p_value = (1 +
        permutations at least as far from 0) / (1 + ``resamples``) over n_permuted of the pairs, no two of which share
        an input (NaN where they are of one kind); intra_per_gate and inter_per_gate (means over n_gates); exact.
        ``frame.attrs``: network, seed, pairs, resamples, confidence, note, label_note
        (whose labels these are, where datasets give an input several).

    Raises:
        NotStored: where activations or full codes are missing.
        UsageError: for impossible parameters, for fewer than two labels, and where no label has examples of two
            inputs.
    """
    pairs = whole("pairs", pairs)
    check_interval(resamples, confidence)
    record = atlas.catalog.network(network)
    names = spans_with_density(atlas, record) if spans is None else [spans] if isinstance(spans, str) else list(spans)
    targets = [atlas.catalog.target(span=name, network=record.name) for name in names]
    spaces = [space_before(target) for target in targets]  # before any work: a later span may be impossible
    rows = []
    for done, (target, before) in enumerate(zip(targets, spaces, strict=True)):
        told = part(progress, done, len(targets))
        rows.append(_row(atlas, target, before, pairs, seed, int(resamples), confidence, told))
    tell(progress, len(targets), len(targets))
    frame = pd.DataFrame(rows)
    frame.attrs.update(
        network=record.name, seed=seed, pairs=pairs, resamples=int(resamples), confidence=confidence, note=NOTE
    )
    frame.attrs["label_note"] = label_note(atlas)
    return frame


def _row(
    atlas: Atlas,
    target: Target,
    before: SiteRecord,
    wanted: int,
    seed: int,
    resamples: int,
    confidence: float,
    told: Callable[[float], None],
) -> dict[str, object]:
    examples = _labelled(atlas, target, before)
    drawn = _draw(target, examples, wanted, np.random.default_rng(seed))
    crossed, distance = _measure(atlas, target, before, examples.ids, drawn, told=told)
    apart = distance > 0
    kept, density = drawn[apart], crossed[apart] / distance[apart]
    intra, inter = density[kept.same], density[~kept.same]
    if not len(intra) or not len(inter):
        raise UsageError(
            f"span {target.name}: all {'same' if not len(intra) else 'different'}-label pairs that were drawn have "
            f"equal activations at {before.name}, so their density is undefined; ingest more examples"
        )
    inputs = np.column_stack([examples.inputs[kept.first], examples.inputs[kept.second]])
    within, between, quotient = _intervals(
        density, kept.same, inputs, resamples, confidence, np.random.default_rng([seed, 1])
    )
    rng = np.random.default_rng([seed, 2])
    alone = disjoint_pairs(inputs, kept.same, rng)
    same, of_alone = kept.same[alone], density[alone]
    return {
        "span": target.name,
        "n_gates": target.n_gates,
        "n_examples": len(examples.ids),
        "n_unlabelled": examples.n_unlabelled,
        "n_lone": examples.n_lone,
        "n_intra": len(intra),
        "n_inter": len(inter),
        "dropped": int((~apart).sum()),
        **_columns("intra_mean", "intra", within),
        **_columns("inter_mean", "inter", between),
        **quotient.columns("ratio"),
        "cohens_d": cohens_d(intra, inter),
        "auc": auc(intra, inter),
        "p_value": permutation_p(of_alone[same], of_alone[~same], resamples, rng),
        "n_permuted": len(alone),
        "intra_per_gate": within.value / target.n_gates,
        "inter_per_gate": between.value / target.n_gates,
        "exact": target.exact,
    }


def _columns(name: str, prefix: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{prefix}_low": interval.low, f"{prefix}_high": interval.high}


# --- drawing pairs ---------------------------------------------------------------------------------------------


def _labelled(atlas: Atlas, target: Target, before: SiteRecord) -> _Examples:
    frame = atlas.frame(
        """
        select example_id, input_id, label
        from examples
        where network_id = $1
            and example_id in (select example_id from activations where site_id = $2 and part = 0)
            and example_id in (
                select example_id from codes
                where site_id in (select unnest($3::usmallint[]))
                group by example_id
                having count(*) = $4
            )
        order by example_id
        """,
        [target.network.network_id, before.site_id, [site.site_id for site in target.sites], len(target.sites)],
    )
    labelled = frame[frame["label"].notna()]
    labels = labelled["label"].astype("category").cat.codes
    return _Examples(
        labelled["example_id"].to_numpy(np.int64),
        labels.to_numpy(np.int64),
        labelled["input_id"].to_numpy(np.int64),
        len(frame) - len(labelled),
    )


def _draw(target: Target, examples: _Examples, wanted: int, rng: np.random.Generator) -> _Pairs:
    n_labels = len(np.unique(examples.labels))
    if n_labels < 2:
        raise UsageError(
            f"span {target.name}: classes are compared, so at least two labels are needed; the "
            f"{len(examples.ids)} labelled examples of network {target.network.name} that have all of its codes bear "
            f"{n_labels} ({examples.n_unlabelled} have none)"
        )
    intra = draw_same(examples.labels, examples.inputs, wanted, rng)
    inter = draw_different(examples.labels, examples.inputs, wanted, rng)
    for (first, _), kind in ((intra, "no label has"), (inter, "no two labels have")):
        if not len(first):
            raise UsageError(
                f"span {target.name}: {kind} examples of two different inputs, and two examples of one input are "
                "never paired; ingest more inputs"
            )
    same = np.repeat([True, False], [len(intra[0]), len(inter[0])])
    return _Pairs(np.concatenate([intra[0], inter[0]]), np.concatenate([intra[1], inter[1]]), same)


def lone_labels(labels: Int64[np.ndarray, " examples"], inputs: Int64[np.ndarray, " examples"]) -> int:
    """How many labels have examples of a single input: none of them is in a pair of one label."""
    both = np.unique(np.stack([labels, inputs]), axis=1)
    return int((np.unique(both[0], return_counts=True)[1] == 1).sum())


def draw_same(
    labels: Int64[np.ndarray, " examples"],
    inputs: Int64[np.ndarray, " examples"],
    wanted: int,
    rng: np.random.Generator,
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Up to ``wanted`` pairs of the same label and different inputs, uniformly and without replacement."""
    order = np.lexsort((inputs, labels))
    label, both = labels[order], np.stack([labels[order], inputs[order]])
    starts = np.flatnonzero(np.any(np.diff(both, axis=1, prepend=-1) != 0, axis=0))
    # Sorted by (label, input), the partners of an example are those after its own input's run, within its label's.
    input_end = np.repeat(np.append(starts[1:], len(order)), np.diff(np.append(starts, len(order))))
    return _unrank(order, input_end, np.searchsorted(label, label, side="right"), wanted, rng)


def draw_different(
    labels: Int64[np.ndarray, " examples"],
    inputs: Int64[np.ndarray, " examples"],
    wanted: int,
    rng: np.random.Generator,
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Up to ``wanted`` pairs of different labels and different inputs, uniformly and without replacement."""
    order = np.argsort(labels, kind="stable")
    label_end = np.searchsorted(labels[order], labels[order], side="right")
    # An input bears two labels only where two data sets disagree about it: draw as many more as could be such pairs.
    _, of_input = np.unique(inputs, return_counts=True)
    _, of_both = np.unique(np.stack([labels, inputs]), axis=1, return_counts=True)
    spare = int((of_input * (of_input - 1) // 2).sum() - (of_both * (of_both - 1) // 2).sum())
    first, second = _unrank(order, label_end, np.full(len(order), len(order)), wanted + spare, rng)
    apart = inputs[first] != inputs[second]
    return first[apart][:wanted], second[apart][:wanted]


def _unrank(
    order: Int64[np.ndarray, " examples"],
    start: Int64[np.ndarray, " examples"],
    stop: Int64[np.ndarray, " examples"],
    wanted: int,
    rng: np.random.Generator,
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Draw from all pairs (i, j) with start[i] ≤ j < stop[i], without listing them: by their number in that order."""
    ends = np.cumsum(stop - start)
    total = int(ends[-1]) if len(ends) else 0
    numbers = rng.choice(total, size=min(wanted, total), replace=False) if total else np.empty(0, np.int64)
    i = np.searchsorted(ends, numbers, side="right")
    j = stop[i] - (ends[i] - numbers)
    return order[i], order[j]


# --- measuring them --------------------------------------------------------------------------------------------


def _measure(
    atlas: Atlas,
    target: Target,
    before: SiteRecord,
    ids: Int64[np.ndarray, " examples"],
    pairs: _Pairs,
    tile_bytes: int = TILE_BYTES,
    told: Callable[[float], None] = lambda share: None,
) -> tuple[Int64[np.ndarray, " pairs"], Float64[np.ndarray, " pairs"]]:
    """Hamming distance and Euclidean distance of every pair.

    The examples are cut into tiles that fit in memory; for each two tiles the pairs between them are measured.
    """
    drawn = np.unique(np.concatenate([pairs.first, pairs.second]))
    bytes_each = 4 * before.n_units + sum(site.n_bytes for site in target.sites)
    size = max(1, tile_bytes // (2 * bytes_each))
    first, second = np.searchsorted(drawn, pairs.first), np.searchsorted(drawn, pairs.second)
    low, high = np.minimum(first, second) // size, np.maximum(first, second) // size
    crossed, distance = np.empty(len(first), np.int64), np.empty(len(first))
    n_tiles, measured = -(-len(drawn) // size), 0
    for a, b in combinations_with_replacement(range(n_tiles), 2):
        between = (low == a) & (high == b)
        if not between.any():
            continue
        used = np.unique(np.concatenate([first[between], second[between]]))
        examples = ids[drawn[used]]
        _, codes = atlas.codes(target.sites, examples)
        _, points = atlas.activations(before, examples)
        i, j = np.searchsorted(used, first[between]), np.searchsorted(used, second[between])
        # Pairs by the hundred: an image's codes and activations can be a megabyte, and a copy a pair is made here.
        chunk = max(1, BLOCK_BYTES // (8 * before.n_units))
        for start in range(0, len(i), chunk):
            left, right = i[start : start + chunk], j[start : start + chunk]
            place = np.flatnonzero(between)[start : start + chunk]
            crossed[place] = hamming(codes[left], codes[right])
            distance[place] = euclidean(points[left], points[right])
        measured += len(i)
        told(measured / len(first))
    return crossed, distance


# --- statistics ------------------------------------------------------------------------------------------------


def _intervals(
    density: Float64[np.ndarray, " pairs"],
    same: Bool[np.ndarray, " pairs"],
    inputs: Int64[np.ndarray, "pairs 2"],
    resamples: int,
    confidence: float,
    rng: np.random.Generator,
) -> list[Interval]:
    """The mean of pairs of one label, that of pairs of two, and the ratio of the second to the first: infinite where
    no pair of one label crosses a boundary. Pairs share inputs, so that inputs are resampled."""

    def mean(kind: bool) -> Statistic:
        of_kind = same == kind
        values = density[of_kind]
        return lambda weights: weighted_mean(weights[:, of_kind], values)

    intra, inter = mean(True), mean(False)
    return bootstraps(
        len(density),
        [intra, inter, lambda weights: ratio(inter(weights), intra(weights))],
        rng,
        units=inputs,
        resamples=resamples,
        confidence=confidence,
    )

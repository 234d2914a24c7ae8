"""Whether rare gates tell more: the nearest by Hamming, by Hamming weighted by rarity, and by Jaccard (SCIENCE 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Bool, Float64, Int64, UInt8
from plotly.subplots import make_subplots

from atlas import Atlas, SplineCodes
from atlas.checks import whole
from atlas.errors import UsageError
from atlas.store.catalog import NetworkRecord, Target

from ..clustering.labels import remark
from ..examples.ids import holders
from ..examples.labels import Labels, drawn, labels_of
from ..notes import Notes
from ..progress import Progress, part, tell
from ..sites import asked_sites
from ..statistics import Interval, mean_interval
from .figures import CHANCE, finish, interval, legend_above, name_axis, points, style, text
from .options import IntervalOptions
from .record import Experiment
from .result import Result
from .schema import Column, table_of, with_interval

READ_BYTES = 1 << 26
"""Packed codes that are read at once, and gates that are unpacked at once to be compared: 64 MB each."""

GRAIN = 2.0**-20
"""Weights are multiples of this, in bits, so that doubles add them up without rounding and equal distances tie."""

HAMMING, RARITY, JACCARD = DISTANCES = ("hamming", "rarity", "jaccard")

NOTES = (
    "the nearest of each example among those of other inputs (tokens of a text share its label); equally near ones "
    "come in one random order, the same for all three distances; intervals: percentiles of a bootstrap over inputs",
    "rarity: Hamming distance in which gate j weighs −log₂ 2pⱼ(1 − pⱼ) bits, pⱼ the share of the examples in which "
    "it is on: 1 for a gate that is on in half of them, more for one that is rarely on, or rarely off",
)


@dataclass(frozen=True, kw_only=True)
class Options(IntervalOptions):
    targets: Sequence[str] | None = None
    """Names of sites and spans; by default every position site that has codes."""

    k: int = 10
    """Nearest examples that are looked at."""

    queries: int = 200
    """Examples whose nearest are looked at: at most this many, drawn at random."""

    examples: int = 5000
    """Examples that the nearest are among: at most this many, drawn at random."""

    by: str = "label"
    """Label (class or source of the input) or token."""


TABLES = {
    "table": table_of(
        "a site or span, and a distance",
        Column("target", str, "name of the site or span"),
        Column("distance", str, "hamming, rarity or jaccard"),
        Column("n_gates", int, "gates of its codes"),
        Column("examples", int, "labelled examples that the nearest are among"),
        Column("queries", int, "examples whose nearest were looked at"),
        Column("inputs", int, "inputs that these are of"),
        Column("k", int, "nearest examples of each"),
        Column("chance", float, "share of all the examples of other inputs that bear the label of the query"),
        *with_interval("same", "share of the nearest that bear the label of the query"),
        *with_interval("gain", "same, less that of hamming for the same queries"),
        *with_interval("overlap", "share of the nearest that are among the nearest by hamming"),
        Column("exact", bool, "whether equal codes mean the same affine map"),
    ),
    "weights": table_of(
        "a site or span",
        Column("target", str, "name of the site or span"),
        Column("n_gates", int, "gates of its codes"),
        Column("constant", int, "gates in which no two examples differ, which weigh nothing"),
        Column("median", float, "median weight of the others", "bits"),
        Column("largest", float, "largest weight", "bits"),
    ),
}


def measure(atlas: Atlas, options: Options, *, progress: Progress | None = None) -> Result:
    """Nearest neighbours by three distances: how often they bear the label, and how many two distances share.

    All distances are computed, none is approximate. Raises `UnknownName`, `NotStored`, and `UsageError` for
    impossible options, without labels, and with fewer than k examples of other inputs.
    """
    record = atlas.catalog.network(options.network)
    for name, value in (("k", options.k), ("queries", options.queries)):
        whole(name, value)
    whole("examples", options.examples, 2)
    targets, notes = _targets(atlas, record, options.targets), Notes(*NOTES)
    rows, weighed = [], []
    for done, target in enumerate(targets):
        tell(progress, done, len(targets))
        remark(notes, target)
        labels = _labelled(atlas, target, options, notes)
        found, weights = _compare(atlas, target, labels, options, part(progress, done, len(targets)))
        rows += found
        weighed.append(weights)
    tell(progress, len(targets), len(targets))
    tables = {"table": pd.DataFrame(rows), "weights": pd.DataFrame(weighed)}
    return Result("rarity", record.name, {"targets": [target.name for target in targets]}, tables, notes.lines())


def figure(result: Result) -> go.Figure:
    """Neighbours of the same label, and neighbours shared with Hamming's list, a series a distance."""
    table = result.table
    names = list(dict.fromkeys(table["target"]))
    drawing = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for place, distance in enumerate(DISTANCES):
        rows = table[table["distance"] == distance].reset_index(drop=True)
        x = [names.index(name) + 0.16 * (place - 1) for name in rows["target"]]
        hover = [_hover(row) for row in rows.to_dict("records")]
        drawing.add_trace(points(distance, x, rows, "same", style(place), hover=hover), row=1, col=1)
        if distance != HAMMING:
            shared = points(distance, x, rows, "overlap", style(place), hover=hover, showlegend=False)
            drawing.add_trace(shared, row=2, col=1)
    chance = table.drop_duplicates("target")["chance"].tolist()
    drawing.add_scatter(
        x=list(range(len(names))), y=chance, name="chance", mode="markers", marker=CHANCE.marker, row=1, col=1
    )
    drawing.update_yaxes(title="Nearest of the same label", rangemode="tozero", row=1, col=1)
    drawing.update_yaxes(title="Nearest shared with Hamming's", range=[0, 1.02], row=2, col=1)
    name_axis(drawing, names, "", row=1, col=1)
    name_axis(drawing, names, "Site or span, from input to output", row=2, col=1)
    legend_above(drawing)
    n = table["queries"]
    count = f"{n.max():,}" if n.nunique() == 1 else f"{n.min():,} to {n.max():,}"
    return finish(
        drawing,
        f"{result.network}: the nearest by three distances",
        f"n = {count} examples, the {table['k'].iloc[0]} nearest of each; bars: "
        f"{result.parameters['confidence']:.0%} intervals",
        result.notes,
        height=560,
        below=120,
    )


def _hover(row: dict[Any, Any]) -> str:
    lines = [
        f"<b>{text(row['target'])}</b>, {row['distance']}",
        f"{interval(row['same'], row['same_low'], row['same_high'])} of the nearest bear the label; chance "
        f"{row['chance']:.3g}",
    ]
    if row["distance"] != HAMMING:
        lines.append(f"less Hamming's: {interval(row['gain'], row['gain_low'], row['gain_high'])}")
        lines.append(f"shared with it: {interval(row['overlap'], row['overlap_low'], row['overlap_high'])}")
    return "<br>".join(lines)


def _targets(atlas: Atlas, network: NetworkRecord, names: Sequence[str] | None) -> list[Target]:
    if names is None:
        names = [site.name for site in asked_sites(atlas, network, None)]
    elif isinstance(names, str) or not names:
        raise UsageError(f"targets is {names!r}; expected a list of sites and spans")
    return [atlas.catalog.target(site=name, network=network.name) for name in names]


def _labelled(atlas: Atlas, target: Target, options: Options, notes: Notes) -> Labels:
    """The labelled among the examples that are looked at."""
    everyone = holders(atlas, target)
    ids = drawn(everyone, options.examples, options.seed)
    if len(ids) < len(everyone):
        notes.add(f"{len(ids):,} of {len(everyone):,} examples, drawn at random", target.name)
    labels = labels_of(atlas, ids, options.by)
    if labels.n_unlabelled:
        notes.add(f"{labels.n_unlabelled:,} examples without a {options.by} are left out", target.name)
    held = labels.numbers >= 0
    labels = Labels(ids[held], labels.numbers[held], labels.names, labels.inputs[held])
    most = int(np.unique(labels.inputs, return_counts=True)[1].max())
    if len(labels.ids) - most < options.k:
        raise UsageError(
            f"k is {options.k}; of {len(labels.ids)} labelled examples of {target.name}, {most} are of one input, "
            f"which leaves {len(labels.ids) - most} of others; give a smaller k, or ingest more inputs"
        )
    return labels


def _compare(
    atlas: Atlas, target: Target, labels: Labels, options: Options, told: Callable[[float], None]
) -> tuple[list[dict[str, object]], dict[str, object]]:
    """A row a distance, and what the gates weigh."""
    rng = np.random.default_rng([options.seed, 113])
    n, n_bytes = len(labels.ids), sum(site.n_bytes for site in target.sites)
    asked, order = np.sort(rng.permutation(n)[: options.queries]), rng.permutation(n)
    weights = weights_of(_counts(atlas, target, labels.ids), n)
    same: dict[str, list[np.ndarray]] = {name: [] for name in DISTANCES}
    shared: dict[str, list[np.ndarray]] = {name: [] for name in DISTANCES}
    chance = []
    for start, stop in _blocks(len(asked), max(8 * n, n_bytes)):
        queries = asked[start:stop]
        others = labels.inputs[queries][:, None] != labels.inputs
        alike = labels.numbers[queries][:, None] == labels.numbers
        chance.append((alike & others).sum(axis=1) / others.sum(axis=1))
        distances = _distances(atlas, target, labels.ids, queries, weights)
        nearest = {name: nearest_of(found, others, order, options.k) for name, found in distances.items()}
        for name, chosen in nearest.items():
            same[name].append((alike & chosen).sum(axis=1).astype(np.float64))
            shared[name].append((chosen & nearest[HAMMING]).sum(axis=1).astype(np.float64))
        told(stop / len(asked))

    def shares(name: str, counts: list[np.ndarray]) -> dict[str, float]:
        """Of the k nearest; counts are averaged before they are divided, so that no difference is exactly 0."""
        value, low, high, n = mean_interval(
            np.concatenate(counts),
            np.random.default_rng([options.seed, 114]),
            units=labels.inputs[asked],
            resamples=options.resamples,
            confidence=options.confidence,
        )
        return Interval(value / options.k, low / options.k, high / options.k, n).columns(name)

    unsaid = [np.full(len(asked), np.nan)]  # of Hamming beside itself
    rows: list[dict[str, object]] = []
    for name in DISTANCES:
        gain = [mine - theirs for mine, theirs in zip(same[name], same[HAMMING], strict=True)]
        rows.append(
            {
                "target": target.name,
                "distance": name,
                "n_gates": target.n_gates,
                "examples": n,
                "queries": len(asked),
                "inputs": len(np.unique(labels.inputs[asked])),
                "k": options.k,
                "chance": float(np.concatenate(chance).mean()),
                **shares("same", same[name]),
                **shares("gain", unsaid if name == HAMMING else gain),
                **shares("overlap", unsaid if name == HAMMING else shared[name]),
                "exact": target.exact,
            }
        )
    used = weights[weights > 0]
    return rows, {
        "target": target.name,
        "n_gates": target.n_gates,
        "constant": target.n_gates - len(used),
        "median": float(np.median(used)) if len(used) else np.nan,
        "largest": float(used.max(initial=0.0)),
    }


def weights_of(counts: Int64[np.ndarray, " gates"], n: int) -> Float64[np.ndarray, " gates"]:
    """Of gates that are on in ``counts`` of ``n`` codes, −log₂ 2p(1 − p), in bits and to the next `GRAIN`.

    It is how much one learns from hearing that two codes drawn at random differ there (Shannon 1948), as a term of
    few texts weighs more in a search (Spärck Jones 1972). 0 for gates in which none differ: they add nothing.
    """
    p = counts / n
    differs = 2 * p * (1 - p)
    found = np.zeros(len(p))
    found[differs > 0] = -np.log2(differs[differs > 0])
    return np.round(found / GRAIN) * GRAIN


def nearest_of(
    distances: Float64[np.ndarray, "queries examples"],
    others: Bool[np.ndarray, "queries examples"],
    order: Int64[np.ndarray, " examples"],
    k: int,
) -> Bool[np.ndarray, "queries examples"]:
    """Which of the ``others`` are the k nearest; of equally near ones, those that are first in ``order``."""
    chosen = np.zeros(distances.shape, np.bool_)
    for row, (far, allowed) in enumerate(zip(distances, others, strict=True)):
        places = order[allowed[order]]
        chosen[row, places[np.argsort(far[places], kind="stable")[:k]]] = True
    return chosen


def _counts(atlas: Atlas, target: Target, ids: Int64[np.ndarray, " examples"]) -> Int64[np.ndarray, " bits"]:
    """In how many codes each bit is on; the bits of padding stand among them, and are on in none."""
    n_bytes = sum(site.n_bytes for site in target.sites)
    counts = np.zeros(8 * n_bytes, np.int64)
    for start, stop in _blocks(len(ids), n_bytes):
        packed = atlas.codes(target.sites, ids[start:stop])[1].packed
        counts += SplineCodes(packed, (8 * n_bytes,)).gate_counts()
    return counts


def _distances(
    atlas: Atlas,
    target: Target,
    ids: Int64[np.ndarray, " examples"],
    asked: Int64[np.ndarray, " queries"],
    weights: Float64[np.ndarray, " bits"],
) -> dict[str, Float64[np.ndarray, "queries examples"]]:
    """All three distances from the examples at ``asked`` to all, a block of codes and of gates at a time.

    Gates that differ are those on in either less those on in both, with weights as without: Σ w (x + y − 2xy).
    """
    queries = atlas.codes(target.sites, ids[asked])[1].packed
    shape = len(asked), len(ids)
    hamming, weighted, both = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for start, stop in _blocks(len(ids), queries.shape[1]):
        codes = atlas.codes(target.sites, ids[start:stop])[1].packed
        step = max(1, READ_BYTES // (64 * (2 * len(queries) + len(codes))))  # a gate is a double
        for first in range(0, queries.shape[1], step):
            x, y = _unpacked(queries[:, first : first + step]), _unpacked(codes[:, first : first + step])
            w = weights[8 * first : 8 * (first + step)]
            on = x @ y.T
            both[:, start:stop] += on
            hamming[:, start:stop] += x.sum(axis=1)[:, None] + y.sum(axis=1) - 2 * on
            weighted[:, start:stop] += (x @ w)[:, None] + y @ w - 2 * ((x * w) @ y.T)
    return {HAMMING: hamming, RARITY: weighted, JACCARD: hamming / np.maximum(hamming + both, 1)}


def _blocks(n: int, n_bytes: int) -> list[tuple[int, int]]:
    rows = max(1, READ_BYTES // n_bytes)
    return [(start, min(start + rows, n)) for start in range(0, n, rows)]


def _unpacked(packed: UInt8[np.ndarray, "codes bytes"]) -> Float64[np.ndarray, "codes bits"]:
    return np.unpackbits(packed, axis=1).astype(np.float64)


EXPERIMENT = Experiment(
    name="rarity",
    version=1,
    section=None,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
)

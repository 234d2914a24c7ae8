"""How many polytopes the examples are spread over: distinct codes, collisions and saturation, by site and span."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Int64, UInt8
from scipy.special import gammaln

from atlas import Atlas
from atlas.errors import NotStored
from atlas.store.catalog import NetworkRecord, SiteRecord, Target

from ..clustering.labels import remark
from ..notes import Notes
from ..progress import Progress, tell
from ..store.spans import spans_to_output
from .claims import Claim, Part, counts
from .figures import finish, legend_above, name_axis, style, text
from .options import CommonOptions
from .record import Experiment
from .result import Result
from .schema import Column, table_of

DIGEST_BYTES = 16
"""Bytes that stand for a code: among 10⁹ codes two unequal ones share them with a probability of 10⁻²¹."""

SIZES = 12  # points of a rarefaction curve, evenly spaced on a logarithmic axis

NOTES = (
    "saturation = distinct codes / examples. It falls as examples are added, so compare it at the same n: the second "
    "table has the number of distinct codes to expect among fewer examples",
)


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    targets: Sequence[str] | None = None
    """Names of sites and spans; by default every site that has codes and every span l-> that runs to the output."""


TABLES = {
    "table": table_of(
        "a site or span",
        Column("target", str, "name of the site or span"),
        Column("scope", str, "position or full"),
        Column("kind", str, "site or span"),
        Column("n_gates", int, "gates of its codes"),
        Column("examples", int, "examples that have all of its codes"),
        Column("distinct", int, "distinct codes among them"),
        Column("collisions", int, "examples less distinct"),
        Column("saturation", float, "distinct over examples"),
        Column("shared", int, "examples whose polytope another example is in as well"),
        Column("largest", int, "examples in the fullest polytope"),
        Column("exact", bool, "whether equal codes mean the same affine map"),
    ),
    "rarefaction": table_of(
        "a site or span, and a number of examples",
        Column("target", str, "name of the site or span"),
        Column("examples", int, "m, the examples drawn"),
        Column("distinct", float, "distinct codes to expect among them"),
    ),
}


def measure(atlas: Atlas, options: Options, *, progress: Progress | None = None) -> Result:
    """Distinct codes, collisions and saturation, and how many distinct codes to expect among m of the n examples:

        E[D_m] = Σ_i 1 − C(n − n_i, m) / C(n, m)        (Hurlbert 1971; n_i examples in polytope i)

    Codes are told apart by their hashes, and those of one hash by 128-bit BLAKE2 digests. Nothing is drawn at random:
    the seed changes nothing. Raises `UnknownName`, `NotStored`.
    """
    record = atlas.catalog.network(options.network)
    targets, notes = _targets(atlas, record, options.targets), Notes(*NOTES)
    numbered: dict[int, tuple[Int64[np.ndarray, " codes"], Int64[np.ndarray, " codes"]]] = {}
    rows, curves = [], []
    for done, target in enumerate(targets):
        tell(progress, done, len(targets))
        for site in target.sites:
            if site.site_id not in numbered:
                numbered[site.site_id] = _numbered(atlas, site)
        remark(notes, target)
        counts = _counts([numbered[site.site_id] for site in target.sites])
        if not len(counts):
            raise NotStored(f"no example of network {record.name} has a code at every site of {target.name}")
        rows.append(_row(target, counts))
        curves.append(_rarefaction(target.name, counts))
    tell(progress, len(targets), len(targets))
    parameters = {"targets": [target.name for target in targets]}
    tables = {"table": pd.DataFrame(rows), "rarefaction": pd.concat(curves, ignore_index=True)}
    return Result("occupancy", record.name, parameters, tables, notes.lines())


def figure(result: Result) -> go.Figure:
    """Saturation by target."""
    drawing = go.Figure()
    for place, (kind, words) in enumerate((("site", "code of a site"), ("span", "code of a span to the output"))):
        rows = result.table[result.table["kind"] == kind]
        hover = [
            f"<b>{text(row.target)}</b><br>{row.distinct:,} distinct codes of {row.examples:,} examples<br>"
            f"{row.n_gates:,} gates; the fullest polytope holds {row.largest:,}"
            for row in rows.itertuples()
        ]
        drawing.add_bar(
            x=rows.index,
            y=rows["saturation"],
            name=words,
            hovertext=hover,
            hoverinfo="text",
            marker={"color": style(place).colour, "pattern": {"shape": style(place).pattern}},
        )
    n = result.table["examples"]
    count = f"{n.max():,}" if n.nunique() == 1 else f"{n.min():,} to {n.max():,}"
    name_axis(drawing, result.table["target"].tolist(), "Site or span, from input to output")
    drawing.update_yaxes(title="Distinct codes per example", range=[0, 1.02])
    legend_above(drawing)
    return finish(
        drawing,
        f"{result.network}: how many polytopes the examples are spread over",
        f"n = {count} examples",
        result.notes,
        below=120,
    )


def _targets(atlas: Atlas, network: NetworkRecord, names: Sequence[str] | None) -> list[Target]:
    if names is None:
        sites = [site.name for site in atlas.catalog.sites_of(network) if site.n_codes]
        names = [*sites, *spans_to_output(atlas, network, "position"), *spans_to_output(atlas, network, "full")]
    return [atlas.catalog.target(site=name, network=network.name) for name in names]


def _numbered(atlas: Atlas, site: SiteRecord) -> tuple[Int64[np.ndarray, " codes"], Int64[np.ndarray, " codes"]]:
    """Example ids in order, and a number for the code of each: equal where the codes are.

    Equal codes have equal hashes, so only those whose hash occurs again are read.
    """
    held = atlas.columns(
        "select example_id, code_hash from codes where site_id = $1 order by example_id", [site.site_id]
    )
    ids, numbers = held["example_id"].astype(np.int64), pd.factorize(held["code_hash"])[0].astype(np.int64)
    again = np.bincount(numbers)[numbers] > 1
    if again.any():
        digests = [_hashed(packed[again[np.searchsorted(ids, block)]]) for block, packed in atlas.code_blocks(site)]
        numbers[again] = len(ids) + np.unique(np.concatenate(digests), return_inverse=True)[1]
    return ids, numbers


def _hashed(packed: UInt8[np.ndarray, "codes bytes"]) -> np.ndarray:
    """`DIGEST_BYTES` that stand for each code."""
    joined = b"".join(hashlib.blake2b(row.tobytes(), digest_size=DIGEST_BYTES).digest() for row in packed)
    return np.frombuffer(joined, dtype=f"V{DIGEST_BYTES}")


def _counts(sites: Sequence[tuple[np.ndarray, np.ndarray]]) -> Int64[np.ndarray, " polytopes"]:
    """Examples in each polytope, of those that have a code at every one of the sites."""
    common, _ = sites[0]
    for ids, _ in sites[1:]:
        common = np.intersect1d(common, ids, assume_unique=True)
    whole = np.zeros(len(common), np.int64)
    for ids, numbers in sites:  # a number of both: fewer than examples times numbers of a site
        whole = pd.factorize(whole * (2 * len(ids)) + numbers[np.searchsorted(ids, common)])[0].astype(np.int64)
    return np.bincount(whole)


def _row(target: Target, counts: Int64[np.ndarray, " polytopes"]) -> dict[str, object]:
    examples, distinct = int(counts.sum()), len(counts)
    return {
        "target": target.name,
        "scope": target.sites[0].scope,
        "kind": "span" if "->" in target.name else "site",
        "n_gates": target.n_gates,
        "examples": examples,
        "distinct": distinct,
        "collisions": examples - distinct,
        "saturation": distinct / examples,
        "shared": int(counts[counts > 1].sum()),
        "largest": int(counts.max()),
        "exact": target.exact,
    }


def _rarefaction(name: str, counts: Int64[np.ndarray, " polytopes"]) -> pd.DataFrame:
    n = int(counts.sum())
    sizes = np.unique(np.geomspace(1, n, SIZES).round().astype(np.int64))
    return pd.DataFrame(
        {"target": name, "examples": sizes, "distinct": [expected_distinct(counts, m) for m in sizes]}
    )


def expected_distinct(counts: Int64[np.ndarray, " polytopes"], m: int | np.integer) -> float:
    """Distinct codes to expect among ``m`` examples drawn without replacement; exact, by logarithms of binomials."""
    n = counts.sum()
    sizes, of_size = np.unique(counts, return_counts=True)
    absent = np.zeros(len(sizes))
    possible = n - sizes >= m  # else one of the polytope's examples is always drawn
    absent[possible] = np.exp(_log_binomial(n - sizes[possible], m) - _log_binomial(n, m))
    return float((of_size * (1 - absent)).sum())


def _log_binomial(n: Any, k: Any) -> Any:
    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)


# --- what it shows -----------------------------------------------------------------------------------------------


def numbers_shown(result: Result) -> pd.DataFrame:
    measured = (
        ("distinct", "distinct codes"),
        ("saturation", "distinct codes over examples"),
        ("largest", "examples in the fullest polytope"),
    )
    return counts(
        [
            (f"{row['target']}: {words}", row[name], row["examples"])
            for row in result.table.to_dict("records")
            for name, words in measured
        ]
    )


EXPERIMENT = Experiment(
    name="occupancy",
    version=1,
    section=None,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    claims=(
        Claim(
            "occupancy",
            Part.BESIDE,
            1,
            "How many polytopes the examples are spread over; the post makes no claim.",
            shown=numbers_shown,
        ),
    ),
)

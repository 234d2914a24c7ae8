"""A sparse basis of codes, overcomplete if asked, in place of one cluster each (SCIENCE 10; post: Discussion)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float32, Float64, Int64
from plotly.subplots import make_subplots

from atlas import Atlas, SplineCodes
from atlas.checks import whole
from atlas.errors import UsageError
from atlas.store.catalog import SiteRecord, Target

from ..clustering.labels import Clusters, Members, any_clusters, remark, stored_clusters
from ..examples.description import describe
from ..examples.ids import holders
from ..examples.kinds import EXAMPLES
from ..examples.labels import Labels, drawn, labels_of
from ..notes import Notes
from ..progress import Progress, tell
from ..sites import asked_network
from ..statistics import mean_interval
from .claims import Claim, Part, Verdict, number, word_for
from .decomposition import NMF_ITERATIONS, NMF_TOLERANCE
from .figures import CHANCE, finish, interval, name_axis, points, style, text
from .groups import Chance, measure_groups, random_groups
from .options import IntervalOptions
from .record import Experiment
from .result import Result
from .schema import Column, table_of, with_interval

UNPACKED_BYTES = 1 << 26  # gates of a batch as booleans, before those that are kept are chosen
ATOMS_WITHOUT_CLUSTERS, DEFAULT_TOP = 32, 20  # where there are no clusters to compare with
ITERATIONS, TOLERANCE = NMF_ITERATIONS, NMF_TOLERANCE  # of the same family, and as hard to settle
ALWAYS = 1e-3
"""A gate that is on (or off) in fewer than this share of the examples tells little, and is left out."""

NOTES = (
    "codes as 0/1 vectors X ≈ W H, W ≥ 0 sparse: an atom is a row of H, an example's coefficients a row of W; a gate "
    "belongs to an atom by how far its weight lies above its mean over atoms. An atom's strongest example has "
    "coefficient 1",
    "an atom's group: its k examples of largest coefficient above 0, and groups of different atoms may overlap; "
    "intervals: percentiles of a bootstrap over groups",
)


@dataclass(frozen=True, eq=False)
class _Gates:
    """Kept gates of a span: which site and gate each is, how often it is on, and the codes at them."""

    site: Int64[np.ndarray, " kept"]  # place of its site in the target
    gate: Int64[np.ndarray, " kept"]
    on_rate: Float64[np.ndarray, " kept"]
    codes: Float32[np.ndarray, "examples kept"]


@dataclass(frozen=True, eq=False)
class _Atoms:
    """``weights``: gates of each atom; ``coefficients``: atoms of each example; ``explained``: share of variance."""

    weights: Float64[np.ndarray, "atoms kept"]
    coefficients: Float64[np.ndarray, "examples atoms"]
    explained: float


@dataclass(frozen=True, kw_only=True)
class Options(IntervalOptions):
    span: str | None = None
    """A span, such as 'inception4c->'; by default all sites after the first."""

    site: str | None = None
    """Or a single site, in place of a span."""

    atoms: int | None = None
    """By default as many as the clusters they are compared with. More than the gates that are kept make the basis
    overcomplete."""

    method: str = "nmf"
    """Nmf (sparse non-negative factorisation) or dictionary (sparse coding, atoms of any sign)."""

    sparsity: float = 0.1
    """Weight of the L1 penalty on coefficients, from 0; larger gives fewer atoms an example."""

    k: int | None = None
    """Examples at the top of an atom; by default the median size of the clusters."""

    by: str = "label"
    """Label (class or source of the input) or token."""

    clustering: int | None = None
    """Id of a clustering of the span or site; by default the newest of its codes."""

    gates: int = 2048
    """At most this many gates are kept, those on in the share of examples nearest to a half."""

    shown: int = 10
    """Gates listed of each atom."""

    examples: int = 5000
    """At most this many, drawn at random."""


TABLES = {
    "table": table_of(
        "atoms, clusters or random groups",
        Column("kind", str, "atoms, clusters or random groups"),
        Column("groups", int, "groups of the kind"),
        Column("size", float, "median size of a group", "examples"),
        *with_interval("purity", "mean share of a group's labelled members with its commonest label"),
        *with_interval("entropy", "mean entropy of the labels of a group, 0 (pure) to 1"),
        *with_interval("lift", "mean of the purity over that of random groups of the size"),
    ),
    "atoms": table_of(
        "an atom",
        Column("atom", int, "number of the atom, from 0"),
        Column("size", int, "examples at its top"),
        Column("labelled", int, "of these, examples with a label"),
        Column("inputs", int, "inputs that they are of"),
        Column("purity", float, "share of the labelled with the commonest label"),
        Column("entropy", float, "entropy of their labels, 0 (pure) to 1"),
        Column("lift", float, "purity over that of random groups of the size"),
        Column("top_label", str, "the commonest label"),
        Column("active", float, "share of all examples with a coefficient above 0"),
    ),
    "layers": table_of(
        "an atom and site",
        Column("atom", int, "number of the atom"),
        Column("site", str, "name of the site"),
        Column("weight", float, "share of the atom's weight above the mean that lies in the site"),
    ),
    "gates": table_of(
        "an atom and one of its strongest gates",
        Column("atom", int, "number of the atom"),
        Column("rank", int, "from 1, the strongest"),
        Column("site", str, "name of the site"),
        Column("gate", int, "number of the gate in the code of the site"),
        Column("module", str, "module that the gate belongs to"),
        Column("weight", float, "weight of the gate in the atom"),
        Column("on_rate", float, "share of the examples in which the gate is on"),
    ),
    "examples": table_of(
        "an atom and one of the examples at its top",
        Column("atom", int, "number of the atom"),
        Column("rank", int, "from 1, the largest coefficient"),
        Column("example_id", int, "id of the example"),
        Column("coefficient", float, "its coefficient; 1 for the atom's strongest example"),
        Column("label", str, "its label"),
        Column("token", str, "its token, of a text", optional=True),
        Column("key", str, "its key, of an image", optional=True),
    ),
    "summary": table_of(
        "the basis",
        Column("atoms", int, "atoms"),
        Column("gates", int, "gates of the span or site"),
        Column("kept", int, "gates that were kept"),
        Column("explained", float, "share of the variance of the kept gates"),
        *with_interval("per_example", "mean number of atoms an example"),
        Column("n", int, "examples"),
    ),
}


def measure(atlas: Atlas, options: Options, *, progress: Progress | None = None) -> Result:
    """Factor the codes, and compare the groups of examples at the top of atoms with clusters and with chance.

    Raises `UnknownName`, `NotStored`, and `UsageError` for impossible parameters and where all codes are equal.
    """
    record = asked_network(atlas, options.network, options.span or options.site)
    for name, value in (
        ("gates", options.gates),
        ("shown", options.shown),
        *([] if options.atoms is None else [("atoms", options.atoms)]),
    ):
        whole(name, value)
    target = _target(atlas, record.name, options.span, options.site)
    if options.method not in ("nmf", "dictionary"):
        raise UsageError(f"method is {options.method!r}; expected nmf or dictionary")
    if not 0 <= options.sparsity < np.inf:
        raise UsageError(f"sparsity is {options.sparsity!r}; expected a number of at least 0")
    notes = Notes(*NOTES)
    tell(progress, 0, 3)
    everyone = holders(atlas, target)
    ids = drawn(everyone, whole("examples", options.examples, 2), options.seed)
    if len(ids) < len(everyone):
        notes.add(f"{len(ids):,} of {len(everyone):,} examples, drawn at random")
    labels = labels_of(atlas, ids, options.by)
    remark(notes, target)
    stored = _clusters(atlas, target, ids, options.clustering, notes)
    clusters = [] if stored is None else stored.groups()
    k = (
        whole("k", options.k, 2)
        if options.k is not None
        else max(2, int(np.median([len(c) for c in clusters] or [DEFAULT_TOP])))
    )
    wanted = len(clusters) or ATOMS_WITHOUT_CLUSTERS if options.atoms is None else int(options.atoms)
    kept = _read(atlas, target, ids, options.gates, notes)
    tell(progress, 1, 3)
    found = _factor(kept.codes, wanted, options.method, options.sparsity, options.seed, notes)
    tell(progress, 2, 3)
    tops = [np.argsort(-column, kind="stable")[:k][: int((column > 0).sum())] for column in found.coefficients.T]
    overcomplete = wanted > len(kept.gate)
    which = "an overcomplete basis" if overcomplete else "not overcomplete, which takes more atoms than gates"
    notes.add(f"{wanted} atoms for {len(kept.gate):,} gates: {which}")
    tables = _tables(
        atlas,
        target,
        ids,
        labels,
        kept,
        found,
        tops,
        clusters,
        options.shown,
        {"seed": options.seed, "resamples": options.resamples, "confidence": options.confidence},
    )
    tell(progress, 3, 3)
    parameters = {
        "span": target.name if "->" in target.name else None,
        "site": None if "->" in target.name else target.name,
        "atoms": int(found.weights.shape[0]),
        "k": k,
        "clustering": stored.clustering.clustering_id if stored and stored.clustering else None,
        "n": len(ids),
    }
    return Result("dictionary", record.name, parameters, tables, notes.lines())


def figure(result: Result) -> go.Figure:
    """Which sites each atom's weight lies in, and purity of atoms against clusters and chance."""
    layers, table = result.tables["layers"], result.table
    drawing = make_subplots(
        rows=1,
        cols=2,
        column_widths=[0.62, 0.38],
        horizontal_spacing=0.16,
        subplot_titles=("share of an atom's weight by site", f"purity of groups in {result.parameters['by']}"),
    )
    grid = layers.pivot(index="site", columns="atom", values="weight").loc[list(dict.fromkeys(layers["site"]))]
    drawing.add_trace(
        go.Heatmap(
            z=grid.to_numpy(),
            x=grid.columns,
            y=[text(name) for name in grid.index],
            colorscale="Cividis",
            zmin=0,
            colorbar={"title": "Share", "x": 0.55, "thickness": 12},
            hovertemplate="atom %{x}, %{y}: %{z:.0%}<extra></extra>",
        ),
        row=1,
        col=1,
    )
    drawing.update_xaxes(title="Atom", row=1, col=1)
    kinds = table["kind"].tolist()
    for place, row in enumerate(table.to_dict("records")):
        look = CHANCE if row["kind"] == "random groups" else style(place)
        hover = (
            f"{row['kind']}: purity {interval(row['purity'], row['purity_low'], row['purity_high'])}, lift "
            f"{interval(row['lift'], row['lift_low'], row['lift_high'])}<br>n = {row['groups']:,} groups"
        )
        drawing.add_trace(
            points(str(row["kind"]), [place], table.iloc[[place]], "purity", look, hover=[hover], showlegend=False),
            row=1,
            col=2,
        )
    name_axis(drawing, [f"{kind} ({n:,})" for kind, n in zip(kinds, table["groups"], strict=True)], "", row=1, col=2)
    drawing.update_yaxes(title="Purity (share of commonest)", row=1, col=2)
    [summary] = result.tables["summary"].to_dict("records")
    name = result.parameters["span"] or result.parameters["site"]
    return finish(
        drawing,
        f"{result.network}, {name}: a sparse basis of codes",
        f"n = {summary['n']:,} examples; {summary['atoms']} atoms over {summary['kept']:,} of {summary['gates']:,} "
        f"gates explain {summary['explained']:.0%} of the variance, "
        f"{interval(*(summary.get(f'per_example{end}', np.nan) for end in ('', '_low', '_high')))} atoms an example",
        result.notes,
        height=440,
        below=90,
    )


def _target(atlas: Atlas, network: str, span: str | None, site: str | None) -> Target:
    if span is not None and site is not None:
        raise UsageError(f"name a span or a site, one of the two, got {span!r} and {site!r}")
    if span is None and site is None:
        sites = [s for s in atlas.catalog.sites if s.network == network and s.scope == "position"]
        span = f"{sites[0].name}->"
    return atlas.catalog.target(span=span, site=site, network=network)


def _clusters(atlas: Atlas, target: Target, ids: np.ndarray, clustering: int | None, notes: Notes) -> Clusters | None:
    """The clusters that atoms stand beside; None where none are stored, and too many examples for some made here."""
    if clustering is not None:
        found: Clusters | None = stored_clusters(atlas, target, ids, clustering=clustering)
    else:
        found = any_clusters(atlas, target, ids, "codes")
    if found is None:
        notes.add("no clustering of these codes is stored, so atoms stand beside random groups alone")
    else:
        notes.add(f"clusters: {found.name}")
        remark(notes, found)
    return found


# --- codes at the gates that are kept --------------------------------------------------------------------------


def _read(atlas: Atlas, target: Target, ids: Int64[np.ndarray, " examples"], most: int, notes: Notes) -> _Gates:
    """Two passes over the packed codes, a batch at a time: how often each gate is on; those that are kept."""
    rates = [_on_rate(atlas, site, ids) for site in target.sites]
    variance = np.concatenate(rates) * (1 - np.concatenate(rates))
    telling = np.flatnonzero(variance > ALWAYS * (1 - ALWAYS))
    if not len(telling):
        raise UsageError(f"all {len(ids)} codes of {target.name} are nearly equal, so there is no basis to find")
    kept = np.sort(telling[np.argsort(-variance[telling], kind="stable")[:most]])
    if len(kept) < len(telling):
        notes.add(
            f"{len(kept):,} of {len(telling):,} gates that ever change, those whose on-rate is nearest to a half"
        )
    edges = np.cumsum([0, *target.parts])
    place = np.searchsorted(edges, kept, side="right") - 1
    gate = kept - edges[place]
    columns = np.empty((len(ids), len(kept)), np.float32)
    for ordinal, site in enumerate(target.sites):
        mine = np.flatnonzero(place == ordinal)
        if len(mine):
            for rows, codes in _batches(atlas, site, ids):
                columns[rows, mine[0] : mine[-1] + 1] = codes.unpack()[:, gate[mine]]
    return _Gates(place, gate, np.concatenate(rates)[kept], columns)


def _on_rate(atlas: Atlas, site: SiteRecord, ids: np.ndarray) -> Float64[np.ndarray, " gates"]:
    total = np.zeros(site.n_gates)
    for _, codes in _batches(atlas, site, ids):
        total += codes.unpack().sum(axis=0)
    return total / len(ids)


def _batches(atlas: Atlas, site: SiteRecord, ids: np.ndarray) -> Any:
    """Rows of ``ids`` and their codes, few enough at a time that their gates fit `UNPACKED_BYTES`."""
    step = max(1, UNPACKED_BYTES // site.n_gates)
    for start in range(0, len(ids), step):
        rows = slice(start, min(start + step, len(ids)))
        _, codes = atlas.codes([site], ids[rows])
        yield rows, SplineCodes(codes.packed, codes.parts)


# --- factorisation ---------------------------------------------------------------------------------------------


def _factor(codes: np.ndarray, atoms: int, method: str, sparsity: float, seed: int, notes: Notes) -> _Atoms:
    from sklearn.decomposition import NMF, MiniBatchDictionaryLearning
    from sklearn.exceptions import ConvergenceWarning

    if method == "nmf":
        # NNDSVD has only as many atoms as the matrix has rows or columns; an overcomplete basis starts at random.
        start = "nndsvda" if atoms <= min(codes.shape) else "random"
        model: Any = NMF(
            atoms,
            init=start,
            tol=TOLERANCE,
            max_iter=ITERATIONS,
            random_state=seed,
            alpha_H=0.0,
            l1_ratio=1.0,
            alpha_W=sparsity / codes.shape[1],
        )
    else:
        model = MiniBatchDictionaryLearning(
            atoms,
            alpha=sparsity * np.sqrt(codes.shape[1]),
            max_iter=ITERATIONS,
            random_state=seed,
            positive_code=True,
            fit_algorithm="cd",
            transform_algorithm="lasso_cd",
            batch_size=256,
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        coefficients = np.asarray(model.fit_transform(codes), dtype=np.float64)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        notes.add(f"the factorisation had not settled after {ITERATIONS} iterations")
    weights = np.asarray(model.components_, dtype=np.float64)
    used = (coefficients > 0).any(axis=0) & (np.abs(weights) > 0).any(axis=1)
    if not used.any():
        raise UsageError(f"with sparsity {sparsity} no atom is used; give a smaller one")
    if not used.all():
        notes.add(f"{int((~used).sum())} of {atoms} atoms are used by no example, and left out")
    explained = _explained(codes, coefficients, weights)
    # Only the product is determined: an atom's strongest example gets coefficient 1, so that weights of different
    # atoms compare, in gates.
    scale = coefficients[:, used].max(axis=0)
    return _Atoms(weights[used] * scale[:, None], coefficients[:, used] / scale, explained)


def _explained(codes: np.ndarray, coefficients: np.ndarray, weights: np.ndarray) -> float:
    """1 − ‖X − W H‖² / ‖X − mean X‖², a batch of rows at a time."""
    left = total = 0.0
    mean = codes.mean(axis=0, dtype=np.float64)
    for start in range(0, len(codes), 1024):
        rows = codes[start : start + 1024].astype(np.float64)
        left += float(((rows - coefficients[start : start + 1024] @ weights) ** 2).sum())
        total += float(((rows - mean) ** 2).sum())
    return 1 - left / total


# --- tables ----------------------------------------------------------------------------------------------------


def _tables(
    atlas: Atlas,
    target: Target,
    ids: np.ndarray,
    labels: Labels,
    kept: _Gates,
    found: _Atoms,
    tops: list[Members],
    clusters: list[Members],
    shown: int,
    options: dict[str, Any],
) -> dict[str, pd.DataFrame]:
    seed = options["seed"]
    chance = Chance(labels, np.random.default_rng([seed, 1]))
    several = [top for top in tops if len(top) >= 2]
    sizes = [len(top) for top in several]
    by_chance = random_groups(sizes, len(ids), np.random.default_rng([seed, 2]))
    groups = {"atoms": several, "clusters": clusters, "random groups": by_chance}
    rows = []
    for place, (kind, members) in enumerate(groups.items()):
        if members:
            rows.append(
                _mean_row(
                    kind, measure_groups(members, labels, chance), np.random.default_rng([seed, 3, place]), options
                )
            )
    atoms = measure_groups(tops, labels, chance)
    atoms.insert(0, "atom", np.arange(len(tops)))
    each = (found.coefficients > 0).sum(axis=1).astype(np.float64)
    used = mean_interval(
        each,
        np.random.default_rng([seed, 4]),
        units=labels.inputs,
        resamples=options["resamples"],
        confidence=options["confidence"],
    )
    above = np.maximum(found.weights - found.weights.mean(axis=0), 0)
    return {
        "table": pd.DataFrame(rows),
        "atoms": atoms.assign(active=(found.coefficients > 0).mean(axis=0)),
        "layers": _layers(target, kept, above),
        "gates": _gate_rows(target, kept, found.weights, above, shown),
        "examples": _example_rows(atlas, target, ids, labels, found.coefficients, tops),
        "summary": pd.DataFrame(
            [
                {
                    "atoms": len(tops),
                    "gates": target.n_gates,
                    "kept": len(kept.gate),
                    "explained": found.explained,
                    **used.columns("per_example"),
                    "n": len(ids),
                }
            ]
        ),
    }


def _mean_row(kind: str, frame: pd.DataFrame, rng: np.random.Generator, options: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": kind, "groups": len(frame), "size": float(frame["size"].median())}
    for name in ("purity", "entropy", "lift"):
        row |= mean_interval(
            frame[name].to_numpy(np.float64), rng, resamples=options["resamples"], confidence=options["confidence"]
        ).columns(name)
    return row


def _layers(target: Target, kept: _Gates, above: np.ndarray) -> pd.DataFrame:
    total = above.sum(axis=1)
    return pd.DataFrame(
        [
            {
                "atom": atom,
                "site": site.name,
                "weight": float(above[atom, kept.site == place].sum() / total[atom]) if total[atom] else np.nan,
            }
            for atom in range(len(above))
            for place, site in enumerate(target.sites)
        ]
    )


def _gate_rows(target: Target, kept: _Gates, weights: np.ndarray, above: np.ndarray, shown: int) -> pd.DataFrame:
    rows = []
    for atom in range(len(weights)):
        for rank, column in enumerate(np.argsort(-above[atom], kind="stable")[:shown], start=1):
            site, gate = target.sites[kept.site[column]], int(kept.gate[column])
            module = next((r.module for r in site.layout if r.start <= gate < r.start + r.count), None)
            rows.append(
                {
                    "atom": atom,
                    "rank": rank,
                    "site": site.name,
                    "gate": gate,
                    "module": module,
                    "weight": float(weights[atom, column]),
                    "on_rate": float(kept.on_rate[column]),
                }
            )
    return pd.DataFrame(rows)


def _example_rows(
    atlas: Atlas, target: Target, ids: np.ndarray, labels: Labels, coefficients: np.ndarray, tops: list[Members]
) -> pd.DataFrame:
    atoms = np.repeat(np.arange(len(tops)), [len(top) for top in tops])
    places = np.concatenate(tops)
    shows = EXAMPLES[target.network.kind].shows
    return pd.DataFrame(
        {
            "atom": atoms,
            "rank": np.concatenate([np.arange(1, len(top) + 1) for top in tops]),
            "example_id": ids[places],
            "coefficient": coefficients[places, atoms],
            "label": [labels.names[n] if n >= 0 else None for n in labels.numbers[places]],
            shows: describe(atlas, target.network, ids[places])[shows].to_numpy(),
        }
    )


# --- what it decides -----------------------------------------------------------------------------------------------

BASIS_RULE = (
    "Supported: the interval of the mean purity of the atoms' tops lies above that of the clusters. Not "
    "supported: below. Else undecided."
)


def basis_beats_clusters(result: Result) -> Verdict:
    """`BASIS_RULE`, on `dictionary`."""
    rows = {row["kind"]: row for row in result.table.to_dict("records")}
    numbers = [number(f"{kind}: purity", row, "purity", row["groups"]) for kind, row in rows.items()]
    if not {"atoms", "clusters"} <= set(rows):
        return Verdict("undecided", "there are no clusters to compare with", pd.DataFrame(numbers))
    atoms, clusters = rows["atoms"], rows["clusters"]
    vote = int(atoms["purity_low"] > clusters["purity_high"]) - int(atoms["purity_high"] < clusters["purity_low"])
    return Verdict(
        word_for(vote), f"purity {atoms['purity']:.3g} against {clusters['purity']:.3g}", pd.DataFrame(numbers)
    )


EXPERIMENT = Experiment(
    name="dictionary",
    version=3,
    section=10,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    clusterings=True,
    quick={"gates": 256, "resamples": 200},
    claims=(
        Claim(
            "dictionary",
            Part.DISCUSSION,
            2,
            "A sparse basis of codes decomposes them better than one cluster each.",
            judge=basis_beats_clusters,
            rule=BASIS_RULE,
        ),
    ),
)

"""The affine map of a polytope, and how far apart the maps of two examples are (SCIENCE 7; post: appendix C)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Bool, Float32, Float64, Int64

from atlas import Atlas, Network, hamming
from atlas.checks import whole
from atlas.errors import UsageError
from atlas.network import Site
from atlas.store.catalog import NetworkRecord
from atlas.tails import Tail

from ..examples.live import Live, inputs_of_examples, labels_of_examples, place_of
from ..pairs.density import euclidean
from ..progress import Progress, tell
from ..statistics import Units, spearman_interval
from .claims import SLICED, Before, Claim, Part, Verdict, number, site_at, vote_of, word_for
from .figures import finish, interval, style
from .maps import AffineMap, Cotangents, PreciseTails, affine_map, logits_at, pull_back, state_at
from .options import CommonOptions
from .record import Experiment
from .result import Result
from .schema import Column, table_of, with_interval

EXACT_OUTPUTS = 256
"""Outputs up to which ‖A₁ − A₂‖_F is computed from all rows of the maps; beyond, it is estimated from some."""

MAP_BYTES = 1 << 28
"""Bytes of rows of maps held at once, and of the one map whose singular values are computed."""

HALVINGS = 30
"""How often a step is halved to find a point in the same polytope: down to 10⁻⁹ of the activation."""

NUDGE = 1e-3
"""How far, relative to each unit, a point on the edge of a polytope is moved into its inside."""

FARTHEST = 0.5
"""Relative distance at which the search for a point in the same polytope starts: no unit changes its sign there."""

LOCAL_RADII = (0.1, 0.01, 0.001)
"""Relative distances at which a linearisation that is not exact is checked. Its error falls with the square, down to
that of single precision."""

STRONGEST = 5
"""Entries of a row of A that the table of a map names."""

LIKELIEST = 64
"""Outputs whose rows the table of a map has, where the whole map takes more than `MAP_BYTES`."""

SHOWN_POINTS = 4000  # pairs in a figure; a table has them all


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    site: str
    """Whose activation space is cut into polytopes."""

    example: int | None = None
    """Whose map is shown; the first of those drawn otherwise."""

    examples: int = 24
    """How many are drawn, all pairs of which are compared."""

    probes: int = 64
    """Random vectors for the estimate, where there are more than 256 outputs."""

    checks: int = 16
    """Points at which the map is compared with the network."""


TABLES = {
    "table": table_of(
        "a pair of examples",
        Column("a", int, "id of one example"),
        Column("b", int, "id of the other"),
        Column("same_label", bool, "whether their labels agree; None where one of them has none"),
        Column("hamming", int, "gates after the site that differ", "gates"),
        Column("distance", float, "Euclidean distance of the activations"),
        Column("frobenius", float, "‖A₁ − A₂‖_F"),
        Column("standard_error", float, "of frobenius; 0 where it is exact"),
    ),
    "map": table_of(
        "an output: all, or the likeliest where the map takes more than 256 MB; `map_of` gives A and b whole",
        Column("example", int, "id of the example whose map it is"),
        Column("output", int, "number of the output"),
        Column("name", str, "of the output"),
        Column("logit", float, "F(x)"),
        Column("b", float, "offset of the map"),
        Column("norm", float, "length of the output's row of A"),
        Column("units", list, f"the {STRONGEST} units whose weights are farthest from 0"),
        Column("weights", list, "their entries of the row"),
    ),
    "checks": table_of(
        "a point x' at which the map is compared with the network",
        Column("example", int, "id of the example"),
        Column("radius", float, "‖x' − x‖/‖x‖"),
        Column("same_polytope", bool, "gates and pooling switches alike"),
        Column("error", float, "‖F(x') − (A·x' + b)‖₂"),
        Column("relative", float, "error over ‖F(x')‖₂"),
        Column("of_change", float, "error over ‖F(x') − F(x)‖₂: what a wrong A would show in, however near x' is"),
        Column("nudged", bool, "x was moved by a thousandth, off the edge of a polytope"),
    ),
    "singular": table_of(
        "a singular value of A",
        Column("example", int, "id of the example whose map it is"),
        Column("rank", int, "from 1, the largest first"),
        Column("value", float, "the singular value"),
    ),
    "summary": table_of(
        "a rank correlation over pairs; bootstrap over inputs, which pairs share",
        Column("of", str, "one column of the main table"),
        Column("with", str, "the other"),
        *with_interval("rho", "Spearman's rank correlation"),
        Column("n", int, "pairs"),
        Column("n_examples", int, "examples that they are of"),
    ),
}


def measure(atlas: Atlas, options: Options, *, reader: Network, progress: Progress | None = None) -> Result:
    """Compute the affine map of each example's polytope, and its distance to others against Hamming distance.

    Within a polytope F(y) = A·y + b, with A = ∂F/∂y at x and b = F(x) − A·x; F runs from the activation to the
    logits. Distance of two maps: ‖A₁ − A₂‖_F, from all rows, or else √ of the mean of ‖(A₁ − A₂)ᵀv‖² over probes
    v ~ N(0, I), whose expectation is ‖A₁ − A₂‖²_F (SCIENCE 7). Computed in double precision where the network is
    piecewise linear.

    A point x' has each unit of x multiplied by 1 + a uniform random number: units that are off stay off. Where a
    pooling window's inputs are all off, any of them is its maximum, and x lies on the edge of several polytopes; A
    is then that of the branch which the forward pass takes.

    Raises `UsageError` for impossible options, `UnknownName`, `NotStored`.
    """
    for name, value, least in (
        ("examples", options.examples, 2),
        ("probes", options.probes, 2),
        ("checks", options.checks, 1),
    ):
        whole(name, value, least)
    live = Live(atlas, reader, place_of(reader, site=options.site))
    ids = _chosen(live, options.example, options.examples, options.seed)
    points = live.activations(ids)
    tails = PreciseTails(live)
    rng = np.random.default_rng([options.seed, 7])
    cotangents = _cotangents(tails.of(int(ids[0])).n_outputs, options.probes, rng)
    squares, errors = _squared_distances(tails, ids, points, cotangents, progress)
    table = _pairs(atlas, tails, ids, points, squares, errors)
    shown = int(ids[0] if options.example is None else options.example)
    checked = _checks(tails, ids, points, cotangents, options.checks, rng)
    mapped, singular = _map(tails.of(shown), points[list(ids).index(shown)], shown)
    parameters = {
        "site": live.place.site.name,
        "examples": len(ids),
        "n_gates": live.place.n_gates,
        "shown": shown,
        "exact_distance": cotangents.identity,
        "n_outputs": cotangents.n_outputs,
    }
    inputs = np.column_stack([inputs_of_examples(atlas, table[end].to_numpy()) for end in ("a", "b")])
    summary = _summary(table, inputs, len(ids), rng)
    tables = {"table": table, "map": mapped, "checks": checked, "singular": singular, "summary": summary}
    notes = _notes(tails, cotangents, table, checked, mapped, singular)
    return Result("affine", live.owner.name, parameters, tables, notes)


def map_of(atlas: Atlas, reader: Network, *, site: str, example: int) -> AffineMap:
    """A and b of the polytope of an example, whole: 8 bytes × outputs × units of ``site``.

    Where the network is no affine map (`Tail.exact`) A is its derivative at the example, and A·y + b a linearisation.
    Raises `UnknownName`, `NotStored`.
    """
    live = Live(atlas, reader, place_of(reader, site=site))
    tail, [point] = PreciseTails(live).of(live.checked(example)), live.activations([example])
    slope, offset = affine_map(tail, point)
    return AffineMap(slope, offset, point.astype(np.float64), tuple(map(tail.output_name, range(tail.n_outputs))))


def arrays(atlas: Atlas, reader: Network, result: Result) -> dict[str, np.ndarray]:
    """The map that a result shows: A (outputs × units), b and the example's activation x, with the outputs' names."""
    found = map_of(atlas, reader, site=result.parameters["site"], example=result.parameters["shown"])
    return {"A": found.slope, "b": found.offset, "x": found.point, "outputs": np.array(found.outputs)}


def figure(result: Result) -> go.Figure:
    """Distance of maps against Hamming distance, a mark a pair; and the singular values of one map."""
    from plotly.subplots import make_subplots

    drawing = make_subplots(rows=1, cols=2, column_widths=[0.6, 0.4], horizontal_spacing=0.12)
    table = result.table
    shown = table if len(table) <= SHOWN_POINTS else table.sample(SHOWN_POINTS, random_state=0)
    for place, (name, chosen) in enumerate(_by_label(shown["same_label"])):
        rows = shown[chosen]
        drawing.add_trace(
            go.Scatter(
                x=rows["hamming"],
                y=rows["frobenius"],
                mode="markers",
                name=f"{name}, n = {len(rows)} pairs",
                marker={**style(place).marker, "size": 6, "opacity": 0.6},
                hovertext=[f"{a} and {b}" for a, b in zip(rows["a"], rows["b"], strict=True)],
                hovertemplate="examples %{hovertext}<br>%{x} gates<br>‖A₁ − A₂‖ = %{y:.4g}<extra></extra>",
            ),
            row=1,
            col=1,
        )
    singular, p = result.tables["singular"], result.parameters
    if len(singular):
        drawing.add_trace(
            go.Scatter(
                x=singular["rank"],
                y=singular["value"],
                mode="lines+markers",
                line=style(3).line,
                marker={**style(3).marker, "size": 5},
                name=f"singular values, example {p['shown']}",
                hovertemplate="rank %{x}<br>σ = %{y:.4g}<extra></extra>",
            ),
            row=1,
            col=2,
        )
    drawing.update_xaxes(title="Hamming distance, gates", rangemode="tozero", row=1, col=1)
    drawing.update_yaxes(title="Distance of the affine maps, ‖A₁ − A₂‖_F", rangemode="tozero", row=1, col=1)
    drawing.update_xaxes(title="Rank", row=1, col=2)
    drawing.update_yaxes(title="Singular value of A", type="log", row=1, col=2)
    drawing.update_layout(legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "xanchor": "left"})
    [rho] = result.tables["summary"].head(1).to_dict("records")
    correlation = interval(rho["rho"], rho["rho_low"], rho["rho_high"])
    return finish(
        drawing,
        f"Affine maps from {p['site']} of {result.network} to its {p['n_outputs']:,} outputs",
        f"rank correlation {correlation}, {len(table):,} pairs of {p['examples']} examples; {p['n_gates']:,} gates",
        result.notes,
    )


def _by_label(same_label: pd.Series) -> list[tuple[str, Bool[np.ndarray, " pairs"]]]:
    """Which pairs are of one label, of two, and, where there are any, which hold an example without one."""
    unknown = same_label.isna().to_numpy()
    same = np.array([known is True for known in same_label])
    found = [("same label", same), ("different labels", ~same & ~unknown)]
    return [*found, ("a label unknown", unknown)] if unknown.any() else found


# --- distances ---------------------------------------------------------------------------------------------------


def _chosen(live: Live, example: int | None, examples: int, seed: int) -> Int64[np.ndarray, " examples"]:
    ids = live.choose(examples, seed)
    if example is not None:
        asked = live.checked(example)
        ids = np.unique(np.append(ids[ids != asked][: examples - 1], asked))
    if len(ids) < 2:
        raise UsageError(
            f"maps are compared, so at least two examples are needed; network {live.owner.name} has {len(ids)}"
        )
    return ids


def _cotangents(n_outputs: int, probes: int, rng: np.random.Generator) -> Cotangents:
    if n_outputs <= EXACT_OUTPUTS:
        return Cotangents(None, n_outputs)
    return Cotangents(rng.standard_normal((probes, n_outputs)), n_outputs)


def _squared_distances(
    tails: PreciseTails,
    ids: Int64[np.ndarray, " examples"],
    points: Float32[np.ndarray, "examples units"],
    cotangents: Cotangents,
    progress: Progress | None,
) -> tuple[Float64[np.ndarray, "examples examples"], Float64[np.ndarray, "examples examples"]]:
    """‖A_i − A_j‖²_F for all pairs, and the standard error of its estimate (0 where it is no estimate).

    A few rows of all maps are held at a time: their differences are summed, never the whole maps kept.
    """
    n, units = points.shape
    rows = max(1, MAP_BYTES // (8 * n * units))
    total, squared = np.zeros((n, n)), np.zeros((n, n))
    for first in range(0, len(cotangents), rows):
        some = cotangents.some(first, min(first + rows, len(cotangents)))
        held = np.empty((n, len(some), units))
        for i, example in enumerate(ids):
            tell(progress, (first // rows) * n + i, n * -(-len(cotangents) // rows))
            held[i] = pull_back(tails.of(int(example)), points[i], some)
        for i, j in combinations(range(n), 2):
            each = np.square(held[i] - held[j]).sum(axis=1)
            total[i, j] += each.sum()
            squared[i, j] += np.square(each).sum()
    count = len(cotangents)
    tell(progress, 1, 1)
    if cotangents.identity:
        return total, np.zeros((n, n))
    mean = total / count
    return mean, np.sqrt(np.maximum(squared / count - mean**2, 0) / (count - 1))


def _pairs(
    atlas: Atlas,
    tails: PreciseTails,
    ids: Int64[np.ndarray, " examples"],
    points: Float32[np.ndarray, "examples units"],
    squares: Float64[np.ndarray, "examples examples"],
    errors: Float64[np.ndarray, "examples examples"],
) -> pd.DataFrame:
    codes = [
        state_at(tails.of(int(example)), point, tails.sites)[0] for example, point in zip(ids, points, strict=True)
    ]
    labels = labels_of_examples(atlas, ids)
    rows = []
    for i, j in combinations(range(len(ids)), 2):
        frobenius = float(np.sqrt(squares[i, j]))
        rows.append(
            {
                "a": int(ids[i]),
                "b": int(ids[j]),
                "same_label": None if labels[i] is None or labels[j] is None else labels[i] == labels[j],
                "hamming": 0 if codes[i] is None else int(hamming(codes[i], codes[j])[0]),  # type: ignore[arg-type]
                "distance": float(euclidean(points[i : i + 1], points[j : j + 1])[0]),
                "frobenius": frobenius,
                # The error of a square root: that of the square over twice the root.
                "standard_error": float(errors[i, j] / (2 * frobenius)) if frobenius else 0.0,
            }
        )
    return pd.DataFrame(rows).astype({"same_label": object})  # a boolean, or None


# --- checks ----------------------------------------------------------------------------------------------------


def _checks(
    tails: PreciseTails,
    ids: Int64[np.ndarray, " examples"],
    points: Float32[np.ndarray, "examples units"],
    cotangents: Cotangents,
    checks: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Points near some examples at which A·x' + b is compared with the network."""
    v = cotangents.some(0, len(cotangents))
    rows = []
    per_example = -(-checks // min(checks, len(ids)))
    for i in range(min(checks, len(ids))):
        tail, point = tails.of(int(ids[i])), points[i].astype(np.float64)
        if not point.any():
            continue  # no unit is on, so none can be changed by a share
        base, nudged = _inside(tail, point, tails.sites, rng)
        pulled, value = pull_back(tail, base, v), logits_at(tail, base[None])[0]
        for _ in range(per_example):
            direction = _nearby(base, rng)
            for radius, same in _radii(tail, base, direction, tails.sites):
                step = radius * direction
                there = logits_at(tail, (base + step)[None])[0]
                # Of Vᵀ(F(x') − F(x) − A(x' − x)), V the unit vectors or the probes.
                error = np.linalg.norm(v @ (there - value) - pulled @ step) / np.sqrt(len(v) / cotangents.n_outputs)
                change = float(np.linalg.norm(there - value))
                rows.append(
                    {
                        "example": int(ids[i]),
                        "radius": radius,
                        "same_polytope": same,
                        "error": float(error),
                        "relative": float(error / np.linalg.norm(there)),
                        "of_change": float(error / change) if change else np.nan,
                        "nudged": nudged,
                    }
                )
    return pd.DataFrame(rows, columns=[column.name for column in TABLES["checks"].columns])


def _nearby(point: Float64[np.ndarray, " units"], rng: np.random.Generator) -> Float64[np.ndarray, " units"]:
    """A direction as long as the point that changes each unit by a random share of it."""
    direction: Float64[np.ndarray, " units"] = rng.uniform(-1, 1, len(point)) * point
    return direction * (np.linalg.norm(point) / np.linalg.norm(direction))


def _inside(
    tail: Tail, point: Float64[np.ndarray, " units"], sites: tuple[Site, ...], rng: np.random.Generator
) -> tuple[Float64[np.ndarray, " units"], bool]:
    """The point, or one beside it where it lies on an edge; and whether that was so.

    A pooling window may have equal inputs: over blank parts of an image, or where pooling in the block before saw
    the whole of a small grid from every place of it. Then x lies on the edge of several polytopes, and nearly every
    direction leads into one that is not the one of A.
    """
    if not tail.exact or any(same for _, same in _radii(tail, point, _nearby(point, rng), sites)):
        return point, False
    return point + NUDGE * rng.uniform(-1, 1, len(point)) * point, True


def _radii(
    tail: Tail, point: np.ndarray, direction: np.ndarray, sites: tuple[Site, ...]
) -> Iterator[tuple[float, bool]]:
    """Lengths to go: the last, in halvings from `FARTHEST`, that leaves the polytope, and the first that does not.
    Where polytopes mean no affine map, `LOCAL_RADII`."""
    code, switches = state_at(tail, point, sites)

    def same(radius: float) -> bool:
        there, taken = state_at(tail, point + radius * direction, sites)
        return bool((taken == switches).all()) and (code is None or int(hamming(code, there)[0]) == 0)  # type: ignore[arg-type]

    if not tail.exact:
        yield from ((radius, same(radius)) for radius in LOCAL_RADII)
        return
    radius = FARTHEST
    for _ in range(HALVINGS):
        if same(radius):
            if radius < FARTHEST:
                yield 2 * radius, False
            yield radius, True
            return
        radius /= 2


# --- the map itself ----------------------------------------------------------------------------------------------


def _map(tail: Tail, point: Float32[np.ndarray, " units"], example: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The map row by row, and its singular values, the largest first; of one beyond `MAP_BYTES` the rows of the
    likeliest outputs, and no singular value."""
    logits = logits_at(tail, point[None])[0]
    whole_map = 8 * tail.n_outputs * tail.site.n_units <= MAP_BYTES
    outputs = np.arange(tail.n_outputs) if whole_map else np.argsort(-logits, kind="stable")[:LIKELIEST]
    units = np.zeros((len(outputs), tail.n_outputs))
    units[np.arange(len(outputs)), outputs] = 1
    slope = pull_back(tail, point, units)
    strongest = np.argsort(-np.abs(slope), axis=1, kind="stable")[:, :STRONGEST]
    rows = pd.DataFrame(
        {
            "example": example,
            "output": outputs,
            "name": [tail.output_name(int(output)) for output in outputs],
            "logit": logits[outputs],
            "b": logits[outputs] - slope @ point.astype(np.float64),
            "norm": np.linalg.norm(slope, axis=1),
            "units": strongest.tolist(),
            "weights": np.take_along_axis(slope, strongest, axis=1).tolist(),
        }
    )
    values = np.linalg.svd(slope, compute_uv=False) if whole_map else np.empty(0)
    return rows, pd.DataFrame({"example": example, "rank": np.arange(1, len(values) + 1), "value": values})


# --- statistics ------------------------------------------------------------------------------------------------


def _summary(table: pd.DataFrame, inputs: Units, n_examples: int, rng: np.random.Generator) -> pd.DataFrame:
    questions = (("hamming", "frobenius"), ("distance", "frobenius"), ("hamming", "distance"))
    values = {name: table[name].to_numpy(np.float64) for name in ("hamming", "distance", "frobenius")}
    return pd.DataFrame(
        [
            {
                "of": x,
                "with": y,
                **spearman_interval(values[x], values[y], rng, units=inputs).columns("rho"),
                "n": len(table),
                "n_examples": n_examples,
            }
            for x, y in questions
        ]
    )


def _notes(
    tails: PreciseTails,
    cotangents: Cotangents,
    table: pd.DataFrame,
    checked: pd.DataFrame,
    mapped: pd.DataFrame,
    singular: pd.DataFrame,
) -> tuple[str, ...]:
    tail = tails.of(int(table["a"].iloc[0]))
    notes = [tail.remark]
    inside = checked[checked["same_polytope"]]
    if tail.exact:
        left = checked[~checked["same_polytope"]]
        notes.append(
            f"check: at {len(inside)} points in the same polytope (gates and pooling switches alike) A·x' + b is off "
            f"by at most {inside['relative'].max():.1e} of ‖F(x')‖, and {inside['of_change'].max():.1e} of "
            "‖F(x') − F(x)‖"
            + (f"; at {len(left)} points just outside by up to {left['of_change'].max():.1e}" if len(left) else "")
        )
        notes.append(
            "where inputs of a pooling window are equal (all off), A is that of the input which pooling takes"
        )
        if checked["nudged"].any():
            n_nudged = checked.loc[checked["nudged"], "example"].nunique()
            notes.append(
                f"{n_nudged} of the examples checked lie on the edge of their polytope (equal inputs of a pooling "
                f"window); they were checked {NUDGE:g} of each unit beside it"
            )
    else:
        far = checked.groupby("radius")["of_change"].max()
        errors = ", ".join(f"{value:.1%} at a distance of {radius:g}·‖x‖" for radius, value in far.items())
        notes.append(f"a local linearisation, not exact: it misses at most {errors} of the change of the logits")
    if not cotangents.identity:
        notes.append(
            f"‖A₁ − A₂‖ is estimated with {len(cotangents)} random vectors (unbiased for its square); standard error "
            f"{(table['standard_error'] / table['frobenius']).max():.1%} at most"
        )
    if not len(singular):
        notes.append(
            f"the whole map would take more than {MAP_BYTES >> 20} MB: table map has its rows of the {len(mapped)} "
            "likeliest outputs, and singular values were left out"
        )
    return tuple(notes)


# --- what it decides -------------------------------------------------------------------------------------------

MAP_RULE = (
    "Supported: the interval of the rank correlation between Hamming distance and Frobenius distance of the "
    "affine maps lies above 0. Not supported: it lies below 0. Else undecided."
)


def gates_follow_maps(result: Result) -> Verdict:
    """`MAP_RULE`."""
    rows = result.tables["summary"].to_dict("records")
    main = next(row for row in rows if row["of"] == "hamming" and row["with"] == "frobenius")
    numbers = [number(f"rank correlation of {row['of']} and {row['with']}", row, "rho", row["n"]) for row in rows]
    word = word_for(vote_of(main["rho_low"], main["rho_high"], 0.0))
    return Verdict(word, f"rank correlation {main['rho']:.3g}", pd.DataFrame(numbers))


def _asking(atlas: Atlas, network: NetworkRecord, _: Before) -> dict[str, Any]:
    return {"site": site_at(atlas, network, SLICED).name, "examples": 16}


EXPERIMENT = Experiment(
    name="affine",
    version=2,
    section=7,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    arrays=arrays,
    live=True,
    quick={"examples": 5},
    claims=(
        Claim(
            "maps",
            Part.SPLINES,
            1,
            "Hamming distance corresponds to the distance of the affine transformations.",
            asking=_asking,
            judge=gates_follow_maps,
            rule=MAP_RULE,
        ),
    ),
)

"""How far examples lie from the boundaries of their polytopes, and which boundaries these are (SCIENCE 14)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float32, Float64, Int64

from atlas import Atlas, Network
from atlas.checks import whole
from atlas.kinds import INPUT_KINDS
from atlas.store.catalog import NetworkRecord

from ..examples.live import Live, inputs_of_examples
from ..pairs.density import euclidean
from ..polytope.boundaries import SKETCH, nearest_boundaries
from ..polytope.crossings import Told
from ..polytope.directions import gaussian_like
from ..polytope.exits import first_exits, uniform_directions
from ..polytope.margins import Margins, margins_at
from ..polytope.names import sites_of
from ..polytope.points import live_at
from ..progress import Progress, part, tell
from .claims import NUMBERS, SCALED, Before, Claim, Judge, Part, Row, Verdict, number, span_at, vote_of, word_for
from .controls import CONTROLS
from .figures import finish, legend_above, name_axis, points, style
from .options import IntervalOptions
from .polytope_statistics import EXAMPLES, GAUSSIAN, Intervals, Measured, by_kind, by_label, by_site, compared
from .record import Experiment
from .result import Result
from .schema import Column, table_of, with_interval

KINDS = {
    EXAMPLES: "examples",
    GAUSSIAN: "Gaussian points",
    **{name: control.words for name, control in CONTROLS.items()},
}


@dataclass(frozen=True, kw_only=True)
class Options(IntervalOptions):
    span: str
    """AFTER->TO. Examples are points of the space of AFTER; the boundaries are those of the gates after it."""

    examples: int = 60
    """How many are drawn at random."""

    rays: int = 100
    """Rays from each in uniform directions."""

    towards: int = 5
    """Rays from each towards examples of its label, and as many towards those of other labels, at most."""

    sketch: int = SKETCH
    """Random directions that the nearest boundary is looked for with; 0: one a unit, which misses none."""


KIND = Column("kind", str, "activation, gaussian (a point of the same norm), random, random-raw (untrained)")
DISTANCE = "distance in the activation space"
INTERVALS = "intervals: bootstrap over inputs"

TABLES = {
    "table": table_of(
        f"a kind of points; {INTERVALS}",
        KIND,
        *with_interval("inradius", "mean distance of the nearest boundary that a point does not lie on", DISTANCE),
        *with_interval("relative", "mean of inradius over norm"),
        *with_interval("exit", "mean over points of the median distance at which rays leave", DISTANCE),
        *with_interval("inside", "share of rays that stay inside up to the distance of the nearest other example"),
        Column("n", int, "points"),
        Column("inputs", int, "inputs that they are of"),
    ),
    "sites": table_of(
        f"a kind of points and a site; pooling counts for the site whose gates come next; {INTERVALS} or Wilson's",
        KIND,
        Column("site", str, "name of the site"),
        Column("boundaries", float, "share of all boundaries that are this site's: its share by chance"),
        *with_interval("nearest", "share of points whose nearest boundary is this site's"),
        *with_interval("exits", "mean share of rays that leave through it"),
        Column("n", int, "points"),
    ),
    "summary": table_of(
        "what is compared, and a kind of points",
        Column(
            "what",
            str,
            "farther: share of examples with a larger inradius than the Gaussian point; misclassified, relative: "
            "probability that a misclassified one has the smaller inradius, or inradius over norm; loss: rank "
            "correlation of inradius and loss; sooner: share of pairs of rays in which that towards another label "
            "leaves sooner; deeper: share whose nearest boundary is in the later half of the sites",
        ),
        KIND,
        *with_interval("value", "the number"),
        Column("chance", float, "what no difference would give"),
        Column("n", int, "examples"),
        Column("inputs", int, "inputs that they are of"),
    ),
    "labels": table_of(
        f"a label of examples; {INTERVALS}",
        Column("label", str, "the label"),
        *with_interval("inradius", "mean", DISTANCE),
        *with_interval("relative", "mean of inradius over norm"),
        *with_interval("exit", "mean of the medians", DISTANCE),
        Column("n", int, "examples"),
    ),
    "examples": table_of(
        "a kind and a point",
        KIND,
        Column("example", int, "id of the example; of a Gaussian point that whose norm it has"),
        Column("input", int, "id of its input"),
        Column("label", str, "its label"),
        Column("norm", float, "of the activation", DISTANCE),
        Column("inradius", float, "distance of the nearest boundary that it does not lie on", DISTANCE),
        Column("relative", float, "inradius over norm"),
        Column("tied", int, "boundaries that it lies on"),
        Column("nearest", str, "site of the nearest boundary"),
        Column("of", str, "gate or pooling: what the nearest boundary is of"),
        Column("exit", float, "median distance at which rays leave; NaN where most never do", DISTANCE),
        Column("never", float, "share of rays that never leave"),
        Column("to_neighbor", float, "distance of the nearest other example; NaN of the only one", DISTANCE),
        Column("inside", float, "share of rays that stay inside up to there"),
        Column("sooner", float, "share of pairs of rays in which that towards another label leaves sooner"),
        Column("missed", float, "bound on the probability that a nearer boundary was missed"),
        Column("loss", float, "of the network there; NaN where unknown", "nats"),
        Column("wrong", float, "1 where the prediction is not the label, 0 where it is; NaN where unknown"),
    ),
}


def measure(
    atlas: Atlas,
    options: Options,
    *,
    reader: Network,
    controls: Mapping[str, Network] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure the inradius, exits and bounding sites of the polytopes of examples, and of points beside them.

        r(x) = min_j d_j(x),    t_v = min over j of m_j(x) / −g_j·v where g_j·v < 0        (SCIENCE 14)

    Beside the examples: a Gaussian point of the norm of each (its entries may be negative, which no activation of a
    ReLU site is), and ``controls``, untrained networks with their own activations of the same inputs.

    Raises `UsageError` for impossible options and spans without gates, `UnknownName`; `NotStored` for activations
    that can't be had, those of controls before anything is measured.
    """
    for name, least in (("examples", 1), ("rays", 1), ("towards", 0), ("sketch", 0)):
        whole(name, getattr(options, name), least)
    live = live_at(atlas, reader, options.span)
    ids = live.choose(options.examples, options.seed)
    aims = _aims(live, ids, options.towards, np.random.default_rng([options.seed, 141]))
    sources = {EXAMPLES: live} | {kind: live.beside(control) for kind, control in (controls or {}).items()}
    for source in sources.values():
        source.check_readable(np.unique(np.concatenate([ids, *(aim.all for aim in aims)])))
    rng = np.random.default_rng([options.seed, 142])
    order = [EXAMPLES, GAUSSIAN, *(kind for kind in sources if kind != EXAMPLES)]
    found: list[Measured] = []
    for kind in order:
        source = live if kind == GAUSSIAN else sources[kind]
        activations = source.activations(ids)
        away = _to_neighbors(source, activations)
        for place, chosen in enumerate(ids):
            told = part(progress, len(found), len(order) * len(ids))
            point, aim = activations[place], _Aim() if kind == GAUSSIAN else aims[place]
            if kind == GAUSSIAN:
                point = gaussian_like(point, rng)
            margins = margins_at(source.tail(int(chosen)), source.place.sites, point)
            ways = _ways(margins, source.activations(aim.all)) if len(aim.all) else None
            about = {"kind": kind, "example": int(chosen)}
            found.append(_measured(margins, options, rng, away[place], ways, len(aim.same), about, told))
    tell(progress, 1, 1)
    examples = _with_outcomes(live, pd.DataFrame([each.row for each in found]))
    draw = Intervals(options, np.random.default_rng([options.seed, 143]))
    sites = by_site(examples, found, [site.name for site in live.place.sites], draw)
    tables = {
        "table": by_kind(examples, draw),
        "sites": sites,
        "summary": compared(examples, sites, draw),
        "labels": by_label(examples, draw, [column.name for column in TABLES["labels"].columns]),
        "examples": examples,
    }
    parameters = {
        "span": live.place.name,
        "examples": len(ids),
        "n_gates": live.place.n_gates,
        "controls": sorted(controls or {}),
    }
    return Result("polytopes", live.owner.name, parameters, tables, _notes(live, int(ids[0]), examples, controls))


def figure(result: Result) -> go.Figure:
    """Inradius over norm of every point, and the sites that bound them, a series a kind."""
    from plotly.subplots import make_subplots

    drawing = make_subplots(rows=2, cols=1, vertical_spacing=0.16, row_heights=[0.5, 0.5])
    examples, sites = result.tables["examples"], result.tables["sites"]
    names = list(dict.fromkeys(sites["site"]))
    kinds = list(dict.fromkeys(examples["kind"]))
    for place, kind in enumerate(kinds):
        look, rows = style(place), examples[examples["kind"] == kind]
        drawing.add_trace(
            go.Box(
                y=[KINDS[kind]] * len(rows),
                x=rows["relative"],
                orientation="h",
                boxpoints="all",
                pointpos=0,
                jitter=0.5,
                marker={**look.marker, "size": 4},
                line={"width": 1},
                fillcolor="rgba(0,0,0,0)",
                name=KINDS[kind],
                showlegend=False,
                hovertext=[f"example {row.example}, {row.label}: {row.nearest}" for row in rows.itertuples()],
                hoverinfo="text+x",
            ),
            row=1,
            col=1,
        )
        bounding = sites[sites["kind"] == kind]
        x = [names.index(site) + 0.16 * (place - (len(kinds) - 1) / 2) for site in bounding["site"]]
        label = f"{KINDS[kind]}, n = {len(rows)}"
        drawing.add_trace(points(label, x, bounding, "nearest", look), row=2, col=1)
    chance = sites[sites["kind"] == EXAMPLES]
    drawing.add_trace(
        go.Scatter(
            x=[names.index(site) for site in chance["site"]],
            y=chance["boundaries"],
            mode="markers",
            marker={"symbol": "line-ew-open", "size": 40, "color": "#8a8a8a"},
            name="its share of all boundaries",
        ),
        row=2,
        col=1,
    )
    drawing.update_xaxes(title="Distance of the nearest boundary, over the norm", type="log", row=1, col=1)
    drawing.update_xaxes(exponentformat="power", row=1, col=1)
    drawing.update_yaxes(autorange="reversed", row=1, col=1)
    drawing.update_yaxes(title="Share of nearest boundaries", range=[-0.02, 1.02], row=2, col=1)
    name_axis(drawing, names, "Site of the nearest boundary, from input to output", row=2, col=1)
    legend_above(drawing)
    p = result.parameters
    return finish(
        drawing,
        f"How far the next polytope is, {p['span']} of {result.network}",
        f"{p['n_gates']:,} gates; n in points, of {examples['input'].nunique()} inputs; bars: Wilson, "
        f"{p['confidence']:.0%}",
        result.notes,
        height=640,
        below=100,
    )


# --- measuring -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Aim:
    """Other examples that rays go towards: of the same label, and of others."""

    same: Int64[np.ndarray, " same"] = field(default_factory=lambda: np.empty(0, np.int64))
    other: Int64[np.ndarray, " other"] = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def all(self) -> Int64[np.ndarray, " examples"]:
        return np.concatenate([self.same, self.other])


def _aims(live: Live, ids: Int64[np.ndarray, " examples"], most: int, rng: np.random.Generator) -> list[_Aim]:
    """For each example others of other inputs: of its label, and as many of other labels. None without a label."""
    labelled = live.examples(labelled=True)
    known = labelled.set_index("example_id")
    found = []
    for chosen in ids.tolist():
        if not most or chosen not in known.index:
            found.append(_Aim())
            continue
        mine = known.loc[chosen]
        others = labelled[labelled["input_id"] != mine["input_id"]]
        like = (others["label"] == mine["label"]).to_numpy()
        kinds = [others["example_id"].to_numpy(np.int64)[like == same] for same in (True, False)]
        n = min(most, *(len(some) for some in kinds))
        found.append(_Aim(*(np.sort(rng.choice(some, size=n, replace=False)) for some in kinds)))
    return found


def _to_neighbors(live: Live, activations: Float32[np.ndarray, "examples units"]) -> Float64[np.ndarray, " examples"]:
    """How far the nearest other activation is: of all at hand, else of these; NaN where there is none."""
    nearest = np.full(len(activations), np.inf)
    for _, block in live.at_hand() if live.n_at_hand else [(None, activations)]:
        for place in range(len(activations)):
            away = euclidean(activations[place : place + 1], block)
            nearest[place] = min(nearest[place], away[away > 0].min(initial=np.inf))
    return np.where(np.isfinite(nearest), nearest, np.nan)


def _ways(margins: Margins, others: Float32[np.ndarray, "others units"]) -> Float64[np.ndarray, "others units"]:
    """Directions towards other activations; NaN towards the very same."""
    ways = others.astype(np.float64) - margins.point
    with np.errstate(invalid="ignore"):
        found: Float64[np.ndarray, "others units"] = ways / np.linalg.norm(ways, axis=1, keepdims=True)
    return found


def _measured(
    margins: Margins,
    options: Options,
    rng: np.random.Generator,
    to_neighbor: float,
    ways: Float64[np.ndarray, "others units"] | None,
    same: int,
    about: dict[str, Any],
    told: Told,
) -> Measured:
    units = len(margins.point)
    sketch = options.sketch if 0 < options.sketch < units and margins.exact else None
    nearest = nearest_boundaries(margins, 1, sketch=sketch, seed=options.seed, told=told)
    rays = uniform_directions(rng, options.rays, units)
    known = np.empty(0, bool) if ways is None else np.isfinite(ways).all(axis=1)
    numbers, distances = first_exits(margins, rays if ways is None else np.concatenate([rays, ways[known]]))
    aimed = np.full(len(known), np.nan)
    aimed[known] = distances[len(rays) :]
    numbers, distances = numbers[: len(rays)], distances[: len(rays)]
    norm, median = float(np.linalg.norm(margins.point)), float(np.median(distances))
    inradius = float(nearest.distances.min(initial=np.inf))
    bounding = next(iter(sites_of(margins, nearest.numbers)), None)
    of = None if bounding is None else "gate" if nearest.numbers[0] < margins.n_gates else "pooling"
    left = Counter(sites_of(margins, numbers[numbers >= 0]))
    row = {
        **about,
        "norm": norm,
        "inradius": inradius if np.isfinite(inradius) else np.nan,
        "relative": inradius / norm if norm and np.isfinite(inradius) else np.nan,
        "tied": len(nearest.tied),
        "nearest": bounding,
        "of": of,
        "exit": median if np.isfinite(median) else np.nan,
        "never": float((numbers < 0).mean()),
        "to_neighbor": to_neighbor,
        "inside": float((distances > to_neighbor).mean()) if np.isfinite(to_neighbor) else np.nan,
        "sooner": _sooner(aimed[same:], aimed[:same]),
        "missed": nearest.missed,
    }
    return Measured(row, _boundaries_by_site(margins), {site: n / left.total() for site, n in left.items()})


def _sooner(other: Float64[np.ndarray, " other"], same: Float64[np.ndarray, " same"]) -> float:
    """Of pairs of a ray towards another label and one towards the same, the share in which the first leaves sooner;
    equal ones count half."""
    other, same = other[~np.isnan(other)], same[~np.isnan(same)]
    if not len(other) or not len(same):
        return np.nan
    return float(((other[:, None] < same) + 0.5 * (other[:, None] == same)).mean())


def _boundaries_by_site(margins: Margins) -> dict[str, float]:
    counts = {site.name: site.n_gates for site in margins.sites}
    for pairs in margins.pairs:
        counts[pairs.site] = counts.get(pairs.site, 0) + len(pairs.taken)
    return {site: count / len(margins.values) for site, count in counts.items()}


def _with_outcomes(live: Live, examples: pd.DataFrame) -> pd.DataFrame:
    """With input and label of each example and, of the network's own, loss and whether it is misclassified."""
    ids = examples["example"].to_numpy(np.int64)
    known = live.atlas.frame(
        """
        select example_id as example, label, loss, prediction from examples
        where example_id in (select unnest($1::uinteger[]))
        """,
        [np.unique(ids).tolist()],
    )
    found = examples.merge(known, on="example", how="left")
    found["input"] = inputs_of_examples(live.atlas, ids)
    own = found["kind"] == EXAMPLES
    found["loss"] = found["loss"].astype(float).where(own)
    # The prediction of a language model is the next token, which its label does not name.
    judged = own & found["loss"].notna() & (not INPUT_KINDS[live.owner.kind].in_sequence)
    found["wrong"] = (found["prediction"] != found["label"]).astype(float).where(judged)
    return found[[column.name for column in TABLES["examples"].columns]]


def _notes(live: Live, first: int, examples: pd.DataFrame, controls: Mapping[str, Network] | None) -> tuple[str, ...]:
    tail = live.tail(first)
    notes = [
        tail.remark if tail.exact else f"distances are those of the linearisation at each point; {tail.remark}",
        "Gaussian points have the norms of the examples; half of their entries are negative, as activations of ReLU "
        "never are",
    ]
    if tied := int((examples["tied"] > 0).sum()):
        notes.append(
            f"{tied} of {len(examples)} points lie on boundaries (preactivations of 0, tied inputs of a window), "
            f"{examples['tied'].max():,} at most; distances are those of the nearest that they do not lie on"
        )
    if missed := float(examples["missed"].sum()):
        notes.append(
            f"nearest boundaries were looked for with random directions; that any was missed has a probability of "
            f"{min(1.0, missed):.0e} at most"
        )
    if n := int((examples["exit"].isna()).sum()):
        notes.append(f"of {n} points most rays never leave; they have no median exit")
    if not controls:
        notes.append("no untrained control stands beside; hand in controls")
    return tuple(notes)


# --- what it decides -----------------------------------------------------------------------------------------------

FARTHER_RULE = (
    "Share of examples whose inradius is larger than that of the Gaussian point of the same norm. Supported: its "
    "interval lies above ½. Not supported: below. Else undecided."
)
MISCLASSIFIED_RULE = (
    "Probability that of a misclassified and a rightly classified example the first has the smaller inradius. "
    "Supported: its interval lies above ½. Not supported: below. Else undecided, as with fewer than six inputs of "
    "either kind."
)
DEEPER_RULE = (
    "Share of examples whose nearest boundary belongs to the later half of the span's sites. Supported: its interval "
    "lies above ½ and above the share of all boundaries that are theirs. Not supported: below either. Else "
    "undecided, as where the span holds one site."
)
SOONER_RULE = (
    "Share of pairs of rays from an example, one towards an example of another label and one towards one of the "
    "same, in which the first leaves the polytope sooner; mean over examples. Supported: its interval lies above ½. "
    "Not supported: below. Else undecided."
)


def _judge(what: str, words: str, more: Sequence[str] = ()) -> Judge:
    """The judge of the rule about a comparison: by its interval above or below chance, and for deeper ½ as well."""

    def judged(result: Result) -> Verdict:
        rows: list[Row] = result.tables["summary"].to_dict("records")
        mine = next((row for row in rows if row["what"] == what and row["kind"] == EXAMPLES), None)
        shown = [row for row in rows if row["what"] in (what, *more)]
        numbers = [number(f"{row['what']}, {KINDS[row['kind']]}", row, "value", row["n"]) for row in shown]
        if mine is None:
            return Verdict("undecided", "the span holds one site", pd.DataFrame(numbers, columns=NUMBERS))
        votes = [vote_of(mine["value_low"], mine["value_high"], bound) for bound in {0.5, mine["chance"]}]
        because = f"{words}: {mine['value']:.2g} of n = {mine['n']}, {mine['chance']:.2g} by chance"
        beside = [f"{KINDS[row['kind']]}: {row['value']:.2g}" for row in shown if row["kind"] != EXAMPLES]
        return Verdict(word_for(min(votes)), "; ".join([because, *beside]), pd.DataFrame(numbers))

    return judged


def _asking(atlas: Atlas, network: NetworkRecord, _: Before) -> dict[str, Any]:
    return {"span": span_at(atlas, network, SCALED), "examples": 40}


def _claim(place: int, key: str, sentence: str, judge: Judge, rule: str) -> Claim:
    return Claim(key, Part.BESIDE, place, sentence, asking=_asking, judge=judge, rule=rule)


farther = _judge("farther", "farther than the Gaussian point")
misclassified_nearer = _judge(
    "misclassified", "a misclassified example lies nearer with probability", ("relative", "loss")
)
deepest_bound = _judge("deeper", "nearest boundary in the later half of the sites")
others_sooner = _judge("sooner", "rays towards another label leave sooner")

EXPERIMENT = Experiment(
    name="polytopes",
    version=1,
    section=14,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    live=True,
    controls=True,
    quick={"examples": 3, "rays": 20, "towards": 2},
    claims=(
        _claim(
            2,
            "farther",
            "Examples of a trained network lie farther from boundaries than Gaussian points of the same norm.",
            farther,
            FARTHER_RULE,
        ),
        _claim(
            3,
            "misclassified",
            "Misclassified examples lie nearer to a boundary.",
            misclassified_nearer,
            MISCLASSIFIED_RULE,
        ),
        _claim(4, "deepest", "The nearest boundary belongs to the deepest sites.", deepest_bound, DEEPER_RULE),
        _claim(
            5,
            "sooner",
            "A ray towards another class leaves the polytope sooner than one towards the same class.",
            others_sooner,
            SOONER_RULE,
        ),
    ),
)

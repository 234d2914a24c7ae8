"""Polytope density and class along an activation that is scaled (SCIENCE 5; post: Prediction 3 and appendix B)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float32, Float64, Int64

from atlas import Atlas, Network
from atlas.checks import whole
from atlas.errors import UsageError
from atlas.kinds import INPUT_KINDS
from atlas.store.catalog import NetworkRecord
from atlas.tails import Tail

from ..examples.live import Live, inputs_of_examples, place_of
from ..polytope.crossings import Told, read_along
from ..polytope.directions import gaussian_like
from ..progress import Progress, part, tell
from ..statistics import CONFIDENCE, Interval, bootstrap, least_units, mean_interval, share_interval
from .claims import SCALED, Before, Claim, Part, Row, Verdict, Word, number, span_at, vote_of, word_for
from .figures import add_band, finish, legend_above, style
from .maps import log_softmax
from .options import CommonOptions
from .paths import HOW_COLUMNS, path_notes, profile_of
from .record import Experiment
from .result import Result
from .schema import Column, table_of, with_interval
from .targets import checked_tolerance, increasing

ORIGIN = 2.0**-20
"""What stands for α = 0. At the origin itself a gate without offset lies on its boundary: a network all of whose
boundaries pass through the origin would seem to cross them there. A power of 2 scales without rounding."""

HIGHEST, STEPS = 2.5, 50
"""The α that scaling goes up to unless asked otherwise, and its steps: from 0 to well above 1 (SCIENCE 5)."""

KINDS = {
    "activation": "activation",
    "gaussian": "Gaussian direction",
    "random": "untrained, calibrated",
    "random-raw": "untrained, raw",
}


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    span: str
    """AFTER->TO. The activation of AFTER is scaled; the boundaries are those of the gates after it."""

    example: int | None = None
    """This one alone; else some are drawn."""

    examples: int = 30
    """How many are drawn at random."""

    alphas: Sequence[float] | None = None
    """Increasing factors, from 0 or above; by default 0 to 2.5 in steps of 0.05."""

    tolerance: float = 0.01
    """Steps are halved until the crossings of a path grow by no more than this share."""


KIND = Column("kind", str, "activation, gaussian (a direction of the same norm), random, random-raw (untrained)")
EXAMPLE = Column("example", int, "id of the example")

TABLES = {
    "table": table_of(
        "a kind and a step; bootstrap over inputs, since tokens of one text depend on each other",
        KIND,
        Column("step", int, "number of the step"),
        Column("alpha_low", float, "where it begins"),
        Column("alpha_high", float, "where it ends"),
        *with_interval("density", "mean over examples", "boundaries a unit of distance"),
        *with_interval(
            "share", "gates crossed, as a share of all: free of the scale of the network", "per unit of α"
        ),
        Column("n", int, "examples"),
    ),
    "examples": table_of(
        "a kind and an example",
        KIND,
        EXAMPLE,
        Column("input", int, "id of its input"),
        Column("norm", float, "of the vector that is scaled"),
        Column("crossings", int, "boundaries crossed"),
        Column("peak", float, "α in the middle of the densest step, the first of equals; NaN without crossings"),
        Column("changes_below", float, "α nearest to 1 below it at which another class is predicted than at 1"),
        Column("changes_above", float, "the same above 1; NaN where there is none"),
        Column("prediction", str, "at α = 1"),
        *HOW_COLUMNS,
    ),
    "classes": table_of(
        "a kind, an example and a factor",
        KIND,
        EXAMPLE,
        Column("alpha", float, "the factor"),
        Column("prediction", str, "what is predicted there"),
        Column("probability", float, "of that"),
        Column("kept", float, "probability of what is predicted at α = 1"),
    ),
    "summary": table_of(
        "a kind; intervals: bootstrap over inputs, Wilson's for shares",
        KIND,
        Column("n", int, "examples"),
        *with_interval("peak", "α of the densest step of the mean share"),
        *with_interval("peak_height", "mean share there over mean share in the step below α = 1"),
        *with_interval("peak_inside", "share of examples with their peak below 1"),
        *with_interval("below", "share of examples whose class changes below 1"),
        *with_interval("above", "share of examples whose class changes above 1"),
        *with_interval("change_below", "mean α of the change below 1, where there is one"),
        *with_interval("change_above", "mean α of the change above 1, where there is one"),
    ),
    "kept": table_of(
        "a kind and a factor",
        KIND,
        Column("alpha", float, "the factor"),
        Column("n", int, "examples"),
        *with_interval("kept", "mean probability of what is predicted at α = 1"),
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
    """Measure the density of boundaries and the predicted class as an activation is scaled.

        x(α) = α·x,    density_i = crossings in step i / (α_{i+1} − α_i)‖x‖₂        (SCIENCE 5)

    Baselines: a Gaussian vector of the same norm for each example (its entries may be negative, which no activation
    of a ReLU site is), and ``controls``, untrained networks with their own activations of the same inputs, from the
    atlas where it stores them. α = 0 is replaced by 2⁻²⁰, its limit from above.

    Raises `UsageError` for alphas that do not increase, `UnknownName`; `NotStored` for activations that can't be had,
    those of controls before anything is measured.
    """
    edges, tolerance = _alphas(options.alphas), checked_tolerance(options.tolerance)
    live = Live(atlas, reader, place_of(reader, span=options.span))
    ids = live.asked(options.example, whole("examples", options.examples), options.seed)
    beside = {kind: live.beside(control) for kind, control in (controls or {}).items()}
    for control in beside.values():
        control.check_readable(ids)
    sources = {"activation": live, "gaussian": live, **beside}
    rng = np.random.default_rng([options.seed, 1])
    rows, shares, classes = [], [], []
    for done, (kind, source, chosen) in enumerate(work := [(k, s, int(i)) for k, s in sources.items() for i in ids]):
        tail, point = source.tail(chosen), source.activations([chosen])[0]
        if kind == "gaussian":
            point = gaussian_like(point, rng)
        row, per_step = _measure(tail, point, source, edges, tolerance, part(progress, done, len(work)))
        rows.append({"kind": kind, "example": chosen, **row})
        shares.append(per_step / (np.diff(edges) * source.place.n_gates))
        classes.append(_classes(tail, point, edges).assign(kind=kind, example=chosen))
    tell(progress, len(work), len(work))
    table = pd.concat(classes, ignore_index=True)
    measured = _with_changes(pd.DataFrame(rows), table)
    measured.insert(2, "input", inputs_of_examples(atlas, measured["example"].to_numpy()))
    parameters = {
        "span": live.place.name,
        "examples": len(ids),
        "alphas": edges.tolist(),
        "n_gates": live.place.n_gates,
        "controls": sorted(controls or {}),
    }
    per_alpha = np.array(shares)
    tables = {
        "table": _profiles(measured, per_alpha, edges, live.place.n_gates, rng),
        "examples": measured,
        "classes": table[[column.name for column in TABLES["classes"].columns]],
        "summary": _summary(measured, per_alpha, edges, rng),
        "kept": _kept(measured, table, rng),
    }
    return Result("scale", live.owner.name, parameters, tables, tuple(_notes(live, measured, tolerance, controls)))


def figure(result: Result) -> go.Figure:
    """Boundaries crossed, and the probability of the class, along α; a line a kind."""
    from plotly.subplots import make_subplots

    drawing = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.07, row_heights=[0.6, 0.4])
    table = result.table
    probable = result.tables["kept"]
    for place, kind in enumerate(dict.fromkeys(table["kind"])):
        look, name = style(place), KINDS.get(kind, kind)
        rows = table[table["kind"] == kind]
        middle = (rows["alpha_low"] + rows["alpha_high"]) / 2
        shown = rows.assign(**{c: 100 * rows[c] for c in ("share", "share_low", "share_high")})
        add_band(drawing, middle, shown, "share", look)
        label = f"{name}, n = {rows['n'].iloc[0]}"
        drawing.add_trace(
            go.Scatter(
                x=middle,
                y=shown["share"],
                mode="lines",
                line=look.line,
                name=label,
                hovertemplate="α = %{x:.3g}<br>%{y:.3g} % of gates per unit of α<extra>" + name + "</extra>",
            ),
            row=1,
            col=1,
        )
        kept = probable[probable["kind"] == kind]
        add_band(drawing, kept["alpha"], kept, "kept", look, row=2, col=1)
        drawing.add_trace(
            go.Scatter(
                x=kept["alpha"],
                y=kept["kept"],
                mode="lines",
                line=look.line,
                showlegend=False,
                hovertemplate="α = %{x:.3g}<br>probability %{y:.3g}<extra>" + name + "</extra>",
            ),
            row=2,
            col=1,
        )
    for row in (1, 2):
        drawing.add_vline(x=1, line={"color": "#8a8a8a", "width": 1, "dash": "dot"}, row=row, col=1)
    drawing.update_yaxes(title="Gates crossed, % per unit of α", rangemode="tozero", row=1, col=1)
    drawing.update_yaxes(title="Mean probability of<br>the class at α = 1", range=[0, 1.02], row=2, col=1)
    drawing.update_xaxes(title="α along x(α) = α·x", row=2, col=1)
    legend_above(drawing)
    p = result.parameters
    return finish(
        drawing,
        f"Boundaries along a scaled activation, {p['span']} of {result.network}",
        f"{p['n_gates']:,} gates; n in examples; bands: bootstrap over inputs, 95 %",
        result.notes,
        height=560,
    )


# --- measuring -------------------------------------------------------------------------------------------------


def _alphas(alphas: Sequence[float] | None) -> Float64[np.ndarray, " edges"]:
    """The factors as given, 0 replaced by `ORIGIN`."""
    if alphas is None:
        return _alphas([HIGHEST * step / STEPS for step in range(STEPS + 1)])
    values = increasing("alphas", alphas, least=2, zero=True)
    if not values[0] <= 1 <= values[-1]:
        raise UsageError(
            f"alphas run from {values[0]:g} to {values[-1]:g}; 1, the activation itself, must lie among them"
        )
    return np.array([max(ORIGIN, values[0]), *values[1:]])


def _measure(
    tail: Tail,
    point: Float32[np.ndarray, " units"],
    live: Live,
    edges: Float64[np.ndarray, " edges"],
    tolerance: float,
    told: Told,
) -> tuple[dict[str, Any], Int64[np.ndarray, " steps"]]:
    low, high = edges[0], edges[-1]
    profile = profile_of(
        tail,
        (low * point).astype(np.float32),
        (high * point).astype(np.float32),
        live.place.sites,
        (edges - low) / (high - low),
        exact=False,
        tolerance=tolerance,
        told=told,
    )
    counts = profile.per_step
    densest = int((counts / np.diff(edges)).argmax())
    row = {
        "norm": float(np.linalg.norm(point.astype(np.float64))),
        "crossings": int(counts.sum()),
        "peak": (edges[densest] + edges[densest + 1]) / 2 if counts.any() else np.nan,
        **profile.how,
    }
    return row, counts


def _classes(tail: Tail, point: Float32[np.ndarray, " units"], edges: Float64[np.ndarray, " edges"]) -> pd.DataFrame:
    """What is predicted at each α, and how probable it is; ``kept``: how probable what is predicted at α = 1 is."""
    nothing = np.zeros_like(point)
    alphas = np.unique(np.append(edges, 1.0))
    probable: list[np.ndarray] = []
    [(_, reading)] = read_along(tail, nothing, point, [], np.ones(1))
    first = int(reading.logits[0].argmax())
    for _, reading in read_along(tail, nothing, point, [], alphas):
        shares = np.exp(log_softmax(reading.logits))
        best = shares.argmax(axis=1)
        probable.append(np.column_stack([best, shares[np.arange(len(best)), best], shares[:, first]]))
    best, probability, kept = np.concatenate(probable).T
    names = [tail.output_name(int(output)) for output in best]
    return pd.DataFrame(
        {
            "alpha": alphas,
            "output": best.astype(np.int64),
            "prediction": names,
            "probability": probability,
            "kept": kept,
        }
    )


def _with_changes(measured: pd.DataFrame, classes: pd.DataFrame) -> pd.DataFrame:
    """The α nearest to 1, on either side, at which the prediction differs from that at 1."""
    found = []
    for _, rows in classes.groupby(["kind", "example"], sort=False):
        at_one = rows.loc[rows["alpha"] == 1]
        other = rows.loc[rows["output"] != at_one["output"].iloc[0], "alpha"]
        found.append((other[other < 1].max(), other[other > 1].min(), at_one["prediction"].iloc[0]))
    below, above, prediction = zip(*found, strict=True)
    columns = [c for c in measured.columns if c not in ("method", "points", "growth", "converged", "switches")]
    extended = measured[columns].assign(changes_below=below, changes_above=above, prediction=prediction)
    return extended.join(measured[["method", "points", "growth", "converged"]])


# --- statistics ------------------------------------------------------------------------------------------------


def _profiles(
    measured: pd.DataFrame,
    per_alpha: Float64[np.ndarray, "paths steps"],
    edges: Float64[np.ndarray, " edges"],
    n_gates: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    rows = []
    norms = measured["norm"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.where(norms[:, None] > 0, per_alpha * n_gates / norms[:, None], np.nan)
    for kind in dict.fromkeys(measured["kind"]):
        here = (measured["kind"] == kind).to_numpy()
        inputs = measured["input"].to_numpy(np.int64)[here]
        for step in range(len(edges) - 1):
            rows.append(
                {
                    "kind": kind,
                    "step": step,
                    "alpha_low": edges[step],
                    "alpha_high": edges[step + 1],
                    **mean_interval(density[here, step], rng, units=inputs).columns("density"),
                    **mean_interval(per_alpha[here, step], rng, units=inputs).columns("share"),
                    "n": int(here.sum()),
                }
            )
    return pd.DataFrame(rows)


def _kept(measured: pd.DataFrame, classes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The mean probability of the class at α = 1, along α."""
    inputs = measured.drop_duplicates("example").set_index("example")["input"]
    return pd.DataFrame(
        [
            {
                "kind": kind,
                "alpha": alpha,
                "n": len(rows),
                **mean_interval(
                    rows["kept"].to_numpy(), rng, units=inputs.loc[rows["example"]].to_numpy(np.int64)
                ).columns("kept"),
            }
            for (kind, alpha), rows in classes.groupby(["kind", "alpha"], sort=False)
        ]
    )


def _summary(
    measured: pd.DataFrame,
    per_alpha: Float64[np.ndarray, "paths steps"],
    edges: Float64[np.ndarray, " edges"],
    rng: np.random.Generator,
) -> pd.DataFrame:
    rows = []
    for kind in dict.fromkeys(measured["kind"]):
        here = measured[measured["kind"] == kind]
        paths = per_alpha[here.index.to_numpy()]
        inputs = here["input"].to_numpy(np.int64)
        below, above, peaks = (here[name].dropna() for name in ("changes_below", "changes_above", "peak"))
        n_inputs = len(np.unique(inputs))
        rows.append(
            {
                "kind": kind,
                "n": len(here),
                **_peak(paths, edges, inputs, rng).columns("peak"),
                **_peak_height(paths, edges, inputs, rng).columns("peak_height"),
                **share_interval(
                    int((peaks < 1).sum()), len(peaks), independent=here.loc[peaks.index, "input"].nunique()
                ).columns("peak_inside"),
                **share_interval(len(below), len(here), independent=n_inputs).columns("below"),
                **share_interval(len(above), len(here), independent=n_inputs).columns("above"),
                **mean_interval(here["changes_below"].to_numpy(), rng, units=inputs).columns("change_below"),
                **mean_interval(here["changes_above"].to_numpy(), rng, units=inputs).columns("change_above"),
            }
        )
    return pd.DataFrame(rows)


def _peak(
    paths: Float64[np.ndarray, "paths steps"],
    edges: Float64[np.ndarray, " edges"],
    inputs: Int64[np.ndarray, " paths"],
    rng: np.random.Generator,
) -> Interval:
    """Where the mean profile is highest: α in the middle of that step; NaN where nothing is crossed."""
    middle = (edges[1:] + edges[:-1]) / 2

    def peak(weights: Float64[np.ndarray, "resamples paths"]) -> Float64[np.ndarray, " resamples"]:
        mean = weights @ paths
        return np.where(mean.any(axis=1), middle[mean.argmax(axis=1)], np.nan)

    return bootstrap(len(paths), peak, rng, units=inputs)


def _peak_height(
    paths: Float64[np.ndarray, "paths steps"],
    edges: Float64[np.ndarray, " edges"],
    inputs: Int64[np.ndarray, " paths"],
    rng: np.random.Generator,
) -> Interval:
    """How many times as dense the densest step of the mean profile is as the one that ends at, or holds, α = 1."""
    at_one = int(np.searchsorted(edges, 1.0)) - 1

    def height(weights: Float64[np.ndarray, "resamples paths"]) -> Float64[np.ndarray, " resamples"]:
        mean = weights @ paths
        with np.errstate(divide="ignore", invalid="ignore"):
            return mean.max(axis=1) / mean[:, max(at_one, 0)]

    return bootstrap(len(paths), height, rng, units=inputs)


def _notes(live: Live, measured: pd.DataFrame, tolerance: float, controls: Mapping[str, Network] | None) -> list[str]:
    notes = path_notes(live.tail(int(measured["example"].iloc[0])), measured, 0, tolerance)
    notes.append(
        "Gaussian direction: a vector of the same norm with independent normal entries, half of them negative, as "
        "activations are not"
    )
    if not controls:
        notes.append("no untrained control stands beside it; hand in controls")
    elif INPUT_KINDS[live.owner.kind].in_sequence:
        notes.append(
            "controls: the same architecture untrained, with its own activations of the same tokens; without batch "
            "norm the calibrated and the raw one are the same network"
        )
    else:
        notes.append(
            "controls: the same architecture untrained, with its own activations of the same inputs. Calibrated: "
            "batch-norm statistics from a pass over the data; raw: default statistics and no offsets, so that all "
            "boundaries pass through the origin and scaling crosses none but by rounding"
        )
    return notes


# --- what it decides -------------------------------------------------------------------------------------------

LEAST_PEAK = 1.1
"""How many times as dense as just below α = 1 it is at a peak at least. The densest of many steps is chosen, which by
itself gives up to 1.02 (Gaussian directions of docs/FINDINGS.md); the lowest peak there is 1.56."""

PEAK_RULE = (
    "There is a peak inside where density rises from the origin and falls again before α = 1: the interval of the "
    "densest α (of the mean profile) lies above the first step and below 1, and that of the peak's height (density "
    f"there over density just below α = 1) lies above {LEAST_PEAK} (the densest of many steps lies a little above "
    f"1 by itself). There is none where the interval of the height lies below {LEAST_PEAK}, that of the densest α "
    "above 1 or within the first step, from which density only falls, or where no boundary is crossed. Supported: "
    "the trained network has one. Not supported: it has none. Else undecided."
)


def peak_inside(result: Result) -> Verdict:
    """`PEAK_RULE`."""
    rows = _by_kind(result)
    row = rows["activation"]
    return Verdict(_peak_word(row, _first_step(result)), _peak_words(row), _peak_numbers(rows))


UNTRAINED_PEAK_RULE = (
    "A network has a peak inside, or has none, as above. Supported: the trained network has one and all untrained "
    "controls have none. Not supported: the trained network has one, and an untrained control too. Else undecided."
)


def no_peak_untrained(result: Result) -> Verdict:
    """`UNTRAINED_PEAK_RULE`."""
    rows = _by_kind(result)
    controls = {kind: row for kind, row in rows.items() if kind.startswith("random")}
    first = _first_step(result)
    words = {_peak_word(row, first) for row in controls.values()}
    word: Word = "undecided"
    if _has_peak(rows["activation"], first) and words:
        word = "not supported" if "supported" in words else "supported" if words == {"not supported"} else "undecided"
    because = "; ".join(f"{kind}: {_peak_words(row)}" for kind, row in controls.items()) or "no control was run"
    return Verdict(word, because, _peak_numbers(rows))


CHANGE_RULE = (
    "For every example whose class changes on the way from α = 1, down or up: the mean density in the step in which "
    "it changes, over the mean density over all α. Supported: the interval of the mean of this ratio lies above 1 on "
    "both sides. Not supported: below 1 on both. Else undecided."
)


def class_changes_where_dense(result: Result) -> Verdict:
    """`CHANGE_RULE`: the nearest change below α = 1 and the nearest above.

    Classes are known at the ends of steps. What is predicted at the end a, and no more at the next end towards α = 1,
    changes between the two: in the step that begins at a where a < 1, in the one that ends at a where a > 1.
    """
    table, examples = result.table, result.tables["examples"]
    profile = table[table["kind"] == "activation"]
    own = examples[examples["kind"] == "activation"]
    low, high, share = (profile[name].to_numpy(np.float64) for name in ("alpha_low", "alpha_high", "share"))
    rows: list[Row] = []
    votes: list[int] = []
    for words, column in (("below", "changes_below"), ("above", "changes_above")):
        changing = own[own[column].notna()]
        alphas = changing[column].to_numpy(np.float64)
        if words == "below":
            place = np.searchsorted(low, alphas, side="right") - 1
        else:
            place = np.searchsorted(high, alphas, side="left")
        place = np.clip(place, 0, len(high) - 1)
        found = mean_interval(
            share[place] / np.average(share, weights=high - low),
            np.random.default_rng(0),
            units=changing["input"].to_numpy(np.int64),
        )
        votes.append(vote_of(found.low, found.high, 1.0))
        rows.append(
            {
                "what": f"density where the class changes {words} α = 1, over the mean",
                "value": found.value,
                "low": found.low,
                "high": found.high,
                "n": found.n,
            }
        )
    word = word_for(votes[0]) if votes[0] == votes[1] else "undecided"
    because = "; ".join(f"{row['what']}: {row['value']:.3g} (n = {row['n']})" for row in rows if row["n"])
    return Verdict(word, because or "no class changed", pd.DataFrame(rows))


GAUSSIAN_RULE = "As for the peak of the activations: the Gaussian directions of the trained network decide."


def peak_for_noise(result: Result) -> Verdict:
    """`GAUSSIAN_RULE`."""
    rows = _by_kind(result)
    row = rows["gaussian"]
    return Verdict(_peak_word(row, _first_step(result)), _peak_words(row), _peak_numbers(rows))


def _by_kind(result: Result) -> dict[str, Row]:
    return {row["kind"]: row for row in result.tables["summary"].to_dict("records")}


def _first_step(result: Result) -> float:
    """The end of the first step of the profile: a densest α below it has no lower density before it."""
    return float(result.table["alpha_high"].min())


def _has_peak(row: Row, first: float) -> bool:
    return bool(row["peak_low"] > first and row["peak_high"] < 1 and row["peak_height_low"] > LEAST_PEAK)


def _peak_word(row: Row, first: float) -> Word:
    if _has_peak(row, first):
        return "supported"
    uncrossed = np.isnan(row["peak"]) and row["n"] >= least_units(CONFIDENCE)
    none = uncrossed or row["peak_height_high"] < LEAST_PEAK or row["peak_low"] > 1 or row["peak_high"] < first
    return "not supported" if none else "undecided"


def _peak_words(row: Row) -> str:
    if np.isnan(row["peak"]):
        return "no boundary is crossed"
    return f"densest at α = {row['peak']:.3g}, {row['peak_height']:.3g} times the density just below α = 1"


def _peak_numbers(rows: dict[str, Row]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            number(f"{kind}: {words}", row, name, row["n"])
            for kind, row in rows.items()
            for name, words in (("peak", "densest α"), ("peak_height", "density there over that just below α = 1"))
        ]
    )


def _asking(atlas: Atlas, network: NetworkRecord, _: Before) -> dict[str, Any]:
    alphas = np.round(np.arange(0, 2.51, 0.1), 2).tolist()
    return {"span": span_at(atlas, network, SCALED), "examples": 6, "tolerance": 0.05, "alphas": alphas}


EXPERIMENT = Experiment(
    name="scale",
    version=2,
    section=5,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    live=True,
    controls=True,
    quick={"examples": 3, "alphas": [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0], "tolerance": 0.2},
    claims=(
        Claim(
            "peak",
            Part.PREDICTION_3,
            1,
            "Boundaries lie densest between the origin and the activation, and less densely at either.",
            asking=_asking,
            judge=peak_inside,
            rule=PEAK_RULE,
        ),
        Claim(
            "change",
            Part.PREDICTION_3,
            2,
            "The predicted class changes where boundaries are dense.",
            asking=_asking,
            judge=class_changes_where_dense,
            rule=CHANGE_RULE,
        ),
        Claim(
            "untrained",
            Part.SCALING,
            1,
            "The peak between origin and activation is absent in untrained networks.",
            asking=_asking,
            judge=no_peak_untrained,
            rule=UNTRAINED_PEAK_RULE,
        ),
        Claim(
            "noise",
            Part.SCALING,
            2,
            "The peak is there for directions of Gaussian noise too.",
            asking=_asking,
            judge=peak_for_noise,
            rule=GAUSSIAN_RULE,
        ),
    ),
)

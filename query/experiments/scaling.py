"""Polytope density and class along an activation that is scaled (SCIENCE 5; post: Prediction 3 and appendix B)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float32, Float64, Int64

from atlas import Atlas, Network
from atlas.checks import whole
from atlas.errors import UsageError
from atlas.tails import Tail

from ..progress import Progress, part, tell
from ..statistics import Interval, bootstrap, mean_interval, share_interval
from .crossings import Told, read_along
from .figures import finish, legend_above, style
from .live import Live, inputs_of_examples, place_of
from .maps import log_softmax
from .paths import add_band, path_notes, profile_of
from .result import Result
from .targets import checked_seed, checked_tolerance, increasing

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


def scale(
    atlas: Atlas,
    reader: Network,
    *,
    span: str,
    example: int | None = None,
    examples: int = 30,
    alphas: Sequence[float] | None = None,
    tolerance: float = 0.01,
    seed: int = 0,
    controls: Mapping[str, Network] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Density of boundaries and predicted class as an activation is scaled, trained and untrained.

    ``span``: AFTER->TO. The activation of AFTER is scaled; the boundaries are those of the gates after it.
    ``example``: this one alone; else some are drawn. ``examples``: how many are drawn at random. ``alphas``:
    increasing factors, from 0 or above; by default 0 to 2.5 in steps of 0.05. ``tolerance``: steps are halved until
    the crossings of a path grow by no more than this share. ``seed``: for drawing examples, the Gaussian directions
    and the intervals.

        x(α) = α·x,    density_i = crossings in step i / (α_{i+1} − α_i)‖x‖₂        (SCIENCE 5)

    Baselines: a Gaussian vector of the same norm for each example (its entries may be negative, which no activation
    of a ReLU site is), and ``controls``, untrained networks with their own activations of the same inputs, from the
    atlas where it stores them. α = 0 is replaced by 2⁻²⁰, its limit from above.

    Table: kind, step, alpha_low, alpha_high, density, share (gates crossed, as a share of all, per unit of α: free of
    the scale of the network), each with the ends of its interval, n. Table ``examples``: kind, example, input, norm,
    crossings, peak (α in the middle of the densest step; the first of equals; NaN without crossings), changes_below
    and changes_above (the α nearest to 1 on each side at which another class is predicted than at α = 1; NaN where
    none is), prediction (at 1), method, points, growth, converged. Table ``classes``: kind, example, alpha,
    prediction, probability, kept (probability of what is predicted at α = 1). Table ``kept``: kind, alpha, the mean
    of that over examples with its interval, n. Table ``summary``: kind, n, and with intervals: peak (of the mean
    share), peak_height (mean share there / mean share in the step below α = 1), peak_inside (share of examples with
    their peak below 1), below and above (share of examples whose class changes on that side), change_below and
    change_above (mean α of it, where it does). Intervals: bootstrap over inputs, since tokens of one text depend on
    each other; Wilson's for shares.

    Raises `UsageError` for alphas that do not increase, `UnknownName`; `NotStored` for activations that can't be had,
    those of controls before anything is measured.
    """
    edges, tolerance = _alphas(alphas), checked_tolerance(tolerance)
    live = Live(atlas, reader, place_of(reader, span=span))
    ids = live.asked(example, whole("examples", examples), checked_seed(seed))
    beside = {kind: live.beside(control) for kind, control in (controls or {}).items()}
    for control in beside.values():
        control.check_readable(ids)
    sources = {"activation": live, "gaussian": live, **beside}
    rng = np.random.default_rng([seed, 1])
    rows, shares, classes = [], [], []
    for done, (kind, source, number) in enumerate(work := [(k, s, int(i)) for k, s in sources.items() for i in ids]):
        tail, point = source.tail(number), source.activations([number])[0]
        if kind == "gaussian":
            point = _gaussian_like(point, rng)
        row, per_step = _measure(tail, point, source, edges, tolerance, part(progress, done, len(work)))
        rows.append({"kind": kind, "example": number, **row})
        shares.append(per_step / (np.diff(edges) * source.place.n_gates))
        classes.append(_classes(tail, point, edges).assign(kind=kind, example=number))
    tell(progress, len(work), len(work))
    table = pd.concat(classes, ignore_index=True)
    measured = _with_changes(pd.DataFrame(rows), table)
    measured.insert(2, "input", inputs_of_examples(atlas, measured["example"].to_numpy()))
    parameters = {
        "span": live.place.name,
        "example": example,
        "examples": len(ids),
        "alphas": edges.tolist(),
        "tolerance": tolerance,
        "seed": seed,
        "n_gates": live.place.n_gates,
        "controls": sorted(controls or {}),
    }
    per_alpha = np.array(shares)
    tables = {
        "table": _profiles(measured, per_alpha, edges, live.place.n_gates, rng),
        "examples": measured,
        "classes": table[["kind", "example", "alpha", "prediction", "probability", "kept"]],
        "summary": _summary(measured, per_alpha, edges, rng),
        "kept": _kept(measured, table, rng),
    }
    return Result("scale", live.owner.name, parameters, tables, tuple(_notes(live, measured, tolerance, controls)))


def draw_scale(result: Result) -> go.Figure:
    """Boundaries crossed, and the probability of the class, along α; a line a kind."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.07, row_heights=[0.6, 0.4])
    table, classes = result.table, result.tables["classes"]
    # Results that were stored before have no interval of it.
    probable = result.tables.get("kept", classes.groupby(["kind", "alpha"], as_index=False)["kept"].mean())
    for place, kind in enumerate(dict.fromkeys(table["kind"])):
        look, name = style(place), KINDS.get(kind, kind)
        rows = table[table["kind"] == kind]
        middle = (rows["alpha_low"] + rows["alpha_high"]) / 2
        shown = rows.assign(**{c: 100 * rows[c] for c in ("share", "share_low", "share_high")})
        add_band(figure, middle, shown, "share", look)
        label = f"{name}, n = {rows['n'].iloc[0]}"
        figure.add_trace(
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
        if "kept_low" in kept:
            add_band(figure, kept["alpha"], kept, "kept", look, row=2, col=1)
        figure.add_trace(
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
        figure.add_vline(x=1, line={"color": "#8a8a8a", "width": 1, "dash": "dot"}, row=row, col=1)
    figure.update_yaxes(title="Gates crossed, % per unit of α", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title="Mean probability of<br>the class at α = 1", range=[0, 1.02], row=2, col=1)
    figure.update_xaxes(title="α along x(α) = α·x", row=2, col=1)
    legend_above(figure)
    p = result.parameters
    return finish(
        figure,
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


def _gaussian_like(point: Float32[np.ndarray, " units"], rng: np.random.Generator) -> Float32[np.ndarray, " units"]:
    """A Gaussian vector of the same norm: a direction drawn uniformly."""
    direction = rng.standard_normal(len(point))
    return (direction * (np.linalg.norm(point) / np.linalg.norm(direction))).astype(np.float32)


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
    elif live.owner.kind == "text":
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

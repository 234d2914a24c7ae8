"""Boundaries that adversarial perturbations cross, against random ones of the same norm (SCIENCE 12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float32, Float64, Int64

from atlas import Atlas, Network
from atlas.checks import whole
from atlas.errors import UsageError
from atlas.network import Site
from atlas.store.catalog import NetworkRecord
from atlas.tails import Tail

from ..examples.live import Live, inputs_of_examples, place_of
from ..progress import Progress, tell
from ..statistics import bootstrap, mean_interval, paired_p, share_interval
from .claims import SCALED, Before, Claim, Part, Verdict, everywhere, number, span_at, vote_of
from .figures import finish, legend_above, points, style
from .maps import logits_at
from .options import CommonOptions
from .paths import path_notes, profile_of
from .record import Experiment
from .result import Result
from .schema import Column, table_of, with_interval
from .targets import checked_tolerance, increasing

if TYPE_CHECKING:
    from torch import Tensor

EPSILONS = (0.01, 0.03, 0.1, 0.3)
"""Norms of perturbations unless asked otherwise, as shares of the activation's own."""

STRIDE = 2.5
"""PGD's steps are this many times radius / steps long, so that it can reach every point of the ball and turn back
(Madry et al., arXiv 1706.06083, use 2.5 · ε / steps)."""

EDGES = np.linspace(0, 1, 9)
"""Steps in which a perturbation's segment is first sampled; they are halved until no more crossings are found."""

KINDS = {"fgsm": "FGSM", "pgd": "PGD", "random": "random"}


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    span: str
    """AFTER->TO. The activation of AFTER is perturbed; the boundaries are those of the gates after it."""

    example: int | None = None
    """This one alone; else some are drawn."""

    examples: int = 30
    """How many are drawn at random."""

    epsilons: Sequence[float] = EPSILONS
    """Increasing norms of the perturbation, as shares of the activation's own."""

    steps: int = 10
    """Of PGD."""

    n_random: int = 5
    """Random directions of each norm for each example, averaged."""

    tolerance: float = 0.01
    """Sampling of a segment is refined until the crossings grow by no more than this share."""


KIND = Column("kind", str, "fgsm, pgd or random")
EPSILON = Column("epsilon", float, "norm of the perturbation, as a share of the activation's own")

TABLES = {
    "table": table_of(
        "a kind and a norm; intervals: bootstrap over inputs, since tokens of one text depend on each other",
        KIND,
        EPSILON,
        *with_interval("density", "mean over examples", "boundaries a unit of distance"),
        *with_interval("changed", "share of examples whose prediction changes; of an attack Wilson's interval"),
        *with_interval("loss", "mean increase of −log p of what is predicted undisturbed", "nats"),
        *with_interval("ratio", "mean density over that of random directions"),
        *with_interval("difference", "mean of the paired differences in density from random directions"),
        Column("p", float, "of the difference, by sign flips; NaN for random"),
        Column("n", int, "examples"),
        Column("inputs", int, "inputs that they are of"),
    ),
    "examples": table_of(
        "an example, a kind and a norm; of random the means over the directions",
        Column("example", int, "id of the example"),
        Column("input", int, "id of its input"),
        KIND,
        EPSILON,
        Column("norm", float, "norm of the perturbation, in units of activation"),
        Column("crossings", float, "boundaries crossed"),
        Column("density", float, "crossings over norm", "boundaries a unit of distance"),
        Column("changed", float, "whether the prediction changes"),
        Column("loss", float, "increase of −log p", "nats"),
    ),
}


def measure(atlas: Atlas, options: Options, *, reader: Network, progress: Progress | None = None) -> Result:
    """Count boundaries crossed per unit of distance by FGSM and PGD perturbations, against random directions.

    With x the activation, y what is predicted there, L = −log p(y) and r = ε·‖x‖₂:

        FGSM: δ = r·sign(∇L)/‖sign(∇L)‖₂                                        (Goodfellow et al., arXiv 1412.6572)
        PGD:  from δ = 0, again and again δ ← P(δ + η·∇L/‖∇L‖₂), P onto ‖δ‖₂ ≤ r      (Madry et al., arXiv 1706.06083)
        random: δ = r·v/‖v‖₂, v ~ N(0, I)
        density = crossings of the segment from x to x + δ / ‖δ‖₂                                        (SCIENCE 12)

    An example whose gradient is 0 is dropped and counted.

    Raises `UsageError` for epsilons that are not above 0 and increasing, where no gradient is left, and for other
    impossible options; `UnknownName`, `NotStored`.
    """
    radii, tolerance = increasing("epsilons", options.epsilons), checked_tolerance(options.tolerance)
    for name, value in (("steps", options.steps), ("n_random", options.n_random), ("examples", options.examples)):
        whole(name, value)
    live = Live(atlas, reader, place_of(reader, span=options.span))
    ids = live.asked(options.example, options.examples, options.seed)
    rng = np.random.default_rng([options.seed, 12])
    rows, paths, dropped = [], [], 0
    for done, chosen in enumerate(ids):
        tell(progress, done, len(ids))
        attack = Attack(live.tail(int(chosen)), live.activations([int(chosen)])[0], live.place.sites, tolerance)
        if not attack.gradient.any():
            dropped += 1
            continue
        for radius in radii:
            rows += [
                {"example": int(chosen), **row} for row in attack.rows(radius, options.steps, options.n_random, rng)
            ]
        paths += attack.paths
    tell(progress, len(ids), len(ids))
    if not rows:
        raise UsageError(
            f"the gradient at all {len(ids)} examples is 0 at {live.place.site.name}, so it points nowhere"
        )
    measured = pd.DataFrame(rows)
    measured.insert(1, "input", inputs_of_examples(atlas, measured["example"].to_numpy()))
    table = _table(measured, np.random.default_rng([options.seed, 13]))
    parameters = {
        "span": live.place.name,
        "examples": len(ids),
        "epsilons": radii,
        "n_gates": live.place.n_gates,
    }
    notes = _notes(live.tail(int(ids[0])), pd.DataFrame(paths), tolerance, dropped)
    return Result("adversarial", live.owner.name, parameters, {"table": table, "examples": measured}, notes)


def figure(result: Result) -> go.Figure:
    """Crossings per unit of distance, and how often the prediction changes, by the norm of the perturbation."""
    from plotly.subplots import make_subplots

    drawing = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08, row_heights=[0.6, 0.4])
    table, p = result.table, result.parameters
    for place, (kind, name) in enumerate(KINDS.items()):
        rows, look = table[table["kind"] == kind], style(6 if kind == "random" else place)
        label = f"{name}, n = {rows['n'].iloc[0]}"
        x = (rows["epsilon"] * (1 + 0.02 * (place - 1))).tolist()
        drawing.add_trace(points(label, x, rows, "density", look, lines=True), row=1, col=1)
        shown = rows.assign(**{c: 100 * rows[c] for c in ("changed", "changed_low", "changed_high")})
        drawing.add_trace(points(name, x, shown, "changed", look, lines=True, showlegend=False), row=2, col=1)
    drawing.update_xaxes(type="log", tickvals=p["epsilons"], ticktext=[f"{epsilon:g}" for epsilon in p["epsilons"]])
    drawing.update_xaxes(title="Norm of the perturbation, as a share of the activation's", row=2, col=1)
    drawing.update_yaxes(title="Boundaries crossed per unit of distance", rangemode="tozero", row=1, col=1)
    drawing.update_yaxes(title="Prediction changed,<br>% of examples", range=[0, 100], row=2, col=1)
    drawing.update_traces(cliponaxis=False)
    legend_above(drawing)
    return finish(
        drawing,
        f"Boundaries that adversarial perturbations cross, {p['span']} of {result.network}",
        f"{p['n_gates']:,} gates; n in examples of {table['inputs'].max()} inputs, {p['n_random']} random directions "
        "each; intervals: 95 %",
        result.notes,
        height=560,
    )


# --- perturbing ----------------------------------------------------------------------------------------------------


class Attack:
    """Perturbations of one activation, and what they cross. ``paths``: how each segment was sampled."""

    def __init__(self, tail: Tail, point: Float32[np.ndarray, " units"], sites: Sequence[Site], tolerance: float):
        self._tail, self._sites, self._tolerance = tail, sites, tolerance
        self.point = point.astype(np.float64)
        self.norm = float(np.linalg.norm(self.point))
        self._label = int(logits_at(tail, point[None])[0].argmax())
        self._loss = self._loss_at(self.point)
        self.gradient = self._gradient_at(self.point) if self.norm else np.zeros(len(point))
        self.paths: list[dict[str, Any]] = []

    def rows(self, epsilon: float, steps: int, n_random: int, rng: np.random.Generator) -> list[dict[str, Any]]:
        """What each kind of perturbation of norm ``epsilon``·‖x‖ does; random ones averaged."""
        radius = epsilon * self.norm
        random = [_of_norm(rng.standard_normal(len(self.point)), radius) for _ in range(n_random)]
        found = {"fgsm": [self.fgsm(radius)], "pgd": [self.pgd(radius, steps)], "random": random}
        return [
            {"kind": kind, "epsilon": epsilon, **pd.DataFrame([self._effect(delta) for delta in deltas]).mean()}
            for kind, deltas in found.items()
        ]

    def fgsm(self, radius: float) -> Float64[np.ndarray, " units"]:
        """r·sign(∇L)/‖sign(∇L)‖₂."""
        return _of_norm(np.sign(self.gradient), radius)

    def pgd(self, radius: float, steps: int) -> Float64[np.ndarray, " units"]:
        """The last of some steps up the loss, each projected onto the ball; a step without gradient ends it."""
        delta = np.zeros_like(self.point)
        for _ in range(steps):
            gradient = self._gradient_at(self.point + delta)
            if not gradient.any():
                break
            delta = delta + _of_norm(gradient, STRIDE * radius / steps)
            length = float(np.linalg.norm(delta))
            delta = delta if length <= radius else delta * (radius / length)
        return delta

    def _effect(self, delta: Float64[np.ndarray, " units"]) -> dict[str, float]:
        there = (self.point + delta).astype(np.float32)
        profile = profile_of(
            self._tail,
            self.point.astype(np.float32),
            there,
            self._sites,
            EDGES,
            exact=False,
            tolerance=self._tolerance,
        )
        self.paths.append(profile.how)
        norm, crossings = float(np.linalg.norm(delta)), int(profile.per_step.sum())
        logits = logits_at(self._tail, there[None])[0]
        return {
            "norm": norm,
            "crossings": crossings,
            "density": crossings / norm if norm else np.nan,
            "changed": float(int(logits.argmax()) != self._label),
            "loss": self._loss_at(self.point + delta) - self._loss,
        }

    def _loss_at(self, point: Float64[np.ndarray, " units"]) -> float:
        import torch

        with torch.no_grad():
            return float(self._losses(torch.from_numpy(point[None].astype(np.float32))))

    def _gradient_at(self, point: Float64[np.ndarray, " units"]) -> Float64[np.ndarray, " units"]:
        import torch

        with torch.enable_grad():
            there = torch.from_numpy(point[None].astype(np.float32)).to(self._tail.device, self._tail.dtype)
            [gradient] = torch.autograd.grad(self._losses(there.requires_grad_()), there)
        found: Float64[np.ndarray, " units"] = gradient[0].double().cpu().numpy()
        return found

    def _losses(self, points: Tensor) -> Tensor:
        # In double: 1 − p(y) of a confident network would be 0 in single precision, and its gradient with it.
        return -self._tail.logits(points).double().log_softmax(dim=1)[:, self._label].sum()


def _of_norm(direction: Float64[np.ndarray, " units"], radius: float) -> Float64[np.ndarray, " units"]:
    """The direction at that length. Scaled by its largest entry first, so that no square underflows."""
    scaled = direction / np.abs(direction).max()
    return scaled * (radius / float(np.linalg.norm(scaled)))


# --- statistics ----------------------------------------------------------------------------------------------------


def _table(measured: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for epsilon in dict.fromkeys(measured["epsilon"]):
        here = measured[measured["epsilon"] == epsilon]
        wide = here.pivot(index=["example", "input"], columns="kind", values="density")
        random, inputs = wide["random"].to_numpy(), wide.index.get_level_values("input").to_numpy()
        n_inputs = len(np.unique(inputs))
        for kind in KINDS:
            group, density = here[here["kind"] == kind].sort_values("example"), wide[kind].to_numpy()
            changed = group["changed"].to_numpy(np.float64)
            of_changed = (
                mean_interval(changed, rng, units=inputs)
                if kind == "random"  # of directions, no yes or no
                else share_interval(int(changed.sum()), len(changed), independent=n_inputs)
            )
            rows.append(
                {
                    "kind": kind,
                    "epsilon": epsilon,
                    **mean_interval(density, rng, units=inputs).columns("density"),
                    **of_changed.columns("changed"),
                    **mean_interval(group["loss"].to_numpy(), rng, units=inputs).columns("loss"),
                    **_ratio(density, random, inputs, rng),
                    **mean_interval(density - random, rng, units=inputs).columns("difference"),
                    "p": np.nan if kind == "random" else paired_p(density - random, rng, units=inputs),
                    "n": len(density),
                    "inputs": n_inputs,
                }
            )
    return pd.DataFrame(rows)


def _ratio(
    density: Float64[np.ndarray, " examples"],
    random: Float64[np.ndarray, " examples"],
    inputs: Int64[np.ndarray, " examples"],
    rng: np.random.Generator,
) -> dict[str, float]:
    def ratio(times: Float64[np.ndarray, "resamples examples"]) -> Float64[np.ndarray, " resamples"]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (times @ density) / (times @ random)

    return bootstrap(len(density), ratio, rng, units=inputs).columns("ratio")


def _notes(tail: Tail, paths: pd.DataFrame, tolerance: float, dropped: int) -> tuple[str, ...]:
    notes = path_notes(tail, paths, 0, tolerance)
    notes.append(
        "the activation is perturbed, not the input: no input need give the perturbed activation, whose entries may "
        "also be negative where no activation of the site is. Loss: −log p of what the network predicts undisturbed. "
        "Both are approximate attacks: FGSM takes the gradient at one point, PGD a few steps"
    )
    if dropped:
        notes.append(f"{dropped} examples have gradient 0 at the site and were dropped")
    return tuple(notes)


# --- what it decides -----------------------------------------------------------------------------------------------

CROSSING_RULE = (
    "An attack and a norm are for it where the interval of the ratio of crossings, attack over random direction, "
    "lies above 1, against it where it lies below. Supported: all are for. Not supported: more than half against."
)


def attacks_cross_more(result: Result) -> Verdict:
    """`CROSSING_RULE`."""
    rows = [row for row in result.table.to_dict("records") if row["kind"] != "random"]
    votes = [vote_of(row["ratio_low"], row["ratio_high"], 1.0) for row in rows]
    numbers = [
        number(f"{row['kind'].upper()}, {row['epsilon']:g} of the norm: {words}", row, name, row["n"])
        for row in rows
        for name, words in (("ratio", "crossings, over random"), ("changed", "share of predictions changed"))
    ]
    because = (
        f"attacks cross more than random directions at {sum(v > 0 for v in votes)} of {len(votes)} kinds and "
        f"norms, fewer at {sum(v < 0 for v in votes)}"
    )
    return Verdict(everywhere(votes), because, pd.DataFrame(numbers))


def _asking(atlas: Atlas, network: NetworkRecord, _: Before) -> dict[str, Any]:
    few = {"examples": 8, "epsilons": [0.1, 0.3], "steps": 5, "n_random": 2, "tolerance": 0.05}
    return {"span": span_at(atlas, network, SCALED), **few}


EXPERIMENT = Experiment(
    name="adversarial",
    version=2,
    section=12,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    live=True,
    quick={"examples": 3, "epsilons": [0.3], "steps": 2, "n_random": 1, "tolerance": 0.2},
    claims=(
        Claim(
            "adversarial",
            Part.DISCUSSION,
            3,
            "Adversarial perturbations cross many polytope boundaries.",
            asking=_asking,
            judge=attacks_cross_more,
            rule=CROSSING_RULE,
        ),
    ),
)

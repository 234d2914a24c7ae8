"""What a cluster's most distinctive gates do when they are set (SCIENCE 11; post: comments)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Bool, Float32, Float64, Int8, Int64

from atlas import Atlas, Network, SplineCodes, hamming
from atlas.checks import whole
from atlas.errors import NotStored, UsageError
from atlas.network import FULL_SUFFIX, Site, Span
from atlas.store.catalog import NetworkRecord
from atlas.tails import GateSettings, SettableTail, Tail

from ..clustering.clusterings import clustering_of
from ..clustering.clusters import clusters
from ..clustering.distinctive import RATE, Split, gate_table, split
from ..clustering.labels import remarks
from ..examples.labels import drawn
from ..examples.live import Live, inputs_of_examples, place_of
from ..polytope.crossings import span_codes
from ..progress import Progress, tell
from ..statistics import mean_interval, paired_p
from .claims import SLICED, Before, Claim, Part, Verdict, number, vote_of, word_for
from .figures import cluster_title, finish, legend_above, one_line, style
from .maps import log_softmax
from .options import CommonOptions
from .record import Experiment
from .result import Result
from .schema import Column, table_of, with_interval

MEMBERS = 30
"""Members of the cluster whose outputs are averaged, at most."""

SHOWN_OUTPUTS = 10
SHOWN_GATES = 200
"""Rows of table ``gates`` at most, beyond those that were set."""

MEASURES = {
    "kl": "change of the output, KL(before ‖ after), nats",
    "tv": "change of the output, total variation",
    "changed": "prediction changed",
    "gain": "nearer to the cluster's output, nats",
    "later": "later gates flipped",
    "moved": "change of the preactivations, ‖Δz‖₂",
}


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    site: str
    """Whose gates are set; not the first."""

    cluster: int
    """Number of the cluster."""

    clustering: int | None = None
    """Its id; by default the newest of the site's codes."""

    example: int | None = None
    """This one alone; else some outside the cluster are drawn."""

    examples: int = 20
    """How many are drawn at random."""

    gates: int = 16
    """How many of the most distinctive gates are set as most of the cluster has them."""

    n_random: int = 20
    """Random sets of as many gates, for comparison."""

    epsilon: float = 0.01
    """A gate is set by moving its preactivation to +ε or −ε, just beyond zero, if it lies on the other side."""


GATE_COLUMNS = (
    Column("gate", int, "bit of the code"),
    Column("module", str, "that holds it"),
    Column("inside", float, "share of the cluster in which it is on"),
    Column("outside", float, "share of the other examples in which it is on"),
    Column("log_odds", float, "log of the ratio of the odds to be on, inside over outside"),
    Column("p", float, "of Fisher's exact test, two-sided"),
    Column("q", float, "Benjamini-Hochberg bound of p over all gates of the site"),
    Column("distinctive", bool, f"q at most {RATE:g}"),
    Column("on", bool, "whether the majority of the cluster has it on"),
)

TABLES = {
    "table": table_of(
        "a measure; intervals and p by input, since tokens of one text depend on each other",
        Column("measure", str, ", ".join(f"{name}: {meaning}" for name, meaning in MEASURES.items())),
        *with_interval("distinctive", "mean over examples, the distinctive gates set"),
        *with_interval("random", "mean over random sets, then over examples"),
        *with_interval("difference", "mean of the paired differences"),
        Column("p", float, "of the difference, by sign flips"),
        Column("n", int, "examples"),
    ),
    "examples": table_of(
        "an example",
        Column("example", int, "id of the example"),
        Column("input", int, "id of its input"),
        Column("flipped", int, "gates set that were not so before"),
        Column("before", str, "prediction before"),
        Column("after", str, "prediction after"),
        *(
            Column(f"{of}{name}", float, meaning + (", mean over random sets" if of else ""))
            for name, meaning in MEASURES.items()
            for of in ("", "random_")
        ),
    ),
    "gates": table_of(
        "a gate of the site, the most distinctive first",
        *GATE_COLUMNS,
        Column("set", bool, "whether it was set"),
    ),
    "outputs": table_of(
        "an output of one example",
        Column("output", str, "name of the output"),
        Column("before", float, "its probability before"),
        Column("after", float, "with the distinctive gates set"),
        Column("random", float, "with random ones set, mean over the sets"),
        Column("random_low", float, "lower end of 95 % of the sets"),
        Column("random_high", float, "upper end of 95 % of the sets"),
        Column("cluster", float, "mean over members of the cluster"),
    ),
}


def measure(atlas: Atlas, options: Options, *, reader: Network, progress: Progress | None = None) -> Result:
    """Set a cluster's most distinctive gates in other examples, and see what the network then says.

    A random set flips as many gates as the distinctive set does in that example, drawn from the site's other gates.
    With p the output's probabilities before, p' after, and c the mean output of members of the cluster:

        kl = Σ p log(p/p'),    tv = ½ Σ |p − p'|,    gain = KL(c ‖ p) − KL(c ‖ p')        (SCIENCE 11)

    Examples that have all these gates as wanted are dropped and counted. Raises `UsageError` for the first site, for
    ε not above 0, where no gate is distinctive or none is left to set; `UnknownName`, `NotStored`.
    """
    _check(options.epsilon, options.gates, options.n_random, options.examples)
    live, aim = _place(atlas, reader, options.site)
    target = atlas.catalog.target(site=aim.name, network=live.owner.name)
    groups = split(atlas, target, whole("cluster", options.cluster, least=-1), options.clustering)
    table = gate_table(atlas, target.sites[0], aim.layout, groups)
    table["set"] = table["distinctive"] & (np.arange(len(table)) < options.gates)
    if not table["set"].any():
        raise UsageError(
            f"no gate of {aim.name} is distinctive of cluster {options.cluster} of {groups.clustering.name}: none of "
            f"{len(table)} has a false discovery rate of {RATE:g} or less; choose another cluster or site"
        )
    ids = _examples(live, groups, options.example, options.examples, options.seed)
    members = drawn(groups.ids[groups.inside], MEMBERS, options.seed)
    work = Work(
        live,
        aim,
        table[table["set"]],
        float(options.epsilon),
        options.n_random,
        np.random.default_rng([options.seed, 11]),
    )
    work.cluster = _mean_output(live, members, progress, len(members) + len(ids))
    rows = []
    for done, example in enumerate(ids):
        tell(progress, len(members) + done, len(members) + len(ids))
        rows.append(work.measure(int(example)))
    tell(progress, 1, 1)
    kept = pd.DataFrame([row for row in rows if row is not None])
    if kept.empty:
        raise UsageError(
            f"all {len(ids)} examples have these {int(table['set'].sum())} gates as cluster {options.cluster} "
            "has them; there is nothing to set"
        )
    kept.insert(1, "input", inputs_of_examples(atlas, kept["example"].to_numpy()))
    parameters = {
        "site": aim.name,
        "clustering": groups.clustering.clustering_id,
        "examples": len(ids),
        "gates": int(table["set"].sum()),
        "members": len(members),
        "shown": work.shown,
        "n_gates": aim.n_gates,
    }
    tables = {
        "table": _summary(kept, np.random.default_rng([options.seed, 12])),
        "examples": kept,
        "gates": table[table["set"] | (table.index < SHOWN_GATES)],
        "outputs": work.outputs,
    }
    notes = _notes(live.tail(int(ids[0])), groups, table, len(members), len(rows) - len(kept))
    return Result("intervene", live.owner.name, parameters, tables, notes)


def figure(result: Result) -> go.Figure:
    """One example's output before and after; and for all examples the change against that of random sets."""
    from plotly.subplots import make_subplots

    drawing = make_subplots(rows=1, cols=2, column_widths=[0.55, 0.45], horizontal_spacing=0.14)
    outputs, examples, p = result.tables["outputs"], result.tables["examples"], result.parameters
    names = [one_line(name or "∅", 20) for name in outputs["output"]]
    for place, (column, name) in enumerate(
        (("before", "before"), ("after", "after"), ("random", "random sets"), ("cluster", "mean of the cluster"))
    ):
        look, more = style(place), {}
        if column == "random":
            more = {
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "color": look.colour,
                    "array": outputs["random_high"] - outputs["random"],
                    "arrayminus": outputs["random"] - outputs["random_low"],
                }
            }
        drawing.add_trace(
            go.Scatter(
                x=outputs[column],
                y=[line + 0.2 * (place - 1.5) for line in range(len(outputs))],
                mode="markers",
                marker=look.marker,
                name=name,
                hovertext=[
                    f"{output}<br>{name}: {value:.3g}" for output, value in zip(names, outputs[column], strict=True)
                ],
                hoverinfo="text",
                **more,
            ),
            row=1,
            col=1,
        )
    look = style(4)
    drawing.add_trace(
        go.Scatter(
            x=examples["random_kl"],
            y=examples["kl"],
            mode="markers",
            marker=look.marker,
            name=f"an example, n = {len(examples)}",
            hovertext=[
                f"example {row['example']}<br>{one_line(row['before'])} → {one_line(row['after'])}"
                for row in examples.to_dict("records")
            ],
            hoverinfo="text",
        ),
        row=1,
        col=2,
    )
    most = float(max(examples["kl"].max(), examples["random_kl"].max()))
    drawing.add_trace(
        go.Scatter(
            x=[0, most],
            y=[0, most],
            mode="lines",
            showlegend=False,
            hoverinfo="skip",
            line={"color": "#8a8a8a", "width": 1, "dash": "dot"},
        ),
        row=1,
        col=2,
    )
    # What is probable stays so, most often: on a linear axis the outputs that move would all lie at 0.
    drawing.update_xaxes(
        title=f"Probability, example {p['shown']}", type="log", dtick=1, exponentformat="power", row=1, col=1
    )
    drawing.update_yaxes(
        title="Output",
        tickvals=list(range(len(names))),
        ticktext=names,
        showgrid=False,
        zeroline=False,
        range=[len(names) - 0.5, -0.5],
        row=1,
        col=1,
    )
    for line in range(1, len(names)):
        drawing.add_hline(y=line - 0.5, line={"color": "#e5e5e5", "width": 1}, row=1, col=1)
    drawing.update_xaxes(
        title="Change by random sets, KL, nats", rangemode="tozero", exponentformat="power", row=1, col=2
    )
    drawing.update_yaxes(
        title="Change by distinctive gates, KL, nats", rangemode="tozero", exponentformat="power", row=1, col=2
    )
    drawing.update_traces(cliponaxis=False)
    legend_above(drawing)
    called = cluster_title(p["cluster"], result.names_in("clustering"))
    called = called if called == "noise" else f"cluster {called}"
    return finish(
        drawing,
        f"{p['gates']} distinctive gates of {called} set at {p['site']} of {result.network}",
        f"n = {len(examples)} examples; {p['n_random']} random sets of as many flips each",
        result.notes,
    )


# --- what is asked -------------------------------------------------------------------------------------------------


def _check(epsilon: float, gates: int, n_random: int, examples: int) -> None:
    whole("gates", gates)
    whole("n_random", n_random)
    whole("examples", examples)
    if not 0 < epsilon < np.inf:
        raise UsageError(f"epsilon is {epsilon!r}; expected a preactivation above 0, such as 0.01")


def _place(atlas: Atlas, reader: Network, name: str) -> tuple[Live, Site]:
    """Running on from the site before the one whose gates are set, and that one."""
    aim = place_of(reader, site=name).site
    earlier = sorted(
        (s for s in reader.sites if s.scope == aim.scope and s.ordinal < aim.ordinal), key=lambda s: s.ordinal
    )
    if not earlier:
        later = [s.name for s in reader.sites if s.scope == aim.scope and s.name != aim.name]
        raise UsageError(
            f"{aim.name} is the first site of network {reader.info.name}, and gates are set while the network runs "
            f"on from the site before; choose one of {', '.join(later)}"
        )
    span = Span(earlier[-1].name.removesuffix(FULL_SUFFIX), None, aim.scope)
    return Live(atlas, reader, place_of(reader, span=str(span))), aim


def _examples(
    live: Live, groups: Split, example: int | None, examples: int, seed: int
) -> Int64[np.ndarray, " examples"]:
    if example is not None:
        return live.asked(example, 1, seed)
    outside = np.intersect1d(groups.ids[~groups.inside], live.examples()["example_id"].to_numpy(np.int64))
    if not len(outside):
        raise UsageError(
            f"no example outside cluster {groups.cluster} of {groups.clustering.name} can be run on "
            f"from {live.place.site.name}; name one as example"
        )
    return drawn(outside, examples, seed)


# --- measuring -----------------------------------------------------------------------------------------------------


class Work:
    """Sets the same gates in one example after another. ``outputs`` are of the first in which any had to be set."""

    def __init__(
        self, live: Live, aim: Site, chosen: pd.DataFrame, epsilon: float, n_random: int, rng: np.random.Generator
    ) -> None:
        self._live, self._aim, self._epsilon, self._n_random, self._rng = live, aim, epsilon, n_random, rng
        self._gates = chosen["gate"].to_numpy(np.int64)
        self._on = chosen["on"].to_numpy(bool)
        self._later = tuple(site for site in live.place.sites if site.ordinal > aim.ordinal)
        self.cluster: Float64[np.ndarray, " outputs"] = np.empty(0)
        self.outputs, self.shown = pd.DataFrame(), -1

    def measure(self, example: int) -> dict[str, Any] | None:
        """The example's row; None where all gates are as wanted already."""
        tail = settable(self._live, example)
        point = self._live.activations([example])
        z = self._preactivations(tail, point)
        bits = z > 0
        flips = self._gates[bits[self._gates] != self._on]
        if not len(flips):
            return None
        wanted = self._wanted(bits, flips)
        logits, later = self._run(tail, point, np.concatenate([np.zeros_like(wanted[:1]), wanted]))
        plain, after = log_softmax(logits)[0], log_softmax(logits)[1:]
        if self.shown < 0:
            self.shown, self.outputs = example, self._outputs(tail, plain, after)
        row: dict[str, Any] = {
            "example": example,
            "flipped": len(flips),
            "before": tail.output_name(int(plain.argmax())),
            "after": tail.output_name(int(after[0].argmax())),
        }
        for name, values in self._measures(plain, after, later, z, wanted).items():
            row |= {name: float(values[0]), f"random_{name}": float(values[1:].mean())}
        return row

    def _preactivations(self, tail: Tail, point: Float32[np.ndarray, "1 units"]) -> Float64[np.ndarray, " gates"]:
        import torch

        with torch.no_grad():
            _, seen = tail.preactivations(torch.from_numpy(point), [self._aim])
        z: Float64[np.ndarray, " gates"] = seen[self._aim.name][0].double().cpu().numpy()
        return z

    def _wanted(
        self, bits: Bool[np.ndarray, " gates"], flips: Int64[np.ndarray, " flips"]
    ) -> Int8[np.ndarray, "sets gates"]:
        """First the distinctive set, then random ones, which flip as many of the other gates."""
        others = np.setdiff1d(np.arange(len(bits)), self._gates)
        if len(others) < len(flips):
            raise UsageError(
                f"random sets of {len(flips)} gates are drawn from the others of {self._aim.name}, of "
                f"which there are {len(others)}; set fewer gates"
            )
        wanted = np.zeros((1 + self._n_random, len(bits)), np.int8)
        random = [self._rng.choice(others, len(flips), replace=False) for _ in range(self._n_random)]
        for row, flipped in zip(wanted, [flips, *random], strict=True):
            row[flipped] = np.where(bits[flipped], -1, 1)
        return wanted

    def _run(
        self, tail: SettableTail, point: Float32[np.ndarray, "1 units"], wanted: Int8[np.ndarray, "sets gates"]
    ) -> tuple[Float64[np.ndarray, "sets outputs"], Int64[np.ndarray, " others"]]:
        """Logits of each set, and how many gates of later sites differ from the first set's, for all others."""
        import torch

        read = [
            tail.read_set(
                torch.from_numpy(np.repeat(point, len(some), axis=0)),
                self._later,
                GateSettings(self._aim, some, self._epsilon),
            )
            for some in np.split(wanted, range(tail.batch, len(wanted), tail.batch))
        ]
        logits = np.concatenate([found.logits for found in read]).astype(np.float64)
        if not self._later:
            return logits, np.zeros(len(wanted) - 1, np.int64)
        parts = [span_codes(found, self._later) for found in read]
        codes = SplineCodes(np.concatenate([part.packed for part in parts]), parts[0].parts)
        return logits, hamming(codes[:1], codes[1:]).astype(np.int64)

    def _measures(
        self,
        plain: Float64[np.ndarray, " outputs"],
        after: Float64[np.ndarray, "sets outputs"],
        later: Int64[np.ndarray, " sets"],
        z: Float64[np.ndarray, " gates"],
        wanted: Int8[np.ndarray, "sets gates"],
    ) -> dict[str, Float64[np.ndarray, " sets"]]:
        """Each of `MEASURES` for each set; logarithms of probabilities come in."""
        p, c = np.exp(plain), self.cluster
        moves = [np.linalg.norm(z[row != 0] - self._epsilon * row[row != 0]) for row in wanted]
        return {
            "kl": (p * (plain - after)).sum(axis=1),
            "tv": np.abs(p - np.exp(after)).sum(axis=1) / 2,
            "changed": (after.argmax(axis=1) != plain.argmax()).astype(np.float64),
            "gain": (c * (after - plain)).sum(axis=1),  # KL(c ‖ p) − KL(c ‖ p'): the entropy of c drops out
            "later": later.astype(np.float64),
            "moved": np.array(moves),
        }

    def _outputs(
        self, tail: Tail, plain: Float64[np.ndarray, " outputs"], after: Float64[np.ndarray, "sets outputs"]
    ) -> pd.DataFrame:
        """The outputs most probable before or after."""
        share = np.exp(after)
        most = np.argsort(-np.maximum(np.exp(plain), share[0]), kind="stable")[:SHOWN_OUTPUTS]
        low, high = np.quantile(share[1:][:, most], [0.025, 0.975], axis=0)
        return pd.DataFrame(
            {
                "output": [tail.output_name(int(output)) for output in most],
                "before": np.exp(plain[most]),
                "after": share[0, most],
                "random": share[1:][:, most].mean(axis=0),
                "random_low": low,
                "random_high": high,
                "cluster": self.cluster[most],
            }
        )


def settable(live: Live, example: int) -> SettableTail:
    """The tail of an example; `UsageError` where its gates can't be set."""
    tail = live.tail(example)
    if not isinstance(tail, SettableTail):
        raise UsageError(f"gates of network {live.owner.name} can't be set; a network whose tail has `read_set` can")
    return tail


def _mean_output(
    live: Live, members: Int64[np.ndarray, " members"], progress: Progress | None, steps: int
) -> Float64[np.ndarray, " outputs"]:
    """The mean of the output probabilities of members of the cluster, each run as it is."""
    import torch

    total: Any = 0
    for done, member in enumerate(members):
        tell(progress, done, steps)
        logits = live.tail(int(member)).read(torch.from_numpy(live.activations([int(member)])), []).logits
        total = total + np.exp(log_softmax(logits))[0]
    mean: Float64[np.ndarray, " outputs"] = total / len(members)
    return mean


# --- statistics ----------------------------------------------------------------------------------------------------


def _summary(examples: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    rows, inputs = [], examples["input"].to_numpy(np.int64)
    for name in MEASURES:
        distinctive, random = (examples[c].to_numpy(np.float64) for c in (name, f"random_{name}"))
        rows.append(
            {
                "measure": name,
                **mean_interval(distinctive, rng, units=inputs).columns("distinctive"),
                **mean_interval(random, rng, units=inputs).columns("random"),
                **mean_interval(distinctive - random, rng, units=inputs).columns("difference"),
                "p": paired_p(distinctive - random, rng, units=inputs),
                "n": len(examples),
            }
        )
    return pd.DataFrame(rows)


def _notes(tail: Tail, groups: Split, table: pd.DataFrame, members: int, dropped: int) -> tuple[str, ...]:
    n_set = int(table["set"].sum())
    notes = [
        f"distinctive: Fisher's exact test of {int(groups.inside.sum())} examples inside against "
        f"{int((~groups.inside).sum())} outside, false discovery rate {RATE:g} over {len(table):,} gates "
        f"(Benjamini-Hochberg); {int(table['distinctive'].sum()):,} are, the {n_set} of largest log-odds are set. "
        "The cluster may have been found in these same codes, and tokens of a text depend on each other: p ranks "
        "gates, it does not prove the cluster",
        "preactivations are moved to just beyond zero and the rest of the network follows: an intervention, which "
        "need not be what any input brings about",
        f"cluster's output: mean of {members} members; p: sign flips of the paired differences; intervals "
        "and p by input, since tokens of one text depend on each other",
        tail.remark,
    ]
    notes += [f"{groups.clustering.name}: {note}" for note in remarks(groups.clustering)]
    if dropped:
        notes.append(f"{dropped} examples had all of these gates as wanted and were dropped")
    return tuple(notes)


# --- what it decides -----------------------------------------------------------------------------------------------

GATES_RULE = (
    "Supported: the interval of the difference in gain (how much nearer the output comes to the cluster's mean "
    "output), distinctive gates less random ones, lies above 0. Not supported: below. Else undecided."
)


def gates_carry_meaning(result: Result) -> Verdict:
    """`GATES_RULE`."""
    rows = {row["measure"]: row for row in result.table.to_dict("records")}
    gain = rows["gain"]
    shown = (
        ("gain", "nearer to the cluster's output, nats"),
        ("kl", "change of the output, nats"),
        ("changed", "share of predictions changed"),
        ("moved", "change of preactivations"),
    )
    numbers = [
        number(f"{words}: {column}", rows[name], column, gain["n"])
        for name, words in shown
        for column in ("distinctive", "random", "difference")
    ]
    because = f"{gain['distinctive']:.3g} nats nearer by distinctive gates, {gain['random']:.3g} by random ones"
    vote = vote_of(gain["difference_low"], gain["difference_high"], 0.0)
    return Verdict(word_for(vote), because, pd.DataFrame(numbers))


def _asking(atlas: Atlas, network: NetworkRecord, _: Before) -> dict[str, Any]:
    """The largest cluster of codes at a late site, of at most half of the examples: the rest must be elsewhere."""
    site = _late_site(atlas, network)
    clustering = clustering_of(atlas, atlas.catalog.target(site=site, network=network.name), None, "codes")
    table = clusters(atlas, clustering=clustering.clustering_id, samples=0)
    table = table[(table["label"] >= 0) & (2 * table["size"] <= table["size"].sum())]
    if table.empty:
        raise NotStored(f"{clustering.name} has no cluster of at most half of the examples, whose gates could be set")
    largest = int(table.sort_values(["size", "label"], ascending=[False, True])["label"].iloc[0])
    return {"site": site, "cluster": largest, "clustering": clustering.clustering_id, "examples": 10, "n_random": 6}


def _late_site(atlas: Atlas, network: NetworkRecord) -> str:
    """Name of a late site of position codes, not the first: before the first no gate can be set."""
    sites = [s for s in atlas.catalog.sites_of(network) if s.scope == "position" and s.n_codes and s.ordinal > 0]
    if not sites:
        raise NotStored(f"network {network.name} has no site with codes after its first")
    return sites[min(int(SLICED * len(sites)), len(sites) - 1)].name


EXPERIMENT = Experiment(
    name="intervene",
    version=2,
    section=11,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    live=True,
    clusterings=True,
    quick={"examples": 3, "n_random": 2},
    claims=(
        Claim(
            "gates",
            Part.COMMENTS,
            2,
            "Setting a few gates as a cluster has them moves the output towards the cluster's.",
            asking=_asking,
            judge=gates_carry_meaning,
            rule=GATES_RULE,
        ),
    ),
)

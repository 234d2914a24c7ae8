"""Density: boundaries per unit distance within and between labels, trained beside untrained, and of one pair."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import streamlit as st

import query
from atlas import Atlas
from atlas.network import whole_scope
from query.experiments.archive import load, stored
from query.experiments.controls import TRAINED, controls_of, kind_of
from query.pairs.density import space_before
from query.pairs.differing_gates import GatesApart, gates_apart

from ...controls import adding_controls
from .. import address
from ..charts import path_charts
from ..parts import cards, choices, figures, markup, measured, show
from ..parts.code import call, heading, source
from ..parts.show import KEY, NUMBER, Column, Row
from ..view import View, explained, literal, records

MOST_PAIRS = 20_000  # of each kind: the intervals narrow no more than the examples allow
PAIRS = 500  # to begin with: a second or two a span
GATES_SHOWN = 60  # of one site's gates that differ, by number


def render(view: View) -> None:
    show.notes(
        "Density of a pair: gates in which the codes of two examples differ, over the distance of their "
        "activations at the site before. If boundaries between polytopes follow meaning, pairs of different "
        "labels cross more of them per unit distance than pairs of the same label, and in untrained networks "
        "they don't."
    )
    heading("Same label against different labels")
    with explained():
        _classes(view)
    heading("One pair")
    with explained():
        _pair(view)


# --- within and between labels ---------------------------------------------------------------------------------

NOW = "Measure now"


def _classes(view: View) -> None:
    found = _chosen(view)
    if found is None:
        return
    result = found.result
    figures.show(
        measured.drawn(result),
        f"density-{view.network.name}",
        key="class-density",
        data=result.table,
        alt="Density between labels over that within labels, by span and network",
    )
    _table(result.table)
    measured.remarks(found)
    measured.code(view, "density", result.options or result.parameters)
    _controls(view)


def _chosen(view: View) -> measured.Answer | None:
    """A stored measurement, or one made now."""
    stored = _stored(view)
    first = next(iter(stored), NOW)
    if not set(st.query_params) & {"pairs", "seed", "site_by_site"} or "measurement" in st.query_params:
        at = first
    else:
        at = NOW  # a link that says how to measure
    options = [*stored, NOW]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        chosen = address.one_of(
            "Measurement",
            options,
            key="measurement",
            first=at,
            width=420,
            also={str(number): words for words, number in stored.items()},
        )
        if chosen in stored:
            return measured.Answer(view.ask(load, stored[chosen]), stored[chosen])
        pairs = address.number("Pairs of each kind", 10, MOST_PAIRS, PAIRS, key="pairs", step=100, width=170)
        seed = address.number("Seed", 0, None, 0, key="seed", width=120)
        site_by_site = address.switch(
            "Each site alone",
            key="site_by_site",
            help="Besides each span to the output also the span that ends at the next site, whose gates are that "
            "site's alone",
        )
    options_asked = {
        "network": view.network.name,
        "pairs": pairs,
        "seed": seed,
        "site_by_site": site_by_site,
    }
    return measured.answer(view, "density", options_asked, "Measuring pairs")


def _stored(view: View) -> dict[str, int]:
    """Current stored measurements of the network, by what they are called in the list."""
    held = view.ask(stored, network=view.network.name)
    held = held[(held["kind"] == "density") & held["current"].astype(bool) & (held["network"] == view.network.name)]
    names = {}
    for row in held.to_dict("records"):
        said = ", ".join(f"{name} {value}" for name, value in row["options"].items() if name != "network")
        names[f"Experiment {row['experiment_id']}: {said or 'as by default'}"] = int(row["experiment_id"])
    return names


def _table(found: pd.DataFrame) -> None:
    interval = "Mean density and its interval, boundaries per unit distance"
    columns = [
        Column("Span", KEY, lambda row: markup.plain(row["span"]), "After which site; codes of all sites after it"),
        Column("Network", KEY, _weights, "As given, or an untrained control"),
        Column("Pairs", NUMBER, lambda row: f"{row['n_intra']:,} + {row['n_inter']:,}", "Same + different labels"),
        Column("Same label", NUMBER, lambda row: _interval(row, "intra_mean", "intra"), interval),
        Column("Different labels", NUMBER, lambda row: _interval(row, "inter_mean", "inter"), interval),
        Column("Ratio", NUMBER, lambda row: _interval(row, "ratio", "ratio"), "Different ÷ same and its interval"),
        Column("Cohen's d", NUMBER, lambda row: f"{row['cohens_d']:.2f}", "In pooled standard deviations"),
        Column("AUC", NUMBER, lambda row: f"{row['auc']:.3f}", "Chance that a pair of different labels is denser"),
        Column("p", NUMBER, lambda row: f"{row['p_value']:.2g}", "Two-sided permutation test, difference of means"),
    ]
    order = found.assign(place=found["span"].map({span: i for i, span in enumerate(found["span"].unique())}))
    show.table(records(order.sort_values("place", kind="stable")), columns)


def _weights(row: Row) -> str:
    return markup.plain("trained" if row["weights"] == TRAINED else row["weights"])


def _interval(row: Row, mean: str, name: str) -> str:
    low, high = markup.number(row[f"{name}_low"]), markup.number(row[f"{name}_high"])
    return f'{markup.number(row[mean])} <span class="pa-muted">[{low}, {high}]</span>'


def _controls(view: View) -> None:
    """Where no untrained network stands beside a trained one: how to add it."""
    if kind_of(view.network) != TRAINED or view.ask(_has_controls, view.network.name):
        return
    lines = view.ask(adding_controls, view.network.name)
    show.notes("To add the untrained networks that stand beside (polytope report does so by itself):")
    st.code("\n".join(lines), "sh", wrap_lines=True)


def _has_controls(atlas: Atlas, network: str) -> bool:
    return bool(controls_of(atlas, atlas.catalog.network(network)))


# --- one pair --------------------------------------------------------------------------------------------------


def _pair(view: View) -> None:
    first, second = choices.first_examples(choices.example_range(view), 2)
    left, right = st.columns(2, gap="medium")
    with left:
        x = choices.example(view, "Example x", "x", first)
    with right:
        y = choices.example(view, "Example y", "y", second)
    choices.side_by_side(view, [x, y], ["x", "y"])
    view = _measurable(view)
    apart = view.ask(gates_apart, x, y, network=view.network.name, **view.named)
    with explained():
        _metrics(view, x, y, apart)
    _sites(view, x, y, apart)


def _measurable(view: View) -> View:
    """The same, of a span that density can be measured over, where the sidebar names codes of one position: the
    distance is of whole activation tensors."""
    catalog = view.atlas.catalog
    target = catalog.target(site=view.target, network=view.network.name)
    if whole_scope(catalog.sites_of(view.network)) == "position" or target.sites[0].scope == "full":
        return view
    return replace(view, target=choices.span(view, last=True))


def _metrics(view: View, x: int, y: int, apart: GatesApart) -> None:
    found = view.ask(query.density, x, y, network=view.network.name, **view.named)
    before = space_before(view.atlas.catalog.target(site=view.target, network=view.network.name)).name
    values = [
        ("Density", markup.number(found.density), "Boundaries per unit distance"),
        (f"Gates apart, of {found.n_gates:,}", f"{found.hamming:,}", f"Hamming distance at {found.target}"),
        ("Distance", markup.number(found.distance), f"Euclidean, of the activations at {before}"),
        ("Density per gate", markup.number(found.density_per_gate), None),
    ]
    measured.metrics(values)
    show.notes(f"Codes of {found.target}; activations at {before}. {markup.sentence(found.note)}")
    source(view, call(query.density, x, y, **view.named, network=view.network.name))


def _sites(view: View, x: int, y: int, apart: GatesApart) -> None:
    """The gates that differ: how many at each site, and which."""
    sites = apart.sites
    total, n_gates = int(sites["differ"].sum()), int(sites["n_gates"].sum())
    title = f"{total:,} of {n_gates:,} gates of {view.target} differ between examples {x} and {y}"
    figures.show(
        path_charts.differing(sites, (f"on in x ({x}) alone", f"on in y ({y}) alone"), title),
        f"gates-{x}-{y}",
        key="gates-apart",
        data=sites,
        alt=title,
    )

    def which(row: Row) -> str:
        return _which(view, row["site"], apart.gates[apart.gates["site"] == row["site"]], x)

    hint = f"Bits of the site's code, the first {GATES_SHOWN}: + on in x, − on in y"
    columns = [
        Column("Site", KEY, lambda row: markup.plain(row["site"])),
        Column("Gates", NUMBER, lambda row: f"{row['n_gates']:,}"),
        Column("On in x", NUMBER, lambda row: f"{row['on_x']:,}"),
        Column("On in y", NUMBER, lambda row: f"{row['on_y']:,}"),
        Column("Differ", NUMBER, lambda row: f"{row['differ']:,}"),
        Column("Which", "", which, hint),
    ]
    show.table(records(sites), columns)
    show.notes(f"+ on in x alone, − on in y alone; at most {GATES_SHOWN} gates a site are listed.")
    said = call(gates_apart, x, y, **view.named, network=view.network.name)
    sql = None
    if len(sites) == 1:
        sql = _APART_SQL.format(x=x, y=y, site=literal(str(sites["site"].iloc[0])), n=int(sites["n_gates"].iloc[0]))
    source(view, f"{said}.sites", f"{said}.gates", sql=sql)


_APART_SQL = """select gate, is_on(cx.code, gate::int) as on_in_x, is_on(cy.code, gate::int) as on_in_y
from codes as cx
join codes as cy using (site_id)
join sites using (site_id)
cross join range({n}) as gates(gate)
where cx.example_id = {x} and cy.example_id = {y} and sites.name = {site}
    and is_on(cx.code, gate::int) <> is_on(cy.code, gate::int)
order by gate"""


def _which(view: View, site: str, gates: pd.DataFrame, x: int) -> str:
    """The first gates that differ, as links to units where they are units."""
    first = gates.head(GATES_SHOWN)[["gate", "on_in"]].itertuples(index=False)
    words = [cards.gate_link(view, site, gate, f"{'+' if on_in == x else '−'}{gate}") for gate, on_in in first]
    more = f" <span class='pa-muted'>and {len(gates) - GATES_SHOWN:,} more</span>" if len(gates) > GATES_SHOWN else ""
    return f'<span class="pa-mono">{" ".join(words)}</span>{more}' if words else "–"

"""Density of one pair: boundaries per unit distance between two examples, gate by gate."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import streamlit as st

import query
from atlas.network import whole_scope
from query.pairs.density import space_before
from query.pairs.differing_gates import GatesApart, gates_apart

from .. import address
from ..charts import path_charts
from ..parts import cards, choices, figures, markup, measured, show
from ..parts.code import call, source
from ..parts.show import KEY, NUMBER, Column, Row
from ..view import View, explained, literal, records
from . import claims

MOST_PAIRS = 20_000  # of each kind: the intervals narrow no more than the examples allow
PAIRS = 500  # to begin with: a second or two a span
GATES_SHOWN = 60  # of one site's gates that differ, by number


def render(view: View) -> None:
    """What an address of before is about: a pair where it names one, else the claim about pairs of labels."""
    if not {"x", "y"} & {*st.query_params}:
        address.begin_with("claim-density", True)
        claims.render(view)
        return
    with explained():
        _pair(view)


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

"""About an atlas: its networks, the sites of one from input to output, and what was done with them."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

import query
from atlas import Atlas
from atlas.errors import NotStored, UnknownName, UsageError
from atlas.network import FULL_SUFFIX
from query.experiments import archive
from query.progress import Progress
from query.store.contents import polytope_counts

from ...plain_text import counted
from .. import jobs
from ..view import View, explained, guarded, literal, records
from . import markup, show, training
from .code import call, source
from .show import KEY, NUMBER, WIDE, Column, Row

DIGEST_SHOWN = 12  # hexadecimal digits: 48 bits tell any two weights apart

PAIRS = 200
"""Pairs of each kind behind a mean density measured here: a second on the demo. Page Density has intervals."""

UNASKED_EXAMPLES = 20_000
"""Up to so many examples density is measured without being asked for; it reads whole codes of hundreds of them."""

SCOPES = {"position": "Codes of one position", "full": "Codes of all positions", "span": "Spans"}

CHECK, MEASURE = "check", "measure"
"""What the URL says where the atlas is checked, or densities are measured, so that a link to it shows the same."""


def draw(view: View) -> None:
    held = view.ask(query.info)
    networks, sites, clusterings = held["networks"], held["sites"], held["clusterings"]
    stored = sites[sites["n_codes"] > 0]
    counts = [
        ("Networks", len(networks)),
        ("Examples", int(networks["n_examples"].sum())),
        ("Sites with codes", len(stored)),
        ("Codes", int(stored["n_codes"].sum())),
        ("Clusterings", len(clusterings)),
    ]
    with st.container(horizontal=True, gap="small"):
        for name, count in counts:
            st.metric(name, f"{count:,}", border=True, width="stretch")

    st.header(f"Sites of {markup.markdown(view.network.name)}", anchor=False)
    rows = _sites(view, sites, held["spans"], clusterings)
    place, measuring = st.empty(), st.container()
    with place.container():
        _strip(view, rows)
    coded = st.container()
    left_out = sites[(sites["network"] == view.network.name) & (sites["n_codes"] == 0)]["scope"].value_counts()
    show.notes(
        *(
            f"{count} {scope} site{'s' if count > 1 else ''} of {view.network.name} hold no codes and are not shown"
            for scope, count in left_out.items()
        )
    )
    for part, draw in (("networks", _networks), ("datasets", _datasets), ("runs", _runs)):
        st.header(part.capitalize(), anchor=False)
        draw(held[part])
        source(view, f"{call(query.info)}[{part!r}]")
    compared = st.container()
    st.header("Health", anchor=False)
    _health(view)
    with measuring:  # last: what is measured never holds up what is known
        measured = _measure(view, rows)
    if measured:
        with place.container():
            _strip(view, rows)
    with coded:
        _code(view, measured)
    with compared:
        training.beside(view, networks, sites)


def _code(view: View, measured: list[str]) -> None:
    """What gives the tables of sites: the sites, and what was measured of them, each by its own call."""
    held = [f"{call(query.info)}[{part!r}]" for part in ("sites", "spans", "clusterings")]
    source(view, *held, *measured, sql=_SITES_SQL.format(network=literal(view.network.name)))


_SITES_SQL = """with newest as (
    select target, arg_max(n_clusters, clustering_id) as n_clusters, arg_max(purity, clustering_id) as purity
    from clusterings join networks using (network_id)
    where networks.name = {network} and space = 'codes'
    group by target
), filled as (
    select site, count(*) / sum(occupancy) as occupancy from polytopes where network = {network} group by site
)
select sites.name as site, scope, n_gates, n_units, n_codes, n_clusters, purity, occupancy, exact
from sites
join networks using (network_id)
left join newest on newest.target = sites.name
left join filled on filled.site = sites.name
where networks.name = {network} and n_codes > 0
order by scope desc, ordinal"""


# --- sites -----------------------------------------------------------------------------------------------------


def _sites(view: View, sites: pd.DataFrame, spans: pd.DataFrame, clusterings: pd.DataFrame) -> list[dict[str, Any]]:
    """A row a site with codes, then a row a span that was asked for, with its newest clustering of codes."""
    mine = sites[(sites["network"] == view.network.name) & (sites["n_codes"] > 0)]
    rows = [{**row, "name": row["site"]} for row in records(mine)]
    for row in records(spans[spans["network"] == view.network.name]):
        rows.append(
            {
                "name": row["span"],
                "scope": "span",
                "n_gates": row["n_gates"],
                "n_units": None,
                "n_codes": None,
                "nonlinearity": None,
                "exact": row["exact"],
            }
        )
    newest = _newest(clusterings[clusterings["network"] == view.network.name])
    for row in rows:
        row |= newest.get(row["name"], {"clustering_id": None, "n_clusters": None, "purity": None})
        row |= {"occupancy": None, "n_polytopes": None, "intra": None, "inter": None}
    return rows


def _newest(clusterings: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Of every target its newest clustering of codes."""
    codes = clusterings[clusterings["space"] == "codes"].sort_values("clustering_id")
    return {
        row["target"]: {name: row[name] for name in ("clustering_id", "n_clusters", "purity")}
        for row in records(codes)
    }


def _strip(view: View, rows: list[dict[str, Any]]) -> None:
    """Sites side by side, each as wide as it has gates, and below them their numbers."""
    for scope, title in SCOPES.items():
        some = [row for row in rows if row["scope"] == scope]
        if not some:
            continue
        counts = sorted({int(row["n_codes"]) for row in some if row["n_codes"]})
        many = f", n = {counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "") if counts else ""
        pieces = "".join(_piece(view, row) for row in some)
        strip = f'<nav class="pa-strip" aria-label="{title}">{pieces}</nav>' if scope != "span" else ""
        show.block(f'<p class="pa-note">{title}{many}</p>{strip}')
        show.table(some, _columns(view, scope))
    show.notes(
        "Width: gates, with a least width. The purer the newest clustering of its codes, the darker a site. "
        "Occupancy: distinct polytopes over examples; 1 where every example has one to itself. Density: "
        "boundaries of all later sites per unit of distance here, of pairs of the same and of different "
        "labels."
    )


def _piece(view: View, row: dict[str, Any]) -> str:
    share = 0.0 if row["purity"] is None or pd.isna(row["purity"]) else float(row["purity"])
    here = ' class="pa-here" aria-current="true"' if row["name"] == view.target else ""
    lines = [("Bits of a code", counted(row["n_gates"], "gate"))]
    if row["n_clusters"] is not None:
        lines.append((f"Purity {markup.number(row['purity'], 3)}", counted(int(row["n_clusters"]), "cluster")))
    if row["occupancy"] is not None:
        polytopes = counted(row["n_polytopes"], "polytope")
        hint = f"Occupancy: {polytopes} of {counted(row['n_codes'], 'example')}"
        lines.append((hint, f"occ. {markup.number(row['occupancy'], 2)}"))
    if row["intra"] is not None:
        intra, inter = markup.number(row["intra"], 3), markup.number(row["inter"], 3)
        lines.append(("Mean density of pairs of one label | of different labels", f"dens. {intra} | {inter}"))
    words = f"<b>{markup.plain(row['name'])}</b>" + "".join(
        f'<small title="{markup.plain(hint)}">{said}</small>' for hint, said in lines
    )
    address = markup.plain(f"cluster?{urlencode({'network': view.network.name, 'target': row['name']})}")
    title = f"{row['name']}: clusters, and from there everything else at this site"
    return (
        f'<a href="{address}" target="_self"{here} title="{markup.plain(title)}" '
        f'style="flex: {int(row["n_gates"])} 1 0; --share: {share:.3f}">{words}</a>'
    )


def _columns(view: View, scope: str) -> list[Column]:
    title = "Span" if scope == "span" else "Site"
    pages = {"look": "Look", "atlas": "Atlas", **({} if scope == "span" else {"neurons": "Neurons"})}

    def state(row: Row) -> dict[str, str]:
        return {"network": view.network.name, "target": row["name"]}

    def clusters(row: Row) -> str:
        if row["n_clusters"] is None:
            return "–"
        words = f"{int(row['n_clusters']):,}"
        return markup.link("cluster", words, clustering=row["clustering_id"], **state(row))

    def occupancy(row: Row) -> str:
        if row["occupancy"] is None:
            return "–"
        return f'<span title="{row["n_polytopes"]:,} polytopes">{markup.number(row["occupancy"], 3)}</span>'

    def density(row: Row) -> str:
        return "–" if row["intra"] is None else " | ".join(markup.number(row[of], 3) for of in ("intra", "inter"))

    def links(row: Row) -> str:
        return " · ".join(markup.link(page, words, **state(row)) for page, words in pages.items())

    purity = "Share of clustered, labelled examples that bear their cluster's commonest label"
    exact = "Whether equal codes mean the same affine map"
    return [
        Column(title, KEY, lambda row: markup.plain(row["name"])),
        Column("Gates", NUMBER, lambda row: f"{row['n_gates']:,}", "Bits of a code"),
        Column("Units", NUMBER, lambda row: _count(row["n_units"]), "Numbers of an activation"),
        Column("Examples", NUMBER, lambda row: _count(row["n_codes"]), "With a code"),
        Column("Clusters", NUMBER, clusters, "Of the newest clustering of codes"),
        Column("Purity", NUMBER, lambda row: markup.number(row["purity"], 3), purity),
        Column("Occupancy", NUMBER, occupancy, "Distinct polytopes over examples"),
        Column("Density", NUMBER, density, "Of pairs of the same label, and of different labels"),
        Column("Exact", KEY, lambda row: "yes" if row["exact"] else "no", exact),
        Column("Look", KEY, links),
    ]


def _count(value: Any) -> str:
    return "–" if value is None or pd.isna(value) else f"{int(value):,}"


# --- what takes a while ----------------------------------------------------------------------------------------


def _measure(view: View, rows: list[dict[str, Any]]) -> list[str]:
    """Add occupancy and density to the rows, as far as they are known by now; the calls that give them."""
    calls = []
    with explained():
        counts = view.work("Counting polytopes", polytope_counts, view.network.name)
        if counts is not None:
            calls.append(call(polytope_counts, view.network.name))
            known = {row["site"]: row for row in records(counts)}
            for row in rows:
                found = known.get(row["name"], {})
                row |= {name: found[name] for name in ("occupancy", "n_polytopes") if name in found}
        densities = _densities(view, max((int(row["n_codes"] or 0) for row in rows), default=0))
        if densities is not None:
            calls += [] if densities.why_none else [densities.call]
            for row in rows:
                row |= densities.of_sites.get(row["name"], {})
            show.notes(densities.why_none)
    return calls


class Densities(NamedTuple):
    """Mean densities by the site that a span starts after, the call that gives them, and why there are none."""

    of_sites: dict[str, dict[str, float]]
    call: str
    why_none: str | None = None


def _densities(view: View, n_examples: int) -> Densities | None:
    """Mean densities: stored, else measured where that is quick or asked for."""
    known = view.ask(stored_densities, view.network.name)
    if known is not None:
        return known
    if n_examples > UNASKED_EXAMPLES and st.query_params.get(MEASURE) != "1":
        st.button("Measure densities", on_click=_ask, args=(MEASURE,))
        return None
    return view.work("Measuring densities", measured_densities, view.network.name, turns=jobs.LONG)


def stored_densities(atlas: Atlas, network: str) -> Densities | None:
    """Out of the newest result of experiment density that still holds; None where there is none."""
    for row in records(archive.stored(atlas, "density", network)):
        if row["current"] and not row["parameters"].get("site_by_site"):
            number = int(row["experiment_id"])
            table = archive.load(atlas, number).table
            return Densities(_by_site(table[table["network"] == network]), f"{call(archive.load, number)}.table")
    return None


def measured_densities(atlas: Atlas, network: str, *, progress: Progress | None = None) -> Densities:
    """Of few pairs; where the atlas does not hold what density needs, the sentence that says what it lacks."""
    asked: dict[str, Any] = {"network": network, "pairs": PAIRS, "resamples": 1}
    said = call(query.class_density, **asked)
    try:
        return Densities(_by_site(query.class_density(atlas, **asked, progress=progress)), said)
    except (NotStored, UsageError, UnknownName) as reason:
        return Densities({}, said, f"No densities: {reason}")


def _by_site(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    found = {}
    for row in records(table):
        after, _, to = row["span"].partition("->")
        name = after + (FULL_SUFFIX if to.endswith(FULL_SUFFIX) else "")
        found[name] = {"intra": float(row["intra_mean"]), "inter": float(row["inter_mean"])}
    return found


@guarded
def _ask(name: str) -> None:
    st.query_params[name] = "1"


def _health(view: View) -> None:
    if st.query_params.get(CHECK) != "1":
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button("Check the atlas", on_click=_ask, args=(CHECK,))
            show.notes("Reads everything: digests, references, indexes. A minute for each few gigabytes.")
        return
    with explained():
        checks = view.work("Checking", query.verify, turns=jobs.LONG)
        if checks is None:
            return
        failed = checks[~checks["ok"]]
        if failed.empty:
            st.html(f'<div class="pa"><b>All {len(checks):,} checks passed.</b></div>')
        else:
            show.error(f"{len(failed)} of {len(checks)} checks failed")
            columns = [
                Column("Check", KEY, lambda row: markup.plain(row["check"])),
                Column("Of what", "", lambda row: markup.plain(row["subject"])),
                Column("Found", WIDE, lambda row: markup.plain(row["detail"])),
            ]
            show.table(records(failed), columns)
        source(view, call(query.verify))


# --- the rest --------------------------------------------------------------------------------------------------


def _networks(networks: pd.DataFrame) -> None:
    def source_of(row: Row) -> str:
        return markup.plain(f"{row['source']}, weights {row['weights']}")

    def digest(row: Row) -> str:
        whole = markup.plain(row["weights_digest"])
        return f'<code title="{whole}">{whole[:DIGEST_SHOWN]}…</code>'

    columns = [
        Column("Name", KEY, lambda row: markup.link(".", row["name"], network=row["name"])),
        Column("Architecture", KEY, lambda row: markup.plain(row["architecture"])),
        Column("Reads", KEY, lambda row: f"{markup.plain(row['kind'])}s"),
        Column("Source", KEY, source_of),
        Column("Examples", NUMBER, lambda row: f"{row['n_examples']:,}", "Tokens or images that it read"),
        Column("Weights digest", KEY, digest, "SHA-256 over all parameters and buffers"),
    ]
    show.table(records(networks), columns)


def _datasets(datasets: pd.DataFrame) -> None:
    columns = [
        Column("Dataset", KEY, lambda row: markup.plain(row["name"])),
        Column("Kind", KEY, lambda row: markup.plain(row["kind"])),
        Column("Source", "", lambda row: markup.plain(row["source"])),
        Column("Inputs", NUMBER, lambda row: f"{row['n_inputs']:,}", "Duplicates counted"),
        Column("Labels", NUMBER, lambda row: f"{row['n_labels']:,}"),
        Column("Without label", NUMBER, lambda row: f"{row['n_unlabelled']:,}"),
    ]
    show.table(records(datasets), columns)


def _runs(runs: pd.DataFrame) -> None:
    def published(row: Row) -> str:
        return "–" if pd.isna(row["published_at"]) else f"{row['published_at']:%Y-%m-%d %H:%M}"

    columns = [
        Column("Run", KEY, lambda row: markup.plain(row["run"])),
        Column("Network", KEY, lambda row: markup.plain(row["network"])),
        Column("Dataset", KEY, lambda row: markup.plain(row["dataset"])),
        Column("Examples", NUMBER, lambda row: f"{row['n_examples']:,}"),
        Column("Inputs skipped", NUMBER, lambda row: f"{row['n_bad']:,}", "Listed in table bad_inputs"),
        Column("Published (UTC)", KEY, published),
    ]
    show.table(records(runs), columns)

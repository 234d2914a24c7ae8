"""Example: one stored example on one page, from the input to what its neighbours differ in."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

import query
from atlas import Atlas, Network
from atlas.errors import UnknownName
from query.clustering.clusterings import NOISE, SPACES
from query.clustering.flow import cluster_path
from query.examples.description import describe
from query.examples.passages import passage
from query.examples.rasters import rasters
from query.pairs.differing_gates import differing_gates
from query.polytope.opposite import nearest_opposite
from query.progress import Progress, tell

from ...plain_text import counted
from .. import address
from ..charts.boundary_charts import ring
from ..charts.code_charts import code_raster, raster_table
from ..parts import cards, choices, figures, markup, measured, show
from ..parts.code import call, reader_of, source
from ..parts.show import KEY, NUMBER, Column
from ..view import View, explained, records

NEIGHBOURS = 8
MOST_INHABITANTS = 24
WALLS, WALLS_LISTED = 24, 8
LINES_BEFORE, LINES_AFTER = 12, 6  # of the passage


def render(view: View) -> None:
    example = _choose(view)
    row = records(view.ask(describe, view.network, [example]))[0]
    _itself(view, row)
    _path(view, example)
    _code(view, example)
    with explained():
        _near(view, example)
    with explained():
        _walls(view, example)


# --- which one -------------------------------------------------------------------------------------------------


def _choose(view: View) -> int:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        example = choices.example(
            view, choices.label_with_range(view, "Example"), "example", choices.telling_example(view)
        )
        choices.step_buttons(view, "example")
        on = markup.link("search", "Search from it", example=example, **view.state)
        st.html(f'<div class="pa pa-beside">{on}</div>')
    return example


# --- what it is ------------------------------------------------------------------------------------------------


def _itself(view: View, row: dict[str, Any]) -> None:
    example = int(row["example_id"])
    facts = [*cards.facts(view, row)[1:], ("input", f"{row['input_id']:,}")]
    whole, place = cards.beside(view)
    if "token" in row:
        found = view.ask(passage, example)
        shown = (
            markup.NO_CONTEXT
            if found is None  # a text whose context was not stored
            else markup.passage(found.text, found.token, found.offset, LINES_BEFORE, LINES_AFTER)
        )
        facts.append(("token", f"{int(row['position']):,} of its text"))
    else:
        shown = cards.input_of(row)
        facts.append(("key", markup.plain(row["key"])))
    whole.html(f'<div class="pa">{shown}</div>')
    place.html(f'<div class="pa">{markup.facts(facts)}</div>')
    with place:
        sql = f"from examples join inputs using (input_id)\nwhere example_id = {example}"
        seen = [call(passage, example)] if "token" in row else []
        source(view, call(query.sql, sql), *seen, sql=sql)


# --- its way through the network -------------------------------------------------------------------------------


def _path(view: View, example: int) -> None:
    st.header("Its cluster at every site", anchor=False)
    spaces = [space for space in SPACES if space in view.ask(_spaces, view.network.network_id)]
    if not spaces:
        show.notes("No site of this network is clustered yet: `polytope cluster` does it.")
        return
    space = spaces[0]
    if len(spaces) > 1:
        space = address.segment("Clusters of", spaces, key="space", label_visibility="collapsed")
    path = view.ask(cluster_path, example, space)
    for scope, rows in path[path["clustering"].notna()].groupby("scope", sort=False):
        if path["scope"].nunique() > 1:
            st.html(f'<div class="pa pa-muted">{_SCOPES[str(scope)]}</div>')
        st.html(
            f'<div class="pa"><ol class="pa-path">{"".join(_stop(view, row) for row in records(rows))}</ol></div>'
        )
    left_out = int(path["clustering"].isna().sum())
    show.notes(
        "Newest clustering of each site; the bar is the strength of membership, 0 to 1.",
        f"{counted(left_out, 'site is', 'sites are')} not clustered." if left_out else None,
    )
    source(view, call(cluster_path, example, space))


_SCOPES = {"position": "Codes of one position", "full": "Codes of all positions"}


def _spaces(atlas: Atlas, network_id: int) -> list[str]:
    rows = atlas.rows("select distinct space from clusterings where network_id = $1", [network_id])
    return [space for (space,) in rows]


def _stop(view: View, row: dict[str, Any]) -> str:
    here = ' class="pa-here"' if row["site"] == view.target else ""
    site = markup.plain(row["site"])
    if pd.isna(row["cluster"]):
        return f"<li{here}><small>{site}</small>came after the clustering</li>"
    name = cards.cluster_link(view, row["clustering"], row["cluster"], row["site"])
    if row["cluster"] == NOISE:
        return f"<li{here}><small>{site}</small>{name}</li>"
    strength = float(row["probability"])
    about = [counted(row["size"], "member")]
    if pd.notna(row["purity"]):
        about.append(f"most {markup.words(row['top_label'])} ({row['purity']:.0%})")
    return (
        f"<li{here}><small>{site}</small>{name}"
        f'<div class="pa-bar" role="img" aria-label="strength {strength:.2f}" title="strength {strength:.2f}">'
        f'<i style="width: {strength:.0%}"></i></div>'
        f'<small title="Members of the cluster, and its commonest label">{"<br>".join(about)}</small></li>'
    )


def _code(view: View, example: int) -> None:
    st.header("Its code at every site", anchor=False)
    found = view.ask(rasters, example)
    scopes = {
        _SCOPES["position"]: [raster for raster in found if not raster.by_channel],
        _SCOPES["full"]: [raster for raster in found if raster.by_channel],
    }
    shown = [words for words in scopes if scopes[words]]
    scope = shown[0]
    if len(shown) > 1:
        scope = address.segment("Codes", shown, key="scope", label_visibility="collapsed")
    drawn = scopes[scope]
    figures.show(
        code_raster(drawn, f"Gates of example {example} that are on; beside each site how many of how many"),
        f"code-{example}",
        key="code",
        data=raster_table(drawn),
        alt=f"The code of example {example}: gates that are on, at {counted(len(drawn), 'site')}",
    )
    if scope == _SCOPES["full"]:
        show.notes(
            "Codes of all positions are too wide for a pixel a gate: a pixel is a channel, shaded by the "
            "share of its positions at which it is on."
        )
    source(
        view,
        call(rasters, example),
        sql=f"select site, n_active, code\nfrom spline_codes\nwhere example_id = {example}",
    )


# --- its neighbours --------------------------------------------------------------------------------------------


def _near(view: View, example: int) -> None:
    st.header(f"Around it at {markup.markdown(view.target)}", anchor=False)
    target = view.atlas.catalog.target(site=view.target, network=view.network.name)
    others = min(site.n_codes for site in target.sites) - 1
    if others < 1:
        raise UnknownName(f"{view.target} holds the code of no other example")
    here = {**view.named, "network": view.network.name}
    k, most = min(NEIGHBOURS, others), min(MOST_INHABITANTS, others)
    found = view.work("Comparing codes", around, example, k, most, **here)
    if found is None:
        return
    nearest, inhabitants = found
    about, n = nearest.attrs, len(inhabitants)
    if n:
        many = f"the first {n}" if n == MOST_INHABITANTS else counted(n, "other")
        st.html(f'<div class="pa"><b>In the same polytope</b>: {many}, with the same code.</div>')
        cards.examples(view, inhabitants.drop(columns=["rank", "density"]), about["clustering"])
        source(view, call(query.nearest, example=example, radius=0, k=most, **here))
    st.html(f'<div class="pa"><b>In other polytopes</b>, nearest first, of {about["n_gates"]:,} gates</div>')
    if nearest.empty:
        show.notes(f"The {k} nearest share its polytope; Search shows more.")
    else:
        cards.examples(view, cards.without_unknown_density(nearest), about["clustering"])
    alone = "No other example lies in its polytope." if n == 0 else None
    show.notes(alone, cards.DIFFERING if len(nearest) else None, about["search_note"])
    source(
        view,
        f"{call(query.nearest, example=example, k=k, **here)}.query('distance > 0')",
        call(differing_gates, example, nearest["example_id"].tolist(), **here),
    )


# --- what bounds its polytope ------------------------------------------------------------------------------------


def _walls(view: View, example: int) -> None:
    st.header("How far the next polytope is", anchor=False)
    span = choices.span(view)
    if not measured.offer(
        "Runs the network on from the site: seconds for a small network, minutes for a large one or an early site.",
        "walls",
        "Find the nearest boundaries",
    ):
        return
    found = view.work("Finding boundaries", walls, example, span, live=True)
    if found is None:
        return
    bounds, beyond = found
    links = [None if other is None else markup.address_of("example", example=other, **view.state) for other in beyond]
    measured.metrics(
        [
            ("Inradius", markup.number(bounds.inradius), "Distance of the nearest boundary that it does not lie on"),
            ("Over its norm", f"{bounds.relative:.2g}", f"The norm of its activation is {bounds.norm:.4g}"),
            (
                "Lies on",
                f"{bounds.tied:,}",
                "Boundaries at distance 0: preactivations of 0, tied inputs of a window",
            ),
            ("Boundaries", f"{bounds.n_gates + bounds.n_pairs:,}", "Gates, and pairs of inputs of pooling windows"),
        ]
    )
    figures.show(
        ring(bounds.table, links, f"The {len(links)} nearest boundaries of example {example}, {span}"),
        f"boundaries-{example}",
        key="walls",
        data=bounds.table,
        alt=f"The {len(links)} nearest boundaries of example {example}, the nearest {bounds.inradius:.4g} away",
    )
    columns = [
        Column("Rank", NUMBER, lambda row: str(row["rank"])),
        Column("Distance", NUMBER, lambda row: markup.number(row["distance"])),
        Column("Site", KEY, lambda row: markup.plain(row["site"])),
        Column("Of", KEY, _wall_words),
        Column("Facet", KEY, lambda row: "proven" if row["facet"] is True else "not proven"),
        Column("Beyond it", KEY, lambda row: _beyond(view, row["beyond"]), "The nearest example on its other side"),
    ]
    rows = [row | {"beyond": other} for row, other in zip(records(bounds.table), beyond, strict=True)]
    show.table(rows[:WALLS_LISTED], columns)
    show.notes(
        bounds.remark,
        "A click on a gate's wall leads to the stored example beyond it whose code at that site is nearest; of "
        "a pooling window no code says who lies beyond.",
    )
    said = call(query.boundaries, example=example, span=span, k=WALLS)
    source(view, f"{said[:-1]}, reader={reader_of(view.network.name)}).table")


def _wall_words(row: dict[str, Any]) -> str:
    at = ", ".join(str(row[name]) for name in ("row", "column") if pd.notna(row[name]))
    where = (f" channel {row['channel']}" if pd.notna(row["channel"]) else "") + (f" at {at}" if at else "")
    what = f"gate {row['gate']}: {row['module']}" if row["kind"] == "gate" else "max-pooling"
    return markup.plain(what + where)


def _beyond(view: View, other: int | None) -> str:
    return "" if other is None else markup.link("example", f"example {other}", example=other, **view.state)


def walls(
    atlas: Atlas, example: int, span: str, *, reader: Network, progress: Progress | None = None
) -> tuple[query.Boundaries, list[int | None]]:
    """The nearest boundaries of an example, and for each the nearest stored example beyond it, where codes say so."""
    found = query.boundaries(atlas, reader=reader, span=span, example=example, k=WALLS, progress=progress)
    beyond: list[int | None] = [None] * len(found.table)
    gates = found.table[found.table["kind"] == "gate"]
    network = atlas.catalog.network(found.network)
    for site in atlas.catalog.sites_of(network):
        rows = gates[gates["site"] == site.name]
        if len(rows) and site.n_codes:
            others = nearest_opposite(atlas, example, site=site, gates=rows["gate"].astype(int).tolist())
            for row, other in zip(rows.index, others, strict=True):
                beyond[row] = other
    return found, beyond


def around(
    atlas: Atlas,
    example: int,
    k: int,
    most: int,
    *,
    network: str,
    site: str | None = None,
    span: str | None = None,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of the ``k`` nearest those in other polytopes, with the gates that differ, and at most ``most`` in its own."""
    here: dict[str, Any] = {"network": network, "site": site, "span": span}
    nearest = query.nearest(atlas, example=example, k=k, **here)
    tell(progress, 1, 2)
    about = nearest.attrs
    inhabitants = nearest[nearest["distance"] == 0]
    if len(inhabitants):
        inhabitants = query.nearest(atlas, example=example, radius=0, k=most, **here)
    nearest = nearest[nearest["distance"] > 0].reset_index(drop=True)
    differing = differing_gates(atlas, example, nearest["example_id"].tolist(), **here)
    nearest["gates"] = differing["gates"]
    nearest.attrs.update(about)
    return nearest, inhabitants

"""What Look says of an example besides its neighbours: itself, its clusters, its code, its boundaries."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

import query
from atlas import Atlas, Network
from query.clustering.clusterings import NOISE, SPACES
from query.clustering.flow import cluster_path
from query.examples.passages import passage
from query.examples.rasters import rasters
from query.polytope.opposite import nearest_opposite
from query.progress import Progress

from ...plain_text import counted
from .. import address
from ..charts.boundary_charts import ring
from ..charts.code_charts import code_raster, raster_table
from ..view import View, records
from . import cards, choices, figures, markup, measured, show
from .code import call, heading, reader_of, source
from .near import decoded, named
from .show import KEY, NUMBER, Column

WALLS, WALLS_LISTED = 24, 8
LINES_BEFORE, LINES_AFTER = 12, 6  # of the passage

SCOPES = {"position": "Codes of one position", "full": "Codes of all positions"}


def itself(view: View, row: dict[str, Any]) -> None:
    """The token in its passage, the picture or the numbers, and what the network made of it."""
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


def clusters_through_sites(view: View, example: int) -> None:
    """Of a stored example."""
    heading("Its cluster at every site")
    spaces = [space for space in SPACES if space in view.ask(_spaces, view.network.network_id)]
    if not spaces:
        show.notes("No site of this network is clustered yet: `polytope cluster` does it.")
        return
    space = spaces[0]
    if len(spaces) > 1:
        space = address.segment("Clusters of", spaces, key="space", label_visibility="collapsed")
    draw_path(view, view.ask(cluster_path, example, space))
    source(view, call(cluster_path, example, space))


def draw_path(view: View, path: pd.DataFrame) -> None:
    """A table of `query.cluster_path`, or of what was placed now, as a way from site to site."""
    for scope, rows in path[path["clustering"].notna()].groupby("scope", sort=False):
        if path["scope"].nunique() > 1:
            st.html(f'<div class="pa pa-muted">{SCOPES[str(scope)]}</div>')
        stops = "".join(_stop(view, row) for row in records(rows))
        st.html(f'<div class="pa"><ol class="pa-path">{stops}</ol></div>')
    left_out = int(path["clustering"].isna().sum())
    show.notes(
        "Newest clustering of each site; the bar is the strength of membership, 0 to 1.",
        f"{counted(left_out, 'site is', 'sites are')} not clustered." if left_out else None,
    )


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


def code(view: View, example: int) -> None:
    heading("Its code at every site")
    found = view.ask(rasters, example)
    scopes = {
        SCOPES["position"]: [raster for raster in found if not raster.by_channel],
        SCOPES["full"]: [raster for raster in found if raster.by_channel],
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
    if scope == SCOPES["full"]:
        show.notes(
            "Codes of all positions are too wide for a pixel a gate: a pixel is a channel, shaded by the "
            "share of its positions at which it is on."
        )
    source(
        view,
        call(rasters, example),
        sql=f"select site, n_active, code\nfrom spline_codes\nwhere example_id = {example}",
    )


# --- what bounds its polytope ----------------------------------------------------------------------------------


def boundaries(view: View, given: dict[str, Any], name: str) -> None:
    """``given``: what `query.boundaries` takes of a subject; ``name``: what it is called."""
    heading("How far the next polytope is")
    span = choices.span(view)
    if not measured.offer(
        "Runs the network on from the site: seconds for a small network, minutes for a large one or an early site.",
        "walls",
        "Find the nearest boundaries",
    ):
        return
    found = view.work("Finding boundaries", walls, given, span, live=True)
    if found is None:
        return
    bounds, beyond = found
    links = [None if other is None else markup.address_of("look", example=other, **view.state) for other in beyond]
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
        ring(bounds.table, links, f"The {len(links)} nearest boundaries of {name}, {span}"),
        "boundaries",
        key="walls",
        data=bounds.table,
        alt=f"The {len(links)} nearest boundaries of {name}, the nearest {bounds.inradius:.4g} away",
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
    said = call(query.boundaries, **named(given), span=span, k=WALLS)
    source(view, f"{said[:-1]}, reader={reader_of(view.network.name)}).table")


def _wall_words(row: dict[str, Any]) -> str:
    at = ", ".join(str(row[name]) for name in ("row", "column") if pd.notna(row[name]))
    where = (f" channel {row['channel']}" if pd.notna(row["channel"]) else "") + (f" at {at}" if at else "")
    what = f"gate {row['gate']}: {row['module']}" if row["kind"] == "gate" else "max-pooling"
    return markup.plain(what + where)


def _beyond(view: View, other: int | None) -> str:
    return "" if other is None else markup.link("look", f"example {other}", example=other, **view.state)


def walls(
    atlas: Atlas, given: dict[str, Any], span: str, *, reader: Network, progress: Progress | None = None
) -> tuple[query.Boundaries, list[int | None]]:
    """The nearest boundaries of a subject, and for each of a stored example the nearest other beyond it, where codes
    say so."""
    found = query.boundaries(atlas, reader=reader, span=span, **decoded(given), k=WALLS, progress=progress)
    beyond: list[int | None] = [None] * len(found.table)
    if (example := given.get("example")) is None:
        return found, beyond
    gates = found.table[found.table["kind"] == "gate"]
    network = atlas.catalog.network(found.network)
    for site in atlas.catalog.sites_of(network):
        rows = gates[gates["site"] == site.name]
        if len(rows) and site.n_codes:
            others = nearest_opposite(atlas, example, site=site, gates=rows["gate"].astype(int).tolist())
            for row, other in zip(rows.index, others, strict=True):
                beyond[row] = other
    return found, beyond

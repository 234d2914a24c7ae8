"""Atlas: the map of a site's examples at the left, its clusters at the right, and one selection for both."""

from __future__ import annotations

from typing import Any

import streamlit as st

import query
from atlas import Atlas
from atlas.errors import UnknownName
from query.clustering.clusterings import clustering_of
from query.layout.layouts import StoredLayout, find_layout, layout_columns, layout_of
from query.layout.regions import MOST_CORNERS, Region

from .. import address
from ..charts import map_points
from ..charts.map_points import MapPoints
from ..parts import cluster_list, marked, markup, placing, point_map, region_parts, saving, show
from ..parts.code import call, source
from ..view import View, explained, guarded, records

CLUSTER, LABEL, DISTANCE = "cluster", "label", "distance"
COLOURS = [CLUSTER, LABEL, DISTANCE]

FIGURE = "map"


def render(view: View) -> None:
    maps, clusterings = _maps(view), cluster_list.of_target(view)
    if not maps and clusterings.empty:
        _no_map(view)
        # Raises with the sentence that says how to make one.
        clustering_of(view.atlas, _target(view), None, "codes")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        layout = _layout(view, maps) if maps else None
        clustering = cluster_list.choose(clusterings) if len(clusterings) else None
        colour = LABEL
        if layout is not None:
            colour = address.segment("Colour", COLOURS if clustering is not None else COLOURS[1:], key="colour")
            marks = placing.placed(view, layout)
    if layout is not None:
        marks += marked.marks(view, layout)
    region = None
    with explained():
        region = _region()
    left, right = st.columns([3, 2], gap="medium")
    cluster = None
    with right, explained():
        if layout is not None and region is not None:
            region_parts.beside(view, layout, clustering, region)
        elif clustering is not None:
            found = cluster_list.found(view, clustering)
            cluster = cluster_list.find(view, found, clustering, "find one by its name")
            cluster_list.beside(view, found, clustering, cluster)
        else:
            show.notes(f"No clustering of {view.target} is stored: `polytope cluster` makes one.")
    with left, explained():
        if layout is None:
            _no_map(view)
        else:
            _draw(view, layout, clustering, colour, region, cluster, marks)
    if layout is not None and region is not None:
        with explained():
            region_parts.below(view, layout, region)


def _target(view: View) -> Any:
    return view.atlas.catalog.target(site=view.target, network=view.network.name)


# --- which map -------------------------------------------------------------------------------------------------


def _maps(view: View) -> list[dict[str, Any]]:
    """The maps of the target, newest last."""
    held = view.ask(query.layouts)
    return records(held[(held["network"] == view.network.name) & (held["target"] == _target(view).name)])


def _no_map(view: View) -> None:
    """How to make one, and which there are."""
    address.refuse_without_widget("within", "a region of a map", f"{view.target}, which has none")
    try:
        layout_of(view.atlas, _target(view))
    except UnknownName as missing:
        words, _, rest = str(missing).partition("`")
        show.notes(f"{words.strip().rstrip(';').capitalize()}. It is made on the command line:")
        st.code(rest.rpartition("`")[0], "sh", wrap_lines=True)
    held = view.ask(query.layouts)
    links = [
        markup.link(
            "atlas",
            f"{row['target']} ({row['space']})",
            layout=row["layout_id"],
            **{**view.state, "target": row["target"]},
        )
        for row in records(held[held["network"] == view.network.name])
    ]
    if links:
        st.html(
            f'<div class="pa">Maps of {markup.plain(view.network.name)} that are stored: {", ".join(links)}</div>'
        )


def _layout(view: View, maps: list[dict[str, Any]]) -> StoredLayout:
    words = {
        int(row["layout_id"]): f"{row['space']}, {row['neighbors']} neighbours, seed {row['seed']}" for row in maps
    }
    titles = {number: f"{number}: {said}" for number, said in words.items()}
    newest = layout_of(view.atlas, _target(view)).layout_id
    chosen = address.one_of(
        "Map",
        list(titles.values()),
        key="layout",
        first=titles[newest],
        width=200,
        also={str(number): title for number, title in titles.items()},
    )
    return find_layout(view.atlas, next(number for number, title in titles.items() if title == chosen))


# --- drawing ---------------------------------------------------------------------------------------------------


def map_of(atlas: Atlas, layout: int, colour: str, clustering: int | None) -> MapPoints:
    """What the browser draws of a map in one colour: 10 bytes a point."""
    columns = layout_columns(atlas, layout, what=colour, clustering=clustering)
    if colour == CLUSTER:
        named = query.made_names(atlas, clustering=clustering)
        return map_points.by_cluster(columns, dict(zip(named["cluster"].tolist(), named["title"], strict=True)))
    return map_points.by_label(columns) if colour == LABEL else map_points.by_distance(columns)


def _draw(
    view: View,
    layout: StoredLayout,
    clustering: int | None,
    colour: str,
    region: Region | None,
    cluster: int | None,
    marks: list[point_map.Mark],
) -> None:
    points = view.ask(map_of, layout.layout_id, colour, clustering if colour == CLUSTER else None)
    point_map.show(
        view,
        points,
        f"map-{layout.target.name}".replace("->", "-to-").replace(":", "-"),
        key=FIGURE,
        alt=f"Map of {layout.n_examples:,} examples at {layout.target.name}, coloured by {colour}",
        layout=layout.layout_id,
        clustering=clustering,
        chosen=cluster if colour == CLUSTER else None,
        outline=region.corners if region is not None else (),
        marks=marks,
        on_drawn=_drawn,
        on_kind=_named if colour == CLUSTER else None,
    )
    if colour == LABEL:
        _legend(points)
    sure = "" if layout.proven == 1 else f" {layout.proven:.1%} of them are proven to be the nearest."
    measure = map_points.MEASURES[layout.metric]
    show.notes(
        f"UMAP of the {layout.neighbors} nearest others of each of {layout.n_examples:,} examples, by "
        f"{measure}, least distance {layout.min_dist:g}, seed {layout.seed}.{sure} Only who is near whom is meant.",
        f"Colour: the mean distance ({measure}) to those {layout.neighbors}, dark where it is small."
        if colour == DISTANCE
        else None,
        None if layout.current else f"Examples were added to {view.target} since: `polytope layout` includes them.",
    )
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        with st.container(width=320):
            st.text_input(
                "Region",
                key="within",
                bind="query-params",
                placeholder="draw one on the map, or type x, y, x, y",
                help="Two opposite corners of a box, or the corners of a polygon, as x, y each, with commas.",
            )
        saving.draw(view)
    source(
        view,
        call(query.layout_points, layout.layout_id, clustering=clustering),
        sql=_POINTS_SQL.format(layout.layout_id),
    )


_POINTS_SQL = """select example_id, x, y, label, list_avg(distances) as distance
from layout_points join examples using (example_id)
where layout_id = {}
order by example_id"""


def _legend(points: MapPoints) -> None:
    """What the largest kinds look like, the largest first."""
    kinds = sorted(points.kinds, key=lambda kind: (kind.quiet, -kind.n))[: len(map_points.COLOURS) * 3]
    shown = "".join(
        f'<span><i style="background: {kind.colour}"></i>{markup.plain(kind.name)} '
        f'<span class="pa-muted">{kind.n:,}</span></span>'
        for kind in kinds
    )
    st.html(f'<div class="pa pa-legend">{shown}</div>')


# --- selecting -------------------------------------------------------------------------------------------------


@guarded
def _drawn() -> None:
    """What was drawn on the map, as the region of the address, in place of a cluster."""
    kind, x, y = point_map.drawn_region(FIGURE)
    if kind == "lasso":
        corners = simplified(list(zip(x, y, strict=True)))
        region = Region.of(number for corner in corners for number in corner)
    else:
        region = Region.of((min(x), min(y), max(x), max(y)))
    cluster_list.choose_titled(None)
    st.session_state["within"] = str(region)
    st.session_state["page"] = 1


@guarded
def _named() -> None:
    """The cluster whose name was clicked, in place of a region."""
    title = point_map.chosen_name(FIGURE)
    cluster_list.choose_titled(None if st.session_state.get("cluster") == title else title)


def simplified(corners: list[tuple[float, float]], most: int = MOST_CORNERS // 2) -> list[tuple[float, float]]:
    """A hand-drawn outline with at most so many corners: every second, third, … of them."""
    step = -(-len(corners) // most)
    kept = corners[::step]
    return kept if len(kept) >= 3 else corners


def _region() -> Region | None:
    """The region as the address has it; the field that holds it comes after what it is needed for."""
    text = str(st.session_state.get("within", st.query_params.get("within", "")) or "").strip()
    return Region.parse(text) if text else None

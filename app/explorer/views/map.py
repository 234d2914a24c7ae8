"""Map: a site's examples in the plane, near where their codes are near; a part of it can be selected and listed."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

import query
from atlas.errors import UnknownName
from query.layout.layouts import StoredLayout, find_layout, layout_of
from query.layout.regions import MOST_CORNERS, Region, region_counts, region_sql

from ...plain_text import counted
from .. import address
from ..charts import chart_style, layout_charts
from ..parts import cards, figures, markup, show
from ..parts.code import call, source
from ..parts.kinds import LOOKS
from ..parts.show import KEY, NUMBER, Column
from ..view import View, explained, guarded, records

COUNTED = 10  # labels and clusters of a region that are listed
NUMBERS_SHOWN = 60  # characters of a region in a heading

CLUSTER, LABEL, DISTANCE = "cluster", "label", "distance"
COLOURS = [CLUSTER, LABEL, DISTANCE]

FIGURE = "map"
TOOLS = ["drawrect", "drawclosedpath", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]


def render(view: View) -> None:
    found = _chosen(view)
    if found is None:
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        layout, clustering, colour = _choose(view, found)
    if not layout.current:
        show.notes(f"Examples were added to {view.target} since: `polytope layout` includes them.")
    region = None
    with explained():
        region = _region()
    _draw(view, layout, clustering, colour, region)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Region",
            key="within",
            bind="query-params",
            placeholder="drag a box or a lasso on the map, or type x, y, x, y",
            help="Two opposite corners of a box, or the corners of a polygon, as x, y each, with commas.",
        )
        st.button("Clear", on_click=_clear, disabled=not _within())
    if region is not None:
        with explained():
            _listed(view, layout, clustering, region)


# --- which map -------------------------------------------------------------------------------------------------


def _chosen(view: View) -> list[dict[str, Any]] | None:
    """The maps of the target, newest last; where there are none, the page says how to make one."""
    target = view.atlas.catalog.target(site=view.target, network=view.network.name)
    held = view.ask(query.layouts)
    mine = held[(held["network"] == view.network.name) & (held["target"] == target.name)]
    if len(mine):
        return records(mine)
    try:
        layout_of(view.atlas, target)
    except UnknownName as missing:
        address.refuse_without_widget("within", "a region of a map", f"{view.target}, which has none")
        _missing(view, str(missing), held[held["network"] == view.network.name])
    return None


def _missing(view: View, sentence: str, others: pd.DataFrame) -> None:
    words, _, rest = sentence.partition("`")
    command, _, _ = rest.rpartition("`")
    show.notes(f"{words.strip().rstrip(';').capitalize()}. It is made on the command line:")
    st.code(command, "sh")
    links = [
        markup.link(
            "map",
            f"{row['target']} ({row['space']})",
            layout=row["layout_id"],
            **{**view.state, "target": row["target"]},
        )
        for row in records(others)
    ]
    if links:
        st.html(
            f'<div class="pa">Maps of {markup.plain(view.network.name)} that are stored: {", ".join(links)}</div>'
        )


def _choose(view: View, mine: list[dict[str, Any]]) -> tuple[StoredLayout, int | None, str]:
    words = {
        int(row["layout_id"]): f"{row['space']}, {row['neighbors']} neighbours, seed {row['seed']}" for row in mine
    }
    newest = layout_of(view.atlas, view.atlas.catalog.target(site=view.target, network=view.network.name)).layout_id
    chosen = _numbered("Map", words, "layout", newest, 290)
    layout = find_layout(view.atlas, chosen)
    held = view.ask(query.clusterings)
    mine_too = held[(held["network"] == view.network.name) & (held["target"] == layout.target.name)]
    offered = COLOURS if len(mine_too) else COLOURS[1:]
    colour = address.segment("Colour", offered, key="colour")
    return layout, _clustering(mine_too, layout.space) if len(mine_too) else None, colour


def _clustering(offered: pd.DataFrame, space: str) -> int:
    spaces = dict(zip(offered["clustering_id"].tolist(), offered["space"], strict=True))
    counts = dict(zip(offered["clustering_id"].tolist(), offered["n_clusters"], strict=True))
    numbers = [int(number) for number in spaces]
    alike = [number for number in numbers if spaces[number] == space]
    words = {number: f"{counted(counts[number], 'cluster')} of {spaces[number]}" for number in numbers}
    return _numbered("Clustering", words, "clustering", (alike or numbers)[-1], 250)


def _numbered(label: str, words: dict[int, str], key: str, first: int, width: int) -> int:
    """One of several things that have a number and are told by words; an address may give the number alone."""
    titles = {number: f"{number}: {said}" for number, said in words.items()}
    chosen = address.one_of(
        label,
        list(titles.values()),
        key=key,
        first=titles[first],
        width=width,
        also={str(number): title for number, title in titles.items()},
    )
    return next(number for number, title in titles.items() if title == chosen)


# --- drawing ---------------------------------------------------------------------------------------------------


def _draw(view: View, layout: StoredLayout, clustering: int | None, colour: str, region: Region | None) -> None:
    names = cards.cluster_names(view, clustering) if clustering is not None else {}
    points = view.ask(query.layout_points, layout.layout_id, clustering=clustering)
    title = f"{layout.target.name}, {layout.space}; n = {len(points):,} examples"
    figure = layout_charts.layout(points, colour, title, names)
    # The same part of the same map in another colour, without what was hidden in the legend.
    figure.update_layout(uirevision=layout.layout_id, legend={"uirevision": f"{clustering} {colour}"})
    figures.show(
        figure,
        f"map-{layout.target.name}".replace("->", "-to-").replace(":", "-"),
        key=FIGURE,
        toolbar=TOOLS,
        data=points,
        on_drawn=_select,
        outline=_outline(region),
        many=len(points) > layout_charts.LARGE,
        alt=f"Map of {layout.n_examples} examples at {layout.target.name}, coloured by {colour}",
    )
    sure = "" if layout.proven == 1 else f" {layout.proven:.1%} of them are proven to be the nearest."
    measure = layout_charts.MEASURES[layout.metric]
    show.notes(
        f"UMAP of the {layout.neighbors} nearest others of each of {layout.n_examples:,} examples, by "
        f"{measure}, least distance {layout.min_dist:g}, seed {layout.seed}.{sure}",
        f"Distance: the mean ({measure}) to those {layout.neighbors}; where it is small, examples lie close together."
        if colour == DISTANCE
        else None,
    )
    source(
        view,
        call(query.layout_points, layout.layout_id, clustering=clustering),
        sql=_POINTS_SQL.format(layout.layout_id),
    )


_POINTS_SQL = """select example_id, x, y, label, list_avg(distances) as distance
from layout_points join examples using (example_id)
where layout_id = {}
order by example_id"""


# --- selecting -------------------------------------------------------------------------------------------------


@guarded
def _select() -> None:
    """What was drawn on the map, as the region of the address."""
    kind, x, y = figures.drawn_region(FIGURE)
    if kind == "lasso":
        corners = simplified(list(zip(x, y, strict=True)))
        region = Region.of(number for corner in corners for number in corner)
    else:
        region = Region.of((min(x), min(y), max(x), max(y)))
    st.session_state["within"] = str(region)
    st.session_state["page"] = 1


def simplified(corners: list[tuple[float, float]], most: int = MOST_CORNERS // 2) -> list[tuple[float, float]]:
    """A hand-drawn outline with at most so many corners: every second, third, … of them."""
    step = -(-len(corners) // most)
    kept = corners[::step]
    return kept if len(kept) >= 3 else corners


@guarded
def _clear() -> None:
    st.session_state["within"] = ""


def _region() -> Region | None:
    text = _within()
    return Region.parse(text) if text else None


def _within() -> str:
    """The region as the URL has it; the field that holds it comes after what it is needed for."""
    return str(st.session_state.get("within", st.query_params.get("within", "")) or "").strip()


def _outline(region: Region | None) -> list[dict[str, Any]]:
    """The region as a shape of Plotly."""
    if region is None:
        return []
    corners = region.corners
    if len(corners) == 2:
        (x0, y0), (x1, y1) = corners
        shape: dict[str, Any] = {"type": "rect", "x0": x0, "y0": y0, "x1": x1, "y1": y1}
    else:
        shape = {"type": "path", "path": "M " + " L ".join(f"{x:g},{y:g}" for x, y in corners) + " Z"}
    return [shape | {"line": {"color": chart_style.GREY, "width": 1.5, "dash": "dash"}}]


# --- what is selected ------------------------------------------------------------------------------------------


def _listed(view: View, layout: StoredLayout, clustering: int | None, region: Region) -> None:
    per_page = LOOKS[view.network.kind].page_rows
    counts = view.ask(region_counts, layout.layout_id, region, clustering=clustering)
    size = int(counts.loc[counts["what"] == LABEL, "n"].sum())
    kind = "box" if len(region.corners) == 2 else f"polygon of {len(region.corners)} corners"
    st.header(f"{size:,} of {layout.n_examples:,} examples in this {kind}", anchor=False)
    if not size:
        return
    left, right = st.columns([1, 3], gap="medium")
    with left:
        for what in (LABEL, CLUSTER):
            _counted(view, counts[counts["what"] == what], what, clustering)
        corners = [number for corner in region.corners for number in corner]
        source(view, call(region_counts, layout.layout_id, corners, clustering=clustering))
    with right:
        start = address.paged(size, per_page, of=(layout.layout_id, str(region))).start
        wanted = {"limit": per_page, "offset": start}
        shown = view.ask(query.layout_examples, layout.layout_id, region, **wanted)
        cards.examples(view, shown.drop(columns=["x", "y"]))
        show.notes(f"{start + 1:,} to {start + len(shown):,} of {size:,}, in order of id.")
    st.html('<div class="pa pa-muted">As a predicate on layout_points:</div>')
    st.code(f"layout_id = {layout.layout_id} and {region.sql}", "sql", wrap_lines=True)
    source(
        view,
        call(query.layout_examples, layout.layout_id, corners, **wanted),
        sql=region_sql(layout.layout_id, region),
    )


def _counted(view: View, counts: pd.DataFrame, what: str, clustering: int | None) -> None:
    """The commonest labels or clusters of a region, with how much commoner they are than on the whole map."""
    if counts.empty:
        return

    def words(row: dict[str, Any]) -> str:
        if what == LABEL or clustering is None:
            return markup.words(row["name"])
        number = -1 if row["name"] == "noise" else int(row["name"])
        return cards.cluster_link(view, clustering, number)

    columns = [
        Column(what.capitalize(), KEY, words),
        Column("Here", NUMBER, lambda row: f"{row['n']:,}", "Examples in the region"),
        Column("Lift", NUMBER, lambda row: markup.number(float(row["lift"]), 3), "Share over that on the whole map"),
    ]
    show.table(records(counts.head(COUNTED)), columns)
    if len(counts) > COUNTED:
        show.notes(f"and {len(counts) - COUNTED:,} more")

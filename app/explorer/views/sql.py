"""SQL: one read-only query at a time, the schema beside it."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa
import streamlit as st
from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

import query
from atlas import Atlas
from atlas.errors import NotStored, UnknownName, UsageError
from query.store.queries import DEFAULT_LIMIT, DEFAULT_TIMEOUT, schema

from ...plain_text import counted, distinct
from .. import address, jobs
from ..charts import chart_style
from ..parts import figures, marked, markup, pin, pins, saving, show
from ..parts.code import call, source
from ..parts.kinds import LOOKS
from ..parts.pin import Pin
from ..view import View, explained, guarded, literal, records

MOST_ROWS = 10_000  # to page through and to download; the command line and Python give all rows
PAGE_ROWS = 200  # sent to the browser at once: some screens
LONGEST = 300  # seconds
TABLE, CHART = "Table", "Chart"
NO_COLUMN = "(none)"
BYTES_SHOWN = 16  # of a blob that is no picture, in hexadecimal


def render(view: View) -> None:
    # Side by side as the window is wide: static/style.css has the places.
    with st.container(key="sql"):
        with st.container(key="sql-editor"):
            limit, timeout = _editor(view)
        with st.container(key="sql-schema"):
            _schema(view)
        text = st.session_state["query"].strip()
        with st.container(key="sql-result"), explained():
            if text:
                _run(view, text, limit, timeout)


def _editor(view: View) -> tuple[int, int]:
    examples = sample_queries(view)
    st.html('<div class="pa pa-muted">Examples</div>')
    with st.container(horizontal=True, gap="xsmall"):
        for name, text in examples.items():
            st.button(name, on_click=_write, args=(text,), type="secondary", key=f"sample-{name}")
    first = next(iter(examples.values()))
    if "query" not in st.session_state and "query" not in st.query_params:
        st.session_state["query"] = first
    elif "query" in st.session_state and st.session_state["query"] == st.session_state.get("query-first"):
        st.session_state["query"] = first  # of another network or site: the address does not name the one before
    st.session_state["query-first"] = first
    st.text_area("Query (Ctrl+Enter runs it)", key="query", bind="query-params", height=160)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button("Run", type="primary", width=90, key="go-run")
        limit = address.number("Rows at most", 1, MOST_ROWS, DEFAULT_LIMIT, key="limit", step=100, width=140)
        timeout = address.number("Seconds at most", 1, LONGEST, int(DEFAULT_TIMEOUT), key="timeout", width=140)
        saving.draw(view)
    return limit, timeout


@guarded
def _write(text: str) -> None:
    st.session_state["query"] = text


def _schema(view: View) -> None:
    """What every column means, a table at a time."""
    columns = view.ask(schema)
    tables = list(dict.fromkeys(columns["table"]))
    first = "spline_codes" if "spline_codes" in tables else tables[0]
    table = address.one_of("Columns of", tables, key="table", first=first)
    heads = [("Column", "", "pa-code"), ("Type", "", "pa-small"), ("Meaning", "", "")]
    rows = [
        [markup.plain(row["column"]), markup.plain(row["type"]), markup.plain(row["comment"])]
        for row in records(columns[columns["table"] == table])
    ]
    shown = markup.table(heads, rows)
    st.html(
        f'<div class="pa-tall" tabindex="0" role="region" aria-label="Columns of {markup.plain(table)}">{shown}</div>'
    )
    st.html(
        '<div class="pa pa-note">Functions: <code>hamming(a, b)</code>, <code>is_on(code, gate)</code>, '
        "<code>polytope_density(code_a, code_b, activation_a, activation_b)</code></div>"
    )


def _run(view: View, text: str, limit: int, timeout: int) -> None:
    answered = view.work("Query", timed, text, limit, float(timeout), turns=jobs.SQL)
    if answered is None:
        return
    rows, took = answered
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.html(f'<div class="pa">{_counted(rows, took)}</div>')
        how = address.segment("Show as", [TABLE, CHART], key="show", label_visibility="collapsed")
        st.download_button(
            "Download CSV",
            partial(figures.csv, rows),
            "query.csv",
            "text/csv",
            on_click="ignore",
            disabled=rows.empty,
            help="All rows of the answer; lists as JSON, bytes in base64",
        )
    if how == TABLE:
        part = address.paged(len(rows), PAGE_ROWS, of=text)
        _table(view, rows.iloc[part])
        if part.stop - part.start < len(rows):
            show.notes(f"Rows {part.start + 1:,} to {part.stop:,} of {len(rows):,}")
    else:
        shown, pictures = _shown(rows)
        _chart(shown.drop(columns=pictures))
    source(view, _call(text, limit, timeout))


def _table(view: View, rows: pd.DataFrame) -> None:
    """Rows; those that are examples or clusters can be chosen and pinned, and examples marked on the map."""
    shown, pictures = _shown(rows)
    look: dict[str, Any] = {
        "hide_index": True,
        "placeholder": "null",
        "column_config": {name: st.column_config.ImageColumn(name, width="small") for name in pictures},
    }
    found = pins_of(rows)
    if not found:
        st.dataframe(shown, **look)
        return
    place = st.container(horizontal=True, vertical_alignment="center", key="sql-chosen")
    chosen = st.dataframe(shown, **look, key="rows", on_select="rerun", selection_mode="multi-row")
    marked_rows = [found[row] for row in chosen["selection"]["rows"] if row < len(found)]
    with place:
        numbers = [each.number for each in (marked_rows or found) if each.kind == "example"]
        if numbers:
            state = {**view.state, **marked.state(numbers)}
            st.html(f'<div class="pa">{markup.link("atlas", "Mark them on the map", **state)}</div>', width="content")
        st.button(
            f"Pin {counted(len(marked_rows), 'row')}" if marked_rows else "Pin",
            icon=":material/keep:",
            key="pin-rows",
            disabled=not marked_rows,
            help="Choose rows at their left edge, and compare what they are about",
            on_click=_pin,
            args=([each.word for each in marked_rows],),
        )


def pins_of(rows: pd.DataFrame) -> list[Pin]:
    """What each row is about, where every row is about an example or a cluster: its columns have the names that the
    tables of the atlas give them."""
    names = set(rows.columns)
    if rows.empty or rows.columns.has_duplicates:
        return []
    cluster = next((name for name in ("cluster", "label") if name in names and is_integer_dtype(rows[name])), None)
    if "example_id" in names and is_integer_dtype(rows["example_id"]) and rows["example_id"].notna().all():
        return [pin.example(int(number)) for number in rows["example_id"]]
    if cluster and "clustering_id" in names and rows[["clustering_id", cluster]].notna().all(axis=None):
        return [pin.cluster(int(of), int(number)) for of, number in rows[["clustering_id", cluster]].to_numpy()]
    return []


@guarded
def _pin(words: list[str]) -> None:
    held = {each.word for each in pins.pinned()}
    for word in dict.fromkeys(words):
        if word not in held:
            pins.toggle(word)


def _counted(rows: pd.DataFrame, took: float) -> str:
    if rows.attrs.get("truncated", False):
        return f"<b>The first {len(rows):,} rows</b>; there are more. Raise the row limit, or narrow the query."
    return f"<b>{len(rows):,} row{'' if len(rows) == 1 else 's'}</b> in {took:.2f} s"


def _chart(rows: pd.DataFrame) -> None:
    """One column against another, each chosen: to begin with the first words and the first number, and where several
    rows have the same words, in the colours of a column that tells them apart."""
    numbers = [str(name) for name in rows.columns if is_numeric_dtype(rows[name]) and not is_bool_dtype(rows[name])]
    if rows.empty or not numbers:
        show.notes("A chart needs rows, and a column of numbers among them.")
        return
    columns = [str(name) for name in rows.columns]
    words = [name for name in columns if name not in numbers]
    first = next(iter(words), numbers[0])
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        measured = [name for name in numbers if name != first and not name.endswith("_id")] or numbers
        across = address.one_of("Across", columns, key="x", first=first, width=220)
        up = address.one_of("Up", numbers, key="y", first=measured[0], width=220)
        telling = _telling(rows, across, words)
        address.follow_default("by", telling)
        by = address.one_of("Colour", [NO_COLUMN, *words], key="by", first=telling, width=220)
    shown = [across] if by in (NO_COLUMN, across) else [across, by]
    if across in words and chart_style.repeats(rows, shown):
        show.notes(f"Several rows have the same {' and '.join(f'`{name}`' for name in shown)}: each is a point.")
    figures.show(
        chart_style.chart(rows, across, up, None if by == NO_COLUMN else by),
        "query",
        key="query-chart",
        data=rows[list(dict.fromkeys([*shown, up]))],
    )


def _telling(rows: pd.DataFrame, across: str, words: list[str]) -> str:
    """The column whose values tell rows apart that have the same words across, if there is one and it is needed."""
    if across not in words or not chart_style.repeats(rows, [across]):
        return NO_COLUMN
    few = [name for name in words if rows[name].map(str).nunique() <= len(chart_style.SERIES)]
    return next((name for name in few if not chart_style.repeats(rows, [across, name])), NO_COLUMN)


def _call(text: str, limit: int, timeout: int) -> str:
    """The query as Python, on lines of its own where quotes allow it."""
    if '"""' in text or "\\" in text:
        return call(query.sql, text, limit=limit, timeout=float(timeout))
    return f'query.sql(a, """\n{text}\n""", limit={limit}, timeout={timeout})'


def timed(atlas: Atlas, text: str, limit: int, timeout: float) -> tuple[pd.DataFrame, float]:
    """The rows of a query and the seconds that it took."""
    begun = time.perf_counter()
    rows = query.sql(atlas, text, limit=limit, timeout=timeout)
    return rows, time.perf_counter() - begun


def _shown(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Rows as the browser can show them, and the columns that hold pictures. Names that occur twice are numbered."""
    mixed = [place for place in range(rows.shape[1]) if _is_mixed(rows.iloc[:, place])]
    shown = rows.copy()
    shown.columns = pd.Index(distinct([str(name) for name in rows.columns]))
    for place in mixed:
        cells = figures.in_text(shown.iloc[:, [place]]).iloc[:, 0]
        shown.isetitem(place, cells.map(str, na_action="ignore").astype(object).array)
    pictures = []
    for name in shown.columns:
        values = shown[name]
        if values.map(lambda value: isinstance(value, bytes | bytearray)).any():
            shown[name] = values.map(_bytes)
            if shown[name].dropna().map(lambda value: str(value).startswith("data:image/")).all():
                pictures.append(name)
    return shown, pictures


def _is_mixed(values: pd.Series) -> bool:
    """Whether the values, of a union or a variant, are of kinds that no one type of Arrow holds."""
    if values.dtype.kind != "O":
        return False
    are_bytes = values.dropna().map(lambda value: isinstance(value, bytes | bytearray))
    if are_bytes.any():  # Arrow would make bytes of the words beside them
        return not are_bytes.all()
    try:
        pa.Array.from_pandas(values)
    except (pa.ArrowException, OverflowError):
        return True
    return False


def _bytes(value: object) -> str | None:
    if not isinstance(value, bytes | bytearray):
        return None
    more = "…" if len(value) > BYTES_SHOWN else ""
    return markup.picture(value) or bytes(value[:BYTES_SHOWN]).hex() + more


def sample_queries(view: View) -> dict[str, str]:
    """Queries to begin with, about the chosen network and site, or the last site of the chosen span; each runs as it
    stands. The page opens with the first, which reads one site; the last reads all codes."""
    network = literal(view.network.name)
    here = f"network = {network} and site = {literal(_sampled_site(view))}"
    seen = LOOKS[view.network.kind].seen
    return {
        "Labels where a gate is on": (
            "select label, avg(is_on(code, 0)::int) as share_on, count(*) as examples\n"
            f"from spline_codes\nwhere {here}\ngroup by label\norder by share_on desc"
        ),
        "Fullest polytopes": (
            "select code_hash::varchar as code_hash, occupancy, n_active, first_example\n"
            f"from polytopes\nwhere {here}\norder by occupancy desc, first_example\nlimit 20"
        ),
        "Most surprising": (
            f"select example_id, {seen}, examples.label, prediction, loss, probability\n"
            "from examples join inputs using (input_id) join networks using (network_id)\n"
            f"where networks.name = {network}\norder by loss desc nulls last\nlimit 20"
        ),
        "Purity by depth": (
            "select target, purity, n_noise / n_examples as noise, n_clusters, space, clustering_id\n"
            "from clusterings join networks using (network_id)\n"
            f"left join sites on sites.network_id = clusterings.network_id and sites.name = target\n"
            f"where networks.name = {network}\norder by scope desc, ordinal, clustering_id"
        ),
        "Polytopes a site": (
            "select site, network, count(*) as polytopes, sum(occupancy) as examples, max(occupancy) as largest\n"
            "from polytopes\ngroup by all\norder by network, site"
        ),
    }


def _sampled_site(view: View) -> str:
    """Where the target is none, the last site: the page is about any query, and still has its samples."""
    catalog = view.atlas.catalog
    try:
        return catalog.target(site=view.target, network=view.network.name).sites[-1].name
    except (UnknownName, UsageError, NotStored):
        return catalog.sites_of(view.network)[-1].name

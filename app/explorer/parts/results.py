"""Every result that an atlas stores, whichever question it answers, and the experiments of which it stores none."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from atlas import Atlas
from query.experiments.archive import load, stored
from query.experiments.registry import EXPERIMENTS, find
from query.experiments.report import not_stored
from query.experiments.result import MAIN, Result

from ...plain_text import counted, one_line
from .. import address
from ..view import View, explained, records
from . import figures, markup, measured, show
from .code import call, heading, source

STORED, UNASKED = "Stored", "Not stored"
"""Parts of the page of claims, as an address names them."""

PAGE_ROWS = 15  # results a page of the list
TABLE_ROWS = 200  # rows of a result's table that are sent; its CSV has all
SAID = 90  # characters of parameters in the list


def elsewhere(view: View) -> None:
    """What the list of stored results is asked for stays in the address beside it, but for what it could not show."""
    kind, number = (st.query_params.get(key, "") for key in ("kind", "experiment"))
    if kind not in EXPERIMENTS:
        address.refuse_without_widget("kind", f"{ALL} or the name of an experiment", ALL)
    if not (number.isdecimal() and view.ask(is_stored, int(number))):
        address.refuse_without_widget("experiment", "the number of a stored result", "none")


def is_stored(atlas: Atlas, number: int) -> bool:
    """Whether a result of that number is stored, of whichever network."""
    return number in {int(held) for (held,) in atlas.rows("select experiment_id from experiments")}


# --- what is stored --------------------------------------------------------------------------------------------

ALL = "all"


def draw_stored(view: View) -> None:
    everything = address.switch("Of all networks", key="everywhere")
    of = None if everything else view.network.name
    held = view.ask(stored, network=of)
    kinds = [ALL, *(name for name in EXPERIMENTS if name in set(held["kind"]))]
    kind = address.segment("Kind", kinds, key="kind") if len(held) else ALL
    if kind != ALL:
        held = held[held["kind"] == kind]
    if held.empty:
        whose = "any network" if everything else view.network.name
        address.refuse_without_widget("kind", ALL, ALL)
        address.refuse_without_widget(
            "experiment", "the number of a stored result", f"none, for none is stored of {whose}"
        )
        show.notes(
            f"No result is stored for {whose}. An experiment that is run on the command line is stored; “Not "
            "stored” lists all, each with its command."
        )
        return
    rows = address.paged(len(held), PAGE_ROWS, of=(of, kind))
    keep = {
        "everywhere": "true" if everything else None,
        "kind": None if kind == ALL else kind,
        "page": 1 + rows.start // PAGE_ROWS if rows.start else None,
    }
    _list(view, held.iloc[rows], keep)
    source(view, call(stored, network=of) + ("" if kind == ALL else f".query({f'kind == {kind!r}'!r})"))
    numbers = [int(number) for number in held["experiment_id"]]
    wanted = st.query_params.get("experiment")
    if wanted is None:
        _result(view, held, numbers[0])
    elif wanted.isdecimal() and int(wanted) in numbers:
        _result(view, held, int(wanted))
    else:
        show.error(
            f"no experiment {wanted} is stored of {'any network' if everything else view.network.name}"
            f"{'' if kind == ALL else f' and kind {kind}'}; the list above has all that are"
        )


def _list(view: View, held: pd.DataFrame, keep: dict[str, object]) -> None:
    """Results, each a link to itself that keeps what is listed."""
    heads = [
        ("Number", "Follow it to see the result", "pa-number"),
        ("Experiment", "", "pa-key"),
        ("Network", "", "pa-key"),
        ("Asked for", "Where it is not the default", "pa-wide"),
        (
            "Current",
            "Asked again, this is the answer: neither the data that it rests on nor the experiment have changed",
            "pa-key",
        ),
    ]
    rows = [
        [
            _link(view, row["experiment_id"], str(row["experiment_id"]), **keep),
            markup.plain(row["kind"]),
            markup.words(row["network"]),
            markup.visible(one_line(said(row["options"]), SAID)),
            "yes" if row["current"] else f'<span title="Run it again">no: {row["outdated"]}</span>',
        ]
        for row in records(held)
    ]
    st.html(markup.table(heads, rows))


def _link(view: View, number: int, words: str, **more: object) -> str:
    return markup.link("claims", words, show=STORED, experiment=number, **more, **view.state)


def said(options: dict[str, Any]) -> str:
    """Options in a line."""
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in options.items()
        if name not in ("network", "controls")
    ) + (f"; beside {', '.join(options['controls'])}" if options.get("controls") else "")


def _result(view: View, held: pd.DataFrame, number: int) -> None:
    row = held[held["experiment_id"] == number].to_dict("records")[0]
    found = measured.Answer(view.ask(load, number), number)
    result = found.result
    heading(f"Experiment {number}: {markup.markdown(result.kind)}")
    known = find(result.kind) if result.kind in EXPERIMENTS else None
    if known is None:
        show.error(
            f"this polytope-atlas has no experiment {result.kind}, so it draws no figure of it; its tables are below"
        )
    else:
        show.notes(
            EXPERIMENTS[result.kind],
            None if row["current"] else f"Not current, for {row['outdated']}: the command below measures it again.",
        )
        figures.show(
            measured.drawn(result),
            f"{result.kind}-{number}",
            key=f"experiment-{number}",
            data=result.table,
            alt=f"Figure of experiment {number}, {result.kind}",
        )
        if known.picture is not None:
            st.download_button(
                "PNG without text",
                partial(known.picture, result),
                f"{result.kind}-{number}-plain.png",
                "image/png",
                on_click="ignore",
                type="tertiary",
                key="plain-png",
            )
    measured.remarks(found)
    _parameters(result.parameters)
    _table(number, result)
    source(view, f"{call(load, number)}.tables", f"{call(load, number)}.parameters")
    if known is not None:
        measured.code(view, result.kind, result.options or result.parameters, result.network, list(result.tables))


def _table(number: int, result: Result) -> None:
    """One of the tables, chosen by name; the head of a column says what it holds."""
    names = list(result.tables)
    name = names[0]
    if len(names) > 1:
        name = address.segment("Table", sorted(names, key=lambda name: name != MAIN), key="table")
    table = result.tables[name]
    shown = figures.in_text(table.head(TABLE_ROWS))
    st.dataframe(shown, hide_index=True, placeholder="–", column_config=_heads(result.kind, name))
    with st.container(horizontal=True, vertical_alignment="center"):
        whole = len(table) <= TABLE_ROWS
        rows = counted(len(table), "row") if whole else f"The first {TABLE_ROWS} of {len(table):,} rows"
        show.notes(f"{rows}.")
        st.download_button(
            "CSV",
            partial(figures.csv, table),
            f"experiment-{number}-{name}.csv",
            "text/csv",
            on_click="ignore",
            type="tertiary",
            key="table-csv",
            help="All rows of this table",
        )


def _heads(kind: str, table: str) -> dict[str, Any]:
    """What the columns of a table hold, as its experiment declares them."""
    declared = find(kind).tables.get(table) if kind in EXPERIMENTS else None
    return {
        column.name: st.column_config.Column(help=f"{column.meaning}{f', in {column.unit}' if column.unit else ''}")
        for column in (declared.columns if declared else ())
    }


def _parameters(parameters: dict[str, Any]) -> None:
    with st.expander("Parameters"):
        rows = [
            [markup.plain(name), f"<code>{markup.plain(json.dumps(value, ensure_ascii=False))}</code>"]
            for name, value in parameters.items()
        ]
        st.html(markup.table([("Parameter", "", "pa-key"), ("Value", "As JSON", "")], rows))


# --- what is not -----------------------------------------------------------------------------------------------


def draw_unasked(view: View) -> None:
    found = view.ask(not_stored, view.network.name)
    if found.empty:
        show.notes(f"Every experiment is stored for {view.network.name}, and current.")
        return
    show.notes(
        f"{len(found)} of {len(EXPERIMENTS)} experiments {'has' if len(found) == 1 else 'have'} no current "
        f"result for {view.network.name}. The command stores one; what is computed on this page "
        "is not stored."
    )
    heads = [
        ("Experiment", "Follow it to see its command", "pa-key"),
        ("What comes out", "", ""),
        ("Takes", "Whether the network itself is run", "pa-key"),
    ]
    rows = [
        [
            markup.link("claims", row["kind"], show=UNASKED, compute=row["kind"], **view.state),
            markup.plain(row["summary"]),
            "the network" if row["live"] else "the atlas alone",
        ]
        for row in records(found)
    ]
    st.html(markup.table(heads, rows))
    source(view, call(not_stored, view.network.name))
    kind = st.query_params.get("compute", found["kind"].iloc[0])
    chosen = found[found["kind"] == kind].to_dict("records")
    if not chosen:
        show.error(f"no experiment {kind} is without a result; the table above has all that are")
        return
    [row] = chosen
    heading(markup.markdown(kind))
    st.code(row["command"], "sh", wrap_lines=True)
    _options(kind)
    if row["options"] is None:
        show.notes(row["reason"])
        return
    if not measured.offer("From seconds to minutes; it can be stopped.", "experiment"):
        return
    with explained():
        answer = measured.answer(view, kind, row["options"], kind.capitalize())
        if answer is not None:
            figures.show(measured.drawn(answer.result), kind, key="unasked", data=answer.result.table)
            measured.remarks(answer)
            _table(0, answer.result)
            measured.code(view, kind, answer.result.options, tables=list(answer.result.tables))


def _options(kind: str) -> None:
    """What the experiment can be asked with."""
    with st.expander("Options"):
        rows = [
            [
                f"<code>--{option.name.replace('_', '-')}</code>",
                markup.plain(option.help),
                "must be given" if option.required else f"<code>{markup.plain(json.dumps(option.default))}</code>",
            ]
            for option in find(kind).fields.values()
        ]
        st.html(markup.table([("Option", "", "pa-key"), ("Meaning", "", ""), ("Default", "As JSON", "")], rows))

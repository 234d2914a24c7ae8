"""Paths: an activation that is scaled, or carried over to another's, and what the network makes of it on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from atlas import Atlas, Network
from query.examples.description import describe
from query.experiments.archive import load, stored
from query.experiments.result import Result
from query.experiments.route import Route, route
from query.experiments.scale import HIGHEST, STEPS
from query.progress import Progress

from ...plain_text import counted
from .. import address
from ..charts import path_charts
from ..charts.path_charts import spot
from ..parts import cards, choices, figures, markup, measured, show
from ..parts.code import call, reader_of, source
from ..parts.show import KEY, NUMBER, WIDE, Column, Row
from ..view import View, explained, records

SCALE, BETWEEN = "Scaling one example", "From one example to another"
KINDS = {SCALE: "scale", BETWEEN: "interpolate"}
THUMB = 28  # pixels of a picture in a table

T_STEPS = 40
"""Steps of `interpolate` unless asked otherwise, so that a stored answer to the plain question is found."""


def render(view: View) -> None:
    show.notes(
        "A straight path through the activation space of a site. Where it crosses a boundary, a gate after "
        "the site flips. Move along it with the slider: what the network predicts there, how many boundaries "
        "lie behind, and which stored example is nearest by its code."
    )
    with explained():
        _page(view)


def _page(view: View) -> None:
    known = choices.example_range(view)
    path = address.segment("Path", [SCALE, BETWEEN], key="path")
    axis = "α" if path == SCALE else "t"
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        span = choices.span(view)
        a, b = choices.first_examples(known, 2)
        if path == SCALE:
            start, end = choices.example(view, "Example", "example", a), None
            options: dict[str, Any] = {"span": span, "example": start}
        else:
            start = choices.example(view, "From example a", "a", a)
            end = choices.example(view, "to example b", "b", b)
            options = {"span": span, "a": start, "b": end}
    here = _slider(axis)
    place = st.container()
    drawn = False
    with explained():
        drawn = _profile(view, KINDS[path], options, axis, here)
    if not drawn:
        with place:
            _cards(view, None, axis, here, start, end)


def _slider(axis: str) -> float:
    if axis == "α":
        return address.slider("α: how many times the activation", 0.0, HIGHEST, 1.0, HIGHEST / STEPS, key="alpha")
    return address.slider("t: how far from a to b", 0.0, 1.0, 0.5, 1 / T_STEPS, format="%.3f", key="t")


def _profile(view: View, name: str, options: dict[str, Any], axis: str, here: float) -> bool:
    """Draw what there is of the path, if anything; what is stored at once, the rest when it is asked for."""
    start: int = options["example"] if name == "scale" else options["a"]
    end: int | None = options.get("b")
    known = measured.stored(view, name, options)
    if not measured.offer(
        "Runs the network on from the site: seconds for a small network, minutes for a large one or an early site."
        if known is None
        else "This profile is stored. The nearest examples on the way take the network.",
        "path",
    ):
        if known is None:
            _means(view, name, options["span"], here)
        else:
            _draw(view, known, None, axis, here, options)
        return known is not None
    found = measured.answer(view, name, options, "Following the path")
    if found is None:
        return False
    others = bool(st.session_state.get("others", st.query_params.get("others") == "true"))
    place = st.container()
    wanted = {"span": options["span"], "start": start, "end": end, "at": _edges(found.result), "others": others}
    way = view.work("Looking around on the way", walked, wanted, live=True)
    with place:
        _draw(view, found, way, axis, here, options)
    if way is not None:
        _met(view, way, axis, wanted)
    return True


def walked(atlas: Atlas, wanted: dict[str, Any], *, reader: Network, progress: Progress | None = None) -> Route:
    """`route`, as the page asks it: ``reader`` by name."""
    return route(atlas, reader, **wanted, progress=progress)


# --- the profile -----------------------------------------------------------------------------------------------


def _edges(result: Result) -> list[float]:
    if result.kind == "scale":
        return [float(alpha) for alpha in result.parameters["alphas"]]
    return np.linspace(0, 1, int(result.parameters["steps"]) + 1).tolist()


def steps_of(result: Result, kind: str) -> pd.DataFrame:
    """The steps of one path: low, high, density, crossings. ``kind``: activation, gaussian or pair."""
    table = result.table[result.table["kind"] == kind].reset_index(drop=True)
    if result.kind == "scale":
        width = table["alpha_high"] - table["alpha_low"]
        crossings = table["share"] * width * result.parameters["n_gates"]
        low, high = table["alpha_low"], table["alpha_high"]
    else:
        low, high = table["t_low"], table["t_high"]
        crossings = table["density"] * (high - low) * float(result.tables["pairs"]["distance"].iloc[0])
    return pd.DataFrame({"low": low, "high": high, "density": table["density"], "crossings": crossings.round()})


def _draw(
    view: View, found: measured.Answer, way: Route | None, axis: str, here: float, options: dict[str, Any]
) -> None:
    result = found.result
    steps = steps_of(result, "activation" if result.kind == "scale" else "pair")
    baseline = steps_of(result, "gaussian") if result.kind == "scale" else None
    points = None if way is None else way.table
    if points is None and result.kind == "scale":
        classes = result.tables["classes"]
        points = classes[classes["kind"] == "activation"].rename(columns={"alpha": "at"}).reset_index(drop=True)
    total = int(steps["crossings"].sum())
    span, n_gates = result.parameters["span"], result.parameters["n_gates"]
    boundaries = counted(total, "boundary", "boundaries")
    title = f"{boundaries} of {n_gates:,} gates crossed, {span}, n = 1 path"
    _metrics(steps, points, way, axis, here)
    figures.show(
        path_charts.profile(steps, points, here, axis, title, baseline),
        f"{result.kind}-{view.network.name}",
        key="path-profile",
        data=_numbers(steps, points),
        alt=f"{title}; the place marked is {axis} = {here:g}",
    )
    if points is not None:
        _stretches(points, axis)
    _cards(view, way, axis, here, options["example"] if axis == "α" else options["a"], options.get("b"))
    measured.remarks(found)
    if way is not None:
        show.notes(*way.notes)
    measured.code(view, result.kind, result.options or options)


def _numbers(steps: pd.DataFrame, points: pd.DataFrame | None) -> pd.DataFrame:
    """A row a step, with what is said at its beginning."""
    if points is None:
        return steps
    there = points.iloc[[int(np.abs(points["at"] - low).argmin()) for low in steps["low"]]]
    return pd.concat([steps, there.drop(columns="at").reset_index(drop=True)], axis=1)


def _metrics(steps: pd.DataFrame, points: pd.DataFrame | None, way: Route | None, axis: str, here: float) -> None:
    """What is true at the slider's place."""
    behind = int(steps.loc[steps["high"] <= here + 1e-9, "crossings"].sum())
    total = int(steps["crossings"].sum())
    values = [
        (f"Boundaries behind, of {total:,}", f"{behind:,}", f"Crossed from {axis} = {steps['low'].iloc[0]:.2g} on")
    ]
    if points is not None:
        row = _at(points, here)
        values = [
            ("Prediction", markup.markdown(path_charts.short(str(row["prediction"]))), "The likeliest output"),
            ("Probability", f"{row['probability']:.3f}", "Of the prediction"),
            *values,
        ]
        if way is not None and pd.notna(row["nearest"]):
            hint = "Hamming distance over the span, of the codes at this point and of the example"
            values.append(("Gates to the nearest", f"{int(row['distance']):,}", hint))
    measured.metrics(values)


def _stretches(points: pd.DataFrame, axis: str) -> None:
    found = path_charts.stretches(points["at"], points["prediction"])
    words = [f"{path_charts.short(s.prediction)} ({spot(s.start)} to {spot(s.end)})" for s in found]
    if len(found) == 1:
        show.notes(f"The prediction is the same at all {len(points)} points: {words[0]}.")
        return
    times = counted(len(found) - 1, "time")
    show.notes(f"The prediction changes {times} over {len(points)} points. Along {axis}: {'; '.join(words)}.")


# --- the nearest examples --------------------------------------------------------------------------------------


def _cards(view: View, way: Route | None, axis: str, here: float, start: int, end: int | None) -> None:
    """The ends of the path, and between them the example nearest to the slider's place."""
    ids, titles = [start], ["the example" if end is None else "a"]
    if way is not None and way.table["nearest"].notna().any():
        row = _at(way.table, here)
        ids.append(int(row["nearest"]))
        titles.append(f"nearest at {axis} = {spot(row['at'])}: {counted(int(row['distance']), 'gate')} away")
    if end is not None:
        ids.append(end)
        titles.append("b")
    choices.side_by_side(view, ids, titles)


def _at(points: pd.DataFrame, here: float) -> pd.Series:
    """The point nearest to the slider's place."""
    return points.iloc[int(np.abs(points["at"] - here).argmin())]


def _met(view: View, way: Route, axis: str, wanted: dict[str, Any]) -> None:
    """All examples that are nearest somewhere on the way."""
    st.header("Nearest on the way", anchor=False)
    address.switch(
        "Other examples only",
        key="others",
        help="Leave out the path's own examples, which are often the nearest to all of it",
    )
    if way.table["nearest"].isna().all():
        return
    met = way.table.assign(stay=(way.table["nearest"] != way.table["nearest"].shift()).cumsum())
    stays = met.groupby("stay").agg(
        low=("at", "first"),
        high=("at", "last"),
        example_id=("nearest", "first"),
        closest=("distance", "min"),
        prediction=("prediction", lambda names: names.mode().iloc[0]),
    )
    described = {
        int(row["example_id"]): row
        for row in records(view.ask(describe, view.network, sorted({int(i) for i in stays["example_id"]})))
    }

    def stretch(row: Row) -> str:
        low, high = spot(row["low"]), spot(row["high"])
        return low if low == high else f"{low} to {high}"

    def link(row: Row) -> str:
        number = int(row["example_id"])
        return markup.link("example", str(number), example=number, **view.state)

    def excerpt(row: Row) -> str:
        return cards.excerpt(
            view, described[int(row["example_id"])], THUMB, markup.CONTEXT_BEFORE, markup.CONTEXT_AFTER
        )

    columns = [
        Column(axis, NUMBER, stretch, "Points of the path over which this example is the nearest"),
        Column("Gates", NUMBER, lambda row: f"{int(row['closest']):,}", "Least distance there"),
        Column("Predicted", KEY, lambda row: markup.words(row["prediction"]), "By the network on the path"),
        Column("Example", NUMBER, link),
        Column("Label", KEY, lambda row: markup.words(described[int(row["example_id"])]["label"])),
        Column("", WIDE, excerpt),
    ]
    show.table(records(stays), columns)
    show.notes(
        f"{len(described)} of the atlas's examples {'is' if len(described) == 1 else 'are'} nearest "
        f"somewhere among {len(way.table)} points. Of several at one distance the lowest id is taken."
    )
    said = call(route, **wanted)
    source(view, f"{said[:-1]}, reader={reader_of(view.network.name)}).table")


# --- means that are stored -------------------------------------------------------------------------------------


def _means(view: View, name: str, span: str, here: float) -> None:
    """Stored results over many examples: the newest of this span is drawn, the others are linked."""
    held = view.ask(stored, network=view.network.name)
    held = held[(held["kind"] == name) & (held["network"] == view.network.name)]
    if held.empty:
        return
    spans = [options.get("span") for options in held["options"]]
    numbers = [int(number) for number in held["experiment_id"]]
    st.header("Stored: means over several examples", anchor=False)
    same = [number for number, of in zip(numbers, spans, strict=True) if of == span]
    if same:
        found = measured.Answer(view.ask(load, same[0]), same[0])
        figure = measured.drawn(found.result)
        figure.add_vline(x=here, line={"color": path_charts.ORANGE, "width": 3})
        figures.show(figure, f"{name}-mean-{view.network.name}", key="path-means", data=found.result.table)
        measured.remarks(found)
        measured.code(view, name, found.result.options)
    links = [
        markup.link("claims", f"experiment {number} ({of})", experiment=number, **view.state)
        for number, of in zip(numbers, spans, strict=True)
    ]
    st.html(f'<div class="pa">Stored results of <code>{name}</code>: {", ".join(links)}</div>')

"""Paths: an activation that is scaled, or carried over to another's, and what the network makes of it on the way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

import query
from atlas import Atlas, Network
from atlas.errors import NotStored, UsageError
from atlas.kinds import INPUT_KINDS
from query.experiments.archive import load, stored
from query.experiments.result import Result
from query.experiments.route import Route, Way, route, way
from query.experiments.scale import HIGHEST, STEPS
from query.pairs.density import space_before
from query.progress import Progress

from ...plain_text import counted
from .. import address
from ..charts import path_charts
from ..charts.path_charts import spot
from ..parts import choices, figures, markup, measured, path_near, pin, show
from ..parts.code import call, reader_of, source
from ..parts.pin import Pin
from ..view import View, explained

SCALE, BETWEEN = "Scaling one example", "From one activation to another"

T_STEPS = 40
"""Steps of `interpolate` unless asked otherwise, so that a stored answer to the plain question is found."""


def draw(view: View, letters: tuple[str, str], pair: tuple[Pin, Pin]) -> None:
    show.notes(
        "A straight path through the activation space of a site. Where it crosses a boundary, a gate after "
        "the site flips. Move along it with the slider: what the network predicts there, how many boundaries "
        "lie behind, and which stored example is nearest by its code."
    )
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        path = address.segment("Path", [BETWEEN, SCALE], key="path")
        span = choices.span(view)
        scaled = letters[0]
        if path == SCALE:
            scaled = address.segment("Scaled", letters, key="scaled")
    with explained():
        here = _Here(*letters, "α" if path == SCALE else "t", span, partial(_holds, view, span))
        if path == SCALE:
            _scaled(view, here, pair[letters.index(scaled)])
        elif all(each.kind == "example" for each in pair):
            _profile(view, "interpolate", {"span": span, "a": pair[0].number, "b": pair[1].number}, here)
        else:
            _live(view, here, pair)


def _holds(view: View, span: str) -> str:
    """What a network reads beside the vector that a path begins with."""
    before = view.atlas.catalog.target(span=span, network=view.network.name).before
    if INPUT_KINDS[view.network.kind].in_sequence:
        return "the rest of the text"
    return f"what flows past {before.name}" if before is not None and before.bypassed_by else ""


class _Here:
    """Where the parts stand: numbers and figure, the slider below its axis, and what is said of its place.

    ``holds``: says what else the network reads, which is that of the first example all along; empty where nothing is.
    It is asked where there is a path: the sites of another span may not be stored.
    """

    def __init__(self, a: str, b: str, axis: str, span: str, holds: Callable[[], str]) -> None:
        self.letters, self.axis, self.span, self.holds = (a, b), axis, span, holds
        self.above = st.container()
        self.slider = st.container(key="along")
        self.below = st.container()
        self._spot: float | None = None

    @property
    def spot(self) -> float:
        """The slider's place. It is drawn where something is to be seen along it."""
        if self._spot is None:
            with self.slider:
                self._spot = self._draw()
        return self._spot

    def _draw(self) -> float:
        if self.axis == "α":
            label = "α: how many times the activation"
            return address.slider(label, 0.0, HIGHEST, 1.0, HIGHEST / STEPS, key="alpha")
        a, b = self.letters
        spot = address.slider(f"t: how far from {a} to {b}", 0.0, 1.0, 0.5, 1 / T_STEPS, format="%.3f", key="t")
        if held := self.holds():
            show.notes(
                f"The vector alone goes from {a}'s to {b}'s and {held} stays {a}'s, so that at t = 1 "
                f"neither {b}'s code nor its prediction need be reached."
            )
        return spot


def _scaled(view: View, here: _Here, one: Pin) -> None:
    if one.kind != "example":
        raise UsageError(f"only a stored example is scaled, and {one.words} is not stored; choose the other path")
    _profile(view, "scale", {"span": here.span, "example": one.number}, here)


def _profile(view: View, name: str, options: dict[str, Any], here: _Here) -> None:
    """Draw what there is of the path, if anything; what is stored at once, the rest when it is asked for."""
    start: int = options["example"] if name == "scale" else options["a"]
    end: int | None = options.get("b")
    if name == "interpolate":
        with here.above, explained():
            _density(view, start, options["b"], here.span)
    known = measured.stored(view, name, options)
    with here.below:
        asked = measured.offer(
            SECONDS if known is None else "This profile is stored. The nearest examples on the way take the network.",
            "path",
        )
    if not asked:
        if known is not None:
            _draw(view, known, None, here, options)
        else:
            with here.below:
                _means(view, name, options["span"])
        return
    with here.below:
        found = measured.answer(view, name, options, "Following the path")
    if found is None:
        return
    wanted = {"span": here.span, "start": start, "end": end, "at": _edges(found.result), "others": _others()}
    with here.below:
        way = view.work("Looking around on the way", walked, wanted, live=True, tells_names=False)
    _draw(view, found, way, here, options)
    if way is not None:
        with here.below:
            path_near.met(view, way, here.axis)
            said = call(route, **wanted)
            source(view, f"{said[:-1]}, reader={reader_of(view.network.name)}).table")


SECONDS = "Runs the network on from the site: seconds for a small network, minutes for a large one or an early site."


def _others() -> bool:
    return bool(st.session_state.get("others", st.query_params.get("others") == "true"))


def walked(atlas: Atlas, wanted: dict[str, Any], *, reader: Network, progress: Progress | None = None) -> Route:
    """`route`, as the page asks it: ``reader`` by name."""
    return route(atlas, reader, **wanted, progress=progress)


def _density(view: View, x: int, y: int, span: str) -> None:
    """Of the pair: the boundaries between the two, over the distance."""
    try:
        found = view.ask(query.density, x, y, network=view.network.name, span=span)
    except (NotStored, UsageError) as reason:
        show.notes(f"No density of the pair: {reason}")
        return
    before = space_before(view.atlas.catalog.target(span=span, network=view.network.name)).name
    measured.metrics(
        [
            (
                "Density of the pair",
                markup.number(found.density),
                "Gates apart over distance, whatever path is taken",
            ),
            (f"Gates apart, of {found.n_gates:,}", f"{found.hamming:,}", f"Hamming distance at {found.target}"),
            ("Distance", markup.number(found.distance), f"Euclidean, of the activations at {before}"),
            (
                "The same per gate",
                markup.number(found.density_per_gate),
                "Density of the pair over the gates of the span",
            ),
        ]
    )
    show.notes(found.note)
    source(view, call(query.density, x, y, span=span, network=view.network.name))


# --- an end that is not stored ---------------------------------------------------------------------------------


def led(
    atlas: Atlas,
    span: str,
    first: dict[str, Any],
    second: dict[str, Any],
    others: bool,
    *,
    reader: Network,
    progress: Progress | None = None,
) -> Way:
    """`way` between two subjects, each given as arguments of `query.subject`, an image as its file."""
    start, end = pin.given(first), pin.given(second)
    return way(atlas, reader, span=span, start=start, end=end, others=others, progress=progress)


def _live(view: View, here: _Here, pair: tuple[Pin, Pin]) -> None:
    with here.below:
        if not measured.offer(SECONDS, "path"):
            return
        found = view.work("Following the path", led, here.span, *(p.subject for p in pair), _others(), live=True)
    if found is None:
        return
    density = found.steps["crossings"].sum() / found.distance
    with here.above:
        measured.metrics(
            [
                ("Density on the way", markup.number(float(density)), "Boundaries crossed per unit distance"),
                (f"Gates apart, of {found.n_gates:,}", f"{found.hamming:,}", f"Hamming distance over {here.span}"),
                ("Distance", markup.number(found.distance), "Euclidean, of the activations"),
            ]
        )
    total = int(found.steps["crossings"].sum())
    title = f"{counted(total, 'boundary', 'boundaries')} of {found.n_gates:,} gates crossed, {here.span}, n = 1 path"
    _show(view, here, "way", found.steps, found.route, found.route.table, title)
    with here.below:
        show.notes(*found.notes, "Computed now and not stored.")
        path_near.met(view, found.route, here.axis)


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


def _draw(view: View, found: measured.Answer, way: Route | None, here: _Here, options: dict[str, Any]) -> None:
    result = found.result
    steps = steps_of(result, "activation" if result.kind == "scale" else "pair")
    baseline = steps_of(result, "gaussian") if result.kind == "scale" else None
    points = None if way is None else way.table
    if points is None and result.kind == "scale":
        classes = result.tables["classes"]
        points = classes[classes["kind"] == "activation"].rename(columns={"alpha": "at"}).reset_index(drop=True)
    total = int(steps["crossings"].sum())
    span, n_gates = result.parameters["span"], result.parameters["n_gates"]
    title = f"{counted(total, 'boundary', 'boundaries')} of {n_gates:,} gates crossed, {span}, n = 1 path"
    _show(view, here, result.kind, steps, way, points, title, baseline)
    with here.below:
        measured.remarks(found)
        if way is not None:
            show.notes(*way.notes)
        measured.code(view, result.kind, result.options or options)


def _show(
    view: View,
    here: _Here,
    name: str,
    steps: pd.DataFrame,
    way: Route | None,
    points: pd.DataFrame | None,
    title: str,
    baseline: pd.DataFrame | None = None,
) -> None:
    """The figure with the slider below its axis, and what is true at the slider's place."""
    axis, spot = here.axis, here.spot
    with here.above:
        figures.show(
            path_charts.profile(steps, points, spot, axis, title, baseline),
            f"{name}-{view.network.name}",
            key="path-profile",
            data=_numbers(steps, points),
            alt=f"{title}; the place marked is {axis} = {spot:g}",
        )
    with here.below:
        _metrics(steps, points, way, axis, spot)
        if points is not None:
            _stretches(points, axis)
        path_near.nearest(view, way, axis, spot)


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
        row = path_near.at(points, here)
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


# --- means that are stored -------------------------------------------------------------------------------------


def _means(view: View, name: str, span: str) -> None:
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
        figures.show(
            measured.drawn(found.result),
            f"{name}-mean-{view.network.name}",
            key="path-means",
            data=found.result.table,
        )
        measured.remarks(found)
        measured.code(view, name, found.result.options)
    links = [
        markup.link("claims", f"experiment {number} ({of})", experiment=number, **view.state)
        for number, of in zip(numbers, spans, strict=True)
    ]
    st.html(f'<div class="pa">Stored results of <code>{name}</code>: {", ".join(links)}</div>')

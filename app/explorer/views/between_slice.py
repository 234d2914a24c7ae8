"""Slices: a plane through an activation space, the polytopes that it meets, and zoom into any part of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import streamlit as st

from query.experiments.archive import stored
from query.experiments.result import MAIN, Result
from query.experiments.slice import picture, unresolved

from .. import address, jobs
from ..parts import atlas_slice, choices, figures, markup, measured, pin, pinned, show
from ..parts.pin import Pin
from ..parts.show import KEY, NUMBER, Column
from ..view import View, explained, guarded, records

SIZES = [32, 48, 64, 96, 128, 192, 256]
SIZE, LARGEST = 48, SIZES[-1]
"""Points a side to begin with: seconds; 256 takes thirty times as long."""

INPUTS, EXAMPLES, DIRECTIONS = "All inputs", "Three examples", "Two directions"
STEP = 0.5
"""How far the window moves at a click, as a share of its half width."""

CLASSES_SHOWN = 12


def draw(view: View, chosen: Sequence[Pin]) -> None:
    """``chosen``: what is pinned; where that is fewer than three, the address or the atlas has the others."""
    show.notes(
        "A plane through the activation space of a site. Every polytope that it meets is an area, every "
        "boundary a line; colours are predicted classes. Draw a box on the figure to look closer: the same "
        "grid is laid over the smaller window."
    )
    _stored_slices(view, chosen)
    inputs = choices.plane_of_inputs(view)
    ways = [EXAMPLES, DIRECTIONS] if inputs is None else [INPUTS, EXAMPLES, DIRECTIONS]
    read_now = any(each.kind != "example" for each in chosen)
    first = EXAMPLES if len(chosen) == len(LETTERS) or read_now else ways[0]
    by = address.segment("Plane through", ways, key="by", first=first)
    corners = dict(zip(LETTERS, _corners(view, chosen), strict=True))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        if by == INPUTS and inputs is not None:
            span, through, along = inputs, dict[str, Pin](), dict[str, Any]()
        else:
            span = choices.span(view, _whole, last=True)
            through = corners if by != DIRECTIONS else {"a": corners["a"]}
            along = {} if by != DIRECTIONS else {"directions": _directions()}
        sizes = [str(size) for size in sorted({*SIZES, *_size_of_link()})]
        size = int(
            address.one_of(
                "Points a side",
                sizes,
                key="size",
                first=str(SIZE),
                width=110,
                expected=f"a number from 2 to {LARGEST}",
                help="Of the grid; the time grows with their square",
            )
        )
    window = _window({**{letter: each.word for letter, each in through.items()}, **along})
    near = (
        not window
        and by != INPUTS
        and address.switch(
            "As near as it takes to tell areas apart",
            key="near",
            default=True,
            help="Of a plane through examples each point of the grid may lie in a polytope of its own: then a window "
            "about the first example is shown, so narrow that areas are larger than points.",
        )
    )
    options: dict[str, Any] = {"span": span, **along, "size": size, **window}
    if all(each.kind == "example" for each in through.values()):
        options |= {letter: each.number for letter, each in through.items()}
        _slice(view, options, None, near)
    else:
        _slice(view, options, {letter: each.subject for letter, each in through.items()}, near)
    if through and len(set(through.values())) == len(through):
        pinned.side_by_side(view, list(through), list(through.values()))


LETTERS = "abc"
"""What a plane goes through, and how an address names an example that is not pinned."""


def _corners(view: View, chosen: Sequence[Pin]) -> list[Pin]:
    """Three things: those that are pinned, then examples that the address names, then the atlas's first."""
    known = choices.example_range(view)
    corners = list(chosen)
    for letter, default in zip(LETTERS, choices.first_examples(known, len(LETTERS)), strict=True):
        if len(corners) > LETTERS.index(letter):
            continue
        asked = st.query_params.get(letter, "")
        wanted = int(asked) if asked.isdecimal() else default
        if asked and not (asked.isdecimal() and known.lowest <= wanted <= known.highest):
            expected = f"an example of network {view.network.name}, {known.lowest:,} to {known.highest:,}"
            address.refuse(letter, asked, expected, default)
            wanted = default
        address.show_refusal(letter, wanted)
        address.name(letter, wanted)
        corners.append(pin.example(wanted))
    return corners


def _slice(view: View, options: dict[str, Any], given: atlas_slice.Subjects | None, near: bool) -> None:
    """The slice if it is stored, else a button, its progress, or the slice as it was computed; ``given``: what it
    goes through where some of it is read now."""
    points = options["size"] ** 2
    known = None if given is not None else measured.stored(view, "slice", options)
    if known is None and not measured.offer(
        f"{points:,} points are read by the network: seconds where grid and network are small, else minutes.", "slice"
    ):
        return
    with explained():
        if known is None and (near or given is not None):
            read = atlas_slice.resolved if near else atlas_slice.sliced
            result = view.work("Reading the plane", read, options, given, live=True, turns=jobs.LONG)
            found = None if result is None else measured.Answer(result, None)
        else:
            found = known or measured.answer(view, "slice", options, "Reading the plane")
        if found is None:
            _zoom_buttons(None)
        else:
            _show(view, found)
            if given is None:
                measured.code(view, "slice", found.result.options or options, tables=[MAIN, "sites"])


def _size_of_link() -> set[int]:
    """A grid of another size, as a stored slice may have."""
    given = st.query_params.get("size", "")
    return {int(given)} if given.isdecimal() and 2 <= int(given) <= max(SIZES) else set()


def _directions() -> list[str]:
    hint = "random:SEED, unit:NUMBER, or METHOD:COMPONENT of a stored direction, such as pca:0"
    first = st.text_input(
        "First direction", "random:0", key="d1", bind="query-params", width=150, help=hint, on_change=_whole
    )
    second = st.text_input(
        "Second direction", "random:1", key="d2", bind="query-params", width=150, help=hint, on_change=_whole
    )
    return [first.strip(), second.strip()]


# --- the window ------------------------------------------------------------------------------------------------

WINDOW = ("u", "v", "reach")
"""In the URL: the middle of the window and half its width. Without them it holds what the plane goes through."""


def _window(plane: dict[str, Any]) -> dict[str, Any]:
    """The window that the URL names, as options of `slice`; none where it names none, nonsense, or one of another
    plane."""
    before = st.session_state.get("window-of", plane)
    st.session_state["window-of"] = plane
    if before != plane:
        _whole()
    given = {name: st.query_params[name] for name in WINDOW if name in st.query_params}
    if not given:
        return {}
    try:
        numbers = {name: float(value) for name, value in given.items()}
        if set(numbers) not in ({"reach"}, set(WINDOW)) or not all(map(math.isfinite, numbers.values())):
            raise ValueError
    except ValueError:
        words = ", ".join(f"{name} {value!r}" for name, value in given.items())
        show.error(
            f"the address names a window by {words}; expected three numbers: u and v of its middle, and reach, "
            "half its width. The whole plane is shown"
        )
        return {}
    middle = {"middle": [numbers["u"], numbers["v"]]} if "u" in numbers else {}
    return {**middle, "reach": numbers["reach"]}


@guarded
def _to(u: float, v: float, reach: float) -> None:
    """Look at another window. Rounded to what an address should hold: a ten-thousandth of the window."""
    digits = 4
    for name, value in zip(WINDOW, (u, v, reach), strict=True):
        st.query_params[name] = f"{value:.{digits + 4}g}"
    st.query_params[measured.RUN] = "1"


@guarded
def _whole() -> None:
    for name in WINDOW:
        st.query_params.pop(name, None)


def _zoom_buttons(result: Result | None) -> None:
    """Zoom and pan without a pointer."""
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        if result is not None:
            (u0, u1), (v0, v1) = result.parameters["u"], result.parameters["v"]
            u, v, half = (u0 + u1) / 2, (v0 + v1) / 2, (u1 - u0) / 2
            for words, hint, where in (
                ("Zoom in", "Half the width, about the middle", (u, v, half / 2)),
                ("Zoom out", "Twice the width", (u, v, half * 2)),
                ("←", "Move left", (u - STEP * half, v, half)),
                ("→", "Move right", (u + STEP * half, v, half)),
                ("↑", "Move up", (u, v + STEP * half, half)),
                ("↓", "Move down", (u, v - STEP * half, half)),
            ):
                st.button(words, help=hint, on_click=_to, args=where, key=f"zoom-{words}")
        if "reach" in st.query_params:
            st.button("Whole plane", on_click=_whole, key="zoom-whole")


# --- showing ---------------------------------------------------------------------------------------------------


def _show(view: View, found: measured.Answer) -> None:
    result = found.result
    [summary] = result.tables["summary"].to_dict("records")
    values = [
        (
            "Polytopes met",
            f"{'≥ ' if unresolved(summary) else ''}{summary['polytopes']:,}",
            f"Distinct ones, by codes and pooling switches, at {summary['points']:,} points: at least so many",
        ),
        (
            "Gates that change",
            f"{summary['gates_crossed']:,}",
            f"Of {summary['gates']:,}: on at some points, off at others",
        ),
        ("Classes", f"{len(result.table):,}", "Predicted somewhere in the window"),
        (
            "Window",
            markup.number(float(result.parameters["u"][1] - result.parameters["u"][0])),
            "Its width, in units of distance in the activation space",
        ),
    ]
    measured.metrics(values)
    if unresolved(summary):
        show.notes(
            f"≥ {summary['polytopes']:,}: unresolved at this size. Nearly each point of the grid lies in a polytope "
            "of its own, so no areas are drawn; zoom in, or lay more points."
        )
    _zoom_buttons(result)
    figure = measured.drawn(result)
    figure.update_layout(dragmode="drawrect", modebar={"orientation": "v"})
    figures.show(
        figure,
        f"slice-{view.network.name}",
        key="slice",
        data=result.tables["grid"],
        toolbar=["drawrect", "zoom2d", "pan2d", "resetScale2d"],
        on_drawn=_picked,
        alt=f"Slice: {summary['polytopes']:,} polytopes and {len(result.table)} predicted classes",
    )
    st.download_button(
        "PNG of the slice alone",
        partial(picture, result),
        f"slice-{view.network.name}-plain.png",
        "image/png",
        on_click="ignore",
        type="tertiary",
        key="slice-png",
        help="1,024 × 1,024 pixels, without text",
    )
    _tables(result)
    measured.remarks(found)


def _tables(result: Result) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        columns = [
            Column("Class", KEY, lambda row: markup.words(row["class"]), "Predicted"),
            Column("Share", NUMBER, lambda row: f"{row['share']:.1%}", "Of the points of the grid"),
            Column("Polytopes", NUMBER, lambda row: f"{row['polytopes']:,}", "Distinct ones among them"),
        ]
        show.table(records(result.table.head(CLASSES_SHOWN)), columns)
        if len(result.table) > CLASSES_SHOWN:
            show.notes(f"The {CLASSES_SHOWN} commonest of {len(result.table)} classes.")
    with right:
        columns = [
            Column("Site", KEY, lambda row: markup.plain(row["site"])),
            Column("Gates", NUMBER, lambda row: f"{row['gates']:,}"),
            Column("Change", NUMBER, lambda row: f"{row['crossed']:,}", "On at some points, off at others"),
        ]
        show.table(records(result.tables["sites"]), columns)


@guarded
def _picked() -> None:
    """A box was drawn: its smallest square is the next window."""
    kind, x, y = figures.drawn_region("slice")
    if kind != "box":
        return
    (u0, u1), (v0, v1) = sorted(x), sorted(y)
    reach = max(u1 - u0, v1 - v0) / 2
    if reach > 0:
        _to((u0 + u1) / 2, (v0 + v1) / 2, reach)


# --- stored slices ---------------------------------------------------------------------------------------------

LISTED = 8  # of the stored slices, newest first; the experiments page has them all

SHOWABLE = {"span", "a", "b", "c", "directions", "size", "middle", "reach"}
"""Options of a slice that this page has means to choose; one asked for with others is on the experiments page."""


def _stored_slices(view: View, chosen: Sequence[Pin]) -> None:
    """Slices that the atlas stores: the newest is shown where nothing was chosen, the others are linked."""
    held = view.ask(stored, network=view.network.name)
    held = held[(held["kind"] == "slice") & (held["network"] == view.network.name) & held["current"].astype(bool)]
    if held.empty:
        return
    slices = list(zip(held["experiment_id"].astype(int), held["options"], strict=True))
    opened = [(number, _state(address)) for number, address in slices if _can_be_shown(address)][:LISTED]
    if opened and not chosen and not {*opened[0][1], "size", *WINDOW, measured.RUN} & set(st.query_params):
        _open(opened[0][1])
    links = [
        markup.link(
            "between",
            f"experiment {number}: {state['span']}, {state['size']} × {state['size']}",
            part="Slice",
            pin=[f"example:{state[name]}" for name in LETTERS if name in state],
            **{name: value for name, value in state.items() if name not in LETTERS},
            **view.state,
        )
        for number, state in opened
    ]
    if len(slices) > len(opened):
        links.append(markup.link("claims", f"{len(slices) - len(opened)} more", kind="slice", **view.state))
    st.html(f'<div class="pa"><span class="pa-muted">Stored:</span> {" · ".join(links)}</div>')


def _can_be_shown(asked: dict[str, Any]) -> bool:
    if not set(asked) <= SHOWABLE or ("middle" in asked and "reach" not in asked):
        return False
    if "directions" in asked:
        return "a" in asked
    return set("abc") <= set(asked) or not set("abc") & set(asked)


def _state(asked: dict[str, Any]) -> dict[str, Any]:
    """The address of a slice: what the widgets of this page are to hold, and the window."""
    directions = asked.get("directions")
    return {
        "span": asked["span"],
        "size": str(asked.get("size", LARGEST)),
        **({"by": DIRECTIONS} if directions else {"by": INPUTS} if "a" not in asked else {}),
        **{name: asked[name] for name in "abc" if name in asked},
        **dict(zip(("d1", "d2"), directions or (), strict=False)),
        **{name: repr(value) for name, value in zip(("u", "v"), asked.get("middle") or (), strict=False)},
        **({"reach": repr(asked["reach"])} if "reach" in asked else {}),
    }


def _open(state: dict[str, Any]) -> None:
    """Choose what a stored slice was asked with, before the widgets are there: they and the asked then say so."""
    if "size" in st.session_state:  # the reader has been here, and chose otherwise
        return
    st.query_params.update({name: str(value) for name, value in state.items()})
    for name, value in state.items():
        if name not in (*WINDOW, *LETTERS):
            st.session_state[name] = value

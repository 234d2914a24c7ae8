"""Start: what a polytope is, on a slice of this atlas; one box to look for anything; four questions that lead on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import streamlit as st

from atlas import Atlas
from atlas.errors import NotStored, PolytopeError
from atlas.kinds import INPUT_KINDS
from atlas.network import ELSEWHERE, Site
from query.examples.description import describe
from query.examples.rasters import Raster, rasters
from query.experiments.result import Result

from .. import jobs, leaving
from ..charts.code_charts import code_raster, raster_table
from ..parts import about, atlas_slice, box, cards, choices, figures, markup, measured, show
from ..parts.code import call, source
from ..view import View, explained, records

AREA = ("Each area has the same gates on.", "The network's units are on or off; which are is an input's spline code.")
APART = "So the number of lines between two inputs says how differently they are read."

SENTENCES = (
    AREA,
    ("Inside it the network is one affine map.", "All inputs of one area, a polytope, are treated alike."),
    ("A line is where a gate flips.", APART),
)
"""What a polytope is, and what follows, in a piecewise linear network."""

NEARLY = "Inside it the network is nearly, not exactly, one affine map."
SIGNS = (
    "Each area has the same signs.",
    "A unit counts as on where its preactivation is positive; which are is an input's spline code.",
)
CHANGE = ("A line is where a preactivation changes its sign.", APART)

HEIGHT = 460
"""Pixels of the figure, beside the sentences."""

BOX = "start-box"

LOOK, BETWEEN, ATLAS, CLAIMS = "look", "between", "atlas", "claims"


class Question(NamedTuple):
    words: str
    page: str
    hint: str


QUESTIONS = (
    Question(
        "Which polytope is this in?", LOOK, "Look at an example, a text or an image, and at who lives around it"
    ),
    Question("What else lives there?", ATLAS, "The map of all examples and their clusters"),
    Question("What tells these two apart?", BETWEEN, "The gates, the boundaries and the way between two of anything"),
    Question("Does the post hold here?", CLAIMS, "Its claims, measured on this network, with verdicts"),
)


def render(view: View) -> None:
    figure, said = st.columns([3, 2], gap="large")
    if words := box.draw(view, BOX):
        with explained():  # before anything is computed: whoever leaves waits for nothing
            _leave(view, words)
    with said:
        st.html(_sentences(view))
        examples = st.container()
    _questions(view)
    with st.expander("About this atlas", key="about", on_change="rerun", bind="query-params") as opened:
        if opened.open:
            about.draw(view)
    with figure, explained():  # last: what is computed never holds up what is known
        _figure(view, examples)


def _leave(view: View, words: str) -> None:
    """Go to Look, for what was typed."""
    place = box.meaning(view.atlas, words, view.network.name)
    st.session_state[box.TYPED] = place.get("example")
    if "text" in place and len(place["text"]) > box.LINK_LIMIT:
        st.session_state[box.LONG] = place.pop("text")
    # Network and site go along: their widgets stand on every page, and nothing else may set them.
    leaving.leave(LOOK, place)


def _sentences(view: View) -> str:
    said = true_of(view.atlas.catalog.sites_of(view.network), INPUT_KINDS[view.network.kind].in_sequence)
    items = "".join(f"<li><b>{lead}</b> {markup.plain(rest)}</li>" for lead, rest in said)
    return f'<div class="pa"><ol class="pa-sentences">{items}</ol></div>'


def true_of(sites: Sequence[Site], in_sequence: bool) -> Sequence[tuple[str, str]]:
    """What a polytope is in a network of these sites: which gates are smooth, or what else isn't affine, is said."""
    broken = [site for site in sites if _broken(site, in_sequence)]
    smooth = list(dict.fromkeys(name for site in broken for name in _smooth(site)))
    if smooth:
        return SIGNS, (NEARLY, f"Its units ({', '.join(smooth)}) are smooth: their signs are a definition."), CHANGE
    if broken:
        why = broken[0].broken_by or "attention and normalisation"
        return AREA, (NEARLY, f"It would be, but for what is not piecewise linear: {why}."), SENTENCES[-1]
    return SENTENCES


def _broken(site: Site, in_sequence: bool) -> bool:
    """Whether the network is not piecewise linear there; a code of one position alone is no sign of that."""
    if site.broken_by:
        return site.broken_by != ELSEWHERE
    return not site.exact and (in_sequence or site.nonlinearity != "relu")


def _smooth(site: Site) -> list[str]:
    """The nonlinearities that break a site: of several the one that is named, and ReLU never."""
    names = [name for name in site.nonlinearity.split(", ") if name != "relu"]
    return [name for name in names if not site.broken_by or site.broken_by.startswith(name.replace("_", " "))]


def _questions(view: View) -> None:
    links = "".join(
        f'<a href="{markup.plain(markup.address_of(page, **view.state))}" target="_self">'
        f"<b>{words}</b><small>{hint}</small></a>"
        for words, page, hint in QUESTIONS
    )
    st.html(f'<nav class="pa pa-questions" aria-label="Questions">{links}</nav>')


# --- the figure ------------------------------------------------------------------------------------------------


def _figure(view: View, examples: st.delta_generator.DeltaGenerator) -> None:
    """A slice that is stored, or is computed now; where no network can be read the codes of three examples."""
    known = view.ask(atlas_slice.newest_stored, view.network.name)
    if known is not None:
        _slice(view, known, examples)
        return
    try:
        plane = choices.plane_of_inputs(view)
        span = plane or choices.spans(view)[-1]
        found = view.work(
            "Reading a slice of this atlas",
            atlas_slice.slice_of_atlas,
            view.network.name,
            span,
            plane is not None,
            live=True,
            turns=jobs.LONG,
            tells_names=False,
        )
    except (PolytopeError, IndexError) as reason:
        _codes(view, examples, str(reason))
        return
    if found is not None:
        _slice(view, found, examples)


def _slice(view: View, result: Result, examples: st.delta_generator.DeltaGenerator) -> None:
    [summary] = result.tables["summary"].to_dict("records")
    figure = measured.drawn(result)
    figure.update_layout(height=HEIGHT, title=None, margin={"t": 10}, legend={"y": -0.2})
    figures.show(
        figure,
        f"slice-{view.network.name}",
        key="slice",
        data=result.tables["grid"],
        alt=f"A slice of {view.network.name}: {summary['polytopes']:,} polytopes, {summary['lines']:,} lines",
    )
    options = {name: value for name, value in result.options.items() if value is not None}
    measured.code(view, "slice", options)
    inside = result.tables["examples"]
    ids = inside["example"].astype(int).tolist()[:3]
    with examples:
        _examples(view, ids, inside["named"].fillna("").tolist()[:3])
        show.notes(*_of_figure(view, result, summary))


def _of_figure(view: View, result: Result, summary: dict[Any, Any]) -> tuple[str | None, ...]:
    """Of which gates the areas and lines are that are drawn, and what colours mean."""
    sites, flip = result.tables["sites"]["site"].tolist(), summary["gates_crossed"]
    which = sites[0] if len(sites) == 1 else f"{sites[0]} to {sites[-1]}"
    drawn = "each along a line" if summary["lines"] == flip else f"and lines of {summary['lines']:,} are drawn"
    by_pooling = summary["polytopes"] - summary["codes"]
    return (
        f"A plane through the activations at the start of {result.parameters['span']} in {view.network.name}. Its "
        f"areas and lines are of the {summary['gates']:,} gates of {which}: {flip:,} of them flip in this plane, "
        f"{drawn}, and part it into {summary['polytopes']:,} polytopes, neighbours in other shades.",
        f"{by_pooling:,} more than the gates alone would: where max-pooling takes another input an area ends, "
        "without a line."
        if by_pooling
        else None,
        "A colour is what is predicted. It may change inside an area: the same gates are on, the answer is another.",
    )


def _codes(view: View, examples: st.delta_generator.DeltaGenerator, reason: str) -> None:
    """Without a network no line can be drawn: where the codes of three examples differ, one lies between them."""
    ids = view.ask(atlas_slice.three_examples, view.network.name)
    drawn = [
        band
        for name, example in zip("abc", ids, strict=False)
        for band in view.ask(_band, example, view.target, name)
    ]
    if not drawn:
        raise NotStored(f"no site of network {view.network.name} holds codes; `polytope ingest` stores some")
    figure = code_raster(drawn, "")
    figure.update_yaxes(title="Example")
    figures.show(
        figure,
        f"codes-{view.network.name}",
        key="codes",
        data=raster_table(drawn),
        alt=f"The codes of three examples at {view.target}: gates that are on",
    )
    source(view, *(call(rasters, example) for example in ids))
    with examples:
        _examples(view, ids, list("abc"))
        show.notes(
            f"Codes of three examples at {view.target}: a gate a pixel, blue where it is on. Where two differ, a "
            "line lies between them.",
            f"No slice is drawn, which needs the network itself: {reason}",
        )


def _band(atlas: Atlas, example: int, target: str, name: str) -> list[Raster]:
    """The code of an example at a site, called by the example."""
    held = rasters(atlas, example)
    found = [band for band in held if band.site == target] or held[-1:]
    return [replace(band, site=name) for band in found]


def _examples(view: View, ids: list[int], names: list[str]) -> None:
    rows = records(view.ask(describe, view.network, ids))
    items = []
    for name, row in zip(names, rows, strict=True):
        where = markup.plain(markup.address_of("look", example=row["example_id"], **view.state))
        seen = cards.excerpt(view, row, 56, 24, 16)
        mark = f"<b>{markup.plain(name)}</b> " if name else ""
        said = f"{mark}example {row['example_id']}, predicted {markup.words(row['prediction'])}"
        items.append(f'<a href="{where}" target="_self">{seen}<small>{said}</small></a>')
    st.html(f'<div class="pa pa-three">{"".join(items)}</div>')

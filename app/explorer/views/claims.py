"""Claims: what the post says, and whether it holds on this network: verdicts first, each unfolding into its numbers.

What is not measured stands below, in a line each, with a button that measures it. Two more parts of the page hold
every stored result, and the experiments of which nothing is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Any

import streamlit as st

from atlas import Atlas
from atlas.errors import PolytopeError
from query.experiments.archive import load
from query.experiments.page import SYMBOLS, page
from query.experiments.report import Block, chosen, stored_blocks, stored_verdicts, trained_networks
from query.experiments.result import Result
from query.progress import Progress

from ...plain_text import counted
from .. import address, jobs
from ..parts import claim, class_density, markup, measured, results, show
from ..parts.code import call, heading, source
from ..view import View, explained, guarded

CLAIMS = "Claims"
PARTS = [CLAIMS, results.STORED, results.UNASKED]

REPORT = "Report"
"""What an address called the part with the verdicts before."""

ASKED = "asked-for-a-result"
"""Where a session keeps that its address has asked for a stored result."""

MEASURED = "measured"
"""What the address says is measured now, with commas between."""

QUICK = ("density", "neuron", "occupancy")
"""Measured where nothing is stored, so that the page opens on something: seconds each, without the network itself."""

OPEN = "density"
"""The claim that unfolds by itself where nothing else is measured, and where an address says how it is."""


@dataclass(frozen=True)
class Line:
    """A claim on one network as far as it is stored; fields as `Block` has them."""

    key: str
    network: str
    options: dict[str, Any] | None
    experiment_id: int | None
    reason: str


def render(view: View) -> None:
    if st.query_params.get("show") == REPORT:
        st.session_state["show"] = CLAIMS
    # Remembered: what the address asks for and there is not is taken out of it, and said for as long as it is shown.
    asked = {"kind", "experiment", "everywhere", "page"} & set(st.query_params) or ASKED in st.session_state
    if asked:
        st.session_state[ASKED] = True
    first = results.STORED if asked else results.UNASKED if "compute" in st.query_params else CLAIMS
    part = address.segment("Show", PARTS, key="show", first=first, label_visibility="collapsed")
    address.name("show", part)
    with explained():
        if part != results.STORED:
            results.elsewhere(view)
        {CLAIMS: _claims, results.STORED: results.draw_stored, results.UNASKED: results.draw_unasked}[part](view)


def look_up(atlas: Atlas, network: str, *, progress: Progress | None = None) -> list[Line]:
    """Every claim on a network and its controls, out of what is stored."""
    return [
        Line(block.claim.key, block.network.name, block.options, block.experiment_id, block.reason)
        for block in stored_blocks(atlas, network, progress=progress)
    ]


# --- verdicts --------------------------------------------------------------------------------------------------


def _claims(view: View) -> None:
    lines = view.work("Looking up what is measured", look_up, view.network.name)
    if lines is None:
        return
    source(view, call(stored_verdicts, network=view.network.name))
    blocks = [_stored(view, line) for line in lines]
    new = all(block.result is None for block in blocks)
    summary, verdicts = st.container(), st.container(gap="small")
    wanted = _wanted(view, QUICK if new else ())
    missing = [place for place, block in enumerate(blocks) if block.result is None]
    if missing:
        heading("Not measured")
        asked = set[tuple[str, str] | None]()
        with st.container(gap=None):
            for place in missing:
                blocks[place] = _unmeasured(view, blocks, place, wanted, asked)
    held = [block for block in blocks if block.result is not None]
    with summary:
        _summary(view, blocks)
    with verdicts:
        for key in dict.fromkeys(block.claim.key for block in held):
            opens = key == OPEN and (new or bool(set(class_density.MEASURED) & {*st.query_params}))
            claim.draw(view, [block for block in held if block.claim.key == key], opens=opens)
    _report(view, blocks)


def _stored(view: View, line: Line) -> Block:
    """A claim with its stored result; that of density may have been asked for otherwise than the claim does."""
    [(experiment, said)] = chosen([line.key])
    record = view.atlas.catalog.network(line.network)
    number = line.experiment_id
    if number is None and experiment.name == OPEN and (other := class_density.newest(view)) is not None:
        number = other.number
    result = None if number is None else view.ask(load, number)
    return Block(experiment, said, record, line.options, result, number, line.reason)


def _summary(view: View, blocks: Sequence[Block]) -> None:
    """How many claims have which verdict."""
    words = [block.word for block in blocks]
    counts = [(word, words.count(word)) for word in SYMBOLS if word in words]
    shown = " ".join(f"{claim.badge(word)} {n}&ensp;" for word, n in counts)
    st.html(f'<div class="pa pa-counted">{shown}</div>')
    show.notes(
        f"What the post claims, by stated rules, on {view.network.name}. A verdict unfolds into what decided it."
    )


# --- what is not measured --------------------------------------------------------------------------------------


def _wanted(view: View, first: Sequence[str]) -> set[str]:
    """What is measured now: what the address says, of this network alone; ``first`` where it says nothing."""
    owner = "measured-of"
    if st.session_state.get(owner, view.network.name) != view.network.name:
        st.query_params.pop(MEASURED, None)
    st.session_state[owner] = view.network.name
    wanted = st.query_params.get(MEASURED, ",".join(first))
    if wanted:
        address.name(MEASURED, wanted)
    return {word for word in wanted.split(",") if word}


def _name(view: View, block: Block) -> str:
    """What the address calls a claim on a network."""
    other = block.network.name != view.network.name
    return f"{block.claim.key}:{block.network.name}" if other else block.claim.key


def _unmeasured(
    view: View, blocks: Sequence[Block], place: int, wanted: set[str], asked: set[tuple[str, str] | None]
) -> Block:
    """A line of a claim that is not measured, with what measures it; the block with a result once it is there.

    ``asked``: the questions that lines above wait for: of two claims that ask one, the first shows how far it is.
    """
    block = _asked_again(view, blocks, place)
    question = _question(block)
    names = {_name(view, each) for each in (*blocks, block) if _question(each) == question}
    line = st.empty()
    with line.container(horizontal=True, vertical_alignment="center", key=f"unmeasured-{place}"):
        if question is not None and question not in asked and wanted & names:
            try:
                result = _measured(view, block)
            except PolytopeError as error:
                block = replace(block, reason=str(error), options=None)
            else:
                if result is not None:
                    line.empty()
                    return replace(block, result=result, reason="")
                asked.add(question)
        _line(view, block, waits=question in asked, wanted=wanted)
    return block


def _asked_again(view: View, blocks: Sequence[Block], place: int) -> Block:
    """One that rests on another claim's result can be asked once that is measured."""
    block = blocks[place]
    if block.options is not None or not any(each.result is not None for each in blocks[:place]):
        return block
    earlier = {each.claim.key: each.result for each in blocks[:place] if each.network == block.network}
    try:
        return replace(block, options=block.claim.asking(view.atlas, block.network, earlier.get))
    except PolytopeError as error:
        return replace(block, reason=str(error))


def _question(block: Block) -> tuple[str, str] | None:
    """Two claims may ask one question, such as whether density is higher, and where."""
    return None if block.options is None else (block.experiment.name, repr(sorted(block.options.items())))


def _measured(view: View, block: Block) -> Result | None:
    """The result, or None while it is computed: then a bar stands here, with a button to stop."""
    name, live = block.experiment.name, block.experiment.live
    options = {"network": block.network.name} | (block.options or {}) if not live else dict(block.options or {})
    return view.work(f"Measuring {name}", measured.compute, name, options, live=live, turns=jobs.LONG)


def _line(view: View, block: Block, *, waits: bool, wanted: set[str]) -> None:
    where = "" if block.network.name == view.network.name else f" · {markup.plain(block.network.name)}"
    why = "" if block.options is not None else f' <span class="pa-muted">{markup.plain(block.reason)}</span>'
    st.html(f'<div class="pa">{markup.plain(block.claim.sentence)}{where}{why}</div>', width="stretch")
    if block.options is not None and not waits:
        name = _name(view, block)
        st.button(
            "Measure",
            icon=":material/play_arrow:",
            type="tertiary",
            key=f"measure-{name.replace(':', '-')}",
            help="With the network itself: it is loaded first" if block.experiment.live else "From what is stored",
            on_click=_measure,
            args=(sorted({*wanted, name}),),
        )


@guarded
def _measure(wanted: list[str]) -> None:
    st.query_params[MEASURED] = ",".join(wanted)


# --- the report ------------------------------------------------------------------------------------------------


def _report(view: View, blocks: Sequence[Block]) -> None:
    heading("The report")
    there = sum(block.experiment_id is not None for block in blocks)
    show.notes(
        f"One page with every claim, figures and all. {counted(there, 'measurement')} of {len(blocks)} on "
        f"{view.network.name} {'is' if there == 1 else 'are'} stored; this command measures and stores the others, "
        "and goes on where it was stopped."
    )
    st.code(f"polytope report {quote(view.atlas.address)} -o report.html", None, wrap_lines=True)
    if not measured.offer("Writes it out of what is stored: some megabytes.", "report", "Write the report"):
        return
    text = view.work("Writing the report", written, turns=jobs.LONG)
    if text is not None:
        st.download_button(
            f"Download report.html ({len(text) / 1e6:.1f} MB)",
            text,
            "report.html",
            "text/html",
            on_click="ignore",
            type="primary",
            key="go-report",
        )


def written(atlas: Atlas, *, progress: Progress | None = None) -> str:
    """The report's page as far as it is stored."""
    return page(atlas, trained_networks(atlas), stored_blocks(atlas, progress=progress))

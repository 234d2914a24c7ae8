"""A claim of the post that is measured: its verdict, which unfolds into numbers, figure and command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from query.experiments.controls import TRAINED
from query.experiments.page import SYMBOLS
from query.experiments.report import Block, command

from .. import address
from ..view import View, records
from . import class_density, figures, markup, measured, results, show, terms
from .code import heading

COLOURS = {"supported": "primary", "not supported": "orange"}
"""Of verdicts, as Streamlit's Markdown calls them."""


def badge(word: str) -> str:
    """HTML of a verdict."""
    return f'<span class="pa-verdict pa-{word.replace(" ", "-")}">{SYMBOLS[word]} {word}</span>'


def draw(view: View, blocks: Sequence[Block], *, opens: bool = False) -> None:
    """A claim, on one network and on the untrained ones that it is measured on as well; ``opens``: by itself."""
    first, key = blocks[0], f"claim-{blocks[0].claim.key}"
    word = f"**{SYMBOLS[first.word]} {first.word}**"
    word = f":{COLOURS[first.word]}[{word}]" if first.word in COLOURS else word
    said = f"{word}\u2002{markup.markdown(first.claim.sentence)}"
    if first.because:
        said += f"\u2002:small[{markup.markdown(first.because)}]"
    if opens:
        address.begin_with(key, True)
    with st.expander(said, key=key, bind="query-params") as unfolded:
        if not unfolded.open:
            return
        if first.claim.part:
            show.block(f'<span class="pa-muted">{markup.plain(first.claim.part)}</span>')
        for block in blocks:
            _unfolded(view, _chosen(view, block), several=len(blocks) > 1)


def _chosen(view: View, block: Block) -> Block:
    """Density can be measured otherwise than the claim asks."""
    if block.claim.key != "density" or block.network.name != view.network.name:
        return block
    found = class_density.chosen(view)
    result, number = (None, None) if found is None else found
    return replace(block, result=result, experiment_id=number)


def _unfolded(view: View, block: Block, *, several: bool) -> None:
    result = block.result
    if result is None:
        return
    of = f"On {block.network.name}{'' if block.kind == TRAINED else f', {block.kind}'}: " if several else ""
    because = f"{badge(block.word)} {markup.plain(of)}{markup.plain(block.because)}"
    heading(because, _sentence)
    key = f"{block.claim.key}-{block.network.name}"
    _numbers(block)
    figures.show(
        measured.drawn(result),
        key,
        key=f"claim-{key}".replace(":", "-").replace(".", "-"),
        data=result.table,
        alt=f"Figure of {block.experiment.name}: {block.claim.sentence}",
    )
    if block.experiment.name == "density":
        class_density.table(result.table)
    if block.claim.rule:
        show.notes(f"Rule: {block.claim.rule}")
    measured.remarks(measured.Answer(result, block.experiment_id))
    asked = result.options or result.parameters
    st.code(command(result.kind, asked, block.network.name, view.atlas.address), "sh", wrap_lines=True)
    measured.code(view, result.kind, asked, block.network.name)
    if block.experiment_id is not None:
        where = markup.link(
            "claims", "All its tables", show=results.STORED, experiment=block.experiment_id, **view.state
        )
        show.block(where)
    if block.claim.key == "density":
        class_density.controls(view)


def _sentence(shown: str, *, anchor: bool, width: str) -> None:  # as headings are drawn
    st.html(f'<div class="pa">{terms.marked(shown)}</div>', width="content")


def _numbers(block: Block) -> None:
    """What was measured, with intervals."""
    numbers = block.numbers
    if numbers is None or numbers.empty:
        return

    def ends(row: show.Row) -> str:
        return markup.number(row["low"]) + " to " + markup.number(row["high"]) if row["low"] == row["low"] else "–"

    columns = [
        show.Column("Number", show.WIDE, lambda row: markup.plain(row["what"])),
        show.Column("Value", show.NUMBER, lambda row: markup.number(row["value"])),
        show.Column("Interval", show.NUMBER, ends),
        show.Column("n", show.NUMBER, lambda row: markup.plain(row["n"])),
    ]
    show.table(records(numbers), columns)

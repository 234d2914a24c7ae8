"""Examples to look through and to choose from: pages of them, tags for those that are chosen, and a file of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

import atlas
import query
from atlas.errors import PolytopeError
from query.examples.kinds import numbers_in_words

from ...plain_text import counted, one_line
from .. import address
from ..view import View, guarded, records
from . import figures, markup, pins
from . import show as shown_parts
from .kinds import LOOKS
from .pin import Pin

SIZES = (60.0, 260.0, 110.0, 10.0)
"""Pixels of a picture: least, most, at first, step."""

CONTEXT_BEFORE, CONTEXT_AFTER = 72, 48
"""Characters either side of a token in a line."""

MOST_TAKEN = 100_000
"""Rows of a file."""


class Selection(NamedTuple):
    """Examples that a ``question`` gives a page at a time (``limit``, ``offset``), with what `query.members` shows of
    one; ``given``: its other arguments; ``size``: how many there are; ``order``: in which they come, in words."""

    question: Callable[..., pd.DataFrame]
    given: dict[str, Any]
    size: int
    order: str


def show(view: View, selection: Selection, beside: Callable[[], None] | None = None) -> None:
    """The examples of a selection; ``beside``: draws what stands above them, beside the slider of their size."""
    look = LOOKS[view.network.kind]
    of, size = (selection.question.__name__, *map(str, selection.given.values())), selection.size
    place = hashlib.blake2b(repr(of).encode(), digest_size=6).hexdigest()
    key = f"gallery-{place}"
    pixels = SIZES[2]
    with st.container(horizontal=True, vertical_alignment="center", gap="large"):
        if beside is not None:
            beside()
        if look.pictured:
            pixels = address.slider("Size of pictures", *SIZES, key="size", width=260, format="%d pixels")
    held = st.container()
    start = address.paged(size, look.page_rows, of=of).start
    rows = view.ask(selection.question, **selection.given, limit=look.page_rows, offset=start)
    chosen = [int(example) for example in (st.session_state.get(key) or {}).get("chosen") or []]
    tagged = view.ask(query.tags)
    with held:
        _gallery()(
            data={
                "items": [_item(view, row, tagged) for row in records(rows)],
                "size": pixels,
                "pictured": look.pictured,
                "chosen": chosen,
            },
            key=key,
            default={"chosen": []},
            on_chosen_change=lambda: None,
        )
    shown_parts.notes(
        f"{start + 1:,} to {start + len(rows):,} of {size:,}, {selection.order}."
        + (f" {counted(len(chosen), 'example')} chosen." if chosen else "")
    )
    _actions(view, selection, chosen, place, tagged)


def _item(view: View, row: dict[str, Any], tagged: pd.DataFrame) -> dict[str, Any]:
    """An example as the browser shows it: texts and a picture, no HTML."""
    example = int(row["example_id"])
    item: dict[str, Any] = {
        "id": example,
        "href": markup.address_of("look", example=example, **view.state),
        "pin": (pin := Pin("example", str(example))).word,
        "pinned": pin in pins.pinned(),
        "tags": tagged.loc[tagged["example_id"] == example, "tag"].tolist(),
    }
    strength = f" · strength {row['probability']:.2f}" if "probability" in row else ""
    label = "" if pd.isna(row["label"]) else f"{one_line(str(row['label']))} · "
    item["words"] = f"{label}predicted {one_line(str(row['prediction']))}{strength} "
    if "token" in row and pd.notna(row["context"]):
        where = row["context"], row["token"], row["context_offset"]
        item["before"], item["token"], item["after"] = markup.around(*where, CONTEXT_BEFORE, CONTEXT_AFTER)
    if "thumbnail" in row and pd.notna(row["thumbnail"]):
        item["picture"], item["pixels"] = markup.picture(row["thumbnail"]), markup.few_pixels(row["thumbnail"])
    if "vector" in row:
        item["numbers"] = numbers_in_words(row["vector"])
    return item


def _actions(view: View, selection: Selection, chosen: list[int], place: str, tagged: pd.DataFrame) -> None:
    """Tags for those that are chosen, and files of them or of all."""
    reason = st.session_state.pop(f"untagged-{place}", None)
    if reason is not None:
        shown_parts.error(f"Not tagged: {reason}")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        if not view.read_only:
            st.text_input("Tag", key=f"tag-{place}", width=200, placeholder="a word for those that are chosen")
            for words, remove in (("Put on", False), ("Take off", True)):
                st.button(
                    words,
                    key=f"{'un' * remove}tagging-{place}",
                    disabled=not chosen,
                    on_click=_tag,
                    args=(view.path, place, chosen, remove),
                )
        which = counted(len(chosen), "chosen example", "chosen examples") if chosen else f"all {selection.size:,}"
        st.download_button(
            f"CSV of {which}",
            partial(_file, view.path, selection, chosen),
            "examples.csv",
            "text/csv",
            on_click="ignore",
            key=f"take-{place}",
        )
    borne = sorted(set(tagged.loc[tagged["example_id"].isin(chosen), "tag"]))
    if borne:
        shown_parts.notes(f"Tags of those that are chosen: {', '.join(borne)}")


def _file(path: Path, selection: Selection, chosen: list[int]) -> bytes:
    with atlas.open(path) as a:  # the page's own is closed by then
        rows = selection.question(a, **selection.given, limit=min(selection.size, MOST_TAKEN))
    rows = rows.drop(columns=["thumbnail"], errors="ignore")
    return figures.csv(rows[rows["example_id"].isin(chosen)] if chosen else rows)


@guarded
def _tag(path: Path, place: str, chosen: list[int], remove: bool) -> None:
    try:
        with atlas.open(path) as a:
            query.tag_examples(a, st.session_state[f"tag-{place}"], examples=chosen, remove=remove)
    except PolytopeError as error:
        st.session_state[f"untagged-{place}"] = str(error)


@cache
def _gallery() -> Any:
    html, css, js = (
        (figures.STATIC / f"gallery.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    return st.components.v2.component("polytope_gallery", html=html, css=css, js=js, isolate_styles=False)

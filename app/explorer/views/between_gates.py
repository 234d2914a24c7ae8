"""Two of anything: their codes one under the other, and the gates that differ, the telling ones first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool

import query
from atlas import Atlas, Network
from atlas.images import decode_image
from query.examples.description import describe
from query.examples.subjects import Subject
from query.pairs.differing_gates import by_site, sites_apart
from query.pairs.telling_gates import both
from query.progress import Progress

from ..charts import pair_charts
from ..parts import cards, figures, markup, measured, show
from ..parts.code import call, heading, reader_of, source
from ..parts.pin import Pin
from ..parts.show import KEY, NUMBER, WIDE, Column, Row
from ..view import View, records

SHOWN, EXAMPLES = 24, 6
"""Gates in the table, and examples of each."""

MOST_CELLS = 60_000
"""Gates that are drawn one by one; of more only how many differ at each site."""


class Told(NamedTuple):
    """``codes``: of each site its name and which gates are on in either; ``sites``: as `GatesApart.sites`; ``gates``:
    as `query.telling_gates`."""

    codes: list[tuple[str, Bool[np.ndarray, "2 gates"]]]
    sites: pd.DataFrame
    gates: pd.DataFrame


def told(
    atlas: Atlas,
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    *,
    reader: Network | None = None,
    progress: Progress | None = None,
    **here: Any,
) -> Told:
    """What tells two subjects apart; ``first`` and ``second``: arguments of `query.subject`, an image as its file."""
    x, y = (subject_of(atlas, given, reader, **here) for given in (first, second))
    gates = query.telling_gates(atlas, x, y, most=SHOWN, examples=EXAMPLES, progress=progress)
    codes = [(site.name, on) for site, on in zip(x.target.sites, by_site(x.target, both(x, y)), strict=True)]
    return Told(codes, sites_apart(codes), gates)


def subject_of(atlas: Atlas, given: Mapping[str, Any], reader: Network | None, **here: Any) -> Subject:
    """A subject, of which an image is given as its file."""
    decoded = {"image": decode_image(given["image"])} if "image" in given else {}
    return query.subject(atlas, **{**given, **decoded}, reader=None if "example" in given else reader, **here)


def draw(view: View, letters: tuple[str, str], pair: tuple[Pin, Pin]) -> None:
    live = any(each.kind != "example" for each in pair)
    here = {**view.named, "network": view.network.name}
    found = view.work("Comparing codes", told, pair[0].subject, pair[1].subject, live=live, tells_names=False, **here)
    if found is None:
        return
    total, n_gates = int(found.sites["differ"].sum()), int(found.sites["n_gates"].sum())
    share = f"{total / n_gates:.1%} of {n_gates:,}"
    measured.metrics(
        [
            ("Gates that differ", f"{total:,}", f"{share}, at {view.target}: Hamming distance of the codes"),
            *[
                (f"On in {letter} alone", f"{int(found.sites[column].sum()):,}", None)
                for letter, column in zip(letters, ("only_x", "only_y"), strict=True)
            ],
        ]
    )
    heading("Codes, one under the other")
    _codes(view, letters, found, f"{total:,} of {n_gates:,} gates of {view.target} differ")
    heading("Gates that differ, the most telling first")
    _table(view, letters, found.gates, several=len(found.codes) > 1)
    _source(view, pair)


def _codes(view: View, letters: tuple[str, str], found: Told, title: str) -> None:
    if int(found.sites["n_gates"].sum()) <= MOST_CELLS:
        figure = pair_charts.codes(found.codes, letters, title)
    else:
        figure = pair_charts.differing(found.sites, letters, title)
    figures.show(figure, f"codes-{view.network.name}", key="codes", data=found.sites, alt=title)


def _table(view: View, letters: tuple[str, str], gates: pd.DataFrame, several: bool) -> None:
    if gates.empty:
        show.notes(f"No gate differs: {letters[0]} and {letters[1]} lie in one polytope.")
        return
    described = strips(view, [number for row in gates["examples"] for number in row])

    def on_in(row: Row) -> str:
        letter = letters[0] if row["on_in"] == "x" else letters[1]
        return f'<b class="pa-letter pa-{letter.lower()}">{letter}</b>'

    def label(row: Row) -> str:
        if pd.isna(row["label"]):
            return "–"
        lift = f"{row['lift']:.1f}" if row["lift"] >= 10 else f"{row['lift']:.2f}"
        return f'{markup.words(row["label"])} <span class="pa-muted">× {lift}</span>'

    columns = [
        *([Column("Site", KEY, lambda row: markup.plain(row["site"]))] if several else []),
        Column("Gate", NUMBER, lambda row: cards.gate_link(view, row["site"], row["gate"], str(row["gate"]))),
        Column("On in", KEY, on_in),
        Column("On-rate", NUMBER, lambda row: f"{row['on_rate']:.1%}", "Share of all stored codes that have it on"),
        Column(
            "Bits",
            NUMBER,
            lambda row: f"{row['bits']:.1f}",
            "How much it says that two codes differ here, −log₂ 2p(1 − p): 1 for a gate that is on in half of them",
        ),
        Column("Goes with", KEY, label, "The label that says most about where the gate is on, and its lift there"),
        Column("Its examples", WIDE, lambda row: cards.strip(view, [described[n] for n in row["examples"]]), TOPS),
    ]
    show.table(records(gates), columns)
    if gates.attrs["n_differ"] > len(gates):
        show.notes(f"The {len(gates)} most telling of {gates.attrs['n_differ']:,}.")


TOPS = "Its highest activations; where none is stored, some examples that have it on"


def strips(view: View, examples: list[int]) -> dict[int, Row]:
    """What is shown of examples, by id."""
    if not examples:
        return {}
    rows = records(view.ask(describe, view.network, sorted(set(examples))))
    return {int(row["example_id"]): row for row in rows}


def _source(view: View, pair: tuple[Pin, Pin]) -> None:
    """A call whose subjects are read in it; an uploaded image has no name to read it by."""
    if any(each.kind == "image" for each in pair):
        return
    here = {**view.named, "network": view.network.name}
    reader = f", reader={reader_of(view.network.name)}"
    x, y = (
        call(query.subject, **each.subject, **here)[:-1] + ("" if each.kind == "example" else reader) + ")"
        for each in pair
    )
    source(view, f"query.telling_gates(a, {x}, {y}, most={SHOWN})")

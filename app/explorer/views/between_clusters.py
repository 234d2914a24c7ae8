"""Two clusters: the gates that tell one from the other."""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

import query
from atlas import Atlas
from query.clustering.clusterings import find_clustering
from query.neurons.gate_tops import gate_tops
from query.progress import Progress

from .. import address
from ..parts import cards, markup, show
from ..parts.code import call, heading, source
from ..parts.pin import Pin
from ..parts.show import CODE, KEY, NUMBER, WIDE, Column, Row
from ..view import View, records
from .between_gates import EXAMPLES, TOPS, strips

MOST = 24

FALSE_SHARE = "Share of gates with a q as small that are expected to be there by accident (Benjamini and Hochberg)"
BOUND = "Of the chance that any gate of the site, of all that were tested, gets a p as small by accident (Holm)"


class Told(NamedTuple):
    """``gates``: of `query.distinctive_gates`, those that are distinctive; ``tops``: example ids of each."""

    gates: pd.DataFrame
    tops: list[list[int]]


def told(
    atlas: Atlas, first: tuple[int, int], second: tuple[int, int], site: str, progress: Progress | None = None
) -> Told:
    """The gates of a site that tell a cluster from another, each given as clustering and number."""
    found = query.distinctive_gates(
        atlas,
        clustering=first[0],
        cluster=first[1],
        against=second[1],
        against_clustering=second[0],
        site=site,
        most=MOST,
        progress=progress,
    )
    attributes, gates = found.attrs, found[found["distinctive"]].reset_index(drop=True)
    network = find_clustering(atlas, first[0]).target.network.name
    place = atlas.catalog.target(site=site, network=network).sites[0]
    gates.attrs.update(attributes)
    return Told(gates, gate_tops(atlas, place, gates["gate"].tolist(), EXAMPLES))


def draw(view: View, letters: tuple[str, str], pair: tuple[Pin, Pin]) -> None:
    first, second = (each.cluster for each in pair)
    target = view.ask(find_clustering, first[0]).target
    view = View(view.atlas, target.network, target.name, view.read_only)
    names = [site.name for site in view.atlas.catalog.sites_of(target.network) if site.n_codes]
    site = address.one_of("Gates of", names, key="site", first=target.sites[-1].name, width=240)
    found = view.work("Counting gates", told, first, second, site)
    if found is None:
        return
    a, b = letters
    about = found.gates.attrs
    heading(f"Gates that tell {a} from {b}")
    both = f"; {about['n_both']:,} are in both and count in neither" if about["n_both"] else ""
    many = f"; the {len(found.gates)} clearest:" if about["n_distinctive"] > len(found.gates) else "."
    show.notes(
        f"{about['n_distinctive']:,} of {about['n_gates']:,} gates of {site} tell the {about['n_inside']:,} examples "
        f"of {a} from the {about['n_outside']:,} of {b}{both}, at a false discovery rate of 5 % (Fisher's exact "
        f"test, Benjamini and Hochberg); {about['n_sure']:,} of them also with a bound of at most 5 % for as many "
        f"tests as there are gates (Holm){many}"
    )
    if len(found.gates):
        _table(view, letters, found, site)
    arguments = {
        "clustering": first[0],
        "cluster": first[1],
        "against": second[1],
        "against_clustering": None if first[0] == second[0] else second[0],
        "site": site,
    }
    source(view, call(query.distinctive_gates, **arguments, most=MOST))


def _table(view: View, letters: tuple[str, str], found: Told, site: str) -> None:
    a, b = letters
    described = strips(view, [number for top in found.tops for number in top])
    rows: list[Row] = [row | {"tops": top} for row, top in zip(records(found.gates), found.tops, strict=True)]
    several = found.gates["module"].nunique() > 1

    def on_in(row: Row) -> str:
        letter = a if row["log_odds"] > 0 else b
        return f'<b class="pa-letter pa-{letter.lower()}">{letter}</b>'

    columns = [
        Column("Gate", NUMBER, lambda row: cards.gate_link(view, site, row["gate"], str(row["gate"]))),
        *([Column("Module", CODE, lambda row: markup.plain(row["module"]))] if several else []),
        Column("More often on in", KEY, on_in),
        Column(f"On in {a}", NUMBER, lambda row: f"{row['inside']:.0%}", f"Share of {a} that has it on"),
        Column(f"On in {b}", NUMBER, lambda row: f"{row['outside']:.0%}", f"Share of {b} that has it on"),
        Column(
            "Odds",
            NUMBER,
            lambda row: _odds(float(row["log_odds"])),
            f"Odds of being on in {a} over those in {b}, half an example added to each count (Haldane)",
        ),
        Column("q", NUMBER, lambda row: markup.number(float(row["q"]), 2), FALSE_SHARE),
        Column("Bound", NUMBER, lambda row: markup.number(float(row["holm"]), 2), BOUND),
        Column("Its examples", WIDE, lambda row: cards.strip(view, [described[n] for n in row["tops"]]), TOPS),
    ]
    show.table(rows, columns)


def _odds(log_odds: float) -> str:
    """Odds as a factor: × 12 or ÷ 12."""
    sign, odds = "×" if log_odds >= 0 else "÷", math.exp(abs(log_odds))
    return f"{sign} {odds:,.0f}" if odds >= 100 else f"{sign} {odds:.3g}"

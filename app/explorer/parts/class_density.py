"""Density within and between labels, trained beside untrained: measured as the page says, or as it is stored."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from atlas import Atlas
from query.experiments.archive import load, stored
from query.experiments.controls import TRAINED, controls_of, kind_of
from query.experiments.registry import find

from ...controls import adding_controls
from .. import address
from ..view import View, records
from . import markup, measured, show
from .show import KEY, NUMBER, Column, Row

MOST_PAIRS = 20_000  # of each kind: the intervals narrow no more than the examples allow

MEASURED = ("pairs", "seed", "site_by_site", "measurement")
"""What an address says of how density is measured."""

NOW = "Measure now"


def newest(view: View) -> measured.Answer | None:
    """The newest current measurement that is stored of the network, however it was asked for."""
    number = next(iter(_stored(view).values()), None)
    return None if number is None else measured.Answer(view.ask(load, number), number)


def chosen(view: View) -> measured.Answer | None:
    """The measurement that is chosen, or is made now; None while it is made."""
    stored = _stored(view)
    first = next(iter(stored), NOW)
    if not set(st.query_params) & {"pairs", "seed", "site_by_site"} or "measurement" in st.query_params:
        at = first
    else:
        at = NOW  # a link that says how to measure
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        name = address.one_of(
            "Measurement",
            [*stored, NOW],
            key="measurement",
            first=at,
            width=420,
            also={str(number): words for words, number in stored.items()},
        )
        if name in stored:
            return measured.Answer(view.ask(load, stored[name]), stored[name])
        asked = _how(view)
    return measured.answer(view, "density", asked, "Measuring pairs")


def _how(view: View) -> dict[str, Any]:
    """What density is asked for with, where it is not the default: so the claim asks as well."""
    defaults = {name: option.default for name, option in find("density").fields.items()}
    pairs = address.number("Pairs of each kind", 10, MOST_PAIRS, defaults["pairs"], key="pairs", step=100, width=170)
    seed = address.number("Seed", 0, None, 0, key="seed", width=120)
    site_by_site = address.switch(
        "Each site alone",
        key="site_by_site",
        help="Besides each span to the output also the span that ends at the next site, whose gates are that site's "
        "alone",
    )
    given = {"pairs": pairs, "seed": seed, "site_by_site": site_by_site}
    return {"network": view.network.name} | {name: value for name, value in given.items() if value != defaults[name]}


def _stored(view: View) -> dict[str, int]:
    """Current stored measurements of the network, by what they are called in the list."""
    held = view.ask(stored, network=view.network.name)
    held = held[(held["kind"] == "density") & held["current"].astype(bool) & (held["network"] == view.network.name)]
    names = {}
    for row in held.to_dict("records"):
        said = ", ".join(f"{name} {value}" for name, value in row["options"].items() if name != "network")
        names[f"Experiment {row['experiment_id']}: {said or 'as by default'}"] = int(row["experiment_id"])
    return names


def table(found: pd.DataFrame) -> None:
    interval = "Mean density and its interval, boundaries per unit distance"
    columns = [
        Column("Span", KEY, lambda row: markup.plain(row["span"]), "After which site; codes of all sites after it"),
        Column("Network", KEY, _weights, "As given, or an untrained control"),
        Column("Pairs", NUMBER, lambda row: f"{row['n_intra']:,} + {row['n_inter']:,}", "Same + different labels"),
        Column("Same label", NUMBER, lambda row: _interval(row, "intra_mean", "intra"), interval),
        Column("Different labels", NUMBER, lambda row: _interval(row, "inter_mean", "inter"), interval),
        Column("Ratio", NUMBER, lambda row: _interval(row, "ratio", "ratio"), "Different ÷ same and its interval"),
        Column("Cohen's d", NUMBER, lambda row: f"{row['cohens_d']:.2f}", "In pooled standard deviations"),
        Column("AUC", NUMBER, lambda row: f"{row['auc']:.3f}", "Chance that a pair of different labels is denser"),
        Column("p", NUMBER, lambda row: f"{row['p_value']:.2g}", "Two-sided permutation test, difference of means"),
    ]
    order = found.assign(place=found["span"].map({span: i for i, span in enumerate(found["span"].unique())}))
    show.table(records(order.sort_values("place", kind="stable")), columns)


def _weights(row: Row) -> str:
    return markup.plain("trained" if row["weights"] == TRAINED else row["weights"])


def _interval(row: Row, mean: str, name: str) -> str:
    low, high = markup.number(row[f"{name}_low"]), markup.number(row[f"{name}_high"])
    return f'{markup.number(row[mean])} <span class="pa-muted">[{low}, {high}]</span>'


def controls(view: View) -> None:
    """Where no untrained network stands beside a trained one: how to add it."""
    if kind_of(view.network) != TRAINED or view.ask(_has_controls, view.network.name):
        return
    lines = view.ask(adding_controls, view.network.name)
    show.notes("To add the untrained networks that stand beside (polytope report does so by itself):")
    st.code("\n".join(lines), "sh", wrap_lines=True)


def _has_controls(atlas: Atlas, network: str) -> bool:
    return bool(controls_of(atlas, atlas.catalog.network(network)))

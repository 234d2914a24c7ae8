"""Density: boundaries per unit distance, within labels against between them, and of one pair of examples."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import query
from app import cards, marked, plots
from app.pages.overview import PLAIN
from app.view import View, call, explained, records, source
from query.density import space_before
from query.examples import describe

MOST_PAIRS = 20_000  # of each kind: the intervals narrow no more than the examples allow
PAIRS = 500  # to begin with: a second or two a span


def render(view: View) -> None:
    st.html(
        marked.notes([
            "Density of a pair: gates in which the codes of two examples differ, over the distance of their "
            "activations at the site before. If boundaries between polytopes follow meaning, pairs of different "
            "labels cross more of them per unit distance than pairs of the same label."
        ])
    )  # fmt: skip
    st.subheader("Same label against different labels", anchor=False)
    with explained():
        _classes(view)
    st.subheader("One pair", anchor=False)
    with explained():
        _pair(view)


# --- within and between labels ---------------------------------------------------------------------------------


def _classes(view: View) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        pairs = st.number_input(
            "Pairs of each kind", 10, MOST_PAIRS, PAIRS, 100, key="pairs", bind="query-params", width=170
        )
        seed = st.number_input("Seed", 0, None, 0, key="seed", bind="query-params", width=120)
        per_gate = st.toggle(
            "Per gate", key="per_gate", bind="query-params",
            help="Divide by the number of gates of the span, so that spans can be compared",
        )  # fmt: skip
    with st.spinner("Measuring pairs…"):
        found = view.ask(query.class_density, network=view.network.name, pairs=int(pairs), seed=int(seed))
    left, right = st.columns(2, gap="medium")
    left.plotly_chart(plots.class_density(found, per_gate), key="class-density", config=PLAIN)
    right.plotly_chart(plots.density_ratio(found, found.attrs["confidence"]), key="density-ratio", config=PLAIN)
    st.html(_table(found))
    note = found.attrs["note"]
    st.html(marked.notes([f"{note[0].upper()}{note[1:]}.", _left_out(found), _exactness(found)]))
    source(view, call("class_density", network=view.network.name, pairs=int(pairs), seed=int(seed)))


def _table(found: pd.DataFrame) -> str:
    heads = [
        ("Span", "After which site; codes of all sites after it", "pa-key"),
        ("Pairs", "Of the same + of different labels", "pa-number"),
        ("Same label", "Mean density and its interval, boundaries per unit distance", "pa-number"),
        ("Different labels", "Mean density and its interval, boundaries per unit distance", "pa-number"),
        ("Ratio", "Different ÷ same and its interval", "pa-number"),
        ("Cohen's d", "Difference of the means in pooled standard deviations", "pa-number"),
        ("AUC", "Chance that a pair of different labels is the denser one", "pa-number"),
        ("p", "Two-sided permutation test, difference of means", "pa-number"),
    ]
    rows = [
        [
            marked.plain(row["span"]), f"{row['n_intra']:,} + {row['n_inter']:,}",
            _interval(row, "intra_mean", "intra"), _interval(row, "inter_mean", "inter"),
            _interval(row, "ratio", "ratio"), f"{row['cohens_d']:.2f}",
            f"{row['auc']:.3f}", f"{row['p_value']:.2g}",
        ]
        for row in records(found)
    ]  # fmt: skip
    return marked.table(heads, rows)


def _interval(row: dict, mean: str, name: str) -> str:
    low, high = marked.number(row[f"{name}_low"]), marked.number(row[f"{name}_high"])
    return f'{marked.number(row[mean])} <span class="pa-muted">[{low}, {high}]</span>'


def _left_out(found: pd.DataFrame) -> str | None:
    """Pairs and examples that could not take part, counted."""
    dropped, unlabelled = int(found["dropped"].sum()), int(found["n_unlabelled"].max())
    parts = [f"{dropped:,} pairs with equal activations were dropped"] if dropped else []
    parts += [f"{unlabelled:,} examples have no label and were not drawn"] if unlabelled else []
    return f"{'; '.join(parts).capitalize()}." if parts else None


def _exactness(found: pd.DataFrame) -> str | None:
    if found["exact"].all():
        return None
    return "These codes are a definition, not a partition into exactly affine regions (exact: false)."


# --- one pair --------------------------------------------------------------------------------------------------


def _pair(view: View) -> None:
    first, second, last = view.atlas.rows(
        """
        with mine as (select example_id, input_id from examples where network_id = $1)
        select
            min(example_id),
            coalesce(min(example_id) filter (where input_id <> (select arg_min(input_id, example_id) from mine)),
                     max(example_id)),
            max(example_id)
        from mine
        """,
        [view.network.network_id],
    )[0]
    for name, value in (("x", first), ("y", second)):
        if not first <= st.session_state.get(name, first) <= last:
            st.session_state[name] = value  # the sidebar went to another network, whose examples have other ids
    left, right = st.columns(2, gap="medium")
    x = left.number_input("Example x", first, last, first, key="x", bind="query-params", width=160)
    y = right.number_input("Example y", first, last, second, key="y", bind="query-params", width=160)
    shown = records(view.ask(describe, view.network, [int(x), int(y)]))
    for place, row in zip((left, right), shown, strict=True):
        with place:
            cards.one(view, row)
    found = view.ask(query.density, int(x), int(y), network=view.network.name, **view.named)
    before = space_before(view.atlas.catalog.target(site=view.target, network=view.network.name)).name
    values = [
        ("Density", marked.number(found.density), "Boundaries per unit distance"),
        (
            f"Gates apart, of {found.n_gates:,}",
            f"{found.hamming:,}",
            f"Hamming distance at {found.target}",
        ),
        ("Distance", marked.number(found.distance), f"Euclidean, of the activations at {before}"),
        ("Density per gate", marked.number(found.density_per_gate), None),
    ]
    for place, (name, value, hint) in zip(st.columns(4), values, strict=True):
        place.metric(name, value, border=True, help=hint)
    st.html(
        marked.notes([
            f"Codes of {found.target}; activations at {before}. {found.note[0].upper()}{found.note[1:]}.",
        ])
    )  # fmt: skip
    source(view, call("density", int(x), int(y), **view.named, network=view.network.name))

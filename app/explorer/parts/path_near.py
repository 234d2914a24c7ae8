"""The stored examples that are nearest to the places of a path, by their codes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from query.examples.description import describe
from query.experiments.route import Route

from ...plain_text import counted
from .. import address
from ..charts.path_charts import spot
from ..view import View, records
from . import cards, choices, markup, pin, pins, show
from .code import heading
from .show import KEY, NUMBER, WIDE, Column, Row

THUMB = 28  # pixels of a picture in a table


def nearest(view: View, way: Route | None, axis: str, here: float) -> None:
    """The example nearest to the slider's place."""
    if way is None or way.table["nearest"].isna().all():
        return
    row = at(way.table, here)
    title = f"Nearest at {axis} = {spot(row['at'])}: {counted(int(row['distance']), 'gate')} away"
    choices.side_by_side(view, [int(row["nearest"])], [title])


def at(points: pd.DataFrame, here: float) -> pd.Series:
    """The point nearest to the slider's place."""
    return points.iloc[int(np.abs(points["at"] - here).argmin())]


def met(view: View, way: Route, axis: str) -> None:
    """All examples that are nearest somewhere on the way."""
    heading("Nearest on the way")
    address.switch(
        "Other examples only",
        key="others",
        help="Leave out the path's own examples, which are often the nearest to all of it",
    )
    if way.table["nearest"].isna().all():
        return
    met = way.table.assign(stay=(way.table["nearest"] != way.table["nearest"].shift()).cumsum())
    stays = met.groupby("stay").agg(
        low=("at", "first"),
        high=("at", "last"),
        example_id=("nearest", "first"),
        closest=("distance", "min"),
        farthest=("distance", "max"),
        prediction=("prediction", lambda names: names.mode().iloc[0]),
    )
    described = {
        int(row["example_id"]): row
        for row in records(view.ask(describe, view.network, sorted({int(i) for i in stays["example_id"]})))
    }

    def stretch(low: str, high: str) -> str:
        return low if low == high else f"{low} to {high}"

    def gates(row: Row) -> str:
        return stretch(f"{int(row['closest']):,}", f"{int(row['farthest']):,}")

    def link(row: Row) -> str:
        number = int(row["example_id"])
        return markup.link("look", str(number), example=number, **view.state) + pins.sign(pin.example(number))

    def excerpt(row: Row) -> str:
        return cards.excerpt(
            view, described[int(row["example_id"])], THUMB, markup.CONTEXT_BEFORE, markup.CONTEXT_AFTER
        )

    columns = [
        Column(
            axis,
            NUMBER,
            lambda row: stretch(spot(row["low"]), spot(row["high"])),
            "Points of the path over which this example is the nearest",
        ),
        Column("Gates", NUMBER, gates, "Distance over these points, from the least to the greatest"),
        Column("Predicted", KEY, lambda row: markup.words(row["prediction"]), "By the network on the path"),
        Column("Example", NUMBER, link),
        Column("Label", KEY, lambda row: markup.words(described[int(row["example_id"])]["label"])),
        Column("Seen", WIDE, excerpt, "Its token in its context, or its picture"),
    ]
    show.table(records(stays), columns)
    show.notes(
        f"{len(described)} of the atlas's examples {'is' if len(described) == 1 else 'are'} nearest "
        f"somewhere among {len(way.table)} points. Of several at one distance the lowest id is taken."
    )

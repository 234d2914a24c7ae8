"""What a unit's top, its bands and the examples where it is off are made of, as stacked bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from ..neurons.units import NONE_NAMES
from ..neurons.units import OTHERS as OTHERS_NAME
from .figures import CHANCE, OTHERS, Style, one_line, style, text

LEGEND_LENGTH = 24  # characters of a name


def look_of(name: str, place: int) -> Style:
    """How a cluster or label looks that is at that place of those shown."""
    return CHANCE if name in NONE_NAMES else OTHERS if name == OTHERS_NAME else style(place)


def called(what: str, name: object) -> str:
    """A cluster or label as the legend has it."""
    return str(name) if name in (OTHERS_NAME, *NONE_NAMES) else f"{what} {one_line(name, LEGEND_LENGTH)}"


def composition(table: pd.DataFrame, what: str, shown: Sequence[str], **more: Any) -> list[go.Bar]:
    """Of every part the share in each cluster, or of each label.

    ``table``: part, n_part, what, name, n. ``shown``: the names that have a colour, in order.
    """
    rows = table[table["what"] == what]
    totals = rows.groupby("part", sort=False)["n_part"].first()
    names = rows["name"].map(str).replace("none", "no label")
    known = set(names)
    rest = [name for name in NONE_NAMES if name in known]
    series = [*shown, *([OTHERS_NAME] if known - {*shown, *NONE_NAMES} else []), *rest]
    bars = []
    for place, name in enumerate(series):
        mine = rows[~names.isin([*shown, *NONE_NAMES]) if name == OTHERS_NAME else names == name]
        counts, look = mine.groupby("part")["n"].sum(), look_of(name, place)
        bars.append(
            go.Bar(
                y=[f"{text(part)} ({total:,})" for part, total in totals.items()],
                x=[counts.get(part, 0) / max(1, total) for part, total in totals.items()],
                orientation="h",
                name=called(what, name),
                legendgroup=what,
                marker={"color": look.colour, "pattern": {"shape": look.pattern, "size": 5}},
                hovertemplate=f"{called(what, name)}: %{{x:.0%}} of %{{y}}<extra></extra>",
                **more,
            )
        )
    return bars

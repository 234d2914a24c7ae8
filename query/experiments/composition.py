"""What a unit's top, its bands and the examples where it is off are made of, as stacked bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from ..neurons.units import NONE_NAMES
from ..neurons.units import OTHERS as OTHERS_NAME
from .figures import CHANCE, OTHERS, Style, cluster_title, one_line, style, text

LEGEND_LENGTH = 24  # characters of a name


def look_of(name: str, place: int) -> Style:
    """How a cluster or label looks that is at that place of those shown."""
    return CHANCE if name in NONE_NAMES else OTHERS if name == OTHERS_NAME else style(place)


def called(what: str, name: object, names: Mapping[int, str]) -> str:
    """A cluster or label as the legend has it; ``names``: what clusters are called, by number."""
    if name in (OTHERS_NAME, *NONE_NAMES):
        return str(name)
    if what == "label":
        return f"label {one_line(name, LEGEND_LENGTH)}"
    number = int(str(name))
    return cluster_title(number, names) if number in names else f"cluster #{number}"


def composition(
    table: pd.DataFrame, what: str, shown: Sequence[str], names: Mapping[int, str], **more: Any
) -> list[go.Bar]:
    """Of every part the share in each cluster, or of each label.

    ``table``: part, n_part, what, name, n. ``shown``: those of ``name`` that have a colour, in order. ``names``: what
    clusters are called, by number.
    """
    rows = table[table["what"] == what]
    totals = rows.groupby("part", sort=False)["n_part"].first()
    each = rows["name"].map(str).replace("none", "no label")
    known = set(each)
    rest = [name for name in NONE_NAMES if name in known]
    series = [*shown, *([OTHERS_NAME] if known - {*shown, *NONE_NAMES} else []), *rest]
    bars = []
    for place, name in enumerate(series):
        mine = rows[~each.isin([*shown, *NONE_NAMES]) if name == OTHERS_NAME else each == name]
        counts, look = mine.groupby("part")["n"].sum(), look_of(name, place)
        bars.append(
            go.Bar(
                y=[f"{text(part)} ({total:,})" for part, total in totals.items()],
                x=[counts.get(part, 0) / max(1, total) for part, total in totals.items()],
                orientation="h",
                name=called(what, name, names),
                legendgroup=what,
                marker={"color": look.colour, "pattern": {"shape": look.pattern, "size": 5}},
                hovertemplate=f"{called(what, name, names)}: %{{x:.0%}} of %{{y}}<extra></extra>",
                **more,
            )
        )
    return bars

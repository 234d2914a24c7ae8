"""Data to figure, no queries. Every axis says its unit, every mark or title its n.

Colours are Okabe and Ito's (jfly.uni-koeln.de/color), told apart by people with any colour vision; marks differ in
shape as well, so that a print in grey still reads.
"""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go

BLUE, VERMILLION, GREEN, ORANGE, SKY, GREY = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#8a8a8a"

PURPLE, YELLOW = "#cc79a7", "#f0e442"
SERIES = [BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, YELLOW, GREY]
SYMBOLS = ["circle", "diamond", "square", "triangle-up", "x", "cross", "star", "circle-open"]
"""Colours and marks of series side by side, in this order; the last is that of what is left over."""

TICK_ANGLES = [0, -35, -90]  # the first at which names do not touch

BAR_HEIGHT = 26  # pixels a bar of a horizontal chart, its gap included


def labels(counts: pd.DataFrame, title: str) -> go.Figure:
    """How many members bear each label. Columns: label (None where there is none), n."""
    names = ["no label" if pd.isna(label) else text(label) for label in counts["label"]]
    figure = go.Figure(
        go.Bar(
            x=counts["n"], y=names, orientation="h", marker_color=BLUE, text=counts["n"], texttemplate="%{text:,}",
            textposition="outside", cliponaxis=False, hovertemplate="%{y}: %{x:,} members<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title="Members", rangemode="tozero", nticks=4)
    figure.update_yaxes(title="Label", autorange="reversed", type="category")
    return finished(figure, title, 110 + BAR_HEIGHT * max(2, len(counts)))


def class_density(frame: pd.DataFrame, per_gate: bool = False) -> go.Figure:
    """Density within and between labels by span, with the intervals of `query.class_density`."""
    scale = 1 / frame["n_gates"] if per_gate else pd.Series(1.0, index=frame.index)
    figure = go.Figure()
    series = (
        ("intra", "same label", BLUE, "circle", -0.12),
        ("inter", "different labels", VERMILLION, "diamond", 0.12),
    )
    for name, words, colour, symbol, shift in series:
        mean, low, high = (frame[f"{name}_{part}"] * scale for part in ("mean", "low", "high"))
        figure.add_trace(
            go.Scatter(
                x=[i + shift for i in range(len(frame))], y=mean, mode="markers", name=words,
                marker={"color": colour, "symbol": symbol, "size": 10},
                error_y={"type": "data", "symmetric": False, "array": high - mean, "arrayminus": mean - low,
                         "color": colour, "thickness": 1.6, "width": 6},
                hovertext=[
                    f"<b>{text(span)}</b>, {words}<br>{m:.4g} [{a:.4g}, {b:.4g}]<br>n = {n:,} pairs"
                    for span, m, a, b, n in zip(frame["span"], mean, low, high, frame[f"n_{name}"], strict=True)
                ],
                hoverinfo="text",
            )
        )  # fmt: skip
    figure.update_yaxes(title=f"Boundaries per unit distance{', per gate' if per_gate else ''}", rangemode="tozero")
    _span_axis(figure, frame)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return finished(figure, "", 400)


def density_ratio(frame: pd.DataFrame, confidence: float) -> go.Figure:
    """Density between labels over that within, with its interval; 1 is no difference."""
    figure = go.Figure(
        go.Scatter(
            x=list(range(len(frame))), y=frame["ratio"], mode="markers",
            marker={"color": GREEN, "symbol": "square", "size": 10},
            error_y={"type": "data", "symmetric": False, "array": frame["ratio_high"] - frame["ratio"],
                     "arrayminus": frame["ratio"] - frame["ratio_low"], "color": GREEN, "thickness": 1.6, "width": 6},
            hovertext=[
                f"<b>{text(row.span)}</b><br>ratio {row.ratio:.4g} [{row.ratio_low:.4g}, {row.ratio_high:.4g}]<br>"
                f"p = {row.p_value:.2g}, AUC {row.auc:.3f}"
                for row in frame.itertuples()
            ],
            hoverinfo="text", showlegend=False,
        )
    )  # fmt: skip
    figure.add_hline(y=1, line={"color": GREY, "dash": "dash", "width": 1.2})
    figure.update_yaxes(title=f"Ratio different ÷ same, {confidence:.0%} interval<br>(1: no difference)")
    _span_axis(figure, frame)
    return finished(figure, "", 400)


MOST_COLOURS = 7  # more than there are colours that everyone tells apart; the others share grey


def chart(rows: pd.DataFrame, across: str, up: str, by: str | None = None) -> go.Figure:
    """Any column against a column of numbers: points where both are numbers, bars where the first holds names."""
    numeric = pd.api.types.is_numeric_dtype(rows[across]) and not pd.api.types.is_bool_dtype(rows[across])
    figure = go.Figure()
    for i, (name, part) in enumerate(_parts(rows, by)):
        look = {"marker_color": SERIES[i], "name": text(name), "showlegend": by is not None}
        at = part[across] if numeric else [text(value) for value in part[across]]
        if numeric:
            look |= {"mode": "markers", "marker_symbol": SYMBOLS[i]}
        figure.add_trace(go.Scatter(x=at, y=part[up], **look) if numeric else go.Bar(x=at, y=part[up], **look))
    figure.update_xaxes(title=text(across), type="linear" if numeric else "category", autotickangles=TICK_ANGLES)
    figure.update_yaxes(title=text(up))
    return finished(figure, f"n = {len(rows):,} rows", 420)


def _parts(rows: pd.DataFrame, by: str | None) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each value of a column, the commonest first; those past the colours together."""
    if by is None:
        return [("", rows)]
    values = rows[by].map(str)
    common = list(values.value_counts().index)[:MOST_COLOURS]
    parts = [(name, rows[values == name]) for name in common]
    others = rows[~values.isin(common)]
    return parts if others.empty else [*parts, ("others", others)]


def _span_axis(figure: go.Figure, frame: pd.DataFrame) -> None:
    """Spans in order of depth, with the number of pairs: once where all have as many, else under each."""
    counts = [f"n = {row.n_intra:,} + {row.n_inter:,}" for row in frame.itertuples()]
    ticks, title = [text(span) for span in frame["span"]], f"Span ({counts[0]} pairs each, same + different)"
    if len(set(counts)) > 1:
        ticks = [f"{span}<br>{count}" for span, count in zip(ticks, counts, strict=True)]
        title = "Span (n: pairs, same + different)"
    figure.update_xaxes(
        title=title, tickvals=list(range(len(frame))), ticktext=ticks, range=[-0.6, len(frame) - 0.4],
        zeroline=False, showgrid=False, autotickangles=TICK_ANGLES,
    )  # fmt: skip


def finished(figure: go.Figure, title: str, height: int) -> go.Figure:
    figure.update_layout(
        title={"text": text(title), "font": {"size": 14}} if title else None, height=height,
        margin={"l": 10, "r": 20, "t": 50 if title else 30, "b": 10}, hoverlabel={"align": "left"}, bargap=0.25,
    )  # fmt: skip
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure


def text(words: object) -> str:
    """Words as Plotly shows them: it reads a few HTML tags in any text."""
    return html.escape(str(words), quote=False)

"""Tables on a terminal, and the same rows as CSV, JSON or Parquet."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from atlas.errors import UsageError

OTHER_COLUMNS = 128
"""Width that the columns beside a context take; what is left of the terminal is the context's."""

LEAST_CONTEXT, MOST_CONTEXT = 16, 64
"""Characters of context before a token; a third as many after it."""

CELL = 60
"""Characters of any other cell; a code of 3,072 gates would fill the screen. CSV, JSON and Parquet have it whole."""


PIPED_WIDTH = 160
"""Columns of a table that does not go to a terminal."""


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def emit(frame: pd.DataFrame, style: Format = Format.TABLE, output: Path | None = None, title: str = "") -> None:
    """Write rows to the terminal, or to ``output``."""
    if style is Format.PARQUET:
        if output is None:
            raise UsageError("Parquet is not for a terminal; name a file with --output")
        frame.to_parquet(output, index=False)
    elif style is Format.TABLE:
        if output is not None:
            raise UsageError("a table is for the terminal; use --format csv, json or parquet with --output")
        show(frame, title)
    else:
        plain = frame.drop(columns=[name for name in ("thumbnail",) if name in frame])
        text = plain.to_csv(index=False) if style is Format.CSV else _json(plain)
        if output is None:
            sys.stdout.write(text)
        else:
            output.write_text(text, encoding="utf-8")


def show(frame: pd.DataFrame, title: str = "", console: Console | None = None) -> None:
    """A table for people: contexts with the token marked, long cells cut, no pictures."""
    console = console or terminal()
    marked = "context" in frame and "context_offset" in frame and "token" in frame
    hidden = {"thumbnail", "context_offset", "input_id", *(("token",) if marked else ())}
    before = min(max(console.width - OTHER_COLUMNS, LEAST_CONTEXT), MOST_CONTEXT)
    names = [name for name in frame.columns if name not in hidden]
    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        title_style="",
        header_style="bold",
        box=box.SIMPLE_HEAD,
    )
    for name in names:
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=name == "context")
    for row in frame.to_dict("records"):
        table.add_row(*(_marked(row, before) if marked and name == "context" else _cell(row[name]) for name in names))
    console.print(table)


def terminal() -> Console:
    """Standard output, as wide as the terminal, or as PIPED_WIDTH where there is none."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)


def readable_density(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of `query.class_density` with every mean beside its interval, in columns that fit a terminal."""

    def interval(row: pd.Series, name: str, mean: str) -> str:
        return f"{_number(row[mean])} [{_number(row[f'{name}_low'])}, {_number(row[f'{name}_high'])}]"

    return pd.DataFrame(
        {
            "span": row["span"],
            "pairs": f"{row['n_intra']}+{row['n_inter']}",
            "same label": interval(row, "intra", "intra_mean"),
            "different labels": interval(row, "inter", "inter_mean"),
            "ratio": interval(row, "ratio", "ratio"),
            "Cohen's d": row["cohens_d"],
            "AUC": row["auc"],
            "p": row["p_value"],
        }
        for _, row in frame.iterrows()
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def note(lines: Iterable[str]) -> None:
    """Remarks under a table, on standard error so that they never mix with rows that are piped on."""
    console = Console(stderr=True)
    for line in lines:
        console.print(Text(line, style="dim"), soft_wrap=True)


def _marked(row: Mapping[Any, Any], shown: int) -> Text:
    context, token, offset = row["context"], row["token"], row["context_offset"]
    if context is None or pd.isna(offset):
        return Text("")
    start, end = int(offset), int(offset) + len(token)
    before = ("…" if start > shown else "") + context[max(0, start - shown) : start]
    after = context[end : end + shown // 3]
    # Marked with signs as well as colour: a pipe and a colour-blind reader see them too.
    return Text.assemble(_one_line(before), ("«" + _one_line(token) + "»", "bold reverse"), _one_line(after))


def _cell(value: Any) -> Text:
    if value is None or value is pd.NA or (isinstance(value, float | np.floating) and np.isnan(value)):
        return Text("–", style="dim")
    if isinstance(value, bool | np.bool_):
        return Text("yes" if value else "no")
    if isinstance(value, float | np.floating):
        return Text(f"{value:.4g}")
    text = _one_line(str(value))
    return Text(text if len(text) <= CELL else text[: CELL - 1] + "…")


def _one_line(text: str) -> str:
    return "".join({"\n": "⏎", "\t": "→", "\r": ""}.get(letter, letter) for letter in text)


def _json(frame: pd.DataFrame) -> str:
    return (
        json.dumps(json.loads(frame.to_json(orient="records", date_format="iso")), ensure_ascii=False, indent=1)
        + "\n"
    )

"""Tables on a terminal, and the same rows as CSV, JSON or Parquet."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from atlas.errors import UsageError

CONTEXT_BEFORE, CONTEXT_AFTER = 48, 16
"""Characters of context a table shows on each side of a token: with the other columns it fits 120 columns."""

CELL = 60
"""Characters of any other cell; a code of 3,072 gates would fill the screen. CSV, JSON and Parquet have it whole."""


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
    console = console or Console()
    marked = "context" in frame and "context_offset" in frame and "token" in frame
    hidden = {"thumbnail", "context_offset", *(("token",) if marked else ())}
    names = [name for name in frame.columns if name not in hidden]
    table = Table(title=title or None, title_justify="left", header_style="bold", pad_edge=False)
    for name in names:
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=name == "context")
    for row in frame.to_dict("records"):
        table.add_row(*(_marked(row) if marked and name == "context" else _cell(row[name]) for name in names))
    console.print(table)


def note(lines: Iterable[str]) -> None:
    """Remarks under a table, on standard error so that they never mix with rows that are piped on."""
    console = Console(stderr=True)
    for line in lines:
        console.print(Text(line, style="dim"), soft_wrap=True)


def _marked(row: dict[str, Any]) -> Text:
    context, token, offset = row["context"], row["token"], row["context_offset"]
    if context is None or pd.isna(offset):
        return Text("")
    start, end = int(offset), int(offset) + len(token)
    before = ("…" if start > CONTEXT_BEFORE else "") + context[max(0, start - CONTEXT_BEFORE) : start]
    after = context[end : end + CONTEXT_AFTER]
    # Marked with signs as well as colour: a pipe and a colour-blind reader see them too.
    return Text.assemble(_one_line(before), ("⟦" + _one_line(token) + "⟧", "bold reverse"), _one_line(after))


def _cell(value: Any) -> Text:
    if value is None or (np.isscalar(value) and pd.isna(value)):
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

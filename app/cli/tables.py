"""Tables on a terminal, and the same rows as CSV, JSON or Parquet."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from atlas.errors import UsageError

from ..plain_text import lines_with_signs, with_signs
from ..row_files import as_csv, as_json, cells, write_parquet

LEAST_CONTEXT, MOST_CONTEXT = 16, 64
"""Characters of context before a token; a third as many after it."""

TOKEN = 12
"""Characters that a token takes in its context, its marks and the signs of what is cut counted."""

FOLDED = 20
"""Characters to which a column of words may be narrowed by folding; numbers never fold."""

BETWEEN = 3
"""Columns of a terminal that stand empty between two of a table."""

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


def emit(
    frame: pd.DataFrame,
    style: Format = Format.TABLE,
    output: Path | None = None,
    title: str = "",
    safe_csv: bool = False,
) -> None:
    """Write rows to the terminal, or to ``output``. Raises `UsageError` where they can't be written there.

    ``safe_csv``: no text is a formula to a spreadsheet.
    """
    if safe_csv and style is not Format.CSV:
        raise UsageError("--safe-csv is for --format csv: the other formats have no formulas")
    if style is Format.TABLE:
        if output is not None:
            raise UsageError("a table is for the terminal; use --format csv, json or parquet with --output")
        show(frame, title)
    elif output is not None:
        try:
            _write(frame, style, output, safe_csv)
        except OSError as error:
            raise UsageError(f"--output is {output}, which can't be written: {error.strerror or error}") from None
    elif style is Format.PARQUET:
        raise UsageError("Parquet is not for a terminal; name a file with --output")
    else:
        text = _text(frame, style, safe_csv)
        sys.stdout.write(lines_with_signs(text) if style is Format.CSV and sys.stdout.isatty() else text)


def _write(frame: pd.DataFrame, style: Format, output: Path, safe_csv: bool) -> None:
    if style is Format.PARQUET:
        write_parquet(frame, output)
    else:
        output.write_text(_text(frame, style, safe_csv), encoding="utf-8", errors="backslashreplace", newline="")


def _text(frame: pd.DataFrame, style: Format, safe_csv: bool) -> str:
    return as_csv(frame, safe_csv) if style is Format.CSV else as_json(frame)


@dataclass(frozen=True, eq=False)
class _Column:
    """A column as it is printed. ``least`` and ``natural``: how narrow it may be, and how wide it is unfolded."""

    name: str
    cells: list[Text]
    numeric: bool
    least: int
    natural: int


def show(frame: pd.DataFrame, title: str = "", console: Console | None = None) -> None:
    """A table for people: contexts with the token marked, means beside their intervals, long cells cut, no pictures.

    Columns that do not fit side by side stand in several tables, one below the other, each beginning with the columns
    that tell the rows apart.
    """
    console = console or terminal()
    shown = beside_intervals(frame)
    marked = "context" in shown and "context_offset" in shown and "token" in shown
    hidden = {"thumbnail", "context_offset", "input_id", *(("token",) if marked else ())}
    columns = [
        _context_column() if marked and name == "context" else _column(shown, name)
        for name in shown.columns
        if name not in hidden
    ]
    for block in _side_by_side(columns, console.width):
        table = Table(
            title=Text(with_signs(title)) if title else None,
            title_justify="left",
            title_style="",
            header_style="bold",
            box=box.SIMPLE_HEAD,
        )
        title = ""
        room = console.width - _width([column.natural for column in block if column.cells])
        for column in block:
            table.add_column(
                Text(column.name),
                justify="right" if column.numeric else "left",
                overflow="fold",
                no_wrap=column.numeric or not column.cells,
            )
        contexts = _contexts(shown, room) if marked else []
        for row in range(len(shown)):
            table.add_row(*(column.cells[row] if column.cells else contexts[row] for column in block))
        console.print(table)


def _column(frame: pd.DataFrame, name: str) -> _Column:
    texts = [_cell(value) for value in cells(frame[name])]
    shown = with_signs(str(name))
    natural = max([len(shown), *(text.cell_len for text in texts)])
    exact = frame[name].dtype == object and all(isinstance(value, Decimal) for value in frame[name].dropna())
    numeric = pd.api.types.is_numeric_dtype(frame[name]) or (exact and bool(frame[name].notna().any()))
    return _Column(shown, texts, numeric, natural if numeric else max(len(shown), min(natural, FOLDED)), natural)


def _context_column() -> _Column:
    """Its cells are made when the room for it is known."""
    least = LEAST_CONTEXT + LEAST_CONTEXT // 3 + TOKEN
    return _Column("context", [], False, least, least)


def _contexts(frame: pd.DataFrame, room: int) -> list[Text]:
    before = min(max((room - TOKEN) * 3 // 4, LEAST_CONTEXT), MOST_CONTEXT)
    return [_marked(row, before) for row in frame.to_dict("records")]


def _side_by_side(columns: list[_Column], width: int) -> list[list[_Column]]:
    """The columns in groups that fit the width, each of them beginning with the columns that tell the rows apart."""
    if _width([column.least for column in columns]) <= width:
        return [columns]
    key = _key(columns, width)
    groups = [key]
    for column in columns:
        if column in key:
            continue
        if len(groups[-1]) > len(key) and _width([c.least for c in [*groups[-1], column]]) > width:
            groups.append(key)
        groups[-1] = [*groups[-1], column]
    return groups


def _key(columns: list[_Column], width: int) -> list[_Column]:
    """The columns from the first on that tell all rows apart; where they would take more than half the width, the
    first column that does so alone, or else the first."""
    for number in range(1, len(columns) + 1):
        some = columns[:number]
        if _width([column.least for column in some]) > width // 2:
            break
        if _tells_apart(some):
            return some
    return next(([column] for column in columns if not column.numeric and _tells_apart([column])), columns[:1])


def _tells_apart(columns: list[_Column]) -> bool:
    rows = list(zip(*([cell.plain for cell in column.cells] for column in columns), strict=False))
    return len(set(rows)) == len(rows) and all(column.cells for column in columns)


def _width(columns: list[int]) -> int:
    """Of a table whose columns are so wide."""
    return sum(column + BETWEEN for column in columns) + 1


def beside_intervals(frame: pd.DataFrame) -> pd.DataFrame:
    """Every number that has the ends of its interval in columns of their own, written as ``number [low, high]``.

    The ends of ``x`` or ``x_mean`` are ``x_low`` and ``x_high``.
    """
    found: dict[Any, Any] = {}
    for name in frame.columns:
        stem = str(name).removesuffix("_mean")
        low, high = f"{stem}_low", f"{stem}_high"
        if low in frame and high in frame:
            ends = zip(frame[name], frame[low], frame[high], strict=True)
            found[name] = pd.Series([_interval(*numbers) for numbers in ends], index=frame.index, dtype=object)
        elif not _is_end(str(name), frame):
            found[name] = frame[name]
    return pd.DataFrame(found, index=frame.index)


def _is_end(name: str, frame: pd.DataFrame) -> bool:
    """Whether a column is the end of an interval whose middle stands in another."""
    stem = name.removesuffix("_low").removesuffix("_high")
    ends = f"{stem}_low" in frame and f"{stem}_high" in frame
    return stem != name and ends and (stem in frame or f"{stem}_mean" in frame)


def _interval(middle: float, low: float, high: float) -> str | float:
    return middle if pd.isna(low) or pd.isna(high) else f"{_number(middle)} [{_number(low)}, {_number(high)}]"


def terminal() -> Console:
    """Standard output, as wide as the terminal, or as PIPED_WIDTH where there is none."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)


def readable_density(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of `query.class_density` in columns that fit a terminal, named for people."""
    shown = beside_intervals(frame)
    return pd.DataFrame(
        {
            "span": shown["span"],
            "pairs": [f"{a}+{b}" for a, b in zip(shown["n_intra"], shown["n_inter"], strict=True)],
            "same label": shown["intra_mean"],
            "different labels": shown["inter_mean"],
            "ratio": shown["ratio"],
            "Cohen's d": shown["cohens_d"],
            "AUC": shown["auc"],
            "p": shown["p_value"],
        }
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def say(line: str) -> None:
    """A line on standard output that holds what others named."""
    typer.echo(with_signs(line))


def note(lines: Iterable[str]) -> None:
    """Remarks under a table, on standard error so that they never mix with rows that are piped on."""
    console = Console(stderr=True)
    for line in lines:
        console.print(Text(lines_with_signs(line), style="dim"), soft_wrap=True)


def remarks(frame: pd.DataFrame) -> list[str]:
    """What an answer says of itself: that it is approximate, of how many, in which space."""
    notes = [frame.attrs.get(name) for name in ("search_note", "exact_note", "density_note", "label_note", "note")]
    return [str(note) for note in notes if note]


def _marked(row: Mapping[Any, Any], shown: int) -> Text:
    context, token, offset = row["context"], row["token"], row["context_offset"]
    if context is None or pd.isna(offset):
        return Text("")
    start, end = int(offset), int(offset) + len(token)
    before = ("…" if start > shown else "") + context[max(0, start - shown) : start]
    after = context[end : end + shown // 3]
    # Marked with signs as well as colour: a pipe and a colour-blind reader see them too.
    return Text.assemble(with_signs(before), ("«" + with_signs(token) + "»", "bold reverse"), with_signs(after))


def _cell(value: Any) -> Text:
    if value is None:
        return Text("–", style="dim")
    if isinstance(value, bool | np.bool_):
        return Text("yes" if value else "no")
    if isinstance(value, float | np.floating):
        return Text(f"{value:.4g}")
    if isinstance(value, list | np.ndarray):
        value = f"[{', '.join(_cell(one).plain for one in value)}]"
    text = with_signs(str(value))
    return Text(text if len(text) <= CELL else text[: CELL - 1] + "…")

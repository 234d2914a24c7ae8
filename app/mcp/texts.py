"""Answers that fit a context: a summary first, then some rows, then how to have more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..plain_text import counted, with_signs
from ..row_files import as_csv, cells

LONGEST_CELL = 160
"""Characters of a cell: a sentence."""

LONGEST_TEXT = 12_000
"""Characters of rows: some 4,000 tokens."""

LEFT_OUT = ("thumbnail", "context_offset", "input_id", "position")
"""Columns that tell an assistant nothing."""


def told(summary: str, frame: pd.DataFrame, more: str = "", notes: Sequence[object] = ()) -> str:
    """A summary, the rows as CSV as far as they fit, and remarks; ``more``: how to have those that are left out."""
    shown = frame.drop(columns=[name for name in LEFT_OUT if name in frame])
    short = pd.DataFrame(
        {name: pd.Series([_short(value) for value in cells(shown[name])], dtype=object) for name in shown}
    )
    head, *lines = as_csv(short).splitlines()
    kept: list[str] = []
    size = 0
    for line in lines:
        size += len(line) + 1
        if size > LONGEST_TEXT and kept:
            break
        kept.append(line)
    parts = [summary, "\n".join([head, *kept]) if lines else "(no rows)"]
    left = len(lines) - len(kept)
    if left:
        parts.append(f"{counted(left, 'row is', 'rows are')} left out here; ask for fewer columns or rows at a time.")
    if more:
        parts.append(more)
    return "\n\n".join([*parts, *(str(note) for note in notes if note)])


def _short(value: Any) -> Any:
    """A cell on one line: text cut, numbers in six digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = with_signs(str(value))
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"

"""What of a page can be taken along as a file."""

from __future__ import annotations

import csv
import io
import json
from datetime import date

import numpy as np
import pandas as pd

from app.explorer.parts import figures
from app.plain_text import distinct


def read(rows: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    heads, *found = csv.reader(io.StringIO(figures.csv(rows).decode()))
    return heads, found


def test_values_are_as_pandas_writes_them():
    """Numbers and words are as pandas writes them."""
    rows = pd.DataFrame(
        {
            "n": [1, 2],
            "x": [0.1, np.nan],
            "ok": [True, False],
            "word": ["a,b", None],
            "mixed": [1, None],
            "kind": pd.Categorical(["a", "b"]),
            "moment": pd.to_datetime(["2024-01-01 12:00", "2024-01-02 06:30"]),
        }
    )
    rows["mixed"] = rows["mixed"].astype(object).where(rows["mixed"].notna(), None)
    assert figures.csv(rows) == rows.to_csv(index=False).encode()


def test_unheld_values_are_written_whole():
    """What no cell can hold is written whole."""
    many = np.arange(3000)
    rows = pd.DataFrame(
        {
            "bytes": [b"\x01\xff", bytearray(b"\x02")],
            "many": [many, np.array([b"\x03", None], object)],
            "nested": [{"a": [1, date(2024, 1, 2)]}, [np.array([1.5]), "ü"]],
            "missing": [np.ma.masked_array([1, 2], [False, True]), None],
        }
    )
    before = rows.copy(deep=True)
    heads, [first, second] = read(rows)
    assert heads == list(rows.columns)
    assert first[0] == "Af8=" and second[0] == "Ag=="
    assert json.loads(first[1]) == many.tolist() and json.loads(second[1]) == ["Aw==", None]
    assert json.loads(first[2]) == {"a": [1, "2024-01-02"]} and json.loads(second[2]) == [[1.5], "ü"]
    assert json.loads(first[3]) == [1, None] and second[3] == ""
    pd.testing.assert_frame_equal(rows, before)


def test_columns_of_one_name_are_all_written():
    rows = pd.DataFrame([[b"\x01", [2]]], columns=["a", "a"])
    assert read(rows) == (["a", "a (2)"], [["AQ==", "[2]"]])


def test_names_are_told_apart():
    assert distinct(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]
    assert distinct(["a", "a", "a (2)"]) == ["a", "a (3)", "a (2)"]
    assert distinct([]) == []

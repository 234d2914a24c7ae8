"""What is written is what was asked: read back, every value is the same."""

from __future__ import annotations

import base64
import csv
import io
import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from app.row_files import as_csv, as_json, write_parquet

LONG = np.linspace(0, 1, 3000, dtype=np.float32)

ROWS = pd.DataFrame(
    {
        "holed": [[1, None, 3], np.ma.masked_array([4, 5], [False, True])],
        "long": [LONG, LONG[::-1]],
        "small": [1e-12, 0.1234567890123456],
        "single": np.array([0.1, 3e-9], dtype=np.float32),
        "huge": [Decimal(2**100), Decimal(3)],
        "exact": [Decimal("12345678901234567890.123456789"), Decimal("0.5")],
        "moment": pd.to_datetime(["2026-01-02 03:04:05.123456", None]).astype("datetime64[us]"),
        "blob": [b"\x00\xff", None],
        "counted": pd.array([2**62 + 1, None], dtype="Int64"),
        "open": [float("inf"), float("-inf")],
        "fields": [{"a": [1, None]}, {"a": None}],
        "gaps": pd.arrays.FloatingArray(np.array([np.nan, 0.0]), np.array([False, True])),
        "plain gaps": [np.nan, 0.5],
        "nested": [[np.nan, None, [np.ma.masked_array([np.nan, 1.0], [False, True])]], {"a": np.nan}],
        "words": ['a "quoted", word\nof two lines', ""],
    }
)


def test_json_keeps_every_value():
    first, second = json.loads(as_json(ROWS))
    assert (first["holed"], second["holed"]) == ([1, None, 3], [4, None])
    assert np.array_equal(np.array(first["long"], dtype=np.float32), LONG)
    assert (first["small"], second["small"]) == (1e-12, 0.1234567890123456)
    assert (first["single"], second["single"]) == (0.1, 3e-9)
    assert (first["huge"], second["huge"]) == (str(2**100), 3)
    assert (first["exact"], second["exact"]) == ("12345678901234567890.123456789", 0.5)
    assert (first["moment"], second["moment"]) == ("2026-01-02T03:04:05.123456", None)
    assert (base64.b64decode(first["blob"]), second["blob"]) == (b"\x00\xff", None)
    assert (first["counted"], second["counted"]) == (2**62 + 1, None)
    assert (first["open"], second["open"]) == ("Infinity", "-Infinity")
    assert (first["fields"], second["fields"]) == ({"a": [1, None]}, {"a": None})
    assert (first["gaps"], second["gaps"]) == ("NaN", None)
    assert (first["plain gaps"], second["plain gaps"]) == (None, 0.5)
    assert (first["nested"], second["nested"]) == (["NaN", None, [["NaN", None]]], {"a": "NaN"})
    assert [first["words"], second["words"]] == ROWS["words"].tolist()


def test_csv_keeps_every_value():
    first, second = csv.DictReader(io.StringIO(as_csv(ROWS)))
    assert (json.loads(first["holed"]), json.loads(second["holed"])) == ([1, None, 3], [4, None])
    assert np.array_equal(np.array(json.loads(second["long"]), dtype=np.float32), LONG[::-1])
    assert (float(first["small"]), float(second["small"])) == (1e-12, 0.1234567890123456)
    assert (first["huge"], first["exact"]) == (str(2**100), "12345678901234567890.123456789")
    assert (first["moment"], second["moment"]) == ("2026-01-02 03:04:05.123456", "")
    assert (base64.b64decode(first["blob"]), second["blob"]) == (b"\x00\xff", "")
    assert (first["counted"], second["counted"]) == (str(2**62 + 1), "")
    assert float(first["open"]) == float("inf")
    assert (first["gaps"], second["gaps"], first["plain gaps"]) == ("nan", "", "")
    assert (first["nested"], second["nested"]) == ('["NaN", null, [["NaN", null]]]', '{"a": "NaN"}')
    assert first["words"] == ROWS["words"][0]


def test_parquet_keeps_values_and_order(tmp_path: Path):
    rows = ROWS.drop(columns="nested")  # of no one type
    write_parquet(rows, tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet")
    assert table.column_names == list(rows)
    assert table["gaps"].is_null().to_pylist() == [False, True]
    first, second = table.to_pylist()
    assert (first["holed"], second["holed"]) == ([1, None, 3], [4, None])
    assert np.array_equal(np.array(first["long"], dtype=np.float32), LONG)
    assert (first["huge"], first["exact"]) == (2**100, Decimal("12345678901234567890.123456789"))
    assert (first["moment"], second["moment"]) == (datetime(2026, 1, 2, 3, 4, 5, 123456), None)
    assert (first["blob"], second["blob"]) == (b"\x00\xff", None)
    assert (first["counted"], second["counted"]) == (2**62 + 1, None)


def test_no_rows_are_names_alone(tmp_path: Path):
    assert as_csv(ROWS[:0]).count("\n") == 1 and as_json(ROWS[:0]) == "[]\n"
    write_parquet(ROWS[:0], tmp_path / "none.parquet")
    assert pq.read_table(tmp_path / "none.parquet").column_names == list(ROWS)
